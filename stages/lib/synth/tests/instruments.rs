//! The instruments measured: in tune, told apart, answering to touch.

mod measure;

use measure::{attack, bin_width, centroid, cents, loudness, pitch_near, play, power, rms, share};
use synth::Sound::{Drum, Program};

const RATE: u32 = 22_050;
const MIDDLE_C: f64 = 261.625_565;

/// Programs whose pitch is meant to move, or to be out of tune, or that have none.
fn is_unpitched(program: u8) -> bool {
    matches!(program, 3 | 55 | 101 | 103 | 115..=127)
}

#[test]
fn every_melodic_program_is_in_tune() {
    let mut wrong = Vec::new();
    for program in (0..128).filter(|&p| !is_unpitched(p)) {
        let x = play(Program(program), 60.0, 100, 4.0);
        let off = cents(pitch_near(&x[..4 * 22_050], RATE, MIDDLE_C), MIDDLE_C);
        if off.abs() > 2.0 {
            wrong.push((program, off));
        }
    }
    assert!(wrong.is_empty(), "cents off: {wrong:?}");
}

#[test]
fn the_keyboard_is_in_tune_and_so_are_microtones() {
    for pitch in [28.0, 40.0, 55.3, 69.0, 69.5, 84.25, 100.0] {
        let f = 440.0 * f64::exp2((pitch - 69.0) / 12.0);
        for program in [0, 40, 71, 73] {
            let x = play(Program(program), pitch, 90, 2.0);
            let off = cents(pitch_near(&x[..2 * 22_050], RATE, f), f);
            assert!(
                off.abs() < 2.0,
                "program {program} at {pitch}: {off:.2} cents"
            );
        }
    }
}

/// The families of General MIDI: eight programs each, of which the first is measured.
const FAMILIES: [&str; 16] = [
    "piano",
    "chromatic percussion",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "lead",
    "pad",
    "effect",
    "ethnic",
    "percussive",
    "sound effect",
];

#[test]
fn families_are_told_apart_by_attack_and_centroid() {
    let measured: Vec<_> = FAMILIES
        .iter()
        .zip((0u8..).step_by(8))
        .map(|(name, program)| {
            let x = play(Program(program), 60.0, 100, 2.0);
            let x = &x[..44_100];
            (name, attack(x, RATE), centroid(x, RATE))
        })
        .collect();
    for (name, attack, centroid) in &measured {
        println!("{name:21} {:6.1} ms {centroid:6.0} Hz", 1e3 * attack);
    }
    let mut alike = Vec::new();
    for (i, a) in measured.iter().enumerate() {
        for b in &measured[..i] {
            // In units of what is clearly another sound: half as long again, or
            // centred a whole tone higher.
            let slower = ((a.1 + 2e-3) / (b.1 + 2e-3)).ln() / 1.5f64.ln();
            let brighter = (a.2 / b.2).log2() * 6.0;
            if slower.hypot(brighter) < 1.0 {
                alike.push((a, b));
            }
        }
    }
    assert!(alike.is_empty(), "alike: {alike:?}");
}

#[test]
fn plucked_sounds_die_away_and_blown_ones_last() {
    for (program, lasts) in [
        (0, false),
        (12, false),
        (24, false),
        (46, false),
        (105, false),
        (16, true),
        (40, true),
        (56, true),
        (68, true),
        (73, true),
        (80, true),
        (89, true),
    ] {
        let x = play(Program(program), 60.0, 100, 3.0);
        let change = rms(&x[50_000..60_000]) / rms(&x[12_000..20_000]);
        assert_eq!(change > 0.7, lasts, "program {program}: {change:.2}");
    }
}

#[test]
fn a_clarinet_has_odd_harmonics_and_an_oboe_all() {
    let ratio = |program| {
        let x = play(Program(program), 60.0, 100, 2.0);
        let p = power(&x[8000..40_000]);
        let width = bin_width(&p, RATE);
        let at = |k: f64| {
            let bin = (k * MIDDLE_C / width) as usize;
            p[bin - 40..bin + 40].iter().sum::<f64>()
        };
        (at(2.0) + at(4.0)) / (at(3.0) + at(5.0))
    };
    assert!(ratio(71) < 0.05, "{}", ratio(71));
    assert!(ratio(68) > 0.3, "{}", ratio(68));
}

#[test]
fn brass_brightens_after_it_has_begun() {
    let x = play(Program(56), 60.0, 110, 1.0);
    let early = centroid(&x[300..1500], RATE);
    let late = centroid(&x[5000..9000], RATE);
    assert!(late > 1.15 * early, "{early:.0} Hz, then {late:.0} Hz");
}

#[test]
fn flutes_breathe_and_clarinets_do_not() {
    // Between the harmonics.
    let breath = |program| {
        let x = play(Program(program), 69.0, 100, 2.0);
        share(&x[8000..40_000], RATE, 560.0, 760.0)
    };
    assert!(
        breath(75) > 10.0 * breath(71),
        "{} {}",
        breath(75),
        breath(71)
    );
}

#[test]
fn piano_strings_are_stiff_and_their_treble_dies_first() {
    let x = play(Program(0), 48.0, 100, 4.0);
    let f0 = MIDDLE_C / 2.0;
    let tenth = pitch_near(&x[..44_100], RATE, 10.0 * f0 * 1.009);
    let stretch = cents(tenth, 10.0 * f0);
    assert!(
        (3.0..40.0).contains(&stretch),
        "partial 10 is {stretch:.1} cents sharp"
    );
    let early = centroid(&x[..11_025], RATE);
    let late = centroid(&x[44_100..66_150], RATE);
    assert!(late < 0.8 * early, "{early:.0} Hz, then {late:.0} Hz");
    // Bass strings ring longer.
    let fall = |pitch| {
        let x = play(Program(0), pitch, 100, 2.0);
        rms(&x[33_000..44_000]) / rms(&x[1000..11_000])
    };
    assert!(fall(36.0) > 2.0 * fall(96.0));
}

#[test]
fn velocity_makes_louder_and_brighter() {
    for program in [0, 24, 40, 56, 65] {
        let soft = play(Program(program), 60.0, 40, 1.0);
        let hard = play(Program(program), 60.0, 120, 1.0);
        let louder = 20.0 * (rms(&hard) / rms(&soft)).log10();
        assert!(
            (14.0..26.0).contains(&louder),
            "program {program}: {louder:.1} dB"
        );
        let (dark, bright) = (centroid(&soft, RATE), centroid(&hard, RATE));
        assert!(
            bright > 1.04 * dark,
            "program {program}: {dark:.0} to {bright:.0} Hz"
        );
    }
}

#[test]
fn programs_are_about_equally_loud() {
    let mut wrong = Vec::new();
    for program in 0..120 {
        let x = play(Program(program), 60.0, 100, 2.5);
        let top = loudness(&x, RATE).into_iter().fold(0.0, f64::max);
        let db = 20.0 * top.log10();
        if !(-27.0..-10.0).contains(&db) {
            wrong.push((program, db));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn drums_sound_where_they_should() {
    // (key, lowest and highest centroid in Hz, shortest and longest time to -20 dB)
    let rows = [
        (36, 40.0, 250.0, 0.05, 0.4),
        (38, 300.0, 6000.0, 0.03, 0.3),
        (42, 4500.0, 10_500.0, 0.005, 0.08),
        (46, 4500.0, 10_500.0, 0.1, 0.6),
        (41, 60.0, 300.0, 0.1, 0.6),
        (50, 150.0, 500.0, 0.1, 0.6),
        (49, 2500.0, 9000.0, 0.25, 1.5),
        (51, 2000.0, 9000.0, 0.25, 1.5),
        (39, 800.0, 5000.0, 0.02, 0.2),
        (56, 500.0, 2500.0, 0.03, 0.25),
        (75, 1500.0, 5000.0, 0.01, 0.1),
        (81, 3000.0, 9000.0, 0.4, 2.0),
    ];
    for (key, low, high, short, long) in rows {
        let x = play(Drum(key), 60.0, 110, 2.5);
        let middle = centroid(&x, RATE);
        let l = loudness(&x, RATE);
        let top = l.iter().copied().fold(0.0, f64::max);
        let time = l.iter().rposition(|&v| v > 0.1 * top).unwrap() as f64 * 0.5e-3;
        assert!(
            (low..high).contains(&middle),
            "key {key}: centroid {middle:.0} Hz"
        );
        assert!((short..long).contains(&time), "key {key}: {time:.3} s");
    }
}

#[test]
fn every_drum_key_sounds() {
    for key in 0..=127 {
        let x = play(Drum(key), 0.0, 100, 0.1);
        let top = loudness(&x, RATE).into_iter().fold(0.0, f64::max);
        assert!((0.01..0.6).contains(&top), "key {key}: {top}");
    }
}
