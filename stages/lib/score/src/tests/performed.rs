//! How the score is played: times, loudness, ornaments, pedal.

use super::{measure, note, one_part, parts, read_xml, short, sound, velocities};

#[track_caller]
fn check(content: &str, expected: &str) {
    assert_eq!(sound(&read_xml(&one_part(&measure(1, content)))), expected);
}

#[track_caller]
fn check_velocities(content: &str, expected: &[u8]) {
    assert_eq!(
        velocities(&read_xml(&one_part(&measure(1, content)))),
        expected
    );
}

fn direction(kind: &str, more: &str) -> String {
    format!("<direction><direction-type>{kind}</direction-type>{more}</direction>")
}

#[test]
fn tempo_from_sound_and_metronome() {
    let metronome = |unit: &str, dots: &str, per: &str| {
        direction(
            &format!(
                "<metronome><beat-unit>{unit}</beat-unit>{dots}<per-minute>{per}</per-minute></metronome>"
            ),
            "",
        )
    };
    let c = note("C4", 2, "");
    check(&(metronome("quarter", "", "120") + &c), "60@0+1"); // <sound> at the same place wins
    let later = c.clone()
        + &metronome("quarter", "<beat-unit-dot/>", "c. 80")
        + &c
        + &metronome("half", "", "30")
        + &c;
    check(&later, "60@0+1 60@1+0.5 60@1.5+1");
    let modulation = c.clone()
        + &direction(
            "<metronome><beat-unit>quarter</beat-unit><beat-unit>eighth</beat-unit></metronome>",
            "",
        )
        + &c;
    check(&modulation, "60@0+1 60@1+2");
}

#[test]
fn tempo_changes_inside_a_note_and_by_offset() {
    let c = note("C4", 8, "");
    check(
        &("<sound tempo=\"120\"><offset>4</offset></sound>".to_owned() + &c),
        "60@0+3",
    );
    let unheard = direction(
        "<words>x</words>",
        "<offset>4</offset><sound tempo=\"120\"/>",
    );
    check(&(unheard + &c), "60@0+2");
    let heard = direction(
        "<words>x</words>",
        "<offset sound=\"yes\">4</offset><sound tempo=\"120\"/>",
    );
    check(&(heard + &c), "60@0+3");
}

#[test]
fn a_piece_without_tempo_is_played_at_120() {
    let xml = one_part(&measure(1, &note("C4", 2, ""))).replace("<sound tempo=\"60\"/>", "");
    assert_eq!(sound(&read_xml(&xml)), "60@0+0.5");
}

#[test]
fn articulations_shorten() {
    let marked = |mark: &str| {
        note(
            "C4",
            2,
            &format!("<notations><articulations>{mark}</articulations></notations>"),
        )
    };
    check(&marked("<staccato/>"), "60@0+0.5");
    check(&marked("<staccatissimo/>"), "60@0+0.25");
    check(&marked("<tenuto/>"), "60@0+1");
    check(&marked("<staccato/><tenuto/>"), "60@0+0.75");
    check(&marked("<detached-legato/>"), "60@0+0.75");
    check_velocities(
        &(note("C4", 2, "") + &marked("<accent/>") + &marked("<strong-accent/>")),
        &[80, 100, 120],
    );
}

#[test]
fn fermatas_hold_all_parts_once() {
    let held = note("C4", 2, "<notations><fermata/></notations>") + &note("D4", 2, "");
    check(&held, "60@0+2 62@2+1");
    let list = "<score-part id=\"P1\"><part-name/></score-part><score-part id=\"P2\"><part-name/></score-part>";
    let score = read_xml(&parts(list, &[&measure(1, &held), &measure(1, &held)]));
    assert_eq!(sound(&score), "60@0+2 60@0+2 62@2+1 62@2+1");
    check(
        &(note("-", 2, "<notations><fermata/></notations>") + &note("D4", 2, "")),
        "62@2+1",
    );
}

#[test]
fn grace_notes_take_their_time() {
    let grace = |attributes: &str, kind: &str| {
        format!(
            "<note><grace {attributes}/><pitch><step>D</step><octave>4</octave></pitch><type>{kind}</type></note>"
        )
    };
    let c = note("C4", 2, "");
    check(&(grace("", "eighth") + &c), "62@0+0.5 60@0.5+0.5");
    // A long appoggiatura takes half of its note, two thirds of a dotted one.
    check(&(grace("", "half") + &c), "62@0+0.5 60@0.5+0.5");
    check(&(grace("", "half") + &note("C4", 3, "")), "62@0+1 60@1+0.5");
    check(
        &(grace("slash=\"yes\"", "eighth") + &c),
        "62@0+0.125 60@0.125+0.875",
    );
    check(
        &(c.clone() + &grace("steal-time-previous=\"25\"", "quarter") + &c),
        "60@0+0.75 62@0.75+0.25 60@1+1",
    );
    check(
        &(grace("", "16th").repeat(2) + &c),
        "62@0+0.25 62@0.25+0.25 60@0.5+0.5",
    );
    // At the end of a measure they end the note before (Nachschlag).
    check(
        &(note("C4", 4, "") + &grace("", "16th").repeat(2)),
        "60@0+1.75 62@1.75+0.125 62@1.875+0.125",
    );
}

#[test]
fn grace_chords_sound_together() {
    let first = "<note><grace slash=\"yes\"/><pitch><step>D</step><octave>4</octave></pitch><type>eighth</type></note>";
    let second = first
        .replace("/><pitch>", "/><chord/><pitch>")
        .replace(">D<", ">F<");
    check(
        &(first.to_owned() + &second + &note("C4", 2, "")),
        "62@0+0.125 65@0+0.125 60@0.125+0.875",
    );
}

#[test]
fn ornaments_are_played_out() {
    let marked = |mark: &str| {
        note(
            "E4",
            2,
            &format!("<notations><ornaments>{mark}</ornaments></notations>"),
        )
    };
    check(
        &marked("<mordent/>"),
        "64@0+0.125 62@0.125+0.125 64@0.25+0.75",
    );
    check(
        &marked("<inverted-mordent/>"),
        "64@0+0.125 65@0.125+0.125 64@0.25+0.75",
    );
    check(
        &marked("<turn/>"),
        "65@0+0.125 64@0.125+0.125 62@0.25+0.125 64@0.375+0.625",
    );
    check(
        &marked("<tremolo type=\"single\">2</tremolo>"),
        "64@0+0.25 64@0.25+0.25 64@0.5+0.25 64@0.75+0.25",
    );
    let score = read_xml(&one_part(&measure(1, &marked("<trill-mark/>"))));
    let trill = score.performance().unwrap();
    assert_eq!(trill.events.len(), 8);
    assert!(
        trill
            .events
            .iter()
            .enumerate()
            .all(|(i, e)| e.pitch == [64.0, 65.0][i % 2])
    );
}

#[test]
fn an_arpeggio_rolls_upwards() {
    let roll = "<notations><arpeggiate/></notations>";
    let chord = note("G4", 2, roll) + &note("C4", 2, roll).replace("<note>", "<note><chord/>");
    check(&chord, "60@0+1 67@0.03+0.97");
}

#[test]
fn the_pedal_holds_notes_until_it_rises_or_they_are_struck_again() {
    let pedal = |kind: &str| direction(&format!("<pedal type=\"{kind}\"/>"), "");
    let content = pedal("start")
        + &note("C4", 1, "")
        + &note("D4", 1, "")
        + &note("C4", 1, "")
        + &note("-", 1, "")
        + &pedal("stop")
        + &note("E4", 2, "")
        + &note("F4", 2, "");
    check(&content, "60@0+1 62@0.5+1.5 60@1+1 64@2+1 65@3+1");
    // A note that ends where the pedal goes down is not caught by it.
    check(
        &(note("C4", 2, "")
            + &pedal("start")
            + &note("D4", 2, "")
            + &note("-", 2, "")
            + &pedal("stop")),
        "60@0+1 62@1+2",
    );
    let change = pedal("start")
        + &note("C4", 1, "")
        + &note("-", 1, "")
        + &pedal("change")
        + &note("D4", 1, "")
        + &note("-", 1, "")
        + &pedal("stop");
    check(&change, "60@0+1 62@1+1");
}

#[test]
fn dynamics_and_wedges_become_velocities() {
    let mark = |name: &str| direction(&format!("<dynamics><{name}/></dynamics>"), "");
    let wedge = |kind: &str| direction(&format!("<wedge type=\"{kind}\"/>"), "");
    let c = note("C4", 1, "");
    check_velocities(
        &(c.clone() + &mark("p") + &c + &mark("ff") + &c),
        &[80, 49, 112],
    );
    check_velocities(&(mark("mf") + &c + &mark("sfz") + &c + &c), &[80, 112, 80]);
    check_velocities(&(mark("fp") + &c), &[49]);
    let rising = mark("p") + &wedge("crescendo") + &c.repeat(4) + &wedge("stop") + &mark("f") + &c;
    check_velocities(&rising, &[49, 61, 73, 84, 96]);
    let falling = mark("f") + &wedge("diminuendo") + &c.repeat(2) + &wedge("stop") + &c;
    check_velocities(&falling, &[96, 88, 80]);
    let stated = direction("<dynamics><p/></dynamics>", "<sound dynamics=\"60\"/>") + &c;
    check_velocities(&stated, &[54]);
    check_velocities(&("<sound dynamics=\"100\"/>".to_owned() + &c), &[90]);
    check_velocities(
        &note("C4", 2, "").replace("<note>", "<note dynamics=\"50\">"),
        &[45],
    );
}

#[test]
fn volume_scales_the_gain() {
    let list = "<score-part id=\"P1\"><part-name/><score-instrument id=\"I\"><instrument-name/></score-instrument>\
        <midi-instrument id=\"I\"><volume>39.3701</volume></midi-instrument></score-part>";
    let score = read_xml(&parts(list, &[&measure(1, &note("C4", 2, ""))]));
    let event = score.performance().unwrap().events[0];
    assert_eq!(
        short(f64::from(event.gain)),
        0.25,
        "half the volume is a quarter of the amplitude"
    );
}
