//! stage-dataset.
