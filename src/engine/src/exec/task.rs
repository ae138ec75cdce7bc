//! One action, on a working thread: from the claim to the queued record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use stage_core::worker::{Job, panic_text};
use stage_core::{
    Cancel, Context, DeviceChoice, Digest, Event, FailureClass, Host, Input, Inputs, ItemInput,
    Needs, Part, Preprocessing, SOURCE_FILE, StageError, Tree,
};

use super::workers::{Pool, Shares};
use crate::event::{Observer, RunEvent, Who};
use crate::process::{Attend, Patience};
use crate::session::{Failure, NodeIndex, Project, Upstream};
use crate::store::{
    ActionRecord, Artifact, Holder, InterimRecord, Origin, Outcome, Record, Scratch, StageSettings,
    StatSig, StoreError, now_millis,
};
use crate::threads;

/// An artifact that a task is given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) identity: Digest,
    pub(super) label: Option<String>,
    pub(super) tree: Tree,
    /// For a source file: where it is, and the state of it that was hashed.
    pub(super) source: Option<(PathBuf, StatSig)>,
}

impl Given {
    pub(super) fn artifact(artifact: Option<&Artifact>, identity: Digest) -> Option<Self> {
        Some(Self {
            identity,
            label: None,
            tree: artifact?.tree(),
            source: None,
        })
    }
}

/// An action to be done, with all that it needs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) node: NodeIndex,
    pub(super) key: Digest,
    pub(super) scratch_key: Digest,
    pub(super) stage: usize,
    pub(super) settings: Arc<StageSettings>,
    pub(super) item_name: String,
    pub(super) params: Value,
    pub(super) host: Host,
    pub(super) needs: Needs,
    pub(super) preprocessing: Option<Upstream>,
    pub(super) files: BTreeMap<String, (Digest, PathBuf)>,
    pub(super) item: Option<Given>,
    pub(super) ports: HashMap<String, Vec<Given>>,
    pub(super) previous: Option<Artifact>,
    /// Digests that entered the key, for the record.
    pub(super) inputs: BTreeMap<String, Vec<Digest>>,
    /// Whether it is to be done although the store knows a result.
    pub(super) again: bool,
    /// Whether it is to be done from its beginning, whatever was left of it.
    pub(super) forced: bool,
    /// Whether what it works in is of use when it has ended: with a raised budget it goes on.
    pub(super) goes_on: bool,
}

/// What became of a task.
#[derive(Debug)]
pub(super) enum TaskResult {
    /// It has its artifact.
    Done {
        artifact: Artifact,
        seconds: f64,
        bytes: u64,
        /// Another process had done it meanwhile.
        found: bool,
    },
    /// The action failed.
    Failed(Failure),
    /// These objects, of its inputs, are missing or damaged.
    Lost(BTreeSet<Digest>),
    /// The store does not work.
    Store(StoreError),
}

/// What the working threads share.
pub(super) struct Shop<'a> {
    pub(super) project: &'a Project,
    pub(super) origin: Arc<Origin>,
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
    pub(super) device: DeviceChoice,
    pub(super) threads: usize,
    pub(super) run_dir: Option<PathBuf>,
    pub(super) again_failed: bool,
    pub(super) pool: Pool<'a>,
    pub(super) shares: Shares,
}

/// Why a task ended without an artifact.
enum Stop {
    Stage(StageError),
    Store(StoreError),
}

impl From<StageError> for Stop {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Shop<'_> {
    pub(super) fn perform(&self, task: Task) -> TaskResult {
        let begun = Instant::now();
        match self.try_perform(&task) {
            Ok(done) => done,
            Err(Stop::Store(error)) => match error.lost_object() {
                Some(digest) => self.lost_inputs(&task).map_or_else(ended, |mut lost| {
                    lost.insert(digest);
                    TaskResult::Lost(lost)
                }),
                None => ended(error),
            },
            Err(Stop::Stage(StageError::Damaged(reason))) => {
                self.lost_inputs(&task).map_or_else(ended, |lost| {
                    if lost.is_empty() {
                        failed(FailureClass::Environment, &reason)
                    } else {
                        TaskResult::Lost(lost)
                    }
                })
            }
            Err(Stop::Stage(error)) => {
                let class = error.class();
                let reason = error.reason();
                if class == FailureClass::Content
                    && let Err(error) = self.remember(&task, begun, &reason)
                {
                    return TaskResult::Store(error);
                }
                failed(class, &reason)
            }
        }
    }

    /// The inputs of a task that are missing or damaged; all are read.
    fn lost_inputs(&self, task: &Task) -> Result<BTreeSet<Digest>, StoreError> {
        let given = task.item.iter().chain(task.ports.values().flatten());
        let trees = given
            .filter(|given| given.source.is_none())
            .map(|given| given.tree.clone())
            .chain(task.previous.iter().map(Artifact::tree))
            .chain(
                task.preprocessing
                    .iter()
                    .flat_map(|upstream| upstream.artifacts.iter().map(Artifact::tree)),
            );
        let entries = trees.flat_map(|tree| {
            let files = tree.files().map(|(_, entry)| *entry);
            files.collect::<Vec<_>>()
        });
        self.project.store.lost_of(entries, self.cancel)
    }

    fn try_perform(&self, task: &Task) -> Result<TaskResult, Stop> {
        if self.cancel.is_set() {
            return Err(StageError::Cancelled.into());
        }
        let store = &self.project.store;
        let claim = store.claim(&task.key, |other| self.wait(task, other))?;
        if let Some(found) = self.found(task)? {
            return Ok(found);
        }
        let place = store.workplace()?;
        let out = place.out().to_owned();
        let scratch = self.scratch(task)?;
        let job = self.job(task, out, scratch.as_ref())?;
        let bytes = job.input_bytes();
        let worked = Instant::now();
        let (tree, written) = self.do_job(task, &job, place.path())?;
        if let Some((path, sig)) = task.item.as_ref().and_then(|item| item.source.as_ref()) {
            self.unchanged(path, sig)?;
        }
        let seconds = worked.elapsed().as_secs_f64();
        let artifact = store.adopt(&job.out, &tree, &written)?;
        // Interim artifacts of the other parts lie beside the output.
        if task.settings.part == Part::Item {
            store.leave(place)?;
        }
        let record = self.record(task, Outcome::Done(artifact.clone()), seconds, bytes);
        if let Some(scratch) = scratch {
            // The scratch is of use until the result is durable, or longer: then a collection
            // removes it some day.
            store.queue(Record::Action(record), Some(claim))?;
            store.flush()?;
            if !task.goes_on {
                scratch.remove()?;
            }
        } else {
            store.queue(Record::Action(record), Some(claim))?;
        }
        Ok(TaskResult::Done {
            artifact,
            seconds,
            bytes,
            found: false,
        })
    }

    /// What another process did of this action since we looked.
    fn found(&self, task: &Task) -> Result<Option<TaskResult>, Stop> {
        if task.again {
            return Ok(None);
        }
        let Some(result) = self.project.store.lookup_held(&task.key)? else {
            return Ok(None);
        };
        Ok(match result.outcome {
            Outcome::Done(artifact) => Some(TaskResult::Done {
                artifact,
                seconds: result.seconds,
                bytes: result.bytes,
                found: true,
            }),
            Outcome::Failed { reason, program }
                if !self.again_failed && program == self.project.version =>
            {
                Some(TaskResult::Failed(Failure {
                    reason,
                    class: FailureClass::Content,
                    remembered: true,
                }))
            }
            Outcome::Failed { .. } => None,
        })
    }

    fn wait(&self, task: &Task, other: Option<&Holder>) -> ControlFlow<()> {
        if self.cancel.is_set() {
            return ControlFlow::Break(());
        }
        if let Some(other) = other {
            let since = now_millis().saturating_sub(other.since) / 1000;
            let holder = format!(
                "process {} on {}, at work for {}",
                other.pid,
                other.host,
                crate::forecast::human_seconds(since as f64)
            );
            self.observer.observe(&RunEvent::WaitingFor {
                who: task.who(),
                holder: &holder,
            });
        }
        ControlFlow::Continue(())
    }

    /// The folder for work that can be taken up again, for parts that take long.
    fn scratch(&self, task: &Task) -> Result<Option<Scratch>, Stop> {
        if task.settings.part == Part::Item || !matches!(task.host, Host::Program(_)) {
            return Ok(None);
        }
        let store = &self.project.store;
        let wait = |other: Option<&Holder>| self.wait(task, other);
        let scratch = store.scratch(&task.scratch_key, &self.origin, wait)?;
        if task.forced {
            scratch.clear()?;
        }
        Ok(Some(scratch))
    }

    fn job(&self, task: &Task, out: PathBuf, scratch: Option<&Scratch>) -> Result<Job, Stop> {
        let item = match &task.item {
            Some(given) => Some(self.input(given)?),
            None => None,
        };
        let mut inputs = Inputs::default();
        for (port, list) in &task.ports {
            let list = list.iter().map(|given| self.input(given));
            inputs
                .ports
                .insert(port.clone(), list.collect::<Result<_, _>>()?);
        }
        let previous = match &task.previous {
            Some(artifact) => Some(self.project.store.input(&artifact.tree())?),
            None => None,
        };
        let preprocessing = match &task.preprocessing {
            Some(upstream) => Some(self.preprocessing(upstream)?),
            None => None,
        };
        let files = task.files.iter();
        Ok(Job {
            kind: task.settings.kind.clone(),
            version: task.settings.version,
            part: task.settings.part,
            params: task.params.clone(),
            item,
            inputs,
            out,
            scratch: scratch.map(|scratch| scratch.path().to_owned()),
            run_dir: self
                .run_dir
                .as_ref()
                .map(|dir| dir.join(&task.settings.stage)),
            preprocessing,
            previous,
            files: files
                .map(|(key, (_, path))| (key.clone(), path.clone()))
                .collect(),
            threads: task
                .needs
                .threads
                .map_or(self.threads, |most| most.clamp(1, self.threads)),
            device: self.device,
        })
    }

    fn preprocessing(&self, upstream: &Upstream) -> Result<Preprocessing, Stop> {
        let mut artifacts = BTreeMap::new();
        for artifact in &upstream.artifacts {
            let input = self.project.store.input(&artifact.tree())?;
            artifacts.insert(artifact.digest, input);
        }
        Ok(Preprocessing {
            stages: upstream.stages.clone(),
            artifacts,
        })
    }

    fn input(&self, given: &Given) -> Result<ItemInput, Stop> {
        let input = match &given.source {
            Some((path, sig)) => Input {
                tree: given.tree.clone(),
                paths: BTreeMap::from([(SOURCE_FILE.to_owned(), path.clone())]),
                file_id: Some((*sig).into()),
            },
            None => self.project.store.input(&given.tree)?,
        };
        Ok(ItemInput {
            source: given.identity,
            label: given.label.clone(),
            input,
        })
    }

    fn do_job(&self, task: &Task, job: &Job, tmp: &Path) -> Result<(Tree, Vec<String>), Stop> {
        let _share = self.shares.take(job.threads, task.needs.device);
        if task.host == Host::Engine {
            return Ok(self.do_here(task, job)?);
        }
        let mut worker = self.pool.take(task.host)?;
        let patience = match task.host {
            Host::Program(_) => Patience {
                silence: None,
                farewell: Duration::from_secs(20),
            },
            _ => Patience::with_reader(job),
        };
        let mut attend = Attending {
            shop: self,
            task,
            dir: tmp,
        };
        let result = worker.perform(job, patience, self.cancel, &mut attend);
        if result.is_ok() || matches!(result, Err(StageError::Content(_) | StageError::Paused(_))) {
            self.pool.put(task.host, worker);
        }
        Ok(result?)
    }

    fn do_here(&self, task: &Task, job: &Job) -> Result<(Tree, Vec<String>), StageError> {
        let (sender, events) = channel();
        let mut cx = Context::new(Arc::new(move |event: Event| {
            // Nobody listens any more once the action has ended.
            let _ = sender.send(event);
        }))
        .with_files(job.files.clone());
        cx.cancel = self.cancel.clone();
        cx.threads = job.threads;
        cx.device = job.device;
        cx.scratch.clone_from(&job.scratch);
        cx.run_dir.clone_from(&job.run_dir);
        cx.preprocessing.clone_from(&job.preprocessing);
        cx.previous.clone_from(&job.previous);
        let registry = &self.project.registry;
        let perform = move || {
            // The context ends here, and with it the channel.
            let cx = cx;
            catch_unwind(AssertUnwindSafe(|| job.perform(registry, &cx)))
        };
        let events = Mutex::new(events);
        let listen = || {
            for event in events.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                self.observer.observe(&RunEvent::Stage(task.who(), &event));
            }
        };
        let result = if task.settings.part == Part::Item {
            // Items are short and many: what they say is heard at their end, without a thread.
            let result = perform();
            listen();
            result
        } else {
            std::thread::scope(|scope| {
                let listener = threads::spawn_scoped(scope, listen);
                let result = perform();
                if listener.is_none() {
                    listen();
                }
                result
            })
        };
        result.unwrap_or_else(|payload| {
            Err(StageError::Crashed(format!(
                "the stage panicked: {}",
                panic_text(&*payload)
            )))
        })
    }

    /// Refuses a result if the source file is not the one that was hashed. Its reader saw that it
    /// opened that one; this sees that nobody wrote to it meanwhile.
    fn unchanged(&self, path: &Path, sig: &StatSig) -> Result<(), StageError> {
        let now = self.project.fs.stat(path);
        let now = now.map_err(StageError::io(format!("reading `{}`", path.display())))?;
        if StatSig::from(&now) == *sig {
            return Ok(());
        }
        Err(StageError::changed())
    }

    fn remember(&self, task: &Task, begun: Instant, reason: &str) -> Result<(), StoreError> {
        // What was read may not be what was hashed: then the failure says nothing of the content.
        if let Some((path, sig)) = task.item.as_ref().and_then(|item| item.source.as_ref())
            && self.unchanged(path, sig).is_err()
        {
            return Ok(());
        }
        let outcome = Outcome::Failed {
            reason: reason.to_owned(),
            program: self.project.version.clone(),
        };
        let record = self.record(task, outcome, begun.elapsed().as_secs_f64(), 0);
        self.project.store.queue(Record::Action(record), None)
    }

    fn record(&self, task: &Task, outcome: Outcome, seconds: f64, bytes: u64) -> ActionRecord {
        ActionRecord {
            key: task.key,
            origin: Arc::clone(&self.origin),
            settings: Arc::clone(&task.settings),
            item: task.item_name.clone(),
            inputs: task.inputs.clone(),
            outcome,
            seconds,
            bytes,
            at: now_millis(),
        }
    }
}

impl Task {
    fn who(&self) -> Who<'_> {
        Who {
            stage: &self.settings.stage,
            part: self.settings.part,
            item: &self.item_name,
        }
    }
}

fn failed(class: FailureClass, reason: &str) -> TaskResult {
    TaskResult::Failed(Failure {
        reason: reason.to_owned(),
        class,
        remembered: false,
    })
}

/// How a task ends when the store could not do its part.
fn ended(error: StoreError) -> TaskResult {
    match error {
        StoreError::Cancelled => failed(FailureClass::Cancelled, "interrupted"),
        error => TaskResult::Store(error),
    }
}

struct Attending<'a> {
    shop: &'a Shop<'a>,
    task: &'a Task,
    dir: &'a Path,
}

impl Attend for Attending<'_> {
    fn event(&mut self, event: Event) {
        let who = self.task.who();
        self.shop.observer.observe(&RunEvent::Stage(who, &event));
    }

    fn interim(
        &mut self,
        step: u64,
        dir: PathBuf,
        tree: Tree,
        written: Vec<String>,
    ) -> Result<(), String> {
        if !dir.starts_with(self.dir) {
            return Err("an interim artifact outside its folder".to_owned());
        }
        let store = &self.shop.project.store;
        let artifact = store
            .adopt(&dir, &tree, &written)
            .map_err(|e| crate::error::chain(&e))?;
        let record = InterimRecord {
            origin: Arc::clone(&self.shop.origin),
            stage: self.task.settings.stage.clone(),
            key: self.task.key,
            step,
            artifact,
            at: now_millis(),
        };
        store
            .queue(Record::Interim(record), None)
            .map_err(|e| crate::error::chain(&e))?;
        let who = self.task.who();
        self.shop.observer.observe(&RunEvent::Interim(who, step));
        Ok(())
    }
}
