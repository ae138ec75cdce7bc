//! Repeats, endings and jumps of a part, put into the measures common to all.

use roxmltree::Node;

use crate::model::{Ending, Measure};

use super::tree::{child, elements, short};

/// Most times that a section is played.
const MAX_TIMES: u32 = 1_000;
/// Highest pass that an ending names.
const MAX_PASS: u32 = 1_000;

/// Follows the barlines of one part; parts that repeat what another part said
/// change nothing.
#[derive(Default)]
pub(super) struct Barlines {
    /// Passes of the bracket that is open, and whether it has just begun.
    open: Option<(Vec<u32>, bool)>,
    closing: bool,
    forward_next: bool,
}

impl Barlines {
    /// Called at the beginning of a measure.
    pub(super) fn begin(&mut self, measure: &mut Measure) {
        if std::mem::take(&mut self.forward_next) {
            measure.repeat_start = true;
        }
    }

    /// Reads a `<barline>` of `measure`; `previous` is the measure before.
    pub(super) fn read(
        &mut self,
        node: Node<'_, '_>,
        measure: &mut Measure,
        previous: Option<&mut Measure>,
    ) {
        let location = node.attribute("location").unwrap_or("right");
        if let Some(ending) = child(node, "ending") {
            match ending.attribute("type") {
                Some("start") => self.open = Some((passes(ending), true)),
                Some("stop" | "discontinue") => self.closing = true,
                _ => {}
            }
        }
        let Some(repeat) = child(node, "repeat") else {
            return;
        };
        match (repeat.attribute("direction"), location) {
            (Some("forward"), "right") => self.forward_next = true,
            (Some("forward"), _) => measure.repeat_start = true,
            (Some("backward"), _) => {
                let times = repeat
                    .attribute("times")
                    .and_then(|t| t.trim().parse::<u32>().ok());
                let times = times.unwrap_or(2).clamp(1, MAX_TIMES);
                match (location, previous) {
                    ("left", Some(previous)) => previous.repeat_end = Some(times),
                    _ => measure.repeat_end = Some(times),
                }
            }
            _ => {}
        }
    }

    /// Called at the end of a measure.
    pub(super) fn end(&mut self, measure: &mut Measure) {
        // A bracket that nobody closed ends where another section begins.
        if measure.repeat_start && self.open.as_ref().is_some_and(|(_, first)| !first) {
            self.open = None;
        }
        let closing = std::mem::take(&mut self.closing) || measure.repeat_end.is_some();
        if let Some((numbers, first)) = &mut self.open {
            if measure.ending.is_none() {
                measure.ending = Some(Ending {
                    numbers: numbers.clone(),
                    first: *first,
                    last: closing,
                });
            }
            *first = false;
        }
        if closing {
            self.open = None;
        }
    }
}

/// Passes of an `<ending>`, from its number ("1, 2", "1-3"), else its text, else 1.
fn passes(node: Node<'_, '_>) -> Vec<u32> {
    let printed = node.text().unwrap_or("");
    for text in [node.attribute("number").unwrap_or(""), printed] {
        let numbers = parse_passes(text);
        if !numbers.is_empty() {
            return numbers;
        }
    }
    vec![1]
}

fn parse_passes(text: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = Vec::new();
    let mut from: Option<u32> = None;
    let mut digits = String::new();
    for c in text.chars().take(100).chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if let Ok(number) = digits.parse::<u32>()
            && (1..=MAX_PASS).contains(&number)
        {
            let first = from.take().unwrap_or(number);
            numbers.extend(first.min(number)..=number);
        }
        digits.clear();
        if matches!(c, '-' | '–') {
            from = numbers.last().copied();
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Reads the jumps that a `<sound>` tells of.
pub(super) fn jumps(sound: Node<'_, '_>, measure: &mut Measure) {
    let jumps = &mut measure.jumps;
    let label = |name: &str| sound.attribute(name).map(|l| short(l.trim()));
    if let Some(label) = label("segno") {
        jumps.segno = Some(label);
    }
    if let Some(label) = label("coda") {
        jumps.coda = Some(label);
    }
    if let Some(label) = label("dalsegno") {
        jumps.dal_segno = Some(label);
    }
    if let Some(label) = label("tocoda") {
        jumps.to_coda = Some(label);
    }
    jumps.da_capo |= sound.attribute("dacapo") == Some("yes");
    // "yes", or the number of divisions at which the end falls.
    jumps.fine |= sound.attribute("fine").is_some_and(|f| f != "no");
    jumps.forward_repeat |= sound.attribute("forward-repeat") == Some("yes");
}

/// A segno sign without a `<sound>` that would name it.
pub(super) fn segno_sign(direction: Node<'_, '_>, measure: &mut Measure) {
    let types = elements(direction).filter(|n| n.tag_name().name() == "direction-type");
    if measure.jumps.segno.is_none() && types.into_iter().any(|t| child(t, "segno").is_some()) {
        measure.jumps.segno = Some(String::new());
    }
}
