//! The command line: a file per subcommand.

mod cache;
mod completions;
pub(crate) mod convert;
mod deliver;
mod doctor;
mod export;
mod files;
mod foreign;
mod gc;
mod graph;
mod init;
pub(crate) mod inspect;
mod model;
mod models;
mod options;
mod picture;
mod repair;
mod run;
mod runs;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use stage_core::text;

use self::options::Global;
use crate::outcome::{Outcome, USAGE, print_error, shown};

/// The build system for music models: recordings and scores in, a trained model and its music out;
/// only what is stale is done again.
#[derive(Debug, Parser)]
#[command(
    name = "pipeline",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  pipeline init --corpus ~/music         write a pipeline.toml for a folder of recordings and scores
  pipeline run dataset                   prepare everything that training needs
  pipeline run train                     train a model
  pipeline run predict --prompt x.mid    let it go on from a prompt
  pipeline status --why                  what is stale, and why

Exit codes: 0 done, 1 something failed, 2 usage or configuration, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented pipeline.toml for a folder of recordings and scores
    Init(init::Init),
    /// Do what is stale, up to the named stages
    Run(run::Run),
    /// Show how much of each stage is fresh, stale or failed
    Status(status::Status),
    /// Draw the stages
    Graph(graph::Graph),
    /// List earlier runs; keep what one of them made from collection
    Runs(runs::Runs),
    /// Show what the cache holds, by stage
    Cache(cache::Cache),
    /// Free what the last runs, pins and running processes do not need
    Gc(gc::Gc),
    /// Read everything in the cache again and compare it with its hashes; changes nothing
    Verify(verify::Verify),
    /// Verify the cache, and make again what is damaged or missing
    Repair(repair::Repair),
    /// Say what a file is: audio, score, shard, segment, data set
    Inspect(inspect::Inspect),
    /// List the models that can be trained, with their parameters and defaults
    Models(models::Models),
    /// Copy a stage's result out of the cache
    Export(export::Export),
    /// Turn MusicXML, MXL and MIDI into each other, and any audio or score into WAV or FLAC
    Convert(convert::Convert),
    /// Check what this machine has: worker executables, libtorch, devices, cache
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Read foreign bytes for the engine (started by `pipeline` itself)
    #[command(hide = true)]
    Worker {
        /// Limit of the address space in bytes
        #[arg(long, default_value_t = crate::worker::MEMORY)]
        memory: u64,
    },
}

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // A closed pipe is no failure of ours.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if let Command::Worker { memory } = cli.command {
        return crate::worker::serve(memory);
    }
    if let Some(directory) = &cli.global.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        print_error(
            &format!("cannot enter `{}`: {error}", text::of_name(directory)),
            None,
        );
        return ExitCode::from(USAGE);
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.print()),
    }
}

/// Reads the command line. An error repeats arguments, which may be names of files that a shell put
/// there: then it repeats them as they may be shown.
fn parse() -> Result<Cli, clap::Error> {
    Cli::try_parse().map_err(|error| {
        let shown = std::env::args_os().map(|argument| shown(&argument));
        Cli::try_parse_from(shown).err().unwrap_or(error)
    })
}

fn dispatch(cli: Cli) -> Outcome {
    let global = &cli.global;
    match cli.command {
        Command::Init(command) => command.execute(),
        Command::Run(command) => command.execute(global),
        Command::Status(command) => command.execute(global),
        Command::Graph(command) => command.execute(global),
        Command::Runs(command) => command.execute(global),
        Command::Cache(command) => command.execute(global),
        Command::Gc(command) => command.execute(global),
        Command::Verify(command) => command.execute(global),
        Command::Repair(command) => command.execute(global),
        Command::Inspect(command) => command.execute(),
        Command::Models(command) => command.execute(),
        Command::Export(command) => command.execute(global),
        Command::Convert(command) => command.execute(),
        Command::Doctor(command) => command.execute(global),
        Command::Completions(command) => command.execute(&mut Cli::command()),
        Command::Worker { .. } => Ok(()),
    }
}
