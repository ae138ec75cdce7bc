//! The bare kernels of features, one after another in memory: decode (symphonia), resample
//! (rubato), window and FFT (realfft), logarithm, half floats and zstd. No engine, cache, checks,
//! digests or output: what is left of a run when everything else costs nothing.
//!
//! usage: kernels FOLDER  → {"seconds": …}, with a thread per core. Of recordings in FOLDER at
//! 22,050 Hz, n_fft 1024, hop 256. See benches/peers.

#![expect(clippy::print_stdout, reason = "the figure is the output")]

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use audioadapter_buffers::direct::InterleavedSlice;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use realfft::RealFftPlanner;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

const RATE: usize = 22_050;
const N_FFT: usize = 1024;
const HOP: usize = 256;
/// Samples that are resampled at once, at least: as the stage has it.
const BLOCK: usize = 2048;
/// Bytes of values that are compressed at once: as a page of a shard.
const PAGE: usize = 64 * 1024;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The mean of the channels, and the rate in Hz.
fn decode(path: &Path) -> Result<(Vec<f32>, usize)> {
    let stream = MediaSourceStream::new(Box::new(File::open(path)?), Default::default());
    let mut format = symphonia::default::get_probe().probe(
        &Hint::new(),
        stream,
        FormatOptions::default(),
        MetadataOptions::default(),
    )?;
    let track = format.default_track(TrackType::Audio).ok_or("no track")?;
    let Some(CodecParameters::Audio(params)) = track.codec_params.clone() else {
        return Err("no audio".into());
    };
    let rate = params.sample_rate.ok_or("no rate")? as usize;
    let options = AudioDecoderOptions::default();
    let mut decoder = symphonia::default::get_codecs().make_audio_decoder(&params, &options)?;
    let mut planes: Vec<Vec<f32>> = Vec::new();
    let mut mono = Vec::new();
    while let Some(packet) = format.next_packet()? {
        decoder.decode(&packet)?.copy_to_vecs_planar(&mut planes);
        let begin = mono.len();
        let scale = 1.0 / planes.len() as f32;
        for plane in &planes {
            mono.resize(begin + plane.len(), 0.0);
            for (sum, x) in mono[begin..].iter_mut().zip(plane) {
                *sum += x * scale;
            }
        }
    }
    Ok((mono, rate))
}

fn resample(input: &[f32], rate: usize) -> Result<Vec<f32>> {
    if rate == RATE {
        return Ok(input.to_vec());
    }
    let window = WindowFunction::BlackmanHarris2;
    let mut fft = Fft::<f32>::new_custom(rate, RATE, BLOCK, 1, 1, window, FixedSync::Both)?;
    let size = fft.input_frames_next();
    let mut block = vec![0.0; fft.output_frames_next()];
    let mut output = Vec::with_capacity(input.len() * RATE / rate + block.len());
    for input in input.chunks_exact(size) {
        let input = InterleavedSlice::new(input, 1, size)?;
        let frames = block.len();
        let mut out = InterleavedSlice::new_mut(&mut block, 1, frames)?;
        fft.process_into_buffer(&input, &mut out, None)?;
        output.extend_from_slice(&block);
    }
    Ok(output)
}

/// Bytes of the compressed frames.
fn features(signal: &[f32]) -> Result<usize> {
    let plan = RealFftPlanner::new().plan_fft_forward(N_FFT);
    let window: Vec<f32> = (0..N_FFT)
        .map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / N_FFT as f32).cos())
        .collect();
    let mut frame = plan.make_input_vec();
    let mut spectrum = plan.make_output_vec();
    let mut scratch = plan.make_scratch_vec();
    let mut log = vec![0.0_f32; spectrum.len()];
    let mut page: Vec<u8> = Vec::with_capacity(PAGE + 2 * log.len());
    let mut half = vec![f16::ZERO; log.len()];
    // As the stage has them: a sine of full scale at 0, and no less than e^-10 of it.
    let sum: f32 = window.iter().sum();
    let (scale, floor) = ((2.0 / sum).powi(2), (-20.0_f32).exp());
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    let mut bytes = 0;
    for samples in signal.windows(N_FFT).step_by(HOP) {
        for ((out, x), w) in frame.iter_mut().zip(samples).zip(&window) {
            *out = x * w;
        }
        plan.process_with_scratch(&mut frame, &mut spectrum, &mut scratch)?;
        for (out, x) in log.iter_mut().zip(&spectrum) {
            *out = (x.norm_sqr() * scale).max(floor);
        }
        dsp::ln_in_place(&mut log);
        log.iter_mut().for_each(|x| *x *= 0.5);
        half.convert_from_f32_slice(&log);
        page.extend(half.iter().flat_map(|x| x.to_le_bytes()));
        if page.len() >= PAGE {
            bytes += black_box(compressor.compress(&page)?).len();
            page.clear();
        }
    }
    bytes += compressor.compress(&page)?.len();
    Ok(bytes)
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("usage: kernels FOLDER")?;
    let entries = std::fs::read_dir(folder)?;
    let paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    let bytes: usize = paths
        .par_iter()
        .map(|path| {
            let (mono, rate) = decode(path)?;
            features(&resample(&mono, rate)?)
        })
        .collect::<Result<Vec<usize>>>()?
        .into_iter()
        .sum();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{{\"seconds\": {seconds}, \"bytes\": {bytes}}}");
    Ok(())
}
