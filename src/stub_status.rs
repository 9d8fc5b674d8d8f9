//! nginx's stub status page, byte for byte, for the tools that read that one.

use std::iter::Sum;

/// What all workers have counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Client connections since the start.
    pub accepted: u64,
    pub requests: u64,
    /// Client connections that are open.
    pub connections: usize,
    /// Those of them that have a request in progress.
    pub busy: usize,
}

/// The page. Heads that are being read are not told apart: such a connection counts as waiting.
pub fn page(totals: &Totals) -> String {
    let Totals { accepted, requests, connections, busy } = *totals;
    // The counts are read one after the other while they move.
    let waiting = connections.saturating_sub(busy);
    format!(
        "Active connections: {connections} \nserver accepts handled requests\n {accepted} {accepted} {requests} \n\
         Reading: 0 Writing: {busy} Waiting: {waiting} \n"
    )
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, next| Self {
            accepted: sum.accepted + next.accepted,
            requests: sum.requests + next.requests,
            connections: sum.connections + next.connections,
            busy: sum.busy + next.busy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(accepted: u64, requests: u64, connections: usize, busy: usize) -> Totals {
        Totals { accepted, requests, connections, busy }
    }

    #[test]
    fn the_page_is_that_of_nginx() {
        let check = |totals: Totals, expected: &str| assert_eq!(page(&totals), expected);
        check(
            totals(1, 1, 1, 1),
            "Active connections: 1 \nserver accepts handled requests\n 1 1 1 \nReading: 0 Writing: 1 Waiting: 0 \n",
        );
        check(
            totals(16_630_948, 31_070_465, 291, 179),
            "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \n\
             Reading: 0 Writing: 179 Waiting: 112 \n",
        );
        check(
            totals(1, 1, 0, 1),
            "Active connections: 0 \nserver accepts handled requests\n 1 1 1 \nReading: 0 Writing: 1 Waiting: 0 \n",
        );
    }

    #[test]
    fn workers_add_up() {
        let sum: Totals = [totals(1, 2, 3, 4), totals(10, 20, 30, 40)].into_iter().sum();
        assert_eq!(sum, totals(11, 22, 33, 44));
    }
}
