//! The hash of keys: rapidhash v3, which is portable and part of the layout. Each table has a seed of its own.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// Hashes the keys of one table.
pub struct Hasher {
    secrets: RapidSecrets,
}

impl Hasher {
    pub fn new(seed: u64) -> Hasher {
        Hasher { secrets: RapidSecrets::seed(seed) }
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        rapidhash_v3_inline::<true, false, false>(key, &self.secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_part_of_the_layout_and_must_not_change() {
        let hasher = Hasher::new(42);
        assert_eq!(hasher.hash(b""), hasher.hash(b""));
        assert_ne!(hasher.hash(b"a"), Hasher::new(43).hash(b"a"));
        let known: Vec<u64> =
            [&b""[..], b"a", b"0123456789abcdef", &[7; 200]].map(|key| hasher.hash(key)).to_vec();
        assert_eq!(known, KNOWN);
    }

    const KNOWN: [u64; 4] =
        [2099127172797383695, 17959508026290022485, 13674108408276434606, 17586849457380315216];
}
