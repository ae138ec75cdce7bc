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

/// What actions share while they compute: threads, by a counting semaphore, and the device. There
/// are more working threads than that: while some wait for a disk or a worker's answer, others
/// compute.
pub(super) struct Shares {
    free: Mutex<Free>,
    freed: Condvar,
}

/// What nobody uses now.
struct Free {
    threads: usize,
    device: bool,
}

impl Shares {
    /// Of so many threads and one device.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            free: Mutex::new(Free {
                threads,
                device: true,
            }),
            freed: Condvar::new(),
        }
    }

    /// Waits until `threads` threads, and the device if that is needed, are free. They are taken
    /// together, so that nobody holds one and waits for the other. `threads` is at most what there
    /// is.
    pub(super) fn take(&self, threads: usize, device: bool) -> Share<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let short = |free: &mut Free| free.threads < threads || (device && !free.device);
        let free = self.freed.wait_while(free, short);
        let mut free = free.unwrap_or_else(PoisonError::into_inner);
        free.threads -= threads;
        free.device &= !device;
        Share {
            shares: self,
            threads,
            device,
        }
    }
}

/// What one action uses, until the value is dropped. See [`Shares`].
pub(super) struct Share<'a> {
    shares: &'a Shares,
    threads: usize,
    device: bool,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let free = self.shares.free.lock();
        let mut free = free.unwrap_or_else(PoisonError::into_inner);
        free.threads += self.threads;
        free.device |= self.device;
        drop(free);
        // Those that wait need different numbers of threads.
        self.shares.freed.notify_all();
    }
}

fn name(host: Host) -> &'static str {
    match host {
        Host::Engine | Host::Worker => "worker",
        Host::Program(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn threads_and_the_device_are_never_given_twice() {
        let shares = Shares::new(4);
        let (threads, devices) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for worker in 0..8 {
                let (shares, threads, devices) = (&shares, &threads, &devices);
                scope.spawn(move || {
                    for round in 0..200 {
                        let wanted = 1 + (worker + round) % 4;
                        let device = (worker + round) % 3 == 0;
                        let share = shares.take(wanted, device);
                        assert!(threads.fetch_add(wanted, Ordering::SeqCst) + wanted <= 4);
                        if device {
                            assert_eq!(devices.fetch_add(1, Ordering::SeqCst), 0);
                        }
                        std::thread::yield_now();
                        if device {
                            devices.fetch_sub(1, Ordering::SeqCst);
                        }
                        threads.fetch_sub(wanted, Ordering::SeqCst);
                        drop(share);
                    }
                });
            }
        });
        let free = shares.free.lock().unwrap();
        assert_eq!((free.threads, free.device), (4, true));
    }
}
