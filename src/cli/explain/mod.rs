//! `tollgate explain`: why a request goes the way it goes.

mod offline;
mod text;

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;

use super::client::Reach;
use super::config_file::ConfigFile;
use super::{Failure, output};
use crate::proxy::explain::shape::{Explanation, Question};
use crate::proxy::explain::{Unclear, check};

/// Explain what would become of a request, and why, without sending it
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Explain what would become of a request and why, without sending it: the route, and why the others were \
                  not taken; whose request it is; which limits it meets and how they stand; what the cache has for it, \
                  and by which section of which RFC; whether the response would be coded; which endpoints would be \
                  tried, in which order; and how its fields change on the way.\n\nThe running proxy answers, by the \
                  same code that serves requests, and nothing is changed by it: no limit is spent and no place taken. \
                  With `--offline` the file is explained instead, and what only a running proxy knows is left out.",
    after_help = "Examples:\n  tollgate explain GET https://www.example.com/products?page=2\n  \
                  tollgate explain GET https://localhost/ -H 'Accept-Encoding: br' -H 'Cookie: a=b'\n  \
                  tollgate explain POST http://localhost:8080/orders -H 'Content-Length: 12' --client 192.0.2.1\n  \
                  tollgate explain --offline -c new.toml GET https://localhost/\n\n\
                  Exit status: 0 it is explained, 1 it could not be, 2 that is no request, 78 the file cannot be used."
)]
pub struct Explain {
    /// Method, as in GET
    method: String,
    /// URL, with http or https and a host; its path is taken as it is written
    url: String,
    /// A field of the request, as in 'accept: text/html'; any number of them
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    fields: Vec<(String, String)>,
    /// The other end of its connection; 127.0.0.1 if not given
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The listener that it comes by; the first of the URL's scheme if not given
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Explain by the configuration file, without a running proxy
    #[arg(long, conflicts_with = "socket")]
    offline: bool,
    #[command(flatten)]
    reach: Reach,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// As curl takes it: a name, a colon, and a value. The value loses the white space around it, as it does on its way.
fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a field has a colon in it, as in 'accept: text/html'")?;
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

impl Explain {
    pub fn run(self, config: &ConfigFile) -> Result<(), Failure> {
        let Self { method, url, fields, client, listen, offline, reach, json } = self;
        let question = Question { method, url, fields, client, listen };
        check(&question).map_err(usage)?;
        if offline {
            let explanation = offline::explain(&config.path()?, &question)?;
            return if json { output::print_json(&explanation) } else { print(&explanation) };
        }
        let reply = reach.client(config)?.post("/explain", serde_json::to_string(&question)?)?;
        match reply.status {
            StatusCode::BAD_REQUEST => Err(Failure::Usage(
                reply.read::<Explanation>().err().map(|error| error.to_string()).unwrap_or_default(),
            )),
            _ if json => reply.print(true, |reply| Ok(text::describe(&reply.read()?, output::Paint::plain()))),
            _ => print(&reply.read()?),
        }
    }
}

fn print(explanation: &Explanation) -> Result<(), Failure> {
    output::print(&text::describe(explanation, output::Paint::of_stdout()))
}

fn usage(unclear: Unclear) -> Failure {
    Failure::Usage(format!("{}; expected {}", unclear.error, unclear.expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_as_curl_takes_them() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let found = field(text).ok();
            assert_eq!(found.as_ref().map(|(name, value)| (name.as_str(), value.as_str())), expected, "{text}");
        };
        check("accept: text/html", Some(("accept", "text/html")));
        check("a:b:c", Some(("a", "b:c")));
        check("a:", Some(("a", "")));
        check("a : b ", Some(("a ", "b")));
        check("accept", None);
    }
}
