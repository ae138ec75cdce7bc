//! From files to actions, their keys and what the cache holds of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stage_core::{Cancel, Digest, Entry, FailureClass, IDENTITY, Part, PortTakes, canonical_json};

use super::demand::Demand;
use super::{Failure, Node, NodeIndex, Session, State};
use crate::config::{InputRef, NodeId, OnBad};
use crate::error::EngineError;
use crate::key::{KeyBase, Member, key_params, params_without, road_params};
use crate::store::{
    ActionResult, Artifact, HashOptions, Outcome, StageSettings, Store, StoreError, hash_file,
};

/// The members of one port, and the actions that they come from, in the same order.
pub(crate) struct Gathered {
    pub(crate) members: BTreeMap<String, Vec<Member>>,
    /// Artifact digest → the action that has it (none for stand-ins).
    pub(crate) makers: HashMap<Digest, NodeIndex>,
    /// The digest of this stage's last finished artifact, if it wants it.
    pub(crate) previous: Option<Digest>,
}

/// Whether a whole part can be done.
pub(crate) enum Readiness {
    Ready(Gathered),
    Waiting,
    Blocked(String),
}

impl Session<'_> {
    /// Puts the files that parameters name into the store.
    pub(super) fn file_params(
        &mut self,
        demand: &Demand,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let mut stages: Vec<usize> = demand.items.iter().map(|(stage, _)| *stage).collect();
        stages.extend(&demand.wholes);
        stages.sort_unstable();
        stages.dedup();
        for stage in stages {
            let def = &self.graph().stages[stage];
            let mut files = BTreeMap::new();
            for (key, param) in def.stage.files() {
                let path = self.project.config.root.join(param.path());
                let object =
                    self.adopt_file(&path, cancel)
                        .map_err(|source| EngineError::FileParam {
                            stage: def.name.clone(),
                            key: key.to_owned(),
                            source,
                        })?;
                files.insert(key.to_owned(), object);
            }
            self.files.insert(stage, files);
        }
        Ok(())
    }

    /// Copies a file into the store, unless it is there.
    fn adopt_file(&self, path: &Path, cancel: &Cancel) -> Result<(Digest, PathBuf), StoreError> {
        let store = &self.project.store;
        let options = HashOptions {
            paranoid: self.request.paranoid,
            cancel,
            on_bytes: &|_| {},
        };
        let paths = [path.to_owned()];
        let known = self
            .request
            .quick
            .then(|| store.known_digests(&paths).pop());
        if let Some(Some(Ok((_, Some(digest))))) = known {
            return Ok((digest, path.to_owned()));
        }
        let mut hashed = store.digest_many(&paths, &options);
        let hashed = hashed.pop().unwrap_or(Err(StoreError::Cancelled))?;
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
        let copied = hash_file(&*self.project.fs, &copy, &options)?;
        if copied.digest != hashed.digest {
            return Err(StoreError::FileChanged {
                path: path.to_owned(),
            });
        }
        store.import_file(&copy, hashed.digest, hashed.sig.size)?;
        Ok((hashed.digest, store.checked_path(&entry)?))
    }

    fn file_digests(&self, stage: usize) -> BTreeMap<String, Digest> {
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
            let road = def
                .stage
                .wants_road(part)
                .then(|| canonical_json(&self.road(stage)));
            let settings = StageSettings {
                stage: def.name.clone(),
                kind: def.kind.to_owned(),
                version: def.version,
                part,
                params: params.clone(),
            };
            let base = KeyBase {
                kind: def.kind,
                version: def.version,
                part,
                params,
                road,
            };
            self.bases.insert((stage, part), (base, Arc::new(settings)));
        }
    }

    /// The road to a stage, see [`crate::config::Graph::road`].
    pub(crate) fn road(&self, stage: usize) -> serde_json::Value {
        self.graph().road(stage, &|index| {
            road_params(&self.graph().stages[index], &self.file_digests(index))
        })
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
            for source in sources {
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
        let mut keys = Vec::with_capacity(nodes.len());
        let mut keyed = Vec::with_capacity(nodes.len());
        for index in nodes {
            if let Some(key) = self.key_item(*index) {
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
        let input = self.item_input(node)?;
        let (base, _) = self.bases.get(&(node.stage, Part::Item))?;
        let key = base.item(input);
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
                if lacks(&self.project.store, &self.request.remake, &artifact) {
                    node.again = true;
                    return;
                }
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
            && let Some(entry) = artifact.tree().get(IDENTITY)
        {
            node.identity = entry.digest;
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
        let key = base.whole(&gathered.members, gathered.previous);
        let mut results = self.project.store.lookup_many(&[key])?;
        Ok((key, results.pop().flatten()))
    }

    /// Collects what a whole or finish part is given.
    pub(crate) fn gather(&self, index: NodeIndex) -> Result<Readiness, EngineError> {
        let node = &self.nodes[index];
        let def = &self.graph().stages[node.stage];
        let mut gathered = Gathered {
            members: BTreeMap::new(),
            makers: HashMap::new(),
            previous: None,
        };
        if node.part == Part::Finish {
            let whole = self.wholes[&node.stage];
            if let Some(stop) = self.gather_artifact("whole", whole, &mut gathered) {
                return Ok(stop);
            }
        }
        for port in def.stage.ports() {
            if let Some(artifact) = self.stand_ins.get(&(node.stage, port.name.to_owned())) {
                let member = Member {
                    identity: artifact.digest,
                    artifact: artifact.digest,
                    label: None,
                };
                gathered.members.insert(port.name.to_owned(), vec![member]);
                continue;
            }
            let inputs = def.inputs.get(port.name).map_or(&[][..], Vec::as_slice);
            let stop = match port.takes {
                PortTakes::Artifact => inputs.iter().find_map(|input| {
                    let NodeId::Stage(stage) = input.node else {
                        return None;
                    };
                    let maker = self
                        .finishes
                        .get(&stage)
                        .or_else(|| self.wholes.get(&stage))?;
                    self.gather_artifact(port.name, *maker, &mut gathered)
                }),
                PortTakes::Items => {
                    let own = Some(port.name) == def.item_port();
                    let sets = self.port_sets(node.stage, inputs, own);
                    self.gather_items(node.stage, port.name, port.required, &sets, &mut gathered)?
                }
            };
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
        if node.part == Part::Whole && def.stage.wants_previous() {
            gathered.previous = self.previous(node.stage, &gathered)?;
        }
        Ok(Readiness::Ready(gathered))
    }

    /// The (stage, source) sets that an items port is given: its own mapped items, or those of
    /// the stages connected to it.
    fn port_sets(&self, stage: usize, inputs: &[InputRef], own: bool) -> Vec<(usize, usize)> {
        let mut sets: Vec<(usize, usize)> = if own {
            self.items
                .keys()
                .filter(|(s, _)| *s == stage)
                .copied()
                .collect()
        } else {
            let wanted = |key: &&(usize, usize)| {
                inputs.iter().any(|input| {
                    input.node == NodeId::Stage(key.0) && input.only.is_none_or(|o| o == key.1)
                })
            };
            self.items.keys().filter(wanted).copied().collect()
        };
        sets.sort_unstable();
        sets
    }

    fn gather_artifact(
        &self,
        port: &str,
        maker: NodeIndex,
        gathered: &mut Gathered,
    ) -> Option<Readiness> {
        let node = &self.nodes[maker];
        match (&node.state, &node.artifact) {
            (State::Failed(_) | State::Blocked(_), _) => {
                let stage = &self.graph().stages[node.stage].name;
                Some(Readiness::Blocked(format!("`{stage}` was not done")))
            }
            (state, Some(artifact)) if state.is_done() => {
                let member = Member {
                    identity: artifact.digest,
                    artifact: artifact.digest,
                    label: None,
                };
                gathered.makers.insert(artifact.digest, maker);
                gathered.members.insert(port.to_owned(), vec![member]);
                None
            }
            _ => Some(Readiness::Waiting),
        }
    }

    fn gather_items(
        &self,
        stage: usize,
        port: &str,
        required: bool,
        sets: &[(usize, usize)],
        gathered: &mut Gathered,
    ) -> Result<Option<Readiness>, EngineError> {
        let mut members = Vec::new();
        for (maker, source) in sets {
            let nodes = &self.items[&(*maker, *source)];
            if nodes.iter().any(|n| !self.nodes[*n].state.is_settled()) {
                return Ok(Some(Readiness::Waiting));
            }
            self.label_members(stage, *source, nodes, &mut members, gathered)?;
        }
        let mut sources: Vec<usize> = sets.iter().map(|(_, source)| *source).collect();
        sources.dedup();
        for source in sources {
            let name = &self.graph().sources[source].name;
            let broken = self.broken_items(source);
            if broken > 0 {
                return Ok(Some(Readiness::Blocked(format!(
                    "{broken} items of `{name}` failed for a reason that lies in this machine"
                ))));
            }
            if self.graph().sources[source].on_bad == OnBad::Warn {
                continue;
            }
            let bad = self.bad_files(source);
            if bad > 0 {
                let all = self.sources[&source]
                    .iter()
                    .filter(|file| file.taken)
                    .count();
                return Ok(Some(Readiness::Blocked(format!(
                    "{bad} of {all} files of `{name}` failed (on_bad = \"warn\" goes on without them)"
                ))));
            }
        }
        if members.is_empty() && required {
            return Ok(Some(Readiness::Blocked(format!(
                "there is no usable item for its input `{port}`"
            ))));
        }
        members.sort_unstable();
        members.dedup();
        if !members.is_empty() {
            gathered.members.insert(port.to_owned(), members);
        }
        Ok(None)
    }

    fn label_members(
        &self,
        stage: usize,
        source: usize,
        nodes: &[NodeIndex],
        members: &mut Vec<Member>,
        gathered: &mut Gathered,
    ) -> Result<(), EngineError> {
        let files = &self.sources[&source];
        let mut owners = Vec::new();
        let mut paths = Vec::new();
        for index in nodes {
            let node = &self.nodes[*index];
            let Some(artifact) = node.artifact.as_ref().filter(|_| node.state.is_done()) else {
                continue;
            };
            gathered.makers.insert(artifact.digest, *index);
            for file in &node.files {
                owners.push((node.identity, artifact.digest));
                paths.push(files[*file as usize].found.name.as_str());
            }
        }
        let objects = self.files.get(&stage).into_iter().flatten();
        let objects = objects
            .map(|(key, (_, path))| (key.clone(), path.clone()))
            .collect();
        let def = &self.graph().stages[stage];
        let labels = def
            .stage
            .labels(&paths, &objects)
            .map_err(|source| EngineError::Labels {
                stage: def.name.clone(),
                source,
            })?;
        for ((identity, artifact), label) in owners.into_iter().zip(labels) {
            members.push(Member {
                identity,
                artifact,
                label,
            });
        }
        Ok(())
    }

    /// How many items of a source failed for another reason than their content: disk, memory, a
    /// lost process. Trying again may succeed, so that no set is made without them.
    fn broken_items(&self, source: usize) -> usize {
        let broken = |node: &&Node| {
            node.part == Part::Item
                && node.source == source
                && matches!(&node.state, State::Failed(f) if f.class != FailureClass::Content)
        };
        self.nodes.iter().filter(broken).count()
    }

    /// How many files of a source failed, anywhere.
    pub(crate) fn bad_files(&self, source: usize) -> usize {
        let files = &self.sources[&source];
        let mut bad: Vec<bool> = files.iter().map(|file| file.failed.is_some()).collect();
        for node in &self.nodes {
            if node.part == Part::Item
                && node.source == source
                && matches!(node.state, State::Failed(_))
            {
                for file in &node.files {
                    bad[*file as usize] = true;
                }
            }
        }
        bad.into_iter().filter(|bad| *bad).count()
    }

    /// Key of the scratch folder of a whole or finish part: the action's key without the
    /// parameters that only say how long to go on.
    pub(crate) fn scratch_key(&self, index: NodeIndex, gathered: &Gathered) -> Digest {
        let node = &self.nodes[index];
        let def = &self.graph().stages[node.stage];
        let mut unread = def.stage.unread_by(node.part).to_vec();
        unread.extend(def.stage.budget_keys());
        let (base, _) = &self.bases[&(node.stage, node.part)];
        let base = KeyBase {
            params: params_without(def, &self.file_digests(node.stage), &unread),
            ..base.clone()
        };
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

    /// The actions whose artifacts are inputs of `index` and hold the object `digest`.
    pub(crate) fn makers_of(
        &self,
        index: NodeIndex,
        digest: Digest,
    ) -> Result<Vec<NodeIndex>, EngineError> {
        let node = &self.nodes[index];
        let candidates: Vec<NodeIndex> = match (node.part, node.upstream) {
            (Part::Item, above) => above.into_iter().collect(),
            _ => match self.gather(index)? {
                Readiness::Ready(gathered) => {
                    let mut makers: Vec<_> = gathered.makers.into_values().collect();
                    makers.sort_unstable();
                    makers
                }
                _ => Vec::new(),
            },
        };
        let holds = |maker: &NodeIndex| {
            let artifact = self.nodes[*maker].artifact.as_ref();
            artifact.is_some_and(|a| a.tree().0.values().any(|entry| entry.digest == digest))
        };
        Ok(candidates.into_iter().filter(holds).collect())
    }

    /// The last finished artifact of a stage that starts from it.
    ///
    /// If the latest action started from some artifact and nothing else has changed, that one is
    /// taken again, so that the action is found in the cache instead of being done once more on
    /// top of itself.
    fn previous(&self, stage: usize, gathered: &Gathered) -> Result<Option<Digest>, EngineError> {
        let def = &self.graph().stages[stage];
        let store = &self.project.store;
        let pipeline = &self.project.name;
        let latest = store.latest(pipeline, &def.name, Part::Whole)?.pop();
        let (base, _) = &self.bases[&(stage, Part::Whole)];
        let started_from = latest
            .as_ref()
            .and_then(|l| l.inputs.get(PREVIOUS))
            .and_then(|list| list.first().copied());
        if latest.is_some_and(|l| base.whole(&gathered.members, started_from) == l.key) {
            return Ok(started_from);
        }
        let done = store.last_done(pipeline, &def.name, Part::Whole, "")?;
        Ok(done.map(|(_, artifact)| artifact.digest))
    }
}

/// Whether an artifact holds one of the objects `lost` and it is still not there: another action
/// may have made it again.
fn lacks(store: &Store, lost: &BTreeSet<Digest>, artifact: &Artifact) -> bool {
    if lost.is_empty() {
        return false;
    }
    let tree = artifact.tree();
    let mut objects = tree.0.values().filter(|entry| lost.contains(&entry.digest));
    objects.any(|entry| store.fs().lstat(&store.object_path(entry.digest)).is_err())
}

/// Name under which the previous artifact stands among an action's recorded inputs.
pub(crate) const PREVIOUS: &str = "(previous)";
