//! Threads where the system may refuse them: a limit of processes (`ulimit -u`, a container's) is
//! met by doing the same with fewer, and by an error where one is needed.

use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use rustix::process::{Resource, getrlimit};

/// Most actions at a time that can be asked for. Each takes some threads and a process.
pub const MAX_JOBS: u16 = 1024;

/// Of the processes that a user may have, the share that the pool may take. The rest is for
/// workers, which do what takes time.
const SHARE: u64 = 16;

/// Threads and processes that an action may take, where there are few.
const NEEDED: usize = 8;

/// Starts the pool of threads on which lists are worked through. Without it the pool would start
/// when it is first used, and panic where there are no threads.
///
/// # Errors
/// Not one thread can be started.
pub fn prepare() -> io::Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limit = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
        let share = usize::try_from(limit / SHARE).unwrap_or(usize::MAX);
        let pool = ThreadPoolBuilder::new()
            .num_threads(cores.min(share).max(1))
            .spawn_handler(start)
            .build_global();
        pool.map_err(|error| error.to_string())
    });
    done.clone().map_err(io::Error::other)
}

/// Starts a thread of the pool. The pool works with any of them missing, but for one.
fn start(thread: ThreadBuilder) -> io::Result<()> {
    let index = thread.index();
    match Builder::new().spawn(move || thread.run()) {
        Err(_) if index > 0 => Ok(()),
        started => started.map(drop),
    }
}

/// Starts `count` threads of `scope` that do `work`. Where the system has fewer, a part of those is
/// started, so that the processes and threads that `work` needs find room.
pub(crate) fn spawn_many<'scope>(
    scope: &'scope Scope<'scope, '_>,
    count: usize,
    work: impl Fn() + Copy + Send + 'scope,
) {
    // None begins before it is known that there are all.
    let go = Arc::new(RwLock::new(true));
    let mut closed = go.write().unwrap_or_else(PoisonError::into_inner);
    let mut started = Vec::with_capacity(count);
    for _ in 0..count {
        let go = Arc::clone(&go);
        let thread = spawn_scoped(scope, move || {
            let go = *go.read().unwrap_or_else(PoisonError::into_inner);
            if go {
                work();
            }
        });
        match thread {
            Some(thread) => started.push(thread),
            None => {
                *closed = false;
                break;
            }
        }
    }
    let all = *closed;
    drop(closed);
    if all {
        return;
    }
    let count = started.len() / NEEDED;
    for thread in started {
        // It did nothing.
        let _ = thread.join();
    }
    for _ in 0..count {
        let _ = spawn_scoped(scope, work);
    }
}

/// A thread of `scope`; none if the system has no more.
pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).ok()
}
