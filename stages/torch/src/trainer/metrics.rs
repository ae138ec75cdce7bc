//! What a validation measured, as data: whatever draws or compares metrics knows none by name.

use serde::{Deserialize, Serialize};

/// Which values of a metric are the good ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Low ones: an error.
    Lower,
    /// High ones: an accuracy.
    Higher,
}

/// What can be reached without learning, measured on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Its name, of letters, digits and `_`.
    pub name: String,
    /// Its value of the metric.
    pub value: f64,
}

/// One measure of a model on held-out data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name, of letters, digits and `_`.
    pub name: String,
    /// Its unit; empty when it has none.
    pub unit: String,
    /// The model's value.
    pub value: f64,
    /// Which values are the good ones.
    pub better: Better,
    /// What the model has to be better than.
    pub baselines: Vec<Baseline>,
}

impl Metric {
    /// A metric without baselines.
    pub fn new(name: &str, unit: &str, value: f64, better: Better) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            value,
            better,
            baselines: Vec::new(),
        }
    }

    /// The same with one more baseline.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.baselines.push(Baseline {
            name: name.to_owned(),
            value,
        });
        self
    }

    /// Whether the model's value is better than `other`.
    pub fn beats(&self, other: f64) -> bool {
        match self.better {
            Better::Lower => self.value < other,
            Better::Higher => self.value > other,
        }
    }

    /// Name and unit for tables and charts: `rmse (dB)`.
    pub fn label(&self) -> String {
        let name = self.name.replace('_', " ");
        if self.unit.is_empty() {
            name
        } else {
            format!("{name} ({})", self.unit)
        }
    }

    /// All of its values by name: its own, then each baseline's as `<metric>_<baseline>`.
    pub fn values(&self) -> impl Iterator<Item = (String, f64)> {
        let baselines = self.baselines.iter();
        std::iter::once((self.name.clone(), self.value))
            .chain(baselines.map(|b| (format!("{}_{}", self.name, b.name), b.value)))
    }
}

/// The primary metric first; empty when nothing is held out.
pub type Metrics = Vec<Metric>;
