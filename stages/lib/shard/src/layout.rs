//! What a row is made of: named columns of fixed width, and one type per row.
//!
//! A *column* is a named run of values inside a row, e.g. `magnitude` of 513
//! values. A shard stores each column apart and with a type of its own; a
//! segment lays the columns of a row side by side in one [`RowType`].

use std::fmt;

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most columns that a shard or segment may have.
pub const MAX_COLUMNS: usize = 256;
/// Longest name of a column in bytes.
pub const MAX_NAME: usize = 128;
/// Most values in one row: over ten times the widest published frame (a
/// second of raw FFT, 88,200 values), and small enough to bound a row's bytes.
pub const MAX_WIDTH: u32 = 1 << 20;

/// How a shard stores the values of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary16: 11 significant bits, largest value 65,504.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// Unsigned 16-bit integers, e.g. tokens.
    U16,
    /// Bits, e.g. the keys of a piano roll.
    Bit,
}

impl Dtype {
    /// Name as in parameters and metadata: `f16`, `f32`, `u16` or `bit`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::U16 => "u16",
            Self::Bit => "bit",
        }
    }

    /// Bytes of one value in memory; a bit takes a whole byte there.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Bit => 1,
            Self::F16 | Self::U16 => 2,
            Self::F32 => 4,
        }
    }

    /// Whether values are floats; the others are codes.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32)
    }
}

/// How a segment stores the values of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowType {
    /// 32-bit floats, little-endian.
    F32,
    /// 16-bit floats, little-endian.
    F16,
    /// Unsigned 16-bit integers (tokens), little-endian.
    U16,
    /// Bits (a piano roll), packed from the least significant bit of each
    /// byte; every row begins on a byte and its spare bits are zero.
    Bit,
}

impl RowType {
    /// Name as in manifests: `f32`, `f16`, `u16` or `bit`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U16 => "u16",
            Self::Bit => "bit",
        }
    }

    /// Bytes of a row of `width` values.
    #[must_use]
    pub fn row_bytes(self, width: u32) -> usize {
        let width = width as usize;
        match self {
            Self::F32 => width * 4,
            Self::F16 | Self::U16 => width * 2,
            Self::Bit => width.div_ceil(8),
        }
    }

    /// Whether values are floats; the others are codes.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32)
    }

    pub(crate) fn code(self) -> u32 {
        match self {
            Self::F32 => 1,
            Self::F16 => 2,
            Self::U16 => 3,
            Self::Bit => 4,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [Self::F32, Self::F16, Self::U16, Self::Bit]
            .into_iter()
            .find(|row| row.code() == code)
    }
}

impl From<Dtype> for RowType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::F32 => Self::F32,
            Dtype::U16 => Self::U16,
            Dtype::Bit => Self::Bit,
        }
    }
}

/// A named column of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Name; not empty, at most [`MAX_NAME`] bytes, of `a-z A-Z 0-9 _ -`.
    pub name: String,
    /// Values per row; 1 to [`MAX_WIDTH`].
    pub width: u32,
    /// Stored type.
    pub dtype: Dtype,
}

impl Column {
    /// A column of `width` values per row, stored as `dtype`.
    #[must_use]
    pub fn new(name: impl Into<String>, width: u32, dtype: Dtype) -> Self {
        Self {
            name: name.into(),
            width,
            dtype,
        }
    }
}

/// A named run of values within a segment's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name, as in [`Column::name`].
    pub name: String,
    /// Values per row.
    pub width: u32,
}

/// The rows of a segment: their type and the columns side by side in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Type of every value.
    pub row_type: RowType,
    /// Columns in the order in which they lie in a row.
    pub fields: Vec<Field>,
}

impl Layout {
    /// A layout of `(name, width)` columns.
    ///
    /// # Errors
    /// [`Error::Layout`] when there is no column, a name is bad or appears
    /// twice, or a width or their sum is 0 or above [`MAX_WIDTH`].
    pub fn new<N: Into<String>>(
        row_type: RowType,
        fields: impl IntoIterator<Item = (N, u32)>,
    ) -> Result<Self> {
        let fields = fields
            .into_iter()
            .map(|(name, width)| Field {
                name: name.into(),
                width,
            })
            .collect();
        let layout = Self { row_type, fields };
        layout.check()?;
        Ok(layout)
    }

    /// Values per row.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.fields
            .iter()
            .map(|field| field.width)
            .fold(0, u32::saturating_add)
    }

    /// Bytes per row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row_type.row_bytes(self.width())
    }

    /// Where column `name` lies in a row, in values; none when there is none.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<std::ops::Range<usize>> {
        let mut start = 0;
        for field in &self.fields {
            let end = start + field.width as usize;
            if field.name == name {
                return Some(start..end);
            }
            start = end;
        }
        None
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_fields(
            self.fields
                .iter()
                .map(|field| (field.name.as_str(), field.width)),
        )
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.row_type.name())?;
        for (i, field) in self.fields.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} x {}", field.name, field.width)?;
        }
        Ok(())
    }
}

pub(crate) fn check_columns(columns: &[Column]) -> Result<()> {
    check_fields(
        columns
            .iter()
            .map(|column| (column.name.as_str(), column.width)),
    )
}

fn check_fields<'a>(fields: impl Iterator<Item = (&'a str, u32)>) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    let mut total: u64 = 0;
    for (name, width) in fields {
        if seen.len() == MAX_COLUMNS {
            return Err(Error::Layout(format!("more than {MAX_COLUMNS} columns")));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(good) {
            return Err(Error::Layout(format!(
                "column name `{}` is not 1 to {MAX_NAME} of a-z, A-Z, 0-9, `_`, `-`",
                name.chars()
                    .take(MAX_NAME)
                    .collect::<String>()
                    .escape_debug()
            )));
        }
        if seen.contains(&name) {
            return Err(Error::Layout(format!("column `{name}` appears twice")));
        }
        if width == 0 {
            return Err(Error::Layout(format!(
                "column `{name}` has no values per row"
            )));
        }
        seen.push(name);
        total += u64::from(width);
        if total > u64::from(MAX_WIDTH) {
            return Err(Error::Layout(format!(
                "a row has more than {MAX_WIDTH} values"
            )));
        }
    }
    if seen.is_empty() {
        return Err(Error::Layout("no columns".to_owned()));
    }
    Ok(())
}

/// Values of one or several rows as they are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 16-bit floats.
    F16(&'a [f16]),
    /// Unsigned 16-bit integers.
    U16(&'a [u16]),
    /// Bits, one `bool` each.
    Bit(&'a [bool]),
}

impl<'a> From<&'a [f32]> for Values<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [f16]> for Values<'a> {
    fn from(values: &'a [f16]) -> Self {
        Self::F16(values)
    }
}

impl<'a> From<&'a [u16]> for Values<'a> {
    fn from(values: &'a [u16]) -> Self {
        Self::U16(values)
    }
}

impl<'a> From<&'a [bool]> for Values<'a> {
    fn from(values: &'a [bool]) -> Self {
        Self::Bit(values)
    }
}

impl Values<'_> {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::Bit(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stored type.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::U16(_) => Dtype::U16,
            Self::Bit(_) => Dtype::Bit,
        }
    }

    /// Appends the values to `out` as `f32`, which holds every `f16` and `u16`
    /// exactly; bits become 0 and 1.
    pub fn append_f32(&self, out: &mut Vec<f32>) {
        match self {
            Self::F32(values) => out.extend_from_slice(values),
            Self::F16(values) => {
                use half::slice::HalfFloatSliceExt;
                let start = out.len();
                out.resize(start + values.len(), 0.0);
                values.convert_to_f32_slice(&mut out[start..]);
            }
            Self::U16(values) => out.extend(values.iter().map(|&code| f32::from(code))),
            Self::Bit(values) => {
                out.extend(values.iter().map(|&bit| f32::from(u8::from(bit))));
            }
        }
    }
}
