//! The prepared project, its clean build, and a case's copy of it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::common::{repository, wav};
use super::harm::{Class, Harmed};
use super::process::{Ran, Running};

/// Name of a file → hash of its content, or what stands there instead of a file.
pub(crate) type Files = BTreeMap<String, String>;

const TOML: &str = r#"
[sources.corpus]
path = "CORPUS"
[sources.prompt]
[stages.decode]
inputs = ["corpus", "prompt"]
[stages.render]
inputs = ["corpus", "prompt"]
[stages.featurize]
inputs = ["decode", "render"]
n_fft = 256
hop = 128
[stages.dataset]
inputs = ["featurize@corpus"]
[stages.train]
inputs = ["dataset"]
hidden_size = 16
num_layers = 1
max_steps = 30
save_every = 5
batch_size = 4
chunk = 16
threads = 1
[stages.predict]
inputs = { model = "train", prompt = "featurize@prompt", sound = ["decode@prompt", "render@prompt"] }
seconds = 1.0
iterations = 4
threads = 1
"#;

/// What another prediction is told, whose files lie beside those of the plain run.
pub(crate) const ANOTHER_SEED: [&str; 2] = ["--set", "predict.seed=1"];

/// What a collection is told before the last look: to keep what the plain run needs, no more.
const COLLECT: [&str; 5] = ["gc", "--keep-runs", "1", "--min-age", "0"];

/// The states of the project that cases begin with or take older files from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    /// After the first plain run: the clean build.
    Clean,
    /// After a run with other parameters, which gave other results of the same names.
    Other,
    /// After one more plain run, and one that was killed at work.
    Whole,
}

/// A project of every real stage, and what a clean build of it gives.
pub(crate) struct Project {
    /// `corpus/` and the prompt, which all cases share and none changes, and a folder for each
    /// [`State`].
    dir: tempfile::TempDir,
    /// Whether there is a `pipeline-torch`.
    pub(crate) torch: bool,
    /// How long the clean build took.
    pub(crate) whole: Duration,
    /// What `out/` holds after a plain run.
    pub(crate) out: Files,
    /// What lies there besides, of runs with other parameters.
    besides: Files,
    /// The same of a prediction from the model alone, in a folder without a pipeline.toml.
    pub(crate) alone: Files,
    exports: BTreeMap<&'static str, Files>,
    /// Key → the artifact, for each action of the clean build.
    records: BTreeMap<String, Value>,
}

impl Project {
    /// The project, made when the first row needs it.
    pub(crate) fn get() -> &'static Self {
        static PROJECT: OnceLock<Project> = OnceLock::new();
        PROJECT.get_or_init(Self::new)
    }

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let torch = Path::new(env!("CARGO_BIN_EXE_pipeline")).with_file_name("pipeline-torch");
        let corpus = dir.path().join("corpus");
        fs::create_dir(&corpus).unwrap();
        // Equal lengths, so that there are results of equal length to mistake for each other.
        for (name, hertz) in [("a.wav", 220.0), ("b.wav", 330.0), ("c.wav", 440.0)] {
            fs::write(corpus.join(name), wav(hertz, 2.0, "x")).unwrap();
        }
        for (from, to) in [
            ("fixtures/tone.flac", "corpus/tone.flac"),
            ("prompts/minuet.musicxml", "corpus/minuet.musicxml"),
            ("prompts/broken-chords.mid", "prompt.mid"),
        ] {
            fs::copy(repository().join("data").join(from), dir.path().join(to)).unwrap();
        }
        let mut project = Self {
            torch: torch.exists(),
            whole: Duration::from_secs(60),
            out: Files::new(),
            besides: Files::new(),
            alone: Files::new(),
            exports: BTreeMap::new(),
            records: BTreeMap::new(),
            dir,
        };
        let place = project.dir.path().join("work");
        fs::create_dir(&place).unwrap();
        let toml = TOML.replace("CORPUS", corpus.to_str().unwrap());
        fs::write(place.join("pipeline.toml"), toml).unwrap();

        let begun = Instant::now();
        project.run_in(&place, &project.plain()).succeeds("clean");
        project.whole = begun.elapsed();
        project.out = files(&place.join("out"));
        project.records = records(&place);
        for stage in project.stages() {
            let to = project.dir.path().join("exported").join(stage);
            let export = project.export(stage, to.to_str().unwrap());
            project.run_in(&place, &export).succeeds("clean");
            project.exports.insert(stage, files(&to));
        }
        project.keep(&place, State::Clean);
        if project.torch {
            let alone = project.dir.path().join("alone");
            fs::create_dir(&alone).unwrap();
            let args = project.predict_alone();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            project
                .run_in(&alone, &args)
                .succeeds("from the model alone");
            project.alone = files(&alone.join("out"));
        }

        let mut other = project.plain();
        let change = ["featurize.window=hamming", "train.seed=1"];
        other.extend(change.iter().flat_map(|set| ["--set", set]));
        project.run_in(&place, &other).succeeds("other parameters");
        project.keep(&place, State::Other);

        let mut seed = project.plain();
        seed.extend(ANOTHER_SEED);
        project.run_in(&place, &seed).succeeds("another seed");
        project.run_in(&place, &project.plain()).succeeds("again");
        project.besides = files(&place.join("out"));
        project
            .besides
            .retain(|name, _| !project.out.contains_key(name));
        // What a killed run leaves: a lease, claims, temporary files, and a training's scratch.
        let mut long = project.plain();
        let change = ["featurize.hop=64", "train.max_steps=100000"];
        let change = if project.torch {
            &change[1..]
        } else {
            &change[..1]
        };
        long.extend(change.iter().flat_map(|set| ["--set", set]));
        let running = Running::start(&place, &long);
        std::thread::sleep(project.whole / 4);
        running.send(Signal::KILL, true);
        running.finish(project.limit());
        project.keep(&place, State::Whole);
        project
    }

    fn keep(&self, place: &Path, state: State) {
        copy(place, &self.state(state));
    }

    /// The folder of a state.
    pub(crate) fn state(&self, state: State) -> PathBuf {
        self.dir.path().join(format!("{state:?}").to_lowercase())
    }

    /// How long a command may take: any takes less, on the busiest machine, unless it hangs.
    fn limit(&self) -> Duration {
        self.whole * 10 + Duration::from_secs(20)
    }

    fn prompt(&self) -> &str {
        static PROMPT: OnceLock<String> = OnceLock::new();
        PROMPT.get_or_init(|| {
            self.dir
                .path()
                .join("prompt.mid")
                .to_str()
                .unwrap()
                .to_owned()
        })
    }

    pub(crate) fn stages(&self) -> &'static [&'static str] {
        let all = &[
            "decode",
            "render",
            "featurize",
            "dataset",
            "train",
            "predict",
        ];
        if self.torch { all } else { &all[..4] }
    }

    /// The words of the plain run.
    pub(crate) fn plain(&self) -> Vec<&str> {
        let stage = if self.torch { "predict" } else { "dataset" };
        vec!["run", stage, "--quiet", "--prompt", self.prompt()]
    }

    /// The words of a prediction from the model of the clean build.
    pub(crate) fn predict_alone(&self) -> Vec<String> {
        let model = self.state(State::Clean).join("out/train/model.safetensors");
        let words = ["run", "predict", "--quiet", "--frames", "40", "--model"];
        let words = words.into_iter().chain([model.to_str().unwrap()]);
        words
            .chain(["--prompt", self.prompt()])
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn repair(&self) -> Vec<&str> {
        vec!["repair", "--prompt", self.prompt()]
    }

    pub(crate) fn export<'a>(&'a self, stage: &'a str, to: &'a str) -> Vec<&'a str> {
        vec!["export", stage, "--out", to, "--prompt", self.prompt()]
    }

    fn run_in(&self, dir: &Path, args: &[&str]) -> Ran {
        Running::start(dir, args).finish(self.limit())
    }
}

/// What became of a case, for the tally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The plain run put everything right.
    Mended,
    /// An export refused a damaged or missing object, and the next plain run made it again.
    Remade,
    /// A command said what was in its way; without it, the plain run put everything right.
    Refused,
}

/// A case's own copy of the project.
pub(crate) struct Case<'a> {
    pub(crate) project: &'a Project,
    dir: tempfile::TempDir,
    /// What was harmed, as far as it still is.
    pub(crate) harmed: Vec<Harmed>,
    /// What the case put where the program puts nothing of that kind.
    pub(crate) foreign: Vec<PathBuf>,
    /// What was done so far, for the message of a failure.
    pub(crate) story: Vec<String>,
    exports: Cell<u32>,
}

impl<'a> Case<'a> {
    /// A copy of the project in this state, or one that was never run.
    pub(crate) fn new(project: &'a Project, state: Option<State>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("project");
        match state {
            Some(state) => copy(&project.state(state), &place),
            None => {
                fs::create_dir(&place).unwrap();
                let toml = project.state(State::Clean).join("pipeline.toml");
                fs::copy(toml, place.join("pipeline.toml")).unwrap();
            }
        }
        let case = Self {
            project,
            dir,
            harmed: Vec::new(),
            foreign: Vec::new(),
            story: vec![format!("from {state:?}")],
            exports: Cell::new(0),
        };
        let precious = case.outside().join("folder");
        fs::create_dir_all(&precious).unwrap();
        for path in [precious.join("keep.txt"), case.outside().join("file")] {
            fs::write(path, PRECIOUS).unwrap();
        }
        case
    }

    /// The folder of pipeline.toml.
    pub(crate) fn place(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// A folder that is not the program's: whatever links lead there, `file` and `folder/` stay.
    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(&self.place(), args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.project.run_in(&self.place(), args)
    }

    pub(crate) fn finish(&self, running: Running) -> Ran {
        running.finish(self.project.limit())
    }

    /// Runs what must succeed, unless something harmed is in its way that the user has to clear:
    /// then the command names it, and succeeds once it is as it was.
    fn ask(&mut self, args: &[&str]) -> bool {
        let ran = self.run(args);
        if ran.code == 0 {
            return false;
        }
        let named = |harmed: &Harmed| {
            let name = harmed.path.file_name().unwrap().to_string_lossy();
            // What cannot be opened for writing may count as a cache that cannot be written.
            harmed.may_refuse && (ran.err.contains(&*name) || ran.err.contains("cannot be written"))
        };
        assert!(self.harmed.iter().any(named), "{}", ran.told());
        let (obstacles, rest): (Vec<_>, _) = std::mem::take(&mut self.harmed)
            .into_iter()
            .partition(|h| h.may_refuse);
        self.harmed = rest;
        for obstacle in obstacles {
            let from = self.project.state(State::Whole).join(&obstacle.path);
            let to = self.place().join(&obstacle.path);
            make_readable(&to);
            remove(&to);
            copy(&from, &to);
        }
        self.run(args).succeeds("once nothing is in its way");
        true
    }

    /// The plain run, and everything that must hold after it.
    pub(crate) fn recover(&mut self) -> End {
        let project = self.project;
        let mut refused = self.ask(&project.plain());
        self.check_out("after the plain run");
        let mut lost = self.check_exports();
        let none_lost = lost.is_empty();
        // What one export finds lost keeps others from looking.
        for _ in 0..2 * project.stages().len() {
            if lost.is_empty() {
                break;
            }
            self.run(&project.plain())
                .succeeds("after an export that refused");
            lost = self.check_exports();
        }
        assert_eq!(lost, [""; 0], "lost after a plain run");
        let holds_records = |h: &Harmed| matches!(h.class, Class::Commit | Class::Folder);
        let records_lost = self.harmed.iter().any(holds_records);
        refused |= self.ask(&project.repair());
        refused |= self.ask(&["verify"]);
        if records_lost {
            // The work is done again whose record was damaged.
            self.run(&project.plain()).succeeds("after repair");
        }
        self.check_done("after repair");
        refused |= self.ask(&COLLECT);
        self.check_done("after gc");
        self.check_out("after repair and gc");
        let still = self.check_exports();
        assert_eq!(still, [""; 0], "lost after repair");
        self.check_records();
        self.check_litter();
        self.check_outside();
        match (refused, none_lost) {
            (true, _) => End::Refused,
            (false, true) => End::Mended,
            (false, false) => End::Remade,
        }
    }

    /// The plain run finds everything done.
    fn check_done(&self, when: &str) {
        let mut args = self.project.plain();
        args.retain(|word| *word != "--quiet");
        args.push("--json");
        let ran = self.run(&args).succeeds(when);
        let executed = ran.out.lines().filter(|l| l.contains("\"action\""));
        let executed = executed.map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            format!("{} {} {}", event["stage"], event["part"], event["item"])
        });
        let executed: Vec<String> = executed.collect();
        assert_eq!(executed, [""; 0], "done again {when}");
    }

    /// `out/` holds what the plain run put there in the clean build, and what lay there besides.
    fn check_out(&self, when: &str) {
        let mut found = files(&self.place().join("out"));
        // A link may lead to the foreign folder.
        // The claims of a cache may have changed places with results.
        let is_claim = |name: &str| {
            let name = name.rsplit('/').next().unwrap_or_default();
            let key = name.strip_suffix(".scratch").unwrap_or(name);
            key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let foreign = |name: &str| name.ends_with("keep.txt") || is_claim(name);
        found.retain(|name, _| !self.project.besides.contains_key(name) && !foreign(name));
        assert_same(&found, &self.project.out, &format!("out/ {when}"));
    }

    /// Exports every stage. What is written must be right. Gives what the exports that refused
    /// said: which object it misses, or that this has to be made first.
    fn check_exports(&self) -> Vec<String> {
        let count = self.exports.get();
        self.exports.set(count + 1);
        let mut refused = Vec::new();
        for stage in self.project.stages() {
            let to = self.dir.path().join(format!("exported-{count}/{stage}"));
            let ran = self.run(&self.project.export(stage, to.to_str().unwrap()));
            let what = format!("export {stage}");
            let mut expected = self.project.exports[stage].clone();
            let found = files(&to);
            if ran.code != 0 {
                let says = |text: &str| ran.err.contains(text);
                let clear = says("object") || says("not up to date") || says("is not done");
                assert!(ran.code == 1 && clear, "{}", ran.told());
                refused.push(format!("{what}: {}", ran.err));
                expected.retain(|name, _| found.contains_key(name));
            }
            assert_same(&found, &expected, &what);
        }
        refused
    }

    /// What is recorded of an action of the clean build is what it gave there.
    fn check_records(&self) {
        for (key, artifact) in records(&self.place()) {
            if let Some(expected) = self.project.records.get(&key) {
                assert_eq!(&artifact, expected, "recorded of {key}");
            }
        }
    }

    /// Nothing of a dead process is left after a collection. What no process made may stay.
    fn check_litter(&self) {
        for folder in ["leases", "claims", "tmp", "trash"] {
            let folder = Path::new(".pipeline").join(folder);
            let mut left = files(&self.place().join(&folder));
            left.retain(|name, _| {
                let path = folder.join(name);
                // What took the place of a file or a folder was moved away, not removed.
                let moved =
                    folder.ends_with("trash") && (name.starts_with("stray-") || name.contains('/'));
                !moved && !self.foreign.iter().any(|foreign| path.starts_with(foreign))
            });
            assert_eq!(left, Files::new(), "left in {}", folder.display());
        }
    }

    /// What is not the program's is as it was.
    fn check_outside(&self) {
        // A result is written through a link that stands in its place, as the user who put it
        // there wants.
        let is_linked = |done: &String| done.starts_with("Link out/");
        let linked = self.story.iter().any(is_linked);
        for name in ["file", "folder/keep.txt"] {
            if linked && name == "file" {
                continue;
            }
            let text = fs::read_to_string(self.outside().join(name));
            assert_eq!(text.as_deref().ok(), Some(PRECIOUS), "outside/{name}");
        }
    }
}

/// The file that marks a folder of results; no result itself.
const MARK: &str = ".pipeline-results";

const PRECIOUS: &str = "not the program's\n";

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what was done: {}", self.story.join("; "));
            if std::env::var_os("PIPELINE_BATTERY_CASE").is_some() {
                self.dir.disable_cleanup(true);
                eprintln!("the folder of the case: {}", self.dir.path().display());
                return;
            }
        }
        for harmed in &self.harmed {
            make_readable(&self.place().join(&harmed.path));
        }
    }
}

/// Copies a file or a folder with all that is in it. A database is copied before its log, which
/// thus stays the younger one.
pub(crate) fn copy(from: &Path, to: &Path) {
    let kind = match fs::symlink_metadata(from) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        meta => meta.unwrap(),
    };
    if !kind.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir(to).unwrap();
    for name in names(from) {
        copy(&from.join(&name), &to.join(&name));
    }
}

/// Lets a folder be listed and removed. It may be gone by now, or a link to nothing.
fn make_readable(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
}

/// Removes whatever stands at `path`.
pub(crate) fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{}", path.display()),
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The files of a folder and those below it, but for marks.
pub(crate) fn files(dir: &Path) -> Files {
    let mut all = Files::new();
    collect(dir, "", &mut all);
    all
}

fn collect(dir: &Path, prefix: &str, all: &mut Files) {
    for name in names(dir).into_iter().filter(|name| name != MARK) {
        let path = dir.join(&name);
        let name = format!("{prefix}{name}");
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => collect(&path, &format!("{name}/"), all),
            Ok(meta) if meta.is_file() => {
                let hash =
                    fs::read(&path).map(|bytes| blake3::hash(&bytes).to_hex()[..16].to_owned());
                all.insert(name, hash.unwrap_or_else(|error| error.to_string()));
            }
            Ok(_) => _ = all.insert(name, "no file".to_owned()),
            Err(error) => _ = all.insert(name, error.to_string()),
        }
    }
}

#[track_caller]
fn assert_same(found: &Files, expected: &Files, what: &str) {
    if found == expected {
        return;
    }
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differ = names.into_iter().filter_map(|name| {
        let said = match (found.get(name), expected.get(name)) {
            (found, expected) if found == expected => return None,
            (Some(_), None) => "is left over",
            (None, _) => "is missing",
            (Some(_), Some(_)) => "has other bytes",
        };
        Some(format!("{name} {said}"))
    });
    let differ: Vec<String> = differ.take(5).collect();
    panic!("{what}: {}", differ.join(", "));
}

/// Key → artifact, of all that the commits of a cache record as done.
fn records(place: &Path) -> BTreeMap<String, Value> {
    let dir = place.join(".pipeline/commits");
    let mut all = BTreeMap::new();
    for name in names(&dir) {
        let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
        let values = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        for value in values {
            let value: Value = value;
            let action = &value["action"];
            if let (Some(key), true) = (action["key"].as_str(), action["done"].is_object()) {
                all.insert(key.to_owned(), action["done"].clone());
            }
        }
    }
    all
}
