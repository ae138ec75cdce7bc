//! A MusicXML document to a [`Score`]: the parts, and what they have in common.

use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node, ParsingOptions};

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_NODES, MAX_PART_MEASURES, MAX_PARTS};
use crate::model::{Part, Score, Tempo};

use super::direction::TempoMark;
use super::layout::{MeasureNode, PartNodes, measures};
use super::part::{Common, read_part};
use super::partlist::{clean, part_list};
use super::text::decode;
use super::tree::{Grid, child, child_text, elements, short, text};

/// Reads a MusicXML document, partwise or timewise.
pub(crate) fn read_text(bytes: &[u8]) -> Result<Score> {
    let xml = decode(bytes)?;
    let options = ParsingOptions {
        allow_dtd: true,
        nodes_limit: MAX_NODES,
        ..Default::default()
    };
    let document = Document::parse_with_options(&xml, options)?;
    let root = document.root_element();
    let nodes = match root.tag_name().name() {
        "score-partwise" => partwise(root),
        "score-timewise" => timewise(root)?,
        got => return Err(ScoreError::Root { got: short(got) }),
    };
    if nodes.len() > MAX_PARTS {
        return Err(ScoreError::TooLarge {
            what: "number of parts",
            place: "the document".to_owned(),
            got: nodes.len() as u64,
            limit: MAX_PARTS as u64,
        });
    }
    read_parts(root, &nodes)
}

fn read_parts(root: Node<'_, '_>, nodes: &[PartNodes<'_, '_>]) -> Result<Score> {
    let bodies = nodes.iter().flat_map(|p| p.measures.iter().map(|m| m.body));
    let grid = Grid::of(bodies)?;
    let mut measures = measures(nodes, grid)?;
    let mut list = part_list(root);
    let mut common = Common {
        grid,
        measures: &mut measures,
        tempos: Vec::new(),
        keys: Vec::new(),
        notes: 0,
        warnings: Vec::new(),
    };
    let mut parts = Vec::with_capacity(nodes.len());
    for (index, part) in nodes.iter().enumerate() {
        let info = list.remove(part.id).unwrap_or_default();
        parts.push(read_part(part, index, info, &mut common)?);
    }
    let Common {
        tempos,
        keys,
        warnings,
        ..
    } = common;
    separate_channels(&mut parts);
    let title = child(root, "work").and_then(|w| child_text(w, "work-title"));
    let title = title
        .or_else(|| child_text(root, "movement-title"))
        .unwrap_or("");
    let mut score = Score {
        title: clean(title),
        composer: composer(root),
        divisions: grid.ticks,
        measures,
        tempos: sift_tempos(tempos),
        keys,
        parts,
        end: 0,
        warnings: Vec::new(),
    };
    score.end = score.length();
    for warning in warnings {
        score.warn(warning);
    }
    Ok(score)
}

fn named<'a, 'i: 'a>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    elements(node).filter(move |n| n.tag_name().name() == name)
}

fn partwise<'a, 'i>(root: Node<'a, 'i>) -> Vec<PartNodes<'a, 'i>> {
    let parts = named(root, "part").map(|part| {
        let measures = named(part, "measure")
            .map(|m| MeasureNode { head: m, body: m })
            .collect();
        PartNodes {
            id: part.attribute("id").unwrap_or(""),
            measures,
        }
    });
    parts.collect()
}

/// Turns measures of parts into parts of measures. A part that is missing from
/// a measure is silent there.
fn timewise<'a, 'i>(root: Node<'a, 'i>) -> Result<Vec<PartNodes<'a, 'i>>> {
    let mut places = 0_usize;
    let mut order: Vec<&'a str> = Vec::new();
    let mut parts: BTreeMap<&'a str, Vec<MeasureNode<'a, 'i>>> = BTreeMap::new();
    for (number, measure) in named(root, "measure").enumerate() {
        for part in named(measure, "part") {
            let id = part.attribute("id").unwrap_or("");
            let list = parts.entry(id).or_insert_with(|| {
                order.push(id);
                Vec::new()
            });
            // The measure element stands for an empty place: it holds parts, not
            // notes. Late parts among many measures would cost their product.
            places += number.saturating_sub(list.len()) + 1;
            if places > MAX_PART_MEASURES {
                return Err(ScoreError::TooLarge {
                    what: "number of measures in all parts",
                    place: format!("part `{}`", short(id)),
                    got: places as u64,
                    limit: MAX_PART_MEASURES as u64,
                });
            }
            list.resize(
                list.len().max(number),
                MeasureNode {
                    head: measure,
                    body: measure,
                },
            );
            list.push(MeasureNode {
                head: measure,
                body: part,
            });
        }
    }
    let mut take = |id: &'a str| PartNodes {
        id,
        measures: parts.remove(id).unwrap_or_default(),
    };
    Ok(order.into_iter().map(&mut take).collect())
}

fn composer(root: Node<'_, '_>) -> String {
    let Some(identification) = child(root, "identification") else {
        return String::new();
    };
    let mut creators = named(identification, "creator");
    let composer = creators.find(|c| c.attribute("type") == Some("composer"));
    clean(composer.map_or("", text))
}

/// One tempo for each tick: a `<sound>` before a metronome mark, an upper part
/// before a lower one, a later mark of one part before an earlier.
fn sift_tempos(mut marks: Vec<TempoMark>) -> Vec<Tempo> {
    marks.sort_by_key(|m| m.onset);
    let mut out: Vec<(Tempo, TempoMark)> = Vec::new();
    for mark in marks {
        let tempo = Tempo {
            onset: mark.onset,
            quarters_per_minute: mark.quarters_per_minute,
        };
        match out.last_mut() {
            Some(last) if last.0.onset == mark.onset => {
                let better = (mark.sounding, last.1.part) >= (last.1.sounding, mark.part);
                if better {
                    *last = (tempo, mark);
                }
            }
            _ => out.push((tempo, mark)),
        }
    }
    out.into_iter().map(|(tempo, _)| tempo).collect()
}

/// Some exporters put every part on one channel. Parts that share a channel
/// under different programs lose it, so that the writer gives each its own.
fn separate_channels(parts: &mut [Part]) {
    let mut programs: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
    let mut users: BTreeMap<u8, BTreeSet<usize>> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        for instrument in part.instruments.iter().filter(|i| !i.percussion) {
            if let Some(channel) = instrument.channel {
                programs
                    .entry(channel)
                    .or_default()
                    .insert(instrument.program);
                users.entry(channel).or_default().insert(index);
            }
        }
    }
    let crowded = |channel: u8| {
        programs.get(&channel).is_some_and(|p| p.len() > 1)
            && users.get(&channel).is_some_and(|u| u.len() > 1)
    };
    for instrument in parts.iter_mut().flat_map(|p| &mut p.instruments) {
        instrument.channel = instrument
            .channel
            .filter(|&c| instrument.percussion || !crowded(c));
    }
}
