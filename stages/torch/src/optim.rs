//! AdamW with a state that can be saved, gradient clipping, and the schedule of the learning rate.
//!
//! tch's optimisers are opaque: their moments cannot be read, so that a resumed training differs
//! from an uninterrupted one. This is the update of Loshchilov & Hutter (2019), algorithm 2, in
//! the form and with the rounding of `torch.optim.AdamW` (single-tensor path); with weight decay
//! 0 it is Adam (Kingma & Ba 2015).

use std::collections::BTreeMap;

use stage_train::Decay;
use tch::Tensor;

use crate::params::Params;
use crate::{Error, Result};

/// What AdamW is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, of matrices only: biases and scales are left alone.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// AdamW over named parameters.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    step: u64,
    /// Name → (first moment, second moment).
    moments: BTreeMap<String, (Tensor, Tensor)>,
}

impl AdamW {
    /// Fresh moments for `params`.
    pub fn new(params: &Params, config: AdamWConfig) -> Self {
        let moments = params
            .iter()
            .map(|(name, p)| {
                let zeros = || p.detach().zeros_like();
                (name.to_owned(), (zeros(), zeros()))
            })
            .collect();
        Self {
            config,
            step: 0,
            moments,
        }
    }

    /// Updates made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Updates every parameter that has a gradient, at the learning rate `lr`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn step(&mut self, params: &Params, lr: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let AdamWConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = self.config;
        self.step += 1;
        let t = i32::try_from(self.step).unwrap_or(i32::MAX);
        let correction1 = 1.0 - beta1.powi(t);
        let correction2 = (1.0 - beta2.powi(t)).sqrt();
        for (name, p) in params.iter() {
            let (grad, Some((m, v))) = (p.grad(), self.moments.get_mut(name)) else {
                continue;
            };
            if !grad.defined() {
                continue;
            }
            let mut p = p.shallow_clone();
            if weight_decay > 0.0 && p.dim() > 1 {
                let _ = p.f_mul_scalar_(1.0 - lr * weight_decay)?;
            }
            let _ = m.f_lerp_(&grad, 1.0 - beta1)?;
            let _ = v.f_mul_scalar_(beta2)?;
            let _ = v.f_addcmul_(&grad, &grad.f_mul_scalar(1.0 - beta2)?)?;
            let denominator = v.f_sqrt()?.f_div_scalar_(correction2)?.f_add_scalar_(eps)?;
            let _ = p.f_sub_(&m.f_div(&denominator)?.f_mul_scalar_(lr / correction1)?)?;
        }
        Ok(())
    }

    /// The moments by name: `first/<parameter>`, `second/<parameter>`.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.moments.iter().flat_map(|(name, (m, v))| {
            [(format!("first/{name}"), m), (format!("second/{name}"), v)]
        })
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// What is missing or of another shape, in words for the user.
    pub fn restore(
        &mut self,
        step: u64,
        tensors: &BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), String> {
        self.step = step;
        for (name, (m, v)) in &mut self.moments {
            for (prefix, moment) in [("first", m), ("second", v)] {
                let key = format!("{prefix}/{name}");
                let saved = tensors.get(&key).ok_or_else(|| format!("lacks `{key}`"))?;
                if saved.size() != moment.size() {
                    return Err(format!(
                        "has `{key}` of shape {:?}, expected {:?}",
                        saved.size(),
                        moment.size()
                    ));
                }
                moment
                    .f_copy_(saved)
                    .map_err(|e| format!("cannot be copied to the device: {e}"))?;
            }
        }
        Ok(())
    }
}

/// Scales all gradients so that their global norm is at most `max_norm` (Pascanu et al. 2013),
/// and gives the norm before. A `max_norm` of 0 clips nothing.
///
/// # Errors
/// [`Error::Diverged`] when a gradient is not finite; libtorch fails.
pub fn clip_grad_norm(params: &Params, max_norm: f64) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let grads: Vec<Tensor> = params
        .iter()
        .map(|(_, p)| p.grad())
        .filter(Tensor::defined)
        .collect();
    let mut norms = Vec::with_capacity(grads.len());
    for grad in &grads {
        norms.push(grad.f_norm()?);
    }
    if norms.is_empty() {
        return Ok(0.0);
    }
    let norm = f64::try_from(Tensor::f_stack(&norms, 0)?.f_norm()?)?;
    if !norm.is_finite() {
        return Err(Error::Diverged(
            "the gradients are no longer finite; lower `learning_rate` or `clip`".to_owned(),
        ));
    }
    let scale = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && scale < 1.0 {
        for mut grad in grads {
            let _ = grad.f_mul_scalar_(scale)?;
        }
    }
    Ok(norm)
}

/// Learning rate by step: linear warm-up, then `decay` over `decay_steps`, then constant.
///
/// It does not know the budget: a training whose `max_steps` is raised later goes through the
/// same rates as one that was given so many steps at once, so their weights are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Rate after the decay, as a share of the peak.
    pub floor: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Shape.
    pub decay: Decay,
    /// Steps of the decay, counted from the end of the warm-up.
    pub decay_steps: u64,
}

impl Schedule {
    /// The rate of the update number `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let done = (step - self.warmup_steps) as f64 / self.decay_steps.max(1) as f64;
        let done = done.min(1.0);
        let share = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::params::Init;

    fn quadratic(params: &Params) -> Tensor {
        let w = params.get("w").unwrap();
        (w - 3.0).square().sum(Kind::Float)
    }

    /// Three steps of `torch.optim.AdamW([w], lr=0.1, weight_decay=0.01)` on (w - 3)², from
    /// w = [[1, -2]], by the formulas in f64.
    #[test]
    fn it_is_the_published_update() {
        let mut params = Params::new(Device::Cpu, 0);
        let mut w = params.add("w", &[1, 2], Init::Constant(0.0)).unwrap();
        tch::no_grad(|| w.copy_(&Tensor::from_slice(&[1.0_f32, -2.0]).view([1, 2])));
        let mut optimiser = AdamW::new(&params, AdamWConfig::default());
        let mut expected = [1.0_f64, -2.0];
        let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
        for t in 1..=3 {
            params.zero_grad();
            quadratic(&params).backward();
            optimiser.step(&params, 0.1).unwrap();
            for i in 0..2 {
                let g = 2.0 * (expected[i] - 3.0);
                expected[i] *= 1.0 - 0.1 * 0.01;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mh, vh) = (
                    m[i] / (1.0 - 0.9_f64.powi(t)),
                    v[i] / (1.0 - 0.999_f64.powi(t)),
                );
                expected[i] -= 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        for (i, e) in expected.iter().enumerate() {
            assert!((w.double_value(&[0, i as i64]) - e).abs() < 1e-5);
        }
    }

    #[test]
    fn a_restored_state_goes_on_alike() {
        let run = |interrupt: bool| {
            let mut params = Params::new(Device::Cpu, 7);
            let _ = params.add("w", &[3, 3], Init::Normal(1.0)).unwrap();
            let mut optimiser = AdamW::new(&params, AdamWConfig::default());
            for step in 0..6 {
                if interrupt && step == 3 {
                    let saved: BTreeMap<_, _> =
                        optimiser.tensors().map(|(n, t)| (n, t.copy())).collect();
                    let steps = optimiser.steps();
                    optimiser = AdamW::new(&params, AdamWConfig::default());
                    optimiser.restore(steps, &saved).unwrap();
                }
                params.zero_grad();
                quadratic(&params).backward();
                clip_grad_norm(&params, 1.0).unwrap();
                optimiser.step(&params, 0.01).unwrap();
            }
            params.get("w").unwrap().detach().copy()
        };
        assert_eq!(run(false), run(true));
    }

    #[test]
    fn clipping_bounds_the_global_norm_and_sees_infinities() {
        let mut params = Params::new(Device::Cpu, 0);
        let _ = params.add("a", &[2], Init::Constant(0.0)).unwrap();
        let _ = params.add("b", &[2], Init::Constant(0.0)).unwrap();
        let loss = |scale: f64| {
            let (a, b) = (params.get("a").unwrap(), params.get("b").unwrap());
            (a * (3.0 * scale)).sum(Kind::Float) + (b * (4.0 * scale)).sum(Kind::Float)
        };
        loss(1.0).backward();
        let norm = clip_grad_norm(&params, 1.0).unwrap();
        assert!((norm - 50.0_f64.sqrt()).abs() < 1e-5);
        let after = clip_grad_norm(&params, 0.0).unwrap();
        assert!((after - 1.0).abs() < 1e-4, "{after}");
        loss(f64::INFINITY).backward();
        assert!(clip_grad_norm(&params, 1.0).is_err());
    }

    #[test]
    fn the_rate_rises_holds_and_falls() {
        let schedule = Schedule {
            peak: 1.0,
            floor: 0.1,
            warmup_steps: 10,
            decay: Decay::Cosine,
            decay_steps: 100,
        };
        assert!((schedule.rate(0) - 0.1).abs() < 1e-12);
        assert!((schedule.rate(9) - 1.0).abs() < 1e-12);
        assert!((schedule.rate(60) - 0.55).abs() < 1e-12);
        assert!((schedule.rate(110) - 0.1).abs() < 1e-12);
        assert!((schedule.rate(u64::MAX) - 0.1).abs() < 1e-12);
    }
}
