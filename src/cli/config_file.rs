//! Which configuration is meant, and where the proxy that runs with it can be spoken to.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Environment};

use super::Failure;

const DEFAULT: &str = "config.toml";
const SMALLEST: &str = "\
[[listen]]
address = \"127.0.0.1:8080\"

[upstream.app]
endpoints = [\"127.0.0.1:3000\"]

[[route]]
path = \"/\"
upstream = \"app\"
";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigFile {
    /// Configuration file; ./config.toml if not given
    #[arg(short, long = "config", value_name = "FILE", env = "TOLLGATE_CONFIG", global = true)]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named, or the default if it is there.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        match &self.config {
            Some(path) => Ok(path.clone()),
            None if Path::new(DEFAULT).exists() => Ok(DEFAULT.into()),
            None => Err(Failure::Config(format!(
                "tollgate: there is no {DEFAULT} here, and neither --config nor TOLLGATE_CONFIG names another file\n\n\
                 The smallest one, in front of an app on port 3000:\n\n{SMALLEST}"
            ))),
        }
    }

    /// How the proxy that runs with this file is reached.
    ///
    /// It may run with an older, good version of a file that is bad by now, and with secrets that are not for us.
    /// So secrets stand open here, and of a bad file the control socket alone is looked for.
    pub fn admin(&self) -> Result<Contact, Failure> {
        let path = self.path()?;
        match config::load(&path, &without_secrets()) {
            Ok(loaded) => Ok(Contact {
                socket: loaded.config.admin.as_ref().and_then(|admin| admin.socket.clone()),
                address: loaded.config.admin.map(|admin| admin.address),
                config: path,
            }),
            Err(_mistakes) => {
                let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
                let folder = path.parent().unwrap_or(Path::new(""));
                Ok(Contact {
                    socket: Some(folder.join(guess_socket(&text))),
                    address: guess_address(&text),
                    config: path,
                })
            }
        }
    }
}

/// Where a running proxy answers.
#[derive(Debug, Clone)]
pub struct Contact {
    pub config: PathBuf,
    pub socket: Option<PathBuf>,
    pub address: Option<std::net::SocketAddr>,
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Config(format!("tollgate: cannot read {}: {error}", path.display()))
}

/// Every secret is there, and good enough to pass.
fn without_secrets() -> Environment {
    const SECRET: &str = "0000000000000000";
    Environment {
        variable: |_| Some(SECRET.to_owned()),
        read: |_| Ok(SECRET.to_owned()),
        open_files_max: u64::MAX,
        cores: 1,
        memory_limit: None,
    }
}

fn guess_socket(text: &str) -> String {
    admin_table(text)
        .and_then(|admin| Some(admin.get("control")?.get("socket")?.as_str()?.to_owned()))
        .unwrap_or_else(|| "tollgate.sock".to_owned())
}

fn guess_address(text: &str) -> Option<std::net::SocketAddr> {
    match admin_table(text)?.get("address") {
        Some(address) => address.as_str()?.parse().ok(),
        None => Some(([127, 0, 0, 1], 9900).into()),
    }
}

fn admin_table(text: &str) -> Option<toml::Value> {
    text.parse::<toml::Table>().ok()?.remove("admin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(text: &str) -> Contact {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let contact = ConfigFile { config: Some(path) }.admin().unwrap();
        let socket = contact.socket.map(|socket| socket.strip_prefix(folder.path()).unwrap_or(&socket).to_owned());
        Contact { socket, ..contact }
    }

    #[test]
    fn the_smallest_configuration_is_right() {
        let parsed = config::parse("smallest", SMALLEST, &Environment::bare()).unwrap();
        assert!(parsed.warnings.is_empty());
    }

    #[test]
    fn where_the_proxy_answers() {
        let check = |admin: &str, socket: Option<&str>, address: Option<&str>| {
            let found = contact(&format!("{SMALLEST}{admin}"));
            assert_eq!(found.socket.as_deref(), socket.map(Path::new), "{admin}");
            assert_eq!(found.address.map(|address| address.to_string()).as_deref(), address, "{admin}");
        };
        let default = Some("127.0.0.1:9900");
        check("", None, None);
        check("[admin]", Some("tollgate.sock"), default);
        check(
            "[admin]\naddress = \"127.0.0.1:1\"\ncontrol = { socket = \"a.sock\" }",
            Some("a.sock"),
            Some("127.0.0.1:1"),
        );
        check("[admin]\ncontrol = { socket = \"/run/a.sock\" }", Some("/run/a.sock"), default);
        check("[admin]\ncontrol = { token = \"${NO_SUCH_TOKEN}\" }", Some("tollgate.sock"), default);
        check("[admin]\ncontrol = { token_file = \"none\" }", Some("tollgate.sock"), default);
        // Mistakes elsewhere in the file.
        check("[admin]\ncontrol = { socket = \"a.sock\" }\n[nonsense]", Some("a.sock"), default);
        check("[admin]\naddress = \"127.0.0.1:1\"\nnonsense = 1", Some("tollgate.sock"), Some("127.0.0.1:1"));
        check("[admin\n", Some("tollgate.sock"), None);
    }
}
