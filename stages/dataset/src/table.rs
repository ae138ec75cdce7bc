//! A table of splits: CSV (RFC 4180) with one column `split` and one or more
//! columns that name files, as published sets such as MAESTRO come with.

use std::collections::BTreeMap;

use shard::Split;

use crate::error::Error;
use crate::split::split_named;

/// Most fields of a line; MAESTRO has 7.
const MAX_FIELDS: usize = 4096;

/// Which split the table gives each file.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Path as written (without `./`) → split.
    paths: BTreeMap<String, Split>,
    /// The same by path from its end (`c.wav/b/a/`), so that those with one ending are neighbours.
    reversed: BTreeMap<String, Split>,
}

impl Table {
    /// Reads a table with a header line.
    ///
    /// The delimiter is the first of `,`, `;` and tab that makes the header
    /// name a column `split` (or `set`, `subset`). Files are named by the
    /// columns `path`, `file`, `filename`, and any that end in `_path`,
    /// `_file` or `_filename`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let no_column = || Error::Table {
            line: 1,
            reason: "the header has no column `split` (or `set`, `subset`)".to_owned(),
        };
        let header = text.lines().next().unwrap_or_default();
        let delimiter = [',', ';', '\t'].into_iter().find(|&delimiter| {
            header
                .split(delimiter)
                .any(|name| is_split(name.trim().trim_matches('"')))
        });
        let mut columns: Option<(usize, Vec<usize>)> = None;
        let mut table = Self::default();
        each_record(text, delimiter.ok_or_else(no_column)?, |line, record| {
            let Some((split_at, files)) = &columns else {
                let split_at = record.iter().position(|name| is_split(name));
                let files: Vec<usize> =
                    (0..record.len()).filter(|&i| is_file(&record[i])).collect();
                if files.is_empty() && split_at.is_some() {
                    return Err(Error::Table {
                        line: 1,
                        reason: "the header has no column `path`, `file` or `filename`".to_owned(),
                    });
                }
                columns = Some((split_at.ok_or_else(no_column)?, files));
                return Ok(());
            };
            let error = |reason: String| Error::Table { line, reason };
            let text = record.get(*split_at).map_or("", |text| text.trim());
            let split = split_named(text).ok_or_else(|| {
                error(format!(
                    "`{text}` is no split, expected train, valid or test"
                ))
            })?;
            for path in files.iter().filter_map(|&i| record.get(i)) {
                table.insert(path, split)?;
            }
            Ok(())
        })?;
        if columns.is_none() {
            return Err(no_column());
        }
        Ok(table)
    }

    fn insert(&mut self, path: &str, split: Split) -> Result<(), Error> {
        let path = path.trim().replace('\\', "/");
        let path = path.trim_start_matches("./");
        if path.is_empty() {
            return Ok(());
        }
        match self.paths.insert(path.to_owned(), split) {
            None => {
                self.reversed.insert(reversed(path), split);
                Ok(())
            }
            Some(other) => agree(path, other, split),
        }
    }

    /// The split of the piece at `path`, relative to its source, with `/`: by
    /// the path itself, else by an entry that ends in it or in which it ends.
    pub(crate) fn find(&self, path: &str) -> Result<Split, Error> {
        if let Some(split) = self.paths.get(path) {
            return Ok(*split);
        }
        let end = reversed(path);
        let longer = self.reversed.range(end.clone()..);
        let longer = longer.take_while(|(other, _)| other.starts_with(&end));
        let starts = path.match_indices('/').map(|(slash, _)| slash + 1);
        let shorter = starts.filter_map(|start| self.paths.get(&path[start..]));
        let mut found = None;
        for &split in longer.map(|(_, split)| split).chain(shorter) {
            if let Some(other) = found.replace(split) {
                agree(path, other, split)?;
            }
        }
        found.ok_or_else(|| Error::Unlisted {
            path: path.to_owned(),
        })
    }
}

/// `a/b/c.wav` as `c.wav/b/a/`.
fn reversed(path: &str) -> String {
    path.rsplit('/').flat_map(|part| [part, "/"]).collect()
}

fn agree(path: &str, first: Split, second: Split) -> Result<(), Error> {
    if first == second {
        return Ok(());
    }
    let (first, second) = (first.name(), second.name());
    Err(Error::Ambiguous {
        path: path.to_owned(),
        first,
        second,
    })
}

fn is_split(name: &str) -> bool {
    ["split", "set", "subset"].contains(&name.trim().to_lowercase().as_str())
}

fn is_file(name: &str) -> bool {
    let name = name.trim().to_lowercase();
    ["path", "file", "filename"].iter().any(|&kind| {
        name.strip_suffix(kind)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

/// Splits text into records of fields and hands each over with its line; blank
/// lines are passed over. Only one is held at a time, and a line of nothing but
/// delimiters is refused before its fields fill the memory.
fn each_record(
    text: &str,
    delimiter: char,
    mut each: impl FnMut(usize, &[String]) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut line, mut began) = (1, 1);
    let mut record = Vec::new();
    let mut field = String::new();
    // A field's quotes are open, were closed, or never were.
    let (mut open, mut closed) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' {
            line += 1;
        }
        if open {
            match c {
                '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                '"' => (open, closed) = (false, true),
                c => field.push(c),
            }
        } else if c == delimiter {
            record.push(std::mem::take(&mut field));
            closed = false;
            if record.len() > MAX_FIELDS {
                return Err(Error::Table {
                    line: began,
                    reason: format!("it has more than {MAX_FIELDS} fields"),
                });
            }
        } else if c == '\n' {
            record.push(std::mem::take(&mut field));
            closed = false;
            let done = std::mem::take(&mut record);
            if done.len() > 1 || done.first().is_some_and(|field| !field.trim().is_empty()) {
                each(began, &done)?;
            }
            began = line;
        } else if c == '"' && field.is_empty() && !closed {
            open = true;
        } else if c != '\r' {
            field.push(c);
        }
    }
    if open {
        return Err(Error::Table {
            line: began,
            reason: "a quote is never closed".to_owned(),
        });
    }
    record.push(field);
    if record.len() > 1 || record.first().is_some_and(|field| !field.trim().is_empty()) {
        each(began, &record)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_tables_are_understood() {
        let maestro = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename\n\
            Alban Berg,\"Sonata, \"\"Op. 1\"\"\",train,2018,2018/a.midi,2018/a.wav\r\n\
            Bach,Prelude,validation,2008,2008/b.midi,2008/b.wav\n";
        let plain = "\u{feff}path;split\n./2018/a.wav;Training\n\n2008\\b.wav;dev";
        let tabs = "subset\tfile\ntrain\ta.wav\nVAL\tb.wav\n";
        for text in [maestro, plain, tabs] {
            let table = Table::parse(text).unwrap();
            for path in ["2018/a.wav", "a.wav", "maestro/2018/a.wav"] {
                assert_eq!(table.find(path).unwrap(), Split::Train, "{path} in {text}");
            }
            assert_eq!(table.find("2008/b.wav").unwrap(), Split::Valid);
            assert!(matches!(table.find("c.wav"), Err(Error::Unlisted { .. })));
            assert!(matches!(table.find("xa.wav"), Err(Error::Unlisted { .. })));
        }
    }

    #[test]
    fn bad_tables_say_where() {
        for (text, expected) in [
            ("", "line 1: the header has no column `split`"),
            ("a,b\nc,d", "line 1: the header has no column `split`"),
            ("split,b\nc,d", "line 1: the header has no column `path`"),
            ("split,path\ntrain,\"a\nb\"\nx,c", "line 4: `x` is no split"),
            ("split,path\ntrain,\"a", "line 2: a quote is never closed"),
            (
                "split,path\ntrain,a\ntest,a",
                "has `a` in train and in test",
            ),
        ] {
            let error = Table::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let table = Table::parse("split,path\ntrain,x/a.wav\ntest,y/a.wav").unwrap();
        assert!(matches!(table.find("a.wav"), Err(Error::Ambiguous { .. })));
        assert_eq!(table.find("y/a.wav").unwrap(), Split::Test);
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in ".{0,60}", path in ".{0,20}") {
            if let Ok(table) = Table::parse(&format!("split,path\n{text}")) {
                let _ = table.find(&path);
            }
            let _ = Table::parse(&text);
        }
    }
}
