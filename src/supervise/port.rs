//! Ports for replicas on the loopback address.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;

/// Free ports can repeat themselves only while replicas hold them, so a few attempts find another one.
const ATTEMPTS_MAX: usize = 64;

/// The ports that replicas of this process have, also those that they do not listen on yet.
#[derive(Debug, Clone, Default)]
pub struct Ports(Rc<RefCell<HashSet<u16>>>);

/// A port that is no other replica's for as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    ports: Ports,
}

impl Ports {
    /// A port that nobody listens on. Another process can still come before the replica; the replica ends
    /// then, and gets another one.
    pub fn choose(&self) -> io::Result<Port> {
        for _ in 0..ATTEMPTS_MAX {
            let number = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if self.0.borrow_mut().insert(number) {
                return Ok(Port { number, ports: self.clone() });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no free port on 127.0.0.1"))
    }
}

impl Port {
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.0.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_replicas_have_the_same_port() {
        let ports = Ports::default();
        let held: Vec<Port> = (0..50).map(|_| ports.choose().unwrap()).collect();
        let distinct: HashSet<SocketAddr> = held.iter().map(Port::address).collect();
        assert_eq!(distinct.len(), held.len());
        drop(held);
        assert!(ports.0.borrow().is_empty());
    }
}
