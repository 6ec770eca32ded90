//! The sizes of values change: all 100 B, which are only set, then all 4 KiB, then mixed. Slab classes that calcified would show as a hit ratio
//! that stays below that of a cache which has known only the new sizes.

use memora::CacheOptions;

use crate::harness::{Figure, Random, Report, Samples};
use crate::load::Zipf;
use crate::peer::{Handle, key, memora};
use crate::server::{Kind, Server};

const MEBIBYTES: u64 = 32;
const LARGE: usize = 4096;

/// The first phase: twice what fits, 100 B each.
const FIRST: std::ops::Range<u64> = 0..(2 * (MEBIBYTES << 20) / 100);

/// The sizes of a phase, and how many keys are asked for: about four times what fits.
#[derive(Clone, Copy)]
struct Phase {
    name: &'static str,
    /// Each phase has keys of its own, so that what is found was set in it.
    first_key: u64,
    keys: u64,
    /// Bytes of the value of a key.
    size: fn(u64) -> usize,
}

const PHASES: [Phase; 2] = [
    Phase { name: "4 KiB", first_key: 1_000_000, keys: 32_000, size: |_| LARGE },
    Phase {
        name: "mixed",
        first_key: 2_000_000,
        keys: 64_000,
        size: |number| if number % 2 == 0 { 100 } else { LARGE },
    },
];

/// Reads by zipf's law, sets what is missing, until so many bytes were set; gives the hit ratio in percent.
fn turnover(handle: &mut dyn Handle, phase: &Phase, zipf: &Zipf, random: &mut Random) -> f64 {
    let value = vec![7u8; LARGE];
    let mut found = vec![0u8; LARGE];
    let (mut set, mut hits, mut requests) = (0u64, 0u64, 0u64);
    while set < MEBIBYTES << 20 {
        let number = zipf.next(random);
        let len = (phase.size)(number);
        let key = key(phase.first_key + number);
        requests += 1;
        match handle.get(&key, &mut found) {
            Some(_) => hits += 1,
            None => {
                handle.set(&key, &value[..len]);
                set += len as u64;
            }
        }
    }
    hits as f64 * 100.0 / requests as f64
}

/// A new cache of a kind.
type Make<'a> = Box<dyn Fn(usize) -> Option<(Box<dyn Handle>, Option<Server>)> + 'a>;

/// Runs the phases in one cache, and each phase in a new one.
pub fn run(report: &Report) {
    let folder = crate::folder();
    let path = folder.path();
    let limit = MEBIBYTES << 20;
    let server = |kind, number: usize| {
        let place = path.join(format!("{kind:?}-{number}"));
        std::fs::create_dir_all(&place).ok()?;
        let server = Server::start(kind, &place, MEBIBYTES)?;
        Some((Box::new(server.connect()) as Box<dyn Handle>, Some(server)))
    };
    let kinds: [(&str, Make<'_>); 3] = [
        (
            "memora",
            Box::new(|number| {
                let options = CacheOptions { limit: Some(limit), ..CacheOptions::default() };
                let cache = memora(&path.join(format!("memora-{number}")), limit * 2, &options);
                Some((Box::new(cache) as Box<dyn Handle>, None))
            }),
        ),
        ("memcached", Box::new(|number| server(Kind::Memcached, number))),
        ("Redis", Box::new(|number| server(Kind::Redis, number))),
    ];
    let zipfs = PHASES.map(|phase| Zipf::new(phase.keys));
    // For each kind and phase: the second turnover after the shift, and that of a cache which knew nothing else.
    let mut reached: Vec<(&str, [[f64; 2]; 2])> = Vec::new();
    for (name, make) in kinds {
        let Some((mut old, _old_server)) = make(0) else {
            println!("skipped: {name} is not installed or does not start");
            continue;
        };
        old.fill(&mut FIRST.map(|number| key(number).to_vec()), &[7; 100]);
        let mut ratios = [[0.0; 2]; 2];
        for (place, phase) in PHASES.iter().enumerate() {
            let mut random = Random(11 + place as u64);
            turnover(old.as_mut(), phase, &zipfs[place], &mut random);
            ratios[place][0] = turnover(old.as_mut(), phase, &zipfs[place], &mut random);
            if let Some((mut new, _new_server)) = make(place + 1) {
                let mut random = Random(11 + place as u64);
                turnover(new.as_mut(), phase, &zipfs[place], &mut random);
                ratios[place][1] = turnover(new.as_mut(), phase, &zipfs[place], &mut random);
            }
        }
        reached.push((name, ratios));
    }
    for (place, phase) in PHASES.iter().enumerate() {
        let beside: Vec<(&str, f64)> =
            reached.iter().skip(1).map(|(name, ratios)| (*name, ratios[place][0])).collect();
        let Some((_, ours)) = reached.first() else { continue };
        let mut samples = Samples::default();
        samples.push(ours[place][0]);
        report.add_beside(
            &Figure {
                bench: "compare",
                case: &format!("hit ratio one turnover after a shift to {}", phase.name),
                procs: 1,
                unit: "%",
                samples: &samples,
                floor: Some(("a cache that knew nothing else", ours[place][1])),
                goal: None,
            },
            &beside,
        );
    }
}
