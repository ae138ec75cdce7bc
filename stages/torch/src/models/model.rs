//! What a model is to those that train it.

use stage_train::Algorithm;
use tch::Tensor;

use crate::Result;
use crate::params::Params;

/// What a model carries from step to step of a sequence, per stream: tensors whose first axis is
/// the stream.
#[derive(Debug)]
pub struct State(pub Vec<Tensor>);

impl State {
    /// The same numbers, without the history of how they were computed.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn detach(self) -> Result<Self> {
        let detached = self.0.iter().map(Tensor::f_detach);
        Ok(Self(detached.collect::<std::result::Result<_, _>>()?))
    }

    /// The same tensors once more.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(self.0.iter().map(Tensor::shallow_clone).collect())
    }
}

/// A stretch of a training batch.
#[derive(Debug)]
pub struct Chunk {
    /// Rows `(B, T + 1, width)`: row t predicts row t + 1.
    pub rows: Tensor,
    /// `(B)`: 1 where the stream begins anew at the first row, 0 where it goes on.
    pub reset: Tensor,
    /// `(B, T)`: 1 where row t + 1 is there to be predicted, 0 where the piece has ended.
    pub weight: Tensor,
}

/// The loss of a chunk.
#[derive(Debug)]
pub struct Loss {
    /// To be minimised, a scalar.
    pub total: Tensor,
    /// Its parts by name, for the history.
    pub parts: Vec<(&'static str, Tensor)>,
    /// After the last row.
    pub state: State,
}

/// Parameters that one optimiser updates by one loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its name in the state file and the history.
    pub name: &'static str,
    /// What the names of its parameters begin with.
    pub prefix: &'static str,
    /// The algorithm, if it is another than the training's.
    pub optimiser: Option<Algorithm>,
}

impl Group {
    /// The parameters whose names begin with `prefix`.
    pub const fn new(name: &'static str, prefix: &'static str) -> Self {
        Self {
            name,
            prefix,
            optimiser: None,
        }
    }

    /// Whether the parameter `name` is one of them.
    pub fn owns(&self, name: &str) -> bool {
        name.starts_with(self.prefix)
    }
}

/// When a model fits what it does not learn by gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the first step, from the initial weights.
    BeforeTraining,
    /// After the last step, or before a model is published while training goes on.
    AfterTraining,
}

/// One pass over the training split, in order: each row is a target exactly once.
pub struct Pass<'a> {
    /// Parallel streams, the first axis of each chunk.
    pub streams: i64,
    /// Rows of the training split.
    pub rows: u64,
    /// The chunks.
    pub chunks: Box<dyn Iterator<Item = Result<Chunk>> + 'a>,
}

/// Opens a [`Pass`]; a model that fits nothing opens none.
pub type OpenPass<'a> = &'a dyn Fn() -> Result<Pass<'a>>;

/// A trainable model. It knows no file, loader, optimiser or history.
pub trait Model {
    /// The trained tensors.
    fn params(&self) -> &Params;

    /// The trained tensors, to be changed.
    fn params_mut(&mut self) -> &mut Params;

    /// Groups of parameters, each with its own optimiser and loss, in the order in which a step
    /// updates them. Each parameter belongs to exactly one.
    fn groups(&self) -> Vec<Group> {
        vec![Group::new("model", "")]
    }

    /// Tensors that are estimated in other ways than by gradients; part of the model file.
    fn buffers(&self) -> Vec<(&'static str, Tensor)> {
        Vec::new()
    }

    /// Fits the buffers to the training split: normalisation or codebooks before training,
    /// residuals of the trained model after it.
    ///
    /// # Errors
    /// The data do not suffice or cannot be read; libtorch fails.
    fn fit(&mut self, moment: Moment, open: OpenPass<'_>) -> Result<()> {
        let _ = (moment, open);
        Ok(())
    }

    /// The state of `streams` streams before their first row.
    ///
    /// # Errors
    /// Out of memory.
    fn begin(&self, streams: i64) -> Result<State>;

    /// The training loss of group number `group`.
    ///
    /// # Errors
    /// libtorch fails.
    fn loss(&mut self, group: usize, chunk: &Chunk, state: &State) -> Result<Loss>;
}
