//! WAV files of our own: a streaming writer, and a reader fast enough to vanish
//! beside the transform that follows it.
//!
//! Layout after "Multimedia Programming Interface and Data Specifications 1.0"
//! (IBM and Microsoft, 1991) and `WAVE_FORMAT_EXTENSIBLE` (Microsoft, 2001) for
//! more than two channels. The reader is for files that this program wrote; what
//! users bring goes through [`crate::Decoder`].

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::pcm::{PcmSpec, SampleFormat, check_finite, to_i16, to_i24};

const FORMAT_PCM: u16 = 1;
const FORMAT_FLOAT: u16 = 3;
const FORMAT_EXTENSIBLE: u16 = 0xFFFE;
/// Tail of the sub-format GUID; its first two bytes are the format tag.
const GUID_TAIL: [u8; 14] = [
    0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71,
];
/// Bytes converted at a time: within the L1 cache together with their floats.
const BLOCK: usize = 12 * 1024;

/// Writes frames as they come and the lengths at the end.
///
/// ```
/// # fn main() -> audio::Result<()> {
/// let spec = audio::PcmSpec::mono(22_050, audio::SampleFormat::S16);
/// let mut wav = audio::WavWriter::new(std::io::Cursor::new(Vec::new()), spec)?;
/// wav.write(&[0.0, 0.5, -0.5])?;
/// assert_eq!(wav.finish()?.into_inner().len(), 44 + 6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WavWriter<W> {
    inner: W,
    spec: PcmSpec,
    /// Where the first byte of the file lies in `inner`.
    start: u64,
    /// Bytes before the samples.
    header: u64,
    data: u64,
    bytes: Vec<u8>,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Begins a file at the present position of `inner`, which should need no
    /// buffer of its own: blocks of 12 KiB are written.
    ///
    /// # Errors
    /// A rate or number of channels out of range; failing writes.
    pub fn new(mut inner: W, spec: PcmSpec) -> Result<Self> {
        spec.check()?;
        let start = inner
            .stream_position()
            .map_err(|e| Error::io("seek in", e))?;
        let header = header(&spec, 0);
        inner
            .write_all(&header)
            .map_err(|e| Error::io("write", e))?;
        Ok(Self {
            inner,
            spec,
            start,
            header: header.len() as u64,
            data: 0,
            bytes: vec![0; BLOCK],
        })
    }

    /// What is being written.
    pub const fn spec(&self) -> &PcmSpec {
        &self.spec
    }

    /// Frames written so far.
    pub const fn frames(&self) -> u64 {
        self.data / self.spec.frame_bytes() as u64
    }

    /// Appends whole frames of interleaved samples; integers are rounded and
    /// clamped as in [`crate::pcm`], floats stored as they are.
    ///
    /// # Errors
    /// Samples that are no whole frames, NaN or infinite; more than 4 GiB;
    /// failing writes.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        if !samples.len().is_multiple_of(self.spec.channels as usize) {
            return Err(Error::PartialFrame {
                samples: samples.len(),
                channels: self.spec.channels,
            });
        }
        let sample_bytes = self.spec.format.bytes();
        let bytes = self.data + samples.len() as u64 * sample_bytes as u64;
        // The RIFF length counts everything after its own eight bytes, with the
        // padding of an odd data chunk.
        let limit = u64::from(u32::MAX) - self.header - 1;
        if bytes > limit {
            return Err(Error::TooLarge {
                container: "WAV",
                bytes,
                limit,
            });
        }
        check_finite(samples, &self.spec, self.data / sample_bytes as u64)?;
        for block in samples.chunks(BLOCK / 4) {
            let bytes = &mut self.bytes[..block.len() * sample_bytes];
            to_bytes(block, self.spec.format, bytes);
            self.inner
                .write_all(bytes)
                .map_err(|e| Error::io("write", e))?;
        }
        self.data = bytes;
        Ok(())
    }

    /// Pads, writes the lengths into the header and gives the stream back, at
    /// its end and flushed (not synced).
    ///
    /// # Errors
    /// Failing writes.
    pub fn finish(mut self) -> Result<W> {
        let write = |e| Error::io("write", e);
        let seek = |e| Error::io("seek in", e);
        if self.data % 2 == 1 {
            self.inner.write_all(&[0]).map_err(write)?;
        }
        self.inner.seek(SeekFrom::Start(self.start)).map_err(seek)?;
        // `write` keeps the length within 32 bits.
        let header = header(&self.spec, self.data as u32);
        self.inner.write_all(&header).map_err(write)?;
        self.inner.seek(SeekFrom::End(0)).map_err(seek)?;
        self.inner.flush().map_err(write)?;
        Ok(self.inner)
    }
}

/// Everything before the samples: 44 bytes for integers, 58 for floats, more
/// for more than two channels.
fn header(spec: &PcmSpec, data: u32) -> Vec<u8> {
    let tag = match spec.format {
        SampleFormat::S16 | SampleFormat::S24 => FORMAT_PCM,
        SampleFormat::F32 => FORMAT_FLOAT,
    };
    let extensible = spec.channels > 2;
    let frame_bytes = spec.frame_bytes() as u32;
    let mut fmt = Vec::with_capacity(40);
    let shown_tag = if extensible { FORMAT_EXTENSIBLE } else { tag };
    fmt.extend(shown_tag.to_le_bytes());
    fmt.extend(spec.channels.to_le_bytes());
    fmt.extend(spec.rate.to_le_bytes());
    fmt.extend((spec.rate * frame_bytes).to_le_bytes());
    fmt.extend((frame_bytes as u16).to_le_bytes());
    fmt.extend(spec.format.bits().to_le_bytes());
    if extensible {
        fmt.extend(22_u16.to_le_bytes());
        fmt.extend(spec.format.bits().to_le_bytes());
        // The first speakers in the standard's order: 0x3F for six is 5.1.
        fmt.extend(((1_u32 << spec.channels) - 1).to_le_bytes());
        fmt.extend(tag.to_le_bytes());
        fmt.extend(GUID_TAIL);
    } else if tag != FORMAT_PCM {
        fmt.extend(0_u16.to_le_bytes());
    }

    let mut chunks = Vec::with_capacity(80);
    chunks.extend(b"WAVEfmt ");
    chunks.extend((fmt.len() as u32).to_le_bytes());
    chunks.extend(&fmt);
    if tag != FORMAT_PCM {
        // Asked for by the standard wherever samples are not plain integers.
        chunks.extend(b"fact");
        chunks.extend(4_u32.to_le_bytes());
        chunks.extend((data / frame_bytes).to_le_bytes());
    }
    chunks.extend(b"data");
    chunks.extend(data.to_le_bytes());

    let riff = chunks.len() as u32 + data + data % 2;
    let mut header = Vec::with_capacity(8 + chunks.len());
    header.extend(b"RIFF");
    header.extend(riff.to_le_bytes());
    header.extend(&chunks);
    header
}

/// Reads WAV files of 16-bit, 24-bit and float samples block by block.
#[derive(Debug)]
pub struct WavReader<R> {
    inner: R,
    spec: PcmSpec,
    frames: u64,
    /// Samples not yet read.
    left: u64,
    bytes: Vec<u8>,
}

impl WavReader<File> {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`WavReader::new`], and when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(File::open(path).map_err(|e| Error::io("open", e))?)
    }
}

impl<R: Read + Seek> WavReader<R> {
    /// Reads the header from the present position of `inner` to its end, and
    /// checks that the samples it promises are there. `inner` needs no buffer.
    ///
    /// # Errors
    /// No WAV; another sample format; fewer bytes than promised; failing reads.
    pub fn new(mut inner: R) -> Result<Self> {
        let seek = |e| Error::io("seek in", e);
        let start = inner.stream_position().map_err(seek)?;
        let end = inner.seek(SeekFrom::End(0)).map_err(seek)?;
        inner.seek(SeekFrom::Start(start)).map_err(seek)?;
        let length = end.saturating_sub(start);
        if length == 0 {
            return Err(Error::Empty);
        }
        let [riff, _, wave] = words(&mut inner)?;
        if &riff != b"RIFF" || &wave != b"WAVE" {
            return Err(malformed("no WAV header"));
        }

        let mut spec = None;
        let mut at = 12_u64;
        // Each turn consumes at least the eight bytes of a chunk's header.
        loop {
            let [id, size] = words(&mut inner)?;
            let size = u64::from(u32::from_le_bytes(size));
            at += 8;
            if size > length.saturating_sub(at) {
                return Err(malformed(&format!(
                    "chunk `{}` claims {size} bytes, {} are left",
                    id.escape_ascii(),
                    length.saturating_sub(at)
                )));
            }
            match &id {
                b"fmt " => {
                    spec = Some(read_format(&mut inner, size)?);
                }
                b"data" => {
                    let spec: PcmSpec = spec.ok_or_else(|| malformed("samples before format"))?;
                    let frame_bytes = spec.frame_bytes() as u64;
                    if !size.is_multiple_of(frame_bytes) {
                        return Err(malformed(&format!(
                            "{size} bytes of samples are no whole frames of {frame_bytes} bytes"
                        )));
                    }
                    let frames = size / frame_bytes;
                    return Ok(Self {
                        inner,
                        spec,
                        frames,
                        left: frames * u64::from(spec.channels),
                        bytes: Vec::new(),
                    });
                }
                _ => {
                    inner.seek(SeekFrom::Current(size as i64)).map_err(seek)?;
                }
            }
            at += size;
            if size % 2 == 1 {
                inner.seek(SeekFrom::Current(1)).map_err(seek)?;
                at += 1;
            }
        }
    }

    /// Rate, channels and sample format.
    pub const fn spec(&self) -> &PcmSpec {
        &self.spec
    }

    /// Frames per second, Hz.
    pub const fn rate(&self) -> u32 {
        self.spec.rate
    }

    /// Frames of the whole file.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Refuses a file of more than one channel.
    ///
    /// # Errors
    /// More than one channel.
    pub fn mono(self) -> Result<Self> {
        if self.spec.channels == 1 {
            return Ok(self);
        }
        Err(Error::Unsupported {
            what: format!("{} channels, expected 1", self.spec.channels),
        })
    }

    /// Fills `samples` with the next interleaved samples and says how many, fewer
    /// than asked for only at the end of the file.
    ///
    /// # Errors
    /// A file that shrank; failing reads; NaN or infinite samples.
    pub fn read(&mut self, samples: &mut [f32]) -> Result<usize> {
        let wanted = samples
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let size = self.spec.format.bytes();
        self.bytes.resize(BLOCK, 0);
        let done = self.frames * u64::from(self.spec.channels) - self.left;
        let mut filled = 0;
        for block in samples[..wanted].chunks_mut(BLOCK / size) {
            let bytes = &mut self.bytes[..block.len() * size];
            self.inner.read_exact(bytes).map_err(read_error)?;
            convert(bytes, self.spec.format, block);
            if self.spec.format == SampleFormat::F32 {
                check_finite(block, &self.spec, done + filled)?;
            }
            filled += block.len() as u64;
            self.left -= block.len() as u64;
        }
        Ok(wanted)
    }

    /// Everything that is left, at most `max` samples.
    ///
    /// # Errors
    /// As [`WavReader::read`]; more than `max` samples.
    pub fn read_all(&mut self, max: usize) -> Result<Vec<f32>> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        if left > max {
            return Err(Error::TooLong {
                max: max as f64 / f64::from(self.spec.channels) / f64::from(self.spec.rate),
            });
        }
        // The header was checked against the file's length, so this is backed by
        // bytes that are there.
        let mut samples = vec![0.0; left];
        self.read(&mut samples)?;
        Ok(samples)
    }
}

/// Floats to little-endian samples; both slices hold as many samples.
pub(crate) fn to_bytes(samples: &[f32], format: SampleFormat, bytes: &mut [u8]) {
    match format {
        SampleFormat::S16 => {
            for (b, &x) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(samples) {
                *b = to_i16(x).to_le_bytes();
            }
        }
        SampleFormat::S24 => {
            for (b, &x) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
                let [low, middle, high, _] = to_i24(x).to_le_bytes();
                *b = [low, middle, high];
            }
        }
        SampleFormat::F32 => {
            for (b, &x) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
                *b = x.to_le_bytes();
            }
        }
    }
}

/// Little-endian samples to floats; both slices hold as many samples.
fn convert(bytes: &[u8], format: SampleFormat, samples: &mut [f32]) {
    match format {
        SampleFormat::S16 => {
            for (x, b) in samples.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f32::from(i16::from_le_bytes(*b)) * (1.0 / 32_768.0);
            }
        }
        SampleFormat::S24 => {
            for (x, &[a, b, c]) in samples.iter_mut().zip(bytes.as_chunks::<3>().0) {
                // In the upper three bytes, so that the sign is in its place.
                *x = i32::from_le_bytes([0, a, b, c]) as f32 * (1.0 / 2_147_483_648.0);
            }
        }
        SampleFormat::F32 => {
            for (x, b) in samples.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
    }
}

/// The `fmt ` chunk of `size` bytes.
fn read_format<R: Read + Seek>(inner: &mut R, size: u64) -> Result<PcmSpec> {
    let mut fmt = [0_u8; 40];
    let known = usize::try_from(size).unwrap_or(usize::MAX).min(fmt.len());
    if known < 16 {
        return Err(malformed(&format!(
            "format chunk of {size} bytes, expected 16"
        )));
    }
    inner.read_exact(&mut fmt[..known]).map_err(read_error)?;
    inner
        .seek(SeekFrom::Current(size as i64 - known as i64))
        .map_err(|e| Error::io("seek in", e))?;
    let u16_at = |at: usize| u16::from_le_bytes([fmt[at], fmt[at + 1]]);
    let mut tag = u16_at(0);
    if tag == FORMAT_EXTENSIBLE && known == 40 {
        tag = u16_at(24);
    }
    let bits = u16_at(14);
    let format = match (tag, bits) {
        (FORMAT_PCM, 16) => SampleFormat::S16,
        (FORMAT_PCM, 24) => SampleFormat::S24,
        (FORMAT_FLOAT, 32) => SampleFormat::F32,
        _ => {
            return Err(Error::Unsupported {
                what: format!(
                    "WAV format {tag} of {bits} bits, expected integers of 16 or 24 bits or floats of 32"
                ),
            });
        }
    };
    let spec = PcmSpec {
        rate: u32::from_le_bytes([fmt[4], fmt[5], fmt[6], fmt[7]]),
        channels: u16_at(2),
        format,
    };
    spec.check()?;
    if usize::from(u16_at(12)) != spec.frame_bytes() {
        return Err(malformed(&format!(
            "frames of {} bytes, expected {}",
            u16_at(12),
            spec.frame_bytes()
        )));
    }
    Ok(spec)
}

/// The next `N` words of four bytes.
fn words<const N: usize>(inner: &mut impl Read) -> Result<[[u8; 4]; N]> {
    let mut words = [[0; 4]; N];
    inner
        .read_exact(words.as_flattened_mut())
        .map_err(read_error)?;
    Ok(words)
}

/// Bytes that end too soon are content, everything else is the machine's.
fn read_error(source: std::io::Error) -> Error {
    if source.kind() == std::io::ErrorKind::UnexpectedEof {
        return malformed("it ends before its samples do");
    }
    Error::io("read", source)
}

fn malformed(what: &str) -> Error {
    Error::Malformed {
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn written(spec: PcmSpec, samples: &[f32]) -> Vec<u8> {
        let mut wav = WavWriter::new(Cursor::new(Vec::new()), spec).unwrap();
        for block in samples.chunks(usize::from(spec.channels) * 700) {
            wav.write(block).unwrap();
        }
        assert_eq!(
            wav.frames(),
            samples.len() as u64 / u64::from(spec.channels)
        );
        wav.finish().unwrap().into_inner()
    }

    #[test]
    fn header_is_the_standards_44_bytes() {
        let bytes = written(PcmSpec::mono(22_050, SampleFormat::S16), &[1.0, -1.0]);
        let mut expected = Vec::new();
        expected.extend(b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0");
        expected.extend(22_050_u32.to_le_bytes());
        expected.extend(44_100_u32.to_le_bytes());
        expected.extend(b"\x02\0\x10\0data\x04\0\0\0\xff\x7f\0\x80");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn odd_data_is_padded_and_counted() {
        let bytes = written(PcmSpec::mono(8_000, SampleFormat::S24), &[0.25]);
        assert_eq!(bytes.len(), 48);
        assert_eq!(bytes[4..8], 40_u32.to_le_bytes());
        assert_eq!(bytes[40..44], 3_u32.to_le_bytes());
    }

    #[test]
    fn refusals() {
        let spec = PcmSpec {
            rate: 8_000,
            channels: 2,
            format: SampleFormat::S16,
        };
        let mut wav = WavWriter::new(Cursor::new(Vec::new()), spec).unwrap();
        assert!(matches!(
            wav.write(&[0.0; 3]),
            Err(Error::PartialFrame { .. })
        ));
        assert!(matches!(
            wav.write(&[0.0, f32::INFINITY]),
            Err(Error::NotFinite { .. })
        ));
        wav.data = u64::from(u32::MAX) - 50;
        assert!(matches!(wav.write(&[0.0; 8]), Err(Error::TooLarge { .. })));
        for bad in [
            PcmSpec { rate: 0, ..spec },
            PcmSpec {
                channels: 0,
                ..spec
            },
            PcmSpec {
                channels: 9,
                ..spec
            },
        ] {
            assert!(WavWriter::new(Cursor::new(Vec::new()), bad).is_err());
        }
    }

    #[test]
    fn a_cut_file_is_refused_at_the_door() {
        let bytes = written(PcmSpec::mono(8_000, SampleFormat::S16), &[0.5; 100]);
        for length in 0..bytes.len() {
            let err = WavReader::new(Cursor::new(&bytes[..length])).unwrap_err();
            assert!(err.is_content(), "{length}: {err}");
        }
    }

    #[test]
    fn chunks_around_the_samples_are_skipped() {
        let bytes = written(PcmSpec::mono(8_000, SampleFormat::S16), &[0.5; 10]);
        let mut with = bytes[..12].to_vec();
        with.extend(b"LIST\x03\0\0\0abc\0");
        with.extend(&bytes[12..]);
        with.extend(b"id3 \x02\0\0\0xy");
        let mut wav = WavReader::new(Cursor::new(with)).unwrap();
        assert_eq!(wav.read_all(10).unwrap(), [0.5; 10]);
        assert_eq!(wav.read(&mut [0.0; 4]).unwrap(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            samples in prop::collection::vec(-1.2_f32..1.2, 0..9_000),
            channels in 1..=8_u16,
            format in prop::sample::select(vec![SampleFormat::S16, SampleFormat::S24, SampleFormat::F32]),
        ) {
            let whole = samples.len() / usize::from(channels) * usize::from(channels);
            let samples = &samples[..whole];
            let spec = PcmSpec { rate: 44_100, channels, format };
            let mut wav = WavReader::new(Cursor::new(written(spec, samples))).unwrap();
            prop_assert_eq!(*wav.spec(), spec);
            let read = wav.read_all(9_000).unwrap();
            prop_assert_eq!(read.len(), samples.len());
            let step = match format {
                SampleFormat::S16 => 1.0 / 32_768.0,
                SampleFormat::S24 => 1.0 / 8_388_608.0,
                SampleFormat::F32 => 0.0,
            };
            for (&x, &y) in samples.iter().zip(&read) {
                let x = if format == SampleFormat::F32 { x } else { x.clamp(-1.0, 1.0 - step) };
                prop_assert!((x - y).abs() <= step * 0.501, "{} {}", x, y);
            }
        }

        #[test]
        fn any_bytes_are_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
            let mut file = if header { b"RIFF\0\0\0\0WAVEfmt ".to_vec() } else { Vec::new() };
            file.extend(bytes);
            if let Ok(mut wav) = WavReader::new(Cursor::new(file)) {
                let _ = wav.read_all(1 << 16);
            }
        }

        #[test]
        fn flipped_headers_are_an_error_at_worst(at in 0..44_usize, value in any::<u8>()) {
            let mut bytes = written(PcmSpec::mono(8_000, SampleFormat::S16), &[0.5; 40]);
            bytes[at] = value;
            if let Ok(mut wav) = WavReader::new(Cursor::new(bytes)) {
                let _ = wav.read_all(1 << 16);
            }
        }
    }
}
