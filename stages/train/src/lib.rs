//! stage-train.
