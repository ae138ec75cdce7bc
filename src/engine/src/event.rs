//! What the engine says while it works; the program shows it.

use serde::{Deserialize, Serialize};
use stage_core::{Event, Part};

use crate::forecast::Forecast;

/// Which action an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// Name of the stage.
    pub stage: &'a str,
    /// Its part.
    pub part: Part,
    /// Path of the item in its source; empty for the other parts.
    pub item: &'a str,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was done.
    Executed,
    /// Its result was in the cache.
    Cached,
    /// It failed.
    Failed,
    /// It was saved on its way and can be taken up again.
    Paused,
}

/// One thing said by the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent<'a> {
    /// What is going to be done.
    Planned(&'a Forecast),
    /// So many actions of a stage's part were in the cache before any work, for observers that do
    /// not want to hear of each.
    Cached {
        /// Name of the stage.
        stage: &'a str,
        /// The part.
        part: Part,
        /// How many.
        count: u64,
    },
    /// An action began.
    Started(Who<'a>),
    /// An action ended.
    Ended {
        /// Which.
        who: Who<'a>,
        /// How.
        ending: Ending,
        /// How long it took.
        seconds: f64,
        /// Why it failed.
        reason: Option<&'a str>,
        /// Whether the failure was remembered from an earlier run.
        remembered: bool,
    },
    /// A stage said something.
    Stage(Who<'a>, &'a Event),
    /// An interim artifact was published.
    Interim(Who<'a>, u64),
    /// Another process does this action; we wait for it.
    WaitingFor {
        /// Which action.
        who: Who<'a>,
        /// Who does it, in words.
        holder: &'a str,
    },
    /// Something to look at.
    Warning(&'a str),
}

/// Hears what the engine says. Called from many threads.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn observe(&self, event: &RunEvent<'_>);

    /// Whether it wants to hear of each action that was in the cache before any work, not of their
    /// number alone.
    fn wants_each(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy)]
pub struct Deaf;

impl Observer for Deaf {
    fn observe(&self, _: &RunEvent<'_>) {}
}
