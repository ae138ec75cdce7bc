//! What the program shows a person, word for word.

mod common;

use common::Place;

/// Two short recordings of the fixtures.
fn place() -> Place {
    let place = Place::initialised();
    place.take("fixtures/tone.flac", "a.flac");
    place.take("fixtures/tone.mp3", "b.mp3");
    place
}

/// Times and sizes differ from machine to machine.
fn without_figures(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let cut = ["under ", " in "]
            .iter()
            .filter_map(|mark| line.find(mark))
            .min();
        out.push_str(cut.map_or(line, |at| line[..at].trim_end()));
        out.push('\n');
    }
    out
}

#[test]
fn the_graph_is_a_picture() {
    let place = place();
    insta::assert_snapshot!(place.run(&["graph"]).expect(0).out, @r"
    corpus: corpus
    prompt: not bound (--prompt FILE)

                         corpus, prompt ──▶ ○ decode     2 stale
                         corpus, prompt ──▶ ● render     no items
                         decode, render ──▶ ○ featurize  2 stale
                       featurize@corpus ──▶ ○ dataset    3 stale
                                dataset ──▶ ○ train      1 stale
                           model: train ─┐
               prompt: featurize@prompt ─┼▶ · predict    not bound
    sound: decode@prompt, render@prompt ─┘

    ● fresh   ○ stale   · not bound
    ");
}

#[test]
fn the_models_are_listed_with_their_parameters() {
    insta::assert_snapshot!(place().run(&["models"]).expect(0).out, @r#"
    residual-lstm (frames): LSTM that predicts the change of a log-magnitude frame; samples from its training errors
      parameters
        channels     8
        chunk        64
        dropout      0.1
        hidden_size  256
        history      4
        input_noise  0.0
        num_layers   2
    fft-frame-lstm (frames): LSTM from a window of magnitudes, phases and descriptors to the next magnitude and phase
      parameters
        dropout      0.0
        hidden_size  512
        num_layers   4
        window       10
      training
        batch_size     75
        decay          "constant"
        decay_steps    0
        learning_rate  0.001
        warmup_steps   0
        weight_decay   0
    Parameters of training: docs/pipeline-toml.md
    "#);
}

#[test]
fn a_dry_run_says_what_and_why() {
    let place = place();
    place.json("dataset").expect(0);
    place.edit("# hop = 256", "hop = 128");
    let said = place.run(&["run", "dataset", "--dry-run"]).expect(0);
    insta::assert_snapshot!(without_figures(&said.out), @r"
    stage      fresh  stale  failed  blocked  to do
    decode         2      –       –        –
    featurize      –      2       –        –
    dataset        –      3       –        –

    featurize, 2 items: parameter hop 256 → 128
        a.flac
        b.mp3
    dataset, 2 items: waits for featurize
        a.flac
        b.mp3
    dataset: waits for featurize, its items
    5 actions to do at most:
    ");
}

#[test]
fn a_bad_parameter_is_pointed_at() {
    let place = place();
    place.edit("# hop = 256", "hop = 2048");
    let said = place.run(&["run"]).expect(2);
    insta::assert_snapshot!(said.err, @r"
    error: pipeline.toml, line 46: bad parameter of stage `featurize` (kind `featurize`): `hop` of 2048 samples is longer than the window of 1024 samples
       |
    46 | hop = 2048
       |       ^^^^
       hint: set `hop` to at most 1024, or lengthen `win_length`
    ");
}
