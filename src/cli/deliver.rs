//! Results in `out/`, under names that speak.
//!
//! They are copies of what is in the cache: a later run brings back what was deleted.

use std::path::{Path, PathBuf};

use engine::store::Artifact;
use engine::{Project, Session};
use serde_json::{Value, json};
use stage_core::{Digest, Entry};

use super::export::place_copy;
use super::{Failure, setup};

/// What a stage's results are called, by the file of the artifact.
pub(crate) enum Naming {
    /// As in the artifact, in a folder named after the stage.
    Plain,
    /// After the prompt, the seed and the artifact.
    Prompt,
}

/// Puts the results of `stage` under `out` (a folder, or the name of a single sound file) and
/// gives the paths.
pub(crate) fn deliver(
    project: &Project,
    session: &Session<'_>,
    stage: &str,
    naming: &Naming,
    out: Option<&Path>,
) -> Result<Vec<PathBuf>, Failure> {
    let Some(artifact) = session.artifact(stage) else {
        return Ok(Vec::new());
    };
    match naming {
        Naming::Plain => plain(project, artifact, stage, out),
        Naming::Prompt => prompted(project, session, stage, artifact, out),
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
) -> Result<Vec<PathBuf>, Failure> {
    let dir = folder(stage, out);
    let mut paths = Vec::new();
    for (name, entry) in &artifact.tree().0 {
        let to = dir.join(name);
        bring(project, entry, &to)?;
        paths.push(to);
    }
    Ok(paths)
}

fn prompted(
    project: &Project,
    session: &Session<'_>,
    stage: &str,
    artifact: &Artifact,
    out: Option<&Path>,
) -> Result<Vec<PathBuf>, Failure> {
    let tree = artifact.tree();
    let params = session.params(stage).cloned().unwrap_or_default();
    let seed = params["seed"].as_u64().unwrap_or(0);
    // A name that looks like a sound file names the sound of an only result.
    let file = out.filter(|path| path.extension().is_some() && !path.is_dir());
    let mut paths = Vec::new();
    for (name, entry) in tree
        .0
        .iter()
        .filter(|(name, _)| name.ends_with("about.json"))
    {
        let prefix = name.trim_end_matches("about.json");
        let bytes = project.store.read_object(entry)?;
        let mut about: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let prompt = about["prompt"]["source"]
            .as_str()
            .and_then(|digest| digest.parse::<Digest>().ok())
            .and_then(|digest| session.item_named(digest));
        let stem = match (file, prompt) {
            (Some(file), _) if prefix.is_empty() => file.with_extension(""),
            _ => {
                let prompt = prompt.map(Path::new).and_then(Path::file_stem);
                let prompt = prompt.map_or("music".into(), |stem| stem.to_string_lossy());
                let variation = prefix.trim_end_matches('/').split('-').nth(1);
                let variation = variation.map_or(String::new(), |v| format!("-{v}"));
                let digest = artifact.digest.short();
                folder(stage, out).join(format!("{prompt}-seed{seed}{variation}-{digest}"))
            }
        };
        for (name, entry) in tree.0.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let own = Path::new(&name[prefix.len()..]);
            let extension = own.extension().unwrap_or_default().to_string_lossy();
            if own.components().count() > 1 || extension == "json" {
                continue;
            }
            let to = with_extension(&stem, &extension);
            bring(project, entry, &to)?;
            paths.push(to);
        }
        about["lineage"] = lineage(session, stage, artifact, &params, prompt);
        let to = with_extension(&stem, "json");
        let text = serde_json::to_string_pretty(&about).unwrap_or_default() + "\n";
        if let Some(dir) = to.parent() {
            engine::results::create_dir(&*project.fs, dir)?;
        }
        engine::fs::write_atomic(&*project.fs, &to, text.as_bytes())?;
        paths.push(to);
    }
    Ok(paths)
}

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
        "program": format!("pipeline {}", setup::VERSION),
        "machine_class": stage_core::machine_class(),
        "stage": stage,
        "parameters": params,
        "artifact": artifact.digest,
        "inputs": session.inputs_of(stage),
        "prompt": prompt,
    })
}

/// Copies an object to `to`, unless the same bytes are there.
fn bring(project: &Project, entry: &Entry, to: &Path) -> Result<(), Failure> {
    let same = std::fs::File::open(to)
        .and_then(Digest::of_reader)
        .is_ok_and(|(digest, size)| digest == entry.digest && size == entry.size);
    if same {
        return Ok(());
    }
    let from = project.store.checked_path(entry)?;
    place_copy(project, &from, to)
}
