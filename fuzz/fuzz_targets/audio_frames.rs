//! FLAC, MP3 and ADTS: recordings as a stream of frames.

#![no_main]

fuzz::target!(fuzz::targets::audio);
