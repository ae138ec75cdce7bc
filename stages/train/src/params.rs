//! The parameters of training, and how they stand beside those of the model.

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stage_core::{FileParam, ParamError};

use crate::models::{self, Architecture};

/// The key that says which model is trained.
pub(crate) const MODEL_KEY: &str = "model";
/// The model that is trained when none is named.
const DEFAULT_MODEL: &str = "residual-lstm";

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls in a straight line.
    Linear,
    /// Falls along half a cosine.
    Cosine,
}

/// How weights follow from gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Kingma & Ba (2015); weight decay is added to the gradient.
    Adam,
    /// Loshchilov & Hutter (2019): Adam with decoupled weight decay.
    AdamW,
    /// Hinton (2012); weight decay is added to the gradient.
    RmsProp,
    /// Stochastic gradient descent, with momentum if set; weight decay is added to the gradient.
    Sgd,
}

/// The parameters of training, whatever the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// Parallel streams or windows in a step.
    pub batch_size: u32,
    /// How weights follow from gradients.
    pub optimiser: Algorithm,
    /// Decay of the mean gradient of Adam and AdamW.
    pub beta1: f64,
    /// Decay of the mean squared gradient of Adam and AdamW.
    pub beta2: f64,
    /// Decay of the mean squared gradient of RMSprop.
    pub alpha: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Momentum of SGD and RMSprop.
    pub momentum: f64,
    /// Nesterov's form of SGD's momentum.
    pub nesterov: bool,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// Shape of the fall after it.
    pub decay: Decay,
    /// Steps of the fall; afterwards the rate stays at a hundredth of the highest.
    pub decay_steps: u32,
    /// Weight decay of matrices; biases and scales are left alone.
    pub weight_decay: f64,
    /// Largest global norm of the gradients; 0 clips nothing.
    pub clip: f64,
    /// Stop after so many steps. A budget.
    pub max_steps: u64,
    /// Stop after so many passes over the training split; 0 sets no limit. A budget.
    pub epochs: u64,
    /// Stop after so many validations without a new best; 0 never does. A budget.
    pub patience: u32,
    /// Steps between saves of the state. Changes no result.
    pub save_every: u32,
    /// CPU threads of libtorch. Part of the result: another number gives other low bits.
    pub threads: u32,
    /// Seed of weights, order, dropout and noise.
    pub seed: u64,
    /// A model file whose weights to begin with.
    pub init_from: Option<FileParam>,
    /// Begin with the weights of this stage's last finished model.
    pub warm_start: bool,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch_size: 16,
            optimiser: Algorithm::AdamW,
            beta1: 0.9,
            beta2: 0.999,
            alpha: 0.99,
            epsilon: 1e-8,
            momentum: 0.0,
            nesterov: false,
            learning_rate: 2e-3,
            warmup_steps: 20,
            decay: Decay::Cosine,
            decay_steps: 580,
            weight_decay: 0.01,
            clip: 1.0,
            max_steps: 600,
            epochs: 0,
            patience: 0,
            save_every: 50,
            threads: 2,
            seed: 0,
            init_from: None,
            warm_start: false,
        }
    }
}

impl Training {
    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// The first field that is out of its range, or that another field contradicts.
    pub fn validate(&self) -> Result<(), ParamError> {
        let range = ParamError::check_range::<f64>;
        let count = |key, value: u32, most: u32| ParamError::check_range(key, &value, 1..=most, "");
        count("batch_size", self.batch_size, 65_536)?;
        count("threads", self.threads, 256)?;
        count("save_every", self.save_every, 1_000_000)?;
        range("learning_rate", &self.learning_rate, 1e-9..=1.0, "")?;
        range("weight_decay", &self.weight_decay, 0.0..=1.0, "")?;
        range("clip", &self.clip, 0.0..=1e6, "")?;
        for (key, decay) in [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("alpha", self.alpha),
        ] {
            range(key, &decay, 0.0..=0.999_999, "")?;
        }
        range("epsilon", &self.epsilon, 1e-16..=1.0, "")?;
        range("momentum", &self.momentum, 0.0..=0.999_999, "")?;
        let with_momentum = matches!(self.optimiser, Algorithm::Sgd | Algorithm::RmsProp);
        if self.momentum > 0.0 && !with_momentum {
            let message = "`momentum` belongs to `optimiser = \"sgd\"` and `\"rmsprop\"`";
            return Err(ParamError::new("momentum", message).hint("set `beta1` for Adam and AdamW"));
        }
        if self.nesterov && (self.optimiser != Algorithm::Sgd || self.momentum == 0.0) {
            let message = "`nesterov` needs `optimiser = \"sgd\"` and a `momentum` above 0";
            return Err(ParamError::new("nesterov", message).hint("set them, or leave it out"));
        }
        ParamError::check_range(
            "max_steps",
            &self.max_steps,
            1..=u64::from(u32::MAX),
            "steps",
        )?;
        if self.decay != Decay::Constant && self.decay_steps == 0 {
            return Err(ParamError::new(
                "decay_steps",
                "`decay_steps` is 0 steps, expected at least 1 when the learning rate decays",
            )
            .hint("set `decay = \"constant\"`, or give `decay_steps`"));
        }
        if self.warm_start && self.init_from.is_some() {
            return Err(ParamError::new(
                "warm_start",
                "`warm_start` and `init_from` both say which weights to begin with",
            )
            .hint("keep one of them"));
        }
        Ok(())
    }
}

/// The stage `train`: the parameters of training and of the model, side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    /// The parameters of training.
    pub training: Training,
    /// The model and its own parameters.
    pub architecture: Architecture,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            training: Training::default(),
            architecture: Architecture::ResidualLstm(models::ResidualLstm::default()),
        }
    }
}

impl Serialize for Train {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = self.architecture.params();
        map.insert(MODEL_KEY.to_owned(), self.architecture.name().into());
        map.extend(object(serde_json::to_value(&self.training)));
        map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Train {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Map::deserialize(deserializer)?;
        let name = match given.remove(MODEL_KEY) {
            None => DEFAULT_MODEL.to_owned(),
            Some(Value::String(name)) => name,
            Some(other) => {
                let message = format!("`{MODEL_KEY}` is {other}, expected a name in quotes");
                return Err(D::Error::custom(message));
            }
        };
        let Some(model) = models::model(&name) else {
            return Err(D::Error::custom(models::unknown_model(&name)));
        };
        let usual = object(serde_json::to_value(Training::default()));
        let own = object(Ok((model.defaults)()));
        let mut training = object(Ok((model.training)()));
        let mut params = Map::new();
        for (key, value) in given {
            if usual.contains_key(&key) {
                training.insert(key, value);
            } else if own.contains_key(&key) {
                params.insert(key, value);
            } else {
                let list = |map: &Map<String, Value>| {
                    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
                    keys.join(", ")
                };
                return Err(D::Error::custom(format!(
                    "there is no parameter `{}`; model `{name}` has {}; training has {}",
                    key.escape_debug(),
                    list(&own),
                    list(&usual)
                )));
            }
        }
        // Key by key, so that an error can name its key.
        for (key, value) in &training {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            Training::deserialize(Value::Object(alone))
                .map_err(|error| D::Error::custom(format!("`{key}`: {error}")))?;
        }
        Ok(Self {
            training: Training::deserialize(Value::Object(training)).map_err(D::Error::custom)?,
            architecture: Architecture::from_params(&name, params).map_err(D::Error::custom)?,
        })
    }
}

fn object(value: serde_json::Result<Value>) -> Map<String, Value> {
    match value {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}
