//! Showing what the engine says: bars at a terminal, lines elsewhere, JSON for programs.

pub(crate) mod json;
pub(crate) mod page;
mod progress;
mod report;
pub(crate) mod text;

use std::path::PathBuf;

use engine::{Observer, RunEvent, Session, Summary};
use stage_core::text::of_name;

use crate::outcome::Failure;

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bars or lines, then a report.
    Human,
    /// One JSON event per line.
    Json {
        /// Whether cached actions have lines of their own.
        items: bool,
    },
    /// Errors only.
    Quiet,
}

/// Shows a run.
pub(crate) struct Ui {
    mode: Mode,
    progress: Option<progress::Progress>,
    json: Option<json::Stream>,
}

impl Ui {
    /// Shows what is done of `session`; without one nothing is.
    pub(crate) fn new(mode: Mode, session: Option<&Session<'_>>) -> Self {
        let session = session.filter(|_| mode == Mode::Human);
        Self {
            mode,
            progress: session.map(progress::Progress::new),
            json: match mode {
                Mode::Json { items } => Some(json::Stream::new(items)),
                _ => None,
            },
        }
    }

    /// Takes the bars off the screen.
    pub(crate) fn clear(&self) {
        if let Some(progress) = &self.progress {
            progress.clear();
        }
    }

    /// Says how it ended, and names the results that were put into `out/`.
    ///
    /// # Errors
    /// Standard output cannot be written to, now or earlier. What failed has been told by then.
    pub(crate) fn conclude(&self, summary: &Summary, results: &[PathBuf]) -> Result<(), Failure> {
        match self.mode {
            Mode::Json { .. } => {
                let Some(json) = &self.json else {
                    return Ok(());
                };
                let results: String = results.iter().map(|path| json::output(path)).collect();
                json.end(&(json.counts() + &results + &json::summary(summary)))
            }
            Mode::Human => {
                let told = crate::outcome::print(report::summary(summary));
                report::troubles(summary);
                told?;
                for path in results {
                    crate::outcome::print(format!("→ {}", of_name(path)))?;
                }
                Ok(())
            }
            Mode::Quiet => {
                report::troubles(summary);
                Ok(())
            }
        }
    }
}

impl Observer for Ui {
    fn observe(&self, event: &RunEvent<'_>) {
        if let Some(progress) = &self.progress {
            progress.observe(event);
        }
        if let Some(json) = &self.json {
            json.observe(event);
        }
    }

    fn wants_each(&self) -> bool {
        self.json.as_ref().is_some_and(Observer::wants_each)
    }
}
