//! Every container decodes to its tone; whatever is done to the bytes gives a
//! reason and no panic.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::f64::consts::TAU;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use audio::{Decoder, Error, MonoOptions, MonoReader, PcmSpec, SampleFormat, WavWriter, probe};
use proptest::prelude::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../data/fixtures")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

fn options() -> MonoOptions {
    MonoOptions {
        rate: 16_000,
        ..MonoOptions::default()
    }
}

/// All of the planes.
fn decode(mut decoder: Decoder) -> Result<Vec<Vec<f32>>, Error> {
    let mut planes = vec![Vec::new(); decoder.channels()];
    while let Some(block) = decoder.next_block()? {
        for (plane, block) in planes.iter_mut().zip(block.planes()) {
            plane.extend_from_slice(block);
        }
    }
    Ok(planes)
}

fn mono(bytes: Vec<u8>, options: MonoOptions) -> Result<Vec<f32>, Error> {
    let mut reader = MonoReader::new(Cursor::new(bytes), options)?;
    let mut samples = Vec::new();
    while let Some(block) = reader.next_block()? {
        samples.extend_from_slice(block);
    }
    Ok(samples)
}

/// Why a file is refused, what is said of one that is used, or "fine".
fn said(bytes: Vec<u8>) -> String {
    let read = || {
        let mut reader = MonoReader::new(Cursor::new(bytes), options())?;
        while reader.next_block()?.is_some() {}
        Ok(reader.notes().join("; "))
    };
    match read().map_err(|e: Error| e.to_string()) {
        Ok(notes) if notes.is_empty() => "fine".to_owned(),
        Ok(notes) | Err(notes) => notes,
    }
}

/// Amplitude and delay in frames of the 440 Hz sine in the middle of `signal`.
fn tone(signal: &[f32], rate: u32) -> (f64, f64) {
    let period = f64::from(rate) / 440.0;
    let (mut re, mut im, mut sum) = (0.0, 0.0, 0.0);
    let inner = signal.len() / 5..signal.len() * 4 / 5;
    for (n, &x) in signal
        .iter()
        .enumerate()
        .skip(inner.start)
        .take(inner.len())
    {
        let t = (n - inner.start) as f64 / inner.len() as f64;
        let w = 0.5 - 0.5 * (TAU * t).cos();
        let phase = TAU * n as f64 / period;
        re += w * f64::from(x) * phase.sin();
        im += w * f64::from(x) * phase.cos();
        sum += w;
    }
    (2.0 * re.hypot(im) / sum, -im.atan2(re) / TAU * period)
}

/// Name, container, codec, rate, channels, bits, frames missing or too many,
/// tolerances of amplitude and delay.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    u32,
    usize,
    Option<u32>,
    i64,
    f64,
    f64,
);

const ROWS: &[Row] = &[
    (
        "tone-s16.wav",
        "WAV",
        "pcm_s16le",
        8_000,
        1,
        Some(16),
        0,
        1e-4,
        0.01,
    ),
    (
        "tone-s24.wav",
        "WAV",
        "pcm_s24le",
        8_000,
        1,
        Some(24),
        0,
        1e-6,
        0.01,
    ),
    (
        "tone-f32.wav",
        "WAV",
        "pcm_f32le",
        8_000,
        1,
        Some(32),
        0,
        1e-6,
        0.01,
    ),
    (
        "tone-u8.wav",
        "WAV",
        "pcm_u8",
        8_000,
        1,
        Some(8),
        0,
        0.01,
        0.05,
    ),
    (
        "tone-extensible.wav",
        "WAV",
        "pcm_s16le",
        4_000,
        3,
        Some(16),
        0,
        1e-4,
        0.01,
    ),
    (
        "tone.aiff",
        "AIFF",
        "pcm_s16be",
        8_000,
        1,
        Some(16),
        0,
        1e-4,
        0.01,
    ),
    (
        "tone.flac",
        "FLAC",
        "flac",
        8_000,
        1,
        Some(16),
        0,
        1e-4,
        0.01,
    ),
    (
        "tone.mp3",
        "MPEG audio",
        "mp3",
        44_100,
        2,
        None,
        0,
        0.03,
        0.5,
    ),
    (
        "tone-noxing.mp3",
        "MPEG audio",
        "mp3",
        44_100,
        2,
        None,
        1_188,
        0.03,
        3.0,
    ),
    ("tone.ogg", "Ogg", "vorbis", 44_100, 2, None, 0, 0.03, 0.5),
    ("tone.opus", "Ogg", "opus", 48_000, 2, None, 0, 0.02, 1.0),
    ("tone.m4a", "MP4", "aac", 44_100, 2, None, 0, 0.02, 1.5),
    (
        "tone.aac", "ADTS", "aac", 44_100, 2, None, 1_188, 0.02, 25.0,
    ),
    (
        "tone-alac.m4a",
        "MP4",
        "alac",
        8_000,
        2,
        None,
        0,
        1e-4,
        0.01,
    ),
    ("tone.caf", "CAF", "alac", 8_000, 2, None, 0, 1e-4, 0.01),
    (
        "tone-pcm.caf",
        "CAF",
        "pcm_s16be",
        8_000,
        1,
        Some(16),
        0,
        1e-4,
        0.01,
    ),
    (
        "tone-opus.mkv",
        "Matroska",
        "opus",
        48_000,
        2,
        None,
        648,
        0.02,
        1.0,
    ),
    (
        "tone.webm",
        "Matroska",
        "vorbis",
        44_100,
        2,
        None,
        740,
        0.03,
        0.5,
    ),
    (
        "tone-aac.mkv",
        "Matroska",
        "aac",
        44_100,
        2,
        None,
        1_188,
        0.02,
        25.0,
    ),
];

#[test]
fn every_container_decodes_to_its_tone() {
    let mut wrong = Vec::new();
    for &(name, container, codec, rate, channels, bits, excess, level, delay) in ROWS {
        let decoder = match Decoder::open(&fixture(name)) {
            Ok(decoder) => decoder,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        let info = decoder.info().clone();
        let got = (
            info.container,
            &*info.codec,
            info.rate,
            info.channels,
            info.bits,
        );
        if got != (container, codec, rate, channels, bits) {
            wrong.push(format!("{name}: {info:?}"));
        }
        let planes = match decode(decoder) {
            Ok(planes) => planes,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        let expected = i64::from(rate) * 6 / 10 + excess;
        if planes[0].len() as i64 != expected {
            wrong.push(format!(
                "{name}: {} frames, expected {expected}",
                planes[0].len()
            ));
        }
        for (plane, amplitude) in planes.iter().zip([0.5, 0.25, 0.0]) {
            let (got, shift) = tone(plane, rate);
            let shift = if amplitude > 0.0 { shift } else { 0.0 };
            if (got - amplitude).abs() > level || shift.abs() > delay {
                wrong.push(format!("{name}: amplitude {got}, delay {shift}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn probing_tells_the_duration() {
    for &(name, _, _, rate, _, _, excess, ..) in ROWS {
        let info = probe(&fixture(name)).unwrap();
        let expected = 0.6 + excess as f64 / f64::from(rate);
        let seconds = info.seconds().unwrap_or(0.0);
        assert!(
            (seconds - expected).abs() < 0.03 || name == "tone.caf",
            "{name}: {seconds} s"
        );
    }
}

#[test]
fn mono_has_the_mean_of_both_channels_at_the_rate_asked_for() {
    for name in ["tone-alac.m4a", "tone.mp3", "tone.m4a", "tone.ogg"] {
        let samples = mono(bytes(name), options()).unwrap();
        assert_eq!(samples.len(), 9_600, "{name}");
        let (level, delay) = tone(&samples, 16_000);
        assert!((level - 0.375).abs() < 0.02, "{name}: {level}");
        assert!(delay.abs() < 0.5, "{name}: delay {delay}");
    }
}

#[test]
fn a_cut_file_says_so() {
    for &(name, ..) in ROWS {
        let whole = bytes(name);
        for share in [1, 5, 9] {
            let mut cut = whole.clone();
            cut.truncate(whole.len() * share / 10);
            let reason = said(cut);
            assert_ne!(reason, "fine", "{name} at {share}/10");
        }
        let mut cut = whole.clone();
        cut.truncate(whole.len() - 7);
        let reason = said(cut);
        // The index of a Matroska file comes last and is not needed.
        assert!(
            reason != "fine" || name.ends_with("mkv") || name.ends_with("webm"),
            "{name}: {reason}"
        );
    }
    let mut mp3 = bytes("tone.mp3");
    mp3.truncate(mp3.len() / 2);
    let reason = said(mp3);
    assert!(
        reason.starts_with("is truncated: 0.3 s of 0.6 s decoded"),
        "{reason}"
    );
}

#[test]
fn tags_of_an_mp3_change_no_sample() {
    for name in ["tone.mp3", "tone-noxing.mp3"] {
        let plain = bytes(name);
        let expected = mono(plain.clone(), options()).unwrap();
        let mut tagged = b"ID3\x04\0\0\0\0\x08\0".to_vec();
        tagged.extend([0xFF; 1_024]);
        // What follows an existing tag is the stream.
        let mut stream = plain;
        if stream.starts_with(b"ID3") {
            let size = stream[6..10]
                .iter()
                .fold(0, |n, &b| n << 7 | usize::from(b));
            stream.drain(..10 + size);
        }
        tagged.extend(stream);
        tagged.extend(b"TAG");
        tagged.extend([b' '; 125]);
        assert_eq!(mono(tagged, options()).unwrap(), expected, "{name}");
    }
}

fn wav(format: SampleFormat, samples: &[f32]) -> Vec<u8> {
    let mut wav = WavWriter::new(Cursor::new(Vec::new()), PcmSpec::mono(8_000, format)).unwrap();
    wav.write(samples).unwrap();
    wav.finish().unwrap().into_inner()
}

#[test]
fn contents_that_cannot_be_used_have_their_reasons() {
    let sine: Vec<f32> = (0..8_000).map(|n| (n as f32 / 3.0).sin() * 0.5).collect();
    let good = wav(SampleFormat::S16, &sine);
    let claims = |data: u32| {
        let mut file = good.clone();
        file[4..8].copy_from_slice(&data.saturating_add(36).to_le_bytes());
        file[40..44].copy_from_slice(&data.to_le_bytes());
        file
    };
    let mut nan = wav(SampleFormat::F32, &sine);
    nan[58 + 4 * 400..58 + 4 * 401].copy_from_slice(&f32::NAN.to_le_bytes());
    let large_packets = |frames: u32| {
        let mut file = bytes("tone-pcm.caf");
        file[40..44].copy_from_slice(&frames.to_be_bytes());
        file
    };
    let loud: Vec<f32> = sine.iter().map(|x| x * 32_768.0).collect();
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (good.clone(), "fine"),
        (
            wav(SampleFormat::F32, &loud),
            "is beyond 32 times full scale",
        ),
        (
            wav(SampleFormat::F32, &[1e38; 8_000]),
            "is beyond 32 times full scale",
        ),
        (Vec::new(), "is empty (0 bytes)"),
        (b"I am no recording.\n".to_vec(), "looks like text"),
        (nan, "has a sample of NaN at 0.050 s"),
        (
            wav(SampleFormat::S16, &sine[..800]),
            "lasts 0.100 s, expected at least 0.5 s",
        ),
        (wav(SampleFormat::S16, &[]), "no sound"),
        (
            wav(SampleFormat::S16, &[0.0; 8_000]),
            "is silent: its peak of -inf dBFS",
        ),
        (
            wav(SampleFormat::F32, &[2e-5; 8_000]),
            "is silent: its peak of -94.0 dBFS",
        ),
        (claims(0xFFFF_FF00), "does not give the length of its data"),
        (claims(u32::MAX), "does not give the length of its data"),
        (claims(0x7FFF_F000), "does not give the length of its data"),
        (
            claims(2_000_000_000),
            "does not give the length of its data",
        ),
        (claims(0), "does not give the length of its data"),
        (
            claims(16_044),
            "the last 0.003 s are missing (its data chunk claims more",
        ),
        (claims(20_000), "is truncated: 1.0 s of 1.2 s decoded"),
        (
            large_packets(u32::MAX),
            "packets of 4294967295 frames, expected at most 131072",
        ),
        (
            large_packets(131_073),
            "packets of 131073 frames, expected at most 131072",
        ),
        (
            b"RF64\xFF\xFF\xFF\xFFWAVE".to_vec(),
            "is malformed: it has no `fmt ` chunk",
        ),
    ];
    for (file, expected) in rows {
        let reason = said(file);
        assert!(reason.contains(expected), "{reason} / {expected}");
    }
    let long = MonoOptions {
        max_seconds: 0.9,
        ..options()
    };
    let reason = mono(good, long).unwrap_err();
    assert!(reason.to_string().contains("lasts more than 0.9 s"));
}

/// A WAV file of chunks: name and content.
fn riff(name: &[u8; 4], chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = [&name[..], &[0; 4], b"WAVE"].concat();
    for (name, content) in chunks {
        file.extend(*name);
        file.extend((content.len() as u32).to_le_bytes());
        file.extend(*content);
    }
    let size = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    file
}

/// Headers as many programs write them, each over the same samples.
#[test]
fn headers_that_are_out_of_order_change_no_sample() {
    let sine: Vec<f32> = (0..8_000).map(|n| (n as f32 / 3.0).sin() * 0.5).collect();
    let plain = wav(SampleFormat::S16, &sine);
    let (format, data) = (&plain[20..36], &plain[44..]);
    let expected = mono(plain.clone(), options()).unwrap();
    let longer = |bytes: usize| {
        let mut format = format.to_vec();
        format.resize(bytes, 0);
        format
    };
    let mut sizes = plain.clone();
    for (at, size) in [(4, 0_u32), (4, 8_000)] {
        sizes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        assert_eq!(mono(sizes.clone(), options()).unwrap(), expected, "{size}");
    }
    for bytes in [16, 18, 20, 22, 28, 50] {
        let file = riff(b"RIFF", &[(b"fmt ", &longer(bytes)), (b"data", data)]);
        assert_eq!(mono(file, options()).unwrap(), expected, "{bytes}");
    }
    // Without the padding of a chunk of odd length.
    let file = riff(
        b"RIFF",
        &[
            (b"fmt ", format),
            (b"LIST", b"INFOISFT\x03\0\0\0abc"),
            (b"data", data),
        ],
    );
    assert_eq!(mono(file, options()).unwrap(), expected);
    // RF64: the length of the data stands in another chunk.
    let mut long = [0; 28];
    long[8..16].copy_from_slice(&(data.len() as u64).to_le_bytes());
    let mut file = riff(
        b"RF64",
        &[(b"ds64", &long), (b"fmt ", format), (b"data", data)],
    );
    let at = file.len() - data.len() - 4;
    file[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(said(file.clone()), "fine");
    assert_eq!(mono(file, options()).unwrap(), expected);
}

#[test]
fn samples_in_wider_frames_are_read_by_their_upper_bits() {
    let sine: Vec<f32> = (0..8_000).map(|n| (n as f32 / 3.0).sin() * 0.5).collect();
    let plain = wav(SampleFormat::S24, &sine);
    let at = plain.windows(4).position(|w| w == b"data").unwrap() + 8;
    let wide: Vec<u8> = plain[at..]
        .chunks(3)
        .flat_map(|x| [0, x[0], x[1], x[2]])
        .collect();
    // PCM, one channel, 8,000 Hz, frames of 4 bytes, 24 bits.
    let format = [1, 0, 1, 0, 64, 31, 0, 0, 0, 125, 0, 0, 4, 0, 24, 0];
    let file = riff(b"RIFF", &[(b"fmt ", &format), (b"data", &wide)]);
    assert_eq!(
        mono(file, options()).unwrap(),
        mono(plain, options()).unwrap()
    );
}

#[test]
fn a_mask_of_one_loudspeaker_takes_no_channel_away() {
    let frames: Vec<u8> = (0..8_000_i32)
        .flat_map(|n| {
            let left = (n * 37 % 20_000 - 10_000) as i16;
            let right = (n * 91 % 9_000 - 4_500) as i16;
            [left.to_le_bytes(), right.to_le_bytes()].concat()
        })
        .collect();
    let stereo = [1, 0, 2, 0, 64, 31, 0, 0, 0, 125, 0, 0, 4, 0, 16, 0];
    let mut masked = stereo.to_vec();
    masked[0..2].copy_from_slice(&0xFFFE_u16.to_le_bytes());
    masked.extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0]);
    masked.extend([0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113]);
    let read = |format: &[u8]| {
        let file = riff(b"RIFF", &[(b"fmt ", format), (b"data", &frames)]);
        mono(file, options()).unwrap()
    };
    assert_eq!(read(&stereo), read(&masked));
}

#[test]
fn channels_that_cancel_are_named() {
    let frames: Vec<u8> = (0..8_000_i32)
        .flat_map(|n| {
            let x = (n * 37 % 20_000 - 10_000) as i16;
            [x.to_le_bytes(), (-x).to_le_bytes()].concat()
        })
        .collect();
    let stereo = [1, 0, 2, 0, 64, 31, 0, 0, 0, 125, 0, 0, 4, 0, 16, 0];
    let file = riff(b"RIFF", &[(b"fmt ", &stereo), (b"data", &frames)]);
    let reason = said(file);
    assert!(reason.contains("cancel each other"), "{reason}");
}

/// Bare frames behind what is none, and more of them than the header counts.
#[test]
fn mpeg_streams_that_begin_late_or_go_on_are_read() {
    let plain = bytes("tone-noxing.mp3");
    let start = plain
        .windows(2)
        .position(|w| w == [0xFF, 0xFB] || w == [0xFF, 0xF3] || w == [0xFF, 0xE3]);
    let stream = &plain[start.unwrap()..];
    let expected = mono(stream.to_vec(), options()).unwrap();
    for before in [vec![0; 5_000], b"junk that is no frame".to_vec()] {
        let file = [&before[..], stream].concat();
        assert_eq!(mono(file, options()).unwrap(), expected);
    }
    let with_header = bytes("tone.mp3");
    let seconds = |bytes: &[u8]| mono(bytes.to_vec(), options()).unwrap().len() as f64 / 22_050.0;
    let once = seconds(&with_header);
    let joined = [&with_header[..], &with_header].concat();
    assert!(
        seconds(&joined) > 1.9 * once,
        "{} of {once}",
        seconds(&joined)
    );
    assert!(said(joined).contains("more frames than its header counts"));
    let hole = [stream, &[0; 3_000], stream].concat();
    assert!(said(hole).contains("are no MPEG frames"));
}

#[test]
fn the_machine_is_told_from_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Decoder::open(folder.path()).err().unwrap();
    assert!(matches!(directory, Error::Directory), "{directory}");
    let missing = Decoder::open(&folder.path().join("x.wav")).err().unwrap();
    assert!(!missing.is_content(), "{missing}");
}

#[test]
fn what_the_writers_write_decodes_to_the_same() {
    let samples: Vec<f32> = (0..30_000).map(|n| (n as f32 / 7.0).sin() * 0.9).collect();
    for container in [audio::Container::Wav, audio::Container::Flac] {
        for (format, step) in [
            (SampleFormat::S16, 32_768.0),
            (SampleFormat::S24, 8_388_608.0),
        ] {
            for channels in [1, 2, 3, 6] {
                let spec = PcmSpec {
                    rate: 22_050,
                    channels,
                    format,
                };
                let mut file = Cursor::new(Vec::new());
                let mut pcm = audio::PcmWriter::new(&mut file, container, spec).unwrap();
                for block in samples.chunks(channels as usize * 1_000) {
                    pcm.write(block).unwrap();
                }
                pcm.finish().unwrap();
                let decoder = Decoder::new(Cursor::new(file.into_inner())).unwrap();
                assert_eq!(decoder.info().bits, Some(u32::from(format.bits())));
                assert_eq!(decoder.info().frames, Some(30_000 / u64::from(channels)));
                let planes = decode(decoder).unwrap();
                for (n, &x) in samples.iter().enumerate() {
                    let (frame, channel) = (n / channels as usize, n % channels as usize);
                    let expected = (x * step).round_ties_even() / step;
                    assert_eq!(planes[channel][frame], expected, "{container} {spec:?}");
                }
            }
        }
    }
}

#[test]
fn out_of_range_samples_are_clamped_in_flac() {
    let mut file = Cursor::new(Vec::new());
    let spec = PcmSpec::mono(8_000, SampleFormat::S16);
    let mut pcm = audio::PcmWriter::new(&mut file, audio::Container::Flac, spec).unwrap();
    pcm.write(&[2.0, -2.0, 1.0, 0.5]).unwrap();
    assert!(pcm.write(&[f32::NAN]).is_err());
    pcm.finish().unwrap();
    let planes = decode(Decoder::new(Cursor::new(file.into_inner())).unwrap()).unwrap();
    assert_eq!(
        planes[0],
        [32_767.0 / 32_768.0, -1.0, 32_767.0 / 32_768.0, 0.5]
    );
}

#[test]
fn flac_of_other_samples_than_its_md5_is_refused() {
    let mut file = bytes("tone.flac");
    file[26] ^= 1; // the first byte of the MD5 in STREAMINFO
    let reason = said(file);
    assert!(reason.contains("MD5"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_is_an_error_at_worst(
        file in 0..ROWS.len(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = bytes(ROWS[file].0);
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check_damaged(bytes)?;
    }

    #[test]
    fn damaged_headers_are_an_error_at_worst(
        file in 0..ROWS.len(),
        places in prop::collection::vec((0..200_usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = bytes(ROWS[file].0);
        for (place, value) in places {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        check_damaged(bytes)?;
    }

    #[test]
    fn any_bytes_after_a_magic_are_an_error_at_worst(
        file in 0..ROWS.len(),
        tail in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = bytes(ROWS[file].0);
        bytes.truncate(16);
        bytes.extend(tail);
        check_damaged(bytes)?;
    }
}

/// The outcome may be anything but an escaping panic or endless sound.
fn check_damaged(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let options = MonoOptions {
        max_seconds: 60.0,
        ..options()
    };
    match mono(bytes, options) {
        Err(Error::Io { source, .. }) => Err(TestCaseError::fail(source.to_string())),
        _ => Ok(()),
    }
}
