//! Events, counters, locks and semaphores between processes: who is woken, who has what when others are killed or stopped, and what a
//! forked child or a thread that ends does not take with it.
//!
//! `MEMORA_TORTURE=N` makes the storm longer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{Create, ErrorCode, Fabric, FabricOptions, LockState, Notified, SignalKind, SignalState};
use memora_stress::random::Random;
use memora_testkit::fork::Child;
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE, Worker, tell};

const HOME: &str = "MEMORA_SIGNALS_HOME";
const PERMITS: u32 = 5;
const SHORT: Duration = Duration::from_millis(20);

fn open(home: &Path) -> Fabric {
    FabricOptions::new().home(home.to_path_buf()).limit(4 << 20).open("signals").expect("the fabric opens")
}

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-signals-").tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

fn spawn(home: &Path, role: &str) -> Worker {
    Worker::spawn("entry", role, &[(HOME, home.as_os_str() as &OsStr)])
}

#[track_caller]
fn assert_sound(fabric: &Fabric) {
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

/// Plays the others; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a home"));
    let fabric = open(&home);
    match role.as_str() {
        "storm" => storm(&fabric),
        "owner" => own(&fabric),
        "forker" => fork_with_all_held(&fabric, &home),
        "listener" => listen(&fabric),
        other => panic!("unknown role {other}"),
    }
}

/// Says when it has the lock and two permits, and keeps them until it is killed.
fn own(fabric: &Fabric) {
    let lock = fabric.lock("lock").expect("opened");
    let _guard = lock.lock().expect("locked");
    let _permits = fabric.semaphore("permits", PERMITS).expect("opened").acquire(2).expect("taken");
    tell("held");
    loop {
        std::thread::sleep(PATIENCE);
    }
}

#[test]
fn a_stopped_owner_keeps_what_it_holds_and_a_killed_one_does_not() {
    let home = home();
    let fabric = open(home.path());
    let lock = fabric.lock("lock").unwrap();
    let semaphore = fabric.semaphore("permits", PERMITS).unwrap();
    let mut owner = spawn(home.path(), "owner");
    owner.expect_line("held");
    assert!(owner.stop());
    assert!(lock.try_lock().unwrap().is_none());
    assert_eq!(lock.lock_timeout(SHORT).err().unwrap().code(), ErrorCode::TimedOut);
    assert!(semaphore.try_acquire(4).unwrap().is_none());
    assert_eq!(semaphore.acquire_timeout(4, SHORT).err().unwrap().code(), ErrorCode::TimedOut);
    drop(semaphore.acquire(3).unwrap());
    assert_eq!(lock.state().unwrap().owner.map(|(pid, _)| pid), Some(owner.pid()));
    assert_eq!(semaphore.state().unwrap().holders.len(), 1);
    // Who waits already has it as soon as the owner is dead.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| lock.lock_timeout(PATIENCE).unwrap().owner_died().unwrap());
        let wants = scope.spawn(|| semaphore.acquire_timeout(PERMITS, PATIENCE).unwrap().owner_died());
        std::thread::sleep(SHORT);
        assert!(Worker::was_killed(owner.kill()));
        assert!(waits.join().unwrap(), "told");
        assert!(wants.join().unwrap(), "told");
    });
    assert_sound(&fabric);
    let mut guard = lock.try_lock().unwrap().unwrap();
    assert!(guard.owner_died().unwrap(), "nobody said that all is whole");
    guard.mark_consistent().unwrap();
    guard.unlock().unwrap();
    assert_eq!(lock.state().unwrap(), LockState { owner: None, owner_died: false });
    assert!(!semaphore.acquire(PERMITS).unwrap().owner_died(), "one was told");
}

#[test]
fn a_thread_that_ends_leaves_its_lock_and_its_permits_to_the_next() {
    let home = home();
    let fabric = open(home.path());
    let (lock, semaphore) = (fabric.lock("lock").unwrap(), fabric.semaphore("permits", PERMITS).unwrap());
    std::thread::scope(|scope| {
        let left = scope.spawn(|| {
            std::mem::forget(lock.lock().unwrap());
            std::mem::forget(semaphore.acquire(PERMITS).unwrap());
        });
        left.join().unwrap();
    });
    assert!(lock.lock_timeout(PATIENCE).unwrap().owner_died().unwrap());
    assert!(semaphore.acquire_timeout(PERMITS, PATIENCE).unwrap().owner_died());
    assert_sound(&fabric);
}

/// Hears of each number, and says so.
fn listen(fabric: &Fabric) {
    let event = fabric.event("event").expect("opened");
    let counter = fabric.counter("counter").expect("opened");
    let mut seen = event.sequence().expect("read");
    tell("listens");
    loop {
        match event.wait(seen, Some(PATIENCE)).expect("notified") {
            Notified::All(sequence) => {
                seen = sequence;
                tell("all");
                if counter.get().expect("read") < 0 {
                    return;
                }
            }
            Notified::One => tell("one"),
        }
        counter.add(1).expect("counted");
    }
}

#[test]
fn processes_hear_of_each_notification() {
    let home = home();
    let fabric = open(home.path());
    let (event, counter) = (fabric.event("event").unwrap(), fabric.counter("counter").unwrap());
    let mut listeners = [spawn(home.path(), "listener"), spawn(home.path(), "listener")];
    listeners.iter_mut().for_each(|listener| drop(listener.expect_line("listens")));
    for round in 1..=20 {
        event.notify_all().unwrap();
        listeners.iter_mut().for_each(|listener| drop(listener.expect_line("all")));
        event.notify_one().unwrap();
        let heard = counter.wait_at_least(round * 3, Some(PATIENCE)).unwrap();
        assert_eq!((heard, event.pending().unwrap()), (round * 3, 0), "one of the two heard the second");
    }
    counter.set(-1000).unwrap();
    event.notify_all().unwrap();
    for listener in &mut listeners {
        listener.expect_line("all");
        listener.expect_success();
    }
}

fn fork_with_all_held(fabric: &Fabric, home: &Path) {
    let lock = fabric.lock("lock").expect("opened");
    let semaphore = fabric.semaphore("permits", PERMITS).expect("opened");
    let (event, counter) =
        (fabric.event("event").expect("opened"), fabric.counter("counter").expect("opened"));
    let (guard, permits) = (lock.lock().expect("locked"), semaphore.acquire(2).expect("taken"));
    let mut held = Some((guard, permits));
    let child = Child::fork(|| {
        let (guard, permits) = held.take().expect("the parent's");
        let forked = |code: Option<ErrorCode>| assert_eq!(code, Some(ErrorCode::Forked));
        forked(lock.try_lock().err().map(|error| error.code()));
        forked(lock.state().err().map(|error| error.code()));
        forked(guard.owner_died().err().map(|error| error.code()));
        forked(guard.unlock().err().map(|error| error.code()));
        forked(semaphore.try_acquire(1).err().map(|error| error.code()));
        forked(permits.release().err().map(|error| error.code()));
        forked(event.notify_all().err().map(|error| error.code()));
        forked(event.wait(0, Some(SHORT)).err().map(|error| error.code()));
        forked(counter.add(1).err().map(|error| error.code()));
        forked(fabric.lock("lock").err().map(|error| error.code()));
        // What it opens anew is its own, and the lock is the parent's.
        let own = open(home);
        assert!(own.lock("lock").expect("opened").try_lock().expect("looked").is_none());
        assert!(own.semaphore("permits", PERMITS).expect("opened").try_acquire(4).expect("looked").is_none());
    });
    child.expect_success();
    let (guard, permits) = held.take().expect("the parent's");
    assert!(!guard.owner_died().expect("its own"));
    guard.unlock().expect("its own");
    permits.release().expect("its own");
    assert_sound(fabric);
}

#[test]
fn a_forked_child_lets_go_of_nothing() {
    let home = home();
    spawn(home.path(), "forker").expect_success();
}

#[test]
fn a_signal_is_what_it_was_made_as() {
    let home = home();
    let fabric = open(home.path());
    fabric.event("event").unwrap();
    fabric.counter("counter").unwrap().add(3).unwrap();
    fabric.lock("lock").unwrap();
    fabric.semaphore("permits", PERMITS).unwrap();
    fabric.cache("cache").unwrap();
    for (name, kind) in
        [("event", "event"), ("counter", "counter"), ("permits", "semaphore"), ("cache", "cache")]
    {
        let error = fabric.lock(name).err().unwrap();
        assert_eq!(error.code(), ErrorCode::WrongKind);
        assert!(error.to_string().contains(&format!(" {kind}, not as a lock")), "{error}");
    }
    assert_eq!(fabric.cache("lock").err().unwrap().code(), ErrorCode::WrongKind);
    assert_eq!(fabric.open_channel("lock").err().unwrap().code(), ErrorCode::WrongKind);
    assert_eq!(fabric.semaphore("permits", 4).err().unwrap().code(), ErrorCode::WrongOptions);
    assert_eq!(fabric.semaphore("more", 0).err().unwrap().code(), ErrorCode::InvalidArgument);
    assert_eq!(fabric.open_semaphore("none").err().unwrap().code(), ErrorCode::NotFound);
    assert_eq!(fabric.open_semaphore("permits").unwrap().permits(), PERMITS);
    let listed: Vec<_> = fabric.objects().unwrap().into_iter().filter_map(|object| object.signal).collect();
    assert_eq!(listed.len(), 4);
    assert!(listed.contains(&SignalKind::Event) && listed.contains(&SignalKind::Semaphore), "{listed:?}");
    assert_eq!(fabric.signal_state("counter").unwrap(), SignalState::Counter(3));
    assert_eq!(fabric.signal_state("cache").err().unwrap().code(), ErrorCode::WrongKind);
    // Who may only read sees how they stand, and changes nothing.
    let options =
        FabricOptions::new().home(home.path().to_path_buf()).read_only(true).create(Create::OpenOnly);
    let reader = options.open("signals").unwrap();
    assert_eq!(reader.counter("counter").unwrap().get().unwrap(), 3);
    let refused = [
        reader.counter("counter").unwrap().add(1).err(),
        reader.event("event").unwrap().notify_one().err(),
        reader.event("event").unwrap().wait(0, Some(SHORT)).err(),
        reader.lock("lock").unwrap().try_lock().err(),
        reader.semaphore("permits", PERMITS).unwrap().try_acquire(1).err(),
        reader.lock("another").err(),
    ];
    for error in refused {
        assert_eq!(error.unwrap().code(), ErrorCode::ReadOnly);
    }
    fabric.close().unwrap();
    assert_eq!(fabric.lock("lock").err().unwrap().code(), ErrorCode::Closed);
}

/// Under the lock, two counters are the same, or the next owner is told.
fn storm(fabric: &Fabric) {
    let mut random = Random::new(&format!("storm{}", std::process::id()));
    let lock = fabric.lock("lock").expect("opened");
    let semaphore = fabric.semaphore("permits", PERMITS).expect("opened");
    let (one, two) = (fabric.counter("one").expect("opened"), fabric.counter("two").expect("opened"));
    let inside = fabric.counter("inside").expect("opened");
    tell("ready");
    loop {
        if let Ok(mut guard) = lock.lock_timeout(SHORT) {
            let before = one.get().expect("read");
            if guard.owner_died().expect("its own") {
                two.set(before).expect("mended");
                guard.mark_consistent().expect("its own");
            }
            assert_eq!(two.get().expect("read"), before, "half done, and nobody was told");
            assert_eq!(one.add(1).expect("added"), before + 1, "somebody else is inside");
            assert_eq!(two.add(1).expect("added"), before + 1, "somebody else is inside");
        }
        let count = 1 + random.draw(u64::from(PERMITS) - 1) as u32;
        if let Ok(permits) = semaphore.acquire_timeout(count, SHORT) {
            // What a dead one counted stays counted: an upper bound of those who are inside.
            let _counted = inside.add(i64::from(count)).expect("added");
            let more = semaphore.try_acquire(PERMITS - count);
            drop(more.expect("taken, or told that there are too few"));
            inside.add(-i64::from(count)).expect("added");
            drop(permits);
        }
    }
}

#[test]
fn locks_exclude_and_permits_come_back_in_a_storm() {
    let home = home();
    let fabric = open(home.path());
    fabric.semaphore("permits", PERMITS).unwrap();
    let start = || {
        let mut worker = spawn(home.path(), "storm");
        worker.expect_line("ready");
        worker
    };
    let mut workers: Vec<Worker> = (0..4).map(|_| start()).collect();
    let mut random = Random::new("storm");
    let (mut kills, end) = (0, Instant::now() + Duration::from_secs(4) * torture() as u32);
    while Instant::now() < end || kills < 5 {
        let which = random.draw(workers.len() as u64) as usize;
        if random.draw(3) == 0 {
            assert!(workers[which].stop(), "it ended by itself: {}", workers[which].errors());
            std::thread::sleep(Duration::from_millis(random.draw(100)));
            workers[which].resume();
        } else {
            let status = workers[which].kill();
            assert!(Worker::was_killed(status), "it ended by itself: {}", workers[which].errors());
            kills += 1;
            workers[which] = start();
        }
        let report = fabric.check().unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }
    for worker in &mut workers {
        assert!(Worker::was_killed(worker.kill()), "it ended by itself: {}", worker.errors());
    }
    let lock = fabric.lock("lock").unwrap();
    let guard = lock.lock_timeout(PATIENCE).unwrap();
    let (one, two) =
        (fabric.counter("one").unwrap().get().unwrap(), fabric.counter("two").unwrap().get().unwrap());
    assert!(one > 0 && (one == two || guard.owner_died().unwrap()), "{one} and {two}");
    let semaphore = fabric.open_semaphore("permits").unwrap();
    let all = semaphore.try_acquire(PERMITS).unwrap().expect("all are back");
    all.release().unwrap();
    drop(guard);
    assert_sound(&fabric);
    println!("{kills} kills, {one} times inside");
}
