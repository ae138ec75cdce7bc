//! General MIDI's sound effects, the orchestra hit and the reverse cymbal.

use crate::envelope::Adsr;
use crate::noise::Pass;
use crate::patch::{Glide, Key, Patch, Tremolo, Vibrato, burst, steady};

/// Whether this module plays the program.
#[cfg(test)]
pub(super) fn owns(program: u8) -> bool {
    matches!(program, 55 | 119..=127)
}

const fn adsr(attack: f64, release: f64) -> Adsr {
    Adsr {
        attack,
        decay: 1.0,
        sustain: 1.0,
        release,
    }
}

/// The effect `program` at `key`; programs that are none of them blow wind.
pub(super) fn patch(program: u8, key: &mut Key) -> Patch {
    // Noises have no pitch to keep: the highest keys would be out of hearing.
    key.f0 = key.f0.min(600.0);
    match program {
        55 => orchestra_hit(key),
        119 => reverse_cymbal(key),
        120 => fret_noise(key),
        121 => breath_noise(key),
        122 => seashore(key),
        123 => bird(key),
        124 => telephone(key),
        125 => helicopter(key),
        126 => applause(key),
        127 => gunshot(key),
        _ => breath_noise(key),
    }
}

fn orchestra_hit(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.006, 0.3), 1.0);
    for ratio in [0.5, 1.0, 1.498_307, 2.0] {
        for k in 1..=24 {
            let n = f64::from(k);
            let f = n * ratio * key.f0;
            let tau = 0.5 / (1.0 + f / 1500.0);
            let phase = key.phase();
            patch
                .bank
                .push(f, n.powf(-0.9) * (-f / 5000.0).exp(), tau, phase, n);
        }
    }
    patch.bank.normalise(key.level);
    patch.noise(key, burst(Pass::Middle, 300.0, 0.6, 0.8, 0.2));
    patch.noise(key, burst(Pass::High, 3000.0, 0.7, 0.3, 0.3));
    patch
}

fn reverse_cymbal(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(1.6, 0.08), 1.0);
    patch.noise(key, steady(Pass::High, 4500.0, 0.7, 0.6));
    patch.noise(key, steady(Pass::Middle, 7000.0, 1.5, 0.4));
    patch
}

fn fret_noise(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.012, 0.05), 1.6);
    patch.glide = Some(Glide {
        from: 1.5,
        tau: 0.05,
    });
    for (ratio, amplitude) in [(4.0, 1.0), (8.1, 0.5), (12.3, 0.3)] {
        let phase = key.phase();
        patch
            .bank
            .push(ratio * key.f0, amplitude, 0.04, phase, ratio);
    }
    patch.bank.normalise(0.3 * key.level);
    patch.noise(key, burst(Pass::Middle, 8.0 * key.f0, 2.0, 0.8, 0.16));
    patch
}

fn breath_noise(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.18, 0.25), 1.0);
    patch.noise(key, steady(Pass::Middle, 5.0 * key.f0, 0.7, 0.5));
    patch.noise(key, steady(Pass::High, 4000.0, 0.7, 0.15));
    patch
}

fn seashore(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(1.2, 1.5), 1.0);
    patch.tremolo = Some(Tremolo {
        rate: 0.17,
        depth: 0.8,
    });
    patch.noise(key, steady(Pass::Low, 900.0, 0.7, 0.6));
    patch.noise(key, steady(Pass::Middle, 3500.0, 0.7, 0.3));
    patch
}

fn bird(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.02, 0.1), 1.3);
    patch.vibrato = Some(Vibrato {
        rate: 9.0,
        depth: 0.18,
        delay: -1.0,
    });
    patch.tremolo = Some(Tremolo {
        rate: 4.5,
        depth: 0.9,
    });
    for (ratio, amplitude) in [(8.0, 1.0), (16.0, 0.1)] {
        let phase = key.phase();
        patch
            .bank
            .push(ratio * key.f0, amplitude, f64::INFINITY, phase, ratio);
    }
    patch.bank.normalise(0.6 * key.level);
    patch.noise(key, steady(Pass::Middle, 8.0 * key.f0, 2.0, 0.05));
    patch
}

fn telephone(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.004, 0.1), 1.0);
    patch.tremolo = Some(Tremolo {
        rate: 20.0,
        depth: 0.95,
    });
    for (ratio, amplitude) in [
        (4.0, 1.0),
        (5.02, 0.9),
        (8.1, 0.4),
        (11.3, 0.3),
        (15.1, 0.2),
    ] {
        let phase = key.phase();
        patch
            .bank
            .push(ratio * key.f0, amplitude, f64::INFINITY, phase, ratio);
    }
    patch.bank.normalise(0.6 * key.level);
    patch
}

fn helicopter(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.3, 0.4), 1.0);
    patch.tremolo = Some(Tremolo {
        rate: 11.0,
        depth: 0.9,
    });
    patch.noise(key, steady(Pass::Low, 260.0, 0.9, 1.0));
    patch.noise(key, steady(Pass::Middle, 1200.0, 0.7, 0.25));
    patch
}

fn applause(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.35, 0.7), 1.0);
    patch.tremolo = Some(Tremolo {
        rate: 7.3,
        depth: 0.35,
    });
    patch.noise(key, steady(Pass::Middle, 1300.0, 0.8, 0.5));
    patch.noise(key, steady(Pass::Middle, 2600.0, 0.9, 0.4));
    patch
}

fn gunshot(key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, adsr(0.0008, 0.5), 2.2);
    patch.one_shot = true;
    patch.glide = Some(Glide {
        from: 2.0,
        tau: 0.03,
    });
    let phase = key.phase();
    patch.bank.push(70.0, 1.0, 0.06, phase, 1.0);
    patch.bank.normalise(0.8 * key.level);
    patch.noise(key, burst(Pass::High, 1500.0, 0.7, 1.4, 0.12));
    patch.noise(key, burst(Pass::Low, 700.0, 0.7, 1.3, 0.7));
    patch
}
