//! `pipeline runs`: the history, and what of it is kept.

use std::collections::HashSet;

use clap::{Args, Subcommand};
use engine::Project;
use engine::store::{PinRecord, Record, RunOutcome, RunRecord, Ulid, now_millis, run_digest};
use serde_json::json;
use stage_core::Digest;

use super::options::Global;
use crate::outcome::{Failure, Outcome, print, print_json};
use crate::ui::text::{Table, ago};

/// List earlier runs; keep what one of them made from collection
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  pipeline runs -n 5                     the last five
  pipeline runs pin 01M7W5 --note paper  keep what this run used, whatever `gc` drops
  pipeline runs unpin 01M7W5             no longer"
)]
pub(crate) struct Runs {
    #[command(subcommand)]
    action: Option<Action>,
    /// How many at most, newest first
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Keep what a run used from collection
    #[command(after_help = "Example:\n  pipeline runs pin 01M7W5 --note \"the one in the paper\"")]
    Pin {
        /// The run, or how its name begins
        run: String,
        /// Why, for the list
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Leave a run to collection again
    #[command(after_help = "Example:\n  pipeline runs unpin 01M7W5")]
    Unpin {
        /// The run, or how its name begins
        run: String,
    },
}

impl Runs {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let project = global.project(&[])?;
        match &self.action {
            None => self.list(&project),
            Some(Action::Pin { run, note }) => pin(&project, run, Some(note)),
            Some(Action::Unpin { run }) => pin(&project, run, None),
        }
    }

    fn list(&self, project: &Project) -> Outcome {
        let runs = project.store.runs(self.limit)?;
        let pins = project.store.pins()?;
        let leases = project.store.leases()?;
        let alive: HashSet<Digest> = leases.into_iter().flat_map(|lease| lease.digests).collect();
        let pin_of = |run: &RunRecord| pins.iter().find(|pin| pin.run == run.origin.run);
        if self.json {
            let mut text = String::new();
            for run in runs {
                let mut value = json!(run);
                value["outcome"] = json!(outcome(&run, &alive));
                value["pinned"] = json!(pin_of(&run).is_some());
                text.push_str(&value.to_string());
                text.push('\n');
            }
            return print_json(&text);
        }
        if runs.is_empty() {
            return print("no run yet");
        }
        let mut table = Table::new(&[
            "run", "when", "took", "outcome", "executed", "cached", "failed", "kept", "command",
        ]);
        for run in runs {
            let sum = |field: fn(&engine::store::RunStage) -> u64| {
                let sum = run.stages.iter().map(field).sum::<u64>();
                if run.has_ended() {
                    sum.to_string()
                } else {
                    "–".to_owned()
                }
            };
            let took = run.ended.saturating_sub(run.started) as f64 / 1000.0;
            let kept = match pin_of(&run) {
                Some(pin) if pin.note.is_empty() => "pinned".to_owned(),
                Some(pin) => format!("pinned: {}", pin.note),
                None if run.collected => "collected".to_owned(),
                None => String::new(),
            };
            table.row(vec![
                run.origin.run.to_string(),
                ago(run.started),
                if run.has_ended() {
                    engine::human_seconds(took)
                } else {
                    "–".to_owned()
                },
                outcome(&run, &alive).to_owned(),
                sum(|s| s.executed),
                sum(|s| s.cached),
                sum(|s| s.failed),
                kept,
                run.command.clone(),
            ]);
        }
        print(table.render())
    }
}

/// How a run ended. One whose end is not recorded is under way if its process lives.
fn outcome(run: &RunRecord, alive: &HashSet<Digest>) -> &'static str {
    match run.outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Interrupted => "interrupted",
        RunOutcome::Started if alive.contains(&run_digest(run.origin.run)) => "running",
        RunOutcome::Started => "killed",
    }
}

/// Pins a run, with a note, or takes the pin away.
fn pin(project: &Project, name: &str, note: Option<&str>) -> Outcome {
    let run = find(project, name)?;
    let id = run.origin.run;
    if note.is_some() && run.collected {
        return Err(Failure::Usage(
            format!("what run {id} used has been collected"),
            Some("run it again: `pipeline runs` shows its command".to_owned()),
        ));
    }
    let pin = PinRecord {
        run: id,
        pinned: note.is_some(),
        note: note.unwrap_or_default().to_owned(),
        at: now_millis(),
    };
    project.store.queue(Record::Pin(pin), None)?;
    project.store.flush()?;
    let verb = if note.is_some() { "pinned" } else { "unpinned" };
    print(format!("{verb} run {id}: {}", run.command))
}

/// The run whose name begins so.
fn find(project: &Project, name: &str) -> Result<RunRecord, Failure> {
    let prefix = name.to_uppercase();
    let mut found: Vec<RunRecord> = project.store.runs(usize::MAX)?;
    found.retain(|run| run.origin.run.to_string().starts_with(&prefix));
    let hint = "`pipeline runs` lists them";
    match (found.pop(), found.len()) {
        (Some(run), 0) => Ok(run),
        (None, _) => Err(Failure::Usage(
            format!("no run begins with `{name}`"),
            Some(hint.to_owned()),
        )),
        (Some(run), more) => {
            let also: Vec<Ulid> = found.iter().map(|run| run.origin.run).take(2).collect();
            let also: Vec<String> = also.iter().map(Ulid::to_string).collect();
            Err(Failure::Usage(
                format!(
                    "{} runs begin with `{name}`: {}, {}{}",
                    more + 1,
                    run.origin.run,
                    also.join(", "),
                    if more > 2 { ", …" } else { "" }
                ),
                Some("give more of its name".to_owned()),
            ))
        }
    }
}
