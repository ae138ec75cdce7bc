//! MusicXML, plain and in archives.

#![no_main]

fuzz::target!(fuzz::targets::score);
