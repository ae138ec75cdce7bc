//! Which actions are ready, which are out, and what their results make possible.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use stage_core::{Cancel, Digest, FailureClass, Part, SOURCE_FILE, Tree};

use super::task::{Given, Task, TaskResult};
use crate::error::EngineError;
use crate::event::{Ending, Observer, RunEvent};
use crate::session::{Failure, Gathered, NodeIndex, PREVIOUS, Readiness, Session, State};

/// How often the books look for a cancellation.
const TICK: Duration = Duration::from_millis(50);

/// The books of a run.
pub(super) struct Books<'a, 'p> {
    session: &'a mut Session<'p>,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
    /// How many tasks may be out at once: one per thread and one each to go on with.
    most: usize,
    /// Ready actions, deepest stage first, then in the order of items.
    ready: BTreeSet<(Reverse<usize>, NodeIndex)>,
    /// Key → actions with this key that wait for the one that is out.
    out: HashMap<Digest, Vec<NodeIndex>>,
    /// Actions, and those to look at when they are settled, in order.
    below: Vec<(NodeIndex, NodeIndex)>,
    /// Actions that wait for another's artifact to be made again.
    remade_for: HashMap<NodeIndex, Vec<NodeIndex>>,
    running: usize,
    /// Of them, by stage.
    running_in: Vec<usize>,
    /// Stage → itself and all stages upstream of it.
    closure: Vec<BTreeSet<usize>>,
    stopped: bool,
}

impl<'a, 'p> Books<'a, 'p> {
    pub(super) fn new(
        session: &'a mut Session<'p>,
        observer: &'a dyn Observer,
        cancel: &'a Cancel,
        most: usize,
    ) -> Self {
        let mut below = Vec::with_capacity(session.nodes.len());
        let mut ready = BTreeSet::new();
        for (index, node) in session.nodes.iter().enumerate() {
            if let Some(above) = node.upstream {
                below.push((above, index));
            }
            if node.state == State::Stale && session.is_wanted(node) {
                ready.insert((Reverse(node.stage), index));
            }
        }
        below.sort_unstable();
        let stages = session.graph().stages.len();
        let running_in = vec![0; stages];
        let mut closure: Vec<BTreeSet<usize>> = Vec::with_capacity(stages);
        for stage in 0..stages {
            // Stages stand after those that they depend on.
            let mut all = BTreeSet::from([stage]);
            for above in session.graph().upstream(stage) {
                all.extend(&closure[above]);
            }
            closure.push(all);
        }
        Self {
            session,
            observer,
            cancel,
            most,
            ready,
            out: HashMap::new(),
            below,
            remade_for: HashMap::new(),
            running: 0,
            running_in,
            closure,
            stopped: false,
        }
    }

    pub(super) fn keep(
        &mut self,
        tasks: Sender<Task>,
        results: &Receiver<(NodeIndex, TaskResult)>,
    ) -> Result<(), EngineError> {
        loop {
            while self.running < self.most && !self.stopped && !self.cancel.is_set() {
                let Some((_, index)) = self.ready.pop_first() else {
                    break;
                };
                if let Some(task) = self.dispatch(index)? {
                    self.running += 1;
                    self.running_in[task.stage] += 1;
                    // The threads live as long as the sender.
                    let _ = tasks.send(task);
                }
            }
            if self.running == 0 {
                return Ok(());
            }
            match results.recv_timeout(TICK) {
                Ok((index, result)) => {
                    self.running -= 1;
                    self.running_in[self.session.nodes[index].stage] -= 1;
                    self.take(index, result)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Makes the task of a ready action, or notes that the same work is under way.
    fn dispatch(&mut self, index: NodeIndex) -> Result<Option<Task>, EngineError> {
        let Some(key) = self.session.nodes[index].key else {
            return Ok(None);
        };
        if let Some(waiting) = self.out.get_mut(&key) {
            waiting.push(index);
            return Ok(None);
        }
        let Some(task) = self.task(index, key)? else {
            // Something upstream is being made again: looked at anew when that is settled.
            self.session.nodes[index].state = State::Waiting;
            return Ok(None);
        };
        self.out.insert(key, Vec::new());
        self.session.nodes[index].state = State::Running;
        let who = self.session.who(&self.session.nodes[index]);
        self.observer.observe(&RunEvent::Started(who));
        Ok(Some(task))
    }

    fn task(&self, index: NodeIndex, key: Digest) -> Result<Option<Task>, EngineError> {
        let session = &*self.session;
        let node = &session.nodes[index];
        let def = &session.graph().stages[node.stage];
        let (base, settings) = &session.bases[&(node.stage, node.part)];
        let mut task = Task {
            node: index,
            key,
            scratch_key: key,
            stage: node.stage,
            settings: Arc::clone(settings),
            item_name: session.item_name(node).to_owned(),
            params: def.params.clone(),
            host: def.stage.host(node.part),
            road: base.has_road().then(|| session.road(node.stage)),
            files: session.files.get(&node.stage).cloned().unwrap_or_default(),
            item: None,
            ports: HashMap::new(),
            previous: None,
            inputs: BTreeMap::new(),
            again: node.again,
            forced: session.request.force.contains(&def.name),
            goes_on: !def.stage.budget_keys().is_empty(),
        };
        if node.part == Part::Item {
            let Some(digest) = session.item_input(node) else {
                return Ok(None);
            };
            let given = match node.upstream {
                Some(above) => Given::artifact(session.nodes[above].artifact.as_ref(), digest),
                None => self.source_file(node, digest),
            };
            task.inputs.insert("items".to_owned(), vec![digest]);
            task.item = given;
            return Ok(task.item.is_some().then_some(task));
        }
        let Readiness::Ready(gathered) = session.gather(index)? else {
            return Ok(None);
        };
        self.fill_ports(&mut task, &gathered);
        task.scratch_key = session.scratch_key(index, &gathered);
        if let Some(previous) = gathered.previous {
            task.inputs.insert(PREVIOUS.to_owned(), vec![previous]);
            task.previous = session.last_artifact(node.stage, previous)?;
        }
        Ok(Some(task))
    }

    fn source_file(&self, node: &crate::session::Node, digest: Digest) -> Option<Given> {
        let file = self.session.sources.get(&node.source)?;
        let file = file.get(*node.files.first()? as usize)?;
        let sig = file.sig?;
        Some(Given {
            identity: digest,
            label: None,
            tree: Tree::single(SOURCE_FILE, digest, sig.size),
            source: Some((file.found.path.clone(), sig)),
        })
    }

    fn fill_ports(&self, task: &mut Task, gathered: &Gathered) {
        let session = &*self.session;
        for (port, members) in &gathered.members {
            let digests = members.iter().map(|member| member.artifact).collect();
            task.inputs.insert(port.clone(), digests);
            let given = members.iter().filter_map(|member| {
                let artifact = match gathered.makers.get(&member.artifact) {
                    Some(maker) => session.nodes[*maker].artifact.as_ref(),
                    None => session.stand_ins.get(&(task.stage, port.clone())),
                };
                let mut given = Given::artifact(artifact, member.identity)?;
                given.label.clone_from(&member.label);
                Some(given)
            });
            task.ports.insert(port.clone(), given.collect());
        }
    }

    /// Takes a result, and looks at what it makes possible.
    fn take(&mut self, index: NodeIndex, result: TaskResult) -> Result<(), EngineError> {
        let key = self.session.nodes[index].key;
        let twins = key
            .and_then(|key| self.out.remove(&key))
            .unwrap_or_default();
        match result {
            TaskResult::Lost(digest) => {
                // The twins meet the same loss; they are looked at with this one.
                for twin in twins {
                    self.enqueue(twin);
                }
                return self.remake(index, digest);
            }
            TaskResult::Store(error) => return Err(error.into()),
            TaskResult::Done {
                artifact,
                seconds,
                bytes,
                found,
            } => {
                let state = if found { State::Fresh } else { State::Executed };
                for (nth, node) in std::iter::once(index).chain(twins).enumerate() {
                    let own = if nth == 0 {
                        state.clone()
                    } else {
                        State::Fresh
                    };
                    self.session.nodes[node].seconds = seconds;
                    self.session.nodes[node].bytes = bytes;
                    self.session.nodes[node].again = false;
                    self.tell(node, &own, seconds, None);
                    self.session.take_artifact(node, artifact.clone(), own);
                    self.after(node)?;
                }
            }
            TaskResult::Failed(failure) => {
                if failure.class == FailureClass::Cancelled {
                    for node in std::iter::once(index).chain(twins) {
                        self.session.nodes[node].state = State::Stale;
                    }
                    return Ok(());
                }
                self.stopped |= self.session.request.fail_fast;
                for node in std::iter::once(index).chain(twins) {
                    let state = State::Failed(failure.clone());
                    self.tell(node, &state, 0.0, Some(&failure));
                    self.session.nodes[node].state = state;
                    self.after(node)?;
                }
            }
        }
        Ok(())
    }

    fn tell(&self, index: NodeIndex, state: &State, seconds: f64, failure: Option<&Failure>) {
        let ending = match (state, failure) {
            (State::Executed, _) => Ending::Executed,
            (_, Some(failure)) if failure.class == FailureClass::Paused => Ending::Paused,
            (_, Some(_)) => Ending::Failed,
            _ => Ending::Cached,
        };
        self.observer.observe(&RunEvent::Ended {
            who: self.session.who(&self.session.nodes[index]),
            ending,
            seconds,
            reason: failure.map(|failure| failure.reason.as_str()),
            remembered: failure.is_some_and(|failure| failure.remembered),
        });
    }

    fn enqueue(&mut self, index: NodeIndex) {
        self.session.nodes[index].state = State::Stale;
        let stage = self.session.nodes[index].stage;
        self.ready.insert((Reverse(stage), index));
    }

    /// Looks at the actions below one that was settled.
    fn after(&mut self, index: NodeIndex) -> Result<(), EngineError> {
        for node in self.remade_for.remove(&index).unwrap_or_default() {
            // Its input is there again, perhaps with other bytes: then it has another key.
            self.session.nodes[node].state = State::Waiting;
            self.look(node)?;
        }
        let begin = self.below.partition_point(|(above, _)| *above < index);
        for at in begin..self.below.len() {
            let (above, node) = self.below[at];
            if above != index {
                break;
            }
            if self.session.nodes[node].state == State::Waiting {
                self.look(node)?;
            }
        }
        // Whole parts are few: each is asked whether it can be done now.
        let wholes: Vec<NodeIndex> = self
            .session
            .wholes
            .values()
            .chain(self.session.finishes.values())
            .copied()
            .filter(|whole| self.session.nodes[*whole].state == State::Waiting)
            .filter(|whole| self.may_be_ready(*whole))
            .collect();
        for whole in wholes {
            self.look(whole)?;
        }
        Ok(())
    }

    /// A cheap test before all inputs of a whole part are collected: whether nothing upstream is
    /// ready or running. What waits upstream waits for something that is.
    fn may_be_ready(&self, whole: NodeIndex) -> bool {
        let above = &self.closure[self.session.nodes[whole].stage];
        above.iter().all(|stage| {
            let from = (Reverse(*stage), NodeIndex::MIN);
            let to = (Reverse(*stage), NodeIndex::MAX);
            self.running_in[*stage] == 0 && self.ready.range(from..=to).next().is_none()
        })
    }

    /// Settles an action whose inputs may be known now.
    fn look(&mut self, index: NodeIndex) -> Result<(), EngineError> {
        let part = self.session.nodes[index].part;
        if part == Part::Item {
            if let Some(key) = self.session.key_item(index) {
                let result = self.session.project.store.lookup_held(&key)?;
                self.session.settle(index, result);
            }
        } else {
            self.session.settle_whole(index)?;
            let node = &self.session.nodes[index];
            if let (State::Fresh, Some(key)) = (&node.state, node.key) {
                let result = self.session.project.store.lookup_held(&key)?;
                self.session.settle(index, result);
            }
        }
        match &self.session.nodes[index].state {
            State::Stale if self.session.is_wanted(&self.session.nodes[index]) => {
                self.enqueue(index);
            }
            State::Stale | State::Waiting => {}
            State::Fresh => {
                let seconds = self.session.nodes[index].seconds;
                self.tell(index, &State::Fresh, seconds, None);
                self.after(index)?;
            }
            State::Failed(failure) => {
                let failure = failure.clone();
                self.tell(index, &State::Failed(failure.clone()), 0.0, Some(&failure));
                self.after(index)?;
            }
            _ => self.after(index)?,
        }
        Ok(())
    }

    /// An input of `index` was damaged or missing: has it made again, then looks at `index` anew.
    fn remake(&mut self, index: NodeIndex, digest: Digest) -> Result<(), EngineError> {
        let makers = self.session.makers_of(index, digest)?;
        if makers.is_empty() {
            let failure = Failure {
                reason: format!(
                    "object {digest} is missing from the cache and nothing here makes it"
                ),
                class: FailureClass::Environment,
                remembered: false,
            };
            return self.take(index, TaskResult::Failed(failure));
        }
        let who = self.session.who(&self.session.nodes[index]);
        self.observer.observe(&RunEvent::Warning(&format!(
            "an input of `{}` was damaged or missing in the cache; it is made again",
            who.stage
        )));
        self.session.nodes[index].state = State::Waiting;
        for maker in makers {
            self.remade_for.entry(maker).or_default().push(index);
            if self.session.nodes[maker].state.is_settled() {
                self.session.nodes[maker].again = true;
                self.enqueue(maker);
            }
        }
        Ok(())
    }
}
