//! What the records say of every object: whose it is, and for whose sake it is kept.
//!
//! The roots are put in order: first what is kept in any case (pinned runs, living processes, the
//! newest result of each stage that takes a whole set, what is young), then runs, newest first.
//! Each artifact and object has the *level* of the first root that reaches it, so that "the last
//! N runs" and "as many runs as fit" are both a cut through the levels.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use stage_core::{Digest, Part};

use super::error::Result;
use super::fold::{At, IfUnreadable};
use super::record::{ActionRecord, Outcome, PinRecord, Record, RunRecord, run_digest};
use super::{Inner, Ulid};
use crate::fs::{self, Nanos};

/// Level of what is kept in any case.
pub(crate) const ALWAYS: u32 = 0;

/// Level of what no root reaches.
pub(crate) const DEAD: u32 = u32::MAX;

/// Largest list of a run's artifacts that is read, in bytes.
const LIST_LIMIT: u64 = 1 << 32;

/// What is asked of a survey.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    /// How many runs of each kind are roots: of the same pipeline, over the same stages, and all
    /// with or all without a recorded end.
    pub(crate) keep_runs: usize,
    /// Records that ended within these times, in milliseconds since 1970, are kept in any case.
    pub(crate) young: Range<u64>,
    /// What living processes hold.
    pub(crate) held: HashSet<Digest>,
}

/// A stage of a pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageName {
    /// The pipeline.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
}

/// To which stage an object belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// To none: the list of a run's artifacts, the file of a parameter.
    None,
    /// To one.
    Stage(u32),
    /// To several.
    Several,
}

/// What is known of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) level: u32,
    pub(crate) owner: Owner,
}

/// What the records say.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Every object that a record names.
    pub(crate) objects: HashMap<Digest, Mark>,
    /// Stages by number.
    pub(crate) stages: Vec<StageName>,
    /// All runs.
    pub(crate) runs: BTreeMap<Ulid, RunRecord>,
    /// The newest pin of each run.
    pub(crate) pins: HashMap<Ulid, PinRecord>,
    /// Level of each run; those that are not roots have none.
    pub(crate) run_levels: HashMap<Ulid, u32>,
    /// The roots that are runs, by level; the first stands for [`ALWAYS`].
    pub(crate) ranked: Vec<Option<Ulid>>,
    /// Runs whose list of artifacts cannot be read.
    pub(crate) unreadable: Vec<Ulid>,
    /// Level of each artifact that a root names.
    artifacts: HashMap<Digest, u32>,
    /// (pipeline, time): what was recorded until then is kept in any case.
    until: HashMap<String, u64>,
    /// Newest interim artifact of each stage, by its time.
    interims: HashMap<StageName, (u64, Digest)>,
    /// Where the newest record of each item stands that failed once.
    failures: HashMap<Digest, At>,
    stage_numbers: HashMap<StageName, u32>,
    roots: Option<Roots>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    Keep,
    /// In this form.
    Change(Record),
    Drop,
}

impl Inner {
    /// Reads all records, twice: once for the roots, once for what they reach.
    pub(crate) fn survey(&self, roots: Roots, unreadable: IfUnreadable) -> Result<Survey> {
        let mut survey = Survey {
            ranked: vec![None],
            ..Survey::default()
        };
        let mut newest: HashMap<(StageName, Part), Digest> = HashMap::new();
        self.each_record(unreadable, &mut |at, record| {
            survey.meet(at, record, &mut newest);
            Ok(())
        })?;
        if roots.keep_runs > 0 {
            let done = newest.into_values();
            let interim = survey.interims.values().map(|(_, artifact)| *artifact);
            let always: Vec<Digest> = done.chain(interim).collect();
            survey
                .artifacts
                .extend(always.into_iter().map(|artifact| (artifact, ALWAYS)));
        }
        self.rank(&mut survey, &roots);
        survey.roots = Some(roots);
        self.each_record(unreadable, &mut |at, record| {
            survey.mark(at, &record);
            Ok(())
        })?;
        Ok(survey)
    }

    /// Puts the runs in order, and reads what they used.
    fn rank(&self, survey: &mut Survey, roots: &Roots) {
        let mut kinds: HashMap<(String, Vec<String>, bool), usize> = HashMap::new();
        let runs: Vec<RunRecord> = survey.runs.values().rev().cloned().collect();
        for run in runs {
            if run.collected {
                continue;
            }
            let id = run.origin.run;
            let pinned = survey.pins.get(&id).is_some_and(|pin| pin.pinned);
            let always =
                pinned || roots.held.contains(&run_digest(id)) || roots.young.contains(&run.ended);
            let stages = run.stages.iter().map(|s| s.stage.clone()).collect();
            let kind = (run.origin.pipeline.clone(), stages, run.has_ended());
            let count = kinds.entry(kind).or_default();
            // Pinned runs are kept besides, not instead.
            if !pinned {
                *count += 1;
            }
            let level = if always {
                ALWAYS
            } else if *count <= roots.keep_runs {
                survey.ranked.push(Some(id));
                u32::try_from(survey.ranked.len() - 1).unwrap_or(DEAD - 1)
            } else {
                continue;
            };
            survey.run_levels.insert(id, level);
            for list in run.stages.iter().filter_map(|stage| stage.artifacts) {
                survey.reach(list, level, Owner::None);
                let Ok(artifacts) = self.list_of(list) else {
                    // What it used is not known: everything that there was by then is kept.
                    survey.unreadable.push(id);
                    let until = survey.until.entry(run.origin.pipeline.clone()).or_default();
                    *until = (*until).max(run.ended);
                    continue;
                };
                for artifact in artifacts {
                    let known = survey.artifacts.entry(artifact).or_insert(level);
                    *known = (*known).min(level);
                }
            }
        }
    }

    /// Reads the list of a run's artifacts and leaves a damaged one where it is.
    fn list_of(&self, list: Digest) -> std::io::Result<Vec<Digest>> {
        let bytes = fs::read(&*self.fs, &self.objects.path(list), LIST_LIMIT)?;
        if Digest::of(&bytes) != list {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let digests = bytes.as_chunks::<32>().0;
        Ok(digests.iter().map(|bytes| Digest(*bytes)).collect())
    }
}

impl Survey {
    /// First pass: what the roots are made of.
    fn meet(&mut self, at: At, record: Record, newest: &mut HashMap<(StageName, Part), Digest>) {
        match record {
            Record::Action(action) => {
                let failed = matches!(action.outcome, Outcome::Failed { .. });
                let item = item_of(&action);
                if failed || self.failures.contains_key(&item) {
                    self.failures.insert(item, at);
                }
                if let (Outcome::Done(artifact), false) =
                    (&action.outcome, action.settings.part == Part::Item)
                {
                    let name = StageName {
                        pipeline: action.origin.pipeline.clone(),
                        stage: action.settings.stage.clone(),
                    };
                    newest.insert((name, action.settings.part), artifact.digest);
                }
            }
            Record::Run(run) => {
                let known = self.runs.get(&run.origin.run);
                if run.has_ended() || known.is_none() {
                    self.runs.insert(run.origin.run, run);
                }
            }
            Record::Pin(pin) => {
                self.pins.insert(pin.run, pin);
            }
            Record::Interim(interim) => {
                let name = StageName {
                    pipeline: interim.origin.pipeline.clone(),
                    stage: interim.stage.clone(),
                };
                self.interims
                    .insert(name, (interim.at, interim.artifact.digest));
            }
        }
    }

    /// Second pass: what the roots reach.
    fn mark(&mut self, at: At, record: &Record) {
        let level = self.level(at, record);
        match record {
            Record::Action(action) => {
                let owner = self.owner(&action.origin.pipeline, &action.settings.stage);
                if let Outcome::Done(artifact) = &action.outcome {
                    for entry in artifact.tree().0.values() {
                        self.reach(entry.digest, level, owner);
                    }
                }
                for file in files_of(&action.settings.params) {
                    self.reach(file, level, Owner::None);
                }
            }
            Record::Interim(interim) => {
                let owner = self.owner(&interim.origin.pipeline, &interim.stage);
                for entry in interim.artifact.tree().0.values() {
                    self.reach(entry.digest, level, owner);
                }
            }
            Record::Run(run) => {
                for list in run.stages.iter().filter_map(|stage| stage.artifacts) {
                    self.reach(list, level, Owner::None);
                }
            }
            Record::Pin(_) => {}
        }
    }

    fn owner(&mut self, pipeline: &str, stage: &str) -> Owner {
        let name = StageName {
            pipeline: pipeline.to_owned(),
            stage: stage.to_owned(),
        };
        if let Some(number) = self.stage_numbers.get(&name) {
            return Owner::Stage(*number);
        }
        let number = u32::try_from(self.stages.len()).unwrap_or(u32::MAX);
        self.stages.push(name.clone());
        self.stage_numbers.insert(name, number);
        Owner::Stage(number)
    }

    fn reach(&mut self, object: Digest, level: u32, owner: Owner) {
        let level = if self.holds(object) { ALWAYS } else { level };
        let mark = self.objects.entry(object).or_insert(Mark { level, owner });
        mark.level = mark.level.min(level);
        mark.owner = match (mark.owner, owner) {
            (known, Owner::None) => known,
            (Owner::None, new) => new,
            (known, new) if known == new => known,
            _ => Owner::Several,
        };
    }

    /// Whether a living process uses it.
    pub(crate) fn holds(&self, digest: Digest) -> bool {
        self.roots
            .as_ref()
            .is_some_and(|r| r.held.contains(&digest))
    }

    /// For whose sake a record is kept.
    fn level(&self, at: At, record: &Record) -> u32 {
        let Some(roots) = &self.roots else {
            return DEAD;
        };
        match record {
            Record::Action(action) => {
                let until = self.until.get(&action.origin.pipeline).copied();
                if roots.young.contains(&action.at)
                    || until.is_some_and(|until| action.at <= until)
                    || roots.held.contains(&action.key)
                {
                    return ALWAYS;
                }
                let of_run = self.level_of_run(action.origin.run);
                match &action.outcome {
                    Outcome::Done(artifact) => of_run.min(self.level_of_artifact(artifact.digest)),
                    // It costs little and spares a second try, as long as nothing came after it.
                    Outcome::Failed { .. } if self.is_newest_failure(at, action) => ALWAYS,
                    Outcome::Failed { .. } => of_run,
                }
            }
            Record::Interim(interim) => {
                if roots.young.contains(&interim.at) {
                    return ALWAYS;
                }
                let artifact = self.level_of_artifact(interim.artifact.digest);
                // The states on the way of a run that is under way.
                if roots.held.contains(&run_digest(interim.origin.run)) {
                    return ALWAYS;
                }
                artifact
            }
            Record::Run(run) => self.level_of_run(run.origin.run),
            Record::Pin(pin) => self.level_of_run(pin.run),
        }
    }

    pub(crate) fn level_of_run(&self, run: Ulid) -> u32 {
        if self.holds(run_digest(run)) {
            return ALWAYS;
        }
        self.run_levels.get(&run).copied().unwrap_or(DEAD)
    }

    fn level_of_artifact(&self, artifact: Digest) -> u32 {
        if self.holds(artifact) {
            return ALWAYS;
        }
        self.artifacts.get(&artifact).copied().unwrap_or(DEAD)
    }

    fn is_newest_failure(&self, at: At, action: &ActionRecord) -> bool {
        let pipeline = &action.origin.pipeline;
        let root = |run: &Ulid| {
            let run = self.runs.get(run);
            run.is_some_and(|run| run.origin.pipeline == *pipeline)
        };
        self.failures.get(&item_of(action)) == Some(&at) && self.run_levels.keys().any(root)
    }

    /// What becomes of a record when all above `cut` goes. A run that goes stays as history.
    pub(crate) fn fate(&self, at: At, record: &Record, cut: u32) -> Fate {
        let kept = self.level(at, record) <= cut;
        match record {
            Record::Run(run) => {
                let ended = self.runs.get(&run.origin.run);
                if ended.is_some_and(|known| known.has_ended() && !run.has_ended()) {
                    return Fate::Drop;
                }
                if kept || run.collected {
                    return Fate::Keep;
                }
                let mut history = run.clone();
                history.collected = true;
                for stage in &mut history.stages {
                    stage.artifacts = None;
                }
                Fate::Change(Record::Run(history))
            }
            Record::Pin(pin) if self.pins.get(&pin.run) == Some(pin) && pin.pinned => Fate::Keep,
            Record::Pin(_) => Fate::Drop,
            _ if kept => Fate::Keep,
            _ => Fate::Drop,
        }
    }

    /// Whether a run of a pipeline (of any, if it is not known) is kept that began before `time`,
    /// in nanoseconds since 1970: it may have used what was touched then.
    pub(crate) fn has_kept_since(&self, pipeline: &str, cut: u32, time: Nanos) -> bool {
        let millis = u64::try_from(time / 1_000_000).unwrap_or(0);
        self.runs.values().any(|run| {
            run.started <= millis
                && self.level_of_run(run.origin.run) <= cut
                && (pipeline.is_empty() || run.origin.pipeline == pipeline)
        })
    }
}

/// Names an item of a stage's part.
fn item_of(action: &ActionRecord) -> Digest {
    let mut hasher = stage_core::KeyHasher::new("pipeline item 1");
    hasher
        .field(action.origin.pipeline.as_bytes())
        .field(action.settings.stage.as_bytes())
        .field(action.settings.part.name().as_bytes())
        .field(action.item.as_bytes());
    hasher.finish()
}

/// The files that parameters name, which stand there by digest.
fn files_of(params: &str) -> Vec<Digest> {
    if !params.contains("\"file\"") {
        return Vec::new();
    }
    let Ok(serde_json::Value::Object(params)) = serde_json::from_str(params) else {
        return Vec::new();
    };
    let files = params.values().filter_map(|value| value.get("file"));
    files
        .filter_map(|file| file.as_str()?.parse().ok())
        .collect()
}
