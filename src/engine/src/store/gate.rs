//! The gate between using what is in the store and collecting what is not.
//!
//! A process that begins to rely on something in the store (finds an artifact, puts an object
//! beside one that may be there already, publishes a commit) enters first, says in its lease what
//! it uses, and leaves again; that takes microseconds. A collection closes the gate while it
//! decides: it reads the leases, withdraws records and moves objects away. So nothing can come into
//! use between the look and the deed, and nothing that is in use ever vanishes, not for a moment.
//!
//! The gate is a kernel lock, shared by those who enter. A stream of them would keep a collection
//! out for ever, as the kernel lets everybody share a lock that somebody waits for; hence a
//! turnstile in front, another lock, which a collection holds from the start.
//!
//! A process that is stopped inside keeps a collection out, and a collection that is stopped keeps
//! everybody out. The first gives up after some time, so that others go on; the others wait, as
//! they cannot know what it will remove, and say for whom.
//!
//! Nobody enters twice at a time, nor waits for another thread inside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Layout;
use super::error::{Result, StoreError};
use super::lock::{Sharing, Waiting};
use crate::fs::{Fs, Handle, lock_holders};

/// How long a collection waits for those who are inside.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two locks.
#[derive(Debug)]
pub(crate) struct Gate {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    lock_mode: u32,
    turnstile: PathBuf,
    gate: PathBuf,
    /// How long a collection waits for those who are inside.
    patience: Duration,
}

/// Inside: no collection decides while this lives.
#[derive(Debug)]
pub(crate) struct Entered {
    _gate: Box<dyn Handle>,
}

/// Closed: nobody else is inside while this lives.
#[derive(Debug)]
pub(crate) struct Closed {
    _gate: Box<dyn Handle>,
    _turnstile: Box<dyn Handle>,
}

impl Gate {
    pub(crate) fn new(fs: Arc<dyn Fs>, layout: &Layout) -> Self {
        Self {
            fs,
            turnstile: layout.root.join("gate.turn"),
            gate: layout.root.join("gate.lock"),
            root: layout.root.clone(),
            lock_mode: layout.lock_mode,
            patience: PATIENCE,
        }
    }

    /// Enters; waits while a collection decides.
    pub(crate) fn enter(&self, waiting: &Waiting<'_>) -> Result<Entered> {
        let turnstile = self.open(&self.turnstile)?;
        waiting.take(&*turnstile, &self.turnstile, Sharing::Shared, None)?;
        let gate = self.open(&self.gate)?;
        waiting.take(&*gate, &self.gate, Sharing::Shared, None)?;
        Ok(Entered { _gate: gate })
    }

    /// Closes the gate; waits until everybody has left, and gives up when that takes too long.
    pub(crate) fn close(&self, waiting: &Waiting<'_>) -> Result<Closed> {
        let take = |path: &Path| {
            let file = self.open(path)?;
            if waiting.take(&*file, path, Sharing::Exclusive, Some(self.patience))? {
                return Ok(file);
            }
            Err(StoreError::InUse {
                path: self.root.clone(),
                holders: lock_holders(&*self.fs, &*file),
            })
        };
        let turnstile = take(&self.turnstile)?;
        Ok(Closed {
            _gate: take(&self.gate)?,
            _turnstile: turnstile,
        })
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Handle>> {
        self.fs
            .open_lock(path, self.lock_mode)
            .map_err(StoreError::in_cache("open", path, &self.root))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use stage_core::Cancel;

    use super::super::error::Warning;
    use super::*;
    use crate::fs::RealFs;

    /// A gate in a fresh folder that gives up soon.
    fn gate(dir: &Path) -> Gate {
        Gate {
            fs: Arc::new(RealFs),
            root: dir.to_owned(),
            lock_mode: 0o600,
            turnstile: dir.join("gate.turn"),
            gate: dir.join("gate.lock"),
            patience: Duration::from_millis(1_200),
        }
    }

    #[test]
    fn a_collection_gives_up_and_lets_others_in() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(dir.path());
        let heard = Mutex::new(Vec::new());
        let warn = |warning: Warning| heard.lock().unwrap().push(warning.to_string());
        let cancel = Cancel::default();
        let waiting = Waiting {
            fs: &RealFs,
            warn: &warn,
            cancel: &cancel,
        };
        let inside = gate.enter(&waiting).unwrap();
        let error = gate.close(&waiting).unwrap_err().to_string();
        assert!(
            error.contains("in use without a pause by process"),
            "{error}"
        );
        let heard = std::mem::take(&mut *heard.lock().unwrap());
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(heard[0].starts_with("waiting for `"), "{heard:?}");
        drop(gate.enter(&waiting).unwrap());
        drop(inside);
        drop(gate.close(&waiting).unwrap());
    }

    #[test]
    fn a_wait_for_a_collection_ends_when_the_user_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(dir.path());
        let cancel = Cancel::default();
        let stop = cancel.clone();
        let warn = move |warning: Warning| {
            assert!(
                matches!(warning, Warning::WaitingForLock { .. }),
                "{warning}"
            );
            stop.set();
        };
        let waiting = Waiting {
            fs: &RealFs,
            warn: &warn,
            cancel: &cancel,
        };
        let closed = gate.close(&waiting).unwrap();
        let error = gate.enter(&waiting).unwrap_err();
        assert!(matches!(error, StoreError::Cancelled), "{error}");
        drop(closed);
    }
}
