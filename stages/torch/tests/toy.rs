//! A task and a model that are nowhere else: what the trainer promises, it promises to any.
//!
//! The task is tokens; the model has two groups of parameters with an optimiser each, fits one
//! buffer before training and one after, and has metrics of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipeline_torch::Result;
use pipeline_torch::models::{Chunk, Group, Loss, Model, Moment, OpenPass, Pass, State};
use pipeline_torch::params::{Init, Params};
use pipeline_torch::tasks::Task;
use pipeline_torch::trainer::metrics::{Better, Metric, Metrics};
use pipeline_torch::trainer::run::{Setup, run};
use pipeline_torch::{checkpoint, data};
use serde_json::{Map, Value, json};
use shard::{
    Batch, Layout, Loader, LoaderOptions, ManifestBuilder, Metadata, Parts, Remainder, RowType,
    Sampling, Segment, SegmentId, SegmentWriter, Shape, Split,
};
use stage_core::{Cancel, Context, DeviceChoice, Event, Output, StageError};
use stage_train::{Algorithm, Training};
use tch::{Device, Kind, Tensor};

const TOKENS: i64 = 5;
const ROWS: usize = 400;
const FLOATS: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A table of the next token by the last, and a second one that guesses how sure the first is.
struct Bigram {
    params: Params,
    next: Tensor,
    doubt: Tensor,
    /// Fitted before training: how often each token is seen.
    seen: Tensor,
    /// Fitted after training: the mean of the first table, for no use but this test.
    after: Tensor,
}

impl Bigram {
    fn new(mut params: Params) -> Result<Self> {
        Ok(Self {
            next: params.add("next.table", &[TOKENS, TOKENS], Init::Normal(0.1))?,
            doubt: params.add("doubt.table", &[TOKENS, 1], Init::Constant(0.0))?,
            seen: params.buffer("seen", &[TOKENS], 0.0)?,
            after: params.buffer("after", &[1], 0.0)?,
            params,
        })
    }

    /// The loss of each row: `(B, T)`.
    fn surprise(&self, chunk: &Chunk) -> (Tensor, Tensor, Tensor) {
        let ids = chunk.rows.squeeze_dim(2).to_kind(Kind::Int64);
        let length = ids.size()[1] - 1;
        let (now, then) = (ids.narrow(1, 0, length), ids.narrow(1, 1, length));
        let logits = Tensor::embedding(&self.next, &now, -1, false, false);
        let scores = (logits + self.seen.log1p() * 0.01).log_softmax(-1, Kind::Float);
        let surprise = -scores.gather(2, &then.unsqueeze(2), false).squeeze_dim(2);
        let right = scores
            .argmax(-1, false)
            .eq_tensor(&then)
            .to_kind(Kind::Float);
        (now, surprise, right)
    }
}

impl Model for Bigram {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn groups(&self) -> Vec<Group> {
        let mut doubt = Group::new("doubt", "doubt.");
        doubt.optimiser = Some(Algorithm::Sgd);
        vec![Group::new("next", "next."), doubt]
    }

    fn buffers(&self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("seen", self.seen.shallow_clone()),
            ("after", self.after.shallow_clone()),
        ]
    }

    fn fit(&mut self, moment: Moment, open: OpenPass<'_>) -> Result<()> {
        if moment == Moment::AfterTraining {
            self.after
                .copy_(&self.next.detach().mean(Kind::Float).view([1]));
            return Ok(());
        }
        for chunk in open()?.chunks {
            let ids = chunk?.rows.flatten(0, -1).to_kind(Kind::Int64);
            self.seen += ids.bincount(None::<Tensor>, TOKENS).to_kind(Kind::Float);
        }
        Ok(())
    }

    fn begin(&self, streams: i64) -> Result<State> {
        Ok(State(vec![Tensor::zeros([streams], FLOATS)]))
    }

    fn loss(&mut self, group: usize, chunk: &Chunk, state: &State) -> Result<Loss> {
        let (now, surprise, _) = self.surprise(chunk);
        let total = match group {
            0 => surprise.mean(Kind::Float),
            _ => {
                let doubt = Tensor::embedding(&self.doubt, &now, -1, false, false);
                let noise = Tensor::randn_like(&surprise) * 0.01;
                let miss = doubt.squeeze_dim(2) - surprise.detach() + noise;
                miss.square().mean(Kind::Float)
            }
        };
        Ok(Loss {
            parts: Vec::new(),
            total,
            state: State(vec![&state.0[0] + 1.0]),
        })
    }
}

/// The task: a data set of tokens.
struct Tokens {
    manifest: shard::Manifest,
    folder: std::path::PathBuf,
}

impl Tokens {
    fn new(folder: &Path) -> Self {
        let mut builder = ManifestBuilder::new();
        for (i, split) in [Split::Train, Split::Train, Split::Valid]
            .into_iter()
            .enumerate()
        {
            let id = SegmentId([i as u8; 32]);
            let path = folder.join(format!("{id}.bin"));
            let layout = Layout::new(RowType::F32, [("token", 1)]).unwrap();
            let mut writer =
                SegmentWriter::new(File::create(&path).unwrap(), layout, Metadata::new()).unwrap();
            // Each token is followed by the next but one, with an exception now and then.
            let mut token = i as i64;
            let tokens: Vec<f32> = (0..ROWS as i64)
                .map(|n| {
                    token = (token + if n % 7 == 0 { 1 } else { 2 }) % TOKENS;
                    token as f32
                })
                .collect();
            writer.push_f32(&tokens).unwrap();
            writer.finish().unwrap();
            let parts = Parts::from([(split, 0..ROWS as u64)]);
            builder
                .add(id, &Segment::open(&path).unwrap(), &parts)
                .unwrap();
        }
        Self {
            manifest: builder.finish("toy").unwrap(),
            folder: folder.to_owned(),
        }
    }

    fn open(&self, split: Split, rows: usize, remainder: Remainder) -> Result<Loader> {
        let sampling = Sampling::Chunks { remainder };
        let options = LoaderOptions::new(split, 2, rows, sampling);
        Ok(Loader::open(&self.manifest, &self.folder, &options)?)
    }
}

impl Task for Tokens {
    type Model = Bigram;

    fn build(&self, params: Params) -> Result<Box<Bigram>> {
        Ok(Box::new(Bigram::new(params)?))
    }

    fn facts(&self) -> Result<Map<String, Value>> {
        Ok(Map::from_iter([(
            "architecture".to_owned(),
            json!({"name": "bigram"}),
        )]))
    }

    fn loader(&self) -> Result<Loader> {
        self.open(Split::Train, 9, Remainder::Drop)
    }

    fn chunk(&self, batch: Batch, shape: Shape) -> Result<Chunk> {
        data::chunk_of(batch, shape, Device::Cpu)
    }

    fn training_rows(&self) -> u64 {
        self.manifest.counts.train.rows
    }

    fn pass<'a>(&'a self, _cancel: &'a Cancel) -> Result<Pass<'a>> {
        let loader = self.open(Split::Train, 21, Remainder::Drop)?;
        let shape = loader.shape();
        let batches = loader.epoch(0)?;
        Ok(Pass {
            streams: 2,
            rows: self.training_rows(),
            chunks: Box::new(batches.map(move |batch| self.chunk(batch?, shape))),
        })
    }

    fn validate(&self, model: &Bigram, _cancel: &Cancel) -> Result<Metrics> {
        let _guard = tch::no_grad_guard();
        let loader = self.open(Split::Valid, 21, Remainder::Drop)?;
        let (mut surprise, mut right, mut count) = (0.0, 0.0, 0.0);
        for batch in loader.epoch(0)? {
            let chunk = self.chunk(batch?, loader.shape())?;
            let (_, lost, hit) = model.surprise(&chunk);
            let sum = |x: Tensor| f64::try_from((x * &chunk.weight).sum(Kind::Float)).unwrap();
            surprise += sum(lost);
            right += sum(hit);
            count += f64::try_from(chunk.weight.sum(Kind::Float)).unwrap();
        }
        Ok(vec![
            Metric::new("accuracy", "%", 100.0 * right / count, Better::Higher)
                .with("chance", 100.0 / TOKENS as f64),
            Metric::new("perplexity", "", (surprise / count).exp(), Better::Lower),
        ])
    }
}

fn training(max_steps: u64) -> Training {
    Training {
        batch_size: 2,
        learning_rate: 0.1,
        decay_steps: 100,
        max_steps,
        save_every: 7,
        threads: 1,
        ..Training::default()
    }
}

/// A context that asks for a stop after so many steps.
fn stopping_after(steps: u64, scratch: Option<&Path>) -> Context {
    let (count, cancel) = (AtomicU64::new(0), Cancel::default());
    let seen = cancel.clone();
    let mut cx = Context::new(Arc::new(move |event| {
        if matches!(event, Event::Advance { .. })
            && count.fetch_add(1, Ordering::Relaxed) + 1 == steps
        {
            seen.set();
        }
    }));
    cx.cancel = cancel;
    cx.device = DeviceChoice::Cpu;
    cx.scratch = scratch.map(Path::to_owned);
    cx
}

/// The files of the artifact.
fn train(
    task: &Tokens,
    training: &Training,
    out: &Path,
    cx: &Context,
) -> std::result::Result<BTreeMap<String, Vec<u8>>, StageError> {
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).unwrap();
    let mut output = Output::new(out);
    let setup = Setup {
        task,
        training,
        model: "bigram",
        params: json!({}),
        device: Device::Cpu,
    };
    run(&setup, &mut output, cx)?;
    let (tree, _) = output.seal()?;
    let read = |name: &String| (name.clone(), fs::read(out.join(name)).unwrap());
    Ok(tree.0.keys().map(read).collect())
}

#[test]
fn a_model_of_two_groups_learns_and_its_own_metrics_are_drawn() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let task = Tokens::new(dir.path());
    let cx = stopping_after(u64::MAX, None);
    let files = train(&task, &training(240), &dir.path().join("out"), &cx).unwrap();
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let header =
        "step,epoch,loss,doubt_loss,learning_rate,accuracy,accuracy_chance,perplexity,best";
    assert_eq!(text("history.csv").lines().next(), Some(header));
    assert!(text("loss.svg").contains("accuracy (%)"));
    let last: Value = serde_json::from_str(text("history.jsonl").lines().last().unwrap()).unwrap();
    assert!(
        last["metrics"][0]["value"].as_f64().unwrap() > 80.0,
        "{last}"
    );
    let model = checkpoint::from_bytes("m", &files["model.safetensors"]).unwrap();
    assert_eq!(model.meta["architecture"]["name"], "bigram");
    // Each group has learnt, and each buffer was fitted.
    for name in ["next.table", "doubt.table", "buffer/seen", "buffer/after"] {
        assert!(
            model.tensors[name].abs().max().double_value(&[]) > 0.0,
            "{name}"
        );
    }
    assert!(model.tensors["doubt.table"].double_value(&[0, 0]) > 0.05);
}

#[test]
fn a_higher_value_is_the_better_one_where_the_metric_says_so() {
    let high = Metric::new("accuracy", "%", 80.0, Better::Higher);
    let low = Metric::new("perplexity", "", 80.0, Better::Lower);
    assert!(high.beats(79.0) && !high.beats(80.0) && !high.beats(81.0));
    assert!(!low.beats(79.0) && !low.beats(80.0) && low.beats(81.0));
}

#[test]
fn stopped_killed_and_raised_trainings_end_as_one_that_was_not() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let task = Tokens::new(dir.path());
    let out = dir.path().join("out");
    let whole = train(&task, &training(90), &out, &stopping_after(u64::MAX, None)).unwrap();

    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    for steps in [3, 9, 40] {
        let cx = stopping_after(steps, Some(&scratch));
        let error = train(&task, &training(90), &out, &cx).unwrap_err();
        assert!(matches!(error, StageError::Paused(_)), "{error}");
    }
    // As a kill leaves it: the state of an earlier save, and half a file.
    let state = scratch.join("state.safetensors");
    fs::write(scratch.join("state.safetensors.9.tmp"), b"half").unwrap();
    let saved = fs::read(&state).unwrap();
    let cx = stopping_after(u64::MAX, Some(&scratch));
    assert!(whole == train(&task, &training(90), &out, &cx).unwrap());
    fs::write(&state, saved).unwrap();
    let cx = stopping_after(u64::MAX, Some(&scratch));
    assert!(whole == train(&task, &training(90), &out, &cx).unwrap());

    let raised = dir.path().join("raised");
    fs::create_dir(&raised).unwrap();
    for steps in [55, 90] {
        let cx = stopping_after(u64::MAX, Some(&raised));
        let files = train(&task, &training(steps), &out, &cx).unwrap();
        assert_eq!(whole == files, steps == 90);
    }
}

#[test]
fn a_training_that_diverges_says_so_and_saves_nothing() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let task = Tokens::new(dir.path());
    let mad = Training {
        learning_rate: 1e38,
        optimiser: Algorithm::Sgd,
        clip: 0.0,
        weight_decay: 0.0,
        warmup_steps: 0,
        decay: stage_train::Decay::Constant,
        save_every: 1,
        ..training(400)
    };
    let cx = stopping_after(u64::MAX, Some(dir.path()));
    let error = train(&task, &mad, &dir.path().join("out"), &cx)
        .map(|files| files.len())
        .unwrap_err();
    assert!(error.to_string().contains("no longer finite"), "{error}");
    // The first save came after the first step, which was too long already.
    assert!(!dir.path().join("state.safetensors").exists());
}
