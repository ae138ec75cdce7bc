//! What training has been through: one record per validation.
//!
//! The records live in the state file, so that what is lost with a killed process is lost from
//! both and made again alike. They hold no times or rates: the history is part of the artifact,
//! which follows from parameters and data alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use plot::{Baseline, LineChart, Panel, Scale, Series, Size};
use serde::{Deserialize, Serialize};

use crate::validate::Errors;

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps made.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u64,
    /// Mean training loss since the last record.
    pub loss: f64,
    /// Means of the loss's parts since the last record.
    pub parts: BTreeMap<String, f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Errors on the validation split, if there is one.
    pub validation: Option<Errors>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// The records as JSON lines.
pub fn to_jsonl(records: &[Record]) -> String {
    records
        .iter()
        .filter_map(|record| serde_json::to_string(record).ok())
        .fold(String::new(), |mut text, line| {
            text.push_str(&line);
            text.push('\n');
            text
        })
}

/// The records as a table with a header.
pub fn to_csv(records: &[Record]) -> String {
    let mut text = String::from("step,epoch,loss");
    let parts: Vec<&String> = records
        .first()
        .map_or(Vec::new(), |r| r.parts.keys().collect());
    for part in &parts {
        let _ = write!(text, ",{part}");
    }
    text.push_str(",learning_rate,valid_rmse_db,copy_previous_rmse_db,bin_mean_rmse_db,best\n");
    for record in records {
        let _ = write!(text, "{},{},{}", record.step, record.epoch, record.loss);
        for part in &parts {
            let _ = match record.parts.get(*part) {
                Some(value) => write!(text, ",{value}"),
                None => write!(text, ","),
            };
        }
        let _ = match &record.validation {
            Some(e) => write!(
                text,
                ",{},{},{},{}",
                record.learning_rate, e.model, e.copy_previous, e.bin_mean
            ),
            None => write!(text, ",{},,,", record.learning_rate),
        };
        let _ = writeln!(text, ",{}", record.best);
    }
    text
}

/// The training loss, below the validation error with its baselines where something is held out.
pub fn chart(records: &[Record]) -> LineChart {
    let point = |record: &Record, value: f64| (record.step as f64, value);
    let panel = |y_label: &str, name: &str, points, baselines| Panel {
        y_label: y_label.into(),
        series: vec![Series {
            name: name.into(),
            points,
        }],
        baselines,
        scale: Scale::Linear,
    };
    let mut panels = Vec::new();
    if let Some(errors) = records.iter().rev().find_map(|r| r.validation) {
        let held_out = records
            .iter()
            .filter_map(|r| r.validation.map(|e| point(r, e.model)))
            .collect();
        let baseline = |name: &str, value| Baseline {
            name: name.into(),
            value,
        };
        panels.push(panel(
            "RMSE of the next frame (dB)",
            "validation",
            held_out,
            vec![
                baseline("copy previous frame", errors.copy_previous),
                baseline("mean of each bin", errors.bin_mean),
            ],
        ));
    }
    let losses = records.iter().map(|r| point(r, r.loss)).collect();
    panels.push(panel("Training loss", "training", losses, Vec::new()));
    LineChart {
        title: "Training".into(),
        x_label: "Step".into(),
        panels,
        size: Size::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |step: u64, validation| Record {
            step,
            epoch: step / 10,
            loss: 0.5,
            parts: BTreeMap::from([("mse".to_owned(), 0.25)]),
            learning_rate: 0.001,
            validation,
            best: true,
        };
        let errors = Errors {
            model: 3.0,
            copy_previous: 4.0,
            bin_mean: 12.5,
        };
        vec![record(10, None), record(20, Some(errors))]
    }

    #[test]
    fn lines_and_table_hold_every_record() {
        let records = records();
        let lines: Vec<Record> = to_jsonl(&records)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines, records);
        assert_eq!(
            to_csv(&records),
            "step,epoch,loss,mse,learning_rate,valid_rmse_db,copy_previous_rmse_db,\
             bin_mean_rmse_db,best\n10,1,0.5,0.25,0.001,,,,true\n20,2,0.5,0.25,0.001,3,4,12.5,true\n"
        );
    }

    #[test]
    fn the_chart_draws_the_error_its_baselines_and_the_loss() {
        let svg = chart(&records()).to_svg();
        for text in [
            "RMSE of the next frame (dB)",
            "copy previous frame",
            "Training loss",
        ] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
