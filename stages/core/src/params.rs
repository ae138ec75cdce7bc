//! Parameters: their canonical form, and what can be wrong with them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is wrong with one parameter, found at plan time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParamError {
    /// Name of the parameter, as in pipeline.toml; the engine points at its line.
    pub key: String,
    /// Lower-case, no period: got and expected, with units.
    pub message: String,
    /// What to do, if there is something to say.
    pub hint: Option<String>,
}

impl ParamError {
    /// An error without a hint.
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// `Ok` when `value` lies in `range`, else an error that names both.
    ///
    /// # Errors
    /// The value lies outside (or is not a number).
    pub fn check_range<T: PartialOrd + std::fmt::Display>(
        key: &str,
        value: &T,
        range: std::ops::RangeInclusive<T>,
        unit: &str,
    ) -> Result<(), Self> {
        if range.contains(value) {
            return Ok(());
        }
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!(" {unit}")
        };
        Err(Self::new(
            key,
            format!(
                "`{key}` is {value}{unit}, expected {} to {}{unit}",
                range.start(),
                range.end()
            ),
        ))
    }
}

/// A parameter that names a file. It enters keys by content, not by path.
///
/// In pipeline.toml it is a path, relative to that file's folder. The engine reads the file
/// before it plans, puts it into the store and gives its place there to the stage as
/// [`crate::Context::file`] under the parameter's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileParam(#[serde(with = "crate::text::path")] pub PathBuf);

impl FileParam {
    /// The path as written.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The canonical text of a JSON value: keys sorted, no spaces, shortest numbers that read back
/// as the same.
pub fn canonical_json(value: &Value) -> String {
    // serde_json's map is a BTreeMap (we do not enable `preserve_order`), so this sorts. A key
    // that a dependency's features could reorder is caught by the test below.
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_sorts_keys() {
        let value: Value =
            serde_json::from_str(r#"{"b": 1.0, "a": {"d": 2, "c": [1, 2]}}"#).unwrap();
        assert_eq!(canonical_json(&value), r#"{"a":{"c":[1,2],"d":2},"b":1.0}"#);
    }

    #[test]
    fn ranges_name_both_ends() {
        let error = ParamError::check_range("hop", &0, 1..=4096, "samples").unwrap_err();
        assert_eq!(
            error.message,
            "`hop` is 0 samples, expected 1 to 4096 samples"
        );
        assert!(ParamError::check_range("x", &f64::NAN, 0.0..=1.0, "").is_err());
    }
}
