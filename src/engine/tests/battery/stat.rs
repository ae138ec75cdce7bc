//! The stat adversary: edits that try to look like none.
//!
//! *Passing*: after each of 16 kinds of edit the next plain run gives what a clean build gives,
//! byte for byte: none is missed; a touch alone, and a rename in case alone, recompute nothing. A
//! file that is written while it is hashed or read gives no artifact of bytes that it never had.
//! Nor is an edit missed where the file system keeps no ctimes.
//!
//! *The exception*: a page of a shared memory map that is still dirty when it is written again has
//! no new time, and no stat can show it. `--paranoid` does. Both are pinned here.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use engine::fs::RealFs;
use engine::fs::sim::{Call, SimFs};
use engine::store::{HashOptions, Store, StoreOptions};
use engine::{Request, Verdict};
use rusqlite::Connection;
use stage_core::{Cancel, Digest};

use super::case::Row;
use super::toy::{Run, TOML, Toy, run_project, temporary, try_run};

const ROW: Row = Row {
    name: "stat",
    quick: 3,
    ci: 3,
    nightly: 100,
};

/// How long a file must rest until its digest is remembered, and a bit.
const SETTLE: Duration = Duration::from_millis(2100);

#[test]
fn edits_that_hide() {
    ROW.run(case, || " of 16 edits each, 0 missed");
}

/// An edit, given the file's path and its new bytes.
type Edit = fn(&Path, &[u8]);

/// The edits that are made to a file at rest.
const EDITS: [(&str, Edit); 13] = [
    ("same size, time put back", |path, new| {
        keeping_time(path, |path| fs::write(path, new).unwrap());
    }),
    ("renamed over, size and time as before", |path, new| {
        let other = path.with_extension("new");
        fs::write(&other, new).unwrap();
        set_time(&other, time(path));
        fs::rename(&other, path).unwrap();
    }),
    ("time of the future, as before", |path, new| {
        keeping_time(path, |path| fs::write(path, new).unwrap());
    }),
    ("clock set back", |path, new| {
        fs::write(path, new).unwrap();
        set_time(path, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    }),
    ("through another hard link", |path, new| {
        let other = path.with_extension("link");
        keeping_time(path, |_| fs::write(&other, new).unwrap());
    }),
    ("a new file with its inode", |path, new| {
        let (inode, time) = (fs::metadata(path).unwrap().ino(), time(path));
        fs::remove_file(path).unwrap();
        // The file system chooses: most give the lowest number that is free.
        for n in 0..50 {
            fs::write(path, new).unwrap();
            if fs::metadata(path).unwrap().ino() == inode || n == 49 {
                break;
            }
            fs::rename(path, path.with_extension(format!("not {n}"))).unwrap();
        }
        set_time(path, time);
    }),
    ("renamed in case only, and edited", |path, new| {
        let upper = path.with_file_name(
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_uppercase()
                .replace("TXT", "txt"),
        );
        keeping_time(path, |path| fs::write(path, new).unwrap());
        fs::rename(path, upper).unwrap();
    }),
    ("link to another target", |path, new| {
        let other = path.with_extension("target");
        fs::write(&other, new).unwrap();
        set_time(&other, time(path));
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(&other, path).unwrap();
    }),
    ("times in ticks of two seconds", |path, new| {
        keeping_time(path, |path| fs::write(path, new).unwrap());
    }),
    ("swapped with a file like it", |path, new| {
        let (other, aside) = (path.with_extension("other"), path.with_extension("aside"));
        fs::write(&other, new).unwrap();
        set_time(&other, time(path));
        fs::rename(path, &aside).unwrap();
        fs::rename(&other, path).unwrap();
        fs::rename(&aside, &other).unwrap();
    }),
    ("cut and written anew", |path, new| {
        keeping_time(path, |path| {
            use std::io::Write;
            let mut file = File::options().write(true).open(path).unwrap();
            file.set_len(0).unwrap();
            file.write_all(new).unwrap();
        });
    }),
    ("its folder replaced", |path, new| {
        let folder = path.parent().unwrap();
        let time = time(path);
        // Out of the corpus, so that its old files are not in it.
        let aside = folder.parent().unwrap().with_file_name("aside");
        fs::rename(folder, aside).unwrap();
        fs::create_dir(folder).unwrap();
        fs::write(path, new).unwrap();
        set_time(path, time);
    }),
    ("touched only", |path, _| {
        set_time(path, SystemTime::now());
    }),
];

fn keeping_time(path: &Path, edit: impl FnOnce(&Path)) {
    let time = time(path);
    edit(path);
    set_time(path, time);
}

fn time(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

fn set_time(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// A real disk, where inodes are used again and pages written back.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn case(seed: u64) {
    over_a_note(seed);
    let toy = on_disk();
    let path = |n: usize| toy.path(&format!("f{n}/kind{n}.txt"));
    for (n, (name, _)) in EDITS.iter().enumerate() {
        toy.write(&format!("f{n}/kind{n}.txt"), &format!("{n} before {seed}"));
        match *name {
            "time of the future, as before" => {
                set_time(&path(n), SystemTime::now() + Duration::from_secs(5000));
            }
            "times in ticks of two seconds" => {
                let even = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
                set_time(&path(n), even);
            }
            "through another hard link" => {
                fs::hard_link(path(n), path(n).with_extension("link")).unwrap();
            }
            _ => {}
        }
    }
    std::thread::sleep(SETTLE);
    toy.run();
    assert_eq!(toy.run().executed, [""; 0]);
    for (n, (name, edit)) in EDITS.iter().enumerate() {
        let old = fs::read(path(n)).unwrap();
        edit(&path(n), format!("{n} AFTER! {seed}").as_bytes());
        assert_eq!(old.len(), format!("{n} AFTER! {seed}").len(), "{name}");
    }
    let run = toy.run();
    same_as_clean(&toy, &run, &format!("{:?}", EDITS.map(|(name, _)| name)));
    let touched = EDITS.len() - 1;
    let again = |line: &&String| line.contains(&format!("kind{touched}.txt"));
    assert_eq!(run.executed.iter().find(again), None, "touched only");
    let case = path(6).with_file_name("kiND6.txt");
    fs::rename(path(6).with_file_name("KIND6.txt"), case).unwrap();
    assert_eq!(toy.run().executed, [""; 0], "renamed in case only");

    within_the_tick(&toy);
    without_ctimes(seed);
    meddled(seed, Call::Read);
    meddled(seed, Call::CreateDir);
    if let Some(seen) = mapped_and_written_back() {
        assert!(seen, "a write through a memory map");
    }
}

fn on_disk() -> Toy {
    Toy {
        dir: disk(),
        toml: TOML.to_owned(),
        old: false,
    }
}

/// Each edit alone, after a run of which it was noted that nothing was to do.
fn over_a_note(seed: u64) {
    let path = |toy: &Toy| toy.path("f/kind.txt");
    let toys: Vec<Toy> = EDITS
        .iter()
        .map(|_| {
            let toy = on_disk();
            toy.write("f/kind.txt", &format!("before {seed}"));
            fs::hard_link(path(&toy), path(&toy).with_extension("link")).unwrap();
            toy
        })
        .collect();
    std::thread::sleep(SETTLE);
    for (toy, (name, edit)) in toys.iter().zip(EDITS) {
        toy.run();
        assert_eq!(toy.run().executed, [""; 0], "{name}");
        let request = toy.request();
        assert!(toy.is_settled(&[], &request), "{name}: there is no note");
        edit(&path(toy), format!("AFTER! {seed}").as_bytes());
        assert!(!toy.is_settled(&[], &request), "missed: {name}");
        same_as_clean(toy, &toy.run(), name);
    }
}

fn same_as_clean(toy: &Toy, run: &Run, what: &str) {
    let cache = temporary();
    let options = StoreOptions::new(|warning| panic!("{warning}"));
    let project = toy.open(&cache.path().join("c"), options, &[]).unwrap();
    let clean = run_project(&project, Request::default());
    for (name, bytes) in &clean.everything {
        assert!(
            run.everything.get(name) == Some(bytes),
            "missed at {name} ({what})"
        );
    }
}

/// Edits as soon as the run is over, again and again.
fn within_the_tick(toy: &Toy) {
    let path = toy.path("f0/kind0.txt");
    for n in 0..10 {
        keeping_time(&path, |path| {
            fs::write(path, format!("0 tick{n} !")).unwrap();
        });
        let run = toy.run();
        let text = &run.everything["read f0/kind0.txt text"];
        assert_eq!(
            *text,
            format!("0 tick{n} !").into_bytes(),
            "within the tick"
        );
    }
}

/// Another image with the same sizes and times, on a disk that shows mtimes for ctimes.
fn without_ctimes(seed: u64) {
    let toy = Toy::new(&[]);
    let path = toy.path("a.txt");
    let disk = SimFs::new(&toy.cache(), &[]).unwrap().without_ctimes();
    let options = StoreOptions {
        fs: Arc::new(disk),
        ..StoreOptions::new(|warning| panic!("{warning}"))
    };
    let project = toy.open(&toy.cache(), options, &[]).unwrap();
    for text in ["before", "AFTER!", "again,"] {
        toy.write("a.txt", &format!("{text} {seed}"));
        set_time(&path, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        for _ in 0..3 {
            same_as_clean(&toy, &run_project(&project, toy.request()), text);
        }
    }
}

/// A file that is written when it is being hashed (at the first call `Read`), or between that and
/// the stage (when the stage's folder is created).
fn meddled(seed: u64, at: Call) {
    let toy = Toy::new(&[("a.txt", "before")]);
    let text = format!("after {seed}");
    let path = toy.path("a.txt");
    let disk = SimFs::new(&toy.cache(), &[]).unwrap();
    let done = AtomicBool::new(false);
    let (file, new) = (path.clone(), text.clone());
    disk.on_call(Arc::new(move |call, path| {
        let here = match at {
            Call::Read => path == file,
            _ => path.ends_with("out"),
        };
        if call == at && here && !done.swap(true, Ordering::Relaxed) {
            fs::write(&file, &new).unwrap();
        }
    }));
    let options = StoreOptions {
        fs: Arc::new(disk),
        ..StoreOptions::new(|_| {})
    };
    let project = toy.open(&toy.cache(), options, &[]).unwrap();
    let run = try_run(&project, toy.request()).unwrap();
    drop(project);
    if at == Call::CreateDir {
        assert_eq!(run.summary.verdict, Verdict::Failed);
        assert!(run.failed[0].contains("changed while"), "{:?}", run.failed);
    } else {
        same_as_clean(&toy, &run, "written while it is hashed");
    }
    // Whatever came of it: the next run is right, and nothing wrong was remembered.
    same_as_clean(&toy, &toy.run(), "written meanwhile");
    fs::write(&path, "before").unwrap();
    same_as_clean(&toy, &toy.run(), "and put back");
}

/// A file that is written through a shared memory map: SQLite keeps one of its `-shm` file and
/// writes to it with every transaction.
struct Mapped {
    dir: tempfile::TempDir,
    database: Connection,
    store: Store,
}

impl Mapped {
    fn new(dir: tempfile::TempDir) -> Self {
        let database = Connection::open(dir.path().join("x.db")).unwrap();
        database.pragma_update(None, "journal_mode", "wal").unwrap();
        database.execute_batch("CREATE TABLE t(n)").unwrap();
        let options = StoreOptions {
            fs: Arc::new(RealFs),
            ..StoreOptions::new(|_| {})
        };
        let store = Store::open(&dir.path().join("cache"), options).unwrap();
        Self {
            dir,
            database,
            store,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("x.db-shm")
    }

    fn write(&self) {
        self.database
            .execute("INSERT INTO t VALUES(1)", [])
            .unwrap();
    }

    /// What the file holds, and what the store takes it for.
    fn digests(&self, paranoid: bool) -> (Digest, Digest) {
        let options = HashOptions {
            paranoid,
            cancel: &Cancel::default(),
            on_bytes: &|_| (),
        };
        let mut found = self.store.digest_many(&[self.path()], &options);
        let found = found.pop().unwrap().unwrap().digest;
        (Digest::of(&fs::read(self.path()).unwrap()), found)
    }
}

/// Whether a write to a mapped page is seen once the page was written back; `None` where it never
/// is, as in memory.
fn mapped_and_written_back() -> Option<bool> {
    #[cfg(target_os = "linux")]
    {
        const TMPFS: u32 = 0x0102_1994;
        let kind = rustix::fs::statfs(env!("CARGO_TARGET_TMPDIR")).unwrap();
        if kind.f_type as u32 == TMPFS {
            return None;
        }
    }
    let mapped = Mapped::new(disk());
    mapped.write();
    File::open(mapped.path()).unwrap().sync_all().unwrap();
    std::thread::sleep(SETTLE);
    let (before, found) = mapped.digests(false);
    assert_eq!(before, found);
    mapped.write();
    let (now, found) = mapped.digests(false);
    assert_ne!(before, now);
    Some(found == now)
}

#[test]
#[cfg(target_os = "linux")]
fn a_page_that_stays_dirty_in_a_map_is_seen_by_paranoid_alone() {
    // In memory no page is ever written back.
    let mapped = Mapped::new(temporary());
    mapped.write();
    std::thread::sleep(SETTLE);
    let (before, found) = mapped.digests(false);
    assert_eq!(before, found);
    mapped.write();
    let (now, found) = mapped.digests(false);
    assert_ne!(now, before, "the bytes have changed");
    assert_eq!(found, before, "which no stat shows");
    assert_eq!(mapped.digests(true).1, now, "but reading does");
    assert_eq!(mapped.digests(false).1, now, "and it is remembered");
}
