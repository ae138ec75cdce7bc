//! Small helpers over the XML tree, and the grid that durations are put on.

use roxmltree::Node;

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_DIVISIONS, MAX_QUARTERS};
use crate::model::Ticks;

/// Where the reader is, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) part: &'a str,
    pub(super) measure: &'a str,
}

impl Place<'_> {
    pub(super) fn value(
        &self,
        element: &'static str,
        got: &str,
        expected: &'static str,
    ) -> ScoreError {
        ScoreError::Value {
            part: short(self.part),
            measure: short(self.measure),
            element,
            got: short(got),
            expected,
        }
    }

    pub(super) fn too_large(&self, what: &'static str, got: u64, limit: u64) -> ScoreError {
        let place = format!(
            "part `{}`, measure `{}`",
            short(self.part),
            short(self.measure)
        );
        ScoreError::TooLarge {
            what,
            place,
            got,
            limit,
        }
    }
}

/// At most 40 characters, for messages.
pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Children that are elements.
pub(super) fn elements<'a, 'i: 'a>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// The first child element of this name.
pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    elements(node).find(|n| n.tag_name().name() == name)
}

/// The trimmed text of an element; empty if it has none.
pub(super) fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or("").trim()
}

/// The text of the first child of this name.
pub(super) fn child_text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name).map(text)
}

/// A decimal number of any sign, finite.
pub(super) fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|n| n.is_finite())
}

/// Thousandths of a decimal: durations are whole numbers in practice and
/// decimals by the schema.
pub(super) fn milli(text: &str) -> Option<i64> {
    let value = number(text)?;
    (value.abs() <= 1e10).then(|| (value * 1000.0).round() as i64)
}

/// The grid of a document: ticks per quarter note that all its divisions divide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) ticks: u32,
}

impl Grid {
    /// The least grid that holds every duration written under the divisions in
    /// force, over `measures` of all parts. Reads nothing else.
    pub(super) fn of<'a, 'i: 'a>(measures: impl Iterator<Item = Node<'a, 'i>>) -> Result<Self> {
        let mut ticks = 1_u64;
        let mut divisions = 1_u64;
        for node in measures.flat_map(elements) {
            match node.tag_name().name() {
                "attributes" => {
                    let new = child_text(node, "divisions")
                        .and_then(milli)
                        .filter(|&m| m > 0);
                    let Some(new) = new else { continue };
                    divisions = (new as u64).div_ceil(1000);
                    ticks = lcm(ticks, divisions)?;
                }
                // Fractions of a division are rare; they refine the grid.
                "note" | "backup" | "forward" => {
                    let Some(got) = child_text(node, "duration").and_then(milli) else {
                        continue;
                    };
                    let parts = 1000 / gcd(got.unsigned_abs() % 1000, 1000);
                    ticks = lcm(ticks, divisions.saturating_mul(parts))?;
                }
                _ => {}
            }
        }
        Ok(Self {
            ticks: u32::try_from(ticks).unwrap_or(MAX_DIVISIONS),
        })
    }

    /// Ticks of `milli` thousandths of `divisions`.
    pub(super) fn scale(self, milli: i64, divisions: u32) -> Ticks {
        let whole = i128::from(milli) * i128::from(self.ticks);
        let unit = 1000 * i128::from(divisions.max(1));
        let rounded = (whole + unit.signum() * unit / 2).div_euclid(unit);
        Ticks::try_from(rounded).unwrap_or(Ticks::MAX / 4)
    }

    /// Ticks of a length in quarter notes.
    pub(super) fn quarters(self, quarters: f64) -> Ticks {
        (quarters * f64::from(self.ticks)).round() as Ticks
    }

    /// Refuses times beyond [`MAX_QUARTERS`], before they can overflow.
    pub(super) fn check(self, at: Ticks, place: &Place<'_>) -> Result<Ticks> {
        let limit = MAX_QUARTERS * i64::from(self.ticks);
        if (-limit..=limit).contains(&at) {
            return Ok(at);
        }
        let quarters = at.unsigned_abs() / u64::from(self.ticks);
        Err(place.too_large("length in quarter notes", quarters, MAX_QUARTERS as u64))
    }
}

fn lcm(a: u64, b: u64) -> Result<u64> {
    let got = (a / gcd(a, b).max(1)).saturating_mul(b);
    if got > u64::from(MAX_DIVISIONS) {
        return Err(ScoreError::Divisions {
            got,
            limit: MAX_DIVISIONS,
        });
    }
    Ok(got.max(1))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The divisions of an `<attributes>`, rounded, 1 to 2^24.
pub(super) fn divisions(attributes: Node<'_, '_>, place: &Place<'_>) -> Result<Option<u32>> {
    let Some(got) = child_text(attributes, "divisions") else {
        return Ok(None);
    };
    let value = milli(got)
        .filter(|&m| m > 0)
        .and_then(|m| u32::try_from((m as u64).div_ceil(1000)).ok())
        .filter(|&d| d <= MAX_DIVISIONS);
    value
        .map(Some)
        .ok_or_else(|| place.value("divisions", got, "1 to 16777216 to the quarter note"))
}

/// The `<duration>` of a note, backup or forward in ticks, at least 0.
pub(super) fn duration(
    node: Node<'_, '_>,
    grid: Grid,
    divisions: u32,
    place: &Place<'_>,
) -> Result<Option<Ticks>> {
    let Some(got) = child_text(node, "duration") else {
        return Ok(None);
    };
    let milli = milli(got)
        .filter(|&m| m >= 0)
        .ok_or_else(|| place.value("duration", got, "a number of divisions"))?;
    grid.check(grid.scale(milli, divisions), place).map(Some)
}

/// Quarter notes of a note type such as `eighth`.
pub(super) fn type_quarters(name: &str) -> Option<f64> {
    Some(match name {
        "maxima" => 32.0,
        "long" => 16.0,
        "breve" => 8.0,
        "whole" => 4.0,
        "half" => 2.0,
        "quarter" => 1.0,
        "eighth" => 0.5,
        "16th" => 0.25,
        "32nd" => 0.125,
        "64th" => 0.0625,
        "128th" => 0.03125,
        "256th" => 0.015_625,
        "512th" => 0.007_812_5,
        "1024th" => 0.003_906_25,
        _ => return None,
    })
}

/// Length of a value with `dots`: each adds half of what the one before added.
pub(super) fn dotted(quarters: f64, dots: usize) -> f64 {
    quarters * (2.0 - 0.5_f64.powi(i32::try_from(dots.min(8)).unwrap_or(0)))
}
