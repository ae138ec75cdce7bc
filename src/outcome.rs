//! How a command ends: failures, exit codes, and the functions that print for people and programs.

use std::ffi::OsStr;
use std::io::{self, Write};

use engine::EngineError;
use stage_core::Digest;
use stage_core::text::{self, visible};

use crate::ui::page::{self, Page};

/// Exit code when something failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code when the command line or pipeline.toml is invalid.
pub(crate) const USAGE: u8 = 2;
/// Exit code when the user interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Result of a command.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The exit code; the messages have been printed.
    Code(u8),
    /// An error of the engine.
    Engine(EngineError),
    /// Any other error, with its causes.
    Other(anyhow::Error),
    /// The command line is invalid: message, hint.
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
    pub(crate) fn lost_object(&self) -> Option<Digest> {
        match self {
            Self::Engine(EngineError::Store(error)) => error.lost_object(),
            _ => None,
        }
    }

    /// Prints the error of one item, `what`, for a command that continues with the others.
    ///
    /// # Errors
    /// The failure itself, if its messages have been printed and the command must end.
    pub(crate) fn print_for(self, what: &str) -> Outcome {
        match self {
            Self::Code(_) => return Err(self),
            Self::Engine(error) => {
                let text = format!("{what}: {}", engine::chain(&error));
                print_error(&text, error.hint().as_deref());
            }
            Self::Other(error) => print_error(&format!("{what}: {error:#}"), None),
            Self::Usage(message, hint) => {
                print_error(&format!("{what}: {message}"), hint.as_deref());
            }
        }
        Ok(())
    }

    /// Prints the error and returns the exit code of the program.
    pub(crate) fn print(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Engine(EngineError::Store(engine::store::StoreError::Cancelled)) => {
                print_error("interrupted; finished work is kept", None);
                INTERRUPTED
            }
            Self::Engine(error) => {
                match error {
                    // A diagnostic shows the place in pipeline.toml on several lines.
                    EngineError::Config(diagnostic) => {
                        let mut page = Page::default();
                        let text = format!("error: {diagnostic}");
                        text.lines().for_each(|line| page.line(line));
                        print_stderr(&page);
                    }
                    error => print_error(&engine::chain(error), error.hint().as_deref()),
                }
                if error.is_usage() { USAGE } else { FAILED }
            }
            Self::Other(error) => {
                print_error(&format!("{error:#}"), None);
                FAILED
            }
            Self::Usage(message, hint) => {
                print_error(message, hint.as_deref());
                USAGE
            }
        }
    }
}

/// A name, a path or an argument on one line.
pub(crate) fn shown(name: impl AsRef<OsStr>) -> String {
    visible(&text::of_name(name)).into_owned()
}

/// Prints a page, or a line, to standard output.
pub(crate) fn print(page: impl Into<Page>) -> Outcome {
    print_raw(page.into().as_str())
}

/// Prints JSON to standard output, one object per line.
pub(crate) fn print_json(text: &str) -> Outcome {
    print_raw(&page::json(text))
}

/// Prints text to standard output as it is. A closed pipe, as in `| head`, is no failure: the
/// command continues, and its exit code says how its work ended.
pub(crate) fn print_raw(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(error)
            .context("cannot write to standard output")
            .into()),
        _ => Ok(()),
    }
}

/// Prints an error to standard error.
pub(crate) fn print_error(message: &str, hint: Option<&str>) {
    let mut page = Page::from(format!("error: {message}"));
    if let Some(hint) = hint {
        page.line(format!("   hint: {hint}"));
    }
    print_stderr(&page);
}

/// Prints a warning to standard error.
pub(crate) fn print_warning(message: &str) {
    print_stderr(&format!("warning: {message}").into());
}

/// Prints a page to standard error.
pub(crate) fn print_stderr(page: &Page) {
    // A failure to write here cannot be reported anywhere else.
    let _ = io::stderr().write_all(page.as_str().as_bytes());
}
