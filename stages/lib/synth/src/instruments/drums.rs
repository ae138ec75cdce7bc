//! The General MIDI percussion map (System Level 1, table 3, keys 35 to 81, and
//! the additions 27 to 34 and 82 to 87 of Level 2).
//!
//! Skins are sines whose pitch drops as the stroke's tension eases; metal is a
//! crowd of inharmonic sines under high-passed noise; snares, shakers and claps
//! are noise in bands.

use crate::envelope::Adsr;
use crate::noise::Pass;
use crate::patch::{Glide, Key, Patch, Tremolo, burst};

/// Voices of this group silence each other.
const HI_HAT: u8 = 1;
const WHISTLE: u8 = 2;
const GUIRO: u8 = 3;
const CUICA: u8 = 4;
const TRIANGLE: u8 = 5;

/// Six square-wave oscillators of the classic analogue cymbal, in Hz, with their
/// third harmonics: no two in a simple ratio.
const METAL: [f64; 12] = [
    205.3, 304.4, 369.6, 522.7, 540.0, 800.0, 2463.0, 3217.0, 4021.0, 5163.0, 6237.0, 8011.0,
];

/// The percussion instrument on key `number`.
pub(super) fn patch(number: u8, key: &mut Key) -> Patch {
    match number {
        35 => kick(key, 46.0, 0.5, 0.25),
        36 => kick(key, 54.0, 0.4, 0.5),
        31 | 32 | 37 => stick(key, 1700.0, 0.06),
        38 => snare(key, 185.0, 0.2, 1500.0),
        40 => snare(key, 225.0, 0.16, 2400.0),
        28 | 39 => clap(key),
        41 => tom(key, 82.0),
        43 => tom(key, 98.0),
        45 => tom(key, 123.0),
        47 => tom(key, 147.0),
        48 => tom(key, 175.0),
        50 => tom(key, 208.0),
        42 => hat(key, 0.07),
        44 => hat(key, 0.1),
        46 => hat(key, 0.8),
        49 => cymbal(key, 3500.0, 2.6, 1.0),
        57 => cymbal(key, 4200.0, 2.2, 1.0),
        52 => cymbal(key, 2200.0, 1.8, 1.3),
        55 => cymbal(key, 5000.0, 0.9, 1.0),
        51 => ride(key, 5200.0, 1.8, 0.35),
        59 => ride(key, 4400.0, 1.6, 0.45),
        53 => bell(key, &[1.0, 2.31, 3.87, 5.3], 780.0, 1.2),
        54 => shaker(key, 7500.0, 0.22, 0.002),
        56 => bell(key, &[1.0, 1.504, 2.6, 4.1], 562.0, 0.28),
        58 => vibraslap(key),
        60 => skin(key, 390.0, 0.22, 0.2),
        61 => skin(key, 290.0, 0.26, 0.2),
        62 => skin(key, 330.0, 0.07, 0.4),
        63 => skin(key, 320.0, 0.32, 0.25),
        64 => skin(key, 205.0, 0.42, 0.25),
        65 => skin(key, 440.0, 0.35, 0.6),
        66 => skin(key, 310.0, 0.42, 0.6),
        67 => bell(key, &[1.0, 1.51, 2.9], 920.0, 0.4),
        68 => bell(key, &[1.0, 1.51, 2.9], 660.0, 0.45),
        69 => shaker(key, 6000.0, 0.09, 0.02),
        70 => shaker(key, 8000.0, 0.06, 0.003),
        71 => whistle(key, 0.15),
        72 => whistle(key, 0.7),
        73 => guiro(key, 0.12),
        74 => guiro(key, 0.45),
        75 => stick(key, 2500.0, 0.08),
        76 => stick(key, 1050.0, 0.09),
        77 => stick(key, 760.0, 0.11),
        78 => cuica(key, 0.75),
        79 => cuica(key, 1.35),
        80 => triangle(key, 0.12),
        81 => triangle(key, 2.8),
        82 => shaker(key, 5000.0, 0.12, 0.01),
        83 => shaker(key, 9000.0, 0.7, 0.01),
        84 => bell(key, &[1.0, 1.34, 1.81, 2.42, 3.2], 2100.0, 1.8),
        85 => stick(key, 1300.0, 0.05),
        86 => kick(key, 74.0, 0.25, 0.15),
        87 => kick(key, 70.0, 0.8, 0.2),
        27 => bell(key, &[1.0, 2.0], 1500.0, 0.08),
        29 | 30 => guiro(key, 0.2),
        33 => stick(key, 3200.0, 0.03),
        34 => bell(key, &[1.0, 2.76], 2400.0, 0.5),
        _ => stick(key, 400.0 * (f64::from(number) / 24.0).exp2(), 0.08),
    }
}

/// An empty one-shot whose pitch, if it has one, comes down from `from` times.
fn empty(key: &Key, from: f64, tau: f64) -> Patch {
    let adsr = Adsr {
        attack: 0.0006,
        decay: 1.0,
        sustain: 1.0,
        release: 0.2,
    };
    let mut patch = Patch::new(key, adsr, from.max(1.0));
    patch.one_shot = true;
    if (from - 1.0).abs() > 1e-9 {
        patch.glide = Some(Glide { from, tau });
    }
    patch
}

/// Adds sines of (Hz, amplitude, seconds of 60 dB), together of `gain`.
fn sines(patch: &mut Patch, key: &mut Key, gain: f64, partials: &[(f64, f64, f64)]) {
    for &(f, amplitude, t60) in partials {
        let phase = key.phase();
        patch
            .bank
            .push(f, amplitude, t60 / 1000f64.ln(), phase, 1.0);
    }
    patch.bank.normalise(gain * key.level);
}

fn kick(key: &mut Key, f: f64, t60: f64, click: f64) -> Patch {
    let mut patch = empty(key, 3.2, 0.022);
    sines(
        &mut patch,
        key,
        1.9,
        &[(f, 1.0, t60), (1.6 * f, 0.25, 0.4 * t60)],
    );
    patch.noise(
        key,
        burst(Pass::Middle, 2400.0, 0.7, click * key.force, 0.018),
    );
    patch.noise(key, burst(Pass::Low, 400.0, 0.7, 0.5, 0.05));
    patch
}

fn snare(key: &mut Key, f: f64, t60: f64, corner: f64) -> Patch {
    let mut patch = empty(key, 1.3, 0.02);
    sines(
        &mut patch,
        key,
        0.9,
        &[(f, 1.0, 0.16), (1.78 * f, 0.6, 0.1)],
    );
    patch.noise(key, burst(Pass::High, corner, 0.7, 0.9, t60));
    patch.noise(key, burst(Pass::Middle, 2.0 * corner, 0.8, 0.7, 0.7 * t60));
    patch
}

fn tom(key: &mut Key, f: f64) -> Patch {
    let mut patch = empty(key, 1.5, 0.04);
    let t60 = 60.0 / f.max(60.0) + 0.25;
    sines(
        &mut patch,
        key,
        1.5,
        &[
            (f, 1.0, t60),
            (1.59 * f, 0.35, 0.5 * t60),
            (2.14 * f, 0.2, 0.35 * t60),
        ],
    );
    patch.noise(key, burst(Pass::Middle, 900.0, 0.6, 0.4 * key.force, 0.05));
    patch
}

fn hat(key: &mut Key, t60: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    patch.choke = Some(HI_HAT);
    let partials = METAL.map(|f| (2.1 * f + 1800.0, 1.0, t60));
    sines(&mut patch, key, 0.22, &partials);
    patch.noise(key, burst(Pass::High, 7000.0, 0.8, 0.6, t60));
    patch
}

fn cymbal(key: &mut Key, corner: f64, t60: f64, gain: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    let partials = METAL.map(|f| (1.37 * f + 260.0, 1.0, 0.7 * t60));
    sines(&mut patch, key, 0.3 * gain, &partials);
    patch.noise(key, burst(Pass::High, corner, 0.7, 0.75 * gain, t60));
    patch.noise(
        key,
        burst(Pass::Middle, 0.6 * corner, 0.6, 0.5 * gain, 0.35 * t60),
    );
    patch
}

fn ride(key: &mut Key, corner: f64, t60: f64, wash: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    let partials = METAL.map(|f| (1.9 * f + 400.0, 1.0, 0.8 * t60));
    sines(&mut patch, key, 0.4, &partials);
    patch.noise(key, burst(Pass::High, corner, 0.7, wash, t60));
    patch.noise(key, burst(Pass::Middle, 4000.0, 0.8, 0.5, 0.03));
    patch
}

fn bell(key: &mut Key, ratios: &[f64], f: f64, t60: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    let partials: Vec<_> = (1..)
        .zip(ratios)
        .map(|(i, r)| (r * f, 1.0 / f64::from(i).sqrt(), t60 / f64::from(i).sqrt()))
        .collect();
    sines(&mut patch, key, 0.8, &partials);
    patch.noise(key, burst(Pass::High, 3000.0, 0.7, 0.3, 0.012));
    patch
}

fn stick(key: &mut Key, f: f64, t60: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    sines(
        &mut patch,
        key,
        0.9,
        &[(f, 1.0, t60), (2.42 * f, 0.5, 0.6 * t60)],
    );
    patch.noise(key, burst(Pass::High, 1500.0, 0.7, 0.5, 0.015));
    patch
}

fn skin(key: &mut Key, f: f64, t60: f64, slap: f64) -> Patch {
    let mut patch = empty(key, 1.12, 0.03);
    sines(
        &mut patch,
        key,
        1.1,
        &[
            (f, 1.0, t60),
            (1.59 * f, 0.4, 0.5 * t60),
            (2.3 * f, 0.25, 0.3 * t60),
        ],
    );
    patch.noise(key, burst(Pass::Middle, 5.0 * f, 0.6, slap, 0.03));
    patch
}

fn clap(key: &mut Key) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    // Several hands: a noise that flutters before it rings out.
    patch.tremolo = Some(Tremolo {
        rate: 95.0,
        depth: 0.6,
    });
    patch.noise(key, burst(Pass::Middle, 1200.0, 1.6, 1.1, 0.14));
    patch.noise(key, burst(Pass::High, 1600.0, 0.7, 0.5, 0.06));
    patch
}

fn shaker(key: &mut Key, f: f64, t60: f64, attack: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    patch.adsr.attack = attack;
    patch.noise(key, burst(Pass::High, 0.6 * f, 0.7, 0.5, t60));
    patch.noise(key, burst(Pass::Middle, f, 2.5, 0.4, t60));
    patch
}

fn vibraslap(key: &mut Key) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    patch.tremolo = Some(Tremolo {
        rate: 27.0,
        depth: 0.95,
    });
    sines(
        &mut patch,
        key,
        0.5,
        &[(2100.0, 1.0, 0.9), (3400.0, 0.6, 0.7)],
    );
    patch.noise(key, burst(Pass::Middle, 2600.0, 2.0, 0.7, 0.9));
    patch
}

fn whistle(key: &mut Key, t60: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    patch.choke = Some(WHISTLE);
    patch.adsr.attack = 0.015;
    patch.tremolo = Some(Tremolo {
        rate: 32.0,
        depth: 0.5,
    });
    sines(
        &mut patch,
        key,
        0.6,
        &[(2350.0, 1.0, t60), (2420.0, 0.6, t60), (4720.0, 0.15, t60)],
    );
    patch.noise(key, burst(Pass::Middle, 2400.0, 3.0, 0.25, t60));
    patch
}

fn guiro(key: &mut Key, t60: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    patch.choke = Some(GUIRO);
    patch.adsr.attack = 0.01;
    patch.tremolo = Some(Tremolo {
        rate: 48.0,
        depth: 0.9,
    });
    patch.noise(key, burst(Pass::Middle, 2800.0, 1.5, 0.9, t60));
    patch
}

fn cuica(key: &mut Key, from: f64) -> Patch {
    let mut patch = empty(key, from, 0.07);
    patch.choke = Some(CUICA);
    patch.adsr.attack = 0.012;
    sines(
        &mut patch,
        key,
        1.0,
        &[(520.0, 1.0, 0.35), (1040.0, 0.5, 0.3), (1560.0, 0.3, 0.2)],
    );
    patch.noise(key, burst(Pass::Middle, 1100.0, 1.0, 0.15, 0.2));
    patch
}

fn triangle(key: &mut Key, t60: f64) -> Patch {
    let mut patch = empty(key, 1.0, 1.0);
    patch.choke = Some(TRIANGLE);
    let partials = [
        (1130.0, 0.4, t60),
        (2890.0, 0.6, t60),
        (4030.0, 1.0, 0.9 * t60),
        (5560.0, 0.8, 0.7 * t60),
        (7480.0, 0.6, 0.5 * t60),
        (9610.0, 0.4, 0.4 * t60),
    ];
    sines(&mut patch, key, 0.55, &partials);
    patch.noise(key, burst(Pass::High, 6000.0, 0.7, 0.2, 0.01));
    patch
}
