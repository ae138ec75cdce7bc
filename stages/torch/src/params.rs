//! The trainable tensors of a model, by name.
//!
//! We keep them ourselves rather than in a `tch::nn::VarStore`, which gives no names for what is
//! trained, initialises LSTMs by Kaiming's rule instead of U(±1/√h), and cannot be saved with
//! metadata. Each tensor is drawn from a random stream of its own, derived from the seed and its
//! name, so that adding a layer leaves the others' initial weights as they were.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use stage_core::derive_seed;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// How a tensor begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All elements equal.
    Constant(f64),
    /// Uniform in ± the bound.
    Uniform(f64),
    /// Normal with mean 0 and this deviation.
    Normal(f64),
}

/// Named trainable tensors on one device, sorted by name.
#[derive(Debug)]
pub struct Params {
    named: BTreeMap<String, Tensor>,
    device: Device,
    origin: Origin,
}

/// Where the values of the tensors come from.
#[derive(Debug)]
enum Origin {
    /// Drawn with this seed.
    Seed(u64),
    /// The tensors of a file that were not asked for yet.
    Saved(BTreeMap<String, Tensor>),
}

/// What the names of tensors begin with that are not trained.
pub(crate) const BUFFER: &str = "buffer/";

impl Params {
    /// An empty set on `device`; `seed` is that of the initial weights.
    pub fn new(device: Device, seed: u64) -> Self {
        Self {
            named: BTreeMap::new(),
            device,
            origin: Origin::Seed(seed),
        }
    }

    /// An empty set on `device` that takes its tensors from a file's. Whatever sizes are asked
    /// for, nothing is allocated that the file does not hold.
    pub fn saved(device: Device, tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            named: BTreeMap::new(),
            device,
            origin: Origin::Saved(tensors),
        }
    }

    /// Adds a trainable f32 tensor and gives a handle to it.
    ///
    /// # Errors
    /// Out of memory; or, of [`Params::saved`], the file has no such tensor
    /// ([`Error::Checkpoint`]).
    pub fn add(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = match &mut self.origin {
            Origin::Seed(seed) => drawn(*seed, name, shape, init)?,
            Origin::Saved(saved) => taken(saved, name, shape)?,
        };
        let tensor = tensor.f_to_device(self.device)?.f_set_requires_grad(true)?;
        self.named.insert(name.to_owned(), tensor.shallow_clone());
        Ok(tensor)
    }

    /// A tensor that is estimated in other ways than by gradients, with `value` everywhere until
    /// it is known. It is not one of the set.
    ///
    /// # Errors
    /// As [`Params::add`].
    pub fn buffer(&mut self, name: &str, shape: &[i64], value: f64) -> Result<Tensor> {
        let tensor = match &mut self.origin {
            Origin::Seed(_) => Tensor::f_full(shape, value, (Kind::Float, Device::Cpu))?,
            Origin::Saved(saved) => taken(saved, &format!("{BUFFER}{name}"), shape)?,
        };
        Ok(tensor.f_to_device(self.device)?)
    }

    /// The name of a tensor of the file that was not asked for.
    pub fn left_over(&self) -> Option<&str> {
        match &self.origin {
            Origin::Seed(_) => None,
            Origin::Saved(saved) => saved.keys().next().map(String::as_str),
        }
    }

    /// The tensors by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.named.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// The tensor `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.named.get(name)
    }

    /// Where they lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Number of trained values.
    pub fn count(&self) -> usize {
        self.named.values().map(Tensor::numel).sum()
    }

    /// Sets the gradients to zero.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn zero_grad(&mut self) -> Result<()> {
        for tensor in self.named.values() {
            let mut grad = tensor.f_grad()?;
            if grad.defined() {
                let _ = grad.f_detach_()?.f_zero_()?;
            }
        }
        Ok(())
    }

    /// Copies the values of `other` into the tensors of the same name.
    ///
    /// # Errors
    /// What is missing, superfluous or of another shape, in words for the user.
    pub fn assign(&mut self, other: &BTreeMap<String, Tensor>) -> std::result::Result<(), String> {
        if let Some(name) = other.keys().find(|name| !self.named.contains_key(*name)) {
            return Err(superfluous(name));
        }
        let _guard = tch::no_grad_guard();
        for (name, tensor) in &mut self.named {
            let Some(value) = other.get(name) else {
                return Err(format!("lacks the tensor `{name}` of this architecture"));
            };
            fits(name, value, &tensor.size())?;
            tensor
                .f_copy_(value)
                .map_err(|e| format!("cannot be copied to the device: {e}"))?;
        }
        Ok(())
    }
}

/// A tensor with its initial values.
fn drawn(seed: u64, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
    // Nobody may draw between the seed and the values.
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    // Drawn on the CPU, so that the same seed begins alike on every device.
    tch::manual_seed(seed_of(seed, &["init", name]));
    let mut tensor = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
    match init {
        Init::Constant(value) => drop(tensor.f_fill_(value)?),
        Init::Uniform(bound) => drop(tensor.f_uniform_(-bound, bound)?),
        Init::Normal(deviation) => drop(tensor.f_normal_(0.0, deviation)?),
    }
    Ok(tensor)
}

/// The tensor `name` of a file, if it is as the model needs it.
fn taken(saved: &mut BTreeMap<String, Tensor>, name: &str, shape: &[i64]) -> Result<Tensor> {
    let fail = |reason| Error::checkpoint("model", reason);
    let tensor = saved
        .remove(name)
        .ok_or_else(|| fail(format!("lacks the tensor `{name}` of this architecture")))?;
    fits(name, &tensor, shape).map_err(fail)?;
    Ok(tensor)
}

/// That a file has a tensor too many.
pub(crate) fn superfluous(name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    format!(
        "has a tensor `{}` that this architecture has not",
        name.escape_debug()
    )
}

/// Checks that a file's tensor has the shape that a model needs, and is made of numbers.
///
/// # Errors
/// What is wrong with it, in words for the user that follow the file's name.
pub(crate) fn fits(name: &str, tensor: &Tensor, shape: &[i64]) -> std::result::Result<(), String> {
    if tensor.size() != shape {
        return Err(format!(
            "has `{name}` of shape {:?}, expected {shape:?}",
            tensor.size()
        ));
    }
    if tensor.kind() != Kind::Float {
        return Err(format!(
            "has `{name}` of type {:?}, expected Float",
            tensor.kind()
        ));
    }
    let finite = tensor
        .f_isfinite()
        .and_then(|finite| finite.f_all())
        .and_then(i64::try_from);
    match finite {
        Ok(0) => Err(format!(
            "has a value in `{name}` that is not a finite number; train it again"
        )),
        Ok(_) => Ok(()),
        Err(e) => Err(format!("has `{name}` that cannot be checked: {e}")),
    }
}

/// Held by whoever seeds libtorch's generator and draws: it is the process's.
pub(crate) static GENERATOR: Mutex<()> = Mutex::new(());

/// A seed for libtorch's generator from the user's `seed` and what it is for.
pub fn seed_of(seed: u64, purpose: &[&str]) -> i64 {
    let bytes = derive_seed(seed, purpose);
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = from;
    }
    i64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_follow_from_seed_and_name_alone() {
        let mut a = Params::new(Device::Cpu, 1);
        let mut b = Params::new(Device::Cpu, 1);
        let _ = a.add("other", &[3], Init::Normal(1.0)).unwrap();
        let x = a.add("w", &[4, 5], Init::Uniform(0.5)).unwrap();
        let y = b.add("w", &[4, 5], Init::Uniform(0.5)).unwrap();
        assert_eq!(x, y);
        assert!(f64::try_from(x.abs().max()).unwrap() <= 0.5);
        let mut c = Params::new(Device::Cpu, 2);
        assert_ne!(x, c.add("w", &[4, 5], Init::Uniform(0.5)).unwrap());
    }

    #[test]
    fn mismatches_are_said() {
        let mut a = Params::new(Device::Cpu, 1);
        let _ = a.add("w", &[2], Init::Constant(0.0)).unwrap();
        let of = |name: &str, n: i64| {
            BTreeMap::from([(
                name.to_owned(),
                Tensor::ones([n], (Kind::Float, Device::Cpu)),
            )])
        };
        assert!(a.assign(&of("v", 2)).unwrap_err().contains("has not"));
        assert!(a.assign(&of("w", 3)).unwrap_err().contains("shape"));
        assert!(a.assign(&BTreeMap::new()).unwrap_err().contains("lacks"));
        a.assign(&of("w", 2)).unwrap();
        assert_eq!(
            f64::try_from(a.get("w").unwrap().sum(Kind::Float)).unwrap(),
            2.0
        );
    }
}
