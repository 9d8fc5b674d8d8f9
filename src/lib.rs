pub mod telemetry;

pub mod clock;
pub mod config;
pub mod timers;
pub mod tls;
