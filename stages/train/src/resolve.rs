//! From what pipeline.toml says to all parameters: the preset fills in the rest.

use serde::Deserialize;
use stage_core::FileParam;

use crate::{Decay, Preset, Train};

/// Every parameter as written, or left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    preset: Preset,
    hidden_size: Option<u32>,
    num_layers: Option<u32>,
    dropout: Option<f64>,
    input_noise: Option<f64>,
    batch_size: Option<u32>,
    chunk: Option<u32>,
    learning_rate: Option<f64>,
    warmup_steps: Option<u32>,
    decay: Option<Decay>,
    decay_steps: Option<u32>,
    weight_decay: Option<f64>,
    clip: Option<f64>,
    max_steps: Option<u64>,
    epochs: Option<u64>,
    patience: Option<u32>,
    save_every: Option<u32>,
    threads: Option<u32>,
    seed: Option<u64>,
    init_from: Option<FileParam>,
    warm_start: Option<bool>,
}

impl TryFrom<Raw> for Train {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let preset = raw.preset.defaults();
        Ok(Self {
            preset: raw.preset,
            hidden_size: raw.hidden_size.unwrap_or(preset.hidden_size),
            num_layers: raw.num_layers.unwrap_or(preset.num_layers),
            dropout: raw.dropout.unwrap_or(preset.dropout),
            input_noise: raw.input_noise.unwrap_or(preset.input_noise),
            batch_size: raw.batch_size.unwrap_or(preset.batch_size),
            chunk: raw.chunk.unwrap_or(preset.chunk),
            learning_rate: raw.learning_rate.unwrap_or(preset.learning_rate),
            warmup_steps: raw.warmup_steps.unwrap_or(preset.warmup_steps),
            decay: raw.decay.unwrap_or(preset.decay),
            decay_steps: raw.decay_steps.unwrap_or(preset.decay_steps),
            weight_decay: raw.weight_decay.unwrap_or(preset.weight_decay),
            clip: raw.clip.unwrap_or(preset.clip),
            max_steps: raw.max_steps.unwrap_or(preset.max_steps),
            epochs: raw.epochs.unwrap_or(preset.epochs),
            patience: raw.patience.unwrap_or(preset.patience),
            save_every: raw.save_every.unwrap_or(preset.save_every),
            threads: raw.threads.unwrap_or(preset.threads),
            seed: raw.seed.unwrap_or(preset.seed),
            init_from: raw.init_from,
            warm_start: raw.warm_start.unwrap_or(preset.warm_start),
        })
    }
}
