//! `--model latest|best|PATH`: a model that is at hand, and the road of its training data.
//!
//! A model file carries the stages upstream of its training with their resolved parameters, so the
//! prompt is prepared as the data was, whatever today's pipeline.toml says, or where there is none.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, anyhow};
use engine::store::{Artifact, Store};
use engine::{Config, Project};
use serde_json::Value;
use stage_core::{Digest, Entry, Registry, Tree, text};

use super::Failure;

/// The model in a training's artifact: the best by validation, and the last.
const BEST: &str = stage_train::MODEL;
const LAST: &str = stage_train::LAST;

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
        Choice::File(path) => (path.clone(), import(store, path)?),
        Choice::Latest | Choice::Best => {
            let artifact = newest(project, train)?;
            let tree = artifact.tree();
            let last = (*choice == Choice::Latest)
                .then(|| tree.get(LAST))
                .flatten();
            let entry = last.or_else(|| tree.get(BEST)).copied();
            let entry = entry.with_context(|| format!("stage `{train}` left no model"))?;
            (store.checked_path(&entry)?, entry)
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
            let at = latest.filter(|l| l.key == key).map_or(0, |l| l.at);
            Ok(if interim.at > at {
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
fn import(store: &Store, path: &Path) -> Result<Entry, Failure> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the model `{}`", text::of_name(path)))?;
    Ok(store.import_bytes(&bytes)?)
}

/// A graph of the model's own road, ending in stage `predict` with the parameters of `params`.
pub(crate) fn config(
    facts: &Value,
    store: &Store,
    registry: &Registry,
    params: &Value,
    settings: &[engine::Setting],
) -> Result<Config, Failure> {
    let roots = facts["road"].as_array().filter(|roads| !roads.is_empty());
    let roots = roots.ok_or_else(|| {
        anyhow!(
            "the model does not say how its training data was prepared: it is of another program"
        )
    })?;
    let mut road = Road {
        text: "[sources.prompt]\n".to_owned(),
        names: Vec::new(),
        store,
    };
    let mut heads = Vec::new();
    let mut sounds = Vec::new();
    for root in roots {
        for input in root["inputs"].as_array().into_iter().flatten() {
            if input.is_object() {
                sounds.push(road.stage(input)?);
            }
        }
        heads.push(road.stage(root)?);
    }
    let list = |names: &[String]| {
        let quoted: Vec<_> = names
            .iter()
            .map(|name| format!("\"{name}@prompt\""))
            .collect();
        format!("[{}]", quoted.join(", "))
    };
    let _ = write!(
        road.text,
        "\n[stages.train]\ninputs = [\"dataset\"]\n[stages.dataset]\ninputs = {}\n[stages.predict]\n\
         inputs = {{ model = \"train\", prompt = {}, sound = {} }}\n",
        list(&heads),
        list(&heads),
        list(&sounds),
    );
    road.params(params)?;
    Ok(Config::parse(
        Path::new("the model's road"),
        road.text,
        registry,
        settings,
    )?)
}

struct Road<'a> {
    text: String,
    /// The stages written so far, with their names.
    names: Vec<(Value, String)>,
    store: &'a Store,
}

impl Road<'_> {
    /// Writes a stage after those that it reads, and gives its name.
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
        let kind = road["kind"]
            .as_str()
            .context("a stage of the model's road has no kind")?;
        let same = self
            .names
            .iter()
            .filter(|(known, _)| known["kind"] == road["kind"])
            .count();
        let name = if same == 0 {
            kind.to_owned()
        } else {
            format!("{kind}-{}", same + 1)
        };
        let _ = write!(
            self.text,
            "\n[stages.{name}]\nkind = {}\ninputs = {}\n",
            Value::from(kind),
            Value::from(inputs)
        );
        self.params(&road["params"])?;
        self.names.push((road.clone(), name.clone()));
        Ok(name)
    }

    fn params(&mut self, params: &Value) -> Result<(), Failure> {
        for (key, value) in params.as_object().into_iter().flatten() {
            let value = match value.get("file") {
                Some(file) => self.file(key, file)?,
                None => value.clone(),
            };
            if let Some(text) = super::init::toml_value(&value) {
                let _ = writeln!(self.text, "{key} = {text}");
            }
        }
        Ok(())
    }

    /// The place of a file parameter's content in the store.
    fn file(&self, key: &str, file: &Value) -> Result<Value, Failure> {
        let digest: Option<Digest> = file.as_str().and_then(|text| text.parse().ok());
        let path = digest.map(|digest| self.store.object_path(digest));
        match path.filter(|path| path.is_file()) {
            Some(path) => Ok(Value::from(text::of_name(path))),
            None => Err(missing_file(key, file)),
        }
    }
}

fn missing_file(key: &str, file: &Value) -> Failure {
    Failure::Other(anyhow!(
        "the model's road reads a file by its parameter `{key}`, content {file}, which this cache does not hold"
    ))
}
