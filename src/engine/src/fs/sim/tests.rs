//! The simulated disk tells what it should.

#![allow(clippy::unwrap_used, reason = "for tests")]

use std::io::Write;

use super::*;

struct Home {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    Home { _dir: dir, root }
}

/// A snapshot as `path=bytes`, folders as `path/`.
fn shown(snapshot: &Snapshot) -> String {
    let show = |(path, bytes): (&PathBuf, &Option<Arc<[u8]>>)| match bytes {
        Some(bytes) => format!("{}={}", path.display(), String::from_utf8_lossy(bytes)),
        None => format!("{}/", path.display()),
    };
    snapshot.0.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_file_renamed_without_syncs_may_be_in_any_state() {
    let home = home();
    let fs = SimFs::new(&home.root, &[]).unwrap();
    let (old, new) = (home.root.join("old"), home.root.join("new"));
    fs.create_new(&old).unwrap().write_all(b"abcd").unwrap();
    fs.rename(&old, &new).unwrap();
    let recording = fs.recording();
    let length = recording.len();
    assert_eq!((length, recording.at_risk(length)), (3, 3));
    for (loss, expected) in [
        (Loss::Nothing, "new=abcd"),
        (Loss::All, ""),
        (Loss::Contents, "new="),
        (Loss::Names, ""),
        (Loss::TornWrite, "new=ab"),
        (Loss::ZeroedWrite, "new=\0\0\0\0"),
        (Loss::One(0), "old=abcd"),
        (Loss::One(1), "new="),
        (Loss::One(2), "new=abcd"),
    ] {
        let state = recording.state(length, loss);
        assert_eq!(shown(&state), expected, "{loss:?}");
    }
}

#[test]
fn each_sync_covers_its_own() {
    let home = home();
    std::fs::write(home.root.join("there"), "x").unwrap();
    let fs = SimFs::new(&home.root, &[]).unwrap();
    let dir = home.root.join("dir");
    fs.create_dir(&dir).unwrap();
    let mut file = fs.create_new(&dir.join("a")).unwrap();
    file.write_all(b"1").unwrap();
    let lost = |fs: &SimFs| {
        let recording = fs.recording();
        shown(&recording.state(recording.len(), Loss::All))
    };
    assert_eq!(lost(&fs), "there=x");
    fs.sync_dir(&dir).unwrap();
    assert_eq!(lost(&fs), "there=x", "the folder itself has no name yet");
    fs.sync_dir(&home.root).unwrap();
    assert_eq!(lost(&fs), "dir/ dir/a= there=x");
    file.sync().unwrap();
    assert_eq!(lost(&fs), "dir/ dir/a=1 there=x");
    file.write_all(b"2").unwrap();
    fs.remove_file(&home.root.join("there")).unwrap();
    assert_eq!(lost(&fs), "dir/ dir/a=1 there=x");
    fs.open(&home.root).unwrap().sync_fs().unwrap();
    assert_eq!(lost(&fs), "dir/ dir/a=12");
}

#[test]
fn what_comes_past_the_seam_is_not_durable() {
    let home = home();
    let fs = SimFs::new(&home.root, &["index"]).unwrap();
    std::fs::write(home.root.join("made"), "abc").unwrap();
    std::fs::write(home.root.join("index"), "1").unwrap();
    fs.rename(&home.root.join("made"), &home.root.join("kept"))
        .unwrap();
    std::fs::write(home.root.join("index"), "22").unwrap();
    fs.sync_dir(&home.root).unwrap();
    let recording = fs.recording();
    let length = recording.len();
    assert_eq!(shown(&recording.state(length, Loss::All)), "kept=");
    assert_eq!(shown(recording.beside(0)), "");
    assert_eq!(shown(recording.beside(length - 1)), "index=1");
    assert_eq!(shown(recording.beside(length)), "index=22");
}

#[test]
fn a_moved_folder_takes_along_what_is_in_it() {
    let home = home();
    let fs = SimFs::new(&home.root, &[]).unwrap();
    let path = |name: &str| home.root.join(name);
    fs.create_dir(&path("a")).unwrap();
    fs.create_new(&path("a/f"))
        .unwrap()
        .write_all(b"1")
        .unwrap();
    fs.rename(&path("a"), &path("b")).unwrap();
    fs.remove_file(&path("b/f")).unwrap();
    let recording = fs.recording();
    assert_eq!(shown(&recording.state(4, Loss::Nothing)), "b/ b/f=1");
    assert_eq!(shown(&recording.state(5, Loss::Nothing)), "b/");
}

#[test]
fn a_state_is_written_and_read_back() {
    let home = home();
    let (from, to) = (home.root.join("from"), home.root.join("to"));
    std::fs::create_dir_all(from.join("x/y")).unwrap();
    std::fs::write(from.join("x/f"), "1").unwrap();
    let snapshot = Snapshot::read(&from).unwrap();
    snapshot.write(&to).unwrap();
    let again = Snapshot::read(&to).unwrap();
    assert_eq!(shown(&again), "x/ x/f=1 x/y/");
    assert_eq!(again.digest(), snapshot.digest());
}

#[test]
fn calls_fail_as_told() {
    let home = home();
    let fs = SimFs::new(&home.root, &[]).unwrap();
    let path = home.root.join("f");
    let error = Error::Full;
    let (call, lasting) = (1, false);
    fs.fail(Fault::At {
        call,
        error,
        lasting,
    });
    let mut file = fs.create_new(&path).unwrap();
    assert!(fs.stat(&path).is_ok(), "no space is needed for that");
    let failed = file.write(b"abcd").unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.write(b"abcd").unwrap(), 4, "once only");
    fs.fail(Fault::Line {
        start: "write f".to_owned(),
        error: Error::Short,
    });
    assert_eq!(file.write(b"efgh").unwrap(), 2);
    assert!(fs.has_failed());
    assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
    assert_eq!(fs.take_lines().last().unwrap(), "write f");
}
