//! Scores: MusicXML, its archives, and MIDI.

/// Units of a score, measures times parts and notes, beyond which it is read but not written
/// again: a few bytes may ask for as many rests as a symphony has.
const SMALL: usize = 200;

/// Reads, performs, writes in each format, and reads again.
pub fn score(bytes: &[u8]) {
    let Ok(score) = score::read(bytes) else {
        return;
    };
    let notes = score.notes().count();
    if let Ok(performance) = score.performance() {
        for event in &performance.events {
            assert!(event.onset.is_finite() && event.onset >= 0.0);
            assert!(event.duration.is_finite() && event.duration > 0.0);
            assert!(event.pitch.is_finite() && (1..=127).contains(&event.velocity));
        }
    }
    if score.measures.len() * score.parts.len() + notes >= SMALL {
        return;
    }
    let written = [
        score::write_musicxml(&score),
        score::write_mxl(&score),
        score::write_midi(&score),
    ];
    for written in written.into_iter().flatten() {
        if let Err(error) = score::read(&written) {
            let text = String::from_utf8_lossy(&written);
            panic!("what was written cannot be read: {error}\n{text}");
        }
    }
}
