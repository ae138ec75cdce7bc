//! Whole items through the stage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use audio::WavReader;
use stage_core::{Cancel, Digest, FailureClass, Input, KindEntry, Output, Tree};

use super::*;

/// A MIDI file of format 0, 96 ticks per quarter, from the bytes of its track.
fn midi(events: &[u8]) -> Vec<u8> {
    let mut track = events.to_vec();
    track.extend([0, 0xff, 0x2f, 0]);
    let mut file = b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk".to_vec();
    file.extend((track.len() as u32).to_be_bytes());
    file.extend(track);
    file
}

/// Two quarter notes, A4 and a snare drum.
fn tune() -> Vec<u8> {
    midi(&[
        0, 0xc0, 73, 0, 0x90, 69, 100, 96, 0x80, 69, 0, 0, 0x99, 38, 100, 96, 0x89, 38, 0,
    ])
}

fn map(stage: &Render, bytes: &[u8], cx: &Context) -> Result<(Vec<f32>, Digest), StageError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in");
    fs::write(&path, bytes).unwrap();
    let item = ItemInput {
        source: Digest::of(bytes),
        label: None,
        input: Input {
            tree: Tree::single(SOURCE_FILE, Digest::of(bytes), bytes.len() as u64),
            paths: BTreeMap::from([(SOURCE_FILE.to_owned(), path)]),
            file_id: None,
        },
    };
    let home = dir.path().join("out");
    fs::create_dir(&home).unwrap();
    let mut out = Output::new(&home);
    stage.map(&item, &Inputs::default(), &mut out, cx)?;
    let (tree, _) = out.seal()?;
    let samples = read(&home.join(PCM));
    Ok((samples, tree.get(PCM).unwrap().digest))
}

fn read(path: &Path) -> Vec<f32> {
    let mut wav = WavReader::open(path).unwrap();
    assert_eq!(wav.spec().channels, 1);
    let mut samples = vec![0.0; wav.frames() as usize];
    let mut at = 0;
    loop {
        let count = wav.read(&mut samples[at..]).unwrap();
        if count == 0 {
            break;
        }
        at += count;
    }
    assert_eq!(at, samples.len());
    samples
}

fn reason(stage: &Render, bytes: &[u8]) -> String {
    let error = map(stage, bytes, &Context::silent()).unwrap_err();
    assert_eq!(error.class(), FailureClass::Content, "{error:?}");
    error.reason()
}

#[test]
fn a_score_becomes_sound_of_its_length() {
    let stage = Render::default();
    let (x, digest) = map(&stage, &tune(), &Context::silent()).unwrap();
    // A second of music at 120 quarters per minute, and the tail.
    assert_eq!(x.len(), 22_050 * 5 / 2);
    let peak = |range: std::ops::Range<usize>| x[range].iter().fold(0f32, |a, y| a.max(y.abs()));
    assert!(peak(2000..10_000) > 0.05, "the flute");
    assert!(peak(11_000..14_000) > 0.05, "the snare");
    let (_, again) = map(&stage, &tune(), &Context::silent()).unwrap();
    assert_eq!(digest, again);
}

#[test]
fn parameters_reach_the_sound() {
    let base = Render {
        normalize: false,
        ..Render::default()
    };
    let (x, digest) = map(&base, &tune(), &Context::silent()).unwrap();
    let rms = |x: &[f32]| (x.iter().map(|y| y * y).sum::<f32>() / x.len() as f32).sqrt();
    for stage in [
        Render {
            rate: 44_100,
            ..base.clone()
        },
        Render {
            level: -6.0,
            ..base.clone()
        },
        Render {
            reverb: 0.0,
            ..base.clone()
        },
        Render {
            tail: 0.5,
            ..base.clone()
        },
        Render {
            format: WavFormat::F32,
            ..base.clone()
        },
        Render {
            normalize: true,
            ..base.clone()
        },
    ] {
        let (y, other) = map(&stage, &tune(), &Context::silent()).unwrap();
        assert_ne!(digest, other, "{stage:?}");
        let seconds = y.len() as f64 / f64::from(stage.rate);
        assert!((seconds - 1.0 - stage.tail).abs() < 1e-3);
        if stage.level != 0.0 {
            let db = 20.0 * (rms(&y) / rms(&x)).log10();
            assert!((db + 6.0).abs() < 0.1, "{db}");
        }
        if stage.normalize {
            let peak = y.iter().fold(0_f32, |p, x| p.max(x.abs()));
            assert!((20.0 * peak.log10() + 1.0).abs() < 0.01, "{peak}");
        }
    }
}

#[test]
fn what_cannot_be_rendered_has_its_reason() {
    let stage = Render::default();
    assert_eq!(reason(&stage, &midi(&[])), "the score has no notes to play");
    assert!(reason(&stage, b"hello").starts_with("the score cannot be read: "));
    assert!(reason(&stage, b"").starts_with("the score cannot be read: "));
    let mute = midi(&[0, 0xb0, 7, 0, 0, 0x90, 69, 100, 96, 0x80, 69, 0]);
    assert!(reason(&stage, &mute).starts_with("the score renders to silence (1 notes"));
    let short = Render {
        max_duration: 0.5,
        ..stage
    };
    assert_eq!(
        reason(&short, &tune()),
        "the score lasts 1.0 s, expected at most 0.5 s: raise `max_duration` if that is right"
    );
}

#[test]
fn a_bad_sound_font_is_named_and_a_missing_one_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("font");
    fs::write(&path, b"RIFF....WAVE").unwrap();
    let stage = Render {
        soundfont: Some(FileParam("x.sf2".into())),
        ..Render::default()
    };
    let with = |path: &Path| {
        Context::silent().with_files(BTreeMap::from([("soundfont".to_owned(), path.to_owned())]))
    };
    let error = map(&stage, &tune(), &with(&path)).unwrap_err();
    assert_eq!(error.class(), FailureClass::Content);
    assert!(error.reason().contains("no sound font"), "{error}");
    let error = map(&stage, &tune(), &with(&dir.path().join("none"))).unwrap_err();
    assert_eq!(error.class(), FailureClass::Environment);
}

#[test]
fn a_stop_is_noticed() {
    let mut cx = Context::silent();
    cx.cancel = Cancel::default();
    cx.cancel.set();
    let error = map(&Render::default(), &tune(), &cx).unwrap_err();
    assert_eq!(error.class(), FailureClass::Cancelled);
}

#[test]
fn parameters_are_read_and_checked() {
    let entry = KindEntry::of::<Render>();
    let parse = |text: &str| entry.parse(&serde_json::from_str(text).unwrap());
    let (stage, resolved) = parse(r#"{"rate": 16000, "format": "f32"}"#).unwrap();
    assert!(stage.validate().is_ok());
    assert_eq!(resolved["max_duration"], 7200.0);
    assert_eq!(resolved["format"], "f32");
    assert!(parse(r#"{"rates": 1}"#).is_err());
    for (text, key) in [
        (r#"{"rate": 10}"#, "rate"),
        (r#"{"rate": 8000, "soundfont": "a.sf2"}"#, "rate"),
        (r#"{"level": 99}"#, "level"),
        (r#"{"reverb": -0.1}"#, "reverb"),
        (r#"{"tail": 61}"#, "tail"),
        (r#"{"max_duration": 0}"#, "max_duration"),
    ] {
        let (stage, _) = parse(text).unwrap();
        assert_eq!(stage.validate().unwrap_err().key, key, "{text}");
    }
    for (extension, takes) in [
        ("mid", true),
        ("mxl", true),
        ("musicxml", true),
        ("wav", false),
    ] {
        assert_eq!(Render::default().takes(extension), takes);
    }
}
