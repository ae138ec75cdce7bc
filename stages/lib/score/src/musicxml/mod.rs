//! MusicXML 4.0 (W3C Community Group Report, 2021) and its compressed form.

mod attributes;
mod direction;
mod layout;
mod levels;
mod mxl;
mod notation;
mod note;
mod part;
mod partlist;
mod read;
mod repeats;
mod text;
mod tree;
mod voices;
mod write;
mod write_marks;
mod write_measure;
mod xml;

pub(crate) use mxl::read_mxl;
pub use mxl::write_mxl;
pub(crate) use read::read_text;
pub(crate) use text::looks_like;
pub use write::write_musicxml;
