//! Why a command did not do what it was asked for, and the exit status that says so.

use std::fmt;

#[derive(Debug)]
pub enum Failure {
    /// The arguments make no sense together.
    Usage(String),
    /// The configuration cannot be used; the text names every mistake. `EX_CONFIG` of sysexits.h.
    Config(String),
    Other(anyhow::Error),
}

impl Failure {
    pub fn status(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 78,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "tollgate: {text}"),
            Self::Config(text) => f.write_str(text.trim_end()),
            Self::Other(error) => write!(f, "tollgate: {}", chain(error)),
        }
    }
}

/// An error and its causes. One that says its cause by itself is not followed by it again.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let check = |texts: &[&'static str], expected: &str| {
            let (first, rest) = texts.split_first().unwrap();
            let error = rest.iter().fold(anyhow::anyhow!(*first), |error, text| error.context(*text));
            assert_eq!(chain(&error), expected);
        };
        check(&["refused"], "refused");
        check(&["refused", "cannot connect"], "cannot connect: refused");
        check(&["refused", "cannot connect: refused"], "cannot connect: refused");
        check(&["refused", "cannot connect: refused", "asking"], "asking: cannot connect: refused");
    }

    #[test]
    fn exit_statuses() {
        let check = |failure: Failure, status: u8, text: &str| {
            assert_eq!((failure.status(), failure.to_string().as_str()), (status, text));
        };
        check(anyhow::anyhow!("no").into(), 1, "tollgate: no");
        check(Failure::Usage("no".to_owned()), 2, "tollgate: no");
        check(Failure::Config("error: no\n".to_owned()), 78, "error: no");
    }
}
