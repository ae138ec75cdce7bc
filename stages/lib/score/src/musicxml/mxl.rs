//! Compressed MusicXML: a zip archive whose META-INF/container.xml names the
//! score (MusicXML 4.0, "Compressed .MXL Files").

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_RATIO, MAX_TEXT, RATIO_FREE};
use crate::model::Score;

use super::read::read_text;
use super::text::decode;
use super::write::write_musicxml;

const CONTAINER: &str = "META-INF/container.xml";
/// Most bytes of the container file, which names one or two members.
const MAX_CONTAINER: u64 = 1 << 20;

/// Reads the score that a .mxl archive holds.
pub(crate) fn read_mxl(bytes: &[u8]) -> Result<Score> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let name = rootfile(&mut archive)?;
    let text = unpack(&mut archive, &name, MAX_TEXT)?;
    read_text(&text)
}

/// Writes `score` as compressed MusicXML. Equal scores give equal bytes.
///
/// # Errors
/// When the archive cannot be put together; not for any score in practice.
pub fn write_mxl(score: &Score) -> Result<Vec<u8>> {
    let text = write_musicxml(score)?;
    let container = concat!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
        "<container><rootfiles><rootfile full-path=\"score.musicxml\"",
        " media-type=\"application/vnd.recordare.musicxml+xml\"/></rootfiles></container>\n",
    );
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    // The beginning of zip time, so that the bytes do not depend on the clock.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default());
    for (name, content) in [(CONTAINER, container.as_bytes()), ("score.musicxml", &text)] {
        archive.start_file(name, options)?;
        archive
            .write_all(content)
            .map_err(|source| ScoreError::Member {
                name: name.to_owned(),
                source,
            })?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Path of the score: the container's first root file that is MusicXML, else
/// the first .xml or .musicxml member.
fn rootfile(archive: &mut ZipArchive<Cursor<&[u8]>>) -> Result<String> {
    if archive.index_for_name(CONTAINER).is_some() {
        let bytes = unpack(archive, CONTAINER, MAX_CONTAINER)?;
        let text = decode(&bytes)?;
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            nodes_limit: 10_000,
            ..Default::default()
        };
        let document = roxmltree::Document::parse_with_options(&text, options)?;
        let roots = document
            .descendants()
            .filter(|n| n.tag_name().name() == "rootfile");
        let named = roots.filter(|n| {
            n.attribute("media-type")
                .is_none_or(|m| m.contains("musicxml") || m.contains("xml"))
        });
        for path in named.filter_map(|n| n.attribute("full-path")) {
            if archive.index_for_name(path).is_some() {
                return Ok(path.to_owned());
            }
        }
    }
    let is_score = |name: &String| {
        let lower = name.to_lowercase();
        !lower.starts_with("meta-inf") && (lower.ends_with(".xml") || lower.ends_with(".musicxml"))
    };
    let names = archive
        .file_names()
        .filter_map(|name| name.ok().map(|n| n.into_owned()));
    let name = names.filter(is_score).min();
    name.ok_or(ScoreError::NoRootfile)
}

/// Unpacks a member, believing none of the sizes it claims.
fn unpack(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str, limit: u64) -> Result<Vec<u8>> {
    let member = archive.by_name(name)?;
    let packed = member.compressed_size();
    let allowed = limit.min(RATIO_FREE.max(packed.saturating_mul(MAX_RATIO)));
    let mut out = Vec::new();
    member
        .take(allowed + 1)
        .read_to_end(&mut out)
        .map_err(|source| ScoreError::Member {
            name: name.to_owned(),
            source,
        })?;
    if out.len() as u64 > allowed {
        return Err(ScoreError::TooLarge {
            what: "unpacked size in bytes",
            place: format!("member `{name}` of {packed} packed bytes"),
            got: out.len() as u64,
            limit: allowed,
        });
    }
    Ok(out)
}
