//! The workers that are at hand, by program.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};

use stage_core::{Host, StageError};

use crate::process::{Program, Worker};
use crate::session::Project;

/// Idle workers, kept for the next job.
pub(super) struct Pool<'a> {
    project: &'a Project,
    idle: Mutex<HashMap<&'static str, Vec<Worker>>>,
}

impl<'a> Pool<'a> {
    /// With a worker of this program, if one has been started already.
    pub(super) fn new(project: &'a Project, spare: Option<Worker>) -> Self {
        let pool = Self {
            project,
            idle: Mutex::default(),
        };
        if let Some(worker) = spare {
            pool.put(Host::Worker, worker);
        }
        pool
    }

    /// An idle worker of this host, or a new one.
    pub(super) fn take(&self, host: Host) -> Result<Worker, StageError> {
        let mut worker = match self.idle(host) {
            Some(worker) => worker,
            None => Worker::start(&self.program(host))?,
        };
        worker.greet()?;
        Ok(worker)
    }

    fn idle(&self, host: Host) -> Option<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.get_mut(name(host))?;
        while let Some(mut worker) = idle.pop() {
            if worker.is_usable() {
                return Some(worker);
            }
        }
        None
    }

    fn program(&self, host: Host) -> Program {
        match host {
            Host::Engine | Host::Worker => self.project.worker.clone(),
            Host::Program(name) => Program {
                path: self.project.programs.join(name),
                args: Vec::new(),
            },
        }
    }

    /// Puts a worker back for the next job.
    pub(super) fn put(&self, host: Host, worker: Worker) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(name(host)).or_default().push(worker);
    }
}

/// The right to compute, for so many at a time. There are more working threads than that: while
/// some wait for a disk or a worker's answer, the others have their turn.
pub(super) struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Turns {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(count),
            freed: Condvar::new(),
        }
    }

    /// Waits for a turn, which ends with the value.
    pub(super) fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let none = self.freed.wait_while(free, |free| *free == 0);
        *none.unwrap_or_else(PoisonError::into_inner) -= 1;
        Turn(self)
    }
}

/// See [`Turns`].
pub(super) struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn name(host: Host) -> &'static str {
    match host {
        Host::Engine | Host::Worker => "worker",
        Host::Program(name) => name,
    }
}
