//! Renders scores and says how fast, how long, how loud and how bright:
//! `cargo run --release -p stage-render --example survey -- OUT SCORE…`

#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use audio::WavReader;
use stage_core::{Context, Digest, Input, Inputs, ItemInput, Output, SOURCE_FILE, Stage, Tree};
use stage_render::{PCM, Render};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let out = args.next().ok_or("expected a folder for the WAV files")?;
    println!(
        "{:>9} {:>8} {:>7} {:>7} {:>7}  score",
        "seconds", "x real", "peak", "rms dB", "limited"
    );
    let (mut sound, mut work) = (0.0, 0.0);
    for path in args {
        match survey(&path, &out) {
            Ok((seconds, took, samples)) => {
                sound += seconds;
                work += took;
                let peak = samples.iter().fold(0f32, |p, y| p.max(y.abs()));
                let power = samples.iter().map(|y| f64::from(y * y)).sum::<f64>();
                let rms = 10.0 * (power / samples.len() as f64).log10();
                let limited = samples.iter().filter(|y| y.abs() > 0.93).count();
                println!(
                    "{seconds:9.1} {:8.0} {peak:7.3} {rms:7.1} {limited:7}  {}",
                    seconds / took,
                    path.display()
                );
            }
            Err(error) => println!("failed: {}: {error}", path.display()),
        }
    }
    println!("{sound:9.1} {:8.0} in all", sound / work);
    Ok(())
}

fn survey(path: &Path, out: &Path) -> Result<(f64, f64, Vec<f32>), Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let digest = Digest::of(&bytes);
    let item = ItemInput {
        source: digest,
        label: None,
        input: Input {
            tree: Tree::single(SOURCE_FILE, digest, bytes.len() as u64),
            paths: BTreeMap::from([(SOURCE_FILE.to_owned(), path.to_owned())]),
            file_id: None,
        },
    };
    let name = path.file_name().ok_or("expected a file")?;
    let dir = out.join(name);
    std::fs::create_dir_all(&dir)?;
    let start = Instant::now();
    Render::default().map(
        &item,
        &Inputs::default(),
        &mut Output::new(&dir),
        &Context::silent(),
    )?;
    let took = start.elapsed().as_secs_f64();
    let mut wav = WavReader::open(&dir.join(PCM))?;
    let mut samples = vec![0.0; usize::try_from(wav.frames())?];
    let mut at = 0;
    while let Some(rest) = samples.get_mut(at..).filter(|rest| !rest.is_empty()) {
        at += wav.read(rest)?;
    }
    Ok((samples.len() as f64 / 22_050.0, took, samples))
}
