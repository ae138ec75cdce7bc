//! What pipeline.toml may say, and how it is told when it may not.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod toy;

use std::collections::BTreeMap;

use engine::config::Preparing;
use engine::{Config, StageSpec};
use serde_json::{Map, Value, json};

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
    let rows: [(&str, &[&str]); 22] = [
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
        (
            "[stages.read]\ninputs = [\"corpus\", \"corpus\"]\n",
            &[
                "line 4",
                "`corpus` is named twice in input `items`",
                "          ^^^^^^^^",
                "hint: name it once",
            ],
        ),
        (
            "[stages.read]\ninputs = \"corpus\"\n[stages.count]\ninputs = [\"read\", \"read@corpus\"]\n",
            &[
                "line 6",
                "`read` and `read@corpus` in input `items` name the same items",
            ],
        ),
        (
            "[stages.read]\ninputs = \"corpus\"\n[stages.count]\ninputs = [\"read@corpus\", \"read\"]\n",
            &["line 6", "`read@corpus` and `read` in input `items`"],
        ),
        (
            "[sources.p]\n[stages.read]\ninputs = [\"corpus\", \"p\"]\n[stages.count]\ninputs = [\"read@corpus\", \"read@p\"]\n",
            &["no error"],
        ),
        (
            "[stages.read]\ninputs = \"corpus\"\n[stages.sum]\ninputs = [\"read\"]\n[stages.count]\ninputs = [\"read\"]\n",
            &[
                "stage `read` (kind `read`) gives text, but input `items` of stage `sum` (kind `sum`) takes count",
                "line 6",
                "these fit: `count`",
            ],
        ),
        (
            "[stages.sum]\ninputs = [\"corpus\"]\n",
            &[
                "source `corpus` gives files, but",
                "takes count",
                "it needs texts",
            ],
        ),
        (
            "[stages.read]\ninputs = \"corpus\"\n[stages.encode]\ninputs = { items = \"read\", codec = \"sum\" }\n[stages.count]\ninputs = \"read\"\n[stages.sum]\ninputs = \"count\"\n[stages.codec]\ninputs = \"read\"\n",
            &[
                "stage `sum` (kind `sum`) gives sum, but input `codec` of stage `encode` (kind `encode`) takes codec",
                "these fit: `codec`",
            ],
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

/// Rows of (tables of stage `pack`, `--set`, words of the error or the parameters).
#[test]
fn parameters_may_stand_in_tables() {
    let rows: [(&str, &[&str], &[&str]); 10] = [
        (
            "",
            &[],
            &[r#"{"style":{"before":"","number":{"on":false}}}"#],
        ),
        (
            "style.before = \"-\"\nstyle.number.on = true\n",
            &[],
            &[r#"{"style":{"before":"-","number":{"on":true}}}"#],
        ),
        (
            "[stages.pack.style]\nbefore = \"-\"\n",
            &["pack.style.number.on=true", "pack.style.before=+"],
            &[r#"{"style":{"before":"+","number":{"on":true}}}"#],
        ),
        (
            "style = { before = \"-\" }\n",
            &["pack.style={ number = { on = true } }"],
            &[r#"{"style":{"before":"","number":{"on":true}}}"#],
        ),
        (
            "[stages.pack.style.number]\nonn = true\n",
            &[],
            &[
                "line 8",
                "unknown parameter `style.number.onn`",
                "did you mean `on`?",
            ],
        ),
        (
            "[stages.pack.style]\nbefore = 3\n",
            &[],
            &[
                "line 8",
                "bad value of `style.before`",
                "the default is \"\"",
            ],
        ),
        ("style = 3\n", &[], &["line 7", "bad value of `style`"]),
        (
            "",
            &["pack.style.numbr.on=true"],
            &["--set", "unknown parameter `style.numbr`"],
        ),
        (
            "",
            &["pack.style.before.x=true"],
            &["parameter `style.before`", "has no `x`"],
        ),
        (
            "",
            &["pack.style.number=7"],
            &["bad value of `style.number`"],
        ),
    ];
    let base = "[sources.corpus]\npath = \"c\"\n[stages.read]\ninputs = \"corpus\"\n";
    let base = format!("{base}[stages.pack]\ninputs = \"encode\"\n");
    let rest = "[stages.encode]\ninputs = { items = \"read\", codec = \"codec\" }\n\
                [stages.codec]\ninputs = \"read\"\n";
    for (tables, settings, words) in rows {
        let toml = format!("{base}{tables}{rest}");
        let parsed = Config::parse("x".as_ref(), toml, &toy::registry(), &toy::set(settings));
        let shown = match parsed {
            Ok(config) => {
                let pack = config.graph.stage("pack").unwrap();
                stage_core::canonical_json(&config.graph.stages[pack].params)
            }
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(
                shown.contains(word),
                "{tables}{settings:?}\n{shown}\nlacks {word}"
            );
        }
    }
}

/// Stages `s0` to `s{n-1}`, each with the inputs that `inputs` gives it.
fn chain(n: usize, inputs: impl Fn(usize) -> Vec<String>) -> String {
    let mut toml = String::from("[sources.corpus]\npath = \"c\"\n");
    for stage in 0..n {
        toml += &format!(
            "[stages.s{stage}]\nkind = \"count\"\ninputs = {:?}\n",
            inputs(stage)
        );
    }
    toml
}

fn before(stage: usize) -> String {
    match stage {
        0 => "corpus".to_owned(),
        n => format!("s{}", n - 1),
    }
}

/// Graphs that are small to write and huge to work on.
#[test]
fn graphs_that_grow_without_end_are_refused() {
    let row = chain(300, |n| vec![before(n)]);
    let shown = error(&row, &[]);
    assert!(shown.contains("in a row, expected at most 50"), "{shown}");
    let all = chain(300, |n| (0..=n).map(before).collect());
    let shown = error(&all, &[]);
    assert!(shown.contains("up to stage `s12`"), "{shown}");
    assert!(shown.contains("more than 4096 actions for each file of source `corpus`"));
    // Two by two, each of both before it.
    let pairs = chain(80, |n| match n {
        0 | 1 => vec!["corpus".to_owned()],
        n => vec![format!("s{}", n / 2 * 2 - 2), format!("s{}", n / 2 * 2 - 1)],
    });
    assert!(error(&pairs, &[]).contains("more than 4096 actions"));
    // Side by side they are no more than they look.
    let wide = chain(300, |_| vec!["corpus".to_owned()]);
    assert_eq!(error(&wide, &[]), "no error");
    // A ring of very many.
    let ring = chain(20_000, |n| vec![format!("s{}", (n + 1) % 20_000)]);
    assert!(error(&ring, &[]).contains("the stages form a cycle: "));
}

/// The order of inputs, sources and stages, and the names of stages, leave no trace.
#[test]
fn a_list_of_inputs_is_a_set() {
    let graph = |text: &str| {
        let toml = text.replace("; ", "\n");
        let parsed = Config::parse("x".as_ref(), toml, &toy::registry(), &[]);
        parsed.unwrap_or_else(|error| panic!("{error}")).graph
    };
    let preprocessing = |text: &str| {
        let graph = graph(text);
        let stage = graph.stages.iter().position(|def| def.kind == "sum");
        let describe = |stage: usize| Preparing {
            params: graph.stages[stage].params.clone(),
            artifacts: BTreeMap::new(),
        };
        graph.preprocessing(stage.unwrap(), &describe)
    };
    let base = "[sources.a]; [sources.b]; [stages.read]; inputs = [\"a\", \"b\"]; [stages.loud]; \
                kind = \"read\"; upper = true; inputs = [\"a\", \"b\"]; [stages.count]; \
                inputs = [\"loud\", \"read\"]; [stages.sum]; inputs = [\"count\"]";
    let expected = serde_json::json!([{
        "kind": "count", "version": 1, "params": {"letters": false},
        "inputs": [
            {"kind": "read", "version": 1, "params": {"limit": 0.0, "upper": false}, "inputs": ["source"]},
            {"kind": "read", "version": 1, "params": {"limit": 0.0, "upper": true}, "inputs": ["source"]},
        ],
    }]);
    assert_eq!(preprocessing(base), expected);
    let swaps = [
        ("[\"loud\", \"read\"]", "[\"read\", \"loud\"]"),
        ("[\"a\", \"b\"]", "[\"b\", \"a\"]"),
        ("[sources.a]; [sources.b]", "[sources.b]; [sources.a]"),
        ("loud", "soft"),
        ("loud", "z"),
    ];
    let inputs = |text: &str| -> Vec<_> {
        let graph = graph(text);
        let inputs = graph.stages.into_iter().map(|def| def.inputs);
        inputs.collect()
    };
    for (from, to) in swaps {
        let other = base.replace(from, to);
        assert_ne!(other, base);
        assert_eq!(preprocessing(&other), expected, "{other}");
        if !from.contains("loud\"") && from.contains('[') {
            assert_eq!(inputs(&other), inputs(base), "{other}");
        }
    }
}

/// A stage as a value.
fn spec(name: &str, kind: &str, params: Value, inputs: &[(&str, &[&str])]) -> StageSpec {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let inputs = inputs.iter();
    StageSpec {
        name: name.to_owned(),
        kind: kind.to_owned(),
        params: params.as_object().cloned().unwrap_or_default(),
        inputs: inputs
            .map(|(port, list)| ((*port).to_owned(), names(list)))
            .collect::<BTreeMap<_, _>>(),
        ..StageSpec::default()
    }
}

fn build(stages: Vec<StageSpec>, settings: &[&str]) -> Result<Config, String> {
    let settings = toy::set(settings);
    Config::build("a model", &["corpus"], stages, &toy::registry(), &settings)
        .map_err(|error| error.to_string())
}

#[test]
fn a_graph_of_values_is_the_graph_of_its_text() {
    let text = "[sources.corpus]\n[stages.read]\ninputs = [\"corpus\"]\nupper = true\n";
    let settings = toy::set(&[]);
    let parsed = Config::parse(
        "pipeline.toml".as_ref(),
        text.to_owned(),
        &toy::registry(),
        &settings,
    );
    let parsed = parsed.unwrap().graph;
    let stages = vec![spec(
        "read",
        "read",
        json!({"upper": true}),
        &[("items", &["corpus"])],
    )];
    let built = build(stages.clone(), &[]).unwrap().graph;
    assert_eq!(built.stages[0].params, parsed.stages[0].params);
    assert_eq!(built.stages[0].inputs, parsed.stages[0].inputs);
    assert!(built.sources[0].path.is_none());
    let overridden = build(stages, &["read.upper=false"]).unwrap().graph;
    assert_eq!(overridden.stages[0].params["upper"], false);
}

/// Rows of (stages, settings, expected words of the error).
#[test]
fn a_graph_of_values_is_checked_like_text() {
    let read = |params| spec("read", "read", params, &[("items", &["corpus"])]);
    let rows: Vec<(Vec<StageSpec>, &[&str], &[&str])> = vec![
        (
            vec![read(json!({"uper": 1}))],
            &[],
            &["a model: unknown parameter `uper`", "`upper`"],
        ),
        (
            vec![read(json!({"upper": 7}))],
            &[],
            &["a model: bad value of `upper`", "7"],
        ),
        (
            vec![spec("read", "raed", json!({}), &[])],
            &[],
            &["no stage kind `raed`"],
        ),
        (
            vec![spec("a b", "read", json!({}), &[])],
            &[],
            &["`a b` cannot be a name"],
        ),
        (
            vec![spec("read", "read", json!({}), &[])],
            &[],
            &["lacks its input `items`"],
        ),
        (
            vec![spec("read", "read", json!({}), &[("itms", &["corpus"])])],
            &[],
            &["unknown input `itms`"],
        ),
        (
            vec![read(Value::Object(Map::new())), read(json!({}))],
            &[],
            &["two stages are named `read`"],
        ),
        (
            vec![spec("corpus", "read", json!({}), &[("items", &["corpus"])])],
            &[],
            &["is both a source and a stage"],
        ),
        (
            vec![read(json!({}))],
            &["raed.upper=true"],
            &["no stage `raed`", "`read`"],
        ),
    ];
    for (stages, settings, words) in rows {
        let error = build(stages, settings)
            .err()
            .unwrap_or_else(|| "no error".to_owned());
        for word in words {
            assert!(error.contains(word), "{error}\nlacks {word}");
        }
    }
}

/// The request brings what a provided port takes.
#[test]
fn a_provided_port_needs_no_input() {
    let mut alone = spec("read", "read", json!({}), &[]);
    alone.provided.insert("items".to_owned());
    assert!(build(vec![alone], &[]).is_ok());
}
