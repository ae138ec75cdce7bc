//! The learning rate by step.

use stage_train::{Decay, Training};

/// The learning rate ends at this share of its peak.
const FLOOR: f64 = 0.01;

/// Learning rate by step: linear warm-up, then `decay` over `decay_steps`, then constant.
///
/// It does not know the budget: a training whose `max_steps` is raised later goes through the
/// same rates as one that was given so many steps at once, so their weights are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Rate after the decay, as a share of the peak.
    pub floor: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Shape.
    pub decay: Decay,
    /// Steps of the decay, counted from the end of the warm-up.
    pub decay_steps: u64,
}

impl Schedule {
    /// The schedule that the parameters describe.
    pub fn new(training: &Training) -> Self {
        Self {
            peak: training.learning_rate,
            floor: FLOOR,
            warmup_steps: u64::from(training.warmup_steps),
            decay: training.decay,
            decay_steps: u64::from(training.decay_steps),
        }
    }

    /// The rate of the update number `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let done = (step - self.warmup_steps) as f64 / self.decay_steps.max(1) as f64;
        let done = done.min(1.0);
        let share = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_holds_and_falls() {
        let schedule = Schedule {
            peak: 1.0,
            floor: 0.1,
            warmup_steps: 10,
            decay: Decay::Cosine,
            decay_steps: 100,
        };
        assert!((schedule.rate(0) - 0.1).abs() < 1e-12);
        assert!((schedule.rate(9) - 1.0).abs() < 1e-12);
        assert!((schedule.rate(60) - 0.55).abs() < 1e-12);
        assert!((schedule.rate(110) - 0.1).abs() < 1e-12);
        assert!((schedule.rate(u64::MAX) - 0.1).abs() < 1e-12);
    }
}
