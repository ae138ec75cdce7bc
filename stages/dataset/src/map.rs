//! The item part: a shard's columns become the rows of a segment.

use std::fs::File;
use std::io::BufWriter;

use shard::{Dtype, FORMAT, FRAMES, Layout, RowType, SegmentWriter, ShardReader, Values};
use stage_core::{Context, Digest, ItemInput, Output, StageError};

use crate::error::{Error, of_shard};
use crate::{Dataset, FRAMES_FILE, SEGMENT};

/// Rows read at a time: 0.5 MiB of f16 magnitudes.
const ROWS: usize = 512;
/// What a shard says of its own item alone: a segment holds what is common to
/// the items of a data set.
const OF_THE_ITEM: [&str; 3] = [FRAMES, FORMAT, "samples"];

pub(crate) fn map(
    stage: &Dataset,
    item: &ItemInput,
    out: &mut Output,
    cx: &Context,
) -> Result<(), StageError> {
    let shard =
        ShardReader::from_file(item.input.open(FRAMES_FILE)?, FRAMES_FILE).map_err(of_shard)?;
    if shard.rows() == 0 {
        return Err(Error::NoFrames.into());
    }
    let names: Vec<&str> = stage.columns.iter().map(String::as_str).collect();
    let mut fields = Vec::new();
    let mut dtypes = Vec::new();
    for &name in &names {
        let column = shard.column(name).map_err(of_shard)?;
        fields.push((name, column.width));
        dtypes.push((name, column.dtype));
    }
    let layout = Layout::new(row_type(&dtypes)?, fields).map_err(of_shard)?;
    let mut metadata = shard.metadata().clone();
    metadata.retain(|key, _| !OF_THE_ITEM.contains(&key.as_str()));
    let path = out.path(SEGMENT)?;
    let file =
        File::create(&path).map_err(StageError::io(format!("creating `{}`", path.display())))?;
    let file = BufWriter::with_capacity(1 << 20, file);
    let mut writer = SegmentWriter::new(file, layout, metadata).map_err(of_shard)?;
    for batch in shard.batches(&names, ROWS).map_err(of_shard)? {
        cx.cancel.check()?;
        let batch = batch.map_err(of_shard)?;
        let columns: Vec<Values<'_>> = (0..names.len()).filter_map(|i| batch.column(i)).collect();
        writer.push_columns(&columns).map_err(of_shard)?;
    }
    let (_, root) = writer.finish().map_err(of_shard)?;
    out.set_seal(SEGMENT, Digest(root.0))
}

/// The one type of a row of these columns: f32 holds everything that an f16
/// does, other types do not mix.
fn row_type(columns: &[(&str, Dtype)]) -> Result<RowType, Error> {
    let mut chosen: Option<(&str, Dtype)> = None;
    for &(name, dtype) in columns {
        chosen = match chosen {
            Some((first, kept)) if kept == dtype || (kept.is_float() && dtype.is_float()) => {
                let both = if kept == dtype { kept } else { Dtype::F32 };
                Some((first, both))
            }
            Some((first, kept)) => {
                return Err(Error::Types {
                    first: first.to_owned(),
                    expected: kept.name(),
                    column: name.to_owned(),
                    got: dtype.name(),
                });
            }
            None => Some((name, dtype)),
        };
    }
    Ok(chosen.map_or(Dtype::F16, |(_, dtype)| dtype).into())
}
