//! Whether the names of endpoints resolve, as a word of warning: the proxy asks again while it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::ToSocketAddrs as _;
use std::sync::mpsc;
use std::time::Duration;

use crate::clock;
use crate::config::{Config, Source, Target};

/// For all names together.
const LIMIT: Duration = Duration::from_secs(3);
/// Each is asked on a thread of its own. Further names are not asked.
const NAMES_MAX: usize = 64;

/// A name without an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    pub host: String,
    upstream: String,
    reason: String,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream {}: {} does not resolve here: {}", self.upstream, self.host, self.reason)
    }
}

/// Asks the system's resolver, unless the configuration names other servers, of which it knows nothing.
pub fn unresolved(config: &Config) -> Vec<Unresolved> {
    if !config.dns.servers.is_empty() {
        return Vec::new();
    }
    ask(names(config), |host, port| (host, port).to_socket_addrs().map(drop).map_err(|error| error.to_string()))
}

/// Host and port, with the first upstream that names them.
fn names(config: &Config) -> BTreeMap<(String, u16), String> {
    let mut names = BTreeMap::new();
    for upstream in &config.upstreams {
        let Source::Endpoints(endpoints) = &upstream.source else { continue };
        for endpoint in endpoints {
            if let Target::Name { host, port } = &endpoint.target {
                names.entry((host.clone(), *port)).or_insert_with(|| upstream.name.clone());
            }
        }
    }
    names
}

fn ask(names: BTreeMap<(String, u16), String>, resolve: fn(&str, u16) -> Result<(), String>) -> Vec<Unresolved> {
    let deadline = clock::now() + LIMIT;
    let mut waiting: BTreeMap<_, _> = names.into_iter().take(NAMES_MAX).collect();
    let (answers, received) = mpsc::channel();
    for (host, port) in waiting.keys().cloned() {
        let answers = answers.clone();
        // The resolver takes no time limit. A thread that it holds ends with the process.
        let asked = std::thread::Builder::new().spawn(move || {
            let answer = resolve(&host, port);
            let _no_longer_waited_for = answers.send((host, port, answer));
        });
        if asked.is_err() {
            break;
        }
    }
    drop(answers);
    let mut unresolved = Vec::new();
    while let Ok((host, port, answer)) = received.recv_timeout(deadline.saturating_duration_since(clock::now())) {
        let key = (host, port);
        if let (Some(upstream), Err(reason)) = (waiting.remove(&key), answer) {
            unresolved.push(Unresolved { host: key.0, upstream, reason });
        }
    }
    let slow = |((host, _), upstream)| Unresolved { host, upstream, reason: format!("no answer within {LIMIT:?}") };
    unresolved.extend(waiting.into_iter().map(slow));
    unresolved.sort_by(|a, b| a.host.cmp(&b.host));
    unresolved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_resolve() {
        let names = ["good", "bad", "worse"].map(|host| ((host.to_owned(), 80), "app".to_owned()));
        let resolve = |host: &str, _| if host == "good" { Ok(()) } else { Err("unknown".to_owned()) };
        let found: Vec<String> = ask(names.into(), resolve).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["upstream app: bad does not resolve here: unknown", "upstream app: worse does not resolve here: unknown"]
        );
    }
}
