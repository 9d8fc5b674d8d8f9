//! `tollgate cache warm`: asks the running proxy for pages, so that it has them when clients come.
//!
//! The work is done by [`warm`](crate::warm), which does the same when the proxy starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use super::client::Client;
use super::{Failure, output};
use crate::warm::{Doors, Item, Reason, Report, distinct, most_asked, pages, warm};

/// Of each kind, for people.
const LISTED_MAX: usize = 20;

/// Ask for pages, so that the cache has them before clients come
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Ask the running proxy for pages as a client would, so that the cache has them before clients come. \
                  Paths are asked of the TLS listener if there is one, under the name of the first certificate; \
                  URLs name the scheme and the host that they are kept for.",
    after_help = "Examples:\n  tollgate cache warm / /products /about\n  \
                  tollgate cache warm --sitemap /sitemap.xml --host www.example.com\n  \
                  tollgate cache warm --from-access-log access.log --top 500 --concurrency 4\n\n\
                  Exit status: 0 everything was tried, whatever came of it; 1 the proxy cannot be asked; 2 wrong arguments."
)]
pub struct Warm {
    /// Paths with their queries, or URLs
    #[arg(value_name = "PATH")]
    pages: Vec<String>,
    /// All pages of a sitemap, which is asked of the proxy as well: a path or a URL
    #[arg(long, value_name = "PATH")]
    sitemap: Option<String>,
    /// What was asked for most by this access log, in the format `json` or `combined`
    #[arg(long, value_name = "FILE")]
    from_access_log: Option<PathBuf>,
    /// How many pages of the access log
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "from_access_log")]
    top: usize,
    /// `Host` of the requests for paths
    #[arg(long)]
    host: Option<String>,
    /// How many requests at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
}

/// Of `/status`, where to ask.
#[derive(Debug, Deserialize)]
struct Status {
    listeners: Vec<Listener>,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Deserialize)]
struct Listener {
    bound: Option<SocketAddr>,
    tls: bool,
}

#[derive(Debug, Deserialize)]
struct Certificate {
    hosts: Vec<String>,
}

impl Warm {
    pub fn run(self, client: &Client, as_json: bool) -> Result<(), Failure> {
        if self.pages.is_empty() && self.sitemap.is_none() && self.from_access_log.is_none() {
            let message = "nothing to ask for: name paths, --sitemap or --from-access-log";
            return Err(Failure::Usage(message.to_owned()));
        }
        let mut items = Vec::new();
        for page in &self.pages {
            items.push(read(page)?);
        }
        if let Some(log) = &self.from_access_log {
            items.extend(most_asked(log, self.top).with_context(|| format!("cannot read {}", log.display()))?);
        }
        let doors = doors(client.get("/status")?.read()?, self.host.clone())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(async {
            if let Some(sitemap) = &self.sitemap {
                items.extend(pages(&doors, read(sitemap)?, output::say).await?);
            }
            Ok::<_, Failure>(warm(&doors, distinct(items), self.concurrency.into(), output::say).await)
        })?;
        if as_json { output::print_json(&report) } else { output::print(&describe(&report)) }
    }
}

fn read(page: &str) -> Result<Item, Failure> {
    let wrong = || Failure::Usage(format!("{page:?} is neither a path such as /a?b=c nor a URL"));
    Item::read(page).ok_or_else(wrong)
}

fn doors(status: Status, host: Option<String>) -> anyhow::Result<Doors> {
    let bound = status.listeners.iter().filter_map(|listener| Some((listener.bound?, listener.tls)));
    let names = status.certificates.iter().flat_map(|certificate| certificate.hosts.iter().map(String::as_str));
    Doors::new(bound, names, host)
}

fn describe(report: &Report) -> String {
    let mut text = report.summary();
    for (name, pages) in [("not kept", &report.not_kept), ("failed", &report.failed)] {
        for Reason { page, reason } in pages.iter().take(LISTED_MAX) {
            text.push_str(&format!("\n{name}: {}: {}", output::shown(page), output::shown(reason)));
        }
        if pages.len() > LISTED_MAX {
            text.push_str(&format!("\n{name}: {} more; --json names all", pages.len() - LISTED_MAX));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_people() {
        let mut report = Report { fetched: 3, fresh: 1, ..Report::default() };
        for number in 0..=LISTED_MAX {
            report.failed.push(Reason { page: format!("/{number}"), reason: "no\nanswer".to_owned() });
        }
        let text = describe(&report);
        assert!(
            text.starts_with("3 fetched, 1 fresh already, 0 not kept, 21 failed\nfailed: /0: no\\nanswer\n"),
            "{text}"
        );
        assert!(text.ends_with("\nfailed: 1 more; --json names all"), "{text}");
    }
}
