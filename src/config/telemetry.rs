//! What the proxy tells its operators: logs and traces.

use std::path::PathBuf;

/// Where spans go, and which requests have some.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    pub settings: tollgate_otlp::Settings,
    pub sampler: tollgate_otlp::Sampler,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: LogLevel,
    pub access: AccessLog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    pub format: AccessFormat,
    pub target: LogTarget,
    /// Query parameters whose values are replaced by `***`.
    pub redact: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    Line,
    Json,
    Combined,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}
