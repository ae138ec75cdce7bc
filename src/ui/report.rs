//! What is said at the end of a run.

use std::fmt::Write;

use engine::{FileStatus, Summary, Trouble, Verdict, human_seconds};

use super::page::Page;
use super::text::{Table, count};

/// A test of a file's status.
type Is = fn(&FileStatus) -> bool;

/// The table of what was done, and what became of the files.
pub(super) fn summary(summary: &Summary) -> Page {
    let mut table = Table::new(&[
        "stage", "executed", "cached", "failed", "not done", "took", "saved",
    ]);
    for stage in &summary.stages {
        let time = |seconds: f64| {
            if seconds == 0.0 {
                "–".to_owned()
            } else {
                human_seconds(seconds)
            }
        };
        table.row(vec![
            stage.stage.clone(),
            count(stage.executed),
            count(stage.cached),
            count(stage.failed),
            count(stage.not_done),
            time(stage.seconds),
            time(stage.saved),
        ]);
    }
    let mut page = table.render();
    for (source, intake) in &summary.intake {
        let count = |is: Is| intake.others.iter().filter(|(_, s)| is(s)).count() as u64;
        let tell = [
            ("used", intake.used),
            ("cached", intake.cached),
            (
                "duplicates",
                count(|s| matches!(s, FileStatus::Duplicate { .. })),
            ),
            (
                "ignored (no stage takes them)",
                count(|s| matches!(s, FileStatus::Ignored)),
            ),
            (
                "folders left out",
                count(|s| matches!(s, FileStatus::LeftOut { .. })),
            ),
            ("failed", count(|s| matches!(s, FileStatus::Failed { .. }))),
            ("not reached", count(|s| matches!(s, FileStatus::Pending))),
        ];
        let mut line = format!("{source}: {} files", intake.files());
        for (name, n) in tell.iter().filter(|(_, n)| *n > 0) {
            let _ = write!(line, ", {n} {name}");
        }
        page.line(line);
        for (file, status) in &intake.others {
            match status {
                FileStatus::Duplicate { of } => {
                    page.line(format!("  duplicate  {file}  (same content as {of})"));
                }
                FileStatus::LeftOut { reason } => {
                    page.line(format!("  left out   {file}  ({reason})"));
                }
                FileStatus::Ignored => page.line(format!("  ignored    {file}")),
                _ => {}
            }
        }
    }
    for left in &summary.left_out {
        page.line(format!(
            "left out: {} (source {} is not bound)",
            left.stage,
            left.unbound.join(", ")
        ));
    }
    let ending = match summary.verdict {
        Verdict::Done => "done",
        Verdict::Failed => "failed",
        Verdict::Interrupted => "interrupted; what was finished is kept",
    };
    page.line(format!("{ending} in {}", human_seconds(summary.seconds)));
    page
}

/// What failed, on standard error.
pub(super) fn troubles(summary: &Summary) {
    let mut page = Page::default();
    for (source, intake) in &summary.intake {
        for (file, status) in &intake.others {
            if let FileStatus::Failed {
                stage: None,
                reason,
            } = status
            {
                page.line(format!("failed: {file} (source {source}): {reason}"));
            }
        }
    }
    for trouble in &summary.troubles {
        page.line(line(trouble));
    }
    crate::outcome::print_stderr(&page);
}

fn line(trouble: &Trouble) -> String {
    let Trouble {
        stage,
        item,
        reason,
        ..
    } = trouble;
    if trouble.blocked {
        return format!("not done: stage `{stage}`: {reason}");
    }
    let again = if trouble.remembered {
        " (remembered; --retry-failed tries again)"
    } else {
        ""
    };
    if item.is_empty() {
        format!("failed: stage `{stage}`: {reason}{again}")
    } else {
        format!("failed: {item} (stage {stage}): {reason}{again}")
    }
}
