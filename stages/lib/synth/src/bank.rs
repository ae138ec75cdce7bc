//! A bank of decaying sinusoids: the additive half of every voice.
//!
//! Each partial is a complex number that is turned and shortened once per
//! sample, `z ← z·c` with `c = e^(−1/(τ·rate)) · e^(iω)`; its real part is heard.
//! In f32 this keeps frequency to 10⁻⁷ (the cheaper two-term recurrence
//! `2cos ω · y₁ − y₂` is 2 cents off at 27.5 Hz). Partials stand in groups of
//! eight lanes, so that the compiler turns the inner loop into SIMD of whatever
//! width there is; no fused multiply-add, hence the same bits on every machine.
//!
//! A partial at or above [`Bank::limit`] is never made, so nothing aliases.

use std::f64::consts::TAU;

/// Samples between two looks at anything that changes slowly.
pub(crate) const BLOCK: usize = 64;
/// Partials per group.
pub(crate) const LANES: usize = 8;
/// Most partials of one voice.
pub(crate) const MAX_PARTIALS: usize = 144;
/// Energy (squared amplitude) at which a group is too soft to be heard:
/// −114 dB of full scale.
const INAUDIBLE: f32 = 4e-12;

/// Sum of all partials of a voice, kept apart by lane until the block is done.
pub(crate) type Lanes = [[f32; LANES]; BLOCK];

#[derive(Debug, Clone)]
struct Group {
    re: [f32; LANES],
    im: [f32; LANES],
    /// Factor per sample, with modulation.
    cr: [f32; LANES],
    ci: [f32; LANES],
    /// Factor per sample, without modulation.
    base_cr: [f32; LANES],
    base_ci: [f32; LANES],
    /// Angle per sample, in radians.
    omega: [f32; LANES],
    /// ln of the partial's number, for the swell of brightness.
    order: [f32; LANES],
    gain: [f32; LANES],
    step: [f32; LANES],
}

/// The sounding partials of one voice.
#[derive(Debug, Clone)]
pub(crate) struct Bank {
    groups: Vec<Group>,
    len: usize,
    rate: f64,
    limit: f64,
    power: f64,
    shaped: bool,
}

impl Bank {
    /// An empty bank. `headroom` is the largest factor by which modulation will
    /// raise any frequency.
    pub(crate) fn new(rate: f64, headroom: f64) -> Self {
        Self {
            groups: Vec::new(),
            len: 0,
            rate,
            limit: 0.49 * rate / headroom.max(1.0),
            power: 0.0,
            shaped: false,
        }
    }

    /// Frequency in Hz that a partial has to stay below.
    pub(crate) fn limit(&self) -> f64 {
        self.limit
    }

    /// Adds a partial of `frequency` Hz that falls to 1/e in `tau` seconds
    /// (infinity: never), unless it would alias or the bank is full. `order` is
    /// its number in the series, at least 1.
    pub(crate) fn push(
        &mut self,
        frequency: f64,
        amplitude: f64,
        tau: f64,
        phase: f64,
        order: f64,
    ) {
        let audible = frequency > 0.0 && frequency < self.limit && amplitude.abs() > 1e-6;
        if !audible || !amplitude.is_finite() || self.len >= MAX_PARTIALS {
            return;
        }
        let lane = self.len % LANES;
        if lane == 0 {
            self.groups.push(Group::silent());
        }
        if let Some(group) = self.groups.last_mut() {
            let omega = TAU * frequency / self.rate;
            let shrink = (-1.0 / (tau.max(1e-4) * self.rate)).exp();
            group.re[lane] = (amplitude * phase.cos()) as f32;
            group.im[lane] = (amplitude * phase.sin()) as f32;
            group.base_cr[lane] = (shrink * omega.cos()) as f32;
            group.base_ci[lane] = (shrink * omega.sin()) as f32;
            group.cr[lane] = group.base_cr[lane];
            group.ci[lane] = group.base_ci[lane];
            group.omega[lane] = omega as f32;
            group.order[lane] = order.max(1.0).ln() as f32;
            group.gain[lane] = 1.0;
        }
        self.power += 0.5 * amplitude * amplitude;
        self.len += 1;
    }

    /// Scales all partials so that they begin with this root mean square.
    pub(crate) fn normalise(&mut self, rms: f64) {
        if self.power <= 0.0 {
            return;
        }
        let scale = (rms / self.power.sqrt()) as f32;
        for group in &mut self.groups {
            for lane in 0..LANES {
                group.re[lane] *= scale;
                group.im[lane] *= scale;
            }
        }
        self.power = rms * rms;
    }

    /// Whether nothing sounds any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Multiplies all frequencies by `1 + deviation` from here on.
    pub(crate) fn modulate(&mut self, deviation: f32) {
        // One decision for all partials, none of which turns faster than π.
        let small = deviation.abs() < 0.06 / std::f32::consts::PI;
        for group in &mut self.groups {
            for lane in 0..LANES {
                let turn = group.omega[lane] * deviation;
                let (sin, cos) = if small {
                    // Taylor to the fourth order: within 7e-9 here.
                    let t2 = turn * turn;
                    let sin = turn * (1.0 - t2 * (1.0 / 6.0));
                    (sin, 1.0 - t2 * (0.5 - t2 * (1.0 / 24.0)))
                } else {
                    turn.sin_cos()
                };
                group.cr[lane] = group.base_cr[lane] * cos - group.base_ci[lane] * sin;
                group.ci[lane] = group.base_cr[lane] * sin + group.base_ci[lane] * cos;
            }
        }
    }

    /// Lets partial k glide, within the next block, to the gain `k^(−slope)`.
    pub(crate) fn darken(&mut self, slope: f32) {
        self.shaped = true;
        for group in &mut self.groups {
            for lane in 0..LANES {
                let goal = (-slope * group.order[lane]).exp();
                group.step[lane] = (goal - group.gain[lane]) / BLOCK as f32;
            }
        }
    }

    /// Sets the gain of partial k to `k^(−slope)` at once.
    pub(crate) fn set_dark(&mut self, slope: f32) {
        self.shaped = true;
        for group in &mut self.groups {
            for lane in 0..LANES {
                group.gain[lane] = (-slope * group.order[lane]).exp();
                group.step[lane] = 0.0;
            }
        }
    }

    /// Takes the gains as they are for good, which saves a third of the work.
    pub(crate) fn settle(&mut self) {
        self.shaped = false;
        for group in &mut self.groups {
            for lane in 0..LANES {
                group.re[lane] *= group.gain[lane];
                group.im[lane] *= group.gain[lane];
                group.gain[lane] = 1.0;
                group.step[lane] = 0.0;
            }
        }
    }

    /// Adds the next `BLOCK - from` samples to `sum[from..]`, and forgets groups
    /// that have died away.
    pub(crate) fn render(&mut self, sum: &mut Lanes, from: usize) {
        let shaped = self.shaped;
        self.groups.retain_mut(|group| {
            let rows = sum.get_mut(from..).unwrap_or_default();
            if shaped {
                group.render_shaped(rows);
            } else {
                group.render(rows);
            }
            group.energy() > INAUDIBLE
        });
    }
}

impl Group {
    fn silent() -> Self {
        let zero = [0.0; LANES];
        Self {
            re: zero,
            im: zero,
            cr: zero,
            ci: zero,
            base_cr: zero,
            base_ci: zero,
            omega: zero,
            order: zero,
            gain: zero,
            step: zero,
        }
    }

    fn render(&mut self, rows: &mut [[f32; LANES]]) {
        let (mut re, mut im, cr, ci) = (self.re, self.im, self.cr, self.ci);
        for row in rows {
            for l in 0..LANES {
                row[l] += re[l];
                let turned = re[l] * cr[l] - im[l] * ci[l];
                im[l] = re[l] * ci[l] + im[l] * cr[l];
                re[l] = turned;
            }
        }
        (self.re, self.im) = (re, im);
    }

    fn render_shaped(&mut self, rows: &mut [[f32; LANES]]) {
        let (mut re, mut im, cr, ci) = (self.re, self.im, self.cr, self.ci);
        let (mut gain, step) = (self.gain, self.step);
        for row in rows {
            for l in 0..LANES {
                row[l] += gain[l] * re[l];
                gain[l] += step[l];
                let turned = re[l] * cr[l] - im[l] * ci[l];
                im[l] = re[l] * ci[l] + im[l] * cr[l];
                re[l] = turned;
            }
        }
        (self.re, self.im, self.gain) = (re, im, gain);
    }

    fn energy(&self) -> f32 {
        let mut energy = 0.0;
        for l in 0..LANES {
            energy += self.re[l] * self.re[l] + self.im[l] * self.im[l];
        }
        energy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(bank: &mut Bank, blocks: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for _ in 0..blocks {
            let mut sum: Lanes = [[0.0; LANES]; BLOCK];
            bank.render(&mut sum, 0);
            out.extend(sum.iter().map(|row| row.iter().sum::<f32>()));
        }
        out
    }

    #[test]
    fn a_partial_is_the_textbook_damped_cosine() {
        let rate = 22_050.0;
        let mut bank = Bank::new(rate, 1.0);
        bank.push(27.5, 0.5, 0.8, 0.3, 1.0);
        bank.push(4000.0, 0.25, f64::INFINITY, 1.0, 2.0);
        for (n, y) in play(&mut bank, 1000).iter().enumerate() {
            let t = n as f64 / rate;
            let want = 0.5 * (-t / 0.8).exp() * (TAU * 27.5 * t + 0.3).cos()
                + 0.25 * (TAU * 4000.0 * t + 1.0).cos();
            assert!(
                (f64::from(*y) - want).abs() < 2e-3,
                "{n}: {y} against {want}"
            );
        }
    }

    #[test]
    fn what_would_alias_is_not_made_and_what_died_is_dropped() {
        let mut bank = Bank::new(8000.0, 1.0);
        bank.push(4000.0, 1.0, 1.0, 0.0, 1.0);
        bank.push(-5.0, 1.0, 1.0, 0.0, 1.0);
        bank.push(f64::NAN, 1.0, 1.0, 0.0, 1.0);
        bank.push(100.0, f64::NAN, 1.0, 0.0, 1.0);
        assert!(bank.is_empty());
        bank.push(1000.0, 1.0, 0.01, 0.0, 1.0);
        play(&mut bank, 40);
        assert!(bank.is_empty());
        for _ in 0..1000 {
            bank.push(1000.0, 1.0, 1.0, 0.0, 1.0);
        }
        assert_eq!(bank.len, MAX_PARTIALS);
    }

    #[test]
    fn modulation_turns_faster() {
        let count = |deviation: f32| {
            let mut bank = Bank::new(44_100.0, 2.0);
            bank.push(1000.0, 1.0, f64::INFINITY, 0.1, 1.0);
            bank.modulate(deviation);
            let y = play(&mut bank, 690);
            y.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count() as f64
        };
        assert!((count(0.0) - 1001.0).abs() < 3.0);
        assert!((count(0.01) - 1011.0).abs() < 3.0);
        assert!((count(0.5) - 1502.0).abs() < 3.0);
    }
}
