//! Architectures and presets.

use serde::{Deserialize, Serialize};
use stage_core::ParamError;

use crate::{Decay, Train};

/// A named recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// LSTM that predicts the change of a log-magnitude frame, with a density to draw from.
    #[default]
    Residual,
    /// 4 × 512 LSTM from a window of 10 frames of magnitude, phase and descriptors to the next
    /// magnitude and phase: MSE, Adam 1e-3, clip 1.0, batch 75.
    S0,
}

impl Preset {
    /// All parameters as this preset sets them.
    pub fn defaults(self) -> Train {
        let residual = Train {
            preset: Self::Residual,
            hidden_size: 256,
            num_layers: 2,
            dropout: 0.1,
            input_noise: 0.0,
            batch_size: 16,
            chunk: 64,
            learning_rate: 2e-3,
            warmup_steps: 20,
            decay: Decay::Cosine,
            decay_steps: 580,
            weight_decay: 0.01,
            clip: 1.0,
            max_steps: 600,
            epochs: 0,
            patience: 0,
            save_every: 50,
            threads: 2,
            seed: 0,
            init_from: None,
            warm_start: false,
        };
        match self {
            Self::Residual => residual,
            Self::S0 => Train {
                preset: Self::S0,
                hidden_size: 512,
                num_layers: 4,
                dropout: 0.0,
                batch_size: 75,
                chunk: 10,
                learning_rate: 1e-3,
                warmup_steps: 0,
                decay: Decay::Constant,
                decay_steps: 0,
                weight_decay: 0.0,
                max_steps: 600,
                ..residual
            },
        }
    }
}

/// What a model is made of: enough, with the shape of the rows, to build it again. Part of the
/// model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Architecture {
    /// See [`Preset::Residual`].
    Residual(ResidualConfig),
    /// See [`Preset::S0`].
    S0(S0Config),
}

impl Architecture {
    /// The name in model files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Residual(_) => "residual",
            Self::S0(_) => "s0",
        }
    }

    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ParamError> {
        let count = |key, value: u32, least, most: u32| {
            ParamError::check_range(key, &value, least..=most, "")
        };
        let share = ParamError::check_range::<f64>;
        let (hidden_size, num_layers, dropout) = match self {
            Self::Residual(c) => (c.hidden_size, c.num_layers, c.dropout),
            Self::S0(c) => (c.hidden_size, c.num_layers, c.dropout),
        };
        count("hidden_size", hidden_size, 1, 16_384)?;
        count("num_layers", num_layers, 1, 64)?;
        share("dropout", &dropout, 0.0..=0.95, "")?;
        match self {
            Self::Residual(config) => {
                share("input_noise", &config.input_noise, 0.0..=2.0, "")?;
                count("history", config.history, 1, 256)?;
                count("channels", config.channels, 1, 1024)
            }
            Self::S0(config) => count("window", config.window, MIN_CHUNK, MAX_CHUNK),
        }
    }
}

/// Fewest frames of a chunk, which is the window of `s0`.
pub(crate) const MIN_CHUNK: u32 = 2;
/// Most frames of a chunk.
pub(crate) const MAX_CHUNK: u32 = 65_536;

/// Architecture `residual`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualConfig {
    /// Values in each LSTM layer.
    pub hidden_size: u32,
    /// LSTM layers.
    pub num_layers: u32,
    /// Share of values dropped after each layer while training.
    pub dropout: f64,
    /// Deviation of the noise on the frames that are given while training.
    #[serde(default)]
    pub input_noise: f64,
    /// Frames that the local convolution sees: the present one and those before it.
    pub history: u32,
    /// Channels of the local convolution.
    pub channels: u32,
}

impl Default for ResidualConfig {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            num_layers: 2,
            dropout: 0.1,
            input_noise: 0.0,
            history: 4,
            channels: 8,
        }
    }
}

/// Architecture `s0`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S0Config {
    /// Values in each LSTM layer.
    pub hidden_size: u32,
    /// LSTM layers.
    pub num_layers: u32,
    /// Share of values dropped between layers while training.
    pub dropout: f64,
    /// Frames in a window.
    pub window: u32,
}
