//! `pipeline models`: what can be trained.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::outcome::{Outcome, print, print_json};
use crate::stages;
use crate::ui::page::Page;

/// List the models that can be trained, with their parameters and defaults
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline models
  pipeline run train --set train.model=fft-frame-lstm --set train.hidden_size=256")]
pub(crate) struct Models {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Models {
    pub(crate) fn execute(self) -> Outcome {
        let models = stages::models();
        if self.json {
            let models: Vec<Value> = models
                .iter()
                .map(|model| {
                    json!({
                        "name": model.name,
                        "task": model.task.to_string(),
                        "about": model.about,
                        "parameters": (model.defaults)(),
                        "training": (model.training)(),
                    })
                })
                .collect();
            return print_json(&format!("{}\n", Value::from(models)));
        }
        let mut page = Page::default();
        for model in models {
            page.line(format!("{} ({}): {}", model.name, model.task, model.about));
            add_table(&mut page, "parameters", &(model.defaults)());
            add_table(&mut page, "training", &(model.training)());
        }
        page.line("Parameters of training: docs/pipeline-toml.md");
        print(page)
    }
}

/// A line for each parameter: name and default.
fn add_table(page: &mut Page, title: &str, params: &Value) {
    let empty = Map::new();
    let params = params.as_object().unwrap_or(&empty);
    if params.is_empty() {
        return;
    }
    let width = params.keys().map(String::len).max().unwrap_or(0);
    page.line(format!("  {title}"));
    for (name, default) in params {
        page.line(format!("    {name:<width$}  {default}"));
    }
}
