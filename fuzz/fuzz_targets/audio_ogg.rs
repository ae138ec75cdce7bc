//! Ogg: Vorbis, Opus and FLAC in pages.

#![no_main]

fuzz::target!(fuzz::targets::audio);
