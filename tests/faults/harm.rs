//! Ways to harm a file or a folder at rest.

use std::fs::{self, FileTimes, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::project::{Case, Files, State, copy, files, names, remove};

/// What a path is to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Object,
    Commit,
    /// The index and what belongs to it.
    Index,
    /// A result in `out/`.
    Out,
    /// A folder of the cache or of `out/`.
    Folder,
    /// A folder of objects.
    Shelf,
    /// A lock, or any other file that lies in the cache itself.
    Lock,
    Format,
    /// What a killed process left: leases, claims, temporary files, scratch.
    Litter,
}

/// The classes, each as often as it is to be harmed.
const CLASSES: [(Class, u32); 9] = [
    (Class::Object, 32),
    (Class::Out, 18),
    (Class::Commit, 14),
    (Class::Index, 12),
    (Class::Litter, 8),
    (Class::Folder, 7),
    (Class::Shelf, 3),
    (Class::Lock, 3),
    (Class::Format, 3),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Harm {
    /// A bit is another one.
    Flipped,
    Cut,
    Emptied,
    /// As long as before, and all zeros.
    Zeroed,
    /// As long as before, and random.
    Garbage,
    Extended,
    Deleted,
    /// A folder stands in its place, or a file in that of a folder.
    Replaced,
    /// A link stands in its place.
    Link,
    /// A named pipe that nobody writes to.
    Pipe,
    Unreadable,
    /// It and another of its class stand in each other's place.
    Swapped,
    /// As it was in an earlier state of the project.
    Older,
    /// Something foreign lies beside it.
    Stray,
}

const HARMS: [(Harm, u32); 14] = [
    (Harm::Flipped, 6),
    (Harm::Swapped, 5),
    (Harm::Deleted, 4),
    (Harm::Cut, 3),
    (Harm::Older, 3),
    (Harm::Emptied, 2),
    (Harm::Zeroed, 2),
    (Harm::Garbage, 2),
    (Harm::Extended, 2),
    (Harm::Replaced, 2),
    (Harm::Link, 2),
    (Harm::Pipe, 2),
    (Harm::Unreadable, 1),
    (Harm::Stray, 1),
];

/// Something that was harmed.
#[derive(Debug, Clone)]
pub(crate) struct Harmed {
    pub(crate) class: Class,
    /// From the project's folder.
    pub(crate) path: PathBuf,
    /// Whether a command may say that this is in its way and end with an error. Elsewhere the
    /// plain run has to succeed.
    pub(crate) may_refuse: bool,
}

/// Takes one of `rows` by its weight.
fn weighted<T: Copy>(rows: &[(T, u32)], rng: &mut impl Rng) -> T {
    let sum = rows.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.random_range(0..sum);
    for (value, weight) in rows {
        if left < *weight {
            return *value;
        }
        left -= weight;
    }
    rows[0].0
}

/// The paths of a class in a project, from its folder, sorted.
fn paths(place: &Path, class: Class, out: &Files) -> Vec<PathBuf> {
    let cache = Path::new(".pipeline");
    let in_cache = |folder: &str| {
        let dir = cache.join(folder);
        names(&place.join(&dir))
            .into_iter()
            .map(move |name| dir.join(name))
    };
    let folders = [
        "objects", "commits", "leases", "claims", "scratch", "tmp", "trash",
    ];
    let is_index = |path: &PathBuf| path.to_string_lossy().contains("index.db");
    let all: Vec<PathBuf> = match class {
        Class::Object => in_cache("objects")
            .flat_map(|shelf| {
                names(&place.join(&shelf))
                    .into_iter()
                    .map(move |name| shelf.join(name))
            })
            .collect(),
        Class::Shelf => in_cache("objects").collect(),
        Class::Commit => in_cache("commits").collect(),
        Class::Index => in_cache("").filter(is_index).collect(),
        Class::Format => vec![cache.join("format")],
        Class::Lock => in_cache("")
            .filter(|path| place.join(path).is_file())
            .filter(|path| !is_index(path) && !path.ends_with("format"))
            .collect(),
        Class::Litter => {
            let mut all = Vec::new();
            for folder in &folders[2..] {
                let below = files(&place.join(cache).join(folder)).into_keys();
                all.extend(in_cache(folder));
                all.extend(below.map(|name| cache.join(folder).join(name)));
            }
            all
        }
        Class::Folder => {
            let all = folders.iter().map(|folder| cache.join(folder));
            let out = ["out", "out/train", "out/predict"].map(PathBuf::from);
            all.chain(out)
                .filter(|path| place.join(path).is_dir())
                .collect()
        }
        Class::Out => out.keys().map(|name| Path::new("out").join(name)).collect(),
    };
    // A second harm may not find what the first one took.
    let is_there = |path: &PathBuf| {
        let meta = fs::symlink_metadata(place.join(path));
        meta.is_ok_and(|meta| meta.is_file() || meta.is_dir())
    };
    all.into_iter().filter(is_there).collect()
}

/// Whether a user has to clear this away: the program cannot tell it from a thing of theirs, or
/// has no other way to work.
fn may_refuse(class: Class, harm: Harm) -> bool {
    let obstructs = matches!(
        harm,
        Harm::Replaced | Harm::Link | Harm::Pipe | Harm::Unreadable
    );
    match class {
        Class::Format => true,
        Class::Folder | Class::Shelf | Class::Lock => obstructs,
        Class::Out => obstructs,
        Class::Object | Class::Commit | Class::Index | Class::Litter => false,
    }
}

impl Case<'_> {
    /// Harms something of any class.
    pub(crate) fn harm(&mut self, rng: &mut ChaCha8Rng) {
        let class = weighted(&CLASSES, rng);
        self.harm_class(class, rng);
    }

    /// Harms something of this class, if there is any.
    pub(crate) fn harm_class(&mut self, class: Class, rng: &mut ChaCha8Rng) {
        let place = self.place();
        let mut all = paths(&place, class, &self.project.out);
        // What was harmed stays as it is, so that each harm does what it says.
        let touches =
            |path: &Path, other: &Path| path.starts_with(other) || other.starts_with(path);
        all.retain(|path| !self.harmed.iter().any(|harmed| touches(path, &harmed.path)));
        if all.is_empty() {
            return;
        }
        // By its share of the list: the number of commits is not always the same.
        let nth = (rng.random::<f64>() * all.len() as f64) as usize;
        let path = all[nth.min(all.len() - 1)].clone();
        let harm = loop {
            let harm = weighted(&HARMS, rng);
            if self.apply(harm, &path, &all, rng) {
                break harm;
            }
        };
        self.story.push(format!("{harm:?} {}", path.display()));
        if matches!(harm, Harm::Replaced | Harm::Link | Harm::Pipe) {
            self.foreign.push(path.clone());
        }
        self.harmed.push(Harmed {
            class,
            may_refuse: may_refuse(class, harm),
            path,
        });
    }

    /// Does it; false if that would change nothing.
    fn apply(&mut self, harm: Harm, path: &Path, all: &[PathBuf], rng: &mut ChaCha8Rng) -> bool {
        let full = self.place().join(path);
        let is_dir = full.is_dir();
        let length = fs::metadata(&full).unwrap().len();
        if matches!(
            harm,
            Harm::Flipped
                | Harm::Cut
                | Harm::Emptied
                | Harm::Zeroed
                | Harm::Garbage
                | Harm::Extended
        ) {
            if is_dir || (length == 0 && harm != Harm::Extended) {
                return false;
            }
            return rewrite(harm, &full, length, rng);
        }
        match harm {
            Harm::Deleted => remove(&full),
            Harm::Replaced => {
                remove(&full);
                if is_dir {
                    fs::write(&full, "").unwrap();
                } else {
                    fs::create_dir(&full).unwrap();
                    if rng.random() {
                        fs::write(full.join("file"), "in the way").unwrap();
                    }
                }
            }
            Harm::Link => self.link(&full, is_dir, rng),
            Harm::Pipe => {
                remove(&full);
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                rustix::fs::mknodat(rustix::fs::CWD, &full, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            }
            Harm::Unreadable => {
                // The superuser reads it all the same.
                fs::set_permissions(&full, fs::Permissions::from_mode(0o000)).unwrap();
            }
            Harm::Swapped => return self.swap(path, all, rng),
            Harm::Older => {
                let state = if rng.random() {
                    State::Clean
                } else {
                    State::Other
                };
                let older = self.project.state(state).join(path);
                if !older.exists() || (!is_dir && fs::read(&older).ok() == fs::read(&full).ok()) {
                    return false;
                }
                remove(&full);
                copy(&older, &full);
            }
            _ => {
                if path.starts_with("out") {
                    return false;
                }
                let beside = if is_dir { path } else { path.parent().unwrap() };
                let name = ["stray", "00", ".stray\n\u{1b}[31m"][rng.random_range(0..3)];
                let stray = self.place().join(beside).join(name);
                self.foreign.push(beside.join(name));
                if rng.random() {
                    fs::write(stray, "foreign").unwrap();
                } else {
                    fs::create_dir_all(stray).unwrap();
                }
            }
        }
        true
    }

    /// Puts a link in the place of a file or a folder: to nothing, to something foreign, or to
    /// where it was moved.
    fn link(&self, full: &Path, is_dir: bool, rng: &mut ChaCha8Rng) {
        let outside = self.outside();
        let to = match rng.random_range(0..3) {
            0 => outside.join("nothing"),
            1 => outside.join(if is_dir { "folder" } else { "file" }),
            _ => {
                let moved = outside.join(format!("moved-{}", self.harmed.len()));
                fs::rename(full, &moved).unwrap();
                moved
            }
        };
        remove(full);
        symlink(to, full).unwrap();
    }

    /// Swaps with another of the same class, of the same length if there is one.
    fn swap(&mut self, path: &Path, all: &[PathBuf], rng: &mut ChaCha8Rng) -> bool {
        let place = self.place();
        let size =
            |path: &Path| fs::metadata(place.join(path)).map(|meta| (meta.is_dir(), meta.len()));
        let own = size(path).unwrap();
        let is_kin = |other: &&PathBuf| {
            let nested = other.starts_with(path) || path.starts_with(other);
            !nested && size(other).is_ok_and(|(is_dir, _)| is_dir == own.0)
        };
        let kin: Vec<&PathBuf> = all.iter().filter(is_kin).collect();
        let equal: Vec<&PathBuf> = kin
            .iter()
            .copied()
            .filter(|other| size(other).is_ok_and(|s| s == own))
            .collect();
        let others = if equal.is_empty() || own.0 {
            kin
        } else {
            equal
        };
        if others.is_empty() {
            return false;
        }
        let other = others[rng.random_range(0..others.len())];
        self.story.push(format!("{} and", other.display()));
        if other.parent() != path.parent() || own.0 {
            self.foreign.extend([path.to_owned(), other.clone()]);
        }
        let aside = self.outside().join("aside");
        fs::rename(place.join(path), &aside).unwrap();
        fs::rename(place.join(other), place.join(path)).unwrap();
        fs::rename(&aside, place.join(other)).unwrap();
        true
    }
}

/// Changes the content of a file and puts its mode and mtime back.
fn rewrite(harm: Harm, path: &Path, length: u64, rng: &mut ChaCha8Rng) -> bool {
    let meta = fs::metadata(path).unwrap();
    let mode = meta.permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    let mut bytes = |length: u64| {
        let mut bytes = vec![0; length as usize];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    match harm {
        Harm::Flipped => {
            let mut all = fs::read(path).unwrap();
            let at = (rng.random::<f64>() * length as f64) as usize;
            all[at] ^= 1 << rng.random_range(0..8);
            file.write_all(&all).unwrap();
        }
        Harm::Cut => file.set_len(rng.random_range(0..length)).unwrap(),
        Harm::Emptied => file.set_len(0).unwrap(),
        Harm::Zeroed => file.write_all(&vec![0; length as usize]).unwrap(),
        Harm::Garbage => file.write_all(&bytes(length)).unwrap(),
        _ => {
            file.seek(SeekFrom::End(0)).unwrap();
            let more = bytes(4096);
            file.write_all(&more[..rng.random_range(1..more.len())])
                .unwrap();
        }
    }
    file.set_times(FileTimes::new().set_modified(meta.modified().unwrap()))
        .unwrap();
    fs::set_permissions(path, mode).unwrap();
    true
}
