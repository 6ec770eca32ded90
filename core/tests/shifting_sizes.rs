//! The sizes of values change, and all keys with them: after one turnover the hit ratio is almost that of a cache which never knew
//! anything else.
//!
//! A turnover is as many bytes set as the cache may hold. The keys of each phase are asked for by Zipf's law; what is missing is set.

use std::path::Path;

use memora::{Cache, CacheOptions, Fabric, FabricOptions};
use memora_stress::random::Random;

const LIMIT: u64 = 8 << 20;
const LARGE: usize = 4096;
/// So many points may be missing: with old entries that keep their places until they have been looked at often enough it is eight.
const MARGIN: f64 = 3.0;

/// Keys by Zipf's law.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: usize) -> Zipf {
        let mut sum = 0.0;
        Zipf(
            (1..=keys)
                .map(|rank| {
                    sum += (rank as f64).powf(-0.99);
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let unit = (random.word() >> 11) as f64 / (1u64 << 53) as f64;
        let wanted = unit * self.0.last().expect("there are keys");
        self.0.partition_point(|sum| *sum < wanted) as u64
    }
}

struct Phase {
    name: &'static str,
    keys: usize,
    size: fn(u64) -> usize,
}

/// About four times what fits, each.
const PHASES: [Phase; 3] = [
    Phase { name: "100 B", keys: 160_000, size: |_| 100 },
    Phase { name: "4 KiB", keys: 8_000, size: |_| LARGE },
    Phase { name: "mixed", keys: 16_000, size: |number| if number % 2 == 0 { 100 } else { LARGE } },
];

fn new_cache(home: &Path, name: &str) -> (Fabric, Cache) {
    let fabric = FabricOptions::new().home(home.to_path_buf()).limit(2 * LIMIT).open(name).expect("opened");
    let options = CacheOptions { limit: Some(LIMIT), ..CacheOptions::default() };
    let cache = fabric.cache_with("cache", &options).expect("made");
    (fabric, cache)
}

/// Asks until so many bytes were set as the cache holds; answers the hit ratio in percent.
fn turnover(cache: &Cache, place: usize, zipf: &Zipf, random: &mut Random) -> f64 {
    let (mut set, mut hits, mut requests) = (0, 0, 0);
    let value = [7; LARGE];
    while set < LIMIT {
        let number = zipf.draw(random);
        let key = (number | (place as u64) << 56).to_be_bytes();
        requests += 1;
        if cache.get(&key).expect("read").is_some() {
            hits += 1;
        } else {
            let len = (PHASES[place].size)(number);
            cache.set(&key, &value[..len]).expect("stored");
            set += (len + key.len()) as u64;
        }
    }
    f64::from(hits) * 100.0 / f64::from(requests)
}

#[test]
fn in_the_fourth_turnover_after_the_sizes_have_changed_the_hit_ratio_is_back() {
    let home = tempfile::Builder::new().prefix("memora-shift-").tempdir_in("/dev/shm").expect("writable");
    let (_fabric, old) = new_cache(home.path(), "old");
    let zipfs = PHASES.map(|phase| Zipf::new(phase.keys));
    let mut short = Vec::new();
    for (place, zipf) in zipfs.iter().enumerate() {
        let name = PHASES[place].name;
        let (_fabric, fresh) = new_cache(home.path(), &format!("fresh{place}"));
        let [mut random, mut same] = [Random::new(name), Random::new(name)];
        let turnovers = if place == 0 { 4 } else { 6 };
        let mut line = String::new();
        for number in 0..turnovers {
            let (new, steady) =
                (turnover(&old, place, zipf, &mut random), turnover(&fresh, place, zipf, &mut same));
            line += &format!("  {new:.2}/{steady:.2}");
            if number == 3 && new < steady - MARGIN {
                short.push(format!("{name}: {new:.2} %, and {steady:.2} % in a new cache"));
            }
        }
        println!("{name}: after the shift / in a new cache, turnover by turnover:{line}");
    }
    assert!(short.is_empty(), "{short:?}");
}
