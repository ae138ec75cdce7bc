//! Synthesiser leads, pads and their effects.

use super::{TONE, ToneSpec, adsr, formant, swell};
use crate::patch::Tremolo;

pub(super) fn lead(program: u8) -> &'static ToneSpec {
    const SQUARE: ToneSpec = ToneSpec {
        adsr: adsr(0.006, 0.2, 0.9, 0.06),
        slope: 0.72,
        soft: 0.2,
        even: 0.0,
        cutoff: 9000.0,
        vibrato: (6.0, 5.5, 0.35),
        trim: 0.8,
        ..TONE
    };
    const SAWTOOTH: ToneSpec = ToneSpec {
        slope: 0.9,
        even: 1.0,
        copies: 2,
        spread: 9.0,
        cutoff: 10_000.0,
        trim: 0.75,
        ..SQUARE
    };
    const CALLIOPE: ToneSpec = ToneSpec {
        adsr: adsr(0.04, 0.2, 0.9, 0.1),
        slope: 2.0,
        even: 0.7,
        breath: (2.0, 0.6, 0.14),
        chiff: (2500.0, 0.4, 0.05),
        ..SQUARE
    };
    const CHIFF: ToneSpec = ToneSpec {
        adsr: adsr(0.01, 0.3, 0.75, 0.1),
        slope: 1.6,
        even: 0.5,
        chiff: (2800.0, 1.2, 0.08),
        breath: (3.0, 0.6, 0.05),
        ..SQUARE
    };
    const CHARANG: ToneSpec = ToneSpec {
        adsr: adsr(0.004, 0.8, 0.7, 0.1),
        slope: 0.6,
        even: 0.9,
        cutoff: 5000.0,
        copies: 2,
        spread: 6.0,
        formants: &[formant(1800.0, 0.6, 1.0)],
        trim: 0.7,
        ..SQUARE
    };
    const VOICE: ToneSpec = ToneSpec {
        adsr: adsr(0.05, 0.4, 0.9, 0.15),
        slope: 1.2,
        even: 1.0,
        cutoff: 4000.0,
        formants: &[
            formant(650.0, 0.35, 2.5),
            formant(1080.0, 0.3, 2.0),
            formant(2600.0, 0.3, 2.0),
        ],
        breath: (4.0, 0.6, 0.05),
        ..SQUARE
    };
    const FIFTHS: ToneSpec = ToneSpec {
        ranks: &[(1.0, 1.0), (1.498_307, 0.75)],
        slope: 0.95,
        even: 1.0,
        cutoff: 8000.0,
        trim: 0.7,
        ..SQUARE
    };
    const BASS_LEAD: ToneSpec = ToneSpec {
        ranks: &[(1.0, 1.0), (0.5, 0.7)],
        even: 1.0,
        slope: 1.0,
        cutoff: 3500.0,
        swell: swell(1.0, 0.01, 0.3, 0.4),
        ..SQUARE
    };
    match program {
        80 => &SQUARE,
        81 => &SAWTOOTH,
        82 => &CALLIOPE,
        83 => &CHIFF,
        84 => &CHARANG,
        85 => &VOICE,
        86 => &FIFTHS,
        _ => &BASS_LEAD,
    }
}

pub(super) fn pad(program: u8) -> &'static ToneSpec {
    const WARM: ToneSpec = ToneSpec {
        adsr: adsr(0.55, 1.5, 0.9, 1.2),
        slope: 1.8,
        soft: 0.3,
        cutoff: 1800.0,
        copies: 3,
        spread: 20.0,
        swell: swell(0.8, 0.9, 0.8, 3.0),
        trim: 1.0,
        ..TONE
    };
    const NEW_AGE: ToneSpec = ToneSpec {
        adsr: adsr(0.35, 1.5, 0.8, 1.6),
        ranks: &[(1.0, 1.0), (2.003, 0.4), (4.0, 0.25)],
        slope: 2.0,
        cutoff: 4000.0,
        chiff: (5000.0, 0.1, 0.1),
        ..WARM
    };
    const POLYSYNTH: ToneSpec = ToneSpec {
        adsr: adsr(0.12, 1.0, 0.8, 0.7),
        slope: 1.1,
        cutoff: 4500.0,
        ..WARM
    };
    const CHOIR: ToneSpec = ToneSpec {
        adsr: adsr(0.6, 1.5, 0.95, 1.0),
        slope: 1.6,
        cutoff: 4000.0,
        formants: &[
            formant(600.0, 0.35, 3.0),
            formant(1000.0, 0.3, 2.0),
            formant(2500.0, 0.3, 1.6),
        ],
        vibrato: (6.0, 4.9, 0.5),
        breath: (4.0, 0.6, 0.04),
        ..WARM
    };
    const BOWED: ToneSpec = ToneSpec {
        adsr: adsr(0.8, 1.5, 0.95, 1.4),
        slope: 1.5,
        even: 0.6,
        cutoff: 5000.0,
        spread: 12.0,
        ranks: &[(1.0, 1.0), (2.756, 0.12)],
        ..WARM
    };
    const METALLIC: ToneSpec = ToneSpec {
        adsr: adsr(0.3, 2.0, 0.75, 1.5),
        ranks: &[(1.0, 1.0), (2.76, 0.35), (5.4, 0.2)],
        harmonics: 6,
        slope: 1.4,
        cutoff: 6000.0,
        ..WARM
    };
    const HALO: ToneSpec = ToneSpec {
        adsr: adsr(0.9, 2.0, 0.95, 2.0),
        slope: 1.5,
        cutoff: 6000.0,
        formants: &[formant(3000.0, 0.6, 2.0)],
        breath: (8.0, 0.6, 0.1),
        ..WARM
    };
    const SWEEP: ToneSpec = ToneSpec {
        adsr: adsr(0.4, 2.0, 0.95, 1.5),
        slope: 0.9,
        cutoff: 5000.0,
        swell: swell(2.5, 2.5, 0.3, 3.0),
        ..WARM
    };
    const RAIN: ToneSpec = ToneSpec {
        adsr: adsr(0.035, 1.2, 0.35, 1.5),
        ranks: &[(1.0, 1.0), (3.01, 0.3), (6.3, 0.2)],
        harmonics: 4,
        slope: 0.9,
        cutoff: 7000.0,
        tremolo: Some(Tremolo {
            rate: 11.0,
            depth: 0.25,
        }),
        chiff: (6000.0, 0.5, 0.2),
        copies: 1,
        swell: None,
        ..WARM
    };
    const SOUNDTRACK: ToneSpec = ToneSpec {
        adsr: adsr(0.9, 2.0, 0.95, 1.8),
        ranks: &[(1.0, 1.0), (1.498_307, 0.5)],
        slope: 1.3,
        cutoff: 3000.0,
        ..WARM
    };
    const ATMOSPHERE: ToneSpec = ToneSpec {
        adsr: adsr(0.006, 1.2, 0.45, 1.5),
        slope: 1.3,
        cutoff: 3500.0,
        chiff: (2500.0, 0.25, 0.05),
        swell: None,
        ..WARM
    };
    const BRIGHTNESS: ToneSpec = ToneSpec {
        adsr: adsr(0.02, 1.5, 0.6, 1.2),
        slope: 0.8,
        cutoff: 8000.0,
        swell: None,
        ranks: &[(1.0, 1.0), (2.003, 0.5)],
        trim: 0.75,
        ..WARM
    };
    const GOBLINS: ToneSpec = ToneSpec {
        adsr: adsr(0.7, 2.0, 0.9, 1.5),
        slope: 1.4,
        cutoff: 2500.0,
        vibrato: (40.0, 3.1, 0.0),
        tremolo: Some(Tremolo {
            rate: 6.0,
            depth: 0.5,
        }),
        breath: (3.0, 0.8, 0.15),
        ..WARM
    };
    const ECHOES: ToneSpec = ToneSpec {
        adsr: adsr(0.02, 2.5, 0.3, 2.5),
        slope: 1.5,
        cutoff: 4000.0,
        tremolo: Some(Tremolo {
            rate: 3.3,
            depth: 0.8,
        }),
        swell: None,
        ..WARM
    };
    const SCI_FI: ToneSpec = ToneSpec {
        adsr: adsr(0.15, 2.0, 0.8, 1.5),
        ranks: &[(1.0, 1.0), (1.414, 0.5), (2.83, 0.3)],
        slope: 1.4,
        cutoff: 5000.0,
        vibrato: (25.0, 6.5, 0.0),
        ..WARM
    };
    match program {
        88 => &NEW_AGE,
        89 => &WARM,
        90 => &POLYSYNTH,
        91 => &CHOIR,
        92 => &BOWED,
        93 => &METALLIC,
        94 => &HALO,
        95 => &SWEEP,
        96 => &RAIN,
        97 => &SOUNDTRACK,
        99 => &ATMOSPHERE,
        100 => &BRIGHTNESS,
        101 => &GOBLINS,
        102 => &ECHOES,
        _ => &SCI_FI,
    }
}
