//! A graph over today's files: which actions there are, and which of them are stale.
//!
//! [`Session::prepare`] walks the demanded part of the graph from the sources to the targets,
//! hashes what the stat cache does not vouch for, computes the keys that can be known and looks
//! them up. What it cannot know before work is done waits: if an action gives the bytes that it
//! gave before, what follows it is found in the cache after all (early cut-off).

mod demand;
mod gather;
mod intake;
mod outputs;
mod resolve;
mod sources;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use stage_core::{Cancel, DeviceChoice, Digest, FailureClass, Part, Registry};

pub use demand::LeftOut;
pub(crate) use gather::{BesideItems, Gathered, PREVIOUS, Readiness, Upstream};
pub use intake::{FileStatus, Intake, SourceFile};
pub use sources::Sources;

use crate::config::{Config, Graph};
use crate::error::EngineError;
use crate::fs::Fs;
use crate::key::KeyBase;
use crate::process::{Program, Worker};
use crate::store::{Artifact, StageSettings, Store};

/// Everything that stays the same from run to run.
pub struct Project {
    /// The graph.
    pub config: Config,
    /// Name of the pipeline, so that a cache can serve several: the path of its file.
    pub name: String,
    /// The cache.
    pub store: Store,
    /// The seam to the disk.
    pub fs: Arc<dyn Fs>,
    /// The kinds that this program does itself.
    pub registry: Registry,
    /// How `pipeline worker` is started.
    pub worker: Program,
    /// Folder of the other executables.
    pub programs: PathBuf,
    /// Version of this program.
    pub version: String,
}

impl std::fmt::Debug for Project {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Project")
            .field("name", &self.name)
            .field("store", &self.store.root())
            .finish_non_exhaustive()
    }
}

/// What is asked of a run.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names of stages; empty for every stage whose sources are bound.
    pub targets: Vec<String>,
    /// Sources bound on the command line.
    pub bindings: BTreeMap<String, PathBuf>,
    /// Artifacts that stand in for what is connected to a port: (stage, port) → artifact.
    pub artifacts: BTreeMap<(String, String), Artifact>,
    /// Stages to execute although they are fresh.
    pub force: BTreeSet<String>,
    /// Whether remembered failures are tried again.
    pub retry_failed: bool,
    /// Whether every byte of the sources is hashed anew.
    pub paranoid: bool,
    /// Whether nothing more is started after the first failure.
    pub fail_fast: bool,
    /// The keys of the actions that are done, if not all that are stale are to be done.
    pub only: Option<BTreeSet<Digest>>,
    /// Whether files whose content is not known yet stay unread: their actions count as stale.
    pub quick: bool,
    /// Number of actions at a time, at most [`crate::threads::MAX_JOBS`]; 0 for one per core.
    pub jobs: usize,
    /// Whether the run begins although the disk is expected not to hold what it writes.
    pub ignore_space: bool,
    /// Device of the stages that compute on one.
    pub device: DeviceChoice,
    /// The command line, for the history.
    pub command: String,
    /// Where `runs/<id>` of this run goes; `None` for nowhere.
    pub runs_dir: Option<PathBuf>,
    /// Folders that hold nothing but results. Sources leave them out.
    pub results: Vec<PathBuf>,
    /// File or folder that the user named for results. It must not be in a source.
    pub out: Option<PathBuf>,
}

/// Index of an action in a session.
pub(crate) type NodeIndex = usize;

/// Why an action has no artifact.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The reason, on one line.
    pub reason: String,
    /// Its class.
    pub class: FailureClass,
    /// Whether it was found in the cache, not met in this run.
    pub remembered: bool,
}

/// Where an action stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Its inputs are not known yet.
    Waiting,
    /// Its key is known and not in the cache.
    Stale,
    /// It is being done.
    Running,
    /// Found in the cache.
    Fresh,
    /// Done in this run.
    Executed,
    /// It failed.
    Failed(Failure),
    /// Something that it needs failed; says what.
    Blocked(String),
}

impl State {
    /// Whether it has an artifact.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Fresh | Self::Executed)
    }

    /// Whether nothing will change it any more.
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Stale | Self::Running)
    }
}

/// An action.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) stage: usize,
    pub(crate) part: Part,
    /// For an item: its source, and the files that have its content, the first by name first.
    pub(crate) source: usize,
    pub(crate) files: Vec<u32>,
    /// For an item: the action whose artifact it maps; `None` at a source.
    pub(crate) upstream: Option<NodeIndex>,
    pub(crate) state: State,
    pub(crate) key: Option<Digest>,
    pub(crate) artifact: Option<Artifact>,
    /// What the item is, whatever the parameters (see [`stage_core::Tree::identity`]).
    pub(crate) identity: Digest,
    /// Seconds that it took, now or when it was cached.
    pub(crate) seconds: f64,
    /// Bytes that it read, likewise.
    pub(crate) bytes: u64,
    /// Must be executed although its key is known: forced, or its artifact was lost.
    pub(crate) again: bool,
}

/// An item of a stage.
#[derive(Debug, Clone, Copy)]
pub struct Item<'s> {
    /// Name of its source.
    pub source: &'s str,
    /// Its path in the source.
    pub name: &'s str,
    /// Where its action stands.
    pub state: &'s State,
    /// What its action gave, if it is done.
    pub artifact: Option<&'s Artifact>,
}

/// The items of one stage and source.
type ItemSets = HashMap<(usize, usize), Vec<NodeIndex>>;

/// A prepared run.
#[derive(Debug)]
pub struct Session<'a> {
    pub(crate) project: &'a Project,
    pub(crate) request: Request,
    /// Source → its files, for those that are demanded and bound.
    pub(crate) sources: BTreeMap<usize, Vec<SourceFile>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) items: ItemSets,
    pub(crate) wholes: BTreeMap<usize, NodeIndex>,
    pub(crate) finishes: BTreeMap<usize, NodeIndex>,
    /// (stage, part) → what its keys have in common.
    pub(crate) bases: BTreeMap<(usize, Part), (KeyBase, Arc<StageSettings>)>,
    /// Stage → what its items are mapped with, for those that are not mapped alone.
    pub(crate) beside_items: BTreeMap<usize, BesideItems>,
    /// Stage → file parameter → object.
    pub(crate) files: BTreeMap<usize, BTreeMap<String, (Digest, PathBuf)>>,
    /// Stages that a bare run left out.
    pub left_out: Vec<LeftOut>,
    /// Artifacts that stand in for ports, by stage index and port.
    pub(crate) stand_ins: BTreeMap<(usize, String), Artifact>,
    /// See [`Sources::expect_work`].
    pub(crate) spare: Option<Worker>,
    /// What [`Store::generation`] said before anything was looked up.
    generation: u64,
    /// Digest of the sources as they were seen, if that vouches for the digests of their files.
    pub(crate) state: Option<Digest>,
    /// Digest of the commits that were known before anything was looked up.
    pub(crate) commits: Digest,
}

impl<'a> Session<'a> {
    /// The graph.
    pub fn graph(&self) -> &'a Graph {
        &self.project.config.graph
    }

    /// Finds out which actions there are and which are stale. Changes nothing but the stat cache
    /// and, for file parameters, adds their content to the store.
    ///
    /// # Errors
    /// Unknown targets, unbound or unreadable sources, a store that does not work.
    pub fn prepare(
        project: &'a Project,
        request: Request,
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let sources = Sources::list(project, &request)?;
        Self::of(project, request, sources, cancel)
    }

    /// As [`Session::prepare`], of `sources` that were listed for this request a moment ago.
    ///
    /// # Errors
    /// As [`Session::prepare`].
    pub fn of(
        project: &'a Project,
        request: Request,
        mut sources: Sources,
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let files = sources.files(project, &request, cancel)?;
        let mut session = Self {
            generation: sources.generation,
            project,
            request,
            sources: files,
            nodes: Vec::new(),
            items: HashMap::new(),
            wholes: BTreeMap::new(),
            finishes: BTreeMap::new(),
            bases: BTreeMap::new(),
            beside_items: BTreeMap::new(),
            files: BTreeMap::new(),
            left_out: sources.demand.left_out.clone(),
            stand_ins: sources.demand.stand_ins.clone(),
            spare: sources.spare.take(),
            state: sources.state,
            commits: sources.commits,
        };
        session.file_params(&mut sources, cancel)?;
        session.key_bases(&sources.demand);
        session.resolve(&sources.demand)?;
        Ok(session)
    }

    /// Keeps what was found in the cache from collection while this process lives. If a collection
    /// withdrew some of it since it was found, it is looked up again first.
    ///
    /// # Errors
    /// As [`Session::prepare`]; the cache is read-only.
    pub fn hold(&mut self, cancel: &Cancel) -> Result<(), EngineError> {
        loop {
            let artifacts = self.nodes.iter().filter_map(|node| node.artifact.as_ref());
            let stand_ins = self.stand_ins.values();
            let objects = stand_ins
                .clone()
                .flat_map(|artifact| artifact.tree().0.into_values().map(|entry| entry.digest));
            let files = self.files.values().flat_map(BTreeMap::values);
            let digests: Vec<Digest> = artifacts
                .chain(stand_ins)
                .map(|artifact| artifact.digest)
                .chain(objects)
                .chain(files.map(|(digest, _)| *digest))
                .collect();
            if self.project.store.hold(&digests, self.generation)? {
                return Ok(());
            }
            let again = self.request.clone();
            *self = Self::prepare(self.project, again, cancel)?;
        }
    }

    /// All actions of a stage: its items by source, its whole part, its finish part.
    pub(crate) fn nodes_of(&self, stage: usize) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.stage == stage)
    }

    /// Name for people: the path of an item, nothing for the other parts.
    pub(crate) fn item_name(&self, node: &Node) -> &str {
        if node.part != Part::Item {
            return "";
        }
        node.files
            .first()
            .and_then(|file| self.sources.get(&node.source)?.get(*file as usize))
            .map_or("", |file| file.found.name.as_str())
    }

    /// How many actions of each stage there are in each state, in the order of the graph; stages
    /// that are not demanded are not listed.
    pub fn counts(&self) -> Vec<(&'a str, BTreeMap<&'static str, u64>)> {
        let mut counts: BTreeMap<usize, BTreeMap<&'static str, u64>> = BTreeMap::new();
        for node in &self.nodes {
            let name = match node.state {
                State::Fresh | State::Executed => "fresh",
                State::Stale | State::Waiting | State::Running => "stale",
                State::Failed(_) => "failed",
                State::Blocked(_) => "blocked",
            };
            *counts
                .entry(node.stage)
                .or_default()
                .entry(name)
                .or_default() += 1;
        }
        let stages = &self.project.config.graph.stages;
        counts
            .into_iter()
            .map(|(stage, counts)| (stages[stage].name.as_str(), counts))
            .collect()
    }

    /// The resolved parameters of a stage.
    pub fn params(&self, stage: &str) -> Option<&serde_json::Value> {
        let index = self.graph().stage(stage)?;
        Some(&self.graph().stages[index].params)
    }

    /// The name of the item that is `identity`; of several the first.
    pub fn item_named(&self, identity: Digest) -> Option<&str> {
        let items = self.nodes.iter().filter(|node| node.part == Part::Item);
        let mut named = items.filter(|node| node.identity == identity);
        named.next().map(|node| self.item_name(node))
    }

    /// The digests of what a stage's whole part was given, by port.
    pub fn inputs_of(&self, stage: &str) -> BTreeMap<String, Vec<Digest>> {
        let index = self.graph().stage(stage);
        let node = index.and_then(|index| self.wholes.get(&index));
        let gathered = node.and_then(|node| self.gather(*node).ok());
        let Some(Readiness::Ready(gathered)) = gathered else {
            return BTreeMap::new();
        };
        gathered.digests()
    }

    /// The artifact of a target: of its finish part, else of its whole part.
    pub fn artifact(&self, stage: &str) -> Option<&Artifact> {
        let index = self.graph().stage(stage)?;
        let node = self
            .finishes
            .get(&index)
            .or_else(|| self.wholes.get(&index))?;
        self.nodes[*node].artifact.as_ref()
    }

    /// The items of a stage, sorted by source and name. Files of the same content are an item each.
    pub fn items_of(&self, stage: &str) -> Vec<Item<'_>> {
        let Some(index) = self.graph().stage(stage) else {
            return Vec::new();
        };
        let nodes = self.nodes_of(index).filter(|node| node.part == Part::Item);
        let mut list: Vec<_> = nodes
            .flat_map(|node| {
                let source = self.graph().sources[node.source].name.as_str();
                let files = &self.sources[&node.source];
                node.files.iter().map(move |file| Item {
                    source,
                    name: files[*file as usize].found.name.as_str(),
                    state: &node.state,
                    artifact: node.artifact.as_ref(),
                })
            })
            .collect();
        list.sort_by_key(|item| (item.source, item.name));
        list
    }
}
