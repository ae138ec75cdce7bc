//! Recordings in every container, and SoundFonts.

use std::io::Cursor;

use audio::{Decoder, Error};
use synth::{Note, Options, Renderer, Sound, SoundFont};

/// Samples after which a recording is long enough: a few bytes of FLAC are minutes of silence.
const ENOUGH: usize = 1 << 22;

/// Decodes to the end, or until there is [`ENOUGH`].
pub fn audio(bytes: &[u8]) {
    let mut decoder = match Decoder::new(Cursor::new(bytes.to_vec())) {
        Ok(decoder) => decoder,
        Err(error) => return content(&error),
    };
    let (channels, mut samples) = (decoder.channels(), 0);
    assert!(channels > 0 && decoder.rate() > 0);
    let mut interleaved = Vec::new();
    loop {
        match decoder.next_block() {
            Ok(None) => break,
            Ok(Some(block)) => {
                assert_eq!(block.planes().len(), channels);
                assert!(block.frames() > 0);
                block.interleave(&mut interleaved);
                samples += interleaved.len();
                if samples > ENOUGH {
                    break;
                }
            }
            Err(error) => return content(&error),
        }
    }
}

/// Whatever is wrong with bytes in memory is wrong with the bytes.
fn content(error: &Error) {
    assert!(error.is_content(), "{error:?}");
}

/// Reads a SoundFont and plays chords and drums with it.
pub fn soundfont(bytes: &[u8]) {
    let Ok(font) = SoundFont::read(&mut Cursor::new(bytes)) else {
        return;
    };
    let note = |sound, pitch| Note {
        onset: 0.0,
        duration: 0.02,
        pitch,
        velocity: 100,
        gain: 1.0,
        sound,
    };
    let notes = vec![
        note(Sound::Program(0), 21.0),
        note(Sound::Program(0), 60.0),
        note(Sound::Program(0), 108.0),
        note(Sound::Drum(38), 60.0),
    ];
    let options = Options {
        tail: 0.02,
        ..Options::default()
    };
    let Ok(mut renderer) = Renderer::with_sound_font(notes, &font, &options) else {
        return;
    };
    let mut samples = [0.0; 256];
    loop {
        let Ok(given @ 1..) = renderer.fill(&mut samples) else {
            return;
        };
        assert!(samples[..given].iter().all(|x| x.abs() <= 1.0));
    }
}
