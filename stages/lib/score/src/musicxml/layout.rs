//! First pass: where every measure begins and how long it is.
//!
//! Measures are as long as the longest part fills them, so that pickups, split
//! measures and cadenzas keep their time; one that no part fills has the length
//! of its meter.

use roxmltree::Node;

use crate::error::Result;
use crate::limits::MAX_MEASURES;
use crate::model::{Measure, Ticks, TimeSignature};

use super::attributes;
use super::tree::{Grid, Place, child, divisions, duration, elements};

/// A part of the document: for each measure its element, and the element that
/// holds its content (the same one in score-partwise).
pub(super) struct PartNodes<'a, 'i> {
    pub(super) id: &'a str,
    pub(super) measures: Vec<MeasureNode<'a, 'i>>,
}

/// One measure of one part.
#[derive(Clone, Copy)]
pub(super) struct MeasureNode<'a, 'i> {
    pub(super) head: Node<'a, 'i>,
    pub(super) body: Node<'a, 'i>,
}

impl<'a> MeasureNode<'a, '_> {
    pub(super) fn number(&self) -> &'a str {
        self.head.attribute("number").unwrap_or("")
    }
}

/// Lays the measures of all parts out on one line of ticks.
pub(super) fn measures(parts: &[PartNodes<'_, '_>], grid: Grid) -> Result<Vec<Measure>> {
    let count = parts.iter().map(|p| p.measures.len()).max().unwrap_or(0);
    if let Some(part) = parts.first()
        && count > MAX_MEASURES
    {
        let place = Place {
            part: part.id,
            measure: "",
        };
        return Err(place.too_large("number of measures", count as u64, MAX_MEASURES as u64));
    }
    let mut out = vec![Measure::default(); count];
    let mut timed = vec![false; count];
    for part in parts {
        measure_part(part, grid, &mut out, &mut timed)?;
    }
    let mut onset = 0;
    for measure in &mut out {
        measure.onset = onset;
        if measure.length == 0 {
            measure.length = measure.time.length(grid.ticks);
        }
        let place = Place {
            part: "",
            measure: &measure.number,
        };
        onset = grid.check(onset + measure.length, &place)?;
    }
    Ok(out)
}

fn measure_part(
    part: &PartNodes<'_, '_>,
    grid: Grid,
    out: &mut [Measure],
    timed: &mut [bool],
) -> Result<()> {
    let mut in_force = 1;
    let mut time: Option<TimeSignature> = None;
    for ((node, measure), timed) in part.measures.iter().zip(out).zip(timed) {
        let place = Place {
            part: part.id,
            measure: node.number(),
        };
        if measure.number.is_empty() {
            measure.number = super::tree::short(node.number());
        }
        measure.implicit |= node.head.attribute("implicit") == Some("yes");
        let (mut at, mut filled): (Ticks, Ticks) = (0, 0);
        for item in elements(node.body) {
            match item.tag_name().name() {
                "attributes" => {
                    in_force = divisions(item, &place)?.unwrap_or(in_force);
                    if let Some(node) = child(item, "time") {
                        time = attributes::time(node, &place)?.or(time);
                    }
                }
                "backup" => at -= duration(item, grid, in_force, &place)?.unwrap_or(0),
                "forward" => at += duration(item, grid, in_force, &place)?.unwrap_or(0),
                "note" if child(item, "grace").is_none() && child(item, "chord").is_none() => {
                    let length = match duration(item, grid, in_force, &place)? {
                        Some(length) => length,
                        None => super::note::notated_length(item, grid),
                    };
                    at += length;
                }
                _ => {}
            }
            at = grid.check(at.max(0), &place)?;
            filled = filled.max(at);
        }
        measure.length = measure.length.max(filled);
        // The first part that has a meter says it for all.
        if let Some(time) = time.filter(|_| !*timed) {
            measure.time = time;
            *timed = true;
        }
    }
    Ok(())
}
