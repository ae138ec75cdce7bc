//! Batches as tensors: over the loader's own memory, which comes back when the last of them goes.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::path::Path;

use pipeline_torch::data::{Dataset, chunk_of};
use shard::{Loader, Split};
use tch::{Device, Tensor};

use common::dataset;

fn loader(folder: &Path) -> Loader {
    let data = Dataset::open(&dataset(folder, false)).unwrap();
    data.streams(Split::Train, 4, 16).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap()
}

#[test]
fn a_batch_becomes_a_tensor_without_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let loader = loader(dir.path());
    let shape = loader.shape();
    let (steps, mut places) = (loader.steps_per_epoch() as usize, Vec::new());
    assert!(steps > 20);
    for (batch, again) in loader.epoch(0).unwrap().zip(loader.epoch(0).unwrap()) {
        let batch = batch.unwrap();
        let place = batch.data().f32().unwrap().as_ptr();
        let chunk = chunk_of(batch, shape, Device::Cpu).unwrap();
        assert_eq!(chunk.rows.data_ptr().cast(), place.cast_mut());
        assert!((place as usize).is_multiple_of(64) && chunk.rows.is_contiguous());
        assert_eq!(
            chunk.rows.size(),
            [shape.batch, shape.rows, shape.width].map(|n| n as i64)
        );
        assert_eq!(floats(&chunk.rows), again.unwrap().data().f32().unwrap());
        places.push(place);
    }
    assert_eq!(places.len(), steps);
    places.sort_unstable();
    places.dedup();
    assert!(places.len() <= 5, "the memory of {} batches", places.len());
}

#[test]
fn memory_that_a_tensor_shares_is_not_gathered_into() {
    let dir = tempfile::tempdir().unwrap();
    let loader = loader(dir.path());
    let shape = loader.shape();
    let mut views = Vec::new();
    for batch in loader.epoch(0).unwrap() {
        let batch = batch.unwrap();
        let values = batch.data().f32().unwrap().to_vec();
        let rows = chunk_of(batch, shape, Device::Cpu).unwrap().rows;
        views.push((rows.narrow(1, 1, 2), values));
    }
    // The stream has ended, its threads too.
    for (view, values) in views {
        let all = Tensor::from_slice(&values).view([
            shape.batch as i64,
            shape.rows as i64,
            shape.width as i64,
        ]);
        assert_eq!(floats(&view), floats(&all.narrow(1, 1, 2)));
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let loader = loader(dir.path());
    let mut shape = loader.shape();
    shape.width += 1;
    let batch = loader.epoch(0).unwrap().next().unwrap().unwrap();
    let error = chunk_of(batch, shape, Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("values, expected"), "{error}");
}
