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

/// What the demo does with the finished program. The graph is the
/// `pipeline.toml` of the repository.
fn show(steps: &mut Steps, pipeline: &Path, _torch: Torch) -> Result<()> {
    let program = |args: &[&str]| {
        let mut command = Command::new(pipeline);
        command.args(args);
        command
    };
    steps.run("data set", &mut program(&["run", "dataset"]))?;
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
