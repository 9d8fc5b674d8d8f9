//! Asks the proxy for pages before clients do, so that its cache has them: by command, and when it starts.
//!
//! It is a client among others, over a connection of its own for each page: what is kept, and for how long, is decided
//! as for any request. Whatever goes wrong is told in the [`Report`] and is no failure of who began it.

mod ask;
mod list;
pub mod start;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

pub use self::ask::Doors;
use self::list::{Counts, Sitemap, sitemap};
pub use self::list::{Item, distinct};

/// Pages that one sitemap may name are 50,000; these many of an index are read.
const SITEMAPS_MAX: usize = 100;
/// Of an access log the newest part counts: what was asked for long ago is not asked for now.
pub const LOG_BYTES_MAX: u64 = 256 << 20;

/// What came of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Visit {
    Fetched,
    Fresh,
    NotKept(String),
    Failed(String),
}

/// What came of all.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub fetched: usize,
    /// The cache had them.
    pub fresh: usize,
    pub not_kept: Vec<Reason>,
    pub failed: Vec<Reason>,
}

#[derive(Debug, Serialize)]
pub struct Reason {
    pub page: String,
    pub reason: String,
}

/// What was asked for most by an access log.
pub fn most_asked(log: &Path, top: usize) -> io::Result<Vec<Item>> {
    // To open a pipe that nobody writes to waits for ever, and a device may have no end.
    if !std::fs::metadata(log)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut file = File::open(log)?;
    let before = file.metadata()?.len().saturating_sub(LOG_BYTES_MAX);
    file.seek(SeekFrom::Start(before))?;
    let mut lines = BufReader::new(file.take(LOG_BYTES_MAX)).split(b'\n');
    if before > 0 {
        // It begins somewhere in a line.
        lines.next().transpose()?;
    }
    let mut counts = Counts::default();
    for line in lines {
        counts.line(&String::from_utf8_lossy(&line?));
    }
    Ok(counts.most(top))
}

/// The pages of a sitemap, or of those that an index names. `say` is told what could not be read.
pub async fn pages(doors: &Doors, root: Item, say: impl Fn(&str)) -> anyhow::Result<Vec<Item>> {
    let text = doors.read(&root).await.with_context(|| format!("cannot read the sitemap {root}"))?;
    let sitemaps = match understood(text).await? {
        Sitemap::Pages(pages) => return Ok(pages),
        Sitemap::Index(sitemaps) => sitemaps,
    };
    let mut items = Vec::new();
    for item in sitemaps.into_iter().take(SITEMAPS_MAX) {
        let read = async { understood(doors.read(&item).await?).await };
        match read.await {
            Ok(Sitemap::Pages(pages)) => items.extend(pages),
            Ok(Sitemap::Index(_)) => say(&format!("{item}: an index within an index is not read")),
            Err(error) => say(&format!("{item}: {error:#}")),
        }
    }
    Ok(items)
}

/// A sitemap may be tens of megabytes, and who waits for it here may be the thread that answers operators.
async fn understood(text: String) -> anyhow::Result<Sitemap> {
    Ok(tokio::task::spawn_blocking(move || sitemap(&text)).await?)
}

/// Asks for each, so many at the same time. `say` is told how far it is, ten times in all.
pub async fn warm(doors: &Doors, items: Vec<Item>, concurrency: usize, say: impl Fn(&str)) -> Report {
    let all = items.len();
    let visits = items.into_iter().map(async |item| {
        let visit = match doors.visit(&item).await {
            Ok((status, fields)) => judge(status, &fields),
            Err(error) => Visit::Failed(format!("{error:#}")),
        };
        (item, visit)
    });
    let mut visits = std::pin::pin!(futures_util::stream::iter(visits).buffer_unordered(concurrency));
    let mut report = Report::default();
    let mut done = 0;
    while let Some((item, visit)) = visits.next().await {
        report.note(&item, visit);
        done += 1;
        if done * 10 / all > (done - 1) * 10 / all && done < all {
            say(&format!("{done} of {all}"));
        }
    }
    report
}

/// By what the proxy says of its cache: the last member of `Cache-Status` (RFC 9211 §2).
fn judge(status: StatusCode, fields: &HeaderMap) -> Visit {
    let said = fields.get_all("cache-status").iter().next_back().and_then(|value| value.to_str().ok());
    let said = said.and_then(|said| said.rsplit(", ").next()).unwrap_or_default();
    let has = |parameter: &str| said.split(';').any(|part| part.trim() == parameter);
    if has("hit") {
        Visit::Fresh
    } else if status.is_client_error() || status.is_server_error() {
        Visit::Failed(status.to_string())
    } else if has("stored") {
        Visit::Fetched
    } else if said.is_empty() {
        Visit::NotKept("its route keeps nothing".to_owned())
    } else {
        Visit::NotKept(said.to_owned())
    }
}

impl Report {
    fn note(&mut self, item: &Item, visit: Visit) {
        let because = |reason| Reason { page: item.to_string(), reason };
        match visit {
            Visit::Fetched => self.fetched += 1,
            Visit::Fresh => self.fresh += 1,
            Visit::NotKept(reason) => self.not_kept.push(because(reason)),
            Visit::Failed(reason) => self.failed.push(because(reason)),
        }
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let Self { fetched, fresh, not_kept, failed } = self;
        format!("{fetched} fetched, {fresh} fresh already, {} not kept, {} failed", not_kept.len(), failed.len())
    }
}

/// Where to connect for what is bound to every address.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_came_of_a_page() {
        let check = |status: u16, said: &[&'static str], expected: Visit| {
            let fields = said.iter().map(|said| ("cache-status".parse().unwrap(), said.parse().unwrap()));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &HeaderMap::from_iter(fields)), expected, "{status} {said:?}");
        };
        check(200, &["tollgate; hit; ttl=5"], Visit::Fresh);
        check(200, &["tollgate; fwd=uri-miss; stored; ttl=5"], Visit::Fetched);
        check(200, &["other; hit, tollgate; fwd=uri-miss; stored"], Visit::Fetched);
        check(200, &["other; hit", "tollgate; fwd=uri-miss; stored"], Visit::Fetched);
        let why = "tollgate; fwd=uri-miss; detail=private";
        check(200, &[why], Visit::NotKept(why.to_owned()));
        check(200, &[], Visit::NotKept("its route keeps nothing".to_owned()));
        check(404, &["tollgate; fwd=uri-miss; stored"], Visit::Failed("404 Not Found".to_owned()));
        check(502, &[], Visit::Failed("502 Bad Gateway".to_owned()));
    }

    /// The file has a hole in the place of lines that are too old.
    #[test]
    fn of_a_long_log_the_newest_part_counts() {
        let mut log = tempfile::NamedTempFile::new().unwrap();
        log.write_all(b"\"GET /old HTTP/1.1\" 200 -\n").unwrap();
        log.as_file_mut().seek(SeekFrom::Start(LOG_BYTES_MAX)).unwrap();
        log.write_all(b"\n\"GET /new HTTP/1.1\" 200 -\n").unwrap();
        let asked: Vec<_> = most_asked(log.path(), 9).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(asked, ["/new"]);
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [&*pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(most_asked(path, 9).unwrap_err().to_string(), "it is not a regular file", "{path:?}");
        }
    }

    #[test]
    fn addresses_to_connect_to() {
        let check = |bound: &str, expected: &str| {
            assert_eq!(reachable(bound.parse().unwrap()), expected.parse().unwrap());
        };
        check("0.0.0.0:9900", "127.0.0.1:9900");
        check("[::]:9900", "[::1]:9900");
        check("10.0.0.5:9900", "10.0.0.5:9900");
    }
}
