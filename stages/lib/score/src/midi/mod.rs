//! Standard MIDI files (MIDI Manufacturers Association, *Standard MIDI Files
//! 1.0*, 1996), formats 0, 1 and 2.

mod channels;
mod read;
mod tracks;
mod write;

pub(crate) use read::read;
pub(crate) use tracks::find_header;
pub use write::write_midi;
