//! The command line: help, usage errors, exit codes.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use common::Place;

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    let help = place.run(&["--help"]).expect(0).out;
    for command in [
        "init",
        "run",
        "status",
        "graph",
        "runs",
        "cache",
        "gc",
        "verify",
        "repair",
        "inspect",
        "models",
        "export",
        "convert",
        "doctor",
        "completions",
    ] {
        assert!(help.contains(command), "{help}");
        let own = place.run(&[command, "--help"]).expect(0).out;
        assert!(own.contains("Example"), "{own}");
        assert!(own.contains("pipeline "), "{own}");
    }
}

/// Rows of (arguments, exit code, words on standard error).
#[test]
fn usage_errors_say_what_and_hint() {
    let place = Place::initialised();
    let rows: [(&[&str], i32, &[&str]); 9] = [
        (&["rum"], 2, &["unrecognized subcommand"]),
        (
            &["run", "datset"],
            2,
            &["no stage `datset`", "did you mean `dataset`?"],
        ),
        (
            &["run", "--set", "featurize.hopp=3"],
            2,
            &["unknown parameter `hopp`", "`hop`"],
        ),
        (&["run", "--force", "x"], 2, &["no stage `x`"]),
        (
            &["run", "dataset", "--temperature", "1"],
            2,
            &["--temperature"],
        ),
        (&["run", "--device", "gpu"], 2, &["`gpu` is no device"]),
        (&["init", "--corpus", "corpus"], 2, &["is there already"]),
        (
            &["init", "new", "--corpus", "nowhere"],
            2,
            &["no corpus at `nowhere`"],
        ),
        (&["-C", "nowhere", "status"], 2, &["cannot enter `nowhere`"]),
    ];
    for (args, code, words) in rows {
        let said = place.run(args);
        assert_eq!(said.code, code, "{args:?}\n{}", said.err);
        for word in words {
            assert!(
                said.err.contains(word),
                "{args:?}\n{}\nlacks {word}",
                said.err
            );
        }
    }
}

#[test]
fn a_project_without_its_file_says_how_to_begin() {
    let place = Place::new();
    let said = place.run(&["status"]).expect(2);
    assert!(said.err.contains("pipeline init"), "{}", said.err);
}

/// The file that newcomers read shows every parameter with the default that it has.
#[test]
fn the_pipeline_of_the_repository_is_what_init_writes() {
    let place = Place::initialised();
    let without_path = |text: String| -> Vec<String> {
        let lines = text.lines().map(str::to_owned);
        lines.filter(|line| !line.starts_with("path = ")).collect()
    };
    let read = |path| without_path(std::fs::read_to_string(path).unwrap());
    assert_eq!(
        read(common::repository().join("pipeline.toml")),
        read(place.path("pipeline.toml")),
    );
}

#[test]
fn completions_are_scripts() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = place.run(&["completions", shell]).expect(0);
        assert!(said.out.contains("pipeline"), "{shell}");
    }
}

#[test]
fn scores_convert_into_each_other_and_into_sound() {
    let place = Place::new();
    let prompts = common::repository().join("data/prompts");
    let midi = std::fs::read_dir(prompts)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "mid"))
        .unwrap();
    let midi = midi.to_str().unwrap();
    for (from, to) in [
        (midi, "a.musicxml"),
        ("a.musicxml", "a.mxl"),
        ("a.mxl", "b.mid"),
        ("b.mid", "b.flac"),
        ("b.flac", "b.wav"),
    ] {
        place.run(&["convert", from, to]).expect(0);
        place.run(&["inspect", to]).expect(0);
    }
    let notes = |file: &str| {
        let said = place.run(&["inspect", file, "--json"]).expect(0);
        said.events()[0]["notes"].as_array().unwrap().len()
    };
    assert_eq!(notes(midi), notes("b.mid"));
    assert!(notes(midi) > 0);
    place.run(&["convert", "b.mid", "b.xyz"]).expect(2);
    place.run(&["convert", "nowhere.mid", "c.mid"]).expect(1);
}
