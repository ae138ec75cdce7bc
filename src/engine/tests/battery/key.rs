//! Keys: what changes the bytes of an action changes its key, and nothing else does.
//!
//! *Passing*: over one cache, a mutation that a stage's part reads (a parameter, a version, a
//! content, a label, an input) makes exactly that part stale, for the reason named, and what
//! follows wait for it; a cosmetic one (the order, also of inputs, comments, spacing and defaults of the TOML, the
//! names of stages and pipeline, a moved project, file names and times, duplicates, files of no
//! interest, folders of results, time zone, locale, umask, 1 to 16 working threads) leaves all fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::fs::sim::Snapshot;
use engine::store::StoreOptions;
use engine::{Cause, Project, Request, Session};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use stage_core::{Cancel, KindEntry, Registry};

use super::case::Row;
use super::child::{Op, Orders, report, start_in};
use super::oracle::PROMPT;
use super::toy::{Codec, Count, Encode, Pack, Read, Sum, Tell, Toy, coded, temporary, try_run};

const ROW: Row = Row {
    name: "key",
    quick: 100,
    ci: 2_000,
    nightly: 20_000,
};

const FILES: [(&str, &str); 3] = [
    ("a.txt", "one two"),
    ("b.txt", "# tag\nthree"),
    ("sub/c.txt", "four five six"),
];

/// A project as it is after a mutation, and the parts that it must make stale.
struct Mutant {
    toml: String,
    /// (stage, parameter) → value.
    params: BTreeMap<(&'static str, &'static str), String>,
    files: BTreeMap<String, String>,
    prompt: String,
    pipeline: String,
    registry: Registry,
    jobs: usize,
    /// `stage part item: what changed` of what is stale; empty for a cosmetic mutation.
    stale: BTreeSet<String>,
}

#[test]
fn mutations() {
    let toy = Toy::coded(&FILES);
    fs::write(toy.dir.path().join(PROMPT), "seven").unwrap();
    let mutant = Mutant::base();
    let (project, request) = open(&toy, &mutant);
    try_run(&project, request).unwrap();
    drop(project);
    let cache = Snapshot::read(&toy.cache()).unwrap();
    let (semantic, cosmetic) = (AtomicU64::new(0), AtomicU64::new(0));
    ROW.run(
        |seed| {
            let semantic = if case(&cache, seed) {
                &semantic
            } else {
                &cosmetic
            };
            semantic.fetch_add(1, Ordering::Relaxed);
        },
        || {
            let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
            format!(": {} semantic, {} cosmetic", get(&semantic), get(&cosmetic))
        },
    );
}

/// Whether the mutation was one that matters.
fn case(cache: &Snapshot, seed: u64) -> bool {
    let mut rng = ROW.rng(seed);
    let mut mutant = Mutant::base();
    let mut said = String::new();
    // Cosmetic mutations beside the one that matters must not hide it.
    for _ in 0..rng.random_range(0..4) {
        said += &mutant.cosmetic(&mut rng);
    }
    if rng.random_range(0..2) == 0 {
        said += &mutant.semantic(&mut rng);
    } else {
        said += &mutant.cosmetic(&mut rng);
    }
    // A fresh folder: the project has moved.
    let toy = Toy {
        dir: temporary(),
        toml: mutant.toml(),
        old: false,
    };
    for (name, text) in &mutant.files {
        toy.write(name, text);
    }
    fs::write(toy.dir.path().join(PROMPT), &mutant.prompt).unwrap();
    cache.write(&toy.cache()).unwrap();
    let (project, request) = open(&toy, &mutant);
    let session = Session::prepare(&project, request, &Cancel::default()).unwrap();
    let why = session.why().unwrap();
    let stale: BTreeSet<String> = why
        .iter()
        .filter_map(|why| {
            let what = match &why.cause {
                Cause::Upstream(_) => return None,
                Cause::Changed(changes) => {
                    let whats: Vec<_> = changes.iter().map(|c| c.what.as_str()).collect();
                    whats.join(", ")
                }
                Cause::New => "new".to_owned(),
                other => format!("{other:?}"),
            };
            let name = format!("{} {} {}", why.stage, why.part, why.item);
            Some(format!("{}: {what}", name.trim()))
        })
        .collect();
    // A pipeline of another name, and a stage, has no history to compare with.
    let named = |line: &String| line.split(':').next().unwrap().to_owned();
    if mutant.pipeline == "toy" {
        assert_eq!(stale, mutant.stale, "{said}");
    } else {
        let names = |lines: &BTreeSet<String>| lines.iter().map(named).collect::<Vec<_>>();
        assert_eq!(names(&stale), names(&mutant.stale), "{said}");
    }
    if mutant.stale.is_empty() {
        assert!(why.is_empty(), "{said}: {why:?}");
    }
    !mutant.stale.is_empty()
}

fn open(toy: &Toy, mutant: &Mutant) -> (Project, Request) {
    let options = StoreOptions::new(|warning| panic!("{warning}"));
    let mut project = toy.open(&toy.cache(), options, &[]).unwrap();
    project.config = engine::Config::parse(
        &toy.dir.path().join("pipeline.toml"),
        mutant.toml(),
        &mutant.registry,
        &[],
    )
    .unwrap_or_else(|e| panic!("{e}\n{}", mutant.toml()));
    project.name.clone_from(&mutant.pipeline);
    let request = Request {
        jobs: mutant.jobs,
        bindings: BTreeMap::from([("prompt".to_owned(), toy.dir.path().join(PROMPT))]),
        ..Request::default()
    };
    (project, request)
}

/// The registry with the versions of some kinds raised.
fn registry(raised: &[&str]) -> Registry {
    let all = [
        KindEntry::of::<Read>(),
        KindEntry::of::<Count>(),
        KindEntry::of::<Sum>(),
        KindEntry::of::<Tell>(),
        KindEntry::of::<Codec>(),
        KindEntry::of::<Encode>(),
        KindEntry::of::<Pack>(),
    ];
    Registry::new(all.map(|mut entry| {
        entry.version += u32::from(raised.contains(&entry.kind));
        entry
    }))
}

impl Mutant {
    fn base() -> Self {
        Self {
            toml: coded(),
            params: BTreeMap::new(),
            files: FILES
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            prompt: "seven".to_owned(),
            pipeline: "toy".to_owned(),
            registry: registry(&[]),
            jobs: 2,
            stale: BTreeSet::new(),
        }
    }

    fn set(&mut self, stage: &'static str, key: &'static str, value: &str) {
        self.params.insert((stage, key), value.to_owned());
    }

    /// The TOML with the parameters that are set.
    fn toml(&self) -> String {
        let mut toml = self.toml.clone();
        for ((stage, key), value) in &self.params {
            let table = format!("[stages.{stage}]");
            let at = toml.find(&table).unwrap() + table.len();
            let end = at + toml[at..].find('\n').unwrap();
            toml.insert_str(end, &format!("\n{key} = {value}"));
        }
        toml
    }

    fn expect_items(&mut self, stage: &str, what: &str) {
        for (name, _) in FILES {
            self.stale.insert(format!("{stage} item {name}: {what}"));
        }
        if stage != "sum" {
            self.stale.insert(format!("{stage} item {PROMPT}: {what}"));
        }
    }

    fn expect(&mut self, part: &str, what: &str) {
        self.stale.insert(format!("{part}: {what}"));
    }

    /// Changes something that a part reads.
    fn semantic(&mut self, rng: &mut ChaCha8Rng) -> String {
        // Names of files may have been mutated; what is expected goes by the first of a content.
        let n = rng.random_range(1..1_000_000);
        match rng.random_range(0..16) {
            0 => {
                self.set("read", "upper", "true");
                self.expect_items("read", "parameter upper");
            }
            1 => {
                self.set("read", "limit", &(f64::from(n) / 1e6).to_string());
                self.expect_items("read", "parameter limit");
            }
            2 => {
                self.set("count", "letters", "true");
                self.expect_items("count", "parameter letters");
            }
            3 => {
                self.set("sum", "unit", &format!("\"{n}\""));
                self.expect("sum whole", "parameter unit");
            }
            4 => {
                self.set("sum", "folders", "true");
                // A copy is of the same content, but has a label of its own.
                let copied = self.files.keys().any(|name| name.starts_with("zz"));
                let what = if copied {
                    "parameter folders, input items"
                } else {
                    "parameter folders"
                };
                self.expect("sum whole", what);
            }
            5 => {
                self.set("tell", "times", &(n + 2).to_string());
                self.expect("tell whole", "parameter times");
            }
            6 => {
                self.set("tell", "mark", &format!("\"{n}\""));
                self.expect("tell finish", "parameter mark");
            }
            7 => {
                const KINDS: [&str; 7] =
                    ["read", "count", "sum", "tell", "codec", "encode", "pack"];
                let kind = KINDS[rng.random_range(0..KINDS.len())];
                self.registry = registry(&[kind]);
                match kind {
                    "tell" | "codec" | "pack" => {
                        self.expect(&format!("{kind} whole"), "version");
                    }
                    kind => self.expect_items(kind, "version"),
                }
            }
            12 => {
                self.set("codec", "reverse", "true");
                self.expect("codec whole", "parameter reverse");
            }
            13 => {
                self.set("encode", "between", &format!("\"{n}\""));
                self.expect_items("encode", "parameter between");
            }
            14 => {
                self.set("pack", "style.before", &format!("\"{n}\""));
                self.expect("pack whole", "parameter style.before");
            }
            8 => {
                let name = self.some_file(rng);
                let text = self.files.get_mut(&name).unwrap();
                *text = format!("{text} {n}");
                self.expect(&format!("read item {name}"), "input items");
            }
            // One bit of one byte.
            9 => {
                let name = self.some_file(rng);
                let text = self.files.get_mut(&name).unwrap();
                let mut bytes = text.clone().into_bytes();
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..5);
                *text = String::from_utf8(bytes).unwrap();
                self.expect(&format!("read item {name}"), "input items");
            }
            10 => {
                self.prompt = format!("seven {n}");
                self.expect(&format!("read item {PROMPT}"), "input items");
            }
            11 => {
                let name = format!("new {n}.txt");
                self.files.insert(name.clone(), format!("new {n}"));
                self.expect(&format!("read item {name}"), "new");
            }
            _ => {
                for spacing in [" = ", "="] {
                    let input = format!(", extra{spacing}\"count@prompt\"");
                    self.toml = self.toml.replace(&input, "");
                }
                self.expect("tell whole", "input extra");
            }
        }
        format!("semantic {:?}\n", self.stale)
    }

    /// A file that has its content for itself.
    fn some_file(&self, rng: &mut ChaCha8Rng) -> String {
        let alone = |name: &&String| {
            let same = |text: &&String| **text == self.files[*name];
            self.files.values().filter(same).count() == 1
        };
        let names = FILES.iter().map(|(name, _)| (*name).to_owned());
        let names: Vec<_> = names.filter(|name| alone(&name)).collect();
        // Whatever was copied: something is left with chance, else a text of its own.
        match names.len() {
            0 => "a.txt".to_owned(),
            n => names[rng.random_range(0..n)].clone(),
        }
    }

    /// Changes something that no part reads.
    fn cosmetic(&mut self, rng: &mut ChaCha8Rng) -> String {
        let n = rng.random_range(0..1_000_000);
        match rng.random_range(0..12) {
            0 => {
                self.toml = format!("# {n}\n\n{}# the end", self.toml.replace('\n', "  # why\n"));
                "comments"
            }
            1 => {
                self.toml = self.toml.replace(" = ", "=");
                "spacing"
            }
            // Tables in another order.
            2 => {
                let mut tables: Vec<&str> = self.toml.split("\n[").collect();
                let head = tables.remove(0).to_owned();
                for at in (1..tables.len()).rev() {
                    tables.swap(at, rng.random_range(0..=at));
                }
                let tables: String = tables.iter().map(|t| format!("\n[{t}\n")).collect();
                self.toml = head + &tables;
                "order of tables"
            }
            3 => {
                const DEFAULTS: [(&str, &str, &str); 9] = [
                    ("read", "upper", "false"),
                    ("read", "limit", "0.0"),
                    ("count", "letters", "false"),
                    ("sum", "unit", "\"\""),
                    ("tell", "times", "2"),
                    ("tell", "mark", "\"!\""),
                    ("pack", "style.number", "{ on = false }"),
                    ("codec", "reverse", "false"),
                    ("encode", "between", "\" \""),
                ];
                let (stage, key, value) = DEFAULTS[rng.random_range(0..DEFAULTS.len())];
                self.set(stage, key, value);
                "a default written out"
            }
            4 => {
                self.jobs = rng.random_range(1..=16);
                "threads"
            }
            5 => {
                self.pipeline = format!("other {n}");
                "name of the pipeline"
            }
            // A name that sorts last: the item keeps the name of the first of its content.
            6 => {
                let copy = self.some_text(rng);
                self.files.insert(format!("zz {n}.txt"), copy);
                "duplicate"
            }
            7 => {
                self.files.insert(format!("notes {n}.md"), format!("{n}"));
                "file of no interest"
            }
            9 => {
                let (one, other) = (r#"["corpus", "prompt"]"#, r#"["prompt", "corpus"]"#);
                self.toml = if self.toml.contains(one) {
                    self.toml.replace(one, other)
                } else {
                    self.toml.replace(other, one)
                };
                "order of inputs"
            }
            10 => {
                for name in [".pipeline-results", "made.txt"] {
                    self.files
                        .insert(format!("results {n}/{name}"), format!("{n}"));
                }
                "results in the source"
            }
            8 => {
                self.files
                    .insert(format!(".hidden {n}.txt"), format!("{n}"));
                "hidden file"
            }
            _ => {
                self.toml = self.toml.replace("[sources.prompt]", "[sources.'prompt']");
                "quoted key"
            }
        }
        .to_owned()
            + "\n"
    }

    fn some_text(&self, rng: &mut ChaCha8Rng) -> String {
        let (_, text) = FILES[rng.random_range(0..FILES.len())];
        text.to_owned()
    }
}

#[test]
fn moved_files_renamed_stages_and_the_environment_keep_everything_fresh() {
    let toy = Toy::coded(&FILES);
    fs::write(toy.dir.path().join(PROMPT), "seven").unwrap();
    let mut mutant = Mutant::base();
    let (project, request) = open(&toy, &mutant);
    try_run(&project, request.clone()).unwrap();
    drop(project);
    for (n, (variables, umask)) in [
        (&[("TZ", "Pacific/Kiritimati")][..], "000"),
        (
            &[("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8")][..],
            "077",
        ),
        (&[("TZ", "UTC"), ("HOME", "/nonexistent")][..], "027"),
    ]
    .into_iter()
    .enumerate()
    {
        let orders = Orders {
            dir: toy.dir.path().to_owned(),
            op: Op::Predict,
            settings: vec![],
            jobs: n + 1,
            report: toy.dir.path().join("report"),
        };
        let child = start_in(&orders, variables, umask);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(report(&orders).executed, [""; 0], "{variables:?} {umask}");
    }
    fs::rename(toy.path("a.txt"), toy.path("sub/z.txt")).unwrap();
    fs::rename(toy.path("sub"), toy.path("other")).unwrap();
    mutant.toml = coded()
        .replace("[stages.sum]", "[stages.total]\nkind = \"sum\"")
        .replace("sum = \"sum\"", "sum = \"total\"")
        .replace("[stages.codec]", "[stages.fit]\nkind = \"codec\"")
        .replace("codec = \"codec\"", "codec = \"fit\"");
    let (project, request) = open(&toy, &mutant);
    let session = Session::prepare(&project, request, &Cancel::default()).unwrap();
    assert_eq!(session.why().unwrap(), []);
    assert!(toy.path("other/z.txt").exists());
}
