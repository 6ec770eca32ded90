//! What is done: reads and overwrites of keys by zipf's law, in one or two processes.

use std::time::Instant;

use crate::harness::Random;
use crate::peer::{BoxedHandle, ENTRIES, KEY, VALUE, key};

/// Skew of the popularity of keys.
const THETA: f64 = 0.99;

/// Numbers by zipf's law (Gray and others, "Quickly generating billion-record synthetic databases", SIGMOD 1994), spread
/// over the keys, so that popular ones are no neighbours.
pub struct Zipf {
    count: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
    second: f64,
}

impl Zipf {
    pub fn new(count: u64) -> Zipf {
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-THETA)).sum();
        let two: f64 = 1.0 + 0.5f64.powf(THETA);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - THETA)) / (1.0 - two / zeta);
        Zipf { count, alpha: 1.0 / (1.0 - THETA), zeta, eta, second: two }
    }

    /// The next number below the count.
    pub fn next(&self, random: &mut Random) -> u64 {
        let uniform = (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        let rank = if scaled < 1.0 {
            0
        } else if scaled < self.second {
            1
        } else {
            (self.count as f64 * (self.eta * uniform - self.eta + 1.0).powf(self.alpha)) as u64
        };
        Random(rank.min(self.count - 1)).next() % self.count
    }
}

/// Overwrites in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix(pub u64);

/// Requests, made before the clock runs, so that only the peer is measured.
pub struct Requests(Vec<([u8; KEY], bool)>);

impl Requests {
    pub fn new(zipf: &Zipf, mix: Mix, count: usize, seed: u64) -> Requests {
        let mut random = Random(seed);
        Requests((0..count).map(|_| (key(zipf.next(&mut random)), random.below(100) < mix.0)).collect())
    }

    /// Nanoseconds of a request.
    pub fn run(&self, handle: &mut BoxedHandle) -> f64 {
        let mut value = [7u8; VALUE];
        let mut found = [0u8; VALUE];
        let start = Instant::now();
        for (place, (key, write)) in self.0.iter().enumerate() {
            if *write {
                // No two values alike: some peers skip writing what is there already.
                value[..8].copy_from_slice(&(place as u64).to_le_bytes());
                handle.set(key, &value);
            } else {
                assert_eq!(handle.get(key, &mut found), Some(VALUE), "all entries are there");
            }
        }
        start.elapsed().as_nanos() as f64 / self.0.len() as f64
    }
}

/// All keys, in order.
pub fn all_keys() -> impl Iterator<Item = [u8; KEY]> {
    (0..ENTRIES).map(key)
}
