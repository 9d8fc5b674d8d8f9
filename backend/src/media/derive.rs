//! What is derived of an item. There are no images here to be looked into, so metadata are counts of its text, and the
//! thumbnail is a placeholder: a colour and initials, the same whenever they are derived.

use crate::secret::sha256_hex;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub kind: &'static str,
    pub words: i64,
    pub text_bytes: i64,
}

/// What to draw in the place of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// As CSS writes it: `#a0b1c2`.
    pub color: String,
    pub initials: String,
}

pub fn metadata(title: &str, description: &str, content_type: &str) -> Metadata {
    let words = title.split_whitespace().count() + description.split_whitespace().count();
    let text_bytes = title.len() + description.len();
    // Their lengths are bounded, so they fit.
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Metadata { kind: kind(content_type), words: number(words), text_bytes: number(text_bytes) }
}

fn kind(content_type: &str) -> &'static str {
    match content_type.split('/').next() {
        Some("image") => "image",
        Some("audio") => "audio",
        Some("video") => "video",
        _ => "document",
    }
}

pub fn thumbnail(id: &str, title: &str) -> Thumbnail {
    let digest = sha256_hex(format!("{id}\n{title}").as_bytes());
    let color = format!("#{}", digest.get(..6).unwrap_or_default());
    let firsts = title.split_whitespace().filter_map(|word| word.chars().find(|letter| letter.is_alphanumeric()));
    let initials = firsts.take(2).flat_map(char::to_uppercase).collect();
    Thumbnail { color, initials }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_counts() {
        for (title, description, content_type, kind, words, text_bytes) in [
            ("A walk", "in the fog", "image/png", "image", 5, 16),
            ("Grüezi", "", "audio/ogg", "audio", 1, 7),
            ("x", " \n ", "video/mp4", "video", 1, 4),
            ("x", "y", "application/pdf", "document", 2, 2),
            ("x", "y", "text/plain", "document", 2, 2),
        ] {
            assert_eq!(metadata(title, description, content_type), Metadata { kind, words, text_bytes }, "{title}");
        }
    }

    #[test]
    fn a_placeholder_is_always_the_same() {
        for (title, initials) in [("A walk in the fog", "AW"), ("fog", "F"), ("(über) …", "Ü"), ("…", ""), ("ß", "SS")]
        {
            let one = thumbnail("1", title);
            assert_eq!((one.initials.as_str(), one.color.len()), (initials, 7), "{title}");
            assert_eq!(thumbnail("1", title), one);
            assert_ne!(thumbnail("2", title).color, one.color);
        }
    }
}
