//! The command line: one file a command.
//!
//! Results go to stdout, everything else to stderr. A command gives back a [`Failure`]; `main` prints it once and
//! turns it into the exit status. Commands that speak to the running proxy do so over its control socket.

#[cfg(feature = "backend")]
mod backend;
mod cache;
mod check;
mod client;
mod completion;
mod config_file;
mod explain;
mod failure;
mod files;
mod healthcheck;
mod limits;
mod names;
mod output;
mod reload;
mod serve;
mod status;
mod stop;
mod tail;
mod upstreams;
mod version;
mod warm;

use clap::{Parser, Subcommand};

use self::config_file::ConfigFile;
pub use self::failure::Failure;
pub use self::output::say;

const ABOUT: &str = "An edge reverse proxy: TLS, load balancing, health checks, live reload";
const LONG_ABOUT: &str = "\
An edge reverse proxy in one binary: it terminates TLS, chooses among the endpoints of an upstream,
checks their health, and takes over a changed config.toml while it runs.

Without a command it runs the proxy, as `tollgate run` does.";
const EXAMPLES: &str = "\
Examples:
  tollgate                              serve ./config.toml
  tollgate run -c /etc/tollgate/config.toml
  tollgate check                        is config.toml right? All mistakes, with line and column
  tollgate check --effective            every value in effect, and where it comes from
  tollgate reload                       take over the file as it is now, and say what changed
  tollgate upstreams drain app 10.0.0.1:3000
  tollgate cache purge --tag user:7
  tollgate limits show 192.0.2.1
  tollgate status --json
  tollgate explain GET https://localhost/a -H 'Accept-Encoding: br'
  tollgate tail --status 5xx

Exit status: 0 it worked, 1 it failed, 2 wrong arguments, 78 the configuration cannot be used.";

#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Check the configuration and exit, as `nginx -t` does
    #[arg(short = 't')]
    test: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(serve::Run),
    Check(check::Check),
    Reload(reload::Reload),
    Stop(stop::Stop),
    Upstreams(upstreams::Upstreams),
    Status(status::Status),
    Explain(explain::Explain),
    Tail(tail::Tail),
    Cache(cache::Cache),
    Limits(limits::Limits),
    Healthcheck(healthcheck::Healthcheck),
    /// Run the backend app, which stands behind the proxy in examples and tests
    #[cfg(feature = "backend")]
    Backend(tollgate_backend::Args),
    Completion(completion::Completion),
    Version(version::Version),
}

/// Does what the arguments say.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { config, test, command } = arguments;
    if test {
        return match command {
            None => check::Check::default().run(&config),
            Some(_) => Err(Failure::Usage("-t stands alone: it is short for `tollgate check`".to_owned())),
        };
    }
    match command {
        None => serve::Run::default().run(&config),
        Some(Command::Run(run)) => run.run(&config),
        Some(Command::Check(check)) => check.run(&config),
        Some(Command::Reload(reload)) => reload.run(&config),
        Some(Command::Stop(stop)) => stop.run(&config),
        Some(Command::Upstreams(upstreams)) => upstreams.run(&config),
        Some(Command::Status(status)) => status.run(&config),
        Some(Command::Explain(explain)) => explain.run(&config),
        Some(Command::Tail(tail)) => tail.run(&config),
        Some(Command::Cache(cache)) => cache.run(&config),
        Some(Command::Limits(limits)) => limits.run(&config),
        Some(Command::Healthcheck(healthcheck)) => healthcheck.run(&config),
        #[cfg(feature = "backend")]
        Some(Command::Backend(arguments)) => backend::run(arguments),
        Some(Command::Completion(completion)) => completion.run(),
        Some(Command::Version(version)) => version.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lines_that_parse() {
        let check = |line: &str, expected: &str| {
            let arguments =
                Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
            let shown = format!("{:?}", arguments.command);
            assert!(shown.starts_with(expected), "{line}: {shown}");
        };
        check("tollgate", "None");
        check("tollgate -c a.toml", "None");
        check("tollgate -t -c a.toml", "None");
        check("tollgate run --ready-fd 5", "Some(Run(Run { ready_fd: Some(5) }))");
        check("tollgate run --config a.toml", "Some(Run(Run { ready_fd: None }))");
        check("tollgate -c a.toml check", "Some(Check(Check { file: None,");
        check("tollgate check a.toml --effective --json", "Some(Check(Check { file: Some(\"a.toml\"),");
        check("tollgate reload --json", "Some(Reload(");
        check("tollgate stop -c a.toml", "Some(Stop(");
        check("tollgate upstreams", "Some(Upstreams(");
        check("tollgate upstreams list --json", "Some(Upstreams(");
        check("tollgate upstreams drain app 10.0.0.1:3000", "Some(Upstreams(");
        check("tollgate upstreams undrain app [::1]:3000", "Some(Upstreams(");
        check("tollgate cache status --json", "Some(Cache(");
        check("tollgate cache purge --tag user:7 --soft -c a.toml", "Some(Cache(");
        check("tollgate limits", "Some(Limits(");
        check("tollgate limits show 2001:db8::1 --json", "Some(Limits(");
        check("tollgate limits reset 192.0.2.1 -c a.toml", "Some(Limits(");
        check("tollgate explain GET http://a/ -H a:b --header c:d --client ::1 --json", "Some(Explain(");
        check("tollgate status --watch", "Some(Status(");
        check("tollgate status -w 10 -c a.toml", "Some(Status(");
        check("tollgate tail", "Some(Tail(");
        check("tollgate tail -f -n 5 -s 5xx -s 404 -p /api --client 192.0.2.0/24 --min-ms 50", "Some(Tail(");
        check("tollgate explain --offline -c a.toml GET http://a/ --listen 127.0.0.1:80", "Some(Explain(");
        check("tollgate healthcheck --ready", "Some(Healthcheck(");
        check("tollgate completion bash", "Some(Completion(");
        check("tollgate version --json", "Some(Version(");
    }

    #[test]
    fn lines_that_do_not() {
        let check = |line: &str, kind: ErrorKind| {
            let error = Arguments::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.kind(), kind, "{line}");
        };
        check("tollgate start", ErrorKind::InvalidSubcommand);
        check("tollgate run --ready-fd 2", ErrorKind::ValueValidation);
        check("tollgate upstreams drain app", ErrorKind::MissingRequiredArgument);
        check("tollgate upstreams drain app app:3000", ErrorKind::ValueValidation);
        check("tollgate limits show", ErrorKind::MissingRequiredArgument);
        check("tollgate limits show 192.0.2.0/24", ErrorKind::ValueValidation);
        check("tollgate cache purge", ErrorKind::MissingRequiredArgument);
        check("tollgate cache purge --all --tag a", ErrorKind::ArgumentConflict);
        check("tollgate status --watch 0", ErrorKind::ValueValidation);
        check("tollgate status --watch --json", ErrorKind::ArgumentConflict);
        check("tollgate tail --min-ms long", ErrorKind::ValueValidation);
        check("tollgate tail extra", ErrorKind::UnknownArgument);
        check("tollgate explain GET", ErrorKind::MissingRequiredArgument);
        check("tollgate explain GET http://a/ -H a", ErrorKind::ValueValidation);
        check("tollgate explain GET http://a/ --client a", ErrorKind::ValueValidation);
        check("tollgate explain GET http://a/ --listen 127.0.0.1", ErrorKind::ValueValidation);
        check("tollgate explain GET http://a/ --offline --socket a", ErrorKind::ArgumentConflict);
        check("tollgate completion", ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn t_stands_alone() {
        let arguments = Arguments::try_parse_from(["tollgate", "-t", "stop"]).unwrap();
        assert_eq!(run(arguments).map_err(|failure| failure.status()), Err(2));
    }
}
