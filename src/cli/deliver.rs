//! Results in `out/`, with readable names.
//!
//! They are copies of artifacts in the cache: a later run restores deleted files.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use engine::fs::{Fs, RealFs};
use engine::store::{Artifact, StatSig, StoreError};
use engine::{Project, Session};
use serde_json::{Value, json};
use stage_core::text::of_name;
use stage_core::{Cancel, Delivery, Digest, Entry};

use super::files::{MAX_NAME, Put, fit, split};
use super::options;
use crate::outcome::{Failure, Outcome};

/// A file of a result.
pub(super) struct Piece {
    /// Where it goes, from the folder of the result.
    pub(super) name: PathBuf,
    /// What it holds.
    pub(super) content: Content,
}

/// What a file of a result holds.
pub(super) enum Content {
    /// An object of the cache.
    Object(Entry),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Puts the results of `stage` under `out` (a folder, or the name of a single sound file) and
/// gives the paths.
pub(crate) fn deliver(
    project: &Project,
    session: &Session<'_>,
    stage: &str,
    delivery: Delivery,
    out: Option<&Path>,
    cancel: &Cancel,
) -> Result<Vec<PathBuf>, Failure> {
    let Some(artifact) = session.artifact(stage) else {
        return Ok(Vec::new());
    };
    match delivery {
        Delivery::Internal => Ok(Vec::new()),
        Delivery::Folder => plain(project, artifact, stage, out, cancel),
        Delivery::Prompted => prompted(project, session, stage, artifact, out, cancel),
    }
}

fn folder(stage: &str, out: Option<&Path>) -> PathBuf {
    out.map_or_else(
        || Path::new(engine::results::OUT).join(stage),
        Path::to_owned,
    )
}

/// Puts an artifact's files under `out` as they are called in it.
pub(crate) fn plain(
    project: &Project,
    artifact: &Artifact,
    stage: &str,
    out: Option<&Path>,
    cancel: &Cancel,
) -> Result<Vec<PathBuf>, Failure> {
    let dir = folder(stage, out);
    let pieces: Vec<Piece> = artifact
        .tree()
        .0
        .into_iter()
        .map(|(name, entry)| Piece {
            name: name.into(),
            content: Content::Object(entry),
        })
        .collect();
    bring(&objects(project), &dir, &pieces, cancel, &mut fail)?;
    Ok(pieces.iter().map(|piece| dir.join(&piece.name)).collect())
}

fn prompted(
    project: &Project,
    session: &Session<'_>,
    stage: &str,
    artifact: &Artifact,
    out: Option<&Path>,
    cancel: &Cancel,
) -> Result<Vec<PathBuf>, Failure> {
    let tree = artifact.tree();
    let params = session.params(stage).cloned().unwrap_or_default();
    let seed = params["seed"].as_u64().unwrap_or(0);
    // A name that looks like a sound file names the sound of an only result.
    let file = out.filter(|path| path.extension().is_some() && !path.is_dir());
    let file = file.filter(|_| tree.0.contains_key(ABOUT));
    let (dir, only) = match file {
        Some(file) => {
            let (dir, name) = split(file)?;
            let stem = Path::new(name).with_extension("");
            (dir.to_owned(), Some(stem))
        }
        None => (folder(stage, out), None),
    };
    let mut pieces = Vec::new();
    let mut stems = HashSet::new();
    for (name, entry) in tree.0.iter().filter(|(name, _)| name.ends_with(ABOUT)) {
        let prefix = name.trim_end_matches(ABOUT);
        let bytes = note_loss(project, project.store.read_object(entry))?;
        let mut about: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let prompt = about["prompt"]["source"]
            .as_str()
            .and_then(|digest| digest.parse::<Digest>().ok())
            .and_then(|digest| session.item_named(digest));
        let own: Vec<(&str, &Entry)> = tree
            .0
            .iter()
            .filter_map(|(name, entry)| {
                let own = Path::new(name.strip_prefix(prefix)?);
                let extension = own.extension().and_then(|e| e.to_str()).unwrap_or_default();
                let is_result = own.components().count() == 1 && extension != JSON;
                is_result.then_some((extension, entry))
            })
            .collect();
        let stem = only.clone().unwrap_or_else(|| {
            let prompt = prompt.map(Path::new).and_then(Path::file_stem);
            let prompt = prompt.map_or("music".into(), |stem| stem.to_string_lossy());
            let mut numbers = prefix.trim_end_matches('/').split('-');
            let number = numbers.next().unwrap_or_default();
            let variation = numbers.next().map_or(String::new(), |v| format!("-{v}"));
            let rest = format!("-seed{seed}{variation}-{}", artifact.digest.short());
            let extensions = own.iter().map(|(extension, _)| extension.len());
            let room = MAX_NAME - 1 - extensions.fold(JSON.len(), usize::max);
            let stem = fit(&prompt, &rest, room);
            // Prompts of one name, in different folders or with different endings.
            let stem = if stems.contains(&stem) {
                fit(&prompt, &format!("-{number}{rest}"), room)
            } else {
                stem
            };
            stems.insert(stem.clone());
            PathBuf::from(stem)
        });
        for (extension, entry) in own {
            pieces.push(Piece {
                name: with_extension(&stem, extension),
                content: Content::Object(*entry),
            });
        }
        about["lineage"] = lineage(session, stage, artifact, &params, prompt);
        let text = serde_json::to_string_pretty(&about).unwrap_or_default() + "\n";
        pieces.push(Piece {
            name: with_extension(&stem, JSON),
            content: Content::Bytes(text.into_bytes()),
        });
    }
    bring(&objects(project), &dir, &pieces, cancel, &mut fail)?;
    let path = |piece: &Piece| match file {
        Some(file) => file.with_file_name(&piece.name),
        None => dir.join(&piece.name),
    };
    Ok(pieces.iter().map(path).collect())
}

/// Name of the file that tells of a result, alone or in the folder of the result.
const ABOUT: &str = "about.json";
/// Extension of that file beside the sound.
const JSON: &str = "json";

/// A stem may hold dots of its own.
fn with_extension(stem: &Path, extension: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// Where a result came from: program, parameters, and the digest of each artifact on its way.
fn lineage(
    session: &Session<'_>,
    stage: &str,
    artifact: &Artifact,
    params: &Value,
    prompt: Option<&str>,
) -> Value {
    json!({
        "program": format!("pipeline {}", options::VERSION),
        "machine_class": stage_core::machine_class(),
        "stage": stage,
        "parameters": params,
        "artifact": artifact.digest,
        "inputs": session.inputs_of(stage),
        "prompt": prompt,
    })
}

/// Puts files into the folder `dir`, all at one time, so that files of two results are never mixed.
/// What is there already with the same content stays, and where all is, nothing is written.
///
/// `objects` copies an object to a path. `failed` is told, by its number, of each file that cannot be
/// brought, and says whether the others go on without it.
pub(super) fn bring(
    objects: &dyn Fn(&Entry, &Path) -> Outcome,
    dir: &Path,
    pieces: &[Piece],
    cancel: &Cancel,
    failed: &mut dyn FnMut(usize, Failure) -> Outcome,
) -> Outcome {
    let mut kept = Vec::new();
    let mut missing = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        match same(&dir.join(&piece.name), &piece.content) {
            Some(sig) => kept.push((index, sig)),
            None => missing.push(index),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut put = Put::into(dir, cancel)?;
    loop {
        for index in missing.drain(..) {
            let piece = &pieces[index];
            let brought = match &piece.content {
                Content::Bytes(bytes) => put.write(&piece.name, bytes),
                Content::Object(entry) => put.stage(&piece.name, |to| objects(entry, to)),
            };
            if let Err(failure) = brought {
                failed(index, failure)?;
            }
        }
        let turn = put.turn()?;
        // What another process replaced since it was compared is brought, too.
        kept.retain(|(index, sig)| {
            let now = RealFs.stat(&dir.join(&pieces[*index].name));
            let stays = now.is_ok_and(|stat| StatSig::from(&stat) == *sig);
            if !stays {
                missing.push(*index);
            }
            stays
        });
        if missing.is_empty() {
            return put.commit_in(turn);
        }
    }
}

/// Copies an object to a path, and compares the copy with its digest. All that leaves the cache as
/// files goes through here.
pub(super) fn objects(project: &Project) -> impl Fn(&Entry, &Path) -> Outcome {
    |entry, to| {
        note_loss(project, project.store.copy_out(entry, to))?;
        // Objects are read-only; a result is the user's own.
        let writable = RealFs.set_mode(to, 0o644);
        Ok(writable.with_context(|| format!("cannot write `{}`", of_name(to)))?)
    }
}

/// If an object is damaged or missing, withdraws its record, so that the next run that wants it makes
/// it again.
pub(super) fn note_loss<T>(project: &Project, result: Result<T, StoreError>) -> Result<T, Failure> {
    if let Err(error) = &result {
        match project.store.forget_lost(error) {
            // It is known as lost in a cache that cannot be written, too.
            Ok(_) | Err(StoreError::ReadOnly { .. }) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(result?)
}

/// For [`bring`]: one file that cannot be brought stops all.
pub(super) fn fail(_: usize, failure: Failure) -> Outcome {
    Err(failure)
}

/// The state of the file at `path`, if it holds exactly `content`.
fn same(path: &Path, content: &Content) -> Option<StatSig> {
    let mut file = engine::fs::open_file(&RealFs, path).ok()?;
    let stat = file.stat().ok()?;
    let (same, size) = match content {
        Content::Object(entry) if stat.size == entry.size => {
            let (digest, size) = Digest::of_reader(&mut file).ok()?;
            (digest == entry.digest, size)
        }
        Content::Bytes(bytes) if stat.size == bytes.len() as u64 => {
            let mut found = Vec::with_capacity(bytes.len());
            file.read_to_end(&mut found).ok()?;
            (found == *bytes, found.len() as u64)
        }
        _ => return None,
    };
    (same && size == stat.size).then(|| StatSig::from(&stat))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn piece(name: &str, content: Content) -> Piece {
        Piece {
            name: name.into(),
            content,
        }
    }

    fn object(text: &str) -> Content {
        Content::Object(Entry {
            digest: Digest::of(text.as_bytes()),
            size: text.len() as u64,
            self_checked: false,
        })
    }

    fn pieces() -> [Piece; 2] {
        [
            piece("a", Content::Bytes(b"ours a".to_vec())),
            piece("b", object("ours b")),
        ]
    }

    /// Another process replaces the whole set after one of its files was found to be in place.
    #[test]
    fn what_another_process_replaces_meanwhile_is_brought_again() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("a"), "ours a").unwrap();
        fs::write(dir.path().join("object"), "ours b").unwrap();
        let objects = |_: &Entry, to: &Path| {
            let mut other = Put::into(&out, &Cancel::default())?;
            other.write("a".as_ref(), b"theirs")?;
            other.write("b".as_ref(), b"theirs")?;
            other.commit()?;
            fs::copy(dir.path().join("object"), to)?;
            Ok(())
        };
        bring(&objects, &out, &pieces(), &Cancel::default(), &mut fail).unwrap();
        assert_eq!(fs::read(out.join("a")).unwrap(), b"ours a");
        assert_eq!(fs::read(out.join("b")).unwrap(), b"ours b");
    }

    #[test]
    fn what_is_in_place_is_not_touched_and_needs_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "ours a").unwrap();
        fs::write(dir.path().join("b"), "ours b").unwrap();
        let changed = || fs::metadata(dir.path()).unwrap().modified().unwrap();
        let before = changed();
        let gone = |_: &Entry, _: &Path| Err(Failure::Code(9));
        bring(&gone, dir.path(), &pieces(), &Cancel::default(), &mut fail).unwrap();
        assert_eq!(changed(), before);
        fs::write(dir.path().join("b"), "other").unwrap();
        let result = bring(&gone, dir.path(), &pieces(), &Cancel::default(), &mut fail);
        assert!(matches!(result, Err(Failure::Code(9))));
    }
}
