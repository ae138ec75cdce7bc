//! What can go wrong with a score.

use thiserror::Error;

/// Result of everything in this crate that can fail.
pub type Result<T, E = ScoreError> = std::result::Result<T, E>;

/// Why bytes are no score, or a score cannot be written or performed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The bytes are neither MusicXML, compressed MusicXML nor MIDI.
    #[error(
        "score of {len} bytes is neither MusicXML, compressed MusicXML (.mxl) nor standard MIDI"
    )]
    UnknownFormat {
        /// Length of the input in bytes.
        len: usize,
    },
    /// Text that is not in the encoding that it claims.
    #[error("MusicXML text is not valid {encoding}: export it as UTF-8")]
    Encoding {
        /// The encoding tried.
        encoding: &'static str,
    },
    /// The document declares entities, which can expand without bound.
    #[error("MusicXML text declares entities, which are refused: remove the `<!ENTITY …>` lines")]
    Entities,
    /// The text is not well-formed XML.
    #[error("MusicXML text is not well-formed")]
    Xml(#[from] roxmltree::Error),
    /// Well-formed XML of another kind.
    #[error("root element is `{got}`, expected `score-partwise` or `score-timewise`")]
    Root {
        /// Name of the root element.
        got: String,
    },
    /// The container is not a readable zip archive.
    #[error("compressed MusicXML cannot be unpacked")]
    Zip(#[from] zip::result::ZipError),
    /// A member of the container cannot be read, or the container cannot be written.
    #[error("member `{name}` of the compressed MusicXML cannot be processed")]
    Member {
        /// Path inside the container.
        name: String,
        /// What the unpacker says.
        #[source]
        source: std::io::Error,
    },
    /// The container names no score.
    #[error(
        "compressed MusicXML has no score: neither META-INF/container.xml nor a .xml member names one"
    )]
    NoRootfile,
    /// A value in MusicXML that means nothing.
    #[error("part `{part}`, measure `{measure}`: `<{element}>` is `{got}`, expected {expected}")]
    Value {
        /// Identifier of the part.
        part: String,
        /// Number of the measure as printed.
        measure: String,
        /// Name of the element or attribute.
        element: &'static str,
        /// Its text, cut to 40 characters.
        got: String,
        /// What would be understood.
        expected: &'static str,
    },
    /// The divisions of the parts have no common multiple within reason.
    #[error(
        "parts divide the quarter note into {got} ticks together, expected at most {limit}: re-export the score with equal divisions"
    )]
    Divisions {
        /// Least common multiple so far.
        got: u64,
        /// The most that is taken.
        limit: u32,
    },
    /// A MIDI header that cannot be made sense of.
    #[error("MIDI header at byte {offset}: {what}")]
    MidiHeader {
        /// Offset into the file in bytes.
        offset: usize,
        /// What was found, and what was expected.
        what: String,
    },
    /// More of something than a score can have.
    #[error("{what} of {place} is {got}, expected at most {limit}")]
    TooLarge {
        /// The quantity, with its unit.
        what: &'static str,
        /// The part and measure, or the piece.
        place: String,
        /// The value, or a bound that it exceeds.
        got: u64,
        /// The most that is taken.
        limit: u64,
    },
}
