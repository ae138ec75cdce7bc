//! Bringing a piece's peak to one level, without holding it in memory.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::{SpooledTempFile, spooled_tempfile_in};

use crate::PcmWriter;
use crate::error::{Error, Result};

/// Samples per turn of the second pass.
const BLOCK: usize = 8192;

/// Bytes that wait in memory, at most: three minutes at 22,050 Hz.
const MEMORY: usize = 1 << 24;

/// Keeps samples until their peak is known, then writes them scaled.
///
/// The gain needs the whole piece, which may be hours: 32-bit floats wait in memory, and in a
/// file without a name when they are many.
#[derive(Debug)]
pub(crate) struct PeakSpool {
    file: SpooledTempFile,
    bytes: Vec<u8>,
}

impl PeakSpool {
    /// Begins an empty spool, whose file would be on the disk of the folder `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            file: spooled_tempfile_in(MEMORY, dir),
            bytes: Vec::new(),
        }
    }

    /// Appends samples.
    ///
    /// # Errors
    /// The file cannot be created, or the disk is full.
    pub(crate) fn push(&mut self, samples: &[f32]) -> Result<()> {
        self.bytes.clear();
        let bytes = samples.iter().flat_map(|x| x.to_le_bytes());
        self.bytes.extend(bytes);
        self.file
            .write_all(&self.bytes)
            .map_err(|e| Error::io("write", e))
    }

    /// Writes everything to `writer`, scaled so that `peak`, the largest absolute
    /// sample, comes to `peak_db` of full scale; silence stays silence.
    ///
    /// # Errors
    /// Those of the writer; the spool cannot be read.
    pub(crate) fn write_to<W: Write + Seek>(
        self,
        writer: &mut PcmWriter<W>,
        peak: f32,
        peak_db: f64,
    ) -> Result<()> {
        let target = 10_f64.powf(peak_db / 20.0);
        let gain = match peak {
            peak if peak > 0.0 => (target / f64::from(peak)) as f32,
            _ => 1.0,
        };
        let read = |e| Error::io("read", e);
        let mut file = self.file;
        file.seek(SeekFrom::Start(0)).map_err(read)?;
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

    use crate::{MonoWavWriter, WavFormat, WavReader};

    fn written(samples: &[f32], normalize: bool) -> (Vec<f32>, f32) {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Cursor::new(Vec::new());
        let spool = normalize.then_some(dir.path());
        let mut writer = MonoWavWriter::new(&mut file, 8000, WavFormat::F32, spool).unwrap();
        for block in samples.chunks(1000) {
            writer.write(block).unwrap();
        }
        let peak = writer.finish().unwrap();
        file.set_position(0);
        let read = WavReader::new(file).unwrap().read_all(1 << 20).unwrap();
        (read, peak)
    }

    #[test]
    fn the_peak_comes_to_its_level_and_the_shape_stays() {
        let samples: Vec<f32> = (0..20_001).map(|i| 0.01 * (i as f32 * 0.1).sin()).collect();
        let (scaled, found) = written(&samples, true);
        assert!((found - 0.01).abs() < 1e-5, "{found}");
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
        assert_eq!(written(&[0.0; 5], true).0, [0.0; 5]);
        assert_eq!(written(&[], true).0, [0.0; 0]);
    }

    #[test]
    fn a_piece_may_keep_its_own_level() {
        let samples = [0.1, -0.25, 0.2];
        assert_eq!(written(&samples, false), (samples.to_vec(), 0.25));
    }
}
