//! What media and playlists are called and said to be. A value of these types is well formed.

use serde::Deserialize;
use utoipa::ToSchema;

const TITLE_LETTERS_MAX: usize = 200;
const TEXT_LETTERS_MAX: usize = 5000;
const NAME_LETTERS_MAX: usize = 100;
/// RFC 6838 §4.2 lets each half have 127.
const CONTENT_TYPE_BYTES_MAX: usize = 127 + 1 + 127;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "A walk in the fog", min_length = 1, max_length = 200)]
pub struct MediaTitle(String);

/// What there is to say about it; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "Taken before sunrise", max_length = 5000)]
pub struct MediaText(String);

/// What it is made of (RFC 6838), without parameters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "image/jpeg")]
pub struct ContentType(String);

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, example = "For Sundays", min_length = 1, max_length = 100)]
pub struct PlaylistName(String);

impl TryFrom<String> for MediaTitle {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        line(&text, TITLE_LETTERS_MAX).map(Self).ok_or("must be 1 to 200 letters in one line")
    }
}

impl TryFrom<String> for PlaylistName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        line(&text, NAME_LETTERS_MAX).map(Self).ok_or("must be 1 to 100 letters in one line")
    }
}

impl TryFrom<String> for MediaText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // PostgreSQL keeps no NUL.
        let is_text = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t');
        if text.chars().count() <= TEXT_LETTERS_MAX && text.chars().all(is_text) {
            Ok(Self(text))
        } else {
            Err("must be at most 5000 letters, in lines")
        }
    }
}

impl TryFrom<String> for ContentType {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "must be a media type, such as image/jpeg";
        let text = text.to_ascii_lowercase();
        let (kind, subtype) = text.split_once('/').ok_or(expected)?;
        let is_inside = |letter: char| letter.is_ascii_alphanumeric() || "!#$&-^_.+".contains(letter);
        let is_half = |half: &str| half.starts_with(|letter: char| letter.is_ascii_alphanumeric());
        let is_whole = [kind, subtype].iter().all(|half| is_half(half) && half.chars().all(is_inside));
        if is_whole && text.len() <= CONTENT_TYPE_BYTES_MAX { Ok(Self(text)) } else { Err(expected) }
    }
}

fn line(text: &str, letters_max: usize) -> Option<String> {
    let line = text.trim();
    let is_line = !line.is_empty() && line.chars().count() <= letters_max && !line.contains(char::is_control);
    is_line.then(|| line.to_owned())
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text!(MediaTitle, MediaText, ContentType, PlaylistName);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: TryFrom<String>>(text: &str, expected: Option<&str>, spelled: fn(&T) -> &str) {
        let parsed = T::try_from(text.to_owned()).ok();
        assert_eq!(parsed.as_ref().map(spelled), expected, "{text}");
    }

    #[test]
    fn titles_and_names_are_lines() {
        let title = |text: &str, expected: Option<&str>| check(text, expected, MediaTitle::as_str);
        title(" Fog ", Some("Fog"));
        title(&"ä".repeat(200), Some(&"ä".repeat(200)));
        for wrong in ["", "  ", "a\nb", "a\0b", &"a".repeat(201)] {
            title(wrong, None);
        }
        check(&"a".repeat(101), None, PlaylistName::as_str);
        check("For Sundays", Some("For Sundays"), PlaylistName::as_str);
    }

    #[test]
    fn a_text_may_be_empty_and_have_lines() {
        let check = |text: &str, expected: Option<&str>| check(text, expected, MediaText::as_str);
        check("", Some(""));
        check("a\nb\tc", Some("a\nb\tc"));
        check("a\0b", None);
        check(&"a".repeat(5001), None);
    }

    #[test]
    fn a_content_type_has_two_halves_and_one_spelling() {
        let check = |text: &str, expected: Option<&str>| check(text, expected, ContentType::as_str);
        check("Image/JPEG", Some("image/jpeg"));
        check("application/vnd.a+json", Some("application/vnd.a+json"));
        for wrong in
            ["", "image", "image/", "/jpeg", "a/b/c", "a/b; c=d", "a /b", "ä/b", &format!("a/{}", "b".repeat(300))]
        {
            check(wrong, None);
        }
    }
}
