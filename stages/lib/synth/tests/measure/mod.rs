//! What a listener would measure: spectrum, pitch, centroid, attack, level.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use realfft::RealFftPlanner;
use synth::{Note, Options, Renderer, Sound};

/// A note of program 0 at middle C for one second; change what matters.
pub(crate) const NOTE: Note = Note {
    onset: 0.0,
    duration: 1.0,
    pitch: 60.0,
    velocity: 100,
    gain: 1.0,
    sound: Sound::Program(0),
};

/// No room, so that what is measured is the instrument.
pub(crate) const DRY: Options = Options {
    rate: 22_050,
    level: 0.0,
    reverb: 0.0,
    tail: 0.5,
    seed: 0,
};

/// All samples of a piece.
pub(crate) fn render(notes: Vec<Note>, options: &Options) -> Vec<f32> {
    let mut renderer = Renderer::new(notes, options).unwrap();
    let mut samples = vec![0.0; renderer.total() as usize];
    assert_eq!(renderer.fill(&mut samples).unwrap(), samples.len());
    samples
}

/// One note of `sound`, without room.
pub(crate) fn play(sound: Sound, pitch: f64, velocity: u8, duration: f64) -> Vec<f32> {
    let note = Note {
        pitch,
        velocity,
        duration,
        sound,
        ..NOTE
    };
    render(vec![note], &DRY)
}

/// Power spectrum under a Hann window, zero-padded at least twofold: bin `k` stands at
/// `k · rate / (2 · (len − 1))` Hz.
pub(crate) fn power(x: &[f32]) -> Vec<f64> {
    let n = (2 * x.len()).next_power_of_two();
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(n);
    let mut input = fft.make_input_vec();
    for (i, (y, &v)) in input.iter_mut().zip(x).enumerate() {
        let w = (std::f64::consts::PI * i as f64 / x.len() as f64).sin();
        *y = f64::from(v) * w * w;
    }
    let mut output = fft.make_output_vec();
    fft.process(&mut input, &mut output).unwrap();
    output.iter().map(|c| c.norm_sqr()).collect()
}

/// Hz per bin of [`power`].
pub(crate) fn bin_width(power: &[f64], rate: u32) -> f64 {
    f64::from(rate) / (2.0 * (power.len() - 1) as f64)
}

/// Mean frequency of the power in Hz, from 20 Hz.
pub(crate) fn centroid(x: &[f32], rate: u32) -> f64 {
    let p = power(x);
    let width = bin_width(&p, rate);
    let bins = || p.iter().enumerate().skip((20.0 / width) as usize);
    let moment: f64 = bins().map(|(k, p)| k as f64 * width * p).sum();
    moment / bins().map(|(_, p)| p).sum::<f64>()
}

/// Frequency in Hz around `near` at which the power within half a semitone has its mean:
/// for a vibrato as for a pair of strings, what the ear takes for the pitch.
pub(crate) fn pitch_near(x: &[f32], rate: u32, near: f64) -> f64 {
    let p = power(x);
    let width = bin_width(&p, rate);
    let from = (near * 0.972 / width) as usize;
    let to = (near * 1.029 / width) as usize;
    let (mut moment, mut total) = (0.0, 0.0);
    for (k, p) in p.iter().enumerate().take(to + 1).skip(from) {
        moment += k as f64 * width * p;
        total += p;
    }
    moment / total
}

/// Interval in cents.
pub(crate) fn cents(a: f64, b: f64) -> f64 {
    1200.0 * (a / b).log2()
}

/// Root mean square.
pub(crate) fn rms(x: &[f32]) -> f64 {
    (x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len().max(1) as f64).sqrt()
}

/// Root mean square over windows of 8 ms, every 0.5 ms.
pub(crate) fn loudness(x: &[f32], rate: u32) -> Vec<f64> {
    let hop = rate as usize / 2000;
    x.windows(16 * hop).step_by(hop).map(rms).collect()
}

/// Seconds from 10 % to 80 % of the largest loudness.
pub(crate) fn attack(x: &[f32], rate: u32) -> f64 {
    // Silence before, or the rise of a short attack would be cut off.
    let mut lead = vec![0.0; rate as usize / 100];
    lead.extend(x);
    let l = loudness(&lead, rate);
    let top = l.iter().copied().fold(0.0, f64::max);
    let when = |share: f64| l.iter().position(|&v| v >= share * top).unwrap_or(0);
    (when(0.8) - when(0.1)) as f64 * 0.5e-3
}

/// Energy in `from..to` Hz as a share of all.
pub(crate) fn share(x: &[f32], rate: u32, from: f64, to: f64) -> f64 {
    let p = power(x);
    let width = bin_width(&p, rate);
    let part: f64 = p
        .iter()
        .enumerate()
        .filter(|(k, _)| (from..to).contains(&(*k as f64 * width)))
        .map(|(_, p)| p)
        .sum();
    part / p.iter().sum::<f64>()
}
