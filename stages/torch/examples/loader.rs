//! How fast shuffled batches come from memory-mapped segments into a tensor: 1 GB of f32 rows of
//! 513 values, windows of 64 frames, batches of 32; the best of three epochs.
//!
//! `loader` measures that, `memcpy` bare copies of windows as scattered. Prints JSON. See
//! benches/peers.

#![expect(clippy::print_stdout, reason = "the figure is the output")]

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

use pipeline_torch::data::chunk_of;
use shard::{
    Layout, Loader, LoaderOptions, Manifest, ManifestBuilder, Metadata, Output, Parts, RowType,
    Sampling, Segment, SegmentId, SegmentWriter, Split,
};
use tch::Device;

const BINS: usize = 513;
const ROWS: usize = 64;
const BATCH: usize = 32;
const PIECES: u8 = 64;
const FRAMES: usize = 8192;
const EPOCHS: u64 = 3;

fn data_set(folder: &Path) -> Result<Manifest, Box<dyn Error>> {
    let mut builder = ManifestBuilder::new();
    let rows: Vec<f32> = (0..BINS * FRAMES)
        .map(|i| (i % 1000) as f32 / 100.0 - 10.0)
        .collect();
    for piece in 0..PIECES {
        let id = SegmentId([piece; 32]);
        let path = folder.join(format!("{id}.bin"));
        let layout = Layout::new(RowType::F32, [("magnitude", BINS as u32)])?;
        let file = BufWriter::new(File::create(&path)?);
        let mut writer = SegmentWriter::new(file, layout, Metadata::new())?;
        writer.push_f32(&rows)?;
        writer.finish()?;
        let parts = Parts::from([(Split::Train, 0..FRAMES as u64)]);
        builder.add(id, &Segment::open(&path)?, &parts)?;
    }
    Ok(builder.finish("bench")?)
}

/// Bytes per second into tensors.
fn loader() -> Result<f64, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let manifest = data_set(dir.path())?;
    let sampling = Sampling::Windows { stride: ROWS };
    let options = LoaderOptions {
        output: Output::F32,
        ..LoaderOptions::new(Split::Train, BATCH, ROWS, sampling)
    };
    let loader = Loader::open(&manifest, dir.path(), &options)?;
    let mut best = 0.0_f64;
    for epoch in 0..EPOCHS {
        let (mut bytes, begun) = (0, Instant::now());
        for batch in loader.epoch(epoch)? {
            let rows = chunk_of(batch?, loader.shape(), Device::Cpu)?.rows;
            bytes += 4 * rows.numel();
            let _ = black_box(rows);
        }
        best = best.max(bytes as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Bytes per second of copies, from as much memory.
fn memcpy() -> f64 {
    let source = vec![1.0_f32; usize::from(PIECES) * FRAMES * BINS];
    let window = (ROWS + 1) * BINS;
    let mut target = vec![0.0_f32; BATCH * window];
    let (mut best, mut at) = (0.0_f64, 0);
    for _ in 0..EPOCHS {
        let begun = Instant::now();
        let batches = source.len() / target.len();
        for _ in 0..batches {
            for place in target.chunks_exact_mut(window) {
                // Steps of a large odd number of windows: as scattered as a shuffle.
                at = (at + 7919 * window) % (source.len() - window);
                place.copy_from_slice(&source[at..at + window]);
            }
            black_box(&target);
        }
        let bytes = 4 * batches * target.len();
        best = best.max(bytes as f64 / begun.elapsed().as_secs_f64());
    }
    best
}

fn main() -> Result<(), Box<dyn Error>> {
    let rate = match std::env::args().nth(1).as_deref() {
        Some("loader") => loader()?,
        Some("memcpy") => memcpy(),
        _ => return Err("usage: loader loader|memcpy".into()),
    };
    println!("{{\"gb_per_s\": {}}}", rate / 1e9);
    Ok(())
}
