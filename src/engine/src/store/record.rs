//! What commits record. These are the program's own types; [`super::wire`] has the file's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stage_core::{Digest, Entry, Part, Tree};

use super::Ulid;

/// One record of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An action came to its end.
    Action(ActionRecord),
    /// A run began or came to its end.
    Run(RunRecord),
    /// A run is kept from garbage collection, or no longer.
    Pin(PinRecord),
    /// An action published an artifact on its way.
    Interim(InterimRecord),
}

/// Who computes: the same for all records of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run.
    pub run: Ulid,
    /// Name of the pipeline, so that a cache can serve several.
    pub pipeline: String,
    /// Version of the program.
    pub program: String,
    /// Class of machine that computes the same bytes, see [`stage_core::machine_class`].
    pub class: String,
}

/// A stage as its actions' keys know it: the same for all its actions of one part in one run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StageSettings {
    /// Name in `pipeline.toml`.
    pub stage: String,
    /// Kind.
    pub kind: String,
    /// The kind's numerics version.
    pub version: u32,
    /// Part.
    pub part: Part,
    /// The parameters that enter the key, as canonical JSON.
    pub params: String,
}

/// An action that came to its end: its key, what went into the key, and what came out.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRecord {
    /// Fingerprint.
    pub key: Digest,
    /// Who computed it.
    pub origin: Arc<Origin>,
    /// For which stage.
    pub settings: Arc<StageSettings>,
    /// Name of the item for people, e.g. its path in the source; empty for whole parts.
    pub item: String,
    /// Digests that entered the key, by port or file parameter, in the order of the key.
    pub inputs: BTreeMap<String, Vec<Digest>>,
    /// What came out.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// Bytes that it read from its inputs, for forecasts.
    pub bytes: u64,
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an artifact.
    Done(Artifact),
    /// With a failure that follows from the content alone and will come again.
    Failed {
        /// Why, for people.
        reason: String,
        /// Version of the program; another may succeed.
        program: String,
    },
}

impl Outcome {
    /// The artifact of a success.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::Done(artifact) => Some(artifact),
            Self::Failed { .. } => None,
        }
    }
}

/// An artifact: its digest, and its tree in a packed form.
///
/// A run where nothing is to do looks up very many artifacts and needs only their digests, hence
/// the tree is unpacked on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Digest of the tree ([`Tree::digest`]).
    pub digest: Digest,
    packed: Arc<[u8]>,
}

impl Artifact {
    /// The artifact of `tree`.
    pub fn new(tree: &Tree) -> Self {
        Self {
            digest: tree.digest(),
            packed: pack(tree).into(),
        }
    }

    /// Takes back what [`Artifact::packed`] gave.
    pub(crate) fn from_packed(digest: Digest, packed: &[u8]) -> Self {
        Self {
            digest,
            packed: packed.into(),
        }
    }

    /// The packed tree: per file a little-endian `u32` length of the name, the name, the digest,
    /// the size as `u64`, one byte for `self_checked`.
    pub(crate) fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// See [`Tree::identity`].
    pub fn identity(&self) -> Option<Digest> {
        self.names().find_map(|(name, _)| Tree::identity_in(name))
    }

    /// Sum of the sizes of its files in bytes.
    pub fn size(&self) -> u64 {
        let files = self.names();
        files
            .filter(|(name, _)| !Tree::is_attribute(name))
            .fold(0, |sum, (_, entry)| entry.size.saturating_add(sum))
    }

    fn names(&self) -> impl Iterator<Item = (&str, Entry)> {
        let mut bytes = &*self.packed;
        std::iter::from_fn(move || unpack_one(&mut bytes))
    }

    /// Names and files.
    pub fn tree(&self) -> Tree {
        unpack(&self.packed)
    }
}

fn pack(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(tree.0.len() * 80);
    for (name, entry) in &tree.0 {
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&entry.digest.0);
        bytes.extend_from_slice(&entry.size.to_le_bytes());
        bytes.push(u8::from(entry.self_checked));
    }
    bytes
}

/// Packed trees come from [`pack`] or out of a row with a checksum; one cut short loses its end.
fn unpack(mut bytes: &[u8]) -> Tree {
    let mut tree = BTreeMap::new();
    while let Some((name, entry)) = unpack_one(&mut bytes) {
        tree.insert(name.to_owned(), entry);
    }
    Tree(tree)
}

fn unpack_one<'a>(bytes: &mut &'a [u8]) -> Option<(&'a str, Entry)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (self_checked, rest) = rest.split_first()?;
    *bytes = rest;
    let entry = Entry {
        digest: Digest(*digest),
        size: u64::from_le_bytes(*size),
        self_checked: *self_checked != 0,
    };
    Some((std::str::from_utf8(name).ok()?, entry))
}

/// What the store remembers under an action's key.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionResult {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes that it read.
    pub bytes: u64,
}

/// The latest action of a stage's item, with what went into its key: to say why it is stale.
#[derive(Debug, Clone, PartialEq)]
pub struct Latest {
    /// Its key.
    pub key: Digest,
    /// The stage as it was.
    pub settings: StageSettings,
    /// Name of the item for people.
    pub item: String,
    /// Digests that entered the key, by port or file parameter.
    pub inputs: BTreeMap<String, Vec<Digest>>,
    /// The reason, if it failed.
    pub failed: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes that it read.
    pub bytes: u64,
    /// The run.
    pub run: Ulid,
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
}

/// How fast a stage was: sums over the latest actions of its items.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// Number of actions that succeeded.
    pub actions: u64,
    /// Their seconds together.
    pub seconds: f64,
    /// The bytes of their artifacts together.
    pub output_bytes: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// It began; its end is not recorded: it is under way, or was killed.
    Started,
    /// Everything was done.
    Done,
    /// Something failed.
    Failed,
    /// It was stopped.
    Interrupted,
}

/// A run that began, or came to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Who and where; `origin.run` is its name.
    pub origin: Origin,
    /// The command line.
    pub command: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub started: u64,
    /// Milliseconds since 1970-01-01 UTC; as `started` while the end is not known.
    pub ended: u64,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Per stage, in the order of the graph.
    pub stages: Vec<RunStage>,
    /// Whether its artifacts are no longer kept for its sake.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub collected: bool,
}

impl RunRecord {
    /// Whether its end is recorded.
    pub fn has_ended(&self) -> bool {
        self.outcome != RunOutcome::Started
    }
}

/// What a lease says of a process that does this run.
pub fn run_digest(run: Ulid) -> Digest {
    let mut hasher = stage_core::KeyHasher::new("pipeline run 1");
    hasher.field(&run.to_bytes());
    hasher.finish()
}

/// What a run did of one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStage {
    /// Name.
    pub stage: String,
    /// Actions executed.
    pub executed: u64,
    /// Actions found in the cache.
    pub cached: u64,
    /// Actions that failed, now or before.
    pub failed: u64,
    /// Seconds of the executed actions together.
    pub seconds: f64,
    /// Seconds that the cached actions once took.
    pub saved: f64,
    /// The object with the stage's artifacts ([`super::Store::put_digests`]), from which gc marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Digest>,
}

/// A run is kept from garbage collection, or no longer. The latest record of a run counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    /// The run.
    pub run: Ulid,
    /// Kept or not.
    pub pinned: bool,
    /// Why, by the user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
}

/// An artifact that an action published on its way, e.g. the model after some steps.
#[derive(Debug, Clone, PartialEq)]
pub struct InterimRecord {
    /// Who computes it.
    pub origin: Arc<Origin>,
    /// Name of the stage.
    pub stage: String,
    /// The action's key.
    pub key: Digest,
    /// After how many steps.
    pub step: u64,
    /// The artifact.
    pub artifact: Artifact,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn trees_pack_and_unpack(names in prop::collection::btree_map("[a-z/é]{1,40}", any::<(u64, bool)>(), 0..20)) {
            let tree = Tree(names.into_iter().map(|(name, (size, self_checked))| {
                let digest = Digest::of(name.as_bytes());
                (name, Entry { digest, size, self_checked })
            }).collect());
            let artifact = Artifact::new(&tree);
            prop_assert_eq!(artifact.tree(), tree.clone());
            prop_assert_eq!(artifact.digest, tree.digest());
        }

        #[test]
        fn any_bytes_unpack_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            unpack(&bytes);
        }
    }
}
