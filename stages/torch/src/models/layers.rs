//! The layers that models are made of, over [`Params`].

use tch::Tensor;

use crate::Result;
use crate::params::{Init, Params};

/// `y = x Wᵀ + b`, initialised as PyTorch's: U(±1/√inputs).
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// A layer from `inputs` to `outputs` values, named `name` in the model file.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(params: &mut Params, name: &str, inputs: i64, outputs: i64) -> Result<Self> {
        let bound = Init::Uniform(1.0 / (inputs as f64).sqrt());
        Self::with_init(params, name, [inputs, outputs], bound, bound)
    }

    /// The same with other initial values; `sizes` are inputs and outputs.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn with_init(
        params: &mut Params,
        name: &str,
        [inputs, outputs]: [i64; 2],
        weight: Init,
        bias: Init,
    ) -> Result<Self> {
        Ok(Self {
            weight: params.add(&format!("{name}.weight"), &[outputs, inputs], weight)?,
            bias: params.add(&format!("{name}.bias"), &[outputs], bias)?,
        })
    }

    /// `x` is `(…, inputs)`; gives `(…, outputs)`.
    ///
    /// # Errors
    /// libtorch fails.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

/// A convolution along the last axis with "same" padding, initialised as PyTorch's.
#[derive(Debug)]
pub(crate) struct Conv1d {
    weight: Tensor,
    bias: Tensor,
    padding: i64,
}

impl Conv1d {
    /// From `inputs` to `outputs` channels with an odd `kernel`.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(
        params: &mut Params,
        name: &str,
        inputs: i64,
        outputs: i64,
        kernel: i64,
    ) -> Result<Self> {
        let bound = Init::Uniform(1.0 / ((inputs * kernel) as f64).sqrt());
        Self::with_init(params, name, [inputs, outputs, kernel], bound, bound)
    }

    /// The same with other initial values; `sizes` are inputs, outputs and kernel.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn with_init(
        params: &mut Params,
        name: &str,
        [inputs, outputs, kernel]: [i64; 3],
        weight: Init,
        bias: Init,
    ) -> Result<Self> {
        Ok(Self {
            weight: params.add(
                &format!("{name}.weight"),
                &[outputs, inputs, kernel],
                weight,
            )?,
            bias: params.add(&format!("{name}.bias"), &[outputs], bias)?,
            padding: kernel / 2,
        })
    }

    /// `x` is `(N, inputs, L)`; gives `(N, outputs, L)`.
    ///
    /// # Errors
    /// libtorch fails.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_conv1d(&self.weight, Some(&self.bias), [1], [self.padding], [1], 1)?)
    }
}

/// One LSTM layer (Hochreiter & Schmidhuber 1997, with forget gates: Gers et al. 2000), by
/// libtorch's kernel.
///
/// Layers are stacked by hand with explicit dropout between them: the multi-layer kernel with
/// dropout gives wrong gradients on Apple's Metal.
#[derive(Debug)]
pub(crate) struct Lstm {
    weights: [Tensor; 4],
    hidden_size: i64,
}

impl Lstm {
    /// A layer from `inputs` to `hidden_size` values; all weights begin as U(±1/√`hidden_size`).
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn new(
        params: &mut Params,
        name: &str,
        inputs: i64,
        hidden_size: i64,
    ) -> Result<Self> {
        let init = Init::Uniform(1.0 / (hidden_size as f64).sqrt());
        let gates = 4 * hidden_size;
        Ok(Self {
            weights: [
                params.add(&format!("{name}.weight_ih"), &[gates, inputs], init)?,
                params.add(&format!("{name}.weight_hh"), &[gates, hidden_size], init)?,
                params.add(&format!("{name}.bias_ih"), &[gates], init)?,
                params.add(&format!("{name}.bias_hh"), &[gates], init)?,
            ],
            hidden_size,
        })
    }

    /// The state before the first frame: zeros, `(1, batch, hidden_size)` twice.
    ///
    /// # Errors
    /// Out of memory.
    pub(crate) fn zero_state(&self, batch: i64) -> Result<[Tensor; 2]> {
        let options = (tch::Kind::Float, self.weights[0].device());
        let zeros = || Tensor::f_zeros([1, batch, self.hidden_size], options);
        Ok([zeros()?, zeros()?])
    }

    /// `x` is `(B, T, inputs)`; gives `(B, T, hidden_size)` and the state after the last frame.
    ///
    /// # Errors
    /// libtorch fails.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        [h, c]: [&Tensor; 2],
    ) -> Result<(Tensor, [Tensor; 2])> {
        let weights: Vec<&Tensor> = self.weights.iter().collect();
        let (y, h, c) = x.f_lstm(&[h, c], &weights, true, 1, 0.0, false, false, true)?;
        Ok((y, [h, c]))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn waves(shape: [i64; 3]) -> Tensor {
        let count = shape.iter().product::<i64>();
        Tensor::arange(count, (Kind::Float, Device::Cpu))
            .sin()
            .view(shape)
    }

    /// The gates by the textbook, i f g o in that order, over three frames.
    #[test]
    fn the_lstm_is_the_textbook_one() {
        let mut params = Params::new(Device::Cpu, 3);
        let lstm = Lstm::new(&mut params, "l", 3, 2).unwrap();
        let x = waves([1, 3, 3]);
        let [h0, c0] = lstm.zero_state(1).unwrap();
        let (y, _) = lstm.forward(&x, [&h0, &c0]).unwrap();
        let [wi, wh, bi, bh] = &lstm.weights;
        let mut h = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let mut c = h.copy();
        for t in 0..3 {
            let gates = wi.mv(&x.get(0).get(t)) + bi + wh.mv(&h) + bh;
            let gate = |k: i64| gates.narrow(0, 2 * k, 2);
            c = gate(1).sigmoid() * &c + gate(0).sigmoid() * gate(2).tanh();
            h = gate(3).sigmoid() * c.tanh();
            assert!(y.get(0).get(t).allclose(&h, 1e-5, 1e-6, false));
        }
    }

    #[test]
    fn states_carry_over_chunks() {
        let mut params = Params::new(Device::Cpu, 3);
        let lstm = Lstm::new(&mut params, "l", 3, 4).unwrap();
        let x = waves([2, 6, 3]);
        let [h, c] = lstm.zero_state(2).unwrap();
        let (whole, _) = lstm.forward(&x, [&h, &c]).unwrap();
        let (_, [h, c]) = lstm.forward(&x.narrow(1, 0, 2), [&h, &c]).unwrap();
        let (rest, _) = lstm.forward(&x.narrow(1, 2, 4), [&h, &c]).unwrap();
        assert!(whole.narrow(1, 2, 4).allclose(&rest, 1e-5, 1e-6, false));
    }
}
