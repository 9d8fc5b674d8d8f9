//! What the operator says, on the command line and in the environment, as settings that are right or refused.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::HeaderValue;
use clap::ValueEnum;

use crate::accounts::{Cost, Key};
use crate::store::{self, Connections, Place};
use crate::trace;

/// An outage of five seconds, and the time to notice that it is over.
const PATIENCE: Duration = Duration::from_secs(8);
const CONNECTIONS: Connections = Connections { min: 20, max: 100 };

#[derive(Debug, clap::Parser)]
#[command(name = "tollgate-backend", version, about = "The app behind the proxy")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address to listen on; wins over --host and --port
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Host name or address to listen on
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
    /// Folder of the database, if it is SQLite, and of the key of tokens; it is made if it is not there
    #[arg(long, env = "TOLLGATE_DATA", default_value = "data", global = true)]
    data: PathBuf,
    /// PostgreSQL in place of SQLite: postgres://user:password@host/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    /// A replica of it, for reads that may be a little behind
    #[arg(long, env = "DATABASE_REPLICA_URL", hide_env_values = true, global = true)]
    database_replica_url: Option<String>,
    /// Redis, for what replicas may share: redis://host
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// The key that access tokens are signed with, of at least 32 bytes; without it, DATA/token.key, made at the first start
    #[arg(long, env = "TOKEN_KEY", hide_env_values = true)]
    token_key: Option<String>,
    /// What hashing a password costs: memory in KiB and passes
    #[arg(long, env = "PASSWORD_COST", value_name = "KIB,PASSES", default_value = "19456,2", global = true)]
    password_cost: Cost,
    /// An origin whose pages may use the app from a browser, as <https://app.example>; repeat it for more
    #[arg(long = "cors-origin", env = "CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',')]
    cors_origins: Vec<String>,
    /// An OpenTelemetry collector for spans, as <http://127.0.0.1:4318>; without it, what OTEL_EXPORTER_OTLP_ENDPOINT says. The other
    /// variables of OpenTelemetry hold as well
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Fill the database with made-up data, the same at every run
    Seed {
        #[arg(long, value_enum)]
        size: Size,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// To look around: 1000 users and as many media, 500 products, 60 workflows
    Small,
    /// To measure: 100,000 users and as many media, 20,000 products, 5000 workflows
    Large,
}

/// Where to listen.
pub enum Listen {
    Address(String),
    Host { host: String, port: u16 },
}

/// All that the app is built by.
pub struct Settings {
    pub(crate) store: store::Settings,
    pub(crate) redis_url: Option<String>,
    pub(crate) token_key: Key,
    pub(crate) password_cost: Cost,
    pub(crate) cors_origins: Vec<HeaderValue>,
    pub(crate) telemetry: tollgate_otlp::Settings,
}

impl Args {
    pub(crate) fn into_settings(self) -> anyhow::Result<(Option<Command>, Listen, Settings)> {
        let place = match self.database_url {
            Some(primary) => Place::Postgres { primary, replica: self.database_replica_url, connections: CONNECTIONS },
            None if self.database_replica_url.is_some() => {
                anyhow::bail!("DATABASE_REPLICA_URL is given without DATABASE_URL")
            }
            None => Place::Folder(self.data.clone()),
        };
        let token_key = match &self.token_key {
            Some(text) => Key::new(text)?,
            None => Key::in_folder(&self.data)?,
        };
        let settings = Settings {
            store: store::Settings { place, patience: PATIENCE },
            redis_url: self.redis_url,
            token_key,
            password_cost: self.password_cost,
            cors_origins: self.cors_origins.iter().map(|origin| read_origin(origin)).collect::<Result<_, _>>()?,
            telemetry: trace::settings(self.otlp.as_deref())?,
        };
        let listen = match self.listen {
            Some(address) => Listen::Address(address),
            None => Listen::Host { host: self.host, port: self.port },
        };
        Ok((self.command, listen, settings))
    }
}

impl Settings {
    /// What `args` say, as on the command line behind the program's name.
    pub fn parse(args: &[&str]) -> anyhow::Result<Self> {
        use clap::Parser as _;
        let args = Args::try_parse_from(std::iter::once("tollgate-backend").chain(args.iter().copied()))?;
        Ok(args.into_settings()?.2)
    }

    /// So long a request waits for a database that is away.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.store.patience = patience;
        self
    }
}

/// `scheme://host` with a port perhaps, and nothing behind it (RFC 6454 §6.2).
fn read_origin(text: &str) -> anyhow::Result<HeaderValue> {
    let host = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")).map(|(_, host)| host);
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']) => {
            HeaderValue::from_str(text).with_context(|| format!("the origin {text} cannot be sent"))
        }
        _ => anyhow::bail!("{text} is no origin: expected one such as https://app.example"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(args: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<_> = ["--data", folder.path().to_str().unwrap()].into_iter().chain(args.iter().copied()).collect();
        Settings::parse(&all).err().map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        assert_eq!(refusal(&[]), "");
        for (args, said) in [
            (["--token-key", "short"], "it needs at least 32"),
            (["--password-cost", "0,0"], "at least 8 KiB and one pass"),
            (["--otlp", "localhost:4318"], "is not the URL of a collector"),
            (["--cors-origin", "app.example"], "is no origin"),
            (["--cors-origin", "https://app.example/"], "is no origin"),
            (["--cors-origin", "*"], "is no origin"),
            (["--database-replica-url", "postgres://a/b"], "without DATABASE_URL"),
        ] {
            assert!(refusal(&args).contains(said), "{args:?}: {}", refusal(&args));
        }
        assert_eq!(refusal(&["--cors-origin", "https://app.example:8443,http://localhost:3000"]), "");
    }
}
