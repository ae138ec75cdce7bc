//! Bounds that keep foreign bytes from eating memory or time.
//!
//! Each is well beyond real music: the largest public scores unpack to about
//! 100 MB, have about 10,000 measures and half a million notes.

/// Most bytes of MusicXML text, unpacked.
pub const MAX_TEXT: u64 = 128 << 20;
/// Largest ratio of unpacked to packed size of a member of a .mxl container,
/// applied beyond [`RATIO_FREE`]. MusicXML compresses by 10 to 40, deflate by
/// at most 1032.
pub const MAX_RATIO: u64 = 200;
/// Size up to which any ratio is accepted, in bytes.
pub const RATIO_FREE: u64 = 1 << 20;
/// Most nodes of an XML document; a node takes about 50 bytes.
pub const MAX_NODES: u32 = 6_000_000;
/// Deepest nesting of elements; MusicXML needs 10.
pub const MAX_DEPTH: usize = 256;
/// Most attributes of an element; MusicXML's have fewer than 50. The parser compares each with all
/// others.
pub const MAX_ATTRIBUTES: usize = 100;
/// Most names that an XML document may declare for namespaces; MusicXML has 3. The parser copies
/// those in force for every element that declares one.
pub const MAX_NAMESPACES: usize = 16;
/// Most notes of a score, as written and as performed.
pub const MAX_NOTES: usize = 5_000_000;
/// Most measures of a score as written.
pub const MAX_MEASURES: usize = 100_000;
/// Most measures summed over all parts, which is what MusicXML writes down.
pub const MAX_PART_MEASURES: usize = 2_000_000;
/// Most measures that repeats may unfold to.
pub const MAX_PLAYED_MEASURES: usize = 1_000_000;
/// Most parts of a score.
pub const MAX_PARTS: usize = 1_000;
/// Finest grid, in ticks per quarter note.
pub const MAX_DIVISIONS: u32 = 1 << 24;
/// Longest score as written, in quarter notes.
pub const MAX_QUARTERS: i64 = 4_000_000;
/// Longest performance, in seconds: 24 hours.
pub const MAX_SECONDS: f64 = 86_400.0;
/// Most warnings kept; later ones are counted only.
pub const MAX_WARNINGS: usize = 50;
