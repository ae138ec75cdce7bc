//! stage-featurize.
