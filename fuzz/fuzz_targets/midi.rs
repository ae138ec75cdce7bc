//! Standard MIDI files, bare and in RIFF.

#![no_main]

fuzz::target!(fuzz::targets::score);
