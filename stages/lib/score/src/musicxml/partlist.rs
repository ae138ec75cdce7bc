//! `<part-list>`: names, instruments and their MIDI numbers.

use std::collections::HashMap;

use roxmltree::Node;

use crate::gm;
use crate::model::Instrument;

use super::tree::{child, child_text, elements, number, text};

/// Most instruments of a part that are looked at; a drum kit has up to 128.
const MAX_INSTRUMENTS: usize = 1_024;

/// A `<score-part>`.
#[derive(Debug, Clone, Default)]
pub(super) struct PartInfo {
    pub(super) name: String,
    /// By id; the first is that of notes which name none.
    pub(super) instruments: Vec<(String, Sound)>,
}

/// A `<score-instrument>` with its `<midi-instrument>`.
#[derive(Debug, Clone, Default)]
pub(super) struct Sound {
    pub(super) instrument: Instrument,
    /// The drum key of `<midi-unpitched>`.
    pub(super) unpitched: Option<u8>,
}

/// All parts by id.
pub(super) fn part_list(root: Node<'_, '_>) -> HashMap<String, PartInfo> {
    let Some(list) = child(root, "part-list") else {
        return HashMap::new();
    };
    let parts = elements(list).filter(|n| n.tag_name().name() == "score-part");
    parts
        .filter_map(|node| Some((node.attribute("id")?.to_owned(), score_part(node))))
        .collect()
}

fn score_part(node: Node<'_, '_>) -> PartInfo {
    let name = clean(child_text(node, "part-name").unwrap_or(""));
    let mut info = PartInfo {
        name,
        instruments: Vec::new(),
    };
    let wanted =
        |n: &Node<'_, '_>| matches!(n.tag_name().name(), "score-instrument" | "midi-instrument");
    for item in elements(node).filter(wanted).take(2 * MAX_INSTRUMENTS) {
        let id = item.attribute("id").unwrap_or("").to_owned();
        match item.tag_name().name() {
            "score-instrument" => {
                let label = clean(child_text(item, "instrument-name").unwrap_or(""));
                let sound = child_text(item, "instrument-sound")
                    .unwrap_or("")
                    .replace('.', " ");
                let guess = [sound.as_str(), &label, &info.name]
                    .into_iter()
                    .find_map(gm::program);
                let instrument = Instrument {
                    name: label,
                    program: guess.unwrap_or(0),
                    ..Instrument::default()
                };
                info.instruments.push((
                    id,
                    Sound {
                        instrument,
                        unpitched: None,
                    },
                ));
            }
            "midi-instrument" => {
                let index = match info.instruments.iter().position(|(known, _)| *known == id) {
                    Some(index) => index,
                    None => {
                        info.instruments.push((id, Sound::default()));
                        info.instruments.len() - 1
                    }
                };
                if let Some((_, sound)) = info.instruments.get_mut(index) {
                    midi_instrument(item, sound);
                }
            }
            _ => {}
        }
    }
    if info.instruments.is_empty() {
        let program = gm::program(&info.name).unwrap_or(0);
        let instrument = Instrument {
            program,
            ..Instrument::default()
        };
        info.instruments.push((
            String::new(),
            Sound {
                instrument,
                unpitched: None,
            },
        ));
    }
    info
}

/// Applies a `<midi-instrument>`, of the part list or of a `<sound>`; numbers
/// there count from 1, and those out of range say nothing.
pub(super) fn midi_instrument(node: Node<'_, '_>, sound: &mut Sound) {
    for item in elements(node) {
        let got = text(item);
        let from_one = |limit: u8| {
            got.parse::<u8>()
                .ok()
                .and_then(|n| n.checked_sub(1))
                .filter(|&n| n < limit)
        };
        match item.tag_name().name() {
            "midi-channel" => {
                if let Some(channel) = from_one(16) {
                    sound.instrument.channel = Some(channel);
                    sound.instrument.percussion = channel == 9;
                }
            }
            "midi-program" => {
                sound.instrument.program = from_one(128).unwrap_or(sound.instrument.program);
            }
            "midi-unpitched" => sound.unpitched = from_one(128),
            "volume" => {
                // Per cent of the full range.
                if let Some(volume) = number(got) {
                    sound.instrument.volume = (volume.clamp(0.0, 100.0) * 1.27).round() as u8;
                }
            }
            _ => {}
        }
    }
}

/// A name on one line, at most 200 characters.
pub(super) fn clean(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(200)
        .collect()
}
