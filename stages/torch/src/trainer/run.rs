//! One run of a training: takes up what is saved, trains until a budget is used up or a stop is
//! asked for, publishes interim models, and writes the artifact.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use stage_core::{Context, Event, Output, StageError};
use stage_train::{HISTORY_CSV, HISTORY_JSONL, LAST, MODEL, Training};
use tch::{Device, Tensor};

use super::files::Files;
use super::history::{Record, chart, to_csv, to_jsonl};
use super::tensorboard::EventFile;
use super::{Step, Trainer};
use crate::models::{self, Model, Moment};
use crate::params::Params;
use crate::tasks::Task;
use crate::{Error, Result, checkpoint, device, model_file, signals};

/// Time between two metrics events, for which loss and gradient norm are read from the device.
const METRICS: Duration = Duration::from_millis(1000);
/// Least time between two interim models: what a model fits after training can take seconds.
const INTERIM: Duration = Duration::from_secs(60);

/// What is trained, and how.
pub struct Setup<'a, T: Task> {
    /// The task with its data set and model.
    pub task: &'a T,
    /// The parameters of training.
    pub training: &'a Training,
    /// The name of the model.
    pub model: &'a str,
    /// The stage's parameters as the model file tells them: those that change weights.
    pub params: Value,
    /// Where it computes.
    pub device: Device,
}

/// Trains, and writes the artifact.
///
/// # Errors
/// Data cannot be read, libtorch or the disk fails, the loss is no longer finite, or a stop was
/// asked for: then [`StageError::Paused`] says that the training can go on.
pub fn run<T: Task>(setup: &Setup<'_, T>, out: &mut Output, cx: &Context) -> Result<()> {
    Run::new(setup, cx)?.go(out)
}

struct Run<'a, T: Task> {
    setup: &'a Setup<'a, T>,
    cx: &'a Context,
    trainer: Trainer<'a, T>,
    /// Bytes of the best model so far, without what it fits after training.
    best: Option<Vec<u8>>,
    files: Option<Files>,
    board: Option<EventFile>,
    clock: Clock,
}

/// Rates and times, for the screen alone.
struct Clock {
    metrics: Instant,
    interim: Instant,
    rows: u64,
    steps: u64,
}

impl<'a, T: Task> Run<'a, T> {
    fn new(setup: &'a Setup<'a, T>, cx: &'a Context) -> Result<Self> {
        let trainer = Trainer::new(setup.task, setup.training, setup.device)?;
        let board = cx.run_dir.as_ref().and_then(|dir| {
            EventFile::create(&dir.join("tensorboard"))
                .map_err(|e| cx.warn(format!("no TensorBoard file: {e}")))
                .ok()
        });
        let mut run = Self {
            setup,
            cx,
            trainer,
            best: None,
            files: cx.scratch.as_deref().map(Files::of),
            board,
            clock: Clock {
                metrics: Instant::now(),
                interim: Instant::now(),
                rows: 0,
                steps: 0,
            },
        };
        if !run.resume()? {
            run.trainer.fit(&cx.cancel)?;
            run.initial_weights()?;
        }
        Ok(run)
    }

    fn go(mut self, out: &mut Output) -> Result<()> {
        let budget = self.trainer.budget();
        self.cx.info(format!(
            "training on {}: {} parameters, {} training rows, up to {budget} steps",
            device::name(self.setup.device),
            self.trainer.model.params().count(),
            self.setup.task.training_rows(),
        ));
        self.cx.emit(Event::Total {
            total: budget,
            unit: "steps".to_owned(),
        });
        self.cx.emit(Event::Position {
            done: self.trainer.progress.step,
        });
        while !self.trainer.finished() {
            if self.cx.cancel.is_set() || signals::caught() {
                return Err(self.pause(budget));
            }
            let step = self.trainer.step()?;
            self.tell(&step, budget)?;
            if self.trainer.validation_due(&step) {
                let record = self.validate()?;
                if record.best
                    && let (Some(best), Some(files)) = (&self.best, &self.files)
                {
                    checkpoint::write_atomically(&files.best(record.step), best)?;
                }
                self.interim(&record)?;
            }
            if step
                .step
                .is_multiple_of(u64::from(self.setup.training.save_every))
            {
                self.save()?;
            }
        }
        // Saved before the last validation: if the budget is raised, the training goes on as if it
        // had never ended here.
        self.save()?;
        if self.trainer.progress.validated != self.trainer.progress.step {
            self.validate()?;
        }
        self.finish(out)
    }

    /// Takes up the state in the scratch folder, if there is one within the budget.
    fn resume(&mut self) -> Result<bool> {
        let Some(files) = self.files.clone() else {
            return Ok(false);
        };
        files.sweep();
        if !files.state().exists() {
            return Ok(false);
        }
        match self.trainer.resume(&files.state()) {
            Ok(()) => {}
            Err(error @ Error::Checkpoint { .. }) => {
                self.cx.warn(format!("{error}; training starts again"));
                self.trainer = self.fresh()?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let progress = &self.trainer.progress;
        if progress.step > self.trainer.budget() {
            self.cx.info(format!(
                "the saved training is at step {}, beyond the budget of {}: training starts again",
                progress.step,
                self.trainer.budget()
            ));
            self.trainer = self.fresh()?;
            return Ok(false);
        }
        if let Some((step, _)) = progress.best {
            let path = files.best(step);
            self.best = Some(std::fs::read(&path).map_err(Error::io("read", &path))?);
        }
        self.cx
            .info(format!("goes on at step {}", self.trainer.progress.step));
        Ok(true)
    }

    fn fresh(&self) -> Result<Trainer<'a, T>> {
        let Setup {
            task,
            training,
            device,
            ..
        } = self.setup;
        Trainer::new(task, training, *device)
    }

    fn initial_weights(&mut self) -> Result<()> {
        let training = self.setup.training;
        let path = if training.init_from.is_some() {
            self.cx.file("init_from")?.to_owned()
        } else if let (true, Some(previous)) = (training.warm_start, &self.cx.previous) {
            previous.path(MODEL)?.to_owned()
        } else {
            return Ok(());
        };
        // In the store it is named by its digest, which tells nobody which file is meant.
        let named = |error| match error {
            Error::Checkpoint { reason, .. } => Error::checkpoint("init_from", reason),
            error => error,
        };
        let model = &mut *self.trainer.model;
        model_file::load_weights(&path, model, self.setup.model).map_err(named)
    }

    fn pause(&mut self, budget: u64) -> Error {
        let step = self.trainer.progress.step;
        match self.save() {
            Ok(()) if self.files.is_some() => Error::Stage(StageError::Paused(format!(
                "stopped at step {step} of {budget}; run again to go on"
            ))),
            Ok(()) => Error::Stage(StageError::Cancelled),
            Err(error) => error,
        }
    }

    fn save(&self) -> Result<()> {
        match &self.files {
            Some(files) => {
                self.trainer.save(&files.state())?;
                if let Some((step, _)) = self.trainer.progress.best {
                    files.tidy(step);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn validate(&mut self) -> Result<Record> {
        let record = self.trainer.validate(&self.cx.cancel)?;
        if record.best {
            self.best = Some(self.bytes(&*self.trainer.model, &self.facts(&record)?)?);
        }
        self.tell_record(&record);
        Ok(record)
    }

    /// Publishes the present state as a model that can be used while training goes on.
    fn interim(&mut self, record: &Record) -> Result<()> {
        if self.clock.interim.elapsed() < INTERIM {
            return Ok(());
        }
        let last = self.bytes(&*self.trainer.model, &self.facts(record)?)?;
        let last = self.complete(&last)?;
        let best = match &self.best {
            Some(best) if !record.best => self.complete(&best.clone())?,
            _ => last.clone(),
        };
        let history = to_jsonl(&self.trainer.progress.history);
        let published = self.cx.publish(record.step, |out| {
            out.write(MODEL, &best)?;
            out.write(LAST, &last)?;
            out.write(HISTORY_JSONL, history.as_bytes())
        });
        if let Err(error) = published {
            self.cx
                .warn(format!("the interim model was not stored: {error}"));
        }
        self.clock.interim = Instant::now();
        Ok(())
    }

    fn finish(mut self, out: &mut Output) -> Result<()> {
        let history = std::mem::take(&mut self.trainer.progress.history);
        let Some(record) = history.last() else {
            return Err(Error::Data("the training made no step".to_owned()));
        };
        let last = self.bytes(&*self.trainer.model, &self.facts(record)?)?;
        let best = match &self.best {
            Some(best) if *best != last => self.complete(&best.clone())?,
            _ => self.complete(&last)?,
        };
        let last = if record.best {
            best.clone()
        } else {
            self.complete(&last)?
        };
        out.write(MODEL, &best)?;
        out.write(LAST, &last)?;
        out.write(HISTORY_JSONL, to_jsonl(&history).as_bytes())?;
        out.write(HISTORY_CSV, to_csv(&history).as_bytes())?;
        let chart = chart(&history);
        out.write("loss.svg", chart.to_svg().as_bytes())?;
        let png = chart
            .to_png()
            .map_err(|e| StageError::Environment(format!("drawing the loss curve: {e}")))?;
        out.write("loss.png", &png)?;
        self.summary(&history);
        Ok(())
    }

    /// The bytes of a model file.
    fn bytes(&self, model: &T::Model, facts: &Map<String, Value>) -> Result<Vec<u8>> {
        let tensors = models::tensors(model)?;
        let tensors: BTreeMap<String, &Tensor> =
            tensors.iter().map(|(n, t)| (n.clone(), t)).collect();
        checkpoint::to_bytes(&tensors, facts)
    }

    /// A model file with what the model fits after training.
    fn complete(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let saved = checkpoint::from_bytes("model", bytes)?;
        let params = Params::saved(self.setup.device, saved.tensors);
        let mut model = self.setup.task.build(params)?;
        let cancel = &self.cx.cancel;
        model
            .fit(Moment::AfterTraining, &|| self.setup.task.pass(cancel))
            .map_err(|error| self.stopped(error))?;
        self.bytes(&model, &saved.meta)
    }

    /// A stop in the middle of what can be made again from the saved state is a pause.
    fn stopped(&self, error: Error) -> Error {
        match (&error, &self.files) {
            (Error::Stage(StageError::Cancelled), Some(_)) => {
                Error::Stage(StageError::Paused(format!(
                    "stopped at step {}; run again to go on",
                    self.trainer.progress.step
                )))
            }
            _ => error,
        }
    }

    /// What the model file says beside its weights.
    fn facts(&self, record: &Record) -> Result<Map<String, Value>> {
        let mut facts = self.setup.task.facts()?;
        for (name, value) in [
            (
                "road",
                json!(self.cx.preprocessing.as_ref().map(|p| &p.stages)),
            ),
            ("train", self.setup.params.clone()),
            ("step", json!(record.step)),
            ("epoch", json!(record.epoch)),
            ("metrics", json!(record.metrics)),
        ] {
            facts.insert(name.to_owned(), value);
        }
        Ok(facts)
    }

    fn tell(&mut self, step: &Step, budget: u64) -> Result<()> {
        self.clock.rows += step.rows;
        self.clock.steps += 1;
        self.cx.emit(Event::Advance { by: 1 });
        let elapsed = self.clock.metrics.elapsed();
        if elapsed < METRICS && step.step != budget {
            return Ok(());
        }
        let Some((loss, gradient_norm)) = self.trainer.last()? else {
            return Ok(());
        };
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let left = budget.saturating_sub(step.step) as f64 * seconds / self.clock.steps as f64;
        let values = [
            ("epoch", self.trainer.progress.epoch as f64),
            ("loss", loss),
            ("learning_rate", self.trainer.learning_rate()),
            ("gradient_norm", gradient_norm),
            ("rows_per_second", self.clock.rows as f64 / seconds),
            ("steps_per_second", self.clock.steps as f64 / seconds),
            ("seconds_left", left),
        ];
        self.metrics(
            step.step,
            values.map(|(name, value)| (name.to_owned(), value)),
        );
        self.clock.metrics = Instant::now();
        (self.clock.rows, self.clock.steps) = (0, 0);
        Ok(())
    }

    fn tell_record(&mut self, record: &Record) {
        let own = [
            ("epoch".to_owned(), record.epoch as f64),
            ("mean_loss".to_owned(), record.loss),
        ];
        let measured = record.metrics.iter().flat_map(|metric| metric.values());
        self.metrics(record.step, own.into_iter().chain(measured));
        if let Some(dir) = &self.cx.run_dir {
            let text = to_jsonl(&self.trainer.progress.history);
            if let Err(error) = std::fs::write(dir.join(HISTORY_JSONL), text) {
                self.cx
                    .warn(format!("the history was not written: {error}"));
            }
        }
        // The time of a validation is no time of training.
        self.clock.metrics = Instant::now();
        (self.clock.rows, self.clock.steps) = (0, 0);
    }

    fn metrics(&mut self, step: u64, values: impl IntoIterator<Item = (String, f64)>) {
        let values: BTreeMap<String, f64> = values.into_iter().collect();
        let tagged = values.iter().map(|(name, value)| (name.as_str(), *value));
        if let Some(board) = &mut self.board
            && let Err(error) = board.scalars(step, tagged)
        {
            self.cx
                .warn(format!("the TensorBoard file ends here: {error}"));
            self.board = None;
        }
        self.cx.emit(Event::Metric { step, values });
    }

    fn summary(&self, history: &[Record]) {
        let Some(record) = history.iter().rev().find(|record| record.best) else {
            return;
        };
        let Some(metric) = record.metrics.first() else {
            return;
        };
        let baselines = metric.baselines.iter();
        let baselines: Vec<String> = baselines
            .map(|b| format!("{} {:.3}", b.name.replace('_', " "), b.value))
            .collect();
        let beside = match baselines.as_slice() {
            [] => String::new(),
            list => format!(" (baselines: {})", list.join(", ")),
        };
        self.cx.info(format!(
            "best at step {}: {} {:.3}{beside}",
            record.step,
            metric.label(),
            metric.value,
        ));
        for baseline in metric.baselines.iter().filter(|b| !metric.beats(b.value)) {
            self.cx.warn(format!(
                "the model is no better than the baseline `{}`: train longer or on more",
                baseline.name
            ));
        }
    }
}
