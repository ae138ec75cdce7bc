//! `pipeline runs`: the history.

use clap::Args;
use engine::store::RunOutcome;
use serde_json::json;

use super::{Global, Outcome, say};
use crate::ui::text::{Table, ago};

/// List earlier runs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pipeline runs -n 5")]
pub(crate) struct Runs {
    /// How many at most, newest first
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

impl Runs {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let project = global.project(&[])?;
        let runs = project.store.runs(self.limit)?;
        if self.json {
            let mut text = String::new();
            for run in runs {
                text.push_str(&json!(run).to_string());
                text.push('\n');
            }
            return say(&text);
        }
        if runs.is_empty() {
            return say("no run yet\n");
        }
        let mut table = Table::new(&[
            "run", "when", "took", "outcome", "executed", "cached", "failed", "command",
        ]);
        for run in runs {
            let sum = |field: fn(&engine::store::RunStage) -> u64| {
                run.stages.iter().map(field).sum::<u64>().to_string()
            };
            let outcome = match run.outcome {
                RunOutcome::Done => "done",
                RunOutcome::Failed => "failed",
                RunOutcome::Interrupted => "interrupted",
            };
            table.row(vec![
                run.origin.run.to_string(),
                ago(run.started),
                engine::human_seconds((run.ended.saturating_sub(run.started)) as f64 / 1000.0),
                outcome.to_owned(),
                sum(|s| s.executed),
                sum(|s| s.cached),
                sum(|s| s.failed),
                run.command.clone(),
            ]);
        }
        say(&table.render())
    }
}
