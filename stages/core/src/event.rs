//! What a stage says while it works. Stages say events; only the program draws.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteLevel {
    /// Part of the report.
    Info,
    /// Something the user should look at; the work goes on.
    Warning,
}

/// One thing said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// How much there is to do, in `unit`s ("frames", "steps"). May be said again when it changes.
    Total {
        /// Number of units.
        total: u64,
        /// Name of the unit, plural.
        unit: String,
    },
    /// So much more is done.
    Advance {
        /// Number of units since the last such event.
        by: u64,
    },
    /// Progress is at `done` units (for work that is taken up in the middle).
    Position {
        /// Units done.
        done: u64,
    },
    /// Numbers at a step, e.g. `{"loss": 0.12, "frames_per_second": 5100.0}`.
    Metric {
        /// Training step, sampling step, …
        step: u64,
        /// Name → value.
        values: BTreeMap<String, f64>,
    },
    /// A sentence for the user.
    Note {
        /// How much it matters.
        level: NoteLevel,
        /// The sentence.
        text: String,
    },
}

impl Event {
    /// An informative note.
    pub fn info(text: impl Into<String>) -> Self {
        Self::Note {
            level: NoteLevel::Info,
            text: text.into(),
        }
    }

    /// A warning.
    pub fn warning(text: impl Into<String>) -> Self {
        Self::Note {
            level: NoteLevel::Warning,
            text: text.into(),
        }
    }
}
