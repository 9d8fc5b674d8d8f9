//! `tollgate limits`: who is limited, and giving an address its quota back.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::json;

use super::client::{Reach, Reply};
use super::config_file::ConfigFile;
use super::{Failure, output};

/// Show rate limits and who has used most of them; how one address stands, and reset it
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show the rate limits as the running proxy counts them, with those who have used most. `show` tells \
                  how one address stands with each limit, and `reset` has all limits forget it.",
    after_help = "Examples:\n  tollgate limits\n  tollgate limits show 192.0.2.1\n  tollgate limits reset 2001:db8::1"
)]
pub struct Limits {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    reach: Reach,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show them all: the default
    List,
    /// Tell how a client address stands with each limit
    Show {
        /// An address; of IPv6 any one of its network
        address: IpAddr,
    },
    /// Forget what was counted for a client address
    Reset {
        /// An address; of IPv6 any one of its network
        address: IpAddr,
    },
}

/// What is said of every limit.
#[derive(Debug, Deserialize)]
struct Shape {
    name: String,
    key: String,
    requests: u32,
    window_s: u64,
    burst: Option<u32>,
    dry_run: bool,
}

/// One limit of `/limits`.
#[derive(Debug, Deserialize)]
pub struct Limit {
    #[serde(flatten)]
    shape: Shape,
    keys: usize,
    keys_max: usize,
    limited_now: usize,
    allowed: u64,
    limited: u64,
    dry_run_limited: u64,
    evicted: u64,
    most_used: Vec<Count>,
}

#[derive(Debug, Deserialize)]
struct Count {
    who: String,
    used: u32,
    remaining: u32,
    more_after_s: f64,
    refused: u32,
}

/// One limit of `/limits/{address}`.
#[derive(Debug, Deserialize)]
struct Standing {
    #[serde(flatten)]
    shape: Shape,
    state: String,
    #[serde(flatten)]
    count: Option<Count>,
}

impl Limits {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let client = self.reach.client(config)?;
        let (reply, show): (Reply, fn(Reply) -> anyhow::Result<String>) = match self.action {
            None | Some(Action::List) => (client.get("/limits")?, |reply| Ok(list(&reply.read::<Vec<Limit>>()?))),
            Some(Action::Show { address }) => (client.get(&format!("/limits/{address}"))?, read_standings),
            Some(Action::Reset { address }) => {
                (client.post("/limits/reset", json!({ "address": address }).to_string())?, read_standings)
            }
        };
        reply.print(self.json, show)
    }
}

fn read_standings(reply: Reply) -> anyhow::Result<String> {
    Ok(standings(&reply.read::<Vec<Standing>>()?))
}

/// One line a limit, and one for each of those who have used most.
pub fn list(limits: &[Limit]) -> String {
    if limits.is_empty() {
        return "there are no rate limits".to_owned();
    }
    let header = ["LIMIT", "KEY", "QUOTA", "KEYS", "LIMITED NOW", "ALLOWED", "LIMITED", "EVICTED"];
    let mut text = output::table(header, limits.iter().map(row));
    if limits.iter().any(|limit| !limit.most_used.is_empty()) {
        let used = limits.iter().flat_map(|limit| limit.most_used.iter().map(|count| used(&limit.shape.name, count)));
        text.push_str("\n\n");
        text.push_str(&output::table(["LIMIT", "WHO", "USED", "LEFT", "MORE IN", "REFUSED"], used));
    }
    text
}

fn row(limit: &Limit) -> [String; 8] {
    let refused = if limit.shape.dry_run { limit.dry_run_limited } else { limit.limited };
    [
        limit.shape.name.clone(),
        limit.shape.key.clone(),
        quota(&limit.shape),
        format!("{} of {}", limit.keys, limit.keys_max),
        limit.limited_now.to_string(),
        limit.allowed.to_string(),
        refused.to_string(),
        limit.evicted.to_string(),
    ]
}

fn used(limit: &str, count: &Count) -> [String; 6] {
    let more_in = if count.more_after_s > 0.0 { format!("{:.1} s", count.more_after_s) } else { "-".to_owned() };
    [
        limit.to_owned(),
        count.who.clone(),
        count.used.to_string(),
        count.remaining.to_string(),
        more_in,
        count.refused.to_string(),
    ]
}

fn standings(limits: &[Standing]) -> String {
    if limits.is_empty() {
        return "there are no rate limits".to_owned();
    }
    let row = |limit: &Standing| {
        let [_, who, used, left, more_in, refused] = match &limit.count {
            Some(count) => used(&limit.shape.name, count),
            None => std::array::from_fn(|_| "-".to_owned()),
        };
        [limit.shape.name.clone(), quota(&limit.shape), limit.state.clone(), who, used, left, more_in, refused]
    };
    output::table(["LIMIT", "QUOTA", "STATE", "WHO", "USED", "LEFT", "MORE IN", "REFUSED"], limits.iter().map(row))
}

fn quota(shape: &Shape) -> String {
    let burst = shape.burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
    let dry_run = if shape.dry_run { " (dry run)" } else { "" };
    format!("{} in {} s{burst}{dry_run}", shape.requests, shape.window_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_for_people() {
        let limits: Vec<Limit> = serde_json::from_value(json!([
            { "name": "per-ip", "key": "client-ip", "requests": 100, "window_s": 60, "algorithm": "window",
              "burst": null, "dry_run": false, "routes": ["/"], "keys": 2, "keys_max": 100000, "limited_now": 1,
              "allowed": 140, "limited": 7, "dry_run_limited": 0, "evicted": 0, "most_used": [
                { "who": "192.0.2.1", "used": 100, "remaining": 0, "more_after_s": 12.34, "refused": 7 },
                { "who": "2001:db8::/64", "used": 40, "remaining": 60, "more_after_s": 60.1, "refused": 0 } ] },
            { "name": "api", "key": "all", "requests": 10, "window_s": 1, "algorithm": "gcra", "burst": 5,
              "dry_run": true, "routes": [], "keys": 0, "keys_max": 1, "limited_now": 0, "allowed": 0, "limited": 0,
              "dry_run_limited": 3, "evicted": 0, "most_used": [] },
        ]))
        .unwrap();
        assert_eq!(
            output::squeezed(&list(&limits)),
            [
                "LIMIT KEY QUOTA KEYS LIMITED NOW ALLOWED LIMITED EVICTED",
                "per-ip client-ip 100 in 60 s 2 of 100000 1 140 7 0",
                "api all 10 in 1 s, burst 5 (dry run) 0 of 1 0 0 3 0",
                "",
                "LIMIT WHO USED LEFT MORE IN REFUSED",
                "per-ip 192.0.2.1 100 0 12.3 s 7",
                "per-ip 2001:db8::/64 40 60 60.1 s 0",
            ]
        );
        assert_eq!(list(&[]), "there are no rate limits");
    }

    #[test]
    fn one_address_for_people() {
        let shape = json!({ "name": "per-ip", "key": "client-ip", "requests": 100, "window_s": 60,
            "algorithm": "window", "burst": null, "dry_run": false, "state": "exempt" });
        let mut counted = shape.clone();
        let count = json!({ "state": "counted", "who": "192.0.2.1", "used": 1, "remaining": 99, "more_after_s": 0.0,
            "refused": 0 });
        counted.as_object_mut().unwrap().extend(count.as_object().unwrap().clone());
        let limits: Vec<Standing> = serde_json::from_value(json!([shape, counted])).unwrap();
        assert_eq!(
            output::squeezed(&standings(&limits)),
            [
                "LIMIT QUOTA STATE WHO USED LEFT MORE IN REFUSED",
                "per-ip 100 in 60 s exempt - - - - -",
                "per-ip 100 in 60 s counted 192.0.2.1 1 99 - 0",
            ]
        );
    }
}
