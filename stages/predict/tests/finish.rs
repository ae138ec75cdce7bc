//! From sampled frames to sound: what was not sampled must come out as it went in.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use audio::{Container, PcmSpec, PcmWriter, SampleFormat, WavReader};
use dsp::{Complex32, FrameFormat, MagnitudeKind, Stft, StftConfig, StftStream};
use serde_json::{Value, json};
use shard::{Column, Dtype, ShardOptions, ShardWriter};
use stage_core::{Context, Digest, Input, Inputs, ItemInput, KindEntry, Output, StageError, Tree};
use stage_predict::{MODEL_STEP, PROMPT_FRAMES, Predict, sample_name};

const RATE: u32 = 8000;
const PROMPT: usize = 100;

fn format() -> FrameFormat {
    FrameFormat {
        rate: RATE,
        config: StftConfig {
            n_fft: 256,
            hop: 64,
            win_length: 256,
            ..StftConfig::default()
        },
        magnitude: MagnitudeKind::Log,
        floor: Some(-10.0),
    }
}

/// Two partials that glide slowly.
fn tune(samples: usize) -> Vec<f32> {
    let turn = std::f32::consts::TAU;
    (0..samples)
        .map(|n| {
            let t = n as f32 / RATE as f32;
            0.4 * (turn * (440.0 + 20.0 * t) * t).sin() + 0.2 * (turn * 1250.0 * t).sin()
        })
        .collect()
}

/// Log-magnitudes and phases of a signal, frame by frame.
fn frames(signal: &[f32]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let (format, mut all) = (format(), Vec::new());
    let scale = format.scale().unwrap();
    let mut stream = StftStream::new(Stft::new(format.config).unwrap());
    let mut emit = |spectrum: &[Complex32]| -> Result<(), dsp::Error> {
        let (mut magnitude, mut phase) = (vec![0.0; spectrum.len()], vec![0.0; spectrum.len()]);
        scale.log(spectrum, &mut magnitude);
        dsp::phase(spectrum, &mut phase);
        all.push((magnitude, phase));
        Ok(())
    };
    stream.push(signal, &mut emit).unwrap();
    stream.finish(&mut emit).unwrap();
    all
}

fn shard(path: &Path, rows: &[(Vec<f32>, Vec<f32>)], phase: bool, extra: &[(&str, usize)]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let bins = format().config.bins() as u32;
    let mut columns = vec![Column::new("magnitude", bins, Dtype::F32)];
    if phase {
        columns.push(Column::new("phase", bins, Dtype::F32));
    }
    let mut metadata = format().metadata();
    metadata.extend(
        extra
            .iter()
            .map(|(key, n)| ((*key).to_owned(), n.to_string())),
    );
    let file = BufWriter::new(File::create(path).unwrap());
    let mut writer = ShardWriter::new(file, &columns, &metadata, ShardOptions::default()).unwrap();
    for (magnitude, phases) in rows {
        let both: [&[f32]; 2] = [magnitude, phases];
        writer.push(&both[..columns.len()]).unwrap();
    }
    writer.finish().unwrap();
}

/// Inputs in which the model has "sampled" exactly what the tune goes on with.
struct Scene {
    dir: tempfile::TempDir,
    signal: Vec<f32>,
    inputs: Inputs,
}

impl Scene {
    fn new(with_sound: bool, with_phase: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let signal = tune(64 * 250);
        let all = frames(&signal);
        let prompt = dir.path().join("prompt/frames.parquet");
        shard(&prompt, &all[..PROMPT + 2], with_phase, &[]);
        let mut paths = BTreeMap::from([("frames.parquet".to_owned(), prompt)]);
        if with_sound {
            let path = dir.path().join("prompt/pcm.wav");
            let mut file = BufWriter::new(File::create(&path).unwrap());
            let spec = PcmSpec::mono(RATE, SampleFormat::S16);
            let mut pcm = PcmWriter::new(&mut file, Container::Wav, spec).unwrap();
            pcm.write(&signal[..64 * (PROMPT + 1) + 128]).unwrap();
            pcm.finish().unwrap();
            paths.insert("pcm.wav".to_owned(), path);
        }
        let sample = dir.path().join(sample_name(1, 1));
        let facts = [(PROMPT_FRAMES, PROMPT), (MODEL_STEP, 7)];
        shard(&sample, &all[PROMPT..], with_phase, &facts);
        let whole = BTreeMap::from([(sample_name(1, 1), sample)]);
        let item = |paths| ItemInput {
            source: Digest::of(b"x"),
            label: None,
            input: Input {
                tree: Tree::default(),
                paths,
                file_id: None,
            },
        };
        let inputs = Inputs {
            ports: BTreeMap::from([
                ("prompt".to_owned(), vec![item(paths)]),
                ("whole".to_owned(), vec![item(whole)]),
            ]),
        };
        Self {
            dir,
            signal,
            inputs,
        }
    }

    fn finish(&self, params: &Value) -> Result<PathBuf, StageError> {
        let folder = self.dir.path().join("out");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let (stage, _) = KindEntry::of::<Predict>().parse(params).unwrap();
        let mut out = Output::new(&folder);
        stage.finish(&self.inputs, &mut out, &Context::silent())?;
        out.seal()?;
        Ok(folder)
    }
}

fn heard(folder: &Path) -> Vec<f32> {
    let mut reader = WavReader::open(&folder.join("audio.wav")).unwrap();
    reader.read_all(1 << 24).unwrap()
}

/// Root mean square of the difference over that of `b`.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (square / b.iter().map(|b| b * b).sum::<f32>()).sqrt()
}

#[test]
fn the_prompt_comes_out_as_it_went_in_and_the_seam_is_smooth() {
    for (sound, phase) in [(true, false), (false, true)] {
        let scene = Scene::new(sound, phase);
        let audio = heard(&scene.finish(&json!({"iterations": 32})).unwrap());
        let seam = 64 * PROMPT;
        let before = seam - 256;
        assert!(difference(&audio[..before], &scene.signal[..before]) < 1e-3);
        // A click would be a jump between samples larger than any the tune makes.
        let jump = |x: &[f32]| {
            x.windows(2)
                .map(|w| (w[1] - w[0]).abs())
                .fold(0.0, f32::max)
        };
        let usual = jump(&scene.signal);
        assert!(jump(&audio[before..seam + 512]) < 1.3 * usual);
        // The partials go on with the phase that they had.
        let after = seam..seam + 512;
        let error = difference(&audio[after.clone()], &scene.signal[after]);
        assert!(error < 0.3, "{error}");
    }
}

#[test]
fn true_phases_that_were_predicted_give_the_true_sound() {
    let scene = Scene::new(false, true);
    let audio = heard(&scene.finish(&json!({"phase": "predicted"})).unwrap());
    let length = audio.len() - 512;
    assert!(difference(&audio[..length], &scene.signal[..length]) < 0.01);
    let audio = heard(
        &scene
            .finish(&json!({"phase": "griffin_lim", "start": "frequency", "iterations": 8}))
            .unwrap(),
    );
    assert!(difference(&audio[..length], &scene.signal[..length]) < 0.05);
}

#[test]
fn formats_trimming_and_facts() {
    let scene = Scene::new(true, false);
    let folder = scene
        .finish(&json!({"format": "flac", "depth": "24", "phase": "pghi", "keep_prompt": false}))
        .unwrap();
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["about.json", "audio.flac", "spectrogram.png"]);
    assert!(
        fs::read(folder.join("audio.flac"))
            .unwrap()
            .starts_with(b"fLaC")
    );
    assert!(
        fs::read(folder.join("spectrogram.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    let about: Value =
        serde_json::from_slice(&fs::read(folder.join("about.json")).unwrap()).unwrap();
    assert_eq!(about["model_step"], 7);
    assert_eq!(about["prompt"]["frames"], PROMPT);
    let seconds = about["seconds"].as_f64().unwrap();
    assert!((seconds - 64.0 * 150.0 / 8000.0).abs() < 0.05, "{seconds}");
    let folder = scene
        .finish(&json!({"depth": "float", "phase": "pghi"}))
        .unwrap();
    assert_eq!(
        WavReader::open(&folder.join("audio.wav"))
            .unwrap()
            .spec()
            .format,
        SampleFormat::F32
    );
}

#[test]
fn a_prompt_without_sound_or_phase_is_reconstructed_too() {
    let scene = Scene::new(false, false);
    let audio = heard(&scene.finish(&json!({"phase": "pghi"})).unwrap());
    assert!(audio.iter().any(|x| x.abs() > 0.1));
    let error = scene.finish(&json!({"phase": "predicted"})).unwrap_err();
    assert!(error.to_string().contains("predicts no phases"), "{error}");
}
