//! `pipeline`, the build system for music models.
//!
//! `cli` holds a file per subcommand, `ui` shows what the engine says, `stages` is the one place
//! that names the stages, `worker` serves them to the engine from another process.

#[cfg(windows)]
compile_error!("pipeline runs on Linux and macOS; on Windows, build and run it under WSL");

mod cli;
mod model;
mod outcome;
mod stages;
mod ui;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
