pub mod config;
pub mod timers;
