//! Training and prediction through the executables, on a few seconds of tones.
//!
//! They need `pipeline-torch` beside `pipeline`; without it (a build without libtorch) they say so
//! and pass.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Place, Said, wav};

/// See [`Place::trainable`].
fn place() -> Option<Place> {
    let place = Place::trainable();
    if place.is_none() {
        eprintln!("left out: pipeline-torch is not there");
    }
    place
}

fn predict(place: &Place, more: &[&str]) -> Said {
    let mut args = vec!["run", "predict", "--json", "--frames", "40"];
    if !more.contains(&"--prompt") {
        args.extend(["--prompt", "prompt.mid"]);
    }
    args.extend(more);
    place.run(&args)
}

/// The files of `out/predict` with this extension.
fn sounds(place: &Place, extension: &str) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = fs::read_dir(place.path("out/predict"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    list.sort();
    list
}

#[test]
fn trains_once_and_predicts_by_seed() {
    let Some(place) = place() else { return };
    let said = place.json("train").expect(0);
    assert!(
        said.executed().contains(&"train whole".to_owned()),
        "{}",
        said.out
    );
    for name in [
        "model.safetensors",
        "history.csv",
        "history.jsonl",
        "loss.png",
        "loss.svg",
    ] {
        assert!(place.path("out/train").join(name).exists(), "{name}");
    }
    assert_eq!(place.json("train").expect(0).executed(), [""; 0]);

    let first = predict(&place, &["--seed", "1"]).expect(0).executed();
    assert_eq!(
        first,
        [
            "featurize item prompt.mid",
            "predict finish",
            "predict whole",
            "render item prompt.mid"
        ]
    );
    let one = fs::read(&sounds(&place, "wav")[0]).unwrap();
    let second = predict(&place, &["--seed", "2"]).expect(0).executed();
    assert_eq!(second, ["predict finish", "predict whole"]);
    assert_eq!(sounds(&place, "wav").len(), 2);

    // The same seed gives the same bytes, from the cache and anew.
    fs::remove_dir_all(place.path("out")).unwrap();
    assert_eq!(
        predict(&place, &["--seed", "1"]).expect(0).executed(),
        [""; 0]
    );
    assert_eq!(fs::read(&sounds(&place, "wav")[0]).unwrap(), one);
    predict(&place, &["--seed", "1", "--force", "predict"]).expect(0);
    assert_eq!(fs::read(&sounds(&place, "wav")[0]).unwrap(), one);

    // Another format samples nothing again.
    let flac = predict(&place, &["--seed", "1", "--set", "predict.format=flac"]).expect(0);
    assert_eq!(flac.executed(), ["predict finish"]);
    assert_eq!(sounds(&place, "flac").len(), 1);
}

/// Inode and time of the last change of every file below a folder.
fn states(dir: &Path, all: &mut Vec<(PathBuf, u64, i64)>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            states(&entry.path(), all);
        }
        all.push((entry.path(), meta.ino(), meta.ctime_nsec()));
    }
    all.sort();
}

#[test]
fn results_are_named_and_left_alone() {
    let Some(place) = place() else { return };
    predict(&place, &["--out", "tune.wav"]).expect(0);
    for name in ["tune.wav", "tune.json", "tune.png"] {
        assert!(place.path(name).is_file(), "{name}");
    }

    // A run that finds everything in place writes nothing, so that it may be read-only.
    predict(&place, &[]).expect(0);
    fs::write(place.path("out/train/mine.txt"), "mine").unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    states(&place.path("out"), &mut before);
    let again = predict(&place, &[]).expect(0);
    assert_eq!(again.executed(), [""; 0]);
    states(&place.path("out"), &mut after);
    assert_eq!(before, after);

    // What is brought back does not touch what the user keeps beside it.
    fs::write(place.path("out/train/history.csv"), "damaged").unwrap();
    predict(&place, &[]).expect(0);
    assert!(place.path("out/train/mine.txt").is_file());
    let history = fs::read(place.path("out/train/history.csv")).unwrap();
    assert_ne!(history, b"damaged");

    // Names as long as a disk takes, and prompts that differ in their endings.
    let long = "p".repeat(251) + ".mid";
    fs::create_dir(place.path("prompts")).unwrap();
    fs::copy(place.path("prompt.mid"), place.path("prompts").join(long)).unwrap();
    fs::write(place.path("prompts/x.wav"), wav(220.0, 3.0, "x")).unwrap();
    fs::create_dir(place.path("prompts/sub")).unwrap();
    fs::write(place.path("prompts/sub/x.wav"), wav(330.0, 3.0, "x")).unwrap();
    predict(&place, &["--prompt", "prompts", "--out", "many"]).expect(0);
    let names: Vec<String> = fs::read_dir(place.path("many"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".pipeline-results")
        .collect();
    assert_eq!(names.len(), 9, "{names:?}");
    let longest = names.iter().filter(|name| name.starts_with("ppp"));
    assert!(longest.clone().all(|name| name.len() <= 255));
    assert_eq!(longest.count(), 3, "{names:?}");
}

#[test]
fn a_pipe_among_the_results_is_refused() {
    let Some(place) = place() else { return };
    place.json("train").expect(0);
    let history = place.path("out/train/history.csv");
    fs::remove_file(&history).unwrap();
    let made = Command::new("mkfifo").arg(&history).status().unwrap();
    assert!(made.success());
    let said = place.json("train").expect(1);
    assert!(
        said.err
            .contains("cannot write `out/train/history.csv`: it is a pipe"),
        "{}",
        said.err
    );
}

#[test]
fn a_model_and_a_prompt_are_enough() {
    let Some(place) = place() else { return };
    place.json("train").expect(0);
    let empty = Place::new();
    fs::copy(
        place.path("out/train/model.safetensors"),
        empty.path("m.safetensors"),
    )
    .unwrap();
    fs::copy(place.path("prompt.mid"), empty.path("prompt.mid")).unwrap();
    predict(&empty, &["--model", "m.safetensors"]).expect(0);
    assert_eq!(sounds(&empty, "wav").len(), 1);

    // Damage is said, never played.
    let bytes = fs::read(empty.path("m.safetensors")).unwrap();
    let mut flipped = bytes.clone();
    let middle = bytes.len() / 2;
    flipped[middle] ^= 4;
    for (name, bad) in [
        ("cut.safetensors", &bytes[..bytes.len() - 7]),
        ("flipped.safetensors", &flipped[..]),
        ("none.safetensors", &[][..]),
        (
            "text.safetensors",
            &b"no model at all, but a text of some length"[..],
        ),
    ] {
        fs::write(empty.path(name), bad).unwrap();
        let said = predict(&empty, &["--model", name, "--seed", "9"]);
        assert_eq!(said.code, 1, "{name}: {}", said.out);
        assert!(!(said.err.clone() + &said.out).is_empty(), "{name}");
    }
    assert_eq!(sounds(&empty, "wav").len(), 1);
}

#[test]
fn a_raised_budget_goes_on_where_the_training_ended() {
    let (Some(raised), Some(straight)) = (place(), place()) else {
        return;
    };
    let train = |place: &Place, steps: u32, more: &[&str]| {
        let steps = format!("train.max_steps={steps}");
        let mut args = vec!["run", "train", "--set", &steps];
        args.extend(["--set", "train.decay_steps=60"]);
        args.extend(more);
        place.run(&args).expect(0)
    };
    let model = |place: &Place| fs::read(place.path("out/train/last.safetensors")).unwrap();
    train(&raised, 20, &[]);
    let said = train(&raised, 30, &[]);
    let text = said.out.clone() + &said.err;
    assert!(text.contains("goes on at step 20"), "{text}");
    train(&straight, 30, &[]);
    assert!(model(&raised) == model(&straight));

    // Forced, it begins at the beginning.
    let said = train(&raised, 30, &["--force", "train"]);
    let text = said.out.clone() + &said.err;
    assert!(!text.contains("goes on"), "{text}");
    assert!(model(&raised) == model(&straight));
}

#[test]
fn what_cannot_be_predicted_is_said() {
    let Some(place) = place() else { return };
    place.json("train").expect(0);
    fs::write(place.path("silence.wav"), {
        let mut silent = wav(100.0, 2.0, "x");
        let start = silent.len() - 2 * 44_100;
        silent[start..].fill(0);
        silent
    })
    .unwrap();
    fs::write(place.path("short.wav"), wav(100.0, 0.01, "x")).unwrap();
    fs::write(place.path("empty.musicxml"), EMPTY).unwrap();
    for (args, code) in [
        (&["--prompt", "silence.wav"][..], 1),
        (&["--prompt", "short.wav"], 1),
        (&["--prompt", "empty.musicxml"], 1),
        (&["--prompt", "nowhere.mid"], 2),
        (&["--prompt", "prompt.mid", "--frames", "0"], 2),
        (&["--prompt", "prompt.mid", "--frames", "10000000"], 2),
        (
            &["--prompt", "prompt.mid", "--model", "nowhere.safetensors"],
            1,
        ),
        (&[], 2),
    ] {
        let mut all = vec!["run", "predict"];
        all.extend(args);
        let said = place.run(&all);
        assert_eq!(said.code, code, "{args:?}\n{}\n{}", said.out, said.err);
        assert!(!said.err.is_empty(), "{args:?}");
    }
    assert!(sounds(&place, "wav").is_empty());
}

const EMPTY: &str = r#"<score-partwise version="4.0"><part-list><score-part id="P1">
<part-name>Piano</part-name></score-part></part-list><part id="P1"><measure number="1">
</measure></part></score-partwise>"#;
