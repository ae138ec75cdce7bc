//! The whole part of the stage `train`.

use serde_json::{Value, json};
use stage_core::{Context, Inputs, Output, Stage};
use stage_train::Train;
use stage_train::models::TaskName;

use crate::data::Dataset;
use crate::jobs::Work;
use crate::tasks::frames::Frames;
use crate::trainer::run::{Setup, run};
use crate::{Result, device};

impl Work for Train {
    fn work(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()> {
        // Before any other call into libtorch.
        let device = device::open(cx.device)?;
        tch::set_num_threads(i32::try_from(self.training.threads).unwrap_or(1));
        let dataset = Dataset::open(inputs.one("dataset")?)?;
        match self.architecture.entry().task {
            TaskName::Frames => {
                let setup = Setup {
                    task: &Frames::open(dataset, self, device)?,
                    training: &self.training,
                    model: self.architecture.name(),
                    params: lasting(self),
                    device,
                };
                run(&setup, out, cx)
            }
        }
    }
}

/// The parameters that say how the weights came about.
fn lasting(train: &Train) -> Value {
    let mut params = json!(train);
    if let Value::Object(map) = &mut params {
        // What changes no weight, or is a path.
        map.remove("save_every");
        map.remove("init_from");
        // Budgets are told by `step`: a best model is the same under a larger one.
        for key in train.budget_keys() {
            map.remove(*key);
        }
    }
    params
}
