//! Sources and stages, connected: names resolved, ports matched, no cycles.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stage_core::{Part, Port, PortTakes};

use super::document::{Document, Placed, RawInputs, RawStage};
use super::{Diagnostic, Source, StageDef};

/// Something that a port can be connected to, by index into [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// A source.
    Source(usize),
    /// A stage.
    Stage(usize),
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputRef {
    /// What it comes from.
    pub node: NodeId,
    /// Only the items of this source (`STAGE@SOURCE`).
    pub only: Option<usize>,
}

/// The pipeline.
#[derive(Debug)]
pub struct Graph {
    /// Sources, in the order of their names.
    pub sources: Vec<Source>,
    /// Stages; every stage stands after those that it depends on.
    pub stages: Vec<StageDef>,
}

impl Graph {
    pub(super) fn connect(document: Document) -> Result<Self, Diagnostic> {
        let mut names = BTreeMap::new();
        for (index, (name, _)) in document.sources.iter().enumerate() {
            names.insert(name.value.clone(), NodeId::Source(index));
        }
        for (index, stage) in document.stages.iter().enumerate() {
            if names
                .insert(stage.name.value.clone(), NodeId::Stage(index))
                .is_some()
            {
                return Err(stage.name.error(format!(
                    "`{}` is both a source and a stage",
                    stage.name.value
                )));
            }
        }
        let mut connected = Vec::with_capacity(document.stages.len());
        for stage in &document.stages {
            connected.push(connect_stage(stage, &document, &names)?);
        }
        let order = sort(&document.stages, &connected)?;
        let position: BTreeMap<usize, usize> = order
            .iter()
            .enumerate()
            .map(|(position, index)| (*index, position))
            .collect();
        let mut stages: Vec<_> = document
            .stages
            .into_iter()
            .zip(connected)
            .map(|(raw, mut inputs)| {
                for input in inputs.values_mut().flatten() {
                    if let NodeId::Stage(index) = &mut input.node {
                        *index = position[index];
                    }
                }
                Some(StageDef {
                    name: raw.name.value,
                    kind: raw.entry.kind,
                    version: raw.entry.version,
                    stage: raw.stage,
                    params: raw.params,
                    inputs,
                })
            })
            .collect();
        Ok(Self {
            sources: document.sources.into_iter().map(|(_, s)| s).collect(),
            stages: order.into_iter().filter_map(|i| stages[i].take()).collect(),
        })
    }

    /// Index of the stage `name`.
    pub fn stage(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == name)
    }

    /// Index of the source `name`.
    pub fn source(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name == name)
    }

    /// The sources whose items a stage's item part maps.
    pub fn sources_of_items(&self, stage: usize) -> BTreeSet<usize> {
        let def = &self.stages[stage];
        let Some(port) = def.item_port() else {
            return BTreeSet::new();
        };
        self.sources_of(def.inputs.get(port).map_or(&[], Vec::as_slice))
    }

    /// The sources whose items flow through these connections.
    pub fn sources_of(&self, inputs: &[InputRef]) -> BTreeSet<usize> {
        let mut sources = BTreeSet::new();
        for input in inputs {
            let reached = match input.node {
                NodeId::Source(index) => BTreeSet::from([index]),
                NodeId::Stage(index) => self.sources_of_items(index),
            };
            sources.extend(
                reached
                    .into_iter()
                    .filter(|s| input.only.is_none_or(|o| o == *s)),
            );
        }
        sources
    }

    /// All sources that a stage cannot do without, directly or not: those of its required ports.
    pub fn needed_sources(&self, stage: usize) -> BTreeSet<usize> {
        let def = &self.stages[stage];
        let mut sources = BTreeSet::new();
        for port in def.stage.ports().iter().filter(|port| port.required) {
            let inputs = def.inputs.get(port.name).map_or(&[][..], Vec::as_slice);
            match port.takes {
                PortTakes::Items => sources.extend(self.sources_of(inputs)),
                PortTakes::Artifact => {
                    for input in inputs {
                        if let NodeId::Stage(index) = input.node {
                            sources.extend(self.needed_sources(index));
                        }
                    }
                }
            }
        }
        sources
    }

    /// The stages that `stage` takes inputs from.
    pub fn upstream(&self, stage: usize) -> BTreeSet<usize> {
        self.stages[stage]
            .inputs
            .values()
            .flatten()
            .filter_map(|input| match input.node {
                NodeId::Stage(index) => Some(index),
                NodeId::Source(_) => None,
            })
            .collect()
    }

    /// The map stages upstream of `stage` with their parameters: what another program needs to
    /// prepare a file as this graph prepares it. Without names.
    ///
    /// `{"kind", "version", "params", "inputs": [...]}`, nested; a source is `"source"`.
    /// `resolve` gives a stage's parameters as they enter its keys (files by digest).
    pub fn road(&self, stage: usize, resolve: &dyn Fn(usize) -> Value) -> Value {
        let mut roads = Vec::new();
        for input in self.stages[stage].inputs.values().flatten() {
            self.collect_road(*input, resolve, &mut roads);
        }
        Value::Array(roads)
    }

    fn collect_road(
        &self,
        input: InputRef,
        resolve: &dyn Fn(usize) -> Value,
        roads: &mut Vec<Value>,
    ) {
        let NodeId::Stage(index) = input.node else {
            return;
        };
        let def = &self.stages[index];
        if def.has(Part::Item) && !def.has(Part::Whole) {
            let road = self.item_road(index, resolve);
            if !roads.contains(&road) {
                roads.push(road);
            }
            return;
        }
        for input in def.inputs.values().flatten() {
            self.collect_road(*input, resolve, roads);
        }
    }

    fn item_road(&self, stage: usize, resolve: &dyn Fn(usize) -> Value) -> Value {
        let def = &self.stages[stage];
        let inputs: Vec<Value> = def
            .item_port()
            .and_then(|port| def.inputs.get(port))
            .into_iter()
            .flatten()
            .map(|input| match input.node {
                NodeId::Source(_) => Value::from("source"),
                NodeId::Stage(index) => self.item_road(index, resolve),
            })
            .collect::<Vec<_>>();
        // Two sources are one road.
        let mut distinct: Vec<Value> = Vec::new();
        for input in inputs {
            if !distinct.contains(&input) {
                distinct.push(input);
            }
        }
        json!({
            "kind": def.kind,
            "version": def.version,
            "params": resolve(stage),
            "inputs": distinct,
        })
    }
}

type Inputs = BTreeMap<&'static str, Vec<InputRef>>;

fn connect_stage(
    stage: &RawStage,
    document: &Document,
    names: &BTreeMap<String, NodeId>,
) -> Result<Inputs, Diagnostic> {
    let ports = stage.stage.ports();
    let mut inputs = Inputs::new();
    match &stage.inputs {
        None => {}
        Some(RawInputs::List(list)) => {
            let [port] = ports else {
                let names: Vec<_> = ports.iter().map(|p| p.name).collect();
                let place = list.first().unwrap_or(&stage.name);
                return Err(place
                    .error(format!(
                        "stage `{}` (kind `{}`) has {} inputs: say which is which",
                        stage.name.value,
                        stage.entry.kind,
                        names.len()
                    ))
                    .hint(format!("inputs = {{ {} = … }}", names.join(" = …, "))));
            };
            inputs.insert(port.name, refs(port, list, document, names)?);
        }
        Some(RawInputs::Ports(given)) => {
            for (name, list) in given {
                let Some(port) = ports.iter().find(|port| port.name == name.value) else {
                    return Err(name
                        .error(format!(
                            "unknown input `{}` of stage `{}` (kind `{}`)",
                            name.value, stage.name.value, stage.entry.kind
                        ))
                        .nearest(&name.value, ports.iter().map(|port| port.name)));
                };
                inputs.insert(port.name, refs(port, list, document, names)?);
            }
        }
    }
    for port in ports {
        if port.required && inputs.get(port.name).is_none_or(Vec::is_empty) {
            return Err(stage
                .name
                .error(format!(
                    "stage `{}` (kind `{}`) lacks its input `{}`: {}",
                    stage.name.value, stage.entry.kind, port.name, port.about
                ))
                .hint("name stages or sources under `inputs`"));
        }
    }
    Ok(inputs)
}

fn refs(
    port: &Port,
    list: &[Placed<String>],
    document: &Document,
    names: &BTreeMap<String, NodeId>,
) -> Result<Vec<InputRef>, Diagnostic> {
    if port.takes == PortTakes::Artifact && list.len() > 1 {
        return Err(list[1].error(format!("input `{}` takes one stage", port.name)));
    }
    list.iter()
        .map(|text| reference(port, text, document, names))
        .collect()
}

fn reference(
    port: &Port,
    text: &Placed<String>,
    document: &Document,
    names: &BTreeMap<String, NodeId>,
) -> Result<InputRef, Diagnostic> {
    let (name, only) = match text.value.split_once('@') {
        Some((name, only)) => (name, Some(only)),
        None => (text.value.as_str(), None),
    };
    let node = *names.get(name).ok_or_else(|| {
        text.error(format!("there is no stage or source `{name}`"))
            .nearest(name, names.keys().map(String::as_str))
    })?;
    let only = match only {
        None => None,
        Some(source) => match names.get(source) {
            Some(NodeId::Source(index)) => Some(*index),
            _ => {
                let sources = document.sources.iter().map(|(n, _)| n.value.as_str());
                return Err(text
                    .error(format!("there is no source `{source}`"))
                    .nearest(source, sources));
            }
        },
    };
    let parts = match node {
        NodeId::Source(_) => &[Part::Item][..],
        NodeId::Stage(index) => document.stages[index].stage.parts(),
    };
    let needed = match port.takes {
        PortTakes::Items => Part::Item,
        PortTakes::Artifact => Part::Whole,
    };
    if !parts.contains(&needed) || (only.is_some() && needed == Part::Whole) {
        let what = match port.takes {
            PortTakes::Items => "items: a source, or a stage that works item by item",
            PortTakes::Artifact => "the one artifact of a stage that takes a whole set",
        };
        return Err(text.error(format!(
            "`{}` does not fit: input `{}` takes {what}",
            text.value, port.name
        )));
    }
    Ok(InputRef { node, only })
}

/// Topological order, stable by name; or the cycle.
fn sort(stages: &[RawStage], inputs: &[Inputs]) -> Result<Vec<usize>, Diagnostic> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    struct Walk<'a> {
        stages: &'a [RawStage],
        inputs: &'a [Inputs],
        marks: Vec<Mark>,
        path: Vec<usize>,
        order: Vec<usize>,
    }
    impl Walk<'_> {
        fn visit(&mut self, index: usize) -> Result<(), Diagnostic> {
            match self.marks[index] {
                Mark::Done => return Ok(()),
                Mark::Open => {
                    let start = self.path.iter().position(|i| *i == index).unwrap_or(0);
                    let mut cycle: Vec<_> = self.path[start..]
                        .iter()
                        .map(|i| self.stages[*i].name.value.as_str())
                        .collect();
                    cycle.push(&self.stages[index].name.value);
                    // Written in the direction of the data.
                    cycle.reverse();
                    return Err(self.stages[index]
                        .name
                        .error(format!("the stages form a cycle: {}", cycle.join(" → "))));
                }
                Mark::New => {}
            }
            self.marks[index] = Mark::Open;
            self.path.push(index);
            let upstream: BTreeSet<usize> = self.inputs[index]
                .values()
                .flatten()
                .filter_map(|input| match input.node {
                    NodeId::Stage(index) => Some(index),
                    NodeId::Source(_) => None,
                })
                .collect();
            for next in upstream {
                self.visit(next)?;
            }
            self.path.pop();
            self.marks[index] = Mark::Done;
            self.order.push(index);
            Ok(())
        }
    }
    let mut walk = Walk {
        stages,
        inputs,
        marks: vec![Mark::New; stages.len()],
        path: Vec::new(),
        order: Vec::with_capacity(stages.len()),
    };
    for index in 0..stages.len() {
        walk.visit(index)?;
    }
    Ok(walk.order)
}
