//! stage-predict.
