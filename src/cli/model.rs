//! `--model latest|best|PATH`: a model that is at hand, and the road of its training data.
//!
//! A model file carries the stages upstream of its training with their resolved parameters, so the
//! prompt is prepared as the data was, whatever today's pipeline.toml says, or where there is none.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, anyhow};
use engine::store::{Artifact, HashOptions, Store, hash_file};
use engine::{Config, Project, Setting};
use serde_json::{Map, Value, json};
use stage_core::{Cancel, Digest, Entry, KindEntry, Part, Registry, Tree, text};

use super::{Failure, complain_softly};

/// The model in a training's artifact: the best by validation, and the last.
const BEST: &str = stage_train::MODEL;
const LAST: &str = stage_train::LAST;
/// Most stages of a road. Those of this program have two or three.
const MAX_STAGES: usize = 64;
/// Most characters of what a model says that a message repeats.
const MAX_SHOWN: usize = 200;

/// Which model is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The state of the newest training after its last save.
    Latest,
    /// Its best state by validation.
    Best,
    /// A file.
    File(std::path::PathBuf),
}

impl From<OsString> for Choice {
    fn from(argument: OsString) -> Self {
        match argument.to_str() {
            Some("latest") => Self::Latest,
            Some("best") => Self::Best,
            _ => Self::File(argument.into()),
        }
    }
}

/// A model in the store, and what it says of itself.
pub(crate) struct Found {
    /// As the input of the stage that uses it.
    pub(crate) artifact: Artifact,
    /// The facts in the file.
    pub(crate) facts: Value,
}

impl Found {
    /// After how many steps of training it was saved.
    pub(crate) fn step(&self) -> Option<u64> {
        self.facts["step"].as_u64()
    }
}

/// Finds the model. `train` is the name of the stage that trains it.
pub(crate) fn find(project: &Project, train: &str, choice: &Choice) -> Result<Found, Failure> {
    let store = &project.store;
    let (path, entry) = match choice {
        Choice::File(path) => (path.clone(), import(project, path)?),
        Choice::Latest | Choice::Best => {
            let artifact = newest(project, train)?;
            let tree = artifact.tree();
            let last = (*choice == Choice::Latest)
                .then(|| tree.get(LAST))
                .flatten();
            let entry = last.or_else(|| tree.get(BEST)).copied();
            let entry = entry.with_context(|| format!("stage `{train}` left no model"))?;
            match store.checked_path(&entry) {
                // With its record withdrawn another one is the newest.
                Err(error) if store.forget_lost(&error).unwrap_or(false) => {
                    complain_softly(&format!(
                        "a model of `{train}` is damaged or missing in the cache: object {}",
                        entry.digest
                    ));
                    return find(project, train, choice);
                }
                path => (path?, entry),
            }
        }
    };
    let header = crate::model::read_header(&path)
        .with_context(|| format!("`{}` cannot be used as a model", text::of_name(&path)))?;
    Ok(Found {
        artifact: Artifact::new(&Tree([(BEST.to_owned(), entry)].into())),
        facts: header.facts,
    })
}

/// What the stage published last: its finished artifact or a state on the way.
fn newest(project: &Project, train: &str) -> Result<Artifact, Failure> {
    let store = &project.store;
    let interim = store.interims(&project.name, train, 1)?.pop();
    let finished = store.last_done(&project.name, train, stage_core::Part::Whole, "")?;
    let latest = store
        .latest(&project.name, train, stage_core::Part::Whole)?
        .pop();
    match (interim, finished) {
        (Some(interim), Some((key, done))) => {
            // Runs are in order, also where a clock was wrong.
            let at = latest.filter(|l| l.key == key).map(|l| (l.run, l.at));
            Ok(if Some((interim.origin.run, interim.at)) > at {
                interim.artifact
            } else {
                done
            })
        }
        (Some(interim), None) => Ok(interim.artifact),
        (None, Some((_, done))) => Ok(done),
        (None, None) => Err(Failure::Usage(
            format!("stage `{train}` has left no model yet"),
            Some(format!(
                "`pipeline run {train}` makes one; `--model FILE` takes one from elsewhere"
            )),
        )),
    }
}

/// Copies a model file into the store.
fn import(project: &Project, path: &Path) -> Result<Entry, Failure> {
    let unusable = || format!("`{}` cannot be used as a model", text::of_name(path));
    // Also keeps a pipe or a device from being read for ever.
    crate::model::read_header(path).with_context(unusable)?;
    let store = &project.store;
    let dir = store.tmp_dir()?;
    let copy = dir.path().join("model");
    project.fs.copy(path, &copy).with_context(|| {
        format!(
            "cannot copy the model `{}` into the cache",
            text::of_name(path)
        )
    })?;
    let options = HashOptions {
        paranoid: true,
        cancel: &Cancel::default(),
        on_bytes: &|_| {},
    };
    let hashed = hash_file(&*project.fs, &copy, &options)?;
    store.import_file(&copy, hashed.digest, hashed.sig.size)?;
    Ok(Entry {
        digest: hashed.digest,
        size: hashed.sig.size,
        self_checked: false,
    })
}

/// A graph of the model's own road, ending in stage `predict` with the parameters of `params`.
///
/// What the model says is not trusted: its stages are of known kinds with known parameters in
/// their ranges, and a file parameter is the digest of a file that the cache holds, never a path.
/// The user may name another file with `settings`.
pub(crate) fn config(
    facts: &Value,
    store: &Store,
    registry: &Registry,
    params: &Value,
    settings: &[Setting],
) -> Result<Config, Failure> {
    let roots = facts["road"].as_array().filter(|roads| !roads.is_empty());
    let roots = roots.ok_or_else(|| {
        anyhow!(
            "the model does not say how its training data was prepared: it is of another program"
        )
    })?;
    let mut road = Road {
        stages: Map::new(),
        names: Vec::new(),
        store,
        registry,
        settings,
    };
    let mut heads = Vec::new();
    let mut sounds = Vec::new();
    for root in roots {
        for input in root["inputs"].as_array().into_iter().flatten() {
            if input.is_object() {
                let sound = road.stage(input)?;
                // Two stages may work on the same sound.
                if !sounds.contains(&sound) {
                    sounds.push(sound);
                }
            }
        }
        heads.push(road.stage(root)?);
    }
    let of_prompt = |names: &[String]| -> Vec<String> {
        names.iter().map(|name| format!("{name}@prompt")).collect()
    };
    let mut stages = road.stages;
    stages.insert("train".to_owned(), json!({"inputs": ["dataset"]}));
    stages.insert("dataset".to_owned(), json!({"inputs": of_prompt(&heads)}));
    let mut predict = params.as_object().cloned().unwrap_or_default();
    let inputs =
        json!({"model": "train", "prompt": of_prompt(&heads), "sound": of_prompt(&sounds)});
    predict.insert("inputs".to_owned(), inputs);
    stages.insert("predict".to_owned(), Value::Object(predict));
    let mut document = json!({"sources": {"prompt": {}}, "stages": stages});
    leave_out_nulls(&mut document);
    let text = toml::to_string(&document).context("the model's road cannot be written as TOML")?;
    Ok(Config::parse(
        Path::new("the model's road"),
        text,
        registry,
        settings,
    )?)
}

/// Parameters that are not set: TOML has no word for them.
fn leave_out_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(leave_out_nulls);
    }
}

struct Road<'a> {
    /// The stages so far, as in pipeline.toml.
    stages: Map<String, Value>,
    /// The same as the model describes them, with their names.
    names: Vec<(Value, String)>,
    store: &'a Store,
    registry: &'a Registry,
    settings: &'a [Setting],
}

impl Road<'_> {
    /// Adds a stage after those that it reads, and gives its name.
    fn stage(&mut self, road: &Value) -> Result<String, Failure> {
        if let Some((_, name)) = self.names.iter().find(|(known, _)| known == road) {
            return Ok(name.clone());
        }
        let mut inputs = Vec::new();
        for input in road["inputs"].as_array().into_iter().flatten() {
            inputs.push(match input.as_str() {
                Some(_) => "prompt".to_owned(),
                None => self.stage(input)?,
            });
        }
        if self.names.len() >= MAX_STAGES {
            return Err(refused(format!("it has more than {MAX_STAGES} stages")));
        }
        let kind = road["kind"]
            .as_str()
            .ok_or_else(|| refused("one of its stages has no kind"))?;
        let entry = self
            .registry
            .get(kind)
            .ok_or_else(|| refused(format!("there is no stage kind `{}`", shown(kind))))?;
        let same = self.names.iter().filter(|(k, _)| k["kind"] == road["kind"]);
        let name = match same.count() {
            0 => entry.kind.to_owned(),
            n => format!("{}-{}", entry.kind, n + 1),
        };
        let mut stage = self.params(&name, entry, &road["params"])?;
        stage.insert("kind".to_owned(), entry.kind.into());
        stage.insert("inputs".to_owned(), inputs.into());
        self.stages.insert(name.clone(), Value::Object(stage));
        self.names.push((road.clone(), name.clone()));
        Ok(name)
    }

    /// The parameters of a stage, checked, with the files that they name in the place of digests.
    fn params(
        &self,
        name: &str,
        entry: &KindEntry,
        given: &Value,
    ) -> Result<Map<String, Value>, Failure> {
        let of_stage = |reason: String| refused(format!("stage `{name}`: {reason}"));
        let defaults = entry.defaults();
        let mut params = Map::new();
        // File parameters whose content the cache holds, or for which the user names a file.
        let mut files = Vec::new();
        for (key, value) in given.as_object().into_iter().flatten() {
            if defaults.get(key).is_none() {
                return Err(of_stage(format!("there is no parameter `{}`", shown(key))));
            }
            let Some(file) = value.get("file") else {
                params.insert(key.clone(), value.clone());
                continue;
            };
            files.push(key.as_str());
            if !self.is_set(name, key) {
                params.insert(key.clone(), self.file(name, key, file)?);
            }
        }
        let (stage, _) = entry
            .parse(&Value::Object(params.clone()))
            .map_err(|error| of_stage(shown(&error.to_string())))?;
        stage
            .validate()
            .map_err(|error| of_stage(shown(&error.message)))?;
        if !stage.parts().contains(&Part::Item) || stage.parts().contains(&Part::Whole) {
            return Err(of_stage("it does not prepare single files".to_owned()));
        }
        for (key, path) in stage.files() {
            if !files.contains(&key) {
                return Err(of_stage(format!(
                    "its parameter `{key}` names a file of this machine, `{}`; a model names files \
                     by their content alone",
                    shown(&path.path().to_string_lossy())
                )));
            }
        }
        Ok(params)
    }

    /// Whether the user gives the parameter another value.
    fn is_set(&self, stage: &str, key: &str) -> bool {
        self.settings.iter().any(|setting| {
            let left = setting.text.split('=').next().unwrap_or_default();
            left.split_once('.')
                .is_some_and(|(s, k)| (s.trim(), k.trim()) == (stage, key))
        })
    }

    /// The place of a file parameter's content in the store.
    fn file(&self, stage: &str, key: &str, file: &Value) -> Result<Value, Failure> {
        let missing = || {
            Failure::Other(anyhow!(
                "the model's training data was prepared with a file (parameter `{key}` of stage \
                 `{stage}`, content {}), which this cache does not hold; name a copy of it with \
                 `--set {stage}.{key}=FILE`",
                shown(&file.to_string())
            ))
        };
        let digest: Digest = file
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(missing)?;
        let path = self.store.object_path(digest);
        let size = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => return Err(missing()),
        };
        // What a model asks for by digest must have this digest.
        let path = self.store.checked_path(&Entry {
            digest,
            size,
            self_checked: false,
        })?;
        Ok(Value::from(text::of_name(path)))
    }
}

/// That a model's road cannot be gone.
fn refused(reason: impl std::fmt::Display) -> Failure {
    Failure::Other(anyhow!(
        "the model does not say in a usable way how its training data was prepared: {reason}"
    ))
}

/// What a model says, as it may be shown: without control characters, and not long.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}
