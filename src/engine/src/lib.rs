//! The engine: a graph of stages over sets of files, re-executed only where it is stale.
//!
//! It has no word of music: stages come in through [`stage_core::Registry`]. [`Config`] is the
//! user's graph, [`Session`] that graph over today's files, [`Session::execute`] does what is
//! stale, and [`store::Store`] keeps every artifact under the hash of what it depends on.

#![warn(missing_docs)]

pub mod config;
mod error;
mod event;
mod exec;
mod forecast;
pub mod fs;
mod key;
mod process;
mod repair;
pub mod results;
mod scan;
mod session;
mod settled;
pub mod store;
mod summary;
pub mod threads;
mod why;

pub use config::{Config, Diagnostic, Setting, StageSpec};
pub use error::{EngineError, chain};
pub use event::{Deaf, Ending, Observer, RunEvent, Who};
pub use forecast::{Forecast, StageForecast, human_bytes, human_seconds};
pub use process::{Program, perform_alone};
pub use repair::{Repair, repair};
pub use scan::{Found, ScanError};
pub use session::{
    Failure, FileStatus, Intake, Item, LeftOut, Project, Request, Session, SourceFile, Sources,
    State,
};
pub use settled::Settled;
pub use summary::{StageSummary, Summary, Trouble, Verdict};
pub use why::{Cause, Change, Why};
