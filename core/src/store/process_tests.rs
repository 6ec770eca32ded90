//! Stores of real processes over one mapped file: killed and frozen at every named point of journal and store.
//!
//! The fabric here is the least that a store needs, so that nothing else can hide what it does: a mapped file, thread entries
//! that name a pid, and a proof of death by looking whether the process is a zombie or gone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use memora_testkit::kill_point::{Harm, Victim, occurrences};
use memora_testkit::process::{Worker, role, tell};

use super::core::{Core, Host};
use super::recovery::Opening;
use super::*;
use crate::chunk::{Actor, ChunkId, Class, Ground, Need, Pool, PoolGeometry};
use crate::journal::RealFiles;
use crate::shm::Shm;
use crate::table::layout::USER_OFFSET;
use crate::table::{Hands, RecordClass, Table, TableOptions, chunks_needed, initialise};

const ENTRY: &str = "store::process_tests::plays_its_role";
const ENTRY_BYTES: u64 = 192;
const PROCESSES: u16 = 4;
const PER_PROCESS: u16 = 16;
const CHUNKS: u32 = 192;
const CHUNK_BYTES: u64 = 16 << 10;
const OBJECT: u32 = 5;
const TABLE_OFFSET: u64 = 16 << 10;
const ARENA_OFFSET: u64 = TABLE_OFFSET + 128 * CHUNKS as u64;
const LEN: u64 = ARENA_OFFSET + CHUNKS as u64 * CHUNK_BYTES;

/// The mapped file, and who this process is in it.
struct Ring {
    shm: Arc<Shm>,
    process: u16,
    threads: Mutex<BTreeMap<u64, u16>>,
}

fn thread_number(id: ThreadId) -> u64 {
    format!("{id:?}").bytes().filter(u8::is_ascii_digit).fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

impl Ring {
    fn pid_word(&self, thread: u16) -> &crate::shm::atomic::AtomicU64 {
        self.shm.block::<128>(u64::from(thread) * ENTRY_BYTES).unwrap().u64::<40>()
    }

    fn all() -> std::ops::RangeInclusive<u16> {
        1..=PROCESSES * PER_PROCESS
    }
}

impl Ground for Ring {
    fn commit(&self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        let pid = self.pid_word(thread).load(Ordering::SeqCst);
        if pid == 0 {
            return false;
        }
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
            Err(_) => true,
        }
    }

    fn thread_limit(&self) -> u32 {
        1024
    }

    fn thread_generation(&self, _thread: u16) -> u32 {
        0
    }

    fn thread_count(&self) -> u32 {
        u32::from(PROCESSES * PER_PROCESS)
    }

    fn each_pin(&self, visit: &mut dyn FnMut(u32)) {
        for thread in Ring::all() {
            for place in 0..8 {
                let pins = self.shm.block::<32>(u64::from(thread) * ENTRY_BYTES).unwrap();
                visit(pins.u32_at::<0>(place).load(Ordering::SeqCst));
            }
        }
    }

    fn transaction(&self, thread: u16) -> Result<crate::shm::Block<'_, 32>> {
        if !Ring::all().contains(&thread) {
            return Err(ErrorCode::Corrupt.into());
        }
        self.shm.block(u64::from(thread) * ENTRY_BYTES + 128)
    }
}

impl Host for Ring {
    fn enter(&self) -> Result<()> {
        Ok(())
    }

    fn process_entry(&self) -> Result<u16> {
        Ok(self.actor()?.index)
    }
}

impl Hands for Ring {
    fn actor(&self) -> Result<Actor<'_>> {
        let mut threads = self.threads.lock().unwrap();
        let next = self.process * PER_PROCESS + 1 + threads.len() as u16;
        let index = *threads.entry(thread_number(std::thread::current().id())).or_insert(next);
        assert!(index <= (self.process + 1) * PER_PROCESS, "too many threads for this test");
        self.pid_word(index).store(u64::from(std::process::id()), Ordering::SeqCst);
        let offset = u64::from(index) * ENTRY_BYTES;
        Ok(Actor {
            index,
            pins: self.shm.block(offset)?,
            open: self.shm.block(offset + 64)?,
            transaction: self.shm.block(offset + 128)?,
        })
    }
}

/// One fabric: its file, and the directory of its store.
struct Place {
    segment: PathBuf,
    files: PathBuf,
}

impl Place {
    /// A new fabric in `folder`, over files that may be there already.
    fn create(folder: &Path, name: &str) -> Place {
        let place = Place { segment: folder.join(name), files: folder.join("files") };
        std::fs::File::create(&place.segment).unwrap().set_len(LEN).unwrap();
        let (ring, pool) = place.attach(0);
        let me = ring.actor().unwrap();
        let count = chunks_needed(&pool, &TableOptions::default());
        let object = pool.allocate_run(me, Class::Control, OBJECT, count, Need::Object).unwrap();
        assert_eq!(object, ChunkId(1));
        initialise(
            &pool,
            pool.run_span(object, count).unwrap(),
            RecordClass::Store,
            42,
            &TableOptions::default(),
        )
        .unwrap();
        for number in object.0..object.0 + count {
            pool.settle(me, ChunkId(number)).unwrap();
        }
        place
    }

    fn attach(&self, process: u16) -> (Arc<Ring>, Arc<Pool>) {
        let file = std::fs::File::options().read(true).write(true).open(&self.segment).unwrap();
        let shm = Arc::new(Shm::map_file(&file, LEN, true).unwrap());
        let ring = Arc::new(Ring { shm: shm.clone(), process, threads: Mutex::default() });
        let geometry = PoolGeometry {
            chunk_bytes: CHUNK_BYTES,
            chunk_count: CHUNKS,
            table_offset: TABLE_OFFSET,
            arena_offset: ARENA_OFFSET,
        };
        let pool = Arc::new(Pool::new(shm, geometry, ring.clone()).unwrap());
        (ring, pool)
    }

    /// Takes over what the dead left, as the reaper does, and opens the store.
    fn open(&self, process: u16) -> Store {
        self.try_open(process).unwrap()
    }

    fn try_open(&self, process: u16) -> Result<Store> {
        let (ring, pool) = self.attach(process);
        for thread in Ring::all() {
            if Ground::thread_is_dead(&*ring, thread) {
                crate::chunk::inherit(&pool, thread, &|_| true).unwrap();
            }
        }
        let offset = pool.geometry().chunk_offset(ChunkId(1));
        let clock = Arc::new(crate::shm::time::boot_ms);
        let table = Table::open(pool, OBJECT, offset, RecordClass::Store, clock).unwrap();
        let opening = Opening {
            name: "test",
            fabric: [1; 16],
            fresh: [2; 16],
            checkpoint_bytes: 1 << 20,
            shards: SHARDS_DEFAULT,
            files: Some(Arc::new(RealFiles::open(&self.files).unwrap())),
            writable: true,
        };
        Store::new(Core::open(ring, table, offset + USER_OFFSET, &opening, &mut |_| {})?, Durability::Process)
    }

    fn environment(&self) -> [(&'static str, &OsStr); 2] {
        [("SEGMENT", self.segment.as_os_str()), ("FILES", self.files.as_os_str())]
    }
}

/// What a victim said that it was about to do, did, and made durable: for each key its values, and how many are durable.
#[derive(Default, Debug)]
struct Told {
    states: BTreeMap<String, Vec<Option<String>>>,
    done: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

impl Told {
    fn hear(&mut self, worker: &mut Worker) {
        while let Some(line) = worker.next_line("", Duration::from_millis(200)) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["try", key, value] => {
                    let states = self.states.entry(key.to_owned()).or_insert_with(|| vec![None]);
                    states.push((value != "-").then(|| value.to_owned()));
                }
                ["did", key] => {
                    self.done.insert(key.to_owned(), self.states[key].len() - 1);
                }
                ["durable"] => self.durable.clone_from(&self.done),
                _ => {}
            }
        }
    }

    fn assert_in(&self, store: &Store, at_least: &BTreeMap<String, usize>, what: &str) {
        for (key, states) in &self.states {
            let since = at_least.get(key).copied().unwrap_or(0);
            let found = store.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value).unwrap());
            assert!(
                states[since..].contains(&found),
                "{what}: {key} is {found:?}, known are {:?}",
                &states[since..]
            );
        }
    }
}

/// The work of a victim: sets, deletes, durable ones among them, and checkpoints.
fn work(store: &Store) {
    for step in 0..45u32 {
        let key = format!("v{}", step % 6);
        if step % 8 == 7 {
            tell(&format!("try {key} -"));
            store.delete(key.as_bytes()).unwrap();
        } else {
            tell(&format!("try {key} {step}"));
            store.set(key.as_bytes(), step.to_string().as_bytes()).unwrap();
        }
        tell(&format!("did {key}"));
        if step % 3 == 2 {
            store.flush().unwrap();
            tell("durable");
        }
        if step == 19 {
            store.checkpoint().unwrap();
            tell("durable");
        }
        if step == 39 {
            store.set_shards(2).unwrap();
            tell("durable");
        }
    }
}

/// For ever: keys of its own, each set and deleted in turn, durably.
fn sets_and_deletes(store: &Store) {
    for round in 0u32.. {
        let key = format!("s{}", round % 40);
        if round / 40 % 3 == 2 {
            tell(&format!("try {key} -"));
            store.delete(key.as_bytes()).unwrap();
        } else {
            tell(&format!("try {key} {round}"));
            store.set(key.as_bytes(), round.to_string().as_bytes()).unwrap();
        }
        tell(&format!("did {key}"));
        if round % 5 == 4 {
            store.flush().unwrap();
            tell("durable");
        }
    }
}

fn tell_hits() {
    for (name, count) in crate::shm::kill_point::hits() {
        if count > 0 && (name.starts_with("journal.") || name.starts_with("store.")) {
            tell(&format!("hit {name} {count}"));
        }
    }
    tell("end");
}

/// Not a test of its own: what a child of the tests below does.
#[test]
fn plays_its_role() {
    let Some(role) = role() else { return };
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let place = Place { segment: variable("SEGMENT"), files: variable("FILES") };
    let process = std::env::var("PROCESS").map_or(1, |number| number.parse().unwrap());
    let store = place.open(process);
    match role.as_str() {
        "writer" => work(&store),
        "opener" => {}
        "committer" => {
            for step in 0..60u32 {
                store.set_durable(b"mine", &step.to_be_bytes(), Durability::Sync).unwrap();
            }
        }
        "changer" => {
            for shards in [7, 2, 1, 16, 4].into_iter().cycle() {
                store.set_shards(shards).unwrap();
                tell("changed");
            }
        }
        "compacter" => loop {
            store.checkpoint().unwrap();
            tell("made");
        },
        "setter" => sets_and_deletes(&store),
        other => panic!("no role {other}"),
    }
    assert!(store.get(b"parent").unwrap().is_none_or(|value| value == b"here"));
    tell_hits();
}

/// Points of one layer that a role reaches, with how often.
fn profile(place: &Place, role: &str) -> Vec<(String, u64)> {
    memora_testkit::kill_point::profile(ENTRY, role, &place.environment()).into_iter().collect()
}

fn for_each_point(points: Vec<(String, u64)>, tries: u64, check: impl Fn(&str, u64, Harm) + Sync) {
    let mut cases = Vec::new();
    for (name, count) in points {
        for nth in occurrences(count, tries * memora_testkit::kill_point::torture()) {
            cases.extend(Harm::ALL.map(|harm| (name.clone(), nth, harm)));
        }
    }
    assert!(cases.len() > 10, "{cases:?}");
    let cases = Mutex::new(cases);
    // Most of the time is spent waiting for a frozen leader's second to pass.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((name, nth, harm)) = cases.lock().unwrap().pop() else { return };
                    check(&name, nth, harm);
                }
            });
        }
    });
}

#[test]
fn a_writer_killed_or_frozen_at_every_point_of_journal_and_store_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let points = profile(&Place::create(folder.path(), "profile"), "writer");
    for wanted in
        ["journal.batch.synced", "store.manifest.renamed", "store.shards.changed", "journal.init.word"]
    {
        assert!(points.iter().any(|(name, _)| name == wanted), "{wanted} is not reached: {points:?}");
    }
    for_each_point(points, 2, |name, nth, harm| {
        let what = format!("{name}:{nth} {harm:?}");
        let folder = tempfile::tempdir().unwrap();
        let place = Place::create(folder.path(), "one");
        let Some(mut victim) = Victim::harm(ENTRY, "writer", &place.environment(), (name, nth, harm)) else {
            return;
        };
        let mut told = Told::default();
        told.hear(victim.worker());
        if harm == Harm::Freeze && name.starts_with("store.identity.") {
            // Stopped while it takes over a directory that is nobody's yet: others are told so, and it finishes well.
            assert_eq!(place.try_open(0).err().map(|error| error.code()), Some(ErrorCode::Busy), "{what}");
            victim.finish();
            return;
        }
        // The survivor goes on at once, in the same segment.
        let survivor = place.open(0);
        told.assert_in(&survivor, &told.done, &format!("{what}, in memory"));
        survivor.set_durable(b"parent", b"here", Durability::Sync).unwrap();
        survivor.checkpoint().unwrap();
        // The segment is lost: what is in the files is all there is.
        let next = Place::create(folder.path(), "two").open(0);
        told.assert_in(&next, &told.done, &format!("{what}, recovered"));
        assert_eq!(next.get(b"parent").unwrap(), Some(b"here".to_vec()), "{what}");
        drop(next);
        // A frozen victim wakes and does the rest, in the old segment: it harms nothing.
        if harm == Harm::Freeze {
            victim.finish();
            survivor.flush().unwrap();
            assert_eq!(survivor.get(b"parent").unwrap(), Some(b"here".to_vec()), "{what}");
            let expected: Vec<_> =
                (0..6).map(|n| survivor.get(format!("v{n}").as_bytes()).unwrap()).collect();
            let last = Place::create(folder.path(), "three").open(0);
            for (number, value) in expected.iter().enumerate() {
                let found = last.get(format!("v{number}").as_bytes()).unwrap();
                assert_eq!(&found, value, "{what}: v{number} after the victim woke");
            }
            assert_eq!(last.get(b"parent").unwrap(), Some(b"here".to_vec()), "{what}");
        }
    });
}

#[test]
fn the_first_opener_killed_or_frozen_at_every_point_of_recovery_is_overtaken() {
    let fill = |folder: &Path| {
        let store = Place::create(folder, "first").open(0);
        for number in 0..30u32 {
            store.set(&number.to_be_bytes(), b"value").unwrap();
        }
        store.checkpoint().unwrap();
        store.delete(&3u32.to_be_bytes()).unwrap();
        store.flush().unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let points = profile(&Place::create(folder.path(), "profile"), "opener");
    assert!(points.iter().any(|(name, _)| name == "store.recover.record"), "{points:?}");
    for_each_point(points, 3, |name, nth, harm| {
        let what = format!("{name}:{nth} {harm:?}");
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let place = Place::create(folder.path(), "second");
        let Some(victim) = Victim::harm(ENTRY, "opener", &place.environment(), (name, nth, harm)) else {
            return;
        };
        let store = place.open(0);
        assert_eq!(store.len().unwrap(), 29, "{what}");
        store.delete(&7u32.to_be_bytes()).unwrap();
        store.set(b"parent", b"here").unwrap();
        store.flush().unwrap();
        // The sleeper goes on with its recovery of long ago.
        victim.finish();
        assert_eq!(store.get(&7u32.to_be_bytes()).unwrap(), None, "{what}");
        assert_eq!(store.len().unwrap(), 29, "{what}");
        store.set_durable(b"parent", b"here", Durability::Sync).unwrap();
        let last = Place::create(folder.path(), "third").open(0);
        assert_eq!(last.len().unwrap(), 29, "{what}");
        assert_eq!(last.get(b"parent").unwrap(), Some(b"here".to_vec()), "{what}");
    });
}

#[test]
fn a_recovery_that_was_broken_off_does_not_bring_back_what_another_fabric_deleted_since() {
    for (name, nth) in [("store.recover.record", 20), ("store.recover.before_ready", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let store = Place::create(folder.path(), "first").open(0);
        for number in 0..30u32 {
            store.set(&number.to_be_bytes(), b"value").unwrap();
        }
        store.checkpoint().unwrap();
        drop(store);
        let place = Place::create(folder.path(), "second");
        Victim::harm(ENTRY, "opener", &place.environment(), (name, nth, Harm::Kill)).expect("it recovers");
        // Meanwhile elsewhere: all but one are deleted, and no file tells of them any more.
        let other = Place::create(folder.path(), "other").open(0);
        for number in 1..30u32 {
            assert!(other.delete(&number.to_be_bytes()).unwrap());
        }
        for _ in 0..3 {
            other.checkpoint().unwrap();
        }
        drop(other);
        let again = place.open(0);
        let left: Vec<u32> =
            (0..30).filter(|number: &u32| again.get(&number.to_be_bytes()).unwrap().is_some()).collect();
        assert_eq!((left, again.len().unwrap()), (vec![0], 1), "{name}");
    }
}

#[test]
fn recoveries_that_are_broken_off_again_and_again_cost_no_room() {
    let folder = tempfile::tempdir().unwrap();
    // A third of the memory: what one recovery puts there fits, what several leave does not.
    let count = (u64::from(CHUNKS) * CHUNK_BYTES / 3 / 1100) as u32;
    let store = Place::create(folder.path(), "first").open(0);
    for number in 0..count {
        store.set(&number.to_be_bytes(), &[7; 1000]).unwrap();
    }
    store.checkpoint().unwrap();
    drop(store);
    let place = Place::create(folder.path(), "second");
    for _ in 0..6 {
        Victim::harm(ENTRY, "opener", &place.environment(), ("store.recover.before_ready", 1, Harm::Kill))
            .expect("it recovers");
    }
    assert_eq!(place.open(0).len().unwrap(), u64::from(count));
}

#[test]
fn two_processes_commit_in_groups_and_sigkill_of_all_and_loss_of_the_segment_lose_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::create(folder.path(), "one");
    let mut other = Worker::spawn(ENTRY, "committer", &place.environment());
    let store = place.open(0);
    let acknowledged = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (store, acknowledged) = (&store, &acknowledged);
            scope.spawn(move || {
                for step in 0..60u32 {
                    store.set_durable(&thread.to_be_bytes(), &step.to_be_bytes(), Durability::Sync).unwrap();
                    acknowledged.lock().unwrap().insert(thread, step);
                }
            });
        }
    });
    other.expect_success();
    let stats = store.stats().unwrap();
    assert!(stats.flushes < 5 * 60, "one sync served many: {stats:?}");
    // Nobody says goodbye, and the segment is gone.
    std::mem::forget(store);
    std::fs::remove_file(&place.segment).unwrap();
    let next = Place::create(folder.path(), "two").open(0);
    for (thread, step) in acknowledged.into_inner().unwrap() {
        assert_eq!(next.get(&thread.to_be_bytes()).unwrap(), Some(step.to_be_bytes().to_vec()));
    }
    assert_eq!(next.get(b"mine").unwrap(), Some(59u32.to_be_bytes().to_vec()));
}

/// Writers go on, the number of shards changes all the time, and those who change it and make checkpoints are killed; then all are, and the segment is
/// lost.
#[test]
fn the_number_of_shards_changes_under_load_and_nothing_is_lost_and_nothing_comes_back() {
    let rounds = 3 * memora_testkit::kill_point::torture();
    for round in 0..rounds {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::create(folder.path(), "one");
        let start = |role: &str, process: &str| {
            let [segment, files] = place.environment();
            Worker::spawn(ENTRY, role, &[segment, files, ("PROCESS", OsStr::new(process))])
        };
        let mut setter = start("setter", "1");
        for (number, role) in ["changer", "compacter", "changer"].into_iter().enumerate() {
            let mut worker = start(role, ["2", "3", "0"][number]);
            let told = ["changed", "made"][usize::from(role == "compacter")];
            for _ in 0..2 {
                assert!(worker.next_line(told, Duration::from_secs(60)).is_some(), "round {round}: {role}");
            }
            // Somewhere in its next one.
            std::thread::sleep(Duration::from_millis(3 * (round + number as u64)));
            worker.kill();
        }
        setter.kill();
        let mut told = Told::default();
        told.hear(&mut setter);
        assert!(told.durable.len() > 20, "{told:?}");
        // Of all of them nobody is left, and the memory is gone.
        std::fs::remove_file(&place.segment).unwrap();
        let next = Place::create(folder.path(), "two").open(0);
        told.assert_in(&next, &told.durable, &format!("round {round}"));
        assert!((1..=16).contains(&next.shards().unwrap()));
        next.checkpoint().unwrap();
        let last = Place::create(folder.path(), "three").open(0);
        told.assert_in(&last, &told.durable, &format!("round {round}, once more"));
    }
}
