//! What a crash may leave.
//!
//! A change is sure to survive once a sync covers it: that of the file for bytes and length, that
//! of the folder for a name, that of the file system for everything. This is what POSIX says and
//! less than most file systems do: there, a synced file keeps its name, too. All other changes
//! may be kept or lost each by itself, whatever their order; a rename is kept or lost as one; of a
//! write, some may be kept. A name in a folder that was lost is lost with it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stage_core::derive_seed;

use super::log::{Effect, FileId};
use super::snapshot::Snapshot;

/// What was lost of the changes that no sync covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing, as after the kill of a process.
    Nothing,
    /// All of them.
    All,
    /// Bytes and lengths; the names stand, as with delayed allocation.
    Contents,
    /// Names; only bytes were kept.
    Names,
    /// The second half of the last write.
    TornWrite,
    /// The bytes of the last write; the length stands and reads as zeros.
    ZeroedWrite,
    /// The one that has this number, counted back from the last: later ones overtook it.
    One(usize),
    /// Each with even chance, writes in part, by this seed.
    Some(u64),
}

/// What was done to a disk, from a known state on.
#[derive(Debug, Clone)]
pub struct Recording {
    initial: Snapshot,
    initial_files: HashMap<PathBuf, FileId>,
    effects: Vec<Effect>,
    /// For each effect the number of the first sync that covers it.
    covered: Vec<usize>,
    beside: Vec<(usize, Arc<Snapshot>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    Dir,
    File(FileId),
}

/// A tree while changes are made to it.
struct Disk {
    names: BTreeMap<PathBuf, Node>,
    contents: HashMap<FileId, Vec<u8>>,
}

/// What becomes of one change.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    Lost,
    /// Of a write, this share of the bytes.
    Torn(f64),
    Zeroed,
}

impl Recording {
    pub(super) fn new(
        initial: Snapshot,
        initial_files: HashMap<PathBuf, FileId>,
        effects: Vec<Effect>,
        beside: Vec<(usize, Arc<Snapshot>)>,
    ) -> Self {
        let mut covered = vec![usize::MAX; effects.len()];
        let mut open: Vec<usize> = Vec::new();
        for (number, effect) in effects.iter().enumerate() {
            let covers = |other: &Effect| match effect {
                Effect::Sync { file } => other.content_of() == Some(*file),
                Effect::SyncDir { path } => other.folder() == Some(path),
                _ => matches!(effect, Effect::SyncAll),
            };
            open.retain(|other| {
                let covers = covers(&effects[*other]);
                if covers {
                    covered[*other] = number;
                }
                !covers
            });
            if !effect.is_sync() {
                open.push(number);
            }
        }
        Self {
            initial,
            initial_files,
            effects,
            covered,
            beside,
        }
    }

    /// Number of changes and syncs.
    pub fn len(&self) -> usize {
        self.effects.len()
    }

    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// The changes and syncs.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Number of changes among the first `length` that no sync among them covers.
    pub fn at_risk(&self, length: usize) -> usize {
        self.open(length).count()
    }

    fn open(&self, length: usize) -> impl DoubleEndedIterator<Item = usize> {
        (0..length).filter(move |n| !self.effects[*n].is_sync() && self.covered[*n] >= length)
    }

    /// The files beside, as they were after the first `length` changes and syncs.
    pub fn beside(&self, length: usize) -> &Snapshot {
        static NONE: Snapshot = Snapshot(BTreeMap::new());
        let before = self.beside.partition_point(|(from, _)| *from <= length);
        before
            .checked_sub(1)
            .map_or(&NONE, |last| &self.beside[last].1)
    }

    /// The tree after the first `length` changes and syncs and a crash with this loss.
    pub fn state(&self, length: usize, loss: Loss) -> Snapshot {
        let fates = self.fates(length, loss);
        let mut disk = Disk {
            names: BTreeMap::new(),
            contents: HashMap::new(),
        };
        for (path, bytes) in &self.initial.0 {
            let node = match (bytes, self.initial_files.get(path)) {
                (Some(bytes), Some(file)) => {
                    disk.contents.insert(*file, bytes.to_vec());
                    Node::File(*file)
                }
                _ => Node::Dir,
            };
            disk.names.insert(path.clone(), node);
        }
        for (number, effect) in self.effects[..length].iter().enumerate() {
            disk.apply(effect, fates.get(&number).copied().unwrap_or(Fate::Kept));
        }
        disk.snapshot()
    }

    /// What becomes of the changes that are not simply kept.
    fn fates(&self, length: usize, loss: Loss) -> HashMap<usize, Fate> {
        let open = self.open(length);
        let is_content = |number: &usize| self.effects[*number].content_of().is_some();
        let is_write = |number: &usize| matches!(self.effects[*number], Effect::Write { .. });
        let lost = |number| (number, Fate::Lost);
        match loss {
            Loss::Nothing => HashMap::new(),
            Loss::All => open.map(lost).collect(),
            Loss::Contents => open.filter(is_content).map(lost).collect(),
            Loss::Names => open.filter(|n| !is_content(n)).map(lost).collect(),
            Loss::TornWrite => {
                let last = open.rev().find(is_write);
                last.map(|n| (n, Fate::Torn(0.5))).into_iter().collect()
            }
            Loss::ZeroedWrite => {
                let last = open.rev().find(is_write);
                last.map(|n| (n, Fate::Zeroed)).into_iter().collect()
            }
            Loss::One(back) => open.rev().nth(back).map(lost).into_iter().collect(),
            Loss::Some(seed) => open
                .filter_map(|number| {
                    let dice = derive_seed(seed, &[&number.to_string()]);
                    let fate = match (dice[0] % 8, is_write(&number)) {
                        (0..4, _) => return None,
                        (4, true) => Fate::Torn(f64::from(dice[1]) / 255.0),
                        (5, true) => Fate::Zeroed,
                        _ => Fate::Lost,
                    };
                    Some((number, fate))
                })
                .collect(),
        }
    }
}

impl Effect {
    fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::Sync { .. } | Self::SyncDir { .. } | Self::SyncAll
        )
    }

    /// The file whose bytes or length it changes.
    fn content_of(&self) -> Option<FileId> {
        match self {
            Self::Write { file, .. } | Self::SetLen { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// The folder whose sync makes it durable.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. }
            | Self::CreateDir { path }
            | Self::Rename { to: path, .. }
            | Self::Remove { path, .. }
            | Self::RemoveDir { path } => path.parent(),
            _ => None,
        }
    }
}

impl Disk {
    fn apply(&mut self, effect: &Effect, fate: Fate) {
        if fate == Fate::Lost {
            return;
        }
        match effect {
            Effect::Create { path, file } => self.put(path, Node::File(*file)),
            Effect::CreateDir { path } => self.put(path, Node::Dir),
            Effect::Write { file, at, bytes } => {
                let length = match fate {
                    // Rounding does not matter here.
                    Fate::Torn(share) => (bytes.len() as f64 * share) as usize,
                    _ => bytes.len(),
                };
                let content = self.contents.entry(*file).or_default();
                let at = usize::try_from(*at).unwrap_or(usize::MAX);
                let end = at.saturating_add(length);
                if content.len() < end {
                    content.resize(end, 0);
                }
                if fate == Fate::Zeroed {
                    content[at..end].fill(0);
                } else {
                    content[at..end].copy_from_slice(&bytes[..length]);
                }
            }
            Effect::SetLen { file, size } => {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                self.contents.entry(*file).or_default().resize(size, 0);
            }
            Effect::Rename { from, to, file } => self.rename(from, to, *file),
            Effect::Remove { path, file } => {
                if self.names.get(path) == Some(&Node::File(*file)) {
                    self.names.remove(path);
                }
            }
            Effect::RemoveDir { path } => {
                if !self.names.keys().any(|p| p != path && p.starts_with(path)) {
                    self.names.remove(path);
                }
            }
            Effect::Sync { .. } | Effect::SyncDir { .. } | Effect::SyncAll => {}
        }
    }

    /// Gives a name, if its folder is there.
    fn put(&mut self, path: &Path, node: Node) {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() || self.names.get(parent) == Some(&Node::Dir) {
            self.names.insert(path.to_owned(), node);
        }
    }

    fn rename(&mut self, from: &Path, to: &Path, file: Option<FileId>) {
        match file {
            Some(file) => {
                // The file may have no old name, if that was lost.
                if self.names.get(from) == Some(&Node::File(file)) {
                    self.names.remove(from);
                }
                self.put(to, Node::File(file));
            }
            None => {
                let moved: Vec<_> = self
                    .names
                    .keys()
                    .filter(|path| path.starts_with(from))
                    .cloned()
                    .collect();
                for old in moved {
                    if let (Some(node), Ok(rest)) =
                        (self.names.remove(&old), old.strip_prefix(from))
                    {
                        // `join` of nothing would add a slash.
                        let new = if rest.as_os_str().is_empty() {
                            to.to_owned()
                        } else {
                            to.join(rest)
                        };
                        self.put(&new, node);
                    }
                }
            }
        }
    }

    fn snapshot(self) -> Snapshot {
        let mut all = Snapshot::default();
        let contents = self.contents.into_iter();
        let contents: HashMap<FileId, Arc<[u8]>> =
            contents.map(|(file, bytes)| (file, bytes.into())).collect();
        for (path, node) in self.names {
            let bytes = match node {
                Node::Dir => None,
                Node::File(file) => Some(contents.get(&file).cloned().unwrap_or_default()),
            };
            all.0.insert(path, bytes);
        }
        all
    }
}
