//! MP4 and Matroska: recordings in boxes within boxes.

#![no_main]

fuzz::target!(fuzz::targets::audio);
