pub mod tls;
pub mod balance;
pub mod telemetry;
pub mod config;
pub mod timers;
pub mod clock;
