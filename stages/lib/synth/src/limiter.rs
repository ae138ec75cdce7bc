//! A look-ahead limiter: what is below the ceiling passes untouched, nothing
//! goes above, and the gain moves smoothly.
//!
//! The gain each sample needs is held for the look-ahead by a running minimum,
//! recovers slowly, and is averaged over the look-ahead: the mean of gains that
//! are each low enough for a peak is low enough for it, so the ceiling holds
//! exactly. A soft clipper was rejected: its harmonics alias.

use std::collections::VecDeque;

/// Seconds that the limiter looks ahead.
const LOOK_AHEAD: f64 = 0.004;
/// Seconds in which the gain recovers to 1/e.
const RECOVERY: f64 = 0.15;

/// The limiter, with the samples it still holds back.
#[derive(Debug, Clone)]
pub(crate) struct Limiter {
    ceiling: f32,
    delay: VecDeque<f32>,
    /// Candidates for the running minimum: when, and which gain, increasing.
    minima: VecDeque<(u64, f32)>,
    averaged: VecDeque<f32>,
    sum: f64,
    held: f32,
    recovery: f32,
    length: usize,
    now: u64,
}

impl Limiter {
    /// A limiter that keeps the absolute value at or below `ceiling`.
    pub(crate) fn new(ceiling: f32, rate: f64) -> Self {
        let length = ((LOOK_AHEAD * rate).round() as usize).max(1);
        Self {
            ceiling,
            delay: VecDeque::from(vec![0.0; length]),
            minima: VecDeque::with_capacity(length + 2),
            averaged: VecDeque::from(vec![1.0; length + 1]),
            sum: (length + 1) as f64,
            held: 1.0,
            recovery: (1.0 - (-1.0 / (RECOVERY * rate)).exp()) as f32,
            length,
            now: 0,
        }
    }

    /// How many samples the output comes after the input.
    pub(crate) fn latency(&self) -> usize {
        self.length
    }

    /// The next sample out, for the next one in.
    pub(crate) fn next(&mut self, x: f32) -> f32 {
        let needed = if x.abs() > self.ceiling {
            self.ceiling / x.abs()
        } else {
            1.0
        };
        while self.minima.back().is_some_and(|&(_, gain)| gain >= needed) {
            self.minima.pop_back();
        }
        self.minima.push_back((self.now, needed));
        let oldest = self.now.saturating_sub(self.length as u64);
        while self.minima.front().is_some_and(|&(at, _)| at < oldest) {
            self.minima.pop_front();
        }
        self.now += 1;
        let least = self.minima.front().map_or(1.0, |&(_, gain)| gain);
        self.held += (1.0 - self.held) * self.recovery;
        self.held = if self.held > 0.999_999 {
            1.0
        } else {
            self.held
        }
        .min(least);

        self.averaged.push_back(self.held);
        self.sum += f64::from(self.held);
        if let Some(gone) = self.averaged.pop_front() {
            self.sum -= f64::from(gone);
        }
        let gain = (self.sum / self.averaged.len() as f64) as f32;
        self.delay.push_back(x);
        let y = self.delay.pop_front().unwrap_or(0.0) * gain;
        y.clamp(-self.ceiling, self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(x: &[f32]) -> Vec<f32> {
        let mut limiter = Limiter::new(0.9, 22_050.0);
        let latency = limiter.latency();
        x.iter()
            .copied()
            .chain(std::iter::repeat_n(0.0, latency))
            .map(|v| limiter.next(v))
            .skip(latency)
            .collect()
    }

    #[test]
    fn soft_sounds_pass_untouched() {
        let x: Vec<f32> = (0..5000).map(|n| 0.85 * (n as f32 * 0.1).sin()).collect();
        assert_eq!(limit(&x), x);
    }

    #[test]
    fn loud_sounds_stay_below_and_move_smoothly() {
        let x: Vec<f32> = (0..20_000)
            .map(|n| {
                let level = if (8000..9000).contains(&n) { 4.0 } else { 0.5 };
                level * (n as f32 * 0.3).sin()
            })
            .collect();
        let y = limit(&x);
        assert!(y.iter().all(|v| v.abs() <= 0.9));
        let gain: Vec<f32> = x.iter().zip(&y).map(|(x, y)| y / x).skip(1).collect();
        let jump = gain
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0f32, f32::max);
        assert!(jump < 0.02, "gain jumps by {jump}");
        assert!((0.95..=1.0).contains(&gain[19_000]), "recovers");
    }
}
