//! Brass, reeds and pipes.

use super::{TONE, ToneSpec, adsr, formant, swell};
use crate::patch::Tremolo;

pub(super) fn brass(program: u8) -> &'static ToneSpec {
    const TRUMPET: ToneSpec = ToneSpec {
        adsr: adsr(0.045, 0.25, 0.82, 0.1),
        slope: 0.55,
        soft: 1.3,
        cutoff: 3800.0,
        formants: &[formant(1250.0, 0.7, 1.6), formant(2400.0, 0.5, 0.8)],
        swell: swell(1.9, 0.1, 0.75, 0.4),
        vibrato: (7.0, 5.3, 0.4),
        chiff: (1800.0, 0.12, 0.04),
        breath: (5.0, 0.6, 0.01),
        ..TONE
    };
    const TROMBONE: ToneSpec = ToneSpec {
        adsr: adsr(0.06, 0.3, 0.85, 0.12),
        slope: 0.75,
        cutoff: 2500.0,
        formants: &[formant(520.0, 0.7, 1.2), formant(1500.0, 0.6, 0.6)],
        swell: swell(1.8, 0.13, 0.75, 0.5),
        vibrato: (5.0, 4.8, 0.5),
        ..TRUMPET
    };
    const TUBA: ToneSpec = ToneSpec {
        adsr: adsr(0.075, 0.3, 0.85, 0.13),
        slope: 1.15,
        cutoff: 1300.0,
        formants: &[formant(230.0, 0.8, 1.0)],
        swell: swell(1.5, 0.15, 0.8, 0.5),
        vibrato: (0.0, 5.0, 0.5),
        ..TRUMPET
    };
    const MUTED: ToneSpec = ToneSpec {
        slope: 0.35,
        cutoff: 4500.0,
        formants: &[formant(1900.0, 0.5, 3.0), formant(3500.0, 0.4, 1.5)],
        swell: swell(1.2, 0.08, 0.8, 0.4),
        trim: 0.8,
        ..TRUMPET
    };
    const HORN: ToneSpec = ToneSpec {
        adsr: adsr(0.085, 0.4, 0.88, 0.17),
        slope: 1.25,
        soft: 1.0,
        cutoff: 2000.0,
        formants: &[formant(340.0, 0.6, 1.0), formant(750.0, 0.5, 0.4)],
        swell: swell(1.8, 0.18, 0.75, 0.6),
        vibrato: (4.0, 4.8, 0.5),
        ..TRUMPET
    };
    const SECTION: ToneSpec = ToneSpec {
        adsr: adsr(0.05, 0.3, 0.85, 0.14),
        slope: 0.6,
        cutoff: 3300.0,
        copies: 3,
        spread: 13.0,
        ranks: &[(1.0, 1.0)],
        ..TRUMPET
    };
    const SYNTH_BRASS: ToneSpec = ToneSpec {
        adsr: adsr(0.04, 0.4, 0.8, 0.2),
        slope: 0.9,
        cutoff: 4200.0,
        formants: &[],
        copies: 2,
        spread: 14.0,
        swell: swell(2.4, 0.12, 0.6, 0.5),
        vibrato: (0.0, 5.0, 0.0),
        breath: (1.0, 1.0, 0.0),
        ..TRUMPET
    };
    const SYNTH_BRASS_2: ToneSpec = ToneSpec {
        adsr: adsr(0.07, 0.5, 0.85, 0.3),
        slope: 1.1,
        spread: 18.0,
        swell: swell(2.2, 0.2, 0.7, 0.7),
        ..SYNTH_BRASS
    };
    match program {
        56 => &TRUMPET,
        57 => &TROMBONE,
        58 => &TUBA,
        59 => &MUTED,
        60 => &HORN,
        61 => &SECTION,
        62 => &SYNTH_BRASS,
        _ => &SYNTH_BRASS_2,
    }
}

pub(super) fn reed(program: u8) -> &'static ToneSpec {
    const ALTO: ToneSpec = ToneSpec {
        adsr: adsr(0.04, 0.3, 0.88, 0.1),
        slope: 1.0,
        soft: 0.8,
        even: 0.75,
        cutoff: 3600.0,
        formants: &[formant(700.0, 0.6, 0.9), formant(1700.0, 0.5, 0.9)],
        swell: swell(0.9, 0.07, 0.85, 0.4),
        vibrato: (10.0, 5.2, 0.3),
        breath: (5.0, 0.6, 0.04),
        chiff: (1800.0, 0.12, 0.04),
        ..TONE
    };
    const SOPRANO: ToneSpec = ToneSpec {
        slope: 1.1,
        formants: &[formant(1100.0, 0.6, 0.9), formant(2400.0, 0.5, 0.8)],
        ..ALTO
    };
    const TENOR: ToneSpec = ToneSpec {
        slope: 0.95,
        cutoff: 2900.0,
        formants: &[formant(500.0, 0.6, 1.0), formant(1300.0, 0.5, 0.8)],
        breath: (5.0, 0.6, 0.06),
        ..ALTO
    };
    const BARITONE: ToneSpec = ToneSpec {
        slope: 0.9,
        cutoff: 2300.0,
        formants: &[formant(350.0, 0.6, 1.0), formant(1000.0, 0.5, 0.9)],
        adsr: adsr(0.05, 0.3, 0.88, 0.1),
        ..ALTO
    };
    const OBOE: ToneSpec = ToneSpec {
        adsr: adsr(0.035, 0.2, 0.92, 0.09),
        slope: 0.75,
        soft: 0.5,
        even: 0.9,
        cutoff: 4200.0,
        formants: &[formant(1150.0, 0.45, 2.6), formant(2900.0, 0.35, 1.8)],
        vibrato: (8.0, 5.5, 0.35),
        breath: (6.0, 0.6, 0.015),
        trim: 0.85,
        ..ALTO
    };
    const ENGLISH_HORN: ToneSpec = ToneSpec {
        slope: 0.85,
        cutoff: 3200.0,
        formants: &[formant(850.0, 0.45, 2.3), formant(2200.0, 0.35, 1.4)],
        ..OBOE
    };
    const BASSOON: ToneSpec = ToneSpec {
        slope: 0.85,
        cutoff: 2200.0,
        formants: &[formant(470.0, 0.45, 2.2), formant(1150.0, 0.4, 1.0)],
        vibrato: (5.0, 5.0, 0.4),
        ..OBOE
    };
    const CLARINET: ToneSpec = ToneSpec {
        adsr: adsr(0.045, 0.2, 0.94, 0.09),
        slope: 0.85,
        soft: 0.8,
        even: 0.09,
        cutoff: 3200.0,
        formants: &[formant(1600.0, 0.6, 0.6)],
        vibrato: (0.0, 5.0, 0.0),
        breath: (4.0, 0.6, 0.015),
        ..ALTO
    };
    const BAGPIPE: ToneSpec = ToneSpec {
        adsr: adsr(0.03, 0.2, 1.0, 0.06),
        ranks: &[(1.0, 1.0), (0.5, 0.3)],
        slope: 0.45,
        soft: 0.0,
        cutoff: 4200.0,
        formants: &[formant(1600.0, 0.6, 1.2)],
        vibrato: (0.0, 5.0, 0.0),
        swell: None,
        trim: 0.75,
        ..ALTO
    };
    const SHANAI: ToneSpec = ToneSpec {
        slope: 0.5,
        cutoff: 5000.0,
        formants: &[formant(1500.0, 0.5, 2.4), formant(3200.0, 0.4, 1.5)],
        vibrato: (14.0, 5.8, 0.2),
        trim: 0.8,
        ..OBOE
    };
    match program {
        64 => &SOPRANO,
        65 => &ALTO,
        66 => &TENOR,
        67 => &BARITONE,
        68 => &OBOE,
        69 => &ENGLISH_HORN,
        70 => &BASSOON,
        71 => &CLARINET,
        109 => &BAGPIPE,
        _ => &SHANAI,
    }
}

pub(super) fn pipe(program: u8) -> &'static ToneSpec {
    const FLUTE: ToneSpec = ToneSpec {
        adsr: adsr(0.07, 0.3, 0.92, 0.12),
        harmonics: 10,
        slope: 2.1,
        soft: 0.9,
        cutoff: 4500.0,
        vibrato: (6.0, 5.1, 0.3),
        tremolo: Some(Tremolo {
            rate: 5.1,
            depth: 0.15,
        }),
        breath: (1.9, 0.5, 0.13),
        chiff: (2200.0, 0.25, 0.07),
        ..TONE
    };
    const PICCOLO: ToneSpec = ToneSpec {
        adsr: adsr(0.045, 0.3, 0.92, 0.09),
        slope: 1.8,
        cutoff: 6500.0,
        breath: (1.6, 0.5, 0.14),
        ..FLUTE
    };
    const RECORDER: ToneSpec = ToneSpec {
        adsr: adsr(0.035, 0.2, 0.97, 0.08),
        slope: 2.0,
        even: 0.5,
        vibrato: (3.0, 4.8, 0.4),
        tremolo: None,
        breath: (2.5, 0.5, 0.07),
        chiff: (2600.0, 0.3, 0.04),
        ..FLUTE
    };
    const PAN_FLUTE: ToneSpec = ToneSpec {
        even: 0.3,
        slope: 2.2,
        breath: (1.2, 0.7, 0.32),
        chiff: (1500.0, 0.7, 0.09),
        ..FLUTE
    };
    const BOTTLE: ToneSpec = ToneSpec {
        adsr: adsr(0.09, 0.4, 0.85, 0.15),
        slope: 3.2,
        breath: (1.1, 0.8, 0.45),
        chiff: (1200.0, 0.5, 0.12),
        ..FLUTE
    };
    const SHAKUHACHI: ToneSpec = ToneSpec {
        adsr: adsr(0.09, 0.4, 0.88, 0.2),
        slope: 1.7,
        vibrato: (16.0, 4.6, 0.4),
        breath: (1.4, 0.5, 0.36),
        chiff: (1800.0, 0.9, 0.1),
        ..FLUTE
    };
    const WHISTLE: ToneSpec = ToneSpec {
        adsr: adsr(0.06, 0.2, 0.95, 0.1),
        slope: 4.0,
        harmonics: 4,
        vibrato: (14.0, 5.5, 0.25),
        tremolo: None,
        breath: (1.0, 4.0, 0.12),
        chiff: (3000.0, 0.05, 0.03),
        ..FLUTE
    };
    const OCARINA: ToneSpec = ToneSpec {
        adsr: adsr(0.05, 0.2, 0.95, 0.1),
        slope: 3.2,
        harmonics: 5,
        vibrato: (5.0, 5.0, 0.3),
        breath: (1.5, 0.6, 0.08),
        ..FLUTE
    };
    match program {
        72 => &PICCOLO,
        73 => &FLUTE,
        74 => &RECORDER,
        75 => &PAN_FLUTE,
        76 => &BOTTLE,
        77 => &SHAKUHACHI,
        78 => &WHISTLE,
        _ => &OCARINA,
    }
}
