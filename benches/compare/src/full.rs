//! Setting new keys in a full cache, where each needs the room of another: the usual time and the slowest of a thousand.

use std::time::Instant;

use hdrhistogram::Histogram;
use memora::CacheOptions;

use crate::harness::{Figure, Report, Samples};
use crate::peer::{Handle, Moka, VALUE, key, memora};
use crate::server::{Kind, Server};

const MEBIBYTES: u64 = 64;
/// More entries than fit, so that all are full.
const FILL: u64 = 800_000;
const ROUNDS: u64 = 5;

struct Peer {
    name: String,
    handle: Box<dyn Handle>,
    count: u64,
    next: u64,
    half: Samples,
    slow: Samples,
}

impl Peer {
    fn round(&mut self, counts: bool) {
        let mut times = Histogram::<u64>::new(3).expect("three digits");
        let value = [7u8; VALUE];
        for _ in 0..self.count {
            let key = key(self.next);
            self.next += 1;
            let start = Instant::now();
            self.handle.set(&key, &value);
            times.record(start.elapsed().as_nanos() as u64).expect("it grows with its values");
        }
        if counts {
            self.half.push(times.value_at_quantile(0.5) as f64);
            self.slow.push(times.value_at_quantile(0.999) as f64 / 1000.0);
        }
    }
}

/// Runs the rounds, interleaved.
pub fn run(report: &Report) {
    let folder = crate::folder();
    let limit = MEBIBYTES << 20;
    let cache = memora(
        &folder.path().join("memora"),
        limit * 2,
        &CacheOptions { limit: Some(limit), ..CacheOptions::default() },
    );
    let mut peers: Vec<Peer> = Vec::new();
    let mut add = |name: &str, handle: Box<dyn Handle>, count| {
        let (half, slow) = (Samples::default(), Samples::default());
        peers.push(Peer { name: name.to_owned(), handle, count, next: 0, half, slow });
    };
    add("memora", Box::new(cache), 200_000);
    let mut servers = Vec::new();
    for kind in [Kind::Redis, Kind::Memcached] {
        match Server::start(kind, folder.path(), MEBIBYTES) {
            Some(server) => {
                add(&server.name, Box::new(server.connect()), 20_000);
                servers.push(server);
            }
            None => println!("skipped: {kind:?} is not installed or does not start"),
        }
    }
    add("moka (one process)", Box::new(Moka::new(400_000)), 200_000);
    for peer in &mut peers {
        peer.handle.fill(&mut (0..FILL).map(|number| key(number).to_vec()), &[7u8; VALUE]);
        peer.next = FILL;
    }
    for round in 0..=ROUNDS {
        peers.iter_mut().for_each(|peer| peer.round(round > 0));
    }
    type Pick = fn(&Peer) -> &Samples;
    let rows: [(&str, &str, Option<&str>, Pick); 2] = [
        ("set new keys, full cache of 64 MiB: p50", "ns", None, |peer| &peer.half),
        ("set new keys, full cache of 64 MiB: p99.9", "us", Some("20 us"), |peer| &peer.slow),
    ];
    for (case, unit, goal, pick) in rows {
        let beside: Vec<(&str, f64)> =
            peers.iter().skip(1).map(|peer| (peer.name.as_str(), pick(peer).median())).collect();
        let samples = pick(&peers[0]);
        report.add_beside(
            &Figure { bench: "compare", case, procs: 1, unit, samples, floor: None, goal },
            &beside,
        );
    }
    drop(servers);
}
