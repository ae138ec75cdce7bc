//! Bytes that mean harm, or nothing.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{measure, note, one_part};
use crate::{ScoreError, read, write_midi, write_musicxml, write_mxl};

/// Reads, and does everything that can be done with what was read.
fn exercise(bytes: &[u8]) {
    let Ok(score) = read(bytes) else { return };
    let _ = score.notes().count();
    // Pieces of many measures are well, but writing thousands of them takes long.
    let small = score.measures.len() * score.parts.len() < 1_000;
    if let Ok(performance) = score.performance() {
        for event in &performance.events {
            assert!(event.onset.is_finite() && event.onset >= 0.0);
            assert!(event.duration.is_finite() && event.duration > 0.0);
            assert!(event.pitch.is_finite() && (1..=127).contains(&event.velocity));
        }
    }
    if !small {
        return;
    }
    for written in [
        write_musicxml(&score),
        write_mxl(&score),
        write_midi(&score),
    ]
    .into_iter()
    .flatten()
    {
        read(&written).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&written)));
    }
}

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        archive
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn entities_are_refused() {
    let xml = one_part(&measure(1, "")).replace(
        "<score-partwise",
        "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><score-partwise",
    );
    assert!(matches!(read(xml.as_bytes()), Err(ScoreError::Entities)));
}

#[test]
fn deep_nesting_is_refused() {
    let xml = one_part(&format!("<measure>{}", "<a>".repeat(100_000)));
    assert!(matches!(
        read(xml.as_bytes()),
        Err(ScoreError::TooLarge {
            what: "nesting of elements",
            ..
        })
    ));
}

/// What makes the parser's work grow with the square is refused before it begins.
#[test]
fn many_attributes_and_namespaces_are_refused() {
    let attributes = |count: usize, quote: &str| {
        let each = (0..count).map(|i| format!(" a{i} =\n{quote}x>{quote}"));
        each.collect::<String>()
    };
    let namespaces = |count: usize| {
        let each = (0..count).map(|i| format!("<a xmlns:n{i}=\"x\"/>"));
        each.collect::<String>()
    };
    let rows = [
        (format!("<a{}/>", attributes(100, "'")), None),
        (
            format!("<a{}/>", attributes(101, "\"")),
            Some("number of attributes of an element"),
        ),
        // What stands around does not hide it.
        (
            format!(
                "<!-- <b c=\" --><![CDATA[<d e=']]><a{}/>",
                attributes(300_000, "\"")
            ),
            Some("number of attributes of an element"),
        ),
        (format!("<words>{}</words>", "=".repeat(1000)), None),
        ("<a xmlns:x=\"y\"/>".repeat(1000), None),
        (namespaces(16), None),
        (namespaces(17), Some("number of namespaces")),
    ];
    for (content, refused) in rows {
        let got = read(one_part(&measure(1, &content)).as_bytes());
        match (got, refused) {
            (Ok(_), None) => {}
            (Err(ScoreError::TooLarge { what, .. }), Some(expected)) => assert_eq!(what, expected),
            (got, _) => panic!("{:?}: {:?}", content.get(..80), got.err()),
        }
    }
}

#[test]
fn zip_bombs_are_refused() {
    let spaces = vec![b' '; 8 << 20];
    let bytes = zipped(&[("score.xml", &spaces)]);
    assert!(bytes.len() < 20_000);
    let error = read(&bytes).unwrap_err();
    assert!(
        matches!(
            error,
            ScoreError::TooLarge {
                what: "unpacked size in bytes",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn containers_may_be_plain_or_empty_or_lie() {
    let xml = one_part(&measure(1, &note("C4", 2, "")));
    assert!(read(&zipped(&[("a/score.xml", xml.as_bytes())])).is_ok());
    assert!(matches!(
        read(&zipped(&[("readme.txt", b"x")])),
        Err(ScoreError::NoRootfile)
    ));
    let lie = b"<container><rootfiles><rootfile full-path=\"gone.xml\"/></rootfiles></container>";
    assert!(
        read(&zipped(&[
            ("META-INF/container.xml", lie),
            ("there.xml", xml.as_bytes())
        ]))
        .is_ok()
    );
}

#[test]
fn repeats_do_not_explode() {
    let sections = |depth: usize| {
        let left = "<barline location=\"left\"><repeat direction=\"forward\"/></barline>";
        let right =
            "<barline location=\"right\"><repeat direction=\"backward\" times=\"1000\"/></barline>";
        let starts: String = (1..=depth).map(|n| measure(n, left)).collect();
        starts + &measure(50, &note("C4", 1, "")) + &measure(51, right).repeat(depth)
    };
    let score = read(one_part(&sections(3)).as_bytes()).unwrap();
    assert!(matches!(
        score.performance(),
        Err(ScoreError::TooLarge { .. })
    ));
}

#[test]
fn pieces_of_more_than_a_day_are_refused() {
    let xml = one_part(&measure(1, &note("C4", 8, "")))
        .replace("<divisions>2<", "<divisions>1<")
        .replace("tempo=\"60\"", "tempo=\"0.5\"");
    let long = xml.replace("<duration>8<", "<duration>3000<");
    let score = read(long.as_bytes()).unwrap();
    let error = score.performance().unwrap_err();
    assert!(
        matches!(
            error,
            ScoreError::TooLarge {
                got: 360_000,
                limit: 86_400,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn absurd_numbers_are_errors_with_their_place() {
    for (content, what) in [
        (
            note("C4", 2, "").replace(">2<", ">9999999999<"),
            "length in quarter notes",
        ),
        (
            "<forward><duration>8000000000</duration></forward>".to_owned(),
            "length in quarter notes",
        ),
    ] {
        let error = read(one_part(&measure(1, &content)).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(what) && error.contains("measure `1`"),
            "{error}"
        );
    }
    let primes = [16_777_213_u32, 16_777_199]
        .map(|p| format!("<measure><attributes><divisions>{p}</divisions></attributes></measure>"));
    assert!(matches!(
        read(one_part(&primes.concat()).as_bytes()),
        Err(ScoreError::Divisions { .. })
    ));
}

#[test]
fn midi_of_endless_silence_is_refused_or_cut() {
    let body: Vec<u8> = [0xFF, 0xFF, 0xFF, 0x7F, 0xB0, 1, 1].repeat(2000);
    let mut bytes = b"MThd\0\0\0\x06\0\0\0\x01\0\x01MTrk".to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&body);
    assert!(matches!(read(&bytes), Err(ScoreError::TooLarge { .. })));
}

/// Fragments that a MusicXML reader looks at, in any order.
fn fragments() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("1".to_owned()),
        Just("2".to_owned()),
        (-9_i32..2000).prop_map(|n| n.to_string()),
        Just("0.5".to_owned())
    ];
    let fragment = (0_usize..28, number).prop_map(|(kind, n)| match kind {
        0 => format!("<attributes><divisions>{n}</divisions></attributes>"),
        1 => format!("<backup><duration>{n}</duration></backup>"),
        2 => format!("<forward><duration>{n}</duration></forward>"),
        3..=8 => note("C4", 1, &format!("<voice>{n}</voice>")),
        9 | 10 => note("E4", 3, "<tie type=\"start\"/>"),
        11 | 12 => note("E4", 3, "<tie type=\"stop\"/><notations><fermata/><arpeggiate/></notations>"),
        13 => note("G4", 2, "").replace("<note>", "<note><chord/>"),
        14 | 15 => format!("<note><grace steal-time-previous=\"{n}\"/>{}<voice>1</voice></note>", super::pitch_of("D4")),
        16 => format!("<sound tempo=\"{n}\"><offset>{n}</offset></sound>"),
        17 => "<barline location=\"left\"><ending number=\"1\" type=\"start\"/><repeat direction=\"forward\"/></barline>".to_owned(),
        18 => format!("<barline><ending number=\"{n}\" type=\"stop\"/><repeat direction=\"backward\" times=\"{n}\"/></barline>"),
        19 => "<sound dacapo=\"yes\" fine=\"yes\" segno=\"a\" dalsegno=\"a\" coda=\"b\" tocoda=\"b\"/>".to_owned(),
        20 => "</measure><measure number=\"2\">".to_owned(),
        21 => format!("<attributes><time><beats>{n}</beats><beat-type>8</beat-type></time><transpose><chromatic>{n}</chromatic></transpose></attributes>"),
        22 => "<direction><direction-type><wedge type=\"crescendo\"/><dynamics><p/></dynamics><pedal type=\"start\"/></direction-type></direction>".to_owned(),
        23 => "<direction><direction-type><wedge type=\"stop\"/><dynamics><sfz/><ff/></dynamics><pedal type=\"change\"/></direction-type></direction>".to_owned(),
        24 => format!("<attributes><measure-style><measure-repeat type=\"start\">{n}</measure-repeat></measure-style></attributes>"),
        25 => note("A4", 2, "<notations><ornaments><trill-mark/></ornaments></notations>"),
        26 => "<note><unpitched/><duration>2</duration></note>".to_owned(),
        _ => format!("<note dynamics=\"{n}\"><pitch><step>B</step><alter>{n}</alter><octave>9</octave></pitch><duration>{n}</duration></note>"),
    });
    proptest::collection::vec(fragment, 0..40).prop_map(|all| all.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        exercise(&bytes);
    }

    #[test]
    fn any_midi_body_never_panics(
        format in 0_u8..3,
        division in prop_oneof![24_u16..1000, any::<u16>()],
        body in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0_u8), 0x80_u8..0x9F, Just(0xFF_u8), 0_u8..100], 0..400),
    ) {
        let mut bytes = b"MThd\0\0\0\x06\0".to_vec();
        bytes.push(format);
        bytes.extend_from_slice(&[0, 1]);
        bytes.extend_from_slice(&division.to_be_bytes());
        bytes.extend_from_slice(b"MTrk\0\0\x02\0");
        bytes.extend_from_slice(&body);
        exercise(&bytes);
    }

    #[test]
    fn any_fragments_never_panic(content in fragments()) {
        exercise(one_part(&measure(1, &content)).as_bytes());
    }

    #[test]
    fn damaged_files_never_panic(at in 0_usize..4000, byte in any::<u8>(), cut in any::<bool>()) {
        let xml = one_part(&(measure(1, &note("C4", 3, "<tie type=\"start\"/>")) + &measure(2, &note("C4", 2, "<tie type=\"stop\"/>"))));
        let score = read(xml.as_bytes()).unwrap();
        for mut bytes in [xml.into_bytes(), write_mxl(&score).unwrap(), write_midi(&score).unwrap()] {
            let at = at % bytes.len();
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = byte;
            }
            exercise(&bytes);
        }
    }
}
