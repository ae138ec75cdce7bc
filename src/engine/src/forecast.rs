//! What a run is going to cost, before it begins.
//!
//! From history: what the stage's actions in the cache took, of this request if these are more than
//! what is to be done, else of each item the latest. Without history, from the stage's own guess by
//! how much the source files hold.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use stage_core::{Digest, Part};

use crate::error::EngineError;
use crate::session::{Node, Session, State};
use crate::store::{Artifact, Rate};
use crate::threads::MAX_JOBS;

/// Of how many actions in the cache the rate is taken.
const SAMPLE: u64 = 1000;

/// Of how many items it is asked whether the stage's whole part links their files.
const FEW: usize = 8;

/// What is expected of one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageForecast {
    /// Name of the stage.
    pub stage: String,
    /// Actions that are going to be done.
    pub stale: u64,
    /// Actions whose inputs are not known yet; some may be found in the cache after all.
    pub waiting: u64,
    /// Actions in the cache.
    pub fresh: u64,
    /// Actions whose failure is remembered.
    pub failed: u64,
    /// Actions that cannot be done because of a failure.
    pub blocked: u64,
    /// Seconds of one thread for the stale and waiting ones.
    pub seconds: f64,
    /// Bytes that they will write.
    pub bytes: f64,
    /// Whether the figures come from history.
    pub from_history: bool,
    /// Whether its parts run one after the other, not in parallel.
    pub serial_seconds: f64,
}

/// What is expected of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// By stage, in the order of the graph; those not demanded are not listed.
    pub stages: Vec<StageForecast>,
    /// Wall-clock seconds with the run's number of threads.
    pub seconds: f64,
    /// Bytes that will be written.
    pub bytes: f64,
}

impl Forecast {
    /// Actions that may have to be done.
    pub fn to_do(&self) -> u64 {
        self.stages
            .iter()
            .map(|stage| stage.stale + stage.waiting)
            .sum()
    }
}

impl Session<'_> {
    /// What the run is going to cost.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn forecast(&self) -> Result<Forecast, EngineError> {
        let mut stages: BTreeMap<usize, StageForecast> = BTreeMap::new();
        // (stage, part) → (actions to do, extent of their sources).
        let mut work: BTreeMap<(usize, Part), (u64, f64)> = BTreeMap::new();
        for node in &self.nodes {
            let stage = stages.entry(node.stage).or_insert_with(|| StageForecast {
                stage: self.graph().stages[node.stage].name.clone(),
                ..StageForecast::default()
            });
            match &node.state {
                State::Stale | State::Running => stage.stale += 1,
                State::Waiting => stage.waiting += 1,
                State::Fresh | State::Executed => stage.fresh += 1,
                State::Failed(_) => stage.failed += 1,
                State::Blocked(_) => stage.blocked += 1,
            }
            if !node.state.is_settled() {
                let entry = work.entry((node.stage, node.part)).or_default();
                entry.0 += 1;
                entry.1 += match node.part {
                    Part::Item => self.extent(node),
                    _ => self.total_extent(node.stage),
                };
            }
        }
        for ((stage, part), (actions, extent)) in work {
            let def = &self.graph().stages[stage];
            let rate = self.rate(stage, part, actions)?;
            let (seconds, bytes, from_history) = if rate.actions > 0 {
                let share = actions as f64 / rate.actions as f64;
                let linked = self.linked_bytes(stage, part)?;
                let bytes = rate.output_bytes.saturating_sub(linked);
                (rate.seconds * share, bytes as f64 * share, true)
            } else {
                let guess = def.stage.estimate(part, extent);
                (guess.seconds, guess.bytes, false)
            };
            if let Some(forecast) = stages.get_mut(&stage) {
                forecast.seconds += seconds;
                forecast.bytes += bytes;
                forecast.from_history |= from_history;
                if part != Part::Item {
                    forecast.serial_seconds += seconds;
                }
            }
        }
        let stages: Vec<_> = stages.into_values().collect();
        let jobs = self.jobs() as f64;
        // An empty sum of floats is -0.
        let seconds = stages
            .iter()
            .map(|s| s.serial_seconds + (s.seconds - s.serial_seconds) / jobs)
            .fold(0.0, |sum, seconds| sum + seconds);
        let bytes = stages.iter().fold(0.0, |sum, stage| sum + stage.bytes);
        Ok(Forecast {
            stages,
            seconds,
            bytes,
        })
    }

    /// How fast a stage's part was. To ask the index of every item takes longer than all else that
    /// one new file needs.
    fn rate(&self, stage: usize, part: Part, to_do: u64) -> Result<Rate, EngineError> {
        // So many tell as much as all.
        let enough = to_do.min(SAMPLE);
        let mut rate = Rate::default();
        let fresh =
            |node: &&Node| (node.stage, node.part) == (stage, part) && node.state == State::Fresh;
        for node in self.nodes.iter().filter(fresh).take(SAMPLE as usize) {
            rate.actions += 1;
            rate.seconds += node.seconds;
            rate.output_bytes += node.artifact.as_ref().map_or(0, Artifact::size);
        }
        if rate.actions < enough {
            let stage = &self.graph().stages[stage].name;
            rate = self.project.store.rate(&self.project.name, stage, part)?;
        }
        Ok(rate)
    }

    /// How much of a whole part's artifact are files of the stage's items, which are written with
    /// these and not once more.
    fn linked_bytes(&self, stage: usize, part: Part) -> Result<u64, EngineError> {
        let def = &self.graph().stages[stage];
        if part != Part::Whole || !def.has(Part::Item) {
            return Ok(0);
        }
        let (store, pipeline) = (&self.project.store, &self.project.name);
        let last = |part, item: &str| -> Result<Option<Artifact>, EngineError> {
            let done = store.last_done(pipeline, &def.name, part, item)?;
            Ok(done.map(|(_, artifact)| artifact))
        };
        let Some(whole) = last(Part::Whole, "")? else {
            return Ok(0);
        };
        let files: HashSet<Digest> = whole.tree().0.values().map(|entry| entry.digest).collect();
        let items = self.nodes.iter();
        let items = items.filter(|node| (node.stage, node.part) == (stage, Part::Item));
        // What holds for some holds for all: the stage links its items, or does not.
        for node in items.take(FEW) {
            let Some(item) = last(Part::Item, self.item_name(node))? else {
                continue;
            };
            let item = item.tree();
            let mut entries = item.0.values();
            if entries.any(|entry| files.contains(&entry.digest)) {
                return Ok(store.rate(pipeline, &def.name, Part::Item)?.output_bytes);
            }
        }
        Ok(0)
    }

    /// Number of actions at a time.
    pub(crate) fn jobs(&self) -> usize {
        match self.request.jobs {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            jobs => jobs.min(usize::from(MAX_JOBS)),
        }
    }

    /// How much the source file of an item holds, by the stage that reads it.
    fn extent(&self, node: &crate::session::Node) -> f64 {
        let mut intake = node;
        while let Some(above) = intake.upstream {
            intake = &self.nodes[above];
        }
        let file = intake
            .files
            .first()
            .and_then(|file| self.sources.get(&intake.source)?.get(*file as usize));
        file.map_or(0.0, |file| {
            let stage = &self.graph().stages[intake.stage].stage;
            let size = file.sig.map_or(0, |sig| sig.size);
            stage.extent(&file.found.extension, size)
        })
    }

    fn total_extent(&self, stage: usize) -> f64 {
        let sources = self.graph().needed_sources(stage);
        let intake = self.nodes.iter().filter(|node| {
            node.part == Part::Item && node.upstream.is_none() && sources.contains(&node.source)
        });
        intake.map(|node| self.extent(node)).sum()
    }
}

/// A size for people: `1.5 MB`.
pub fn human_bytes(bytes: f64) -> String {
    let mut value = bytes.max(0.0);
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" || value >= 99.5 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A duration for people: `0.8 s`, `3 min 20 s`, `2 h 5 min`.
pub fn human_seconds(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 0.05 {
        return "under 0.1 s".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let whole = seconds.round().min(1e15) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let sizes = [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1500.0, "1.5 kB"),
            (2e6, "2.0 MB"),
            (123e6, "123 MB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(human_bytes(bytes), text);
        }
        let times = [
            (0.04, "under 0.1 s"),
            (12.3, "12 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
        ];
        for (seconds, text) in times {
            assert_eq!(human_seconds(seconds), text);
        }
    }
}
