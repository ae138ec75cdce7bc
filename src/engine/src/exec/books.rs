//! Which actions are ready, which are out, and what their results make possible.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use stage_core::{Cancel, Digest, FailureClass, Part, SOURCE_FILE, Tree};

use super::task::{Given, Task, TaskResult};
use crate::error::EngineError;
use crate::event::{Ending, Observer, RunEvent};
use crate::session::{
    BesideItems, Failure, Gathered, NodeIndex, PREVIOUS, Readiness, Session, State,
};

/// The books where the working threads find them, one at a time: whoever has a result writes it
/// in and takes the next task out. A thread that does it for the others would have to be woken for
/// every small action, and would have to wake them.
pub(super) struct Desk<'a, 'p> {
    books: Mutex<Books<'a, 'p>>,
    /// Told to threads without a task: there may be one, or there will be none any more.
    changed: Condvar,
}

impl<'a, 'p> Desk<'a, 'p> {
    pub(super) fn new(books: Books<'a, 'p>) -> Self {
        Self {
            books: Mutex::new(books),
            changed: Condvar::new(),
        }
    }

    /// Has tasks done by `perform` until there will be none, as every working thread does.
    pub(super) fn work(&self, perform: impl Fn(Task) -> TaskResult) {
        // Also when something here panics: then the others look for themselves, and leave.
        let _leaving = WakeAll(&self.changed);
        let Ok(mut books) = self.books.lock() else {
            return;
        };
        loop {
            let task = books.next();
            if books.idle > 0 && books.has_task() {
                self.changed.notify_one();
            }
            let Some(task) = task else {
                if books.is_over() {
                    return;
                }
                books.idle += 1;
                let Ok(guard) = self.changed.wait(books) else {
                    return;
                };
                books = guard;
                books.idle -= 1;
                continue;
            };
            drop(books);
            let node = task.node;
            let result = catch_unwind(AssertUnwindSafe(|| perform(task)));
            let Ok(guard) = self.books.lock() else {
                return;
            };
            books = guard;
            match result {
                Ok(result) => books.enter(node, result),
                Err(panic) => {
                    books.abandon(node);
                    drop(books);
                    resume_unwind(panic);
                }
            }
        }
    }

    /// How it ended.
    pub(super) fn close(self) -> Result<(), EngineError> {
        let books = self.books.into_inner();
        let error = books.unwrap_or_else(PoisonError::into_inner).error;
        error.map_or(Ok(()), Err)
    }
}

/// Wakes all who wait when it is dropped.
struct WakeAll<'a>(&'a Condvar);

impl Drop for WakeAll<'_> {
    fn drop(&mut self) {
        self.0.notify_all();
    }
}

/// The books of a run.
pub(super) struct Books<'a, 'p> {
    session: &'a mut Session<'p>,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
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
    /// Whether no more is begun.
    stopped: bool,
    /// Why, if the store or the books failed.
    error: Option<EngineError>,
    /// How many threads wait for a task.
    idle: usize,
}

impl<'a, 'p> Books<'a, 'p> {
    pub(super) fn new(
        session: &'a mut Session<'p>,
        observer: &'a dyn Observer,
        cancel: &'a Cancel,
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
            ready,
            out: HashMap::new(),
            below,
            remade_for: HashMap::new(),
            running: 0,
            running_in,
            closure,
            stopped: false,
            error: None,
            idle: 0,
        }
    }

    /// The next task, if one is ready now.
    fn next(&mut self) -> Option<Task> {
        while self.has_task() {
            let (_, index) = self.ready.pop_first()?;
            match self.dispatch(index) {
                Ok(Some(task)) => {
                    self.running += 1;
                    self.running_in[task.stage] += 1;
                    return Some(task);
                }
                Ok(None) => {}
                Err(error) => self.fail(error),
            }
        }
        None
    }

    /// Whether something may be begun now.
    fn has_task(&self) -> bool {
        !self.stopped && !self.cancel.is_set() && !self.ready.is_empty()
    }

    /// Whether nothing is running and nothing will be begun.
    fn is_over(&self) -> bool {
        self.running == 0 && !self.has_task()
    }

    /// Notes that a task will have no result: nothing more is begun.
    fn abandon(&mut self, index: NodeIndex) {
        self.leave(index);
        self.stopped = true;
    }

    /// Writes a result in.
    fn enter(&mut self, index: NodeIndex, result: TaskResult) {
        self.leave(index);
        if let Err(error) = self.take(index, result) {
            self.fail(error);
        }
    }

    /// Notes that a task runs no more.
    fn leave(&mut self, index: NodeIndex) {
        self.running -= 1;
        self.running_in[self.session.nodes[index].stage] -= 1;
    }

    fn fail(&mut self, error: EngineError) {
        self.stopped = true;
        self.error.get_or_insert(error);
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
        let node = &self.session.nodes[index];
        if node.part == Part::Item && self.session.hash_item(node) != Some(key) {
            // Something that it is mapped from was made again and has other bytes.
            self.session.nodes[index].state = State::Waiting;
            self.look(index)?;
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
        let (_, settings) = &session.bases[&(node.stage, node.part)];
        let mut task = Task {
            node: index,
            key,
            scratch_key: key,
            stage: node.stage,
            settings: Arc::clone(settings),
            item_name: session.item_name(node).to_owned(),
            params: def.params.clone(),
            host: def.stage.host(node.part),
            needs: def.stage.needs(node.part),
            preprocessing: None,
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
            if let Some(BesideItems::Ready { gathered, .. }) = session.beside_items.get(&node.stage)
            {
                self.fill_ports(&mut task, gathered);
            }
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
        task.inputs = gathered.digests();
        task.preprocessing.clone_from(&gathered.preprocessing);
        for (port, members) in &gathered.members {
            let given = members.iter().filter_map(|member| {
                let artifact = session.artifact_of(task.stage, port, member, &gathered.makers);
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
            TaskResult::Lost(lost) => {
                // The twins meet the same loss; they are looked at with this one.
                for twin in twins {
                    self.enqueue(twin);
                }
                return self.remake(index, &lost);
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
        if self.session.nodes[index].part != Part::Item {
            self.look_beside(index)?;
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

    /// Looks at the items that are mapped with the artifact of an action that was settled.
    fn look_beside(&mut self, index: NodeIndex) -> Result<(), EngineError> {
        let stage = self.session.nodes[index].stage;
        let beside = self.session.beside_items.keys().copied();
        let beside: Vec<usize> = beside
            .filter(|other| *other != stage && self.closure[*other].contains(&stage))
            .collect();
        for other in beside {
            if !self.session.refresh_beside_items(other) {
                continue;
            }
            let items = self.session.items.iter();
            let items = items.filter(|((stage, _), _)| *stage == other);
            let mut items: Vec<NodeIndex> =
                items.flat_map(|(_, nodes)| nodes.iter().copied()).collect();
            items.sort_unstable();
            for item in items {
                if self.session.nodes[item].state == State::Waiting {
                    self.look(item)?;
                }
            }
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

    /// Inputs of `index` were damaged or missing: has them made again, then looks at `index` anew.
    fn remake(&mut self, index: NodeIndex, lost: &BTreeSet<Digest>) -> Result<(), EngineError> {
        let makers = self.session.makers_of(index, lost)?;
        if makers.is_empty() {
            let names: Vec<String> = lost.iter().map(Digest::to_string).collect();
            let failure = Failure {
                reason: format!(
                    "object {} is missing from the cache, and no action of this run makes it",
                    names.join(", ")
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
