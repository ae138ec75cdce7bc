//! Playing a SoundFont, on a small one built here: one looped sine at 440 Hz.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod measure;

use std::io::Cursor;

use measure::{DRY, NOTE, cents, pitch_near, rms};
use proptest::prelude::*;
use synth::{Error, Note, Options, Renderer, Sound, SoundFont};

const RATE: u32 = 22_050;

fn chunk(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = id.to_vec();
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(body);
    if body.len() % 2 == 1 {
        out.push(0);
    }
    out
}

fn list(kind: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut body = kind.to_vec();
    body.extend(chunks.concat());
    chunk(b"LIST", &body)
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(20, 0);
    bytes
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// SoundFont 2.01, §7: one preset of one instrument of one sample; `major` is the
/// version.
fn sf2(major: u16) -> Vec<u8> {
    // 50 periods of 100 samples: 441 Hz at 44.1 kHz, corrected by -4 cents.
    let mut samples: Vec<i16> = (0..5000)
        .map(|n| (16_000.0 * (std::f64::consts::TAU * f64::from(n) / 100.0).sin()) as i16)
        .collect();
    samples.extend([0; 46]);
    let smpl: Vec<u8> = samples.iter().flat_map(|v| v.to_le_bytes()).collect();
    let info = list(
        b"INFO",
        &[
            chunk(b"ifil", &words(&[major, 1])),
            chunk(b"isng", b"EMU8000\0"),
            chunk(b"INAM", b"sine\0\0"),
        ],
    );
    let preset = |text, number: u16, bag: u16| {
        let mut b = name(text);
        b.extend(words(&[number, 0, bag]));
        b.extend([0; 12]);
        b
    };
    let instrument = |text, bag: u16| {
        let mut b = name(text);
        b.extend(words(&[bag]));
        b
    };
    let mut sample = name("sine");
    for v in [0u32, 5000, 1000, 4000, 44_100] {
        sample.extend(v.to_le_bytes());
    }
    sample.extend([69, (-4i8) as u8]);
    sample.extend(words(&[0, 1]));
    let mut end = name("EOS");
    end.resize(46, 0);
    let pdta = list(
        b"pdta",
        &[
            chunk(
                b"phdr",
                &[preset("sine", 0, 0), preset("EOP", 0, 1)].concat(),
            ),
            chunk(b"pbag", &words(&[0, 0, 1, 0])),
            chunk(b"pmod", &[0; 10]),
            // Generator 41: instrument 0.
            chunk(b"pgen", &words(&[41, 0, 0, 0])),
            chunk(
                b"inst",
                &[instrument("sine", 0), instrument("EOI", 1)].concat(),
            ),
            chunk(b"ibag", &words(&[0, 0, 2, 0])),
            chunk(b"imod", &[0; 10]),
            // Generators 54: loop for ever; 53: sample 0.
            chunk(b"igen", &words(&[54, 1, 53, 0, 0, 0])),
            chunk(b"shdr", &[sample, end].concat()),
        ],
    );
    let sdta = list(b"sdta", &[chunk(b"smpl", &smpl)]);
    let mut body = b"sfbk".to_vec();
    body.extend([info, sdta, pdta].concat());
    chunk(b"RIFF", &body)
}

fn font() -> SoundFont {
    SoundFont::read(&mut Cursor::new(sf2(2))).unwrap()
}

fn play(notes: Vec<Note>) -> Vec<f32> {
    let mut renderer = Renderer::with_sound_font(notes, &font(), &DRY).unwrap();
    let mut x = vec![0.0; renderer.total() as usize];
    assert_eq!(renderer.fill(&mut x).unwrap(), x.len());
    x
}

#[test]
fn notes_sound_in_tune_with_microtones() {
    for pitch in [57.0, 69.0, 69.5, 71.25] {
        let f = 440.0 * f64::exp2((pitch - 69.0) / 12.0);
        let x = play(vec![Note {
            pitch,
            duration: 2.0,
            ..NOTE
        }]);
        let off = cents(pitch_near(&x[..44_100], RATE, f), f);
        assert!(off.abs() < 2.0, "{pitch}: {off:.2} cents");
    }
}

#[test]
fn notes_begin_and_end_and_touch_and_gain_matter() {
    let x = play(vec![Note { onset: 0.5, ..NOTE }]);
    assert!(x[..10_900].iter().all(|&v| v == 0.0));
    assert!(rms(&x[12_000..30_000]) > 0.02);
    let level = |velocity, gain| {
        rms(&play(vec![Note {
            velocity,
            gain,
            ..NOTE
        }])[..20_000])
    };
    assert!(level(120, 1.0) > 2.0 * level(60, 1.0));
    assert!(level(100, 0.5) < 0.8 * level(100, 1.0));
}

#[test]
fn more_programs_than_channels_all_sound() {
    let notes: Vec<Note> = (0..40)
        .map(|i| Note {
            onset: 0.5 * f64::from(i),
            duration: 0.4,
            pitch: 60.0 + 0.1 * f64::from(i % 20),
            sound: Sound::Program((i * 3) as u8),
            ..NOTE
        })
        .collect();
    let x = play(notes);
    for i in 0..40 {
        let at = (0.5 * f64::from(i) * 22_050.0) as usize;
        assert!(rms(&x[at + 1000..at + 8000]) > 0.02, "note {i}");
    }
}

#[test]
fn overlapping_notes_of_one_key_do_not_cut_each_other_off() {
    let x = play(vec![
        Note {
            duration: 0.3,
            ..NOTE
        },
        Note {
            onset: 0.1,
            duration: 1.0,
            ..NOTE
        },
    ]);
    assert!(rms(&x[12_000..20_000]) > 0.02);
}

#[test]
fn what_cannot_be_played_is_said() {
    let read = |bytes: &[u8]| SoundFont::read(&mut Cursor::new(bytes)).unwrap_err();
    assert!(matches!(read(b""), Error::NotASoundFont));
    assert!(matches!(read(b"RIFF1234WAVEfmt "), Error::NotASoundFont));
    let whole = sf2(2);
    for length in [20, 200, whole.len() - 60] {
        let error = read(&whole[..length]);
        assert!(matches!(error, Error::SoundFontDamaged { .. }), "{error}");
    }
    // Zones of a preset that are not there, and samples beyond the end of the file.
    let at = |name: &[u8]| whole.windows(4).position(|w| w == name).unwrap();
    let claims = [
        (at(b"phdr") + 8 + 38 + 24, "leads to record"),
        (at(b"smpl") + 4 + 2, "the chunk `smpl` ends at byte"),
    ];
    for (place, expected) in claims {
        let mut bytes = whole.clone();
        bytes[place] = 0xff;
        let error = read(&bytes).to_string();
        assert!(error.contains(expected), "{error}");
    }
    // An SF3's samples are Ogg streams.
    let mut ogg = sf2(3);
    let at = ogg.windows(4).position(|w| w == b"smpl").unwrap() + 8;
    ogg[at..at + 4].copy_from_slice(b"OggS");
    let error = read(&ogg);
    assert!(matches!(error, Error::Sf3), "{error}");
    assert!(error.to_string().contains("sf3convert"));
    let options = Options { rate: 8000, ..DRY };
    let error = Renderer::with_sound_font(vec![NOTE], &font(), &options).unwrap_err();
    assert!(error.to_string().contains("8000 Hz"), "{error}");
}

proptest! {
    #[test]
    fn damaged_fonts_are_refused_or_read(at in 0usize..11_000, byte: u8) {
        let mut bytes = sf2(2);
        let at = at % bytes.len();
        bytes[at] = byte;
        // Refused or read; a player's panic would cost a worker, not the run, but
        // reading itself must be sound.
        let _ = SoundFont::read(&mut Cursor::new(bytes));
    }
}
