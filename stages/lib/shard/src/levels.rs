//! The levels of a page of lists that are never null.
//!
//! Dremel's levels (Parquet's `LogicalTypes.md`, "Lists"): every value is there, so all have
//! definition level 1; all but the first of a row continue its list, so a row has repetition levels
//! 0, 1, 1 …. Both are encoded in Parquet's hybrid of runs and packed bits (`Encodings.md`, "RLE"),
//! here from the lengths of the runs, where the `parquet` crate looks at a level for every value.

/// Values that are packed together, or dropped in favour of a run if they are all equal.
const GROUP: usize = 8;
/// Groups after which a stretch of packed bits is closed: its header is a byte.
const MAX_GROUPS: usize = 63;

/// Appends the levels of `rows` rows of `width` values, as a page of version 1 begins: repetition,
/// then definition, each after its length.
pub(crate) fn append(rows: usize, width: usize, out: &mut Vec<u8>) {
    section(out, |hybrid| {
        for _ in 0..rows {
            hybrid.put(false, 1);
            hybrid.put(true, width - 1);
        }
    });
    section(out, |hybrid| hybrid.put(true, rows * width));
}

fn section(out: &mut Vec<u8>, fill: impl FnOnce(&mut Hybrid<'_>)) {
    let at = out.len();
    out.extend([0; 4]);
    let mut hybrid = Hybrid::new(out);
    fill(&mut hybrid);
    hybrid.finish();
    // Levels are fewer than values, and those of a page far fewer than 2^32.
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Encodes single bits. Runs are taken where, and only where, a whole group of eight is equal and
/// begins at a multiple of eight from the last run: the choice of the `parquet` crate and others,
/// so that shards are the same bytes whoever wrote their levels.
struct Hybrid<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that are to be packed, the least significant first.
    packed: Vec<u8>,
    /// How many bits of `packed` are in use.
    pending: usize,
    current: bool,
    /// How often `current` came last, within the group at hand or as a run.
    repeated: usize,
}

impl<'a> Hybrid<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            packed: Vec::with_capacity(MAX_GROUPS),
            pending: 0,
            current: false,
            repeated: 0,
        }
    }

    /// Appends `count` times `bit`.
    fn put(&mut self, bit: bool, mut count: usize) {
        if count > 0 && bit != self.current {
            if self.repeated >= GROUP {
                self.close_run();
            }
            self.current = bit;
            self.repeated = 0;
        }
        while count > 0 && self.repeated < GROUP {
            self.put_one();
            count -= 1;
        }
        self.repeated += count;
    }

    fn put_one(&mut self) {
        self.repeated += 1;
        if self.pending.is_multiple_of(GROUP) {
            self.packed.push(0);
        }
        if let Some(last) = self.packed.last_mut() {
            *last |= u8::from(self.current) << (self.pending % GROUP);
        }
        self.pending += 1;
        if !self.pending.is_multiple_of(GROUP) {
            return;
        }
        if self.repeated >= GROUP {
            // All equal: a run, and what came before stays packed.
            self.packed.pop();
            self.pending -= GROUP;
            self.close_packed();
        } else {
            if self.packed.len() == MAX_GROUPS {
                self.close_packed();
            }
            self.repeated = 0;
        }
    }

    fn close_run(&mut self) {
        let mut header = self.repeated << 1;
        while header >= 0x80 {
            self.out.push(header as u8 | 0x80);
            header >>= 7;
        }
        self.out.push(header as u8);
        self.out.push(u8::from(self.current));
        self.repeated = 0;
    }

    fn close_packed(&mut self) {
        if !self.packed.is_empty() {
            self.out.push(((self.packed.len() << 1) | 1) as u8);
            self.out.append(&mut self.packed);
        }
        self.pending = 0;
    }

    fn finish(mut self) {
        // Fewer than eight values that are all equal are a run, too.
        if self.repeated > 0 && (self.pending == 0 || self.pending == self.repeated) {
            self.close_run();
        } else {
            self.close_packed();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The reader of the specification: `count` bits of one section.
    fn decode(section: &[u8], count: usize) -> Vec<bool> {
        let (mut bits, mut bytes) = (Vec::new(), section.iter().copied());
        let mut next = || bytes.next().unwrap();
        while bits.len() < count {
            let (mut header, mut shift) = (0, 0);
            loop {
                let byte = next();
                header |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 1 {
                for _ in 0..header >> 1 {
                    let group = next();
                    bits.extend((0..8).map(|i| (group >> i) & 1 == 1));
                }
            } else {
                let bit = next() == 1;
                bits.extend(std::iter::repeat_n(bit, header >> 1));
            }
        }
        assert_eq!(bytes.len(), 0, "bytes that nobody reads");
        // Only the last group may be filled up.
        assert!(bits.len() < count + 8);
        bits.truncate(count);
        bits
    }

    #[test]
    fn levels_of_a_page_are_few_bytes() {
        let mut out = Vec::new();
        append(2, 513, &mut out);
        // 0 and seven 1 packed, a run of 505; the second row begins with a 0 that is packed with
        // seven 1 again. Then a run of all.
        let expected = [
            &[10, 0, 0, 0][..],
            &[3, 0xFE, 0xF2, 0x07, 1, 3, 0xFE, 0xF2, 0x07, 1],
            &[3, 0, 0, 0, 0x84, 0x10, 1],
        ];
        assert_eq!(out, expected.concat());
    }

    proptest! {
        #[test]
        fn levels_read_back(rows in 0..300_usize, width in 1..40_usize) {
            let mut out = Vec::new();
            append(rows, width, &mut out);
            let mut rest = &out[..];
            let mut take = || {
                let (length, after) = rest.split_first_chunk::<4>().unwrap();
                let (section, after) = after.split_at(u32::from_le_bytes(*length) as usize);
                rest = after;
                decode(section, rows * width)
            };
            let repetition: Vec<bool> = (0..rows * width).map(|i| i % width > 0).collect();
            prop_assert_eq!(take(), repetition);
            prop_assert_eq!(take(), vec![true; rows * width]);
            prop_assert!(rest.is_empty());
        }
    }
}
