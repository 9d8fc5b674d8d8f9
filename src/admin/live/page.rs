//! The page itself: three files that are built in, and what a browser may do with them.
//!
//! The files hold no data. What the page shows comes as JSON and is put in as text by its script; the policy below
//! makes the browser refuse anything else: other scripts and styles, other hosts, frames, and text that becomes markup.

use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, REFERRER_POLICY};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A file of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Markup,
    Style,
    Script,
}

impl Part {
    /// All, by the paths that they have.
    pub const ALL: [(&str, Self); 3] = [("/", Self::Markup), ("/live.css", Self::Style), ("/live.js", Self::Script)];

    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == path).map(|(_, part)| part)
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Markup => include_str!("page/live.html"),
            Self::Style => include_str!("page/live.css"),
            Self::Script => include_str!("page/live.js"),
        }
    }

    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Markup => "text/html; charset=utf-8",
            Self::Style => "text/css; charset=utf-8",
            Self::Script => "text/javascript; charset=utf-8",
        })
    }

    /// What a browser is to hold to.
    pub fn protect(fields: &mut HeaderMap) {
        fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        fields.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        fields.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H: every shown string is escaped, and nothing comes from elsewhere.
    #[test]
    fn the_files_make_no_markup_of_data_and_name_no_other_host() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "setHTMLUnsafe",
            "eval(",
            "new Function",
            "https://",
            "@import",
            " style=",
            " onclick=",
            "javascript:",
        ];
        for (path, part) in Part::ALL {
            let text = part.text();
            for word in forbidden {
                assert!(!text.contains(word), "{path}: {word}");
            }
            // The namespace of SVG is a name, not an address that is asked.
            let hosts = text.matches("http://").count();
            assert_eq!(hosts, text.matches("http://www.w3.org/2000/svg").count(), "{path}");
        }
    }

    #[test]
    fn the_markup_names_the_other_parts_and_nothing_else() {
        let markup = Part::Markup.text();
        let named: Vec<&str> = [" src=\"", " href=\""]
            .iter()
            .flat_map(|attribute| markup.split(attribute).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .filter(|link| !link.starts_with('#') && !link.starts_with("data:"))
            .collect();
        for link in &named {
            assert!(Part::of(&format!("/{link}")).is_some(), "{link}");
        }
        assert_eq!(named.len(), Part::ALL.len() - 1, "{named:?}");
    }
}
