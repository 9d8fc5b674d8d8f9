//! `[[route]]`.

use http::StatusCode;
use ipnet::IpNet;

use crate::config::decode::{Decode, Decoder, Field, Map, Switch};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, Required, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{Count, FieldValue, FilePath, HostPolicyText, Limit, Pattern, Size, StatusPage, UrlPath};
use crate::config::{HostPattern, Replacement};

use super::{RouteCache, RouteCompress};

section! {
    /// What is done with some requests. It has one of `path`, `path_exact`, `path_regex`, and one of `upstream`,
    /// `redirect`, `text`, `status`.
    Route "[[route]]" {
        /// Its name in logs, metrics and limits, which count by it; no two routes have the same one, and none is `none` or `other`.
        name: Option<Setting<String>> = Absent("the path as written; where routes share it, with hosts and kind: `a.example=/x`");
        /// Hosts it is for.
        hosts: Setting<List<HostPattern>> = Value("[]"), nginx "server_name";
        /// That path and what lies below it, by whole segments.
        path: Option<Setting<UrlPath>> = Absent("");
        /// That path alone.
        path_exact: Option<Setting<UrlPath>> = Absent("");
        /// Paths that contain a match of this pattern.
        path_regex: Option<Setting<Pattern>> = Absent("");
        /// Pass requests on to this upstream.
        upstream: Option<Setting<String>> = Absent(""), nginx "proxy_pass";
        /// Redirect to this URL; `{host}`, `{path}` and `{uri}` (path and query) are filled in.
        redirect: Option<Setting<String>> = Absent(""), nginx "return";
        /// Answer with this text.
        text: Option<Setting<String>> = Absent("");
        /// Answer with a page of the proxy's own: `stub` is nginx's stub status.
        status: Option<Setting<StatusPage>> = Absent(""), nginx "stub_status";
        /// Status of `redirect` or `text`.
        code: Option<Setting<StatusCode>> = Absent("308 for `redirect`, 200 for `text`");
        /// What `Host` the endpoint sees: the client's, the endpoint's own, or a fixed one.
        host: Option<Setting<HostPolicyText>> = Absent("preserve");
        /// Take this off the front of the path before it is sent on.
        strip_prefix: Option<Setting<UrlPath>> = Absent("the path is kept");
        /// Rewrite the path before it is sent on.
        rewrite: Option<Setting<Rewrite>> = Absent("the path is kept"), nginx "rewrite";
        /// Fields of the request to the endpoint.
        request: Setting<Fields> = Value("{}"), nginx "proxy_set_header";
        /// Fields of the response to the client.
        response: Setting<Fields> = Value("{}"), nginx "add_header, proxy_hide_header";
        /// Networks that are let in; all if there is none.
        allow: Setting<List<IpNet>> = Value("[]"), nginx "allow";
        /// Networks that are kept out, even where `allow` lets them in.
        deny: Setting<List<IpNet>> = Value("[]"), nginx "deny";
        /// Requests in flight at a time; those beyond are answered with 503. 0 is no limit.
        requests_max: Setting<Count<0, 10_000_000>> = Value("0"), nginx "limit_conn";
        /// Write these requests to the access log.
        access_log: Setting<bool> = Value("true"), nginx "access_log";
        /// Rate limits that its requests have to pass, all of them, by name. None is `[]`.
        rate_limit: Option<Setting<List<String>>> = Absent("those of [client]"), nginx "limit_req";
        /// Largest body of a request.
        body_max: Option<Setting<Size>> = Absent("that of [client]"), nginx "client_max_body_size";
        /// Compression of its responses: `false`, `true`, or a table of what is done otherwise than `[compress]` says.
        compress: Option<Setting<Switch<RouteCompress>>> = Absent("as [compress] says"), nginx "gzip";
        /// Its responses repeat what the client sent, as a search page does: those to requests with cookies are then
        /// not compressed, because their size would betray the rest of the page (BREACH).
        reflects_input: Setting<bool> = Value("false");
        /// Time limits other than the upstream's.
        timeout: Option<Setting<RouteTimeout>> = Absent("those of the upstream");
        /// Keep and reuse responses: `true`, or a table with details.
        cache: Option<Setting<Switch<RouteCache>>> = Absent("responses are not kept"), nginx "proxy_cache";
        /// Entity tags for answers that have no validator and are not kept, so that who asks again is told that nothing
        /// has changed (304): `true`, or a table with details. Answers of 200 to GET are read whole for it and hashed.
        etag: Option<Setting<Switch<RouteEtag>>> = Absent("only responses that are kept get one"), nginx "etag";
        /// The page that is sent when the upstream brings no response, and nothing stale may stand in for it.
        fallback: Option<Setting<FallbackPage>> = Absent("a line of the proxy's own"), nginx "error_page";
        /// How far to read ahead of the slower side.
        buffer: Option<Setting<BufferTable>> = Absent("64KiB each way"), nginx "proxy_buffering";
    }
}

section! {
    /// Time limits of one route.
    RouteTimeout "`timeout`" {
        /// To open a connection, TLS included.
        connect: Option<Setting<Limit>> = Absent("the upstream's");
        /// Silence between two writes to the endpoint.
        send: Option<Setting<Limit>> = Absent("the upstream's");
        /// From the end of a request to the whole head of its response, then silence between two reads.
        read: Option<Setting<Limit>> = Absent("the upstream's");
        /// Silence in both directions of a tunnel, such as a WebSocket; less once a side has closed.
        tunnel_idle: Option<Setting<Limit>> = Absent("the upstream's");
        /// From the request's head to the response's head, over all attempts.
        total: Option<Setting<Limit>> = Absent("the upstream's");
        /// The same for one attempt.
        attempt: Option<Setting<Limit>> = Absent("the upstream's");
    }
}

section! {
    /// Entity tags for answers that are not kept.
    RouteEtag "`etag`" {
        /// Of the largest answer that gets one. What is larger, or is not all here within 50 ms, is sent as it comes.
        body_max: Setting<Size> = Value("\"64KiB\"");
    }
}

section! {
    /// The page for requests that the upstream brings no response to. It has either `text` or `file`.
    FallbackPage "`fallback`" {
        /// Its status.
        status: Option<Setting<StatusCode>> = Absent("that of the failure: 502, 503 or 504");
        /// The page itself.
        text: Option<Setting<String>> = Absent("");
        /// A file with the page, in UTF-8; it is watched.
        file: Option<Setting<FilePath>> = Absent("");
        /// What it is.
        content_type: Option<Setting<FieldValue>> = Absent("plain text, or HTML from a file");
    }
}

section! {
    /// Rewriting of a path.
    Rewrite "`rewrite`" {
        /// What is replaced.
        regex: Option<Setting<Pattern>> = Required;
        /// What stands in its place; `$1` and `${name}` are the groups of `regex`. After a `?` stand arguments, which
        /// go before the request's own; a `?` at the end leaves those out.
        to: Option<Setting<Replacement>> = Required;
    }
}

section! {
    /// Changes to the fields of a message.
    Fields "`request` and `response`" {
        /// Set these, in place of what is there.
        set: Setting<Map<FieldValue>> = Value("{}");
        /// Remove these.
        remove: Setting<List<String>> = Value("[]");
    }
}

section! {
    /// How far to read ahead of the slower side, so that slow clients do not hold endpoints. Tunnels pass through.
    BufferTable "`buffer`" {
        /// Of a request's body.
        request: Setting<Size> = Value("\"64KiB\""), nginx "client_body_buffer_size";
        /// Of a response's body.
        response: Setting<Size> = Value("\"64KiB\""), nginx "proxy_buffers";
    }
}
