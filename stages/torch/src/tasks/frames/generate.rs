//! Sampling frames that continue a prompt.

use stage_core::{Context, Event, ItemInput, StageError};
use tch::{Device, Kind, Tensor};

use super::FrameModel;
use super::prompt::FramePrompt;
use crate::rows::Rows;
use crate::tasks::Generator;
use crate::{Error, Result, signals};

/// Rows of the prompt that the model reads at a time, at most.
const READ: i64 = 256;
/// Frames between two events.
const TELL: u64 = 16;

/// The sampling loop of a model of frames.
pub struct FrameGenerator<'a> {
    /// The model.
    pub model: &'a dyn FrameModel,
    /// What it reads and predicts.
    pub rows: &'a Rows,
    /// Where it computes.
    pub device: Device,
    /// Scales the deviation from the mean; 0 gives the mean.
    pub temperature: f64,
    /// Most seconds of a prompt that are read; 0 reads all.
    pub prompt_seconds: f64,
    /// Takes events, and knows when to stop.
    pub cx: &'a Context,
}

impl Generator for FrameGenerator<'_> {
    type Prompt = FramePrompt;

    fn prompt(&self, item: &ItemInput) -> Result<FramePrompt> {
        FramePrompt::read(
            item,
            self.rows,
            self.model.min_prompt(),
            self.prompt_seconds,
        )
    }

    fn generate(
        &self,
        prompt: &FramePrompt,
        steps: u64,
        push: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let options = (Kind::Float, self.device);
        let width = self.rows.width() as i64;
        let all = Tensor::f_from_slice(&prompt.rows)?.f_view([1, -1, width])?;
        let all = all.f_to_device(self.device)?;
        let count = all.size3()?.1;
        let mut state = self.model.begin(1)?;
        let mut reset = Tensor::f_ones([1], options)?;
        // All but the last stretch of the prompt are only read.
        let read = self.model.rows_at_a_time().clamp(1, READ);
        let mut at = 0;
        while count - at > read {
            self.check()?;
            let (_, after) = self
                .model
                .predict(&all.f_narrow(1, at, read)?, &reset, &state)?;
            state = after;
            reset = reset.f_zeros_like()?;
            at += read;
        }
        let mut rows = all.f_narrow(1, at, count - at)?;
        let temperature = Tensor::f_full([1], self.temperature, options)?;
        let mut buffer = vec![0.0_f32; width as usize];
        for frame in 1..=steps {
            self.check()?;
            let (next, after) = self.model.sample(&rows, &reset, &state, &temperature)?;
            state = after;
            reset = reset.f_zeros_like()?;
            next.f_to_device(Device::Cpu)?
                .f_contiguous()?
                .f_copy_data(&mut buffer, width as usize)?;
            if buffer.iter().any(|x| !x.is_finite()) {
                return Err(Error::Diverged(format!(
                    "the model gives no numbers at frame {frame}: it is not usable; train it again"
                )));
            }
            push(&buffer)?;
            rows = next.f_unsqueeze(1)?;
            if frame % TELL == 0 || frame == steps {
                let by = if frame % TELL == 0 {
                    TELL
                } else {
                    frame % TELL
                };
                self.cx.emit(Event::Advance { by });
            }
        }
        Ok(())
    }
}

impl FrameGenerator<'_> {
    fn check(&self) -> Result<()> {
        if signals::caught() {
            return Err(Error::Stage(StageError::Cancelled));
        }
        Ok(self.cx.cancel.check()?)
    }
}
