//! Reads and overwrites of one table by one and by two processes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use memora::{CacheOptions, WhenFull};

use crate::harness::{Figure, Report, Samples};
use crate::load::{Mix, Requests, Zipf, all_keys};
use crate::peer::{BoxedHandle, Dash, Handle, Lmdb, Moka, Papaya, VALUE, memora};
use crate::server::{Client, Kind, Server};

const CHILD: &str = "MEMORA_COMPARE_CHILD";
const LIMIT: u64 = 512 << 20;
const ROUNDS: usize = 3;
const MIXES: [(Mix, &str, u64); 3] = [(Mix(0), "get", 1), (Mix(5), "95/5", 2), (Mix(50), "50/50", 3)];

/// How a second worker reaches a peer.
enum Second {
    /// Another process, by a kind that `serve` knows and a path.
    Process(Box<Partner>),
    /// Another thread: the peer lives in one process.
    Thread(BoxedHandle),
}

struct Peer {
    name: String,
    /// Requests of a sample: about as long for a slow peer as for a fast one.
    count: usize,
    first: BoxedHandle,
    second: Second,
}

/// A second process, which runs what it is told.
struct Partner {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Partner {
    fn start(kind: &str, path: &Path) -> Partner {
        let program = std::env::current_exe().expect("a program knows its path");
        let mut child = Command::new(program)
            .env(CHILD, format!("{kind}:{}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut partner = Partner { child, answers };
        partner.answer();
        partner
    }

    fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").expect("it listens");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim().to_owned()
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep_all() -> CacheOptions {
    CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() }
}

/// In the second process: prepares and runs requests until its input ends. None in the first.
pub fn serve() -> Option<ExitCode> {
    let role = std::env::var(CHILD).ok()?;
    let (kind, path) = role.split_once(':')?;
    let path = PathBuf::from(path);
    let mut handle: BoxedHandle = match kind {
        "memora" => Box::new(memora(&path, LIMIT, &keep_all())),
        "lmdb" => Box::new(Lmdb::open(&path)),
        "redis" => Box::new(Client::connect(Kind::Redis, &path)),
        _ => Box::new(Client::connect(Kind::Memcached, &path)),
    };
    let zipf = Zipf::new(crate::peer::ENTRIES);
    println!("ready");
    let mut requests = None;
    for line in std::io::stdin().lines() {
        let line = line.ok()?;
        let words: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match (words.as_slice(), &requests) {
            ([mix, count, seed], _) => {
                requests = Some(Requests::new(&zipf, Mix(*mix), *count as usize, *seed));
                println!("ready");
            }
            (_, Some(requests)) => println!("{}", requests.run(&mut handle)),
            (_, None) => println!("0"),
        }
    }
    Some(ExitCode::SUCCESS)
}

fn peers(folder: &Path, servers: &[(Kind, Server)]) -> Vec<Peer> {
    let value = [7u8; VALUE];
    let load = |handle: &mut dyn Handle| handle.fill(&mut all_keys().map(Vec::from), &value);
    let mut peers = Vec::new();

    let home = folder.join("memora");
    let mut cache = memora(&home, LIMIT, &keep_all());
    load(&mut cache);
    let second = Second::Process(Box::new(Partner::start("memora", &home)));
    peers.push(Peer { name: "memora".to_owned(), count: 200_000, first: Box::new(cache), second });

    let path = folder.join("lmdb");
    let lmdb = Lmdb::open(&path);
    lmdb.load(&value);
    let second = Second::Process(Box::new(Partner::start("lmdb", &path)));
    peers.push(Peer { name: "LMDB (heed)".to_owned(), count: 50_000, first: Box::new(lmdb), second });

    for (kind, server) in servers {
        server.connect().fill(&mut all_keys().map(Vec::from), &value);
        let role = if *kind == Kind::Redis { "redis" } else { "memcached" };
        let second = Second::Process(Box::new(Partner::start(role, &server.socket)));
        let first = Box::new(server.connect());
        peers.push(Peer { name: server.name.clone(), count: 5_000, first, second });
    }

    fn within<H: Handle + Clone + Send + 'static>(name: &str, handle: H) -> Peer {
        let second = Second::Thread(Box::new(handle.clone()));
        Peer { name: format!("{name} (one process)"), count: 200_000, first: Box::new(handle), second }
    }
    let (mut dash, mut papaya, mut moka) = (Dash::default(), Papaya::default(), Moka::new(2_000_000));
    load(&mut dash);
    load(&mut papaya);
    load(&mut moka);
    peers.extend([within("dashmap", dash), within("papaya", papaya), within("moka", moka)]);
    peers
}

/// Nanoseconds of a request, one worker or the mean of two at the same time.
fn sample(peer: &mut Peer, zipf: &Zipf, mix: Mix, both: bool, seed: u64) -> f64 {
    let requests = Requests::new(zipf, mix, peer.count, seed);
    if !both {
        return requests.run(&mut peer.first);
    }
    match &mut peer.second {
        Second::Process(partner) => {
            partner.tell(&format!("{} {} {}", mix.0, peer.count, seed + 1));
            partner.answer();
            partner.tell("go");
            let ours = requests.run(&mut peer.first);
            let theirs: f64 = partner.answer().parse().expect("a number");
            (ours + theirs) / 2.0
        }
        Second::Thread(handle) => {
            let others = Requests::new(zipf, mix, peer.count, seed + 1);
            std::thread::scope(|scope| {
                let other = scope.spawn(|| others.run(handle));
                let ours = requests.run(&mut peer.first);
                (ours + other.join().expect("the other thread")) / 2.0
            })
        }
    }
}

/// Runs all mixes with one and two workers.
pub fn run(report: &Report) {
    let folder = crate::folder();
    let mut servers = Vec::new();
    for kind in [Kind::Redis, Kind::Memcached] {
        match Server::start(kind, folder.path(), 1024) {
            Some(server) => servers.push((kind, server)),
            None => println!("skipped: {kind:?} is not installed or does not start"),
        }
    }
    let mut peers = peers(folder.path(), &servers);
    let zipf = Zipf::new(crate::peer::ENTRIES);
    for (mix, name, seed) in MIXES {
        let mut samples = vec![[Samples::default(), Samples::default()]; peers.len()];
        for round in 0..=ROUNDS {
            for (place, peer) in peers.iter_mut().enumerate() {
                for workers in 0..2 {
                    let seed = seed * 1_000_003 + round as u64 * 31;
                    let ns = sample(peer, &zipf, mix, workers == 1, seed);
                    if round > 0 {
                        samples[place][workers].push(ns);
                    }
                }
            }
        }
        for workers in 0..2 {
            let beside: Vec<(&str, f64)> = peers
                .iter()
                .zip(&samples)
                .skip(1)
                .map(|(peer, samples)| (peer.name.as_str(), samples[workers].median()))
                .collect();
            report.add_beside(
                &Figure {
                    bench: "compare",
                    case: &format!("{name} zipf 0.99, 1M 16B/100B, {} workers", workers + 1),
                    procs: workers as u32 + 1,
                    unit: "ns/op",
                    samples: &samples[0][workers],
                    floor: None,
                    goal: None,
                },
                &beside,
            );
        }
        let scaling = |samples: &[Samples; 2]| 2.0 * samples[0].median() / samples[1].median();
        let beside: Vec<(&str, f64)> = peers
            .iter()
            .zip(&samples)
            .skip(1)
            .map(|(peer, samples)| (peer.name.as_str(), scaling(samples)))
            .collect();
        let mut ours = Samples::default();
        ours.push(scaling(&samples[0]));
        report.add_beside(
            &Figure {
                bench: "compare",
                case: &format!("{name}: throughput of two beside one"),
                procs: 2,
                unit: "x",
                samples: &ours,
                floor: None,
                goal: (mix == Mix(0)).then_some("1.8 x"),
            },
            &beside,
        );
    }
}
