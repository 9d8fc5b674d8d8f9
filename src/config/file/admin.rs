//! `[admin]` and `[log]`.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::config::decode::{Decode, Decoder, Field};
use crate::config::diagnostics::Origin;
use crate::config::section::Fallback::{Absent, ByProfile, Value};
use crate::config::section::{Key, List, Section, SectionShape, Setting, Shape, section};
use crate::config::tree::{Node, Table};
use crate::config::value::{FilePath, SecretText};
use crate::config::{AccessFormat, HostPattern, LogLevel, LogTarget};

section! {
    /// The listener for operators. Reading is open to `allow`; control needs the socket or a token.
    Admin "[admin]" {
        /// IP address and port, in cleartext.
        address: Setting<SocketAddr> = Value("\"127.0.0.1:9900\"");
        /// Values of `Host` that are answered, without port: a page in a browser must not reach it under a name of
        /// its own.
        hosts: Setting<List<HostPattern>> = Value("[\"localhost\", \"127.0.0.1\", \"::1\"]");
        /// Networks that may read.
        allow: Setting<List<IpNet>> = Value("[\"127.0.0.0/8\", \"::1/128\"]");
        /// Who may reload, stop and drain.
        control: Setting<Control> = Value("{}");
    }
}

section! {
    /// Who may reload, stop and drain.
    Control "`control`" {
        /// Unix socket, relative to this file; the rights of the file decide who may use it. `off`: none.
        socket: Setting<FilePath> = Value("\"tollgate.sock\"");
        /// Bearer token for control over TCP: `${NAME}` of the environment or `file:path`, at least 16 characters.
        token: Option<Setting<SecretText>> = Absent("control by the socket only");
        /// File that holds the token.
        token_file: Option<Setting<FilePath>> = Absent("control by the socket only");
    }
}

section! {
    /// Logs.
    Log "[log]" {
        /// How much the proxy says of itself, on stderr. It never filters the access log, the start banner or the
        /// results of a reload.
        level: Setting<LogLevel> = ByProfile {
            development: "\"debug\"",
            staging: "\"info\"",
            production: "\"warn\"",
        }, nginx "error_log";
        /// One line for each request.
        access: Setting<Access> = Value("{}"), nginx "access_log";
    }
}

section! {
    /// The access log.
    Access "`access`" {
        /// `line` is for people, `json` for programs, `combined` for tools that read nginx's logs.
        format: Setting<AccessFormat> = ByProfile {
            development: "\"line\"",
            staging: "\"json\"",
            production: "\"json\"",
        }, nginx "log_format";
        /// Where it goes.
        path: Setting<LogTarget> = Value("\"stdout\"");
        /// Query parameters whose values are written as `***`.
        redact: Setting<List<String>> = Value("[\"token\", \"access_token\", \"password\", \"secret\", \"api_key\"]");
    }
}
