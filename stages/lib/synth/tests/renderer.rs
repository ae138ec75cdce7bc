//! The renderer as a whole: streaming, bounded, repeatable, and safe with any input.

mod measure;

use measure::{DRY, NOTE, bin_width, power, render, rms};
use proptest::prelude::*;
use synth::{Error, MAX_SECONDS, Note, Options, POLYPHONY, Renderer, Sound};

fn tune() -> Vec<Note> {
    (0..24)
        .map(|i| Note {
            onset: 0.21 * f64::from(i),
            duration: 0.3,
            pitch: 48.0 + f64::from(i * 7 % 24),
            velocity: 60 + (i * 5 % 60) as u8,
            sound: match i % 4 {
                0 => Sound::Drum(38),
                1 => Sound::Program(73),
                2 => Sound::Program(48),
                _ => Sound::Program(0),
            },
            ..NOTE
        })
        .collect()
}

#[test]
fn buffer_sizes_and_the_order_of_notes_change_nothing() {
    let options = Options::default();
    let whole = render(tune(), &options);
    for size in [1, 63, 64, 1000] {
        let mut notes = tune();
        notes.reverse();
        let mut renderer = Renderer::new(notes, &options).unwrap();
        let mut samples = Vec::new();
        let mut block = vec![0.0; size];
        loop {
            let count = renderer.fill(&mut block).unwrap();
            samples.extend_from_slice(&block[..count]);
            if count == 0 {
                break;
            }
        }
        assert_eq!(samples.len() as u64, renderer.total());
        assert!(samples == whole, "blocks of {size}");
    }
}

#[test]
fn the_seed_changes_the_noise_and_nothing_else_does() {
    let other = Options {
        seed: 1,
        ..Options::default()
    };
    assert!(render(tune(), &other) != render(tune(), &Options::default()));
    // A note elsewhere leaves the noise of this one alone.
    let alone = render(tune(), &DRY);
    let mut more = tune();
    more.push(Note { onset: 5.2, ..NOTE });
    let n = 110_000;
    assert!(render(more, &DRY)[..n] == alone[..n]);
}

#[test]
fn onsets_are_exact_to_a_sample() {
    for onset in [0.0, 0.1, 0.777] {
        let note = Note {
            onset,
            sound: Sound::Drum(42),
            ..NOTE
        };
        let x = render(vec![note], &DRY);
        let first = x.iter().position(|v| v.abs() > 1e-6).unwrap();
        let want = (onset * 22_050.0).round() as usize;
        assert!((want..want + 4).contains(&first), "{first} for {want}");
    }
}

#[test]
fn no_notes_are_no_samples_and_mute_notes_are_silence() {
    assert!(render(Vec::new(), &Options::default()).is_empty());
    let mute = Note { gain: 0.0, ..NOTE };
    let x = render(vec![mute], &Options::default());
    assert_eq!(x.len(), 55_125);
    assert!(x.iter().all(|&v| v == 0.0));
}

#[test]
fn the_end_fades_to_nothing() {
    let x = render(
        vec![Note {
            sound: Sound::Drum(49),
            ..NOTE
        }],
        &Options::default(),
    );
    assert!(x[x.len() - 20..].iter().all(|v| v.abs() < 1e-5));
}

#[test]
fn nothing_aliases() {
    // Whatever lies below the fundamental, or between harmonics that all are
    // multiples of it, would have been folded there.
    for rate in [11_025, 22_050, 44_100] {
        for program in [0, 4, 5, 16, 50, 56, 62, 71, 80, 81, 84, 86, 98] {
            let options = Options { rate, ..DRY };
            let note = Note {
                pitch: 99.0,
                velocity: 127,
                duration: 1.5,
                sound: Sound::Program(program),
                ..NOTE
            };
            let x = render(vec![note], &options);
            let p = power(&x[rate as usize / 2..3 * rate as usize / 2]);
            let width = bin_width(&p, rate);
            let f0 = 440.0 * f64::exp2(30.0 / 12.0);
            // Sub-octave ranks of organs stand at half the pitch.
            let below: f64 = p[(60.0 / width) as usize..(0.45 * f0 / width) as usize]
                .iter()
                .sum();
            let db = 10.0 * (below / p.iter().sum::<f64>()).log10();
            assert!(db < -60.0, "program {program} at {rate} Hz: {db:.1} dB");
        }
    }
}

#[test]
fn the_same_piece_sounds_the_same_at_every_rate() {
    let at = |rate| {
        let x = render(vec![NOTE], &Options { rate, ..DRY });
        rms(&x[..rate as usize])
    };
    let db = 20.0 * (at(48_000) / at(16_000)).log10();
    assert!(db.abs() < 0.5, "{db}");
}

#[test]
fn thousands_of_notes_at_once_are_bounded_in_voices_and_level() {
    let notes: Vec<Note> = (0..20_000)
        .map(|i| Note {
            onset: f64::from(i / 2000) * 0.05,
            duration: 20.0,
            pitch: 30.0 + f64::from(i % 60),
            velocity: 127,
            sound: Sound::Program((i % 128) as u8),
            ..NOTE
        })
        .collect();
    let mut renderer = Renderer::new(notes, &Options::default()).unwrap();
    let mut block = vec![0.0; 2048];
    for _ in 0..10 {
        renderer.fill(&mut block).unwrap();
        assert!(renderer.voices() <= POLYPHONY + 65);
        assert!(block.iter().all(|v| v.abs() <= 1.0));
    }
}

#[test]
fn stealing_does_not_click() {
    // 300 soft notes held, the last of which take over from the first.
    let notes: Vec<Note> = (0..300)
        .map(|i| Note {
            onset: f64::from(i) * 0.01,
            duration: 4.0,
            pitch: 40.0 + f64::from(i % 40),
            velocity: 20,
            sound: Sound::Program(73),
            ..NOTE
        })
        .collect();
    let x = render(notes, &DRY);
    let jump = x
        .windows(3)
        .map(|w| (w[2] - 2.0 * w[1] + w[0]).abs())
        .fold(0f32, f32::max);
    let level = x.iter().fold(0f32, |a, v| a.max(v.abs()));
    assert!(jump < 0.5 * level, "{jump} of {level}");
}

#[test]
fn an_open_hi_hat_is_closed_by_the_pedal() {
    let hat = |onset, key| Note {
        onset,
        sound: Sound::Drum(key),
        ..NOTE
    };
    let open = render(vec![hat(0.0, 46)], &DRY);
    let shut = render(vec![hat(0.0, 46), hat(0.1, 44)], &DRY);
    let late = 5000..8000;
    assert!(rms(&shut[late.clone()]) < 0.3 * rms(&open[late]));
}

#[test]
fn wrong_notes_and_options_are_named() {
    let nan = f64::NAN;
    let rows: [(Note, &str); 11] = [
        (Note { pitch: nan, ..NOTE }, "note 1: pitch is NaN"),
        (
            Note {
                pitch: -1.0,
                ..NOTE
            },
            "note 1: pitch is -1",
        ),
        (
            Note {
                pitch: 128.0,
                ..NOTE
            },
            "note 1: pitch is 128",
        ),
        (Note { onset: nan, ..NOTE }, "note 1: onset is NaN s"),
        (
            Note {
                onset: -0.1,
                ..NOTE
            },
            "note 1: onset is -0.1 s",
        ),
        (
            Note {
                duration: f64::INFINITY,
                ..NOTE
            },
            "note 1: duration is inf s",
        ),
        (
            Note {
                duration: 1e9,
                ..NOTE
            },
            "note 1 ends at 1000000000.0 s, expected at most 86400 s",
        ),
        (
            Note {
                velocity: 0,
                ..NOTE
            },
            "note 1: velocity is 0, expected 1 to 127",
        ),
        (
            Note {
                gain: f32::NAN,
                ..NOTE
            },
            "note 1: gain is NaN",
        ),
        (
            Note {
                sound: Sound::Program(128),
                ..NOTE
            },
            "note 1: program is 128, expected 0 to 127",
        ),
        (
            Note {
                sound: Sound::Drum(200),
                ..NOTE
            },
            "note 1: percussion key is 200",
        ),
    ];
    for (note, want) in rows {
        let error = Renderer::new(vec![NOTE, note], &DRY).unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}");
    }
    for (options, want) in [
        (Options { rate: 0, ..DRY }, "option `rate` is 0"),
        (Options { level: nan, ..DRY }, "option `level` is NaN"),
        (Options { reverb: 1.5, ..DRY }, "option `reverb` is 1.5"),
        (Options { tail: -1.0, ..DRY }, "option `tail` is -1"),
    ] {
        let error = Renderer::new(vec![NOTE], &options).unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}");
    }
}

#[test]
fn a_day_of_silence_costs_no_memory() {
    let last = Note {
        onset: MAX_SECONDS - 2.0,
        ..NOTE
    };
    let renderer = Renderer::new(vec![NOTE, last], &DRY).unwrap();
    assert!(renderer.total() > 1_900_000_000);
    assert_eq!(renderer.voices(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_notes_stay_within_bounds(
        raw in prop::collection::vec(
            (0.0..0.5f64, 0.0..2.0f64, 0.0..128.0f64, 1..=127u8, 0.0..4.0f32, 0..=255u8), 1..20),
        rate in 1000..60_000u32,
        reverb in 0.0..=1.0f64,
    ) {
        let notes: Vec<Note> = raw
            .into_iter()
            .map(|(onset, duration, pitch, velocity, gain, sound)| Note {
                onset, duration, pitch, velocity, gain,
                sound: if sound < 128 { Sound::Program(sound) } else { Sound::Drum(sound - 128) },
            })
            .collect();
        let options = Options { rate, reverb, tail: 0.1, level: 12.0, seed: 3 };
        let x = render(notes, &options);
        prop_assert!(x.iter().all(|v| v.is_finite() && v.abs() <= 0.966));
    }

    #[test]
    fn any_numbers_are_refused_or_played(
        onset: f64, duration: f64, pitch: f64, velocity: u8, gain: f32, sound: u8,
    ) {
        let note = Note { onset, duration, pitch, velocity, gain, sound: Sound::Program(sound) };
        match Renderer::new(vec![note], &DRY) {
            Ok(mut renderer) => {
                let mut block = [0.0; 500];
                renderer.fill(&mut block).unwrap();
                prop_assert!(block.iter().all(|v| v.is_finite()));
            }
            Err(error) => {
                let expected = matches!(error, Error::Note { .. } | Error::TooLong { .. });
                prop_assert!(expected, "{error}");
            }
        }
    }
}
