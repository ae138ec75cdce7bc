//! Bowed strings and voices, alone and together.

use super::{TONE, ToneSpec, adsr, formant, swell};
use crate::patch::Tremolo;

const VIOLIN: ToneSpec = ToneSpec {
    adsr: adsr(0.11, 0.5, 0.9, 0.16),
    slope: 1.05,
    soft: 0.5,
    cutoff: 5200.0,
    formants: &[
        formant(290.0, 0.3, 0.7),
        formant(500.0, 0.4, 0.9),
        formant(1100.0, 0.4, 0.5),
        formant(2700.0, 0.6, 1.3),
    ],
    swell: swell(0.9, 0.14, 0.9, 0.6),
    vibrato: (14.0, 5.7, 0.25),
    breath: (7.0, 0.6, 0.05),
    chiff: (2400.0, 0.1, 0.12),
    ..TONE
};

pub(super) fn strings_and_voices(program: u8) -> &'static ToneSpec {
    const VIOLA: ToneSpec = ToneSpec {
        adsr: adsr(0.13, 0.5, 0.9, 0.18),
        slope: 1.15,
        cutoff: 3800.0,
        formants: &[
            formant(220.0, 0.3, 0.7),
            formant(380.0, 0.4, 0.9),
            formant(950.0, 0.4, 0.6),
            formant(2000.0, 0.6, 0.9),
        ],
        vibrato: (12.0, 5.4, 0.3),
        ..VIOLIN
    };
    const CELLO: ToneSpec = ToneSpec {
        adsr: adsr(0.14, 0.6, 0.9, 0.2),
        slope: 1.15,
        cutoff: 2800.0,
        formants: &[
            formant(110.0, 0.3, 0.6),
            formant(220.0, 0.4, 0.9),
            formant(420.0, 0.4, 0.6),
            formant(1500.0, 0.7, 0.8),
        ],
        vibrato: (11.0, 5.1, 0.3),
        ..VIOLIN
    };
    const CONTRABASS: ToneSpec = ToneSpec {
        adsr: adsr(0.17, 0.6, 0.9, 0.2),
        slope: 1.3,
        cutoff: 1800.0,
        formants: &[
            formant(70.0, 0.4, 0.5),
            formant(150.0, 0.5, 0.9),
            formant(700.0, 0.7, 0.6),
        ],
        vibrato: (7.0, 4.8, 0.4),
        ..VIOLIN
    };
    const TREMOLO: ToneSpec = ToneSpec {
        adsr: adsr(0.1, 0.5, 0.9, 0.25),
        copies: 3,
        spread: 12.0,
        vibrato: (0.0, 5.0, 0.0),
        tremolo: Some(Tremolo {
            rate: 9.0,
            depth: 0.75,
        }),
        ..VIOLIN
    };
    const FIDDLE: ToneSpec = ToneSpec {
        adsr: adsr(0.06, 0.4, 0.85, 0.1),
        slope: 0.9,
        cutoff: 6000.0,
        vibrato: (8.0, 6.0, 0.3),
        breath: (6.0, 0.6, 0.09),
        chiff: (2600.0, 0.25, 0.08),
        ..VIOLIN
    };
    const STRINGS: ToneSpec = ToneSpec {
        adsr: adsr(0.24, 0.8, 0.92, 0.4),
        slope: 1.15,
        cutoff: 4200.0,
        copies: 3,
        spread: 14.0,
        swell: swell(0.7, 0.3, 0.95, 1.0),
        vibrato: (5.0, 5.1, 0.3),
        chiff: (2000.0, 0.0, 0.1),
        ..VIOLIN
    };
    const SLOW_STRINGS: ToneSpec = ToneSpec {
        adsr: adsr(0.5, 1.0, 0.95, 0.7),
        slope: 1.25,
        cutoff: 3400.0,
        spread: 18.0,
        ..STRINGS
    };
    const SYNTH_STRINGS: ToneSpec = ToneSpec {
        adsr: adsr(0.2, 0.8, 0.9, 0.5),
        slope: 1.05,
        formants: &[],
        cutoff: 4800.0,
        spread: 22.0,
        vibrato: (0.0, 5.0, 0.0),
        breath: (1.0, 1.0, 0.0),
        ..STRINGS
    };
    const SYNTH_STRINGS_2: ToneSpec = ToneSpec {
        adsr: adsr(0.4, 1.0, 0.9, 0.9),
        slope: 1.35,
        cutoff: 3000.0,
        spread: 26.0,
        ..SYNTH_STRINGS
    };
    const AAHS: ToneSpec = ToneSpec {
        adsr: adsr(0.2, 0.6, 0.92, 0.3),
        slope: 1.5,
        soft: 0.4,
        cutoff: 4500.0,
        formants: &[
            formant(730.0, 0.3, 3.5),
            formant(1090.0, 0.25, 3.0),
            formant(2440.0, 0.25, 2.2),
        ],
        copies: 3,
        spread: 16.0,
        vibrato: (9.0, 5.2, 0.4),
        breath: (4.0, 0.6, 0.03),
        trim: 0.95,
        ..TONE
    };
    const OOHS: ToneSpec = ToneSpec {
        slope: 2.1,
        formants: &[
            formant(300.0, 0.4, 3.0),
            formant(870.0, 0.3, 1.2),
            formant(2240.0, 0.25, 0.8),
        ],
        cutoff: 2600.0,
        ..AAHS
    };
    const SYNTH_VOICE: ToneSpec = ToneSpec {
        adsr: adsr(0.14, 0.6, 0.9, 0.35),
        slope: 1.3,
        copies: 2,
        spread: 10.0,
        formants: &[
            formant(570.0, 0.35, 3.0),
            formant(840.0, 0.3, 2.5),
            formant(2410.0, 0.3, 2.0),
        ],
        ..AAHS
    };
    match program {
        40 => &VIOLIN,
        41 => &VIOLA,
        42 => &CELLO,
        43 => &CONTRABASS,
        44 => &TREMOLO,
        48 => &STRINGS,
        49 => &SLOW_STRINGS,
        50 => &SYNTH_STRINGS,
        51 => &SYNTH_STRINGS_2,
        52 => &AAHS,
        53 => &OOHS,
        54 => &SYNTH_VOICE,
        _ => &FIDDLE,
    }
}
