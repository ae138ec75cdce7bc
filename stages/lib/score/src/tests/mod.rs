//! Tests of the crate as its users see it.

mod hostile;
mod midi;
mod musicxml;
mod performed;
mod repeats;
mod round_trip;

use crate::{Score, read};

/// One part, P1, with the given measures.
fn one_part(measures: &str) -> String {
    parts(
        "<score-part id=\"P1\"><part-name>Piano</part-name></score-part>",
        &[measures],
    )
}

/// Parts P1, P2, … under a part list.
fn parts(list: &str, bodies: &[&str]) -> String {
    let parts: String = (1..)
        .zip(bodies)
        .map(|(n, body)| format!("<part id=\"P{n}\">{body}</part>"))
        .collect();
    format!(
        "<?xml version=\"1.0\"?><score-partwise version=\"4.0\">\
         <part-list>{list}</part-list>{parts}</score-partwise>"
    )
}

/// A measure with the given attributes and content; a tempo of 60 and two
/// divisions to the quarter note in the first.
fn measure(number: usize, content: &str) -> String {
    let head = if number == 1 {
        "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time>\
         </attributes><sound tempo=\"60\"/>"
    } else {
        ""
    };
    format!("<measure number=\"{number}\">{head}{content}</measure>")
}

/// A note: step, octave, duration, and what comes after the duration.
fn note(pitch: &str, duration: u32, more: &str) -> String {
    format!(
        "<note>{}<duration>{duration}</duration>{more}</note>",
        pitch_of(pitch)
    )
}

/// `C4`, `F#5`, `Bb3`, or `-` for a rest.
fn pitch_of(name: &str) -> String {
    let mut letters = name.chars();
    let step = letters.next().unwrap();
    if step == '-' {
        return "<rest/>".to_owned();
    }
    let rest: String = letters.collect();
    let alter = match rest.chars().next().unwrap() {
        '#' => "<alter>1</alter>",
        'b' => "<alter>-1</alter>",
        _ => "",
    };
    let octave = rest.trim_start_matches(['#', 'b']);
    format!("<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>")
}

fn read_xml(xml: &str) -> Score {
    read(xml.as_bytes()).unwrap_or_else(|e| panic!("{e}: {:?}", std::error::Error::source(&e)))
}

/// Written notes as `pitch@onset+duration`, in quarter notes.
fn grid(score: &Score) -> String {
    let quarter = f64::from(score.divisions);
    let notes = score.notes().map(|n| {
        let (onset, duration) = (n.onset as f64 / quarter, n.duration as f64 / quarter);
        format!("{}@{}+{}", n.pitch.midi(), short(onset), short(duration))
    });
    notes.collect::<Vec<_>>().join(" ")
}

/// Sounding notes as `pitch@onset+duration`, in seconds.
fn sound(score: &Score) -> String {
    let performance = score.performance().unwrap();
    let events = performance.events.iter();
    let notes = events.map(|e| format!("{}@{}+{}", e.pitch, short(e.onset), short(e.duration)));
    notes.collect::<Vec<_>>().join(" ")
}

fn velocities(score: &Score) -> Vec<u8> {
    score
        .performance()
        .unwrap()
        .events
        .iter()
        .map(|e| e.velocity)
        .collect()
}

/// At most three decimals.
fn short(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
