//! Standard MIDI files as they should be and as they are.

use super::{grid, short, sound};
use crate::{Format, Score, ScoreError, read, sniff, write_midi, write_musicxml};

/// A file of `format` and division 0x0060 (96) with these track bodies.
fn file(format: u8, division: u16, tracks: &[&[u8]]) -> Vec<u8> {
    let [high, low] = division.to_be_bytes();
    let mut out = vec![
        b'M',
        b'T',
        b'h',
        b'd',
        0,
        0,
        0,
        6,
        0,
        format,
        0,
        tracks.len() as u8,
        high,
        low,
    ];
    for track in tracks {
        out.extend_from_slice(b"MTrk");
        out.extend_from_slice(&(track.len() as u32).to_be_bytes());
        out.extend_from_slice(track);
    }
    out
}

const END: &[u8] = &[0, 0xFF, 0x2F, 0];

fn one_track(body: &[u8]) -> Score {
    read(&file(0, 96, &[&[body, END].concat()])).unwrap()
}

#[track_caller]
fn check(body: &[u8], expected: &str) {
    assert_eq!(grid(&one_track(body)), expected);
}

#[test]
fn notes_and_running_status() {
    check(
        &[0, 0x90, 60, 64, 96, 62, 64, 0, 60, 0, 48, 0x80, 62, 0],
        "60@0+1 62@1+0.5",
    );
}

#[test]
fn running_status_goes_on_after_meta_and_exclusive_events() {
    check(
        &[
            0, 0x90, 60, 64, 0, 0xFF, 0x01, 2, b'h', b'i', 96, 60, 0, 0, 62, 9, 0, 0xF0, 2, 1,
            0xF7, 96, 62, 0,
        ],
        "60@0+1 62@1+1",
    );
}

#[test]
fn overlapping_notes_are_paired_first_in_first_out() {
    check(
        &[0, 0x90, 60, 1, 48, 60, 2, 48, 60, 0, 96, 60, 0],
        "60@0+1 60@0.5+1.5",
    );
}

#[test]
fn hung_and_empty_notes_are_mended() {
    let score = one_track(&[
        0, 0x90, 60, 1, 96, 62, 1, 0, 62, 0, 0, 0x80, 70, 0, 96, 0xB0, 1, 1,
    ]);
    assert_eq!(grid(&score), "60@0+2 62@1+0.01");
    assert_eq!(
        score.warnings,
        [
            "track 1: 1 note ends without a beginning ignored",
            "track 1: 1 notes without an end held to the end of the track",
            "track 1: 1 notes of no duration given one tick",
        ]
    );
}

#[test]
fn all_notes_off_ends_those_of_its_channel() {
    check(
        &[
            0, 0x90, 60, 1, 0, 0x91, 61, 1, 96, 0xB0, 123, 0, 96, 0x81, 61, 0,
        ],
        "60@0+1 61@0+2",
    );
}

#[test]
fn the_tempo_map_makes_seconds() {
    let body = [
        0, 0xFF, 0x51, 3, 0x0F, 0x42, 0x40, 0, 0x90, 60, 64, 48, 0xFF, 0x51, 3, 0x07, 0xA1, 0x20,
        48, 60, 0,
    ];
    assert_eq!(sound(&one_track(&body)), "60@0+0.75");
}

#[test]
fn format_1_shares_tempo_and_channels_between_tracks() {
    let conductor = [
        &[
            0, 0xFF, 0x03, 1, b'T', 0, 0xFF, 0x51, 3, 0x0F, 0x42, 0x40, 0, 0xC0, 40,
        ][..],
        END,
    ]
    .concat();
    let notes = [
        &[0, 0xFF, 0x03, 1, b'V', 0, 0x90, 60, 64, 96, 60, 0][..],
        END,
    ]
    .concat();
    let score = read(&file(1, 96, &[&conductor, &notes])).unwrap();
    assert_eq!(
        (score.title.as_str(), score.parts[0].name.as_str()),
        ("T", "V")
    );
    assert_eq!(score.notes().next().unwrap().program, 40);
    assert_eq!(sound(&score), "60@0+1");
}

#[test]
fn format_2_plays_its_patterns_one_after_another() {
    let pattern = |key: u8| [&[0, 0x90, key, 64, 96, key, 0][..], END].concat();
    let score = read(&file(2, 96, &[&pattern(60), &pattern(62)])).unwrap();
    assert_eq!(grid(&score), "60@0+1 62@1+1");
}

#[test]
fn time_codes_are_exact() {
    // 25 frames of 40 ticks: a tick is a millisecond, tempo events say nothing.
    let body = [
        &[
            0, 0xFF, 0x51, 3, 0x0F, 0x42, 0x40, 0, 0x90, 60, 64, 0x87, 0x68, 60, 0,
        ][..],
        END,
    ]
    .concat();
    let score = read(&file(0, u16::from_be_bytes([0xE7, 40]), &[&body])).unwrap();
    assert_eq!((score.divisions, sound(&score).as_str()), (1000, "60@0+1"));
    let drop = read(&file(0, u16::from_be_bytes([0xE3, 100]), &[&body])).unwrap();
    let seconds = drop.performance().unwrap().duration;
    assert_eq!(short(seconds * 1000.0), short(1000.0 * 1001.0 / 3000.0));
}

#[test]
fn divisions_that_mean_nothing_are_refused() {
    for division in [0, 0x8000, 0x8010, 0xE700] {
        let error = read(&file(0, division, &[END])).unwrap_err();
        assert!(
            matches!(error, ScoreError::MidiHeader { offset: 12, .. }),
            "{error}"
        );
    }
    assert!(matches!(
        read(&file(3, 96, &[])),
        Err(ScoreError::MidiHeader { offset: 8, .. })
    ));
    assert!(matches!(
        read(b"MThd\0\0"),
        Err(ScoreError::MidiHeader { .. })
    ));
}

#[test]
fn the_pedal_reaches_every_track_of_its_channel() {
    let first = [&[0, 0xB0, 64, 127, 0x81, 0x40, 0xB0, 64, 0][..], END].concat();
    let second = [&[0, 0x90, 60, 64, 96, 60, 0][..], END].concat();
    let score = read(&file(1, 96, &[&first, &second])).unwrap();
    assert_eq!(grid(&score), "60@0+1");
    assert_eq!(sound(&score), "60@0+1", "192 ticks at 120");
}

#[test]
fn bends_are_microtones_in_the_range_that_was_set() {
    let quarter_tone = [0, 0xE0, 0, 0x50, 0, 0x90, 60, 64, 96, 60, 0];
    check(&quarter_tone, "60.5@0+1");
    let range = [0, 0xB0, 101, 0, 0, 100, 0, 0, 6, 12];
    let octave_down = [&range[..], &[0, 0xE0, 0, 0, 0, 0x90, 60, 64, 96, 60, 0]].concat();
    check(&octave_down, "48@0+1");
}

#[test]
fn drums_programs_volumes_and_expression() {
    let body = [
        0, 0xC0, 73, 0, 0xB0, 7, 50, 0, 11, 64, 0, 0x90, 60, 64, 0, 0x99, 38, 64, 96, 0x80, 60, 0,
        0, 0x89, 38, 0,
    ];
    let score = one_track(&body);
    let notes: Vec<_> = score.notes().collect();
    assert_eq!((notes[0].program, notes[0].percussion), (73, false));
    assert!(notes[1].percussion);
    let gain = f64::from(score.performance().unwrap().events[0].gain);
    assert_eq!(short(gain), short((0.5 * 64.0 / 127.0_f64).powi(2)));
}

#[test]
fn meters_and_keys_make_measures() {
    let body = [
        0, 0xFF, 0x58, 4, 3, 2, 24, 8, 0, 0xFF, 0x59, 2, 0xFD, 1, 0, 0x90, 60, 64, 0x85, 0x10,
        0xFF, 0x58, 4, 6, 3, 24, 8, 0x83, 0x30, 60, 0,
    ];
    let score = one_track(&body);
    let measures: Vec<_> = score
        .measures
        .iter()
        .map(|m| (m.onset / 48, m.length / 48, m.time.beats))
        .collect();
    // The new meter comes after 656 ticks, in the third measure, and cuts it short.
    assert_eq!(
        measures,
        [(0, 6, 3), (6, 6, 3), (12, 1, 3), (13, 6, 6), (19, 6, 6)]
    );
    assert_eq!(
        score.keys.first().map(|k| (k.fifths, k.minor)),
        Some((-3, true))
    );
}

#[test]
fn damaged_tracks_give_what_they_have() {
    let whole = file(
        0,
        96,
        &[&[&[0, 0x90, 60, 64, 96, 60, 0, 0, 62, 64, 96, 62, 0][..], END].concat()],
    );
    let cut = read(&whole[..whole.len() - 7]).unwrap();
    assert_eq!(grid(&cut), "60@0+1 62@1+0.01");
    assert!(
        cut.warnings.iter().any(|w| w.contains("cut short")),
        "{:?}",
        cut.warnings
    );
    assert!(
        cut.warnings.iter().any(|w| w.contains("no end of track")),
        "{:?}",
        cut.warnings
    );
    let stray = one_track(&[0, 1, 2, 3, 0x90, 60, 64, 96, 60, 0]);
    assert_eq!(grid(&stray), "60@0+1");
    assert!(
        stray.warnings[0].contains("stray bytes"),
        "{:?}",
        stray.warnings
    );
}

#[test]
fn wrappers_and_alien_chunks_are_skipped() {
    let plain = file(0, 96, &[&[&[0, 0x90, 60, 64, 96, 60, 0][..], END].concat()]);
    let riff = [b"RIFF\0\0\0\0RMIDdata\0\0\0\0", &plain[..]].concat();
    assert_eq!(sniff(&riff), Some(Format::Midi));
    assert_eq!(grid(&read(&riff).unwrap()), "60@0+1");
    let mut alien = plain[..14].to_vec();
    alien.extend_from_slice(b"XFIH\0\0\0\x02ab");
    alien.extend_from_slice(&plain[14..]);
    assert_eq!(grid(&read(&alien).unwrap()), "60@0+1");
}

#[test]
fn what_is_written_is_read_again() {
    let body = [
        0, 0xC0, 73, 0, 0xB0, 7, 50, 0, 0xE0, 0, 0x50, 5, 0x90, 60, 64, 7, 64, 65, 96, 60, 0, 3,
        64, 0,
    ];
    let score = one_track(&body);
    let again = read(&write_midi(&score).unwrap()).unwrap();
    assert_eq!(grid(&again), grid(&score));
    assert_eq!(again.parts[0].instruments, score.parts[0].instruments);
    assert_eq!(again.end, score.end);
    let by_xml = read(&write_musicxml(&score).unwrap()).unwrap();
    assert_eq!(grid(&by_xml), grid(&score));
}

#[test]
fn microtones_that_sound_together_get_their_own_channels() {
    let mut score = one_track(&[
        0, 0x90, 60, 64, 0, 64, 64, 0, 67, 64, 96, 60, 0, 0, 64, 0, 0, 67, 0,
    ]);
    for (note, cents) in score.parts[0].notes.iter_mut().zip([0.0, -14.0, 2.0]) {
        note.pitch.cents = cents;
    }
    let again = read(&write_midi(&score).unwrap()).unwrap();
    let mut pitches: Vec<f64> = again
        .notes()
        .map(|n| (n.pitch.midi() * 100.0).round() / 100.0)
        .collect();
    pitches.sort_by(f64::total_cmp);
    assert_eq!(pitches, [60.0, 63.86, 67.02]);
}
