//! Which part of the graph a request needs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stage_core::{Part, PortTakes};

use super::Request;
use crate::config::{Graph, InputRef, NodeId, nearest};
use crate::error::EngineError;
use crate::store::Artifact;

/// A stage that a bare run does not do, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Name of the stage.
    pub stage: String,
    /// The sources that are not bound.
    pub unbound: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Demand {
    pub(super) targets: Vec<usize>,
    pub(super) left_out: Vec<LeftOut>,
    /// (stage, source) of item parts.
    pub(super) items: BTreeSet<(usize, usize)>,
    pub(super) wholes: BTreeSet<usize>,
    pub(super) finishes: BTreeSet<usize>,
    pub(super) stand_ins: BTreeMap<(usize, String), Artifact>,
}

impl Demand {
    pub(super) fn of(graph: &Graph, request: &Request) -> Result<Self, EngineError> {
        let mut demand = Self::default();
        for name in request.bindings.keys() {
            if graph.source(name).is_none() {
                return Err(unknown(
                    "source",
                    name,
                    graph.sources.iter().map(|s| s.name.as_str()),
                ));
            }
        }
        let stage_index = |name: &String| {
            let names = graph.stages.iter().map(|stage| stage.name.as_str());
            graph
                .stage(name)
                .ok_or_else(|| unknown("stage", name, names))
        };
        for name in &request.force {
            stage_index(name)?;
        }
        for ((stage, port), artifact) in &request.artifacts {
            let index = stage_index(stage)?;
            demand
                .stand_ins
                .insert((index, port.clone()), artifact.clone());
        }
        let bound = |source: &usize| {
            let source = &graph.sources[*source];
            source.path.is_some() || request.bindings.contains_key(&source.name)
        };
        if request.targets.is_empty() {
            for (index, stage) in graph.stages.iter().enumerate() {
                let needed = graph.needed_sources(index);
                // Items flow from any source that is bound; a whole set needs all of its own, and
                // so do the artifacts that items are mapped with.
                let partial = !stage.has(Part::Whole)
                    && graph.sources_of_items(index).iter().any(bound)
                    && graph.sources_beside_items(index).iter().all(bound);
                if partial || needed.iter().all(bound) {
                    demand.targets.push(index);
                } else {
                    let unbound = needed.iter().filter(|s| !bound(s));
                    demand.left_out.push(LeftOut {
                        stage: stage.name.clone(),
                        unbound: unbound.map(|s| graph.sources[*s].name.clone()).collect(),
                    });
                }
            }
        } else {
            for name in &request.targets {
                demand.targets.push(stage_index(name)?);
            }
        }
        for target in demand.targets.clone() {
            demand.last_part(graph, target, &bound)?;
        }
        Ok(demand)
    }

    /// Demands what a stage is for: its last part.
    fn last_part(
        &mut self,
        graph: &Graph,
        stage: usize,
        bound: &impl Fn(&usize) -> bool,
    ) -> Result<(), EngineError> {
        let def = &graph.stages[stage];
        if !def.has(Part::Whole) {
            let sources = graph.sources_of_items(stage);
            let (ready, missing): (Vec<_>, Vec<_>) =
                sources.iter().copied().partition(|s| bound(s));
            if ready.is_empty() {
                return Err(unbound(graph, stage, &missing));
            }
            for source in ready {
                self.item_part(graph, stage, source, bound)?;
            }
            return Ok(());
        }
        if !self.wholes.insert(stage) {
            return Ok(());
        }
        if def.has(Part::Finish) {
            self.finishes.insert(stage);
        }
        for port in def.stage.ports() {
            if self.stand_ins.contains_key(&(stage, port.name.to_owned())) {
                continue;
            }
            let inputs = def.inputs.get(port.name).map_or(&[][..], Vec::as_slice);
            match port.takes {
                PortTakes::Artifact => {
                    for input in inputs {
                        if let NodeId::Stage(index) = input.node {
                            self.last_part(graph, index, bound)?;
                        }
                    }
                }
                PortTakes::Items => {
                    let sources = graph.sources_of(inputs);
                    let missing: Vec<_> = sources.iter().copied().filter(|s| !bound(s)).collect();
                    if port.required && missing.len() == sources.len() {
                        return Err(unbound(graph, stage, &missing));
                    }
                    for source in sources.into_iter().filter(|s| bound(s)) {
                        if Some(port.name) == def.item_port() {
                            self.item_part(graph, stage, source, bound)?;
                        } else {
                            self.item_inputs(graph, inputs, source, bound)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn item_part(
        &mut self,
        graph: &Graph,
        stage: usize,
        source: usize,
        bound: &impl Fn(&usize) -> bool,
    ) -> Result<(), EngineError> {
        if !self.items.insert((stage, source)) {
            return Ok(());
        }
        let def = &graph.stages[stage];
        let port = def.item_port().unwrap_or_default();
        let inputs = def.inputs.get(port).map_or(&[][..], Vec::as_slice);
        self.item_inputs(graph, inputs, source, bound)?;
        for port in def.ports_beside_items() {
            if self.stand_ins.contains_key(&(stage, port.name.to_owned())) {
                continue;
            }
            for input in def.inputs.get(port.name).into_iter().flatten() {
                if let NodeId::Stage(index) = input.node {
                    self.last_part(graph, index, bound)?;
                }
            }
        }
        Ok(())
    }

    fn item_inputs(
        &mut self,
        graph: &Graph,
        inputs: &[InputRef],
        source: usize,
        bound: &impl Fn(&usize) -> bool,
    ) -> Result<(), EngineError> {
        for input in inputs {
            if let NodeId::Stage(index) = input.node
                && input.only.is_none_or(|only| only == source)
                && graph.sources_of_items(index).contains(&source)
            {
                self.item_part(graph, index, source, bound)?;
            }
        }
        Ok(())
    }
}

fn unknown<'a>(what: &str, name: &str, names: impl Iterator<Item = &'a str>) -> EngineError {
    let names: Vec<_> = names.collect();
    let hint = match nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", names.join(", ")),
    };
    EngineError::Usage {
        message: format!("there is no {what} `{name}`"),
        hint: Some(hint),
    }
}

fn unbound(graph: &Graph, stage: usize, missing: &[usize]) -> EngineError {
    let names: Vec<_> = missing
        .iter()
        .map(|source| graph.sources[*source].name.as_str())
        .collect();
    let first = names.first().copied().unwrap_or("corpus");
    EngineError::Usage {
        message: format!(
            "stage `{}` needs source `{}`, which is not bound",
            graph.stages[stage].name,
            names.join("`, `")
        ),
        hint: Some(format!(
            "give `--{first} FILE`, or a `path` in [sources.{first}]"
        )),
    }
}
