//! Keeping the cache: `cache`, `gc`, `verify`, `repair`, `runs pin`, through the executable.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Place, Said};
use serde_json::Value;

/// A project with one decoded recording.
fn decoded() -> Place {
    let place = Place::initialised();
    place.take("fixtures/tone.flac", "a.flac");
    place.json("decode").expect(0);
    place
}

/// With another rate, as another run.
fn decode_again(place: &Place) {
    place
        .run(&["run", "decode", "--set", "decode.rate=11025"])
        .expect(0);
}

fn json(said: &Said) -> Value {
    said.events().remove(0)
}

fn runs(place: &Place) -> Vec<Value> {
    place.run(&["runs", "--json"]).expect(0).events()
}

/// The objects of a cache, largest first.
fn objects(place: &Place) -> Vec<PathBuf> {
    let folders = fs::read_dir(place.path(".pipeline/objects")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort_by_key(|file| std::cmp::Reverse(fs::metadata(file).unwrap().len()));
    files
}

/// Digits and units become `#`, as do the spaces before them: sizes differ with encoders.
fn without_sizes(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line
            .split_whitespace()
            .map(|word| {
                let number = word.starts_with(|c: char| c.is_ascii_digit());
                if number { "#" } else { word }
            })
            .filter(|word| !["B", "kB", "MB", "GB", "TB"].contains(word))
            .collect();
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

#[test]
fn the_cache_is_measured_by_stage() {
    let place = decoded();
    let said = place.run(&["cache"]).expect(0);
    insta::assert_snapshot!(without_sizes(&said.out), @r"
    files size
    decode # #
    (of no stage) # #
    (records) # #
    (index) # #
    all # #
    # runs, # pinned; # free
    ");
    let value = json(&place.run(&["cache", "--json"]).expect(0));
    assert_eq!(value["stages"][0]["stage"], "decode");
    assert_eq!(value["runs"], 1);
}

#[test]
fn old_runs_are_collected_unless_they_are_pinned() {
    let place = decoded();
    decode_again(&place);
    let first = runs(&place)[1]["origin"]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    place
        .run(&[
            "runs",
            "pin",
            &first[..20].to_lowercase(),
            "--note",
            "paper",
        ])
        .expect(0);
    let listed = place.run(&["runs"]).expect(0).out;
    assert!(listed.contains("pinned: paper"), "{listed}");
    let collect = ["gc", "--keep-runs", "1", "--min-age", "0", "--json"];
    let report = json(&place.run(&collect).expect(0));
    assert_eq!(report["total"]["freed"]["objects"], 0, "{report}");
    place.run(&["runs", "unpin", &first]).expect(0);
    let said = place
        .run(&["gc", "--keep-runs", "1", "--min-age", "0", "--dry-run"])
        .expect(0);
    insta::assert_snapshot!(without_sizes(&said.out), @r"
    stage objects kept objects would free
    decode # # # #
    (shared) – – – –
    (other) # # # #
    all # # # #
    runs: # kept, # dropped
    ");
    let before = objects(&place).len();
    let report = json(&place.run(&collect).expect(0));
    let freed = report["total"]["freed"]["objects"].as_u64().unwrap();
    assert!(freed > 0, "{report}");
    assert_eq!(objects(&place).len() as u64 + freed, before as u64);
    assert_eq!(runs(&place)[1]["collected"], true);
    let said = place.run(&["runs", "pin", &first]).expect(2);
    assert!(said.err.contains("has been collected"), "{}", said.err);
    // The run that is kept is found whole, the other is done again.
    let again = place
        .run(&["run", "decode", "--set", "decode.rate=11025", "--json"])
        .expect(0);
    assert_eq!(again.executed(), [""; 0]);
    assert_eq!(
        place.json("decode").expect(0).executed(),
        ["decode item a.flac"]
    );
    place.run(&["verify"]).expect(0);
}

#[test]
fn a_size_that_cannot_be_reached_is_said() {
    let place = decoded();
    let args = ["gc", "--max-size", "1kB", "--min-age", "0"];
    let run = runs(&place)[0]["origin"]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    place.run(&["runs", "pin", &run]).expect(0);
    let said = place.run(&args).expect(1);
    assert!(said.err.contains("alone hold"), "{}", said.err);
    place.run(&["runs", "unpin", &run]).expect(0);
    place.run(&args).expect(0);
    assert_eq!(objects(&place).len(), 0);
}

#[test]
fn damage_is_named_with_its_stage_and_mended() {
    let place = decoded();
    let said = place.run(&["verify"]).expect(0);
    insta::assert_snapshot!(without_sizes(&said.out), @r"
    # objects verified, #
    all is well
    ");
    let largest = &objects(&place)[0];
    let mut bytes = fs::read(largest).unwrap();
    bytes[1000] ^= 1;
    fs::remove_file(largest).unwrap();
    fs::write(largest, &bytes).unwrap();
    let said = place.run(&["verify"]).expect(1);
    assert!(said.out.contains("damaged   object"), "{}", said.out);
    assert!(said.out.contains("    decode a.flac: "), "{}", said.out);
    let found = json(&place.run(&["verify", "--json"]).expect(1));
    assert_eq!(found["damage"][0]["users"][0]["item"], "a.flac");
    let said = place.run(&["repair"]).expect(0);
    assert!(
        said.out.contains("made again: decode a.flac"),
        "{}",
        said.out
    );
    place.run(&["verify"]).expect(0);
    assert_ne!(fs::read(largest).unwrap(), bytes);
    assert_eq!(place.json("decode").expect(0).executed(), [""; 0]);
}

#[test]
fn usage_errors_say_what_is_wrong() {
    let place = Place::initialised();
    for command in ["gc", "cache", "verify"] {
        let said = place.run(&[command]).expect(2);
        assert!(said.err.contains("no cache at"), "{}", said.err);
    }
    place.take("fixtures/tone.flac", "a.flac");
    place.json("decode").expect(0);
    let rows: [(&[&str], &str); 3] = [
        (&["verify", "--subset", "4/3"], "`4/3` is no part"),
        (&["gc", "--max-size", "3 apples"], "`3 apples` is no size"),
        (&["runs", "pin", "ZZZ"], "no run begins with `ZZZ`"),
    ];
    for (args, words) in rows {
        let said = place.run(args).expect(2);
        assert!(said.err.contains(words), "{}", said.err);
    }
}

#[test]
fn the_state_is_told_without_reading_the_sources() {
    let place = decoded();
    // Reading this would take minutes.
    let huge = fs::File::create(place.path("corpus/huge.wav")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let begun = Instant::now();
    let said = place.run(&["status", "decode", "--why"]).expect(0);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        said.out.contains("decode huge.wav: not done yet"),
        "{}",
        said.out
    );
    // A file that was decoded a moment ago is fresh, although its times prove nothing yet.
    let value = json(&place.run(&["status", "decode", "--json"]).expect(0));
    assert_eq!(value["stages"][0]["fresh"], 1, "{value}");
    place.run(&["graph"]).expect(0);
}
