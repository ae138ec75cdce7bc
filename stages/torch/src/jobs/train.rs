//! The stage `train`: runs a [`Learner`] until its budget is used up or it is stopped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use shard::Loader;
use stage_core::{Context, Event, Inputs, Output, Stage, StageError};
use stage_train::{HISTORY_CSV, HISTORY_JSONL, LAST, MODEL, Train};
use tch::Device;

use crate::data::Dataset;
use crate::history::{Record, chart, to_csv, to_jsonl};
use crate::jobs::Work;
use crate::learner::{Files, Learner, Step};
use crate::model_file::{self, Facts};
use crate::tensorboard::EventFile;
use crate::validate::validate;
use crate::{Error, Result, checkpoint, device, innovations, signals};

/// Time between two metrics events.
const METRICS: Duration = Duration::from_millis(1000);
/// Least time between two interim models: each reads training data for its innovations, which takes seconds.
const INTERIM: Duration = Duration::from_secs(60);

impl Work for Train {
    fn work(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()> {
        Run::new(self, inputs, cx)?.go(out)
    }
}

/// One call of the stage.
struct Run<'a> {
    train: &'a Train,
    cx: &'a Context,
    data: Dataset,
    device: Device,
    learner: Learner,
    validation: Option<Loader>,
    /// Bytes of the best model so far, without innovations.
    best: Option<Vec<u8>>,
    files: Option<Files>,
    board: Option<EventFile>,
    clock: Clock,
}

/// Rates and times, for the screen alone.
struct Clock {
    metrics: Instant,
    interim: Instant,
    frames: u64,
    steps: u64,
}

impl<'a> Run<'a> {
    fn new(train: &'a Train, inputs: &Inputs, cx: &'a Context) -> Result<Self> {
        // Before any other call into libtorch.
        let device = device::open(cx.device)?;
        tch::set_num_threads(i32::try_from(train.threads).unwrap_or(1));
        let data = Dataset::open(inputs.one("dataset")?)?;
        let learner = Learner::new(train, &data, device)?;
        let validation = data.validation()?;
        let board = cx.run_dir.as_ref().and_then(|dir| {
            EventFile::create(&dir.join("tensorboard"))
                .map_err(|e| cx.warn(format!("no TensorBoard file: {e}")))
                .ok()
        });
        let mut run = Self {
            train,
            cx,
            data,
            device,
            learner,
            validation,
            best: None,
            files: cx.scratch.as_deref().map(Files::of),
            board,
            clock: Clock {
                metrics: Instant::now(),
                interim: Instant::now(),
                frames: 0,
                steps: 0,
            },
        };
        if !run.resume()? {
            run.initial_weights()?;
        }
        Ok(run)
    }

    fn go(mut self, out: &mut Output) -> Result<()> {
        let budget = self.learner.budget();
        self.cx.info(format!(
            "training on {}: {} parameters, {} training frames, up to {budget} steps",
            device::name(self.device),
            self.learner.model.params().count(),
            self.data.manifest.counts.train.rows,
        ));
        self.cx.emit(Event::Total {
            total: budget,
            unit: "steps".to_owned(),
        });
        self.cx.emit(Event::Position {
            done: self.learner.progress.step,
        });
        while !self.learner.finished() {
            if self.cx.cancel.is_set() || signals::caught() {
                return Err(self.pause(budget));
            }
            let step = self.learner.step()?;
            self.tell(&step, budget);
            if self.learner.validation_due(&step) {
                let record = self.validate()?;
                if record.best
                    && let (Some(best), Some(files)) = (&self.best, &self.files)
                {
                    checkpoint::write_atomically(&files.best(record.step), best)?;
                }
                self.interim(&record)?;
            }
            if step.step.is_multiple_of(u64::from(self.train.save_every)) {
                self.save()?;
            }
        }
        // Saved before the last validation: if the budget is raised, the training goes on as if it
        // had never ended here.
        self.save()?;
        if self.learner.progress.validated != self.learner.progress.step {
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
        match self.learner.resume(&files.state()) {
            Ok(()) => {}
            Err(error @ Error::Checkpoint { .. }) => {
                self.cx.warn(format!("{error}; training starts again"));
                self.learner = Learner::new(self.train, &self.data, self.device)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let progress = &self.learner.progress;
        if progress.step > self.learner.budget() {
            self.cx.info(format!(
                "the saved training is at step {}, beyond the budget of {}: training starts again",
                progress.step,
                self.learner.budget()
            ));
            self.learner = Learner::new(self.train, &self.data, self.device)?;
            return Ok(false);
        }
        if let Some((step, _)) = progress.best {
            let path = files.best(step);
            self.best = Some(std::fs::read(&path).map_err(Error::io("read", &path))?);
        }
        self.cx
            .info(format!("goes on at step {}", self.learner.progress.step));
        Ok(true)
    }

    fn initial_weights(&mut self) -> Result<()> {
        let architecture = self.train.architecture();
        let path = if self.train.init_from.is_some() {
            self.cx.file("init_from")?.to_owned()
        } else if let (true, Some(previous)) = (self.train.warm_start, &self.cx.previous) {
            previous.path(MODEL)?.to_owned()
        } else {
            return Ok(());
        };
        // In the store it is named by its digest, which tells nobody which file is meant.
        let named = |error| match error {
            Error::Checkpoint { reason, .. } => Error::checkpoint("init_from", reason),
            error => error,
        };
        model_file::load_weights(&path, self.learner.model.as_mut(), &architecture).map_err(named)
    }

    fn pause(&mut self, budget: u64) -> Error {
        let step = self.learner.progress.step;
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
                self.learner.save(&files.state())?;
                if let Some((step, _)) = self.learner.progress.best {
                    files.tidy(step);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn validate(&mut self) -> Result<Record> {
        let model = self.learner.model.as_ref();
        let errors = match &self.validation {
            Some(loader) => Some(validate(
                model,
                &self.data.rows,
                loader,
                self.device,
                &self.cx.cancel,
            )?),
            None => None,
        };
        let record = self.learner.record(errors);
        if record.best {
            self.best = Some(model_file::to_bytes(
                self.learner.model.as_ref(),
                &self.facts(&record),
            )?);
        }
        self.tell_record(&record);
        Ok(record)
    }

    /// Publishes the present state as a model that can be used while training goes on.
    fn interim(&mut self, record: &Record) -> Result<()> {
        if self.clock.interim.elapsed() < INTERIM {
            return Ok(());
        }
        let last = self.complete(&model_file::to_bytes(
            self.learner.model.as_ref(),
            &self.facts(record),
        )?)?;
        let best = match &self.best {
            Some(best) if !record.best => self.complete(&best.clone())?,
            _ => last.clone(),
        };
        let history = to_jsonl(&self.learner.progress.history);
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
        let history = std::mem::take(&mut self.learner.progress.history);
        let Some(record) = history.last() else {
            return Err(Error::Data("the training made no step".to_owned()));
        };
        let last = model_file::to_bytes(self.learner.model.as_ref(), &self.facts(record))?;
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

    /// A model file with its innovations.
    fn complete(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let (mut model, facts) = model_file::from_bytes("model", bytes, self.device)?;
        innovations::collect(model.as_mut(), &self.data, self.device, &self.cx.cancel)
            .map_err(|error| self.stopped(error))?;
        model_file::to_bytes(model.as_ref(), &facts)
    }

    /// A stop in the middle of what can be made again from the saved state is a pause.
    fn stopped(&self, error: Error) -> Error {
        match (&error, &self.files) {
            (Error::Stage(StageError::Cancelled), Some(_)) => {
                Error::Stage(StageError::Paused(format!(
                    "stopped at step {}; run again to go on",
                    self.learner.progress.step
                )))
            }
            _ => error,
        }
    }

    fn facts(&self, record: &Record) -> Facts {
        let mut train = serde_json::to_value(self.train).unwrap_or(Value::Null);
        if let Value::Object(map) = &mut train {
            // What changes no weight, or is a path.
            map.remove("save_every");
            map.remove("init_from");
            // Budgets are told by `step`: a best model is the same under a larger one.
            for key in self.train.budget_keys() {
                map.remove(*key);
            }
        }
        Facts {
            architecture: self.train.architecture(),
            rows: self.data.rows.clone(),
            road: self.cx.preprocessing.as_ref().map(|p| p.stages.clone()),
            train,
            step: record.step,
            epoch: record.epoch,
            errors: record.validation,
        }
    }

    fn tell(&mut self, step: &Step, budget: u64) {
        self.clock.frames += step.frames;
        self.clock.steps += 1;
        self.cx.emit(Event::Advance { by: 1 });
        let elapsed = self.clock.metrics.elapsed();
        if elapsed < METRICS && step.step != budget {
            return;
        }
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let left = budget.saturating_sub(step.step) as f64 * seconds / self.clock.steps as f64;
        let values = [
            ("epoch", self.learner.progress.epoch as f64),
            ("loss", step.loss),
            ("learning_rate", step.learning_rate),
            ("gradient_norm", step.gradient_norm),
            ("frames_per_second", self.clock.frames as f64 / seconds),
            ("steps_per_second", self.clock.steps as f64 / seconds),
            ("seconds_left", left),
        ];
        self.metrics(step.step, &values);
        self.clock.metrics = Instant::now();
        (self.clock.frames, self.clock.steps) = (0, 0);
    }

    fn tell_record(&mut self, record: &Record) {
        let mut values = vec![("epoch", record.epoch as f64), ("mean_loss", record.loss)];
        if let Some(errors) = &record.validation {
            values.push(("validation", errors.model));
            values.push(("copy_previous", errors.copy_previous));
            values.push(("bin_mean", errors.bin_mean));
            values.push(("ratio", errors.ratio()));
        }
        self.metrics(record.step, &values);
        if let Some(dir) = &self.cx.run_dir {
            let text = to_jsonl(&self.learner.progress.history);
            if let Err(error) = std::fs::write(dir.join(HISTORY_JSONL), text) {
                self.cx
                    .warn(format!("the history was not written: {error}"));
            }
        }
        // The time of a validation is no time of training.
        self.clock.metrics = Instant::now();
        (self.clock.frames, self.clock.steps) = (0, 0);
    }

    fn metrics(&mut self, step: u64, values: &[(&str, f64)]) {
        if let Some(board) = &mut self.board
            && let Err(error) = board.scalars(step, values.iter().copied())
        {
            self.cx
                .warn(format!("the TensorBoard file ends here: {error}"));
            self.board = None;
        }
        let values: BTreeMap<String, f64> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.cx.emit(Event::Metric { step, values });
    }

    fn summary(&self, history: &[Record]) {
        let best = history.iter().rev().find(|record| record.best);
        let Some((record, errors)) = best.and_then(|r| r.validation.map(|e| (r, e))) else {
            return;
        };
        self.cx.info(format!(
            "best at step {}: {:.2} dB, {:.3} of copying the last frame ({:.2} dB; mean of each bin {:.2} dB)",
            record.step,
            errors.model,
            errors.ratio(),
            errors.copy_previous,
            errors.bin_mean
        ));
        if errors.ratio() >= 1.0 {
            self.cx.warn(
                "the model does no better than copying the last frame: train longer or on more",
            );
        }
    }
}
