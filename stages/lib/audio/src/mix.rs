//! Many channels into one.
//!
//! Coefficients follow Table 2 of ITU-R BS.775-3 for one loudspeaker (front left
//! and right √½, centre 1, surrounds ½, low-frequency effects left out), divided
//! by their sum so that nothing can exceed full scale that did not before. For
//! stereo this is the mean of both channels. Where the layout is unknown, all
//! channels weigh the same.

use symphonia::core::audio::{Channels, Position};

/// Weight of each channel, in the decoder's order; they add up to 1.
pub(crate) fn mono_weights(channels: &Channels) -> Vec<f32> {
    let count = channels.count();
    let equal = || vec![1.0 / count.max(1) as f32; count];
    let Channels::Positioned(positions) = channels else {
        return equal();
    };
    // Planes come in the order of the positions' bits.
    let raw: Vec<f64> = positions.iter().map(coefficient).collect();
    let sum: f64 = raw.iter().sum();
    if raw.len() != count || sum <= 0.0 {
        return equal();
    }
    raw.iter().map(|w| (w / sum) as f32).collect()
}

/// The coefficient of one loudspeaker, before division by the sum.
fn coefficient(position: Position) -> f64 {
    match position {
        Position::FRONT_CENTER => 1.0,
        Position::FRONT_LEFT
        | Position::FRONT_RIGHT
        | Position::FRONT_LEFT_CENTER
        | Position::FRONT_RIGHT_CENTER => std::f64::consts::FRAC_1_SQRT_2,
        Position::LFE1 | Position::LFE2 => 0.0,
        _ => 0.5,
    }
}

/// The weighted sum of `planes`, all of one length, into `mono`.
pub(crate) fn mix(planes: &[Vec<f32>], weights: &[f32], mono: &mut Vec<f32>) {
    mono.clear();
    if let ([left, right], [a, b]) = (planes, weights) {
        mono.extend(left.iter().zip(right).map(|(x, y)| x * a + y * b));
        return;
    }
    let mut pairs = planes.iter().zip(weights);
    match pairs.next() {
        Some((plane, &weight)) if planes.len() == 1 && weight == 1.0 => {
            mono.extend_from_slice(plane);
        }
        Some((plane, &weight)) => mono.extend(plane.iter().map(|x| x * weight)),
        None => {}
    }
    for (plane, &weight) in pairs {
        for (sum, x) in mono.iter_mut().zip(plane) {
            *sum += x * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_by_layout() {
        let stereo = Position::FRONT_LEFT | Position::FRONT_RIGHT;
        let surround = stereo
            | Position::FRONT_CENTER
            | Position::LFE1
            | Position::REAR_LEFT
            | Position::REAR_RIGHT;
        let (l, c, s) = (0.207_106_78, 0.292_893_22, 0.146_446_61);
        let rows: Vec<(Channels, Vec<f32>)> = vec![
            (Channels::Positioned(Position::FRONT_CENTER), vec![1.0]),
            (Channels::Positioned(Position::FRONT_LEFT), vec![1.0]),
            (Channels::Positioned(stereo), vec![0.5, 0.5]),
            (Channels::Positioned(surround), vec![l, l, c, 0.0, s, s]),
            (Channels::Discrete(4), vec![0.25; 4]),
            (Channels::Positioned(Position::LFE1), vec![1.0]),
        ];
        for (channels, expected) in rows {
            let got = mono_weights(&channels);
            assert_eq!(got.len(), expected.len());
            for (a, b) in got.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-6, "{channels:?}: {got:?}");
            }
        }
    }

    #[test]
    fn mixing_is_the_weighted_sum() {
        let mut mono = vec![9.0];
        mix(&[vec![1.0, 0.0], vec![0.5, -1.0]], &[0.5, 0.25], &mut mono);
        assert_eq!(mono, [0.625, -0.25]);
        mix(&[vec![0.1]], &[1.0], &mut mono);
        assert_eq!(mono, [0.1]);
    }
}
