//! What is said at the end of a run.

use std::fmt::Write;
use std::io::Write as _;

use engine::{FileStatus, Summary, Trouble, Verdict, human_seconds};

use super::text::{Table, count};

/// A test of a file's status.
type Is = fn(&FileStatus) -> bool;

/// The table of what was done, and what became of the files.
pub(super) fn summary(summary: &Summary) -> String {
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
    let mut text = table.render();
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
        text.push_str(&line);
        text.push('\n');
        for (file, status) in &intake.others {
            match status {
                FileStatus::Duplicate { of } => {
                    let _ = writeln!(text, "  duplicate  {file}  (same content as {of})");
                }
                FileStatus::Ignored => {
                    let _ = writeln!(text, "  ignored    {file}");
                }
                FileStatus::LeftOut { reason } => {
                    let _ = writeln!(text, "  left out   {file}  ({reason})");
                }
                _ => {}
            }
        }
    }
    for left in &summary.left_out {
        let _ = writeln!(
            text,
            "left out: {} (source {} is not bound)",
            left.stage,
            left.unbound.join(", ")
        );
    }
    let ending = match summary.verdict {
        Verdict::Done => "done",
        Verdict::Failed => "failed",
        Verdict::Interrupted => "interrupted; what was finished is kept",
    };
    let _ = writeln!(text, "{ending} in {}", human_seconds(summary.seconds));
    text
}

/// What failed, on standard error.
pub(super) fn troubles(summary: &Summary) {
    let mut text = String::new();
    for (source, intake) in &summary.intake {
        for (file, status) in &intake.others {
            if let FileStatus::Failed {
                stage: None,
                reason,
            } = status
            {
                let _ = writeln!(text, "failed: {file} (source {source}): {reason}");
            }
        }
    }
    for trouble in &summary.troubles {
        text.push_str(&line(trouble));
    }
    // Nobody is left to be told of a failure to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn line(trouble: &Trouble) -> String {
    let Trouble {
        stage,
        item,
        reason,
        ..
    } = trouble;
    if trouble.blocked {
        return format!("not done: stage `{stage}`: {reason}\n");
    }
    let again = if trouble.remembered {
        " (remembered; --retry-failed tries again)"
    } else {
        ""
    };
    if item.is_empty() {
        format!("failed: stage `{stage}`: {reason}{again}\n")
    } else {
        format!("failed: {item} (stage {stage}): {reason}{again}\n")
    }
}
