//! `--model latest|best|PATH`: an existing model, and the preprocessing of its training data.
//!
//! A model file describes the stages upstream of its training with their resolved parameters. The
//! prompt is prepared by these, even if pipeline.toml has changed since or there is none.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, anyhow};
use engine::store::{Artifact, HashOptions, Store, hash_file};
use engine::{Config, Project, Setting, StageSpec};
use serde_json::{Map, Value};
use stage_core::{Cancel, Digest, Entry, KindEntry, Part, PortTakes, Registry, Tree, text};

use crate::outcome::{Failure, print_warning};
use crate::stages::{BEST_MODEL, Continuation, LAST_MODEL, MODEL_PORT, PROMPT};

/// Most stages of a model's preprocessing. The default pipeline has three.
const MAX_STAGES: usize = 64;
/// Most characters of what a model says that a message repeats.
const MAX_SHOWN: usize = 200;

/// Which model to use.
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
    /// The facts in the file's metadata.
    pub(crate) facts: Value,
}

impl Found {
    /// After how many steps of training it was saved.
    pub(crate) fn step(&self) -> Option<u64> {
        self.facts["step"].as_u64()
    }
}

/// Finds the model. `train` is the name of the stage that trains it, where there is one.
pub(crate) fn find(
    project: &Project,
    train: Option<&str>,
    choice: &Choice,
) -> Result<Found, Failure> {
    let store = &project.store;
    let (path, entry) = match choice {
        Choice::File(path) => (path.clone(), import(project, path)?),
        Choice::Latest | Choice::Best => {
            let train = train.context("no stage of pipeline.toml trains this model")?;
            let artifact = newest(project, train)?;
            let tree = artifact.tree();
            let last = (*choice == Choice::Latest)
                .then(|| tree.get(LAST_MODEL))
                .flatten();
            let entry = last.or_else(|| tree.get(BEST_MODEL)).copied();
            let entry = entry.with_context(|| format!("stage `{train}` left no model"))?;
            match store.checked_path(&entry) {
                // With its record withdrawn another one is the newest.
                Err(error) if store.forget_lost(&error).unwrap_or(false) => {
                    print_warning(&format!(
                        "a model of `{train}` is damaged or missing in the cache: object {}",
                        entry.digest
                    ));
                    return find(project, Some(train), choice);
                }
                path => (path?, entry),
            }
        }
    };
    let header = crate::model::read_header(&path)
        .with_context(|| format!("`{}` cannot be used as a model", text::of_name(&path)))?;
    Ok(Found {
        artifact: Artifact::new(&Tree([(BEST_MODEL.to_owned(), entry)].into())),
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

/// The stage that a model is for.
pub(crate) struct Target<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its kind.
    pub(crate) kind: &'a str,
    /// The ports that it takes the prompt from.
    pub(crate) ports: Continuation,
    /// Its parameters in pipeline.toml.
    pub(crate) params: Map<String, Value>,
}

/// The graph of the preprocessing that the model file describes, ending in `target`, whose port for
/// the model is left to the request.
///
/// What the model file says is not trusted: its stages are of known kinds with known parameters in
/// their ranges, and a file parameter is the digest of a file that the cache holds, never a path.
/// The user may name another file with `settings`.
pub(crate) fn config(
    facts: &Value,
    store: &Store,
    registry: &Registry,
    target: Target<'_>,
    settings: &[Setting],
) -> Result<Config, Failure> {
    let ends = preprocessing(facts).ok_or_else(|| {
        anyhow!(
            "the model does not say how its training data was prepared: it is of another program"
        )
    })?;
    let mut chain = Preprocessing {
        stages: Vec::new(),
        described: Vec::new(),
        target: target.name,
        store,
        registry,
        settings,
    };
    let mut prepared = Vec::new();
    let mut before = Vec::new();
    for end in ends {
        for input in end["inputs"].as_array().into_iter().flatten() {
            if input.is_object() {
                let name = chain.stage(input)?;
                // Two stages may read the same one.
                if !before.contains(&name) {
                    before.push(name);
                }
            }
        }
        prepared.push(chain.stage(end)?);
    }
    let of_prompt = |names: &[String]| -> Vec<String> {
        let names = names.iter();
        names.map(|name| format!("{name}@{PROMPT}")).collect()
    };
    let ports = &target.ports;
    let mut stages = chain.stages;
    stages.push(StageSpec {
        name: target.name.to_owned(),
        kind: target.kind.to_owned(),
        params: target.params,
        inputs: [
            (ports.prepared.to_owned(), of_prompt(&prepared)),
            (ports.before.to_owned(), of_prompt(&before)),
        ]
        .into(),
        provided: [MODEL_PORT.to_owned()].into(),
    });
    let name = "the model's preprocessing";
    Ok(Config::build(name, &[PROMPT], stages, registry, settings)?)
}

/// The last stages of the preprocessing that a model file describes, if it does. The key was `road`
/// in format 1.
fn preprocessing(facts: &Value) -> Option<&Vec<Value>> {
    let ends = facts.get("preprocessing").or_else(|| facts.get("road"));
    ends?.as_array().filter(|ends| !ends.is_empty())
}

/// Builds the stages of a model's preprocessing.
struct Preprocessing<'a> {
    /// The stages so far; each stands after those that it reads.
    stages: Vec<StageSpec>,
    /// The same as the model file describes them, with their names.
    described: Vec<(Value, String)>,
    /// Name of the stage that uses the model.
    target: &'a str,
    store: &'a Store,
    registry: &'a Registry,
    settings: &'a [Setting],
}

impl Preprocessing<'_> {
    /// Adds a stage after those that it reads, and returns its name.
    fn stage(&mut self, described: &Value) -> Result<String, Failure> {
        let mut known = self.described.iter();
        if let Some((_, name)) = known.find(|(known, _)| known == described) {
            return Ok(name.clone());
        }
        let mut inputs = Vec::new();
        for input in described["inputs"].as_array().into_iter().flatten() {
            inputs.push(match input.as_str() {
                Some(_) => PROMPT.to_owned(),
                None => self.stage(input)?,
            });
        }
        if self.described.len() >= MAX_STAGES {
            return Err(refused(format!("it has more than {MAX_STAGES} stages")));
        }
        let kind = described["kind"]
            .as_str()
            .ok_or_else(|| refused("one of its stages has no kind"))?;
        let entry = self
            .registry
            .get(kind)
            .ok_or_else(|| refused(format!("there is no stage kind `{}`", shown(kind))))?;
        let name = self.free_name(entry.kind);
        let (params, port) = self.params(&name, entry, &described["params"])?;
        self.stages.push(StageSpec {
            name: name.clone(),
            kind: entry.kind.to_owned(),
            params,
            inputs: [(port.to_owned(), inputs)].into(),
            ..StageSpec::default()
        });
        self.described.push((described.clone(), name.clone()));
        Ok(name)
    }

    /// A name for a stage of `kind` that no other has.
    fn free_name(&self, kind: &str) -> String {
        let taken = |name: &String| {
            name == self.target || name == PROMPT || self.stages.iter().any(|s| s.name == *name)
        };
        let numbered = (2_u32..).map(|n| format!("{kind}-{n}"));
        let mut names = std::iter::once(kind.to_owned()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    /// The parameters of a stage, checked, with paths in the place of the files' digests, and the
    /// name of the port for its items.
    fn params(
        &self,
        name: &str,
        entry: &KindEntry,
        given: &Value,
    ) -> Result<(Map<String, Value>, &'static str), Failure> {
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
        let single = stage.parts().contains(&Part::Item) && !stage.parts().contains(&Part::Whole);
        let mut ports = stage.ports().iter();
        let port = ports.find(|port| single && port.takes == PortTakes::Items);
        let port = port.ok_or_else(|| of_stage("it does not prepare single files".to_owned()))?;
        for (key, path) in stage.files() {
            if !files.contains(&key) {
                return Err(of_stage(format!(
                    "its parameter `{key}` names a file of this machine, `{}`; a model names files \
                     by their content alone",
                    shown(&path.path().to_string_lossy())
                )));
            }
        }
        Ok((params, port.name))
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

/// The error of a model file whose preprocessing is invalid.
fn refused(reason: impl std::fmt::Display) -> Failure {
    Failure::Other(anyhow!(
        "the model does not say in a usable way how its training data was prepared: {reason}"
    ))
}

/// Text of a model file as it may be shown: without control characters, and not long.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}
