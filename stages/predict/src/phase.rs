//! From magnitudes to spectra: the phase methods.

use dsp::{Complex32, FrameFormat, Frames, GriffinLim, Pghi, griffin_lim, pghi};

use crate::{Error, PhaseMethod, PhaseStart, Predict};

/// Sampled frames, without the prompt.
pub(crate) struct Sampled {
    /// |X|, unscaled, `(frames, bins)`.
    pub magnitudes: Frames<f32>,
    /// Radians, as many, if the model predicts them.
    pub phases: Option<Vec<f32>>,
}

/// Spectra of the prompt and what follows it. The first `known.len()` frames are the prompt's
/// own: every method starts from the last of them and leaves them as they are, so no seam is
/// heard.
pub(crate) fn spectra(
    params: &Predict,
    known: &Frames<Complex32>,
    sampled: &Sampled,
    format: &FrameFormat,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Frames<Complex32>, Error> {
    let config = format.config;
    let griffin = GriffinLim {
        iterations: params.iterations as usize,
        ..GriffinLim::default()
    };
    let refine = |start, go_on: &mut dyn FnMut() -> bool| -> Result<_, Error> {
        Ok(griffin_lim(start, known.len(), config, griffin, go_on)?)
    };
    match (params.phase, params.start) {
        (PhaseMethod::Predicted, _) => predicted(known, sampled),
        (PhaseMethod::Pghi, _) => integrated(known, sampled, format, go_on),
        (PhaseMethod::GriffinLim, PhaseStart::Pghi) => {
            let start = integrated(known, sampled, format, go_on)?;
            refine(start, go_on)
        }
        (PhaseMethod::GriffinLim, PhaseStart::Predicted) => {
            refine(predicted(known, sampled)?, go_on)
        }
        (PhaseMethod::GriffinLim, PhaseStart::Frequency) => {
            refine(by_frequency(known, sampled, format)?, go_on)
        }
    }
}

/// Phase gradient heap integration over the prompt's last frame and all that follows.
fn integrated(
    known: &Frames<Complex32>,
    sampled: &Sampled,
    format: &FrameFormat,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Frames<Complex32>, Error> {
    let bins = format.config.bins();
    let count = known.len() + sampled.magnitudes.len();
    let mut all = Frames::with_capacity(bins, count)?;
    let mut row = vec![0.0; bins];
    for spectrum in known.rows() {
        dsp::magnitude(spectrum, &mut row);
        all.push(&row);
    }
    for row in sampled.magnitudes.rows() {
        all.push(row);
    }
    Ok(pghi(&all, known, format.config, Pghi::default(), go_on)?)
}

/// The phases that the model predicted.
fn predicted(known: &Frames<Complex32>, sampled: &Sampled) -> Result<Frames<Complex32>, Error> {
    let phases = phases(sampled)?;
    let bins = sampled.magnitudes.width();
    join(known, sampled, |frame, bin| {
        phases.get(frame * bins + bin).copied().unwrap_or_default()
    })
}

/// The phases that follow from the prompt's last ones when each bin turns at the frequency that
/// the predicted phases turn at. A frame's absolute phase depends on where the frame lies, so
/// a net's guess of it is worth little; how fast it turns is worth more.
fn by_frequency(
    known: &Frames<Complex32>,
    sampled: &Sampled,
    format: &FrameFormat,
) -> Result<Frames<Complex32>, Error> {
    let predicted = phases(sampled)?;
    let bins = sampled.magnitudes.width();
    let (mut before, mut now) = (vec![0.0; bins], vec![0.0; bins]);
    if let Some(last) = known.rows().next_back() {
        dsp::phase(last, &mut before);
        now.copy_from_slice(&before);
    }
    let mut frequency = vec![0.0; bins];
    let mut all = Vec::with_capacity(predicted.len());
    for row in predicted.chunks_exact(bins) {
        dsp::instantaneous_frequency(&format.config, &before, row, &mut frequency);
        dsp::integrate_frequency(&format.config, &frequency, &mut now);
        all.extend_from_slice(&now);
        before.copy_from_slice(row);
    }
    join(known, sampled, |frame, bin| {
        all.get(frame * bins + bin).copied().unwrap_or_default()
    })
}

fn phases(sampled: &Sampled) -> Result<&[f32], Error> {
    sampled.phases.as_deref().ok_or_else(|| {
        Error::Input(
            "the model predicts no phases; set `phase` to \"griffin_lim\" or \"pghi\", and \
             `start` to \"pghi\""
                .to_owned(),
        )
    })
}

fn join(
    known: &Frames<Complex32>,
    sampled: &Sampled,
    phase: impl Fn(usize, usize) -> f32,
) -> Result<Frames<Complex32>, Error> {
    let bins = sampled.magnitudes.width();
    let mut all = Frames::with_capacity(bins, known.len() + sampled.magnitudes.len())?;
    for row in known.rows() {
        all.push(row);
    }
    let mut spectrum = vec![Complex32::default(); bins];
    for (frame, row) in sampled.magnitudes.rows().enumerate() {
        for (bin, (x, &magnitude)) in spectrum.iter_mut().zip(row).enumerate() {
            *x = Complex32::from_polar(magnitude.max(0.0), phase(frame, bin));
        }
        all.push(&spectrum);
    }
    Ok(all)
}
