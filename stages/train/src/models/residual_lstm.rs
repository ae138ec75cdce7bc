//! Parameters of `residual-lstm`: an LSTM that predicts the change of a log-magnitude frame.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_core::ParamError;

use super::{ModelParams, Sampling, TaskName, check_count, check_frames, check_recurrent};

/// Parameters of the model `residual-lstm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualLstm {
    /// Values in each LSTM layer.
    pub hidden_size: u32,
    /// LSTM layers.
    pub num_layers: u32,
    /// Share of values dropped after each layer while training.
    pub dropout: f64,
    /// Standard deviation of the noise added to the input frames while training, in standard
    /// deviations of their bins. It teaches the model to correct its own errors.
    pub input_noise: f64,
    /// Frames of a training chunk: gradients go back this far (truncated backpropagation).
    pub chunk: u32,
    /// Frames that the local convolution sees: the present one and those before it.
    pub history: u32,
    /// Channels of the local convolution.
    pub channels: u32,
}

impl Default for ResidualLstm {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_layers: 2,
            dropout: 0.1,
            input_noise: 0.0,
            chunk: 64,
            history: 4,
            channels: 8,
        }
    }
}

impl ModelParams for ResidualLstm {
    const NAME: &'static str = "residual-lstm";
    const ABOUT: &'static str =
        "LSTM that predicts the change of a log-magnitude frame; samples from its training errors";
    const TASK: TaskName = TaskName::Frames;

    fn training() -> Value {
        json!({})
    }

    fn validate(&self) -> Result<(), ParamError> {
        check_recurrent(self.hidden_size, self.num_layers, self.dropout)?;
        ParamError::check_range("input_noise", &self.input_noise, 0.0..=2.0, "")?;
        check_frames("chunk", self.chunk)?;
        check_count("history", self.history, 256)?;
        check_count("channels", self.channels, 1024)
    }

    fn sampling(&self) -> Sampling {
        Sampling::Chunks { rows: self.chunk }
    }

    fn weights(&self) -> f64 {
        let (h, l) = (f64::from(self.hidden_size), f64::from(self.num_layers));
        l * 8.0 * h * h + 6.0 * 513.0 * h + 2.0e6
    }
}
