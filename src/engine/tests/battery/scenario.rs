//! What is done to a cache while the disk is watched: for crashes and for failing calls.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::fs::Fs;
use engine::fs::RealFs;
use engine::fs::sim::{SimFs, Snapshot};
use engine::store::{
    Artifact, GcOptions, InterimRecord, Origin, PinRecord, Record, Store, StoreOptions, Ulid,
    VerifyOptions, Warning,
};
use engine::{Deaf, EngineError, Project, Repair, Request, repair};
use stage_core::{Cancel, Digest, Tree};

use super::oracle::{PROMPT, World};
use super::toy::{Run, Toy, temporary, try_run};

/// The files that SQLite writes past the seam.
pub(crate) const INDEX: [&str; 2] = ["index.db", "index.db-wal"];

/// What is done besides a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    Run,
    /// Two processes do the same run.
    TwoRuns,
    /// An interim artifact and a pin are recorded, and scratch is taken and removed.
    Publish,
    /// All of it is done again although it is known.
    Force,
    /// What only an older run needs is collected; then a run.
    Collect,
    /// What is damaged or lost is made again; then a run.
    Repair,
    /// The cache is one of the first format, which is moved aside; then a run.
    Migrate,
}

/// A cache, and what is then done to it.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) act: Act,
    pub(crate) toy: Toy,
    pub(crate) world: World,
    /// The cache before.
    pub(crate) before: Snapshot,
    pub(crate) before_index: Snapshot,
    /// Whether an object that is referred to was damaged or lost before.
    pub(crate) damaged: bool,
    pub(crate) disk: Disk,
    /// A run of the same world into an empty cache.
    pub(crate) clean: Run,
    /// Its work by key: `stage part item`.
    pub(crate) keys: BTreeMap<Digest, String>,
}

/// What happens to an object before.
#[derive(Clone, Copy, PartialEq)]
enum Harm {
    None,
    Lost,
    Flipped,
    LostCodec,
}

/// What the disk can do.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Disk {
    /// Sync as a whole.
    Whole,
    /// Sync file by file.
    Singly,
    /// The latter, without hard links and without a rename that replaces nothing.
    WithoutLinks,
}

impl Scenario {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        let base = World::new(&[("a.txt", "one two"), ("sub/b.txt", "# tag\nthree")]);
        let mut added = base.clone();
        added.files.insert("c.txt".into(), "four five".into());
        let mut edited = base.clone();
        edited.files.insert("a.txt".into(), "one two six".into());
        let mut removed = base.clone();
        removed.files.remove("a.txt");
        let mut upper = base.clone();
        upper.upper = true;
        let mut reversed = base.clone();
        reversed.reverse = true;
        let mut between = base.clone();
        between.between = "-".into();
        let mut bad = base.clone();
        bad.files.insert("c.txt".into(), "bad".into());
        let mut prompted = base.clone();
        prompted.prompt = Some("seven".into());
        let first = |name, disk| Self::new(name, None, &base, Act::Run, Harm::None, disk);
        let then =
            |name, world| Self::new(name, Some(&base), world, Act::Run, Harm::None, Disk::Whole);
        let act = |name, act| Self::new(name, Some(&base), &added, act, Harm::None, Disk::Whole);
        let harm = |name, harm| Self::new(name, Some(&base), &upper, Act::Run, harm, Disk::Whole);
        vec![
            first("first run", Disk::Whole),
            first("first run, synced file by file", Disk::Singly),
            first("first run, without links", Disk::WithoutLinks),
            then("file added", &added),
            Self::new(
                "file added, synced file by file",
                Some(&base),
                &added,
                Act::Run,
                Harm::None,
                Disk::Singly,
            ),
            then("file edited", &edited),
            then("file removed", &removed),
            then("parameter changed", &upper),
            then("bad file", &bad),
            then("prompt bound", &prompted),
            act("two runs at once", Act::TwoRuns),
            act("interim, pin and scratch", Act::Publish),
            act("forced", Act::Force),
            act("collection", Act::Collect),
            Self::new(
                "collection, synced file by file",
                Some(&upper),
                &base,
                Act::Collect,
                Harm::None,
                Disk::Singly,
            ),
            Self::new(
                "collection, without links",
                Some(&upper),
                &base,
                Act::Collect,
                Harm::None,
                Disk::WithoutLinks,
            ),
            then("codec changed", &reversed),
            Self::new(
                "lost codec",
                Some(&base),
                &between,
                Act::Run,
                Harm::LostCodec,
                Disk::Whole,
            ),
            harm("damaged object", Harm::Flipped),
            harm("lost object", Harm::Lost),
            Self::new(
                "repair of a damaged object",
                Some(&base),
                &base,
                Act::Repair,
                Harm::Flipped,
                Disk::Whole,
            ),
            Self::new(
                "repair of a lost object",
                Some(&base),
                &base,
                Act::Repair,
                Harm::Lost,
                Disk::Singly,
            ),
            Self::new(
                "cache of the first format",
                Some(&base),
                &base,
                Act::Migrate,
                Harm::None,
                Disk::Whole,
            ),
        ]
    }

    fn new(
        name: &'static str,
        first: Option<&World>,
        world: &World,
        act: Act,
        harm: Harm,
        disk: Disk,
    ) -> Self {
        let toy = Toy::coded(&[]);
        let empty = World::new(&[]);
        let cache = toy.cache();
        let real = || Arc::new(RealFs) as Arc<dyn Fs>;
        if let Some(first) = first {
            first.put(&toy, &empty);
            play(&toy, first, &cache, real(), 2).unwrap();
        }
        if harm != Harm::None {
            // The text that the next run reads again: its count is known, its sum not.
            let object = cache.join("objects");
            let content: &[u8] = match harm {
                Harm::LostCodec => b"ot",
                _ => b"2",
            };
            let hex = Digest::of(content).to_hex();
            let object = object.join(&hex[..2]).join(&hex[2..]);
            std::fs::remove_file(&object).unwrap();
            if harm == Harm::Flipped {
                std::fs::write(&object, b"3").unwrap();
            }
        }
        world.put(&toy, first.unwrap_or(&empty));
        if act == Act::Collect {
            play(&toy, world, &cache, real(), 2).unwrap();
        }
        let mut before = Snapshot::read(&cache).unwrap();
        let mut before_index = Snapshot::default();
        for name in INDEX {
            if let Some(bytes) = before.0.remove(Path::new(name)) {
                before_index.0.insert(name.into(), bytes);
            }
        }
        before.0.retain(|path, _| path != Path::new("index.db-shm"));
        if act == Act::Migrate {
            let format = b"pipeline store 1\n".to_vec();
            before.0.insert("format".into(), Some(format.into()));
            before_index = Snapshot::default();
        }
        let undisturbed = toy.dir.path().join("undisturbed");
        let clean = play(&toy, world, &undisturbed, real(), 2).unwrap();
        let keys = work_by_key(&undisturbed);
        Self {
            name,
            act,
            toy,
            world: world.clone(),
            before,
            before_index,
            damaged: harm != Harm::None,
            disk,
            clean,
            keys,
        }
    }

    /// Puts the cache as it is before at `cache`, and gives the disk that watches it.
    pub(crate) fn begin(&self, cache: &Path) -> SimFs {
        self.before.write(cache).unwrap();
        self.before_index.write(cache).unwrap();
        let fs = SimFs::new(cache, &INDEX).unwrap();
        match self.disk {
            Disk::Whole => fs,
            Disk::Singly => fs.without_sync_fs(),
            Disk::WithoutLinks => fs.without_sync_fs().without_links(),
        }
    }

    /// Does what the scenario does.
    pub(crate) fn perform(&self, cache: &Path, fs: &SimFs) -> Result<Run, EngineError> {
        let disk = || Arc::new(fs.clone()) as Arc<dyn Fs>;
        match self.act {
            Act::Run | Act::Migrate => {}
            Act::TwoRuns => {
                let other = || self.play(cache, disk(), 1);
                return std::thread::scope(|scope| {
                    let other = scope.spawn(other);
                    let own = self.play(cache, disk(), 1);
                    other.join().unwrap().and(own)
                });
            }
            Act::Publish => self.publish(cache, disk())?,
            Act::Collect => {
                let store = Store::open(cache, options(disk(), &Arc::default()))?;
                store.gc(&collect(1))?;
            }
            Act::Repair => {
                let (project, request) = project(&self.toy, &self.world, cache, disk())?;
                mend(&project, &request)?;
            }
            Act::Force => {
                let (project, mut request) = project(&self.toy, &self.world, cache, disk())?;
                let stages = ["read", "count", "sum", "tell", "codec", "encode", "pack"];
                request.force = stages.iter().map(|s| (*s).to_owned()).collect();
                return try_run(&project, request);
            }
        }
        if self.act == Act::Repair {
            return self.play_mending(cache, disk());
        }
        self.play(cache, disk(), 1)
    }

    /// A run, and another whenever it meets an object that a repair did not reach, as one that cuts
    /// it short leaves it.
    fn play_mending(&self, cache: &Path, fs: Arc<dyn Fs>) -> Result<Run, EngineError> {
        loop {
            let error = match self.play(cache, fs.clone(), 1) {
                Err(EngineError::Store(error)) if error.lost_object().is_some() => error,
                played => return played,
            };
            let store = Store::open(cache, options(fs.clone(), &Arc::default()))?;
            if !store.forget_lost(&error)? {
                return Err(error.into());
            }
        }
    }

    fn publish(&self, cache: &Path, fs: Arc<dyn Fs>) -> Result<(), EngineError> {
        let store = Store::open(cache, options(fs, &Arc::default()))?;
        let key = Digest::of(b"some long action");
        let origin = Origin {
            run: Ulid(7),
            pipeline: "toy".into(),
            program: "test".into(),
            class: "test".into(),
        };
        let scratch = store.scratch(&key, &origin, |_| ControlFlow::Break(()))?;
        for step in [1_u64, 2] {
            let entry = store.import_bytes(format!("after {step}").as_bytes())?;
            let tree = Tree(BTreeMap::from([("model".to_owned(), entry)]));
            let interim = InterimRecord {
                origin: Arc::new(origin.clone()),
                stage: "train".into(),
                key,
                step,
                artifact: Artifact::new(&tree),
                at: step,
            };
            store.queue(Record::Interim(interim), None)?;
            store.flush()?;
        }
        let pin = PinRecord {
            run: Ulid(7),
            pinned: true,
            note: String::new(),
            at: 3,
        };
        store.queue(Record::Pin(pin), None)?;
        store.flush()?;
        Ok(scratch.remove()?)
    }

    /// A plain run of the scenario's world.
    pub(crate) fn play(
        &self,
        cache: &Path,
        fs: Arc<dyn Fs>,
        jobs: usize,
    ) -> Result<Run, EngineError> {
        play(&self.toy, &self.world, cache, fs, jobs)
    }

    /// What a cache in this state must do: open without help, hold every object that it refers
    /// to, give what an undisturbed run gives, and execute just what no commit records.
    pub(crate) fn check(&self, state: &Snapshot, index: &dyn Fn(&Path)) {
        let dir = temporary();
        let cache = dir.path().join("cache");
        state.write(&cache).unwrap();
        index(&cache);
        let warnings = Arc::default();
        let real: Arc<dyn Fs> = Arc::new(RealFs);
        let (project, request) = project_with(&self.toy, &self.world, &cache, real, &warnings)
            .unwrap_or_else(|e| panic!("cannot be opened: {}", engine::chain(&e)));
        if self.act == Act::Repair {
            // Whoever was cut short at it repairs again.
            mend(&project, &request).unwrap_or_else(|e| panic!("repair: {}", engine::chain(&e)));
        }
        let known = self.known(&project.store);
        let run = try_run(&project, request)
            .unwrap_or_else(|e| panic!("does not run: {}", engine::chain(&e)));
        assert_eq!(run.summary.verdict, self.clean.summary.verdict);
        assert!(run.everything == self.clean.everything, "other bytes");
        if !self.damaged {
            let mut needed: Vec<_> = self
                .keys
                .iter()
                .filter(|(key, _)| !known.contains(key))
                .map(|(_, name)| name.clone())
                .collect();
            needed.sort();
            assert_eq!(run.executed, needed, "executed, and what no commit records");
        }
        let warnings: Vec<String> = take(&warnings);
        assert!(
            !warnings.iter().any(|warning| warning.contains("commit ")),
            "{warnings:?}"
        );
        drop(project);
        if run.executed.is_empty() {
            // A run that does nothing writes nothing, and sweeps nothing.
            return;
        }
        for folder in ["tmp", "leases"] {
            let left = std::fs::read_dir(cache.join(folder)).unwrap().count();
            assert_eq!(left, 0, "files left in {folder}");
        }
    }

    /// The keys that the commits record; all that these refer to is whole.
    fn known(&self, store: &Store) -> Vec<Digest> {
        let mut known = Vec::new();
        let mut artifacts = Vec::new();
        let each = |_, record| {
            match record {
                Record::Action(action) => {
                    artifacts.extend(action.outcome.artifact().cloned());
                    known.push(action.key);
                }
                Record::Interim(interim) => artifacts.push(interim.artifact),
                Record::Run(run) => {
                    for list in run.stages.iter().filter_map(|stage| stage.artifacts) {
                        store.read_digests(list)?;
                    }
                }
                _ => {}
            }
            Ok(())
        };
        store
            .each_record(each)
            .unwrap_or_else(|e| panic!("the records: {}", engine::chain(&e)));
        if !self.damaged {
            for artifact in artifacts {
                for entry in artifact.tree().0.values() {
                    store
                        .read_object(entry)
                        .unwrap_or_else(|e| panic!("referred to: {}", engine::chain(&e)));
                }
            }
        }
        known
    }
}

/// Repairs a cache.
pub(crate) fn mend(project: &Project, request: &Request) -> Result<Repair, EngineError> {
    let options = VerifyOptions {
        subset: None,
        cancel: &Cancel::default(),
        on_bytes: &|_| (),
    };
    repair(project, request.clone(), &options, &Deaf)
}

/// A collection that keeps the last runs and nothing for its youth.
pub(crate) fn collect(keep_runs: usize) -> GcOptions {
    GcOptions {
        keep_runs,
        min_age: Duration::ZERO,
        ..GcOptions::default()
    }
}

fn take(warnings: &Mutex<Vec<Warning>>) -> Vec<String> {
    let warnings = std::mem::take(&mut *warnings.lock().unwrap());
    warnings.iter().map(Warning::to_string).collect()
}

fn options(fs: Arc<dyn Fs>, warnings: &Arc<Mutex<Vec<Warning>>>) -> StoreOptions {
    let warnings = warnings.clone();
    StoreOptions {
        fs,
        ..StoreOptions::new(move |warning| warnings.lock().unwrap().push(warning))
    }
}

/// A world's project over a cache, and the request for all of it.
pub(crate) fn project_with(
    toy: &Toy,
    world: &World,
    cache: &Path,
    fs: Arc<dyn Fs>,
    warnings: &Arc<Mutex<Vec<Warning>>>,
) -> Result<(engine::Project, Request), EngineError> {
    let settings = world.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let prompt = world.prompt.iter();
    let request = Request {
        jobs: 1,
        bindings: prompt
            .map(|_| ("prompt".to_owned(), toy.dir.path().join(PROMPT)))
            .collect(),
        ..Request::default()
    };
    let project = toy.open(cache, options(fs, warnings), &settings)?;
    Ok((project, request))
}

fn project(
    toy: &Toy,
    world: &World,
    cache: &Path,
    fs: Arc<dyn Fs>,
) -> Result<(engine::Project, Request), EngineError> {
    project_with(toy, world, cache, fs, &Arc::default())
}

/// A plain run of a world.
pub(crate) fn play(
    toy: &Toy,
    world: &World,
    cache: &Path,
    fs: Arc<dyn Fs>,
    jobs: usize,
) -> Result<Run, EngineError> {
    let (project, request) = project(toy, world, cache, fs)?;
    try_run(&project, Request { jobs, ..request })
}

/// The successful actions that a cache records: key → `stage part item`.
pub(crate) fn work_by_key(cache: &Path) -> BTreeMap<Digest, String> {
    // Whoever was killed while the index took up its log left it for an older copy to all looks:
    // it is made anew, and says so.
    let options = StoreOptions::new(|warning| {
        assert!(matches!(warning, Warning::IndexRebuilt { .. }), "{warning}");
    });
    let store = Store::open(cache, options).unwrap();
    let mut keys = BTreeMap::new();
    let each = |_, record| {
        if let Record::Action(action) = record
            && action.outcome.artifact().is_some()
        {
            let settings = &action.settings;
            let name = format!("{} {} {}", settings.stage, settings.part, action.item);
            keys.insert(action.key, name.trim().to_owned());
        }
        Ok(())
    };
    store.each_record(each).unwrap();
    keys
}
