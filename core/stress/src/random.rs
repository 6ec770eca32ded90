//! The random numbers and checksums of `docs/stress.md`, the same in every language.

/// 64-bit FNV-1a.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// splitmix64, started from the hash of a text.
pub struct Random(u64);

impl Random {
    pub fn new(seed: &str) -> Random {
        Random(fnv1a(seed.as_bytes()))
    }

    /// A number below `bound`.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_other_languages() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        // splitmix64 from 0 begins with this number.
        assert_eq!(Random(0).draw(u64::MAX), 0xe220_a839_7b1d_cdaf);
        let mut random = Random::new("w0");
        let mut again = Random::new("w0");
        assert!((0..100).all(|_| random.draw(10) == again.draw(10)));
    }
}
