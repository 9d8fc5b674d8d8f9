//! What became of the coding of responses, counted on each thread for itself like requests.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cells::PerThread;
use super::families;
use super::gathered::Gathered;
use crate::compress::{NotCoded, Outcome};
use crate::config::Coding;

#[derive(Debug, Default)]
pub struct Codings(PerThread<Cells>);

#[derive(Debug, Default)]
struct Cells {
    coded: [AtomicU64; Coding::ALL.len()],
    decoded: AtomicU64,
    left: [AtomicU64; NotCoded::ALL.len()],
}

impl Codings {
    pub fn count(&self, outcome: Outcome) {
        self.0.local().of(outcome).fetch_add(1, Ordering::Relaxed);
    }

    pub fn gather(&self, to: &mut Gathered) {
        for outcome in Outcome::all() {
            let count: u64 = self.0.iter().map(|cells| cells.of(outcome).load(Ordering::Relaxed)).sum();
            to.add(&families::RESPONSE_CODINGS, [outcome.code().into()], count);
        }
    }
}

impl Cells {
    fn of(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Coded(coding) => &self.coded[coding as usize],
            Outcome::Decoded => &self.decoded,
            Outcome::Left(why) => &self.left[why as usize],
        }
    }
}
