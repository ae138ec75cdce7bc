//! Set-up, tests and demo of the project, on a machine that has only Rust, a
//! C++ compiler and python3 with pip.
//!
//! An xtask is a program of the workspace that stands in for a Makefile, so
//! that `cargo xtask test` needs nothing installed and works in any shell. The
//! alias is in `.cargo/config.toml`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal, whose output is what it is run for"
)]

mod demo;
mod fuzz;
mod libtorch;
mod python;
mod steps;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

const HELP: &str = "\
Set-up, tests and demo of the project.

Usage: cargo xtask <COMMAND> [--no-torch]
       cargo xtask fuzz [--seconds N] [--seed N] [TARGET…]

Commands:
  setup  find or fetch libtorch, so that plain `cargo build` and `cargo test` work
  test   set up, then check formatting, lints, tests and documentation
  demo   set up, build, and run the demo over data/
  fuzz   fuzz every reader of foreign or stored bytes, or those named

Options:
  --no-torch   leave out what needs libtorch (test, demo)
  --seconds N  how long each target is fuzzed; the default is 60
  --seed N     where fuzzing begins: with one seed it goes the same way each time

Environment:
  LIBTORCH    a libtorch of your own to use in place of the one in .libtorch/";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Setup,
    Test(Torch),
    Demo(Torch),
    Fuzz(fuzz::Options),
}

/// Whether the package that needs libtorch takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Torch {
    With,
    Without,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(task) = parse(&args) else {
        eprintln!(
            "error: no such command: `cargo xtask {}`\n\n{HELP}",
            args.join(" ")
        );
        return ExitCode::from(2);
    };
    match perform(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The task that `args` name, or none where they name no task.
fn parse(args: &[String]) -> Option<Task> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let torch = |rest: &[&str]| match rest {
        [] => Some(Torch::With),
        ["--no-torch"] => Some(Torch::Without),
        _ => None,
    };
    match words.as_slice() {
        [] | ["help" | "-h" | "--help"] | [_, "-h" | "--help"] => Some(Task::Help),
        ["setup"] => Some(Task::Setup),
        ["test", rest @ ..] => torch(rest).map(Task::Test),
        ["demo", rest @ ..] => torch(rest).map(Task::Demo),
        ["fuzz", rest @ ..] => fuzz::Options::parse(rest).map(Task::Fuzz),
        _ => None,
    }
}

fn perform(task: &Task) -> Result<()> {
    let root = root()?;
    match task {
        Task::Help => println!("{HELP}"),
        Task::Setup => libtorch::set_up(&root)?,
        Task::Test(torch) => suite::run(&root, *torch)?,
        Task::Demo(torch) => demo::run(&root, *torch)?,
        Task::Fuzz(options) => fuzz::run(&root, options)?,
    }
    Ok(())
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    // Cargo sets the variable for what it runs, so a checkout that was moved
    // after the build is still found where it is now.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("started without cargo: say `cargo xtask`")?;
    let package = PathBuf::from(package);
    let root = package
        .parent()
        .context("the package `xtask` lies in no workspace")?;
    Ok(root.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_name_tasks() {
        let fuzz = |seconds, seed, targets: &[&str]| {
            let targets = targets.iter().map(|name| (*name).to_owned()).collect();
            Some(Task::Fuzz(fuzz::Options {
                seconds,
                seed,
                targets,
            }))
        };
        let rows: [(&str, Option<Task>); 15] = [
            ("", Some(Task::Help)),
            ("--help", Some(Task::Help)),
            ("test --help", Some(Task::Help)),
            ("setup", Some(Task::Setup)),
            ("test", Some(Task::Test(Torch::With))),
            ("test --no-torch", Some(Task::Test(Torch::Without))),
            ("demo --no-torch", Some(Task::Demo(Torch::Without))),
            ("fuzz", fuzz(60, 0, &[])),
            (
                "fuzz --seconds 9 midi table",
                fuzz(9, 0, &["midi", "table"]),
            ),
            ("fuzz --seed 1 midi", fuzz(60, 1, &["midi"])),
            ("fuzz --seconds", None),
            ("fuzz --second 9", None),
            ("setup --no-torch", None),
            ("test --no-torch twice", None),
            ("tset", None),
        ];
        for (line, expected) in rows {
            let args: Vec<String> = line.split_whitespace().map(String::from).collect();
            assert_eq!(parse(&args), expected, "`{line}`");
        }
    }
}
