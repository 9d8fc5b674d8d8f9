//! The time as the app stores it. Rules are told the time; whoever calls them asks here.

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// As RFC 3339 writes it. A time outside of what can be written is shown as the beginning of 1970.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_string()
}
