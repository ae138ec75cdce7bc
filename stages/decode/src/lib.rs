//! stage-decode.
