//! What can be asked for on the command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(about = "Load for benches/versus")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Makes requests and prints one line of JSON.
    Run(Load),
    /// Answers uploads with what arrived, and messages with themselves.
    Echo { address: SocketAddr },
}

#[derive(Args)]
pub struct Load {
    /// http://ADDRESS/PATH or https://ADDRESS/PATH; {n} in the path is the number of a key.
    pub url: String,
    #[arg(long, value_enum, default_value = "h1")]
    pub protocol: Protocol,
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Requests at a time on a connection, of HTTP/2.
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Requests at a time on all of them; else as many as they carry.
    #[arg(long)]
    pub in_flight: Option<usize>,
    /// Requests a second, whether those before are answered or not; else the next follows an answer.
    #[arg(long)]
    pub rate: Option<f64>,
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// End after so many requests, if that comes first.
    #[arg(long)]
    pub requests: Option<u64>,
    /// A connection for each request.
    #[arg(long, value_enum)]
    pub fresh: Option<Handshake>,
    /// Replace connections that the peer closes, and ask again there.
    #[arg(long)]
    pub reconnect: bool,
    /// Post so many bytes, or send messages of so many.
    #[arg(long)]
    pub payload: Option<usize>,
    /// NAME: VALUE; {ip} in it is the address that belongs to a key.
    #[arg(long)]
    pub header: Option<String>,
    /// How many keys there are.
    #[arg(long, default_value_t = 1)]
    pub keys: u64,
    /// Take the keys one after the other, not at random.
    #[arg(long)]
    pub in_order: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    H1,
    H2,
    Websocket,
}

/// Of the TLS of a connection that is made for one request.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Handshake {
    Full,
    Resumed,
}
