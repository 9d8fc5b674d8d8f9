//! `[admin]` with its secrets, and `[log]`.

use std::path::{Path, PathBuf};

use crate::config::diagnostics::{Diagnostic, Origin};
use crate::config::section::Setting;
use crate::config::value::{FilePath, SecretText};
use crate::config::{AccessLog, Admin, HostPattern, Log, LogTarget, Secret, file};

use super::Lowering;

/// Shorter tokens can be guessed.
const TOKEN_LENGTH_MIN: usize = 16;
/// The room that the system has for the path of a socket, with its closing zero (`sun_path`).
const SOCKET_PATH_MAX: usize = 107;

impl Lowering<'_> {
    pub(super) fn admin(&mut self, admin: &file::Admin) -> Admin {
        let control = &admin.control.value;
        let hosts = admin.hosts.value.iter().filter_map(|host| match &host.value {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Wildcard(_) => {
                let message = "a pattern would let pages of other names in";
                self.report(Diagnostic::error(host.origin, message).label("expected one name"));
                None
            }
        });
        let hosts = hosts.collect();
        Admin {
            address: admin.address.value,
            hosts,
            allow: admin.allow.value.iter().map(|network| network.value).collect(),
            socket: self.socket(&control.socket),
            token: self.token(control),
        }
    }

    fn socket(&mut self, socket: &Setting<FilePath>) -> Option<PathBuf> {
        if socket.value.0 == Path::new("off") {
            return None;
        }
        let path = self.resolve(&socket.value.0, socket.origin);
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            let message = format!("the path of the control socket has {length} bytes, at most {SOCKET_PATH_MAX} fit");
            self.report(Diagnostic::error(socket.origin, message).help("name a shorter `control.socket`"));
        }
        Some(path)
    }

    fn token(&mut self, control: &file::Control) -> Option<Secret> {
        let (token, origin) = match (&control.token, &control.token_file) {
            (None, None) => return None,
            (Some(token), Some(file)) => {
                let error = Diagnostic::error(file.origin, "the token is given twice").label("again here");
                self.report(error.also(token.origin, "first here"));
                return None;
            }
            (None, Some(file)) => (self.readable(file).1?, file.origin),
            (Some(token), None) => (self.secret(token)?, token.origin),
        };
        let token = token.trim().to_owned();
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.len() < TOKEN_LENGTH_MIN || !printable {
            let message = format!("the token is not {TOKEN_LENGTH_MIN} or more printable characters without spaces");
            self.report(Diagnostic::error(origin, message).help("make one with `openssl rand -hex 32`"));
            return None;
        }
        Some(Secret(token))
    }

    pub(super) fn secret(&mut self, secret: &Setting<SecretText>) -> Option<String> {
        match &secret.value {
            SecretText::Clear(text) => {
                self.clear_secret(secret.origin);
                Some(text.clone())
            }
            SecretText::Variable(name) => {
                let value = (self.environment.variable)(name);
                if value.is_none() {
                    let message = format!("the environment has no variable `{name}`");
                    self.report(Diagnostic::error(secret.origin, message));
                }
                value
            }
            SecretText::File(path) => {
                self.readable(&Setting { value: FilePath(path.clone()), origin: secret.origin, tainted: false }).1
            }
        }
    }

    fn clear_secret(&mut self, origin: Origin) {
        let warning = Diagnostic::warning(origin, "a secret stands in the file in clear");
        self.report(warning.help("use \"${NAME}\" of the environment, or \"file:path\""));
    }

    pub(super) fn log(&self, log: &file::Log) -> Log {
        let access = &log.access.value;
        let target = match &access.path.value {
            LogTarget::File(path) => LogTarget::File(self.resolve(path, access.path.origin)),
            other => other.clone(),
        };
        let redact = access.redact.value.iter().map(|name| name.value.clone()).collect();
        Log { level: log.level.value, access: AccessLog { format: access.format.value, target, redact } }
    }
}
