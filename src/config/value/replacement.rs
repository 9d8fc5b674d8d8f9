//! What a rewrite puts in place of a match. What can be known to make no path is refused here, so that it is an
//! error of the file and not of each request.

use crate::config::decode::{Decode, Decoder};
use crate::config::diagnostics::Problem;
use crate::config::section::Shape;
use crate::config::tree::Node;
use crate::config::{NewQuery, Replacement};

impl Decode for Replacement {
    fn shape() -> Shape {
        Shape::Text { what: "a path, which may have arguments", example: "/v2/$1?old=1" }
    }

    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        decoder.text(node, "a path such as \"/v2/$1\"", replacement)
    }
}

fn replacement(text: &str) -> Result<Replacement, Problem> {
    if ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(Problem::new("a rewrite stays at its upstream").help("for a URL use `redirect`"));
    }
    let (kept, ends_in_mark) = match text.strip_suffix('?') {
        Some(kept) => (kept, true),
        None => (text, false),
    };
    let (path, arguments) = match kept.split_once('?') {
        Some((path, arguments)) => (path, Some(arguments)),
        None => (kept, ends_in_mark.then_some("")),
    };
    if let Some(problem) = misplaced(text).or_else(|| bad_percent(path, arguments.unwrap_or_default())) {
        return Err(problem);
    }
    let query = arguments.map(|arguments| NewQuery { arguments: arguments.to_owned(), keeps_own: !ends_in_mark });
    Ok(Replacement { path: path.to_owned(), query })
}

/// A character that no target of a request may hold (RFC 9112 §3.2).
fn misplaced(text: &str) -> Option<Problem> {
    let character = text.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '#' | '\\'))?;
    let (what, help) = match character {
        '#' => ("`#`, which is for clients alone", "write `%23` for the character itself"),
        '\\' => ("a backslash", "write `/`, or `%5C` for the character itself; a group is `$1`"),
        ' ' => ("a space", "write `%20` for a space"),
        _ => ("white space or a control character", "write it percent-encoded"),
    };
    Some(Problem::new(format!("the new path holds {what}")).help(help))
}

fn bad_percent(path: &str, arguments: &str) -> Option<Problem> {
    let triplets = || path.split('%').skip(1).chain(arguments.split('%').skip(1));
    let is_hex = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if triplets().any(|rest| !is_hex(rest)) {
        let problem = Problem::new("a percent sign is not followed by two hex digits");
        return Some(problem.help("write `%25` for a percent sign"));
    }
    path.contains("%00").then(|| Problem::new("the new path holds an encoded NUL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_follow_a_question_mark() {
        let check = |text, path: &str, query: Option<(&str, bool)>| {
            let query = query.map(|(arguments, keeps_own)| NewQuery { arguments: arguments.into(), keeps_own });
            assert_eq!(replacement(text), Ok(Replacement { path: path.into(), query }), "{text}");
            assert_eq!(replacement(text).unwrap().to_string(), text);
        };
        check("/a/$1", "/a/$1", None);
        check("", "", None);
        check("/a?b=$1", "/a", Some(("b=$1", true)));
        check("/a?b=c?", "/a", Some(("b=c", false)));
        check("/a?b=c?d", "/a", Some(("b=c?d", true)));
        check("/a?", "/a", Some(("", false)));
        check("?b=c", "", Some(("b=c", true)));
        check("/%C3%A9?x=%00", "/%C3%A9", Some(("x=%00", true)));
        check("/é", "/é", None);
    }

    #[test]
    fn what_makes_no_path_is_refused_with_advice() {
        let check = |text, expected: &str| {
            let problem = replacement(text).unwrap_err();
            let said = format!("{} | {}", problem.message, problem.help.unwrap_or_default());
            assert!(said.contains(expected), "{text:?}: {said}");
        };
        check("/a#b", "%23");
        check("/a?b#c", "%23");
        check("/a b", "%20");
        check("/a?b c", "%20");
        check("/a\tb", "percent-encoded");
        check("/a\u{7f}", "percent-encoded");
        check("/a\u{a0}b", "percent-encoded");
        check("/\\1", "a group is `$1`");
        check("/50%", "%25");
        check("/%$1", "%25");
        check("/%2?0", "%25");
        check("/a?b=100%", "%25");
        check("/a%00", "NUL");
        check("https://other.example/$1", "`redirect`");
    }
}
