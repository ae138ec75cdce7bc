//! WAV, AIFF and CAF: samples after a header.

#![no_main]

fuzz::target!(fuzz::targets::audio);
