//! Toy stages of text, and a project of them in a temporary folder.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "for tests, each of which uses its own share"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::fs::Fs;
use engine::fs::sim::Ahead;
use engine::store::{Store, StoreError, StoreOptions};
use engine::{
    Config, Ending, EngineError, FileStatus, Observer, Program, Project, Request, RunEvent,
    Session, Setting, Settled, Sources, Summary, Verdict,
};
use serde::{Deserialize, Serialize};
use stage_core::{
    Cancel, Context, Digest, Input, Inputs, ItemInput, Kind, KindEntry, Output, ParamError, Part,
    Port, PortTakes, Registry, SOURCE_FILE, Stage, StageError,
};

/// A port of items of these kinds.
const fn items(of: &'static [&'static str]) -> Port {
    Port {
        name: "items",
        takes: PortTakes::Items,
        of,
        required: true,
        about: "texts",
    }
}

/// Drops a first line that begins with `#` (a tag), and upper-cases the rest if told to. A text
/// that holds `bad` cannot be used; at one that holds `panic` the stage panics.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Read {
    pub upper: bool,
    pub limit: f64,
}

impl Kind for Read {
    const KIND: &'static str = "read";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "reads a text";
}

impl Stage for Read {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item]
    }
    fn gives(&self, _: Part) -> &'static str {
        "text"
    }

    fn ports(&self) -> &'static [Port] {
        &[const { items(&[stage_core::FILES]) }]
    }
    fn takes(&self, extension: &str) -> bool {
        extension == "txt"
    }
    fn validate(&self) -> Result<(), ParamError> {
        ParamError::check_range("limit", &self.limit, 0.0..=10.0, "lines")
    }
    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        _: &Context,
    ) -> Result<(), StageError> {
        let bytes = item.input.read(SOURCE_FILE, 1 << 20)?;
        let text = String::from_utf8(bytes).map_err(|_| StageError::content("no UTF-8"))?;
        let body = match text.split_once('\n') {
            Some((tag, body)) if tag.starts_with('#') => body,
            _ => &text,
        };
        if body.contains("bad") {
            return Err(StageError::content("it holds `bad`"));
        }
        assert!(!body.contains("panic"), "it holds `panic`");
        out.identify(Digest::of(body.as_bytes()));
        let body = if self.upper {
            body.to_uppercase()
        } else {
            body.to_owned()
        };
        out.write("text", body.as_bytes())
    }
}

/// Counts words item by item.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Count {
    pub letters: bool,
}

impl Kind for Count {
    const KIND: &'static str = "count";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "counts";
}

impl Stage for Count {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item]
    }
    fn gives(&self, _: Part) -> &'static str {
        "count"
    }

    fn ports(&self) -> &'static [Port] {
        &[const { items(&[stage_core::FILES, "text", "count"]) }]
    }
    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        _: &Context,
    ) -> Result<(), StageError> {
        let text = String::from_utf8_lossy(&item.input.read("text", 1 << 20)?).into_owned();
        let n = if self.letters {
            text.len()
        } else {
            text.split_whitespace().count()
        };
        let text = n.to_string();
        out.write("count", text.as_bytes())?;
        out.set_seal("count", Digest::of(text.as_bytes()))
    }
}

/// Reads a count, which is compared with its seal as the engine has not hashed it.
fn count_of(input: &Input) -> Result<u64, StageError> {
    let bytes = input.read("count", 100)?;
    if input.tree.seal("count") != Some(Digest::of(&bytes)) {
        return Err(StageError::Damaged("the count has another seal".into()));
    }
    let number = String::from_utf8_lossy(&bytes).parse();
    number.map_err(|_| StageError::content("no number"))
}

/// Copies each count, then adds them all up; `unit` is of interest to the sum alone.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sum {
    pub unit: String,
    pub folders: bool,
}

impl Kind for Sum {
    const KIND: &'static str = "sum";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "adds up";
}

impl Stage for Sum {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item, Part::Whole]
    }
    fn gives(&self, part: Part) -> &'static str {
        match part {
            Part::Item => "count",
            _ => "sum",
        }
    }

    fn ports(&self) -> &'static [Port] {
        &[const { items(&["count"]) }]
    }
    fn unread_by(&self, part: Part) -> &'static [&'static str] {
        match part {
            Part::Item => &["unit", "folders"],
            _ => &[],
        }
    }
    fn labels(
        &self,
        paths: &[&str],
        _: &BTreeMap<String, PathBuf>,
    ) -> Result<Vec<Option<String>>, StageError> {
        let label = |path: &&str| {
            self.folders
                .then(|| path.split('/').next().map(str::to_owned))
        };
        Ok(paths.iter().map(|path| label(path).flatten()).collect())
    }
    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        _: &Context,
    ) -> Result<(), StageError> {
        out.link("count", &item.input, "count")
    }
    fn reduce(&self, inputs: &Inputs, out: &mut Output, _: &Context) -> Result<(), StageError> {
        let mut total = 0_u64;
        for item in inputs.items("items") {
            total += count_of(&item.input)?;
        }
        let n = inputs.items("items").len();
        out.write("sum", format!("{total} {} of {n}", self.unit).as_bytes())
    }
}

/// Repeats the sum, then prints it; `mark` is of interest to the printing alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tell {
    pub times: u32,
    pub mark: String,
}

impl Default for Tell {
    fn default() -> Self {
        Self {
            times: 2,
            mark: "!".into(),
        }
    }
}

impl Kind for Tell {
    const KIND: &'static str = "tell";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "tells the sum";
}

impl Stage for Tell {
    fn parts(&self) -> &'static [Part] {
        &[Part::Whole, Part::Finish]
    }
    fn gives(&self, _: Part) -> &'static str {
        "told"
    }

    fn ports(&self) -> &'static [Port] {
        &[
            Port {
                name: "sum",
                takes: PortTakes::Artifact,
                of: &["sum"],
                required: true,
                about: "a sum",
            },
            Port {
                name: "extra",
                takes: PortTakes::Items,
                of: &["count"],
                required: false,
                about: "texts",
            },
        ]
    }
    fn unread_by(&self, part: Part) -> &'static [&'static str] {
        match part {
            Part::Whole => &["mark"],
            _ => &["times"],
        }
    }
    fn reduce(&self, inputs: &Inputs, out: &mut Output, _: &Context) -> Result<(), StageError> {
        let sum = inputs.one("sum")?.read("sum", 1000)?;
        let text = String::from_utf8_lossy(&sum).repeat(self.times as usize);
        out.write("text", text.as_bytes())
    }
    fn finish(&self, inputs: &Inputs, out: &mut Output, _: &Context) -> Result<(), StageError> {
        let mut text = inputs.one("whole")?.read("text", 1000)?;
        text.extend_from_slice(self.mark.as_bytes());
        out.write("told", &text)
    }
}

/// The first letters of all words of a corpus, each once: a codec that is fitted on the whole set.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Codec {
    /// Whether the letters stand in the other order.
    pub reverse: bool,
}

impl Kind for Codec {
    const KIND: &'static str = "codec";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "fits a codec";
}

impl Stage for Codec {
    fn parts(&self) -> &'static [Part] {
        &[Part::Whole]
    }
    fn gives(&self, _: Part) -> &'static str {
        "codec"
    }

    fn ports(&self) -> &'static [Port] {
        &[const { items(&["text"]) }]
    }
    fn reduce(&self, inputs: &Inputs, out: &mut Output, _: &Context) -> Result<(), StageError> {
        let mut letters = std::collections::BTreeSet::new();
        for item in inputs.items("items") {
            let text = String::from_utf8_lossy(&item.input.read("text", 1 << 20)?).into_owned();
            letters.extend(
                text.split_whitespace()
                    .filter_map(|word| word.chars().next()),
            );
        }
        let letters: String = match self.reverse {
            false => letters.iter().collect(),
            true => letters.iter().rev().collect(),
        };
        out.write("letters", letters.as_bytes())
    }
}

/// Replaces each word by the place of its first letter in the codec.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encode {
    /// What stands between two places.
    pub between: String,
}

impl Default for Encode {
    fn default() -> Self {
        Self {
            between: " ".into(),
        }
    }
}

impl Kind for Encode {
    const KIND: &'static str = "encode";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "encodes a text";
}

impl Stage for Encode {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item]
    }
    fn gives(&self, _: Part) -> &'static str {
        "codes"
    }

    fn ports(&self) -> &'static [Port] {
        &[
            const { items(&["text"]) },
            Port {
                name: "codec",
                takes: PortTakes::Artifact,
                of: &["codec"],
                required: true,
                about: "a fitted codec",
            },
        ]
    }
    fn map(
        &self,
        item: &ItemInput,
        inputs: &Inputs,
        out: &mut Output,
        _: &Context,
    ) -> Result<(), StageError> {
        let letters = inputs.one("codec")?.read("letters", 1 << 20)?;
        let letters = String::from_utf8_lossy(&letters).into_owned();
        let text = String::from_utf8_lossy(&item.input.read("text", 1 << 20)?).into_owned();
        let place = |word: &str| {
            let first = word.chars().next();
            let place = letters.chars().position(|letter| Some(letter) == first);
            place.map_or("?".to_owned(), |place| place.to_string())
        };
        let codes: Vec<String> = text.split_whitespace().map(place).collect();
        // No other stage makes the same bytes.
        let codes = format!("codes {}", codes.join(&self.between));
        out.write("codes", codes.as_bytes())
    }
}

/// All codes of a corpus, one item a line, and the chain that prepared them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pack {
    pub style: Style,
}

/// A table of parameters.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Style {
    /// What stands before each line.
    pub before: String,
    pub number: Number,
}

/// A table in a table.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Number {
    /// Whether the lines are numbered.
    pub on: bool,
}

impl Kind for Pack {
    const KIND: &'static str = "pack";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "packs codes";
}

impl Stage for Pack {
    fn parts(&self) -> &'static [Part] {
        &[Part::Whole]
    }
    fn gives(&self, _: Part) -> &'static str {
        "codes"
    }

    fn ports(&self) -> &'static [Port] {
        &[const { items(&["codes"]) }]
    }
    fn wants_preprocessing(&self, _: Part) -> bool {
        true
    }
    fn reduce(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<(), StageError> {
        let mut lines = Vec::new();
        for item in inputs.items("items") {
            let codes = item.input.read("codes", 1 << 20)?;
            let number = match self.style.number.on {
                true => lines.len().to_string(),
                false => String::new(),
            };
            let codes = String::from_utf8_lossy(&codes);
            lines.push(format!("{number}{}{codes}", self.style.before));
        }
        out.write("lines", lines.join("\n").as_bytes())?;
        let Some(preprocessing) = &cx.preprocessing else {
            return Err(StageError::content("no preprocessing"));
        };
        out.write("chain", preprocessing.stages.to_string().as_bytes())?;
        for (digest, artifact) in &preprocessing.artifacts {
            let letters = artifact.read("letters", 1 << 20)?;
            let copy = [b"codec ", letters.as_slice()].concat();
            out.write(&format!("artifacts/{digest}"), &copy)?;
        }
        Ok(())
    }
}

pub fn registry() -> Registry {
    Registry::new([
        KindEntry::of::<Read>(),
        KindEntry::of::<Count>(),
        KindEntry::of::<Sum>(),
        KindEntry::of::<Tell>(),
        KindEntry::of::<Codec>(),
        KindEntry::of::<Encode>(),
        KindEntry::of::<Pack>(),
    ])
}

pub const TOML: &str = r#"
[sources.corpus]
path = "corpus"

[sources.prompt]

[stages.read]
inputs = ["corpus", "prompt"]

[stages.count]
inputs = ["read"]

[stages.sum]
inputs = ["count@corpus"]

[stages.tell]
inputs = { sum = "sum", extra = "count@prompt" }
"#;

/// What [`coded`] adds to [`TOML`]: a codec that is fitted on the corpus, and texts that are encoded
/// with it.
pub const CODEC: &str = r#"
[stages.codec]
inputs = ["read@corpus"]

[stages.encode]
inputs = { items = "read", codec = "codec" }

[stages.pack]
inputs = ["encode@corpus"]
"#;

/// [`TOML`] with [`CODEC`].
pub fn coded() -> String {
    format!("{TOML}{CODEC}")
}

/// Three files, one of them in a folder.
pub const FILES: [(&str, &str); 3] = [
    ("a.txt", "one two"),
    ("b.txt", "three"),
    ("sub/c.txt", "four five six"),
];

/// A project in a temporary folder, and what its runs said.
pub struct Toy {
    pub dir: tempfile::TempDir,
    pub toml: String,
    /// Whether files count as old from the beginning, so that their states vouch for them. Then
    /// say [`Toy::tick`] before each edit.
    pub old: bool,
}

/// What a run did: `stage part item` of every executed action, sorted.
pub struct Run {
    pub summary: Summary,
    pub executed: Vec<String>,
    pub failed: Vec<String>,
    /// The files of the artifact of `tell`, else of `sum`.
    pub result: String,
    /// Files that could not be read, with the reason.
    pub unread: Vec<String>,
    /// Every file of every artifact, as `stage item name`, with its bytes.
    pub everything: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
struct Ear {
    executed: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
}

impl Observer for Ear {
    fn observe(&self, event: &RunEvent<'_>) {
        if let RunEvent::Ended {
            who,
            ending,
            reason,
            ..
        } = event
        {
            let name = format!("{} {} {}", who.stage, who.part, who.item);
            match ending {
                Ending::Executed => self.executed.lock().unwrap().push(name.trim().to_owned()),
                Ending::Failed => {
                    let line = format!("{}: {}", name.trim(), reason.unwrap_or_default());
                    self.failed.lock().unwrap().push(line);
                }
                _ => {}
            }
        }
    }
}

impl Toy {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let dir = temporary();
        fs::create_dir(dir.path().join("corpus")).unwrap();
        let toy = Self {
            dir,
            toml: TOML.to_owned(),
            old: false,
        };
        for (name, text) in files {
            toy.write(name, text);
        }
        toy
    }

    /// A project with a codec.
    pub fn coded(files: &[(&str, &str)]) -> Self {
        Self {
            toml: coded(),
            ..Self::new(files)
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("corpus").join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub fn project(&self, settings: &[&str]) -> Project {
        let mut options = StoreOptions::new(|warning| eprintln!("warning: {warning}"));
        if self.old {
            options.fs = Arc::new(Ahead(3_600_000_000_000));
        }
        self.open(&self.cache(), options, settings).unwrap()
    }

    /// Waits until the clock that stamps files has ticked.
    pub fn tick(&self) {
        let path = self.dir.path().join("tick");
        let touch = || {
            fs::write(&path, "").unwrap();
            let meta = fs::metadata(&path).unwrap();
            (meta.ctime(), meta.ctime_nsec())
        };
        let first = touch();
        while touch() == first {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the next plain run is known to find nothing to do.
    pub fn is_settled(&self, settings: &[&str], request: &Request) -> bool {
        let project = self.project(settings);
        let mut sources = Sources::list(&project, request).unwrap();
        let found = Settled::find(&project, request, &mut sources, &Cancel::default());
        found.unwrap().is_some()
    }

    /// The project with its cache at `cache`, the store and the engine on the disk of `options`.
    pub fn open(
        &self,
        cache: &Path,
        options: StoreOptions,
        settings: &[&str],
    ) -> Result<Project, StoreError> {
        open(self.dir.path(), &self.toml, cache, options, settings)
    }

    pub fn request(&self) -> Request {
        Request {
            jobs: 2,
            ..Request::default()
        }
    }

    pub fn run(&self) -> Run {
        self.run_with(&[], self.request())
    }

    pub fn run_with(&self, settings: &[&str], request: Request) -> Run {
        let project = self.project(settings);
        run_project(&project, request)
    }
}

/// A project of [`FILES`] whose run is done.
pub fn done() -> Toy {
    let toy = Toy::new(&FILES);
    let summary = toy.run().summary;
    assert_eq!(summary.verdict, Verdict::Done, "{:?}", summary.troubles);
    toy
}

/// A project of `count` files, each longer than the last.
pub fn numbered(count: usize) -> Toy {
    let toy = Toy::new(&[]);
    for n in 0..count {
        let text = format!("text {n}{}", " and".repeat(n));
        toy.write(&format!("{n}.txt"), &text);
    }
    toy
}

/// Each as `--set` gives it.
pub fn set(settings: &[&str]) -> Vec<Setting> {
    let setting = |text: &&str| Setting {
        flag: "--set".into(),
        text: (*text).into(),
    };
    settings.iter().map(setting).collect()
}

/// The project in the folder `dir`, with its cache at `cache`.
pub fn open(
    dir: &Path,
    toml: &str,
    cache: &Path,
    mut options: StoreOptions,
    settings: &[&str],
) -> Result<Project, StoreError> {
    let settings = set(settings);
    let file = dir.join("pipeline.toml");
    let config = Config::parse(&file, toml.to_owned(), &registry(), &settings)
        .unwrap_or_else(|e| panic!("{e}"));
    options.state_dir = Some(dir.join("state"));
    let fs: Arc<dyn Fs> = options.fs.clone();
    Ok(Project {
        config,
        name: "toy".into(),
        store: Store::open(cache, options)?,
        fs,
        registry: registry(),
        worker: Program {
            path: "/nonexistent".into(),
            args: vec![],
        },
        programs: PathBuf::new(),
        version: "test".into(),
    })
}

/// A folder that vanishes with the value; in memory where that is at hand, as nothing here has to
/// outlive the machine.
pub fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    dir.unwrap()
}

pub fn run_project(project: &Project, request: Request) -> Run {
    try_run(project, request).unwrap()
}

pub fn try_run(project: &Project, request: Request) -> Result<Run, EngineError> {
    let ear = Ear::default();
    let cancel = Cancel::default();
    let mut sources = Sources::list(project, &request)?;
    let settled = Settled::find(project, &request, &mut sources, &cancel)?;
    let mut session = Session::of(project, request, sources, &cancel)?;
    let summary = session.execute(&ear, &cancel)?;
    if let Some(settled) = settled {
        check_settled(&settled, &summary, &session);
    }
    let artifact = session.artifact("tell").or_else(|| session.artifact("sum"));
    let everything = everything(project, &session)?;
    let intake = session.intake().into_values();
    let others = intake.flat_map(|intake| intake.others);
    let unread = others.filter_map(|(name, status)| match status {
        FileStatus::Failed {
            stage: None,
            reason,
        } => Some(format!("{name}: {reason}")),
        _ => None,
    });
    let result = match artifact {
        Some(artifact) => {
            let input = project.store.input(&artifact.tree())?;
            let texts = input.paths.values().map(|p| fs::read_to_string(p).unwrap());
            texts.collect::<Vec<_>>().join("|")
        }
        None => String::new(),
    };
    let mut executed = ear.executed.into_inner().unwrap();
    executed.sort();
    let mut failed = ear.failed.into_inner().unwrap();
    failed.sort();
    Ok(Run {
        summary,
        executed,
        failed,
        result,
        unread: unread.collect(),
        everything,
    })
}

/// A run that was known to find nothing to do found nothing to do, and says the same.
fn check_settled(settled: &Settled, summary: &Summary, session: &Session<'_>) {
    let said = |summary: &Summary| {
        let mut said = summary.clone();
        said.seconds = 0.0;
        for stage in &mut said.stages {
            assert_eq!(stage.executed, 0, "{said:?}", said = stage.stage);
            (stage.saved, stage.seconds) = (0.0, 0.0);
        }
        said
    };
    assert_eq!(said(&settled.summary), said(summary));
    for stage in &session.graph().stages {
        let known = settled.artifact(&stage.name);
        assert_eq!(known.as_ref(), session.artifact(&stage.name));
    }
}

/// Reads every file of every artifact, as a reader of the cache would.
fn everything(
    project: &Project,
    session: &Session<'_>,
) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    let mut all = BTreeMap::new();
    for stage in &session.graph().stages {
        let stage = stage.name.as_str();
        let items = session.items_of(stage).into_iter();
        let items = items.filter_map(|item| Some((item.name, item.artifact?)));
        let whole = session.artifact(stage).map(|artifact| ("", artifact));
        for (item, artifact) in items.chain(whole) {
            for (name, entry) in &artifact.tree().0 {
                let bytes = project.store.read_object(entry)?;
                all.insert(format!("{stage} {item} {name}"), bytes);
            }
        }
    }
    Ok(all)
}

/// Every object of a cache, by name, with its content.
pub fn objects(cache: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in fs::read_dir(cache.join("objects")).unwrap() {
        let folder = folder.unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let name = format!(
                "{}{}",
                folder.file_name().to_string_lossy(),
                file.file_name().to_string_lossy()
            );
            all.insert(name, fs::read(file.path()).unwrap());
        }
    }
    all
}
