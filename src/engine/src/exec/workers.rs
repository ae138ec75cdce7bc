//! The workers that are at hand, by program.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stage_core::{Host, StageError};

use crate::process::{Program, Worker};
use crate::session::Project;

/// Idle workers, kept for the next job.
pub(super) struct Pool<'a> {
    project: &'a Project,
    idle: Mutex<HashMap<&'static str, Vec<Worker>>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(project: &'a Project) -> Self {
        Self {
            project,
            idle: Mutex::default(),
        }
    }

    /// An idle worker of this host, or a new one.
    pub(super) fn take(&self, host: Host) -> Result<Worker, StageError> {
        let name = name(host);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut worker) = idle.get_mut(name).and_then(Vec::pop) {
            if worker.is_usable() {
                return Ok(worker);
            }
        }
        drop(idle);
        let program = match host {
            Host::Engine | Host::Worker => self.project.worker.clone(),
            Host::Program(name) => Program {
                path: self.project.programs.join(name),
                args: Vec::new(),
            },
        };
        Worker::start(&program)
    }

    /// Puts a worker back for the next job.
    pub(super) fn put(&self, host: Host, mut worker: Worker) {
        if worker.is_usable() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.entry(name(host)).or_default().push(worker);
        }
    }
}

fn name(host: Host) -> &'static str {
    match host {
        Host::Engine | Host::Worker => "worker",
        Host::Program(name) => name,
    }
}
