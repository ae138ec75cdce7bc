//! Phase gradient heap integration: phases for magnitudes that have none.
//!
//! For a Gaussian window exp(-π t²/γ) the gradient of an STFT's phase follows from
//! the gradient of its log magnitude; for other windows nearly so. PGHI integrates
//! it, going from the loudest coefficients to their neighbours, so that errors stay
//! where nothing is heard (Průša, Balazs & Søndergaard 2017, "A Noniterative Method
//! for Reconstruction of Phase From STFT Magnitude", eqs. 19-20 and algorithm 1).

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::f64::consts::{PI, TAU};

use crate::{Complex32, Error, Frames, StftConfig};

/// How phases are integrated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pghi {
    /// Coefficients below this share of the largest magnitude get arbitrary phases;
    /// 1e-6 leaves out what 16-bit sound does not hold.
    pub tolerance: f32,
    /// Chooses the arbitrary phases.
    pub seed: u64,
}

impl Default for Pghi {
    fn default() -> Self {
        Self {
            tolerance: 1e-6,
            seed: 0,
        }
    }
}

/// Spectra with the given magnitudes and reconstructed phases, shaped
/// `(frames, bins)` and as [`crate::istft`] wants them.
///
/// `magnitudes` are |X|, unscaled (any common factor does no harm), shaped
/// `(frames, bins)`. `known` are the spectra of the first frames, if they have
/// phases already: they are passed through, and the integration starts from the
/// last of them, so that no seam is heard; their magnitudes in `magnitudes` are not
/// read. Negative and non-finite magnitudes count as 0.
///
/// `go_on` is asked every few milliseconds; once it says no, the work ends.
///
/// # Errors
/// A bad configuration, rows of another width, more known frames than frames,
/// [`Error::Memory`] or [`Error::Stopped`].
pub fn pghi(
    magnitudes: &Frames<f32>,
    known: &Frames<Complex32>,
    config: StftConfig,
    options: Pghi,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Frames<Complex32>, Error> {
    config.validate()?;
    let (bins, frames) = (config.bins(), magnitudes.len());
    let widths = [
        Some(magnitudes.width()),
        (!known.is_empty()).then_some(known.width()),
    ];
    if let Some(got) = widths.into_iter().flatten().find(|&width| width != bins) {
        return Err(Error::Bins {
            got,
            expected: bins,
        });
    }
    if known.len() > frames {
        return Err(Error::FrameCount {
            what: "known",
            got: known.len(),
            expected: frames,
        });
    }
    let mut out = Frames::zeros(bins, frames)?;
    for (out, row) in out.rows_mut().zip(known.rows()) {
        out.copy_from_slice(row);
    }
    if known.len() == frames {
        return Ok(out);
    }
    // The last known frame is where the integration starts; those before are done.
    let first = known.len().saturating_sub(1);
    let mut field = Field::new(magnitudes, known, first, &config, options)?;
    field.seed_known(known.row(first));
    field.integrate(go_on)?;
    field.write(&mut out, first, known.len() - first, options.seed);
    Ok(out)
}

/// A coefficient on the border of what is done, ordered by loudness.
struct Border {
    log: f32,
    at: u32,
}

impl Ord for Border {
    fn cmp(&self, other: &Self) -> Ordering {
        // Equal loudness: the earlier coefficient first, so that the order, and with
        // it every phase, is the same from run to run.
        self.log
            .total_cmp(&other.log)
            .then_with(|| other.at.cmp(&self.at))
    }
}

impl PartialOrd for Border {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Border {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Border {}

/// Log magnitudes and phases of the frames to be done, row after row.
struct Field {
    bins: usize,
    log: Vec<f32>,
    /// Radians, referred to the *middle* of each frame.
    phase: Vec<f64>,
    done: Vec<bool>,
    /// Log magnitude below which phases are arbitrary.
    least: f32,
    /// aM / 2γ: turns a difference of log magnitude over two bins into a change of
    /// phase over a hop, beside the advance of the bin's middle.
    along_time: f64,
    /// -γ / 2aM: turns a difference over two frames into a change over a bin.
    along_frequency: f64,
    /// 2πa / M: the advance of bin 1 over a hop.
    advance: f64,
    heap: BinaryHeap<Border>,
    /// Counts coefficients, to ask `go_on` now and then.
    turn: u32,
}

impl Field {
    fn new(
        magnitudes: &Frames<f32>,
        known: &Frames<Complex32>,
        first: usize,
        config: &StftConfig,
        options: Pghi,
    ) -> Result<Self, Error> {
        let (bins, frames) = (config.bins(), magnitudes.len() - first);
        let size = bins * frames;
        let too_large = Error::Memory {
            frames,
            width: bins,
        };
        if u32::try_from(size).is_err() {
            return Err(too_large);
        }
        let (mut log, mut phase, mut done) = (Vec::new(), Vec::new(), Vec::new());
        log.try_reserve_exact(size).map_err(|_| too_large.clone())?;
        phase
            .try_reserve_exact(size)
            .map_err(|_| too_large.clone())?;
        done.try_reserve_exact(size).map_err(|_| too_large)?;

        // What is no number or no magnitude is silence: ln(1e-30) is below any floor.
        let clean = |x: f32| if x.is_finite() { x.max(1e-30) } else { 1e-30 };
        log.extend(known.row(first).iter().map(|x| clean(x.norm())));
        log.extend(
            magnitudes.data()[first * bins + log.len()..]
                .iter()
                .map(|&x| clean(x)),
        );
        crate::ln_in_place(&mut log);
        let loudest = log.iter().copied().fold(f32::MIN, f32::max);
        phase.resize(size, 0.0);
        done.resize(size, false);

        let gamma = config.window.gamma() * (config.win_length as f64).powi(2);
        let area = config.hop as f64 * config.n_fft as f64;
        Ok(Self {
            bins,
            log,
            phase,
            done,
            least: loudest + options.tolerance.clamp(1e-30, 1.0).ln(),
            along_time: area / (2.0 * gamma),
            along_frequency: -gamma / (2.0 * area),
            advance: TAU * config.hop as f64 / config.n_fft as f64,
            heap: BinaryHeap::new(),
            turn: 0,
        })
    }

    fn seed_known(&mut self, row: &[Complex32]) {
        for (bin, x) in row.iter().enumerate() {
            // Half a transform lies between the first sample and the middle of the
            // frame: a turn of π k.
            let half_turns = PI * (bin % 2) as f64;
            self.phase[bin] = f64::from(x.im).atan2(f64::from(x.re)) - half_turns;
            self.done[bin] = true;
            if self.log[bin] > self.least {
                self.heap.push(Border {
                    log: self.log[bin],
                    at: bin as u32,
                });
            }
        }
    }

    /// Algorithm 1: spread from the known frame, then from the loudest coefficient
    /// that is left, until all above the tolerance are done.
    fn integrate(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), Error> {
        self.spread(go_on)?;
        let mut order: Vec<u32> = (0..self.log.len() as u32)
            .filter(|&at| !self.done[at as usize] && self.log[at as usize] > self.least)
            .collect();
        order.sort_unstable_by(|&a, &b| {
            self.log[b as usize]
                .total_cmp(&self.log[a as usize])
                .then(a.cmp(&b))
        });
        for at in order {
            if !self.done[at as usize] {
                self.done[at as usize] = true;
                self.heap.push(Border {
                    log: self.log[at as usize],
                    at,
                });
                self.spread(go_on)?;
            }
        }
        Ok(())
    }

    fn spread(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), Error> {
        while let Some(Border { at, .. }) = self.heap.pop() {
            // About every 10 ms.
            self.turn = self.turn.wrapping_add(1);
            if self.turn.is_multiple_of(16_384) && !go_on() {
                return Err(Error::Stopped);
            }
            let at = at as usize;
            let bin = at % self.bins;
            if at + self.bins < self.log.len() {
                self.step(
                    at,
                    at + self.bins,
                    0.5 * (self.time_gradient(at) + self.time_gradient(at + self.bins)),
                );
            }
            if at >= self.bins {
                self.step(
                    at,
                    at - self.bins,
                    -0.5 * (self.time_gradient(at) + self.time_gradient(at - self.bins)),
                );
            }
            if bin + 1 < self.bins {
                self.step(
                    at,
                    at + 1,
                    0.5 * (self.frequency_gradient(at) + self.frequency_gradient(at + 1)),
                );
            }
            if bin > 0 {
                self.step(
                    at,
                    at - 1,
                    -0.5 * (self.frequency_gradient(at) + self.frequency_gradient(at - 1)),
                );
            }
        }
        Ok(())
    }

    fn step(&mut self, from: usize, to: usize, change: f64) {
        if !self.done[to] && self.log[to] > self.least {
            self.phase[to] = self.phase[from] + change;
            self.done[to] = true;
            self.heap.push(Border {
                log: self.log[to],
                at: to as u32,
            });
        }
    }

    /// Change of phase over a hop, in radians (eq. 20).
    fn time_gradient(&self, at: usize) -> f64 {
        let bin = at % self.bins;
        // The magnitude of a real signal's spectrum is even around both ends.
        let difference = if bin == 0 || bin + 1 == self.bins {
            0.0
        } else {
            self.log[at + 1] - self.log[at - 1]
        };
        self.along_time * f64::from(difference) + self.advance * bin as f64
    }

    /// Change of phase over a bin, in radians (eq. 19).
    fn frequency_gradient(&self, at: usize) -> f64 {
        let after = self.log.get(at + self.bins);
        let before = at.checked_sub(self.bins).and_then(|at| self.log.get(at));
        let here = self.log[at];
        // One-sided at the first and the last frame.
        let difference = match (before, after) {
            (Some(before), Some(after)) => after - before,
            (None, Some(after)) => 2.0 * (after - here),
            (Some(before), None) => 2.0 * (here - before),
            (None, None) => 0.0,
        };
        self.along_frequency * f64::from(difference)
    }

    fn write(&self, out: &mut Frames<Complex32>, first: usize, known: usize, seed: u64) {
        let skip = known * self.bins;
        let rest = out.data_mut().iter_mut().skip(first * self.bins + skip);
        for (at, value) in (skip..self.log.len()).zip(rest) {
            let phase = if self.done[at] {
                self.phase[at]
            } else {
                arbitrary(seed, at as u64)
            };
            let half_turns = PI * (at % self.bins % 2) as f64;
            let magnitude = f64::from(self.log[at]).exp();
            let (sin, cos) = (phase + half_turns).sin_cos();
            *value = Complex32::new((magnitude * cos) as f32, (magnitude * sin) as f32);
        }
    }
}

/// An angle in [0, 2π) that depends on seed and place alone (SplitMix64, Steele,
/// Lea & Flood 2014).
fn arbitrary(seed: u64, at: u64) -> f64 {
    let mut z = seed.wrapping_add((at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    TAU * ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
