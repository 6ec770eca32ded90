//! Any bytes in a segment give values or errors: no signal, no panic, no endless loop.
//!
//! A child works on every kind of object while the parent writes garbage into the file of its fabric, or opens a file that was
//! damaged before. How it ends is all that counts: by itself, and well.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{ChannelOptions, Durability, Fabric, FabricOptions, SetOptions, StoreOptions};
use memora_stress::random::Random;
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE, Worker, tell};

const FABRIC: &str = "target";
const HOME: &str = "MEMORA_TESTKIT_HOME";

/// Plays the children; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a home"));
    match role.as_str() {
        "live" => work(&home, Duration::from_millis(400), true),
        "opener" => work(&home, Duration::from_millis(20), false),
        other => panic!("unknown role {other}"),
    }
}

fn options(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home.to_path_buf()).limit(2 << 20)
}

/// Does everything for some time and takes every error for an answer.
fn work(home: &Path, time: Duration, say: bool) {
    let end = Instant::now() + time;
    let mut random = Random::new(&format!("{}", std::process::id()));
    let mut answers = 0u64;
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < end {
        rounds += 1;
        let Ok(fabric) = options(home).open(FABRIC) else { continue };
        if say && rounds == 1 {
            tell("ready");
        }
        while Instant::now() < end {
            answers += all_operations(&fabric, home, &mut random);
            if random.draw(4) == 0 {
                break;
            }
        }
        let _ = fabric.close();
    }
    tell(&format!("answers {answers}"));
}

/// Counts the answers that were not errors.
fn all_operations(fabric: &Fabric, home: &Path, random: &mut Random) -> u64 {
    let mut good = 0;
    let mut count = |answered: bool| good += u64::from(answered);
    let key = format!("key {}", random.draw(50));
    let key = key.as_bytes();
    // Some take several chunks.
    let longest = if random.draw(4) == 0 { 60_000 } else { 5000 };
    let value = vec![b'v'; random.draw(longest) as usize];
    if let Ok(cache) = fabric.cache("cache") {
        for _ in 0..10 {
            count(cache.set(key, &value).is_ok());
            count(cache.get(key).is_ok());
            count(cache.view(key).is_ok());
            count(cache.get_into(key, &mut [0; 100]).is_ok());
            count(cache.get_many(&[key, b"other"], |_, _| {}).is_ok());
            count(cache.add(key, &value, &SetOptions::default()).is_ok());
            count(cache.increment(b"number", 1, Some(1)).is_ok());
            if let Ok(Some(entry)) = cache.get_entry(key) {
                count(cache.compare_and_swap(key, b"new", entry.version, &SetOptions::default()).is_ok());
            }
            count(random.draw(3) > 0 || cache.delete(key).is_ok());
        }
        let mut cursor = 0;
        // A cursor of a damaged table may lead anywhere, but each step ends.
        for _ in 0..100 {
            match cache.scan(cursor, 50, |_, _| {}) {
                Ok(next) if next != 0 => cursor = next,
                _ => break,
            }
        }
        count(cache.len().is_ok());
        count(cache.stats().is_ok());
        count(cache.process_counts().is_ok());
        count(cache.advice().is_ok());
    }
    signals(fabric, &mut count);
    if let Ok(channel) = fabric.channel("channel", &ChannelOptions::default()) {
        let subscriber = channel.subscribe("sub");
        if let Ok(mut publisher) = channel.publisher() {
            for _ in 0..10 {
                count(publisher.try_send(&value[..value.len().min(500)]).is_ok());
                if let Ok(claim) = publisher.try_claim(40) {
                    count(claim.commit().is_ok());
                }
            }
        }
        if let Ok(mut subscriber) = subscriber {
            let mut buffer = Vec::new();
            for _ in 0..10 {
                count(subscriber.try_recv(&mut buffer).is_ok());
            }
            count(subscriber.recv(&mut buffer, Some(Duration::from_millis(1))).is_ok());
            count(subscriber.poll(5, |_, _| {}).is_ok());
        }
        count(channel.stats().is_ok());
    }
    let options = StoreOptions {
        dir: Some(home.join("store")),
        durability: Durability::Process,
        ..StoreOptions::default()
    };
    if let Ok(store) = fabric.store("store", &options) {
        for _ in 0..5 {
            count(store.set(key, &value[..value.len().min(500)]).is_ok());
            count(store.get(key).is_ok());
        }
        if let Ok(snapshot) = store.snapshot() {
            count(store.set(key, b"another").is_ok());
            count(store.delete(key).is_ok());
            count(snapshot.get(key).is_ok());
            count(snapshot.scan(0, 50, |_, _| {}).is_ok());
        }
        count(store.flush().is_ok());
    }
    count(fabric.objects().is_ok());
    count(fabric.stat().is_ok());
    count(fabric.check().is_ok());
    count(fabric.reap().is_ok());
    good
}

/// Everything that events, counters, locks and semaphores can do.
fn signals(fabric: &Fabric, count: &mut dyn FnMut(bool)) {
    let soon = Duration::from_micros(100);
    if let Ok(event) = fabric.event("event") {
        count(event.notify_one().is_ok());
        count(event.wait(u64::MAX, Some(soon)).is_ok());
        count(
            event.notify_all().is_ok_and(|sequence| event.wait(sequence.wrapping_sub(1), Some(soon)).is_ok()),
        );
    }
    if let Ok(counter) = fabric.counter("counter") {
        count(counter.add(1).is_ok_and(|value| counter.wait_at_least(value, Some(soon)).is_ok()));
    }
    if let Ok(lock) = fabric.lock("lock") {
        count(lock.state().is_ok());
        count(lock.lock_timeout(soon).is_ok_and(|mut guard| {
            guard.owner_died().is_ok() && guard.mark_consistent().is_ok() && guard.unlock().is_ok()
        }));
    }
    if let Ok(semaphore) = fabric.semaphore("semaphore", 5) {
        count(semaphore.state().is_ok());
        count(semaphore.acquire_timeout(3, soon).is_ok_and(|permits| permits.release().is_ok()));
    }
}

struct Target {
    dir: tempfile::TempDir,
}

impl Target {
    fn new() -> Target {
        let dir = tempfile::Builder::new()
            .prefix("memora-corrupt-")
            .tempdir_in("/dev/shm")
            .expect("/dev/shm is writable");
        let target = Target { dir };
        let fabric = options(target.home()).open(FABRIC).expect("created");
        let mut random = Random::new("first");
        let good = (0..5).map(|_| all_operations(&fabric, target.home(), &mut random)).sum::<u64>();
        assert!(good > 100, "only {good} answers on a sound fabric");
        target
    }

    fn home(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self) -> PathBuf {
        self.home().join(format!("{FABRIC}.fabric"))
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.path()).expect("the fabric is a file")
    }

    fn spawn(&self, role: &str) -> Worker {
        let home: OsString = self.home().into();
        Worker::spawn("entry", role, &[(HOME, &home as &OsStr)])
    }

    /// A child opens and uses what is there now.
    #[track_caller]
    fn is_survived(&self, what: &str) {
        let mut child = self.spawn("opener");
        let status =
            child.wait(PATIENCE).unwrap_or_else(|| panic!("{what}: the opener hangs: {}", child.errors()));
        assert!(status.success(), "{what}: {status}: {}", child.errors());
    }
}

/// Bytes that lead somewhere: words of the file itself, small numbers, extremes, noise.
fn garbage(file: &File, len: u64, random: &mut Random) -> Vec<u8> {
    let word = match random.draw(6) {
        0 => {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, random.draw(len / 8) * 8).expect("inside");
            u64::from_le_bytes(word)
        }
        1 => random.draw(64),
        2 => u64::MAX - random.draw(64),
        3 => len - 64 + random.draw(128),
        4 => 1 << random.draw(64),
        _ => random.draw(u64::MAX),
    };
    let bytes = word.to_le_bytes();
    match random.draw(4) {
        0 => bytes[..1].to_vec(),
        1 => bytes[..4].to_vec(),
        2 => bytes.repeat(1 + random.draw(64) as usize),
        _ => bytes.to_vec(),
    }
}

/// Where it hurts: mostly the head and the tables, sometimes anywhere.
fn place(len: u64, random: &mut Random) -> u64 {
    let end = match random.draw(3) {
        0 => 4096,
        1 => len / 4,
        _ => len - 512,
    };
    random.draw(end) & if random.draw(2) == 0 { !7 } else { !0 }
}

#[test]
fn workers_survive_garbage_that_appears_while_they_work() {
    for round in 0..4 * torture() {
        let target = Target::new();
        let mut random = Random::new(&format!("live {round}"));
        let (file, len) = (target.file(), std::fs::metadata(target.path()).expect("there").len());
        let mut children = [target.spawn("live"), target.spawn("live")];
        for child in &mut children {
            child.expect_line("ready");
        }
        for _ in 0..40 {
            let bytes = garbage(&file, len, &mut random);
            file.write_all_at(&bytes, place(len, &mut random)).expect("written");
            std::thread::sleep(Duration::from_millis(5));
        }
        for child in &mut children {
            let status =
                child.wait(PATIENCE).unwrap_or_else(|| panic!("round {round} hangs: {}", child.errors()));
            assert!(status.success(), "round {round}: {status}: {}", child.errors());
        }
    }
}

#[test]
fn workers_survive_a_file_that_is_overwritten_whole() {
    for byte in [0x00, 0xff, 0x5a] {
        let target = Target::new();
        let len = std::fs::metadata(target.path()).expect("there").len();
        let mut child = target.spawn("live");
        child.expect_line("ready");
        target.file().write_all_at(&vec![byte; len as usize], 0).expect("written");
        let status = child.wait(PATIENCE).unwrap_or_else(|| panic!("{byte:#x} hangs: {}", child.errors()));
        assert!(status.success(), "{byte:#x}: {status}: {}", child.errors());
        target.is_survived("a file of one byte only");
    }
}

#[test]
fn openers_survive_every_damaged_field_of_the_header() {
    let target = Target::new();
    let file = target.file();
    let len = std::fs::metadata(target.path()).expect("there").len();
    let mut sound = vec![0; len as usize];
    file.read_exact_at(&mut sound, 0).expect("read");
    let mut random = Random::new("header");
    let last = sound[..1024].iter().rposition(|&byte| byte != 0).expect("a header") as u64;
    let mut seen = 0;
    for field in 0..=last / 8 {
        let offset = field * 8;
        let old = u64::from_le_bytes(sound[offset as usize..][..8].try_into().expect("eight bytes"));
        for new in [0, u64::MAX, old ^ (1 << random.draw(64)), old.wrapping_add(1)] {
            file.write_all_at(&new.to_le_bytes(), offset).expect("written");
            // In this process: the opener refuses or works, and both are quick.
            if let Ok(fabric) = options(target.home()).open(FABRIC) {
                all_operations(&fabric, target.home(), &mut random);
            }
            seen += 1;
            file.write_all_at(&sound, 0).expect("restored");
        }
    }
    assert!(seen >= 32, "only {seen} damaged headers");
    target.is_survived("the restored file");
}

#[test]
fn openers_survive_truncated_files() {
    let target = Target::new();
    let whole = std::fs::read(target.path()).expect("read");
    let lens = [0, 1, 7, 8, 63, 64, 4095, 4096, whole.len() / 2, whole.len() - 4096, whole.len() - 1];
    for len in lens {
        // A new inode: nobody has the old one's missing pages mapped.
        std::fs::remove_file(target.path()).expect("removed");
        std::fs::write(target.path(), &whole[..len]).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(target.path(), mode).expect("set");
        let refused = options(target.home()).open(FABRIC).is_err();
        assert!(refused, "a file of {len} instead of {} bytes is opened", whole.len());
        target.is_survived(&format!("a file of {len} bytes"));
    }
}

#[test]
fn openers_survive_noise_in_a_file_at_rest() {
    let target = Target::new();
    let whole = std::fs::read(target.path()).expect("read");
    for round in 0..6 * torture() {
        let mut random = Random::new(&format!("rest {round}"));
        let file = target.file();
        file.write_all_at(&whole, 0).expect("restored");
        for _ in 0..1 + random.draw(60) {
            let bytes = garbage(&file, whole.len() as u64, &mut random);
            let mut at = place(whole.len() as u64, &mut random);
            if at < 512 {
                at += 512;
            }
            file.write_all_at(&bytes, at).expect("written");
        }
        target.is_survived(&format!("noise, round {round}"));
    }
}
