//! Damage to the files of a cache at rest: a bit flipped, cut to 0, 1, half or all but one byte, a
//! page of zeros, two files swapped, one deleted; to objects, commits, the index and its log, the
//! format file, locks, and what dead processes left.
//!
//! *Passing*: no wrong byte is ever served: a reader of a damaged object is told which one, and so
//! is who verifies. Repair executes only the actions whose objects are gone, and afterwards all is
//! whole and gives the same bytes. A damaged commit is named, and just its work is done again; a
//! damaged index is made anew or read right; a damaged format is refused, not misread; a damaged
//! lock changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use engine::fs::sim::Snapshot;
use engine::fs::{Fs, RealFs};
use engine::store::{Record, Store, StoreOptions, Ulid, VerifyOptions, VerifyReport};
use engine::{Project, Request, chain};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use stage_core::{Cancel, Digest, Tree};

use super::case::Row;
use super::oracle::World;
use super::scenario::{mend, play, project_with, work_by_key};
use super::toy::{Run, Toy, temporary, try_run};

const ROW: Row = Row {
    name: "damage",
    quick: 100,
    ci: 1_000,
    nightly: 50_000,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Object,
    Commit,
    Index,
    Format,
    Lock,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    Flipped,
    Cut,
    ZeroedPage,
    Swapped,
    Deleted,
}

const HARMS: [Harm; 5] = [
    Harm::Flipped,
    Harm::Cut,
    Harm::ZeroedPage,
    Harm::Swapped,
    Harm::Deleted,
];

/// A whole cache, and what it gives.
struct Sound {
    toy: Toy,
    world: World,
    cache: Snapshot,
    files: BTreeMap<Kind, Vec<PathBuf>>,
    run: Run,
    /// Keys of the actions that the last run needs.
    needed: BTreeSet<Digest>,
    /// Key → what came out.
    trees: BTreeMap<Digest, Tree>,
    /// Key → the commit that records it.
    commits: BTreeMap<Digest, String>,
}

impl Sound {
    fn new() -> Self {
        let toy = Toy::coded(&[]);
        let mut world = World::new(&[
            ("a.txt", "one two"),
            ("b.txt", "# tag\nthree"),
            ("sub/c.txt", "four five six"),
        ]);
        world.put(&toy, &World::new(&[]));
        let cache = toy.cache();
        let real = || Arc::new(RealFs) as Arc<dyn Fs>;
        // Several commits.
        play(&toy, &world, &cache, real(), 2).unwrap();
        world.upper = true;
        play(&toy, &world, &cache, real(), 2).unwrap();
        let run = play(&toy, &world, &cache, real(), 2).unwrap();
        let clean = toy.dir.path().join("clean");
        play(&toy, &world, &clean, real(), 2).unwrap();
        let needed = work_by_key(&clean).into_keys().collect();
        let (mut trees, mut commits) = (BTreeMap::new(), BTreeMap::new());
        let store = Store::open(&cache, StoreOptions::new(|_| {})).unwrap();
        let each = |name: Ulid, record| {
            if let Record::Action(action) = record {
                commits.insert(action.key, name.to_string());
                trees.extend(action.outcome.artifact().map(|a| (action.key, a.tree())));
            }
            Ok(())
        };
        store.each_record(each).unwrap();
        drop(store);
        // What dead processes leave.
        let dead = r#"{"pid":1,"host":"gone","since":1}"#;
        for path in [
            "leases/01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            format!("claims/{}", Digest::of(b"an action")),
        ] {
            std::fs::write(cache.join(path), dead).unwrap();
        }
        let snapshot = Snapshot::read(&cache).unwrap();
        let mut files: BTreeMap<Kind, Vec<PathBuf>> = BTreeMap::new();
        for (path, bytes) in &snapshot.0 {
            let first = path.iter().next().unwrap().to_str().unwrap();
            let kind = match first {
                "objects" => Kind::Object,
                "commits" => Kind::Commit,
                "index.db" | "index.db-wal" => Kind::Index,
                "format" => Kind::Format,
                "index.db-shm" => continue,
                _ => Kind::Lock,
            };
            if bytes.is_some() {
                files.entry(kind).or_default().push(path.clone());
            }
        }
        assert_eq!(files.len(), 5, "a file of each kind");
        Self {
            toy,
            world,
            cache: snapshot,
            files,
            run,
            needed,
            trees,
            commits,
        }
    }
}

#[test]
fn files_of_a_cache() {
    let sound = Sound::new();
    let seen = Mutex::new(BTreeMap::<String, u64>::new());
    ROW.run(
        |seed| {
            let what = case(&sound, seed);
            *seen.lock().unwrap().entry(what.to_owned()).or_default() += 1;
        },
        || format!(": {:?}, 0 served", seen.lock().unwrap()),
    );
}

/// Harms one file, or two. Gives their paths.
fn harm(
    cache: &mut Snapshot,
    files: &[PathBuf],
    how: Harm,
    rng: &mut ChaCha8Rng,
) -> BTreeSet<PathBuf> {
    let path = files[rng.random_range(0..files.len())].clone();
    let mut bytes = cache.0[&path].as_deref().unwrap().to_vec();
    let length = bytes.len();
    let mut harmed = BTreeSet::from([path.clone()]);
    match how {
        Harm::Flipped if length > 0 => {
            let at = rng.random_range(0..length);
            bytes[at] ^= 1 << rng.random_range(0..8);
        }
        Harm::Cut => {
            let to = [0, 1, length / 2, length.saturating_sub(1)];
            bytes.truncate(to[rng.random_range(0..to.len())]);
        }
        Harm::ZeroedPage if length > 0 => {
            let page = rng.random_range(0..length.div_ceil(4096));
            let end = length.min((page + 1) * 4096);
            bytes[page * 4096..end].fill(0);
        }
        Harm::Swapped => {
            let other = files[rng.random_range(0..files.len())].clone();
            let theirs = cache.0[&other].clone();
            cache.0.insert(other.clone(), Some(bytes.into()));
            bytes = theirs.unwrap().to_vec();
            harmed.insert(other);
        }
        Harm::Deleted => {
            cache.0.remove(&path);
            return harmed;
        }
        _ => {}
    }
    cache.0.insert(path, Some(bytes.into()));
    harmed
}

fn case(sound: &Sound, seed: u64) -> &'static str {
    let mut rng = ROW.rng(seed);
    let kind = match rng.random_range(0..10) {
        0..5 => Kind::Object,
        5 | 6 => Kind::Commit,
        7 | 8 => Kind::Index,
        _ if rng.random_range(0..2) == 0 => Kind::Format,
        _ => Kind::Lock,
    };
    let mut state = sound.cache.clone();
    // An empty lock cannot be cut, nor a file be swapped with itself.
    let (how, harmed) = loop {
        let how = HARMS[rng.random_range(0..HARMS.len())];
        let harmed = harm(&mut state, &sound.files[&kind], how, &mut rng);
        if state != sound.cache {
            break (how, harmed);
        }
    };
    let dir = temporary();
    let cache = dir.path().join("cache");
    state.write(&cache).unwrap();
    let what = format!("{how:?} {harmed:?}");
    let (project, request) = match sound.open(&cache) {
        Ok(opened) => opened,
        Err(error) => {
            assert_eq!(kind, Kind::Format, "{what}: {}", chain(&error));
            let message = error.to_string();
            let clear = message.contains("format") || message.contains("is no cache");
            assert!(clear, "{what}: {message}");
            return "refused";
        }
    };
    // A reader.
    let read = try_run(&project, request.clone());
    match &read {
        Ok(run) => {
            assert!(run.everything == sound.run.everything, "{what}: served");
            if matches!(kind, Kind::Object | Kind::Lock) {
                assert_eq!(run.executed, [""; 0], "{what}");
            }
        }
        Err(error) => {
            assert_eq!(kind, Kind::Object, "{what}: {}", chain(error));
            let message = chain(error);
            let named = harmed.iter().any(|path| message.contains(&name(path)));
            assert!(named, "{what}: {message}");
        }
    }
    drop(project);
    match kind {
        Kind::Object => {
            // As it was before the reader moved it aside.
            std::fs::remove_dir_all(&cache).unwrap();
            state.write(&cache).unwrap();
            sound.repair_objects(&cache, &harmed, &what);
            "objects named and repaired"
        }
        Kind::Commit => {
            std::fs::remove_dir_all(&cache).unwrap();
            state.write(&cache).unwrap();
            sound.repair_commit(&cache, how, &harmed, &what);
            "commits named and repaired"
        }
        Kind::Index => "index made anew or read right",
        Kind::Format => "format read right",
        Kind::Lock => "locks of no matter",
    }
}

/// What messages call a file: a digest, or the last part of its path.
fn name(path: &Path) -> String {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
    match parts.as_slice() {
        ["objects", folder, file] => format!("{folder}{file}"),
        parts => (*parts.last().unwrap()).to_owned(),
    }
}

fn verify(project: &Project) -> VerifyReport {
    let options = VerifyOptions {
        subset: None,
        cancel: &Cancel::default(),
        on_bytes: &|_| (),
    };
    project.store.verify(&options).unwrap()
}

impl Sound {
    fn open(&self, cache: &Path) -> Result<(Project, Request), engine::EngineError> {
        let real: Arc<dyn Fs> = Arc::new(RealFs);
        project_with(&self.toy, &self.world, cache, real, &Arc::default())
    }

    /// Verification names the objects, each with who made it; repair makes them again, and them
    /// alone.
    fn repair_objects(&self, cache: &Path, harmed: &BTreeSet<PathBuf>, what: &str) {
        let (project, request) = self.open(cache).unwrap();
        let report = verify(&project);
        let found: BTreeSet<String> = report.damage.iter().map(|d| d.digest.to_hex()).collect();
        let expected: BTreeSet<String> = harmed.iter().map(|path| name(path)).collect();
        assert_eq!(found, expected, "{what}: verified");
        assert!(
            report.commits.is_empty() && report.index.is_none(),
            "{what}"
        );
        let alone = report.damage.iter().find(|d| d.users.is_empty());
        assert_eq!(alone, None, "{what}: made for nobody");
        let lost = report.lost();
        let holds = |tree: &Tree| tree.0.values().any(|entry| lost.contains(&entry.digest));
        let needed = self.needed.iter().filter(|key| holds(&self.trees[*key]));
        let needed = needed.count() as u64;
        let repaired = mend(&project, &request).unwrap();
        // One action makes an object again, and all that link it have it again.
        let most = needed.min(lost.len() as u64);
        assert!(
            repaired.executed <= most,
            "{what}: {} executed",
            repaired.executed
        );
        assert_eq!(repaired.executed > 0, needed > 0, "{what}");
        let report = verify(&project);
        assert!(report.is_clean(), "{what}, repaired: {report:?}");
        let again = try_run(&project, request).unwrap();
        assert!(again.everything == self.run.everything, "{what}: repaired");
        assert_eq!(again.executed, [""; 0], "{what}: all was repaired");
    }

    /// Verification names the commit, unless it is gone or whole; after repair just the work is
    /// done again that no other commit records.
    fn repair_commit(&self, cache: &Path, how: Harm, harmed: &BTreeSet<PathBuf>, what: &str) {
        let (project, request) = self.open(cache).unwrap();
        let report = verify(&project);
        let found: BTreeSet<String> = report.commits.iter().map(|c| c.0.clone()).collect();
        let names: BTreeSet<String> = harmed.iter().map(|path| name(path)).collect();
        if matches!(how, Harm::Swapped | Harm::Deleted) {
            assert!(found.is_empty(), "{what}: {found:?}");
        } else {
            assert_eq!(found, names, "{what}: verified");
        }
        mend(&project, &request).unwrap();
        drop(project);
        let (project, _) = self.open(cache).unwrap();
        let report = verify(&project);
        assert!(report.is_clean(), "{what}, repaired: {report:?}");
        let again = try_run(&project, request.clone()).unwrap();
        assert!(
            again.everything == self.run.everything,
            "{what}: done again"
        );
        let lost = |key: &&Digest| how != Harm::Swapped && names.contains(&self.commits[*key]);
        let lost = self.needed.iter().filter(lost).count();
        assert_eq!(again.executed.len(), lost, "{what}: {:?}", again.executed);
        assert_eq!(
            try_run(&project, request).unwrap().executed,
            [""; 0],
            "{what}"
        );
    }
}
