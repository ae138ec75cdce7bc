//! Griffin-Lim phase reconstruction, plain and fast.
//!
//! The iteration goes back and forth between the spectra that a signal can have and
//! those that have the wanted magnitudes (Griffin & Lim 1984). The fast form adds
//! momentum: t = STFT(ISTFT(c)), c = t + α (t - previous t) (Perraudin, Balazs &
//! Søndergaard 2013, algorithm 2). Where it ends depends on where it starts:
//! [`crate::pghi`] beats random phases by far.

use crate::{Complex32, Error, Frames, Padding, Stft, StftConfig, StftStream, istft};

/// How long and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GriffinLim {
    /// Rounds of inverse and forward transform.
    pub iterations: usize,
    /// α: 0 is the plain method, 0.99 the fast one.
    pub momentum: f32,
}

impl Default for GriffinLim {
    fn default() -> Self {
        Self {
            iterations: 32,
            momentum: 0.99,
        }
    }
}

/// Improves the phases of `start`, whose magnitudes are the wanted ones; the
/// magnitudes stay.
///
/// `start` is shaped `(frames, bins)`, as [`crate::stft`] and [`crate::pghi`] give
/// it. The first `known` frames are true spectra: they are put back in each round
/// and come out as they went in. [`istft`] makes the signal. `go_on` is asked every
/// few milliseconds; once it says no, the work ends.
///
/// # Errors
/// A bad configuration, rows of another width, more known frames than frames,
/// [`Error::Memory`] or [`Error::Stopped`].
pub fn griffin_lim(
    mut start: Frames<Complex32>,
    known: usize,
    config: StftConfig,
    options: GriffinLim,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Frames<Complex32>, Error> {
    check(&start, config)?;
    let bare = unpadded(config);
    if known > start.len() {
        return Err(Error::FrameCount {
            what: "known",
            got: known,
            expected: start.len(),
        });
    }
    let bins = config.bins();
    let mut magnitudes = Frames::zeros(bins, start.len())?;
    crate::magnitude(start.data(), magnitudes.data_mut());
    let mut previous = start.clone();
    let mut stream = StftStream::new(Stft::new(bare)?);
    for round in 0..options.iterations {
        let signal = istft(&start, bare, None)?;
        // The first round has nothing before it to take momentum from.
        let momentum = if round == 0 { 0.0 } else { options.momentum };
        let mut frame = 0;
        let mut improve = |spectrum: &[Complex32]| {
            let places = frame * bins..(frame + 1) * bins;
            frame += 1;
            if frame % 512 == 1 && !go_on() {
                return Err(Error::Stopped);
            }
            let (Some(now), Some(before), Some(wanted)) = (
                start.data_mut().get_mut(places.clone()),
                previous.data_mut().get_mut(places.clone()),
                magnitudes.data().get(places),
            ) else {
                return Ok(());
            };
            if frame > known {
                accelerate(spectrum, before, momentum, wanted, now);
            }
            before.copy_from_slice(spectrum);
            Ok(())
        };
        stream.push(&signal, &mut improve)?;
        stream.finish(&mut improve)?;
    }
    Ok(start)
}

/// 20 log₁₀(‖|STFT(x)| - s‖ / ‖s‖) in dB, where x is the signal of `spectra` and s
/// their magnitudes: how far they are from being a signal's spectra. Lower is
/// better; -∞ is perfect. Silence gives -∞.
///
/// # Errors
/// A bad configuration, rows of another width, or [`Error::Memory`].
pub fn spectral_convergence_db(
    spectra: &Frames<Complex32>,
    config: StftConfig,
) -> Result<f64, Error> {
    check(spectra, config)?;
    let bare = unpadded(config);
    let signal = istft(spectra, bare, None)?;
    let mut stream = StftStream::new(Stft::new(bare)?);
    let (mut wanted, mut error, mut power) = (spectra.rows(), 0.0f64, 0.0f64);
    let mut compare = |spectrum: &[Complex32]| {
        for (s, x) in wanted.next().unwrap_or_default().iter().zip(spectrum) {
            error += f64::from(x.norm() - s.norm()).powi(2);
            power += f64::from(s.norm_sqr());
        }
        Ok::<_, Error>(())
    };
    stream.push(&signal, &mut compare)?;
    stream.finish(&mut compare)?;
    Ok(if power > 0.0 {
        10.0 * (error / power).log10()
    } else {
        f64::NEG_INFINITY
    })
}

/// Without padding the spectra of a signal are exactly those that ISTFT and STFT
/// leave as they are: what reflection put around the signal is part of it then.
/// With it, each round would mirror at another place than the spectra do.
fn unpadded(config: StftConfig) -> StftConfig {
    StftConfig {
        padding: Padding::None,
        ..config
    }
}

fn check(spectra: &Frames<Complex32>, config: StftConfig) -> Result<(), Error> {
    config.validate()?;
    if spectra.width() != config.bins() {
        return Err(Error::Bins {
            got: spectra.width(),
            expected: config.bins(),
        });
    }
    Ok(())
}

/// One frame: go on from `spectrum` in the direction it moved, then take the wanted
/// magnitudes.
fn accelerate(
    spectrum: &[Complex32],
    before: &[Complex32],
    momentum: f32,
    wanted: &[f32],
    now: &mut [Complex32],
) {
    for (((t, before), &magnitude), now) in spectrum.iter().zip(before).zip(wanted).zip(now) {
        let c = t + (t - before) * momentum;
        let norm = c.norm_sqr().sqrt();
        // Without a direction the phase stays as it was.
        if norm > f32::MIN_POSITIVE {
            *now = c * (magnitude / norm);
        }
    }
}
