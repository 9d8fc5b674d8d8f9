//! What is searched for: words, which neither database takes for anything else, such as an operator of its own.

use serde::Deserialize;
use utoipa::IntoParams;

use super::{After, Limit, PageQuery};

/// Each costs a walk through the index.
const WORDS_MAX: usize = 8;
const BYTES_MAX: usize = 200;

/// Which things are looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// One to eight words. All of them must be there, the last one as the beginning of a word.
    #[param(value_type = String, min_length = 1, max_length = 200, example = "oak desk")]
    pub q: Words,
    /// How many at most: 1 to 100, and 20 if it is not said.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 100)]
    limit: Limit,
    /// The `next` of the page before.
    #[serde(default)]
    #[param(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    after: Option<After>,
}

impl SearchQuery {
    /// Which part is asked for of all that is found.
    pub fn page(&self) -> PageQuery {
        PageQuery::new(self.limit, self.after.clone())
    }
}

/// Words of letters and digits in lower case, with one space between two. A statement makes of it what its database
/// wants by putting something in the place of the spaces and around it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Words(String);

impl TryFrom<String> for Words {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "must be one to eight words of letters or digits, of 200 bytes at most";
        if text.len() > BYTES_MAX {
            return Err(expected);
        }
        let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        let words: Vec<_> = words.map(str::to_lowercase).collect();
        if (1..=WORDS_MAX).contains(&words.len()) { Ok(Self(words.join(" "))) } else { Err(expected) }
    }
}

impl Words {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_but_words() {
        for (text, expected) in [
            ("Oak", Some("oak")),
            (" oak \t DESK ", Some("oak desk")),
            ("\"oak\" OR desk*", Some("oak or desk")),
            ("a' -- & b:*|!(c)", Some("a b c")),
            ("Größe 17", Some("größe 17")),
            ("1 2 3 4 5 6 7 8", Some("1 2 3 4 5 6 7 8")),
            ("1 2 3 4 5 6 7 8 9", None),
            ("", None),
            ("x' or 1=1 --", Some("x or 1 1")),
            ("title:fog*", Some("title fog")),
            (" *\"- ", None),
        ] {
            let words = Words::try_from(text.to_owned()).ok();
            assert_eq!(words.as_ref().map(Words::as_str), expected, "{text}");
        }
        assert!(Words::try_from("a".repeat(201)).is_err());
    }
}
