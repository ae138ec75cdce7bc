//! Waiting for kernel locks.
//!
//! A lock of the store is held for moments. But a process that is stopped keeps its locks, so
//! nothing waits inside the kernel: a lock is tried again and again, the user reads after a second
//! who holds it, and a wait that has another way out ends.

use std::path::Path;
use std::time::{Duration, Instant};

use stage_core::Cancel;

use super::error::{Result, StoreError, Warning};
use crate::fs::{Fs, Handle, lock_holders};

/// How long a lock is waited for in silence.
const SILENCE: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// How a lock is shared with other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// With none.
    Exclusive,
    /// With all that share it.
    Shared,
}

/// How locks are waited for.
pub(crate) struct Waiting<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) warn: &'a (dyn Fn(Warning) + Send + Sync),
    /// Ends every wait.
    pub(crate) cancel: &'a Cancel,
}

impl Waiting<'_> {
    /// Takes the lock of the open file at `path`. Gives `false` if others still hold it after
    /// `patience`; without a patience it waits as long as that takes.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`]; the file system has no locks.
    pub(crate) fn take(
        &self,
        file: &dyn Handle,
        path: &Path,
        sharing: Sharing,
        patience: Option<Duration>,
    ) -> Result<bool> {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(200);
        let mut said = false;
        loop {
            let taken = match sharing {
                Sharing::Exclusive => file.try_lock(),
                Sharing::Shared => file.try_lock_shared(),
            };
            if taken.map_err(StoreError::io("lock", path))? {
                return Ok(true);
            }
            let waited = begun.elapsed();
            if patience.is_some_and(|patience| waited >= patience) {
                return Ok(false);
            }
            if self.cancel.is_set() {
                return Err(StoreError::Cancelled);
            }
            if waited >= SILENCE && !said {
                said = true;
                (self.warn)(Warning::WaitingForLock {
                    path: path.to_owned(),
                    holders: lock_holders(self.fs, file),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }
}
