//! Folders of odd names, links, cycles and states.

use super::*;
use crate::config::OnBad;
use crate::fs::RealFs;

fn source(include: &[&str], exclude: &[&str]) -> Source {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Source {
        name: "corpus".into(),
        path: None,
        include: own(include),
        exclude: own(exclude),
        on_bad: OnBad::Fail,
    }
}

fn scan(fs: &dyn Fs, source: &Source, root: &Path) -> Vec<Found> {
    let listing = list(fs, source, root, &|extension| extension == "wav", &[]).unwrap();
    let files = listing.files().into_iter();
    files.map(|(found, _)| found).collect()
}

fn names(root: &Path, source: &Source) -> Vec<String> {
    scan(&RealFs, source, root).into_iter().map(shown).collect()
}

fn shown(found: Found) -> String {
    match found.unusable.or(found.left_out) {
        Some(reason) => format!("{}: {reason}", found.name),
        None => found.name,
    }
}

/// Makes files and links (`name -> target`).
fn make(root: &Path, entries: &[&str]) {
    for entry in entries {
        let (name, target) = entry.split_once(" -> ").unwrap_or((entry, ""));
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if target.is_empty() {
            std::fs::write(path, b"x").unwrap();
        } else {
            std::os::unix::fs::symlink(target, path).unwrap();
        }
    }
}

#[test]
fn a_folder_is_listed_once_whatever_the_links() {
    let rows: [(&[&str], &[&str]); 5] = [
        // The folder proper first, though its name is the last.
        (
            &["z/x.wav", "a -> z", "b -> z"],
            &[
                "a/: the same folder as z",
                "b/: the same folder as z",
                "z/x.wav",
            ],
        ),
        // Of two links out of the source the first by name.
        (
            &["b -> ../far", "a -> ../far"],
            &["a/near/x.wav", "a/y.wav", "b/: the same folder as a"],
        ),
        (
            &["a -> ../far/near", "b -> ../far"],
            &["a/x.wav", "b/near/: the same folder as a", "b/y.wav"],
        ),
        // Links to one another, and to the source.
        (
            &["a/to b -> ../b", "b/to a -> ../a", "b/x.wav", "c/all -> .."],
            &[
                "a/to b/: the same folder as b",
                "b/to a/: the same folder as a",
                "b/x.wav",
                "c/all: a link back to a folder above it",
            ],
        ),
        (
            &["up -> ..", "x.wav"],
            &[
                "up/far/near/x.wav",
                "up/far/y.wav",
                "up/source: a link back to a folder above it",
                "x.wav",
            ],
        ),
    ];
    for (entries, expected) in rows {
        // Some file systems list what is new first, others what is old.
        for reversed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("source");
            std::fs::create_dir(&root).unwrap();
            make(dir.path(), &["far/near/x.wav", "far/y.wav"]);
            let mut entries = entries.to_vec();
            if reversed {
                entries.reverse();
            }
            make(&root, &entries);
            assert_eq!(names(&root, &source(&[], &[])), expected);
        }
    }
}

#[test]
fn diamonds_of_links_and_deep_folders_end() {
    let dir = tempfile::tempdir().unwrap();
    let (root, source) = (dir.path(), source(&[], &[]));
    // Two links from each folder to the next: 2^40 ways to the last.
    for n in 0..40 {
        let next = format!("../{}", n + 1);
        make(
            root,
            &[&format!("{n}/a -> {next}"), &format!("{n}/b -> {next}")],
        );
    }
    make(root, &["40/x.wav"]);
    let found = names(root, &source);
    assert_eq!(found.len(), 81);
    assert_eq!(
        found.iter().filter(|name| name.ends_with(".wav")).count(),
        1
    );

    let deep = "d/".repeat(500) + "x.wav";
    make(root, &[&deep]);
    let found = names(root, &source);
    assert!(found.contains(&deep));

    // What the system itself cannot name is one entry.
    let mut at = root.join("long");
    std::fs::create_dir(&at).unwrap();
    let fd = |path: &Path| {
        rustix::fs::open(
            path,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
    };
    let mut parent = fd(&at).unwrap();
    let name = "n".repeat(250);
    for _ in 0..20 {
        rustix::fs::mkdirat(&parent, &name, rustix::fs::Mode::RWXU).unwrap();
        parent = rustix::fs::openat(
            &parent,
            &name,
            rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        at.push(&name);
    }
    assert!(fd(&at).is_err(), "the path is too long");
    let hidden = scan(&RealFs, &source, root).into_iter();
    let hidden: Vec<Found> = hidden.filter(|found| found.hides_files).collect();
    assert_eq!(hidden.len(), 1);
    assert!(hidden[0].unusable.is_some());
}

#[test]
fn results_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    make(
        root,
        &[
            "x.wav",
            "pipeline.toml",
            "out/predict/a.wav",
            "runs/1/a.wav",
            "music/out/kept.wav",
            "music/format",
            "exported/a.wav",
            "exported/.pipeline-results",
            "cache/objects/00/a.wav",
            "other/pipeline.toml",
            "other/out -> ../exported",
            "own/a.wav",
            "way -> own",
        ],
    );
    std::fs::write(root.join("cache/format"), "pipeline store 2 abc\n").unwrap();
    let many = |n: usize| format!("exported/{n}.wav");
    let many: Vec<_> = (0..2 * TOGETHER).map(many).collect();
    make(root, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let own = RealFs.stat(&root.join("own")).unwrap();
    let list = |root: &Path| {
        let own = [(own.dev, own.ino)];
        list(&RealFs, &source(&[], &[]), root, &|_| true, &own).unwrap()
    };
    let names = |listing: Listing| -> Vec<String> {
        let files = listing.files().into_iter();
        files.map(|(found, _)| shown(found)).collect()
    };
    let marked = "results of `pipeline`: it holds `.pipeline-results`";
    let beside = "results of `pipeline`: it lies beside `pipeline.toml`";
    assert_eq!(
        names(list(root)),
        [
            "cache/: a cache of `pipeline`".to_owned(),
            format!("exported/: {marked}"),
            "music/format".to_owned(),
            "music/out/kept.wav".to_owned(),
            format!("other/out/: {beside}"),
            "other/pipeline.toml".to_owned(),
            format!("out/: {beside}"),
            "own/: results of this project go there".to_owned(),
            "pipeline.toml".to_owned(),
            format!("runs/: {beside}"),
            "way/: results of this project go there".to_owned(),
            "x.wav".to_owned(),
        ]
    );
    // What happens in there changes nothing that is seen; that it is no longer left out does.
    let state = list(root).state();
    assert!(state.is_some());
    make(root, &["exported/new.wav", "out/new.wav", "cache/new.wav"]);
    assert_eq!(list(root).state(), state);
    std::fs::remove_file(root.join("exported/.pipeline-results")).unwrap();
    assert_ne!(list(root).state(), state);
    // A folder that is named for a source is meant.
    make(root, &["exported/.pipeline-results"]);
    assert_eq!(names(list(&root.join("exported"))).len(), many.len() + 2);
}

#[test]
fn odd_names_stay_apart() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let names_on_disk: [&[u8]; 6] = [
        b"a\xFF.wav",
        b"a\\xFF.wav",
        b"song.wav",
        b"Song.wav",
        b"new\nline.wav",
        "é.wav".as_bytes(),
    ];
    for name in names_on_disk {
        std::fs::write(dir.path().join(OsStr::from_bytes(name)), b"x").unwrap();
    }
    assert_eq!(
        names(dir.path(), &source(&[], &[])),
        [
            "Song.wav",
            "a\\x5CxFF.wav",
            "a\\xFF.wav",
            "new\nline.wav",
            "song.wav",
            "é.wav",
        ]
    );
}

#[test]
fn lists_sorted_with_globs_links_and_oddities() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["b.wav", "a/x.WAV", "a/y.txt", ".hidden", "z/.git"] {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }
    std::fs::create_dir(root.join("x.flac")).unwrap();
    std::os::unix::fs::symlink(root, root.join("a/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("dead.wav")).unwrap();
    assert_eq!(
        names(root, &source(&[], &[])),
        [
            "a/loop: a link back to a folder above it",
            "a/x.WAV",
            "a/y.txt",
            "b.wav",
            "dead.wav: a link to nothing",
            "x.flac: a folder, expected a file",
        ]
    );
    assert_eq!(
        names(root, &source(&["**/*.WAV"], &["b*"])),
        [
            "a/loop: a link back to a folder above it",
            "a/x.WAV",
            "x.flac: a folder, expected a file",
        ]
    );
    assert_eq!(names(&root.join("b.wav"), &source(&[], &[])), ["b.wav"]);
    let nowhere = list(
        &RealFs,
        &source(&[], &[]),
        &root.join("nope"),
        &|_| true,
        &[],
    );
    assert!(nowhere.is_err());
}

/// What `state` says after each of some changes; equal numbers for equal states.
#[test]
fn a_state_is_that_of_names_and_of_the_files_that_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("below")).unwrap();
    for n in 0..2 * TOGETHER + 7 {
        std::fs::write(root.join(format!("{n}.wav")), b"x").unwrap();
    }
    std::fs::write(root.join("below/a.wav"), b"x").unwrap();
    std::fs::write(root.join("note.txt"), b"x").unwrap();
    let state = || {
        let taken = |extension: &str| extension == "wav";
        list(&RealFs, &source(&[], &["*.tmp"]), root, &taken, &[])
            .unwrap()
            .state()
    };
    let first = state();
    assert!(first.is_some());
    let mut states = vec![first];
    let mut changed = |what: &str| {
        let now = state();
        assert!(now.is_some() && !states.contains(&now), "{what}");
        states.push(now);
    };
    std::fs::write(root.join("1025.wav"), b"yy").unwrap();
    changed("a file is longer");
    std::fs::write(root.join("below/a.wav"), b"y").unwrap();
    changed("a file below is edited");
    std::fs::rename(root.join("3.wav"), root.join("three.wav")).unwrap();
    changed("a file is renamed");
    std::fs::write(root.join("other.txt"), b"x").unwrap();
    changed("a file that is not taken is added");
    std::fs::remove_file(root.join("7.wav")).unwrap();
    changed("a file is removed");
    std::os::unix::fs::symlink("../below/a.wav", root.join("below/link.wav")).unwrap();
    changed("a link is added");
    let last = state();
    for name in ["note.txt", ".hidden.wav", "excluded.tmp"] {
        std::fs::write(root.join(name), b"longer").unwrap();
        assert_eq!(state(), last, "{name}");
    }
    std::os::unix::fs::symlink("nowhere", root.join("below/dead.wav")).unwrap();
    assert_eq!(
        state(),
        None,
        "what a link to nothing leads to may change unseen"
    );
}

#[test]
fn a_folder_that_cannot_be_listed_matters_whatever_its_name() {
    use crate::fs::sim::{Error, Fault, SimFs};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("sub")).unwrap();
    std::fs::write(root.join("sub/a.wav"), b"x").unwrap();
    std::os::unix::fs::symlink("endless", root.join("endless")).unwrap();
    let listed = scan(&RealFs, &source(&[], &[]), root);
    let hiding = |found: &[Found]| -> Vec<String> {
        let hiding = found.iter().filter(|f| f.hides_files);
        hiding.map(|f| f.name.clone()).collect()
    };
    assert_eq!(hiding(&listed), [""; 0]);
    for call in [2, 3] {
        let fs = SimFs::new(root, &[]).unwrap();
        let (error, lasting) = (Error::Device, true);
        fs.fail(Fault::At {
            call,
            error,
            lasting,
        });
        let found = scan(&fs, &source(&[], &[]), root);
        assert!(hiding(&found).contains(&"sub".to_owned()), "{found:?}");
    }
}
