//! `pipeline completions`: scripts for shells.

use clap::Args;
use clap_complete::Shell;

use crate::outcome::{Outcome, print_raw};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  pipeline completions bash > ~/.local/share/bash-completion/completions/pipeline"
)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    /// Prints the script of `command`.
    pub(crate) fn execute(self, command: &mut clap::Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "pipeline", &mut script);
        print_raw(&String::from_utf8_lossy(&script))
    }
}
