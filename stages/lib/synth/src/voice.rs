//! A sounding note.

use std::f64::consts::TAU;

use crate::bank::{BLOCK, Bank, LANES, Lanes};
use crate::envelope::Envelope;
use crate::instruments::patch_for;
use crate::noise::Noise;
use crate::note::Note;
use crate::patch::{Glide, Key, Patch, Swell, Vibrato};

/// A peak below this (−96 dB of full scale) is not heard.
const INAUDIBLE: f32 = 1.6e-5;

/// A note from its onset until nothing of it is left.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    bank: Bank,
    noises: Vec<Noise>,
    envelope: Envelope,
    vibrato: Option<Vibrato>,
    glide: Option<Glide>,
    swell: Option<Swell>,
    /// Where the wave of the tremolo is, how far it turns per sample, its depth.
    tremolo: Option<(f64, f64, f32)>,
    choke: Option<u8>,
    rate: f64,
    /// Samples since the onset.
    age: u64,
    /// Where in its first block it begins.
    offset: usize,
    /// Largest sample of the last block.
    peak: f32,
    /// The deviation and the slope that the bank was last set to.
    deviation: f32,
    slope: f32,
}

impl Voice {
    /// The voice of a checked note, which begins `offset` samples into the next
    /// block. `level` is the root mean square of a note of velocity 127; `seed`
    /// chooses the noise.
    pub(crate) fn new(note: &Note, offset: usize, rate: f64, level: f64, seed: u64) -> Self {
        let mut key = Key::new(note, rate, level, seed);
        let Patch {
            bank,
            noises,
            adsr,
            one_shot,
            choke,
            vibrato,
            glide,
            tremolo,
            swell,
        } = patch_for(note.sound, &mut key);
        let hold = (!one_shot).then_some(note.duration);
        let mut voice = Self {
            bank,
            noises,
            envelope: Envelope::new(&adsr, hold, rate),
            vibrato,
            glide,
            swell,
            tremolo: tremolo.map(|t| (0.0, TAU * t.rate / rate, t.depth as f32)),
            choke,
            rate,
            age: 0,
            offset,
            peak: f32::INFINITY,
            deviation: 0.0,
            slope: 0.0,
        };
        if let Some(swell) = swell {
            voice.slope = swell.slope(0.0) as f32;
            voice.bank.set_dark(voice.slope);
        }
        voice
    }

    /// The group of voices that silence each other, if it belongs to one.
    pub(crate) fn choke(&self) -> Option<u8> {
        self.choke
    }

    /// Largest sample of the last block; infinite before the first.
    pub(crate) fn peak(&self) -> f32 {
        self.peak
    }

    /// Whether its key was let go, or it was killed.
    pub(crate) fn released(&self) -> bool {
        self.envelope.released()
    }

    /// Fades out within a few milliseconds from here.
    pub(crate) fn kill(&mut self) {
        self.envelope.kill();
    }

    /// Whether it was killed.
    pub(crate) fn killed(&self) -> bool {
        self.envelope.killed()
    }

    /// Whether nothing will be heard of it any more.
    pub(crate) fn ended(&self) -> bool {
        let dead = self.bank.is_empty() && self.noises.iter().all(Noise::is_silent);
        // A held note that decays (a piano under its pedal) ends where it can no
        // longer be heard; one with a tremolo may only be in a trough.
        let faded = self.envelope.risen() && self.peak < INAUDIBLE && self.tremolo.is_none();
        self.age > 0 && (self.envelope.ended() || dead || (faded && self.released()))
    }

    /// Adds the voice's next samples to `block`.
    pub(crate) fn render(&mut self, block: &mut [f32; BLOCK]) {
        let from = std::mem::take(&mut self.offset);
        self.steer();
        let mut lanes: Lanes = [[0.0; LANES]; BLOCK];
        self.bank.render(&mut lanes, from);
        let mut dry = [0.0f32; BLOCK];
        for (y, row) in dry.iter_mut().zip(&lanes) {
            // Pairwise, as SIMD adds: the order is part of the numerics.
            *y = ((row[0] + row[4]) + (row[2] + row[6])) + ((row[1] + row[5]) + (row[3] + row[7]));
        }
        let dry = dry.get_mut(from..).unwrap_or_default();
        for noise in &mut self.noises {
            noise.render(dry);
        }
        self.noises.retain(|noise| !noise.is_silent());
        self.peak = 0.0;
        for (x, out) in dry.iter().zip(block.iter_mut().skip(from)) {
            let mut y = x * self.envelope.next();
            if let Some((angle, turn, depth)) = &mut self.tremolo {
                y *= 1.0 - *depth * (0.5 - 0.5 * angle.cos() as f32);
                *angle += *turn;
            }
            self.peak = self.peak.max(y.abs());
            *out += y;
        }
        if let Some((angle, ..)) = &mut self.tremolo {
            *angle %= TAU;
        }
        self.age += dry.len() as u64;
    }

    /// Sets frequencies and brightness for the coming block.
    fn steer(&mut self) {
        let t = self.age as f64 / self.rate;
        let mut deviation = 0.0;
        if let Some(v) = &self.vibrato {
            let depth = v.depth * ((t - v.delay) / 0.3).clamp(0.0, 1.0);
            deviation += depth * (TAU * v.rate * t).sin();
        }
        if let Some(g) = &self.glide {
            deviation += (g.from - 1.0) * (-t / g.tau).exp();
        }
        let deviation = deviation as f32;
        if (deviation - self.deviation).abs() > 1e-7 {
            self.bank.modulate(deviation);
            self.deviation = deviation;
        }
        if let Some(swell) = &self.swell {
            let goal = swell.slope(t + BLOCK as f64 / self.rate) as f32;
            if (goal - self.slope).abs() < 1e-4 {
                self.bank.settle();
                self.swell = None;
            } else {
                self.bank.darken(goal);
                self.slope = goal;
            }
        }
    }
}
