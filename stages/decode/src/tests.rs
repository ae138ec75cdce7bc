//! The stage as the engine calls it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use audio::WavReader;
use stage_core::{
    Context, Digest, FailureClass, Input, Inputs, ItemInput, Kind, KindEntry, Output, SOURCE_FILE,
    Stage, StageError, Tree,
};

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fixtures");
    fs::read(folder.join(name)).unwrap()
}

/// The artifact's PCM and identity.
fn map(stage: &Decode, bytes: &[u8]) -> Result<(Vec<f32>, Digest), StageError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source");
    fs::write(&path, bytes).unwrap();
    let digest = Digest::of(bytes);
    let item = ItemInput {
        source: digest,
        label: None,
        input: Input {
            tree: Tree::single(SOURCE_FILE, digest, bytes.len() as u64),
            paths: BTreeMap::from([(SOURCE_FILE.to_owned(), path)]),
            file_id: None,
        },
    };
    let home = folder.path().join("out");
    fs::create_dir(&home).unwrap();
    let mut out = Output::new(&home);
    stage.map(&item, &Inputs::default(), &mut out, &Context::silent())?;
    let (tree, _) = out.seal().unwrap();
    assert!(tree.get(PCM).is_some());
    let mut wav = WavReader::open(&home.join(PCM)).unwrap().mono().unwrap();
    assert_eq!(wav.rate(), stage.rate);
    assert_eq!(wav.spec().format, stage.format.sample_format());
    let samples = wav.read_all(1 << 20).unwrap();
    Ok((samples, tree.identity().unwrap()))
}

#[test]
fn a_recording_becomes_pcm_at_the_rate_asked_for() {
    let stage = Decode::default();
    for name in ["tone.mp3", "tone.ogg", "tone.opus", "tone.m4a", "tone.aiff"] {
        let (samples, _) = map(&stage, &fixture(name)).unwrap();
        assert_eq!(samples.len(), 13_230, "{name}");
    }
    let float = Decode {
        rate: 16_000,
        format: WavFormat::F32,
        ..stage
    };
    let (samples, _) = map(&float, &fixture("tone-s24.wav")).unwrap();
    assert_eq!(samples.len(), 9_600);
}

#[test]
fn the_identity_is_of_the_recording_alone() {
    let (_, identity) = map(&Decode::default(), &fixture("tone.mp3")).unwrap();
    let other_rate = Decode {
        rate: 8_000,
        ..Decode::default()
    };
    assert_eq!(map(&other_rate, &fixture("tone.mp3")).unwrap().1, identity);
    let mut tagged = fixture("tone.mp3");
    tagged.extend(b"TAG");
    tagged.extend([b'x'; 125]);
    assert_eq!(map(&Decode::default(), &tagged).unwrap().1, identity);
    assert_ne!(
        map(&Decode::default(), &fixture("tone.ogg")).unwrap().1,
        identity
    );
}

#[test]
fn failures_follow_from_the_content_or_not() {
    let stage = Decode::default();
    let mut cut = fixture("tone.mp3");
    cut.truncate(cut.len() / 2);
    let long = Decode {
        min_duration: 0.7,
        ..Decode::default()
    };
    let rows: Vec<(&Decode, Vec<u8>, &str)> = vec![
        (&stage, cut, "the recording is truncated: 0.3 s of 0.6 s"),
        (&stage, Vec::new(), "the recording is empty (0 bytes)"),
        (&stage, b"words".to_vec(), "content looks like text"),
        (
            &long,
            fixture("tone.mp3"),
            "the recording lasts 0.600 s, expected at least 0.7 s",
        ),
    ];
    for (stage, bytes, expected) in rows {
        let error = map(stage, &bytes).unwrap_err();
        assert_eq!(error.class(), FailureClass::Content);
        assert!(error.reason().contains(expected), "{}", error.reason());
    }
    let missing = ItemInput {
        source: Digest::of(b""),
        label: None,
        input: Input {
            tree: Tree::single(SOURCE_FILE, Digest::of(b""), 0),
            paths: BTreeMap::from([(SOURCE_FILE.to_owned(), "/nowhere/x.wav".into())]),
            file_id: None,
        },
    };
    let folder = tempfile::tempdir().unwrap();
    let error = stage
        .map(
            &missing,
            &Inputs::default(),
            &mut Output::new(folder.path()),
            &Context::silent(),
        )
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Environment);
}

#[test]
fn parameters_are_checked() {
    assert!(Decode::default().validate().is_ok());
    let rows = [
        ("rate", serde_json::json!({ "rate": 999 })),
        ("min_duration", serde_json::json!({ "min_duration": -1.0 })),
        (
            "min_duration",
            serde_json::json!({ "min_duration": 9.0, "max_duration": 8.0 }),
        ),
        ("max_duration", serde_json::json!({ "max_duration": 1e9 })),
        ("silence_db", serde_json::json!({ "silence_db": 3.0 })),
    ];
    for (key, value) in rows {
        let stage: Decode = serde_json::from_value(value).unwrap();
        assert_eq!(stage.validate().unwrap_err().key, key);
    }
    for bad in [
        serde_json::json!({ "channels": 2 }),
        serde_json::json!({ "format": "s24" }),
    ] {
        assert!(serde_json::from_value::<Decode>(bad).is_err());
    }
    assert_eq!(KindEntry::of::<Decode>().kind, Decode::KIND);
    assert!(Decode::default().takes("mp3") && !Decode::default().takes("mid"));
}
