//! The files of a training in its scratch folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint;

const BEST: &str = "best-";

/// The state, and the best model so far under the step at which it was best, so that a state
/// always finds the one that it knows.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Those in `folder`.
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The state.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state.safetensors")
    }

    /// The model that was best at `step`.
    pub fn best(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{BEST}{step}.safetensors"))
    }

    /// Removes all best models but that of `step`.
    pub fn tidy(&self, step: u64) {
        let keep = self.best(step);
        self.remove(|path, name| name.starts_with(BEST) && path != keep);
    }

    /// Removes what killed processes left half-written.
    pub fn sweep(&self) {
        self.remove(|_, name| name.ends_with(checkpoint::TEMPORARY));
    }

    /// Best effort: what stays only takes up space.
    fn remove(&self, old: impl Fn(&Path, &str) -> bool) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if old(&path, &name) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
