//! `pipeline cache`: what the cache holds.

use clap::Args;
use engine::human_bytes;
use engine::store::Amount;
use serde_json::json;
use stage_core::text::of_name;

use super::options::Global;
use crate::outcome::{Outcome, print, print_json};
use crate::ui::json::of_stage;
use crate::ui::text::{Table, count, several_pipelines, size, stage_label};

/// Show what the cache holds, by stage
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pipeline cache")]
pub(crate) struct Cache {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Cache {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let store = global.store()?;
        let usage = store.usage()?;
        let parts = [
            ("shared", usage.shared),
            ("other", usage.other),
            ("scratch", usage.scratch),
            ("trash", usage.trash),
            ("tmp", usage.tmp),
            ("commits", usage.commits),
            ("index", usage.index),
        ];
        if self.json {
            let amount = |a: &Amount| json!({"files": a.count, "bytes": a.bytes});
            let stages = usage.stages.iter();
            let stages = stages.map(|(name, a)| of_stage(name, amount(a)));
            let mut value = json!({
                "event": "cache",
                "path": of_name(store.root()),
                "stages": stages.collect::<Vec<_>>(),
                "total": amount(&usage.total()),
                "runs": usage.runs,
                "pinned": usage.pinned,
                "free_bytes": usage.free,
            });
            for (name, part) in &parts {
                value[*name] = amount(part);
            }
            return print_json(&(value.to_string() + "\n"));
        }
        let mut table = Table::new(&["", "files", "size"]);
        let several = several_pipelines(usage.stages.keys());
        let mut row = |name: String, amount: &Amount| {
            table.row(vec![name, count(amount.count), size(*amount)]);
        };
        for (name, amount) in &usage.stages {
            row(stage_label(name, several), amount);
        }
        for (name, part) in &parts {
            let about = match *name {
                "shared" => "(shared by stages)",
                "other" => "(of no stage)",
                "scratch" => "(states of trainings)",
                "trash" => "(trash)",
                "tmp" => "(temporary)",
                "commits" => "(records)",
                _ => "(index)",
            };
            if part.count > 0 {
                row(about.to_owned(), part);
            }
        }
        row("all".to_owned(), &usage.total());
        let mut page = table.render();
        page.line(format!(
            "{} runs, {} pinned; {} free",
            usage.runs,
            usage.pinned,
            human_bytes(usage.free as f64)
        ));
        print(page)
    }
}
