//! `pipeline graph`: the stages as a picture.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::{Args, ValueEnum};
use engine::Session;
use engine::config::{Graph as Stages, NodeId};
use stage_core::Cancel;
use stage_core::text::of_name;

use super::options::Global;
use super::options::View;
use crate::outcome::{Outcome, print};
use crate::ui::page::Page;

/// How the picture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines and arrows
    Text,
    /// Mermaid, for Markdown
    Mermaid,
    /// Graphviz
    Dot,
}

/// Draw the stages
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline graph
  pipeline graph --format dot | dot -Tsvg > graph.svg")]
pub(crate) struct Graph {
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    view: View,
}

type Counts<'a> = BTreeMap<&'a str, BTreeMap<&'static str, u64>>;

impl Graph {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let (project, mut request) = self.view.open(global, Vec::new())?;
        request.quick = true;
        let session = Session::prepare(&project, request, &Cancel::default())?;
        let left_out = |name: &&str| session.left_out.iter().any(|left| left.stage == **name);
        let names = project
            .config
            .graph
            .stages
            .iter()
            .map(|stage| stage.name.as_str());
        let mut counts: Counts<'_> = names
            .filter(|name| !left_out(name))
            .map(|name| (name, BTreeMap::new()))
            .collect();
        counts.extend(session.counts());
        let graph = &project.config.graph;
        print(match self.format {
            Format::Text => text(graph, &counts),
            Format::Mermaid => mermaid(graph, &counts),
            Format::Dot => dot(graph, &counts),
        })
    }
}

/// What is connected to a stage: (name of the node, port if it needs saying).
fn inputs(graph: &Stages, stage: usize) -> Vec<(String, Option<&'static str>)> {
    let def = &graph.stages[stage];
    let several = def.stage.ports().len() > 1;
    let mut list = Vec::new();
    for (port, refs) in &def.inputs {
        for input in refs {
            let name = match input.node {
                NodeId::Source(index) => graph.sources[index].name.clone(),
                NodeId::Stage(index) => graph.stages[index].name.clone(),
            };
            let name = match input.only {
                Some(source) => format!("{name}@{}", graph.sources[source].name),
                None => name,
            };
            list.push((name, several.then_some(*port)));
        }
    }
    list
}

/// Fresh and stale of a stage in words; nothing if it was left out.
fn state(name: &str, counts: &Counts<'_>) -> String {
    let Some(counts) = counts.get(name) else {
        return "not bound".to_owned();
    };
    let list = counts.iter().map(|(what, n)| format!("{n} {what}"));
    let text = list.collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "no items".to_owned()
    } else {
        text
    }
}

fn is_stale(name: &str, counts: &Counts<'_>) -> bool {
    let stale = |counts: &BTreeMap<&'static str, u64>| counts.keys().any(|k| *k != "fresh");
    counts.get(name).is_some_and(stale)
}

/// A line per stage in the order of the data, its inputs on the left, its state on the right; a
/// stage with several inputs has a line for each, joined by a bracket.
fn text(graph: &Stages, counts: &Counts<'_>) -> Page {
    let rows: Vec<(Vec<String>, &str)> = graph
        .stages
        .iter()
        .enumerate()
        .map(|(index, def)| (left_side(graph, index), def.name.as_str()))
        .collect();
    let width = |text: &str| text.chars().count();
    let lines = rows.iter().flat_map(|(lines, _)| lines);
    let left = lines.map(|line| width(line)).max().unwrap_or(0);
    let right = rows.iter().map(|(_, name)| width(name)).max().unwrap_or(0);
    let mut page = Page::default();
    for source in &graph.sources {
        let path = source
            .path
            .as_ref()
            .map_or_else(|| format!("not bound (--{} FILE)", source.name), of_name);
        page.line(format!("{}: {path}", source.name));
    }
    page.line("");
    for (lines, name) in rows {
        let mark = match counts.get(name) {
            None => "·",
            Some(_) if is_stale(name, counts) => "○",
            Some(_) => "●",
        };
        let middle = lines.len() / 2;
        for (nth, line) in lines.iter().enumerate() {
            let joint = match (lines.len(), nth) {
                (1, _) => "──▶",
                (_, 0) if middle == 0 => "─┬▶",
                (_, 0) => "─┐",
                (n, nth) if nth + 1 == n && nth == middle => "─┴▶",
                (n, nth) if nth + 1 == n => "─┘",
                (_, nth) if nth == middle => "─┼▶",
                _ => "─┤",
            };
            let mut text = format!("{}{line} {joint}", " ".repeat(left - width(line)));
            if nth == middle {
                let pad = " ".repeat(right - width(name));
                let _ = write!(text, " {mark} {name}{pad}  {}", state(name, counts));
            }
            page.line(text);
        }
    }
    page.line("");
    page.line("● fresh   ○ stale   · not bound");
    page
}

/// The inputs of a stage: one line, or one per port.
fn left_side(graph: &Stages, stage: usize) -> Vec<String> {
    let mut lines: Vec<(Option<&str>, Vec<String>)> = Vec::new();
    for (name, port) in inputs(graph, stage) {
        match lines.last_mut() {
            Some((last, names)) if *last == port => names.push(name),
            _ => lines.push((port, vec![name])),
        }
    }
    let line = |(port, names): (Option<&str>, Vec<String>)| match port {
        Some(port) => format!("{port}: {}", names.join(", ")),
        None => names.join(", "),
    };
    lines.into_iter().map(line).collect()
}

fn mermaid(graph: &Stages, counts: &Counts<'_>) -> Page {
    let mut page = Page::from("flowchart LR");
    for source in &graph.sources {
        page.line(format!("  {0}([{0}])", source.name));
    }
    for (index, def) in graph.stages.iter().enumerate() {
        let name = &def.name;
        page.line(format!("  {name}[\"{name}<br/>{}\"]", state(name, counts)));
        for (from, port) in inputs(graph, index) {
            let from = from.split('@').next().unwrap_or_default();
            page.line(match port {
                Some(port) => format!("  {from} -->|{port}| {name}"),
                None => format!("  {from} --> {name}"),
            });
        }
        if is_stale(name, counts) {
            page.line(format!("  class {name} stale"));
        }
    }
    page.line("  classDef stale stroke-dasharray: 5 5");
    page
}

fn dot(graph: &Stages, counts: &Counts<'_>) -> Page {
    let mut page = Page::from("digraph pipeline {");
    page.line("  rankdir=LR;");
    page.line("  node [shape=box];");
    for source in &graph.sources {
        page.line(format!("  \"{}\" [shape=oval];", source.name));
    }
    for (index, def) in graph.stages.iter().enumerate() {
        let name = &def.name;
        let style = if is_stale(name, counts) {
            ", style=dashed"
        } else {
            ""
        };
        page.line(format!(
            "  \"{name}\" [label=\"{name}\\n{}\"{style}];",
            state(name, counts)
        ));
        for (from, port) in inputs(graph, index) {
            let from = from.split('@').next().unwrap_or_default();
            let label = port.map_or_else(String::new, |port| format!(" [label=\"{port}\"]"));
            page.line(format!("  \"{from}\" -> \"{name}\"{label};"));
        }
    }
    page.line("}");
    page
}
