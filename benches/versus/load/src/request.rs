//! The bytes of requests. Pure.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::arguments::{Load, Protocol};

/// The key of the example in RFC 6455, section 1.3, whose answer is known.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Where to, and with what.
#[derive(Debug, Clone)]
pub struct Target {
    pub tls: bool,
    pub address: SocketAddr,
    pub path: String,
}

impl Target {
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").context("a URL begins with http:// or https://")?;
        let (address, path) = rest.split_once('/').context("a URL has a path")?;
        let address = address.parse().context("the host of the URL is an address with a port")?;
        Ok(Self { tls: scheme == "https", address, path: format!("/{path}") })
    }
}

/// A text in which the key of a request is filled in.
#[derive(Debug)]
pub struct Template {
    text: String,
    keyed: bool,
}

impl Template {
    pub fn new(text: String) -> Self {
        Self { keyed: text.contains("{n}") || text.contains("{ip}"), text }
    }

    /// A request of HTTP/1.1 with all but its body.
    pub fn h1(load: &Load, target: &Target) -> Self {
        let method = if load.payload.is_some() && load.protocol == Protocol::H1 { "POST" } else { "GET" };
        let mut text = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", target.path, target.address);
        if let (Some(size), "POST") = (load.payload, method) {
            text += &format!("Content-Length: {size}\r\n");
        }
        if load.fresh.is_some() {
            text += "Connection: close\r\n";
        }
        if load.protocol == Protocol::Websocket {
            text += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
            text += &format!("Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\n");
        }
        if let Some(header) = &load.header {
            text += &format!("{header}\r\n");
        }
        Self::new(text + "\r\n")
    }

    pub fn write(&self, key: u64, out: &mut Vec<u8>) {
        if !self.keyed {
            out.extend_from_slice(self.text.as_bytes());
            return;
        }
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            out.extend_from_slice(before.as_bytes());
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            // Writing to memory does not fail.
            let _written = match name {
                "n" => write!(out, "{key}"),
                "ip" => write!(out, "10.{}.{}.{}", (key >> 16) & 255, (key >> 8) & 255, key & 255),
                _ => Ok(()),
            };
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
    }
}

/// Bytes that the other side can check: no two places have the same neighbours.
pub fn payload(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_filled_in_wherever_it_is_named() {
        for (text, key, wanted) in [
            ("GET /{n} HTTP/1.1", 42, "GET /42 HTTP/1.1"),
            ("/{n}?{n}", 7, "/7?7"),
            ("X-Forwarded-For: {ip}\r\n", 0x0001_0203, "X-Forwarded-For: 10.1.2.3\r\n"),
            ("/plain", 9, "/plain"),
        ] {
            let mut out = Vec::new();
            Template::new(text.to_owned()).write(key, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), wanted);
        }
    }

    #[test]
    fn a_url_names_scheme_address_and_path() -> Result<()> {
        let target = Target::parse("https://127.0.0.1:8443/a/b?c")?;
        assert!(target.tls);
        assert_eq!((target.address.port(), target.path.as_str()), (8443, "/a/b?c"));
        assert!(Target::parse("127.0.0.1:80/").is_err());
        Ok(())
    }
}
