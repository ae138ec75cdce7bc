//! The training loop: batches in, weights, history and state out. It names no task and no model.
//!
//! Everything that the next step depends on is in the state file: weights, buffers, state of the
//! optimisers, recurrent state of every stream, counters, sums and history. Random numbers need no
//! state: libtorch's generator is seeded anew from (seed, step) before each step, and the loader's
//! order is a function of (seed, epoch). So a training that was killed at any time and taken up
//! again ends with the bytes of one that was not.

pub mod files;
pub mod history;
pub mod metrics;
pub mod optim;
pub mod readings;
pub mod run;
pub mod schedule;
pub mod tensorboard;
pub mod update;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shard::Loader;
use stage_train::Training;
use tch::{Device, Tensor};

use crate::checkpoint;
use crate::models::{self, Model, Moment, State};
use crate::params::{Params, seed_of};
use crate::tasks::Task;
use crate::{Error, Result};
use history::Record;
use metrics::Metrics;
use readings::{CHECK_EVERY, Readings};
use stage_core::Cancel;
use update::Update;

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
    /// The best so far: its step and its primary metric.
    pub best: Option<(u64, f64)>,
    /// Steps at the last validation.
    pub validated: u64,
    /// Sums since then: the loss and its parts. Up to date in a state file alone.
    pub sums: BTreeMap<String, f64>,
    /// All validations.
    pub history: Vec<Record>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Steps made, this one included.
    pub step: u64,
    /// Rows that were learnt from.
    pub rows: u64,
    /// Whether it ended an epoch.
    pub epoch_ended: bool,
}

/// A model in training.
pub struct Trainer<'a, T: Task> {
    /// The model.
    pub model: Box<T::Model>,
    /// Where it stands.
    pub progress: Progress,
    task: &'a T,
    training: &'a Training,
    update: Update,
    readings: Readings,
    state: State,
    device: Device,
    loader: Loader,
    stream: Option<shard::Stream>,
}

impl<'a, T: Task> Trainer<'a, T> {
    /// A fresh training.
    ///
    /// # Errors
    /// The data do not suit the model; out of memory.
    pub fn new(task: &'a T, training: &'a Training, device: Device) -> Result<Self> {
        let loader = task.loader()?;
        let model = task.build(Params::new(device, training.seed))?;
        Ok(Self {
            update: Update::new(training, model.params(), model.groups())?,
            state: model.begin(loader.shape().batch as i64)?,
            model,
            progress: Progress::default(),
            readings: Readings::new(device),
            task,
            training,
            device,
            loader,
            stream: None,
        })
    }

    /// Lets the model fit what it does not learn by gradients, before the first step.
    ///
    /// # Errors
    /// Data cannot be read, libtorch fails, or a stop was asked for.
    pub fn fit(&mut self, cancel: &Cancel) -> Result<()> {
        let task = self.task;
        self.model
            .fit(Moment::BeforeTraining, &|| task.pass(cancel))
    }

    /// Steps until the budget of steps or epochs is used up.
    pub fn budget(&self) -> u64 {
        let by_epochs = match self.training.epochs {
            0 => u64::MAX,
            epochs => epochs.saturating_mul(self.loader.steps_per_epoch()),
        };
        self.training.max_steps.min(by_epochs)
    }

    /// Whether a budget is used up.
    pub fn finished(&self) -> bool {
        let patience = self.training.patience;
        self.progress.step >= self.budget()
            || (patience > 0 && self.progress.since_best >= patience)
    }

    /// Makes one step. Reads nothing back from the device, but for a look at whether all was
    /// finite every [`CHECK_EVERY`] steps.
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
        let chunk = self.task.chunk(batch, self.loader.shape())?;
        tch::manual_seed(seed_of(self.training.seed, &["step", &number.to_string()]));
        let groups: Vec<&'static str> = self.update.groups().map(|group| group.name).collect();
        let mut after = None;
        for (group, name) in groups.into_iter().enumerate() {
            let loss = self.model.loss(group, &chunk, &self.state)?;
            let params = self.model.params_mut();
            let norm = self.update.apply(params, group, &loss.total, number)?;
            if group == 0 {
                self.readings.add("loss", &loss.total)?;
            } else {
                self.readings.add(&format!("{name}_loss"), &loss.total)?;
            }
            self.readings.keep(&loss.total, norm)?;
            for (part, value) in &loss.parts {
                self.readings.add(part, value)?;
            }
            after = Some(loss.state);
        }
        if let Some(after) = after {
            self.state = after.detach()?;
        }
        self.progress.step += 1;
        let epoch_ended = self.progress.step.is_multiple_of(steps);
        if epoch_ended {
            self.progress.epoch += 1;
        }
        if self.progress.step.is_multiple_of(CHECK_EVERY) {
            self.check()?;
        }
        Ok(Step {
            step: self.progress.step,
            rows: chunk.weight.numel() as u64,
            epoch_ended,
        })
    }

    /// Checks that every loss and gradient so far was finite.
    ///
    /// # Errors
    /// [`Error::Diverged`] when one was not.
    pub fn check(&self) -> Result<()> {
        self.readings.check(self.progress.step)
    }

    /// Loss and gradient norm of the last step, which the host waits for.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn last(&self) -> Result<Option<(f64, f64)>> {
        self.readings.last()
    }

    /// The learning rate of the last step.
    pub fn learning_rate(&self) -> f64 {
        self.update.rate(self.progress.step.saturating_sub(1))
    }

    /// Whether it is time to validate: at the end of an epoch, unless that was just done. What
    /// follows the last step is not decided here: a raised budget must not show in the state.
    pub fn validation_due(&self, step: &Step) -> bool {
        let since = self.progress.step - self.progress.validated;
        step.epoch_ended && since >= MIN_STEPS_BETWEEN_VALIDATIONS
    }

    /// Measures the model on the validation split and appends a record to the history. Without
    /// a validation split the training loss decides nothing: the last is the best.
    ///
    /// # Errors
    /// Data cannot be read, libtorch fails, a stop was asked for, or the loss is not finite.
    pub fn validate(&mut self, cancel: &Cancel) -> Result<Record> {
        self.check()?;
        let metrics = self.task.validate(&self.model, cancel)?;
        let sums = self.readings.sums()?;
        Ok(self.record(metrics, sums))
    }

    fn record(&mut self, metrics: Metrics, sums: BTreeMap<String, f64>) -> Record {
        self.readings = Readings::new(self.device);
        let learning_rate = self.learning_rate();
        let progress = &mut self.progress;
        let steps = (progress.step - progress.validated).max(1) as f64;
        let mut parts: BTreeMap<String, f64> = sums
            .into_iter()
            .map(|(name, sum)| (name, sum / steps))
            .collect();
        let loss = parts.remove("loss").unwrap_or(f64::NAN);
        let best = match (metrics.first(), progress.best) {
            (Some(metric), Some((_, best))) => metric.beats(best),
            _ => true,
        };
        if best {
            let value = metrics.first().map_or(loss, |metric| metric.value);
            progress.best = Some((progress.step, value));
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
            metrics,
            best,
        };
        progress.history.push(record.clone());
        record
    }

    /// Writes the state to `path`, whole or not at all.
    ///
    /// # Errors
    /// The loss is no longer finite; the disk is full. The state written before is then still
    /// there.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check()?;
        let model = models::tensors(&*self.model)?;
        let mut tensors: BTreeMap<String, &Tensor> = BTreeMap::new();
        tensors.extend(model.iter().map(|(name, t)| (format!("model/{name}"), t)));
        tensors.extend(self.update.tensors());
        let recurrent = self.state.0.iter().enumerate();
        tensors.extend(recurrent.map(|(i, t)| (format!("state/{i}"), t)));
        let progress = Progress {
            sums: self.readings.sums()?,
            ..self.progress.clone()
        };
        let Ok(Value::Object(meta)) = serde_json::to_value(&progress) else {
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
        models::restore(&mut *self.model, model).map_err(fail)?;
        self.update.restore(progress.step, &rest).map_err(fail)?;
        for (i, tensor) in self.state.0.iter_mut().enumerate() {
            let saved = rest
                .get(&format!("state/{i}"))
                .filter(|saved| saved.size() == tensor.size())
                .ok_or_else(|| fail(format!("lacks the recurrent state {i}, or has another")))?;
            *tensor = saved.f_to_device(self.device)?;
        }
        self.readings.restore(&progress.sums)?;
        self.progress = progress;
        self.stream = None;
        Ok(())
    }
}
