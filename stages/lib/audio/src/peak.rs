//! Bringing a piece's peak to one level, without holding it in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::tempfile_in;

use crate::error::{Error, Result};
use crate::wav::to_bytes;
use crate::{PcmWriter, SampleFormat};

/// Samples per turn of the second pass.
const BLOCK: usize = 8192;

/// Samples that wait in memory, at most: 16 MiB, or three minutes at 22,050 Hz.
const MEMORY: usize = 1 << 22;

/// Keeps samples until their peak is known, then writes them scaled.
///
/// The gain needs the whole piece, which may be hours: 32-bit floats wait in memory, and in a
/// file without a name when they are many.
#[derive(Debug)]
pub(crate) struct PeakSpool {
    memory: Vec<f32>,
    /// Most samples of `memory`.
    limit: usize,
    /// What came before `memory`.
    file: Option<File>,
    /// The folder of the file.
    dir: PathBuf,
}

impl PeakSpool {
    /// Begins an empty spool, whose file would be on the disk of the folder `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self::with_limit(dir, MEMORY)
    }

    fn with_limit(dir: &Path, limit: usize) -> Self {
        Self {
            memory: Vec::new(),
            limit,
            file: None,
            dir: dir.to_owned(),
        }
    }

    /// Appends samples.
    ///
    /// # Errors
    /// The file cannot be created, or the disk is full.
    pub(crate) fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.memory.len() + samples.len() > self.limit {
            self.spill()?;
        }
        self.memory.extend_from_slice(samples);
        Ok(())
    }

    /// Moves what waits in memory to the file.
    fn spill(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = tempfile_in(&self.dir).map_err(|e| Error::io("create", e))?;
                self.file.insert(file)
            }
        };
        let mut bytes = vec![0; 4 * BLOCK];
        for block in self.memory.chunks(BLOCK) {
            let bytes = &mut bytes[..4 * block.len()];
            to_bytes(block, SampleFormat::F32, bytes);
            file.write_all(bytes).map_err(|e| Error::io("write", e))?;
        }
        self.memory.clear();
        Ok(())
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
        let mut scaled = Vec::with_capacity(BLOCK);
        if let Some(mut file) = self.file {
            let read = |e| Error::io("read", e);
            file.seek(SeekFrom::Start(0)).map_err(read)?;
            let mut bytes = vec![0; 4 * BLOCK];
            loop {
                let n = fill(&mut file, &mut bytes).map_err(read)?;
                let values = bytes[..n].as_chunks().0;
                if values.is_empty() {
                    break;
                }
                scaled.clear();
                scaled.extend(values.iter().map(|b| gain * f32::from_le_bytes(*b)));
                writer.write(&scaled)?;
            }
        }
        for block in self.memory.chunks(BLOCK) {
            scaled.clear();
            scaled.extend(block.iter().map(|x| gain * x));
            writer.write(&scaled)?;
        }
        Ok(())
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
    use crate::{Container, MonoWavWriter, PcmSpec, WavFormat, WavReader};

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
    fn a_long_piece_waits_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let samples: Vec<f32> = (0..30_000).map(|i| (i as f32 * 0.1).sin()).collect();
        for (limit, step) in [(0, 1_000), (999, 1_000), (9_000, 1_000), (8_999, 17)] {
            let mut spool = PeakSpool::with_limit(dir.path(), limit);
            for block in samples.chunks(step) {
                spool.push(block).unwrap();
            }
            assert!(spool.file.is_some());
            let mut file = Cursor::new(Vec::new());
            let spec = PcmSpec::mono(8000, SampleFormat::F32);
            let mut writer = PcmWriter::new(&mut file, Container::Wav, spec).unwrap();
            spool.write_to(&mut writer, 1.0, 0.0).unwrap();
            writer.finish().unwrap();
            file.set_position(0);
            let read = WavReader::new(file).unwrap().read_all(1 << 20).unwrap();
            assert!(read == samples, "limit {limit}");
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
