//! What is in the sources, and which files are for which stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stage_core::{Digest, FailureClass};

use super::demand::Demand;
use super::{Session, State};
use crate::config::{Graph, NodeId};
use crate::scan::Found;
use crate::store::StatSig;

/// A file of a source.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// What was found.
    pub found: Found,
    /// Digest of its content, if a stage takes it and it could be read.
    pub digest: Option<Digest>,
    /// The state of the file that has this digest.
    pub(crate) sig: Option<StatSig>,
    /// Why it could not be read.
    pub failed: Option<String>,
    /// Whether it was left unread: see [`Request::quick`](super::Request::quick).
    pub(crate) unread: bool,
    /// Whether a stage takes files of this name.
    pub(crate) taken: bool,
    /// The file of the same content that comes before it.
    pub(crate) duplicate_of: Option<u32>,
}

/// What became of a file, for the intake report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FileStatus {
    /// Its content was worked on in this run.
    Used,
    /// Everything that was asked for was in the cache.
    Cached,
    /// Its content is that of another file.
    Duplicate {
        /// Name of the other.
        of: String,
    },
    /// No stage takes it.
    Ignored,
    /// It is a folder that is not read.
    LeftOut {
        /// Why.
        reason: String,
    },
    /// It cannot be used.
    Failed {
        /// Where: the stage, or nothing when it could not be read at all.
        stage: Option<String>,
        /// Why.
        reason: String,
    },
    /// The run ended before it was reached.
    Pending,
}

/// What became of the files of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    /// How many are [`FileStatus::Used`].
    pub used: u64,
    /// How many are [`FileStatus::Cached`].
    pub cached: u64,
    /// The others, in the order of names.
    pub others: Vec<(String, FileStatus)>,
}

impl Intake {
    /// Number of files.
    pub fn files(&self) -> u64 {
        let is_file = |status: &FileStatus| !matches!(status, FileStatus::LeftOut { .. });
        let others = self.others.iter().filter(|(_, status)| is_file(status));
        self.used + self.cached + others.count() as u64
    }
}

/// The stages that are connected to `source` itself.
pub(super) fn intake_stages(graph: &Graph, demand: &Demand, source: usize) -> Vec<usize> {
    let reads = |stage: &usize| {
        let def = &graph.stages[*stage];
        let inputs = def.item_port().and_then(|port| def.inputs.get(port));
        inputs
            .into_iter()
            .flatten()
            .any(|input| input.node == NodeId::Source(source))
    };
    let stages = demand.items.iter().filter(|(_, s)| *s == source);
    stages.map(|(stage, _)| *stage).filter(reads).collect()
}

impl Session<'_> {
    /// What became of the files of every source.
    pub fn intake(&self) -> BTreeMap<String, Intake> {
        let mut reports = BTreeMap::new();
        for (source, files) in &self.sources {
            let mut worst: Vec<FileStatus> =
                files.iter().map(|f| self.before_work(files, f)).collect();
            for node in self
                .nodes
                .iter()
                .filter(|node| node.part == stage_core::Part::Item)
            {
                if node.source != *source {
                    continue;
                }
                for file in &node.files {
                    let status = &mut worst[*file as usize];
                    match (&node.state, &status) {
                        (State::Failed(failure), _) if failure.class != FailureClass::Cancelled => {
                            *status = FileStatus::Failed {
                                stage: Some(self.graph().stages[node.stage].name.clone()),
                                reason: failure.reason.clone(),
                            };
                        }
                        (State::Executed, FileStatus::Cached) => *status = FileStatus::Used,
                        (state, FileStatus::Cached | FileStatus::Used) if !state.is_settled() => {
                            *status = FileStatus::Pending;
                        }
                        _ => {}
                    }
                }
            }
            let mut intake = Intake::default();
            for (file, status) in files.iter().zip(worst) {
                match status {
                    FileStatus::Used => intake.used += 1,
                    FileStatus::Cached => intake.cached += 1,
                    status => intake.others.push((file.found.name.clone(), status)),
                }
            }
            let name = self.graph().sources[*source].name.clone();
            reports.insert(name, intake);
        }
        reports
    }

    fn before_work(&self, files: &[SourceFile], file: &SourceFile) -> FileStatus {
        if let Some(reason) = &file.failed {
            return FileStatus::Failed {
                stage: None,
                reason: reason.clone(),
            };
        }
        if let Some(reason) = &file.found.left_out {
            return FileStatus::LeftOut {
                reason: reason.clone(),
            };
        }
        if !file.taken {
            return FileStatus::Ignored;
        }
        match file.duplicate_of {
            Some(other) => FileStatus::Duplicate {
                of: files[other as usize].found.name.clone(),
            },
            None => FileStatus::Cached,
        }
    }
}
