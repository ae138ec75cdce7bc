//! dsp.
