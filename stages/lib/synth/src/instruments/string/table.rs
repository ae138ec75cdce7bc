//! The string instruments of General MIDI.

use super::{Stiffness, StringSpec};
use crate::patch::{Formant, Tremolo};

const PIANO: StringSpec = StringSpec {
    position: 0.122,
    slope: 0.75,
    cutoff: 2000.0,
    tracking: 0.45,
    soft: 0.22,
    stiffness: Stiffness::Piano(1.0),
    sigma: 0.75,
    doubling: 17.0,
    damping: 0.4,
    second: 0.28,
    beating: 0.7,
    floor: 90.0,
    body: &[
        Formant {
            frequency: 190.0,
            width: 0.7,
            gain: 0.5,
        },
        Formant {
            frequency: 1100.0,
            width: 0.9,
            gain: 0.35,
        },
    ],
    attack: 0.0025,
    release: 0.22,
    undamped: 89.0,
    stroke: (1100.0, 0.33, 0.07),
    tremolo: None,
    trim: 1.0,
};

const GUITAR: StringSpec = StringSpec {
    position: 0.17,
    slope: 1.1,
    cutoff: 2600.0,
    tracking: 0.3,
    soft: 0.22,
    stiffness: Stiffness::Constant(4e-5),
    sigma: 1.1,
    doubling: 18.0,
    damping: 0.9,
    second: 0.2,
    beating: 0.3,
    floor: 60.0,
    body: &[
        Formant {
            frequency: 105.0,
            width: 0.35,
            gain: 0.9,
        },
        Formant {
            frequency: 210.0,
            width: 0.4,
            gain: 0.9,
        },
        Formant {
            frequency: 420.0,
            width: 0.5,
            gain: 0.4,
        },
    ],
    attack: 0.004,
    release: 0.18,
    undamped: 128.0,
    stroke: (2200.0, 0.14, 0.03),
    tremolo: None,
    trim: 1.0,
};

const BASS: StringSpec = StringSpec {
    position: 0.2,
    slope: 1.25,
    cutoff: 900.0,
    tracking: 0.25,
    soft: 0.35,
    stiffness: Stiffness::Constant(6e-5),
    sigma: 1.4,
    doubling: 20.0,
    damping: 1.6,
    second: 0.0,
    beating: 0.0,
    floor: 30.0,
    body: &[Formant {
        frequency: 95.0,
        width: 0.8,
        gain: 0.6,
    }],
    attack: 0.015,
    release: 0.12,
    undamped: 128.0,
    stroke: (700.0, 0.12, 0.04),
    tremolo: None,
    trim: 1.15,
};

/// The string that plays this program, if one does.
pub(in crate::instruments) fn spec(program: u8) -> Option<&'static StringSpec> {
    const PLAIN: &[Formant] = &[];
    const BRIGHT_PIANO: StringSpec = StringSpec {
        cutoff: 4200.0,
        soft: 0.3,
        slope: 0.65,
        stroke: (1800.0, 0.3, 0.05),
        ..PIANO
    };
    const ELECTRIC_GRAND: StringSpec = StringSpec {
        cutoff: 3400.0,
        slope: 0.6,
        stiffness: Stiffness::Piano(1.8),
        damping: 0.5,
        second: 0.15,
        body: PLAIN,
        floor: 50.0,
        stroke: (1500.0, 0.15, 0.03),
        tremolo: Some(Tremolo {
            rate: 4.5,
            depth: 0.12,
        }),
        ..PIANO
    };
    const HONKY_TONK: StringSpec = StringSpec {
        cutoff: 3600.0,
        second: 0.48,
        beating: 17.0,
        ..PIANO
    };
    const HARPSICHORD: StringSpec = StringSpec {
        position: 0.1,
        slope: 0.35,
        cutoff: 7000.0,
        tracking: 0.15,
        soft: 0.85,
        stiffness: Stiffness::Constant(3e-5),
        sigma: 1.2,
        damping: 0.25,
        second: 0.3,
        beating: 0.5,
        floor: 120.0,
        body: PLAIN,
        attack: 0.0012,
        release: 0.12,
        undamped: 128.0,
        stroke: (3500.0, 0.25, 0.03),
        trim: 0.75,
        ..PIANO
    };
    const CLAVINET: StringSpec = StringSpec {
        position: 0.07,
        slope: 0.3,
        cutoff: 4200.0,
        soft: 0.5,
        stiffness: Stiffness::Constant(8e-5),
        sigma: 2.2,
        damping: 0.9,
        second: 0.0,
        floor: 60.0,
        body: &[Formant {
            frequency: 1800.0,
            width: 0.7,
            gain: 1.2,
        }],
        attack: 0.0012,
        release: 0.06,
        undamped: 128.0,
        stroke: (2500.0, 0.12, 0.02),
        trim: 0.8,
        ..PIANO
    };
    const DULCIMER: StringSpec = StringSpec {
        position: 0.09,
        slope: 0.55,
        cutoff: 5200.0,
        stiffness: Stiffness::Constant(1.2e-4),
        sigma: 0.9,
        damping: 0.5,
        second: 0.45,
        beating: 5.0,
        floor: 130.0,
        body: PLAIN,
        attack: 0.001,
        release: 2.2,
        undamped: 0.0,
        stroke: (3200.0, 0.35, 0.03),
        ..PIANO
    };
    const STEEL: StringSpec = StringSpec {
        position: 0.13,
        slope: 0.8,
        cutoff: 4800.0,
        sigma: 0.8,
        damping: 0.5,
        second: 0.3,
        beating: 0.8,
        stroke: (3200.0, 0.16, 0.03),
        attack: 0.003,
        ..GUITAR
    };
    const JAZZ: StringSpec = StringSpec {
        position: 0.28,
        slope: 1.2,
        cutoff: 1500.0,
        body: PLAIN,
        damping: 0.8,
        stroke: (1500.0, 0.06, 0.02),
        ..GUITAR
    };
    const CLEAN: StringSpec = StringSpec {
        position: 0.15,
        slope: 0.8,
        cutoff: 3600.0,
        body: &[Formant {
            frequency: 2600.0,
            width: 0.5,
            gain: 0.8,
        }],
        sigma: 0.7,
        damping: 0.45,
        second: 0.35,
        beating: 2.5,
        stroke: (3000.0, 0.08, 0.02),
        ..GUITAR
    };
    const MUTED: StringSpec = StringSpec {
        position: 0.12,
        slope: 1.0,
        cutoff: 2200.0,
        body: PLAIN,
        sigma: 9.0,
        doubling: 40.0,
        damping: 7.0,
        second: 0.0,
        stroke: (1600.0, 0.25, 0.03),
        ..GUITAR
    };
    const PLUCKED_HARMONIC: StringSpec = StringSpec {
        position: 0.5,
        slope: 2.2,
        cutoff: 3000.0,
        body: PLAIN,
        sigma: 0.9,
        damping: 0.5,
        second: 0.0,
        stroke: (3500.0, 0.1, 0.02),
        ..GUITAR
    };
    const FINGERED: StringSpec = StringSpec {
        slope: 1.05,
        cutoff: 1500.0,
        sigma: 0.9,
        damping: 1.2,
        body: PLAIN,
        attack: 0.006,
        ..BASS
    };
    const PICKED: StringSpec = StringSpec {
        position: 0.1,
        slope: 0.8,
        cutoff: 2600.0,
        sigma: 0.9,
        damping: 0.9,
        body: PLAIN,
        attack: 0.003,
        stroke: (2600.0, 0.16, 0.02),
        ..BASS
    };
    const FRETLESS: StringSpec = StringSpec {
        slope: 1.15,
        cutoff: 1300.0,
        sigma: 0.6,
        damping: 1.0,
        body: &[Formant {
            frequency: 600.0,
            width: 0.6,
            gain: 1.2,
        }],
        attack: 0.022,
        stroke: (600.0, 0.04, 0.05),
        ..BASS
    };
    const SLAP_1: StringSpec = StringSpec {
        position: 0.06,
        slope: 0.6,
        cutoff: 4200.0,
        sigma: 1.3,
        damping: 1.1,
        body: PLAIN,
        attack: 0.0015,
        stroke: (3000.0, 0.4, 0.03),
        ..BASS
    };
    const SLAP_2: StringSpec = StringSpec {
        position: 0.04,
        slope: 0.5,
        cutoff: 5200.0,
        sigma: 1.6,
        damping: 1.4,
        body: PLAIN,
        attack: 0.001,
        stroke: (4200.0, 0.5, 0.025),
        ..BASS
    };
    const PIZZICATO: StringSpec = StringSpec {
        position: 0.3,
        slope: 1.3,
        cutoff: 2000.0,
        sigma: 7.0,
        doubling: 24.0,
        damping: 3.0,
        second: 0.0,
        body: VIOLIN_BODY,
        floor: 120.0,
        attack: 0.004,
        release: 0.3,
        stroke: (900.0, 0.2, 0.04),
        ..GUITAR
    };
    const HARP: StringSpec = StringSpec {
        position: 0.4,
        slope: 1.35,
        cutoff: 2600.0,
        sigma: 1.0,
        damping: 0.7,
        second: 0.2,
        body: &[Formant {
            frequency: 250.0,
            width: 0.8,
            gain: 0.6,
        }],
        release: 1.4,
        stroke: (1800.0, 0.1, 0.03),
        ..GUITAR
    };
    const SITAR: StringSpec = StringSpec {
        position: 0.06,
        slope: 0.25,
        cutoff: 3800.0,
        sigma: 0.7,
        damping: 0.35,
        second: 0.45,
        beating: 4.0,
        body: &[
            Formant {
                frequency: 1500.0,
                width: 0.6,
                gain: 1.4,
            },
            Formant {
                frequency: 3200.0,
                width: 0.4,
                gain: 1.2,
            },
        ],
        attack: 0.006,
        release: 0.9,
        stroke: (4000.0, 0.22, 0.05),
        trim: 0.85,
        ..GUITAR
    };
    const BANJO: StringSpec = StringSpec {
        position: 0.08,
        slope: 0.5,
        cutoff: 4500.0,
        sigma: 4.0,
        damping: 0.9,
        second: 0.0,
        body: &[Formant {
            frequency: 700.0,
            width: 0.6,
            gain: 1.0,
        }],
        attack: 0.0015,
        stroke: (2800.0, 0.4, 0.025),
        ..GUITAR
    };
    const SHAMISEN: StringSpec = StringSpec {
        position: 0.05,
        slope: 0.45,
        cutoff: 4000.0,
        sigma: 6.0,
        damping: 0.8,
        second: 0.25,
        beating: 1.5,
        body: &[Formant {
            frequency: 1100.0,
            width: 0.5,
            gain: 1.5,
        }],
        attack: 0.001,
        stroke: (1800.0, 0.6, 0.03),
        ..GUITAR
    };
    const KOTO: StringSpec = StringSpec {
        position: 0.1,
        slope: 0.7,
        cutoff: 4200.0,
        sigma: 1.5,
        damping: 0.6,
        second: 0.25,
        beating: 1.5,
        body: &[Formant {
            frequency: 400.0,
            width: 0.7,
            gain: 0.7,
        }],
        attack: 0.0015,
        release: 0.8,
        stroke: (2600.0, 0.22, 0.03),
        ..GUITAR
    };
    Some(match program {
        0 => &PIANO,
        1 => &BRIGHT_PIANO,
        2 => &ELECTRIC_GRAND,
        3 => &HONKY_TONK,
        6 => &HARPSICHORD,
        7 => &CLAVINET,
        15 => &DULCIMER,
        24 => &GUITAR,
        25 => &STEEL,
        26 => &JAZZ,
        27 => &CLEAN,
        28 => &MUTED,
        31 => &PLUCKED_HARMONIC,
        32 => &BASS,
        33 => &FINGERED,
        34 => &PICKED,
        35 => &FRETLESS,
        36 => &SLAP_1,
        37 => &SLAP_2,
        45 => &PIZZICATO,
        46 => &HARP,
        104 => &SITAR,
        105 => &BANJO,
        106 => &SHAMISEN,
        107 => &KOTO,
        _ => return None,
    })
}

const VIOLIN_BODY: &[Formant] = &[
    Formant {
        frequency: 280.0,
        width: 0.3,
        gain: 0.8,
    },
    Formant {
        frequency: 520.0,
        width: 0.4,
        gain: 0.8,
    },
    Formant {
        frequency: 2600.0,
        width: 0.6,
        gain: 1.0,
    },
];
