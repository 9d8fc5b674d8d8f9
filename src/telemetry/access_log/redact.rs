//! Which values of a query must not reach the log.

use memchr::memchr;

/// What stands in place of a secret value.
const MASK: &[u8] = b"***";

/// Names of query parameters whose values are masked.
///
/// A name is compared as an application would read it: percent-decoded, and without regard to case, since
/// masking too much does less harm than too little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redact(Vec<Box<[u8]>>);

impl Redact {
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.as_bytes().into()).collect())
    }

    /// Hands out the pieces of a query, in order, that may be written.
    pub fn query(&self, query: &[u8], mut write: impl FnMut(&[u8])) {
        if self.0.is_empty() {
            return write(query);
        }
        let mut rest = query;
        loop {
            // `;` separates parameters for some applications and is data for others: it starts a name
            // here, and never ends a secret.
            let end = rest.iter().position(|byte| matches!(byte, b'&' | b';' | b'#' | b'?')).unwrap_or(rest.len());
            let (parameter, _) = rest.split_at(end);
            let mut shown = end;
            if let Some(equals) = memchr(b'=', parameter)
                && self.names(&parameter[..equals])
            {
                write(&rest[..=equals]);
                write(MASK);
                let value = &rest[equals + 1..];
                let secret = value.iter().position(|byte| matches!(byte, b'&' | b'#')).unwrap_or(value.len());
                rest = &value[secret..];
                shown = 0;
            }
            // The separator goes with what stands before it.
            let piece = rest.len().min(shown + 1);
            write(&rest[..piece]);
            rest = &rest[piece..];
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The same for a whole URI, as in `Referer`.
    pub fn uri(&self, uri: &[u8], mut write: impl FnMut(&[u8])) {
        match memchr(b'?', uri) {
            Some(mark) if !self.0.is_empty() => {
                write(&uri[..=mark]);
                self.query(&uri[mark + 1..], write);
            }
            _ => write(uri),
        }
    }

    fn names(&self, sent: &[u8]) -> bool {
        self.0.iter().any(|name| decoded(sent).map(lower).eq(name.iter().copied().map(lower)))
    }
}

fn lower(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

/// The bytes of a percent-encoded text; a bad escape stands for itself.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        rest = after;
        if first == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            rest = after;
            return Some(high << 4 | low);
        }
        Some(first)
    })
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(names: &[&str], query: &str) -> String {
        let redact = Redact::new(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        let mut out = Vec::new();
        redact.query(query.as_bytes(), |piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_of_named_parameters_are_masked() {
        let check = |query, expected| assert_eq!(masked(&["token", "api_key"], query), expected, "{query}");
        check("", "");
        check("a=1&b=2", "a=1&b=2");
        check("token=s", "token=***");
        check("a=1&token=s&b=2", "a=1&token=***&b=2");
        check("token=s&token=t", "token=***&token=***");
        check("token=&x", "token=***&x");
        check("token", "token");
        check("tokens=1&xtoken=2", "tokens=1&xtoken=2");
        check("TOKEN=s", "TOKEN=***");
        check("tok%65n=s", "tok%65n=***");
        check("%74oken=s&api%5Fkey=t", "%74oken=***&api%5Fkey=***");
        check("tok%6=s", "tok%6=s");
        check("token=a=b", "token=***");
        check("a=1;token=s;t&b=2", "a=1;token=***&b=2");
        check("a=?token=s", "a=?token=***");
        check("&&token=s&&", "&&token=***&&");
        check("token=s#token=t", "token=***#token=***");
    }

    #[test]
    fn nothing_named_changes_nothing() {
        assert_eq!(masked(&[], "token=s&a"), "token=s&a");
    }

    #[test]
    fn the_query_of_a_referer_is_masked() {
        let redact = Redact::new(&["token".to_owned()]);
        let check = |uri: &str, expected: &str| {
            let mut out = Vec::new();
            redact.uri(uri.as_bytes(), |piece| out.extend_from_slice(piece));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("https://a/token=x", "https://a/token=x");
        check("https://a/b?token=x&c=1", "https://a/b?token=***&c=1");
        check("?token=x", "?token=***");
        check("", "");
    }

    proptest! {
        #[test]
        fn a_secret_never_shows(before in "[a-c&;=?#%]{0,12}", after in "[a-c&;=?#%]{0,12}") {
            let query = format!("{before}&token=SECRET{after}");
            prop_assert!(!masked(&["token"], &query).contains("SECRET"));
        }

        #[test]
        fn other_queries_stay_as_they_are(query in "[a-c&;=?#%0-9]{0,40}") {
            prop_assert_eq!(masked(&["token"], &query), query);
        }
    }
}
