//! The order in which measures are played.

use super::{measure, note, one_part, read_xml, sound};
use crate::unfold::play_order;

fn barline(location: &str, content: &str) -> String {
    format!("<barline location=\"{location}\">{content}</barline>")
}

/// Measures are written as words: `|:` and `:|` (`:|3` for three times) repeat,
/// `[1` … `1]` are endings, the rest are attributes of a `<sound>`.
fn score_of(line: &str) -> String {
    let mut measures = String::new();
    for (number, word) in (1..).zip(line.split_whitespace()) {
        let (mut left, mut right, mut sounds) = (String::new(), String::new(), String::new());
        for token in word.split('_') {
            match token {
                "-" => {}
                "|:" => left += "<repeat direction=\"forward\"/>",
                ":|" => right += "<repeat direction=\"backward\"/>",
                t if t.starts_with(":|") => {
                    right += &format!("<repeat direction=\"backward\" times=\"{}\"/>", &t[2..]);
                }
                t if t.starts_with('[') => {
                    left = format!("<ending number=\"{}\" type=\"start\"/>", &t[1..]) + &left;
                }
                t if t.ends_with(']') => {
                    right = format!("<ending number=\"{}\" type=\"stop\"/>", &t[..t.len() - 1])
                        + &right;
                }
                t => sounds += &format!("<sound {t}/>"),
            }
        }
        let content =
            barline("left", &left) + &note("C4", 8, "") + &sounds + &barline("right", &right);
        measures += &measure(number, &content);
    }
    one_part(&measures)
}

#[track_caller]
fn check(line: &str, expected: &str) {
    let score = read_xml(&score_of(line));
    let order = play_order(&score.measures).unwrap();
    let played: Vec<String> = order.iter().map(|i| (i + 1).to_string()).collect();
    assert_eq!(played.join(" "), expected, "{line}");
}

#[test]
fn sections() {
    check("- - -", "1 2 3");
    check("- -_:| -", "1 2 1 2 3");
    check("- |: -_:| -", "1 2 3 2 3 4");
    check("|:_:| |:_:|3 -", "1 1 2 2 2 3");
    check("- :| - :|", "1 2 1 2 3 4 3 4");
    check("|:_:|1 -", "1 2");
}

#[test]
fn endings() {
    check("|: - [1_1]_:| [2_2] -", "1 2 3 1 2 4 5");
    check("- [1 1]_:| [2_2]", "1 2 3 1 4");
    check("|: [1,2_1,2]_:| [3_3] -", "1 2 1 2 1 3 4");
    check("|: [1-3_1]_:|4 [4_4]", "1 2 1 2 1 2 1 3");
    check("|: [1_1]_:| [2_2]_:| [3_3] -", "1 2 1 3 1 4 5");
    // A last ending that is not closed ends where the next section begins.
    check("|: [1_1]_:| [2 |: -_:|", "1 2 1 3 4 5 4 5");
    // A lone first ending is left out the second time.
    check("|: [1_1]_:| -", "1 2 1 3");
}

#[test]
fn sections_nest() {
    check("|: |: -_:| -_:|", "1 2 3 2 3 4 1 2 3 2 3 4");
    check(
        "|: |: [1_1]_:| [2_2] [1_1]_:| [2_2]",
        "1 2 3 2 4 5 1 2 3 2 4 6",
    );
}

#[test]
fn jumps() {
    check("- fine=\"yes\" - dacapo=\"yes\"", "1 2 3 4 1 2");
    check(
        "- segno=\"s\" fine=\"yes\" - dalsegno=\"s\" -",
        "1 2 3 4 5 2 3",
    );
    check(
        "segno=\"s\" tocoda=\"c\" dalsegno=\"s\" coda=\"c\" -",
        "1 2 3 1 2 4 5",
    );
    check("- dacapo=\"yes\" -", "1 2 1 2 3");
    // Repeats are not taken again after the jump, the last ending is played …
    check("|: [1_1]_:| [2_2]_dacapo=\"yes\"", "1 2 1 3 1 3");
    // … unless the jump says so.
    check(
        "|:_:| -_dacapo=\"yes\"_forward-repeat=\"yes\" -",
        "1 1 2 1 1 2 3",
    );
    // Labels that do not match lead to the nearest sign.
    check("segno=\"a\" - dalsegno=\"b\"", "1 2 3 1 2 3");
}

#[test]
fn jumps_to_nowhere_are_ignored() {
    check("- dalsegno=\"s\" tocoda=\"c\"", "1 2 3");
}

#[test]
fn ties_into_a_repeat_are_struck() {
    let tie = |kind: &str| format!("<tie type=\"{kind}\"/>");
    let first = barline("left", "<repeat direction=\"forward\"/>") + &note("C4", 8, &tie("start"));
    let second = note("C4", 8, &tie("stop"));
    let content = measure(1, &note("E4", 8, &tie("start")))
        + &measure(
            2,
            &(note("E4", 8, &tie("stop")) + &barline("left", "<repeat direction=\"forward\"/>")),
        )
        + &measure(
            3,
            &(note("F4", 8, "") + &barline("right", "<repeat direction=\"backward\"/>")),
        );
    let score = read_xml(&one_part(&content));
    assert_eq!(sound(&score), "64@0+8 65@8+4 64@12+4 65@16+4");
    let whole = read_xml(&one_part(
        &(measure(1, &first)
            + &measure(
                2,
                &(second + &barline("right", "<repeat direction=\"backward\"/>")),
            )),
    ));
    assert_eq!(sound(&whole), "60@0+8 60@8+8");
}

#[test]
fn the_tempo_goes_back_with_a_repeat() {
    let faster = "<sound tempo=\"120\"/>".to_owned()
        + &note("D4", 8, "")
        + &barline("right", "<repeat direction=\"backward\"/>");
    let score = read_xml(&one_part(
        &(measure(1, &note("C4", 8, "")) + &measure(2, &faster)),
    ));
    assert_eq!(sound(&score), "60@0+4 62@4+2 60@6+4 62@10+2");
}
