//! What runs again after which change, over toy stages.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod toy;

use std::fs;
use std::time::{Duration, SystemTime};

use engine::{Cause, FileStatus, Request, Session, Verdict};
use stage_core::Cancel;
use toy::{FILES, Toy, done, objects};

fn strs(run: &toy::Run) -> Vec<&str> {
    run.executed.iter().map(String::as_str).collect()
}

#[test]
fn everything_then_nothing() {
    let toy = Toy::new(&FILES);
    let run = toy.run();
    assert_eq!(run.executed.len(), 3 + 3 + 3 + 1 + 2);
    assert_eq!(run.result, "6  of 36  of 3!");
    let again = toy.run();
    assert_eq!(strs(&again), [""; 0]);
    assert_eq!(again.result, run.result);
    assert_eq!(again.summary.stages[0].cached, 3);
}

#[test]
fn a_run_that_finds_nothing_to_do_is_known_again() {
    let toy = Toy {
        old: true,
        ..Toy::new(&FILES)
    };
    let request = toy.request();
    let settle = |settings: &[&str], request: &Request| {
        toy.run_with(settings, request.clone());
        toy.run_with(settings, request.clone());
        assert!(toy.is_settled(settings, request));
        toy.tick();
    };
    toy.run();
    assert!(!toy.is_settled(&[], &request), "it did something");
    settle(&[], &request);
    assert!(!toy.is_settled(&["read.limit=7"], &request));
    let part = Request {
        targets: vec!["count".into()],
        ..toy.request()
    };
    assert!(!toy.is_settled(&[], &part), "other stages");
    for forced in [
        Request {
            force: ["count".to_owned()].into(),
            ..toy.request()
        },
        Request {
            retry_failed: true,
            ..toy.request()
        },
    ] {
        assert!(!toy.is_settled(&[], &forced));
    }
    let paranoid = Request {
        paranoid: true,
        ..toy.request()
    };
    assert!(toy.is_settled(&[], &paranoid), "every byte is as it was");

    toy.write("d.txt", "a file more");
    assert!(!toy.is_settled(&[], &request));
    settle(&[], &request);
    toy.run_with(&["sum.unit=notes"], toy.request());
    assert!(!toy.is_settled(&[], &request), "there are other commits");
    settle(&[], &request);
    fs::remove_file(toy.cache().join("index.db")).unwrap();
    assert!(!toy.is_settled(&[], &request));
    settle(&[], &request);

    // A file of which there is no telling is asked for each time.
    std::os::unix::fs::symlink("nowhere", toy.path("dead.txt")).unwrap();
    toy.run();
    toy.run();
    assert!(!toy.is_settled(&[], &request));
}

#[test]
fn a_young_file_is_no_settled_one() {
    let toy = Toy::new(&FILES);
    toy.run();
    toy.run();
    assert!(!toy.is_settled(&[], &toy.request()));
}

#[test]
fn an_added_file_costs_its_own_work() {
    let toy = done();
    toy.write("d.txt", "seven eight nine ten");
    let run = toy.run();
    assert_eq!(
        strs(&run),
        [
            "count item d.txt",
            "read item d.txt",
            "sum item d.txt",
            "sum whole",
            "tell finish",
            "tell whole"
        ]
    );
    assert_eq!(run.result, "10  of 410  of 4!");
}

#[test]
fn a_removed_file_costs_the_whole_part_alone() {
    let toy = done();
    fs::remove_file(toy.path("b.txt")).unwrap();
    let run = toy.run();
    assert_eq!(strs(&run), ["sum whole", "tell finish", "tell whole"]);
    assert_eq!(run.result, "5  of 25  of 2!");
    toy.write("b.txt", "three");
    assert_eq!(strs(&toy.run()), [""; 0], "and back again costs nothing");
}

#[test]
fn renames_and_duplicates_cost_nothing() {
    let toy = done();
    fs::rename(toy.path("a.txt"), toy.path("z.txt")).unwrap();
    fs::copy(toy.path("b.txt"), toy.path("b copy.txt")).unwrap();
    let run = toy.run();
    assert_eq!(strs(&run), [""; 0]);
    assert_eq!(run.result, "6  of 36  of 3!");
}

#[test]
fn labels_enter_the_key_of_the_whole_part_alone() {
    let toy = done();
    let request = || toy.request();
    let run = toy.run_with(&["sum.folders=true"], request());
    assert_eq!(strs(&run)[0], "sum whole");
    fs::rename(toy.path("sub"), toy.path("other")).unwrap();
    let run = toy.run_with(&["sum.folders=true"], request());
    assert_eq!(
        strs(&run),
        ["sum whole"],
        "and the equal sum cuts off what follows"
    );
}

#[test]
fn an_edit_with_size_and_time_put_back_is_seen() {
    let toy = done();
    let path = toy.path("a.txt");
    let old = SystemTime::now() - Duration::from_secs(3600);
    let set = |time| {
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    set(old);
    toy.run();
    fs::write(&path, "one.two").unwrap();
    set(old);
    let run = toy.run();
    assert_eq!(strs(&run)[0], "count item a.txt");
    assert!(run.result.starts_with("5 "), "{}", run.result);
}

#[test]
fn a_touch_costs_nothing_and_paranoia_neither() {
    let toy = done();
    let later = SystemTime::now() + Duration::from_secs(5);
    let file = fs::File::options()
        .write(true)
        .open(toy.path("a.txt"))
        .unwrap();
    file.set_modified(later).unwrap();
    assert_eq!(strs(&toy.run()), [""; 0]);
    let paranoid = Request {
        paranoid: true,
        ..toy.request()
    };
    assert_eq!(strs(&toy.run_with(&[], paranoid)), [""; 0]);
}

#[test]
fn equal_bytes_cut_off_what_follows() {
    let toy = done();
    // A tag changes the file, not what is read of it.
    toy.write("a.txt", "# tag\none two");
    assert_eq!(strs(&toy.run()), ["read item a.txt"]);
    // Upper case changes the texts, not the counts.
    let run = toy.run_with(&["read.upper=true"], toy.request());
    assert_eq!(
        strs(&run),
        [
            "count item a.txt",
            "count item b.txt",
            "count item sub/c.txt",
            "read item a.txt",
            "read item b.txt",
            "read item sub/c.txt"
        ]
    );
}

#[test]
fn a_parameter_redoes_its_stage_and_what_differs_below() {
    let toy = done();
    let run = toy.run_with(&["sum.unit=words"], toy.request());
    assert_eq!(strs(&run), ["sum whole", "tell finish", "tell whole"]);
    let run = toy.run_with(&["sum.unit=words", "tell.mark=?"], toy.request());
    assert_eq!(strs(&run), ["tell finish"]);
    assert_eq!(run.result, "6 words of 36 words of 3?");
}

#[test]
fn cosmetic_changes_of_the_file_change_nothing() {
    let mut toy = done();
    toy.toml = r#"
        # a comment
        stages.tell = { inputs = { extra = ["count@prompt"], sum = ["sum"] }, times = 2.0 }
        stages.sum = { inputs = "count@corpus", unit = "" }
        [stages.count]
        letters = false
        inputs = ["read"]
        [stages.read]
        limit = 0
        kind = "read"
        inputs = ["prompt", "corpus"]
        [sources.prompt]
        [sources.corpus]
        path = "./corpus"
    "#
    .to_owned();
    assert_eq!(strs(&toy.run()), [""; 0]);
}

#[test]
fn a_bad_file_is_reported_and_the_others_go_on() {
    let toy = Toy::new(&FILES);
    toy.write("bad.txt", "bad");
    toy.write("note.pdf", "not for us");
    let run = toy.run();
    assert_eq!(run.summary.verdict, Verdict::Failed);
    assert_eq!(run.failed, ["read item bad.txt: it holds `bad`"]);
    assert_eq!(
        run.executed.len(),
        9,
        "items alone: the whole needs all of them"
    );
    let again = toy.run();
    assert_eq!(strs(&again), [""; 0]);
    assert_eq!(again.failed, run.failed, "remembered");
    let retry = Request {
        retry_failed: true,
        ..toy.request()
    };
    assert_eq!(toy.run_with(&[], retry).failed, run.failed);

    let mut warn = toy;
    warn.toml = warn
        .toml
        .replace("path = \"corpus\"", "path = \"corpus\"\non_bad = \"warn\"");
    let run = warn.run();
    assert_eq!(run.summary.verdict, Verdict::Done);
    assert_eq!(strs(&run), ["sum whole", "tell finish", "tell whole"]);
    let intake = format!("{:?}", run.summary.intake["corpus"]);
    assert!(
        intake.contains("Failed") && intake.contains("Ignored"),
        "{intake}"
    );
}

/// A reader that panics costs its file, and is no verdict on the content: the next run tries again.
#[test]
fn a_file_at_which_the_stage_panics_is_left_out_and_tried_again() {
    let mut toy = Toy::new(&FILES);
    toy.write("odd.txt", "panic");
    toy.toml = toy
        .toml
        .replace("path = \"corpus\"", "path = \"corpus\"\non_bad = \"warn\"");
    let run = toy.run();
    assert_eq!(run.summary.verdict, Verdict::Done);
    assert_eq!(
        run.failed,
        ["read item odd.txt: the stage panicked: it holds `panic`"]
    );
    assert!(run.executed.contains(&"sum whole".to_owned()));
    let again = toy.run();
    assert_eq!(again.summary.verdict, Verdict::Done);
    assert_eq!(strs(&again), [""; 0]);
    assert_eq!(again.failed, run.failed);
    assert!(again.summary.troubles.iter().all(|t| !t.remembered));
}

#[test]
fn with_no_usable_file_the_run_fails_even_if_told_to_warn() {
    let mut toy = Toy::new(&[("bad.txt", "bad")]);
    toy.toml = toy
        .toml
        .replace("path = \"corpus\"", "path = \"corpus\"\non_bad = \"warn\"");
    let run = toy.run();
    assert_eq!(run.summary.verdict, Verdict::Failed);
    assert!(
        run.summary
            .troubles
            .iter()
            .any(|t| t.reason.contains("no usable item"))
    );
}

#[test]
fn forced_stages_run_again_and_equal_bytes_cut_off() {
    let toy = done();
    let forced = Request {
        force: ["count".to_owned()].into(),
        ..toy.request()
    };
    let run = toy.run_with(&[], forced);
    assert_eq!(
        strs(&run),
        [
            "count item a.txt",
            "count item b.txt",
            "count item sub/c.txt"
        ]
    );
}

#[test]
fn a_bound_prompt_flows_through_the_same_stages() {
    let toy = done();
    let prompt = toy.dir.path().join("prompt.txt");
    fs::write(&prompt, "hey you").unwrap();
    let request = || Request {
        targets: vec!["tell".into()],
        bindings: [("prompt".to_owned(), prompt.clone())].into(),
        ..toy.request()
    };
    let run = toy.run_with(&[], request());
    assert_eq!(
        strs(&run),
        [
            "count item prompt.txt",
            "read item prompt.txt",
            "tell finish",
            "tell whole"
        ]
    );
    assert_eq!(strs(&toy.run_with(&[], request())), [""; 0]);
}

#[test]
fn a_lost_object_is_made_again() {
    let toy = done();
    let before = objects(&toy.cache());
    // The sum's text is needed by `tell`, the counts by `sum`: all are lost.
    fs::remove_dir_all(toy.cache().join("objects")).unwrap();
    fs::create_dir(toy.cache().join("objects")).unwrap();
    let run = toy.run_with(&["tell.times=1"], toy.request());
    assert_eq!(
        run.summary.verdict,
        Verdict::Done,
        "{:?}",
        run.summary.troubles
    );
    assert_eq!(run.result, "6  of 3!");
    let after = objects(&toy.cache());
    for (name, bytes) in after {
        if let Some(old) = before.get(&name) {
            assert_eq!(*old, bytes);
        }
    }
}

#[test]
fn why_names_the_part_of_the_key() {
    let toy = done();
    let project = toy.project(&["sum.unit=words"]);
    let session = Session::prepare(&project, toy.request(), &Cancel::default()).unwrap();
    let why = session.why().unwrap();
    let Cause::Changed(changes) = &why[0].cause else {
        panic!("{why:?}");
    };
    assert_eq!(changes[0].what, "parameter unit");
    assert_eq!(
        (changes[0].old.as_str(), changes[0].new.as_str()),
        ("\"\"", "\"words\"")
    );
    assert!(
        matches!(&why[1].cause, Cause::Upstream(stage) if stage == "sum"),
        "{why:?}"
    );
}

/// The source is the folder of the project: cache and results lie in it.
#[test]
fn results_below_a_source_are_no_input() {
    let mut toy = Toy::new(&FILES);
    toy.toml = toy::TOML.replace("path = \"corpus\"", "path = \".\"");
    toy.old = true;
    let home = toy.dir.path().to_owned();
    let request = || Request {
        results: vec![home.join("made")],
        runs_dir: Some(home.join("logs")),
        ..toy.request()
    };
    fs::create_dir_all(home.join("logs")).unwrap();
    let first = toy.run_with(&[], request());
    assert_eq!(first.result, "6  of 36  of 3!");
    for n in 0..3 {
        let made = home.join("made").join(n.to_string());
        engine::results::create_dir(&engine::fs::RealFs, &made).unwrap();
        fs::write(made.join("a.txt"), "seven eight").unwrap();
        fs::write(home.join("logs/b.txt"), n.to_string()).unwrap();
        toy.tick();
        let run = toy.run_with(&[], request());
        assert_eq!(strs(&run), [""; 0]);
        let left_out = &run.summary.intake["corpus"].others;
        let left_out: Vec<_> = left_out
            .iter()
            .filter(|(_, status)| matches!(status, FileStatus::LeftOut { .. }))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(left_out, ["cache/", "logs/", "made/"]);
    }
}

/// Rows of (path of the source, its `exclude`, `out` of the request, words of the error).
#[test]
fn sources_and_outputs_lie_apart() {
    let rows = [
        (
            "corpus",
            "",
            "corpus/new",
            "would go to `~/corpus/new`, which lies in source `corpus` at `~/corpus`",
        ),
        (
            "corpus",
            "",
            "corpus/sub/../new/x.wav",
            "lies in source `corpus`",
        ),
        ("corpus", "", "link/new", "lies in source `corpus`"),
        (".", "", "new", "lies in source `corpus` at `~`"),
        ("corpus", "", "corpus", "which is source `corpus` itself"),
        (
            "corpus/a.txt",
            "",
            "corpus/a.txt",
            "which is source `corpus` itself",
        ),
        (
            "made/a",
            "",
            "",
            "source `corpus` at `~/made/a` lies in `~/made`, where this program writes",
        ),
        ("cache/objects", "", "", "lies in `~/cache`"),
        ("corpus", "new", "corpus/new/a", ""),
        ("corpus", "new/**", "corpus/new", ""),
        (
            "corpus",
            "new/*.txt",
            "corpus/new",
            "lies in source `corpus`",
        ),
        ("corpus", "", "corpus/.new", ""),
        ("corpus", "", "corpus/marked/new", ""),
        (".", "", "made/new", ""),
        ("corpus", "", "elsewhere", ""),
        ("corpus", "", ".", ""),
        ("corpus/a.txt", "", "corpus/b.txt", ""),
        ("made/a/a.txt", "", "made", ""),
    ];
    for (path, exclude, out, words) in rows {
        let mut toy = Toy::new(&FILES);
        let exclude = format!("path = {path:?}\nexclude = {exclude:?}");
        toy.toml = toy::TOML.replace("path = \"corpus\"", &exclude);
        let home = toy.dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("corpus", home.join("link")).unwrap();
        fs::create_dir_all(home.join("made/a")).unwrap();
        fs::write(home.join("made/a/a.txt"), "one").unwrap();
        toy.write("marked/.pipeline-results", "");
        let request = Request {
            results: vec![home.join("made")],
            out: Some(out)
                .filter(|out| !out.is_empty())
                .map(|out| home.join(out)),
            ..toy.request()
        };
        let project = toy.project(&[]);
        let said = match Session::prepare(&project, request, &Cancel::default()) {
            Ok(_) => String::new(),
            Err(error) => {
                assert!(error.is_usage() && error.hint().is_some(), "{error}");
                error.to_string()
            }
        };
        let said = said.replace(&toy.dir.path().display().to_string(), "~");
        assert_eq!(said.is_empty(), words.is_empty(), "{path} {out}: {said}");
        assert!(said.contains(words), "{path} {out}: {said}");
    }
}

/// The project with a codec, whose run is done.
fn coded() -> Toy {
    let toy = Toy::coded(&FILES);
    let summary = toy.run().summary;
    assert_eq!(summary.verdict, Verdict::Done, "{:?}", summary.troubles);
    toy
}

#[test]
fn a_map_stage_reads_a_fitted_artifact() {
    let toy = Toy::coded(&FILES);
    let encode = Request {
        targets: vec!["encode".into()],
        ..toy.request()
    };
    let run = toy.run_with(&[], encode);
    assert!(
        run.executed.contains(&"codec whole".to_owned()),
        "it is demanded"
    );
    assert!(!run.executed.contains(&"pack whole".to_owned()));
    // The letters are `fost`: four five six, one two, three.
    assert_eq!(run.everything["encode a.txt codes"], b"codes 1 3");
    assert_eq!(run.everything["encode sub/c.txt codes"], b"codes 0 0 2");
    let run = toy.run();
    let lines = String::from_utf8(run.everything["pack  lines"].clone()).unwrap();
    let mut lines: Vec<_> = lines.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["codes 0 0 2", "codes 1 3", "codes 3"]);
}

#[test]
fn the_preprocessing_holds_the_fitted_artifact() {
    let toy = coded();
    let run = toy.run();
    let chain: serde_json::Value = serde_json::from_slice(&run.everything["pack  chain"]).unwrap();
    assert_eq!(chain[0]["kind"], "encode");
    assert_eq!(chain[0]["inputs"][0]["kind"], "read");
    let digest = chain[0]["artifacts"]["codec"].as_str().unwrap();
    assert_eq!(
        run.everything[&format!("pack  artifacts/{digest}")],
        b"codec fost"
    );
}

#[test]
fn a_file_that_leaves_the_codec_as_it_is_costs_its_own_work() {
    let toy = coded();
    toy.write("d.txt", "two six");
    let run = toy.run();
    let executed: Vec<_> = strs(&run)
        .into_iter()
        .filter(|name| !name.starts_with("tell") && !name.starts_with("sum"))
        .collect();
    assert_eq!(
        executed,
        [
            "codec whole",
            "count item d.txt",
            "encode item d.txt",
            "pack whole",
            "read item d.txt"
        ]
    );
}

#[test]
fn a_changed_codec_encodes_all_anew_and_why_says_so() {
    let toy = coded();
    let settings = ["codec.reverse=true"];
    let codec = Request {
        targets: vec!["codec".into()],
        ..toy.request()
    };
    let project = toy.project(&settings);
    let session = Session::prepare(&project, toy.request(), &Cancel::default()).unwrap();
    let why = session.why().unwrap();
    let waits =
        |why: &&engine::Why| matches!(&why.cause, Cause::Upstream(stage) if stage == "codec");
    let waiting = why.iter().filter(waits).filter(|why| why.stage == "encode");
    assert_eq!(waiting.count(), FILES.len(), "{why:?}");
    drop(session);
    drop(project);
    assert_eq!(strs(&toy.run_with(&settings, codec)), ["codec whole"]);
    let project = toy.project(&settings);
    let session = Session::prepare(&project, toy.request(), &Cancel::default()).unwrap();
    let why = session.why().unwrap();
    for why in why.iter().filter(|why| why.stage == "encode") {
        let Cause::Changed(changes) = &why.cause else {
            panic!("{why:?}");
        };
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].what, "input codec");
    }
    drop(session);
    drop(project);
    let run = toy.run_with(&settings, toy.request());
    assert_eq!(
        strs(&run),
        [
            "encode item a.txt",
            "encode item b.txt",
            "encode item sub/c.txt",
            "pack whole"
        ]
    );
    assert_eq!(strs(&toy.run()), [""; 0], "and back again costs nothing");
}

#[test]
fn a_codec_that_cannot_be_fitted_stops_what_is_encoded_with_it() {
    let toy = Toy::coded(&FILES);
    toy.write("bad.txt", "bad");
    let run = toy.run();
    assert!(!run.executed.iter().any(|name| name.starts_with("encode")));
    let pack = run.summary.troubles.iter().find(|t| t.stage == "pack");
    assert!(pack.unwrap().blocked, "{:?}", run.summary.troubles);
}

#[test]
fn a_lost_codec_is_made_again() {
    let toy = coded();
    let name = stage_core::Digest::of(b"fost").to_hex();
    let object = toy
        .cache()
        .join("objects")
        .join(&name[..2])
        .join(&name[2..]);
    fs::remove_file(object).unwrap();
    let run = toy.run_with(&["encode.between=-"], toy.request());
    assert_eq!(
        run.summary.verdict,
        Verdict::Done,
        "{:?}",
        run.summary.troubles
    );
    assert_eq!(run.everything["encode a.txt codes"], b"codes 1-3");
    assert!(run.executed.contains(&"codec whole".to_owned()));
}
