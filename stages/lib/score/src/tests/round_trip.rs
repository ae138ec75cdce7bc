//! What is written is read again, over generated scores.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    Format, Instrument, Measure, Note, Part, Pedal, Pitch, Score, Tempo, TimeSignature, read,
    sniff, write_midi, write_musicxml, write_mxl,
};

/// Notes as (part, key, onset, duration, velocity, program, percussion), with their number.
type Notes = BTreeMap<(usize, u8, i64, i64, u8, u8, bool), usize>;

fn notes(score: &Score, grid: u32) -> Notes {
    let scale = i64::from(grid / score.divisions);
    let mut out = Notes::new();
    for n in score.notes() {
        let key = (
            n.part,
            n.pitch.key,
            n.onset * scale,
            n.duration * scale,
            n.velocity,
            n.program,
            n.percussion,
        );
        *out.entry(key).or_default() += 1;
    }
    out
}

/// A part as a MIDI file might hold it: anything may overlap anything, but
/// notes of one key follow one another, since MIDI cannot tell them apart.
fn part(percussion: bool) -> impl Strategy<Value = Part> {
    let note = (35_u8..90, 0_i64..3000, 1_i64..900, 1_u8..=127);
    let notes = proptest::collection::vec(note, 1..40);
    (notes, 0_u8..128, 0_u8..128, "[a-z]{0,8}").prop_map(move |(list, program, volume, name)| {
        let mut busy: BTreeMap<u8, i64> = BTreeMap::new();
        let mut list = list;
        list.sort_by_key(|n| n.1);
        let mut notes = Vec::new();
        for (key, onset, duration, velocity) in list {
            if busy.get(&key).is_none_or(|&end| end <= onset) {
                busy.insert(key, onset + duration);
                notes.push(Note {
                    onset,
                    duration,
                    pitch: Pitch::from_key(key),
                    velocity,
                    ..Note::default()
                });
            }
        }
        let instrument = Instrument {
            program,
            volume,
            percussion,
            channel: percussion.then_some(9),
            name: name.clone(),
        };
        let last = notes.last().map_or(0, |n| n.onset);
        let pedals = vec![
            Pedal {
                onset: last / 2,
                down: true,
            },
            Pedal {
                onset: last,
                down: false,
            },
        ];
        Part {
            name: name.clone(),
            instruments: vec![instrument],
            notes,
            pedals,
            ..Part::default()
        }
    })
}

fn score() -> impl Strategy<Value = Score> {
    let divisions = prop_oneof![
        Just(1_u32),
        Just(24),
        Just(96),
        Just(480),
        Just(10_080),
        1_u32..1000
    ];
    let meters = proptest::collection::vec(
        (1_u32..13, prop_oneof![Just(2_u32), Just(4), Just(8)]),
        1..6,
    );
    let tempos = proptest::collection::vec((0_i64..3000, 10_000_u32..2_000_000), 0..6);
    let parts = (
        part(false),
        proptest::option::of(part(false)),
        proptest::option::of(part(true)),
    );
    (divisions, meters, tempos, parts).prop_map(|(divisions, meters, mut tempos, parts)| {
        let parts: Vec<Part> = [Some(parts.0), parts.1, parts.2]
            .into_iter()
            .flatten()
            .collect();
        let mut score = Score {
            divisions,
            parts,
            ..Score::default()
        };
        let end = score.length();
        let mut onset = 0;
        for (number, &(beats, beat_type)) in (1..).zip(meters.iter().cycle()) {
            if onset >= end {
                break;
            }
            let time = TimeSignature { beats, beat_type };
            let length = time.length(divisions);
            score.measures.push(Measure {
                onset,
                length,
                number: i32::to_string(&number),
                time,
                ..Measure::default()
            });
            onset += length;
        }
        tempos.sort_unstable();
        tempos.dedup_by_key(|t| t.0);
        let tempo = |(onset, micros): (i64, u32)| Tempo {
            onset,
            quarters_per_minute: 60e6 / f64::from(micros),
        };
        score.tempos = tempos
            .into_iter()
            .filter(|t| t.0 < end)
            .map(tempo)
            .collect();
        score.end = score.length();
        score
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn musicxml_keeps_everything(score in score()) {
        let text = write_musicxml(&score).unwrap();
        prop_assert_eq!(sniff(&text), Some(Format::MusicXml));
        let again = read(&text).unwrap();
        prop_assert_eq!(again.divisions, score.divisions);
        prop_assert_eq!(notes(&again, score.divisions), notes(&score, score.divisions));
        let bars = |s: &Score| s.measures.iter().map(|m| (m.onset, m.length, m.time)).collect::<Vec<_>>();
        prop_assert_eq!(bars(&again), bars(&score));
        prop_assert_eq!(again.tempos.len(), score.tempos.len());
        for (a, b) in again.tempos.iter().zip(&score.tempos) {
            prop_assert_eq!(a.onset, b.onset);
            prop_assert!((a.quarters_per_minute - b.quarters_per_minute).abs() < 1e-9);
        }
        for (a, b) in again.parts.iter().zip(&score.parts) {
            prop_assert_eq!(&a.pedals, &b.pedals);
            prop_assert_eq!(&a.name, &b.name);
            prop_assert_eq!(a.instruments[0].volume, b.instruments[0].volume);
        }
        prop_assert_eq!(read(&write_mxl(&score).unwrap()).unwrap(), again);
    }

    #[test]
    fn midi_keeps_everything(score in score()) {
        let again = read(&write_midi(&score).unwrap()).unwrap();
        prop_assert_eq!(again.divisions, score.divisions);
        prop_assert_eq!(notes(&again, score.divisions), notes(&score, score.divisions));
        prop_assert_eq!(again.end, score.end);
        let micros = |s: &Score| {
            let mut all: Vec<(i64, i64)> = s.tempos.iter().map(|t| (t.onset, (60e6 / t.quarters_per_minute).round() as i64)).collect();
            all.dedup_by_key(|t| t.1);
            all
        };
        let (mut got, mut wanted) = (micros(&again), micros(&score));
        // What is the default at the beginning need not be said.
        got.retain(|t| *t != (0, 500_000));
        wanted.retain(|t| *t != (0, 500_000));
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn midi_to_musicxml_to_midi_is_the_same_file(score in score()) {
        let midi = write_midi(&score).unwrap();
        let first = read(&midi).unwrap();
        let xml = read(&write_musicxml(&first).unwrap()).unwrap();
        let second = read(&write_midi(&xml).unwrap()).unwrap();
        prop_assert_eq!(notes(&second, score.divisions), notes(&first, score.divisions));
        prop_assert_eq!(second.tempos, first.tempos);
        prop_assert_eq!(second.measures, first.measures);
    }

    #[test]
    fn the_performance_keeps_every_note(score in score()) {
        let mut plain = score;
        for part in &mut plain.parts {
            part.pedals.clear();
        }
        plain.tempos = vec![Tempo { onset: 0, quarters_per_minute: 60.0 }];
        let performance = plain.performance().unwrap();
        prop_assert_eq!(performance.events.len(), plain.notes().count());
        let quarter = f64::from(plain.divisions);
        let mut expected: Vec<_> = plain.notes().map(|n| (n.onset as f64 / quarter, n.part, n.pitch.midi(), n.duration as f64 / quarter)).collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2)));
        for (event, (onset, part, pitch, duration)) in performance.events.iter().zip(expected) {
            prop_assert!((event.onset - onset).abs() < 1e-6 && event.part == part && event.pitch == pitch);
            prop_assert!((event.duration - duration.max(0.001)).abs() < 1e-6);
        }
    }
}
