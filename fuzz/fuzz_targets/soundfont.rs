//! SoundFonts, read and played.

#![no_main]

fuzz::target!(fuzz::targets::soundfont);
