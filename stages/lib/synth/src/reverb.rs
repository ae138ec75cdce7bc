//! A small room: a feedback delay network of eight lines.
//!
//! Jot & Chaigne, "Digital delay networks for designing artificial
//! reverberators" (AES 90, 1991): a lossless matrix (here the Householder
//! reflection I − 2/N·11ᵀ) and in each line the attenuation that makes every
//! echo fall by 60 dB in the same time, more quickly at high frequencies. No
//! modulation and no randomness: the same sound gets the same room.

const LINES: usize = 8;
/// Lengths in milliseconds: spread over a small room, no simple ratios.
const MILLISECONDS: [f64; LINES] = [19.31, 23.47, 28.69, 32.83, 37.91, 43.13, 49.57, 56.29];
/// Seconds of 60 dB at low and at high frequencies.
const T60_LOW: f64 = 1.1;
const T60_HIGH: f64 = 0.4;
/// Below this a value counts as nothing: denormal numbers would crawl.
const NOTHING: f32 = 1e-15;

/// The room, with what still echoes in it.
#[derive(Debug, Clone)]
pub(crate) struct Reverb {
    lines: Vec<Line>,
    wet: f32,
}

#[derive(Debug, Clone)]
struct Line {
    samples: Vec<f32>,
    place: usize,
    gain: f32,
    /// One-pole low-pass in the loop: y += (x − y)·open.
    open: f32,
    state: f32,
}

impl Line {
    fn new(milliseconds: f64, rate: f64) -> Self {
        let length = ((milliseconds * 1e-3 * rate).round() as usize).max(1);
        let seconds = length as f64 / rate;
        let gain = |t60: f64| 10f64.powf(-3.0 * seconds / t60);
        // The pole p at which the line's gain at the Nyquist frequency is that
        // of T60_HIGH: (1 − p)/(1 + p) = high/low.
        let ratio = gain(T60_HIGH) / gain(T60_LOW);
        Self {
            samples: vec![0.0; length],
            place: 0,
            gain: gain(T60_LOW) as f32,
            open: (2.0 * ratio / (1.0 + ratio)) as f32,
            state: 0.0,
        }
    }

    fn read(&self) -> f32 {
        self.samples.get(self.place).copied().unwrap_or(0.0)
    }

    fn write(&mut self, x: f32) {
        if let Some(sample) = self.samples.get_mut(self.place) {
            *sample = if x.abs() < NOTHING { 0.0 } else { x };
        }
        self.place += 1;
        if self.place >= self.samples.len() {
            self.place = 0;
        }
    }
}

impl Reverb {
    /// A room of which `amount` (0 to 1) is added to the dry sound.
    pub(crate) fn new(amount: f64, rate: f64) -> Self {
        Self {
            lines: MILLISECONDS.iter().map(|&ms| Line::new(ms, rate)).collect(),
            wet: amount as f32,
        }
    }

    /// Adds the room to `block`.
    pub(crate) fn process(&mut self, block: &mut [f32]) {
        for x in block {
            let mut sum = 0.0;
            let mut echo = 0.0;
            let mut sign = 1.0;
            for line in &mut self.lines {
                let y = line.read() * line.gain;
                line.state += (y - line.state) * line.open;
                if line.state.abs() < NOTHING {
                    line.state = 0.0;
                }
                sum += line.state;
                echo += sign * line.state;
                sign = -sign;
            }
            let spread = 2.0 / LINES as f32 * sum;
            for line in &mut self.lines {
                line.write(*x + line.state - spread);
            }
            *x += self.wet * echo;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impulse_dies_away_in_the_stated_time() {
        let rate = 22_050.0;
        let mut reverb = Reverb::new(1.0, rate);
        let mut x = vec![0.0; 2 * 22_050];
        x[0] = 1.0;
        reverb.process(&mut x);
        assert!((x[0] - 1.0).abs() < 1e-6, "the dry sound passes");
        let energy = |from: f64| {
            let at = (from * rate) as usize;
            x[at..at + 4410]
                .iter()
                .map(|v| f64::from(v * v))
                .sum::<f64>()
        };
        let fall = 10.0 * (energy(0.1) / energy(0.9)).log10();
        assert!((30.0..90.0).contains(&fall), "{fall} dB in 0.8 s");
    }

    #[test]
    fn silence_stays_silence_and_a_tail_ends_in_zeros() {
        let mut reverb = Reverb::new(0.5, 8000.0);
        let mut x = vec![0.0; 5000];
        reverb.process(&mut x);
        assert!(x.iter().all(|&v| v == 0.0));
        let mut x = vec![0.0; 80_000];
        x[0] = 1.0;
        reverb.process(&mut x);
        assert_eq!(x[79_999], 0.0);
    }
}
