//! Fingerprints of actions.
//!
//! A key is hashed over kind, version, part, parameters and the digests of the inputs: contents,
//! never names, paths or times.

use std::collections::BTreeMap;

use serde_json::Value;
use stage_core::{Digest, KeyHasher, Part, canonical_json};

use crate::config::StageDef;

/// One item that enters the key of a whole part. Sorted and made distinct, so that order, names
/// and duplicates of files do not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    /// Digest of what the item is, whatever the parameters.
    pub(crate) identity: Digest,
    /// Digest of its artifact.
    pub(crate) artifact: Digest,
    /// What the stage made of its name.
    pub(crate) label: Option<String>,
}

/// The parameters of a stage as they enter the key of `part`: those that it reads, files by
/// digest, as canonical JSON.
pub(crate) fn key_params(def: &StageDef, part: Part, files: &BTreeMap<String, Digest>) -> String {
    params_without(def, files, def.stage.unread_by(part))
}

/// The parameters without `names`, files by digest, as canonical JSON.
pub(crate) fn params_without(
    def: &StageDef,
    files: &BTreeMap<String, Digest>,
    names: &[&str],
) -> String {
    canonical_json(&without(def, files, names))
}

/// The parameters with files by digest.
pub(crate) fn all_params(def: &StageDef, files: &BTreeMap<String, Digest>) -> Value {
    without(def, files, &[])
}

fn without(def: &StageDef, files: &BTreeMap<String, Digest>, names: &[&str]) -> Value {
    let mut params = def.params.clone();
    if let Value::Object(map) = &mut params {
        map.retain(|key, _| !names.contains(&key.as_str()));
        for (key, digest) in files {
            if let Some(value) = map.get_mut(key) {
                *value = serde_json::json!({ "file": digest });
            }
        }
    }
    params
}

/// What the keys of all actions of one stage and part have in common.
#[derive(Debug, Clone)]
pub(crate) struct KeyBase {
    part: Part,
    /// Everything but the inputs.
    hasher: KeyHasher,
    /// Its digest so far.
    digest: Digest,
}

/// Bytes at the beginning of a key that all keys of one base share. So the actions of a stage lie
/// together in the index, and to look them up passes over no others.
const HEAD: usize = 2;

impl KeyBase {
    /// Of actions with these parameters (see [`key_params`]).
    pub(crate) fn new(def: &StageDef, part: Part, params: &str) -> Self {
        let (kind, version) = (def.kind, def.version);
        let mut hasher = KeyHasher::new("pipeline action 2");
        hasher
            .field(kind.as_bytes())
            .field(&version.to_le_bytes())
            .field(part.name().as_bytes())
            .field(params.as_bytes());
        Self {
            part,
            digest: hasher.finish(),
            hasher,
        }
    }

    fn headed(&self, mut key: Digest) -> Digest {
        key.0[..HEAD].copy_from_slice(&self.digest.0[..HEAD]);
        key
    }

    /// The same with other parameters.
    pub(crate) fn with_params(&self, def: &StageDef, params: &str) -> Self {
        Self::new(def, self.part, params)
    }

    /// Whether keys of it are those of `other`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// The same with the stages that prepare its items, as canonical JSON.
    pub(crate) fn with_preprocessing(&self, stages: &str) -> Self {
        let mut hasher = self.hasher.clone();
        hasher.field(stages.as_bytes());
        Self {
            part: self.part,
            digest: hasher.finish(),
            hasher,
        }
    }

    /// The same of items that are mapped with these artifacts.
    pub(crate) fn with_inputs(&self, ports: &BTreeMap<String, Vec<Member>>) -> Self {
        let mut hasher = self.hasher.clone();
        hash_ports(&mut hasher, ports);
        Self {
            part: self.part,
            digest: hasher.finish(),
            hasher,
        }
    }

    /// Key of an item's action: a short hash, as there are very many.
    pub(crate) fn item(&self, input: Digest) -> Digest {
        self.headed(input.keyed(&self.digest))
    }

    /// Key of a whole or finish part.
    pub(crate) fn whole(
        &self,
        ports: &BTreeMap<String, Vec<Member>>,
        previous: Option<Digest>,
    ) -> Digest {
        let mut hasher = self.hasher.clone();
        hash_ports(&mut hasher, ports);
        if let Some(previous) = previous {
            hasher.field(&previous.0);
        }
        self.headed(hasher.finish())
    }
}

fn hash_ports(hasher: &mut KeyHasher, ports: &BTreeMap<String, Vec<Member>>) {
    hasher.count(ports.len());
    for (port, members) in ports {
        hasher.field(port.as_bytes()).count(members.len());
        for member in members {
            hasher
                .field(&member.identity.0)
                .field(&member.artifact.0)
                .count(usize::from(member.label.is_some()))
                .field(member.label.as_deref().unwrap_or_default().as_bytes());
        }
    }
}
