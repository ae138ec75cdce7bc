//! Verification: is everything there that the records name, and is it what they say?
//!
//! Nothing is believed but the bytes: objects are read and hashed, commits checked against their
//! own hashes, the index compared with the commits. Nothing is changed, so that a read-only cache
//! can be verified, beside whatever else goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rayon::prelude::*;
use stage_core::{Cancel, Digest, Part};

use super::error::{Result, StoreError};
use super::fold::CommitRead;
use super::gc::Amount;
use super::record::{ActionRecord, Outcome, Record};
use super::{Inner, Store, Ulid};
use crate::fs::{FileKind, Fs};

/// Bytes that are read at once: a share of the cache that hashing leaves to them.
const CHUNK: usize = 256 * 1024;

/// Users of a damaged object that are named.
const USERS: usize = 16;

/// Keys that are compared with the index at a time.
const KEYS: usize = 10_000;

/// What is verified.
pub struct VerifyOptions<'a> {
    /// The `n`th of `t` parts of the objects, from 1; the same ones each time, by their digests,
    /// so that `t` runs cover all. `None` for all.
    pub subset: Option<(u64, u64)>,
    /// Stops within some milliseconds.
    pub cancel: &'a Cancel,
    /// Told of bytes as they are read, from several threads.
    pub on_bytes: &'a (dyn Fn(u64) + Sync),
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A record names it, and it is not there.
    Missing,
    /// Its bytes are not those of its name: says how.
    Damaged(String),
    /// It cannot be read: says why.
    Unreadable(String),
}

/// For whom an object was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// The pipeline.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// Its part; `None` for an artifact published on the way, or the list of a run's artifacts.
    pub part: Option<Part>,
    /// The item; empty for the other parts.
    pub item: String,
    /// Name of the file in the artifact.
    pub file: String,
}

/// An object with a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which object.
    pub digest: Digest,
    /// What is wrong.
    pub fault: Fault,
    /// Who names it; at most 16, sorted. Nobody: then nothing is lost with it.
    pub users: Vec<User>,
    /// How many more name it.
    pub more_users: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Objects that were read.
    pub checked: Amount,
    /// Those with a fault, by digest.
    pub damage: Vec<Damage>,
    /// Commits that are damaged, with what is wrong. What they recorded is done again.
    pub commits: Vec<(String, String)>,
    /// How the index differs from the commits. It is made anew from them.
    pub index: Option<String>,
    /// Files where only objects and commits belong, which are neither.
    pub strays: Vec<PathBuf>,
}

impl VerifyReport {
    /// Whether nothing is wrong. Strays are no fault.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.commits.is_empty() && self.index.is_none()
    }

    /// The objects that a record names and that have to be made again.
    pub fn lost(&self) -> BTreeSet<Digest> {
        let used = self.damage.iter().filter(|damage| !damage.users.is_empty());
        used.map(|damage| damage.digest).collect()
    }
}

/// What the records say.
#[derive(Default)]
struct Expected {
    /// Key → what came out by its newest record. A commit may be rewritten between two looks at the
    /// records; what came out stays.
    newest: HashMap<Digest, Digest>,
    /// Object → its length; a list of artifacts has none on record.
    sizes: HashMap<Digest, Option<u64>>,
}

impl Store {
    /// Verifies the cache.
    ///
    /// # Errors
    /// A folder cannot be listed, a commit is of a newer program, or [`StoreError::Cancelled`].
    /// What is wrong with single files is in the report.
    pub fn verify(&self, options: &VerifyOptions<'_>) -> Result<VerifyReport> {
        self.inner().verify(options)
    }
}

impl Inner {
    fn verify(&self, options: &VerifyOptions<'_>) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let expected = self.expected(&mut report)?;
        let mut objects = self.listed(&mut report)?;
        objects.extend(expected.sizes.keys());
        let mut objects: Vec<Digest> = objects
            .into_iter()
            .filter(|digest| in_subset(digest, options.subset))
            .collect();
        objects.sort_unstable();
        let faults = self.check_all(&objects, &expected, options, &mut report)?;
        report.damage = self.name_users(faults)?;
        report.index = self.compare_index()?;
        Ok(report)
    }

    /// Reads the commits and gathers what has to be there: what the newest record of each key
    /// names, artifacts on the way, and the lists of runs.
    fn expected(&self, report: &mut VerifyReport) -> Result<Expected> {
        let mut expected = Expected::default();
        let damaged = &mut report.commits;
        self.look_at_records(
            &mut |record| {
                if let Record::Action(action) = record {
                    let outcome = outcome_digest(&action.outcome);
                    expected.newest.insert(action.key, outcome);
                }
            },
            &mut |name, detail| damaged.push((name.to_string(), detail)),
        )?;
        let Expected { newest, sizes } = &mut expected;
        self.look_at_records(
            &mut |record| {
                for (object, size) in objects_of(&record, |action| is_newest(newest, action)) {
                    sizes.insert(object, size);
                }
            },
            &mut |_, _| {},
        )?;
        // One that could be set aside when it was first read is no longer there.
        for (name, detail) in &self.listing().damaged {
            let name = name.to_string();
            if !report.commits.iter().any(|(known, _)| *known == name) {
                report.commits.push((name, detail.clone()));
            }
        }
        Ok(expected)
    }

    /// Gives every record; damaged commits stay where they are.
    fn look_at_records(
        &self,
        each: &mut dyn FnMut(Record),
        damaged: &mut dyn FnMut(Ulid, String),
    ) -> Result<()> {
        let mut read = |name| {
            Ok(self.look_at_commit(name)?.unwrap_or_else(|fault| {
                damaged(name, fault.to_string());
                CommitRead::Damaged
            }))
        };
        self.each_read(&mut read, &mut |_, record| {
            each(record);
            Ok(())
        })
    }

    /// All objects in place; notes the strays.
    fn listed(&self, report: &mut VerifyReport) -> Result<HashSet<Digest>> {
        let root = &self.layout.objects;
        let list = |path: &Path| match self.fs.read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries.map_err(StoreError::io("list", path)),
        };
        let mut objects = HashSet::new();
        for folder in list(root)? {
            let path = root.join(&folder.name);
            if folder.kind != FileKind::Dir {
                report.strays.push(path);
                continue;
            }
            for file in list(&path)? {
                let hex = folder.name.to_str().zip(file.name.to_str());
                let digest = hex.and_then(|(a, b)| format!("{a}{b}").parse::<Digest>().ok());
                match digest {
                    Some(digest) if self.objects.path(digest) == path.join(&file.name) => {
                        objects.insert(digest);
                    }
                    _ => report.strays.push(path.join(&file.name)),
                }
            }
        }
        let commits = &self.layout.commits;
        for file in list(commits)? {
            let ulid = file
                .name
                .to_str()
                .and_then(|name| name.parse::<Ulid>().ok());
            if ulid.is_none() {
                report.strays.push(commits.join(&file.name));
            }
        }
        report.strays.sort();
        Ok(objects)
    }

    fn check_all(
        &self,
        objects: &[Digest],
        expected: &Expected,
        options: &VerifyOptions<'_>,
        report: &mut VerifyReport,
    ) -> Result<BTreeMap<Digest, Fault>> {
        let check = |buffer: &mut Vec<u8>, digest: &Digest| {
            let wanted = expected.sizes.get(digest).copied().flatten();
            let path = self.objects.path(*digest);
            check_object(&*self.fs, &path, *digest, wanted, buffer, options)
        };
        let results: Vec<(Digest, Result<u64, Fault>)> = objects
            .par_iter()
            .map_init(Vec::new, |buffer, digest| (*digest, check(buffer, digest)))
            .collect();
        if options.cancel.is_set() {
            return Err(StoreError::Cancelled);
        }
        let mut faults = BTreeMap::new();
        for (digest, result) in results {
            match result {
                Ok(bytes) => report.checked.add(bytes),
                Err(Fault::Missing) if !expected.sizes.contains_key(&digest) => {}
                Err(fault) => {
                    faults.insert(digest, fault);
                }
            }
        }
        Ok(faults)
    }

    /// Finds out who names the faulty objects now. What no record names any more and is not there
    /// was collected meanwhile; what is there again was collected and made anew.
    fn name_users(&self, faults: BTreeMap<Digest, Fault>) -> Result<Vec<Damage>> {
        if faults.is_empty() {
            return Ok(Vec::new());
        }
        // No collection decides from here on, so that a record which is read now has its objects.
        // On a read-only cache, which nobody collects, there is no entering.
        let _entered = self.enter();
        let mut newest: HashMap<Digest, Digest> = HashMap::new();
        self.look_at_records(
            &mut |record| {
                if let Record::Action(action) = record {
                    newest.insert(action.key, outcome_digest(&action.outcome));
                }
            },
            &mut |_, _| {},
        )?;
        let mut users: HashMap<Digest, BTreeSet<User>> = HashMap::new();
        self.look_at_records(
            &mut |record| {
                let named = objects_of(&record, |action| is_newest(&newest, action));
                for object in named.into_iter().map(|(object, _)| object) {
                    if faults.contains_key(&object) {
                        users
                            .entry(object)
                            .or_default()
                            .extend(users_of(&record, object));
                    }
                }
            },
            &mut |_, _| {},
        )?;
        let damage = faults.into_iter().map(|(digest, fault)| {
            let users = users.remove(&digest).unwrap_or_default();
            let more_users = users.len().saturating_sub(USERS) as u64;
            Damage {
                digest,
                fault,
                users: users.into_iter().take(USERS).collect(),
                more_users,
            }
        });
        let stands = |damage: &Damage| {
            let is_gone = || self.fs.lstat(&self.objects.path(damage.digest)).is_err();
            damage.fault != Fault::Missing || (!damage.users.is_empty() && is_gone())
        };
        Ok(damage.filter(stands).collect())
    }

    /// How the index differs from the commits. Others may commit meanwhile: then it is compared
    /// again.
    fn compare_index(&self) -> Result<Option<String>> {
        let mut difference = None;
        for _ in 0..3 {
            self.refresh()?;
            difference = self.index_differs()?;
            if difference.is_none() {
                break;
            }
        }
        Ok(difference)
    }

    fn index_differs(&self) -> Result<Option<String>> {
        let mut newest: HashMap<Digest, Digest> = HashMap::new();
        self.look_at_records(
            &mut |record| {
                if let Record::Action(action) = record {
                    newest.insert(action.key, outcome_digest(&action.outcome));
                }
            },
            &mut |_, _| {},
        )?;
        let newest: Vec<(Digest, Digest)> = newest.into_iter().collect();
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        for some in newest.chunks(KEYS) {
            let keys: Vec<Digest> = some.iter().map(|(key, _)| *key).collect();
            let rows = match index.lookup_many(&keys) {
                Ok(rows) => rows,
                Err(error) => return Ok(Some(error.to_string())),
            };
            for ((key, outcome), row) in some.iter().zip(rows) {
                let text = match row {
                    None => "it lacks",
                    Some(row) if outcome_digest(&row.outcome) != *outcome => "it is wrong about",
                    Some(_) => continue,
                };
                return Ok(Some(format!("{text} action {}", key.short())));
            }
        }
        Ok(None)
    }
}

fn outcome_digest(outcome: &Outcome) -> Digest {
    match outcome {
        Outcome::Done(artifact) => artifact.digest,
        Outcome::Failed { reason, program } => {
            Digest::of(format!("{program}\n{reason}").as_bytes())
        }
    }
}

/// Whether what came out of an action is what its newest record says.
fn is_newest(newest: &HashMap<Digest, Digest>, action: &ActionRecord) -> bool {
    newest.get(&action.key) == Some(&outcome_digest(&action.outcome))
}

/// The objects that have to be there for a record's sake, with their lengths. `counts` says whether
/// those of an action have to.
pub(super) fn objects_of(
    record: &Record,
    counts: impl Fn(&ActionRecord) -> bool,
) -> Vec<(Digest, Option<u64>)> {
    let artifact = match record {
        Record::Action(action) if counts(action) => action.outcome.artifact(),
        Record::Interim(interim) => Some(&interim.artifact),
        Record::Run(run) => {
            let lists = run.stages.iter().filter_map(|stage| stage.artifacts);
            return lists.map(|list| (list, None)).collect();
        }
        Record::Action(_) | Record::Pin(_) => None,
    };
    let tree = artifact.map(super::Artifact::tree).unwrap_or_default();
    let entries = tree.0.into_values();
    entries
        .map(|entry| (entry.digest, Some(entry.size)))
        .collect()
}

/// Who names `object` in a record.
pub(super) fn users_of(record: &Record, object: Digest) -> Vec<User> {
    let files = |artifact: &super::Artifact| -> Vec<String> {
        let tree = artifact.tree();
        let named = tree.files().filter(|(_, entry)| entry.digest == object);
        named.map(|(name, _)| name.clone()).collect()
    };
    let (pipeline, stage, part, item, files) = match record {
        Record::Action(action) => {
            let settings = &action.settings;
            let files = action.outcome.artifact().map(files).unwrap_or_default();
            let item = action.item.clone();
            let pipeline = &action.origin.pipeline;
            (
                pipeline,
                settings.stage.clone(),
                Some(settings.part),
                item,
                files,
            )
        }
        Record::Interim(interim) => {
            let item = format!("step {}", interim.step);
            let files = files(&interim.artifact);
            (
                &interim.origin.pipeline,
                interim.stage.clone(),
                None,
                item,
                files,
            )
        }
        Record::Run(run) => {
            let stages = run.stages.iter().filter(|s| s.artifacts == Some(object));
            let item = format!("run {}", run.origin.run);
            let of = |stage: &super::RunStage| User {
                pipeline: run.origin.pipeline.clone(),
                stage: stage.stage.clone(),
                part: None,
                item: item.clone(),
                file: "list of what it used".to_owned(),
            };
            return stages.map(of).collect();
        }
        Record::Pin(_) => return Vec::new(),
    };
    let user = |file| User {
        pipeline: pipeline.clone(),
        stage: stage.clone(),
        part,
        item: item.clone(),
        file,
    };
    files.into_iter().map(user).collect()
}

/// Whether an object is in the `n`th of `t` parts.
fn in_subset(digest: &Digest, subset: Option<(u64, u64)>) -> bool {
    let Some((n, t)) = subset else { return true };
    let mut head = [0; 8];
    head.copy_from_slice(&digest.0[..8]);
    u64::from_be_bytes(head) % t.max(1) == n.saturating_sub(1)
}

/// Reads and hashes an object; gives its length.
fn check_object(
    fs: &dyn Fs,
    path: &Path,
    digest: Digest,
    wanted: Option<u64>,
    buffer: &mut Vec<u8>,
    options: &VerifyOptions<'_>,
) -> Result<u64, Fault> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Unreadable(error.to_string()),
    };
    if fs.lstat(path).map_err(unreadable)?.kind != FileKind::File {
        return Err(Fault::Damaged("it is no regular file".to_owned()));
    }
    let mut file = fs.open(path).map_err(unreadable)?;
    buffer.resize(CHUNK, 0);
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    while !options.cancel.is_set() {
        let n = file.read(buffer).map_err(unreadable)?;
        let Some(chunk) = buffer.get(..n).filter(|chunk| !chunk.is_empty()) else {
            break;
        };
        hasher.update(chunk);
        length += n as u64;
        (options.on_bytes)(n as u64);
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != length) {
        return Err(Fault::Damaged(format!(
            "it has {length} bytes, expected {wanted}"
        )));
    }
    let found = Digest(*hasher.finalize().as_bytes());
    if found != digest {
        return Err(Fault::Damaged(format!(
            "its {length} bytes have the digest {}",
            found.short()
        )));
    }
    Ok(length)
}
