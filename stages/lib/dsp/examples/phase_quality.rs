//! Spectral convergence and speed of the phase reconstructions on a recording.
//!
//! `cargo run --release -p dsp --example phase_quality -- mono.f32 22050`, where the
//! file holds raw little-endian 32-bit floats.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Instant;

use dsp::{
    Complex32, Frames, GriffinLim, Pghi, Stft, StftConfig, WindowShape, griffin_lim, magnitude,
    pghi, spectral_convergence_db, stft,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(rate)) = (arguments.next(), arguments.next()) else {
        return Err("usage: phase_quality FILE.f32 RATE".into());
    };
    let (bytes, rate) = (std::fs::read(path)?, rate.parse::<f64>()?);
    let signal: Vec<f32> = bytes
        .as_chunks()
        .0
        .iter()
        .map(|&b| f32::from_le_bytes(b))
        .collect();
    let seconds = signal.len() as f64 / rate;
    for window in [WindowShape::Hann, WindowShape::Hamming, WindowShape::Gauss] {
        let config = StftConfig {
            window,
            ..Default::default()
        };
        let spectra = stft(&signal, config)?;
        let mut magnitudes = Frames::zeros(config.bins(), spectra.len())?;
        magnitude(spectra.data(), magnitudes.data_mut());
        let report = |name: &str, started: Instant, result: &Frames<Complex32>| {
            let took = started.elapsed().as_secs_f64();
            let level = spectral_convergence_db(result, config)?;
            println!(
                "{:8} {name:32} {level:8.2} dB  {:.4} x real time",
                window.name(),
                took / seconds
            );
            Ok::<_, Box<dyn Error>>(())
        };
        let started = Instant::now();
        drop(stft(&signal, config)?);
        report("true phase (time: STFT)", started, &spectra)?;
        let random = pghi(
            &magnitudes,
            &Frames::new(1),
            config,
            Pghi {
                tolerance: 1.0,
                seed: 1,
            },
            &mut || true,
        )?;
        report("random phase", Instant::now(), &random)?;
        let started = Instant::now();
        let start = pghi(
            &magnitudes,
            &Frames::new(1),
            config,
            Pghi::default(),
            &mut || true,
        )?;
        report("PGHI", started, &start)?;
        let head = Stft::new(config).and_then(|_| {
            let half = spectra.len() / 2 * config.bins();
            let known = Frames::from_vec(config.bins(), spectra.data()[..half].to_vec());
            pghi(&magnitudes, &known, config, Pghi::default(), &mut || true)
        })?;
        report("PGHI, first half known", Instant::now(), &head)?;
        for (name, from) in [("random", &random), ("PGHI", &start)] {
            for (momentum, iterations) in [(0.0, 32), (0.99, 32), (0.99, 100)] {
                let started = Instant::now();
                let options = GriffinLim {
                    iterations,
                    momentum,
                };
                let result = griffin_lim(from.clone(), 0, config, options, &mut || true)?;
                report(
                    &format!("GL {iterations} it, momentum {momentum}, {name}"),
                    started,
                    &result,
                )?;
            }
        }
    }
    Ok(())
}
