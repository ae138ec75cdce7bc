//! Strings that are struck or plucked and then left alone: pianos, guitars,
//! basses, harps.
//!
//! Partial k of a stiff string stands at `k·f0·√((1 + B·k²)/(1 + B))`: partial 1
//! keeps the tempered pitch, the others are stretched (Fletcher, "Normal
//! vibration frequencies of a stiff piano string", JASA 36, 1964). For the piano
//! B follows Rigaud, David & Daudet, "A parametric model and estimation
//! techniques for the inharmonicity and tuning of the piano" (JASA 133, 2013):
//! the sum of a bass and a treble exponential of the key. A point β of the string
//! that is struck leaves out the partials with a node there (`sin kπβ`); a soft
//! hammer or finger leaves out the high ones; and partials die the faster the
//! higher they are (Bensa et al., JASA 114, 2003: σ = b1 + b3·ω²). Pairs of
//! strings detuned by fractions of a cent give the piano its two decays and its
//! slow beating (Weinreich, "Coupled piano strings", JASA 62, 1977).

mod table;

use std::f64::consts::PI;

use crate::bank::MAX_PARTIALS;
use crate::envelope::Adsr;
use crate::noise::Pass;
use crate::patch::{Formant, Key, Patch, Tremolo, burst, resonance};

pub(super) use table::spec;

/// How stiff the strings are.
#[derive(Debug, Clone, Copy)]
enum Stiffness {
    /// Rigaud's curve for a piano, times this factor.
    Piano(f64),
    /// The same B for every key.
    Constant(f64),
}

/// What a string instrument is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct StringSpec {
    /// Where it is struck, as a share of its length.
    position: f64,
    /// Partial k begins with `k^(−slope)`.
    slope: f64,
    /// Hz at which hammer or finger has taken 1/e, for middle C at full force.
    cutoff: f64,
    /// Exponent with which that rises along the keyboard.
    tracking: f64,
    /// Share of the cutoff that is left at the softest touch.
    soft: f64,
    stiffness: Stiffness,
    /// Decay rate of the fundamental of middle C in 1/s.
    sigma: f64,
    /// Semitones in which the decay rate doubles.
    doubling: f64,
    /// Decay rate added at 1 kHz in 1/s, growing with f^1.3.
    damping: f64,
    /// Share of the amplitude in a second string that decays more slowly; 0:
    /// one string only.
    second: f64,
    /// Cents between the two.
    beating: f64,
    /// Hz below which the body hardly radiates.
    floor: f64,
    body: &'static [Formant],
    attack: f64,
    /// Seconds of 60 dB after the key is let go, for middle C.
    release: f64,
    /// Pitch from which there are no dampers.
    undamped: f64,
    /// Noise of the stroke: Hz, gain, seconds.
    stroke: (f64, f64, f64),
    tremolo: Option<Tremolo>,
    trim: f64,
}

/// Inharmonicity B of a piano string.
fn piano_stiffness(pitch: f64) -> f64 {
    (-0.0847 * pitch - 5.82).exp() + (0.0926 * pitch - 13.64).exp()
}

/// The string `spec` at `key`.
pub(super) fn patch(spec: &StringSpec, key: &mut Key) -> Patch {
    let octaves = (key.pitch - 60.0) / 12.0;
    let release = if key.pitch >= spec.undamped {
        spec.release.max(2.0)
    } else {
        spec.release * (-0.45 * octaves).exp2().clamp(0.4, 2.0)
    };
    let adsr = Adsr {
        attack: spec.attack,
        decay: 1.0,
        sustain: 1.0,
        release,
    };
    let mut patch = Patch::new(key, adsr, 1.0);
    patch.tremolo = spec.tremolo;
    add_partials(&mut patch, spec, key);
    // The treble of real instruments is weaker; equal energy would pierce.
    let treble = 1.0 - 0.13 * (octaves - 1.0).clamp(0.0, 4.0);
    patch.bank.normalise(key.level * spec.trim * treble);
    let (centre, gain, t60) = spec.stroke;
    let centre = centre * (0.25 * octaves).exp2();
    let gain = gain * key.blend(0.5, 1.2);
    patch.noise(key, burst(Pass::Middle, centre, 0.7, gain, t60));
    patch
}

fn add_partials(patch: &mut Patch, spec: &StringSpec, key: &mut Key) {
    let b = match spec.stiffness {
        Stiffness::Piano(factor) => factor * piano_stiffness(key.pitch),
        Stiffness::Constant(b) => b,
    };
    let middle = key.f0 / 261.63;
    let cutoff = spec.cutoff * middle.powf(spec.tracking) * key.blend(spec.soft, 1.0);
    let sigma = spec.sigma * ((key.pitch - 60.0) / spec.doubling).exp2().clamp(0.3, 20.0);
    let strings = if spec.second > 0.0 { 2 } else { 1 };
    // The pitch that is heard is the mean by energy: amplitude² × duration.
    let (quick, slow) = (0.6, 1.9);
    let weight = spec.second.powi(2) * slow;
    let share = weight / (weight + (1.0 - spec.second).powi(2) * quick);
    let mut heard = 0.0f64;
    for k in 1..=MAX_PARTIALS / strings {
        let n = k as f64;
        let f = n * key.f0 * ((1.0 + b * n * n) / (1.0 + b)).sqrt();
        if f >= patch.bank.limit() {
            break;
        }
        // A hammer has a width and a string no perfect end: nodes are not empty.
        let comb = (0.08 + (n * PI * spec.position).sin().powi(2)).sqrt();
        let radiation = f * f / (f * f + spec.floor * spec.floor);
        // Wood is not smooth: every partial stands a little off the curve.
        let grain = 0.8 + 0.4 * key.wood.unit();
        let amplitude = comb
            * n.powf(-spec.slope)
            * (-f / cutoff).exp()
            * radiation
            * resonance(spec.body, f)
            * grain;
        heard = heard.max(amplitude);
        if amplitude < 2e-4 * heard && n > 4.0 {
            break;
        }
        let loss = sigma + spec.damping * (f / 1000.0).powf(1.3);
        if strings == 1 {
            let phase = key.phase();
            patch.bank.push(f, amplitude, 1.0 / loss, phase, n);
        } else {
            // Every partial beats in its own time: strings meet the bridge with
            // another impedance at each frequency. One detuning for all would
            // sweep a comb of nulls down the spectrum, as a flanger does.
            let beating = spec.beating / 1200.0 * (0.4 + 1.2 * key.wood.unit());
            let (sharp, flat) = ((share * beating).exp2(), ((share - 1.0) * beating).exp2());
            let (first, second) = (amplitude * (1.0 - spec.second), amplitude * spec.second);
            let phase = key.phase();
            patch.bank.push(f * sharp, first, quick / loss, phase, n);
            let phase = phase + 0.8 * (2.0 * key.wood.unit() - 1.0);
            patch.bank.push(f * flat, second, slow / loss, phase, n);
        }
    }
}
