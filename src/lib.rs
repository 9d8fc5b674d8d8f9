pub mod config;
pub mod timers;
pub mod tls;
