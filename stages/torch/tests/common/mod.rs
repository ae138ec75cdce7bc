//! A small data set and prompt made of decaying partials, and contexts to run stages in.

#![allow(dead_code, reason = "each test uses its part")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dsp::{FrameFormat, MagnitudeKind, Stft, StftConfig, StftStream};
use serde_json::{Value, json};
use shard::{
    Column, Dtype, Layout, ManifestBuilder, Parts, RowType, Segment, SegmentId, SegmentWriter,
    ShardOptions, ShardWriter, Split,
};
use stage_core::{
    Context, DeviceChoice, Digest, Event, Input, Inputs, ItemInput, KindEntry, Output, Registry,
    Stage, StageError, Tree,
};

/// libtorch's generator belongs to the process: tests that draw from it take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn format() -> FrameFormat {
    FrameFormat {
        rate: 8000,
        config: StftConfig {
            n_fft: 64,
            hop: 16,
            win_length: 64,
            ..StftConfig::default()
        },
        magnitude: MagnitudeKind::Log,
        floor: Some(-10.0),
    }
}

/// Plucked notes that change every 50 ms.
pub(crate) fn tune(seed: u32, samples: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let (mut frequency, mut since) = (440.0_f32, 0);
    let mut phase = 0.0_f32;
    (0..samples)
        .map(|n| {
            if n % 400 == 0 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                frequency = 300.0 + (state >> 22) as f32;
                since = 0;
            }
            since += 1;
            phase += frequency / 8000.0;
            0.5 * (-since as f32 / 200.0).exp() * (std::f32::consts::TAU * phase).sin()
        })
        .collect()
}

/// Rows of log-magnitudes, and phases if asked for: `(frames, width)`.
fn rows(signal: &[f32], phase: bool) -> (Vec<f32>, u32) {
    let format = format();
    let bins = format.config.bins();
    let scale = format.scale().unwrap();
    let mut all = Vec::new();
    let mut stream = StftStream::new(Stft::new(format.config).unwrap());
    let mut emit = |spectrum: &[dsp::Complex32]| -> Result<(), dsp::Error> {
        let mut row = vec![0.0; bins];
        scale.log(spectrum, &mut row);
        all.extend_from_slice(&row);
        if phase {
            dsp::phase(spectrum, &mut row);
            all.extend_from_slice(&row);
        }
        Ok(())
    };
    stream.push(signal, &mut emit).unwrap();
    stream.finish(&mut emit).unwrap();
    (all, bins as u32)
}

fn fields(bins: u32, phase: bool) -> Vec<(String, u32)> {
    let mut fields = vec![("magnitude".to_owned(), bins)];
    if phase {
        fields.push(("phase".to_owned(), bins));
    }
    fields
}

/// A data set of three pieces, the last of them for validation, as an artifact in `folder`.
pub(crate) fn dataset(folder: &Path, phase: bool) -> Input {
    fs::create_dir_all(folder.join("segments")).unwrap();
    let mut builder = ManifestBuilder::new();
    let mut paths = BTreeMap::new();
    for i in 0..3_u8 {
        let (values, bins) = rows(&tune(u32::from(i) + 1, 16_000), phase);
        let fields = fields(bins, phase);
        let width: u32 = fields.iter().map(|f| f.1).sum();
        let id = SegmentId([i; 32]);
        let name = format!("segments/{id}.bin");
        let path = folder.join(&name);
        let layout = Layout::new(RowType::F16, fields).unwrap();
        let file = File::create(&path).unwrap();
        let mut writer = SegmentWriter::new(file, layout, format().metadata()).unwrap();
        writer.push_f32(&values).unwrap();
        writer.finish().unwrap();
        let segment = Segment::open(&path).unwrap();
        let split = if i == 2 { Split::Valid } else { Split::Train };
        let count = values.len() as u64 / u64::from(width);
        builder
            .add(id, &segment, &Parts::from([(split, 0..count)]))
            .unwrap();
        paths.insert(name, path);
    }
    let manifest = folder.join("manifest.json");
    fs::write(
        &manifest,
        builder.finish("test").unwrap().to_json().unwrap(),
    )
    .unwrap();
    paths.insert("manifest.json".to_owned(), manifest);
    Input {
        tree: Tree::default(),
        paths,
        file_id: None,
    }
}

/// A prompt of `signal` as an item: its frames and, as a stage upstream would leave it, no more.
pub(crate) fn prompt(folder: &Path, signal: &[f32], phase: bool) -> ItemInput {
    fs::create_dir_all(folder).unwrap();
    let (values, bins) = rows(signal, phase);
    let columns: Vec<Column> = fields(bins, phase)
        .into_iter()
        .map(|(name, width)| Column::new(name, width, Dtype::F32))
        .collect();
    let mut metadata = format().metadata();
    metadata.insert("samples".to_owned(), signal.len().to_string());
    let path = folder.join("frames.parquet");
    let file = File::create(&path).unwrap();
    let mut writer = ShardWriter::new(file, &columns, &metadata, ShardOptions::default()).unwrap();
    for row in values.chunks(columns.iter().map(|c| c.width as usize).sum()) {
        let parts: Vec<&[f32]> = row.chunks(bins as usize).collect();
        writer.push(&parts).unwrap();
    }
    writer.finish().unwrap();
    ItemInput {
        source: Digest::of(b"prompt"),
        label: None,
        input: Input {
            tree: Tree::default(),
            paths: BTreeMap::from([("frames.parquet".to_owned(), path)]),
            file_id: None,
        },
    }
}

/// One item that is an artifact.
pub(crate) fn artifact(input: Input) -> Vec<ItemInput> {
    vec![ItemInput {
        source: Digest::of(b"artifact"),
        label: None,
        input,
    }]
}

pub(crate) fn registry() -> Registry {
    pipeline_torch::jobs::registry()
}

/// A stage of this worker.
pub(crate) fn stage(kind: &str, params: &Value) -> Box<dyn Stage> {
    let entry: KindEntry = *registry().get(kind).unwrap();
    let (stage, _) = entry.parse(params).unwrap();
    stage
}

/// Parameters of a small training.
pub(crate) fn small(max_steps: u64) -> Value {
    json!({
        "hidden_size": 16, "batch_size": 4, "chunk": 32, "threads": 1,
        "max_steps": max_steps, "decay_steps": 60, "warmup_steps": 5, "save_every": 7, "seed": 3,
    })
}

/// A context on the CPU, with a scratch folder if given; the events land in the list.
pub(crate) fn context(scratch: Option<&Path>) -> (Context, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = Arc::clone(&events);
    let mut cx = Context::new(Arc::new(move |event| sink.lock().unwrap().push(event)));
    cx.device = DeviceChoice::Cpu;
    cx.scratch = scratch.map(Path::to_owned);
    cx.preprocessing = Some(stage_core::Preprocessing {
        stages: json!([{"kind": "featurize", "n_fft": 64}]),
        ..Default::default()
    });
    (cx, events)
}

/// Runs a whole part; gives its files.
pub(crate) fn run(
    stage: &dyn Stage,
    inputs: &Inputs,
    out: &Path,
    cx: &Context,
) -> Result<BTreeMap<String, Vec<u8>>, StageError> {
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).unwrap();
    let mut output = Output::new(out);
    stage.reduce(inputs, &mut output, cx)?;
    let (tree, _) = output.seal()?;
    Ok(tree
        .0
        .keys()
        .map(|name| (name.clone(), fs::read(out.join(name)).unwrap()))
        .collect())
}

/// The artifact in a folder.
pub(crate) fn input_of(folder: &Path, names: &[&str]) -> Input {
    let path = |name: &&str| ((*name).to_owned(), PathBuf::from(folder).join(name));
    Input {
        tree: Tree::default(),
        paths: names.iter().map(path).collect(),
        file_id: None,
    }
}

/// Inputs by port.
pub(crate) fn inputs(ports: impl IntoIterator<Item = (&'static str, Vec<ItemInput>)>) -> Inputs {
    Inputs {
        ports: ports
            .into_iter()
            .map(|(name, items)| (name.to_owned(), items))
            .collect(),
    }
}
