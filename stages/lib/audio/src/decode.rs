//! Decoding of every format that users bring, block by block.
//!
//! Symphonia demuxes and decodes; Opus, which it lacks, is added, and plain 16-bit
//! samples, which it takes one at a time, are read in blocks. This module
//! decides what symphonia leaves open: which bytes are the stream's own, which
//! frames are encoder padding, and above all whether the file was whole. What little
//! is missing or out of order in a file that can be used is told in its notes.
//! Demuxers skip what they cannot read, so a cut or damaged file would otherwise
//! pass for a shorter one. At the end of the stream the decoded frames are held
//! against what the container promised, the last frame or page against the end
//! of the file, and FLAC's MD5 against the samples.

use std::any::Any;
use std::fs::File;
use std::io::{Read, Seek};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_OPUS, CODEC_ID_PCM_F32BE, CODEC_ID_PCM_F32LE, CODEC_ID_PCM_F64BE,
    CODEC_ID_PCM_F64LE, CODEC_ID_PCM_S24BE, CODEC_ID_PCM_S24LE, CODEC_ID_PCM_S32BE,
    CODEC_ID_PCM_S32LE, CODEC_ID_VORBIS,
};
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions,
};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::packet::Packet;
use symphonia::default::formats::{
    AdtsReader, AiffReader, CafReader, FlacReader, IsoMp4Reader, MkvReader, MpaReader, OggReader,
    WavReader,
};

use crate::container::{Edit, mp4_tracks, ogg_end};
use crate::end::End;
use crate::error::{Error, Result};
use crate::iff::{self, Clean};
use crate::info::{AudioInfo, codec_name};
use crate::mix;
use crate::mpeg;
use crate::opus::{self, Opus};
use crate::pcm::PcmSpec;
use crate::raw::Pcm;
use crate::sniff::{Kind, Sniffed, bytes_at, sniff};
use crate::source::{Failure, Window};

/// Packets in a row without a sample before we call it a stall. Video files
/// interleave at most some hundreds of other packets with one of sound.
const MAX_IDLE: u64 = 20_000;
/// Most channels of a source. All are mixed, so these may be more than our
/// writers take.
const MAX_CHANNELS: usize = 32;
/// Most frames of a packet. The largest that an encoder writes are those of ADPCM, whose blocks
/// have at most 65,535 bytes of two frames each. FLAC and ALAC have at most 65,536.
const MAX_PACKET_FRAMES: u64 = 1 << 17;
/// Bytes at the end of a FLAC file in which its last frame is looked for. Encoders make frames of
/// 4,096 or 4,608 samples, which take less even for 8 channels of 32 bits.
const LARGEST_FLAC_FRAME: u64 = 1 << 18;

/// Decodes one audio track of a file, the default one if there are several.
///
/// Blocks come until [`Decoder::next_block`] says `None`. Only then is the file
/// known to be whole: what was decoded before an error must not be trusted.
pub struct Decoder {
    format: Box<dyn FormatReader>,
    codec: Codec,
    track: u32,
    info: AudioInfo,
    channels: Channels,
    failure: Failure,
    end: End,
    /// One plane per channel, all of one length.
    planes: Vec<Vec<f32>>,
    /// The first block was decoded on opening and not yet given.
    primed: bool,
    done: bool,
    /// Frames still to be left out, and still to be given.
    skip: u64,
    take: u64,
    /// Frames decoded, before `skip` and `take`.
    decoded: u64,
    packets: u64,
    idle: u64,
    bad: u64,
    first_bad: Option<(f64, String)>,
    /// What was not as it should be.
    notes: Vec<String>,
}

enum Codec {
    Symphonia(Box<dyn AudioDecoder>),
    /// Plain 16-bit samples; what is out of the ordinary goes to symphonia's decoder all the same.
    Pcm(Pcm, Box<dyn AudioDecoder>),
    Opus(Box<Opus>),
}

impl Decoder {
    /// Opens a file and decodes its first block.
    ///
    /// # Errors
    /// Everything in [`Error`] that concerns reading; see [`Error::is_content`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("open", e))?;
        let metadata = file.metadata().map_err(|e| Error::io("open", e))?;
        if metadata.is_dir() {
            return Err(Error::Directory);
        }
        Self::new(file)
    }

    /// Opens what `inner` holds from its beginning to its end.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn new<R: Read + Seek + Send + Sync + 'static>(mut inner: R) -> Result<Self> {
        let found = sniff(&mut inner)?;
        let mut end = End::new(found.kind);
        let (mut tracks, mut clean) = (Vec::new(), None);
        match found.kind {
            Kind::Wave => clean = Some(iff::wave(&mut inner, found.start, found.end)?),
            Kind::Aiff => clean = Some(iff::aiff(&mut inner, found.start, found.end)?),
            Kind::Caf => clean = iff::caf(&mut inner, found.start, found.end)?,
            Kind::Ogg => end.cut = ogg_end(&mut inner, found.start, found.end)?,
            Kind::Mp4 => tracks = mp4_tracks(&mut inner, found.end)?,
            Kind::Flac => {
                let room = (found.end - found.start).min(LARGEST_FLAC_FRAME);
                end.tail = bytes_at(&mut inner, found.end - room, room as usize)?;
            }
            Kind::Mpeg | Kind::Adts => {
                if found.kind == Kind::Mpeg {
                    clean = mpeg_frames(&mut inner, found)?;
                }
                let room = (found.end - found.start).min(16 * 1024);
                end.tail = bytes_at(&mut inner, found.end - room, room as usize)?;
            }
            _ => {}
        }
        // Bare frames have no index to seek in. Where they have no header either,
        // the demuxer would guess their number and trim by its guess.
        let seekable = !end.guesses();
        let clean = clean.unwrap_or(Clean {
            header: Vec::new(),
            start: found.start,
            end: found.end,
            note: None,
        });
        let notes = clean.note.map(str::to_owned).into_iter().collect();
        let (window, failure) = Window::new(clean.header, inner, clean.start, clean.end, seekable)
            .map_err(|e| Error::io("seek in", e))?;
        let stream = MediaSourceStream::new(Box::new(window), MediaSourceStreamOptions::default());
        let format = guarded(|| open_format(found.kind, stream))
            .map_err(|message| Error::Panicked { at: 0.0, message })?
            .map_err(|e| demux_error(&failure, e, 0.0))?;
        let track = format
            .default_track(TrackType::Audio)
            .ok_or_else(|| Error::Unsupported {
                what: format!("the {} file has no audio track", found.kind.name()),
            })?
            .clone();
        let mut params = audio_params(&track)?.clone();
        let facts = tracks.iter().find(|facts| facts.id == track.id);
        if facts.is_some_and(|facts| facts.big_endian) {
            params.codec = big_endian_codec(params.codec);
        }
        let params = &params;
        let codec = guarded(|| make_codec(params))
            .map_err(|message| Error::Panicked { at: 0.0, message })??;
        end.expect(&track, params, format.as_ref());
        let mut decoder = Self {
            codec,
            track: track.id,
            info: AudioInfo {
                container: found.kind.name(),
                codec: codec_name(params),
                rate: 0,
                channels: 0,
                bits: stored_bits(params),
                frames: None,
            },
            channels: Channels::None,
            failure,
            end,
            planes: Vec::new(),
            primed: false,
            done: false,
            skip: 0,
            take: u64::MAX,
            decoded: 0,
            packets: 0,
            idle: 0,
            bad: 0,
            first_bad: None,
            notes,
            format,
        };
        if let (Kind::Matroska | Kind::Ogg, Codec::Opus(opus)) = (found.kind, &decoder.codec) {
            // The Ogg demuxer does not mark these frames, and Matroska's own delay
            // is rounded to its clock of milliseconds.
            decoder.skip = u64::from(opus.pre_skip);
        }
        decoder.primed = decoder.decode_block()?;
        // Spectral band replication doubles the rate, and is not decoded.
        let ticks = track.time_base.map(|base| base.denom.get());
        if params.codec == CODEC_ID_AAC && ticks == Some(2 * decoder.info.rate) {
            return Err(Error::Unsupported {
                what: "HE-AAC, of which only the lower half of the spectrum would be decoded; \
                       convert it to FLAC or WAV"
                    .to_owned(),
            });
        }
        if let Some(edit) = facts.and_then(|facts| facts.edit) {
            decoder.apply(&edit);
        }
        decoder.info.frames = decoder
            .end
            .expected
            .map(|frames| frames.saturating_sub(decoder.skip).min(decoder.take));
        Ok(decoder)
    }

    /// What the file is. `frames` is what the container promises.
    pub const fn info(&self) -> &AudioInfo {
        &self.info
    }

    /// What was not as it should be in a file that is used all the same, a sentence each. Complete
    /// when [`Decoder::next_block`] has said `None`.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Frames per second, Hz.
    pub const fn rate(&self) -> u32 {
        self.info.rate
    }

    /// Channels of every block.
    pub const fn channels(&self) -> usize {
        self.info.channels
    }

    /// The next block, at most some thousand frames; `None` after the last.
    ///
    /// # Errors
    /// As [`Decoder::open`]. At the end: [`Error::Truncated`] or
    /// [`Error::Damaged`] when the file was not whole, [`Error::NoFrames`] when
    /// nothing was in it.
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>> {
        loop {
            if !mem::take(&mut self.primed) && (self.done || !self.decode_block()?) {
                return Ok(None);
            }
            self.trim();
            if self.planes.first().is_some_and(|plane| !plane.is_empty()) {
                break;
            }
        }
        Ok(Some(Block {
            planes: &self.planes,
        }))
    }

    /// Weights of the channels in a downmix to mono; see [`crate::MonoReader`].
    pub(crate) fn mono_weights(&self) -> Vec<f32> {
        mix::mono_weights(&self.channels)
    }

    /// Counts the frames by the durations of the packets, without decoding more.
    pub(crate) fn count_frames(&mut self) -> Option<u64> {
        let mut frames = self.decoded;
        while let Ok(Ok(Some(packet))) = guarded(|| self.format.next_packet()) {
            if packet.track_id == self.track {
                frames += packet.dur.get();
            }
        }
        Some(frames.saturating_sub(self.skip).min(self.take))
    }

    /// Leaves out what an MP4 edit list leaves out.
    fn apply(&mut self, edit: &Edit) {
        let frames = |ticks: u64| {
            let frames = u128::from(ticks) * u128::from(self.info.rate);
            u64::try_from(frames / u128::from(edit.timescale.max(1))).unwrap_or(u64::MAX)
        };
        self.skip = frames(edit.start);
        if let Some(length) = edit.length {
            self.take = frames(length);
        }
    }

    /// Takes `skip` and `take` off the planes.
    fn trim(&mut self) {
        let frames = self.planes.first().map_or(0, Vec::len) as u64;
        let skip = self.skip.min(frames);
        let keep = (frames - skip).min(self.take);
        self.skip -= skip;
        self.take -= keep;
        if keep < frames {
            for plane in &mut self.planes {
                plane.truncate((skip + keep) as usize);
                plane.drain(..skip as usize);
            }
        }
    }

    /// Decodes packets until one yields frames; false at the end.
    fn decode_block(&mut self) -> Result<bool> {
        loop {
            let Some(packet) = self.next_packet()? else {
                self.done = true;
                self.finish()?;
                return Ok(false);
            };
            self.idle += 1;
            if self.idle > MAX_IDLE {
                return Err(Error::Stalled {
                    packets: self.idle,
                    at: self.seconds(),
                });
            }
            if packet.track_id != self.track {
                continue;
            }
            self.packets += 1;
            match guarded(|| decode_packet(&mut self.codec, &packet, &mut self.planes)) {
                Ok(Ok(signal)) => self.check_signal(signal)?,
                Ok(Err(reason)) => {
                    if let Some(source) = self.failure.take() {
                        return Err(Error::io("read", source));
                    }
                    self.bad += 1;
                    let at = self.seconds();
                    self.first_bad.get_or_insert((at, reason));
                    continue;
                }
                Err(message) => {
                    let at = self.seconds();
                    return Err(Error::Panicked { at, message });
                }
            }
            let frames = self.planes.first().map_or(0, Vec::len);
            // No frame of FLAC is longer than its samples as they are. The demuxer takes frames of
            // another rate, or with other channels, for a part of the one before.
            let bits = self.info.bits.unwrap_or(32) as usize + 1;
            let most = frames * self.info.channels * bits / 8 + 1_024;
            self.end.unread |= self.end.counts_frames() && packet.data.len() > most;
            if self.end.wants_last() {
                self.end.last = packet.data;
            }
            if frames > 0 {
                self.decoded += frames as u64;
                self.idle = 0;
                return Ok(true);
            }
        }
    }

    /// The next packet of any track.
    fn next_packet(&mut self) -> Result<Option<Packet>> {
        let at = self.seconds();
        match guarded(|| self.format.next_packet()) {
            Ok(Ok(packet)) => Ok(packet),
            // The file ends early; how early is for `finish` to say.
            Ok(Err(SymphoniaError::IoError(e)))
                if e.kind() == std::io::ErrorKind::UnexpectedEof =>
            {
                if let Some(source) = self.failure.take() {
                    return Err(Error::io("read", source));
                }
                self.end
                    .cut
                    .get_or_insert("it ends in the middle of a packet");
                Ok(None)
            }
            Ok(Err(SymphoniaError::ResetRequired)) => Err(Error::Unsupported {
                what: format!("another stream begins at {at:.1} s; split the file there"),
            }),
            Ok(Err(e)) => Err(demux_error(&self.failure, e, at)),
            Err(message) => Err(Error::Panicked { at, message }),
        }
    }

    /// Takes note of the first block's rate and channels, and holds the others
    /// against them.
    fn check_signal(&mut self, (rate, channels): (u32, Channels)) -> Result<()> {
        if self.channels == Channels::None {
            if rate == 0 || rate > PcmSpec::MAX_RATE {
                return Err(Error::Rate { got: rate });
            }
            let count = channels.count();
            if count == 0 || count > MAX_CHANNELS {
                return Err(Error::Unsupported {
                    what: format!("{count} channels, expected 1 to {MAX_CHANNELS}"),
                });
            }
            self.info.rate = rate;
            self.info.channels = count;
            self.channels = channels;
        } else if rate != self.info.rate || channels != self.channels {
            return Err(Error::Changes {
                at: self.seconds(),
                from_rate: self.info.rate,
                from_channels: self.info.channels,
                to_rate: rate,
                to_channels: channels.count(),
            });
        }
        Ok(())
    }

    /// Judges the whole stream.
    fn finish(&mut self) -> Result<()> {
        if let Some(source) = self.failure.take() {
            return Err(Error::io("read", source));
        }
        if self.decoded > 0 || self.bad == 0 {
            let note = self.end.check(self.decoded, self.info.rate)?;
            self.notes.extend(note);
        }
        if let Some((at, first)) = self.first_bad.take() {
            return Err(Error::Damaged {
                bad: self.bad,
                packets: self.packets,
                at,
                first,
            });
        }
        if self.decoded == 0 {
            return Err(Error::NoFrames);
        }
        if let Codec::Symphonia(codec) | Codec::Pcm(_, codec) = &mut self.codec
            && codec.finalize().verify_ok == Some(false)
        {
            return Err(Error::Malformed {
                what: "the samples do not have the MD5 that its header gives".to_owned(),
            });
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.decoded as f64 / f64::from(self.info.rate.max(1))
    }
}

/// The stream of MPEG frames without a header that counts other frames than there are: the demuxer
/// would leave out all beyond its count.
///
/// # Errors
/// [`Error::Malformed`] when something lies between two frames; the demuxer would skip it.
fn mpeg_frames<R: Read + Seek>(inner: &mut R, found: Sniffed) -> Result<Option<Clean>> {
    let frames = mpeg::walk(inner, found.start, found.end)?;
    if let Some((from, to)) = frames.gap {
        return Err(Error::Malformed {
            what: format!("bytes {from} to {to} are no MPEG frames"),
        });
    }
    let Some((_, header)) = frames
        .promised
        .filter(|(count, _)| frames.count > count + 1)
    else {
        return Ok(None);
    };
    Ok(Some(Clean {
        header: Vec::new(),
        start: found.start + header,
        end: found.end,
        note: Some("it has more frames than its header counts; all of them were read"),
    }))
}

/// Some frames of every channel.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    planes: &'a [Vec<f32>],
}

impl<'a> Block<'a> {
    /// Frames in this block; at least 1.
    pub fn frames(&self) -> usize {
        self.planes.first().map_or(0, Vec::len)
    }

    /// The samples of each channel, each `frames` long, in ±1 but for overshoots
    /// of lossy codecs.
    pub const fn planes(&self) -> &'a [Vec<f32>] {
        self.planes
    }

    /// The samples interleaved, `(frames, channels)` in row-major order, in place
    /// of what `samples` held.
    pub fn interleave(&self, samples: &mut Vec<f32>) {
        samples.clear();
        samples.resize(self.frames() * self.planes.len(), 0.0);
        for (channel, plane) in self.planes.iter().enumerate() {
            let slots = samples.iter_mut().skip(channel).step_by(self.planes.len());
            for (slot, &x) in slots.zip(plane) {
                *slot = x;
            }
        }
    }
}

fn open_format(
    kind: Kind,
    stream: MediaSourceStream<'static>,
) -> Result<Box<dyn FormatReader>, SymphoniaError> {
    let options = FormatOptions::default();
    Ok(match kind {
        Kind::Wave => Box::new(WavReader::try_new(stream, options)?),
        Kind::Aiff => Box::new(AiffReader::try_new(stream, options)?),
        Kind::Flac => Box::new(FlacReader::try_new(stream, options)?),
        Kind::Ogg => Box::new(OggReader::try_new(stream, options)?),
        Kind::Mpeg => Box::new(MpaReader::try_new(stream, options)?),
        Kind::Adts => Box::new(AdtsReader::try_new(stream, options)?),
        Kind::Mp4 => Box::new(IsoMp4Reader::try_new(stream, options)?),
        Kind::Caf => Box::new(CafReader::try_new(stream, options)?),
        Kind::Matroska => Box::new(MkvReader::try_new(stream, options)?),
    })
}

fn audio_params(track: &Track) -> Result<&AudioCodecParameters> {
    match &track.codec_params {
        Some(CodecParameters::Audio(params)) => Ok(params),
        _ => Err(Error::Unsupported {
            what: "the codec of its audio track is unknown".to_owned(),
        }),
    }
}

/// Bits of a stored sample, for codecs that store samples.
fn stored_bits(params: &AudioCodecParameters) -> Option<u32> {
    let codec = codec_name(params);
    let lossless = codec.starts_with("pcm_") || matches!(&*codec, "flac" | "alac");
    let named = || {
        let digits = codec.trim_matches(|c: char| !c.is_ascii_digit());
        digits.parse().ok()
    };
    let bits = params.bits_per_coded_sample.or(params.bits_per_sample);
    bits.or_else(named).filter(|&bits| lossless && bits > 0)
}

/// The codec of the same samples in the other order of bytes.
fn big_endian_codec(codec: AudioCodecId) -> AudioCodecId {
    match codec {
        CODEC_ID_PCM_S24LE => CODEC_ID_PCM_S24BE,
        CODEC_ID_PCM_S32LE => CODEC_ID_PCM_S32BE,
        CODEC_ID_PCM_F32LE => CODEC_ID_PCM_F32BE,
        CODEC_ID_PCM_F64LE => CODEC_ID_PCM_F64BE,
        codec => codec,
    }
}

fn make_codec(params: &AudioCodecParameters) -> Result<Codec> {
    let channels = params.channels.as_ref().map_or(0, Channels::count);
    if params.codec == CODEC_ID_VORBIS && channels > 2 {
        // What its decoder gives is not what libvorbis gives.
        return Err(Error::Unsupported {
            what: format!("Vorbis of {channels} channels; convert it to FLAC or WAV"),
        });
    }
    // Decoders allocate a packet of samples up front, as long as the header says.
    let sizes = [params.max_frames_per_packet, params.frames_per_block];
    if let Some(frames) = sizes.into_iter().flatten().find(|&n| n > MAX_PACKET_FRAMES) {
        return Err(Error::Malformed {
            what: format!(
                "its header gives packets of {frames} frames, expected at most {MAX_PACKET_FRAMES}"
            ),
        });
    }
    if params.codec == CODEC_ID_OPUS {
        let head = params.extra_data.as_deref().unwrap_or_default();
        let opus = Opus::new(head).map_err(|what| Error::Malformed { what })?;
        return Ok(Codec::Opus(Box::new(opus)));
    }
    let options = AudioDecoderOptions::default().verify(true);
    let decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &options)
        .map_err(|e| Error::Unsupported {
            what: format!("codec `{}`: {e}", codec_name(params)),
        })?;
    Ok(match Pcm::new(params) {
        Some(pcm) => Codec::Pcm(pcm, decoder),
        None => Codec::Symphonia(decoder),
    })
}

/// Decodes `packet` into `planes`, less what the demuxer says is padding.
fn decode_packet(
    codec: &mut Codec,
    packet: &Packet,
    planes: &mut Vec<Vec<f32>>,
) -> Result<(u32, Channels), String> {
    match codec {
        Codec::Pcm(pcm, _) if packet.trim_start.get() == 0 && packet.trim_end.get() == 0 => {
            pcm.decode(&packet.data, planes);
            Ok((pcm.rate, pcm.channels.clone()))
        }
        Codec::Symphonia(decoder) | Codec::Pcm(_, decoder) => {
            let buffer = decoder.decode(packet).map_err(|e| e.to_string())?;
            buffer.copy_to_vecs_planar(planes);
            let spec = buffer.spec();
            Ok((spec.rate(), spec.channels().clone()))
        }
        Codec::Opus(opus) => {
            opus.decode(&packet.data, planes)?;
            let frames = planes.first().map_or(0, Vec::len);
            let start = usize::try_from(packet.trim_start.get()).unwrap_or(usize::MAX);
            let end = usize::try_from(packet.trim_end.get()).unwrap_or(usize::MAX);
            for plane in planes {
                plane.truncate(frames.saturating_sub(end));
                plane.drain(..start.min(plane.len()));
            }
            Ok((opus::RATE, opus.channels.clone()))
        }
    }
}

/// The demuxer's error, with the machine's kept apart from the content's.
fn demux_error(failure: &Failure, error: SymphoniaError, at: f64) -> Error {
    if let Some(source) = failure.take() {
        return Error::io("read", source);
    }
    let place = if at > 0.0 {
        format!(" after {at:.1} s")
    } else {
        String::new()
    };
    match error {
        SymphoniaError::Unsupported(what) => Error::Unsupported {
            what: format!("{what}{place}"),
        },
        SymphoniaError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Error::Malformed {
                what: format!("it ends in the middle of its headers{place}"),
            }
        }
        other => Error::Malformed {
            what: format!("{other}{place}"),
        },
    }
}

/// Runs `work` and turns a panic, which symphonia may do on malformed bytes, into
/// its message. What `work` touched must not be used again after one.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without a message".to_owned())
    })
}
