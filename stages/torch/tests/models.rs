//! What every model promises, tried on each.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use common::format;
use pipeline_torch::models::{Chunk, Moment, Pass};
use pipeline_torch::params::Params;
use pipeline_torch::rows::Rows;
use pipeline_torch::tasks::frames::{FrameModel, build};
use pipeline_torch::trainer::optim::{Optimiser, Settings};
use serde_json::json;
use stage_train::{Train, Training};
use tch::{Device, Kind, Tensor};

const BINS: u32 = 33;
const FLOATS: (Kind, Device) = (Kind::Float, Device::Cpu);

fn rows() -> Rows {
    let width = 2 * BINS as usize;
    Rows {
        columns: vec![("magnitude".into(), BINS), ("phase".into(), BINS)],
        mean: vec![-4.0; width],
        std: vec![2.0; width],
        min: vec![-10.0; width],
        max: vec![0.0; width],
        frames: format().metadata(),
    }
}

fn each(check: impl Fn(Box<dyn FrameModel>)) {
    for params in [
        json!({"hidden_size": 12, "dropout": 0.0}),
        json!({"model": "fft-frame-lstm", "hidden_size": 12, "num_layers": 2, "window": 6}),
    ] {
        let train: Train = serde_json::from_value(params).unwrap();
        check(build(&train.architecture, &rows(), Params::new(Device::Cpu, 1)).unwrap());
    }
}

/// Slow waves with a little noise, in nepers.
fn frames(streams: i64, count: i64) -> Tensor {
    tch::manual_seed(5);
    let t = Tensor::arange(count, FLOATS).view([1, count, 1]);
    let bin = Tensor::arange(2 * i64::from(BINS), FLOATS).view([1, 1, -1]);
    let wave = (t * 0.2 + bin * 0.3).sin() * 1.5 - 4.0;
    wave + Tensor::randn([streams, count, 2 * i64::from(BINS)], FLOATS) * 0.1
}

/// A model that has been trained for some steps on one batch, and the losses.
fn train(model: &mut dyn FrameModel, steps: usize) -> Vec<f64> {
    let rows = frames(4, 7);
    let chunk = Chunk {
        weight: Tensor::ones([4, 6], FLOATS),
        reset: Tensor::ones([4], FLOATS),
        rows,
    };
    let settings = Settings::new(&Training::default());
    let mut optimiser = Optimiser::new(settings, model.params(), |_| true).unwrap();
    let state = model.begin(4).unwrap();
    (0..steps)
        .map(|_| {
            let loss = model.loss(0, &chunk, &state).unwrap();
            model.params_mut().zero_grad().unwrap();
            loss.total.backward();
            optimiser.step(model.params(), 0.01).unwrap();
            f64::try_from(&loss.total).unwrap()
        })
        .collect()
}

/// One chunk in four streams, as a pass over a training split.
fn pass() -> Pass<'static> {
    let chunk = Chunk {
        rows: frames(4, 257),
        reset: Tensor::ones([4], FLOATS),
        weight: Tensor::ones([4, 256], FLOATS),
    };
    Pass {
        streams: 4,
        rows: 4 * 257,
        chunks: Box::new(std::iter::once(Ok(chunk))),
    }
}

#[test]
fn one_batch_is_learnt_by_heart() {
    let _turn = common::alone();
    each(|mut model| {
        let losses = train(model.as_mut(), 80);
        assert!(
            losses[79] < 0.5 * losses[0],
            "{} to {}",
            losses[0],
            losses[79]
        );
    });
}

/// What training and prediction compute, for each architecture: the loss at first and after 20
/// steps, and the mean and the spread of what is then predicted.
#[test]
fn golden_values_of_training_and_prediction() {
    let _turn = common::alone();
    let golden = std::cell::Cell::new(GOLDEN.iter());
    each(|mut model| {
        let losses = train(model.as_mut(), 20);
        let (new, state) = (Tensor::ones([2], FLOATS), model.begin(2).unwrap());
        let (next, _) = model.predict(&frames(2, 20), &new, &state).unwrap();
        let value = |x: Tensor| f64::try_from(x).unwrap();
        let (mean, spread) = (value(next.mean(Kind::Float)), value(next.std(true)));
        let got = [losses[0], losses[19], mean, spread];
        let mut rest = golden.take();
        let expected = rest.next().unwrap();
        golden.set(rest);
        let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 2e-3 * y.abs().max(1.0);
        assert!(
            got.iter().zip(expected).all(close),
            "the model computes {got:?}, expected {expected:?}: if this is meant, raise `VERSION` \
             of the stage `train` (and of `predict`, if a model at hand predicts otherwise) and \
             put these values in place"
        );
    });
}

/// First and last loss, mean and deviation of a prediction, of each architecture.
const GOLDEN: [[f64; 4]; 2] = [
    [0.015_783, 0.004_464, -2.051_325, 2.194_221],
    [0.316_147, 0.007_664, -1.699_673, 2.818_838],
];

#[test]
fn chunks_with_carried_state_equal_the_whole() {
    let _turn = common::alone();
    each(|mut model| {
        train(model.as_mut(), 3);
        let x = frames(2, 20);
        let (new, goes_on) = (Tensor::ones([2], FLOATS), Tensor::zeros([2], FLOATS));
        let state = model.begin(2).unwrap();
        let (whole, _) = model.predict(&x, &new, &state).unwrap();
        let (first, state) = model.predict(&x.narrow(1, 0, 8), &new, &state).unwrap();
        let (second, after) = model
            .predict(&x.narrow(1, 8, 12), &goes_on, &state)
            .unwrap();
        let chunks = Tensor::cat(&[first, second], 1);
        assert!(whole.allclose(&chunks, 1e-4, 1e-4, false));
        // A reset forgets everything before it.
        let (again, _) = model.predict(&x, &new, &after).unwrap();
        assert!(whole.allclose(&again, 1e-5, 1e-5, false));
    });
}

#[test]
fn draws_stay_in_range_and_without_temperature_are_the_mean() {
    let _turn = common::alone();
    each(|mut model| {
        train(model.as_mut(), 3);
        model.fit(Moment::AfterTraining, &|| Ok(pass())).unwrap();
        let x = frames(3, 12);
        let (new, state) = (Tensor::ones([3], FLOATS), model.begin(3).unwrap());
        let (mean, _) = model.predict(&x, &new, &state).unwrap();
        let draw = |temperature: f64, seed| {
            tch::manual_seed(seed);
            let temperature = Tensor::full([3], temperature, FLOATS);
            model.sample(&x, &new, &state, &temperature).unwrap().0
        };
        let magnitudes = |x: &Tensor| x.narrow(-1, 0, i64::from(BINS));
        let cold = draw(0.0, 1);
        assert!(magnitudes(&cold).allclose(&magnitudes(&mean.select(1, 11)), 1e-4, 1e-4, false));
        let hot = draw(10.0, 1);
        let (low, high) = (magnitudes(&hot).min(), magnitudes(&hot).max());
        assert!(f64::try_from(low).unwrap() >= -10.001 && f64::try_from(high).unwrap() <= 0.001);
        assert_eq!(hot, draw(10.0, 1), "the seed decides");
        // A model that keeps no errors has nothing to draw from.
        assert_eq!(model.buffers().is_empty(), hot == draw(10.0, 2));
    });
}

#[test]
fn rows_that_do_not_suit_are_refused() {
    let _turn = common::alone();
    let of = |params, rows: &Rows| {
        let train: Train = serde_json::from_value(params).unwrap();
        build(&train.architecture, rows, Params::new(Device::Cpu, 1))
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let mut no_phase = rows();
    no_phase.columns.pop();
    for values in [&mut no_phase.mean, &mut no_phase.std] {
        values.truncate(BINS as usize);
    }
    assert!(of(json!({"model": "fft-frame-lstm"}), &no_phase).contains("`phase`"));
    let mut linear = rows();
    linear.frames.insert("magnitude".into(), "linear".into());
    assert!(of(json!({}), &linear).contains("log-magnitudes"));
    let mut other = rows();
    other.columns[0].0 = "tokens".into();
    assert!(of(json!({}), &other).contains("`magnitude`"));
}
