//! Doing what is stale.
//!
//! One thread keeps the books: it knows which actions are ready, hands them to the working
//! threads, deepest stage first, so that an item goes all its way before the next begins, and
//! takes their results. Working threads claim the action, look once more whether another process
//! has done it, check the inputs, do the work and queue the record for the next group commit.

mod task;
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::slice::ParallelSliceMut;
use stage_core::{Cancel, Digest, FailureClass, Part, SOURCE_FILE, Tree};

use crate::error::EngineError;
use crate::event::{Ending, Observer, RunEvent, Who};
use crate::session::{
    Failure, Gathered, Node, NodeIndex, PREVIOUS, Readiness, Request, Session, State,
};
use crate::store::{
    Origin, Record, RunOutcome, RunRecord, RunStage, StoreError, Ulid, list_digest, now_millis,
};
use crate::summary::{Summary, Verdict};
use task::{Given, Task, TaskResult};

/// How often the books look for a cancellation.
const TICK: Duration = Duration::from_millis(50);

/// Among how many of the newest runs one of the same stages is looked for.
const RECENT: usize = 20;

impl Session<'_> {
    /// Does what is stale, and records the run.
    ///
    /// # Errors
    /// The store does not work. Failures of actions are in the summary.
    pub fn execute(
        &mut self,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Summary, EngineError> {
        if self.request.quick {
            // Nothing can be done with files that were left unread.
            let request = Request {
                quick: false,
                ..self.request.clone()
            };
            *self = Session::prepare(self.project, request, cancel)?;
        }
        let started = now_millis();
        let clock = Instant::now();
        let pool = workers::Pool::new(self.project, self.spare.take());
        let recorded = !self.has_work() && self.is_recorded(&self.used())?;
        if !recorded {
            match self.hold(cancel) {
                // Nothing is to be done: that the cache cannot be written is no reason to fail.
                Err(EngineError::Store(StoreError::ReadOnly { .. })) if !self.has_work() => {}
                // There may be something to do now: what was found may have been collected since.
                held => held?,
            }
        }
        let forecast = self.forecast()?;
        observer.observe(&RunEvent::Planned(&forecast));
        self.tell_settled(observer);
        let work = self.has_work();
        let run = Ulid::new();
        if work {
            self.check_space(forecast.bytes)?;
            let origin = Arc::new(self.origin(run));
            let run_dir = self
                .request
                .runs_dir
                .as_ref()
                .map(|dir| dir.join(run.to_string()));
            self.record_start(run, started)?;
            self.work(observer, cancel, &origin, run_dir, pool)?;
        }
        let summary = self.summary(cancel.is_set(), clock.elapsed().as_secs_f64());
        if !recorded {
            match self.record_run(run, started, &summary) {
                Err(EngineError::Store(StoreError::ReadOnly { .. })) if !work => {}
                recorded => recorded?,
            }
        } else if !cancel.is_set() {
            self.settle_down(&summary, &forecast);
        }
        Ok(summary)
    }

    fn has_work(&self) -> bool {
        let wanted = |node: &Node| match node.state {
            State::Stale => self.is_wanted(node),
            // It may be wanted when what is before it has been made again.
            _ => !node.state.is_settled(),
        };
        self.nodes.iter().any(wanted)
    }

    /// Whether a stale action is to be done: all, unless lost objects are to be made again.
    fn is_wanted(&self, node: &Node) -> bool {
        self.request.remake.is_empty() || node.again
    }

    fn origin(&self, run: Ulid) -> Origin {
        Origin {
            run,
            pipeline: self.project.name.clone(),
            program: self.project.version.clone(),
            class: stage_core::machine_class(),
        }
    }

    /// Says what the cache already settled.
    fn tell_settled(&self, observer: &dyn Observer) {
        let each = observer.wants_each();
        if !each {
            for (stage, part, count) in self.cached() {
                observer.observe(&RunEvent::Cached { stage, part, count });
            }
        }
        for node in &self.nodes {
            let who = self.who(node);
            match &node.state {
                State::Fresh if each => observer.observe(&RunEvent::Ended {
                    who,
                    ending: Ending::Cached,
                    seconds: node.seconds,
                    reason: None,
                    remembered: false,
                }),
                State::Failed(failure) => observer.observe(&RunEvent::Ended {
                    who,
                    ending: Ending::Failed,
                    seconds: 0.0,
                    reason: Some(&failure.reason),
                    remembered: true,
                }),
                _ => {}
            }
        }
    }

    /// How many actions of each stage's part are in the cache.
    pub(crate) fn cached(&self) -> Vec<(&str, Part, u64)> {
        let mut counts: BTreeMap<(usize, Part), u64> = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.state == State::Fresh) {
            *counts.entry((node.stage, node.part)).or_default() += 1;
        }
        let stages = &self.graph().stages;
        let counts = counts.into_iter();
        counts
            .map(|((stage, part), count)| (stages[stage].name.as_str(), part, count))
            .collect()
    }

    pub(crate) fn who(&self, node: &crate::session::Node) -> Who<'_> {
        Who {
            stage: &self.graph().stages[node.stage].name,
            part: node.part,
            item: self.item_name(node),
        }
    }

    fn check_space(&self, needed: f64) -> Result<(), EngineError> {
        let free = self.project.store.available_space()?;
        // A forecast is no promise: only a clear excess stops the run.
        if needed > free as f64 {
            return Err(EngineError::DiskFull {
                path: self.project.store.root().to_owned(),
                free: crate::forecast::human_bytes(free as f64),
                needed: crate::forecast::human_bytes(needed),
            });
        }
        Ok(())
    }

    fn work(
        &mut self,
        observer: &dyn Observer,
        cancel: &Cancel,
        origin: &Arc<Origin>,
        run_dir: Option<PathBuf>,
        pool: workers::Pool<'_>,
    ) -> Result<(), EngineError> {
        let jobs = self.jobs();
        // One more fills the gaps while another waits for its worker or the disk.
        let turns = if jobs == 1 { 1 } else { jobs + 1 };
        let project = self.project;
        let shop = task::Shop {
            project,
            origin: Arc::clone(origin),
            observer,
            cancel,
            device: self.request.device,
            threads: jobs,
            run_dir,
            again_failed: self.request.retry_failed,
            pool,
            turns: workers::Turns::new(turns),
        };
        // One job at a time stays in order.
        let threads = if jobs == 1 { 1 } else { 2 * jobs };
        let (task_sender, task_queue) = channel::<Task>();
        let task_queue = Mutex::new(task_queue);
        let (result_sender, results) = channel::<(NodeIndex, TaskResult)>();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (shop, queue, sender) = (&shop, &task_queue, result_sender.clone());
                scope.spawn(move || {
                    while let Some(task) = next(queue) {
                        let node = task.node;
                        if sender.send((node, shop.perform(task))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(result_sender);
            let mut books = Books::new(self, observer, cancel, 2 * threads);
            books.keep(task_sender, &results)
        })
    }

    /// Records that a run began, so that one that is killed is known; and says in the lease that
    /// this process does it.
    fn record_start(&self, run: Ulid, started: u64) -> Result<(), EngineError> {
        let store = &self.project.store;
        store.hold_run(run)?;
        let mut demanded = vec![false; self.graph().stages.len()];
        for node in &self.nodes {
            demanded[node.stage] = true;
        }
        let stages = self.graph().stages.iter().zip(demanded);
        let stages = stages.filter(|(_, demanded)| *demanded);
        let stages = stages.map(|(stage, _)| RunStage {
            stage: stage.name.clone(),
            ..RunStage::default()
        });
        let record = RunRecord {
            origin: self.origin(run),
            command: self.request.command.clone(),
            started,
            ended: started,
            outcome: RunOutcome::Started,
            stages: stages.collect(),
            collected: false,
        };
        Ok(store.queue(Record::Run(record), None)?)
    }

    /// The artifacts of each stage's actions, sorted.
    fn used(&self) -> BTreeMap<usize, Vec<Digest>> {
        let mut used: BTreeMap<usize, Vec<Digest>> = BTreeMap::new();
        for node in &self.nodes {
            let artifact = node.artifact.as_ref().map(|artifact| artifact.digest);
            used.entry(node.stage).or_default().extend(artifact);
        }
        for artifacts in used.values_mut() {
            artifacts.par_sort_unstable();
            artifacts.dedup();
        }
        used
    }

    /// Whether the newest run of the same stages `used` the same artifacts: then a run that did
    /// nothing need not be recorded for what it used to be kept.
    fn is_recorded(&self, used: &BTreeMap<usize, Vec<Digest>>) -> Result<bool, EngineError> {
        let runs = self.project.store.runs(RECENT)?;
        let stages = &self.graph().stages;
        let names = || used.keys().map(|stage| &stages[*stage].name);
        let same = |run: &&RunRecord| {
            run.has_ended()
                && run.origin.pipeline == self.project.name
                && run.stages.iter().map(|s| &s.stage).eq(names())
        };
        let Some(newest) = runs.iter().find(same).filter(|run| !run.collected) else {
            return Ok(false);
        };
        let lists = used
            .values()
            .map(|list| (!list.is_empty()).then(|| list_digest(list)));
        Ok(newest.stages.iter().map(|stage| stage.artifacts).eq(lists))
    }

    fn record_run(&self, run: Ulid, started: u64, summary: &Summary) -> Result<(), EngineError> {
        let store = &self.project.store;
        let mut recorded = Vec::with_capacity(summary.stages.len());
        // Both in the order of the graph.
        for (stage, used) in summary.stages.iter().zip(self.used().values()) {
            let artifacts = match used.as_slice() {
                [] => None,
                used => Some(store.put_digests(used)?),
            };
            recorded.push(RunStage {
                stage: stage.stage.clone(),
                executed: stage.executed,
                cached: stage.cached,
                failed: stage.failed,
                seconds: stage.seconds,
                saved: stage.saved,
                artifacts,
            });
        }
        let record = RunRecord {
            origin: self.origin(run),
            command: self.request.command.clone(),
            started,
            ended: now_millis(),
            outcome: match summary.verdict {
                Verdict::Done => RunOutcome::Done,
                Verdict::Failed => RunOutcome::Failed,
                Verdict::Interrupted => RunOutcome::Interrupted,
            },
            stages: recorded,
            collected: false,
        };
        store.queue(Record::Run(record), None)?;
        Ok(store.flush()?)
    }
}

fn next(queue: &Mutex<Receiver<Task>>) -> Option<Task> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}

/// The books of a run.
struct Books<'a, 'p> {
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
    fn new(
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

    fn keep(
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
