//! What somebody looks for, as an expression that the indexes of words understand. Nothing of what was typed but letters
//! and digits gets into it.

use serde::Deserialize;

const TYPED_LETTERS_MAX: usize = 100;
const WORDS_MAX: usize = 8;

/// Words that all must be there; the last may be the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Words(Vec<String>);

impl TryFrom<String> for Words {
    type Error = &'static str;

    fn try_from(typed: String) -> Result<Self, Self::Error> {
        if typed.chars().count() > TYPED_LETTERS_MAX {
            return Err("must be at most 100 letters");
        }
        // In lower case, so that none of them is an operator.
        let typed = typed.to_lowercase();
        let words = typed.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        let words: Vec<_> = words.map(str::to_owned).collect();
        match words.len() {
            0 => Err("must have a word"),
            1..=WORDS_MAX => Ok(Self(words)),
            _ => Err("must be at most 8 words"),
        }
    }
}

impl Words {
    /// As FTS5 of SQLite reads it: `a AND b*`.
    pub fn expression(&self) -> String {
        format!("{}*", self.0.join(" AND "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expected: Option<&str>) {
        assert_eq!(
            Words::try_from(typed.to_owned()).ok().map(|words| words.expression()).as_deref(),
            expected,
            "{typed}"
        );
    }

    #[test]
    fn only_words_are_looked_for() {
        check("fog", Some("fog*"));
        check("  The FOG, \"in\" Zürich! ", Some("the AND fog AND in AND zürich*"));
        check("a AND b NOT c", Some("a AND and AND b AND not AND c*"));
        check("x' or 1=1 --", Some("x AND or AND 1 AND 1*"));
        check("title:fog*", Some("title AND fog*"));
        check("", None);
        check("\"*-'", None);
        check("1 2 3 4 5 6 7 8", Some("1 AND 2 AND 3 AND 4 AND 5 AND 6 AND 7 AND 8*"));
        check("1 2 3 4 5 6 7 8 9", None);
        check(&"a".repeat(101), None);
    }
}
