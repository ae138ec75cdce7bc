//! Progress: a bar per stage and an overall line at a terminal, a line every few seconds elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{Ending, Observer, RunEvent, Session, human_seconds};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stage_core::text::visible;
use stage_core::{Event, NoteLevel, Part};

/// How often a line is printed where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(5);

/// Metrics that the bar says already, or that are for plots: they go to the JSON stream alone.
const QUIET: [&str; 4] = [
    "gradient_norm",
    "learning_rate",
    "seconds_left",
    "steps_per_second",
];

/// Four significant digits, give or take.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

/// Shows progress on standard error.
pub(super) struct Progress {
    state: Mutex<State>,
    /// Set at a terminal.
    multi: Option<MultiProgress>,
}

struct State {
    stages: Vec<Stage>,
    by_name: HashMap<String, usize>,
    overall: Option<ProgressBar>,
    expected_seconds: f64,
    begun: Instant,
    last_line: Instant,
    /// Waiting for others is said once per action.
    told_waiting: Vec<String>,
}

struct Stage {
    name: String,
    total: u64,
    done: u64,
    failed: u64,
    bar: Option<ProgressBar>,
    begun: Option<Instant>,
    /// Units of the whole part: done, total, name.
    units: (u64, u64, String),
    metrics: BTreeMap<String, f64>,
}

impl Progress {
    pub(super) fn new(session: &Session<'_>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let multi = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let stages: Vec<Stage> = session
            .counts()
            .into_iter()
            .map(|(name, _)| Stage {
                name: name.to_owned(),
                total: 0,
                done: 0,
                failed: 0,
                bar: None,
                begun: None,
                units: (0, 0, String::new()),
                metrics: BTreeMap::new(),
            })
            .collect();
        let by_name = stages
            .iter()
            .enumerate()
            .map(|(i, s)| (s.name.clone(), i))
            .collect();
        Self {
            state: Mutex::new(State {
                stages,
                by_name,
                overall: None,
                expected_seconds: 0.0,
                begun: Instant::now(),
                last_line: Instant::now(),
                told_waiting: Vec::new(),
            }),
            multi,
        }
    }

    pub(super) fn clear(&self) {
        if let Some(multi) = &self.multi {
            // The screen stays as it is if it cannot be cleared.
            let _ = multi.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line that stays.
    fn line(&self, text: &str) {
        match &self.multi {
            Some(multi) => {
                let _ = multi.println(visible(text));
            }
            None => crate::outcome::print_stderr(&text.into()),
        }
    }

    fn planned(&self, forecast: &engine::Forecast) {
        if forecast.to_do() == 0 {
            return;
        }
        let mut state = self.lock();
        state.expected_seconds = forecast.seconds;
        let width = forecast
            .stages
            .iter()
            .map(|s| s.stage.len())
            .max()
            .unwrap_or(0);
        for planned in &forecast.stages {
            let Some(index) = state.by_name.get(&planned.stage).copied() else {
                continue;
            };
            let stage = &mut state.stages[index];
            stage.total = planned.stale + planned.waiting;
            if let Some(multi) = &self.multi
                && stage.total > 0
            {
                let bar = multi.add(ProgressBar::new(stage.total));
                bar.set_style(style("{prefix} {bar:30} {pos}/{len} {msg}"));
                bar.set_prefix(format!("{:width$}", planned.stage));
                stage.bar = Some(bar);
            }
        }
        if let Some(multi) = &self.multi {
            let bar = multi.add(ProgressBar::new(forecast.to_do()));
            bar.set_style(style("{prefix} {bar:30} {percent}% {elapsed} {msg}"));
            bar.set_prefix(format!("{:width$}", "all"));
            // The bar's own thread panics where there are no more: then it moves with the work.
            if std::thread::Builder::new().spawn(|| {}).is_ok() {
                bar.enable_steady_tick(Duration::from_millis(250));
            }
            state.overall = Some(bar);
        }
        drop(state);
        self.line(&format!(
            "{} actions to do at most: {}, {} to write",
            forecast.to_do(),
            human_seconds(forecast.seconds),
            engine::human_bytes(forecast.bytes)
        ));
    }

    fn ended(&self, name: &str, ending: Ending, announced: bool) {
        let mut state = self.lock();
        let Some(index) = state.by_name.get(name).copied() else {
            return;
        };
        let stage = &mut state.stages[index];
        // What the cache settled before the work began was not announced as work.
        if !announced {
            return;
        }
        stage.done += 1;
        stage.failed += u64::from(ending == Ending::Failed);
        let rate = stage.rate();
        if let Some(bar) = &stage.bar {
            bar.set_position(stage.done);
            bar.set_message(rate);
        }
        let done: u64 = state.stages.iter().map(|s| s.done).sum();
        let total: u64 = state.stages.iter().map(|s| s.total).sum();
        let left = state.remaining(done, total);
        if let Some(overall) = &state.overall {
            overall.set_position(done);
            overall.set_message(left);
        }
        drop(state);
        self.tick(false);
    }

    /// Prints a line where there is no terminal, when it is time.
    fn tick(&self, now: bool) {
        if self.multi.is_some() {
            return;
        }
        let mut state = self.lock();
        if !now && state.last_line.elapsed() < INTERVAL {
            return;
        }
        state.last_line = Instant::now();
        let parts: Vec<String> = state
            .stages
            .iter()
            .filter(|stage| stage.begun.is_some() && stage.done < stage.total)
            .map(Stage::describe)
            .collect();
        let done: u64 = state.stages.iter().map(|s| s.done).sum();
        let total: u64 = state.stages.iter().map(|s| s.total).sum();
        let left = state.remaining(done, total);
        drop(state);
        if !parts.is_empty() {
            self.line(&format!("{done}/{total} {left}  {}", parts.join(" · ")));
        }
    }

    fn stage_event(&self, name: &str, part: Part, event: &Event) {
        if let Event::Note { level, text } = event {
            let mark = if *level == NoteLevel::Warning {
                "warning: "
            } else {
                ""
            };
            self.line(&format!("{name}: {mark}{text}"));
            return;
        }
        // Items advance their stage's bar by one each; what they say of themselves is too fine.
        if part == Part::Item {
            return;
        }
        let mut state = self.lock();
        let Some(index) = state.by_name.get(name).copied() else {
            return;
        };
        let stage = &mut state.stages[index];
        match event {
            Event::Total { total, unit } => {
                stage.units.1 = *total;
                stage.units.2 = visible(unit).into_owned();
            }
            Event::Advance { by } => stage.units.0 += by,
            Event::Position { done } => stage.units.0 = *done,
            Event::Metric { values, .. } => stage.metrics.extend(values.clone()),
            Event::Note { .. } => {}
        }
        if let Some(bar) = &stage.bar
            && stage.units.1 > 0
        {
            bar.set_length(stage.units.1);
            bar.set_position(stage.units.0.min(stage.units.1));
            bar.set_message(stage.rate());
        }
        drop(state);
        self.tick(false);
    }
}

impl State {
    fn remaining(&self, done: u64, total: u64) -> String {
        if done == 0 || total == 0 {
            return format!("about {} left", human_seconds(self.expected_seconds));
        }
        let elapsed = self.begun.elapsed().as_secs_f64();
        // By history while little is done, by the run itself when much is.
        let share = done as f64 / total as f64;
        let by_history = (self.expected_seconds - elapsed).max(0.0);
        let by_rate = elapsed / share * (1.0 - share);
        let left = by_history * (1.0 - share) + by_rate * share;
        format!("about {} left", human_seconds(left))
    }
}

impl Stage {
    fn rate(&self) -> String {
        let Some(begun) = self.begun else {
            return String::new();
        };
        let seconds = begun.elapsed().as_secs_f64().max(1e-3);
        let (units, total, unit) = &self.units;
        let (done, total, unit) = if *total > 0 {
            (*units, *total, unit.as_str())
        } else {
            (self.done, self.total, "items")
        };
        let per_second = done as f64 / seconds;
        let mut text = format!("{per_second:.1} {unit}/s");
        if done > 0 && total > done {
            let left = (total - done) as f64 / per_second;
            text.push_str(&format!(", {} left", human_seconds(left)));
        }
        for (name, value) in &self.metrics {
            if !QUIET.contains(&name.as_str()) {
                let name = name.replace('_', " ");
                text.push_str(&format!(", {} {}", visible(&name), figure(*value)));
            }
        }
        if self.failed > 0 {
            text.push_str(&format!(", {} failed", self.failed));
        }
        text
    }

    fn describe(&self) -> String {
        let (units, total, _) = &self.units;
        let (done, total) = if *total > 0 {
            (*units, *total)
        } else {
            (self.done, self.total)
        };
        format!("{} {done}/{total} {}", self.name, self.rate())
    }
}

impl Observer for Progress {
    fn observe(&self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Planned(forecast) => self.planned(forecast),
            RunEvent::Cached { .. } => {}
            RunEvent::Started(who) => {
                let mut state = self.lock();
                if let Some(index) = state.by_name.get(who.stage).copied() {
                    state.stages[index].begun.get_or_insert_with(Instant::now);
                }
                drop(state);
                self.tick(false);
            }
            RunEvent::Ended { who, ending, .. } => {
                let planned = {
                    let state = self.lock();
                    state.by_name.get(who.stage).is_some_and(|i| {
                        let stage = &state.stages[*i];
                        stage.done < stage.total
                    })
                };
                self.ended(who.stage, *ending, planned && self.work_began());
            }
            RunEvent::Stage(who, event) => self.stage_event(who.stage, who.part, event),
            RunEvent::Interim(who, step) => {
                self.line(&format!(
                    "{}: state after step {step} is ready for use",
                    who.stage
                ));
            }
            RunEvent::WaitingFor { who, holder } => {
                let key = format!("{} {}", who.stage, who.item);
                let mut state = self.lock();
                let first = !state.told_waiting.contains(&key);
                if first {
                    state.told_waiting.push(key.clone());
                }
                drop(state);
                if first {
                    self.line(&format!(
                        "waiting for {key}: {holder} (stop that process, or interrupt this one: nothing is lost)"
                    ));
                }
            }
            RunEvent::Warning(text) => self.line(&format!("warning: {text}")),
        }
    }
}

impl Progress {
    fn work_began(&self) -> bool {
        self.lock().stages.iter().any(|stage| stage.begun.is_some())
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}
