//! From a data set at rest to tensors: the facts of its rows, its loaders, its batches.

use std::path::PathBuf;

use dsp::FrameFormat;
use shard::{Batch, Loader, LoaderOptions, Manifest, Remainder, Sampling, SegmentId, Shape, Split};
use stage_core::Input;
use stage_train::{Architecture, Train};
use tch::{Device, Tensor};

use crate::models::{Chunk, Rows};
use crate::{Error, Result, ffi};

/// Rows of a validation chunk.
const VALIDATION_ROWS: usize = 256;
/// Parallel validation streams.
const VALIDATION_STREAMS: usize = 16;
/// Most bytes of a manifest that are read.
const MAX_MANIFEST: u64 = 1 << 30;

/// A data set as an artifact: manifest and where its segments lie.
#[derive(Debug)]
pub struct Dataset {
    /// The manifest.
    pub manifest: Manifest,
    /// What its rows are.
    pub rows: Rows,
    input: Input,
}

impl Dataset {
    /// Opens the data set of an artifact.
    ///
    /// # Errors
    /// The artifact is none, or its metadata or statistics are missing.
    pub fn open(input: &Input) -> Result<Self> {
        let bytes = input.read("manifest.json", MAX_MANIFEST)?;
        let manifest = Manifest::from_json(&bytes, "manifest.json")?;
        let rows = rows_of(&manifest)?;
        Ok(Self {
            manifest,
            rows,
            input: input.clone(),
        })
    }

    /// The loader of training batches for a model of this architecture.
    ///
    /// # Errors
    /// No piece is long enough.
    pub fn training(&self, train: &Train) -> Result<Loader> {
        let sampling = match train.architecture() {
            Architecture::Residual(_) => Sampling::Chunks {
                remainder: Remainder::Drop,
            },
            Architecture::S0(_) => Sampling::Windows {
                stride: (train.chunk as usize / 2).max(1),
            },
        };
        let (batch, rows) = (train.batch_size as usize, train.chunk as usize);
        let mut options = LoaderOptions::new(Split::Train, batch, rows, sampling);
        options.seed = train.seed;
        self.loader(&options)
    }

    /// The loader of one pass over the validation split, each row a target exactly once; none
    /// when the data set has no such split.
    ///
    /// # Errors
    /// The segments cannot be read.
    pub fn validation(&self) -> Result<Option<Loader>> {
        if self.manifest.counts.valid.rows < 2 {
            return Ok(None);
        }
        self.pass(Split::Valid, VALIDATION_STREAMS, VALIDATION_ROWS)
            .map(Some)
    }

    /// The loader of one pass over a split in streams of chunks.
    ///
    /// # Errors
    /// No piece has two rows.
    pub fn pass(&self, split: Split, streams: usize, rows: usize) -> Result<Loader> {
        let sampling = Sampling::Chunks {
            remainder: Remainder::Pad,
        };
        self.loader(&LoaderOptions::new(split, streams, rows, sampling))
    }

    fn loader(&self, options: &LoaderOptions) -> Result<Loader> {
        let paths = self.input.paths.clone();
        let path_of = move |digest: &SegmentId| -> PathBuf {
            // A segment that the artifact lacks fails when it is opened, by this name.
            let name = format!("segments/{digest}.bin");
            paths
                .get(&name)
                .cloned()
                .unwrap_or_else(|| PathBuf::from(name))
        };
        Ok(Loader::with_paths(&self.manifest, path_of, options)?)
    }
}

/// The facts of a data set's rows, from its manifest.
///
/// # Errors
/// The rows are not floats, there is no training split, or the manifest does not say what its
/// frames are.
pub fn rows_of(manifest: &Manifest) -> Result<Rows> {
    let row_type = manifest.layout.row_type;
    if !row_type.is_float() {
        return Err(Error::Data(format!(
            "the data set has rows of {}, but the model reads f16 or f32; choose columns of floats",
            row_type.name()
        )));
    }
    let statistics = manifest.statistics.as_ref().ok_or_else(|| {
        Error::Data("the training split is empty; add pieces or change the split".to_owned())
    })?;
    let format = FrameFormat::from_metadata(&manifest.metadata).map_err(|e| {
        Error::Data(format!(
            "the data set does not say what its frames are: {e}"
        ))
    })?;
    let rows = Rows {
        columns: manifest
            .layout
            .fields
            .iter()
            .map(|field| (field.name.clone(), field.width))
            .collect(),
        mean: statistics.mean.clone(),
        std: statistics.std.clone(),
        min: statistics.min.clone(),
        max: statistics.max.clone(),
        frames: format.metadata(),
    };
    if rows.mean.len() != rows.width() {
        return Err(Error::Data(format!(
            "the data set has statistics of {} values, its rows have {}",
            rows.mean.len(),
            rows.width()
        )));
    }
    Ok(rows)
}

/// A loader's batch on `device`; on the CPU its rows stay where the loader gathered them.
///
/// # Errors
/// Out of memory.
pub fn chunk_of(batch: Batch, shape: Shape, device: Device) -> Result<Chunk> {
    let (streams, rows) = (shape.batch, shape.rows);
    let reset: Vec<f32> = batch
        .reset()
        .iter()
        .map(|&r| f32::from(u8::from(r)))
        .collect();
    let mut weight = Vec::with_capacity(streams * rows);
    for &length in batch.lengths() {
        let targets = (length as usize).saturating_sub(1);
        weight.extend((0..rows.saturating_sub(1)).map(|t| f32::from(u8::from(t < targets))));
    }
    let weight = Tensor::f_from_slice(&weight)?.f_view([streams as i64, rows as i64 - 1])?;
    let shape = [streams, rows, shape.width].map(|n| n as i64);
    Ok(Chunk {
        rows: ffi::tensor_over(batch, shape)?.f_to_device(device)?,
        reset: Tensor::f_from_slice(&reset)?.f_to_device(device)?,
        weight: weight.f_to_device(device)?,
    })
}
