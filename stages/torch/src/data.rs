//! From a data set at rest to tensors: its manifest, its loaders, its batches.

use std::path::PathBuf;

use shard::{Batch, Loader, LoaderOptions, Manifest, Remainder, Sampling, SegmentId, Shape, Split};
use stage_core::Input;
use stage_train::models::Sampling as Cut;
use stage_train::{Architecture, Training};
use tch::{Device, Tensor};

use crate::models::Chunk;
use crate::{Result, ffi};

/// Rows of a chunk in a pass over a split.
const PASS_ROWS: usize = 256;
/// Parallel streams of a pass over a split.
const PASS_STREAMS: usize = 16;
/// Most bytes of a manifest that are read.
const MAX_MANIFEST: u64 = 1 << 30;

/// A data set as an artifact: manifest and where its segments lie.
#[derive(Debug)]
pub struct Dataset {
    /// The manifest.
    pub manifest: Manifest,
    input: Input,
}

impl Dataset {
    /// Opens the data set of an artifact.
    ///
    /// # Errors
    /// The artifact is none, or its metadata or statistics are missing.
    pub fn open(input: &Input) -> Result<Self> {
        let bytes = input.read("manifest.json", MAX_MANIFEST)?;
        Ok(Self {
            manifest: Manifest::from_json(&bytes, "manifest.json")?,
            input: input.clone(),
        })
    }

    /// The loader of training batches, cut as the model wants them.
    ///
    /// # Errors
    /// No piece is long enough.
    pub fn training(&self, training: &Training, architecture: &Architecture) -> Result<Loader> {
        let (rows, sampling) = match architecture.sampling() {
            Cut::Chunks { rows } => {
                let remainder = Remainder::Drop;
                (rows, Sampling::Chunks { remainder })
            }
            Cut::Windows { rows, stride } => {
                let stride = stride as usize;
                (rows, Sampling::Windows { stride })
            }
        };
        let batch = training.batch_size as usize;
        let mut options = LoaderOptions::new(Split::Train, batch, rows as usize, sampling);
        options.seed = training.seed;
        self.loader(&options)
    }

    /// The loader of one pass over a split, each row a target exactly once; none when the split
    /// is empty.
    ///
    /// # Errors
    /// The segments cannot be read.
    pub fn pass(&self, split: Split) -> Result<Option<Loader>> {
        let counts = &self.manifest.counts;
        let rows = match split {
            Split::Train => counts.train.rows,
            Split::Valid => counts.valid.rows,
            Split::Test => counts.test.rows,
        };
        if rows < 2 {
            return Ok(None);
        }
        self.streams(split, PASS_STREAMS, PASS_ROWS).map(Some)
    }

    /// The loader of one pass over a split in `streams` parallel streams, in chunks of `rows`.
    ///
    /// # Errors
    /// No piece has two rows.
    pub fn streams(&self, split: Split, streams: usize, rows: usize) -> Result<Loader> {
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
