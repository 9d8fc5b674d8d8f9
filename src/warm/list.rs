//! What is to be asked for, read from arguments, sitemaps and access logs. Pure.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::header::Scheme;

/// Different pages of a log that are counted; more are left out.
const COUNTED_MAX: usize = 1_000_000;

/// One page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item {
    /// None: that of the listener that is asked.
    pub scheme: Option<Scheme>,
    pub host: Option<String>,
    /// Path and query.
    pub target: String,
}

impl Item {
    /// Reads a path with its query, or a URL.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.split('#').next().unwrap_or_default();
        if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return None;
        }
        if text.starts_with('/') {
            return Some(Self { scheme: None, host: None, target: text.to_owned() });
        }
        let schemes = [("https://", Scheme::Https), ("http://", Scheme::Http)];
        let (scheme, rest) =
            schemes.into_iter().find_map(|(start, scheme)| Some((scheme, text.strip_prefix(start)?)))?;
        let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        (!host.is_empty()).then(|| Self { scheme: Some(scheme), host: Some(host.to_owned()), target })
    }
}

/// As people are told of it.
impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(host) = &self.host {
            let scheme = self.scheme.map_or("", Scheme::as_str);
            write!(f, "{scheme}{}{host}", if scheme.is_empty() { "" } else { "://" })?;
        }
        f.write_str(&self.target)
    }
}

/// Each once, in their order.
pub fn distinct(items: Vec<Item>) -> Vec<Item> {
    let mut known = HashSet::new();
    items.into_iter().filter(|item| known.insert(item.clone())).collect()
}

/// What a sitemap names: pages, or if it is an index, further sitemaps.
#[derive(Debug, PartialEq, Eq)]
pub enum Sitemap {
    Pages(Vec<Item>),
    Index(Vec<Item>),
}

/// Reads the text of each `loc` that is a URL (<https://www.sitemaps.org/protocol.html>).
pub fn sitemap(xml: &str) -> Sitemap {
    let mut locations = Vec::new();
    let mut rest = xml;
    while let Some((_, after)) = rest.split_once("<loc>") {
        let Some((location, after)) = after.split_once("</loc>") else { break };
        locations.extend(Item::read(&unescaped(location.trim())));
        rest = after;
    }
    if xml.contains("<sitemapindex") { Sitemap::Index(locations) } else { Sitemap::Pages(locations) }
}

/// The protocol has these five, and `&amp;` has to be the last.
fn unescaped(text: &str) -> String {
    let text = text.strip_prefix("<![CDATA[").and_then(|text| text.strip_suffix("]]>")).unwrap_or(text);
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    named.into_iter().fold(text.to_owned(), |text, (name, character)| text.replace(name, character))
}

/// What was asked for most in an access log, and answered well: the format `json` or `combined`.
#[derive(Debug, Default)]
pub struct Counts(HashMap<Item, u64>);

impl Counts {
    pub fn line(&mut self, line: &str) {
        let item = if line.starts_with('{') { of_json(line) } else { of_combined(line) };
        // What was masked in the log is nothing to ask for.
        let Some(item) = item.filter(|item| !item.target.contains("***")) else { return };
        if self.0.len() < COUNTED_MAX || self.0.contains_key(&item) {
            *self.0.entry(item).or_default() += 1;
        }
    }

    pub fn most(self, top: usize) -> Vec<Item> {
        let mut counted: Vec<_> = self.0.into_iter().collect();
        counted.sort_by(|(one, ones), (other, others)| {
            (Reverse(ones), &one.host, &one.target).cmp(&(Reverse(others), &other.host, &other.target))
        });
        counted.into_iter().take(top).map(|(item, _)| item).collect()
    }
}

fn is_good(status: u16) -> bool {
    matches!(status, 200..=299 | 304)
}

fn of_json(line: &str) -> Option<Item> {
    #[derive(Deserialize)]
    struct Line {
        method: String,
        host: Option<String>,
        path: String,
        query: Option<String>,
        status: u16,
    }
    let Line { method, host, path, query, status } = serde_json::from_str(line).ok()?;
    let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let item = Item::read(&target).filter(|_| method == "GET" && is_good(status))?;
    Some(Item { host: host.filter(|host| !host.is_empty()), ..item })
}

/// `… "GET /path HTTP/1.1" 200 …`
fn of_combined(line: &str) -> Option<Item> {
    let (_, rest) = line.split_once("\"GET ")?;
    let (request, rest) = rest.split_once("\" ")?;
    let status = rest.split(' ').next()?.parse().ok()?;
    Item::read(request.split(' ').next()?).filter(|_| is_good(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(items: Vec<Item>) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pages_by_path_or_url() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Item::read(text).map(|item| item.to_string()).as_deref(), expected, "{text}");
        };
        check("/a?b=c#d", Some("/a?b=c"));
        check("https://example.com/a", Some("https://example.com/a"));
        check("http://example.com:8080", Some("http://example.com:8080/"));
        check("http://example.com?a", Some("http://example.com/?a"));
        for text in ["", "a", "ftp://a/", "https:///a", "/a b", "/a\r\nx: y"] {
            check(text, None);
        }
        let twice = ["/a", "/b", "/a"].map(|text| Item::read(text).unwrap());
        assert_eq!(shown(distinct(twice.into())), ["/a", "/b"]);
    }

    #[test]
    fn sitemaps() {
        let pages = "<urlset><url><loc> https://a/x?b=1&amp;c=2 </loc></url><url><loc>https://a/y</loc></url></urlset>";
        let items = |texts: &[&str]| texts.iter().map(|text| Item::read(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(sitemap(pages), Sitemap::Pages(items(&["https://a/x?b=1&c=2", "https://a/y"])));
        let index = "<sitemapindex><sitemap><loc><![CDATA[https://a/1.xml]]></loc></sitemap></sitemapindex>";
        assert_eq!(sitemap(index), Sitemap::Index(items(&["https://a/1.xml"])));
        assert_eq!(sitemap("<loc>https://a/"), Sitemap::Pages(Vec::new()));
        assert_eq!(sitemap("<loc>/?&amp;lt;</loc><loc>no page</loc>"), Sitemap::Pages(items(&["/?&lt;"])));
    }

    #[test]
    fn what_was_asked_for_most() {
        let json = |method: &str, target: &str, status: u16| {
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            serde_json::json!({ "method": method, "host": "a:81", "path": path, "query": query, "status": status })
                .to_string()
        };
        let combined =
            |request: &str, status: u16| format!("::1 - - [21/Nov/2026] \"{request}\" {status} 5 \"-\" \"x\"");
        let lines = [
            json("GET", "/one", 200),
            json("GET", "/two?a", 200),
            json("GET", "/two?a", 304),
            json("GET", "/bad", 404),
            json("GET", "/secret?key=***", 200),
            json("POST", "/one", 200),
            combined("GET /three HTTP/1.1", 200),
            combined("GET /three HTTP/1.1", 200),
            combined("GET /three HTTP/2.0", 200),
            combined("GET /bad HTTP/1.1", 500),
            "nonsense".to_owned(),
            "{\"x\"".to_owned(),
        ];
        let most = |top: usize| {
            let mut counts = Counts::default();
            lines.iter().for_each(|line| counts.line(line));
            shown(counts.most(top))
        };
        assert_eq!(most(9), ["/three", "a:81/two?a", "a:81/one"]);
        assert_eq!(most(2), ["/three", "a:81/two?a"]);
    }
}
