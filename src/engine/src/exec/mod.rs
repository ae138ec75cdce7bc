//! Doing what is stale.
//!
//! The books ([`books`]) know which actions are ready. Working threads take one out, of the deepest
//! stage first, so that an item goes all its way before the next begins, and write its result in.
//! Between the two they claim the action, look once more whether another process has done it, check
//! the inputs, do the work and queue the record for the next group commit.

mod books;
mod task;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rayon::slice::ParallelSliceMut;
use stage_core::{Cancel, Digest, Part};

use crate::error::EngineError;
use crate::event::{Ending, Observer, RunEvent, Who};
use crate::session::{Node, Request, Session, State};
use crate::store::{
    Origin, Record, RunOutcome, RunRecord, RunStage, StoreError, Ulid, list_digest, now_millis,
};
use crate::summary::{Summary, Verdict};
use crate::threads;
use books::{Books, Desk};

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
        let run = self.project.store.next_run();
        if work {
            if !self.request.ignore_space {
                self.check_space(forecast.bytes)?;
            }
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

    pub(crate) fn has_work(&self) -> bool {
        let wanted = |node: &Node| match node.state {
            State::Stale => self.is_wanted(node),
            // It may be wanted when what is before it has been made again.
            _ => !node.state.is_settled(),
        };
        self.nodes.iter().any(wanted)
    }

    /// Whether a stale action is to be done: all, unless some were asked for alone.
    fn is_wanted(&self, node: &Node) -> bool {
        let Some(only) = &self.request.only else {
            return true;
        };
        node.again || node.key.is_some_and(|key| only.contains(&key))
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
        let threads = if jobs == 1 { 1 } else { jobs + 1 };
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
            shares: workers::Shares::new(threads),
        };
        // One job at a time stays in order.
        let count = if jobs == 1 { 1 } else { 2 * jobs };
        let desk = Desk::new(Books::new(self, observer, cancel));
        let work = || desk.work(|task| shop.perform(task));
        std::thread::scope(|scope| {
            // This thread is one of them, and all of them if the system has no more.
            threads::spawn_many(scope, count - 1, work);
            work();
        });
        desk.close()
    }

    /// Records that a run began, so that one that is killed is known; and says in the lease that
    /// this process does it.
    fn record_start(&self, run: Ulid, started: u64) -> Result<(), EngineError> {
        let store = &self.project.store;
        store.hold_run(run)?;
        // Actions stand in the order of the graph.
        let mut demanded: Vec<usize> = self.nodes.iter().map(|node| node.stage).collect();
        demanded.dedup();
        let stages = demanded.into_iter().map(|stage| RunStage {
            stage: self.graph().stages[stage].name.clone(),
            ..RunStage::default()
        });
        let record = RunRecord {
            origin: self.origin(run),
            command: self.request.command.clone(),
            started,
            ended: started,
            outcome: RunOutcome::Started,
            stages: stages.collect(),
            collected: self.request.only.is_some(),
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
                // It is no run that a collection keeps in the place of one of the user's.
                _ if self.request.only.is_some() => None,
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
            collected: self.request.only.is_some(),
        };
        store.queue(Record::Run(record), None)?;
        Ok(store.flush()?)
    }
}
