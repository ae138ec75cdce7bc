//! Parameters of `fft-frame-lstm`: an LSTM from a window of spectral frames to the next frame.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage_core::ParamError;

use super::{ModelParams, Sampling, TaskName, check_frames, check_recurrent};

/// Parameters of the model `fft-frame-lstm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FftFrameLstm {
    /// Values in each LSTM layer.
    pub hidden_size: u32,
    /// LSTM layers.
    pub num_layers: u32,
    /// Share of values dropped between layers while training.
    pub dropout: f64,
    /// Frames in a window.
    pub window: u32,
}

impl Default for FftFrameLstm {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            num_layers: 4,
            dropout: 0.0,
            window: 10,
        }
    }
}

impl ModelParams for FftFrameLstm {
    const NAME: &'static str = "fft-frame-lstm";
    const ABOUT: &'static str =
        "LSTM from a window of magnitudes, phases and descriptors to the next magnitude and phase";
    const TASK: TaskName = TaskName::Frames;

    fn training() -> Value {
        json!({
            "batch_size": 75,
            "learning_rate": 1e-3,
            "warmup_steps": 0,
            "decay": "constant",
            "decay_steps": 0,
            "weight_decay": 0,
        })
    }

    fn validate(&self) -> Result<(), ParamError> {
        check_recurrent(self.hidden_size, self.num_layers, self.dropout)?;
        check_frames("window", self.window)
    }

    fn sampling(&self) -> Sampling {
        Sampling::Windows {
            rows: self.window,
            stride: (self.window / 2).max(1),
        }
    }

    fn weights(&self) -> f64 {
        let (h, l) = (f64::from(self.hidden_size), f64::from(self.num_layers));
        l * 8.0 * h * h + 6.0 * 513.0 * h + 2.0e6
    }
}
