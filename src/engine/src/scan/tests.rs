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
    let listing = list(fs, source, root, &|extension| extension == "wav").unwrap();
    let files = listing.files().into_iter();
    files.map(|(found, _)| found).collect()
}

fn names(root: &Path, source: &Source) -> Vec<String> {
    scan(&RealFs, source, root)
        .into_iter()
        .map(|f| match f.unusable {
            Some(reason) => format!("{}: {reason}", f.name),
            None => f.name,
        })
        .collect()
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
    let nowhere = list(&RealFs, &source(&[], &[]), &root.join("nope"), &|_| true);
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
        list(&RealFs, &source(&[], &["*.tmp"]), root, &taken)
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
