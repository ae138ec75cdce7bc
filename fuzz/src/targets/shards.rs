//! What stages hand to one another: shards, segments, manifests, models.
//!
//! Shards and segments are under a hash. As it stands, a changed byte would be refused at the
//! door and nothing behind it tried; so the bytes are read twice, the second time with the hash
//! made right (docs/formats.md says where it stands).

use std::io::{Seek, SeekFrom, Write};

use shard::{Manifest, Segment, ShardReader, Split};

#[path = "../../../src/model.rs"]
#[expect(dead_code, reason = "the program reads more of it")]
mod model_header;

/// Reads all columns of a shard.
pub fn shard(bytes: &[u8]) {
    read_shard(bytes);
    if let Some(sealed) = sealed_shard(bytes) {
        read_shard(&sealed);
    }
}

fn read_shard(bytes: &[u8]) {
    let Ok(shard) = ShardReader::from_bytes(bytes.to_vec(), "shard") else {
        return;
    };
    let names: Vec<&str> = shard.columns().iter().map(|c| c.name.as_str()).collect();
    let Ok(batches) = shard.batches(&names, 256) else {
        return;
    };
    let mut rows = 0;
    for batch in batches {
        let Ok(batch) = batch else { return };
        rows += batch.rows() as u64;
        for (i, column) in shard.columns().iter().enumerate() {
            let values = batch.column(i).map_or(0, |values| values.len());
            assert_eq!(values, batch.rows() * column.width as usize);
        }
    }
    assert_eq!(rows, shard.rows());
}

/// The same with the seal before the footer made right.
fn sealed_shard(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.len().checked_sub(8)?;
    let footer = u32::from_le_bytes(bytes.get(end..end + 4)?.try_into().ok()?);
    let seal = end.checked_sub(footer as usize)?.checked_sub(40)?;
    let mut sealed = bytes.to_vec();
    let mut hasher = blake3::Hasher::new();
    hasher.update(sealed.get(..seal)?);
    hasher.update(sealed.get(seal + 40..)?);
    sealed.get_mut(seal..seal + 8)?.copy_from_slice(b"plseal01");
    sealed
        .get_mut(seal + 8..seal + 40)?
        .copy_from_slice(hasher.finalize().as_bytes());
    Some(sealed)
}

/// Reads all rows of a segment, and their sums.
pub fn segment(bytes: &[u8]) {
    read_segment(bytes);
    if let Some(hashed) = hashed_segment(bytes) {
        read_segment(&hashed);
    }
}

fn read_segment(bytes: &[u8]) {
    // Segments are mapped, so there has to be a file.
    let file = tempfile::tempfile().and_then(|mut file| {
        file.write_all(bytes)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    });
    let file = file.expect("the folder for temporary files can be written");
    let Ok(segment) = Segment::from_file(&file, "segment") else {
        return;
    };
    assert_eq!(segment.len_bytes(), bytes.len() as u64);
    let width = segment.layout().width() as usize;
    let rows = segment.rows();
    let _ = segment.verify();
    let _ = segment.sums(0..rows);
    let some = rows.min(64);
    let mut values = vec![0.0; some as usize * width];
    let _ = segment.read_f32(rows - some..rows, &mut values);
    assert!(segment.bytes(0..rows.saturating_add(1)).is_err());
}

/// The same with the hashes of the chunks and of the trailer made right, as far as header and
/// trailer say where those are.
fn hashed_segment(bytes: &[u8]) -> Option<Vec<u8>> {
    let trailer = bytes.len().checked_sub(64)?;
    let header = word(bytes, trailer + 12)? as usize;
    let rows = usize::try_from(word(bytes, trailer + 16)?).ok()?;
    let width = word(bytes, 16)? as usize;
    let row = match word(bytes, 12)? {
        1 => width.checked_mul(4)?,
        2 | 3 => width.checked_mul(2)?,
        _ => width.div_ceil(8),
    };
    let data = rows.checked_mul(row)?;
    let blocks = header.checked_add(data)?.checked_next_multiple_of(64)?;
    let chunks = trailer.checked_sub(data.div_ceil(1 << 20).checked_mul(32)?)?;
    let mut hashed = bytes.to_vec();
    let digests = bytes.get(header..header + data)?.chunks(1 << 20);
    for (i, chunk) in digests.enumerate() {
        let at = chunks + 32 * i;
        let place = hashed.get_mut(at..at + 32)?;
        place.copy_from_slice(blake3::hash(chunk).as_bytes());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(hashed.get(..header)?);
    hasher.update(hashed.get(blocks..trailer + 32)?);
    hashed
        .get_mut(trailer + 32..)?
        .copy_from_slice(hasher.finalize().as_bytes());
    Some(hashed)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// Reads a manifest; one that holds together reads back as it was.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::from_json(bytes, "manifest") else {
        return;
    };
    for entry in &manifest.segments {
        for split in Split::ALL {
            assert!(entry.part(split).end <= entry.rows);
        }
    }
    let written = manifest.to_json().expect("what was read can be written");
    let again = Manifest::from_json(&written, "again").expect("what was written can be read");
    assert_eq!(again, manifest);
}

/// Reads the header of a model, and its tensors as the training program does.
pub fn model(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().and_then(|mut file| {
        file.write_all(bytes)?;
        Ok(file)
    });
    let file = file.expect("the folder for temporary files can be written");
    let header = model_header::read_header(file.path());
    if let Ok(tensors) = safetensors::SafeTensors::deserialize(bytes) {
        // The program's reader of the header must not be stricter than the format's.
        let header = header.expect("a file that safetensors reads");
        assert_eq!(header.tensors.len(), tensors.len());
        for (name, view) in tensors.tensors() {
            let shape: Vec<u64> = view.shape().iter().map(|n| *n as u64).collect();
            assert_eq!(header.tensors[&name].shape, shape);
        }
    }
}
