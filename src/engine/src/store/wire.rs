//! The file of a commit.
//!
//! ```text
//! pipeline commit 2 <bytes of the body> <BLAKE3 of all else, hex>\n
//! {"origin":{"run":…,"pipeline":…,"program":…,"class":…}}\n
//! {"stage":{"stage":…,"kind":…,"version":…,"part":…,"params":…}}\n
//! {"action":{"key":…,"origin":0,"stage":0,"item":…,"inputs":{…},"done":{…},…}}\n
//! ```
//!
//! One JSON value a line: with 100,000 actions a binary form would save a tenth of the time of
//! folding them, which SQLite dominates, and nobody could read it. `origin` and `stage` lines
//! are numbered from 0 as they come and stand before the actions that refer to them. A list of
//! digests is one string of their hex digits, run together. Length and hash in front tell a torn
//! or damaged file from a whole one. The header is the same in every version, and the hash covers
//! it, so that a damaged version is not taken for a newer one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use blake3::Hasher;
use serde::{Deserialize, Serialize};
use stage_core::{Digest, Entry, Tree};

use super::record::{
    ActionRecord, Artifact, InterimRecord, Origin, Outcome, PinRecord, Record, RunRecord,
    StageSettings,
};

/// The version of commit files that is written and read.
pub const VERSION: u32 = 2;

const MAGIC: &str = "pipeline commit ";

/// Longest header: magic, a version, a length, a hash.
const HEADER_LIMIT: usize = 160;

/// Why a commit cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It was torn, damaged, or is something else.
    #[error("the commit is damaged: {0}")]
    Damaged(String),
    /// A newer program wrote it.
    #[error("the commit has version {0}, this program reads {VERSION}")]
    Newer(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Origin(Origin),
    Stage(StageSettings),
    #[serde(borrow)]
    Action(WireAction<'a>),
    Run(RunRecord),
    Pin(PinRecord),
    Interim(WireInterim),
}

#[derive(Serialize, Deserialize)]
struct WireAction<'a> {
    key: Digest,
    origin: usize,
    stage: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    item: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    inputs: BTreeMap<String, DigestList>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<WireTree>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    failed: Option<WireFailure<'a>>,
    seconds: f64,
    bytes: u64,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct WireFailure<'a> {
    #[serde(borrow)]
    reason: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    program: std::borrow::Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct WireInterim {
    origin: usize,
    stage: String,
    key: Digest,
    step: u64,
    tree: WireTree,
    at: u64,
}

/// Name → digest, size, 1 if the file checks itself.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct WireTree(BTreeMap<String, (Digest, u64, u8)>);

impl WireTree {
    fn new(artifact: &Artifact) -> Self {
        let files = artifact.tree().0.into_iter();
        Self(
            files
                .map(|(name, e)| (name, (e.digest, e.size, u8::from(e.self_checked))))
                .collect(),
        )
    }

    fn artifact(self) -> Artifact {
        let files = self.0.into_iter();
        Artifact::new(&Tree(
            files
                .map(|(name, (digest, size, checked))| {
                    let self_checked = checked != 0;
                    let entry = Entry {
                        digest,
                        size,
                        self_checked,
                    };
                    (name, entry)
                })
                .collect(),
        ))
    }
}

/// Digests as one string of hex digits.
pub(crate) struct DigestList(pub(crate) Vec<Digest>);

impl Serialize for DigestList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * 64);
        for digest in &self.0 {
            text.push_str(&digest.to_hex());
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for DigestList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut digests = Vec::with_capacity(text.len() / 64);
        for chunk in text.as_bytes().chunks(64) {
            let hex = std::str::from_utf8(chunk).map_err(serde::de::Error::custom)?;
            digests.push(hex.parse().map_err(serde::de::Error::custom)?);
        }
        Ok(Self(digests))
    }
}

/// The bytes of a commit of `records`.
///
/// # Errors
/// None in fact: JSON of these types cannot fail, but serde's signature says it might.
pub fn encode(records: &[Record]) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(records.len() * 512);
    let mut origins = Numbers::default();
    let mut stages = Numbers::default();
    for record in records {
        let line = match record {
            Record::Action(action) => {
                let origin = origins.of(&action.origin, &mut body, Line::Origin)?;
                let stage = stages.of(&action.settings, &mut body, Line::Stage)?;
                Line::Action(wire_action(action, origin, stage))
            }
            Record::Interim(interim) => Line::Interim(WireInterim {
                origin: origins.of(&interim.origin, &mut body, Line::Origin)?,
                stage: interim.stage.clone(),
                key: interim.key,
                step: interim.step,
                tree: WireTree::new(&interim.artifact),
                at: interim.at,
            }),
            Record::Run(run) => Line::Run(run.clone()),
            Record::Pin(pin) => Line::Pin(pin.clone()),
        };
        push_line(&mut body, &line)?;
    }
    Ok(headed(VERSION, &body))
}

/// The file of a commit with the body `body` in the form of `version`.
pub fn headed(version: u32, body: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(body.len() + HEADER_LIMIT);
    file.extend(format!("{MAGIC}{version} {} ", body.len()).bytes());
    let digest = digest_of(&file, body);
    file.extend(format!("{digest}\n").bytes());
    file.extend_from_slice(body);
    file
}

/// The hash of a commit: of its header as far as the hash, and of its body.
fn digest_of(head: &[u8], body: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(head).update(body);
    Digest(*hasher.finalize().as_bytes())
}

/// The records of a commit.
///
/// # Errors
/// The bytes are damaged, no commit, or a newer program's.
pub fn decode(file: &[u8]) -> Result<Vec<Record>, Unreadable> {
    let body = checked_body(file)?;
    let damaged = |line: usize, detail: &dyn std::fmt::Display| {
        Unreadable::Damaged(format!("line {}: {detail}", line + 2))
    };
    let mut origins = Vec::new();
    let mut stages = Vec::new();
    let mut records = Vec::new();
    for (number, line) in body.split(|b| *b == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(line).map_err(|e| damaged(number, &e))?;
        let no_such = || damaged(number, &"it refers to a line that is not there");
        let record = match line {
            Line::Origin(origin) => {
                origins.push(Arc::new(origin));
                continue;
            }
            Line::Stage(stage) => {
                stages.push(Arc::new(stage));
                continue;
            }
            Line::Action(action) => {
                let origin = origins.get(action.origin).cloned().ok_or_else(no_such)?;
                let settings = stages.get(action.stage).cloned().ok_or_else(no_such)?;
                let action = unwire_action(action, origin, settings)
                    .ok_or_else(|| damaged(number, &"an action without outcome"))?;
                Record::Action(action)
            }
            Line::Interim(interim) => Record::Interim(InterimRecord {
                origin: origins.get(interim.origin).cloned().ok_or_else(no_such)?,
                stage: interim.stage,
                key: interim.key,
                step: interim.step,
                artifact: interim.tree.artifact(),
                at: interim.at,
            }),
            Line::Run(run) => Record::Run(run),
            Line::Pin(pin) => Record::Pin(pin),
        };
        records.push(record);
    }
    Ok(records)
}

/// Checks the header against the body and gives the body.
fn checked_body(file: &[u8]) -> Result<&[u8], Unreadable> {
    let damaged = |text: &str| Unreadable::Damaged(text.to_owned());
    let head = file.get(..HEADER_LIMIT.min(file.len())).unwrap_or(file);
    let end = head
        .iter()
        .position(|b| *b == b'\n')
        .ok_or_else(|| damaged("it has no header"))?;
    let (head, body) = file.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let fields = std::str::from_utf8(head)
        .ok()
        .and_then(|head| head.strip_prefix(MAGIC))
        .ok_or_else(|| damaged("it has no header"))?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let [version, length, hash] = fields[..] else {
        return Err(damaged("its header is not whole"));
    };
    let numbers = version.parse::<u32>().ok().zip(length.parse().ok());
    let Some(((version, length), digest)) = numbers.zip(hash.parse::<Digest>().ok()) else {
        return Err(damaged("its header is not whole"));
    };
    let length: usize = length;
    if body.len() != length {
        return Err(Unreadable::Damaged(format!(
            "{} bytes follow the header, expected {length}",
            body.len()
        )));
    }
    if digest_of(&head[..head.len() - hash.len()], body) != digest {
        return Err(damaged(
            "its bytes do not have the hash that its header says",
        ));
    }
    match version {
        VERSION => Ok(body),
        newer if newer > VERSION => Err(Unreadable::Newer(newer)),
        older => Err(Unreadable::Damaged(format!(
            "it has version {older}, which no cache of this format holds"
        ))),
    }
}

/// Numbers values as they first come, writing a line for each. Shared values are told apart by
/// their address, which is enough: one written twice is only longer.
struct Numbers<T> {
    seen: HashMap<*const T, usize>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
        }
    }
}

impl<T: Clone> Numbers<T> {
    fn of(
        &mut self,
        value: &Arc<T>,
        body: &mut Vec<u8>,
        line: impl FnOnce(T) -> Line<'static>,
    ) -> serde_json::Result<usize> {
        let next = self.seen.len();
        let number = *self.seen.entry(Arc::as_ptr(value)).or_insert(next);
        if number == next {
            push_line(body, &line(T::clone(value)))?;
        }
        Ok(number)
    }
}

fn push_line(body: &mut Vec<u8>, line: &Line) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *body, line)?;
    body.push(b'\n');
    Ok(())
}

fn wire_action(action: &ActionRecord, origin: usize, stage: usize) -> WireAction<'_> {
    let (done, failed) = match &action.outcome {
        Outcome::Done(artifact) => (Some(WireTree::new(artifact)), None),
        Outcome::Failed { reason, program } => {
            let failure = WireFailure {
                reason: reason.into(),
                program: program.into(),
            };
            (None, Some(failure))
        }
    };
    let inputs = action.inputs.iter();
    WireAction {
        key: action.key,
        origin,
        stage,
        item: action.item.clone(),
        inputs: inputs
            .map(|(port, list)| (port.clone(), DigestList(list.clone())))
            .collect(),
        done,
        failed,
        // JSON has no NaN: it would be written as null and read back as damage.
        seconds: if action.seconds.is_finite() {
            action.seconds
        } else {
            0.0
        },
        bytes: action.bytes,
        at: action.at,
    }
}

fn unwire_action(
    action: WireAction<'_>,
    origin: Arc<Origin>,
    settings: Arc<StageSettings>,
) -> Option<ActionRecord> {
    let outcome = match (action.done, action.failed) {
        (Some(tree), None) => Outcome::Done(tree.artifact()),
        (None, Some(failure)) => Outcome::Failed {
            reason: failure.reason.into_owned(),
            program: failure.program.into_owned(),
        },
        _ => return None,
    };
    let inputs = action.inputs.into_iter();
    Some(ActionRecord {
        key: action.key,
        origin,
        settings,
        item: action.item,
        inputs: inputs.map(|(port, list)| (port, list.0)).collect(),
        outcome,
        seconds: action.seconds,
        bytes: action.bytes,
        at: action.at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Ulid;
    use crate::store::record::{RunOutcome, RunStage};
    use proptest::prelude::*;
    use stage_core::Part;

    fn records() -> Vec<Record> {
        let origin = Arc::new(Origin {
            run: Ulid(7),
            pipeline: "p".into(),
            program: "0.1.0".into(),
            class: "x86_64-avx2".into(),
        });
        let settings = Arc::new(StageSettings {
            stage: "decode".into(),
            kind: "decode".into(),
            version: 1,
            part: Part::Item,
            params: r#"{"rate":22050}"#.into(),
        });
        let tree = Tree::single("pcm.wav", Digest::of(b"x"), 1);
        let action = |item: &str, outcome| {
            Record::Action(ActionRecord {
                key: Digest::of(item.as_bytes()),
                origin: origin.clone(),
                settings: settings.clone(),
                item: item.into(),
                inputs: BTreeMap::from([("in".into(), vec![Digest::of(b"1"), Digest::of(b"2")])]),
                outcome,
                seconds: 0.25,
                bytes: 44,
                at: 1_700_000_000_000,
            })
        };
        vec![
            action("a \"b\"\n.wav", Outcome::Done(Artifact::new(&tree))),
            action(
                "c",
                Outcome::Failed {
                    reason: "line\nbreak".into(),
                    program: "0.1.0".into(),
                },
            ),
            Record::Interim(InterimRecord {
                origin: origin.clone(),
                stage: "train".into(),
                key: Digest::of(b"k"),
                step: 100,
                artifact: Artifact::new(&tree),
                at: 1,
            }),
            Record::Run(RunRecord {
                origin: (*origin).clone(),
                command: "pipeline run".into(),
                started: 1,
                ended: 2,
                outcome: RunOutcome::Done,
                stages: vec![RunStage {
                    stage: "decode".into(),
                    executed: 1,
                    ..RunStage::default()
                }],
                collected: false,
            }),
            Record::Pin(PinRecord {
                run: Ulid(7),
                pinned: true,
                note: String::new(),
                at: 3,
            }),
        ]
    }

    #[test]
    fn commits_round_trip() {
        let file = encode(&records()).unwrap();
        assert_eq!(decode(&file).unwrap(), records());
        let text = String::from_utf8(file).unwrap();
        assert_eq!(
            text.matches("\"origin\":{").count(),
            2,
            "once, and in the run"
        );
        assert_eq!(text.matches("\"stage\":{").count(), 1);
    }

    #[test]
    fn every_cut_and_every_flip_is_seen() {
        let file = encode(&records()).unwrap();
        for cut in 0..file.len() {
            assert!(decode(&file[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 4;
            let found = decode(&bad);
            assert!(matches!(found, Err(Unreadable::Damaged(_))), "flip at {at}");
        }
    }

    #[test]
    fn newer_commits_are_not_called_damaged() {
        let newer = headed(3, b"whatever comes");
        assert_eq!(decode(&newer), Err(Unreadable::Newer(3)));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "\\PC{0,200}") {
            let _ = decode(&headed(VERSION, body.as_bytes()));
            let _ = decode(body.as_bytes());
        }
    }
}
