//! What a rate limit counts by.

use http::HeaderName;

use crate::config::LimitKey;
use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::nearest::nearest;
use crate::config::section::Shape;
use crate::config::tree::Node;

const EXPECTED: &str = "\"client-ip\", \"header:NAME\", \"route\" or \"all\"";

impl Decode for LimitKey {
    fn shape() -> Shape {
        Shape::Text { what: "`client-ip`, `header:NAME`, `route` or `all`", example: "client-ip" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, EXPECTED, limit_key)
    }
}

fn limit_key(text: &str) -> Result<LimitKey, Problem> {
    let wrong = || Problem::new(format!("`{text}` is not {EXPECTED}"));
    if let Some(name) = text.strip_prefix("header:") {
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        return name.map(LimitKey::Field).map_err(|_| wrong().help("after `header:` stands the name of a field"));
    }
    match text {
        "client-ip" => return Ok(LimitKey::ClientIp),
        "route" => return Ok(LimitKey::Route),
        "all" => return Ok(LimitKey::All),
        _ => {}
    }
    // What other proxies call the same.
    let meant = match text.to_ascii_lowercase().as_str() {
        "ip" | "remote_addr" | "$remote_addr" | "$binary_remote_addr" | "{remote_host}" | "address" => "client-ip",
        "$server_name" | "global" | "static" => "all",
        "$uri" | "path" => "route",
        other => match nearest(other, ["client-ip", "route", "all"]) {
            Some(word) => word,
            None => return Err(wrong().help("a field of the request is \"header:X-API-Key\"")),
        },
    };
    Err(wrong().help(format!("did you mean \"{meant}\"?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_the_file_writes_them() {
        let check = |text: &str, shown: Result<&str, &str>| {
            let found = limit_key(text).map(|key| key.to_string());
            let found = found.map_err(|problem| problem.help.unwrap_or_default());
            assert_eq!(found.as_deref().map_err(String::as_str), shown, "{text}");
        };
        for right in ["client-ip", "route", "all", "header:x-api-key"] {
            check(right, Ok(right));
        }
        check("header:X-API-Key", Ok("header:x-api-key"));
        check("header:", Err("after `header:` stands the name of a field"));
        check("$binary_remote_addr", Err("did you mean \"client-ip\"?"));
        check("client_ip", Err("did you mean \"client-ip\"?"));
        check("X-API-Key", Err("a field of the request is \"header:X-API-Key\""));
    }
}
