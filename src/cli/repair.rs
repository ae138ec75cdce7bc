//! `pipeline repair`: makes again what is damaged or missing, and only that.

use clap::Args;
use engine::store::VerifyOptions;
use engine::{Ending, Observer, Repair as Done, RunEvent};
use serde_json::json;
use stage_core::Cancel;

use super::options::Global;
use super::options::{Work, on_interrupt};
use super::verify;
use crate::outcome::{Failure, INTERRUPTED, Outcome, print, print_json, print_warning};
use crate::ui::page::Page;

/// Verify the cache, and make again what is damaged or missing
#[derive(Debug, Args)]
#[command(after_help = "\
What pipeline.toml no longer describes cannot be made again: it is forgotten, and done anew when it
is asked for.

Example:
  pipeline repair")]
pub(crate) struct Repair {
    #[command(flatten)]
    work: Work,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Says what is made again.
struct Lines {
    json: bool,
}

impl Observer for Lines {
    fn observe(&self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Ended {
                who,
                ending: Ending::Executed,
                ..
            } if !self.json => {
                // A closed pipe stops nothing: the work is done all the same.
                let _ = print(format!("made again: {} {}", who.stage, who.item));
            }
            RunEvent::Ended {
                who,
                ending: Ending::Failed,
                reason,
                remembered: false,
                ..
            } => print_warning(&format!(
                "{} {}: {}",
                who.stage,
                who.item,
                reason.unwrap_or_default()
            )),
            RunEvent::Warning(text) => print_warning(text),
            _ => {}
        }
    }
}

impl Repair {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let project = global.project(&[])?;
        let cancel = Cancel::default();
        on_interrupt(&cancel);
        project.store.cancel_with(&cancel);
        let request = self.work.request();
        let options = VerifyOptions {
            subset: None,
            cancel: &cancel,
            on_bytes: &|_| {},
        };
        let done = engine::repair(&project, request, &options, &Lines { json: self.json })?;
        if self.json {
            let users = done.forgotten.iter().map(verify::user_json);
            let value = json!({
                "event": "repair",
                "found": verify::as_json(&done.found),
                "executed": done.executed,
                "forgotten": users.collect::<Vec<_>>(),
            });
            print_json(&(value.to_string() + "\n"))?;
        } else {
            print(text(&done))?;
        }
        if cancel.is_set() {
            return Err(Failure::Code(INTERRUPTED));
        }
        Ok(())
    }
}

fn text(done: &Done) -> Page {
    if done.found.is_clean() && done.found.strays.is_empty() {
        return verify::text(&done.found);
    }
    let mut page = Page::default();
    for user in &done.forgotten {
        page.line(format!("forgotten: {}", verify::name(user)));
    }
    page.line(format!(
        "{} damaged or missing objects, {} damaged commits, {} strays: {} actions done again, {} results forgotten",
        done.found.damage.len(),
        done.found.commits.len(),
        done.found.strays.len(),
        done.executed,
        done.forgotten.len()
    ));
    if !done.found.commits.is_empty() {
        page.line("what the damaged commits recorded is done again by the next run");
    }
    page
}
