//! Which pools of connections are nearly used up: that of the clients, and that of each endpoint. It decides; who counts
//! them, and who closes connections that idle, is told which.

/// How much of a pool is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub used: usize,
    /// 0 is no limit.
    pub max: usize,
}

impl Use {
    /// Whether that is `percent` of what there may be, or more. Once it is, it ends a sixteenth below, so that it does not
    /// change with each connection.
    pub fn is_crowded(self, percent: u32, before: bool) -> bool {
        let begin = (self.max as u128 * u128::from(percent) / 100).max(1);
        let end = if before { begin - begin / 16 } else { begin };
        self.max > 0 && self.used as u128 >= end
    }
}

/// Where connections that idle are closed early.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crowded {
    /// There are nearly as many clients as there may be; the descriptors of idle connections to endpoints are wanted too.
    pub clients: bool,
    /// Endpoints with nearly as many requests as they may have, by their ids.
    pub endpoints: Vec<u64>,
}

impl Crowded {
    pub fn is_at(&self, endpoint: u64) -> bool {
        self.endpoints.contains(&endpoint)
    }

    /// Whether idle connections to this endpoint are to go.
    pub fn concerns(&self, endpoint: u64) -> bool {
        self.clients || self.is_at(endpoint)
    }

    pub fn is_anywhere(&self) -> bool {
        self.clients || !self.endpoints.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check((used, max): (usize, usize), percent: u32, before: bool, expected: bool) {
        assert_eq!(Use { used, max }.is_crowded(percent, before), expected, "{used} of {max}, {before} before");
    }

    #[test]
    fn a_pool_is_crowded_from_its_share_on_and_until_a_sixteenth_below() {
        check((899, 1000), 90, false, false);
        check((900, 1000), 90, false, true);
        check((844, 1000), 90, true, true);
        check((843, 1000), 90, true, false);
        check((1000, 1000), 100, false, true);
        check((3, 4), 75, false, true);
        check((2, 4), 75, true, false);
    }

    #[test]
    fn small_pools_and_those_without_a_limit() {
        check((0, 1), 50, false, false);
        check((1, 1), 50, false, true);
        check((1_000_000, 0), 90, false, false);
        check((usize::MAX / 2, usize::MAX), 90, false, false);
    }

    #[test]
    fn crowded_clients_concern_every_endpoint() {
        let of_one = Crowded { clients: false, endpoints: vec![7] };
        assert_eq!((of_one.concerns(7), of_one.concerns(8)), (true, false));
        let of_clients = Crowded { clients: true, endpoints: vec![] };
        assert_eq!((of_clients.concerns(8), of_clients.is_at(8)), (true, false));
    }
}
