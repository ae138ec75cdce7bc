//! `pipeline verify`: is everything there, and is it what it was?

use clap::Args;
use engine::human_bytes;
use engine::store::{Damage, Fault, User, VerifyOptions, VerifyReport};
use serde_json::{Value, json};
use stage_core::Cancel;
use stage_core::text::of_name;

use super::options::Global;
use super::options::on_interrupt;
use crate::outcome::{FAILED, Failure, Outcome, print, print_json};
use crate::ui::page::Page;

/// Read everything in the cache again and compare it with its hashes; changes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 if all is well, 1 if something is damaged or missing.

Examples:
  pipeline verify                 everything
  pipeline verify --subset 3/30   the third of thirty parts: one a day covers all in a month")]
pub(crate) struct Verify {
    /// Only the Nth of T parts of the objects; T runs cover all
    #[arg(long, value_name = "N/T", value_parser = subset)]
    subset: Option<(u64, u64)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let store = global.store()?;
        let cancel = Cancel::default();
        on_interrupt(&cancel);
        store.cancel_with(&cancel);
        let report = store.verify(&VerifyOptions {
            subset: self.subset,
            cancel: &cancel,
            on_bytes: &|_| {},
        })?;
        if self.json {
            print_json(&(as_json(&report).to_string() + "\n"))?;
        } else {
            print(text(&report))?;
        }
        if report.is_clean() {
            Ok(())
        } else {
            Err(Failure::Code(FAILED))
        }
    }
}

fn subset(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/');
    let numbers = parts.and_then(|(n, t)| Some((n.parse().ok()?, t.parse().ok()?)));
    match numbers {
        Some((n, t)) if (1..=t).contains(&n) => Ok((n, t)),
        _ => Err(format!(
            "`{text}` is no part: expected N/T with N from 1 to T, as 3/30"
        )),
    }
}

/// What was found, for people.
pub(super) fn text(report: &VerifyReport) -> Page {
    let mut page = Page::default();
    for damage in &report.damage {
        page.line(line(damage));
        for user in &damage.users {
            page.line(format!("    {}", name(user)));
        }
        if damage.more_users > 0 {
            page.line(format!("    … and {} more", damage.more_users));
        }
    }
    for (commit, detail) in &report.commits {
        page.line(format!("damaged   commit {commit}: {detail}"));
    }
    if let Some(detail) = &report.index {
        page.line(format!("damaged   index: {detail}"));
    }
    for path in &report.strays {
        page.line(format!("stray     {}", of_name(path)));
    }
    page.line(format!(
        "{} objects verified, {}",
        report.checked.count,
        human_bytes(report.checked.bytes as f64)
    ));
    page.line(if report.is_clean() {
        "all is well"
    } else {
        "`pipeline repair` makes it again"
    });
    page
}

fn line(damage: &Damage) -> String {
    let object = damage.digest.short();
    let unused = if damage.users.is_empty() {
        "; nothing needs it"
    } else {
        ""
    };
    match &damage.fault {
        Fault::Missing => format!("missing   object {object}"),
        Fault::Damaged(detail) => format!("damaged   object {object}: {detail}{unused}"),
        Fault::Unreadable(detail) => {
            format!("unreadable object {object}: {detail}{unused}")
        }
    }
}

/// `featurize song.flac: frames.parquet`.
pub(super) fn name(user: &User) -> String {
    let item = if user.item.is_empty() {
        String::new()
    } else {
        format!(" {}", user.item)
    };
    format!("{}{item}: {}", user.stage, user.file)
}

/// What was found, for programs.
pub(super) fn as_json(report: &VerifyReport) -> Value {
    let damage = report.damage.iter().map(|damage| {
        let (fault, detail) = match &damage.fault {
            Fault::Missing => ("missing", None),
            Fault::Damaged(detail) => ("damaged", Some(detail)),
            Fault::Unreadable(detail) => ("unreadable", Some(detail)),
        };
        json!({
            "object": damage.digest,
            "fault": fault,
            "detail": detail,
            "users": damage.users.iter().map(user_json).collect::<Vec<_>>(),
            "more_users": damage.more_users,
        })
    });
    let commits = report.commits.iter();
    json!({
        "event": "verify",
        "clean": report.is_clean(),
        "objects": report.checked.count,
        "bytes": report.checked.bytes,
        "damage": damage.collect::<Vec<_>>(),
        "commits": commits
            .map(|(name, detail)| json!({"commit": name, "detail": detail}))
            .collect::<Vec<_>>(),
        "index": report.index,
        "strays": report.strays.iter().map(of_name).collect::<Vec<_>>(),
    })
}

pub(super) fn user_json(user: &User) -> Value {
    json!({
        "pipeline": user.pipeline,
        "stage": user.stage,
        "part": user.part,
        "item": user.item,
        "file": user.file,
    })
}

#[cfg(test)]
mod tests {
    use super::subset;

    #[test]
    fn parts_are_counted_from_one() {
        let rows = [
            ("1/1", Some((1, 1))),
            ("3/30", Some((3, 30))),
            ("0/3", None),
            ("4/3", None),
            ("3", None),
            ("a/b", None),
        ];
        for (text, part) in rows {
            assert_eq!(subset(text).ok(), part, "{text}");
        }
    }
}
