//! `pipeline run`: does what is stale.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::{Cause, Config, Request, Session, Setting, Verdict};
use stage_core::{Cancel, DeviceChoice};

use super::{FAILED, Failure, Global, INTERRUPTED, Outcome, say};
use crate::ui;

/// Which events `--json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonDetail {
    /// One line per executed or failed action; cached ones as counts.
    Actions,
    /// One line per action.
    Items,
}

/// Do what is stale, up to the named stages
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline run                              every stage whose sources are bound
  pipeline run dataset                      up to the data set
  pipeline run train --set train.epochs=50  with another parameter
  pipeline run predict --prompt x.musicxml --seed 3
  pipeline run --dry-run                    what would be done, and why
  pipeline run dataset --json | jq .        one event per line (docs/events.md)")]
pub(crate) struct Run {
    /// Stages to bring up to date; without any, all whose sources are bound
    stages: Vec<String>,
    /// Override a parameter of a stage
    #[arg(long = "set", value_name = "STAGE.KEY=VALUE")]
    set: Vec<String>,
    /// Do this stage although it is fresh
    #[arg(long, value_name = "STAGE")]
    force: Vec<String>,
    /// Show what would be done, and why, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Device to compute on: auto, cpu, cuda, cuda:INDEX or mps
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Actions at a time; 0 for one per core
    #[arg(long, short, default_value_t = 0)]
    jobs: usize,
    /// Try again what failed before on the same content
    #[arg(long)]
    retry_failed: bool,
    /// Start nothing more after the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Read every byte of the sources instead of trusting sizes and times
    #[arg(long)]
    paranoid: bool,
    /// Print one JSON event per line on standard output
    #[arg(long, value_name = "DETAIL", num_args = 0..=1, require_equals = true,
          default_missing_value = "actions")]
    json: Option<JsonDetail>,
    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Score or recording to go on from: binds the source `prompt`
    #[arg(long, value_name = "FILE", help_heading = "For the named stages")]
    prompt: Option<PathBuf>,
    /// Their parameter `seed`
    #[arg(long, value_name = "N", help_heading = "For the named stages")]
    seed: Option<String>,
    /// Their parameter `frames`
    #[arg(long, value_name = "N", help_heading = "For the named stages")]
    frames: Option<String>,
    /// Their parameter `seconds`
    #[arg(long, value_name = "S", help_heading = "For the named stages")]
    seconds: Option<String>,
    /// Their parameter `temperature`
    #[arg(long, value_name = "T", help_heading = "For the named stages")]
    temperature: Option<String>,
    /// Their parameter `variations`
    #[arg(long, value_name = "N", help_heading = "For the named stages")]
    variations: Option<String>,
}

impl Run {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let settings = self.settings()?;
        let project = global.project(&settings)?;
        let cancel = Cancel::default();
        on_interrupt(&cancel);
        let mut session = Session::prepare(&project, self.request(), &cancel)?;
        if self.dry_run {
            return self.show_plan(&session);
        }
        let ui = ui::Ui::new(self.ui_mode(), &session);
        let summary = session.execute(&ui, &cancel);
        ui.clear();
        let summary = summary?;
        ui.conclude(&summary)?;
        match summary.verdict {
            Verdict::Done => Ok(()),
            Verdict::Failed => Err(Failure::Code(FAILED)),
            Verdict::Interrupted => Err(Failure::Code(INTERRUPTED)),
        }
    }

    fn ui_mode(&self) -> ui::Mode {
        match self.json {
            Some(JsonDetail::Actions) => ui::Mode::Json { items: false },
            Some(JsonDetail::Items) => ui::Mode::Json { items: true },
            None if self.quiet => ui::Mode::Quiet,
            None => ui::Mode::Human,
        }
    }

    fn request(&self) -> Request {
        let prompt = self
            .prompt
            .iter()
            .map(|path| ("prompt".to_owned(), path.clone()));
        Request {
            targets: self.stages.clone(),
            bindings: prompt.collect(),
            artifacts: BTreeMap::new(),
            force: self.force.iter().cloned().collect(),
            retry_failed: self.retry_failed,
            paranoid: self.paranoid,
            fail_fast: self.fail_fast,
            jobs: self.jobs,
            device: self.device,
            command: std::env::args().collect::<Vec<_>>().join(" "),
            runs_dir: Some(PathBuf::from("runs")),
        }
    }

    /// `--set`, and the flags that stand for parameters of the named stages.
    fn settings(&self) -> Result<Vec<Setting>, Failure> {
        let mut settings: Vec<Setting> = self
            .set
            .iter()
            .map(|text| Setting {
                flag: "--set".to_owned(),
                text: text.clone(),
            })
            .collect();
        let flags = [
            ("seed", &self.seed),
            ("frames", &self.frames),
            ("seconds", &self.seconds),
            ("temperature", &self.temperature),
            ("variations", &self.variations),
        ];
        let given: Vec<(&str, &String)> = flags
            .iter()
            .filter_map(|(key, value)| Some((*key, value.as_ref()?)))
            .collect();
        if given.is_empty() {
            return Ok(settings);
        }
        let registry = crate::stages::registry();
        let config = Config::load(super::setup::FILE.as_ref(), &registry, &settings)?;
        for (key, value) in given {
            let has = |name: &&String| {
                let stage = config.graph.stage(name);
                stage.is_some_and(|i| config.graph.stages[i].params.get(key).is_some())
            };
            let before = settings.len();
            settings.extend(self.stages.iter().filter(has).map(|stage| Setting {
                flag: format!("--{key}"),
                text: format!("{stage}.{key}={value}"),
            }));
            if settings.len() == before {
                return Err(Failure::Usage(
                    format!(
                        "`--{key}` is for stages named on the command line, and none of them has such a parameter"
                    ),
                    Some("for example: pipeline run predict --seed 3".to_owned()),
                ));
            }
        }
        Ok(settings)
    }

    fn show_plan(&self, session: &Session<'_>) -> Outcome {
        let forecast = session.forecast()?;
        let why = session.why()?;
        if self.json.is_some() {
            return say(&ui::json::plan(&forecast, &why));
        }
        let failed = why
            .iter()
            .any(|w| matches!(w.cause, Cause::Failed(_) | Cause::Blocked(_)));
        say(&ui::text::plan(&forecast, &why, session))?;
        if failed {
            Err(Failure::Code(FAILED))
        } else {
            Ok(())
        }
    }
}

/// Makes Ctrl-C and SIGTERM ask for a stop; a second one ends at once.
fn on_interrupt(cancel: &Cancel) {
    let cancel = cancel.clone();
    // Without the handler a signal still ends the process, and the cache survives that too.
    let _ = ctrlc::set_handler(move || {
        if cancel.is_set() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        cancel.set();
    });
}
