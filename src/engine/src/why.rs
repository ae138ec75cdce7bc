//! Why an action is stale: each part of its key, old → new.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use stage_core::{Digest, Part};

use crate::error::EngineError;
use crate::session::{BesideItems, Node, NodeIndex, PREVIOUS, Readiness, Session, State};
use crate::store::Latest;

/// One part of a key that differs from the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is: `parameter n_fft`, `input prompt`, `kind`, `version`.
    pub what: String,
    /// As it was.
    pub old: String,
    /// As it is.
    pub new: String,
}

/// Why an action is going to be done, or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It never was.
    New,
    /// Its key changed.
    Changed(Vec<Change>),
    /// It is told to, or its artifact is gone.
    Again,
    /// Something upstream is done first; it may be found in the cache after all.
    Upstream(String),
    /// It failed and is tried again, or failed and is not.
    Failed(String),
    /// It cannot be done.
    Blocked(String),
}

/// Why one action is not fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Name of the stage.
    pub stage: String,
    /// Which part.
    pub part: Part,
    /// Path of the item; empty for the other parts.
    pub item: String,
    /// Why.
    pub cause: Cause,
}

impl Session<'_> {
    /// Why each action that is not fresh is not, in the order of the graph.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn why(&self) -> Result<Vec<Why>, EngineError> {
        let mut history: HashMap<(usize, Part), BTreeMap<String, Latest>> = HashMap::new();
        let mut list = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.state.is_done() {
                continue;
            }
            let name = &self.graph().stages[node.stage].name;
            let entry = history.entry((node.stage, node.part));
            let latest = match entry {
                std::collections::hash_map::Entry::Occupied(slot) => slot.into_mut(),
                std::collections::hash_map::Entry::Vacant(slot) => {
                    let store = &self.project.store;
                    let latest = store.latest(&self.project.name, name, node.part)?;
                    let by_item = latest.into_iter().map(|l| (l.item.clone(), l));
                    slot.insert(by_item.collect())
                }
            };
            let item = self.item_name(node);
            list.push(Why {
                stage: name.clone(),
                part: node.part,
                item: item.to_owned(),
                cause: self.cause(index, node, latest.get(item))?,
            });
        }
        Ok(list)
    }

    fn cause(
        &self,
        index: NodeIndex,
        node: &Node,
        latest: Option<&Latest>,
    ) -> Result<Cause, EngineError> {
        match &node.state {
            State::Failed(failure) => return Ok(Cause::Failed(failure.reason.clone())),
            State::Blocked(reason) => return Ok(Cause::Blocked(reason.clone())),
            State::Waiting => return Ok(Cause::Upstream(self.waits_for(node))),
            _ => {}
        }
        if node.again {
            return Ok(Cause::Again);
        }
        let Some(latest) = latest else {
            return Ok(Cause::New);
        };
        if let Some(reason) = &latest.failed {
            return Ok(Cause::Failed(reason.clone()));
        }
        let mut changes = self.settings_changes(node, latest);
        if self.is_unread(node) {
            let before = latest.inputs.values().flatten().next();
            let before = before.map(Digest::short).unwrap_or_default();
            changes.push(change("file", &before, "not read yet"));
            return Ok(Cause::Changed(changes));
        }
        let mut inputs = self.inputs_now(index, node)?;
        // A port that is no longer connected has changed, too.
        for port in latest.inputs.keys().filter(|port| *port != PREVIOUS) {
            inputs.entry(port.clone()).or_default();
        }
        for (port, now) in inputs {
            let before = latest.inputs.get(&port).cloned().unwrap_or_default();
            if before != now {
                changes.push(input_change(&port, &before, &now));
            }
        }
        Ok(if changes.is_empty() {
            Cause::Again
        } else {
            Cause::Changed(changes)
        })
    }

    /// Whether an action's file was left unread.
    fn is_unread(&self, node: &Node) -> bool {
        let files = self.sources.get(&node.source);
        let file = node.files.first();
        let file = file.and_then(|file| files?.get(*file as usize));
        node.upstream.is_none() && file.is_some_and(|file| file.unread)
    }

    fn waits_for(&self, node: &Node) -> String {
        if let Some(above) = node.upstream
            && !self.nodes[above].state.is_done()
        {
            return self.graph().stages[self.nodes[above].stage].name.clone();
        }
        let mut names: Vec<&str> = Vec::new();
        let mut stages = self.graph().upstream(node.stage);
        if node.part != Part::Item {
            stages.insert(node.stage);
        }
        for other in &self.nodes {
            let name = self.graph().stages[other.stage].name.as_str();
            // An item waits for its own item, which is done, and for whole sets.
            let is_before = match node.part {
                Part::Item => other.part != Part::Item,
                _ => other.part <= node.part,
            };
            if stages.contains(&other.stage)
                && is_before
                && !std::ptr::eq(other, node)
                && !other.state.is_settled()
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        let own = self.graph().stages[node.stage].name.as_str();
        let say = |name: &str| {
            if name == own {
                "its items".to_owned()
            } else {
                name.to_owned()
            }
        };
        names.into_iter().map(say).collect::<Vec<_>>().join(", ")
    }

    fn settings_changes(&self, node: &Node, latest: &Latest) -> Vec<Change> {
        let (_, now) = &self.bases[&(node.stage, node.part)];
        let then = &latest.settings;
        let mut changes = Vec::new();
        if then.kind != now.kind {
            changes.push(change("kind", &then.kind, &now.kind));
        }
        if then.version != now.version {
            changes.push(change(
                "version",
                &then.version.to_string(),
                &now.version.to_string(),
            ));
        }
        let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        parameter_changes("", &parse(&then.params), &parse(&now.params), &mut changes);
        changes
    }

    /// What enters the key now, by port.
    fn inputs_now(
        &self,
        index: NodeIndex,
        node: &Node,
    ) -> Result<BTreeMap<String, Vec<Digest>>, EngineError> {
        if node.part == Part::Item {
            let mut inputs = match self.beside_items.get(&node.stage) {
                Some(BesideItems::Ready { gathered, .. }) => gathered.digests(),
                _ => BTreeMap::new(),
            };
            let digest = self.item_input(node);
            inputs.insert("items".to_owned(), digest.into_iter().collect());
            return Ok(inputs);
        }
        Ok(match self.gather(index)? {
            Readiness::Ready(gathered) => gathered.digests(),
            _ => BTreeMap::new(),
        })
    }
}

/// The parameters that differ, those in tables by their dotted names.
fn parameter_changes(table: &str, then: &Value, now: &Value, changes: &mut Vec<Change>) {
    let empty = serde_json::Map::new();
    let (then, now) = (
        then.as_object().unwrap_or(&empty),
        now.as_object().unwrap_or(&empty),
    );
    let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    for key in keys {
        let (old, new) = (then.get(key), now.get(key));
        if old == new {
            continue;
        }
        if let (Some(old @ Value::Object(inner)), Some(new @ Value::Object(_))) = (old, new)
            // A file's content stands as a table of its digest.
            && !inner.contains_key("file")
        {
            parameter_changes(&format!("{table}{key}."), old, new, changes);
            continue;
        }
        let show =
            |value: Option<&Value>| value.map_or_else(|| "unset".to_owned(), Value::to_string);
        let what = format!("parameter {table}{key}");
        changes.push(change(&what, &show(old), &show(new)));
    }
}

fn change(what: &str, old: &str, new: &str) -> Change {
    Change {
        what: what.to_owned(),
        old: old.to_owned(),
        new: new.to_owned(),
    }
}

fn input_change(port: &str, before: &[Digest], now: &[Digest]) -> Change {
    let what = format!("input {port}");
    match (before, now) {
        ([old], [new]) => change(&what, &old.short(), &new.short()),
        _ => {
            let gone = before.iter().filter(|digest| !now.contains(digest)).count();
            let added = now.iter().filter(|digest| !before.contains(digest)).count();
            change(
                &what,
                &format!("{} items", before.len()),
                &format!("{} items ({added} new, {gone} gone)", now.len()),
            )
        }
    }
}
