//! `pipeline doctor`: what this machine has, and what is missing.

use std::path::Path;
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};
use stage_core::text::of_name;

use super::options;
use super::options::Global;
use crate::outcome::{Outcome, print, print_json};
use crate::ui::page::Page;

/// Check what this machine has: worker executables, libtorch, devices, cache
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pipeline doctor")]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let report = json!({
            "version": options::VERSION,
            "machine_class": stage_core::machine_class(),
            "threads": std::thread::available_parallelism().map_or(1, usize::from),
            "cache": cache(global),
            "torch": torch(),
        });
        if self.json {
            print_json(&format!("{report}\n"))
        } else {
            print(text(&report))
        }
    }
}

fn cache(global: &Global) -> Value {
    let dir = global.cache_dir(Path::new("."));
    if !dir.exists() {
        return json!({"path": of_name(dir), "state": "not there yet: the first run makes it"});
    }
    let options = engine::store::StoreOptions::new(|_| {});
    match engine::store::Store::open(&dir, options) {
        Ok(store) => json!({
            "path": of_name(&dir),
            "state": "usable",
            "free_bytes": store.available_space().ok(),
        }),
        Err(error) => json!({"path": of_name(dir), "state": engine::chain(&error)}),
    }
}

/// Asks `pipeline-torch` for its own report.
fn torch() -> Value {
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join("pipeline-torch")));
    let Some(program) = program else {
        return json!({"state": "the path of this program is unknown"});
    };
    if !program.exists() {
        return json!({
            "state": format!("`{}` is not there: train and predict cannot run; `cargo xtask demo` builds it", of_name(&program)),
        });
    }
    let output = Command::new(&program).arg("doctor").output();
    match output {
        Ok(output) if output.status.success() => serde_json::from_slice(&output.stdout)
            .unwrap_or_else(
                |_| json!({"state": format!("`{}` is of another build", of_name(&program))}),
            ),
        Ok(output) => json!({
            "state": format!("`{}` does not start", of_name(&program)),
            "detail": String::from_utf8_lossy(&output.stderr).trim(),
        }),
        Err(error) => json!({"state": format!("`{}` does not start: {error}", of_name(&program))}),
    }
}

fn text(report: &Value) -> Page {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut page = Page::default();
    for (key, value) in report.as_object().into_iter().flatten() {
        let Value::Object(map) = value else {
            page.line(format!("{key}: {}", plain(value)));
            continue;
        };
        page.line(format!("{key}:"));
        for (key, value) in map {
            match value {
                Value::Array(devices) => {
                    for device in devices {
                        let mark = if device["usable"] == true {
                            "yes"
                        } else {
                            "no"
                        };
                        page.line(format!(
                            "  {:5} {mark:3}  {}",
                            plain(&device["device"]),
                            plain(&device["reason"])
                        ));
                    }
                }
                value => page.line(format!("  {key}: {}", plain(value))),
            }
        }
    }
    page
}
