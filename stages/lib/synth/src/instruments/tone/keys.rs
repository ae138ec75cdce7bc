//! Organs, and guitars that are fed back on themselves.

use super::{TONE, ToneSpec, adsr, formant};
use crate::patch::Tremolo;

pub(super) fn organ(program: u8) -> &'static ToneSpec {
    // Drawbars in footage order 16', 5 1/3', 8', 4', 2 2/3', 2', 1 3/5', 1 1/3', 1';
    // each step is 3 dB. Sub-octave bars stay below the 8' bar, so that the key
    // keeps its pitch.
    const DRAWBAR: ToneSpec = ToneSpec {
        adsr: adsr(0.015, 0.1, 1.0, 0.05),
        ranks: &[
            (0.5, 0.5),
            (1.5, 0.45),
            (1.0, 1.0),
            (2.0, 0.7),
            (3.0, 0.5),
            (4.0, 0.5),
            (5.0, 0.25),
            (6.0, 0.25),
            (8.0, 0.35),
        ],
        harmonics: 1,
        slope: 1.0,
        soft: 0.0,
        chiff: (3000.0, 0.12, 0.012),
        vibrato: (4.0, 6.6, 0.0),
        tremolo: Some(Tremolo {
            rate: 6.6,
            depth: 0.12,
        }),
        trim: 0.85,
        ..TONE
    };
    const PERCUSSIVE: ToneSpec = ToneSpec {
        ranks: &[(0.5, 0.4), (1.0, 1.0), (1.5, 0.35), (2.0, 0.8), (3.0, 0.8)],
        adsr: adsr(0.004, 0.35, 0.6, 0.05),
        chiff: (2500.0, 0.3, 0.02),
        ..DRAWBAR
    };
    const ROCK: ToneSpec = ToneSpec {
        ranks: &[
            (0.5, 0.6),
            (1.0, 1.0),
            (1.5, 0.6),
            (2.0, 0.9),
            (3.0, 0.8),
            (4.0, 0.8),
            (5.0, 0.6),
            (6.0, 0.6),
            (8.0, 0.7),
        ],
        harmonics: 3,
        slope: 2.0,
        vibrato: (8.0, 6.9, 0.0),
        tremolo: Some(Tremolo {
            rate: 6.9,
            depth: 0.3,
        }),
        ..DRAWBAR
    };
    const CHURCH: ToneSpec = ToneSpec {
        adsr: adsr(0.06, 0.3, 1.0, 0.35),
        ranks: &[
            (0.5, 0.3),
            (1.0, 1.0),
            (2.002, 0.75),
            (3.0, 0.35),
            (3.997, 0.5),
            (8.01, 0.2),
        ],
        harmonics: 12,
        slope: 1.5,
        soft: 0.0,
        chiff: (1800.0, 0.2, 0.06),
        breath: (2.0, 0.7, 0.02),
        ..TONE
    };
    const REED: ToneSpec = ToneSpec {
        adsr: adsr(0.07, 0.2, 1.0, 0.12),
        slope: 0.9,
        soft: 0.1,
        even: 0.8,
        cutoff: 3000.0,
        formants: &[formant(900.0, 0.8, 0.8)],
        ..TONE
    };
    const ACCORDION: ToneSpec = ToneSpec {
        adsr: adsr(0.045, 0.2, 0.95, 0.09),
        ranks: &[(1.0, 1.0), (2.0, 0.35)],
        slope: 0.8,
        soft: 0.3,
        cutoff: 3600.0,
        copies: 2,
        spread: 14.0,
        formants: &[formant(1300.0, 0.8, 0.7)],
        trim: 0.9,
        ..TONE
    };
    const HARMONICA: ToneSpec = ToneSpec {
        adsr: adsr(0.05, 0.2, 0.9, 0.1),
        slope: 0.75,
        even: 0.7,
        cutoff: 3800.0,
        formants: &[formant(1700.0, 0.6, 1.0)],
        vibrato: (10.0, 5.2, 0.4),
        breath: (4.0, 0.7, 0.03),
        ..TONE
    };
    const TANGO: ToneSpec = ToneSpec {
        copies: 3,
        spread: 24.0,
        ranks: &[(1.0, 1.0)],
        slope: 0.75,
        ..ACCORDION
    };
    match program {
        16 => &DRAWBAR,
        17 => &PERCUSSIVE,
        18 => &ROCK,
        19 => &CHURCH,
        20 => &REED,
        21 => &ACCORDION,
        22 => &HARMONICA,
        _ => &TANGO,
    }
}

pub(super) fn guitar(program: u8) -> &'static ToneSpec {
    const OVERDRIVEN: ToneSpec = ToneSpec {
        adsr: adsr(0.004, 6.0, 0.25, 0.12),
        slope: 0.75,
        soft: 0.3,
        cutoff: 3000.0,
        formants: &[formant(700.0, 0.8, 0.8), formant(2400.0, 0.5, 0.9)],
        vibrato: (6.0, 5.0, 0.6),
        chiff: (2500.0, 0.25, 0.04),
        trim: 0.85,
        ..TONE
    };
    const DISTORTED: ToneSpec = ToneSpec {
        adsr: adsr(0.004, 9.0, 0.4, 0.1),
        slope: 0.45,
        even: 0.8,
        cutoff: 3400.0,
        chiff: (3000.0, 0.35, 0.06),
        trim: 0.75,
        ..OVERDRIVEN
    };
    if program == 29 {
        &OVERDRIVEN
    } else {
        &DISTORTED
    }
}
