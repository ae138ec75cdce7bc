//! What leaves the cache as files: `export`, files that the user names, exit codes without a reader.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Place, Said, wav};

fn fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// The file that marks a folder of results.
const MARK: &str = ".pipeline-results";

/// Names of the files below a folder of the place, sorted, but for the mark.
fn files(place: &Place, dir: &str) -> Vec<String> {
    fn collect(dir: &Path, prefix: &str, all: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if name.ends_with(MARK) {
                continue;
            }
            if entry.path().is_dir() {
                collect(&entry.path(), &format!("{name}/"), all);
            } else {
                all.push(name);
            }
        }
    }
    let mut all = Vec::new();
    collect(&place.path(dir), "", &mut all);
    all.sort();
    all
}

/// A project with two recordings, decoded.
fn decoded() -> Place {
    let place = Place::initialised();
    place.write("a.wav", &wav(220.0, 1.0, "x"));
    place.write("b.wav", &wav(330.0, 1.0, "x"));
    place.json("decode").expect(0);
    place
}

/// Runs a command whose standard output nobody reads.
fn unread(place: &Place, args: &[&str]) -> Said {
    let mut child = place
        .command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    Said {
        code: child.wait().unwrap().code().unwrap_or(-1),
        out: String::new(),
        err,
    }
}

#[test]
fn a_failure_is_told_without_a_reader_of_standard_output() {
    let place = decoded();
    // (arguments, exit code, words on standard error)
    let fine: [(&[&str], i32, &str); 8] = [
        (&["run", "decode"], 0, ""),
        (&["run", "decode", "--json"], 0, ""),
        (&["run", "decode", "--dry-run"], 0, ""),
        (&["status"], 0, ""),
        (&["runs"], 0, ""),
        (&["verify"], 0, ""),
        (&["inspect", "corpus/a.wav"], 0, ""),
        (&["--help"], 0, ""),
    ];
    for (args, code, words) in fine {
        let said = unread(&place, args).expect(code);
        assert_eq!(said.err, words, "{args:?}");
    }
    place.write("bad.wav", b"junk");
    let objects = place.path(".pipeline/objects");
    let folder = fs::read_dir(objects).unwrap().next().unwrap().unwrap();
    let object = fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    fs::remove_file(object.path()).unwrap();
    let rows: [(&[&str], i32, &str); 9] = [
        (&["verify"], 1, ""),
        (&["verify", "--json"], 1, ""),
        (&["run", "decode"], 1, "failed: bad.wav"),
        (&["run", "decode"], 1, "failed: bad.wav"),
        (&["run", "decode", "--quiet"], 1, "failed: bad.wav"),
        (&["run", "decode", "--json"], 1, ""),
        (&["run", "decode", "--dry-run"], 1, ""),
        (&["run", "decode", "--dry-run", "--json"], 1, ""),
        (&["export", "decode", "--out", "o"], 1, "bad.wav"),
    ];
    for (args, code, words) in rows {
        let said = unread(&place, args).expect(code);
        assert!(said.err.contains(words), "{args:?}: {}", said.err);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let place = decoded();
    let rows: [&[&str]; 5] = [
        &["run", "decode"],
        &["run", "decode", "--json"],
        &["run", "decode", "--json=items"],
        &["status"],
        &["verify", "--json"],
    ];
    for args in rows {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(args).stdout(full).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(
            err.contains("cannot write to standard output"),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn items_of_different_sources_are_told_apart() {
    let place = decoded();
    fs::write(place.path("a.wav"), wav(550.0, 2.0, "x")).unwrap();
    let prompt = ["--prompt", "a.wav"];
    place
        .run(&[&["run", "decode"], &prompt[..]].concat())
        .expect(0);
    let export = |args: &[&str]| place.run(&[&["export"], args, &prompt[..]].concat());
    let length = |file: &str| fs::metadata(place.path(file)).unwrap().len();

    export(&["decode", "--out", "all"]).expect(0);
    assert_eq!(
        files(&place, "all"),
        ["corpus/a.wav.wav", "corpus/b.wav.wav", "prompt/a.wav.wav"]
    );
    assert!(length("all/prompt/a.wav.wav") > length("all/corpus/a.wav.wav"));

    let said = export(&["decode", "a.wav", "--out", "x.wav"]).expect(2);
    for words in [
        "`a.wav`",
        "corpus, prompt",
        "`decode@corpus`",
        "`decode@prompt`",
    ] {
        assert!(said.err.contains(words), "{}", said.err);
    }
    export(&["decode@prompt", "a.wav", "--out", "p.wav"]).expect(0);
    export(&["decode@corpus", "a.wav", "--out", "c.wav"]).expect(0);
    assert_eq!(length("p.wav"), length("all/prompt/a.wav.wav"));
    assert_eq!(length("c.wav"), length("all/corpus/a.wav.wav"));
    // One source has no folder of its own.
    export(&["decode@corpus", "--out", "one"]).expect(0);
    assert_eq!(files(&place, "one"), ["a.wav.wav", "b.wav.wav"]);
    // Where there is only one, it is meant.
    export(&["decode", "b.wav", "--out", "b-again.wav"]).expect(0);

    let rows: [(&[&str], &str); 4] = [
        (&["decode@corpos"], "did you mean `decode@corpus`?"),
        (&["dataset@prompt"], "has no items of a source `prompt`"),
        (&["dataset@corpus"], "makes one result of all its sources"),
        (&["decode", "c.wav"], "has no item `c.wav`"),
    ];
    for (args, words) in rows {
        let said = export(&[args, &["--out", "y"]].concat()).expect(2);
        assert!(said.err.contains(words), "{args:?}: {}", said.err);
    }
    let said = place
        .run(&["export", "decode@prompt", "--out", "y"])
        .expect(2);
    assert!(
        said.err.contains("source `prompt` is not bound"),
        "{}",
        said.err
    );
    assert!(!place.path("y").exists());
}

#[test]
fn what_is_stale_is_not_exported_in_part() {
    let place = decoded();
    place.json("dataset").expect(0);
    place
        .run(&["export", "dataset", "--out", "right"])
        .expect(0);
    place.write("new.wav", &wav(440.0, 1.0, "x"));
    // (arguments, words)
    let rows: [(&[&str], &[&str]); 3] = [
        (
            &["export", "dataset"],
            &[
                "stage `dataset` is not up to date",
                "decode 1, featurize 1",
                "`pipeline run dataset`",
            ],
        ),
        (
            &["export", "featurize"],
            &["1 of 3 items", "`new.wav`", "`pipeline run featurize`"],
        ),
        (
            &["export", "decode", "--set", "decode.rate=8000"],
            &[
                "3 of 3 items",
                "`pipeline run decode --set decode.rate=8000`",
            ],
        ),
    ];
    for (args, words) in rows {
        let said = place.run(&[args, &["--out", "part"]].concat()).expect(1);
        for word in words {
            assert!(said.err.contains(word), "{args:?}: {}", said.err);
        }
        assert!(!place.path("part").exists(), "{args:?}");
    }
    let said = place
        .run(&["export", "featurize", "new.wav", "--out", "n.parquet"])
        .expect(1);
    assert!(said.err.contains("is not up to date"), "{}", said.err);
    place
        .run(&["export", "featurize", "a.wav", "--out", "a.parquet"])
        .expect(0);
    place.json("dataset").expect(0);
    place
        .run(&["export", "featurize", "--out", "all"])
        .expect(0);
    assert_eq!(files(&place, "all").len(), 3);
}

#[test]
fn what_failed_is_named_and_the_rest_exported() {
    let place = decoded();
    place.write("bad.wav", b"junk");
    place.json("decode").expect(1);
    let export = ["export", "decode", "--out", "all"];
    let said = place.run(&export).expect(1);
    assert!(said.err.contains("left out: bad.wav"), "{}", said.err);
    assert_eq!(files(&place, "all"), ["a.wav.wav", "b.wav.wav"]);
    place.edit("# on_bad = \"fail\"", "on_bad = \"warn\" #");
    let said = place.run(&export).expect(0);
    assert!(said.err.contains("left out: bad.wav"), "{}", said.err);
}

#[test]
fn one_item_that_cannot_be_written_does_not_stop_the_others() {
    let place = decoded();
    fs::create_dir_all(place.path("all/a.wav.wav")).unwrap();
    let said = place.run(&["export", "decode", "--out", "all"]).expect(1);
    assert!(
        said.err
            .contains("item `a.wav`: cannot write `all/a.wav.wav`"),
        "{}",
        said.err
    );
    assert!(said.out.contains("1 file(s) written"), "{}", said.out);
    assert_eq!(files(&place, "all"), ["b.wav.wav"]);
}

#[test]
fn long_names_are_exported_under_shorter_ones() {
    let place = Place::initialised();
    let (one, two) = ("n".repeat(250) + "1.wav", "n".repeat(250) + "2.wav");
    place.write(&one, &wav(220.0, 1.0, "x"));
    place.write(&two, &wav(330.0, 1.0, "x"));
    place.json("featurize").expect(0);
    let export = ["export", "featurize", "--out", "all"];
    place.run(&export).expect(0);
    let names = files(&place, "all");
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        assert!(name.ends_with(".parquet") && name.len() <= 255, "{name}");
    }
    place.run(&export).expect(0);
    assert_eq!(files(&place, "all"), names);
}

#[test]
fn what_is_exported_goes_where_it_is_said() {
    let place = decoded();
    fifo(&place.path("fifo.wav"));
    fs::write(place.path("file"), "old").unwrap();
    let export = |out: &str| place.run(&["export", "decode", "a.wav", "--out", out]);
    export("plain.wav").expect(0);
    export("file").expect(0);
    export("new/folder").expect(0);
    let bytes = fs::read(place.path("plain.wav")).unwrap();
    assert_eq!(fs::read(place.path("file")).unwrap(), bytes);
    assert_eq!(files(&place, "new"), ["folder/pcm.wav"]);
    let said = export("fifo.wav").expect(1);
    assert!(
        said.err.contains("cannot write `fifo.wav`: it is a pipe"),
        "{}",
        said.err
    );
}

#[test]
fn no_command_waits_for_a_pipe_or_replaces_one() {
    use std::os::unix::fs::FileTypeExt;
    let place = decoded();
    for name in [
        "in.wav",
        "in.mid",
        "in.safetensors",
        "o.png",
        "o.flac",
        "o.mid",
    ] {
        fifo(&place.path(name));
    }
    let score = common::repository().join("data/prompts/broken-chords.mid");
    let score = score.to_str().unwrap();
    let rows: [&[&str]; 10] = [
        &["inspect", "in.wav"],
        &["inspect", "in.wav", "--png", "new.png"],
        &["inspect", "corpus/a.wav", "--png", "o.png"],
        &["convert", "in.wav", "new.flac"],
        &["convert", "in.mid", "new.musicxml"],
        &["convert", "corpus/a.wav", "o.flac"],
        &["convert", score, "o.flac"],
        &["convert", score, "o.mid"],
        &["run", "decode", "--prompt", "in.wav"],
        &[
            "run",
            "predict",
            "--prompt",
            score,
            "--model",
            "in.safetensors",
        ],
    ];
    for args in rows {
        let said = place.run(args);
        assert_eq!(said.code, 1, "{args:?}: {}", said.err);
        let refused = ["it is a pipe", "no regular file"];
        let refused = refused.iter().any(|words| said.err.contains(words));
        assert!(refused, "{args:?}: {}", said.err);
    }
    for name in ["o.png", "o.flac", "o.mid"] {
        let kind = fs::symlink_metadata(place.path(name)).unwrap().file_type();
        assert!(kind.is_fifo(), "{name}");
    }
    fs::remove_file(place.path("pipeline.toml")).unwrap();
    fifo(&place.path("pipeline.toml"));
    let said = place.run(&["status"]);
    assert!(said.err.contains("it is a pipe"), "{}", said.err);
}

#[test]
fn devices_are_not_replaced() {
    let place = decoded();
    // Devices of its own, which only root can make: a failure must not cost the machine its own.
    let made = Command::new("mknod")
        .args(["null", "c", "1", "3"])
        .current_dir(place.dir.path())
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("not tried: no device can be made here");
        return;
    }
    std::os::unix::fs::symlink("null", place.path("link")).unwrap();
    for device in ["null", "link"] {
        let said = place
            .run(&["inspect", "corpus/a.wav", "--png", device])
            .expect(1);
        assert!(said.err.contains("it is a pipe, device"), "{}", said.err);
        assert!(!fs::metadata(place.path("null")).unwrap().is_file());
    }
}

/// The lock is the kernel's: a file that a killed process left holds nobody up.
#[test]
fn an_export_waits_for_the_process_that_writes_into_its_folder() {
    let place = decoded();
    fs::create_dir(place.path("all")).unwrap();
    let lock = File::create(place.path("all/.pipeline-put.lock")).unwrap();
    lock.lock().unwrap();
    let mut export = place
        .command(&["export", "decode", "--out", "all"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(export.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("waiting for process"), "{line}");
    assert_eq!(files(&place, "all"), [".pipeline-put.lock"]);
    drop(lock);
    assert!(export.wait().unwrap().success());
    assert_eq!(files(&place, "all"), ["a.wav.wav", "b.wav.wav"]);
}
