//! From files to actions, their keys and what the cache holds of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use stage_core::{Cancel, Digest, Entry, FailureClass, Part};

use super::demand::Demand;
use super::gather::{BesideItems, Gathered, Readiness};
use super::sources::Sources;
use super::{Failure, Node, NodeIndex, Session, State};
use crate::config::NodeId;
use crate::error::EngineError;
use crate::key::{KeyBase, key_params, params_without};
use crate::store::{
    ActionResult, Artifact, HashOptions, Outcome, StageSettings, StatSig, StoreError, hash_file,
};

impl Session<'_> {
    /// Puts the files that parameters name into the store.
    pub(super) fn file_params(
        &mut self,
        sources: &mut Sources,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        for ((stage, key), (path, seen)) in std::mem::take(&mut sources.params) {
            let object =
                self.adopt_file(&path, seen, cancel)
                    .map_err(|source| EngineError::FileParam {
                        stage: self.graph().stages[stage].name.clone(),
                        key: key.to_owned(),
                        source,
                    })?;
            let files = self.files.entry(stage).or_default();
            files.insert(key.to_owned(), object);
        }
        Ok(())
    }

    /// Copies a file into the store, unless it is there.
    fn adopt_file(
        &mut self,
        path: &Path,
        seen: Result<StatSig, StoreError>,
        cancel: &Cancel,
    ) -> Result<(Digest, PathBuf), StoreError> {
        let store = &self.project.store;
        let options = HashOptions {
            paranoid: self.request.paranoid,
            cancel,
            on_bytes: &|_| {},
        };
        let seen = [seen];
        if self.request.quick
            && let [Some(digest)] = store.known_digests(&seen)[..]
        {
            return Ok((digest, path.to_owned()));
        }
        let sig = seen[0].as_ref().ok().copied();
        let mut hashed = store.digest_seen(&[path], seen.into(), &options);
        let hashed = hashed.pop().unwrap_or(Err(StoreError::Cancelled))?;
        if !hashed.vouched || sig != Some(hashed.sig) {
            self.state = None;
        }
        if self.request.quick {
            return Ok((hashed.digest, path.to_owned()));
        }
        let entry = Entry {
            digest: hashed.digest,
            size: hashed.sig.size,
            self_checked: false,
        };
        match store.checked_path(&entry) {
            Ok(object) => return Ok((hashed.digest, object)),
            Err(error) if error.lost_object().is_some() => {}
            Err(error) => return Err(error),
        }
        let dir = store.tmp_dir()?;
        let copy = dir.path().join("file");
        self.project
            .fs
            .copy(path, &copy)
            .map_err(|source| StoreError::Io {
                doing: "copy",
                path: path.to_owned(),
                source,
            })?;
        // What only some may read stays so in the cache.
        let fs = &*self.project.fs;
        let private = fs.stat(path).and_then(|source| {
            let mode = fs.stat(&copy)?.mode;
            fs.set_mode(&copy, mode & source.mode)
        });
        private.map_err(|source| StoreError::Io {
            doing: "copy",
            path: path.to_owned(),
            source,
        })?;
        let copied = hash_file(&*self.project.fs, &copy, &options)?;
        if copied.digest != hashed.digest {
            return Err(StoreError::FileChanged {
                path: path.to_owned(),
            });
        }
        store.import_file(&copy, hashed.digest, hashed.sig.size)?;
        Ok((hashed.digest, store.checked_path(&entry)?))
    }

    pub(super) fn file_digests(&self, stage: usize) -> BTreeMap<String, Digest> {
        let files = self.files.get(&stage).into_iter().flatten();
        files
            .map(|(key, (digest, _))| (key.clone(), *digest))
            .collect()
    }

    pub(super) fn key_bases(&mut self, demand: &Demand) {
        let mut wanted: Vec<(usize, Part)> = Vec::new();
        wanted.extend(demand.items.iter().map(|(stage, _)| (*stage, Part::Item)));
        wanted.extend(demand.wholes.iter().map(|stage| (*stage, Part::Whole)));
        wanted.extend(demand.finishes.iter().map(|stage| (*stage, Part::Finish)));
        wanted.dedup();
        for (stage, part) in wanted {
            let def = &self.graph().stages[stage];
            let params = key_params(def, part, &self.file_digests(stage));
            let settings = StageSettings {
                stage: def.name.clone(),
                kind: def.kind.to_owned(),
                version: def.version,
                part,
                params: params.clone(),
            };
            let base = KeyBase::new(def, part, &params);
            self.bases.insert((stage, part), (base, Arc::new(settings)));
        }
    }

    /// Makes the actions, in the order of the graph, and settles what the cache can settle.
    pub(super) fn resolve(&mut self, demand: &Demand) -> Result<(), EngineError> {
        for stage in 0..self.graph().stages.len() {
            let sources: Vec<usize> = demand
                .items
                .iter()
                .filter(|(s, _)| *s == stage)
                .map(|(_, source)| *source)
                .collect();
            if !sources.is_empty() {
                self.refresh_beside_items(stage);
            }
            for source in sources {
                self.nodes
                    .reserve(self.sources.get(&source).map_or(0, Vec::len));
                let made = self.item_nodes(stage, source);
                self.settle_items(&made)?;
                self.items.insert((stage, source), made);
            }
            if demand.wholes.contains(&stage) {
                let index = self.add(stage, Part::Whole, 0, Vec::new(), None);
                self.wholes.insert(stage, index);
                self.settle_whole(index)?;
            }
            if demand.finishes.contains(&stage) {
                let index = self.add(stage, Part::Finish, 0, Vec::new(), None);
                self.finishes.insert(stage, index);
                self.settle_whole(index)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        stage: usize,
        part: Part,
        source: usize,
        files: Vec<u32>,
        upstream: Option<NodeIndex>,
    ) -> NodeIndex {
        self.nodes.push(Node {
            stage,
            part,
            source,
            files,
            upstream,
            state: State::Waiting,
            key: None,
            artifact: None,
            identity: Digest([0; 32]),
            seconds: 0.0,
            bytes: 0,
            again: self
                .request
                .force
                .contains(&self.graph().stages[stage].name),
        });
        self.nodes.len() - 1
    }

    fn item_nodes(&mut self, stage: usize, source: usize) -> Vec<NodeIndex> {
        let graph = &self.project.config.graph;
        let def = &graph.stages[stage];
        let inputs = def.item_port().and_then(|port| def.inputs.get(port));
        let mut made = Vec::new();
        for input in inputs.into_iter().flatten() {
            if input.only.is_some_and(|only| only != source) {
                continue;
            }
            match input.node {
                NodeId::Source(index) if index == source => {
                    self.intake_nodes(stage, source, &mut made);
                }
                NodeId::Source(_) => {}
                NodeId::Stage(index) => {
                    let upstream = self
                        .items
                        .get(&(index, source))
                        .cloned()
                        .unwrap_or_default();
                    for above in upstream {
                        let files = self.nodes[above].files.clone();
                        made.push(self.add(stage, Part::Item, source, files, Some(above)));
                    }
                }
            }
        }
        made
    }

    /// One action per distinct content of the files that the stage takes.
    fn intake_nodes(&mut self, stage: usize, source: usize, made: &mut Vec<NodeIndex>) {
        let graph = &self.project.config.graph;
        let takes = |extension: &str| graph.stages[stage].stage.takes(extension);
        let mut by_content: HashMap<Digest, NodeIndex> = HashMap::new();
        let mut wanted = Vec::new();
        for (index, file) in self.sources.get(&source).into_iter().flatten().enumerate() {
            if takes(&file.found.extension) && (file.digest.is_some() || file.unread) {
                wanted.push((u32::try_from(index).unwrap_or(u32::MAX), file.digest));
            }
        }
        for (file, digest) in wanted {
            let Some(digest) = digest else {
                // What is in it is not known yet: it has an action, but no key.
                let node = self.add(stage, Part::Item, source, vec![file], None);
                self.nodes[node].state = State::Stale;
                made.push(node);
                continue;
            };
            if let Some(node) = by_content.get(&digest) {
                self.nodes[*node].files.push(file);
                continue;
            }
            let node = self.add(stage, Part::Item, source, vec![file], None);
            self.nodes[node].identity = digest;
            by_content.insert(digest, node);
            made.push(node);
        }
    }

    /// Digest of what an item action maps, if it is known.
    pub(crate) fn item_input(&self, node: &Node) -> Option<Digest> {
        match node.upstream {
            Some(above) => self.nodes[above].artifact.as_ref().map(|a| a.digest),
            None => {
                let file = self
                    .sources
                    .get(&node.source)?
                    .get(*node.files.first()? as usize)?;
                file.digest
            }
        }
    }

    fn settle_items(&mut self, nodes: &[NodeIndex]) -> Result<(), EngineError> {
        // Side by side, as they may be many.
        let hashed: Vec<_> = nodes
            .par_iter()
            .with_min_len(256)
            .map(|index| self.hash_item(&self.nodes[*index]))
            .collect();
        let mut keys = Vec::with_capacity(nodes.len());
        let mut keyed = Vec::with_capacity(nodes.len());
        for (index, key) in nodes.iter().zip(hashed) {
            if let Some(key) = self.give_key(*index, key) {
                keys.push(key);
                keyed.push(*index);
            }
        }
        let results = self.project.store.lookup_many(&keys)?;
        for (index, result) in keyed.into_iter().zip(results) {
            self.settle(index, result);
        }
        Ok(())
    }

    /// Computes the key of an item action whose input is settled; blocks it when that failed.
    pub(crate) fn key_item(&mut self, index: NodeIndex) -> Option<Digest> {
        let key = self.hash_item(&self.nodes[index]);
        self.give_key(index, key)
    }

    /// The key of an item action whose inputs are known.
    pub(crate) fn hash_item(&self, node: &Node) -> Option<Digest> {
        let base = match self.beside_items.get(&node.stage) {
            None => &self.bases.get(&(node.stage, Part::Item))?.0,
            Some(BesideItems::Ready { base, .. }) => base,
            Some(_) => return None,
        };
        Some(base.item(self.item_input(node)?))
    }

    fn give_key(&mut self, index: NodeIndex, key: Option<Digest>) -> Option<Digest> {
        let node = &self.nodes[index];
        if let Some(above) = node.upstream {
            match &self.nodes[above].state {
                State::Failed(_) | State::Blocked(_) => {
                    let stage = &self.graph().stages[self.nodes[above].stage].name;
                    self.nodes[index].state = State::Blocked(format!("`{stage}` failed"));
                    return None;
                }
                state if !state.is_done() => return None,
                _ => {}
            }
        }
        if let Some(BesideItems::Blocked(reason)) = self.beside_items.get(&node.stage) {
            let reason = reason.clone();
            self.nodes[index].state = State::Blocked(reason);
            return None;
        }
        let key = key?;
        let identity = node.upstream.map(|above| self.nodes[above].identity);
        let node = &mut self.nodes[index];
        node.key = Some(key);
        if let Some(identity) = identity {
            node.identity = identity;
        }
        Some(key)
    }

    /// Takes over what the cache says of an action whose key is known.
    pub(crate) fn settle(&mut self, index: NodeIndex, result: Option<ActionResult>) {
        let retry = self.request.retry_failed;
        let version = &self.project.version;
        let node = &mut self.nodes[index];
        node.state = State::Stale;
        if node.again {
            return;
        }
        let Some(result) = result else { return };
        match result.outcome {
            Outcome::Done(artifact) => {
                node.seconds = result.seconds;
                node.bytes = result.bytes;
                self.take_artifact(index, artifact, State::Fresh);
            }
            Outcome::Failed { reason, program } if !retry && program == *version => {
                node.state = State::Failed(Failure {
                    reason,
                    class: FailureClass::Content,
                    remembered: true,
                });
            }
            Outcome::Failed { .. } => {}
        }
    }

    /// Gives an action its artifact.
    pub(crate) fn take_artifact(&mut self, index: NodeIndex, artifact: Artifact, state: State) {
        let node = &mut self.nodes[index];
        // Only a stage that reads source files says what an item is.
        if node.part == Part::Item
            && node.upstream.is_none()
            && let Some(identity) = artifact.identity()
        {
            node.identity = identity;
        }
        node.artifact = Some(artifact);
        node.state = state;
    }

    /// Settles a whole or finish part as far as its inputs allow.
    pub(crate) fn settle_whole(&mut self, index: NodeIndex) -> Result<(), EngineError> {
        match self.gather(index)? {
            Readiness::Waiting => {}
            Readiness::Blocked(reason) => self.nodes[index].state = State::Blocked(reason),
            Readiness::Ready(gathered) => {
                let (key, result) = self.key_whole(index, &gathered)?;
                self.nodes[index].key = Some(key);
                self.settle(index, result);
            }
        }
        Ok(())
    }

    /// The key of a whole or finish part, and what the cache holds of it.
    pub(crate) fn key_whole(
        &self,
        index: NodeIndex,
        gathered: &Gathered,
    ) -> Result<(Digest, Option<ActionResult>), EngineError> {
        let node = &self.nodes[index];
        let (base, _) = &self.bases[&(node.stage, node.part)];
        let base = gathered.base(base);
        let key = base.whole(&gathered.members, gathered.previous);
        let mut results = self.project.store.lookup_many(&[key])?;
        Ok((key, results.pop().flatten()))
    }

    /// Key of the scratch folder of a whole or finish part: the action's key without the
    /// parameters that only say how long to go on.
    pub(crate) fn scratch_key(&self, index: NodeIndex, gathered: &Gathered) -> Digest {
        let node = &self.nodes[index];
        let def = &self.graph().stages[node.stage];
        let mut unread = def.stage.unread_by(node.part).to_vec();
        unread.extend(def.stage.budget_keys());
        let (base, _) = &self.bases[&(node.stage, node.part)];
        let params = params_without(def, &self.file_digests(node.stage), &unread);
        let base = gathered.base(&base.with_params(def, &params));
        base.whole(&gathered.members, gathered.previous)
    }

    /// The artifact `digest` of a stage's whole part, if it is its last finished one.
    pub(crate) fn last_artifact(
        &self,
        stage: usize,
        digest: Digest,
    ) -> Result<Option<Artifact>, EngineError> {
        let name = &self.graph().stages[stage].name;
        let store = &self.project.store;
        let done = store.last_done(&self.project.name, name, Part::Whole, "")?;
        Ok(done
            .map(|(_, artifact)| artifact)
            .filter(|a| a.digest == digest))
    }
}
