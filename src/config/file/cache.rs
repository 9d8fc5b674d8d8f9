//! `[cache]` and the `cache` of a route.

use std::time::Duration;

use http::HeaderName;

use crate::config::decode::{Decode, Decoder, Field, Map};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, ByProfile, Required, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{Count, FilePath, HostText, PageText, ParameterText, Size};
use crate::config::{CachedCookies, TypePattern};
use crate::pattern::Pattern;

section! {
    /// The store of responses, for all routes that have `cache`.
    Cache "[cache]" {
        /// Keep responses at all. Without, routes pass everything on, whatever their `cache` says.
        enabled: Setting<bool> = ByProfile { development: "false", staging: "true", production: "true" };
        /// Memory for stored responses and those on their way into the store.
        memory: Setting<Size> = Value("\"64MiB\""), nginx "proxy_cache_path max_size";
        /// The largest response that is kept.
        object_max: Setting<Size> = Value("\"8MiB\"");
        /// The most responses that are kept.
        entries_max: Setting<Count<1, 100_000_000>> = Value("100000");
        /// Fields that speak to this cache in place of `Cache-Control` (RFC 9213), the first that a response has, such as `CDN-Cache-Control`.
        targets: Setting<List<HeaderName>> = Value("[]");
        /// Lifetimes by the kind of content; the first that fits counts, after what a route itself says.
        rule: Setting<List<CacheRule>> = Value("[]");
        /// What else goes when something is purged: names, each with those that depend on it. A name that begins with `/` is a path, all others are tags; `*` stands for any text. What depends on a name goes as it is written here: a purge of `user:7` takes all of `playlists:*`.
        dependencies: Setting<Map<List<Pattern>>> = Value("{}");
        /// Pages to ask for when the proxy starts, before clients do. They are asked for once upstreams can answer, while clients are served; what fails is told in the log.
        warm: Option<Setting<Warm>> = Absent("the cache begins empty"), restart;
    }
}

section! {
    /// Pages that the cache is to have soon after a start.
    Warm "[cache.warm]" {
        /// Paths with their queries, or URLs.
        pages: Setting<List<PageText>> = Value("[]");
        /// A sitemap, or an index of sitemaps, whose pages are asked for: a path or a URL, which is asked of the proxy as well.
        sitemap: Option<Setting<PageText>> = Absent("none is read");
        /// An access log in the format `json` or `combined`. What it was asked for most, in its last 256 MiB, is asked for again.
        access_log: Option<Setting<FilePath>> = Absent("none is read");
        /// How many pages of the access log.
        top: Setting<Count<1, 1_000_000>> = Value("1000");
        /// `Host` of requests for paths.
        host: Option<Setting<HostText>> = Absent("the first name of the first certificate, or `localhost`");
        /// How many requests at the same time.
        concurrency: Setting<Count<1, 256>> = Value("8");
    }
}

section! {
    /// Lifetimes of one kind of content.
    CacheRule "[[cache.rule]]" {
        /// Of responses of this type: `image/png`, `image/*`.
        content_type: Option<Setting<TypePattern>> = Required;
        /// How long responses are fresh, in place of what they say.
        ttl: Option<Setting<Ttl>> = Absent("what the response says");
        /// How long responses are fresh that do not say.
        default_ttl: Option<Setting<Duration>> = Absent("that of the route");
    }
}

section! {
    /// How long responses are fresh, here and at clients.
    Ttl "`ttl`" {
        /// In this cache.
        edge: Option<Setting<Duration>> = Absent("what the response says"), nginx "proxy_cache_valid";
        /// At clients and caches behind this one, told by `Cache-Control: max-age`.
        client: Option<Setting<Duration>> = Absent("what the response says"), nginx "expires";
    }
}

section! {
    /// Keep and reuse responses of a route, as RFC 9111 says and they allow.
    RouteCache "`cache`" {
        /// How long responses are fresh that do not say. Not for responses to requests with `Authorization` or, unless `cookies` says otherwise, with `Cookie`.
        default_ttl: Option<Setting<Duration>> = Absent("such responses are not kept"), nginx "proxy_cache_valid";
        /// How long responses are fresh, in place of what they say; with the same exceptions.
        ttl: Option<Setting<Ttl>> = Absent("what the response says");
        /// A response that is stale for no longer is sent at once, and validated behind the client's back (RFC 5861).
        stale_while_revalidate: Option<Setting<Duration>> = Absent("what the response says"), nginx "proxy_cache_background_update";
        /// A response that is stale for no longer is sent if the upstream fails or answers 500, 502, 503 or 504 (RFC 5861).
        stale_if_error: Option<Setting<Duration>> = Absent("what the response says"), nginx "proxy_cache_use_stale";
        /// `explicit`: for requests with `Cookie`, only lifetimes that responses themselves name count. `bypass`: such requests are passed on. `ignore`: responses do not depend on cookies; they are taken off GET and HEAD requests and off the responses to them, but for requests that `bypass` names. `store`: as `explicit`, and a response that sets cookies is kept with them, for everybody.
        cookies: Setting<CachedCookies> = Value("\"explicit\"");
        /// What tells requests apart, beside scheme, host, path and `Vary`.
        key: Setting<CacheKey> = Value("{}"), nginx "proxy_cache_key";
        /// Requests that are passed on, and whose responses are not kept.
        bypass: Setting<Bypass> = Value("{}"), nginx "proxy_cache_bypass, proxy_no_cache";
        /// The largest response that is kept, if smaller than that of `[cache]`.
        object_max: Option<Setting<Size>> = Absent("that of [cache]");
        /// Let responses purge: `Cache-Purge` names tags and paths of their host, with `*` for any text and commas between them, such as `user:7, /users/*`. The field does not reach clients.
        purge_by_response: Setting<bool> = Value("false");
    }
}

section! {
    /// What tells requests apart.
    CacheKey "`key`" {
        /// The only parameters of the query that count. The others do not reach the upstream.
        query_keep: Option<Setting<List<ParameterText>>> = Absent("all");
        /// Parameters of the query that do not count and do not reach the upstream; `utm_*` is all that begin so.
        query_ignore: Setting<List<ParameterText>> = Value("[]");
        /// Fields of the request that count, even if the response's `Vary` does not say so.
        fields: Setting<List<HeaderName>> = Value("[]");
    }
}

section! {
    /// Signs of a request that is passed on. Each is one if it is there and neither empty nor `0`.
    Bypass "`bypass`" {
        /// Fields of the request.
        fields: Setting<List<HeaderName>> = Value("[]");
        /// Cookies, by name.
        cookies: Setting<List<String>> = Value("[]");
        /// Parameters of the query.
        query: Setting<List<String>> = Value("[]");
    }
}
