//! An error in what the user wrote: where, and what would be right.

use std::fmt;
use std::ops::Range;

use stage_core::text::visible;

/// A text that the user wrote, for pointing into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// How it is called: `pipeline.toml`, `--set`.
    pub name: String,
    /// The text itself.
    pub text: String,
}

/// What is wrong with a text of the user's, where, and what to do.
///
/// Shown as
///
/// ```text
/// pipeline.toml, line 14: unknown parameter `hopp` of stage `featurize`
///    |
/// 14 | hopp = 256
///    | ^^^^
///    hint: did you mean `hop`?
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    message: String,
    place: Option<Box<Place>>,
    hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    name: String,
    /// Line from 1, its text, column from 0 and width of the caret in characters.
    line: usize,
    text: String,
    column: usize,
    width: usize,
    numbered: bool,
}

impl Diagnostic {
    /// An error about the whole text.
    ///
    /// The message may repeat what was written, which may hold line breaks and worse.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: visible(&message.into()).into_owned(),
            place: None,
            hint: None,
        }
    }

    /// The same, pointing at the bytes `span` of `origin`.
    #[must_use]
    pub fn at(mut self, origin: &Origin, span: Range<usize>) -> Self {
        let text = &origin.text;
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let mut end = span.end.clamp(start, line_end);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.place = Some(Box::new(Place {
            name: origin.name.clone(),
            line: text[..start].matches('\n').count() + 1,
            text: text[line_start..line_end].trim_end().to_owned(),
            column: text[line_start..start].chars().count(),
            width: text[start..end].chars().count().max(1),
            numbered: text.contains('\n'),
        }));
        self
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(visible(&hint.into()).into_owned());
        self
    }

    /// The same, with the nearest of `names` to the wrong name `got` as its hint, or the list of
    /// them when none is near.
    #[must_use]
    pub fn nearest<'a>(self, got: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        match nearest(got, &names) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None if names.is_empty() => self,
            None => self.hint(format!("there are: {}", names.join(", "))),
        }
    }
}

/// The nearest name by Damerau-Levenshtein distance, if it is near at all.
pub fn nearest<'a>(got: &str, names: &[&'a str]) -> Option<&'a str> {
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(got, name), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            f.write_str(&self.message)?;
            return match &self.hint {
                Some(hint) => write!(f, "\n   hint: {hint}"),
                None => Ok(()),
            };
        };
        if place.numbered {
            writeln!(f, "{}, line {}: {}", place.name, place.line, self.message)?;
        } else {
            writeln!(f, "{}: {}", place.name, self.message)?;
        }
        let number = if place.numbered {
            place.line.to_string()
        } else {
            String::new()
        };
        let gutter = " ".repeat(number.len());
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", place.text)?;
        write!(
            f,
            "{gutter} | {}{}",
            " ".repeat(place.column),
            "^".repeat(place.width)
        )?;
        match &self.hint {
            Some(hint) => write!(f, "\n   hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_bytes() {
        let origin = Origin {
            name: "pipeline.toml".into(),
            text: "a = 1\nhopp = 256\n".into(),
        };
        let shown = Diagnostic::new("unknown parameter `hopp`")
            .at(&origin, 6..10)
            .nearest("hopp", ["n_fft", "hop"])
            .to_string();
        assert_eq!(
            shown,
            "pipeline.toml, line 2: unknown parameter `hopp`\n  |\n2 | hopp = 256\n  | ^^^^\n   hint: did you mean `hop`?"
        );
    }

    #[test]
    fn spans_out_of_range_do_not_panic() {
        let origin = Origin {
            name: "x".into(),
            text: "é\n".into(),
        };
        for span in [0..1, 1..2, 0..99, 99..100] {
            let _ = Diagnostic::new("m").at(&origin, span).to_string();
        }
    }
}
