//! Each construct of MusicXML that changes which notes there are, and where.

use super::{grid, measure, note, one_part, parts, read_xml, sound};
use crate::{Format, ScoreError, read, sniff, write_mxl};

#[track_caller]
fn check(content: &str, expected: &str) {
    assert_eq!(grid(&read_xml(&one_part(content))), expected);
}

/// Content of a single measure.
#[track_caller]
fn check_measure(content: &str, expected: &str) {
    check(&measure(1, content), expected);
}

#[test]
fn notes_rests_and_accidentals() {
    let content = [
        note("C4", 2, ""),
        note("-", 2, ""),
        note("F#4", 1, ""),
        note("Bb4", 3, ""),
    ];
    check_measure(&content.concat(), "60@0+1 66@2+0.5 70@2.5+1.5");
}

#[test]
fn chords_begin_together() {
    let content = note("C4", 4, "")
        + &note("E4", 4, "").replace("<note>", "<note><chord/>")
        + &note("G4", 4, "");
    check_measure(&content, "60@0+2 64@0+2 67@2+2");
}

#[test]
fn voices_by_backup_and_forward() {
    let content = note("C5", 8, "<voice>1</voice>")
        + "<backup><duration>8</duration></backup><forward><duration>2</duration></forward>"
        + &note("E4", 2, "<voice>2</voice>");
    check_measure(&content, "72@0+4 64@1+1");
}

#[test]
fn a_backup_stops_at_the_barline() {
    check_measure(
        "<backup><duration>9</duration></backup><note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration></note>",
        "60@0+1",
    );
}

#[test]
fn ties_join_across_barlines_and_voices() {
    let tie = |kind: &str, voice: u8| format!("<tie type=\"{kind}\"/><voice>{voice}</voice>");
    let first = measure(1, &note("C4", 8, &tie("start", 1)));
    let second = measure(
        2,
        &note("C4", 4, &(tie("stop", 2) + "<tie type=\"start\"/>")),
    );
    let third = measure(3, &note("C4", 4, &tie("stop", 1)));
    check(&(first.clone() + &second), "60@0+6");
    // The tie of measure 2 ends before measure 3 begins to count: it is as long as filled.
    check(&(first + &second + &third), "60@0+8");
}

#[test]
fn a_tied_notation_alone_is_a_tie() {
    let tied = |kind: &str| format!("<notations><tied type=\"{kind}\"/></notations>");
    let content =
        note("C4", 2, &tied("start")) + &note("C4", 2, &tied("stop")) + &note("C4", 4, "");
    check_measure(&content, "60@0+2 60@2+2");
}

#[test]
fn divisions_change_in_the_piece_and_between_parts() {
    let first = measure(1, &note("C4", 8, ""));
    let second = "<measure number=\"2\"><attributes><divisions>3</divisions></attributes>"
        .to_owned()
        + &note("D4", 1, "").repeat(3)
        + &note("E4", 9, "")
        + "</measure>";
    let xml = one_part(&(first + &second));
    let score = read_xml(&xml);
    assert_eq!(score.divisions, 6);
    assert_eq!(
        grid(&score),
        "60@0+4 62@4+0.333 62@4.333+0.333 62@4.667+0.333 64@5+3"
    );
}

#[test]
fn durations_may_be_decimals() {
    let content =
        note("C4", 2, "").replace(">2<", ">2.5<") + &note("D4", 1, "").replace(">1<", ">1.5<");
    check_measure(&content, "60@0+1.25 62@1.25+0.75");
}

#[test]
fn a_missing_duration_is_that_of_the_type() {
    let content = note("C4", 1, "<type>quarter</type><dot/>").replace("<duration>1</duration>", "")
        + &note("D4", 1, "");
    check_measure(&content, "60@0+1.5 62@1.5+0.5");
    let triplet = "<type>eighth</type><time-modification><actual-notes>3</actual-notes><normal-notes>2</normal-notes></time-modification>";
    let content = note("C4", 1, triplet).replace("<duration>1</duration>", "");
    let xml = one_part(&measure(1, &content)).replace("<divisions>2<", "<divisions>6<");
    assert_eq!(grid(&read_xml(&xml)), "60@0+0.333");
}

#[test]
fn transposing_instruments_sound_at_concert_pitch() {
    let clarinet = "<attributes><key><fifths>2</fifths></key><transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>";
    let bass = "<attributes><transpose><chromatic>0</chromatic><octave-change>-1</octave-change></transpose></attributes>";
    let back = "<attributes><transpose><chromatic>0</chromatic></transpose></attributes>";
    let double =
        "<attributes><transpose><chromatic>0</chromatic><double/></transpose></attributes>";
    let c = note("C4", 2, "");
    let content = [clarinet, &c, bass, &c, back, &c, double, &c].concat();
    check_measure(&content, "58@0+1 48@1+1 60@2+1 48@3+1 60@3+1");
    let score = read_xml(&one_part(&measure(1, &content)));
    assert_eq!(
        score.keys.first().map(|k| k.fifths),
        Some(0),
        "D major sounds as C major"
    );
    let spelling = score.parts[0].notes[0].pitch.spelling.unwrap();
    assert_eq!(
        (spelling.step, spelling.alter, spelling.octave),
        (6, -1, 3),
        "B flat"
    );
}

#[test]
fn staves_transpose_on_their_own() {
    let content = "<attributes><staves>2</staves><transpose number=\"2\"><chromatic>-12</chromatic></transpose></attributes>".to_owned()
        + &note("C4", 2, "<staff>1</staff>") + &note("C4", 2, "<staff>2</staff>");
    check_measure(&content, "60@0+1 48@1+1");
}

#[test]
fn microtones_keep_their_fraction() {
    let sharp = note("A4", 2, "").replace("<octave>", "<alter>0.5</alter><octave>");
    let flat = note("B4", 2, "").replace("<octave>", "<alter>-0.25</alter><octave>");
    let more = note("C4", 2, "").replace("<octave>", "<alter>1.5</alter><octave>");
    check_measure(&(sharp + &flat + &more), "69.5@0+1 70.75@1+1 61.5@2+1");
}

#[test]
fn an_octave_line_changes_nothing() {
    let line = "<direction><direction-type><octave-shift type=\"down\" size=\"8\"/></direction-type></direction>";
    check_measure(&(line.to_owned() + &note("C6", 2, "")), "84@0+1");
}

#[test]
fn cue_notes_are_silent_and_hidden_notes_sound() {
    let cue = note("C4", 2, "").replace("<note>", "<note><cue/>");
    let hidden = note("D4", 2, "").replace("<note>", "<note print-object=\"no\">");
    check_measure(&(cue + &hidden), "62@1+1");
}

#[test]
fn a_pickup_is_as_long_as_it_is_filled() {
    let pickup = measure(0, "<attributes><divisions>2</divisions></attributes>")
        .replace("</measure>", &(note("G4", 2, "") + "</measure>"));
    check(
        &(pickup + &measure(1, &note("C5", 8, "")) + &measure(2, &note("C5", 2, ""))),
        "67@0+1 72@1+4 72@5+1",
    );
}

#[test]
fn an_empty_measure_is_as_long_as_its_meter() {
    let waltz = "<attributes><time><beats>3</beats><beat-type>4</beat-type></time></attributes>";
    check(
        &(measure(1, waltz) + &measure(2, &note("C4", 2, ""))),
        "60@3+1",
    );
    let seven = "<attributes><time><beats>3+2</beats><beat-type>8</beat-type><beats>1</beats><beat-type>4</beat-type></time></attributes>";
    check(
        &(measure(1, seven) + &measure(2, &note("C4", 2, ""))),
        "60@3.5+1",
    );
}

#[test]
fn measures_are_as_long_as_the_longest_part() {
    let list = "<score-part id=\"P1\"><part-name/></score-part><score-part id=\"P2\"><part-name/></score-part>";
    let upper = measure(1, &note("C5", 2, "")) + &measure(2, &note("D5", 2, ""));
    let lower = measure(1, &note("C3", 8, "")) + &measure(2, &note("D3", 8, ""));
    let score = read_xml(&parts(list, &[&upper, &lower]));
    assert_eq!(grid(&score), "72@0+1 74@4+1 48@0+4 50@4+4");
}

#[test]
fn a_timewise_score_is_the_same_music() {
    let body = |p: &str| {
        measure(1, &note(p, 8, ""))
            .replace("<measure number=\"1\">", "")
            .replace("</measure>", "")
    };
    let xml = format!(
        "<score-timewise><part-list/><measure number=\"1\"><part id=\"A\">{}</part></measure>\
         <measure number=\"2\"><part id=\"A\">{}</part><part id=\"B\">{}</part></measure></score-timewise>",
        body("C4"),
        body("D4"),
        body("E4"),
    );
    assert_eq!(grid(&read_xml(&xml)), "60@0+4 62@4+4 64@4+4");
}

#[test]
fn measure_repeats_are_written_out() {
    let sign = |kind: &str| {
        format!(
            "<attributes><measure-style><measure-repeat type=\"{kind}\">1</measure-repeat></measure-style></attributes>"
        )
    };
    let content = measure(1, &note("C4", 8, ""))
        + &measure(2, &(sign("start") + &note("-", 8, "")))
        + &measure(3, &note("-", 8, ""))
        + &measure(4, &(sign("stop") + &note("D4", 8, "")));
    check(&content, "60@0+4 60@4+4 60@8+4 62@12+4");
}

#[test]
fn drums_are_found_by_number_name_and_place() {
    let list = "<score-part id=\"P1\"><part-name>Drums</part-name>\
        <score-instrument id=\"K\"><instrument-name>Kick</instrument-name></score-instrument>\
        <score-instrument id=\"H\"><instrument-name>Hi-Hat</instrument-name></score-instrument>\
        <score-instrument id=\"X\"><instrument-name>Thing</instrument-name></score-instrument>\
        <midi-instrument id=\"K\"><midi-channel>10</midi-channel><midi-unpitched>36</midi-unpitched></midi-instrument>\
        </score-part>";
    let hit = |id: &str| {
        format!(
            "<note><unpitched><display-step>E</display-step><display-octave>4</display-octave></unpitched><duration>2</duration><instrument id=\"{id}\"/></note>"
        )
    };
    let score = read_xml(&parts(
        list,
        &[&measure(1, &(hit("K") + &hit("H") + &hit("X")))],
    ));
    assert_eq!(grid(&score), "35@0+1 42@1+1 36@2+1");
    assert!(score.notes().all(|n| n.percussion && n.channel == Some(9)));
}

#[test]
fn programs_come_from_numbers_then_names_and_change() {
    let list = "<score-part id=\"P1\"><part-name>Violoncello</part-name></score-part>\
        <score-part id=\"P2\"><part-name>X</part-name><score-instrument id=\"I\"><instrument-name>Y</instrument-name></score-instrument>\
        <midi-instrument id=\"I\"><midi-program>57</midi-program><volume>50</volume></midi-instrument></score-part>";
    let change = "<sound><midi-instrument id=\"I\"><midi-program>74</midi-program></midi-instrument></sound>";
    let lower = note("C4", 2, "") + change + &note("C4", 2, "");
    let score = read_xml(&parts(
        list,
        &[&measure(1, &note("C3", 2, "")), &measure(1, &lower)],
    ));
    let programs: Vec<u8> = score.notes().map(|n| n.program).collect();
    assert_eq!(programs, [42, 56, 73]);
    assert_eq!(score.parts[1].instruments[0].volume, 64);
}

#[test]
fn repeat_signs_do_not_change_the_grid() {
    let end = "<barline location=\"right\"><repeat direction=\"backward\"/></barline>";
    let xml = one_part(&(measure(1, &(note("C4", 8, "") + end)) + &measure(2, &note("D4", 8, ""))));
    let score = read_xml(&xml);
    assert_eq!(grid(&score), "60@0+4 62@4+4");
    assert_eq!(sound(&score), "60@0+4 60@4+4 62@8+4");
}

#[test]
fn encodings() {
    let xml = one_part(&measure(1, &note("C4", 2, ""))).replace("Piano", "Flöte");
    let units: Vec<u16> = xml.encode_utf16().collect();
    let little: Vec<u8> = [0xFF, 0xFE]
        .into_iter()
        .chain(units.iter().flat_map(|u| u.to_le_bytes()))
        .collect();
    let big: Vec<u8> = [0xFE, 0xFF]
        .into_iter()
        .chain(units.iter().flat_map(|u| u.to_be_bytes()))
        .collect();
    let bare: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
    let utf8: Vec<u8> = [0xEF, 0xBB, 0xBF].into_iter().chain(xml.bytes()).collect();
    let declared = xml.replace(
        "version=\"1.0\"?",
        "version=\"1.0\" encoding=\"ISO-8859-1\"?",
    );
    let latin: Vec<u8> = declared.chars().map(|c| c as u8).collect();
    for bytes in [little, big, bare, utf8, latin, xml.into_bytes()] {
        assert_eq!(sniff(&bytes), Some(Format::MusicXml));
        assert_eq!(read(&bytes).unwrap().parts[0].name, "Flöte");
    }
}

#[test]
fn a_container_is_unpacked() {
    let score = read_xml(&one_part(&measure(1, &note("C4", 8, ""))));
    let bytes = write_mxl(&score).unwrap();
    assert_eq!(sniff(&bytes), Some(Format::Mxl));
    assert_eq!(grid(&read(&bytes).unwrap()), "60@0+4");
    assert_eq!(
        bytes,
        write_mxl(&score).unwrap(),
        "equal scores, equal bytes"
    );
}

#[test]
fn a_plain_document_type_passes() {
    let xml = one_part(&measure(1, &note("C4", 2, ""))).replace(
        "<score-partwise",
        "<!DOCTYPE score-partwise PUBLIC \"-//Recordare//DTD MusicXML 4.0 Partwise//EN\" \"http://www.musicxml.org/dtds/partwise.dtd\"><score-partwise",
    );
    assert_eq!(grid(&read_xml(&xml)), "60@0+1");
}

#[test]
fn titles_and_composers() {
    let xml = one_part(&measure(1, "")).replace(
        "<part-list>",
        "<work><work-title>A  &amp; B</work-title></work><identification><creator type=\"composer\">C</creator></identification><part-list>",
    );
    let score = read_xml(&xml);
    assert_eq!(
        (score.title.as_str(), score.composer.as_str()),
        ("A & B", "C")
    );
    assert!(score.is_empty());
}

#[test]
fn errors_name_part_and_measure() {
    let cases = [
        (
            note("C4", 2, "").replace(">2<", ">two<"),
            "`<duration>` is `two`",
        ),
        (note("H4", 2, ""), "`<step>` is `H`"),
        (
            note("C4", 2, "").replace("<octave>4", "<octave>99"),
            "`<octave>` is `99`",
        ),
        (
            "<attributes><divisions>0</divisions></attributes>".to_owned(),
            "`<divisions>` is `0`",
        ),
        (
            "<attributes><time><beats>x</beats><beat-type>4</beat-type></time></attributes>"
                .to_owned(),
            "`<beats>` is `x`",
        ),
        (
            note("C4", 2, "").replace("<octave>", "<alter>1e9</alter><octave>"),
            "`<alter>` is `1e9`",
        ),
    ];
    for (content, what) in cases {
        let xml = one_part(&(measure(1, "") + &measure(7, &content)));
        let error = read(xml.as_bytes()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("part `P1`, measure `7`"), "{text}");
        assert!(text.contains(what), "{text}");
    }
    assert!(matches!(
        read(b"<html/>"),
        Err(ScoreError::UnknownFormat { len: 7 })
    ));
    assert!(matches!(
        read(b""),
        Err(ScoreError::UnknownFormat { len: 0 })
    ));
    let cut = one_part(&measure(1, &note("C4", 2, "")));
    assert!(matches!(
        read(&cut.as_bytes()[..cut.len() - 20]),
        Err(ScoreError::Xml(_))
    ));
}
