//! `pipeline status`: what is fresh, stale and failed.

use clap::Args;
use engine::Session;
use stage_core::Cancel;

use super::options::Global;
use super::options::View;
use crate::outcome::{Outcome, print, print_json};
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
    #[command(flatten)]
    view: View,
}

impl Status {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let (project, mut request) = self.view.open(global, self.stages)?;
        request.quick = true;
        let session = Session::prepare(&project, request, &Cancel::default())?;
        let forecast = session.forecast()?;
        let why = if self.why || self.json {
            session.why()?
        } else {
            Vec::new()
        };
        if self.json {
            print_json(&ui::json::status(&forecast, &why, &session))
        } else {
            print(ui::text::status(&forecast, &why, &session))
        }
    }
}
