//! What of an answer's head is lines already, for a client over HTTP/1.1.

use crate::cache;
use crate::upstream::Lines;

#[derive(Debug)]
pub enum Prepared {
    /// Of what is stored.
    Stored(cache::Prepared),
    /// Of an endpoint, whose fields nobody has looked at.
    Passed(Lines),
}

impl Prepared {
    /// Appends them to a head.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Stored(stored) => stored.write(out),
            Self::Passed(lines) => lines.write(out),
        }
    }

    pub fn has_date(&self) -> bool {
        match self {
            Self::Stored(_) => true,
            Self::Passed(lines) => lines.has_date,
        }
    }
}
