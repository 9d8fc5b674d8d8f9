//! `tollgate completion`: a script that completes the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, Failure, output};

/// Print a script that completes this command line in your shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tollgate completion bash > /etc/bash_completion.d/tollgate\n  \
                        tollgate completion fish > ~/.config/fish/completions/tollgate.fish")]
pub struct Completion {
    shell: Shell,
}

impl Completion {
    pub fn run(self) -> Result<(), Failure> {
        // It is written to memory first: the generator panics when its output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "tollgate", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}
