//! `cargo xtask test`: everything that must hold before a change lands.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::steps::Steps;
use crate::{Torch, libtorch};

/// Links to private items are of use to whoever reads the source.
const DOC_FLAGS: &str = "-Dwarnings -Arustdoc::private_intra_doc_links";

/// Sets up, then checks formatting, lints, tests and documentation.
///
/// # Errors
/// The first step that fails, with its command; the later ones do not run.
pub(crate) fn run(root: &Path, torch: Torch) -> Result<()> {
    let mut steps = Steps::new(root);
    steps.step("components", || has_components(root))?;
    if torch == Torch::With {
        steps.step("set-up", || libtorch::set_up(root))?;
    }
    let packages: &[&str] = match torch {
        Torch::With => &["--workspace"],
        Torch::Without => &["--workspace", "--exclude", "pipeline-torch"],
    };
    let cargo = |steps: &Steps, head: &[&str], tail: &[&str]| {
        let mut command = steps.cargo(head);
        command.args(packages).args(tail);
        command
    };

    let mut format = steps.cargo(&["fmt", "--all", "--check"]);
    steps.run("formatting", &mut format)?;
    let mut clippy = cargo(&steps, &["clippy"], &["--all-targets", "--", "-Dwarnings"]);
    steps.run("lints", &mut clippy)?;
    // The tests of the program start the executables, and cargo builds those
    // of another package only when it is told to.
    let mut build = cargo(&steps, &["build"], &["--bins"]);
    steps.run("executables", &mut build)?;
    let mut test = cargo(&steps, &["test"], &[]);
    if std::env::var_os("PIPELINE_BATTERY").is_none() {
        test.env("PIPELINE_BATTERY", "ci");
    }
    steps.run("tests", &mut test)?;
    let mut doc = cargo(&steps, &["doc"], &["--no-deps"]);
    steps.run("documentation", doc.env("RUSTDOCFLAGS", DOC_FLAGS))?;
    if root.join("deny.toml").is_file() && has(root, "deny") {
        let mut deny = steps.cargo(&["deny", "check", "licenses", "bans", "sources"]);
        steps.run("licences", &mut deny)?;
    }

    steps.print_times();
    println!("\nAll is well.");
    if torch == Torch::Without {
        println!("The package `pipeline-torch` was left out (--no-torch).");
    }
    Ok(())
}

/// Checks that rustfmt and clippy, which a minimal Rust lacks, are there.
fn has_components(root: &Path) -> Result<()> {
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| !has(root, subcommand))
        .map(|(_, component)| component)
        .collect();
    if !missing.is_empty() {
        bail!(
            "this Rust has no {}: `rustup component add {}`",
            missing.join(" and no "),
            missing.join(" ")
        );
    }
    Ok(())
}

/// Whether cargo knows `subcommand`.
fn has(root: &Path, subcommand: &str) -> bool {
    Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args([subcommand, "--version"])
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
