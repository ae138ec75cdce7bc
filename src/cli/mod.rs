//! The command line: a file per subcommand.

mod cache;
mod completions;
mod convert;
mod deliver;
mod doctor;
mod export;
pub(crate) mod files;
mod foreign;
mod gc;
mod graph;
mod init;
mod inspect;
mod model;
mod picture;
mod repair;
mod run;
mod runs;
mod setup;
mod status;
mod verify;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use engine::EngineError;
use stage_core::Digest;
use stage_core::text::{self, visible};

pub(crate) use convert::Transcode;
pub(crate) use deliver::Naming;
pub(crate) use inspect::Look;

use crate::ui::page::{self, Page};

/// Exit code when something failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code when the command line or pipeline.toml cannot be meant.
pub(crate) const USAGE: u8 = 2;
/// Exit code when the user interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

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

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Keep the cache in DIR instead of `.pipeline` beside pipeline.toml; projects can share it
    #[arg(long, value_name = "DIR", global = true)]
    cache: Option<PathBuf>,
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

/// What ends a command early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With this code; all has been said.
    Code(u8),
    /// With a message.
    Engine(EngineError),
    /// With a message and its causes.
    Other(anyhow::Error),
    /// The command line cannot be meant: message, hint.
    Usage(String, Option<String>),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<engine::Diagnostic> for Failure {
    fn from(error: engine::Diagnostic) -> Self {
        Self::Engine(error.into())
    }
}

impl From<engine::store::StoreError> for Failure {
    fn from(error: engine::store::StoreError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    /// The object of the cache that is damaged or missing, if that is what failed.
    fn lost_object(&self) -> Option<Digest> {
        match self {
            Self::Engine(EngineError::Store(error)) => error.lost_object(),
            _ => None,
        }
    }

    /// Says what is wrong with one thing of many, for a command that goes on with the others.
    ///
    /// # Errors
    /// The failure itself, if all has been said and the command must end.
    fn complain_of(self, what: &str) -> Outcome {
        match self {
            Self::Code(_) => return Err(self),
            Self::Engine(error) => {
                let text = format!("{what}: {}", engine::chain(&error));
                complain(&text, error.hint().as_deref());
            }
            Self::Other(error) => complain(&format!("{what}: {error:#}"), None),
            Self::Usage(message, hint) => complain(&format!("{what}: {message}"), hint.as_deref()),
        }
        Ok(())
    }
}

/// Reads a number of actions at a time.
fn jobs() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(..=i64::from(engine::threads::MAX_JOBS))
}

/// Result of a command.
pub(crate) type Outcome = Result<(), Failure>;

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
        complain(
            &format!("cannot enter `{}`: {error}", text::of_name(directory)),
            None,
        );
        return ExitCode::from(USAGE);
    }
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(report(&failure)),
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

/// A name, a path or an argument on one line.
pub(crate) fn shown(name: impl AsRef<OsStr>) -> String {
    visible(&text::of_name(name)).into_owned()
}

/// The command line, for the record of the run.
pub(crate) fn command_line() -> String {
    let arguments = std::env::args_os().map(text::of_name);
    arguments.collect::<Vec<_>>().join(" ")
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
        Command::Export(command) => command.execute(global),
        Command::Convert(command) => command.execute(),
        Command::Doctor(command) => command.execute(global),
        Command::Completions(command) => command.execute(),
        Command::Worker { .. } => Ok(()),
    }
}

fn report(failure: &Failure) -> u8 {
    match failure {
        Failure::Code(code) => *code,
        Failure::Engine(error) => {
            if let EngineError::Store(engine::store::StoreError::Cancelled) = error {
                complain("interrupted; what was finished is kept", None);
                return INTERRUPTED;
            }
            match error {
                // It shows the place in a picture of several lines.
                EngineError::Config(diagnostic) => {
                    let mut page = Page::default();
                    let text = format!("error: {diagnostic}");
                    text.lines().for_each(|line| page.line(line));
                    warn(&page);
                }
                error => complain(&engine::chain(error), error.hint().as_deref()),
            }
            if error.is_usage() { USAGE } else { FAILED }
        }
        Failure::Other(error) => {
            complain(&format!("{error:#}"), None);
            FAILED
        }
        Failure::Usage(message, hint) => {
            complain(message, hint.as_deref());
            USAGE
        }
    }
}

/// Says what is wrong on standard error.
pub(crate) fn complain(message: &str, hint: Option<&str>) {
    let mut page = Page::from(format!("error: {message}"));
    if let Some(hint) = hint {
        page.line(format!("   hint: {hint}"));
    }
    warn(&page);
}

/// Writes a page, or a line, to standard output.
pub(crate) fn say(page: impl Into<Page>) -> Result<(), Failure> {
    write(page.into().as_str())
}

/// Writes JSON to standard output, an object per line.
pub(crate) fn say_json(text: &str) -> Result<(), Failure> {
    write(&page::json(text))
}

/// Writes to standard output. That its reader has gone is no failure, as for `| head`: the command
/// goes on, and its exit code says how its work ended.
fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(error)
            .context("cannot write to standard output")
            .into()),
        _ => Ok(()),
    }
}

/// Warns on standard error.
pub(crate) fn complain_softly(message: &str) {
    warn(&format!("warning: {message}").into());
}

/// Writes a page to standard error.
pub(crate) fn warn(page: &Page) {
    // Nobody is left to be told of a failure to tell.
    let _ = io::stderr().write_all(page.as_str().as_bytes());
}
