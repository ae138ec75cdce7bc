//! `pipeline.toml`: sources and stages, checked before any work.
//!
//! ```toml
//! [sources.corpus]
//! path = "music"
//!
//! [stages.decode]
//! inputs = ["corpus"]
//! rate = 22050
//! ```
//!
//! A stage's `kind` defaults to its name. `inputs` names stages or sources; `STAGE@SOURCE` takes
//! only the items that came from that source. Everything else in a stage's table is a parameter of
//! its kind. Order, comments, spelling of numbers and defaults written out leave no trace in
//! what comes out of here.

mod diagnostic;
mod document;
mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use stage_core::{Part, Port, PortTakes, Registry, Stage};

pub use diagnostic::{Diagnostic, Origin, nearest};
pub use graph::{Graph, InputRef, NodeId, Preparing};

/// Largest pipeline.toml that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// What becomes of a run in which an item of a source failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnBad {
    /// The other items are done, stages that need the whole set are not, and the run fails.
    #[default]
    Fail,
    /// The set goes on without the item, which is reported; the run succeeds.
    Warn,
}

/// A set of files.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Folder or file; `None` until bound on the command line.
    pub path: Option<PathBuf>,
    /// Globs of the relative paths that are taken; empty for all.
    pub include: Vec<String>,
    /// Globs of the relative paths that are not.
    pub exclude: Vec<String>,
    /// What a bad item does.
    pub on_bad: OnBad,
}

impl Source {
    /// A source that is bound on the command line.
    fn unbound(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: None,
            include: Vec::new(),
            exclude: Vec::new(),
            on_bad: OnBad::default(),
        }
    }
}

/// A stage with its parameters and what they are connected to.
#[derive(Debug)]
pub struct StageDef {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The kind's version.
    pub version: u32,
    /// The parameters, as the struct.
    pub stage: Box<dyn Stage>,
    /// The parameters, resolved, as JSON.
    pub params: Value,
    /// Port → what is connected to it. It is a set: in the order of the graph, however written.
    pub inputs: BTreeMap<&'static str, Vec<InputRef>>,
}

impl StageDef {
    /// Whether it has this part.
    pub fn has(&self, part: Part) -> bool {
        self.stage.parts().contains(&part)
    }

    /// Name of the port that feeds the item part.
    pub fn item_port(&self) -> Option<&'static str> {
        item_port(&*self.stage)
    }

    /// The ports whose artifacts the item part is given beside each item.
    pub fn ports_beside_items(&self) -> impl Iterator<Item = &'static Port> {
        let maps = self.has(Part::Item);
        let ports = self.stage.ports().iter();
        ports.filter(move |port| maps && port.takes == PortTakes::Artifact)
    }
}

/// Name of the port that feeds a stage's item part.
fn item_port(stage: &dyn Stage) -> Option<&'static str> {
    if !stage.parts().contains(&Part::Item) {
        return None;
    }
    let mut ports = stage.ports().iter();
    let port = ports.find(|port| port.takes == PortTakes::Items)?;
    Some(port.name)
}

/// A parsed and checked `pipeline.toml`.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Folder that relative paths start from.
    pub root: PathBuf,
    /// Sources and stages, connected.
    pub graph: Graph,
}

/// An override from the command line, `stage.key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// How the user wrote it, e.g. `--set` or `--seed`, for messages.
    pub flag: String,
    /// The whole text.
    pub text: String,
}

/// A stage of a graph that a program builds ([`Config::build`]): what a table of pipeline.toml
/// says, as a value.
#[derive(Debug, Clone, Default)]
pub struct StageSpec {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its parameters; those left out have their defaults.
    pub params: Map<String, Value>,
    /// Port → names of stages and sources, as in pipeline.toml.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// Ports that need no input, because the request brings the artifact
    /// ([`crate::Request::artifacts`]).
    pub provided: BTreeSet<String>,
}

impl Config {
    /// Reads and checks the file at `file`.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or says something that is not so; see [`Diagnostic`].
    pub fn load(
        file: &Path,
        registry: &Registry,
        settings: &[Setting],
    ) -> Result<Self, Diagnostic> {
        let bytes = crate::fs::read(&crate::fs::RealFs, file, MAX_FILE);
        let text = bytes.and_then(|bytes| {
            let no_text = |_| std::io::Error::other("it is no UTF-8 text");
            String::from_utf8(bytes).map_err(no_text)
        });
        let text = text.map_err(|error| {
            let diagnostic = Diagnostic::new(format!("cannot read `{}`: {error}", file.display()));
            if error.kind() == std::io::ErrorKind::NotFound {
                diagnostic
                    .hint("`pipeline init --corpus DIR` writes one here; `-C DIR` goes elsewhere")
            } else {
                diagnostic
            }
        })?;
        Self::parse(file, text, registry, settings)
    }

    /// Checks `text` as the content of `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        file: &Path,
        text: String,
        registry: &Registry,
        settings: &[Setting],
    ) -> Result<Self, Diagnostic> {
        let name = file.file_name().map_or_else(
            || file.display().to_string(),
            |n| n.to_string_lossy().into_owned(),
        );
        let origin = Arc::new(Origin { name, text });
        let document = document::Document::parse(&origin, registry, settings)?;
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
        Ok(Self {
            file: file.to_owned(),
            root: parent.unwrap_or(Path::new(".")).to_owned(),
            graph: Graph::connect(document)?,
        })
    }

    /// Builds a graph from values, with the checks of a pipeline.toml. The sources are bound by the
    /// request; relative paths start from the present folder. `name` stands before each error.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn build(
        name: &str,
        sources: &[&str],
        stages: Vec<StageSpec>,
        registry: &Registry,
        settings: &[Setting],
    ) -> Result<Self, Diagnostic> {
        let document = document::Document::build(name, sources, stages, registry, settings)?;
        Ok(Self {
            file: PathBuf::from(name),
            root: PathBuf::from("."),
            graph: Graph::connect(document)?,
        })
    }
}
