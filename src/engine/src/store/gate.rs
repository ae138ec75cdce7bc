//! The gate between using what is in the store and collecting what is not.
//!
//! Whoever begins to rely on something in the store (finds an artifact, puts an object beside one
//! that may be there already, publishes a commit) enters first, says in its lease what it uses,
//! and leaves again; that takes microseconds. A collection closes the gate while it decides: it
//! reads the leases, withdraws records and moves objects away. So nothing can come into use
//! between the look and the deed, and nothing that is in use ever vanishes, not for a moment.
//!
//! The gate is a kernel lock, shared by those who enter. A stream of them would keep a collection
//! out for ever, as the kernel lets everybody share a lock that somebody waits for; hence a
//! turnstile in front, another lock, which a collection holds from the start.
//!
//! Nobody enters twice at a time, nor waits for another thread inside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Layout;
use super::error::{Result, StoreError};
use crate::fs::{Fs, Handle};

/// The two locks.
#[derive(Debug)]
pub(crate) struct Gate {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    turnstile: PathBuf,
    gate: PathBuf,
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
        }
    }

    /// Enters; waits while a collection decides.
    pub(crate) fn enter(&self) -> Result<Entered> {
        let turnstile = self.open(&self.turnstile)?;
        turnstile
            .lock_shared()
            .map_err(StoreError::io("lock", &self.turnstile))?;
        let gate = self.open(&self.gate)?;
        gate.lock_shared()
            .map_err(StoreError::io("lock", &self.gate))?;
        Ok(Entered { _gate: gate })
    }

    /// Closes the gate; waits until everybody has left.
    pub(crate) fn close(&self) -> Result<Closed> {
        let turnstile = self.open(&self.turnstile)?;
        turnstile
            .lock()
            .map_err(StoreError::io("lock", &self.turnstile))?;
        let gate = self.open(&self.gate)?;
        gate.lock().map_err(StoreError::io("lock", &self.gate))?;
        Ok(Closed {
            _gate: gate,
            _turnstile: turnstile,
        })
    }

    fn open(&self, path: &Path) -> Result<Box<dyn Handle>> {
        self.fs
            .open_or_create(path)
            .map_err(StoreError::in_cache("open", path, &self.root))
    }
}
