//! From what is asked to the bytes that a client would send. They are read by the guard like any client's: what is wrong
//! with the request itself is part of the answer, and only what can be no request is refused here.

use bytes::Bytes;
use http::Request;

use super::shape::Question;
use crate::connection::read_request_head;
use crate::error::Reason;
use crate::guard::{self, Complete, Machine, Step, Stop};
use crate::header::Scheme;

/// What was asked cannot be a request, and what would have been one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unclear {
    pub error: String,
    pub expected: &'static str,
}

const URL: &str = "a URL such as https://www.example.com/path?query";
const METHOD: &str = "a method such as GET or POST";
const FIELD: &str = "fields without line ends, such as accept: text/html";

fn unclear(error: String, expected: &'static str) -> Unclear {
    Unclear { error, expected }
}

/// A request as a client would write it.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    pub scheme: Scheme,
    head: Bytes,
}

impl Written {
    pub fn of(question: &Question) -> Result<Self, Unclear> {
        let Question { method, url, fields, .. } = question;
        http::Method::from_bytes(method.as_bytes()).map_err(|_| unclear(format!("{method:?} is no method"), METHOD))?;
        let (scheme, authority, target) = parts(url)?;
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {authority}\r\n"));
        }
        for (name, value) in fields {
            if [name, value].iter().any(|text| text.contains(['\r', '\n'])) || name.is_empty() {
                return Err(unclear(format!("{name:?} is no field"), FIELD));
            }
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Ok(Self { scheme, head: head.into() })
    }

    /// The request that is made of it. Its body is there if one would come.
    pub fn read(&self) -> Result<(Request<Option<()>>, Complete), Reason> {
        let mut machine = Machine::default();
        match machine.step(&self.head) {
            Ok(Step::Head(complete)) => {
                let mut request = Request::new((complete.body != guard::Body::Length(0)).then_some(()));
                read_request_head(&self.head, machine.lines(), &complete, &mut request)
                    .ok_or(Reason::Guard(guard::Reason::BadTarget))?;
                Ok((request, complete))
            }
            Err(Stop::Refused(reason) | Stop::Violated(reason)) => Err(Reason::Guard(reason)),
            // A head that ends with an empty line is whole.
            Ok(_) => Err(Reason::Guard(guard::Reason::BadRequestLine)),
        }
    }
}

/// Scheme, host and port, and what follows as it is written. A fragment is not sent (RFC 9110 §7.1).
fn parts(url: &str) -> Result<(Scheme, &str, String), Unclear> {
    if url.contains(['\r', '\n', ' ']) {
        return Err(unclear(format!("{url:?} has a space or a line end in it"), URL));
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| unclear(format!("{url:?} is no URL"), URL))?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(unclear(format!("{scheme:?} is not spoken here"), "http or https")),
    };
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.is_empty() || authority.contains('@') {
        return Err(unclear(format!("{url:?} does not name a host"), URL));
    }
    let root = if target.starts_with('/') { "" } else { "/" };
    Ok((scheme, authority, format!("{root}{target}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(method: &str, url: &str, fields: &[(&str, &str)]) -> Question {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Question { method: method.to_owned(), url: url.to_owned(), fields, ..Question::default() }
    }

    #[test]
    fn what_is_asked_is_written_as_a_client_would() {
        let check = |question: Question, expected: &str| {
            let written = Written::of(&question).unwrap();
            assert_eq!(String::from_utf8_lossy(&written.head).replace("\r\n", "|"), expected);
        };
        check(question("GET", "http://a", &[]), "GET / HTTP/1.1|host: a||");
        check(question("GET", "HTTP://a:1?b#c", &[]), "GET /?b HTTP/1.1|host: a:1||");
        check(question("PUT", "https://a/%zz/../b", &[("X", "1")]), "PUT /%zz/../b HTTP/1.1|host: a|X: 1||");
        check(question("GET", "http://a/", &[("Host", "b")]), "GET / HTTP/1.1|Host: b||");
    }

    #[test]
    fn what_can_be_no_request_is_refused() {
        let check = |question: Question, error: &str| {
            assert_eq!(Written::of(&question).unwrap_err().to_string(), error);
        };
        check(question("", "http://a/", &[]), "\"\" is no method");
        check(question("G T", "http://a/", &[]), "\"G T\" is no method");
        check(question("GET", "/a", &[]), "\"/a\" is no URL");
        check(question("GET", "ftp://a/", &[]), "\"ftp\" is not spoken here");
        check(question("GET", "http:///a", &[]), "\"http:///a\" does not name a host");
        check(question("GET", "http://u@a/", &[]), "\"http://u@a/\" does not name a host");
        check(question("GET", "http://a/\r\nx: y", &[]), "\"http://a/\\r\\nx: y\" has a space or a line end in it");
        check(question("GET", "http://a/", &[("x", "1\r\ny: 2")]), "\"x\" is no field");
        check(question("GET", "http://a/", &[("", "1")]), "\"\" is no field");
    }

    #[test]
    fn the_guard_reads_it() {
        let check = |fields: &[(&str, &str)], expected: Result<bool, &str>| {
            let read = Written::of(&question("POST", "http://a/", fields)).unwrap().read();
            let found = read.map(|(request, _)| request.body().is_some()).map_err(Reason::code);
            assert_eq!(found, expected, "{fields:?}");
        };
        check(&[], Ok(false));
        check(&[("content-length", "0")], Ok(false));
        check(&[("content-length", "3")], Ok(true));
        check(&[("transfer-encoding", "chunked")], Ok(true));
        check(&[("content-length", "3"), ("transfer-encoding", "chunked")], Err("cl-and-te"));
        check(&[("x ", "1")], Err("space-before-colon"));
    }
}
