//! `pipeline gc`: frees what nothing needs any more.

use std::time::Duration;

use clap::Args;
use engine::human_bytes;
use engine::store::{Amount, GcOptions, GcReport, StageAmount};
use serde_json::{Value, json};

use super::options::Global;
use crate::outcome::{FAILED, Failure, Outcome, print, print_json, print_warning};
use crate::ui::json::of_stage;
use crate::ui::page::Page;
use crate::ui::text::{self, Table, count, several_pipelines, stage_label};

/// Free what the last runs, pins and running processes do not need
#[derive(Debug, Args)]
#[command(after_help = "\
Kept are what the last runs of each kind used (of the same pipeline.toml and the same stages), pinned
runs (`pipeline runs pin`), whatever running processes use, and the newest model of every training.
What goes can be made again: keys do not change.

Examples:
  pipeline gc --dry-run             what would be freed, by stage
  pipeline gc --keep-runs 3
  pipeline gc --max-size 20GB       drop the oldest runs until the rest fits")]
pub(crate) struct Gc {
    /// Keep the last N runs of each kind; with 0, pins and running processes alone
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep_runs: usize,
    /// Drop the oldest runs that are not pinned until the objects fit: 500MB, 20GB, 4GiB. The
    /// unit must be there
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Keep what is younger than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    min_age: u64,
    /// Show what would be freed, and free nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let store = global.store()?;
        let options = GcOptions {
            keep_runs: self.keep_runs,
            max_size: self.max_size,
            min_age: Duration::from_secs(self.min_age),
            dry_run: self.dry_run,
        };
        if !self.dry_run && !self.json {
            let plan = store.gc(&GcOptions {
                dry_run: true,
                ..options.clone()
            })?;
            if let Some(text) = announcement(&plan) {
                print(text)?;
            }
        }
        let report = store.gc(&options)?;
        if self.json {
            return print_json(&(as_json(&report, self.dry_run).to_string() + "\n"));
        }
        for run in &report.runs_unreadable {
            print_warning(&format!(
                "what run {run} used cannot be read: all that there was by then is kept; \
                 `pipeline repair` forgets it"
            ));
        }
        print(self.text(&report))?;
        if let (Some(least), Some(most)) = (report.exceeds, self.max_size) {
            print_warning(&format!(
                "pinned runs, running processes, the newest results and what is young alone hold {}, \
                 more than {}; `pipeline runs unpin RUN` lets a run go",
                human_bytes(least as f64),
                human_bytes(most as f64)
            ));
            return Err(Failure::Code(FAILED));
        }
        Ok(())
    }

    fn text(&self, report: &GcReport) -> Page {
        let would = if self.dry_run { "would free" } else { "freed" };
        let mut table = Table::new(&["stage", "objects", "kept", "objects", would]);
        let several = several_pipelines(report.stages.keys());
        let mut row = |name: String, amount: &StageAmount| {
            table.row(vec![
                name,
                count(amount.kept.count),
                text::size(amount.kept),
                count(amount.freed.count),
                text::size(amount.freed),
            ]);
        };
        for (name, amount) in &report.stages {
            row(stage_label(name, several), amount);
        }
        row("(shared)".to_owned(), &report.shared);
        row("(other)".to_owned(), &report.other);
        row("all".to_owned(), &report.total());
        let mut page = table.render();
        let pinned = match report.pinned {
            0 => String::new(),
            n => format!(", {n} of them pinned"),
        };
        page.line(format!(
            "runs: {} kept{pinned}, {} dropped",
            report.runs_kept,
            report.runs_dropped.len()
        ));
        if report.young.count > 0 {
            page.line(format!(
                "{} in {} objects is kept only because it is younger than {} s",
                human_bytes(report.young.bytes as f64),
                report.young.count,
                self.min_age
            ));
        }
        for (what, amount) in [
            ("states of trainings", report.scratch),
            ("trash", report.litter),
        ] {
            if amount.count > 0 {
                page.line(format!(
                    "{what}: {would} {}",
                    human_bytes(amount.bytes as f64)
                ));
            }
        }
        page
    }
}

/// What is going to be freed, before that begins.
fn announcement(plan: &GcReport) -> Option<String> {
    let freed = plan.total().freed;
    let bytes = freed.bytes + plan.scratch.bytes;
    if bytes == 0 {
        return None;
    }
    Some(format!(
        "freeing {}: {} objects, {} states of trainings; {} runs are dropped",
        human_bytes(bytes as f64),
        freed.count,
        plan.scratch.count,
        plan.runs_dropped.len()
    ))
}

fn as_json(report: &GcReport, dry_run: bool) -> Value {
    let amount = |a: Amount| json!({"objects": a.count, "bytes": a.bytes});
    let both = |a: &StageAmount| json!({"kept": amount(a.kept), "freed": amount(a.freed)});
    let stages = report.stages.iter();
    let stages = stages.map(|(name, a)| of_stage(name, both(a)));
    json!({
        "event": "gc",
        "dry_run": dry_run,
        "stages": stages.collect::<Vec<_>>(),
        "shared": both(&report.shared),
        "other": both(&report.other),
        "total": both(&report.total()),
        "young": amount(report.young),
        "runs_kept": report.runs_kept,
        "pinned": report.pinned,
        "runs_dropped": report.runs_dropped,
        "runs_unreadable": report.runs_unreadable,
        "exceeds": report.exceeds,
        "records": report.records,
        "scratch": amount(report.scratch),
        "litter": amount(report.litter),
    })
}

/// Reads a size: digits, then B, kB, MB, GB, TB or KiB, MiB, GiB, TiB. A number without a unit is
/// refused: who means 20 GB and gets 20 bytes loses the cache.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: expected for example 500MB, 20GB or 4GiB");
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    if unit.is_empty() {
        return Err(format!(
            "`{text}` has no unit: expected for example {text}GB, or {text}B for bytes"
        ));
    }
    let (name, base) = match unit.strip_suffix("ib") {
        Some(prefix) => (prefix, 1024_f64),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1000.0),
    };
    let power = ["", "k", "m", "g", "t"]
        .iter()
        .position(|prefix| *prefix == name)
        .ok_or_else(wrong)?;
    let bytes = number * base.powi(i32::try_from(power).unwrap_or(0));
    // Larger than any disk, `as` saturates.
    Ok(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_with_their_units() {
        let rows = [
            ("0", None),
            ("20", None),
            ("1.5", None),
            ("0B", Some(0)),
            ("1500 b", Some(1500)),
            ("20GB", Some(20_000_000_000)),
            ("1.5 kB", Some(1500)),
            ("4GiB", Some(4 << 30)),
            ("2g", Some(2_000_000_000)),
            ("", None),
            ("GB", None),
            ("1.2.3MB", None),
            ("3 apples", None),
            ("-1", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }
}
