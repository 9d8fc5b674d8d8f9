//! What became of the coding of responses, counted on each thread for itself like requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::cells::PerThread;
use crate::compress::{NotCoded, Outcome};
use crate::config::Coding;

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Codings(Arc<PerThread<Cells>>);

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

    /// Registers the instrument that reads the counts at a scrape.
    pub fn observe(&self, meter: &Meter) {
        let codings = self.clone();
        let _responses = meter
            .u64_observable_counter("tollgate_response_codings_total")
            .with_description("Responses of routes that compress, by coding or by why there is none.")
            .with_callback(move |observer| {
                for outcome in Outcome::all() {
                    let count = codings.0.iter().map(|cells| cells.of(outcome).load(Ordering::Relaxed)).sum();
                    observer.observe(count, &[KeyValue::new("outcome", outcome.code())]);
                }
            })
            .build();
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
