//! Bars, bells, tubes and membranes: a few inharmonic modes, struck.
//!
//! Mode ratios: free bars 1 : 2.756 : 5.404 : 8.933, tuned bars of marimba and
//! vibraphone 1 : 4 : 10, of the xylophone 1 : 3 : 6, tubular bells, and the
//! kettledrum's preferred modes 1 : 1.5 : 1.98 : 2.44, all after Fletcher &
//! Rossing, "The Physics of Musical Instruments" (1998), §2.15, 18.3, 19.2-19.8.

use crate::envelope::Adsr;
use crate::noise::Pass;
use crate::patch::{Glide, Key, Patch, Tremolo, burst};

/// One mode: frequency ratio, amplitude, and duration as a share of the first's.
type Mode = (f64, f64, f64);

/// What a struck body is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModeSpec {
    modes: &'static [Mode],
    /// Seconds in which the first mode of middle C falls by 60 dB.
    t60: f64,
    /// Exponent with which that shrinks along the keyboard.
    shorten: f64,
    /// Exponent of force with which the upper modes come out.
    hardness: f64,
    attack: f64,
    /// Seconds of 60 dB after the key is let go.
    release: f64,
    /// Noise of the stroke: Hz, gain, seconds.
    stroke: (f64, f64, f64),
    tremolo: Option<Tremolo>,
    glide: Option<Glide>,
    one_shot: bool,
    trim: f64,
}

const BAR: ModeSpec = ModeSpec {
    modes: &[
        (1.0, 1.0, 1.0),
        (2.756, 0.5, 0.4),
        (5.404, 0.3, 0.2),
        (8.933, 0.12, 0.1),
    ],
    t60: 3.0,
    shorten: 0.4,
    hardness: 0.8,
    attack: 0.0008,
    release: 1.2,
    stroke: (4000.0, 0.15, 0.02),
    tremolo: None,
    glide: None,
    one_shot: false,
    trim: 0.9,
};

/// The struck body that plays this program, if one does.
pub(super) fn spec(program: u8) -> Option<&'static ModeSpec> {
    const CELESTA: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (2.76, 0.12, 0.3),
            (4.0, 0.3, 0.5),
            (5.4, 0.12, 0.15),
            (9.1, 0.05, 0.1),
        ],
        t60: 2.6,
        release: 0.5,
        stroke: (2600.0, 0.12, 0.02),
        ..BAR
    };
    const GLOCKENSPIEL: ModeSpec = ModeSpec {
        t60: 4.0,
        modes: &[
            (1.0, 1.0, 1.0),
            (2.756, 0.75, 0.45),
            (5.404, 0.5, 0.25),
            (8.933, 0.25, 0.12),
        ],
        ..BAR
    };
    const MUSIC_BOX: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (2.0, 0.25, 0.6),
            (6.267, 0.35, 0.3),
            (17.55, 0.08, 0.1),
        ],
        t60: 2.4,
        release: 1.8,
        stroke: (5000.0, 0.25, 0.012),
        ..BAR
    };
    const VIBRAPHONE: ModeSpec = ModeSpec {
        modes: &[(1.0, 1.0, 1.0), (4.0, 0.28, 0.35), (10.1, 0.1, 0.12)],
        t60: 6.0,
        release: 0.5,
        tremolo: Some(Tremolo {
            rate: 5.6,
            depth: 0.45,
        }),
        stroke: (1800.0, 0.08, 0.02),
        ..BAR
    };
    const MARIMBA: ModeSpec = ModeSpec {
        modes: &[(1.0, 1.0, 1.0), (3.93, 0.3, 0.25), (9.6, 0.12, 0.08)],
        t60: 1.3,
        shorten: 0.7,
        attack: 0.0015,
        release: 0.8,
        stroke: (900.0, 0.3, 0.025),
        ..BAR
    };
    const XYLOPHONE: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (3.0, 0.6, 0.4),
            (6.1, 0.35, 0.2),
            (10.4, 0.15, 0.12),
        ],
        t60: 0.6,
        shorten: 0.6,
        release: 0.4,
        stroke: (3000.0, 0.45, 0.015),
        ..BAR
    };
    const TUBULAR_BELLS: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (0.5, 0.25, 1.3),
            (1.5, 0.55, 0.7),
            (2.02, 0.5, 0.6),
            (2.61, 0.45, 0.45),
            (3.27, 0.3, 0.35),
            (4.0, 0.2, 0.25),
        ],
        t60: 6.0,
        release: 3.0,
        stroke: (2500.0, 0.2, 0.03),
        ..BAR
    };
    const TIMPANI: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (1.5, 0.65, 0.8),
            (1.98, 0.4, 0.65),
            (2.44, 0.25, 0.5),
            (2.89, 0.15, 0.4),
            (0.85, 0.2, 0.2),
        ],
        t60: 2.4,
        shorten: 0.2,
        attack: 0.003,
        release: 1.5,
        stroke: (350.0, 0.5, 0.08),
        trim: 1.2,
        ..BAR
    };
    const KALIMBA: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (2.0, 0.12, 0.6),
            (5.6, 0.35, 0.15),
            (13.2, 0.12, 0.06),
        ],
        t60: 1.2,
        attack: 0.002,
        release: 0.9,
        stroke: (1500.0, 0.25, 0.03),
        ..BAR
    };
    const TINKLE_BELL: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 0.3, 1.0),
            (2.4, 0.9, 0.9),
            (4.1, 1.0, 0.75),
            (6.3, 0.7, 0.5),
            (8.7, 0.5, 0.4),
        ],
        t60: 2.2,
        release: 2.0,
        stroke: (7000.0, 0.2, 0.03),
        trim: 0.7,
        ..BAR
    };
    const AGOGO: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (1.51, 0.6, 0.9),
            (2.64, 0.8, 0.6),
            (4.3, 0.5, 0.4),
        ],
        t60: 0.7,
        shorten: 0.2,
        release: 0.5,
        stroke: (3500.0, 0.35, 0.02),
        one_shot: true,
        ..BAR
    };
    const STEEL_DRUM: ModeSpec = ModeSpec {
        modes: &[
            (1.0, 1.0, 1.0),
            (2.0, 0.8, 0.7),
            (3.0, 0.4, 0.5),
            (4.02, 0.3, 0.4),
            (5.1, 0.12, 0.25),
        ],
        t60: 1.4,
        attack: 0.004,
        release: 0.7,
        stroke: (1200.0, 0.2, 0.03),
        ..BAR
    };
    const WOODBLOCK: ModeSpec = ModeSpec {
        modes: &[(1.0, 1.0, 1.0), (2.6, 0.6, 0.6), (4.3, 0.3, 0.4)],
        t60: 0.12,
        shorten: 0.1,
        release: 0.1,
        stroke: (2500.0, 0.5, 0.012),
        one_shot: true,
        ..BAR
    };
    const TAIKO: ModeSpec = ModeSpec {
        modes: &[
            (0.5, 1.0, 1.0),
            (0.8, 0.5, 0.5),
            (1.07, 0.35, 0.4),
            (1.33, 0.2, 0.3),
        ],
        t60: 0.9,
        shorten: 0.2,
        attack: 0.002,
        release: 0.8,
        stroke: (260.0, 0.8, 0.09),
        glide: Some(Glide {
            from: 1.25,
            tau: 0.04,
        }),
        one_shot: true,
        trim: 1.3,
        ..BAR
    };
    const MELODIC_TOM: ModeSpec = ModeSpec {
        modes: &[(1.0, 1.0, 1.0), (1.6, 0.4, 0.5), (2.2, 0.2, 0.35)],
        t60: 0.7,
        shorten: 0.25,
        attack: 0.0015,
        release: 0.5,
        stroke: (800.0, 0.4, 0.05),
        glide: Some(Glide {
            from: 1.35,
            tau: 0.035,
        }),
        one_shot: true,
        trim: 1.2,
        ..BAR
    };
    const SYNTH_DRUM: ModeSpec = ModeSpec {
        modes: &[(1.0, 1.0, 1.0), (2.0, 0.1, 0.5)],
        t60: 0.8,
        shorten: 0.2,
        release: 0.5,
        stroke: (3000.0, 0.1, 0.01),
        glide: Some(Glide {
            from: 3.0,
            tau: 0.06,
        }),
        one_shot: true,
        trim: 1.2,
        ..BAR
    };
    Some(match program {
        8 => &CELESTA,
        9 => &GLOCKENSPIEL,
        10 => &MUSIC_BOX,
        11 => &VIBRAPHONE,
        12 => &MARIMBA,
        13 => &XYLOPHONE,
        14 => &TUBULAR_BELLS,
        47 => &TIMPANI,
        108 => &KALIMBA,
        112 => &TINKLE_BELL,
        113 => &AGOGO,
        114 => &STEEL_DRUM,
        115 => &WOODBLOCK,
        116 => &TAIKO,
        117 => &MELODIC_TOM,
        118 => &SYNTH_DRUM,
        _ => return None,
    })
}

/// The struck body `spec` at `key`.
pub(super) fn patch(spec: &ModeSpec, key: &mut Key) -> Patch {
    let adsr = Adsr {
        attack: spec.attack,
        decay: 1.0,
        sustain: 1.0,
        release: spec.release,
    };
    let headroom = spec.glide.map_or(1.0, |g| g.from);
    let mut patch = Patch::new(key, adsr, headroom);
    patch.tremolo = spec.tremolo;
    patch.glide = spec.glide;
    patch.one_shot = spec.one_shot;
    let t60 = spec.t60 * (key.f0 / 261.63).powf(-spec.shorten).clamp(0.1, 4.0);
    let upper = key.force.powf(spec.hardness);
    for (i, &(ratio, amplitude, share)) in spec.modes.iter().enumerate() {
        let amplitude = if i == 0 { amplitude } else { amplitude * upper };
        let phase = key.phase();
        let tau = t60 * share / 1000f64.ln();
        patch
            .bank
            .push(ratio * key.f0, amplitude, tau, phase, (i + 1) as f64);
    }
    patch.bank.normalise(key.level * spec.trim);
    let (centre, gain, t60) = spec.stroke;
    patch.noise(
        key,
        burst(Pass::Middle, centre, 0.8, gain * key.blend(0.4, 1.2), t60),
    );
    patch
}
