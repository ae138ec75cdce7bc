//! `pipeline models`: what can be trained.

use std::fmt::Write;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::outcome::{Outcome, print, print_json};
use crate::stages;

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
        let mut text = String::new();
        for model in models {
            let _ = writeln!(text, "{} ({}): {}", model.name, model.task, model.about);
            table(&mut text, "parameters", &(model.defaults)());
            table(&mut text, "training", &(model.training)());
        }
        text.push_str("The parameters of training are in docs/pipeline-toml.md.\n");
        print(text)
    }
}

/// A line for each parameter: name and default.
fn table(text: &mut String, title: &str, params: &Value) {
    let empty = Map::new();
    let params = params.as_object().unwrap_or(&empty);
    if params.is_empty() {
        return;
    }
    let width = params.keys().map(String::len).max().unwrap_or(0);
    let _ = writeln!(text, "  {title}");
    for (name, default) in params {
        let _ = writeln!(text, "    {name:<width$}  {default}");
    }
}
