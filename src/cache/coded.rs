//! The coded forms of a stored content: each is made once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::memory::{Memory, Reservation};
use super::stored::{Content, Stored};
use crate::config::Coding;

/// A content in a coding.
#[derive(Debug, Clone)]
pub struct Coded {
    pub coding: Coding,
    pub bytes: Bytes,
}

/// The forms of one content, which stay with it when it is validated.
#[derive(Debug)]
pub struct Forms {
    /// By the place of their coding in `Coding::ALL`.
    forms: [Form; Coding::ALL.len()],
    memory: Memory,
    /// So much of it is for bodies that are being fetched: a form can be made again, and they cannot wait.
    left: u64,
}

#[derive(Debug, Default)]
struct Form {
    is_claimed: AtomicBool,
    made: OnceLock<(Bytes, Reservation)>,
}

/// The right to make one form, which nobody else has meanwhile.
#[derive(Debug)]
pub struct Claim {
    forms: Arc<Forms>,
    coding: Coding,
}

impl Forms {
    /// They count against `memory`, and leave at least half of it, and the largest body.
    pub fn new(memory: Memory, object_max: u64) -> Arc<Self> {
        let left = object_max.max(memory.limit_bytes() / 2);
        Arc::new(Self { forms: Default::default(), memory, left })
    }

    fn of(&self, coding: Coding) -> Option<&Form> {
        self.forms.get(Coding::ALL.iter().position(|other| *other == coding)?)
    }
}

impl Stored {
    /// The form in that coding, if it was made.
    pub fn coded(&self, coding: Coding) -> Option<Coded> {
        let (bytes, _) = self.forms.of(coding)?.made.get()?;
        Some(Coded { coding, bytes: bytes.clone() })
    }

    /// The content and the right to code it. None if another one is at it, or it is not all here.
    pub fn claim_coding(stored: &Arc<Self>, coding: Coding) -> Option<(Bytes, Claim)> {
        let Content::Whole(whole) = &stored.content else { return None };
        if stored.forms.of(coding)?.is_claimed.swap(true, Ordering::AcqRel) {
            return None;
        }
        let claim = Claim { forms: Arc::clone(&stored.forms), coding };
        let bytes = match whole.pieces() {
            [all] => all.clone(),
            pieces => pieces.concat().into(),
        };
        Some((bytes, claim))
    }
}

impl Claim {
    /// Keeps the form, if there is room for it.
    pub fn keep(self, bytes: Bytes) -> Coded {
        let coding = self.coding;
        if let Some(form) = self.forms.of(coding)
            && let Some(room) = self.forms.memory.reserve_leaving(bytes.len() as u64, self.forms.left)
        {
            // The claim is held by nobody else, so nothing was kept before.
            let _kept = form.made.set((bytes.clone(), room));
        }
        Coded { coding, bytes }
    }
}

/// Without a form another one may try.
impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(form) = self.forms.of(self.coding)
            && form.made.get().is_none()
        {
            form.is_claimed.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_made_once_and_counts_as_long_as_it_is_kept() {
        let stored = Stored::of_body(b"content");
        let memory = stored.forms.memory.clone();
        let (bytes, claim) = Stored::claim_coding(&stored, Coding::Gzip).expect("nobody is at it");
        assert_eq!(bytes, "content");
        assert!(Stored::claim_coding(&stored, Coding::Gzip).is_none(), "one at a time");
        assert!(Stored::claim_coding(&stored, Coding::Br).is_some(), "each coding by itself");
        drop(claim);
        let (_, claim) = Stored::claim_coding(&stored, Coding::Gzip).expect("the other gave up");
        assert!(stored.coded(Coding::Gzip).is_none());
        assert_eq!(claim.keep(Bytes::from_static(b"coded")).bytes, "coded");
        assert_eq!(stored.coded(Coding::Gzip).expect("it is kept").bytes, "coded");
        assert!(Stored::claim_coding(&stored, Coding::Gzip).is_none());
        assert_eq!(memory.used_bytes(), 5);
        let validated = (*stored).clone();
        drop(stored);
        assert!(validated.coded(Coding::Gzip).is_some(), "the content is the same");
        drop(validated);
        assert_eq!(memory.used_bytes(), 0);
    }

    #[test]
    fn without_room_it_is_sent_and_not_kept() {
        let stored = Stored::of_body(b"content");
        stored.forms.memory.set_limit(stored.forms.left + 4);
        let (_, claim) = Stored::claim_coding(&stored, Coding::Gzip).expect("nobody is at it");
        assert_eq!(claim.keep(Bytes::from_static(b"coded")).bytes, "coded");
        assert!(stored.coded(Coding::Gzip).is_none());
        assert!(Stored::claim_coding(&stored, Coding::Gzip).is_some());
    }
}
