//! The stage from WAV file to shard.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use audio::{PcmSpec, SampleFormat, WavWriter};
use dsp::{FrameFormat, Frames, MagnitudeKind, Padding, WindowShape};
use shard::{Dtype, ShardReader};
use stage_core::{
    Context, Digest, FailureClass, Input, Inputs, ItemInput, Kind, Output, Stage, StageError, Tree,
};
use stage_featurize::{Featurize, PCM, SHARD};

const RATE: u32 = 8_000;

/// A tone that swells, with a little noise.
fn sound(samples: usize) -> Vec<f32> {
    let mut state = 1u64;
    (0..samples)
        .map(|n| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let noise = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            let t = n as f32 / RATE as f32;
            0.6 * (t * 2_765.0).sin() * (1.0 - (-t * 3.0).exp()) + 0.01 * noise
        })
        .collect()
}

fn wav(dir: &Path, samples: &[f32], channels: u16) -> PathBuf {
    let path = dir.join("in.wav");
    let spec = PcmSpec {
        rate: RATE,
        channels,
        format: SampleFormat::F32,
    };
    let mut writer = WavWriter::new(fs::File::create(&path).unwrap(), spec).unwrap();
    writer.write(samples).unwrap();
    writer.finish().unwrap();
    path
}

fn map(stage: &Featurize, dir: &Path, wav: &Path) -> Result<PathBuf, StageError> {
    stage.validate().unwrap();
    let home = dir.join("out");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir(&home).unwrap();
    let digest = Digest::of(b"");
    let paths = BTreeMap::from([(PCM.to_owned(), wav.to_owned())]);
    let input = Input {
        tree: Tree::single(PCM, digest, 0),
        paths,
        file_id: None,
    };
    let item = ItemInput {
        source: digest,
        label: None,
        input,
    };
    let mut out = Output::new(&home);
    stage.map(&item, &Inputs::default(), &mut out, &Context::silent())?;
    out.seal()?;
    Ok(home.join(SHARD))
}

fn column(shard: &ShardReader, name: &str) -> Vec<f32> {
    shard.read_f32(name).unwrap()
}

/// Magnitudes |X| by the library, over the whole signal at once.
fn magnitudes(signal: &[f32], format: &FrameFormat) -> Frames<f32> {
    let spectra = dsp::stft(signal, format.config).unwrap();
    let mut out = Frames::zeros(spectra.width(), spectra.len()).unwrap();
    dsp::magnitude(spectra.data(), out.data_mut());
    out
}

#[test]
fn linear_magnitudes_are_those_of_the_transform() {
    let dir = tempfile::tempdir().unwrap();
    let signal = sound(40_000);
    let wav = wav(dir.path(), &signal, 1);
    for (dtype, tolerance) in [(Dtype::F32, 0.0), (Dtype::F16, 4.9e-4)] {
        for center in [true, false] {
            let stage = Featurize {
                n_fft: 512,
                hop: 100,
                win_length: 400,
                window: WindowShape::Hamming,
                magnitude: MagnitudeKind::Linear,
                floor: None,
                center,
                dtype,
                ..Default::default()
            };
            let shard = ShardReader::open(map(&stage, dir.path(), &wav).unwrap()).unwrap();
            let format = FrameFormat::from_metadata(shard.metadata()).unwrap();
            assert_eq!(format, stage.format(RATE));
            let expected = magnitudes(&signal, &format);
            assert_eq!(shard.rows() as usize, expected.len());
            for (a, b) in column(&shard, "magnitude").iter().zip(expected.data()) {
                assert!((a - b).abs() <= tolerance * b + 3e-8, "{a} {b}");
            }
        }
    }
}

#[test]
fn default_shards_hold_log_magnitudes() {
    let dir = tempfile::tempdir().unwrap();
    let signal = sound(30_000);
    let stage = Featurize::default();
    let path = map(&stage, dir.path(), &wav(dir.path(), &signal, 1)).unwrap();
    let shard = ShardReader::open(&path).unwrap();
    let names: Vec<_> = shard
        .columns()
        .iter()
        .map(|c| (c.name.as_str(), c.width, c.dtype))
        .collect();
    assert_eq!(names, [("magnitude", 513, Dtype::F16)]);
    let metadata = shard.metadata();
    let shown: Vec<_> = metadata
        .iter()
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    assert_eq!(
        shown,
        [
            "floor = -10",
            "frames = 118",
            "full_scale = 256.000000",
            "hop = 256",
            "magnitude = log",
            "magnitude_unit = nepers relative to a full-scale sine",
            "n_fft = 1024",
            "padding = reflect",
            "rate = 8000",
            "samples = 30000",
            "shard_version = 1",
            "win_length = 1024",
            "window = hann",
        ]
    );
    let expected = magnitudes(&signal, &stage.format(RATE));
    for (log, x) in column(&shard, "magnitude").iter().zip(expected.data()) {
        let exact = (x / 256.0).ln().max(-10.0);
        assert!(
            (log - exact).abs() <= 4.9e-4 * exact.abs() + 1e-6,
            "{log} {exact}"
        );
    }
}

#[test]
fn phase_and_descriptors_stand_beside() {
    let dir = tempfile::tempdir().unwrap();
    let signal = sound(20_000);
    let stage = Featurize {
        phase: true,
        descriptors: true,
        ..Default::default()
    };
    let path = map(&stage, dir.path(), &wav(dir.path(), &signal, 1)).unwrap();
    let shard = ShardReader::open(&path).unwrap();
    assert!(shard.metadata()["descriptors"].starts_with("centroid,spread,"));
    let spectra = dsp::stft(&signal, stage.format(RATE).config).unwrap();
    let mut phase = vec![0.0; spectra.data().len()];
    dsp::phase(spectra.data(), &mut phase);
    for (a, b) in column(&shard, "phase").iter().zip(&phase) {
        assert!((a - b).abs() < 1e-3, "{a} {b}");
    }
    let described = column(&shard, "descriptors");
    assert_eq!(described.len(), spectra.len() * 14);
    // The tone lies at 440 Hz.
    let rolloff = described[14 * 40 + 10];
    assert!((400.0..4_000.0).contains(&rolloff), "{rolloff}");
}

#[test]
fn the_same_sound_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let wav = wav(dir.path(), &sound(100_000), 1);
    let stage = Featurize {
        descriptors: true,
        ..Default::default()
    };
    let first = fs::read(map(&stage, dir.path(), &wav).unwrap()).unwrap();
    let second = fs::read(map(&stage, dir.path(), &wav).unwrap()).unwrap();
    assert!(first == second);
}

#[test]
fn bad_sound_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let fail = |stage: &Featurize, path: &Path| {
        let error = map(stage, dir.path(), path).unwrap_err();
        assert_eq!(error.class(), FailureClass::Content);
        error.reason()
    };
    let stage = Featurize::default();
    let stereo = fail(&stage, &wav(dir.path(), &[0.0; 400], 2));
    assert!(stereo.contains("has 2 channels, expected 1"), "{stereo}");
    let bare = Featurize {
        center: false,
        ..Default::default()
    };
    let short = fail(&bare, &wav(dir.path(), &[0.5; 1023], 1));
    assert!(
        short.contains("has 1023 samples, fewer than the 1024 of one frame"),
        "{short}"
    );
    let empty = fail(&stage, &wav(dir.path(), &[], 1));
    assert!(empty.contains("has 0 samples"), "{empty}");
    let text = dir.path().join("text.wav");
    fs::write(&text, "no sound at all, only text").unwrap();
    assert_eq!(fail(&stage, &text), "`pcm.wav` is malformed: no WAV header");
    let linear = Featurize {
        magnitude: MagnitudeKind::Linear,
        floor: None,
        ..Default::default()
    };
    let loud = fail(&linear, &wav(dir.path(), &[1e4; 4_000], 1));
    assert!(loud.contains("not finite as f16"), "{loud}");
    let format = linear.format(RATE);
    assert_eq!(format.config.padding, Padding::Reflect);
}

#[test]
fn a_stop_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = wav(dir.path(), &sound(1_000), 1);
    let input = Input {
        tree: Tree::single(PCM, Digest::of(b""), 0),
        paths: BTreeMap::from([(PCM.to_owned(), path)]),
        file_id: None,
    };
    let item = ItemInput {
        source: Digest::of(b""),
        label: None,
        input,
    };
    let cx = Context::silent();
    cx.cancel.set();
    let error = Featurize::default()
        .map(&item, &Inputs::default(), &mut Output::new(dir.path()), &cx)
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Cancelled);
    assert_eq!(Featurize::KIND, "featurize");
}
