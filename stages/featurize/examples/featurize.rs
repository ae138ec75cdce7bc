//! Runs the stage on one file, outside any pipeline, and says how long it took.
//!
//! `cargo run --release -p stage-featurize --example featurize -- pcm.wav out/ '{"dtype": "f32"}'`

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use stage_core::{Context, Digest, Input, Inputs, ItemInput, Output, Stage, Tree};
use stage_featurize::{Featurize, PCM, SHARD};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(wav), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: featurize PCM.wav FOLDER [PARAMETERS]".into());
    };
    let stage: Featurize = serde_json::from_str(&arguments.next().unwrap_or("{}".to_owned()))?;
    stage.validate()?;
    std::fs::create_dir_all(&folder)?;
    let size = std::fs::metadata(&wav)?.len();
    let digest = Digest::of(b"");
    let paths = BTreeMap::from([(PCM.to_owned(), PathBuf::from(wav))]);
    let input = Input {
        tree: Tree::single(PCM, digest, size),
        paths,
        file_id: None,
    };
    let item = ItemInput {
        source: digest,
        label: None,
        input,
    };
    let started = Instant::now();
    stage.map(
        &item,
        &Inputs::default(),
        &mut Output::new(&folder),
        &Context::silent(),
    )?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(Path::new(&folder).join(SHARD))?.len();
    println!("{bytes} bytes of {size} in {seconds:.3} s");
    Ok(())
}
