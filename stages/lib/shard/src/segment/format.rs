//! Bytes of a segment's header and trailer, and the arithmetic of its parts.

use crate::error::{Error, Result};
use crate::layout::{Field, Layout, MAX_COLUMNS, RowType};
use crate::write::Metadata;

/// Bytes of data under one BLAKE3 digest.
pub const CHUNK: u64 = 1 << 20;
/// Rows under one block of sums.
pub const BLOCK_ROWS: u64 = 1024;

pub(super) const VERSION: u32 = 1;
pub(super) const ALIGN: u64 = 64;
pub(super) const TRAILER: usize = 64;
pub(super) const DIGEST: usize = 32;
/// Largest header: far above 256 columns and a road's metadata.
pub(super) const MAX_HEADER: u64 = 1 << 20;
const HEAD: &[u8; 8] = b"plsegmnt";
const TAIL: &[u8; 8] = b"plsegend";

/// What the header says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub layout: Layout,
    pub metadata: Metadata,
}

impl Header {
    /// The header's bytes, padded to [`ALIGN`].
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.extend_from_slice(HEAD);
        put(&mut out, VERSION);
        put(&mut out, self.layout.row_type.code());
        put(&mut out, self.layout.width());
        put(&mut out, self.layout.fields.len() as u32);
        put(&mut out, self.metadata.len() as u32);
        for field in &self.layout.fields {
            put(&mut out, field.width);
            put_text(&mut out, &field.name);
        }
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            put_text(&mut out, value);
        }
        out.resize(out.len().next_multiple_of(ALIGN as usize), 0);
        if out.len() as u64 > MAX_HEADER {
            return Err(Error::Layout(format!(
                "columns and metadata take {} bytes, at most {MAX_HEADER} are allowed",
                out.len()
            )));
        }
        Ok(out)
    }

    /// Reads what [`encode`](Self::encode) wrote; the reason when it cannot.
    pub(super) fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let mut at = Reader(bytes);
        if at.take(8)? != HEAD {
            return Err("it does not begin with `plsegmnt`".to_owned());
        }
        let version = at.u32()?;
        if version != VERSION {
            return Err(format!("version {version} is not {VERSION}"));
        }
        let code = at.u32()?;
        let row_type = RowType::from_code(code).ok_or_else(|| format!("row type {code}"))?;
        let (width, fields, pairs) = (at.u32()?, at.u32()?, at.u32()?);
        if fields as usize > MAX_COLUMNS {
            return Err(format!("{fields} columns"));
        }
        let mut layout = Layout {
            row_type,
            fields: Vec::new(),
        };
        for _ in 0..fields {
            let width = at.u32()?;
            layout.fields.push(Field {
                name: at.text()?,
                width,
            });
        }
        layout.check().map_err(|e| e.to_string())?;
        if layout.width() != width {
            return Err(format!(
                "columns of {} values in rows of {width}",
                layout.width()
            ));
        }
        let mut metadata = Metadata::new();
        // No allocation follows from `pairs`: each takes bytes that are there.
        for _ in 0..pairs {
            let key = at.text()?;
            metadata.insert(key, at.text()?);
        }
        Ok(Self { layout, metadata })
    }
}

/// What the trailer says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trailer {
    pub rows: u64,
    pub header: u64,
    /// BLAKE3 of header, blocks, chunks and the fields above.
    pub digest: [u8; DIGEST],
}

impl Trailer {
    /// The fields under the digest.
    pub(super) fn fields(rows: u64, header: u64) -> [u8; TRAILER - DIGEST] {
        let mut out = [0; TRAILER - DIGEST];
        out[..8].copy_from_slice(TAIL);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(header as u32).to_le_bytes());
        out[16..24].copy_from_slice(&rows.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let mut at = Reader(bytes);
        if at.take(8)? != TAIL {
            return Err("it does not end with a segment's trailer (truncated?)".to_owned());
        }
        let version = at.u32()?;
        if version != VERSION {
            return Err(format!("version {version} is not {VERSION}"));
        }
        let header = u64::from(at.u32()?);
        let rows = at.u64()?;
        at.take(8)?;
        let digest = at
            .take(DIGEST)?
            .try_into()
            .map_err(|_| "no digest".to_owned())?;
        Ok(Self {
            rows,
            header,
            digest,
        })
    }
}

/// Where the parts of a segment lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parts {
    /// Bytes of rows, without padding.
    pub data: u64,
    pub data_at: u64,
    pub blocks_at: u64,
    pub chunks_at: u64,
    pub trailer_at: u64,
    pub len: u64,
}

impl Parts {
    /// None when the file would be longer than any file can be.
    pub(super) fn new(header: u64, rows: u64, layout: &Layout) -> Option<Self> {
        let data = rows.checked_mul(layout.row_bytes() as u64)?;
        let data_at = header;
        let blocks_at = data_at.checked_add(data)?.checked_next_multiple_of(ALIGN)?;
        let blocks = rows
            .div_ceil(BLOCK_ROWS)
            .checked_mul(block_bytes(layout.width()) as u64)?;
        let chunks_at = blocks_at.checked_add(blocks)?;
        let trailer_at = chunks_at.checked_add(data.div_ceil(CHUNK) * DIGEST as u64)?;
        let len = trailer_at.checked_add(TRAILER as u64)?;
        Some(Self {
            data,
            data_at,
            blocks_at,
            chunks_at,
            trailer_at,
            len,
        })
    }
}

/// Bytes of one block's sums.
pub(super) fn block_bytes(width: u32) -> usize {
    width as usize * (8 + 8 + 4 + 4)
}

fn put(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> std::result::Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or("its header is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> std::result::Result<u32, String> {
        let bytes = self
            .take(4)?
            .try_into()
            .map_err(|_| "cut short".to_owned())?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> std::result::Result<u64, String> {
        let bytes = self
            .take(8)?
            .try_into()
            .map_err(|_| "cut short".to_owned())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> std::result::Result<String, String> {
        let len = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(len)?).map_err(|e| e.to_string())?;
        Ok(text.to_owned())
    }
}
