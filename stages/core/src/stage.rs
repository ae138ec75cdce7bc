//! What a stage declares and does.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::{Deserialize as DeserializeDerive, Serialize as SerializeDerive};
use serde_json::Value;

use crate::{Context, FileParam, Inputs, ItemInput, Output, ParamError, StageError};

/// The parts that a stage's work can have. Each is an action of its own, with its own key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDerive, DeserializeDerive,
)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Each item by itself, in parallel: [`Stage::map`].
    Item,
    /// The whole set at once: [`Stage::reduce`].
    Whole,
    /// What is made of the whole part's artifact: [`Stage::finish`]. A part of its own so that
    /// parameters of the presentation do not repeat the work.
    Finish,
}

impl Part {
    /// The name in events and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Whole => "whole",
            Self::Finish => "finish",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortTakes {
    /// The items of a source, or a map stage's artifacts of them; several stages may be joined.
    Items,
    /// The one artifact of a stage's whole part (or its finish part, when it has one).
    Artifact,
}

/// What a source gives, see [`Port::of`].
pub const FILES: &str = "files";

/// A named input.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// Its name in pipeline.toml's `inputs`.
    pub name: &'static str,
    /// What it takes.
    pub takes: PortTakes,
    /// The kinds of artifact that it takes, as [`Stage::gives`] names them; [`FILES`] for the files
    /// of a source.
    pub of: &'static [&'static str],
    /// Whether the stage can do without.
    pub required: bool,
    /// One line for the help.
    pub about: &'static str,
}

/// Which process does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The engine's own threads: for bytes that we made.
    Engine,
    /// A `pipeline worker` process with limits: for bytes that others made.
    Worker,
    /// Another executable of ours, found beside `pipeline`.
    Program(&'static str),
}

/// What work needs of the machine while it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether it computes on the device ([`Context::device`]): one action does at a time.
    pub device: bool,
    /// Most threads that it makes use of; `None` for all that the run has.
    pub threads: Option<usize>,
}

/// A guess of what work will cost, for the forecast when there is no history.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Seconds on one thread.
    pub seconds: f64,
    /// Bytes of the artifact.
    pub bytes: f64,
}

/// A stage: the value holds its parameters.
///
/// A kind with an item part has exactly one [`PortTakes::Items`] port that feeds it; its whole
/// part, if it has one, gets the mapped artifacts under that port's name. The artifacts of its
/// [`PortTakes::Artifact`] ports are given to the item part with each item, and are part of each
/// item's key: a codec that was fitted on the corpus, for instance.
pub trait Stage: fmt::Debug + Send + Sync {
    /// Which parts there are, in order.
    fn parts(&self) -> &'static [Part];

    /// The inputs.
    fn ports(&self) -> &'static [Port];

    /// What kind of artifact `part` makes, in one or two words: `sound`, `model`. A port that does
    /// not take it ([`Port::of`]) cannot be connected to this stage.
    fn gives(&self, part: Part) -> &'static str;

    /// What `part` needs of the machine. It never changes the result.
    fn needs(&self, part: Part) -> Needs {
        Needs {
            device: false,
            threads: (part == Part::Item).then_some(1),
        }
    }

    /// Which process does `part`.
    fn host(&self, part: Part) -> Host {
        let _ = part;
        Host::Engine
    }

    /// Whether source files with this extension (lower-case, without the dot) are for this stage.
    /// Asked only of stages that are connected to a source.
    fn takes(&self, extension: &str) -> bool {
        let _ = extension;
        false
    }

    /// Checks what types cannot: ranges, and parameters against one another.
    ///
    /// # Errors
    /// The first parameter that is wrong.
    fn validate(&self) -> Result<(), ParamError> {
        Ok(())
    }

    /// Parameters that `part` does not read: they stay out of its key.
    fn unread_by(&self, part: Part) -> &'static [&'static str] {
        let _ = part;
        &[]
    }

    /// Parameters that say how long to go on (epochs, steps, patience). They are part of the
    /// action's key but not of its scratch folder's, so that raising one goes on where it was.
    fn budget_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// The file parameters that are set, by name.
    fn files(&self) -> Vec<(&'static str, &FileParam)> {
        Vec::new()
    }

    /// What the whole part may know of the items' names: one label each, or none. `paths` are
    /// relative to the source, with `/`; `files` are the file parameters' contents. A label is
    /// part of the key, so it should say as little as possible.
    ///
    /// # Errors
    /// A file parameter cannot be read or understood.
    fn labels(
        &self,
        paths: &[&str],
        files: &BTreeMap<String, PathBuf>,
    ) -> Result<Vec<Option<String>>, StageError> {
        let _ = files;
        Ok(vec![None; paths.len()])
    }

    /// Whether `part` is given the stages that prepare its items as [`Context::preprocessing`].
    /// They are then part of its key.
    fn wants_preprocessing(&self, part: Part) -> bool {
        let _ = part;
        false
    }

    /// Whether the whole part starts from this stage's last finished artifact
    /// ([`Context::previous`]), whose digest is then part of its key.
    fn wants_previous(&self) -> bool {
        false
    }

    /// How much a source file of `size` bytes holds, in the unit in which [`Stage::estimate`]
    /// counts (for sound: seconds). Asked of stages that take source files.
    fn extent(&self, extension: &str, size: u64) -> f64 {
        let _ = extension;
        size as f64
    }

    /// A guess of what `part` costs for so much of the source.
    fn estimate(&self, part: Part, extent: f64) -> Estimate {
        let _ = (part, extent);
        Estimate::default()
    }

    /// The item part. `inputs` holds the artifacts of the stage's [`PortTakes::Artifact`] ports.
    ///
    /// # Errors
    /// See [`StageError`]: only [`StageError::Content`] is remembered.
    fn map(
        &self,
        item: &ItemInput,
        inputs: &Inputs,
        out: &mut Output,
        cx: &Context,
    ) -> Result<(), StageError> {
        let _ = (item, inputs, out, cx);
        Err(elsewhere(Part::Item))
    }

    /// The whole part.
    ///
    /// # Errors
    /// See [`StageError`].
    fn reduce(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<(), StageError> {
        let _ = (inputs, out, cx);
        Err(elsewhere(Part::Whole))
    }

    /// The finish part. `inputs` are those of the whole part and its artifact as port `whole`.
    ///
    /// # Errors
    /// See [`StageError`].
    fn finish(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<(), StageError> {
        let _ = (inputs, out, cx);
        Err(elsewhere(Part::Finish))
    }
}

fn elsewhere(part: Part) -> StageError {
    StageError::Environment(format!("this program does not do the {part} part"))
}

/// How the results of a stage are delivered into the project's folder of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Not at all: they are inputs of other stages.
    Internal,
    /// Under the artifact's own file names, in a folder named after the stage. Also when the stage
    /// ran only because another stage needed it.
    Folder,
    /// Under names made of the prompt and the seed, when the stage is named on the command line.
    /// The artifact has an `about.json` beside each result.
    Prompted,
}

/// A kind of stage: a parameter struct with a name and a version.
///
/// The struct derives `Serialize` and `Deserialize` with `#[serde(default, deny_unknown_fields)]`,
/// so that defaults are filled in before hashing and every parameter is known by name.
pub trait Kind: Stage + Serialize + DeserializeOwned + Default + 'static {
    /// The name in pipeline.toml.
    const KIND: &'static str;
    /// Bumped whenever the same input gives other bytes.
    const VERSION: u32;
    /// One line for the help.
    const ABOUT: &'static str;
    /// The parameter whose value decides which others there are, if there is one.
    const SELECTOR: Option<&'static str> = None;
    /// How the results are delivered.
    const DELIVERY: Delivery = Delivery::Internal;
}

/// A stage with its parameters resolved: defaults filled in, numbers in one form.
pub type Parsed = Result<(Box<dyn Stage>, Value), serde_json::Error>;

/// How a stage of one kind is read.
#[derive(Clone, Copy)]
pub struct KindEntry {
    /// [`Kind::KIND`].
    pub kind: &'static str,
    /// [`Kind::VERSION`].
    pub version: u32,
    /// [`Kind::ABOUT`].
    pub about: &'static str,
    /// [`Kind::SELECTOR`].
    pub selector: Option<&'static str>,
    /// [`Kind::DELIVERY`].
    pub delivery: Delivery,
    parse: fn(&Value) -> Parsed,
}

impl KindEntry {
    /// The entry of `K`.
    pub fn of<K: Kind>() -> Self {
        Self {
            kind: K::KIND,
            version: K::VERSION,
            about: K::ABOUT,
            selector: K::SELECTOR,
            delivery: K::DELIVERY,
            parse: |value| {
                let stage = K::deserialize(value)?;
                let resolved = serde_json::to_value(&stage)?;
                Ok((Box::new(stage), resolved))
            },
        }
    }

    /// Reads a stage from a JSON object of parameters.
    ///
    /// # Errors
    /// Unknown names, wrong types.
    pub fn parse(&self, params: &Value) -> Parsed {
        (self.parse)(params)
    }

    /// The defaults of all parameters, by name.
    pub fn defaults(&self) -> Value {
        let empty = Value::Object(serde_json::Map::new());
        self.parse(&empty).map_or(empty, |(_, resolved)| resolved)
    }
}

/// The kinds that a program knows.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, KindEntry>);

impl Registry {
    /// A registry of these kinds.
    pub fn new(kinds: impl IntoIterator<Item = KindEntry>) -> Self {
        Self(kinds.into_iter().map(|entry| (entry.kind, entry)).collect())
    }

    /// The kind named `kind`.
    pub fn get(&self, kind: &str) -> Option<&KindEntry> {
        self.0.get(kind)
    }

    /// All kinds by name.
    pub fn iter(&self) -> impl Iterator<Item = &KindEntry> {
        self.0.values()
    }
}
