//! `pipeline run`: brings stages up to date.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use engine::config::{NodeId, StageDef};
use engine::{Cause, Config, Project, Request, Session, Setting, Settled, Sources, Verdict};
use stage_core::text::of_name;
use stage_core::{Cancel, Delivery, KindEntry};

use super::deliver;
use super::model::{self, Choice};
use super::options;
use super::options::{Global, Work, on_interrupt};
use crate::outcome::{FAILED, Failure, INTERRUPTED, Outcome, print, print_json, print_warning};
use crate::{stages, ui};

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
    #[command(flatten)]
    work: Work,
    /// Begin although the disk is expected not to hold what the run writes
    #[arg(long)]
    ignore_space: bool,
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
    /// Use this model instead of bringing training up to date: `latest` or `best` of what the
    /// training left so far, or a file
    #[arg(
        long,
        value_parser = OsStringValueParser::new().map(Choice::from),
        value_name = "latest|best|FILE",
        help_heading = "For the named stages"
    )]
    model: Option<Choice>,
    /// Where their results go, instead of `out/STAGE`: a folder, or a file for a single sound
    #[arg(long, value_name = "PATH", help_heading = "For the named stages")]
    out: Option<PathBuf>,
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
        let (project, request) = match &self.model {
            Some(choice) => self.with_model(global, choice)?,
            None => {
                let graph = self.config(&self.sets())?.graph;
                let settings = self.settings(|stage, key| {
                    let stage = graph.stage(stage).map(|index| &graph.stages[index]);
                    stage.is_some_and(|stage| stage.params.get(key).is_some())
                })?;
                (global.project(&settings)?, self.request())
            }
        };
        let cancel = Cancel::default();
        on_interrupt(&cancel);
        project.store.cancel_with(&cancel);
        let mut sources = Sources::list(&project, &request)?;
        // Who asks for single actions wants more than to know that there is nothing to do.
        let brief = !self.dry_run && self.json != Some(JsonDetail::Items);
        if brief
            && let Some(settled) = Settled::find(&project, &request, &mut sources, &cancel)?
            && self.has_plain_results(&project, &settled)
        {
            match self.print_settled(&project, &settled, &cancel) {
                Err(failure) if failure.lost_object().is_some() => {
                    // What is there no more is no result: looked up again, it is to be done.
                    self.print_lost(&failure);
                    sources = Sources::list(&project, &request)?;
                }
                outcome => return outcome,
            }
        }
        if !self.dry_run {
            sources.expect_work(&project);
        }
        let again = request.clone();
        let mut session = Session::of(&project, request, sources, &cancel)?;
        if self.dry_run {
            return self.show_plan(&session);
        }
        self.suggest_existing_model(&session)?;
        let ui = ui::Ui::new(self.ui_mode(), Some(&session));
        let mut lost = HashSet::new();
        let (summary, delivered) = loop {
            let summary = session.execute(&ui, &cancel);
            ui.clear();
            let summary = summary?;
            let delivered = self.deliver(&project, &session, &cancel);
            match delivered.as_ref().err().and_then(Failure::lost_object) {
                // An object that is lost again right after it was made is no matter of the cache.
                Some(object) if lost.insert(object) => {}
                _ => break (summary, delivered),
            }
            if let Err(failure) = &delivered {
                self.print_lost(failure);
            }
            session = Session::prepare(&project, again.clone(), &cancel)?;
        };
        let told = ui.conclude(&summary, delivered.as_deref().unwrap_or_default());
        // The process ends: to free its actions one by one takes a tenth of a run that does nothing.
        std::mem::forget(session);
        end(summary.verdict, delivered, told)
    }

    /// Whether no result is named after what went into it, which takes a session to tell.
    fn has_plain_results(&self, project: &Project, settled: &Settled) -> bool {
        let mut deliveries = self.deliveries(project).into_iter();
        deliveries.all(|(stage, delivery, _)| {
            delivery == Delivery::Folder || settled.artifact(stage).is_none()
        })
    }

    /// Says what a run of which it is known that it finds nothing to do would say.
    fn print_settled(&self, project: &Project, settled: &Settled, cancel: &Cancel) -> Outcome {
        let delivered = self.deliver_settled(project, settled, cancel);
        if delivered
            .as_ref()
            .is_err_and(|failure| failure.lost_object().is_some())
        {
            return delivered.map(drop);
        }
        let ui = ui::Ui::new(self.ui_mode(), None);
        settled.tell(&ui);
        let told = ui.conclude(&settled.summary, delivered.as_deref().unwrap_or_default());
        end(settled.summary.verdict, delivered, told)
    }

    /// Says that a result is made again because the cache has lost it.
    fn print_lost(&self, failure: &Failure) {
        if let Failure::Engine(error) = failure {
            let reason = engine::chain(error);
            print_warning(&format!("a result is made again: {reason}"));
        }
    }

    /// As [`Run::deliver`], of results that are named as they are in the cache.
    fn deliver_settled(
        &self,
        project: &Project,
        settled: &Settled,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = Vec::new();
        for (stage, _, out) in self.deliveries(project) {
            if let Some(artifact) = settled.artifact(stage) {
                paths.extend(deliver::plain(project, &artifact, stage, out, cancel)?);
            }
        }
        Ok(paths)
    }

    /// The project and request for an existing model. The stages upstream are those that the model
    /// file describes.
    fn with_model(&self, global: &Global, choice: &Choice) -> Result<(Project, Request), Failure> {
        let registry = stages::registry();
        let here = Path::new(options::FILE).exists();
        let config = if here {
            self.config(&self.sets())?
        } else {
            if !matches!(choice, Choice::File(_)) {
                return Err(Failure::Usage(
                    "there is no pipeline.toml here, and so no training".to_owned(),
                    Some("name a model file: --model model.safetensors".to_owned()),
                ));
            }
            Config::build(options::FILE, &[], Vec::new(), &registry, &[])?
        };
        let [stage] = self.stages.as_slice() else {
            return Err(Failure::Usage(
                "`--model` is for one stage that uses a model".to_owned(),
                Some("for example: pipeline run predict --model latest --prompt x.mid".to_owned()),
            ));
        };
        let def = config.graph.stage(stage).map(|i| &config.graph.stages[i]);
        let kind = match def {
            Some(def) => Some(def.kind),
            // Without pipeline.toml a stage is called by its kind.
            None if !here => Some(stage.as_str()),
            None => None,
        };
        let continuation = kind.and_then(|kind| Some((kind, stages::continuation(kind)?)));
        let Some((kind, ports)) = continuation else {
            return Err(Failure::Usage(
                format!("stage `{stage}` uses no model"),
                Some("for example: pipeline run predict --model latest".to_owned()),
            ));
        };
        let kind = kind.to_owned();
        let params = def.and_then(|def| def.params.as_object().cloned());
        let train = def.and_then(|def| model_stage(&config, def));
        let project = global.open(config)?;
        let found = model::find(&project, train.as_deref(), choice)?;
        self.print_model(&project, train.as_deref(), choice, &found)?;
        let entry = registry.get(&kind);
        let defaults = entry.map(KindEntry::defaults).unwrap_or_default();
        let settings = self.settings(|_, key| defaults.get(key).is_some())?;
        let target = model::Target {
            name: stage,
            kind: &kind,
            ports,
            params: params.unwrap_or_default(),
        };
        let config = model::config(&found.facts, &project.store, &registry, target, &settings)?;
        let mut request = self.request();
        let port = (stage.clone(), stages::MODEL_PORT.to_owned());
        request.artifacts.insert(port, found.artifact);
        Ok((Project { config, ..project }, request))
    }

    /// Prints which model is used, and which stages upstream of it are stale.
    fn print_model(
        &self,
        project: &Project,
        train: Option<&str>,
        choice: &Choice,
        found: &model::Found,
    ) -> Outcome {
        if self.quiet || self.json.is_some() {
            return Ok(());
        }
        let step = found
            .step()
            .map_or_else(String::new, |step| format!(", step {step}"));
        let name = match choice {
            Choice::Latest => format!("latest of `{}`", train.unwrap_or_default()),
            Choice::Best => format!("best of `{}`", train.unwrap_or_default()),
            Choice::File(path) => of_name(path),
        };
        print(format!("model: {name}{step}"))?;
        let (Choice::Latest | Choice::Best, Some(train)) = (choice, train) else {
            return Ok(());
        };
        let request = Request {
            targets: vec![train.to_owned()],
            ..options::of_project()
        };
        let session = Session::prepare(project, request, &Cancel::default())?;
        for stage in session.forecast()?.stages {
            let stale = stage.stale + stage.waiting;
            if stale > 0 {
                print(format!(
                    "not up to date: {} ({stale} to do; `pipeline status --why` says why)",
                    stage.stage
                ))?;
            }
        }
        Ok(())
    }

    /// Before a training that runs only because a named stage needs it, prints how to use an
    /// existing model.
    fn suggest_existing_model(&self, session: &Session<'_>) -> Outcome {
        if self.quiet || self.json.is_some() {
            return Ok(());
        }
        for name in &self.stages {
            let graph = session.graph();
            let Some(def) = graph.stage(name).map(|i| &graph.stages[i]) else {
                continue;
            };
            let Some(NodeId::Stage(index)) = def
                .inputs
                .get(stages::MODEL_PORT)
                .and_then(|list| Some(list.first()?.node))
            else {
                continue;
            };
            let train = &graph.stages[index].name;
            let forecast = session.forecast()?;
            let todo = forecast
                .stages
                .iter()
                .find(|s| s.stage == *train && s.stale + s.waiting > 0);
            if let Some(todo) = todo {
                print(format!(
                    "`{train}` is brought up to date first, about {}; `--model latest` uses what is there",
                    engine::human_seconds(todo.seconds)
                ))?;
            }
        }
        Ok(())
    }

    /// The stages whose results go into `out/` (the named ones; all, in a bare run), how they are
    /// delivered, and the place that the user named.
    fn deliveries<'p>(&self, project: &'p Project) -> Vec<(&'p str, Delivery, Option<&Path>)> {
        let mut deliveries = Vec::new();
        for def in &project.config.graph.stages {
            let entry = project.registry.get(def.kind);
            let delivery = entry.map_or(Delivery::Internal, |entry| entry.delivery);
            let named = self.stages.is_empty() || self.stages.contains(&def.name);
            let implied = delivery == Delivery::Folder;
            if (named || implied) && delivery != Delivery::Internal {
                let out = self.out.as_deref().filter(|_| named);
                deliveries.push((def.name.as_str(), delivery, out));
            }
        }
        deliveries
    }

    /// Puts the results into `out/`.
    fn deliver(
        &self,
        project: &Project,
        session: &Session<'_>,
        cancel: &Cancel,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = Vec::new();
        for (stage, delivery, out) in self.deliveries(project) {
            let brought = deliver::deliver(project, session, stage, delivery, out, cancel)?;
            paths.extend(brought);
        }
        Ok(paths)
    }

    fn sets(&self) -> Vec<Setting> {
        options::sets(&self.set)
    }

    fn config(&self, settings: &[Setting]) -> Result<Config, Failure> {
        let registry = stages::registry();
        Ok(Config::load(options::FILE.as_ref(), &registry, settings)?)
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
        Request {
            targets: self.stages.clone(),
            force: self.force.iter().cloned().collect(),
            retry_failed: self.retry_failed,
            paranoid: self.paranoid,
            fail_fast: self.fail_fast,
            ignore_space: self.ignore_space,
            out: self.out.clone(),
            ..self.work.request()
        }
    }

    /// `--set`, and the flags that stand for parameters of the named stages.
    /// `has` says whether a stage has a parameter.
    fn settings(&self, has: impl Fn(&str, &str) -> bool) -> Result<Vec<Setting>, Failure> {
        let mut settings = self.sets();
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
        for (key, value) in given {
            let stages = self.stages.iter().filter(|stage| has(stage, key));
            let before = settings.len();
            settings.extend(stages.map(|stage| Setting {
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
        let failed = why
            .iter()
            .any(|w| matches!(w.cause, Cause::Failed(_) | Cause::Blocked(_)));
        if self.json.is_some() {
            print_json(&ui::json::plan(&forecast, &why))?;
        } else {
            print(ui::text::plan(&forecast, &why, session))?;
        }
        if failed {
            Err(Failure::Code(FAILED))
        } else {
            Ok(())
        }
    }
}

/// How a run ends: by its own verdict, by what became of its results, and by whether its report
/// could be written.
fn end(verdict: Verdict, delivered: Result<Vec<PathBuf>, Failure>, told: Outcome) -> Outcome {
    delivered?;
    match verdict {
        Verdict::Done => told,
        Verdict::Failed => Err(Failure::Code(FAILED)),
        Verdict::Interrupted => Err(Failure::Code(INTERRUPTED)),
    }
}

/// Name of the stage whose model `def` uses.
fn model_stage(config: &Config, def: &StageDef) -> Option<String> {
    match def.inputs.get(stages::MODEL_PORT)?.first()?.node {
        NodeId::Stage(index) => Some(config.graph.stages[index].name.clone()),
        NodeId::Source(_) => None,
    }
}
