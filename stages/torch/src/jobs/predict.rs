//! The whole part of the stage `predict`: samples frames that continue prompts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use shard::{Column, Dtype, ShardOptions, ShardWriter};
use stage_core::{Context, Event, Inputs, Output};
use stage_predict::{MODEL_STEP, PROMPT_FRAMES, Predict, sample_name};
use stage_train::MODEL;

use crate::jobs::Work;
use crate::model_file::{self, Facts};
use crate::params::seed_of;
use crate::tasks::Generator;
use crate::tasks::frames::FrameGenerator;
use crate::{Error, Result, device};

impl Work for Predict {
    fn work(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()> {
        sample_all(self, inputs, out, cx)
    }
}

fn sample_all(params: &Predict, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()> {
    // Before any other call into libtorch.
    let device = device::open(cx.device)?;
    tch::set_num_threads(i32::try_from(params.threads).unwrap_or(1));
    let _guard = tch::no_grad_guard();
    let path = inputs.one("model")?.path(MODEL)?;
    // In the store it is named by its digest, which tells nobody which file to replace.
    let (model, facts) = model_file::load(path, device).map_err(|error| match error {
        Error::Checkpoint { reason, .. } => Error::checkpoint(MODEL, reason),
        error => error,
    })?;
    let format = facts.rows.format()?;
    let frames = params.frames_at(format.frame_rate()).map_err(Error::Data)?;
    let prompts = inputs.items("prompt");
    if prompts.is_empty() {
        return Err(Error::Data("there is no prompt to continue".to_owned()));
    }
    cx.info(format!(
        "sampling {frames} frames ({:.1} s) on {} with the model of step {}",
        frames as f64 / format.frame_rate(),
        device::name(device),
        facts.step
    ));
    cx.emit(Event::Total {
        total: frames * u64::from(params.variations) * prompts.len() as u64,
        unit: "frames".to_owned(),
    });
    let generator = FrameGenerator {
        model: model.as_ref(),
        rows: &facts.rows,
        device,
        temperature: params.temperature,
        prompt_seconds: params.prompt_seconds,
        cx,
    };
    for (i, item) in prompts.iter().enumerate() {
        let prompt = generator.prompt(item)?;
        for variation in 1..=params.variations {
            let path = out.path(&sample_name(i + 1, variation))?;
            let purpose = ["predict", &item.source.to_hex(), &variation.to_string()];
            tch::manual_seed(seed_of(params.seed, &purpose));
            let mut writer = writer(&path, &facts, prompt.frames)?;
            let columns = &facts.rows.columns;
            generator.generate(&prompt, frames, &mut |row| {
                let mut rest = row;
                let mut parts = Vec::with_capacity(columns.len());
                for (_, width) in columns {
                    let (part, after) = rest.split_at(rest.len().min(*width as usize));
                    parts.push(part);
                    rest = after;
                }
                Ok(writer.push(&parts)?)
            })?;
            let (mut file, _) = writer.finish()?;
            file.flush().map_err(Error::io("write", &path))?;
        }
    }
    Ok(())
}

/// A shard at `path` for rows that continue a prompt of so many frames.
fn writer(path: &Path, facts: &Facts, prompt: usize) -> Result<ShardWriter<BufWriter<File>>> {
    let columns: Vec<Column> = facts
        .rows
        .columns
        .iter()
        .map(|(name, width)| Column::new(name.clone(), *width, Dtype::F32))
        .collect();
    // Not what the model says word for word: its file may say anything besides.
    let mut metadata = facts.rows.format()?.metadata();
    metadata.insert(PROMPT_FRAMES.to_owned(), prompt.to_string());
    metadata.insert(MODEL_STEP.to_owned(), facts.step.to_string());
    let file = BufWriter::new(File::create(path).map_err(Error::io("create", path))?);
    Ok(ShardWriter::new(
        file,
        &columns,
        &metadata,
        ShardOptions::default(),
    )?)
}
