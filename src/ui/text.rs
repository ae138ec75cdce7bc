//! Texts for people: tables, plans, states.

use std::collections::BTreeMap;

use engine::store::{Amount, StageName};
use engine::{Cause, Forecast, Session, Why, human_bytes, human_seconds};
use stage_core::text::visible;

use super::page::Page;

/// Columns that line up; numbers to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this header.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|s| (*s).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: Vec<String>) {
        // Before columns are measured: what is shown is what takes the room.
        let cells = row.iter().map(|cell| visible(cell).into_owned());
        self.rows.push(cells.collect());
    }

    /// The text, a line per row.
    pub(crate) fn render(&self) -> Page {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| {
            let widths = self
                .rows
                .iter()
                .map(|row| cell(row, column).chars().count());
            widths.max().unwrap_or(0)
        };
        let numeric = |column| {
            let mut cells = self.rows.iter().skip(1).map(|row| cell(row, column));
            cells.all(|c| c.starts_with(|c: char| c.is_ascii_digit()) || c.is_empty() || c == "–")
        };
        let layout: Vec<(usize, bool)> = (0..columns).map(|c| (width(c), numeric(c))).collect();
        let mut page = Page::default();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (width, numeric)) in layout.iter().enumerate() {
                let cell = cell(row, column);
                let pad = " ".repeat(width - cell.chars().count());
                if *numeric {
                    line.push_str(&pad);
                }
                line.push_str(&cell);
                if !numeric {
                    line.push_str(&pad);
                }
                line.push_str("  ");
            }
            page.line(line.trim_end());
        }
        page
    }
}

/// Whether stages of more than one pipeline are among these.
pub(crate) fn several_pipelines<'a>(names: impl Iterator<Item = &'a StageName>) -> bool {
    let mut pipelines: Vec<&str> = names.map(|name| name.pipeline.as_str()).collect();
    pipelines.dedup();
    pipelines.len() > 1
}

/// Name of a stage in a table: with its pipeline if there are `several`.
pub(crate) fn stage_label(name: &StageName, several: bool) -> String {
    if several {
        format!("{}: {}", name.pipeline, name.stage)
    } else {
        name.stage.clone()
    }
}

/// A count, or a dash for none.
pub(crate) fn count(n: u64) -> String {
    if n == 0 {
        "–".to_owned()
    } else {
        n.to_string()
    }
}

/// The bytes of an amount, or a dash if there is nothing.
pub(crate) fn size(amount: Amount) -> String {
    match amount.count {
        0 => "–".to_owned(),
        _ => human_bytes(amount.bytes as f64),
    }
}

/// How long ago a time in milliseconds since 1970 was.
pub(crate) fn ago(millis: u64) -> String {
    let seconds = engine::store::now_millis().saturating_sub(millis) / 1000;
    match seconds {
        0..90 => format!("{seconds} s ago"),
        90..5400 => format!("{} min ago", seconds / 60),
        5400..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The table of `status`.
pub(crate) fn status(forecast: &Forecast, why: &[Why], session: &Session<'_>) -> Page {
    let mut table = Table::new(&["stage", "fresh", "stale", "failed", "blocked", "to do"]);
    for stage in &forecast.stages {
        let to_do = stage.stale + stage.waiting;
        let history = if stage.from_history { "" } else { "?" };
        table.row(vec![
            stage.stage.clone(),
            count(stage.fresh),
            count(to_do),
            count(stage.failed),
            count(stage.blocked),
            if to_do == 0 {
                String::new()
            } else {
                let seconds = human_seconds(stage.seconds);
                format!("{seconds}{history}, {}", human_bytes(stage.bytes))
            },
        ]);
    }
    let mut page = table.render();
    left_out(&mut page, session);
    if !why.is_empty() {
        page.line("");
        page.append(reasons(why));
    }
    page
}

/// The text of `run --dry-run`.
pub(crate) fn plan(forecast: &Forecast, why: &[Why], session: &Session<'_>) -> Page {
    let mut page = status(forecast, why, session);
    if forecast.to_do() == 0 {
        page.line("nothing to do");
    } else {
        page.line(format!(
            "{} actions to do at most: {}, {} to write",
            forecast.to_do(),
            human_seconds(forecast.seconds),
            human_bytes(forecast.bytes)
        ));
    }
    page
}

fn left_out(page: &mut Page, session: &Session<'_>) {
    for left in &session.left_out {
        page.line(format!(
            "left out: {} (source {} is not bound)",
            left.stage,
            left.unbound.join(", ")
        ));
    }
}

/// At most so many items are named one by one for one and the same reason.
const NAMED: usize = 5;

/// Why actions are stale: items with the same reason together.
fn reasons(why: &[Why]) -> Page {
    let mut groups: BTreeMap<(usize, &str, String), Vec<&str>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for one in why {
        if !order.contains(&one.stage.as_str()) {
            order.push(&one.stage);
        }
        let position = order.iter().position(|s| *s == one.stage).unwrap_or(0);
        let key = (position, one.stage.as_str(), cause(&one.cause));
        groups.entry(key).or_default().push(&one.item);
    }
    let mut page = Page::default();
    for ((_, stage, cause), items) in groups {
        let named: Vec<_> = items
            .iter()
            .filter(|item| !item.is_empty())
            .copied()
            .collect();
        match named.as_slice() {
            [] => page.line(format!("{stage}: {cause}")),
            [one] => page.line(format!("{stage} {one}: {cause}")),
            many => {
                page.line(format!("{stage}, {} items: {cause}", many.len()));
                for item in many.iter().take(NAMED) {
                    page.line(format!("    {item}"));
                }
                if many.len() > NAMED {
                    page.line(format!("    … and {} more", many.len() - NAMED));
                }
            }
        }
    }
    page
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::New => "not done yet".to_owned(),
        Cause::Again => "to be done again".to_owned(),
        Cause::Upstream(stages) => format!("waits for {stages}"),
        Cause::Failed(reason) => format!("failed: {reason}"),
        Cause::Blocked(reason) => format!("cannot be done: {reason}"),
        Cause::Changed(changes) => {
            let list = changes
                .iter()
                .map(|c| format!("{} {} → {}", c.what, c.old, c.new));
            list.collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(&["stage", "fresh"]);
        table.row(vec!["decode".into(), "12".into()]);
        table.row(vec!["é".into(), "–".into()]);
        table.row(vec!["a\nb".into(), "3".into()]);
        assert_eq!(
            table.render().as_str(),
            "stage   fresh\ndecode     12\né           –\na\\x0Ab      3\n"
        );
    }
}
