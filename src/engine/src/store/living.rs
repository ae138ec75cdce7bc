//! What a living process has at a store.

use std::io;
use std::ops::ControlFlow;

use stage_core::Digest;

use super::error::{Result, StoreError};
use super::lease::{self, Claim, Holder, LeaseInfo, Scratch};
use super::record::{Origin, run_digest};
use super::{Store, Ulid, open};
use crate::fs;

impl Store {
    /// Keeps artifacts, objects, keys and runs ([`run_digest`]) from collection while this process
    /// lives: what was found in the cache and is going to be used. What enters the store through
    /// this process is held already.
    ///
    /// `generation` is what [`Store::generation`] said before they were looked up. Says whether
    /// they are held: if records were withdrawn since, they are not, and must be looked up again.
    ///
    /// # Errors
    /// The commits cannot be read, or the lease cannot be written.
    pub fn hold(&self, digests: &[Digest], generation: u64) -> Result<bool> {
        let _entered = self.inner.enter()?;
        self.inner.refresh_if_changed()?;
        if self.generation() != generation {
            return Ok(false);
        }
        self.inner.lease()?.hold(digests)?;
        Ok(true)
    }

    /// Says that this process does a run: what the run records is kept while this process lives.
    ///
    /// # Errors
    /// The lease cannot be written.
    pub fn hold_run(&self, run: Ulid) -> Result<()> {
        self.inner.lease()?.hold(&[run_digest(run)])
    }

    /// A name for a new run, after those of all runs that the store knows, whatever the machine's
    /// clock says.
    pub fn next_run(&self) -> Ulid {
        self.inner.clock.next()
    }

    /// The leases of all living processes.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn leases(&self) -> Result<Vec<LeaseInfo>> {
        lease::living(&*self.inner.fs, &self.inner.layout)
    }

    /// Takes the right to work on an action. While another process has it, `wait` is told who (if
    /// known already) every 100 ms at most and may give up. Afterwards ask
    /// [`Store::lookup_fresh`]: the other may have done the work, even if this one did not wait.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] if `wait` gave up; the claim cannot be written.
    pub fn claim(
        &self,
        key: &Digest,
        mut wait: impl FnMut(Option<&Holder>) -> ControlFlow<()>,
    ) -> Result<Claim> {
        let path = self.inner.layout.claims.join(key.to_hex());
        self.inner.lease()?.claim(&path, &mut wait)
    }

    /// The scratch folder `key`, claimed as by [`Store::claim`] for the run of `origin`. It holds
    /// what earlier attempts left there. It is that run's from now on: a collection that drops the
    /// run drops the folder.
    ///
    /// # Errors
    /// As [`Store::claim`], or the folder cannot be made.
    pub fn scratch(
        &self,
        key: &Digest,
        origin: &Origin,
        mut wait: impl FnMut(Option<&Holder>) -> ControlFlow<()>,
    ) -> Result<Scratch> {
        let layout = &self.inner.layout;
        let claim_path = layout.claims.join(format!("{key}.scratch"));
        let claim = self.inner.lease()?.claim(&claim_path, &mut wait)?;
        let path = layout.scratch.join(key.to_hex());
        let owner = layout.scratch.join(format!("{key}.owner"));
        let line = serde_json::to_vec(&Holder::of_run(origin))
            .map_err(|error| StoreError::io("write", &owner)(io::Error::other(error)))?;
        fs::write_atomic(&*self.inner.fs, &owner, &line)
            .map_err(StoreError::io("write", &owner))?;
        match self.inner.fs.create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open::check_folder(&*self.inner.fs, &path)?;
            }
            made => made.map_err(StoreError::io("create", &path))?,
        }
        Ok(Scratch {
            fs: self.inner.fs.clone(),
            path,
            owner,
            _claim: claim,
        })
    }
}
