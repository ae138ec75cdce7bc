//! Optimisers with a state that can be saved: Adam, AdamW, RMSprop, SGD.
//!
//! tch's optimisers are opaque: their moments cannot be read, so that a resumed training differs
//! from an uninterrupted one. These are the updates of `torch.optim`, in the form and with the
//! rounding of its single-tensor path; `tests/fixtures/optimisers.json` holds PyTorch's numbers.

use std::collections::BTreeMap;

use stage_train::{Algorithm, Training};
use tch::Tensor;

use crate::Result;
use crate::params::Params;

/// An algorithm with its constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Decay of the mean gradient (Adam, AdamW).
    pub beta1: f64,
    /// Decay of the mean squared gradient (Adam, AdamW).
    pub beta2: f64,
    /// Decay of the mean squared gradient (RMSprop).
    pub alpha: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Momentum (SGD, RMSprop).
    pub momentum: f64,
    /// Nesterov's form of SGD's momentum.
    pub nesterov: bool,
    /// Weight decay, of matrices only: biases and scales are left alone.
    pub weight_decay: f64,
}

impl Settings {
    /// The settings that the parameters of training describe.
    pub fn new(training: &Training) -> Self {
        Self {
            algorithm: training.optimiser,
            beta1: training.beta1,
            beta2: training.beta2,
            alpha: training.alpha,
            epsilon: training.epsilon,
            momentum: training.momentum,
            nesterov: training.nesterov,
            weight_decay: training.weight_decay,
        }
    }

    /// The names of the tensors that are kept for each parameter.
    fn slots(&self) -> &'static [&'static str] {
        match self.algorithm {
            Algorithm::Adam | Algorithm::AdamW => &["first", "second"],
            Algorithm::RmsProp if self.momentum > 0.0 => &["second", "momentum"],
            Algorithm::RmsProp => &["second"],
            Algorithm::Sgd if self.momentum > 0.0 => &["momentum"],
            Algorithm::Sgd => &[],
        }
    }
}

/// An optimiser of some parameters.
#[derive(Debug)]
pub struct Optimiser {
    settings: Settings,
    step: u64,
    /// Parameter → the tensors of [`Settings::slots`].
    slots: BTreeMap<String, Vec<Tensor>>,
}

impl Optimiser {
    /// A fresh optimiser of the parameters that `belongs` names.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(
        settings: Settings,
        params: &Params,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut slots = BTreeMap::new();
        for (name, p) in params.iter().filter(|(name, _)| belongs(name)) {
            let zeros = settings
                .slots()
                .iter()
                .map(|_| p.f_detach()?.f_zeros_like());
            slots.insert(
                name.to_owned(),
                zeros.collect::<std::result::Result<_, _>>()?,
            );
        }
        Ok(Self {
            settings,
            step: 0,
            slots,
        })
    }

    /// Updates made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The gradients of its parameters, in the order of their names.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn gradients(&self, params: &Params) -> Result<Vec<Tensor>> {
        let mut all = Vec::with_capacity(self.slots.len());
        for p in self.slots.keys().filter_map(|name| params.get(name)) {
            let grad = p.f_grad()?;
            if grad.defined() {
                all.push(grad);
            }
        }
        Ok(all)
    }

    /// Updates every parameter that has a gradient, at the learning rate `rate`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn step(&mut self, params: &Params, rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let settings = self.settings;
        self.step += 1;
        let t = i32::try_from(self.step).unwrap_or(i32::MAX);
        for (name, slots) in &mut self.slots {
            let Some(p) = params.get(name) else { continue };
            let mut grad = p.f_grad()?;
            if !grad.defined() {
                continue;
            }
            let mut p = p.shallow_clone();
            if settings.weight_decay > 0.0 && p.dim() > 1 {
                if settings.algorithm == Algorithm::AdamW {
                    let _ = p.f_mul_scalar_(1.0 - rate * settings.weight_decay)?;
                } else {
                    grad = grad.f_add(&p.f_mul_scalar(settings.weight_decay)?)?;
                }
            }
            match (settings.algorithm, slots.as_mut_slice()) {
                (Algorithm::Adam | Algorithm::AdamW, [m, v]) => {
                    adam(&settings, t, &mut p, &grad, m, v, rate)?;
                }
                (Algorithm::RmsProp, [v, buffers @ ..]) => {
                    square(v, &grad, settings.alpha)?;
                    let root = v.f_sqrt()?.f_add_scalar_(settings.epsilon)?;
                    let mut change = grad.f_div(&root)?;
                    if let [buffer] = buffers {
                        let _ = buffer.f_mul_scalar_(settings.momentum)?.f_add_(&change)?;
                        change = buffer.shallow_clone();
                    }
                    let _ = p.f_sub_(&change.f_mul_scalar(rate)?)?;
                }
                (_, [buffer]) => {
                    let _ = buffer.f_mul_scalar_(settings.momentum)?.f_add_(&grad)?;
                    let change = if settings.nesterov {
                        grad.f_add(&buffer.f_mul_scalar(settings.momentum)?)?
                    } else {
                        buffer.shallow_clone()
                    };
                    let _ = p.f_sub_(&change.f_mul_scalar(rate)?)?;
                }
                _ => drop(p.f_sub_(&grad.f_mul_scalar(rate)?)?),
            }
        }
        Ok(())
    }

    /// What is kept between steps, by name: `first/<parameter>`, `second/<parameter>`, …
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let names = self.settings.slots();
        self.slots.iter().flat_map(move |(parameter, tensors)| {
            let named = names.iter().zip(tensors);
            named.map(move |(slot, tensor)| (format!("{slot}/{parameter}"), tensor))
        })
    }

    /// Takes up a saved state; `saved` finds a tensor by its name in [`Optimiser::tensors`].
    ///
    /// # Errors
    /// What is missing or of another shape, in words for the user.
    pub fn restore<'a>(
        &mut self,
        step: u64,
        saved: impl Fn(&str) -> Option<&'a Tensor>,
    ) -> std::result::Result<(), String> {
        self.step = step;
        for (name, tensors) in &mut self.slots {
            for (slot, tensor) in self.settings.slots().iter().zip(tensors) {
                let key = format!("{slot}/{name}");
                let saved = saved(&key).ok_or_else(|| format!("lacks `{key}`"))?;
                if saved.size() != tensor.size() {
                    return Err(format!(
                        "has `{key}` of shape {:?}, expected {:?}",
                        saved.size(),
                        tensor.size()
                    ));
                }
                tensor
                    .f_copy_(saved)
                    .map_err(|e| format!("cannot be copied to the device: {e}"))?;
            }
        }
        Ok(())
    }
}

/// Update number `t`, counted from 1, of one parameter.
fn adam(
    settings: &Settings,
    t: i32,
    p: &mut Tensor,
    grad: &Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
    rate: f64,
) -> Result<()> {
    let correction1 = 1.0 - settings.beta1.powi(t);
    let correction2 = (1.0 - settings.beta2.powi(t)).sqrt();
    let _ = m.f_lerp_(grad, 1.0 - settings.beta1)?;
    square(v, grad, settings.beta2)?;
    let denominator = v
        .f_sqrt()?
        .f_div_scalar_(correction2)?
        .f_add_scalar_(settings.epsilon)?;
    let _ = p.f_sub_(&m.f_div(&denominator)?.f_mul_scalar_(rate / correction1)?)?;
    Ok(())
}

/// Moves the mean square `v` towards that of `grad`.
fn square(v: &mut Tensor, grad: &Tensor, decay: f64) -> Result<()> {
    let _ = v.f_mul_scalar_(decay)?;
    let _ = v.f_addcmul_(grad, &grad.f_mul_scalar(1.0 - decay)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, Value};
    use tch::{Device, Kind};

    use super::*;
    use crate::params::Init;

    /// One row of the fixture.
    #[derive(Deserialize)]
    struct Case {
        settings: Map<String, Value>,
        weights: Vec<Vec<f64>>,
    }

    fn parameter(params: &mut Params, name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let mut tensor = params.add(name, shape, Init::Constant(0.0)).unwrap();
        tch::no_grad(|| tensor.copy_(&Tensor::from_slice(values).view(shape)));
        tensor
    }

    #[test]
    fn each_step_gives_the_weights_that_pytorch_gives() {
        let text = include_str!("../../tests/fixtures/optimisers.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert_eq!(cases.len(), 9);
        for case in cases {
            let name = Value::Object(case.settings.clone()).to_string();
            let training: Training =
                serde_json::from_value(Value::Object(case.settings.clone())).unwrap();
            let mut params = Params::new(Device::Cpu, 0);
            let w = parameter(&mut params, "w", &[2, 2], &[1.0, -2.0, 0.5, 4.0]);
            let b = parameter(&mut params, "b", &[2], &[0.25, -1.5]);
            let mut optimiser =
                Optimiser::new(Settings::new(&training), &params, |_| true).unwrap();
            for (step, expected) in case.weights.iter().enumerate() {
                params.zero_grad().unwrap();
                let loss = (&w - 3.0).square().sum(Kind::Float)
                    + (&b - 1.0).pow_tensor_scalar(4).sum(Kind::Float) / 4.0;
                loss.backward();
                optimiser.step(&params, training.learning_rate).unwrap();
                let got = Tensor::cat(&[w.detach().flatten(0, -1), b.detach()], 0);
                let got = Vec::<f64>::try_from(got.to_kind(Kind::Double)).unwrap();
                for (x, y) in got.iter().zip(expected) {
                    let close = (x - y).abs() <= 1e-6 * y.abs().max(1.0);
                    assert!(close, "{name}, step {step}: {got:?}, expected {expected:?}");
                }
            }
        }
    }

    #[test]
    fn a_restored_state_goes_on_alike() {
        for (algorithm, momentum) in [
            (Algorithm::AdamW, 0.0),
            (Algorithm::RmsProp, 0.9),
            (Algorithm::Sgd, 0.9),
        ] {
            let settings = Settings::new(&Training {
                optimiser: algorithm,
                momentum,
                ..Training::default()
            });
            let run = |interrupt: bool| {
                let mut params = Params::new(Device::Cpu, 7);
                let w = params.add("w", &[3, 3], Init::Normal(1.0)).unwrap();
                let mut optimiser = Optimiser::new(settings, &params, |_| true).unwrap();
                for step in 0..6 {
                    if interrupt && step == 3 {
                        let saved: BTreeMap<_, _> =
                            optimiser.tensors().map(|(n, t)| (n, t.copy())).collect();
                        let steps = optimiser.steps();
                        optimiser = Optimiser::new(settings, &params, |_| true).unwrap();
                        optimiser.restore(steps, |name| saved.get(name)).unwrap();
                    }
                    params.zero_grad().unwrap();
                    (&w - 3.0).square().sum(Kind::Float).backward();
                    optimiser.step(&params, 0.01).unwrap();
                }
                w.detach().copy()
            };
            assert_eq!(run(false), run(true), "{algorithm:?}");
        }
    }
}
