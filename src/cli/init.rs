//! `pipeline init`: writes a commented pipeline.toml.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use engine::fs::{RealFs, write_atomic};
use serde_json::Value;
use stage_core::text::of_name;

use super::options::FILE;
use crate::outcome::{Failure, Outcome, print};
use crate::ui::page::Page;

/// Write a commented pipeline.toml for a folder of recordings and scores
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline init --corpus ~/music
  pipeline init nocturnes --corpus ~/music/nocturnes")]
pub(crate) struct Init {
    /// Folder of the new project; made if it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Folder of the recordings and scores to learn from
    #[arg(long, value_name = "DIR")]
    corpus: PathBuf,
}

impl Init {
    pub(crate) fn execute(self) -> Outcome {
        let file = self.dir.join(FILE);
        if file.exists() {
            return Err(Failure::Usage(
                format!("`{}` is there already", of_name(&file)),
                Some("edit it, or name another folder: pipeline init DIR --corpus …".to_owned()),
            ));
        }
        if !self.corpus.exists() {
            return Err(Failure::Usage(
                format!("there is no corpus at `{}`", of_name(&self.corpus)),
                None,
            ));
        }
        std::fs::create_dir_all(&self.dir)?;
        // A corpus inside the project stays relative, so that the project can move with it.
        let corpus = std::path::absolute(&self.corpus)?;
        let home = std::path::absolute(&self.dir)?;
        let corpus = match corpus.strip_prefix(&home) {
            Ok(within) if within.as_os_str().is_empty() => PathBuf::from("."),
            Ok(within) => within.to_owned(),
            Err(_) => corpus,
        };
        write_atomic(&RealFs, &file, text(&corpus).as_bytes())?;
        let place = if self.dir == Path::new(".") {
            String::new()
        } else {
            format!(" -C {}", of_name(&self.dir))
        };
        let mut page = Page::from(format!("{} written. Next:", of_name(&file)));
        page.line(format!("  pipeline{place} run train"));
        print(page)
    }
}

fn text(corpus: &Path) -> String {
    let mut text = String::from(
        "# A music model, from a folder of recordings and scores to what it makes of a prompt.\n\
         #\n\
         #   pipeline run train\n\
         #   pipeline run predict --prompt x.musicxml\n\
         #\n\
         # Parameters in comments show their defaults. Changing one re-does what depends on it, no more.\n\n",
    );
    let _ = write!(
        text,
        "[sources.corpus]\n\
         path = {}\n\
         # include = [\"**/*.flac\"]   # globs; everything that a stage can read by default\n\
         # exclude = [\"drafts/**\"]\n\
         # on_bad = \"fail\"           # \"warn\" goes on without files that cannot be used\n\n\
         # Bound on the command line: --prompt FILE\n\
         [sources.prompt]\n",
        toml_string(&of_name(corpus)),
    );
    let registry = crate::stages::registry();
    for crate::stages::Template {
        kind,
        inputs,
        about,
    } in crate::stages::TEMPLATE
    {
        let _ = write!(text, "\n# {about}\n[stages.{kind}]\ninputs = {inputs}\n");
        let defaults = registry.get(kind).map(stage_core::KindEntry::defaults);
        for (key, value) in defaults.iter().filter_map(Value::as_object).flatten() {
            let _ = match toml_value(value) {
                Some(value) => writeln!(text, "# {key} = {value}"),
                None => writeln!(text, "# {key} is not set"),
            };
        }
    }
    text
}

fn toml_string(text: &str) -> String {
    // A basic string of TOML is one of JSON, but for the escape of U+007F, which paths do not hold.
    Value::from(text).to_string()
}

/// A JSON value as TOML; nothing for what TOML has no word for.
fn toml_value(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Array(list) => {
            let list: Option<Vec<_>> = list.iter().map(toml_value).collect();
            Some(format!("[{}]", list?.join(", ")))
        }
        other => Some(other.to_string()),
    }
}
