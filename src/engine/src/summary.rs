//! What a run did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stage_core::{FailureClass, Part};

use crate::session::{Intake, LeftOut, Session, State};

/// What a run did of one stage and part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Name of the stage.
    pub stage: String,
    /// Actions done.
    pub executed: u64,
    /// Actions found in the cache.
    pub cached: u64,
    /// Actions that failed, now or before.
    pub failed: u64,
    /// Actions that were not reached, or could not be done for something else's failure.
    pub not_done: u64,
    /// Seconds of the actions done, summed over threads.
    pub seconds: f64,
    /// Seconds that the cached actions once took.
    pub saved: f64,
}

/// An action that has no artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// Name of the stage.
    pub stage: String,
    /// Which part.
    pub part: Part,
    /// Path of the item; empty for the other parts.
    pub item: String,
    /// Why.
    pub reason: String,
    /// Whether it was not tried because of something else.
    pub blocked: bool,
    /// Whether the failure was remembered from an earlier run.
    pub remembered: bool,
    /// Class of the failure, unless blocked.
    pub class: Option<FailureClass>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All that was asked for is done (with `on_bad = "warn"`, but for bad items).
    Done,
    /// Something failed.
    Failed,
    /// It was interrupted.
    Interrupted,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Per stage, in the order of the graph; stages that were not demanded are not listed.
    pub stages: Vec<StageSummary>,
    /// What failed or was blocked.
    pub troubles: Vec<Trouble>,
    /// What became of the files, by source.
    pub intake: BTreeMap<String, Intake>,
    /// Stages that a bare run left out.
    pub left_out: Vec<LeftOut>,
    /// How it ended.
    pub verdict: Verdict,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl Session<'_> {
    /// What was done so far. `interrupted` says whether the user stopped it.
    pub fn summary(&self, interrupted: bool, seconds: f64) -> Summary {
        let mut stages: BTreeMap<usize, StageSummary> = BTreeMap::new();
        let mut troubles = Vec::new();
        for node in &self.nodes {
            let name = &self.graph().stages[node.stage].name;
            let stage = stages.entry(node.stage).or_insert_with(|| StageSummary {
                stage: name.clone(),
                ..StageSummary::default()
            });
            let trouble = |reason: &str, blocked, remembered, class| Trouble {
                stage: name.clone(),
                part: node.part,
                item: self.item_name(node).to_owned(),
                reason: reason.to_owned(),
                blocked,
                remembered,
                class,
            };
            match &node.state {
                State::Executed => {
                    stage.executed += 1;
                    stage.seconds += node.seconds;
                }
                State::Fresh => {
                    stage.cached += 1;
                    stage.saved += node.seconds;
                }
                State::Failed(failure) => {
                    stage.failed += 1;
                    let class = Some(failure.class);
                    troubles.push(trouble(&failure.reason, false, failure.remembered, class));
                }
                State::Blocked(reason) => {
                    stage.not_done += 1;
                    // That an item goes no further than where it failed, and a stage's finish part
                    // no further than its whole part, needs no saying.
                    if node.part == Part::Whole {
                        troubles.push(trouble(reason, true, false, None));
                    }
                }
                State::Waiting | State::Stale | State::Running => stage.not_done += 1,
            }
        }
        for (source, files) in &self.sources {
            if !files.iter().any(|file| file.taken) {
                let source = &self.graph().sources[*source].name;
                let found = files.len();
                troubles.push(Trouble {
                    stage: self.request.targets.join(", "),
                    part: Part::Whole,
                    item: String::new(),
                    reason: format!(
                        "source `{source}` has no file that it can use ({found} files of other kinds)"
                    ),
                    blocked: true,
                    remembered: false,
                    class: None,
                });
            }
        }
        Summary {
            stages: stages.into_values().collect(),
            troubles,
            intake: self.intake(),
            left_out: self.left_out.clone(),
            verdict: self.verdict(interrupted),
            seconds,
        }
    }

    fn verdict(&self, interrupted: bool) -> Verdict {
        if interrupted {
            return Verdict::Interrupted;
        }
        let strict =
            |source: usize| self.graph().sources[source].on_bad == crate::config::OnBad::Fail;
        let file_failed = self
            .sources
            .iter()
            .any(|(source, files)| strict(*source) && files.iter().any(|f| f.failed.is_some()));
        let failed = |node: &crate::session::Node| match (&node.state, node.part) {
            // What is missing or broke on this machine is no fault of the file.
            (State::Failed(f), Part::Item) => !f.class.is_of_item() || strict(node.source),
            (State::Blocked(_), Part::Item) => strict(node.source),
            (state, _) => !state.is_done(),
        };
        // A source of which nothing can be used fails the run, whatever `on_bad` says.
        let barren = self.sources.iter().any(|(source, files)| {
            let taken = files.iter().filter(|file| file.taken).count();
            self.bad_files(*source) >= taken
        });
        if file_failed || barren || self.nodes.iter().any(failed) {
            Verdict::Failed
        } else {
            Verdict::Done
        }
    }
}
