//! The loudness of a voice over time: attack, decay, sustain, release.
//!
//! The attack is a smoothstep, which has no corner to click; decay and release
//! are exponentials, as sound dies away in air and wood.

/// Times and levels of an envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adsr {
    /// Seconds from silence to the full level.
    pub(crate) attack: f64,
    /// Seconds in which the excess over `sustain` falls by 60 dB.
    pub(crate) decay: f64,
    /// Level that a held note settles at, 0 to 1.
    pub(crate) sustain: f64,
    /// Seconds in which a note that was let go falls by 60 dB.
    pub(crate) release: f64,
}

/// Below this level (-90 dB of the note's own) a note that was let go has ended.
const FLOOR: f32 = 3e-5;
/// Seconds in which a stolen or choked voice falls by 60 dB.
const KILL: f64 = 0.012;
/// Shortest time in seconds that a key is held, so that a note of no duration
/// is still heard.
const MIN_HOLD: f64 = 0.02;

/// Factor per sample of an exponential that falls by 60 dB in `t60` seconds.
pub(crate) fn fall(t60: f64, rate: f64) -> f32 {
    (-(1000f64.ln()) / (t60.max(1e-4) * rate)).exp() as f32
}

/// An envelope on its way.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    value: f32,
    /// Level from which the attack has been reached; scales decay and release.
    sustain: f32,
    attack_step: f32,
    progress: f32,
    decay: f32,
    release: f32,
    kill: f32,
    /// Samples until the key is let go; `u64::MAX` for one-shot sounds.
    hold: u64,
    killed: bool,
    ended: bool,
}

impl Envelope {
    /// An envelope whose key is held for `duration` seconds, or for ever
    /// (`None`).
    pub(crate) fn new(adsr: &Adsr, duration: Option<f64>, rate: f64) -> Self {
        Self {
            value: 0.0,
            sustain: adsr.sustain as f32,
            attack_step: (1.0 / (adsr.attack * rate).max(1.0)) as f32,
            progress: 0.0,
            decay: fall(adsr.decay, rate),
            release: fall(adsr.release, rate),
            kill: fall(KILL, rate),
            hold: duration.map_or(u64::MAX, |d| (d.max(MIN_HOLD) * rate).round() as u64),
            killed: false,
            ended: false,
        }
    }

    /// The level of the next sample, 0 to 1.
    #[inline]
    pub(crate) fn next(&mut self) -> f32 {
        if self.killed {
            self.value *= self.kill;
            self.ended |= self.value < FLOOR;
        } else if self.hold == 0 {
            self.value *= self.release;
            self.ended |= self.value < FLOOR;
        } else {
            self.hold -= 1;
            if self.progress < 1.0 {
                self.progress = (self.progress + self.attack_step).min(1.0);
                self.value = self.progress * self.progress * (3.0 - 2.0 * self.progress);
            } else {
                self.value = self.sustain + (self.value - self.sustain) * self.decay;
            }
        }
        self.value
    }

    /// Fades out within a few milliseconds from here.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
    }

    /// Whether [`kill`](Self::kill) was called.
    pub(crate) fn killed(&self) -> bool {
        self.killed
    }

    /// Whether the key was let go (or the voice killed).
    pub(crate) fn released(&self) -> bool {
        self.killed || self.hold == 0
    }

    /// Whether the attack is over.
    pub(crate) fn risen(&self) -> bool {
        self.progress >= 1.0
    }

    /// Whether the voice has faded out for good.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADSR: Adsr = Adsr {
        attack: 0.1,
        decay: 0.2,
        sustain: 0.5,
        release: 0.3,
    };

    fn trace(duration: f64, seconds: f64) -> (Envelope, Vec<f32>) {
        let mut envelope = Envelope::new(&ADSR, Some(duration), 1000.0);
        let values = (0..(seconds * 1000.0) as usize)
            .map(|_| envelope.next())
            .collect();
        (envelope, values)
    }

    #[test]
    fn runs_through_its_four_phases() {
        let (envelope, v) = trace(1.0, 2.0);
        assert!((v[49] - 0.5).abs() < 0.02, "half way up at {}", v[49]);
        assert!((v[99] - 1.0).abs() < 1e-6, "full level at {}", v[99]);
        assert!(
            (v[299] - 0.5005).abs() < 1e-3,
            "60 dB of the excess at {}",
            v[299]
        );
        assert!((v[999] - 0.5).abs() < 1e-4);
        assert!((v[1299] / v[999] - 1e-3).abs() < 1e-4, "60 dB of release");
        assert!(envelope.ended());
        assert!(v.windows(2).all(|w| (w[1] - w[0]).abs() < 0.03), "no click");
    }

    #[test]
    fn a_note_let_go_early_falls_from_where_it_was() {
        let (_, v) = trace(0.05, 0.5);
        let peak = v.iter().fold(0f32, |a, &b| a.max(b));
        assert!((0.4..0.6).contains(&peak), "{peak}");
        let (_, v) = trace(0.0, 0.5);
        assert!(
            v.iter().any(|&x| x > 0.05),
            "a note of no duration is heard"
        );
    }

    #[test]
    fn a_killed_voice_ends_soon() {
        let mut envelope = Envelope::new(&ADSR, None, 8000.0);
        for _ in 0..4000 {
            envelope.next();
        }
        envelope.kill();
        let n = (0..8000)
            .position(|_| {
                envelope.next();
                envelope.ended()
            })
            .unwrap_or(8000);
        assert!(n < 200, "{n} samples");
    }
}
