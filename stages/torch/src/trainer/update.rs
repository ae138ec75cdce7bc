//! From a loss to new weights: gradients, their sum over all processes, clipping, optimiser.

use stage_train::Training;
use tch::{Device, Kind, Tensor};

use super::optim::{Optimiser, Settings};
use super::schedule::Schedule;
use crate::models::Group;
use crate::params::Params;
use crate::{Error, Result};

/// Combines gradients over all processes of a training, in place.
pub type AllReduce = Box<dyn Fn(&[Tensor]) -> Result<()>>;

/// The optimisers of a model's groups of parameters.
pub struct Update {
    groups: Vec<(Group, Optimiser)>,
    schedule: Schedule,
    clip: f64,
    all_reduce: Option<AllReduce>,
}

impl Update {
    /// Fresh optimisers of `groups`, which share out `params` among them.
    ///
    /// # Errors
    /// A parameter belongs to no group or to several; out of memory.
    pub fn new(training: &Training, params: &Params, groups: Vec<Group>) -> Result<Self> {
        for (name, _) in params.iter() {
            let owners = groups.iter().filter(|group| group.owns(name)).count();
            if owners != 1 {
                return Err(Error::Internal(format!(
                    "parameter `{name}` belongs to {owners} groups, expected 1"
                )));
            }
        }
        let groups = groups.into_iter().map(|group| {
            let mut settings = Settings::new(training);
            if let Some(algorithm) = group.optimiser {
                settings.algorithm = algorithm;
            }
            let optimiser = Optimiser::new(settings, params, |name| group.owns(name))?;
            Ok((group, optimiser))
        });
        Ok(Self {
            groups: groups.collect::<Result<_>>()?,
            schedule: Schedule::new(training),
            clip: training.clip,
            all_reduce: None,
        })
    }

    /// The same, with gradients combined by `all_reduce` before they are clipped.
    #[must_use]
    pub fn with_all_reduce(mut self, all_reduce: AllReduce) -> Self {
        self.all_reduce = Some(all_reduce);
        self
    }

    /// The learning rate of step number `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        self.schedule.rate(step)
    }

    /// The groups in the order in which a step updates them.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|(group, _)| group)
    }

    /// Updates the parameters of one group by the gradients of `loss` in step number `step`.
    /// Gives the norm of the gradients before clipping, as a scalar on the device.
    ///
    /// # Errors
    /// There is no such group; libtorch fails.
    pub fn apply(
        &mut self,
        params: &mut Params,
        group: usize,
        loss: &Tensor,
        step: u64,
    ) -> Result<Tensor> {
        let rate = self.schedule.rate(step);
        let Some((_, optimiser)) = self.groups.get_mut(group) else {
            return Err(Error::Internal(format!("there is no group {group}")));
        };
        // Of all groups: what one loss leaves in another's gradients must not stay there.
        params.zero_grad()?;
        loss.f_backward()?;
        let gradients = optimiser.gradients(params)?;
        if let Some(all_reduce) = &self.all_reduce {
            all_reduce(&gradients)?;
        }
        let norm = clip_gradients(&gradients, self.clip, params.device())?;
        optimiser.step(params, rate)?;
        Ok(norm)
    }

    /// What is kept between steps, by name: `optimiser/<group>/<slot>/<parameter>`.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.groups.iter().flat_map(|(group, optimiser)| {
            let tensors = optimiser.tensors();
            tensors.map(move |(name, tensor)| (prefixed(group, &name), tensor))
        })
    }

    /// Takes up a saved state after `step` steps.
    ///
    /// # Errors
    /// What is missing or of another shape, in words for the user.
    pub fn restore(
        &mut self,
        step: u64,
        saved: &std::collections::BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), String> {
        for (group, optimiser) in &mut self.groups {
            optimiser.restore(step, |name| saved.get(&prefixed(group, name)))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Update {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Update")
            .field("groups", &self.groups)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

fn prefixed(group: &Group, name: &str) -> String {
    format!("optimiser/{}/{name}", group.name)
}

/// Scales gradients so that their global norm is at most `most` (Pascanu et al. 2013), and gives
/// the norm before. 0 clips nothing.
///
/// As in `torch.nn.utils.clip_grad_norm_`, the factor is computed on the device and always
/// multiplied by, so that the host waits for nothing. It is computed in f64 where the device can.
///
/// # Errors
/// libtorch fails.
pub fn clip_gradients(gradients: &[Tensor], most: f64, device: Device) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let mut norms = Vec::with_capacity(gradients.len());
    for gradient in gradients {
        norms.push(gradient.f_norm()?);
    }
    if norms.is_empty() {
        return Ok(Tensor::f_zeros([], (Kind::Float, device))?);
    }
    let norm = Tensor::f_stack(&norms, 0)?.f_norm()?;
    if most > 0.0 {
        let norm = norm.f_to_kind(wide(device))?.f_add_scalar(1e-6)?;
        let scale = norm
            .f_full_like(most)?
            .f_div(&norm)?
            .f_clamp_max(1.0)?
            .f_to_kind(Kind::Float)?;
        for gradient in gradients {
            let _ = gradient.shallow_clone().f_mul_(&scale)?;
        }
    }
    Ok(norm)
}

/// The kind in which sums are kept on a device: f64, which Metal has not.
pub(crate) fn wide(device: Device) -> Kind {
    match device {
        Device::Mps => Kind::Float,
        _ => Kind::Double,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Init;

    fn params() -> Params {
        let mut params = Params::new(Device::Cpu, 0);
        for name in ["a", "b"] {
            let _ = params.add(name, &[2], Init::Constant(0.0)).unwrap();
        }
        params
    }

    fn loss(params: &Params, scale: f64) -> Tensor {
        let (a, b) = (params.get("a").unwrap(), params.get("b").unwrap());
        (a * (3.0 * scale)).sum(Kind::Float) + (b * (4.0 * scale)).sum(Kind::Float)
    }

    fn value(tensor: &Tensor) -> f64 {
        f64::try_from(tensor).unwrap()
    }

    #[test]
    fn clipping_bounds_the_global_norm_and_passes_infinities_on() {
        let params = params();
        loss(&params, 1.0).backward();
        let gradients: Vec<Tensor> = params.iter().map(|(_, p)| p.grad()).collect();
        let norm = clip_gradients(&gradients, 1.0, Device::Cpu).unwrap();
        assert!((value(&norm) - 50.0_f64.sqrt()).abs() < 1e-5);
        let after = clip_gradients(&gradients, 0.0, Device::Cpu).unwrap();
        assert!((value(&after) - 1.0).abs() < 1e-4, "{after}");
        // What is short enough stays as it is, bit for bit.
        let before = gradients[0].copy();
        let _ = clip_gradients(&gradients, 10.0, Device::Cpu).unwrap();
        assert_eq!(before, gradients[0]);
        loss(&params, f64::INFINITY).backward();
        let norm = clip_gradients(&gradients, 1.0, Device::Cpu).unwrap();
        assert!(!value(&norm).is_finite());
    }

    #[test]
    fn each_group_is_updated_by_its_own_loss() {
        let training = Training {
            optimiser: stage_train::Algorithm::Sgd,
            learning_rate: 1.0,
            warmup_steps: 0,
            decay: stage_train::Decay::Constant,
            clip: 0.0,
            ..Training::default()
        };
        let mut params = params();
        let groups = vec![Group::new("first", "a"), Group::new("second", "b")];
        let halve: AllReduce = Box::new(|gradients| {
            for gradient in gradients {
                let _ = gradient.shallow_clone().f_mul_scalar_(0.5)?;
            }
            Ok(())
        });
        let mut update = Update::new(&training, &params, groups)
            .unwrap()
            .with_all_reduce(halve);
        let of =
            |params: &Params| ["a", "b"].map(|name| params.get(name).unwrap().double_value(&[0]));
        let total = loss(&params, 1.0);
        let _ = update.apply(&mut params, 0, &total, 0).unwrap();
        assert_eq!(of(&params), [-1.5, 0.0]);
        let total = loss(&params, 1.0);
        let _ = update.apply(&mut params, 1, &total, 0).unwrap();
        assert_eq!(of(&params), [-1.5, -2.0]);
        let alone = vec![Group::new("first", "a")];
        assert!(Update::new(&training, &params, alone).is_err());
    }
}
