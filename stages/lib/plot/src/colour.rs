//! Colour maps: from a number between 0 and 1 to a colour.
//!
//! The maps are those of van der Walt & Smith (2015) for matplotlib, which gave
//! them to the public domain (CC0): brightness rises evenly along each, so that
//! they can be read in grey and by the colour-blind. Every eighth of their 256
//! colours is kept; straight lines between come within 2/255 of the rest.

/// A colour as red, green, blue, each 0 to 255 (sRGB).
pub(crate) type Rgb = [u8; 3];

/// Which colours stand for which levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColourMap {
    /// Black over violet and orange to pale yellow.
    #[default]
    Magma,
    /// Black over red and orange to bright yellow.
    Inferno,
    /// Dark blue over green to yellow.
    Viridis,
}

const ANCHORS: usize = 33;

#[rustfmt::skip]
const MAGMA: [u32; ANCHORS] = [
    0x000004, 0x030311, 0x0a0822, 0x130d33, 0x1d1146, 0x28115a, 0x36106a, 0x430f76,
    0x50127c, 0x5d177f, 0x691c81, 0x762181, 0x822681, 0x8f2a81, 0x9c2e7f, 0xa9327d,
    0xb63779, 0xc33b75, 0xcf4170, 0xdb486a, 0xe65163, 0xee5c5e, 0xf5695c, 0xf9785d,
    0xfb8761, 0xfd9668, 0xfea571, 0xfeb47b, 0xfec387, 0xfed194, 0xfde0a2, 0xfceeb0,
    0xfcfdbf,
];

#[rustfmt::skip]
const INFERNO: [u32; ANCHORS] = [
    0x000004, 0x040312, 0x0b0724, 0x150b37, 0x210c4a, 0x2e0a5a, 0x3c0965, 0x4a0c6b,
    0x57106d, 0x63146e, 0x70196e, 0x7d1e6d, 0x89226a, 0x962766, 0xa32b61, 0xaf315c,
    0xbb3755, 0xc63e4d, 0xd14644, 0xdb4f3b, 0xe35932, 0xeb6528, 0xf1711e, 0xf67f14,
    0xf98d0a, 0xfb9c06, 0xfcab0f, 0xfbba1f, 0xf9ca32, 0xf5d949, 0xf2e865, 0xf3f586,
    0xfcffa4,
];

#[rustfmt::skip]
const VIRIDIS: [u32; ANCHORS] = [
    0x440154, 0x470d60, 0x48186a, 0x482374, 0x472d7b, 0x453681, 0x424086, 0x3f4989,
    0x3b528b, 0x375a8d, 0x33638d, 0x2f6a8e, 0x2c728e, 0x297a8e, 0x26818e, 0x23898e,
    0x21908c, 0x1f988b, 0x1f9f88, 0x21a685, 0x28ae80, 0x31b57b, 0x3ebc74, 0x4cc26c,
    0x5dc963, 0x6ece58, 0x82d34c, 0x96d83f, 0xabdc32, 0xc0df24, 0xd5e21a, 0xeae51a,
    0xfde725,
];

impl ColourMap {
    /// The colours of the levels `i / 255`, lowest first.
    pub(crate) fn table(self) -> [Rgb; 256] {
        let anchors = match self {
            Self::Magma => &MAGMA,
            Self::Inferno => &INFERNO,
            Self::Viridis => &VIRIDIS,
        };
        std::array::from_fn(|i| {
            let place = i as f64 / 255.0 * (ANCHORS - 1) as f64;
            let low = (place as usize).min(ANCHORS - 2);
            let [from, to] = [anchors[low], anchors[low + 1]].map(channels);
            let share = place - low as f64;
            std::array::from_fn(|c| {
                let [from, to] = [from[c], to[c]].map(f64::from);
                (from + (to - from) * share).round() as u8
            })
        })
    }
}

fn channels(colour: u32) -> Rgb {
    let [_, red, green, blue] = colour.to_be_bytes();
    [red, green, blue]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_rises_evenly() {
        for map in [ColourMap::Magma, ColourMap::Inferno, ColourMap::Viridis] {
            let light: Vec<f64> = map.table().iter().map(lightness).collect();
            for pair in light.windows(2) {
                assert!(pair[1] > pair[0] - 0.15, "{map:?}: {pair:?}");
            }
            let (low, high) = (light[0], light[255]);
            let middle = (light[128] - low) / (high - low);
            assert!((0.45..0.55).contains(&middle), "{map:?}: {middle}");
        }
    }

    #[test]
    fn ends_are_those_of_matplotlib() {
        let magma = ColourMap::Magma.table();
        assert_eq!((magma[0], magma[255]), ([0, 0, 4], [252, 253, 191]));
        let viridis = ColourMap::Viridis.table();
        assert_eq!((viridis[0], viridis[255]), ([68, 1, 84], [253, 231, 37]));
    }

    /// CIE lightness L*, 0 to 100, of an sRGB colour (IEC 61966-2-1, CIE 15).
    fn lightness(colour: &Rgb) -> f64 {
        let linear = colour.map(|c| {
            let c = f64::from(c) / 255.0;
            match c <= 0.04045 {
                true => c / 12.92,
                false => ((c + 0.055) / 1.055).powf(2.4),
            }
        });
        let y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
        match y <= 216.0 / 24389.0 {
            true => y * 24389.0 / 27.0,
            false => 116.0 * y.cbrt() - 16.0,
        }
    }
}
