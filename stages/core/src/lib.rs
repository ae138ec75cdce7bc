//! stage-core.
