//! stage-render.
