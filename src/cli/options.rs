//! Options that several commands share, and the project that they open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use engine::fs::RealFs;
use engine::store::{Store, StoreOptions};
use engine::{Config, Program, Project, Request, Setting};
use stage_core::text::of_name;
use stage_core::{Cancel, DeviceChoice};

use crate::outcome::{Failure, INTERRUPTED, print_warning};
use crate::stages::PROMPT;

/// Name of the file that describes a pipeline.
pub(crate) const FILE: &str = engine::results::PROJECT_FILE;

/// Version of this program, as the records of actions hold it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,
    /// Keep the cache in DIR instead of `.pipeline` beside pipeline.toml; projects can share it
    #[arg(long, value_name = "DIR", global = true)]
    cache: Option<PathBuf>,
}

/// Parser of `--jobs`.
fn jobs() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(..=i64::from(engine::threads::MAX_JOBS))
}

/// The command line, for the record of the run.
fn command_line() -> String {
    let arguments = std::env::args_os().map(of_name);
    arguments.collect::<Vec<_>>().join(" ")
}

/// Makes Ctrl-C and SIGTERM ask for a stop; a second signal exits at once.
pub(crate) fn on_interrupt(cancel: &Cancel) {
    let cancel = cancel.clone();
    // Without the handler a signal still ends the process, which leaves the cache intact.
    let _ = ctrlc::set_handler(move || {
        if cancel.is_set() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        cancel.set();
    });
}

/// The settings of `--set`.
pub(crate) fn sets(texts: &[String]) -> Vec<Setting> {
    let setting = |text: &String| Setting {
        flag: "--set".to_owned(),
        text: text.clone(),
    };
    texts.iter().map(setting).collect()
}

/// A request over the project in the present folder, with the places that its results go to.
pub(crate) fn of_project() -> Request {
    Request {
        results: vec![PathBuf::from(engine::results::OUT)],
        runs_dir: Some(PathBuf::from(engine::results::RUNS)),
        ..Request::default()
    }
}

/// Options of the commands that do work.
#[derive(Debug, Clone, Args)]
pub(crate) struct Work {
    /// Score or recording to continue: binds the source `prompt`
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Device to compute on: auto, cpu, cuda, cuda:INDEX or mps
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Actions at a time; 0 for one per core
    #[arg(long, short, default_value_t = 0, value_parser = jobs())]
    jobs: u16,
}

impl Work {
    /// A request with these options over the project in the present folder.
    pub(crate) fn request(&self) -> Request {
        Request {
            bindings: bindings(self.prompt.as_ref()),
            jobs: usize::from(self.jobs),
            device: self.device,
            command: command_line(),
            ..of_project()
        }
    }
}

/// What `--prompt` binds.
fn bindings(prompt: Option<&PathBuf>) -> BTreeMap<String, PathBuf> {
    let prompt = prompt.map(|path| (PROMPT.to_owned(), path.clone()));
    prompt.into_iter().collect()
}

/// What a command looks at, of a pipeline that it does not run.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct View {
    /// Override a parameter of a stage, as for `run`
    #[arg(long = "set", value_name = "STAGE.KEY=VALUE")]
    set: Vec<String>,
    /// Score or recording that binds the source `prompt`
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
}

impl View {
    /// The options of `run` that mean the same.
    pub(crate) fn flags(&self) -> String {
        let set = self.set.iter().map(|set| format!(" --set {set}"));
        let prompt = self.prompt.iter();
        let prompt = prompt.map(|prompt| format!(" --prompt {}", of_name(prompt)));
        set.chain(prompt).collect()
    }

    /// Whether a source is bound on the command line.
    pub(crate) fn binds(&self, source: &str) -> bool {
        source == PROMPT && self.prompt.is_some()
    }

    /// Opens the project in the present folder, and asks for `targets`; none asks for all stages
    /// whose sources are bound.
    pub(crate) fn open(
        self,
        global: &Global,
        targets: Vec<String>,
    ) -> Result<(Project, Request), Failure> {
        let project = global.project(&sets(&self.set))?;
        let request = Request {
            targets,
            bindings: bindings(self.prompt.as_ref()),
            ..of_project()
        };
        Ok((project, request))
    }
}

/// The name under which a pipeline's history is kept in its cache: where its file lies, seen from
/// the cache's folder if it is below, so that a project that moves keeps its history.
fn pipeline_name(file: &Path, cache: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (file, cache) = (absolute(file), absolute(cache));
    let home = cache.parent().unwrap_or(&cache);
    of_name(file.strip_prefix(home).unwrap_or(&file))
}

fn open_store(cache: &Path) -> Result<Store, Failure> {
    engine::threads::prepare().context(
        "cannot start a thread: this user or container may have no more processes (`ulimit -u`)",
    )?;
    let options = StoreOptions::new(|warning| {
        print_warning(&warning.to_string());
    });
    Ok(Store::open(cache, options)?)
}

/// How this program is started as a worker that reads foreign bytes.
pub(super) fn worker() -> Result<Program, Failure> {
    let path = std::env::current_exe().context("cannot find the path of this program")?;
    Ok(Program {
        path,
        args: vec!["worker".to_owned()],
    })
}

impl Global {
    /// Opens the project in the present folder.
    pub(crate) fn project(&self, settings: &[Setting]) -> Result<Project, Failure> {
        let registry = crate::stages::registry();
        let config = Config::load(Path::new(FILE), &registry, settings)?;
        self.open(config)
    }

    /// Opens the cache for `config`.
    pub(crate) fn open(&self, config: Config) -> Result<Project, Failure> {
        let cache = self.cache_dir(&config.root);
        let store = open_store(&cache)?;
        let worker = worker()?;
        let programs = worker
            .path
            .parent()
            .map_or_else(PathBuf::new, Path::to_owned);
        Ok(Project {
            name: pipeline_name(&config.file, &cache),
            config,
            store,
            fs: Arc::new(RealFs),
            registry: crate::stages::registry(),
            worker,
            programs,
            version: VERSION.to_owned(),
        })
    }

    /// Opens the cache of the present folder, whether there is a pipeline.toml or not.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let cache = self.cache_dir(Path::new("."));
        if !cache.exists() {
            return Err(Failure::Usage(
                format!("there is no cache at `{}`", of_name(&cache)),
                Some("the first `pipeline run` makes it; `--cache DIR` names another".to_owned()),
            ));
        }
        open_store(&cache)
    }

    /// The folder of the cache of a project at `root`.
    pub(crate) fn cache_dir(&self, root: &Path) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| root.join(".pipeline"))
    }
}
