//! Pseudo-random numbers of our own, so that a note's noise never changes with
//! a library's version.
//!
//! SplitMix64: Steele, Lea & Flood, "Fast splittable pseudorandom number
//! generators" (OOPSLA 2014), figure 16.

/// A stream of pseudo-random numbers, fixed by its seed.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream that belongs to these words, in this order.
    pub(crate) fn from_words(words: &[u64]) -> Self {
        let mut rng = Self(0);
        for &word in words {
            rng.0 ^= word;
            rng.0 = rng.next();
        }
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [-1, 1): white noise of variance 1/3.
    #[inline]
    pub(crate) fn noise(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (2.0 / (1u64 << 24) as f32) - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams_and_others_others() {
        let draw = |words: &[u64]| {
            let mut rng = Rng::from_words(words);
            (0..8).map(|_| rng.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
    }

    #[test]
    fn noise_is_white_enough() {
        let mut rng = Rng::from_words(&[7]);
        let x: Vec<f64> = (0..100_000).map(|_| f64::from(rng.noise())).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let lag = x.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0 / 3.0).abs() < 0.01, "{variance}");
        assert!(lag.abs() < 0.01, "{lag}");
        assert!(x.iter().all(|v| (-1.0..1.0).contains(v)));
    }
}
