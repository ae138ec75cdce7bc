//! Random orders that cost nothing to enter in the middle.
//!
//! A permutation of `0..n` is evaluated at any place by a Feistel network with
//! cycle walking (Black & Rogaway 2002, "Ciphers with arbitrary finite
//! domains", method 3), so an epoch's order is never written down, however
//! many windows it has, and resuming is arithmetic.

/// A stream of numbers that depends on seed, epoch and purpose alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u64; ROUNDS]);

const ROUNDS: usize = 6;

impl Key {
    /// `purpose` tells apart what is drawn within one epoch.
    pub(super) fn new(seed: u64, epoch: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("pipeline loader order 1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&epoch.to_le_bytes());
        hasher.update(purpose.as_bytes());
        let mut reader = hasher.finalize_xof();
        Self(std::array::from_fn(|_| {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        }))
    }

    /// A number in `0..=most` that belongs to `index`.
    pub(super) fn draw(&self, index: u64, most: u64) -> u64 {
        let [a, b, ..] = self.0;
        let x = mix(mix(index ^ a).wrapping_add(b));
        // Lemire's multiply-shift; the bias is below most / 2^64.
        ((u128::from(x) * (u128::from(most) + 1)) >> 64) as u64
    }
}

/// A permutation of `0..n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permutation {
    n: u64,
    half: u32,
    key: Key,
}

impl Permutation {
    pub(super) fn new(n: u64, key: Key) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        // Halves of at least 4 bits: smaller networks reach few permutations.
        let half = bits.div_ceil(2).max(4);
        Self { n, half, key }
    }

    /// Where `index`, below `n`, is taken to.
    pub(super) fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.n);
        let mut x = index;
        // The domain is at most 4 n (or 256), so few steps lead back into 0..n;
        // the walk cannot miss it, for it is on a cycle that began there.
        loop {
            x = self.encrypt(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn encrypt(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for key in self.key.0 {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half | right
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_index_is_taken_somewhere_of_its_own(n in 1u64..3000, seed: u64, epoch: u64) {
            let permutation = Permutation::new(n, Key::new(seed, epoch, "test"));
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                let at = permutation.at(i) as usize;
                prop_assert!(!seen[at]);
                seen[at] = true;
            }
        }
    }

    #[test]
    fn huge_sets_are_permuted_too() {
        let permutation = Permutation::new(u64::MAX / 2, Key::new(1, 2, "test"));
        let mut seen: Vec<u64> = (0..1000).map(|i| permutation.at(i)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
        assert!(seen[999] < u64::MAX / 2);
    }

    #[test]
    fn small_permutations_are_all_reached_about_as_often() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            let p = Permutation::new(4, Key::new(7, epoch, "test"));
            *counts
                .entry([p.at(0), p.at(1), p.at(2), p.at(3)])
                .or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        // 1,000 expected, standard deviation 31.
        assert!(
            counts.values().all(|&c| (850..1150).contains(&c)),
            "{counts:?}"
        );
    }

    #[test]
    fn draws_fill_their_range() {
        let key = Key::new(3, 0, "test");
        let mut counts = [0; 5];
        for i in 0..10_000 {
            counts[key.draw(i, 4) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&c| (1800..2200).contains(&c)),
            "{counts:?}"
        );
        assert_eq!(key.draw(9, 0), 0);
        let _ = key.draw(9, u64::MAX);
    }
}
