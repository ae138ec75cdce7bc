//! General MIDI level 1: programs and drum keys guessed from names.
//!
//! Used where a MusicXML file names its instruments and gives no MIDI numbers.
//! Source: MIDI Manufacturers Association, General MIDI System Level 1 (1991),
//! instrument patch map and percussion key map.

/// Fragments of names (lower case) and their programs, 0-based. The first
/// fragment found wins, so that special names come before general ones.
const PROGRAMS: &[(&str, u8)] = &[
    ("harpsichord", 6),
    ("cembalo", 6),
    ("clavecin", 6),
    ("clavinet", 7),
    ("clavichord", 7),
    ("celesta", 8),
    ("glockenspiel", 9),
    ("music box", 10),
    ("vibraphone", 11),
    ("marimba", 12),
    ("xylophone", 13),
    ("tubular", 14),
    ("dulcimer", 15),
    ("electric piano", 4),
    ("accordion", 21),
    ("harmonica", 22),
    ("harmonium", 20),
    ("organ", 19),
    ("orgel", 19),
    ("bass guitar", 33),
    ("electric bass", 33),
    ("electric guitar", 27),
    ("guitar", 24),
    ("ukulele", 24),
    ("lute", 24),
    ("mandolin", 24),
    ("banjo", 105),
    ("sitar", 104),
    ("contrabassoon", 70),
    ("double bass", 43),
    ("contrabass", 43),
    ("kontrabass", 43),
    ("violoncello", 42),
    ("cello", 42),
    ("viola", 41),
    ("bratsche", 41),
    ("violin", 40),
    ("violon", 40),
    ("fiddle", 110),
    ("strings", 48),
    ("streicher", 48),
    ("harp", 46),
    ("timpani", 47),
    ("pauken", 47),
    ("choir", 52),
    ("chor", 52),
    ("voice", 52),
    ("vocal", 52),
    ("soprano sax", 64),
    ("alto sax", 65),
    ("tenor sax", 66),
    ("baritone sax", 67),
    ("saxophone", 65),
    ("bass clarinet", 71),
    ("clarinet", 71),
    ("klarinette", 71),
    ("english horn", 69),
    ("cor anglais", 69),
    ("oboe", 68),
    ("bassoon", 70),
    ("fagott", 70),
    ("piccolo", 72),
    ("recorder", 74),
    ("blockflöte", 74),
    ("flute", 73),
    ("flöte", 73),
    ("ocarina", 79),
    ("trumpet", 56),
    ("trompete", 56),
    ("cornet", 56),
    ("trombone", 57),
    ("posaune", 57),
    ("tuba", 58),
    ("euphonium", 58),
    ("horn", 60),
    ("bagpipe", 109),
    ("synth", 81),
    ("soprano", 52),
    ("alto", 52),
    ("tenor", 52),
    ("baritone", 52),
    ("piano", 0),
    ("keyboard", 0),
    ("bass", 52),
];

/// Fragments of names of drums and their keys.
const DRUMS: &[(&str, u8)] = &[
    ("bass drum", 36),
    ("kick", 36),
    ("side stick", 37),
    ("rim", 37),
    ("snare", 38),
    ("clap", 39),
    ("pedal hi-hat", 44),
    ("open hi-hat", 46),
    ("hi-hat", 42),
    ("hi hat", 42),
    ("hihat", 42),
    ("floor tom", 41),
    ("low tom", 45),
    ("mid tom", 47),
    ("high tom", 50),
    ("tom", 47),
    ("crash", 49),
    ("ride bell", 53),
    ("ride", 51),
    ("splash", 55),
    ("china", 52),
    ("cymbal", 49),
    ("tambourine", 54),
    ("cowbell", 56),
    ("bongo", 60),
    ("conga", 63),
    ("timbale", 65),
    ("agogo", 67),
    ("cabasa", 69),
    ("maraca", 70),
    ("shaker", 70),
    ("guiro", 73),
    ("clave", 75),
    ("wood block", 76),
    ("woodblock", 76),
    ("cuica", 78),
    ("triangle", 81),
    ("drum", 38),
];

/// Keys of a drum kit by where the note stands, octave and step from C = 0, in
/// the treble clef of percussion staves (Weinberg, Guidelines for Drumset
/// Notation, 1998).
const DRUM_LINES: &[((i64, u8), u8)] = &[
    ((4, 1), 44),
    ((4, 2), 36),
    ((4, 3), 36),
    ((4, 4), 41),
    ((4, 5), 41),
    ((4, 6), 45),
    ((5, 0), 38),
    ((5, 1), 47),
    ((5, 2), 50),
    ((5, 3), 51),
    ((5, 4), 42),
    ((5, 5), 49),
    ((5, 6), 55),
];

/// Program for the name of a part or instrument, or for a MusicXML instrument
/// sound such as `strings.violin`; `None` if it tells nothing.
pub(crate) fn program(name: &str) -> Option<u8> {
    find(PROGRAMS, name)
}

/// Drum key for the name of an instrument.
pub(crate) fn drum(name: &str) -> Option<u8> {
    find(DRUMS, name)
}

/// Drum key for a place on the staff; the snare where nothing is customary.
pub(crate) fn drum_at(octave: i64, step: u8) -> u8 {
    DRUM_LINES
        .iter()
        .find(|(place, _)| *place == (octave, step))
        .map_or(38, |(_, key)| *key)
}

fn find(table: &[(&str, u8)], name: &str) -> Option<u8> {
    let name: String = name.chars().take(200).collect::<String>().to_lowercase();
    table
        .iter()
        .find(|(fragment, _)| name.contains(fragment))
        .map(|(_, number)| *number)
}
