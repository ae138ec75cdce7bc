//! A project in a temporary folder, driven through the executable.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "for tests, each of which uses its own share"
)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A user that has no processes.
const NOBODY: u32 = 64_321;

/// A project with a corpus of its own.
pub struct Place {
    pub dir: tempfile::TempDir,
}

/// What a command printed, and its exit code.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// The JSON lines of standard output.
    pub fn events(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// `stage part item` of every executed action, sorted.
    pub fn executed(&self) -> Vec<String> {
        let mut list: Vec<String> = self
            .events()
            .iter()
            .filter(|e| e["event"] == "action" && e["outcome"] == "executed")
            .map(|e| {
                let text = |key: &str| e[key].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", text("stage"), text("part"), text("item"))
                    .trim()
                    .to_owned()
            })
            .collect();
        list.sort();
        list
    }

    /// Fails the test, with what was said, unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        self
    }
}

impl Place {
    /// An empty project with an empty folder `corpus`.
    pub fn new() -> Self {
        Self::named(OsStr::new("project"))
    }

    /// The same in a folder whose name begins with `name`.
    pub fn named(name: &OsStr) -> Self {
        let dir = tempfile::Builder::new().prefix(name).tempdir().unwrap();
        fs::create_dir(dir.path().join("corpus")).unwrap();
        Self { dir }
    }

    /// The same with a pipeline.toml.
    pub fn initialised() -> Self {
        let place = Self::new();
        place.run(&["init", "--corpus", "corpus"]).expect(0);
        place
    }

    /// A project with a small, quick training; nothing in a build without libtorch.
    pub fn trainable() -> Option<Self> {
        let torch = Path::new(env!("CARGO_BIN_EXE_pipeline")).with_file_name("pipeline-torch");
        if !torch.exists() {
            return None;
        }
        let place = Self::initialised();
        for (name, hertz) in [("a.wav", 220.0), ("b.wav", 330.0), ("c.wav", 440.0)] {
            place.write(name, &wav(hertz, 5.0, "x"));
        }
        place.edit(
            "[stages.train]\n",
            "[stages.train]\nhidden_size = 16\nnum_layers = 1\nmax_steps = 6\n",
        );
        let prompt = repository().join("data/prompts/broken-chords.mid");
        fs::copy(prompt, place.path("prompt.mid")).unwrap();
        Some(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file of the repository's `data/` into the corpus.
    pub fn take(&self, from: &str, name: &str) {
        let to = self.path("corpus").join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(repository().join("data").join(from), to).unwrap();
    }

    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        fs::write(self.path("corpus").join(name), bytes).unwrap();
    }

    /// Changes pipeline.toml.
    pub fn edit(&self, from: &str, to: &str) {
        let file = self.path("pipeline.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
    }

    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TZ", "UTC")
            .env("LC_ALL", "C");
        command
    }

    /// Runs with limits of bash's `ulimit`, e.g. `-v 8000000`.
    pub fn run_limited(&self, limits: &str, args: &[&str]) -> Said {
        let program = self.command(args);
        let mut shell = Command::new("bash");
        shell
            .args(["-c", &format!("ulimit {limits}; exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.dir.path())
            .env_clear();
        for (name, value) in program.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        // Root has no limit of processes; another has, and may read what is here.
        if limits.contains("-u") && rustix::process::geteuid().is_root() {
            let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(self.dir.path(), everyone).unwrap();
            std::os::unix::process::CommandExt::uid(&mut shell, NOBODY);
        }
        said(&shell.output().unwrap())
    }

    pub fn run(&self, args: &[impl AsRef<OsStr>]) -> Said {
        said(&self.command(args).output().unwrap())
    }

    /// Runs up to a stage and gives its events.
    pub fn json(&self, stage: &str) -> Said {
        self.run(&["run", stage, "--json"])
    }
}

fn said(output: &Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// One second of a tone as a 16-bit mono WAV file, with a comment chunk that players ignore.
pub fn wav(hertz: f64, seconds: f64, comment: &str) -> Vec<u8> {
    let rate = 22_050_u32;
    let frames = (seconds * f64::from(rate)) as u32;
    let mut data = Vec::new();
    for frame in 0..frames {
        let phase = f64::from(frame) / f64::from(rate) * hertz * std::f64::consts::TAU;
        data.extend_from_slice(&((phase.sin() * 8000.0) as i16).to_le_bytes());
    }
    let mut list = b"INFOICMT".to_vec();
    let mut text = comment.as_bytes().to_vec();
    text.resize(text.len().next_multiple_of(2).max(2), 0);
    list.extend_from_slice(&(text.len() as u32).to_le_bytes());
    list.extend_from_slice(&text);
    let mut file = b"RIFF".to_vec();
    let size = 4 + 24 + 8 + list.len() + 8 + data.len();
    file.extend_from_slice(&(size as u32).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&(rate * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0LIST");
    file.extend_from_slice(&(list.len() as u32).to_le_bytes());
    file.extend_from_slice(&list);
    file.extend_from_slice(b"data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(&data);
    file
}
