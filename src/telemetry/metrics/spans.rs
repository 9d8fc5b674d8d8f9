//! What became of spans.

use tollgate_otlp::{Counts, Dropped};

use super::families;
use super::gathered::Gathered;

pub fn gather(counts: &Counts, to: &mut Gathered) {
    to.add(&families::SPANS_EXPORTED, [], counts.exported());
    for why in Dropped::ALL {
        to.add(&families::SPANS_DROPPED, [why.word().into()], counts.dropped(why));
    }
}
