//! The feature road end to end: what is done, and what is done again.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use std::fs;
use std::time::{Duration, SystemTime};

use common::{Place, wav};

/// Three recordings.
fn place() -> Place {
    let place = Place::initialised();
    for (name, hertz) in [("a.wav", 220.0), ("b.wav", 330.0), ("c.wav", 440.0)] {
        place.write(name, &wav(hertz, 2.0, "x"));
    }
    place
}

fn done() -> Place {
    let place = place();
    let said = place.json("dataset").expect(0);
    assert_eq!(said.executed().len(), 3 * 3 + 1);
    place
}

const NOTHING: [&str; 0] = [];

#[test]
fn nothing_changed_nothing_done() {
    let place = done();
    assert_eq!(place.json("dataset").expect(0).executed(), NOTHING);
    let summary = place.json("dataset").events().pop().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["stages"]["decode"]["cached"], 3);
}

#[test]
fn one_added_file_is_one_files_work() {
    let place = done();
    place.write("d.wav", &wav(550.0, 2.0, "x"));
    assert_eq!(
        place.json("dataset").expect(0).executed(),
        [
            "dataset item d.wav",
            "dataset whole",
            "decode item d.wav",
            "featurize item d.wav"
        ]
    );
}

#[test]
fn names_and_times_do_not_matter() {
    let place = done();
    let corpus = place.path("corpus");
    fs::rename(corpus.join("a.wav"), corpus.join("z.wav")).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(corpus.join("b.wav"))
        .unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3))
        .unwrap();
    assert_eq!(place.json("dataset").expect(0).executed(), NOTHING);
}

#[test]
fn an_edit_with_its_time_put_back_is_seen() {
    let place = place();
    let path = place.path("corpus/b.wav");
    let old = SystemTime::now() - Duration::from_secs(1000);
    let set = || {
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
    };
    set();
    place.json("dataset").expect(0);
    fs::write(&path, wav(331.0, 2.0, "x")).unwrap();
    set();
    let executed = place.json("dataset").expect(0).executed();
    assert_eq!(
        executed,
        [
            "dataset item b.wav",
            "dataset whole",
            "decode item b.wav",
            "featurize item b.wav"
        ]
    );
}

#[test]
fn a_tag_costs_its_decoding_alone() {
    let place = done();
    place.write("b.wav", &wav(330.0, 2.0, "another comment"));
    assert_eq!(
        place.json("dataset").expect(0).executed(),
        ["decode item b.wav"]
    );
}

#[test]
fn a_parameter_of_a_later_stage_decodes_nothing() {
    let place = done();
    let said = place
        .run(&["run", "dataset", "--json", "--set", "featurize.n_fft=512"])
        .expect(0);
    let executed = said.executed();
    assert!(
        executed.iter().all(|e| !e.starts_with("decode")),
        "{executed:?}"
    );
    assert_eq!(executed.len(), 3 + 3 + 1);
    place.edit("[stages.featurize]", "# a comment\n[stages.featurize]");
    assert_eq!(place.json("dataset").expect(0).executed(), NOTHING);
}

#[test]
fn scores_and_recordings_meet() {
    let place = place();
    place.write("tune.musicxml", TUNE.as_bytes());
    let executed = place.json("dataset").expect(0).executed();
    assert!(
        executed.contains(&"render item tune.musicxml".to_owned()),
        "{executed:?}"
    );
    assert_eq!(executed.len(), 4 * 3 + 1);
}

const TUNE: &str = r#"<score-partwise version="4.0"><part-list><score-part id="P1">
<part-name>Piano</part-name></score-part></part-list><part id="P1"><measure number="1">
<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>
<note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration></note>
<note><pitch><step>G</step><octave>4</octave></pitch><duration>2</duration></note>
</measure></part></score-partwise>"#;

#[test]
fn each_bad_file_has_its_reason() {
    let place = place();
    let good = wav(330.0, 2.0, "x");
    place.write("cut.wav", &good[..good.len() / 2]);
    place.write(
        "text.wav",
        b"this is no sound at all, only a text that says so\n",
    );
    place.write("empty.wav", b"");
    fs::create_dir(place.path("corpus/x.flac")).unwrap();
    place.write("clip.wav", &wav(330.0, 0.1, "x"));
    place.write("readme.md", b"not for us");
    let said = place.json("dataset").expect(1);
    let reason = |file: &str| {
        let events = said.events();
        let event = events
            .iter()
            .find(|e| e["event"] == "file" && e["file"] == file);
        let event = event.unwrap_or_else(|| panic!("{file}: {}", said.out));
        assert_eq!(event["status"], "failed", "{event}");
        event["reason"].as_str().unwrap().to_owned()
    };
    for file in ["cut.wav", "text.wav", "empty.wav", "x.flac", "clip.wav"] {
        assert!(!reason(file).is_empty());
    }
    assert!(reason("x.flac").contains("folder"));
    assert!(said.out.contains(r#""status":"ignored""#));
    // The good ones went as far as they can without the whole set.
    assert_eq!(said.executed().len(), 9);
    place.edit("# on_bad", "on_bad = \"warn\"   #");
    let said = place.json("dataset").expect(0);
    assert_eq!(said.executed(), ["dataset whole"]);
}

#[test]
fn without_a_usable_file_it_stops_and_says_why() {
    let place = Place::initialised();
    place.write("text.wav", b"no sound");
    let said = place.run(&["run", "dataset"]).expect(1);
    assert!(said.err.contains("text.wav"), "{}", said.err);
}

#[test]
fn the_index_may_be_lost() {
    let place = done();
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(place.path(".pipeline").join(name));
    }
    assert_eq!(place.json("dataset").expect(0).executed(), NOTHING);
}

#[test]
fn export_copies_and_inspect_knows_what_it_is() {
    let place = done();
    place
        .run(&["export", "featurize", "a.wav", "--out", "a.parquet"])
        .expect(0);
    place
        .run(&["export", "decode", "a.wav", "--out", "a-again.wav"])
        .expect(0);
    place.run(&["export", "dataset", "--out", "set"]).expect(0);
    for (file, kind) in [
        ("a.parquet", "shard"),
        ("a-again.wav", "audio"),
        ("set", "data set"),
        ("corpus/b.wav", "audio"),
    ] {
        let said = place.run(&["inspect", file, "--json"]).expect(0);
        assert_eq!(said.events()[0]["type"], kind, "{file}");
    }
    assert!(
        !fs::metadata(place.path("a.parquet"))
            .unwrap()
            .permissions()
            .readonly()
    );
}

/// The project lies in its corpus.
#[test]
fn results_in_the_corpus_are_no_input() {
    let place = Place::new();
    fs::write(place.path("a.wav"), wav(220.0, 2.0, "x")).unwrap();
    place.run(&["init", "--corpus", "."]).expect(0);
    let toml = fs::read_to_string(place.path("pipeline.toml")).unwrap();
    assert!(toml.contains("path = \".\"\n"), "{toml}");
    let run = |stage: &str| {
        let said = place.run(&["run", stage, "--json", "--cache", "cache"]);
        said.expect(0)
    };
    assert_eq!(run("dataset").executed().len(), 4);
    let exported = place.run(&[
        "export",
        "decode",
        "--out",
        "out/sounds",
        "--cache",
        "cache",
    ]);
    exported.expect(0);
    // What was made before folders of results were marked.
    fs::create_dir_all(place.path("other/out")).unwrap();
    fs::write(place.path("other/pipeline.toml"), "").unwrap();
    fs::write(place.path("other/out/b.wav"), wav(330.0, 2.0, "x")).unwrap();
    for _ in 0..2 {
        let said = run("dataset");
        assert_eq!(said.executed(), NOTHING);
        let left_out: Vec<String> = said
            .events()
            .iter()
            .filter(|e| e["event"] == "file" && e["status"] == "left_out")
            .map(|e| e["file"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(left_out, ["cache/", "other/out/", "out/"]);
    }
    let said = place.run(&["run", "dataset", "--cache", "cache"]).expect(0);
    let line = "  left out   out/  (results";
    assert!(said.out.contains(line), "{}", said.out);

    let sound = "out/sounds/a.wav.wav";
    assert!(place.path(sound).exists());
    assert!(place.path("out/.pipeline-results").exists());
    let rows: [(&[&str], i32, &str); 6] = [
        (
            &["export", "decode", "--out", "wavs"],
            2,
            "would go to `wavs`, which lies in source `corpus` at `.`",
        ),
        (
            &["run", "predict", "--prompt", "a.wav", "--out", "b.wav"],
            2,
            "exclude = [\"b.wav\"] in [sources.corpus]",
        ),
        (
            &["run", "predict", "--prompt", "a.wav", "--out", "a.wav"],
            2,
            "lies in source `corpus`",
        ),
        (
            &["run", "decode", "--prompt", "out/sounds"],
            2,
            "source `prompt` at `out/sounds` lies in `out`, where this program writes",
        ),
        // To go on from a result is what a prompt may be for.
        (&["run", "decode", "--prompt", sound], 0, ""),
        (&["export", "decode", "--out", "out/more"], 0, ""),
    ];
    for (args, code, words) in rows {
        let said = place
            .run(&[args, &["--cache", "cache"]].concat())
            .expect(code);
        assert!(said.err.contains(words), "{args:?}: {}", said.err);
    }
    assert!(!place.path("wavs").exists());
    place.edit("path = \".\"", "path = \"out/sounds\"");
    let said = place.run(&["run", "decode", "--cache", "cache"]).expect(2);
    assert!(
        said.err
            .contains("source `corpus` at `out/sounds` lies in `out`"),
        "{}",
        said.err
    );
}
