//! Next-frame architectures: a file each, and one line in [`build`].
//!
//! All of them read and predict raw rows of a data set (log-magnitudes in nepers, phases in
//! radians, …) and keep what they need to normalise them as constants of their own, so that the
//! learner and the sampler know no architecture.

mod layers;
mod residual;
mod s0;

use std::collections::BTreeMap;

use dsp::FrameFormat;
use serde::{Deserialize, Serialize};
use stage_train::Architecture;
use tch::{Device, Tensor};

use crate::params::{self, BUFFER, Params};
use crate::{Error, Result};

pub use residual::Residual;
pub use s0::S0;

/// What the rows of a data set are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Columns in order: name and width.
    pub columns: Vec<(String, u32)>,
    /// Mean of each value over the training split.
    pub mean: Vec<f64>,
    /// Standard deviation of each value over the training split.
    pub std: Vec<f64>,
    /// Smallest of each value over the training split.
    pub min: Vec<f32>,
    /// Largest of each value over the training split.
    pub max: Vec<f32>,
    /// What the frames are, as [`dsp::FrameFormat::metadata`] tells it.
    pub frames: BTreeMap<String, String>,
}

impl Rows {
    /// Values in a row.
    pub fn width(&self) -> usize {
        self.columns.iter().map(|(_, width)| *width as usize).sum()
    }

    /// What the frames are.
    ///
    /// # Errors
    /// The description is not one of ours.
    pub fn format(&self) -> Result<FrameFormat> {
        FrameFormat::from_metadata(&self.frames)
            .map_err(|e| Error::Data(format!("the description of the frames: {e}")))
    }

    /// Where the column `name` lies in a row: first value and width.
    pub fn column(&self, name: &str) -> Option<(usize, usize)> {
        let mut start = 0;
        for (column, width) in &self.columns {
            let width = *width as usize;
            if column == name {
                return Some((start, width));
            }
            start += width;
        }
        None
    }
}

/// What a model carries from frame to frame, per stream: tensors whose first axis is the stream.
#[derive(Debug)]
pub struct State(pub Vec<Tensor>);

impl State {
    /// The same numbers, without the history of how they were computed.
    pub fn detach(self) -> Self {
        Self(self.0.into_iter().map(|t| t.detach()).collect())
    }

    /// The same tensors once more.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.iter().map(Tensor::shallow_clone).collect())
    }
}

/// A stretch of a training batch.
#[derive(Debug)]
pub struct Chunk {
    /// Rows `(B, T + 1, width)`: frame t predicts frame t + 1.
    pub rows: Tensor,
    /// `(B)`: 1 where the stream begins anew at the first row, 0 where it goes on.
    pub reset: Tensor,
    /// `(B, T)`: 1 where row t + 1 is there to be predicted, 0 where the piece has ended.
    pub weight: Tensor,
}

/// The loss of a chunk.
#[derive(Debug)]
pub struct Loss {
    /// To be minimised, a scalar.
    pub total: Tensor,
    /// Its parts by name, for the history.
    pub parts: Vec<(&'static str, Tensor)>,
    /// After the last frame.
    pub state: State,
}

/// How frames are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// `(B)`: scales the whole deviation from the mean; 0 gives the mean.
    pub temperature: &'a Tensor,
}

/// A next-frame model.
pub trait NextFrame {
    /// The trained tensors.
    fn params(&self) -> &Params;

    /// The trained tensors, to be changed.
    fn params_mut(&mut self) -> &mut Params;

    /// Tensors that are estimated in other ways than by gradients; part of the model file.
    fn buffers(&self) -> Vec<(&'static str, Tensor)>;

    /// Called when weights and buffers were replaced.
    fn restored(&mut self) {}

    /// Whether [`NextFrame::sample`] draws, or gives the mean whatever it is told.
    fn draws(&self) -> bool {
        true
    }

    /// Keeps the errors that its mean made on successive training frames, `(KEPT, width)` in the
    /// units of rows, to draw from; `ends`, `(KEPT)`, is 1 where the next is not the successor.
    /// A model that draws nothing keeps nothing. See [`crate::innovations`].
    ///
    /// # Errors
    /// libtorch fails.
    fn remember(&mut self, errors: &Tensor, ends: &Tensor) -> Result<()> {
        let _ = (errors, ends);
        Ok(())
    }

    /// The state of `streams` streams before their first frame.
    ///
    /// # Errors
    /// Out of memory.
    fn begin(&self, streams: i64) -> Result<State>;

    /// The training loss.
    ///
    /// # Errors
    /// libtorch fails.
    fn loss(&mut self, chunk: &Chunk, state: &State) -> Result<Loss>;

    /// The mean of the next frame for each of the rows `(B, T, width)`, and the state after them.
    ///
    /// # Errors
    /// libtorch fails.
    fn predict(&self, rows: &Tensor, reset: &Tensor, state: &State) -> Result<(Tensor, State)>;

    /// Reads rows `(B, T, width)` and draws what follows the last of them: rows `(B, width)`.
    ///
    /// # Errors
    /// libtorch fails.
    fn sample(
        &self,
        rows: &Tensor,
        reset: &Tensor,
        state: &State,
        how: &Draw<'_>,
    ) -> Result<(Tensor, State)>;
}

/// A fresh model.
///
/// # Errors
/// The rows lack a column that the architecture reads; out of memory.
pub fn build(
    architecture: &Architecture,
    rows: &Rows,
    device: Device,
    seed: u64,
) -> Result<Box<dyn NextFrame>> {
    with_params(architecture, rows, Params::new(device, seed))
}

/// A model with the tensors of a file: no others, and all of them.
///
/// # Errors
/// As [`build`]; [`Error::Checkpoint`] when the tensors are not those of the architecture.
pub fn rebuild(
    architecture: &Architecture,
    rows: &Rows,
    device: Device,
    tensors: BTreeMap<String, Tensor>,
) -> Result<Box<dyn NextFrame>> {
    let mut model = with_params(architecture, rows, Params::saved(device, tensors))?;
    if let Some(name) = model.params().left_over() {
        return Err(Error::checkpoint("model", params::superfluous(name)));
    }
    model.restored();
    Ok(model)
}

fn with_params(
    architecture: &Architecture,
    rows: &Rows,
    params: Params,
) -> Result<Box<dyn NextFrame>> {
    Ok(match architecture {
        Architecture::Residual(config) => Box::new(Residual::new(config, rows, params)?),
        Architecture::S0(config) => Box::new(S0::new(config, rows, params)?),
    })
}

/// All tensors of a model by their names in its file: weights, then buffers under `buffer/`.
pub fn tensors(model: &dyn NextFrame) -> BTreeMap<String, Tensor> {
    let weights = model
        .params()
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.detach()));
    let buffers = model
        .buffers()
        .into_iter()
        .map(|(name, tensor)| (format!("{BUFFER}{name}"), tensor));
    weights.chain(buffers).collect()
}

/// Puts saved tensors into a model of the same architecture.
///
/// # Errors
/// What does not fit, in words for the user that follow the file's name.
pub fn restore(
    model: &mut dyn NextFrame,
    mut saved: BTreeMap<String, Tensor>,
) -> std::result::Result<(), String> {
    let _guard = tch::no_grad_guard();
    for (name, mut buffer) in model.buffers() {
        let key = format!("{BUFFER}{name}");
        let value = saved
            .remove(&key)
            .ok_or_else(|| format!("lacks the tensor `{key}`"))?;
        params::fits(&key, &value, &buffer.size())?;
        buffer
            .f_copy_(&value)
            .map_err(|e| format!("cannot be copied to the device: {e}"))?;
    }
    model.params_mut().assign(&saved)?;
    model.restored();
    Ok(())
}
