//! What pipeline.toml may say, and how it is told when it may not.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod toy;

use engine::Config;

fn error(toml: &str, settings: &[&str]) -> String {
    match Config::parse(
        "pipeline.toml".as_ref(),
        toml.to_owned(),
        &toy::registry(),
        &toy::set(settings),
    ) {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Rows of (file, expected words of the error).
#[test]
fn errors_point_and_hint() {
    let source = "[sources.corpus]\npath = \"c\"\n";
    let rows: [(&str, &[&str]); 15] = [
        ("[sources.corpus\n", &["line 3", "^"]),
        (
            "[sorces.corpus]\n",
            &["unknown table `sorces`", "did you mean `sources`?"],
        ),
        (
            "[sources.c]\npth = \"x\"\n",
            &["line 4", "unknown key `pth`", "`path`"],
        ),
        (
            "[sources.c]\npath = 3\n",
            &["`path` is an integer, expected a string"],
        ),
        (
            "[sources.c]\non_bad = \"skip\"\n",
            &["expected \"fail\" or \"warn\""],
        ),
        ("[sources.c]\ninclude = [\"[\"]\n", &["is no glob"]),
        (
            "[stages.raed]\n",
            &["no stage kind `raed`", "did you mean `read`?"],
        ),
        (
            "[stages.x]\nkind = \"read\"\n",
            &["lacks its input `items`"],
        ),
        (
            "[stages.read]\ninputs = [\"corpse\"]\n",
            &["line 4", "no stage or source `corpse`"],
        ),
        (
            "[stages.read]\ninputs = [\"corpus\"]\nuper = true\n",
            &[
                "unknown parameter `uper`",
                "did you mean `upper`?",
                "line 5",
            ],
        ),
        (
            "[stages.read]\ninputs = [\"corpus\"]\nupper = 3\n",
            &["bad value of `upper`", "boolean", "the default is false"],
        ),
        (
            "[stages.read]\ninputs = [\"corpus\"]\nlimit = 11\n",
            &["`limit` is 11 lines, expected 0 to 10 lines", "line 5"],
        ),
        (
            "[stages.count]\ninputs = \"sum\"\n[stages.sum]\ninputs = \"count\"\n",
            &["cycle", "count → sum → count"],
        ),
        (
            "[stages.tell]\ninputs = [\"corpus\"]\n",
            &["has 2 inputs", "sum = …"],
        ),
        (
            "[stages.tell]\ninputs = { sum = \"corpus\" }\n",
            &["does not fit", "input `sum`"],
        ),
    ];
    for (toml, words) in rows {
        let shown = error(&format!("{source}{toml}"), &[]);
        for word in words {
            assert!(shown.contains(word), "{toml}\n{shown}\nlacks {word}");
        }
    }
}

#[test]
fn overrides_are_checked_alike() {
    let rows: [(&str, &[&str]); 5] = [
        ("sum.unit=words", &["no error"]),
        (
            "sum.unt=words",
            &["--set", "unknown parameter `unt`", "did you mean `unit`?"],
        ),
        (
            "smu.unit=words",
            &["there is no stage `smu`", "did you mean `sum`?"],
        ),
        ("sum", &["expected STAGE.KEY=VALUE"]),
        ("read.limit=much", &["bad value of `limit`"]),
    ];
    for (setting, words) in rows {
        let shown = error(toy::TOML, &[setting]);
        for word in words {
            assert!(shown.contains(word), "{setting}\n{shown}\nlacks {word}");
        }
    }
}
