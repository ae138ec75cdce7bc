//! Whether a stream was whole: what its container promised, held against what
//! was decoded.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::formats::{FormatReader, Track};

use crate::error::{Error, Result};
use crate::sniff::Kind;

/// Frames of one MPEG audio frame, the finest that its header counts.
const MPEG_FRAME: u64 = 1_152;
/// Frames of the longest AAC packet.
const AAC_FRAME: u64 = 2_048;
/// Frames of an ALAC packet. ffmpeg counts the last one as full in CAF.
const ALAC_FRAME: u64 = 4_096;

/// What must hold when the stream has ended.
pub(crate) struct End {
    kind: Kind,
    /// Frames promised, and how many may be missing.
    pub(crate) expected: Option<u64>,
    tolerance: u64,
    /// A contradiction seen in the file's last bytes.
    pub(crate) cut: Option<&'static str>,
    /// The file's last bytes, for streams of bare frames.
    pub(crate) tail: Vec<u8>,
    /// The last packet, for streams of bare frames.
    pub(crate) last: Box<[u8]>,
}

impl End {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            expected: None,
            tolerance: match kind {
                // Containers that count samples.
                Kind::Wave | Kind::Aiff | Kind::Flac | Kind::Ogg => 0,
                Kind::Mpeg => MPEG_FRAME,
                Kind::Adts | Kind::Mp4 => AAC_FRAME,
                Kind::Caf => ALAC_FRAME,
                // Counts milliseconds of all its tracks together.
                Kind::Matroska => 0,
            },
            cut: None,
            tail: Vec::new(),
            last: Box::default(),
        }
    }

    /// Whether the last packet must be kept for [`End::check`].
    pub(crate) const fn wants_last(&self) -> bool {
        matches!(self.kind, Kind::Mpeg | Kind::Adts)
    }

    /// Notes what the container promises.
    pub(crate) fn expect(
        &mut self,
        track: &Track,
        params: &AudioCodecParameters,
        format: &dyn FormatReader,
    ) {
        let rate = params.sample_rate.unwrap_or(0);
        let media = format.media_info();
        let duration = match self.kind {
            Kind::Matroska => media.duration.zip(media.time_base),
            _ => track.duration.zip(track.time_base),
        };
        let by_time = duration.and_then(|(ticks, base)| {
            let seconds = base.calc_duration(ticks)?.as_secs_f64();
            (seconds.is_finite() && seconds >= 0.0)
                .then_some((seconds * f64::from(rate)).round() as u64)
        });
        self.expected = match self.kind {
            Kind::Matroska => {
                self.tolerance = u64::from(rate) / 5;
                by_time
            }
            // A data chunk of 2^32 - 1 bytes is what programs write that cannot
            // go back to fill in the length; to the demuxer it has no length.
            Kind::Wave if track.num_frames.is_none() => {
                let channels = params.channels.as_ref().map_or(0, Channels::count) as u64;
                let bits = params.bits_per_coded_sample.map_or(0, u64::from);
                (channels * bits >= 8).then(|| u64::from(u32::MAX) / (channels * bits / 8))
            }
            _ => track.num_frames.or(by_time),
        };
    }

    /// Judges a stream of which `decoded` frames came at `rate` Hz.
    pub(crate) fn check(&self, decoded: u64, rate: u32) -> Result<()> {
        let rate = f64::from(rate.max(1));
        let truncated = |expected: u64, why| Error::Truncated {
            decoded: decoded as f64 / rate,
            expected: expected as f64 / rate,
            why,
        };
        if let Some(expected) = self.expected
            && decoded.saturating_add(self.tolerance) < expected
        {
            return Err(truncated(expected, self.promise(expected)));
        }
        // What is missing of a last page or frame is not known; the promise, if
        // there is one, is the best guess.
        if let Some(why) = self.cut.or_else(|| self.partial_frame()) {
            return Err(truncated(self.expected.unwrap_or(decoded), why));
        }
        Ok(())
    }

    /// Where the promise stands.
    fn promise(&self, expected: u64) -> &'static str {
        match self.kind {
            Kind::Wave if expected >= u64::from(u32::MAX / 64) && self.tolerance == 0 => {
                "its header claims about 4 GiB; if a program wrote it into a pipe, write it again into a file"
            }
            Kind::Wave => "its data chunk claims more than the file holds",
            Kind::Aiff => "its COMM chunk counts more frames than the file holds",
            Kind::Flac => "its STREAMINFO counts more samples than the file holds",
            Kind::Ogg => "its last page counts more samples than its packets hold",
            Kind::Mpeg => "its Xing or VBRI header counts more frames than the file holds",
            Kind::Mp4 => "its sample table lists more than the file holds",
            Kind::Adts | Kind::Caf | Kind::Matroska => {
                "its header gives a longer duration than the file holds"
            }
        }
    }

    /// Whether bare frames end in the middle of one.
    fn partial_frame(&self) -> Option<&'static str> {
        let (first, second) = match &*self.last {
            [first, second, ..] => (*first, *second),
            _ => return None,
        };
        let at = self
            .tail
            .windows(self.last.len())
            .rposition(|window| window == &*self.last)?;
        let rest = self.tail.get(at + self.last.len()..).unwrap_or_default();
        // ADTS packets come without their headers.
        let begins = if self.kind == Kind::Adts {
            matches!(rest, [0xFF] | [0xFF, 0xF0..=0xFF, ..])
        } else {
            match rest {
                [] => false,
                [one] => *one == first,
                [one, two, ..] => *one == first && (*two | 1) == (second | 1),
            }
        };
        begins.then_some("its last frame is cut")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mpeg(tail: &[u8], expected: Option<u64>) -> End {
        End {
            tail: tail.to_vec(),
            last: Box::new([0xFF, 0xFB, 1, 2, 3]),
            expected,
            ..End::new(Kind::Mpeg)
        }
    }

    #[test]
    fn ends_are_judged() {
        let whole = [0xFF, 0xFB, 1, 2, 3];
        let rows: &[(&[u8], Option<u64>, u64, &str)] = &[
            (&[], None, 99, ""),
            (&[0; 9], None, 99, ""),
            (b"TAG?", None, 99, ""),
            (&[0xFF], None, 99, "its last frame is cut"),
            (&[0xFF, 0xFB, 7], None, 99, "its last frame is cut"),
            (&[0xFF, 0xFA, 7], None, 99, "its last frame is cut"),
            (&[0xFF, 0xE0, 7], None, 99, ""),
            (&[], Some(5_000), 4_000, ""),
            (&[], Some(5_000), 3_000, "its Xing or VBRI header"),
        ];
        for (rest, expected, decoded, reason) in rows {
            let tail = [&whole[..], &whole[..], rest].concat();
            let got = mpeg(&tail, *expected).check(*decoded, 44_100);
            match got {
                Ok(()) => assert_eq!(*reason, "", "{rest:?}"),
                Err(e) => assert!(
                    !reason.is_empty() && e.to_string().contains(reason),
                    "{rest:?}: {e}"
                ),
            }
        }
    }
}
