//! Sources and stages, connected: names resolved, ports matched, no cycles.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stage_core::{Digest, FILES, Part, Port, PortTakes, canonical_json};

use super::document::{Document, Placed, RawInputs, RawStage};
use super::{Diagnostic, Source, StageDef, item_port};

/// How many stages may follow one another. What names them all, as a model's file does, nests that
/// deep, and readers of JSON set a limit to that.
const MAX_IN_A_ROW: usize = 50;

/// How many actions there may be for each file of a source. Where stages part and join again, their
/// number grows by a factor each time.
const MAX_ACTIONS: u64 = 4096;

/// Something that a port can be connected to, by index into [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// A source.
    Source(usize),
    /// A stage.
    Stage(usize),
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputRef {
    /// What it comes from.
    pub node: NodeId,
    /// Only the items of this source (`STAGE@SOURCE`).
    pub only: Option<usize>,
}

/// What stands for a map stage in [`Graph::preprocessing`].
#[derive(Debug)]
pub struct Preparing {
    /// Its parameters as they enter its keys, files by digest.
    pub params: Value,
    /// Port → digest of the artifact that its items are mapped with.
    pub artifacts: BTreeMap<String, Digest>,
}

/// The pipeline.
#[derive(Debug)]
pub struct Graph {
    /// Sources, in the order of their names.
    pub sources: Vec<Source>,
    /// Stages; every stage stands after those that it depends on.
    pub stages: Vec<StageDef>,
    /// Per stage: the sources whose items its item part maps.
    of_items: Vec<BTreeSet<usize>>,
    /// Per stage: the sources that it cannot do without.
    needed: Vec<BTreeSet<usize>>,
    /// Per stage: the sources of the artifacts that its items, and the items before them, are
    /// mapped with.
    beside_items: Vec<BTreeSet<usize>>,
}

impl Graph {
    pub(super) fn connect(document: Document) -> Result<Self, Diagnostic> {
        let mut names = BTreeMap::new();
        for (index, (name, _)) in document.sources.iter().enumerate() {
            names.insert(name.value.clone(), NodeId::Source(index));
        }
        for (index, stage) in document.stages.iter().enumerate() {
            let name = &stage.name.value;
            match names.insert(name.clone(), NodeId::Stage(index)) {
                None => {}
                Some(NodeId::Source(_)) => {
                    let message = format!("`{name}` is both a source and a stage");
                    return Err(stage.name.error(message));
                }
                Some(NodeId::Stage(_)) => {
                    return Err(stage.name.error(format!("two stages are named `{name}`")));
                }
            }
        }
        let mut connected = Vec::with_capacity(document.stages.len());
        for stage in &document.stages {
            connected.push(connect_stage(stage, &document, &names)?);
        }
        let order = sort(&document.stages, &connected)?;
        check_size(&document, &connected, &order)?;
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
                for list in inputs.values_mut() {
                    for input in &mut *list {
                        if let NodeId::Stage(index) = &mut input.node {
                            *index = position[index];
                        }
                    }
                    // Two orders are one set.
                    list.sort_unstable();
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
        let mut graph = Self {
            sources: document.sources.into_iter().map(|(_, s)| s).collect(),
            stages: order.into_iter().filter_map(|i| stages[i].take()).collect(),
            of_items: Vec::new(),
            needed: Vec::new(),
            beside_items: Vec::new(),
        };
        // Each from those of the stages before it.
        for stage in 0..graph.stages.len() {
            let of_items = graph.find_sources_of_items(stage);
            graph.of_items.push(of_items);
            let beside_items = graph.find_sources_beside_items(stage);
            graph.beside_items.push(beside_items);
            let needed = graph.find_needed_sources(stage);
            graph.needed.push(needed);
        }
        Ok(graph)
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
    pub fn sources_of_items(&self, stage: usize) -> &BTreeSet<usize> {
        &self.of_items[stage]
    }

    fn find_sources_of_items(&self, stage: usize) -> BTreeSet<usize> {
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
            let wanted = |source: &usize| input.only.is_none_or(|only| only == *source);
            match input.node {
                NodeId::Source(index) => sources.extend(Some(index).filter(wanted)),
                NodeId::Stage(index) => {
                    sources.extend(self.of_items[index].iter().copied().filter(wanted));
                }
            }
        }
        sources
    }

    /// All sources that a stage cannot do without, directly or not: those of its required ports.
    pub fn needed_sources(&self, stage: usize) -> &BTreeSet<usize> {
        &self.needed[stage]
    }

    /// The sources of the artifacts that a stage's items, and the items before them, are mapped
    /// with.
    pub fn sources_beside_items(&self, stage: usize) -> &BTreeSet<usize> {
        &self.beside_items[stage]
    }

    fn find_sources_beside_items(&self, stage: usize) -> BTreeSet<usize> {
        let def = &self.stages[stage];
        let mut sources = BTreeSet::new();
        let Some(item_port) = def.item_port() else {
            return sources;
        };
        for port in def.stage.ports().iter().filter(|port| port.required) {
            for input in def.inputs.get(port.name).into_iter().flatten() {
                if let NodeId::Stage(index) = input.node {
                    if port.name == item_port {
                        sources.extend(&self.beside_items[index]);
                    } else if port.takes == PortTakes::Artifact {
                        sources.extend(&self.needed[index]);
                    }
                }
            }
        }
        sources
    }

    fn find_needed_sources(&self, stage: usize) -> BTreeSet<usize> {
        let def = &self.stages[stage];
        let mut sources = BTreeSet::new();
        for port in def.stage.ports().iter().filter(|port| port.required) {
            let inputs = def.inputs.get(port.name).map_or(&[][..], Vec::as_slice);
            match port.takes {
                PortTakes::Items => {
                    sources.extend(self.sources_of(inputs));
                    for input in inputs {
                        if let NodeId::Stage(index) = input.node {
                            sources.extend(&self.beside_items[index]);
                        }
                    }
                }
                PortTakes::Artifact => {
                    for input in inputs {
                        if let NodeId::Stage(index) = input.node {
                            sources.extend(&self.needed[index]);
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
    /// `{"kind", "version", "params", "inputs": [...]}`, nested; a source is `"source"`. A list of
    /// inputs is a set, in the order of its members' canonical JSON: how pipeline.toml orders them
    /// and what it calls them leave no trace. A stage that maps items with fitted artifacts has
    /// `"artifacts": {PORT: DIGEST}` besides.
    /// `describe` gives what stands for a stage.
    pub fn preprocessing(&self, stage: usize, describe: &dyn Fn(usize) -> Preparing) -> Value {
        let mut known = BTreeMap::new();
        let chains = self
            .preprocessing_ends(stage)
            .into_iter()
            .map(|end| self.chain(end, describe, &mut known));
        set_of(chains)
    }

    /// The map stages whose items reach `stage`, and all map stages before them.
    pub fn preprocessing_stages(&self, stage: usize) -> BTreeSet<usize> {
        let (mut seen, mut ahead) = (BTreeSet::new(), self.preprocessing_ends(stage));
        while let Some(index) = ahead.pop_last() {
            if seen.insert(index) {
                let def = &self.stages[index];
                let inputs = def.item_port().and_then(|port| def.inputs.get(port));
                for input in inputs.into_iter().flatten() {
                    if let NodeId::Stage(before) = input.node {
                        ahead.insert(before);
                    }
                }
            }
        }
        seen
    }

    /// The last map stages before `stage`.
    fn preprocessing_ends(&self, stage: usize) -> BTreeSet<usize> {
        let mut ends = BTreeSet::new();
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![stage]);
        while let Some(stage) = ahead.pop() {
            for index in self.upstream(stage) {
                let def = &self.stages[index];
                if def.has(Part::Item) && !def.has(Part::Whole) {
                    ends.insert(index);
                } else if seen.insert(index) {
                    ahead.push(index);
                }
            }
        }
        ends
    }

    fn chain(
        &self,
        stage: usize,
        describe: &dyn Fn(usize) -> Preparing,
        known: &mut BTreeMap<usize, Value>,
    ) -> Value {
        if let Some(chain) = known.get(&stage) {
            return chain.clone();
        }
        let def = &self.stages[stage];
        let inputs = def.item_port().and_then(|port| def.inputs.get(port));
        let inputs = inputs.into_iter().flatten().map(|input| match input.node {
            NodeId::Source(_) => Value::from("source"),
            NodeId::Stage(index) => self.chain(index, describe, known),
        });
        let Preparing { params, artifacts } = describe(stage);
        let mut chain = json!({
            "kind": def.kind,
            "version": def.version,
            "inputs": set_of(inputs),
            "params": params,
        });
        if !artifacts.is_empty() {
            chain["artifacts"] = json!(artifacts);
        }
        known.insert(stage, chain.clone());
        chain
    }
}

/// Distinct values in the order of their canonical JSON.
fn set_of(values: impl Iterator<Item = Value>) -> Value {
    let sorted: BTreeMap<String, Value> = values
        .map(|value| (canonical_json(&value), value))
        .collect();
    Value::Array(sorted.into_values().collect())
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
            inputs.insert(port.name, refs(stage, port, list, document, names)?);
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
                inputs.insert(port.name, refs(stage, port, list, document, names)?);
            }
        }
    }
    for port in ports {
        let provided = stage.provided.contains(port.name);
        if port.required && !provided && inputs.get(port.name).is_none_or(Vec::is_empty) {
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
    stage: &RawStage,
    port: &Port,
    list: &[Placed<String>],
    document: &Document,
    names: &BTreeMap<String, NodeId>,
) -> Result<Vec<InputRef>, Diagnostic> {
    if port.takes == PortTakes::Artifact && list.len() > 1 {
        return Err(list[1].error(format!("input `{}` takes one stage", port.name)));
    }
    let mut refs = Vec::with_capacity(list.len());
    let mut named: BTreeMap<NodeId, Vec<(Option<usize>, &str)>> = BTreeMap::new();
    for text in list {
        let input = reference(stage, port, text, document, names)?;
        let same = named.entry(input.node).or_default();
        let meets =
            |only: Option<usize>| only.is_none() || input.only.is_none() || only == input.only;
        if let Some((_, other)) = same.iter().find(|(only, _)| meets(*only)) {
            let message = if *other == text.value {
                format!("`{other}` is named twice in input `{}`", port.name)
            } else {
                format!(
                    "`{other}` and `{}` in input `{}` name the same items",
                    text.value, port.name
                )
            };
            return Err(text.error(message).hint("name it once"));
        }
        same.push((input.only, &text.value));
        refs.push(input);
    }
    Ok(refs)
}

fn reference(
    stage: &RawStage,
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
    check_kind(stage, port, text, node, document)?;
    Ok(InputRef { node, only })
}

/// What is given to a port of items or of artifacts.
fn gives(node: NodeId, takes: PortTakes, document: &Document) -> &'static str {
    let NodeId::Stage(index) = node else {
        return FILES;
    };
    let stage = &document.stages[index].stage;
    match takes {
        PortTakes::Items => stage.gives(Part::Item),
        PortTakes::Artifact if stage.parts().contains(&Part::Finish) => stage.gives(Part::Finish),
        PortTakes::Artifact => stage.gives(Part::Whole),
    }
}

/// Refuses a connection to what a port does not take.
fn check_kind(
    stage: &RawStage,
    port: &Port,
    text: &Placed<String>,
    node: NodeId,
    document: &Document,
) -> Result<(), Diagnostic> {
    let given = gives(node, port.takes, document);
    if port.of.contains(&given) {
        return Ok(());
    }
    let giver = match node {
        NodeId::Source(_) => format!("source `{}`", text.value),
        NodeId::Stage(index) => {
            let other = &document.stages[index];
            format!("stage `{}` (kind `{}`)", other.name.value, other.entry.kind)
        }
    };
    let error = text.error(format!(
        "{giver} gives {given}, but input `{}` of stage `{}` (kind `{}`) takes {}",
        port.name,
        stage.name.value,
        stage.entry.kind,
        port.of.join(" or "),
    ));
    let needed = match port.takes {
        PortTakes::Items => Part::Item,
        PortTakes::Artifact => Part::Whole,
    };
    let fits = |index: &usize| {
        let other = &document.stages[*index];
        other.name.value != stage.name.value
            && other.stage.parts().contains(&needed)
            && port
                .of
                .contains(&gives(NodeId::Stage(*index), port.takes, document))
    };
    let stages = (0..document.stages.len()).filter(fits);
    let mut names: Vec<_> = stages
        .map(|index| format!("`{}`", document.stages[index].name.value))
        .collect();
    if port.of.contains(&FILES) {
        let sources = document.sources.iter();
        names.extend(sources.map(|(name, _)| format!("`{}`", name.value)));
    }
    Err(match names.is_empty() {
        true => error.hint(format!("it needs {}", port.about)),
        false => error.hint(format!("these fit: {}", names.join(", "))),
    })
}

/// The stages that a stage takes inputs from, by index into the document.
fn upstream(inputs: &Inputs) -> BTreeSet<usize> {
    let nodes = inputs.values().flatten().map(|input| input.node);
    nodes
        .filter_map(|node| match node {
            NodeId::Stage(index) => Some(index),
            NodeId::Source(_) => None,
        })
        .collect()
}

/// Topological order, stable by name; or the cycle.
fn sort(stages: &[RawStage], inputs: &[Inputs]) -> Result<Vec<usize>, Diagnostic> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; stages.len()];
    let mut order = Vec::with_capacity(stages.len());
    for first in 0..stages.len() {
        if marks[first] == Mark::Done {
            continue;
        }
        marks[first] = Mark::Open;
        // The stages from the first to this one, each with those before it that are still to do.
        let mut path = vec![(first, upstream(&inputs[first]).into_iter())];
        while let Some((index, ahead)) = path.last_mut() {
            let index = *index;
            match ahead.next() {
                None => {
                    path.pop();
                    marks[index] = Mark::Done;
                    order.push(index);
                }
                Some(next) => match marks[next] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[next] = Mark::Open;
                        path.push((next, upstream(&inputs[next]).into_iter()));
                    }
                    Mark::Open => {
                        let start = path.iter().position(|(i, _)| *i == next).unwrap_or(0);
                        let mut cycle: Vec<_> = path[start..]
                            .iter()
                            .map(|(i, _)| stages[*i].name.value.as_str())
                            .collect();
                        cycle.push(&stages[next].name.value);
                        // Written in the direction of the data.
                        cycle.reverse();
                        return Err(stages[next]
                            .name
                            .error(format!("the stages form a cycle: {}", cycle.join(" → "))));
                    }
                },
            }
        }
    }
    Ok(order)
}

/// Refuses a graph that makes more of each file than any machine can hold.
fn check_size(document: &Document, inputs: &[Inputs], order: &[usize]) -> Result<(), Diagnostic> {
    let mut depth = vec![0; order.len()];
    // Per stage: source → how many actions of its item part there are for a file of the source.
    let mut ways: Vec<BTreeMap<usize, u64>> = vec![BTreeMap::new(); order.len()];
    let mut all: BTreeMap<usize, u64> = BTreeMap::new();
    for &index in order {
        let stage = &document.stages[index];
        let name = &stage.name;
        let before = upstream(&inputs[index]).into_iter().map(|up| depth[up]);
        depth[index] = 1 + before.max().unwrap_or(0);
        if depth[index] > MAX_IN_A_ROW {
            return Err(name.error(format!(
                "stage `{}` is the {}th in a row, expected at most {MAX_IN_A_ROW}",
                name.value, depth[index]
            )));
        }
        let port = item_port(&*stage.stage).and_then(|port| inputs[index].get(port));
        let mut own: BTreeMap<usize, u64> = BTreeMap::new();
        for input in port.into_iter().flatten() {
            let mut add = |source: usize, count: u64| {
                if input.only.is_none_or(|only| only == source) {
                    let sum = own.entry(source).or_default();
                    *sum = sum.saturating_add(count);
                }
            };
            match input.node {
                NodeId::Source(source) => add(source, 1),
                NodeId::Stage(up) => ways[up].iter().for_each(|(source, n)| add(*source, *n)),
            }
        }
        for (source, count) in &own {
            let sum = all.entry(*source).or_default();
            *sum = sum.saturating_add(*count);
            if *sum > MAX_ACTIONS {
                let source = &document.sources[*source].1.name;
                return Err(name
                    .error(format!(
                        "up to stage `{}` there are more than {MAX_ACTIONS} actions for each file \
                         of source `{source}`",
                        name.value
                    ))
                    .hint("every way from the source to a stage makes an item of its own: join fewer stages"));
            }
        }
        ways[index] = own;
    }
    Ok(())
}
