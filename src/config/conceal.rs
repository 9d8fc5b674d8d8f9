//! Takes secrets out of a text of the file, so that no message can quote them.
//!
//! It looks at the text and not at what was read: the line that a message shows may be one that could not be read,
//! and a secret may stand under a key that is misspelt or in the wrong table. To hide too much costs nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use super::keys::all_keys;
use super::nearest::nearest;
use super::section::Shape;

/// Fields of HTTP, and keys of other programs, whose values are secrets.
const CREDENTIALS: [&str; 6] = ["authorization", "proxy_authorization", "cookie", "password", "secret", "api_key"];

/// The text with stars for what is secret. Every byte and every line keeps its place.
pub fn conceal(mut text: String) -> String {
    let known: BTreeMap<_, _> = all_keys().iter().map(|(_, _, key)| (key.name, is_secret(&(key.shape)()))).collect();
    let secrets = || known.iter().filter(|(_, secret)| **secret).map(|(name, _)| *name).chain(CREDENTIALS);
    let holds_secret = |key: &str| known.get(key).copied().unwrap_or_else(|| nearest(key, secrets()).is_some());
    let found: Vec<_> = memchr::memchr_iter(b'=', text.as_bytes())
        .filter_map(|equals| text.split_at_checked(equals))
        .filter(|(before, _)| holds_secret(key(before)))
        .filter_map(|(before, after)| {
            let value = value(after)?;
            let start = before.len() + value.start;
            Some(start..start + value.len())
        })
        .collect();
    for range in found {
        let value = text.get(range.clone()).unwrap_or_default();
        let stars: Vec<_> = value.split('\n').map(|line| "*".repeat(line.len())).collect();
        text.replace_range(range, &stars.join("\n"));
    }
    text
}

/// The last part of the key that ends here.
fn key(before: &str) -> &str {
    let before = before.trim_end_matches([' ', '\t']).trim_end_matches(['"', '\'']);
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    before.rsplit(|c| !is_key(c)).next().unwrap_or_default()
}

/// The value that follows an equals sign, without its quotes, if it is written there and not only named.
fn value(after: &str) -> Option<Range<usize>> {
    let rest = after.strip_prefix('=')?.trim_start_matches([' ', '\t']);
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| rest.starts_with(quote)).unwrap_or_default();
    let value = rest.strip_prefix(quote)?;
    let start = after.len() - value.len();
    let value = value.get(..length(value, quote))?;
    let is_named = value.starts_with("file:") || (value.starts_with("${") && value.ends_with('}'));
    (!is_named).then(|| start..start + value.len())
}

fn is_secret(shape: &Shape) -> bool {
    matches!(shape, Shape::Secret { .. })
}

/// Where the value ends, or the line if its quote is not closed.
fn length(value: &str, quote: &str) -> usize {
    let line = value.find('\n').unwrap_or(value.len());
    match quote {
        "" => line,
        "\"\"\"" | "'''" => value.find(quote).unwrap_or(value.len()),
        _ => {
            let mut escaped = false;
            let end = value.find(|c: char| {
                let ends = !escaped && quote.contains(c);
                escaped = !escaped && c == '\\' && quote == "\"";
                ends
            });
            end.map_or(line, |end| end.min(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_secrets_are_starred() {
        let check = |text: &str, expected: &str| assert_eq!(conceal(text.to_owned()), expected, "{text}");
        check("token = \"hunter2\" # why", "token = \"*******\" # why");
        check("control = { token = 'a\"b', socket = \"s\" }", "control = { token = '***', socket = \"s\" }");
        check("admin.control.\"token\"=\"a\\\"b\"", "admin.control.\"token\"=\"****\"");
        check("token = \"\"\"\nab\nc\"\"\" ", "token = \"\"\"\n**\n*\"\"\" ");
        check("set = { Authorization = \"Basic eA==\" }", "set = { Authorization = \"**********\" }");
        // What could not be read.
        check("token = \"hunter2\nhosts = []", "token = \"*******\nhosts = []");
        check("token = hunter2\n[log]", "token = *******\n[log]");
        check("token = \"\"\"hunter2\n", "token = \"\"\"*******\n");
        check("tokn = \"hunter2\"", "tokn = \"*******\"");
        check("Token = \"hunter2\"", "Token = \"*******\"");
        check("password = \"hunter2\"", "password = \"*******\"");
        check("token = \"${unclosed\"", "token = \"**********\"");
        // What is no secret.
        check("token = \"${NAME}\"", "token = \"${NAME}\"");
        check("token = \"file:/run/token\"", "token = \"file:/run/token\"");
        check("token_file = \"/run/token\"", "token_file = \"/run/token\"");
        check("redact = [\"token\"]", "redact = [\"token\"]");
        check("host = \"token\"", "host = \"token\"");
        check("", "");
    }

    proptest! {
        #[test]
        fn every_byte_keeps_its_place(text in "(token ?= ?|[\"'a-b\\\\é\n {}=$]){0,40}") {
            let concealed = conceal(text.clone());
            prop_assert_eq!(concealed.len(), text.len());
            let lines = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
            prop_assert_eq!(lines(&concealed), lines(&text));
        }
    }
}
