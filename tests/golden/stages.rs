//! What stages compute: bytes where their arithmetic is exact, values within a tolerance where
//! it depends on how a processor adds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use audio::{PcmSpec, SampleFormat, WavReader, WavWriter};
use shard::ShardReader;
use stage_core::{
    Context, Digest, Input, Inputs, ItemInput, Kind, Output, SOURCE_FILE, Stage, Tree,
};
use stage_dataset::{Dataset, FRAMES_FILE, MANIFEST, PORT, SEGMENT};
use stage_decode::Decode;
use stage_featurize::{Featurize, PCM, SHARD};
use stage_render::Render;

use super::{Writer, close, files};

fn constant<K: Kind>() -> String {
    format!("`VERSION` in stages/{}/src/lib.rs", K::KIND)
}

fn input(path: &Path, name: &str) -> Input {
    let bytes = fs::read(path).unwrap();
    Input {
        tree: Tree::single(name, Digest::of(&bytes), bytes.len() as u64),
        paths: BTreeMap::from([(name.to_owned(), path.to_owned())]),
        file_id: None,
    }
}

/// Lets `stage` do the file at `path`, which it knows as `name`; gives the folder of what it made.
fn map(stage: &dyn Stage, path: &Path, name: &str, out: &Path) -> PathBuf {
    sealed(stage, path, name, out);
    out.to_owned()
}

/// As [`map`]; gives the tree.
fn sealed(stage: &dyn Stage, path: &Path, name: &str, out: &Path) -> Tree {
    stage.validate().unwrap();
    fs::create_dir_all(out).unwrap();
    let item = ItemInput {
        source: Digest::of(b"source"),
        label: None,
        input: input(path, name),
    };
    let mut output = Output::new(out);
    stage
        .map(&item, &Inputs::default(), &mut output, &Context::silent())
        .unwrap();
    output.seal().unwrap().0
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/fixtures")
        .join(name)
}

/// Length in samples, then the root mean square and the value past a third of each of 8 parts.
fn outline(wav: &Path) -> Vec<f64> {
    let mut reader = WavReader::open(wav).unwrap();
    let samples = reader.read_all(1 << 22).unwrap();
    let mut outline = vec![samples.len() as f64];
    for part in samples.chunks(samples.len().div_ceil(8)) {
        let power: f64 = part.iter().map(|x| f64::from(*x).powi(2)).sum();
        outline.push((power / part.len() as f64).sqrt());
        outline.push(f64::from(part[part.len() / 3 + 5]));
    }
    outline
}

#[test]
fn decode_copies_what_needs_no_arithmetic() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Decode {
        rate: 8000,
        normalize: false,
        min_duration: 0.0,
        ..Decode::default()
    };
    let source = files().join("wav-s16-1.wav");
    let spec = PcmSpec {
        rate: 8000,
        channels: 1,
        format: SampleFormat::S16,
    };
    let mono = dir.path().join("mono.wav");
    let samples = WavReader::open(&source).unwrap().read_all(4096).unwrap();
    let mut wav = WavWriter::new(fs::File::create(&mono).unwrap(), spec).unwrap();
    wav.write(&samples).unwrap();
    wav.finish().unwrap();
    let out = dir.path().join("out");
    let tree = sealed(&stage, &mono, SOURCE_FILE, &out);
    assert_eq!(fs::read(out.join(PCM)).unwrap(), fs::read(&mono).unwrap());
    let identity = Writer {
        name: "decode-identity",
        version: Decode::VERSION,
        constant: "`VERSION` in stages/decode/src/lib.rs",
        ending: "",
    };
    let written = tree.identity().unwrap().to_hex();
    identity.check(written.as_bytes());
}

#[test]
fn decode_of_lossy_recordings() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Decode {
        rate: 8000,
        ..Decode::default()
    };
    for (name, expected) in DECODED {
        let out = map(&stage, &fixture(name), SOURCE_FILE, &dir.path().join(name));
        let stage = format!("decode {name}");
        close(
            &stage,
            &constant::<Decode>(),
            &outline(&out.join(PCM)),
            expected,
            2e-3,
        );
    }
}

const DECODED: [(&str, &[f64]); 3] = [
    (
        "tone.mp3",
        &[
            4800.0, 0.62069, 0.86691, 0.62065, 0.86697, 0.62069, 0.86716, 0.62067, 0.86697,
            0.62065, 0.86691, 0.62064, 0.86694, 0.62063, 0.86707, 0.61986, 0.86691,
        ],
    ),
    (
        "tone.opus",
        &[
            4800.0, 0.62201, 0.86502, 0.61923, 0.86298, 0.61686, 0.86093, 0.61665, 0.85233,
            0.62286, 0.86398, 0.6198, 0.86578, 0.61743, 0.86169, 0.61706, 0.85233,
        ],
    ),
    (
        "tone-s16.wav",
        &[
            4800.0, 0.6302, 0.88025, 0.6302, 0.88025, 0.6302, 0.88025, 0.6302, 0.88025, 0.6302,
            0.88025, 0.6302, 0.88025, 0.6302, 0.88025, 0.6302, 0.88025,
        ],
    ),
];

#[test]
fn render_of_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Render {
        rate: 8000,
        ..Render::default()
    };
    let out = map(
        &stage,
        &files().join("score.mid"),
        SOURCE_FILE,
        &dir.path().join("out"),
    );
    close(
        "render",
        &constant::<Render>(),
        &outline(&out.join(PCM)),
        RENDERED,
        2e-3,
    );
}

const RENDERED: &[f64] = &[
    54667.0, 0.19723, 0.0054, 0.13828, 0.00903, 0.08628, -0.04611, 0.02763, 0.01144, 0.10999,
    0.00577, 0.05903, -0.01263, 0.01192, 0.00156, 0.00002, 0.0,
];

#[test]
fn featurize_of_a_tone() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Featurize {
        n_fft: 64,
        win_length: 64,
        hop: 32,
        ..Featurize::default()
    };
    let source = files().join("wav-f32-1.wav");
    let samples = WavReader::open(&source).unwrap().read_all(4096).unwrap();
    let spec = PcmSpec {
        rate: 8000,
        channels: 1,
        format: SampleFormat::F32,
    };
    let mono = dir.path().join("mono.wav");
    let mut wav = WavWriter::new(fs::File::create(&mono).unwrap(), spec).unwrap();
    wav.write(&samples).unwrap();
    wav.finish().unwrap();
    let out = map(&stage, &mono, PCM, &dir.path().join("out"));
    let shard = ShardReader::open(out.join(SHARD)).unwrap();
    let values = shard.read_f32("magnitude").unwrap();
    let mut got = vec![shard.rows() as f64, values.len() as f64];
    got.extend(values.iter().step_by(41).map(|x| f64::from(*x)));
    close("featurize", &constant::<Featurize>(), &got, FEATURES, 4e-3);
}

const FEATURES: &[f64] = &[
    17.0, 561.0, -8.58594, -5.86719, -5.05078, -4.91797, -4.67969, -3.27539, -4.03906, -4.24609,
    -5.27344, -3.13086, -3.21875, -3.57422, -3.51758, -2.66797,
];

#[test]
fn dataset_of_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Dataset {
        gap: 2,
        ..Dataset::default()
    };
    let shard = files().join("shard-1.parquet");
    let out = map(&stage, &shard, FRAMES_FILE, &dir.path().join("item"));
    let writer = |name, ending| Writer {
        name,
        version: Dataset::VERSION,
        constant: "`VERSION` in stages/dataset/src/lib.rs",
        ending,
    };
    let segment = out.join(SEGMENT);
    writer("dataset-item", ".bin").check(&fs::read(&segment).unwrap());

    let item = ItemInput {
        source: Digest::of(b"source"),
        label: None,
        input: input(&segment, SEGMENT),
    };
    let inputs = Inputs {
        ports: BTreeMap::from([(PORT.to_owned(), vec![item])]),
    };
    let set = dir.path().join("set");
    fs::create_dir(&set).unwrap();
    let mut output = Output::new(&set);
    stage
        .reduce(&inputs, &mut output, &Context::silent())
        .unwrap();
    writer("dataset-whole", ".json").check(&fs::read(set.join(MANIFEST)).unwrap());
}
