//! What the whole and finish parts are given: the members of their ports, who made them, and
//! whether all of them are there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stage_core::{Digest, Part, PortTakes};

use super::{Node, NodeIndex, Session, State};
use crate::config::{InputRef, NodeId, OnBad};
use crate::error::EngineError;
use crate::key::Member;

/// Name under which the previous artifact stands among an action's recorded inputs.
pub(crate) const PREVIOUS: &str = "(previous)";

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
