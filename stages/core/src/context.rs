//! What a stage may use of the world while it works.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Event, Input, Output, StageError};

/// Where events go.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Puts a sealed interim artifact into the store while the action goes on.
pub type Publisher = Arc<dyn Fn(Output, u64) -> Result<(), StageError> + Send + Sync>;

/// A flag that says "stop soon". Long loops look at it at least every 100 ms.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// For `?` in loops.
    ///
    /// # Errors
    /// [`StageError::Cancelled`] when a stop was asked for.
    pub fn check(&self) -> Result<(), StageError> {
        if self.is_set() {
            Err(StageError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Which device the user asked for. It never enters a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA, else MPS, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
    /// Apple's Metal.
    Mps,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(i) => write!(f, "cuda:{i}"),
            Self::Mps => f.write_str("mps"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "mps" => Ok(Self::Mps),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    format!("`{text}` is no device, expected auto, cpu, cuda, cuda:INDEX or mps")
                }),
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How the files of a source are prepared before they reach a stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The map stages upstream: an array of `{"kind", "version", "params", "inputs"}`, nested by
    /// `inputs`, in which a source is `"source"`. A stage that reads fitted artifacts names their
    /// digests by port under `artifacts`.
    pub stages: Value,
    /// The artifacts that `stages` names, by digest.
    pub artifacts: BTreeMap<Digest, Input>,
}

/// What a stage may use besides its inputs.
#[derive(Clone)]
pub struct Context {
    /// Set when the run is to stop.
    pub cancel: Cancel,
    /// How many threads the stage may use. Never changes the result.
    pub threads: usize,
    /// The device to compute on.
    pub device: DeviceChoice,
    /// A folder that survives a kill, for work that can be taken up again. One per scratch key
    /// (see [`crate::Stage::budget_keys`]); locked for this action while it runs. Whole parts only.
    pub scratch: Option<PathBuf>,
    /// A folder of this run, outside the store, for times, rates and logs. Whole parts only.
    pub run_dir: Option<PathBuf>,
    /// How items are prepared upstream, when [`crate::Stage::wants_preprocessing`].
    pub preprocessing: Option<Preprocessing>,
    /// The stage's last finished artifact, when [`crate::Stage::wants_previous`].
    pub previous: Option<Input>,
    files: BTreeMap<String, PathBuf>,
    sink: Sink,
    interim_dir: Option<PathBuf>,
    publisher: Option<Publisher>,
}

impl Context {
    /// A context with defaults: one thread, any device, no folders.
    pub fn new(sink: Sink) -> Self {
        Self {
            cancel: Cancel::default(),
            threads: 1,
            device: DeviceChoice::Auto,
            scratch: None,
            run_dir: None,
            preprocessing: None,
            previous: None,
            files: BTreeMap::new(),
            sink,
            interim_dir: None,
            publisher: None,
        }
    }

    /// A context that drops every event: for tests and tools.
    pub fn silent() -> Self {
        Self::new(Arc::new(|_| {}))
    }

    /// The same with the files of the file parameters.
    #[must_use]
    pub fn with_files(mut self, files: BTreeMap<String, PathBuf>) -> Self {
        self.files = files;
        self
    }

    /// The same with somewhere to publish interim artifacts: `dir` is made for each and removed
    /// after it.
    #[must_use]
    pub fn with_publisher(mut self, dir: PathBuf, publisher: Publisher) -> Self {
        self.interim_dir = Some(dir);
        self.publisher = Some(publisher);
        self
    }

    /// Says `event`.
    pub fn emit(&self, event: Event) {
        (self.sink)(event);
    }

    /// Says a sentence to the user.
    pub fn info(&self, text: impl Into<String>) {
        self.emit(Event::info(text));
    }

    /// Warns the user; the work goes on.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(Event::warning(text));
    }

    /// Where the content of the file parameter `key` lies.
    ///
    /// # Errors
    /// The stage did not name it in [`crate::Stage::files`].
    pub fn file(&self, key: &str) -> Result<&Path, StageError> {
        self.files.get(key).map(PathBuf::as_path).ok_or_else(|| {
            StageError::Environment(format!("the file of parameter `{key}` was not handed over"))
        })
    }

    /// Puts what `write` writes into the store as this action's result after `step` steps, while
    /// the action goes on. Without somewhere to publish, does nothing.
    ///
    /// # Errors
    /// Those of `write`, or the store cannot take it (disk full); the action may go on.
    pub fn publish(
        &self,
        step: u64,
        write: impl FnOnce(&mut Output) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let (Some(publish), Some(dir)) = (&self.publisher, &self.interim_dir) else {
            return Ok(());
        };
        std::fs::create_dir_all(dir)
            .map_err(StageError::io(format!("creating `{}`", dir.display())))?;
        let mut out = Output::new(dir);
        let result = write(&mut out).and_then(|()| publish(out, step));
        // Best effort: the folder lies in the store's temporary space, which is swept.
        let _ = std::fs::remove_dir_all(dir);
        result
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("threads", &self.threads)
            .field("device", &self.device)
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_read_back() {
        for text in ["auto", "cpu", "cuda", "cuda:3", "mps"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for bad in ["gpu", "cuda:", "cuda:x", ""] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }
}
