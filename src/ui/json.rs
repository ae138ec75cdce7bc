//! Events and reports as JSON, one object per line (docs/events.md).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use engine::store::StageName;
use engine::{
    Cause, Ending, FileStatus, Forecast, Observer, RunEvent, Session, Summary, Verdict, Who, Why,
};
use serde_json::{Value, json};
use stage_core::text::of_name;
use stage_core::{Event, NoteLevel, Part};

use crate::outcome::{Failure, print_json};

/// A report on a stage, with the stage's names.
pub(crate) fn of_stage(name: &StageName, mut value: Value) -> Value {
    value["pipeline"] = json!(name.pipeline);
    value["stage"] = json!(name.stage);
    value
}

/// The stream of `run --json`.
pub(super) struct Stream {
    items: bool,
    cached: Mutex<BTreeMap<(String, &'static str), u64>>,
    /// Why standard output could not be written to. A stream with a gap would mislead its reader, so
    /// nothing more is written then.
    broken: Mutex<Option<Failure>>,
}

impl Stream {
    pub(super) fn new(items: bool) -> Self {
        Self {
            items,
            cached: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    fn count_cached(&self, stage: &str, part: Part, count: u64) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        *cached.entry((stage.to_owned(), part.name())).or_default() += count;
    }
}

impl Observer for Stream {
    fn observe(&self, event: &RunEvent<'_>) {
        let line = match event {
            RunEvent::Planned(forecast) => forecast_json(forecast),
            RunEvent::Started(who) if self.items => with_who("started", who, json!({})),
            RunEvent::Started(_) => return,
            RunEvent::Ended {
                who,
                ending: Ending::Cached,
                ..
            } if !self.items => return self.count_cached(who.stage, who.part, 1),
            RunEvent::Cached { stage, part, count } => {
                return self.count_cached(stage, *part, *count);
            }
            RunEvent::Ended {
                who,
                ending,
                seconds,
                reason,
                remembered,
            } => {
                let mut fields = json!({
                    "outcome": ending,
                    "seconds": round(*seconds),
                    "reason": reason,
                });
                if *ending == Ending::Failed {
                    fields["remembered"] = json!(remembered);
                }
                with_who("action", who, fields)
            }
            RunEvent::Stage(who, Event::Note { level, text }) => {
                let level = match level {
                    NoteLevel::Info => "info",
                    NoteLevel::Warning => "warning",
                };
                with_who("note", who, json!({"level": level, "text": text}))
            }
            RunEvent::Stage(who, Event::Metric { step, values }) => {
                with_who("metric", who, json!({"step": step, "values": values}))
            }
            RunEvent::Stage(..) => return,
            RunEvent::Interim(who, step) => with_who("interim", who, json!({"step": step})),
            RunEvent::WaitingFor { who, holder } => {
                with_who("waiting", who, json!({"for": holder}))
            }
            RunEvent::Warning(text) => json!({"event": "warning", "text": text}),
        };
        self.print(&(line.to_string() + "\n"));
    }

    fn wants_each(&self) -> bool {
        self.items
    }
}

fn with_who(event: &str, who: &Who<'_>, fields: Value) -> Value {
    let mut line = json!({
        "event": event,
        "stage": who.stage,
        "item": if who.item.is_empty() { Value::Null } else { json!(who.item) },
        "part": who.part,
    });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    line
}

fn forecast_json(forecast: &Forecast) -> Value {
    let stages: Vec<Value> = forecast
        .stages
        .iter()
        .map(|stage| {
            json!({
                "stage": stage.stage,
                "stale": stage.stale,
                "waiting": stage.waiting,
                "fresh": stage.fresh,
                "failed": stage.failed,
                "blocked": stage.blocked,
                "seconds": round(stage.seconds),
                "bytes": stage.bytes.round(),
                "from_history": stage.from_history,
            })
        })
        .collect();
    json!({
        "event": "plan",
        "stages": stages,
        "seconds": round(forecast.seconds),
        "bytes": forecast.bytes.round(),
    })
}

/// Milliseconds are enough for a person and for a plot.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The lines at the end of a run: files, troubles, the summary.
pub(super) fn summary(summary: &Summary) -> String {
    let mut text = String::new();
    let mut line = |value: Value| {
        text.push_str(&value.to_string());
        text.push('\n');
    };
    for (source, intake) in &summary.intake {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (status, count) in [("used", intake.used), ("cached", intake.cached)] {
            if count > 0 {
                counts.insert(status, count);
            }
        }
        for (file, status) in &intake.others {
            *counts.entry(status_name(status)).or_default() += 1;
            let mut value = json!({
                "event": "file", "source": source, "file": file, "status": status_name(status),
            });
            match status {
                FileStatus::Failed { stage, reason } => {
                    value["stage"] = json!(stage);
                    value["reason"] = json!(reason);
                }
                FileStatus::Duplicate { of } => value["of"] = json!(of),
                FileStatus::LeftOut { reason } => value["reason"] = json!(reason),
                _ => {}
            }
            line(value);
        }
        line(json!({"event": "intake", "source": source, "files": counts}));
    }
    for trouble in summary.troubles.iter().filter(|t| t.blocked) {
        line(json!({
            "event": "blocked",
            "stage": trouble.stage,
            "part": trouble.part,
            "reason": trouble.reason,
        }));
    }
    let stages: serde_json::Map<String, Value> = summary
        .stages
        .iter()
        .map(|stage| {
            let counts = json!({
                "executed": stage.executed,
                "cached": stage.cached,
                "failed": stage.failed,
                "not_done": stage.not_done,
                "seconds": round(stage.seconds),
                "saved_seconds": round(stage.saved),
            });
            (stage.stage.clone(), counts)
        })
        .collect();
    let left_out: Vec<Value> = summary
        .left_out
        .iter()
        .map(|left| json!({"stage": left.stage, "unbound": left.unbound}))
        .collect();
    line(json!({
        "event": "summary",
        "outcome": verdict(summary.verdict),
        "stages": stages,
        "left_out": left_out,
        "seconds": round(summary.seconds),
    }));
    text
}

/// A result that was put into `out/`.
pub(super) fn output(path: &std::path::Path) -> String {
    json!({"event": "output", "path": of_name(path)}).to_string() + "\n"
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Done => "done",
        Verdict::Failed => "failed",
        Verdict::Interrupted => "interrupted",
    }
}

fn status_name(status: &FileStatus) -> &'static str {
    match status {
        FileStatus::Used => "used",
        FileStatus::Cached => "cached",
        FileStatus::Duplicate { .. } => "duplicate",
        FileStatus::Ignored => "ignored",
        FileStatus::LeftOut { .. } => "left_out",
        FileStatus::Failed { .. } => "failed",
        FileStatus::Pending => "pending",
    }
}

fn why_json(why: &[Why]) -> Vec<Value> {
    why.iter()
        .map(|why| {
            let mut value = json!({
                "stage": why.stage,
                "part": why.part,
                "item": if why.item.is_empty() { Value::Null } else { json!(why.item) },
            });
            let (cause, detail) = match &why.cause {
                Cause::New => ("new", Value::Null),
                Cause::Again => ("again", Value::Null),
                Cause::Upstream(stages) => ("upstream", json!(stages)),
                Cause::Failed(reason) => ("failed", json!(reason)),
                Cause::Blocked(reason) => ("blocked", json!(reason)),
                Cause::Changed(changes) => {
                    let changes: Vec<_> = changes
                        .iter()
                        .map(|c| json!({"what": c.what, "old": c.old, "new": c.new}))
                        .collect();
                    ("changed", json!(changes))
                }
            };
            value["cause"] = json!(cause);
            value["detail"] = detail;
            value
        })
        .collect()
}

/// `run --dry-run --json`.
pub(crate) fn plan(forecast: &Forecast, why: &[Why]) -> String {
    let mut value = forecast_json(forecast);
    value["why"] = json!(why_json(why));
    value.to_string() + "\n"
}

/// `status --json`.
pub(crate) fn status(forecast: &Forecast, why: &[Why], session: &Session<'_>) -> String {
    let mut value = forecast_json(forecast);
    value["event"] = json!("status");
    value["why"] = json!(why_json(why));
    let left_out = session.left_out.iter();
    value["left_out"] = left_out
        .map(|left| json!({"stage": left.stage, "unbound": left.unbound}))
        .collect();
    value.to_string() + "\n"
}

impl Stream {
    /// Writes whole lines; the work goes on where that fails.
    fn print(&self, lines: &str) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_none() {
            *broken = print_json(lines).err();
        }
    }

    /// Writes the last lines.
    ///
    /// # Errors
    /// These or earlier ones could not be written.
    pub(super) fn end(&self, lines: &str) -> Result<(), Failure> {
        self.print(lines);
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.take().map_or(Ok(()), Err)
    }

    /// The counts of cached actions.
    pub(super) fn counts(&self) -> String {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        cached
            .iter()
            .map(|((stage, part), count)| {
                let value = json!({
                    "event": "cached", "stage": stage, "part": part, "count": count,
                });
                value.to_string() + "\n"
            })
            .collect()
    }
}
