//! Values of the index's rows.
//!
//! Rows that answer for an action or a file begin with eight bytes of XXH3 over key and value, so
//! that a flipped bit or a page of another time is noticed instead of believed: chance, not malice. Numbers are
//! little-endian, except in stamps, which have to sort.

use std::collections::BTreeMap;

use stage_core::Digest;
use twox_hash::XxHash3_64;

use super::Ulid;
use super::files::StatSig;
use super::record::{ActionRecord, ActionResult, Artifact, Outcome};

const CHECK: usize = 8;
const DONE: u8 = 0;
const FAILED: u8 = 1;

/// What is noted of a request whose run found nothing to do: see [`crate::settled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Digest of the sources as they were seen.
    pub(crate) state: Digest,
    /// Digest of the commits that were known.
    pub(crate) commits: Digest,
    /// What is to be said.
    pub(crate) text: String,
}

/// Sorts records by the order of their commits, then within one.
pub(crate) fn stamp(commit: Ulid, number: usize) -> [u8; 20] {
    let mut stamp = [0; 20];
    stamp[..16].copy_from_slice(&commit.to_bytes());
    stamp[16..].copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    stamp
}

/// `[check][outcome][seconds][bytes]`, then the artifact's digest and packed tree, or the
/// program's version with its length in front and the reason.
pub(crate) fn write_action(action: &ActionRecord) -> Vec<u8> {
    let mut row = vec![0; CHECK];
    let done = matches!(action.outcome, Outcome::Done(_));
    row.push(if done { DONE } else { FAILED });
    row.extend_from_slice(&action.seconds.to_le_bytes());
    row.extend_from_slice(&action.bytes.to_le_bytes());
    match &action.outcome {
        Outcome::Done(artifact) => {
            row.extend_from_slice(&artifact.digest.0);
            row.extend_from_slice(artifact.packed());
        }
        Outcome::Failed { reason, program } => {
            put_text(&mut row, program);
            row.extend_from_slice(reason.as_bytes());
        }
    }
    seal(&action.key.0, row)
}

/// Reads an action's row; `None` if it is not what was written under this key.
pub(crate) fn read_action(key: &Digest, row: &[u8]) -> Option<ActionResult> {
    let mut row = unseal(&key.0, row)?;
    let [outcome] = take::<1>(&mut row)?;
    let seconds = f64::from_le_bytes(take(&mut row)?);
    let bytes = u64::from_le_bytes(take(&mut row)?);
    let outcome = match outcome {
        DONE => {
            let digest = Digest(take(&mut row)?);
            Outcome::Done(Artifact::from_packed(digest, row))
        }
        FAILED => Outcome::Failed {
            program: take_text(&mut row)?,
            reason: String::from_utf8(row.to_vec()).ok()?,
        },
        _ => return None,
    };
    Some(ActionResult {
        outcome,
        seconds,
        bytes,
    })
}

/// `[check][size][mtime][ctime][digest][young]`.
pub(crate) fn write_stat(sig: &StatSig, digest: &Digest, young: bool) -> Vec<u8> {
    let mut row = vec![0; CHECK];
    row.extend_from_slice(&sig.size.to_le_bytes());
    row.extend_from_slice(&sig.mtime.to_le_bytes());
    row.extend_from_slice(&sig.ctime.to_le_bytes());
    row.extend_from_slice(&digest.0);
    row.push(u8::from(young));
    seal(&place(sig), row)
}

/// The digest if size and times are as recorded, and whether the file was young then; an error if
/// the row is damaged.
pub(crate) fn read_stat(sig: &StatSig, row: &[u8]) -> Result<Option<(Digest, bool)>, ()> {
    let read = || {
        let mut row = unseal(&place(sig), row)?;
        let size = u64::from_le_bytes(take(&mut row)?);
        let mtime = i64::from_le_bytes(take(&mut row)?);
        let ctime = i64::from_le_bytes(take(&mut row)?);
        let digest = Digest(take(&mut row)?);
        let [young] = take::<1>(&mut row)?;
        let same = (size, mtime, ctime) == (sig.size, sig.mtime, sig.ctime);
        Some(same.then_some((digest, young != 0)))
    };
    read().ok_or(())
}

/// `[check][state][commits][text]`.
pub(crate) fn write_settled(request: &Digest, settled: &Settled) -> Vec<u8> {
    let mut row = vec![0; CHECK];
    row.extend_from_slice(&settled.state.0);
    row.extend_from_slice(&settled.commits.0);
    row.extend_from_slice(settled.text.as_bytes());
    seal(&request.0, row)
}

/// Reads back [`write_settled`]; `None` if it is not what was written under this request.
pub(crate) fn read_settled(request: &Digest, row: &[u8]) -> Option<Settled> {
    let mut row = unseal(&request.0, row)?;
    Some(Settled {
        state: Digest(take(&mut row)?),
        commits: Digest(take(&mut row)?),
        text: String::from_utf8(row.to_vec()).ok()?,
    })
}

/// Per port: its name and the number of its digests, each with its length in front; the digests.
pub(crate) fn write_inputs(inputs: &BTreeMap<String, Vec<Digest>>) -> Vec<u8> {
    let mut row = Vec::new();
    for (port, digests) in inputs {
        put_text(&mut row, port);
        row.extend_from_slice(&(digests.len() as u64).to_le_bytes());
        for digest in digests {
            row.extend_from_slice(&digest.0);
        }
    }
    row
}

/// Reads back [`write_inputs`].
pub(crate) fn read_inputs(mut row: &[u8]) -> Option<BTreeMap<String, Vec<Digest>>> {
    let mut inputs = BTreeMap::new();
    while !row.is_empty() {
        let port = take_text(&mut row)?;
        let count = usize::try_from(u64::from_le_bytes(take(&mut row)?)).ok()?;
        let (digests, rest) = row.split_at_checked(count.checked_mul(32)?)?;
        row = rest;
        let digests = digests.as_chunks::<32>().0;
        inputs.insert(port, digests.iter().map(|bytes| Digest(*bytes)).collect());
    }
    Some(inputs)
}

fn place(sig: &StatSig) -> [u8; 16] {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&sig.dev.to_le_bytes());
    place[8..].copy_from_slice(&sig.ino.to_le_bytes());
    place
}

fn check(key: &[u8], value: &[u8]) -> [u8; CHECK] {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key), value).to_le_bytes()
}

fn seal(key: &[u8], mut row: Vec<u8>) -> Vec<u8> {
    let check = check(key, &row[CHECK..]);
    row[..CHECK].copy_from_slice(&check);
    row
}

fn unseal<'a>(key: &[u8], row: &'a [u8]) -> Option<&'a [u8]> {
    let (found, value) = row.split_first_chunk::<CHECK>()?;
    (*found == check(key, value)).then_some(value)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn put_text(row: &mut Vec<u8>, text: &str) {
    row.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    row.extend_from_slice(text.as_bytes());
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sig() -> StatSig {
        StatSig {
            dev: 1,
            ino: u64::MAX,
            size: 3,
            mtime: -1,
            ctime: 5,
        }
    }

    #[test]
    fn a_stat_answers_only_for_itself() {
        let digest = Digest::of(b"abc");
        let row = write_stat(&sig(), &digest, false);
        assert_eq!(read_stat(&sig(), &row), Ok(Some((digest, false))));
        let young = write_stat(&sig(), &digest, true);
        assert_eq!(read_stat(&sig(), &young), Ok(Some((digest, true))));
        assert_eq!(read_stat(&StatSig { size: 4, ..sig() }, &row), Ok(None));
        assert_eq!(read_stat(&StatSig { mtime: 0, ..sig() }, &row), Ok(None));
        assert_eq!(read_stat(&StatSig { ctime: 0, ..sig() }, &row), Ok(None));
        assert_eq!(read_stat(&StatSig { ino: 4, ..sig() }, &row), Err(()));
        for at in 0..row.len() {
            let mut bad = row.clone();
            bad[at] ^= 1;
            assert_eq!(read_stat(&sig(), &bad), Err(()), "flip at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_row_is_read_or_refused(row in prop::collection::vec(any::<u8>(), 0..200)) {
            let key = Digest::of(b"key");
            prop_assert_eq!(read_action(&key, &row), None);
            prop_assert_eq!(read_settled(&key, &row), None);
            // With a right checksum, too.
            let mut sealed = vec![0; CHECK];
            sealed.extend_from_slice(&row);
            let sealed = seal(&key.0, sealed);
            let _ = read_action(&key, &sealed);
            let _ = read_settled(&key, &sealed);
            let _ = read_inputs(&row);
        }

        #[test]
        fn inputs_round_trip(inputs in prop::collection::btree_map("[a-zé]{0,9}", prop::collection::vec(any::<[u8; 32]>().prop_map(Digest), 0..5), 0..4)) {
            prop_assert_eq!(read_inputs(&write_inputs(&inputs)), Some(inputs));
        }
    }
}
