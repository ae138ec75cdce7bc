//! Names and files that mean harm: names of any bytes, names that a terminal would obey, files
//! that break their readers.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::{Place, Said, wav};
use serde_json::Value;

fn bytes(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// The `key` of every event of a kind, sorted.
fn each(said: &Said, event: &str, key: &str) -> Vec<String> {
    let events = said.events();
    let of_kind = events.iter().filter(|e| e["event"] == event);
    let mut list: Vec<String> = of_kind
        .filter_map(|e| e[key].as_str().map(str::to_owned))
        .collect();
    list.sort();
    list
}

/// The files below a folder, as text, but for the mark of a folder of results.
fn files(folder: &Path) -> Vec<String> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list.extend(files(&path));
        } else if path.file_name().unwrap() != ".pipeline-results" {
            list.push(stage_core::text::of_name(path.file_name().unwrap()));
        }
    }
    list.sort();
    list
}

/// Other file systems than Linux's refuse names that are not UTF-8.
#[cfg(target_os = "linux")]
#[test]
fn names_of_any_bytes_work_everywhere_and_stay_apart() {
    let place = Place::named(bytes(b"caf\xE9-"));
    let corpus = place.path("corpus");
    fs::create_dir(corpus.join(bytes(b"d\xFF"))).unwrap();
    // The escape of one is the name of the other.
    place.write(bytes(b"caf\xE9.wav"), &wav(220.0, 1.0, ""));
    place.write(bytes(b"caf\\xE9.wav"), &wav(330.0, 1.0, ""));
    place.write(bytes(b"d\xFF/tone.wav"), &wav(440.0, 1.0, ""));
    place.write(bytes(b"bad\xFE.wav"), b"text");
    fs::rename(corpus, place.path("x").with_file_name(bytes(b"corpus\xE8"))).unwrap();
    let init = [b"init".as_slice(), b"--corpus", b"corpus\xE8"].map(bytes);
    place.run(&init).expect(0);
    place.edit("# on_bad = \"fail\"", "on_bad = \"warn\" #");

    let cache = [b"--cache".as_slice(), b"cache\xE7"].map(bytes);
    let with_cache = |args: &[&str]| {
        let args = args.iter().map(OsStr::new);
        place.run(&args.chain(cache).collect::<Vec<_>>())
    };
    let run = with_cache(&["run", "dataset", "--json"]).expect(0);
    let names = [
        "bad\\xFE.wav",
        "caf\\x5CxE9.wav",
        "caf\\xE9.wav",
        "d\\xFF/tone.wav",
    ];
    let decoded = run.events();
    let decoded = decoded
        .iter()
        .filter(|e| e["event"] == "action" && e["stage"] == "decode");
    let mut decoded: Vec<&str> = decoded.map(|e| e["item"].as_str().unwrap()).collect();
    decoded.sort_unstable();
    assert_eq!(decoded, names);
    assert!(
        run.executed().contains(&"dataset whole".to_owned()),
        "{run:?}",
        run = run.out
    );
    let plain = with_cache(&["run", "dataset"]).expect(0);
    assert!(
        plain.err.contains("failed: bad\\xFE.wav (stage decode)"),
        "{}",
        plain.err
    );

    // Every result has a name of its own, and an item is found by its name and by its bytes.
    with_cache(&["export", "decode", "--out", "all"]).expect(0);
    assert_eq!(
        files(&place.path("all")),
        [
            "caf\\x5Cx5CxE9.wav.wav",
            "caf\\x5CxE9.wav.wav",
            "tone.wav.wav"
        ]
    );
    for item in [&b"caf\\xE9.wav"[..], b"caf\xE9.wav"] {
        let args = [b"export", b"decode", item, b"--out", b"one\xE9.wav"].map(bytes);
        let said = place.run(&args.into_iter().chain(cache).collect::<Vec<_>>());
        said.expect(0);
        let one = fs::read(place.path("x").with_file_name(bytes(b"one\xE9.wav"))).unwrap();
        assert_eq!(one, fs::read(place.path("all/caf\\xE9.wav.wav")).unwrap());
    }
    for args in [
        &["status", "--why"][..],
        &["status", "--json"],
        &["graph"],
        &["runs", "--json"],
        &["cache", "--json"],
        &["gc", "--json"],
        &["verify", "--json"],
        &["doctor", "--json"],
        &["repair", "--json"],
    ] {
        let said = with_cache(args).expect(0);
        if args.contains(&"--json") {
            said.events();
        }
    }
    let runs = with_cache(&["runs", "--json"]).events();
    assert!(
        runs[0]["command"]
            .as_str()
            .unwrap()
            .ends_with("--cache cache\\xE7"),
        "{runs:?}"
    );

    // Commands for one file.
    let recording = [b"corpus\xE8/caf\xE9.wav".as_slice(), b"out\xE9.flac"].map(bytes);
    let about = place.run(&[OsStr::new("inspect"), recording[0], "--json".as_ref()]);
    assert_eq!(about.expect(0).events()[0]["type"], "audio");
    let done = place.run(&[OsStr::new("convert"), recording[0], recording[1]]);
    assert_eq!(done.expect(0).out, "out\\xE9.flac written\n");
    let prompt = ["run", "decode", "--dry-run", "--prompt"].map(OsStr::new);
    place
        .run(&prompt.into_iter().chain([recording[1]]).collect::<Vec<_>>())
        .expect(0);
}

/// What is no text where text is expected is a usage error.
#[test]
fn arguments_that_are_no_text_are_usage_errors() {
    let place = Place::initialised();
    let rows: [&[&[u8]]; 4] = [
        &[b"run", b"d\xE9"],
        &[b"run", b"--set", b"decode.rate=\xFF"],
        &[b"r\xFFn"],
        &[b"run", b"--jobs", b"\xFF"],
    ];
    for row in rows {
        let args: Vec<&OsStr> = row.iter().map(|arg| bytes(arg)).collect();
        let said = place.run(&args).expect(2);
        assert!(said.err.starts_with("error: "), "{}", said.err);
    }
}

/// Names that a terminal would obey, each with what it would show if it did.
const NASTY: [&str; 7] = [
    "new\nall is well.wav",
    "clear\u{1b}[2J\u{1b}[1;1Hdone in 1 s.wav",
    "title\u{1b}]0;x\u{7}.wav",
    "back\rdone\u{8}\u{7f}.wav",
    "csi\u{9b}31m\u{85}.wav",
    "right\u{202e}to\u{2066}left\u{200f}.wav",
    "line\u{2028}para\u{2029}graph\t.wav",
];

/// Nothing that comes from outside ends a line or steers the terminal; JSON has it as it is.
#[test]
fn names_do_not_reach_the_terminal_as_commands() {
    let place = Place::new();
    for (nth, name) in NASTY.iter().enumerate() {
        place.write(name, &wav(220.0 + nth as f64, 1.0, ""));
        place.write(name.replace(".wav", ".txt"), b"ignored");
        place.write(
            name.replace(".wav", ".copy.wav"),
            &wav(220.0 + nth as f64, 1.0, ""),
        );
        place.write(name.replace(".wav", ".bad.wav"), b"no audio");
    }
    let folder = "corpus\nall is well";
    fs::rename(place.path("corpus"), place.path(folder)).unwrap();
    place.run(&["init", "--corpus", folder]).expect(0);
    place.edit("# on_bad = \"fail\"", "on_bad = \"warn\" #");
    let score = r#"<?xml version="1.0"?><score-partwise><work><work-title>T&#x9b;31m&#x85;&#x202e;x</work-title></work>
        <part-list><score-part id="P"><part-name>p&#x2028;q</part-name></score-part></part-list>
        <part id="P&#10;done"><measure number="1&#10;done"><note><pitch><step>C</step><octave>4</octave></pitch><duration>1</duration></note></measure></part></score-partwise>"#;
    let tune = "tune\nall is well.musicxml";
    fs::write(place.path(tune), score).unwrap();
    let broken = score.replace("<duration>1<", "<duration>x&#10;done<");
    fs::write(place.path("broken\ndone.musicxml"), broken).unwrap();

    let rows: [(&[&str], i32); 24] = [
        (&["run", "decode", "--dry-run"], 0),
        (&["run", "decode", "--jobs", "1"], 0),
        (&["run", "decode", "--set", "decode.rate=11025"], 0),
        (&["run", "decode", "--quiet"], 0),
        (
            &["run", "decode", "--dry-run", "--prompt", "new\nall is well"],
            2,
        ),
        (&["run", "decode", "no\nall is well"], 2),
        (&["run", "decode", "--set", "decode.x\u{1b}=1"], 2),
        (&["run", "new\u{1b}[2J", "--jobs", "done\nx"], 2),
        (&["status", "--why"], 0),
        (&["status", "--why", "--set", "decode.rate=8000"], 0),
        (&["graph"], 0),
        (&["graph", "--format", "dot"], 0),
        (&["graph", "--format", "mermaid"], 0),
        (&["runs"], 0),
        (&["cache"], 0),
        (&["gc", "--dry-run"], 0),
        (&["inspect", tune], 0),
        (&["inspect", "broken\ndone.musicxml"], 1),
        (&["inspect", "none\nall is well"], 1),
        (&["convert", tune, "copy\nall is well.mid"], 0),
        (&["convert", "broken\ndone.musicxml", "x.mid"], 1),
        (&["export", "decode", NASTY[0], "--out", "one\ndone"], 0),
        (&["export", "decode", "none\nall is well", "--out", "x"], 2),
        (&["verify", "--cache", "none\nall is well"], 2),
    ];
    let check = |args: &[&str], code: i32| {
        let said = place.run(args).expect(code);
        for text in [&said.out, &said.err] {
            let obeyed = text
                .chars()
                .find(|c| *c != '\n' && stage_core::text::is_obeyed(*c));
            assert_eq!(obeyed, None, "{args:?}: {text}");
            let forged = text.lines().find(|line| {
                line.starts_with("all is well")
                    || line.starts_with("done") && !line.starts_with("done in ")
            });
            assert_eq!(forged, None, "{args:?}: {text}");
        }
        said
    };
    for (args, code) in rows {
        check(args, code);
    }

    // What is shown names the item, too.
    let shown = stage_core::text::visible(NASTY[0]).into_owned();
    place
        .run(&["export", "decode", &shown, "--out", "shown.wav"])
        .expect(0);

    // JSON has the names as they are, and can go to a terminal.
    let json = check(&["run", "decode", "--json=items"], 0);
    let names = each(&json, "action", "item");
    for name in NASTY {
        // Of equal files the first by name is the item.
        let name = &name.replace(".wav", ".copy.wav");
        assert!(names.contains(name), "{name:?}: {names:?}");
    }
    let inspected: Value = check(&["inspect", tune, "--json"], 0).events().remove(0);
    assert_eq!(
        inspected["title"],
        "T\u{9b}31m\u{85}\u{202e}x".replace('\u{85}', " ")
    );

    // Damage has its users named.
    let objects = place.path(".pipeline/objects");
    fs::remove_dir_all(&objects).unwrap();
    fs::create_dir(&objects).unwrap();
    let verified = check(&["verify"], 1);
    assert!(
        verified.out.contains("new\\x0Aall is well.copy.wav"),
        "{}",
        verified.out
    );
    check(&["repair"], 0);
}

/// A CAF file of a second of 16-bit sound whose length was left open.
fn caf() -> Vec<u8> {
    let mut file = b"caff\0\x01\0\0desc".to_vec();
    file.extend(32_i64.to_be_bytes());
    file.extend(44_100.0_f64.to_be_bytes());
    file.extend(b"lpcm");
    // Flags, bytes and frames of a packet, channels, bits.
    for field in [0, 2, 1, 1, 16_u32] {
        file.extend(field.to_be_bytes());
    }
    file.extend(b"data");
    file.extend((-1_i64).to_be_bytes());
    file.extend([0; 4]);
    for n in 0..44_100_i32 {
        file.extend(((n % 100) as i16 * 200).to_be_bytes());
    }
    file
}

/// A file that would break its reader costs a command its result, and a set that file.
#[test]
fn a_file_that_means_harm_costs_itself_alone() {
    let place = Place::initialised();
    place.edit("# on_bad = \"fail\"", "on_bad = \"warn\" #");
    for nth in 0..4 {
        place.write(
            format!("{nth}.wav"),
            &wav(220.0 * f64::from(nth + 1), 1.0, ""),
        );
    }
    let attributes: String = (0..300_000).map(|i| format!(" a{i}=\"x\"")).collect();
    let score = format!("<?xml version=\"1.0\"?><score-partwise{attributes}>");
    place.write("attributes.musicxml", score.as_bytes());
    let deep = format!("<score-partwise>{}", "<a>".repeat(200_000));
    place.write("deep.musicxml", deep.as_bytes());

    let run = place.json("dataset").expect(0);
    let bad: Vec<String> = each(&run, "file", "file")
        .into_iter()
        .filter(|file| !file.ends_with(".wav"))
        .collect();
    assert_eq!(bad, ["attributes.musicxml", "deep.musicxml"]);
    assert!(
        run.executed().contains(&"dataset whole".to_owned()),
        "{}",
        run.out
    );
    let rows = [
        ("attributes.musicxml", "number of attributes of an element"),
        ("deep.musicxml", "nesting of elements"),
    ];
    for (name, words) in rows {
        let file = format!("corpus/{name}");
        for args in [&["inspect", &file][..], &["convert", &file, "x.wav"]] {
            let said = place.run(args).expect(1);
            assert!(
                said.err.contains(words) && said.err.contains(name),
                "{}",
                said.err
            );
        }
    }
    // Nothing is left of a conversion that failed.
    let left = fs::read_dir(place.dir.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> = left.collect();
    left.sort();
    assert_eq!(left, [".pipeline", "corpus", "pipeline.toml"]);
}

/// A program that writes into a pipe leaves the length open: then the sound lasts to the end.
#[test]
fn a_length_that_was_left_open_reaches_to_the_end() {
    let place = Place::initialised();
    place.write("pipe.caf", &caf());
    let said = place
        .run(&["inspect", "corpus/pipe.caf", "--json"])
        .expect(0);
    assert_eq!(said.events()[0]["frames"], 44_100);
    place.json("decode").expect(0);
}
