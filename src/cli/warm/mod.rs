//! `tollgate cache warm`: asks the running proxy for pages, so that it has them when clients come.
//!
//! It is a client among others: what is kept, and for how long, is decided as for any request.

mod ask;
mod list;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use self::ask::Doors;
use self::list::{Counts, Item, Sitemap, distinct, sitemap};
use super::client::{Client, reachable};
use super::{Failure, output};
use crate::tls::to_own_listener;

/// Pages that one sitemap may name are 50,000; these many of an index are read.
const SITEMAPS_MAX: usize = 100;
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

/// What came of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Fetched,
    Fresh,
    NotKept(String),
    Failed(String),
}

#[derive(Debug, Default, Serialize)]
struct Report {
    fetched: usize,
    /// The cache had them.
    fresh: usize,
    not_kept: Vec<Reason>,
    failed: Vec<Reason>,
}

#[derive(Debug, Serialize)]
struct Reason {
    page: String,
    reason: String,
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
                items.extend(pages(&doors, read(sitemap)?).await?);
            }
            Ok::<_, Failure>(warm(&doors, distinct(items), self.concurrency.into()).await)
        })?;
        if as_json { output::print_json(&report) } else { output::print(&describe(&report)) }
    }
}

fn read(page: &str) -> Result<Item, Failure> {
    let wrong = || Failure::Usage(format!("{page:?} is neither a path such as /a?b=c nor a URL"));
    Item::read(page).ok_or_else(wrong)
}

fn most_asked(log: &Path, top: usize) -> anyhow::Result<Vec<Item>> {
    let mut counts = Counts::default();
    for line in BufReader::new(File::open(log)?).split(b'\n') {
        counts.line(&String::from_utf8_lossy(&line?));
    }
    Ok(counts.most(top))
}

fn doors(status: Status, host: Option<String>) -> anyhow::Result<Doors> {
    let of = |tls: bool| {
        let fitting = status.listeners.iter().filter(|listener| listener.tls == tls);
        fitting.filter_map(|listener| listener.bound).next().map(reachable)
    };
    let tls = of(true).map(|address| Ok::<_, anyhow::Error>((address, to_own_listener()?))).transpose()?;
    let clear = of(false);
    if tls.is_none() && clear.is_none() {
        return Err(anyhow!("the proxy has no open listener"));
    }
    let mut names = status.certificates.iter().flat_map(|certificate| &certificate.hosts);
    let name = names.find(|name| !name.contains('*')).map_or_else(|| "localhost".to_owned(), Clone::clone);
    Ok(Doors { clear, tls, name, host })
}

/// The pages of a sitemap, or of those that an index names.
async fn pages(doors: &Doors, root: Item) -> anyhow::Result<Vec<Item>> {
    let text = doors.read(&root).await.with_context(|| format!("cannot read the sitemap {root}"))?;
    let sitemaps = match sitemap(&text) {
        Sitemap::Pages(pages) => return Ok(pages.iter().filter_map(|page| Item::read(page)).collect()),
        Sitemap::Index(sitemaps) => sitemaps,
    };
    let mut items = Vec::new();
    for item in sitemaps.iter().filter_map(|location| Item::read(location)).take(SITEMAPS_MAX) {
        match doors.read(&item).await.map(|text| sitemap(&text)) {
            Ok(Sitemap::Pages(pages)) => items.extend(pages.iter().filter_map(|page| Item::read(page))),
            Ok(Sitemap::Index(_)) => output::say(&format!("{item}: an index within an index is not read")),
            Err(error) => output::say(&format!("{item}: {error:#}")),
        }
    }
    Ok(items)
}

async fn warm(doors: &Doors, items: Vec<Item>, concurrency: usize) -> Report {
    let all = items.len();
    let visits = items.into_iter().map(async |item| {
        let outcome = match doors.visit(&item).await {
            Ok((status, fields)) => judge(status, &fields),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        (item, outcome)
    });
    let mut visits = std::pin::pin!(futures_util::stream::iter(visits).buffer_unordered(concurrency));
    let mut report = Report::default();
    let mut done = 0;
    while let Some((item, outcome)) = visits.next().await {
        report.note(&item, outcome);
        done += 1;
        if done * 10 / all > (done - 1) * 10 / all && done < all {
            output::say(&format!("{done} of {all}"));
        }
    }
    report
}

/// By what the proxy says of its cache: the last member of `Cache-Status` (RFC 9211 §2).
fn judge(status: StatusCode, fields: &HeaderMap) -> Outcome {
    let said = fields.get_all("cache-status").iter().next_back().and_then(|value| value.to_str().ok());
    let said = said.and_then(|said| said.rsplit(", ").next()).unwrap_or_default();
    let has = |parameter: &str| said.split(';').any(|part| part.trim() == parameter);
    if has("hit") {
        Outcome::Fresh
    } else if status.is_client_error() || status.is_server_error() {
        Outcome::Failed(status.to_string())
    } else if has("stored") {
        Outcome::Fetched
    } else if said.is_empty() {
        Outcome::NotKept("its route keeps nothing".to_owned())
    } else {
        Outcome::NotKept(said.to_owned())
    }
}

impl Report {
    fn note(&mut self, item: &Item, outcome: Outcome) {
        let because = |reason| Reason { page: item.to_string(), reason };
        match outcome {
            Outcome::Fetched => self.fetched += 1,
            Outcome::Fresh => self.fresh += 1,
            Outcome::NotKept(reason) => self.not_kept.push(because(reason)),
            Outcome::Failed(reason) => self.failed.push(because(reason)),
        }
    }
}

fn describe(report: &Report) -> String {
    let Report { fetched, fresh, not_kept, failed } = report;
    let mut text =
        format!("{fetched} fetched, {fresh} fresh already, {} not kept, {} failed", not_kept.len(), failed.len());
    for (name, pages) in [("not kept", not_kept), ("failed", failed)] {
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
    fn what_came_of_a_page() {
        let check = |status: u16, said: &[&'static str], expected: Outcome| {
            let fields = said.iter().map(|said| ("cache-status".parse().unwrap(), said.parse().unwrap()));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &HeaderMap::from_iter(fields)), expected, "{status} {said:?}");
        };
        check(200, &["tollgate; hit; ttl=5"], Outcome::Fresh);
        check(200, &["tollgate; fwd=uri-miss; stored; ttl=5"], Outcome::Fetched);
        check(200, &["other; hit, tollgate; fwd=uri-miss; stored"], Outcome::Fetched);
        check(200, &["other; hit", "tollgate; fwd=uri-miss; stored"], Outcome::Fetched);
        let why = "tollgate; fwd=uri-miss; detail=private";
        check(200, &[why], Outcome::NotKept(why.to_owned()));
        check(200, &[], Outcome::NotKept("its route keeps nothing".to_owned()));
        check(404, &["tollgate; fwd=uri-miss; stored"], Outcome::Failed("404 Not Found".to_owned()));
        check(502, &[], Outcome::Failed("502 Bad Gateway".to_owned()));
    }

    #[test]
    fn a_report_for_people() {
        let mut report = Report { fetched: 3, fresh: 1, ..Report::default() };
        for number in 0..=LISTED_MAX {
            let item = Item::read(&format!("/{number}")).unwrap();
            report.note(&item, Outcome::Failed("no\nanswer".to_owned()));
        }
        let text = describe(&report);
        assert!(
            text.starts_with("3 fetched, 1 fresh already, 0 not kept, 21 failed\nfailed: /0: no\\nanswer\n"),
            "{text}"
        );
        assert!(text.ends_with("\nfailed: 1 more; --json names all"), "{text}");
    }
}
