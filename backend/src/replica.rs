//! Owns the name of this replica, so that a client behind the proxy can tell who answered.

use std::net::SocketAddr;
use std::time::Instant;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    /// `address:port`, or `host name:port` where it listens on every address: in a container the host name differs,
    /// `0.0.0.0` does not.
    pub name: String,
    pub pid: u32,
    #[serde(skip)]
    pub started: Instant,
}

impl Replica {
    pub fn new(address: SocketAddr) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { name: name(address, &host), pid: std::process::id(), started: Instant::now() }
    }
}

fn name(address: SocketAddr, host: &str) -> String {
    if address.ip().is_unspecified() { format!("{host}:{}", address.port()) } else { address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_on_every_address_is_named_by_its_host() {
        for (address, expected) in [
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("0.0.0.0:3000", "box:3000"),
            ("[::]:3001", "box:3001"),
        ] {
            assert_eq!(name(address.parse().unwrap(), "box"), expected);
        }
    }
}
