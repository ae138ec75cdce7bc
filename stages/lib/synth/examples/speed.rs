//! How many times faster than real time one core plays a dense piano piece:
//! `cargo run --release -p synth --example speed`

#![expect(clippy::print_stdout, reason = "a figure is what it is for")]

use std::time::Instant;

use synth::{Note, Options, Renderer, Sound};

/// Seconds of the piece.
const SECONDS: u32 = 60;

fn main() -> Result<(), synth::Error> {
    for (name, program, rate) in [
        ("piano", 0, 22_050),
        ("piano", 0, 44_100),
        ("strings", 48, 22_050),
    ] {
        let options = Options {
            rate,
            ..Options::default()
        };
        // Sixteen notes a second, each held for two: 32 keys down at a time.
        let notes = (0..16 * SECONDS)
            .map(|i| Note {
                onset: f64::from(i) / 16.0,
                duration: 2.0,
                pitch: f64::from(28 + i * 7 % 60),
                velocity: 90,
                gain: 0.5,
                sound: Sound::Program(program),
            })
            .collect();
        let start = Instant::now();
        let mut renderer = Renderer::new(notes, &options)?;
        let mut block = vec![0.0; 4096];
        let mut voices = 0;
        while renderer.fill(&mut block)? > 0 {
            voices = voices.max(renderer.voices());
        }
        let speed = f64::from(SECONDS) / start.elapsed().as_secs_f64();
        println!("{name} at {rate} Hz, up to {voices} voices: {speed:.0} x real time");
    }
    Ok(())
}
