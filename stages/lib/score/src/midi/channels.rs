//! What the controllers of the sixteen channels say at a moment.

use crate::model::{Instrument, Ticks};

use super::tracks::{Event, Kind};

/// State of one channel; defaults are those of General MIDI.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) program: u8,
    pub(super) volume: u8,
    pub(super) expression: u8,
    bend: i16,
    /// Range of the bend in cents.
    range: u32,
    /// Registered parameter chosen by controllers 101 and 100.
    parameter: (u8, u8),
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            program: 0,
            volume: 100,
            expression: 127,
            bend: 0,
            range: 200,
            parameter: (127, 127),
        }
    }
}

impl Channel {
    /// Deviation of the keys from equal temperament in cents.
    pub(super) fn cents(&self) -> f32 {
        (f64::from(self.bend) / 8192.0 * f64::from(self.range)) as f32
    }

    /// The instrument that a note struck now is played on.
    pub(super) fn instrument(&self, channel: u8) -> Instrument {
        Instrument {
            name: String::new(),
            channel: Some(channel),
            program: self.program,
            percussion: channel == 9,
            volume: self.volume,
        }
    }

    fn control(&mut self, number: u8, value: u8) {
        match (number, self.parameter) {
            (7, _) => self.volume = value,
            (11, _) => self.expression = value,
            (101, _) => self.parameter.0 = value,
            (100, _) => self.parameter.1 = value,
            // A non-registered parameter: data entry is not ours.
            (98 | 99, _) => self.parameter = (127, 127),
            (6, (0, 0)) => self.range = (u32::from(value) * 100 + self.range % 100).min(2400),
            (38, (0, 0)) => {
                self.range = (self.range / 100 * 100 + u32::from(value).min(99)).min(2400);
            }
            (121, _) => {
                (self.bend, self.expression, self.parameter) = (0, 127, (127, 127));
            }
            _ => {}
        }
    }
}

/// All channels, played forward through control events.
#[derive(Debug, Default)]
pub(super) struct Channels {
    channels: [Channel; 16],
}

impl Channels {
    pub(super) fn get(&self, channel: u8) -> Channel {
        self.channels
            .get(usize::from(channel))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn apply(&mut self, kind: &Kind) {
        let (Kind::Control { channel, .. }
        | Kind::Program { channel, .. }
        | Kind::Bend { channel, .. }) = *kind
        else {
            return;
        };
        let Some(state) = self.channels.get_mut(usize::from(channel)) else {
            return;
        };
        match *kind {
            Kind::Control { number, value, .. } => state.control(number, value),
            Kind::Program { program, .. } => state.program = program,
            Kind::Bend { value, .. } => state.bend = value,
            _ => {}
        }
    }
}

/// The control events of all tracks in one order: channels are shared by tracks.
pub(super) fn controls(tracks: &[Vec<Event>]) -> Vec<&Event> {
    let is_control = |e: &&Event| {
        matches!(
            e.kind,
            Kind::Control { .. } | Kind::Program { .. } | Kind::Bend { .. }
        )
    };
    let mut all: Vec<&Event> = tracks.iter().flatten().filter(is_control).collect();
    all.sort_by_key(|e| e.tick);
    all
}

/// Movements of the sustain pedal (controller 64; on from 64) of each channel.
pub(super) fn pedals(controls: &[&Event]) -> Vec<Vec<(Ticks, bool)>> {
    let mut pedals = vec![Vec::new(); 16];
    let mut down = [false; 16];
    for event in controls {
        let (channel, is_down) = match event.kind {
            Kind::Control {
                channel,
                number: 64,
                value,
            } => (channel, value >= 64),
            Kind::Control {
                channel,
                number: 121,
                ..
            } => (channel, false),
            _ => continue,
        };
        let index = usize::from(channel);
        if let (Some(list), Some(state)) = (pedals.get_mut(index), down.get_mut(index))
            && *state != is_down
        {
            *state = is_down;
            list.push((event.tick, is_down));
        }
    }
    pedals
}
