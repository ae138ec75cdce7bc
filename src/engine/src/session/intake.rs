//! What is in the sources, and which files are for which stage.

use std::collections::{BTreeMap, HashMap};

use stage_core::{Cancel, Digest, FailureClass};

use super::demand::Demand;
use super::{Session, State};
use crate::config::{Graph, NodeId};
use crate::error::EngineError;
use crate::scan::{Found, scan};
use crate::store::{HashOptions, StatSig, StoreError};

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
#[derive(Debug, Clone, PartialEq)]
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
    /// Lists and hashes the demanded sources.
    pub(super) fn take_in(&mut self, demand: &Demand, cancel: &Cancel) -> Result<(), EngineError> {
        let graph = &self.project.config.graph;
        let mut sources: Vec<usize> = demand.items.iter().map(|(_, source)| *source).collect();
        sources.sort_unstable();
        sources.dedup();
        for index in sources {
            let source = &graph.sources[index];
            let root = match self.request.bindings.get(&source.name) {
                // Paths on the command line start from where the user stands.
                Some(path) => path.clone(),
                None => match &source.path {
                    Some(path) => self.project.config.root.join(path),
                    None => continue,
                },
            };
            let found = scan(&*self.project.fs, source, &root)?;
            let stages = intake_stages(graph, demand, index);
            let mut files: Vec<SourceFile> = found
                .into_iter()
                .map(|found| {
                    let takes = |stage: &usize| graph.stages[*stage].stage.takes(&found.extension);
                    // Work without the files of a folder that cannot be listed would pass for
                    // work on all of them.
                    let taken = found.hides_files || stages.iter().any(takes);
                    SourceFile {
                        failed: found.unusable.clone().filter(|_| taken),
                        digest: None,
                        sig: None,
                        unread: false,
                        taken,
                        duplicate_of: None,
                        found,
                    }
                })
                .collect();
            self.hash(&mut files, cancel)?;
            self.sources.insert(index, files);
        }
        Ok(())
    }

    fn hash(&self, files: &mut [SourceFile], cancel: &Cancel) -> Result<(), EngineError> {
        let wanted: Vec<usize> = (0..files.len())
            .filter(|i| files[*i].taken && files[*i].found.unusable.is_none())
            .collect();
        let paths: Vec<_> = wanted
            .iter()
            .map(|i| files[*i].found.path.clone())
            .collect();
        let options = HashOptions {
            paranoid: self.request.paranoid,
            cancel,
            on_bytes: &|_| {},
        };
        let store = &self.project.store;
        let digests: Vec<_> = if self.request.quick {
            store.known_digests(&paths)
        } else {
            let read = store.digest_many(&paths, &options).into_iter();
            read.map(|file| file.map(|file| (file.sig, Some(file.digest))))
                .collect()
        };
        let mut first: HashMap<(Digest, String), u32> = HashMap::new();
        for (index, digest) in wanted.into_iter().zip(digests) {
            let file = &mut files[index];
            match digest {
                Ok((_, None)) => file.unread = true,
                Ok((sig, Some(digest))) => {
                    file.digest = Some(digest);
                    file.sig = Some(sig);
                    let own = u32::try_from(index).unwrap_or(u32::MAX);
                    let key = (digest, file.found.extension.clone());
                    let before = *first.entry(key).or_insert(own);
                    file.duplicate_of = (before != own).then_some(before);
                }
                Err(StoreError::Cancelled) => return Err(StoreError::Cancelled.into()),
                Err(error) => file.failed = Some(crate::error::chain(&error)),
            }
        }
        Ok(())
    }

    /// What became of every file: source → (name, status), in the order of names.
    pub fn intake(&self) -> BTreeMap<String, Vec<(String, FileStatus)>> {
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
            let names = files.iter().map(|file| file.found.name.clone());
            let name = self.graph().sources[*source].name.clone();
            reports.insert(name, names.zip(worst).collect());
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
