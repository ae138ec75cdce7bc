//! The stat cache: what is trusted, what is not, and what is never believed.

use std::fs::{self, FileTimes};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use stage_core::Cancel;

use super::*;

/// Hashes files; gives their digests and how many bytes were read for it.
fn digests(store: &Store, paths: &[PathBuf], paranoid: bool) -> (Vec<Digest>, u64) {
    let bytes = AtomicU64::new(0);
    let options = HashOptions {
        paranoid,
        cancel: &Cancel::default(),
        on_bytes: &|n| {
            bytes.fetch_add(n, Ordering::Relaxed);
        },
    };
    let digests = store.digest_many(paths, &options);
    let digests = digests
        .into_iter()
        .map(|file| file.unwrap().digest)
        .collect();
    (digests, bytes.into_inner())
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

/// Waits until a file written before is old enough to be recorded.
fn settle() {
    std::thread::sleep(Duration::from_millis(2050));
}

fn set_mtime(path: &Path, time: SystemTime) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn settled_files_are_read_once_and_young_ones_again() {
    let home = Home::new();
    let store = home.open();
    let paths: Vec<_> = (0..50)
        .map(|n| home.dir.path().join(format!("f{n}")))
        .collect();
    for (n, path) in paths.iter().enumerate() {
        put(path, &content(n));
    }
    let expected: Vec<_> = (0..50).map(|n| Digest::of(&content(n))).collect();
    let all: u64 = (0..50).map(|n| content(n).len() as u64).sum();
    assert_eq!(digests(&store, &paths, false), (expected.clone(), all));
    assert_eq!(
        digests(&store, &paths, false),
        (expected.clone(), all),
        "still young"
    );
    settle();
    assert_eq!(
        digests(&store, &paths, false),
        (expected.clone(), all),
        "recorded now"
    );
    assert_eq!(digests(&store, &paths, false), (expected.clone(), 0));
    assert_eq!(digests(&home.open(), &paths, false), (expected.clone(), 0));
    assert_eq!(
        digests(&store, &paths, true),
        (expected.clone(), all),
        "paranoid"
    );

    // Touched only: read again, same digest. Copied: another inode. Moved: ctime changes.
    set_mtime(&paths[0], SystemTime::now());
    fs::rename(&paths[1], home.dir.path().join("moved")).unwrap();
    fs::rename(home.dir.path().join("moved"), &paths[1]).unwrap();
    let (found, read) = digests(&store, &paths, false);
    assert_eq!(found, expected);
    assert!(read <= 2 * content(0).len() as u64, "{read} bytes");
}

#[test]
fn edits_that_hide_are_found() {
    let home = Home::new();
    let store = home.open();
    let path = |name: &str| home.dir.path().join(name);
    let names = [
        "same-mtime",
        "rename-over",
        "hardlink",
        "symlink",
        "swapped-a",
        "swapped-b",
    ];
    for name in names {
        put(&path(name), name.as_bytes());
    }
    put(&path("target"), b"symlink's other");
    fs::remove_file(path("symlink")).unwrap();
    std::os::unix::fs::symlink(path("same-mtime"), path("symlink")).unwrap();
    fs::hard_link(path("hardlink"), path("other-name")).unwrap();
    let paths: Vec<_> = names.iter().map(|name| path(name)).collect();
    settle();
    digests(&store, &paths, false);
    assert_eq!(digests(&store, &paths, false).1, 0, "all recorded");

    let edited = |name: &str| name.to_uppercase().into_bytes();
    let old = fs::metadata(path("same-mtime"))
        .unwrap()
        .modified()
        .unwrap();
    put(&path("same-mtime"), &edited("same-mtime"));
    set_mtime(&path("same-mtime"), old);
    put(&path("new"), &edited("rename-over"));
    let old = fs::metadata(path("rename-over"))
        .unwrap()
        .modified()
        .unwrap();
    set_mtime(&path("new"), old);
    fs::rename(path("new"), path("rename-over")).unwrap();
    put(&path("other-name"), &edited("hardlink"));
    fs::remove_file(path("symlink")).unwrap();
    std::os::unix::fs::symlink(path("target"), path("symlink")).unwrap();
    fs::rename(path("swapped-a"), path("x")).unwrap();
    fs::rename(path("swapped-b"), path("swapped-a")).unwrap();
    fs::rename(path("x"), path("swapped-b")).unwrap();

    let expected: Vec<_> = paths
        .iter()
        .map(|p| Digest::of(&fs::read(p).unwrap()))
        .collect();
    assert_eq!(digests(&store, &paths, false).0, expected);
    let lower: Vec<_> = names
        .iter()
        .map(|name| Digest::of(name.as_bytes()))
        .collect();
    for (n, name) in names.iter().enumerate() {
        assert_ne!(expected[n], lower[n], "{name} was edited");
    }
}

#[test]
fn an_edit_within_the_tick_of_the_recording_is_found() {
    // Many quick rounds of hash, edit of the same length with the mtime put back, hash.
    let home = Home::new();
    let store = home.open();
    let path = home.dir.path().join("file");
    put(&path, b"00000");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    for round in 0..200 {
        let bytes = format!("{round:05}").into_bytes();
        put(&path, &bytes);
        set_mtime(&path, time);
        let (found, _) = digests(&store, std::slice::from_ref(&path), false);
        assert_eq!(found, [Digest::of(&bytes)], "round {round}");
    }
}

#[test]
fn a_file_of_the_future_is_never_recorded() {
    let home = Home::new();
    let store = home.open();
    let path = home.dir.path().join("file");
    put(&path, b"abc");
    set_mtime(&path, SystemTime::now() + Duration::from_secs(1000));
    settle();
    for _ in 0..2 {
        assert_eq!(digests(&store, std::slice::from_ref(&path), false).1, 3);
    }
}

#[test]
fn every_path_has_its_own_error() {
    let home = Home::new();
    let store = home.open();
    let good = home.dir.path().join("good");
    put(&good, b"abc");
    let pipe = home.dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&pipe).unwrap();
    let dangling = home.dir.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    let missing = home.dir.path().join("missing");
    let paths = [good, home.dir.path().to_owned(), pipe, dangling, missing];
    let options = HashOptions {
        paranoid: false,
        cancel: &Cancel::default(),
        on_bytes: &|_| (),
    };
    let results = store.digest_many(&paths, &options);
    assert_eq!(results[0].as_ref().unwrap().digest, Digest::of(b"abc"));
    for (i, expected) in [
        (1, "no regular file"),
        (2, "no regular file"),
        (3, "cannot read"),
        (4, "cannot read"),
    ] {
        let message = results[i].as_ref().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_file_that_never_rests_is_an_error_and_a_cancelled_one_too() {
    let home = Home::new();
    let store = home.open();
    let path = home.dir.path().join("file");
    put(&path, &vec![0; 3_000_000]);
    let cancel = Cancel::default();
    // It changes whenever some of it has been read.
    let options = HashOptions {
        paranoid: false,
        cancel: &cancel,
        on_bytes: &|_| {
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_len(3_000_000 + u64::from(rand_byte())).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        },
    };
    let results = store.digest_many(std::slice::from_ref(&path), &options);
    assert!(
        matches!(results[0], Err(StoreError::FileChanged { .. })),
        "{results:?}"
    );
    cancel.set();
    let results = store.digest_many(std::slice::from_ref(&path), &options);
    assert!(
        matches!(results[0], Err(StoreError::Cancelled)),
        "{results:?}"
    );
}

/// Another value each time.
fn rand_byte() -> u8 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    (NEXT.fetch_add(7, Ordering::Relaxed) % 251) as u8
}

/// A disk in `home` that shows mtimes for ctimes.
fn without_ctimes(home: &Home) -> StoreOptions {
    let disk = crate::fs::sim::SimFs::new(home.dir.path(), &[]).unwrap();
    StoreOptions {
        fs: Arc::new(disk.without_ctimes()),
        ..home.options()
    }
}

#[test]
fn states_without_ctimes_vouch_for_nothing() {
    let home = Home::new();
    let path = home.dir.path().join("f");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let write = |bytes: &[u8]| {
        put(&path, bytes);
        set_mtime(&path, old);
    };
    let paths = [path.clone()];
    let open = |options| Store::open(&home.root(), options).unwrap();
    write(b"before");
    let store = open(without_ctimes(&home));
    for _ in 0..2 {
        assert_eq!(
            digests(&store, &paths, false),
            (vec![Digest::of(b"before")], 6)
        );
    }
    // Another image with the same sizes and times: no state shows it.
    write(b"AFTER!");
    assert_eq!(
        digests(&store, &paths, false),
        (vec![Digest::of(b"AFTER!")], 6)
    );
    assert_eq!(home.warnings(), [""; 0]);
    drop(store);

    // Nor does it vouch that the same numbers were seen where ctimes are kept.
    settle();
    let store = open(home.options());
    digests(&store, &paths, false);
    assert_eq!(digests(&store, &paths, false).1, 0);
    let sig = store.look_at(&[&path]).pop().unwrap().unwrap();
    write(b"before");
    drop(store);
    let store = open(without_ctimes(&home));
    let same = StatSig {
        ctime: sig.mtime,
        ..sig
    };
    let inner = store.inner();
    let record = [(same, Digest::of(b"AFTER!"), false)];
    inner
        .with_index(|index| Ok(index.put_stats(&record, false)?))
        .unwrap();
    assert_eq!(
        digests(&store, &paths, false),
        (vec![Digest::of(b"before")], 6)
    );
}

/// Rows of (mtime, ctime, whether the state vouches where ctimes are passed on).
#[test]
fn a_ctime_that_is_passed_on_vouches_unless_it_may_be_an_mtime() {
    const SECOND: i64 = 1_000_000_000;
    for (mtime, ctime, vouches) in [
        (7 * SECOND, 9 * SECOND, true),
        (7 * SECOND + 1, 7 * SECOND + 1, true),
        (7 * SECOND, 7 * SECOND, false),
        (7 * SECOND, 0, false),
    ] {
        let sig = StatSig {
            dev: 1,
            ino: 2,
            size: 3,
            mtime,
            ctime,
        };
        use crate::fs::Ctime;
        assert_eq!(sig.vouches(Ctime::Passed), vouches, "{mtime} {ctime}");
        assert!(sig.vouches(Ctime::Kernel));
        assert!(!sig.vouches(Ctime::Unknown));
    }
}
