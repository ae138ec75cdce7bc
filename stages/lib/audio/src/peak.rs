//! Bringing a piece's peak to one level, without holding it in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::PcmWriter;
use crate::error::{Error, Result};

/// Samples per turn of the second pass.
const BLOCK: usize = 8192;

/// Keeps samples in a file until their peak is known, then writes them scaled.
///
/// The gain needs the whole piece, which may be hours: 32-bit floats wait in a
/// file that the caller names and removes.
#[derive(Debug)]
pub struct PeakSpool {
    file: BufWriter<File>,
    bytes: Vec<u8>,
    peak: f32,
}

impl PeakSpool {
    /// Begins an empty spool at `path`, replacing what is there.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(|e| Error::io("write", e))?;
        Ok(Self {
            file: BufWriter::with_capacity(256 * 1024, file),
            bytes: Vec::new(),
            peak: 0.0,
        })
    }

    /// Largest absolute sample so far.
    pub const fn peak(&self) -> f32 {
        self.peak
    }

    /// Appends samples.
    ///
    /// # Errors
    /// The disk is full.
    pub fn push(&mut self, samples: &[f32]) -> Result<()> {
        self.peak = samples.iter().fold(self.peak, |p, x| p.max(x.abs()));
        self.bytes.clear();
        let bytes = samples.iter().flat_map(|x| x.to_le_bytes());
        self.bytes.extend(bytes);
        self.file
            .write_all(&self.bytes)
            .map_err(|e| Error::io("write", e))
    }

    /// Writes everything to `writer`, scaled so that the peak is `peak_db` of full
    /// scale; silence stays silence.
    ///
    /// # Errors
    /// Those of the writer; the spool cannot be read.
    pub fn write_to<W: Write + Seek>(self, writer: &mut PcmWriter<W>, peak_db: f64) -> Result<()> {
        let target = 10_f64.powf(peak_db / 20.0);
        let gain = match self.peak {
            peak if peak > 0.0 => (target / f64::from(peak)) as f32,
            _ => 1.0,
        };
        let read = |e| Error::io("read", e);
        let mut file = self
            .file
            .into_inner()
            .map_err(|e| Error::io("write", e.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        let mut file = BufReader::with_capacity(4 * BLOCK, file);
        let mut bytes = vec![0; 4 * BLOCK];
        let mut samples = Vec::with_capacity(BLOCK);
        loop {
            let n = fill(&mut file, &mut bytes).map_err(read)?;
            let whole = bytes.get(..n).unwrap_or_default();
            if whole.is_empty() {
                return Ok(());
            }
            samples.clear();
            let values = whole.chunks_exact(4);
            samples.extend(values.map(|b| gain * f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            writer.write(&samples)?;
        }
    }
}

/// Reads until `bytes` is full or the file ends; gives how many.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The level to which pieces are brought: a decibel below full scale, so that
/// filters downstream do not clip.
pub const PEAK_DB: f64 = -1.0;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Container, PcmSpec, SampleFormat, WavReader};

    fn spooled(samples: &[f32]) -> Vec<f32> {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = PeakSpool::create(&dir.path().join("spool")).unwrap();
        for block in samples.chunks(1000) {
            spool.push(block).unwrap();
        }
        let mut file = Cursor::new(Vec::new());
        let spec = PcmSpec::mono(8000, SampleFormat::F32);
        let mut writer = PcmWriter::new(&mut file, Container::Wav, spec).unwrap();
        spool.write_to(&mut writer, PEAK_DB).unwrap();
        writer.finish().unwrap();
        file.set_position(0);
        WavReader::new(file).unwrap().read_all(1 << 20).unwrap()
    }

    #[test]
    fn the_peak_comes_to_its_level_and_the_shape_stays() {
        let samples: Vec<f32> = (0..20_001).map(|i| 0.01 * (i as f32 * 0.1).sin()).collect();
        let scaled = spooled(&samples);
        assert_eq!(scaled.len(), samples.len());
        let peak = scaled.iter().fold(0_f32, |p, x| p.max(x.abs()));
        assert!((20.0 * peak.log10() + 1.0).abs() < 1e-3, "{peak}");
        let gain = scaled[5] / samples[5];
        for (a, b) in scaled.iter().zip(&samples) {
            assert!((a - gain * b).abs() < 1e-6);
        }
    }

    #[test]
    fn silence_stays_silence() {
        assert_eq!(spooled(&[0.0; 5]), [0.0; 5]);
        assert_eq!(spooled(&[]), [0.0; 0]);
    }
}
