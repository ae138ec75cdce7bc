//! Text for people, line by line.

use std::fmt::Write;

use stage_core::text::visible;

/// Lines of text for a terminal.
///
/// Everything that the program shows to people goes through here. Names of files, titles of scores
/// and reasons of failures come from outside; whatever they hold, a line ends where the program
/// ends it, and a terminal obeys nothing in it ([`visible`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page(String);

impl Page {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}", visible(line.as_ref()));
    }

    /// Adds the lines of another page.
    pub(crate) fn append(&mut self, page: Self) {
        self.0.push_str(&page.0);
    }

    /// The lines, each with its end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One line; it may be written with its end.
impl<T: AsRef<str>> From<T> for Page {
    fn from(line: T) -> Self {
        let line = line.as_ref();
        let mut page = Self::default();
        page.line(line.strip_suffix('\n').unwrap_or(line));
        page
    }
}

/// JSON as it may go to a terminal: what a terminal obeys stands inside of strings only, and there
/// it is escaped, so that a program reads the very same.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !stage_core::text::is_obeyed(c) {
            safe.push(c);
        } else {
            // All of them lie in the basic plane.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        let mut page = Page::from("one\n");
        page.line("two\nall is well\n\u{1b}[2J");
        page.append("three".into());
        assert_eq!(
            page.as_str(),
            "one\ntwo\\x0Aall is well\\x0A\\x1B[2J\nthree\n"
        );
        assert_eq!(Page::from("").as_str(), "\n");
    }

    #[test]
    fn json_reads_back_as_it_was() {
        let value = serde_json::json!({"a\u{9b}": "b\u{202e}\n\u{7f}é\u{2028}"});
        let text = json(&(value.to_string() + "\n"));
        assert!(
            !text.trim_end().contains(stage_core::text::is_obeyed),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
