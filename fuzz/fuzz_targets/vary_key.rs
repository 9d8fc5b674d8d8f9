//! Two requests have one key only if they ask for the same, a key says what it was made of, and the ways in which
//! variants are compared agree. Input: paragraphs. The first has host, path, query and the names of parameters that do
//! not count; then come the fields of one request, of another, and of a response.
#![no_main]

mod fields;

use std::borrow::Borrow;

use http::{HeaderMap, HeaderName};
use libfuzzer_sys::fuzz_target;
use tollgate::cache_parts::{
    CachedQuery, Key, KeyRules, Parts, Pattern, Selecting, begin_key, end_key, matches, write_selecting,
};
use tollgate::header::Scheme;

/// A host, a path and a query.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place<'a> {
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

fuzz_target!(|text: &str| {
    let mut paragraphs = text.split("\n\n");
    let mut lines = paragraphs.next().unwrap_or_default().split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (host, path, query, ignored) = (line(), line(), line(), line());
    let (other_host, other_path, other_query) = (line(), line(), line());
    let [one, other, response] =
        std::array::from_fn(|_| fields::read(paragraphs.next().unwrap_or_default().as_bytes()));

    let rules = KeyRules {
        query: CachedQuery::Ignore(ignored.split(' ').filter_map(|name| Pattern::new(name).ok()).collect()),
        fields: vec![HeaderName::from_static("accept-language"), HeaderName::from_static("x-tenant")],
    };
    let place = Place { host, path, query: query.strip_prefix('?') };
    let elsewhere = Place { host: other_host, path: other_path, query: other_query.strip_prefix('?') };
    check_key(place, &one, &rules);
    check_key(place, &one, &KeyRules { query: CachedQuery::All, ..rules.clone() });
    // What goes upstream is what is in the key.
    let counted = rules.query(place.query);
    let upstream = Place { query: counted.as_deref(), ..place };
    assert_eq!(rules.query(upstream.query).as_deref(), upstream.query);
    assert_eq!(key_of(upstream, &one, &rules), key_of(place, &one, &rules));

    let is_same = Place { query: rules.query(elsewhere.query).as_deref(), ..elsewhere } == upstream;
    assert_eq!(key_of(elsewhere, &one, &rules) == key_of(place, &one, &rules), is_same);

    check_vary(&response, &one, &other);
    check_vary(&response, &other, &one);
});

fn key_of(place: Place<'_>, fields: &HeaderMap, rules: &KeyRules) -> Key {
    let Place { host, path, query } = place;
    let mut out = b"what was there".to_vec();
    let parts = Parts { scheme: Scheme::Https, host, port: Some(8443), path, query };
    begin_key(&mut out, &parts, rules);
    end_key(&mut out, fields, rules);
    Key::from(&out[..])
}

fn check_key(place: Place<'_>, fields: &HeaderMap, rules: &KeyRules) {
    let key = key_of(place, fields, rules);
    let parts = key.parts().expect("it was written by the same module");
    assert_eq!((parts.host, parts.port, parts.path), (place.host, Some(8443), place.path));
    assert_eq!(parts.query, rules.query(place.query).as_deref());
    assert_eq!(parts.fields.len(), rules.fields.len());
    for ((name, value), chosen) in parts.fields.iter().zip(&rules.fields) {
        assert_eq!((*name, value.is_some()), (chosen.as_str(), fields.contains_key(chosen)));
    }
    // A part of a key is none.
    let bytes: &[u8] = key.borrow();
    for end in 0..bytes.len() {
        let _ = Key::from(&bytes[..end]).parts();
    }
}

fn check_vary(response: &HeaderMap, one: &HeaderMap, other: &HeaderMap) {
    let Ok(selecting) = Selecting::of(response, one) else { return };
    assert!(matches(&selecting, one));
    let Ok(theirs) = Selecting::of(response, other) else { panic!("it depends on the response alone") };
    let is_same = theirs.as_bytes() == selecting.as_bytes();
    assert_eq!(matches(&selecting, other), is_same);
    let mut written = Vec::new();
    write_selecting(&selecting, other, &mut written);
    assert_eq!(written, theirs.as_bytes());
}
