//! Commands with a limit of time, each in a process group of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// A command under way.
pub(crate) struct Running {
    words: String,
    child: Child,
    out: File,
    err: File,
}

/// What a command printed, and how it ended.
pub(crate) struct Ran {
    pub(crate) words: String,
    /// The exit code, or 128 and the number of the signal that ended it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Fails the case unless the command succeeded.
    #[track_caller]
    pub(crate) fn succeeds(self, when: &str) -> Self {
        assert_eq!(self.code, 0, "{when}: {}", self.told());
        self
    }

    /// The command with its exit code and the end of what it printed.
    pub(crate) fn told(&self) -> String {
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(8)..].join("\n    ")
        };
        format!(
            "`{}` ended with {}\n    {}\n    {}",
            self.words,
            self.code,
            tail(&self.out),
            tail(&self.err)
        )
    }
}

impl Running {
    /// Starts `pipeline` with `args` in `dir`. Its output goes to files: a child of it that lives
    /// on must not keep a reader waiting.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_pipeline"))
            .args(args)
            .current_dir(dir)
            .env_clear()
            .env("HOME", dir)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap())
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            words: format!("pipeline {}", args.join(" ")),
            child,
            out,
            err,
        }
    }

    /// Sends a signal to the process, or to its group.
    pub(crate) fn send(&self, signal: Signal, group: bool) {
        let Some(pid) = Pid::from_raw(self.child.id() as i32) else {
            return;
        };
        // The process may have ended meanwhile.
        let _ = if group {
            kill_process_group(pid, signal)
        } else {
            kill_process(pid, signal)
        };
    }

    /// Waits for the end. A command that takes longer than `limit` hangs: it is killed, and the
    /// case fails, as it does when the command panics.
    #[track_caller]
    pub(crate) fn finish(mut self, limit: Duration) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > limit {
                self.send(Signal::KILL, true);
                self.child.wait().unwrap();
                let ran = self.ran(137);
                panic!("hangs: after {limit:.0?} {}", ran.told());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        // What it started ends with it; a part that does not is no part of the next command.
        self.send(Signal::KILL, true);
        let ran = self.ran(code.unwrap_or(-1));
        let crashed = [101, 128 + 4, 128 + 6, 128 + 7, 128 + 8, 128 + 11].contains(&ran.code);
        assert!(
            !crashed && !ran.err.contains("panicked at"),
            "crashes: {}",
            ran.told()
        );
        ran
    }

    fn ran(&mut self, code: i32) -> Ran {
        let text = |file: &mut File| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ran {
            words: self.words.clone(),
            code,
            out: text(&mut self.out),
            err: text(&mut self.err),
        }
    }
}
