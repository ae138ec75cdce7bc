//! Whether a stream was whole: what its container promised, held against what
//! was decoded.

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
    /// The file's last bytes, for streams of frames without a table of them.
    pub(crate) tail: Vec<u8>,
    /// The last packet, for such streams.
    pub(crate) last: Box<[u8]>,
    /// A packet held more than was decoded of it.
    pub(crate) unread: bool,
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
            unread: false,
        }
    }

    /// Whether the last packet must be kept for [`End::check`].
    pub(crate) const fn wants_last(&self) -> bool {
        matches!(self.kind, Kind::Mpeg | Kind::Adts | Kind::Flac)
    }

    /// Whether a packet is one frame, whose length has a bound.
    pub(crate) const fn counts_frames(&self) -> bool {
        matches!(self.kind, Kind::Flac)
    }

    /// Whether the demuxer must not seek, as there is no index, and it would guess.
    pub(crate) const fn guesses(&self) -> bool {
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
            // A stream that was cut out of another goes on counting from there.
            Kind::Ogg => track.num_frames.or(by_time).map(|frames| {
                let start = u64::try_from(track.start_ts.get()).unwrap_or(0);
                frames.checked_sub(start).unwrap_or(frames)
            }),
            _ => track.num_frames.or(by_time),
        };
    }

    /// Judges a stream of which `decoded` frames came at `rate` Hz. Gives a note if it is used
    /// although a little is missing.
    ///
    /// # Errors
    /// [`Error::Truncated`] when more than 1 % or 1 s is missing.
    pub(crate) fn check(&self, decoded: u64, rate: u32) -> Result<Option<String>> {
        let rate = f64::from(rate.max(1));
        let seconds = |frames: u64| frames as f64 / rate;
        if let Some(expected) = self.expected
            && decoded.saturating_add(self.tolerance) < expected
        {
            let lost = expected - decoded;
            let why = self.promise();
            if decoded == 0 || lost.saturating_mul(100) > expected || seconds(lost) > 1.0 {
                return Err(Error::Truncated {
                    decoded: seconds(decoded),
                    expected: seconds(expected),
                    why,
                });
            }
            return Ok(Some(format!(
                "the last {:.3} s are missing ({why})",
                seconds(lost)
            )));
        }
        if self.unread || (self.kind == Kind::Flac && self.rest()) {
            return Err(Error::Malformed {
                what: format!(
                    "after {:.1} s come bytes that are no frames of its stream: its rate or its \
                     channels change there, or it is damaged; split it there",
                    seconds(decoded)
                ),
            });
        }
        // What is missing of a last page or frame is less than can be heard.
        Ok(self.cut.or_else(|| self.partial_frame()).map(str::to_owned))
    }

    /// Where the promise stands.
    fn promise(&self) -> &'static str {
        match self.kind {
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

    /// Whether something other than zeros comes after the last packet.
    fn rest(&self) -> bool {
        let last = &*self.last;
        if last.is_empty() || last.len() > self.tail.len() {
            return false;
        }
        let at = self.tail.windows(last.len()).rposition(|w| w == last);
        at.is_none_or(|at| self.tail[at + last.len()..].iter().any(|&b| b != 0))
    }

    /// Whether bare frames end in the middle of one.
    fn partial_frame(&self) -> Option<&'static str> {
        if !self.guesses() {
            return None;
        }
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
            (&[], Some(5_000), 3_000, "is truncated: 0.1 s of 0.1 s"),
            (
                &[],
                Some(500_000),
                490_000,
                "is truncated: 11.1 s of 11.3 s",
            ),
            (
                &[],
                Some(500_000),
                496_000,
                "the last 0.091 s are missing (its Xing or VBRI header",
            ),
            (&[], Some(90_000_000), 89_900_000, "is truncated"),
        ];
        for (rest, expected, decoded, reason) in rows {
            let tail = [&whole[..], &whole[..], rest].concat();
            let got = mpeg(&tail, *expected).check(*decoded, 44_100);
            let said = match got {
                Ok(note) => note.unwrap_or_default(),
                Err(e) => e.to_string(),
            };
            assert!(said.contains(reason), "{rest:?}: {said}");
            assert_eq!(said.is_empty(), reason.is_empty(), "{rest:?}: {said}");
        }
    }
}
