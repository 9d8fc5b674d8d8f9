//! Addresses, networks and host names.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::section::Shape;
use crate::config::tree::Node;
use crate::config::{HostPattern, Target};

impl Decode for SocketAddr {
    fn shape() -> Shape {
        Shape::Text { what: "address and port", example: "127.0.0.1:8080" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "an address and port such as \"127.0.0.1:8080\"", socket_address)
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, Problem> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let problem = Problem::new(format!("`{text}` is not an address and port"));
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(problem.help(format!("the port is missing: \"{}\"", SocketAddr::new(ip, 8080))));
    }
    let meant = match (host, port.parse::<u32>()) {
        ("" | "*", Ok(port)) if port <= 65_535 => {
            format!("did you mean \"0.0.0.0:{port}\"? For IPv6 add a second listener with \"[::]:{port}\"")
        }
        ("localhost", Ok(port)) if port <= 65_535 => format!("did you mean \"127.0.0.1:{port}\"?"),
        (_, Ok(port)) if port > 65_535 => "the largest port is 65535".to_owned(),
        (host, Ok(port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("did you mean \"[{host}]:{port}\"?"),
        _ => return Err(problem),
    };
    Err(problem.help(meant))
}

impl Decode for IpNet {
    fn shape() -> Shape {
        Shape::Text { what: "a network or an address", example: "10.0.0.0/8" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a network such as \"10.0.0.0/8\", or one address", network)
    }
}

fn network(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let Ok(network) = text.parse::<IpNet>() else {
        let problem = Problem::new(format!("`{text}` is not a network"));
        let Some((address, bits)) = text.split_once('/') else {
            return Err(match text {
                "all" | "any" | "*" => problem.help("every address is \"0.0.0.0/0\" and \"::/0\""),
                "localhost" | "loopback" => problem.help("did you mean \"127.0.0.0/8\" and \"::1/128\"?"),
                _ => problem,
            });
        };
        return Err(match (address.parse::<IpAddr>(), bits.parse::<u32>()) {
            (Ok(IpAddr::V4(_)), Ok(_)) => problem.help("the bits after the slash are 0 to 32"),
            (Ok(IpAddr::V6(_)), Ok(_)) => problem.help("the bits after the slash are 0 to 128"),
            (Ok(_), Err(_)) => problem.help("after the slash stands the number of bits, as in \"10.0.0.0/8\""),
            (Err(_), _) => problem,
        });
    };
    if network.trunc() == network {
        return Ok(network);
    }
    let problem = Problem::new(format!("`{text}` has bits set behind its /{}", network.prefix_len()));
    Err(problem.help(format!("did you mean \"{}\" or \"{}\"?", network.trunc(), network.addr())))
}

impl Decode for Target {
    fn shape() -> Shape {
        Shape::Text { what: "host and port", example: "app:3000" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a host and port such as \"app:3000\"", target)
    }
}

pub fn target(text: &str) -> Result<Target, Problem> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or(rest);
        let problem = Problem::new(format!("`{text}` is a URL; an endpoint is a host and port"));
        return Err(match scheme {
            "https" => problem.help(format!("write \"{rest}\" with its port, and `tls = true` for the upstream")),
            _ => problem.help(format!("write \"{rest}\" with its port")),
        });
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(Problem::new(format!("`{text}` has port 0, which nothing can listen on")));
        }
        return Ok(Target::Socket(address));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        let problem = Problem::new(format!("`{text}` has no port"));
        return Err(if text.parse::<u16>().is_ok() {
            problem.help(format!("did you mean \"127.0.0.1:{text}\"?"))
        } else {
            problem.help(format!("write the port as well: \"{text}:80\""))
        });
    };
    let port = match port.parse::<u16>() {
        Ok(0) => return Err(Problem::new(format!("`{text}` has port 0, which nothing can listen on"))),
        Ok(port) => port,
        Err(_) => return Err(Problem::new(format!("`{port}` is not a port")).help("ports are 1 to 65535")),
    };
    match host_pattern(host)? {
        HostPattern::Exact(host) => Ok(Target::Name { host, port }),
        HostPattern::Wildcard(_) => Err(Problem::new(format!("`{host}` is a pattern; an endpoint is one name"))),
    }
}

impl Decode for HostPattern {
    fn shape() -> Shape {
        Shape::Text { what: "a host name, or *. and a host name", example: "www.example.com" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a host name such as \"example.com\" or \"*.example.com\"", host_pattern)
    }
}

/// A host name in lower case, an address, or `*.` and a host name.
pub fn host_pattern(text: &str) -> Result<HostPattern, Problem> {
    let wrong = || Problem::new(format!("`{text}` is not a host name"));
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(HostPattern::Exact(match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or(rest);
        return Err(wrong().help(format!("write the host alone: \"{host}\"")));
    }
    if let Some((host, _)) = text.split_once(':') {
        return Err(wrong().help(format!("write it without the port: \"{host}\"")));
    }
    if matches!(text, "*" | "_" | "") {
        return Err(wrong().help("leave `hosts` out to match every host"));
    }
    let (name, wildcard) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    if name.contains('*') {
        return Err(wrong().help("`*` stands for one whole label, at the front: \"*.example.com\""));
    }
    if let Some(name) = text.strip_prefix('.') {
        return Err(wrong().help(format!("did you mean \"*.{name}\"?")));
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if !name.is_ascii() {
        return Err(wrong().help("write names outside ASCII as their xn-- form"));
    }
    let fits = |label: &str| {
        let characters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        characters && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err(wrong());
    }
    // The last label of a name is never a number alone (RFC 3696 §2), so this is a broken address.
    if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(wrong().help("it looks like an address; IPv4 has four numbers up to 255"));
    }
    Ok(if wildcard { HostPattern::Wildcard(name) } else { HostPattern::Exact(name) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `Ok` is shown as it is printed, `Err` as its help.
    fn said<T>(result: Result<T, Problem>, show: impl Fn(T) -> String) -> String {
        match result {
            Ok(value) => show(value),
            Err(problem) => problem.help.unwrap_or(problem.message),
        }
    }

    #[test]
    fn listen_addresses() {
        let check = |text, expected: &str| {
            let said = said(socket_address(text), |address| address.to_string());
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("127.0.0.1:8080", "127.0.0.1:8080");
        check("[::]:0", "[::]:0");
        check("8080", "0.0.0.0:8080");
        check(":80", "0.0.0.0:80");
        check("*:80", "[::]:80");
        check("localhost:80", "127.0.0.1:80");
        check("127.0.0.1", "127.0.0.1:8080");
        check("::1", "[::1]:8080");
        check("fe80::1:2:99999", "65535");
        check("host.example:80", "not an address");
    }

    #[test]
    fn networks() {
        let check = |text, expected: &str| {
            let said = said(network(text), |network| network.to_string());
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("10.0.0.0/8", "10.0.0.0/8");
        check("127.0.0.1", "127.0.0.1/32");
        check("::1", "::1/128");
        check("10.1.2.3/8", "\"10.0.0.0/8\" or \"10.1.2.3\"");
        check("10.0.0.0/33", "0 to 32");
        check("::/129", "0 to 128");
        check("10.0.0.0/255.0.0.0", "number of bits");
        check("all", "0.0.0.0/0");
        check("10.0.0/8", "not a network");
    }

    #[test]
    fn hosts_and_endpoints() {
        let check = |text, expected: &str| {
            let said = said(host_pattern(text), |host| format!("{host:?}"));
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("Example.COM", "Exact(\"example.com\")");
        check("example.com.", "Exact(\"example.com\")");
        check("*.example.com", "Wildcard(\"example.com\")");
        check("::1", "Exact(\"[::1]\")");
        check("*", "leave `hosts` out");
        check("a.*.com", "one whole label");
        check("example.com:80", "\"example.com\"");
        check("https://example.com/x", "\"example.com\"");
        check(".example.com", "\"*.example.com\"");
        check("a..b", "not a host name");
        check("-a.com", "not a host name");
        check("bücher.de", "xn--");
        check("127.0.0.256", "four numbers");

        let check = |text, expected: &str| {
            let said = said(target(text), |target| format!("{target:?}"));
            assert!(said.contains(expected), "{text}: {said}");
        };
        check("10.0.0.1:80", "Socket(10.0.0.1:80)");
        check("[::1]:80", "Socket([::1]:80)");
        check("App:3000", "Name { host: \"app\", port: 3000 }");
        check("app", "\"app:80\"");
        check("3000", "\"127.0.0.1:3000\"");
        check("app:0", "port 0");
        check("10.0.0.1:0", "port 0");
        check("app:99999", "1 to 65535");
        check("http://app:3000/", "\"app:3000\"");
        check("https://app", "tls = true");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c0-9*.:/\\[\\]é_-]{0,20}") {
            let _ = (host_pattern(&text), target(&text), network(&text), socket_address(&text));
        }
    }
}
