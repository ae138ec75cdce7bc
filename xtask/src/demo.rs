//! `cargo xtask demo`: from an empty clone to something to look at.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::Steps;
use crate::{Torch, libtorch};

/// Sets up, builds both executables and runs the demo graph over `data/`.
///
/// # Errors
/// The first step that fails, with its command.
pub(crate) fn run(root: &Path, torch: Torch) -> Result<()> {
    let mut steps = Steps::new(root);
    let mut build = steps.cargo(&["build", "--release", "-p", "pipeline"]);
    if torch == Torch::With {
        steps.step("set-up", || libtorch::set_up(root))?;
        build.args(["-p", "pipeline-torch"]);
    }
    steps.run("build", &mut build)?;
    show(&mut steps, &release_folder()?.join("pipeline"), torch)?;
    steps.print_times();
    Ok(())
}

/// The recording of the corpus whose spectrogram is drawn.
const PICTURED: &str = "au-clair-de-la-lune.flac";
/// The score that the model goes on from.
const PROMPT: &str = "data/prompts/minuet.musicxml";

/// What the demo does with the finished program. The graph is the
/// `pipeline.toml` of the repository.
fn show(steps: &mut Steps, pipeline: &Path, torch: Torch) -> Result<()> {
    let program = |args: &[&str]| {
        let mut command = Command::new(pipeline);
        command.args(args);
        command
    };
    steps.run("data set", &mut program(&["run", "dataset"]))?;
    let picture = format!("out/{PICTURED}.png");
    let shard = format!("out/{PICTURED}.parquet");
    steps.run(
        "export",
        &mut program(&["export", "featurize", PICTURED, "--out", &shard]),
    )?;
    steps.run(
        "picture",
        &mut program(&["inspect", &shard, "--png", &picture]),
    )?;
    if torch == Torch::With {
        steps.run("training", &mut program(&["run", "train"]))?;
        let predict = ["run", "predict", "--prompt", PROMPT, "--seed", "1"];
        steps.run("prediction", &mut program(&predict))?;
    }
    println!("\nWhat it made:");
    println!("  {picture}  a recording of the corpus, as the model sees it");
    if torch == Torch::With {
        println!("  out/train/loss.png  how the training went, beside what it has to beat");
        println!(
            "  out/predict/        {PROMPT} and how the model goes on: sound, picture, lineage"
        );
    }
    println!("\nTry next, with {}:", pipeline.display());
    println!("  run predict --prompt data/prompts/chorale.musicxml --seed 2");
    println!("  status --why   graph   runs");
    println!("  add a file to data/corpus and `run dataset` again: only that file is worked on");
    Ok(())
}

/// Where cargo puts optimised executables: beside the folder of this one.
fn release_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    // <target>/debug/xtask
    let target = own
        .parent()
        .and_then(Path::parent)
        .context("this program lies in no target folder")?;
    Ok(target.join("release"))
}
