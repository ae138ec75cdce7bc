//! Frequency modulation (Chowning, "The synthesis of complex audio spectra by
//! means of frequency modulation", JAES 21, 1973), written out as its sidebands.
//!
//! A carrier at c modulated at m with index I has partials at `c ± n·m` of
//! amplitude `J_n(I)`. Written out, those above the Nyquist frequency can be left
//! out, where modulation proper would fold them back. An index that decays makes
//! sideband n decay about n times as fast, because `J_n(I) ≈ (I/2)^n / n!`.

use std::f64::consts::PI;

use crate::envelope::Adsr;
use crate::noise::Pass;
use crate::patch::{Key, Patch, Tremolo, burst};

/// A carrier with its modulator.
#[derive(Debug, Clone, Copy)]
struct Pair {
    carrier: f64,
    modulator: f64,
    /// Modulation index at full force.
    index: f64,
    amplitude: f64,
    /// Seconds in which the carrier falls by 60 dB (middle C).
    t60: f64,
    /// Seconds in which the index falls by 60 dB; infinity: never.
    index_t60: f64,
}

/// What an FM instrument is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct FmSpec {
    pairs: &'static [Pair],
    adsr: Adsr,
    tremolo: Option<Tremolo>,
    /// Noise of the key: Hz, gain, seconds.
    click: (f64, f64, f64),
    trim: f64,
}

const INFINITE: f64 = f64::INFINITY;

const RHODES: FmSpec = FmSpec {
    pairs: &[
        Pair {
            carrier: 1.0,
            modulator: 1.0,
            index: 1.3,
            amplitude: 1.0,
            t60: 5.5,
            index_t60: 5.0,
        },
        Pair {
            carrier: 7.0,
            modulator: 1.0,
            index: 0.3,
            amplitude: 0.1,
            t60: 0.5,
            index_t60: 0.5,
        },
    ],
    adsr: Adsr {
        attack: 0.006,
        decay: 1.0,
        sustain: 1.0,
        release: 0.2,
    },
    tremolo: Some(Tremolo {
        rate: 4.8,
        depth: 0.18,
    }),
    click: (1500.0, 0.08, 0.02),
    trim: 0.9,
};

const TINE: FmSpec = FmSpec {
    pairs: &[
        Pair {
            carrier: 1.0,
            modulator: 14.0,
            index: 0.55,
            amplitude: 0.6,
            t60: 4.5,
            index_t60: 0.9,
        },
        Pair {
            carrier: 1.001,
            modulator: 1.0,
            index: 0.9,
            amplitude: 1.0,
            t60: 4.5,
            index_t60: 4.0,
        },
    ],
    adsr: Adsr {
        attack: 0.003,
        decay: 1.0,
        sustain: 1.0,
        release: 0.25,
    },
    tremolo: None,
    click: (3000.0, 0.05, 0.01),
    trim: 0.9,
};

const SYNTH_BASS_1: FmSpec = FmSpec {
    pairs: &[
        Pair {
            carrier: 1.0,
            modulator: 1.0,
            index: 3.2,
            amplitude: 1.0,
            t60: 6.0,
            index_t60: 3.5,
        },
        Pair {
            carrier: 0.5,
            modulator: 0.5,
            index: 0.5,
            amplitude: 0.35,
            t60: 6.0,
            index_t60: INFINITE,
        },
    ],
    adsr: Adsr {
        attack: 0.005,
        decay: 0.5,
        sustain: 0.6,
        release: 0.08,
    },
    tremolo: None,
    click: (1500.0, 0.03, 0.01),
    trim: 1.1,
};

const SYNTH_BASS_2: FmSpec = FmSpec {
    pairs: &[Pair {
        carrier: 1.0,
        modulator: 2.0,
        index: 2.4,
        amplitude: 1.0,
        t60: 9.0,
        index_t60: 5.0,
    }],
    adsr: Adsr {
        attack: 0.012,
        decay: 0.8,
        sustain: 0.7,
        release: 0.12,
    },
    ..SYNTH_BASS_1
};

const CRYSTAL: FmSpec = FmSpec {
    pairs: &[
        Pair {
            carrier: 1.0,
            modulator: 3.5,
            index: 1.6,
            amplitude: 0.8,
            t60: 4.5,
            index_t60: 2.2,
        },
        Pair {
            carrier: 2.003,
            modulator: 5.19,
            index: 0.8,
            amplitude: 0.5,
            t60: 2.5,
            index_t60: 1.5,
        },
    ],
    adsr: Adsr {
        attack: 0.004,
        decay: 1.0,
        sustain: 1.0,
        release: 1.8,
    },
    tremolo: None,
    click: (6000.0, 0.04, 0.01),
    trim: 0.8,
};

/// The FM instrument that plays this program, if one does.
pub(super) fn spec(program: u8) -> Option<&'static FmSpec> {
    Some(match program {
        4 => &RHODES,
        5 => &TINE,
        38 => &SYNTH_BASS_1,
        39 => &SYNTH_BASS_2,
        98 => &CRYSTAL,
        _ => return None,
    })
}

/// The FM instrument `spec` at `key`.
pub(super) fn patch(spec: &FmSpec, key: &mut Key) -> Patch {
    let mut patch = Patch::new(key, spec.adsr, 1.0);
    patch.tremolo = spec.tremolo;
    for pair in spec.pairs {
        add_pair(&mut patch, pair, key);
    }
    patch.bank.normalise(key.level * spec.trim);
    let (centre, gain, t60) = spec.click;
    patch.noise(key, burst(Pass::Middle, centre, 0.8, gain * key.force, t60));
    patch
}

fn add_pair(patch: &mut Patch, pair: &Pair, key: &mut Key) {
    // Force opens the index; towards the treble it has to close, or sidebands
    // would crowd the top of the spectrum.
    let treble = (261.63 / key.f0).powf(0.35).min(1.3);
    let index = pair.index * key.blend(0.25, 1.0) * treble;
    let shorten = (key.f0 / 261.63).powf(-0.35).clamp(0.3, 2.5);
    let sigma = 1000f64.ln() / (pair.t60 * shorten);
    let close = 1000f64.ln() / pair.index_t60;
    let phase = key.phase();
    for n in 0..=12i32 {
        let strength = pair.amplitude * bessel(n, index);
        let tau = 1.0 / (sigma + f64::from(n) * close);
        let (up, down) = (
            pair.carrier + f64::from(n) * pair.modulator,
            pair.carrier - f64::from(n) * pair.modulator,
        );
        patch.bank.push(up * key.f0, strength, tau, phase, up.abs());
        if n > 0 {
            // A negative frequency is the positive one with its sine turned
            // over; odd lower sidebands carry a minus besides.
            let sign = if n % 2 == 0 { 1.0 } else { -1.0 };
            let turned = if down < 0.0 { -phase } else { phase };
            let f = down.abs() * key.f0;
            patch.bank.push(f, sign * strength, tau, turned, down.abs());
        }
    }
}

/// Bessel function of the first kind, by Bessel's integral; the trapezoid rule
/// is exact to rounding for a periodic integrand.
fn bessel(n: i32, x: f64) -> f64 {
    const POINTS: usize = 64;
    (0..POINTS)
        .map(|i| {
            let t = 2.0 * PI * i as f64 / POINTS as f64;
            (f64::from(n) * t - x * t.sin()).cos()
        })
        .sum::<f64>()
        / POINTS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bessel_functions_are_those_of_the_tables() {
        for (n, x, want) in [
            (0, 1.0, 0.765_197_686_6),
            (1, 1.0, 0.440_050_585_7),
            (2, 3.0, 0.486_091_260_6),
            (5, 2.0, 0.007_039_629_756),
        ] {
            assert!((bessel(n, x) - want).abs() < 1e-9, "J_{n}({x})");
        }
    }
}
