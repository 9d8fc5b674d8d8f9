//! `[rate_limit.NAME]`.

use ipnet::IpNet;

use crate::config::decode::{Decode, Decoder, Field};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, Required, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{AlgorithmWord, Count, Limit};
use crate::config::{LimitHeaders, LimitKey};

section! {
    /// How many requests are let through, for routes that name this limit. What is refused is answered with 429 and is not counted. Counts are the same for all workers, and a reload keeps them unless `key`, `ipv6_prefix`, `requests`, `window`, `algorithm` or `burst` changes. A key takes about 110 bytes and, by `window`, 4 bytes for each thousandth of the window in which it had requests.
    RateLimit "[rate_limit.NAME]" {
        /// Who is counted for himself: each client address, each value of a field (`header:X-API-Key`; requests without it, or with several lines of it, by their client's address), each route, or `all` together. Anybody can make up values of a field, so let a limit by address stand beside it.
        key: Setting<LimitKey> = Value("\"client-ip\""), nginx "limit_req_zone";
        /// So many requests are let through.
        requests: Option<Setting<Count<1, 1_000_000>>> = Required, nginx "rate";
        /// In this time: whole seconds, up to a day.
        window: Option<Setting<Limit>> = Required;
        /// `window`: never more than `requests` in any `window`; a place is free again when its request is `window` old, or up to a thousandth of it later. `gcra`: places come back evenly, `window` divided by `requests` apart, up to `burst` of them; over any `window` at most `burst` and `requests` together.
        algorithm: Setting<AlgorithmWord> = Value("\"window\"");
        /// For `gcra`: so many requests are let through at once. nginx's `burst=20 nodelay` is 21.
        burst: Option<Setting<Count<1, 100_000>>> = Absent("needed for `gcra`"), nginx "limit_req";
        /// Addresses of IPv6 that have so many bits in common are one client: a client has a network of them.
        ipv6_prefix: Setting<Count<1, 128>> = Value("64");
        /// Clients that it is not for.
        exempt: Setting<List<IpNet>> = Value("[]"), nginx "geo";
        /// Refuse nothing, and count what would be refused, in metrics and in the access log.
        dry_run: Setting<bool> = Value("false"), nginx "limit_req_dry_run";
        /// Which fields tell clients how they stand: `RateLimit` and `RateLimit-Policy` (`draft`), `X-RateLimit-Limit`, `-Remaining` and `-Reset` (`x`), `both` or `off`. `Retry-After` is always sent with 429.
        headers: Setting<LimitHeaders> = Value("\"draft\"");
        /// The most keys that are counted at a time. When there are more, the one that asked longest ago is forgotten, those that have used more than half of their quota last.
        keys_max: Setting<Count<1, 10_000_000>> = Value("100000");
    }
}
