//! Commands run one after the other, each with its name and the time it took.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::libtorch;

/// What was run so far.
pub(crate) struct Steps {
    root: PathBuf,
    taken: Vec<(String, Duration)>,
}

impl Steps {
    /// Steps whose commands run in `root`, the folder of the workspace.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            taken: Vec::new(),
        }
    }

    /// Runs `work` as the step `name`.
    ///
    /// # Errors
    /// That of `work`; the steps so far are printed before it is returned.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n==> {name}");
        let start = Instant::now();
        let outcome = work();
        self.taken.push((name.to_owned(), start.elapsed()));
        if outcome.is_err() {
            self.print_times();
        }
        outcome
    }

    /// Runs `command` as the step `name`.
    ///
    /// # Errors
    /// When the command cannot be started or fails: the error spells it out,
    /// ready to be pasted.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        command.current_dir(&self.root);
        self.step(name, || run(command))
    }

    /// A `cargo` command with `args`.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args(args).current_dir(&self.root);
        // `cargo xtask` was given LIBTORCH by .cargo/config.toml. Handed on, it
        // would count as set by hand; taken away, cargo reads the file again
        // and nothing is built anew when a plain `cargo build` follows.
        if libtorch::chosen_by_user(&self.root).is_none() {
            command.env_remove("LIBTORCH");
        }
        command
    }

    /// Prints what each step took.
    pub(crate) fn print_times(&self) {
        println!();
        let total = self.taken.iter().map(|(_, time)| *time).sum();
        let width = self.taken.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0).max("total".len());
        for (name, time) in &self.taken {
            println!("  {name:width$}  {:>9}", readable(*time));
        }
        println!("  {:width$}  {:>9}", "total", readable(total));
    }
}

/// Runs `command` to its end, its output going where ours goes.
///
/// # Errors
/// When it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    println!("    {line}");
    let status = command
        .status()
        .with_context(|| format!("`{line}` could not be started"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// `command` as one would type it.
fn command_line(command: &Command) -> String {
    let word = |text: &OsStr| {
        let text = text.to_string_lossy();
        match text.contains(|c: char| c.is_whitespace() || c == '\'') {
            true => format!("'{}'", text.replace('\'', r"'\''")),
            false => text.into_owned(),
        }
    };
    let program = Path::new(command.get_program());
    // Cargo hands on its whole path, which nobody types.
    let program = match program.file_stem() {
        Some(name) if name == "cargo" => name,
        _ => command.get_program(),
    };
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value?;
        Some(format!("{}={}", name.to_string_lossy(), word(value)))
    });
    variables
        .chain([word(program)])
        .chain(command.get_args().map(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `time` as minutes and seconds, or with a tenth of a second below a minute.
fn readable(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        for (milliseconds, expected) in [
            (0, "0.0 s"),
            (59_940, "59.9 s"),
            (60_000, "1 min 00 s"),
            (3_725_400, "62 min 05 s"),
        ] {
            assert_eq!(readable(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.env("RUSTDOCFLAGS", "-D warnings");
        command.env_remove("LIBTORCH");
        command.args(["doc", "--message-format", "it's short"]);
        assert_eq!(
            command_line(&command),
            r"RUSTDOCFLAGS='-D warnings' cargo doc --message-format 'it'\''s short'"
        );
    }

    #[test]
    fn a_failure_names_its_command() {
        let error = run(Command::new("false").arg("--loudly")).unwrap_err();
        assert!(
            error.to_string().starts_with("`false --loudly` failed"),
            "{error}"
        );
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(error.to_string().contains("could not be started"));
    }
}
