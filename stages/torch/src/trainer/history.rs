//! What training has been through: one record per validation.
//!
//! The records live in the state file, so that what is lost with a killed process is lost from
//! both and made again alike. They hold no times or rates: the history is part of the artifact,
//! which follows from parameters and data alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use plot::{Baseline, LineChart, Panel, Scale, Series, Size};
use serde::{Deserialize, Serialize};

use super::metrics::Metrics;

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
    /// What the validation split gave, the primary metric first; empty without such a split.
    pub metrics: Metrics,
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

/// The records as a table with a header: a column for each part of the loss, each metric and each
/// baseline.
pub fn to_csv(records: &[Record]) -> String {
    let parts: Vec<&String> = records
        .first()
        .map_or(Vec::new(), |r| r.parts.keys().collect());
    let values = |record: &Record| -> Vec<(String, f64)> {
        record.metrics.iter().flat_map(|m| m.values()).collect()
    };
    let metrics: Vec<String> = records
        .iter()
        .map(values)
        .find(|values| !values.is_empty())
        .map_or(Vec::new(), |values| {
            values.into_iter().map(|v| v.0).collect()
        });
    let mut text = String::from("step,epoch,loss");
    for name in &parts {
        let _ = write!(text, ",{name}");
    }
    text.push_str(",learning_rate");
    for name in &metrics {
        let _ = write!(text, ",{name}");
    }
    text.push_str(",best\n");
    for record in records {
        let _ = write!(text, "{},{},{}", record.step, record.epoch, record.loss);
        let values: BTreeMap<String, f64> = values(record).into_iter().collect();
        let mut cell = |value: Option<&f64>| {
            let _ = match value {
                Some(value) => write!(text, ",{value}"),
                None => write!(text, ","),
            };
        };
        for name in &parts {
            cell(record.parts.get(*name));
        }
        cell(Some(&record.learning_rate));
        for name in &metrics {
            cell(values.get(name));
        }
        let _ = writeln!(text, ",{}", record.best);
    }
    text
}

/// The training loss, below the primary metric with its baselines where something is held out.
pub fn chart(records: &[Record]) -> LineChart {
    let point = |record: &Record, value: f64| (record.step as f64, value);
    let panel = |y_label: String, name: &str, points, baselines| Panel {
        y_label,
        series: vec![Series {
            name: name.into(),
            points,
        }],
        baselines,
        scale: Scale::Linear,
    };
    let mut panels = Vec::new();
    if let Some(metric) = records.iter().rev().find_map(|r| r.metrics.first()) {
        let held_out = records
            .iter()
            .filter_map(|r| r.metrics.first().map(|metric| point(r, metric.value)))
            .collect();
        let baselines = metric
            .baselines
            .iter()
            .map(|baseline| Baseline {
                name: baseline.name.replace('_', " "),
                value: baseline.value,
            })
            .collect();
        panels.push(panel(metric.label(), "validation", held_out, baselines));
    }
    let losses = records.iter().map(|r| point(r, r.loss)).collect();
    panels.push(panel("loss".to_owned(), "training", losses, Vec::new()));
    LineChart {
        title: "Training".into(),
        x_label: "Step".into(),
        panels,
        size: Size::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{Better, Metric};
    use super::*;

    fn records() -> Vec<Record> {
        let record = |step: u64, metrics| Record {
            step,
            epoch: step / 10,
            loss: 0.5,
            parts: BTreeMap::from([("mse".to_owned(), 0.25)]),
            learning_rate: 0.001,
            metrics,
            best: true,
        };
        let error = Metric::new("rmse", "dB", 3.0, Better::Lower)
            .with("copy_previous", 4.0)
            .with("bin_mean", 12.5);
        let share = Metric::new("share", "", 0.5, Better::Higher);
        vec![record(10, Vec::new()), record(20, vec![error, share])]
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
            "step,epoch,loss,mse,learning_rate,rmse,rmse_copy_previous,rmse_bin_mean,share,best\n\
             10,1,0.5,0.25,0.001,,,,,true\n20,2,0.5,0.25,0.001,3,4,12.5,0.5,true\n"
        );
    }

    #[test]
    fn the_chart_draws_whatever_is_measured() {
        let svg = chart(&records()).to_svg();
        for text in ["copy previous", "rmse (dB)", "loss"] {
            assert!(svg.contains(text), "{text}");
        }
    }
}
