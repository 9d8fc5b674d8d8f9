//! The kinds of jobs: in which queue they wait, how many of a kind are worked on at a time, and how often one is tried.
//! It only decides.

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Thumbnail,
    Metadata,
    Notification,
}

/// Where jobs wait; what operators watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Media,
    Notifications,
}

const PAUSE_MIN_MS: i64 = 1000;
const PAUSE_MAX_MS: i64 = 60_000;

impl Queue {
    pub const ALL: [Self; 2] = [Self::Media, Self::Notifications];

    pub fn name(self) -> &'static str {
        match self {
            Self::Media => "media",
            Self::Notifications => "notifications",
        }
    }

    /// How often a job of it is begun at most.
    pub fn attempts_max(self) -> i64 {
        match self {
            Self::Media => 3,
            Self::Notifications => 2,
        }
    }
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Thumbnail, Self::Metadata, Self::Notification];

    /// As it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Thumbnail => "thumbnail",
            Self::Metadata => "metadata",
            Self::Notification => "notification",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn queue(self) -> Queue {
        match self {
            Self::Thumbnail | Self::Metadata => Queue::Media,
            Self::Notification => Queue::Notifications,
        }
    }

    /// How many are worked on at a time, by all replicas together.
    pub fn width(self) -> i64 {
        match self {
            Self::Thumbnail => 5,
            Self::Metadata => 3,
            Self::Notification => 5,
        }
    }

    /// How long a job rests after so many attempts have failed; none if there is to be no other.
    pub fn pause_ms(self, attempts: i64) -> Option<i64> {
        if attempts >= self.queue().attempts_max() {
            return None;
        }
        let doublings = u32::try_from(attempts - 1).unwrap_or_default();
        Some(PAUSE_MIN_MS.saturating_mul(2_i64.saturating_pow(doublings)).min(PAUSE_MAX_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_until_the_last_attempt() {
        for (kind, attempts, expected) in [
            (Kind::Thumbnail, 1, Some(1000)),
            (Kind::Metadata, 2, Some(2000)),
            (Kind::Metadata, 3, None),
            (Kind::Notification, 1, Some(1000)),
            (Kind::Notification, 2, None),
            (Kind::Notification, 99, None),
        ] {
            assert_eq!(kind.pause_ms(attempts), expected, "{kind:?} after {attempts}");
        }
    }

    #[test]
    fn a_kind_is_known_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
        assert_eq!(Kind::parse("laundry"), None);
    }
}
