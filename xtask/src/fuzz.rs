//! `cargo xtask fuzz`: fuzzes every reader of foreign or stored bytes, for a while each.
//!
//! The targets are the programs of `fuzz/`, which libFuzzer leads by the coverage that the compiler
//! counts. That needs no nightly Rust: LLVM's pass for it is asked for by name, as cargo-fuzz does,
//! and the checks of memory that a sanitizer adds are not missed, for there is hardly any unsafe
//! code to check. `fuzz/README.md` says what to do with what is found.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::steps::{Steps, run as run_command};

/// What is fuzzed, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Seconds for each target.
    pub(crate) seconds: u64,
    /// Where libFuzzer's random numbers begin; 0 for another place each time.
    pub(crate) seed: u32,
    /// Names of targets; all of them if empty.
    pub(crate) targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 60,
            seed: 0,
            targets: Vec::new(),
        }
    }
}

impl Options {
    /// The options that `words` give, or none where they say something else.
    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word.strip_prefix("--") {
                Some("seconds") => options.seconds = words.next()?.parse().ok()?,
                Some("seed") => options.seed = words.next()?.parse().ok()?,
                Some(_) => return None,
                None => options.targets.push(word.to_owned()),
            }
        }
        Some(options)
    }
}

/// What LLVM is asked to add: a counter for each edge of the control flow, and calls that tell
/// libFuzzer what is compared with what.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Seconds that one input may take. In optimised code a moment is enough; CI's machine is busy.
const DEADLINE: u64 = 20;
/// What a target may take in all, in MiB: 256 for one input, the rest for the inputs so far.
const MEMORY: u64 = 1024;

/// A target, and the files of the repository that it begins with: their folder, and the endings of
/// their names. To these come `fuzz/seeds/NAME` and what was found before.
struct Target(
    &'static str,
    &'static [(&'static str, &'static [&'static str])],
);

const TARGETS: [Target; 16] = [
    Target(
        "audio_boxes",
        &[("data/fixtures", &[".m4a", ".mkv", ".webm"])],
    ),
    Target(
        "audio_frames",
        &[("data/fixtures", &[".flac", ".mp3", ".aac"])],
    ),
    Target("audio_ogg", &[("data/fixtures", &[".ogg", ".opus"])]),
    Target(
        "audio_pcm",
        &[("data/fixtures", &[".wav", ".aiff", ".caf"])],
    ),
    Target("commit", &[(GOLDEN, &["commit-2"])]),
    Target("config", &[(".", &["pipeline.toml"]), (GOLDEN, &[".toml"])]),
    Target("index", &[]),
    Target("manifest", &[(GOLDEN, &["manifest-1.json"])]),
    Target("midi", &[("data/prompts", &[".mid"]), (GOLDEN, &[".mid"])]),
    Target("model", &[(GOLDEN, &[".safetensors"])]),
    Target(
        "musicxml",
        &[
            ("data/corpus", &["grace.mxl", "minor.mxl", "joy.mxl"]),
            ("data/prompts", &[".musicxml"]),
            (GOLDEN, &[".musicxml", ".mxl"]),
        ],
    ),
    Target("segment", &[(GOLDEN, &[".bin"])]),
    Target("shard", &[(GOLDEN, &[".parquet"])]),
    Target("soundfont", &[]),
    Target("table", &[]),
    Target("worker", &[]),
];

const GOLDEN: &str = "tests/golden/files";

/// Builds the targets and runs them, as many at a time as there are processors.
///
/// # Errors
/// The build fails, a name is no target, or an input was found.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let chosen = choose(&options.targets)?;
    let mut steps = Steps::new(root);
    let host = host()?;
    let built = target_folder(root);
    let mut build = steps.cargo(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a target named, scripts and macros of the build are left without counters.
    build.args(["--target", &host]).env("RUSTFLAGS", COVERAGE);
    build.env("CARGO_TARGET_DIR", &built);
    for Target(name, _) in &chosen {
        build.args(["--bin", name]);
    }
    steps.step("build", || run_command(&mut build))?;
    let programs = built.join(&host).join("release");
    let mut found = Vec::new();
    steps.step("fuzzing", || {
        found = fuzz_all(root, &programs, &chosen, options)?;
        Ok(())
    })?;
    steps.print_times();
    if !found.is_empty() {
        bail!(
            "{} found something: fuzz/README.md says how to make the input small and keep it",
            found.join(", ")
        );
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Target>> {
    let unknown = |name: &&String| TARGETS.iter().all(|target| target.0 != name.as_str());
    if let Some(name) = names.iter().find(unknown) {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
        bail!(
            "there is no fuzz target `{name}`: expected {}",
            known.join(", ")
        );
    }
    let wanted = |target: &&Target| names.is_empty() || names.iter().any(|name| name == target.0);
    Ok(TARGETS.iter().filter(wanted).collect())
}

/// Apart from what plain cargo commands build, with other flags.
fn target_folder(root: &Path) -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    own.map_or_else(|| root.join("target"), |own| root.join(own))
        .join("fuzz")
}

/// The name of this machine's kind, as rustc has it.
fn host() -> Result<String> {
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .arg("-vV")
        .output()
        .context("`rustc -vV` could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// A target at work.
struct Run {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Gives the names of the targets that found something.
fn fuzz_all(
    root: &Path,
    programs: &Path,
    targets: &[&'static Target],
    options: &Options,
) -> Result<Vec<&'static str>> {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let scratch = scratch()?;
    let mut waiting = targets.iter();
    let mut running: Vec<Run> = Vec::new();
    let mut found = Vec::new();
    loop {
        while running.len() < at_once {
            let Some(target) = waiting.next() else { break };
            running.push(start(root, programs, target, options, &scratch)?);
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut still = Vec::new();
        for mut run in running {
            match run.child.try_wait()? {
                None => still.push(run),
                Some(status) => {
                    if !report(&run, status)? {
                        found.push(run.name);
                    }
                }
            }
        }
        running = still;
    }
    let _ = fs::remove_dir_all(scratch);
    Ok(found)
}

/// A folder for the files that targets make, in memory where there is such a place: they are many
/// and small, and a cache syncs each.
fn scratch() -> Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let home = match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    };
    let folder = home.join(format!("pipeline-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    Ok(folder)
}

fn start(
    root: &Path,
    programs: &Path,
    target: &'static Target,
    options: &Options,
    scratch: &Path,
) -> Result<Run> {
    let Target(name, seeds) = target;
    let home = root.join("fuzz");
    let corpus = home.join("corpus").join(name);
    let artifacts = home.join("artifacts").join(name);
    let tmp = scratch.join(name);
    for folder in [&corpus, &artifacts, &tmp] {
        fs::create_dir_all(folder)?;
    }
    let log = artifacts.join("log");
    let mut command = Command::new(programs.join(name));
    // What raises coverage is kept in the first folder; the others are only read.
    command.arg(&corpus);
    let others = [
        home.join("seeds").join(name),
        root.join("tests/found").join(name),
    ];
    command.args(others.iter().filter(|folder| folder.is_dir()));
    let seeds = seed_files(root, seeds)?;
    if !seeds.is_empty() {
        command.arg(format!("-seed_inputs={}", seeds.join(",")));
    }
    let dictionary = home.join("dictionaries").join(format!("{name}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-seed={}", options.seed))
        .arg(format!("-timeout={DEADLINE}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .args(["-print_final_stats=1", "-max_len=65536"])
        .env("TMPDIR", tmp)
        .env("RUST_BACKTRACE", "1")
        .current_dir(root)
        .stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let child = command
        .spawn()
        .with_context(|| format!("`{}` could not be started", programs.join(name).display()))?;
    Ok(Run { name, child, log })
}

fn seed_files(root: &Path, seeds: &[(&str, &[&str])]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for (folder, endings) in seeds {
        let folder = root.join(folder);
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list `{}`", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let shown = path.display().to_string();
            if path.is_file() && endings.iter().any(|ending| shown.ends_with(ending)) {
                files.push(shown);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Says what a target did; whether it found nothing.
fn report(run: &Run, status: ExitStatus) -> Result<bool> {
    let log = fs::read(&run.log)?;
    let log = String::from_utf8_lossy(&log);
    let statistic = |name: &str| {
        let line = log.lines().rev().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim)
    };
    if status.success() {
        println!(
            "    {:<13} {:>10} inputs, {:>6} a second, {:>6} edges, {:>5} MiB",
            run.name,
            statistic("stat::number_of_executed_units:"),
            statistic("stat::average_exec_per_sec:"),
            edges(&log),
            statistic("stat::peak_rss_mb:"),
        );
        return Ok(true);
    }
    println!("    {} found something ({status}):", run.name);
    let lines: Vec<&str> = log.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(40)) {
        println!("        {line}");
    }
    println!("    all that it said: {}", run.log.display());
    Ok(false)
}

/// Edges of the control flow that were reached, by libFuzzer's last line of progress.
fn edges(log: &str) -> &str {
    let lines = log.lines().rev();
    let mut counts = lines.filter_map(|line| line.split_once(" cov: ")?.1.split(' ').next());
    counts.next().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files: Vec<String> = fs::read_dir(root.join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let names: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
        assert_eq!(names, files);
        for Target(name, seeds) in &TARGETS {
            let own = root.join("fuzz/seeds").join(name);
            let files = seed_files(root, seeds).unwrap();
            assert!(!files.is_empty() || own.is_dir(), "`{name}` has no seeds");
        }
    }

    #[test]
    fn progress_is_read() {
        let log = "#1 INITED cov: 12 ft: 3\n#9 NEW    cov: 345 ft: 6 corp: 1/1b\nDone 9 runs\n";
        assert_eq!(edges(log), "345");
        assert_eq!(edges(""), "?");
    }
}
