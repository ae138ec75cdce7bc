//! `pipeline status`: what is fresh, stale and failed.

use std::path::PathBuf;

use clap::Args;
use engine::{Request, Session};
use stage_core::Cancel;

use super::{Global, Outcome, say};
use crate::ui;

/// Show how much of each stage is fresh, stale or failed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline status             per stage: fresh, stale, failed
  pipeline status --why       and for each stale action the part of its key that changed
  pipeline status --json      the same for programs")]
pub(crate) struct Status {
    /// Stages to look at; without any, all whose sources are bound
    stages: Vec<String>,
    /// Say why each stale action is stale
    #[arg(long)]
    why: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Override a parameter of a stage, as for `run`
    #[arg(long = "set", value_name = "STAGE.KEY=VALUE")]
    set: Vec<String>,
    /// Score or recording that binds the source `prompt`
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
}

impl Status {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let project = global.project(&super::setup::sets(&self.set))?;
        let prompt = self
            .prompt
            .into_iter()
            .map(|path| ("prompt".to_owned(), path));
        let request = Request {
            targets: self.stages,
            bindings: prompt.collect(),
            ..Request::default()
        };
        let session = Session::prepare(&project, request, &Cancel::default())?;
        let forecast = session.forecast()?;
        let why = if self.why || self.json {
            session.why()?
        } else {
            Vec::new()
        };
        say(&if self.json {
            ui::json::status(&forecast, &why, &session)
        } else {
            ui::text::status(&forecast, &why, &session)
        })
    }
}
