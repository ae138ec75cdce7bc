//! The training loop: batches in, weights, history and state out.
//!
//! Everything that the next step depends on is in the state file: weights, buffers, moments of
//! the optimiser, recurrent state of every stream, counters, sums and history. Random numbers
//! need no state: libtorch's generator is seeded anew from (seed, step) before each step, and
//! the loader's order is a function of (seed, epoch). So a training that was killed at any time
//! and taken up again ends with the bytes of one that was not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shard::Loader;
use stage_train::Train;
use tch::{Device, Tensor};

use crate::checkpoint;
use crate::data::{Dataset, chunk_of};
use crate::history::Record;
use crate::models::{self, NextFrame, State};
use crate::optim::{AdamW, AdamWConfig, Schedule, clip_grad_norm};
use crate::params::seed_of;
use crate::validate::Errors;
use crate::{Error, Result};

/// The learning rate ends at this share of its peak.
const RATE_FLOOR: f64 = 0.01;
/// Fewer steps than this between two validations cost more than they tell.
const MIN_STEPS_BETWEEN_VALIDATIONS: u64 = 10;

/// Where a training stands, beside its tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps made.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u64,
    /// Validations since the best.
    pub since_best: u32,
    /// The best so far: its step and error.
    pub best: Option<(u64, f64)>,
    /// Steps at the last validation.
    pub validated: u64,
    /// Sums since then: the loss and its parts.
    pub sums: BTreeMap<String, f64>,
    /// All validations.
    pub history: Vec<Record>,
}

/// What one step gave.
#[derive(Debug, Clone)]
pub struct Step {
    /// Steps made, this one included.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Frames that were learnt from.
    pub frames: u64,
    /// Whether it ended an epoch.
    pub epoch_ended: bool,
}

/// A model in training.
pub struct Learner {
    /// The model.
    pub model: Box<dyn NextFrame>,
    /// Where it stands.
    pub progress: Progress,
    train: Train,
    schedule: Schedule,
    optimiser: AdamW,
    state: State,
    device: Device,
    loader: Loader,
    stream: Option<shard::Stream>,
}

impl Learner {
    /// A fresh training.
    ///
    /// # Errors
    /// The data do not suit the model; out of memory.
    pub fn new(train: &Train, data: &Dataset, device: Device) -> Result<Self> {
        let loader = data.training(train)?;
        let model = models::build(&train.architecture(), &data.rows, device, train.seed)?;
        let state = model.begin(loader.shape().batch as i64)?;
        let config = AdamWConfig {
            weight_decay: train.weight_decay,
            ..AdamWConfig::default()
        };
        Ok(Self {
            optimiser: AdamW::new(model.params(), config),
            model,
            progress: Progress::default(),
            schedule: schedule(train),
            train: train.clone(),
            state,
            device,
            loader,
            stream: None,
        })
    }

    /// Steps until the budget of steps or epochs is used up.
    pub fn budget(&self) -> u64 {
        let by_epochs = match self.train.epochs {
            0 => u64::MAX,
            epochs => epochs.saturating_mul(self.loader.steps_per_epoch()),
        };
        self.train.max_steps.min(by_epochs)
    }

    /// Whether a budget is used up.
    pub fn finished(&self) -> bool {
        let patience = self.train.patience;
        self.progress.step >= self.budget()
            || (patience > 0 && self.progress.since_best >= patience)
    }

    /// Makes one step.
    ///
    /// # Errors
    /// Data cannot be read, libtorch fails, or the loss is no longer finite.
    pub fn step(&mut self) -> Result<Step> {
        let number = self.progress.step;
        let steps = self.loader.steps_per_epoch();
        if self.stream.is_none() {
            self.stream = Some(self.loader.at(number / steps, number % steps)?);
        }
        let batch = self
            .stream
            .as_mut()
            .and_then(Iterator::next)
            .ok_or_else(|| Error::Data("the loader ended before the training".to_owned()))??;
        let chunk = chunk_of(batch, self.loader.shape(), self.device)?;
        tch::manual_seed(seed_of(self.train.seed, &["step", &number.to_string()]));
        let loss = self.model.loss(&chunk, &self.state)?;
        let value = f64::try_from(&loss.total)?;
        if !value.is_finite() {
            return Err(Error::Diverged(format!(
                "the loss is {value} at step {number}; lower `learning_rate` or `clip`"
            )));
        }
        self.model.params_mut().zero_grad();
        loss.total.f_backward()?;
        let gradient_norm = clip_grad_norm(self.model.params(), self.train.clip)?;
        let learning_rate = self.schedule.rate(number);
        self.optimiser.step(self.model.params(), learning_rate)?;
        self.state = loss.state.detach();
        self.progress.step += 1;
        let epoch_ended = self.progress.step.is_multiple_of(steps);
        if epoch_ended {
            self.progress.epoch += 1;
        }
        *self.progress.sums.entry("loss".to_owned()).or_default() += value;
        for (name, part) in &loss.parts {
            *self.progress.sums.entry((*name).to_owned()).or_default() += f64::try_from(part)?;
        }
        let shape = chunk.weight.size();
        Ok(Step {
            step: self.progress.step,
            loss: value,
            learning_rate,
            gradient_norm,
            frames: shape.iter().product::<i64>().unsigned_abs(),
            epoch_ended,
        })
    }

    /// Whether it is time to validate: at the end of an epoch, unless that was just done. What
    /// follows the last step is not its business: a raised budget must not show in the state.
    pub fn validation_due(&self, step: &Step) -> bool {
        let since = self.progress.step - self.progress.validated;
        step.epoch_ended && since >= MIN_STEPS_BETWEEN_VALIDATIONS
    }

    /// Takes down what validation found; tells whether it is the best so far. Without a
    /// validation split the training loss decides nothing: the last is the best.
    pub fn record(&mut self, errors: Option<Errors>) -> Record {
        let learning_rate = self.schedule.rate(self.progress.step.saturating_sub(1));
        let progress = &mut self.progress;
        let steps = (progress.step - progress.validated).max(1) as f64;
        let mut parts: BTreeMap<String, f64> = std::mem::take(&mut progress.sums)
            .into_iter()
            .map(|(name, sum)| (name, sum / steps))
            .collect();
        let loss = parts.remove("loss").unwrap_or(f64::NAN);
        let best = match (errors, progress.best) {
            (Some(errors), Some((_, least))) => errors.model < least,
            _ => true,
        };
        if best {
            progress.best = Some((progress.step, errors.map_or(loss, |e| e.model)));
            progress.since_best = 0;
        } else {
            progress.since_best += 1;
        }
        progress.validated = progress.step;
        let record = Record {
            step: progress.step,
            epoch: progress.epoch,
            loss,
            parts,
            learning_rate,
            validation: errors,
            best,
        };
        progress.history.push(record.clone());
        record
    }

    /// Writes the state to `path`, whole or not at all.
    ///
    /// # Errors
    /// The disk is full; the state written before is then still there.
    pub fn save(&self, path: &Path) -> Result<()> {
        let model = models::tensors(self.model.as_ref());
        let mut tensors: BTreeMap<String, &Tensor> = BTreeMap::new();
        tensors.extend(model.iter().map(|(name, t)| (format!("model/{name}"), t)));
        tensors.extend(self.optimiser.tensors());
        let recurrent = self.state.0.iter().enumerate();
        tensors.extend(recurrent.map(|(i, t)| (format!("state/{i}"), t)));
        let Ok(Value::Object(meta)) = serde_json::to_value(&self.progress) else {
            return Err(Error::checkpoint("state", "has facts that are no JSON"));
        };
        checkpoint::write(path, &tensors, &meta)
    }

    /// Takes up the state at `path`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when it is damaged or of another training.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let saved = checkpoint::read(path)?;
        let fail = |reason: String| Error::checkpoint("state.safetensors", reason);
        let progress: Progress = serde_json::from_value(Value::Object(saved.meta))
            .map_err(|e| fail(format!("is of another version of this program ({e})")))?;
        if progress.validated > progress.step {
            return Err(fail(
                "was validated after a step that it has not made".to_owned(),
            ));
        }
        let (mut model, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in saved.tensors {
            match name.strip_prefix("model/") {
                Some(name) => drop(model.insert(name.to_owned(), tensor)),
                None => drop(rest.insert(name, tensor)),
            }
        }
        models::restore(self.model.as_mut(), model).map_err(fail)?;
        self.optimiser.restore(progress.step, &rest).map_err(fail)?;
        for (i, tensor) in self.state.0.iter_mut().enumerate() {
            let saved = rest
                .get(&format!("state/{i}"))
                .filter(|saved| saved.size() == tensor.size())
                .ok_or_else(|| fail(format!("lacks the recurrent state {i}, or has another")))?;
            *tensor = saved.f_to_device(self.device)?;
        }
        self.progress = progress;
        self.stream = None;
        Ok(())
    }
}

fn schedule(train: &Train) -> Schedule {
    Schedule {
        peak: train.learning_rate,
        floor: RATE_FLOOR,
        warmup_steps: u64::from(train.warmup_steps),
        decay: train.decay,
        decay_steps: u64::from(train.decay_steps),
    }
}

/// The files of a training in its scratch folder: the state, and the best model so far under the
/// step at which it was best, so that a state always finds the one that it knows.
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

const BEST: &str = "best-";
