//! What the whole and finish parts are given: the members of their ports, who made them, and
//! whether all of them are there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use stage_core::{Digest, Part, Port, PortTakes, canonical_json};

use super::{Node, NodeIndex, Session, State};
use crate::config::{InputRef, NodeId, OnBad, Preparing};
use crate::error::EngineError;
use crate::key::{KeyBase, Member, all_params};
use crate::store::Artifact;

/// Name under which the previous artifact stands among an action's recorded inputs.
pub(crate) const PREVIOUS: &str = "(previous)";

/// What an action is given besides its item: the members of its ports, and who made them.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) members: BTreeMap<String, Vec<Member>>,
    /// Artifact digest → the action that has it (none for stand-ins).
    pub(crate) makers: HashMap<Digest, NodeIndex>,
    /// The digest of this stage's last finished artifact, if it wants it.
    pub(crate) previous: Option<Digest>,
    /// The stages that prepare the items, if the stage wants them.
    pub(crate) preprocessing: Option<Upstream>,
}

impl Gathered {
    /// What the keys of actions that are given this have in common.
    pub(crate) fn base(&self, base: &KeyBase) -> KeyBase {
        match &self.preprocessing {
            Some(upstream) => base.with_preprocessing(&canonical_json(&upstream.stages)),
            None => base.clone(),
        }
    }

    /// The digests by port, as they are recorded with the action.
    pub(crate) fn digests(&self) -> BTreeMap<String, Vec<Digest>> {
        let digests = |members: &[Member]| members.iter().map(|member| member.artifact).collect();
        let ports = self.members.iter();
        ports
            .map(|(port, members)| (port.clone(), digests(members)))
            .collect()
    }
}

/// The map stages upstream of a stage, see [`stage_core::Preprocessing`].
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) stages: Value,
    /// The artifacts that the items are mapped with.
    pub(crate) artifacts: Vec<Artifact>,
}

/// What the items of a stage are mapped with.
#[derive(Debug)]
pub(crate) enum BesideItems {
    /// All of it is known; `base` is what the items' keys have in common.
    Ready {
        base: Box<KeyBase>,
        gathered: Gathered,
    },
    /// Some artifact is still to be made.
    Waiting,
    /// Some artifact cannot be made; says why.
    Blocked(String),
}

impl BesideItems {
    /// Whether the items' keys are the same as with `other`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ready { base, .. }, Self::Ready { base: other, .. }) => base.is_same(other),
            (Self::Waiting, Self::Waiting) | (Self::Blocked(_), Self::Blocked(_)) => true,
            _ => false,
        }
    }
}

/// Whether a whole part can be done.
pub(crate) enum Readiness {
    Ready(Gathered),
    Waiting,
    Blocked(String),
}

impl Session<'_> {
    /// Collects what a whole or finish part is given.
    pub(crate) fn gather(&self, index: NodeIndex) -> Result<Readiness, EngineError> {
        let node = &self.nodes[index];
        let def = &self.graph().stages[node.stage];
        let mut gathered = Gathered::default();
        if node.part == Part::Finish {
            let whole = self.wholes[&node.stage];
            if let Some(stop) = self.gather_artifact("whole", whole, &mut gathered) {
                return Ok(stop);
            }
        }
        for port in def.stage.ports() {
            let inputs = def.inputs.get(port.name).map_or(&[][..], Vec::as_slice);
            let stop = match port.takes {
                _ if self.gather_stand_in(node.stage, port, &mut gathered) => None,
                PortTakes::Artifact => self.gather_port(inputs, port, &mut gathered),
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
        if def.stage.wants_preprocessing(node.part)
            && let Some(stop) = self.gather_preprocessing(node.stage, &mut gathered)
        {
            return Ok(stop);
        }
        if node.part == Part::Whole && def.stage.wants_previous() {
            gathered.previous = self.previous(node.stage, &gathered)?;
        }
        Ok(Readiness::Ready(gathered))
    }

    /// Takes the artifact that stands in for what is connected to a port, if there is one.
    fn gather_stand_in(&self, stage: usize, port: &Port, gathered: &mut Gathered) -> bool {
        let Some(artifact) = self.stand_ins.get(&(stage, port.name.to_owned())) else {
            return false;
        };
        let member = Member {
            identity: artifact.digest,
            artifact: artifact.digest,
            label: None,
        };
        gathered.members.insert(port.name.to_owned(), vec![member]);
        true
    }

    /// Takes the artifact of the stage that is connected to a port.
    fn gather_port(
        &self,
        inputs: &[InputRef],
        port: &Port,
        gathered: &mut Gathered,
    ) -> Option<Readiness> {
        inputs.iter().find_map(|input| {
            let NodeId::Stage(stage) = input.node else {
                return None;
            };
            let finish = self.finishes.get(&stage);
            let maker = finish.or_else(|| self.wholes.get(&stage))?;
            self.gather_artifact(port.name, *maker, gathered)
        })
    }

    /// Looks anew at what the items of a stage are mapped with. Says whether their keys may have
    /// changed.
    pub(crate) fn refresh_beside_items(&mut self, stage: usize) -> bool {
        let Some(now) = self.gather_beside_items(stage) else {
            return false;
        };
        let same = self.beside_items.get(&stage);
        let same = same.is_some_and(|before| before.is_same(&now));
        self.beside_items.insert(stage, now);
        !same
    }

    /// What the items of a stage are mapped with; `None` if the stage maps each item alone.
    fn gather_beside_items(&self, stage: usize) -> Option<BesideItems> {
        let def = &self.graph().stages[stage];
        let (base, _) = self.bases.get(&(stage, Part::Item))?;
        let mut gathered = Gathered::default();
        let mut stop = None;
        for port in def.ports_beside_items() {
            if self.gather_stand_in(stage, port, &mut gathered) {
                continue;
            }
            let inputs = def.inputs.get(port.name).map_or(&[][..], Vec::as_slice);
            stop = stop.or_else(|| self.gather_port(inputs, port, &mut gathered));
        }
        if stop.is_none() && def.stage.wants_preprocessing(Part::Item) {
            stop = self.gather_preprocessing(stage, &mut gathered);
        }
        Some(match stop {
            Some(Readiness::Blocked(reason)) => BesideItems::Blocked(reason),
            Some(_) => BesideItems::Waiting,
            None if gathered.members.is_empty() && gathered.preprocessing.is_none() => return None,
            None => {
                let base = gathered.base(base);
                let base = match gathered.members.is_empty() {
                    true => base,
                    false => base.with_inputs(&gathered.members),
                };
                BesideItems::Ready {
                    base: Box::new(base),
                    gathered,
                }
            }
        })
    }

    /// Collects the stages that prepare the items of `stage`, and the artifacts that these are
    /// mapped with.
    fn gather_preprocessing(&self, stage: usize, gathered: &mut Gathered) -> Option<Readiness> {
        let graph = self.graph();
        let mut artifacts = Vec::new();
        for index in graph.preprocessing_stages(stage) {
            match self.beside_items.get(&index) {
                None => {}
                Some(BesideItems::Waiting) => return Some(Readiness::Waiting),
                Some(BesideItems::Blocked(reason)) => {
                    return Some(Readiness::Blocked(reason.clone()));
                }
                Some(BesideItems::Ready { gathered: own, .. }) => {
                    gathered.makers.extend(&own.makers);
                    for (port, members) in &own.members {
                        let found = members.iter().filter_map(|member| {
                            self.artifact_of(index, port, member, &own.makers)
                        });
                        artifacts.extend(found.cloned());
                    }
                }
            }
        }
        let describe = |index: usize| Preparing {
            params: all_params(&graph.stages[index], &self.file_digests(index)),
            artifacts: match self.beside_items.get(&index) {
                Some(BesideItems::Ready { gathered, .. }) => {
                    let digests = gathered.members.iter();
                    digests
                        .filter_map(|(port, members)| {
                            Some((port.clone(), members.first()?.artifact))
                        })
                        .collect()
                }
                _ => BTreeMap::new(),
            },
        };
        gathered.preprocessing = Some(Upstream {
            stages: graph.preprocessing(stage, &describe),
            artifacts,
        });
        None
    }

    /// The artifact of a member of a stage's port.
    pub(crate) fn artifact_of(
        &self,
        stage: usize,
        port: &str,
        member: &Member,
        makers: &HashMap<Digest, NodeIndex>,
    ) -> Option<&Artifact> {
        match makers.get(&member.artifact) {
            Some(maker) => self.nodes[*maker].artifact.as_ref(),
            None => self.stand_ins.get(&(stage, port.to_owned())),
        }
    }

    /// Why an item was not mapped, if that is not for what is in its file: the artifact that it is
    /// mapped with could not be made.
    fn blocked_beside<'n>(&'n self, node: &'n Node) -> Option<&'n str> {
        let mut node = node;
        loop {
            let State::Blocked(reason) = &node.state else {
                return None;
            };
            match node.upstream {
                Some(above) if !self.nodes[above].state.is_done() => node = &self.nodes[above],
                _ => return Some(reason),
            }
        }
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
            let mut blocked = nodes.iter().map(|n| &self.nodes[*n]);
            if let Some(reason) = blocked.find_map(|node| self.blocked_beside(node)) {
                return Ok(Some(Readiness::Blocked(reason.to_owned())));
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

    /// How many items of a source failed for a reason that is not theirs: the disk, the machine's
    /// memory. Trying again may succeed, so that no set is made without them.
    fn broken_items(&self, source: usize) -> usize {
        let broken = |node: &&Node| {
            node.part == Part::Item
                && node.source == source
                && matches!(&node.state, State::Failed(f) if !f.class.is_of_item())
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

    /// The actions whose artifacts are inputs of `index` and hold one of the objects `lost`.
    pub(crate) fn makers_of(
        &self,
        index: NodeIndex,
        lost: &BTreeSet<Digest>,
    ) -> Result<Vec<NodeIndex>, EngineError> {
        let node = &self.nodes[index];
        let candidates: Vec<NodeIndex> = match (node.part, node.upstream) {
            (Part::Item, above) => {
                let mut makers: Vec<_> = above.into_iter().collect();
                if let Some(BesideItems::Ready { gathered, .. }) =
                    self.beside_items.get(&node.stage)
                {
                    makers.extend(gathered.makers.values());
                }
                makers.sort_unstable();
                makers.dedup();
                makers
            }
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
            artifact.is_some_and(|a| {
                a.tree()
                    .0
                    .values()
                    .any(|entry| lost.contains(&entry.digest))
            })
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
        let base = gathered.base(base);
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
