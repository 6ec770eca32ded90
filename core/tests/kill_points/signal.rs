//! Victims on events, counters, locks and semaphores: what they hold passes on when they die, and stays theirs while they stand still.

use std::time::Duration;

use memora::shm::kill_point::hits;
use memora::{ErrorCode, Fabric, NamedLock, Notified, Permits, Result};
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::{PATIENCE, Worker};

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment};

pub const SCENARIO: Scenario = Scenario {
    role: "signal",
    covers: |name| name.starts_with("signal."),
    tries: 1,
    prepare,
    survive,
    conclude,
};

/// Permits of the semaphore: the movers and the victim never need all.
const PERMITS: u32 = 12;
/// A frozen owner keeps the lock: how long others wait.
const SHORT: Duration = Duration::from_millis(10);

/// Movers that stand at these points when the victim comes; all but the last are dead by then.
const OTHERS: [(&str, u64); 5] = [
    ("signal.permits.open", 2),
    ("signal.permits.moved", 3),
    ("signal.lock.taken", 1),
    ("signal.permits.before_move", 4),
    ("signal.permits.moved", 1),
];

fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = place.signals();
    fabric.lock("lock").expect("made");
    fabric.semaphore("permits", PERMITS).expect("made");
    let environment = environment(place);
    let freeze = |(name, nth)| {
        Victim::harm(ENTRY, "mover", &borrowed(&environment), (name, nth, Harm::Freeze))
            .unwrap_or_else(|| panic!("the mover does not reach {name}:{nth}"))
    };
    let mut others: Vec<Victim> = OTHERS.into_iter().map(freeze).collect();
    let frozen = others.pop().into_iter().collect();
    for victim in &mut others {
        assert!(Worker::was_killed(victim.worker().kill()), "a frozen process does nothing but die");
    }
    frozen
}

/// Takes two permits, gives them back, and locks, in between.
pub fn mover(place: &Place) {
    let fabric = place.signals();
    let semaphore = fabric.semaphore("permits", PERMITS).expect("opened");
    let kept = semaphore.acquire(1).expect("there are some");
    drop(semaphore.acquire(1).expect("there are some"));
    drop(fabric.lock("lock").expect("opened").try_lock().expect("looked"));
    kept.release().expect("its own");
}

pub fn victim(place: &Place) {
    let fabric = place.signals();
    for _ in 0..3 {
        work(&fabric, None);
    }
    // Who loses a race for the last permits takes its move back.
    let lost = || hits().iter().any(|(name, count)| *name == "signal.permits.before_cancel" && *count > 0);
    for _ in 0..200 {
        race(&fabric);
        if lost() {
            break;
        }
    }
}

/// Threads want more permits than there are.
fn race(fabric: &Fabric) {
    let narrow = fabric.semaphore("narrow", 3).expect("opened");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    drop(narrow.try_acquire(2).expect("taken, or told that there are too few"));
                }
            });
        }
    });
}

/// Does everything once. `blow`: what happened to the victim meanwhile, if this is a survivor.
fn work(fabric: &Fabric, blow: Option<Blow>) {
    let stands_still = blow.is_some_and(|blow| blow.harm == Harm::Freeze);
    let event = fabric.event("event").expect("opened");
    let seen = event.sequence().expect("read");
    assert!(event.notify_all().expect("notified") > seen);
    assert!(matches!(event.wait(seen, Some(PATIENCE)), Ok(Notified::All(_))), "it was notified");
    event.notify_one().expect("notified");
    // Nobody else waits, or it has notified itself.
    assert_eq!(event.wait(u64::MAX, Some(PATIENCE)), Ok(Notified::One));
    let counter = fabric.counter("ever").expect("opened");
    let value = counter.add(1).expect("added");
    assert!(counter.wait_at_least(value, Some(PATIENCE)).expect("there") >= value);
    guarded(fabric, &fabric.lock("lock").expect("opened"), stands_still);
    let semaphore = fabric.semaphore("permits", PERMITS).expect("opened");
    let mut held: Vec<Permits> = Vec::new();
    for count in [1, 2, 1] {
        held.push(semaphore.acquire_timeout(count, PATIENCE).expect("there are enough"));
    }
    drop(held);
    if let Some(two) = fabric.semaphore("narrow", 3).expect("opened").try_acquire(2).expect("looked") {
        two.release().expect("its own");
    } else {
        assert!(stands_still, "nobody holds permits");
    }
}

/// Under the lock two counters are the same, unless an owner died: then the next is told, and mends it.
fn guarded(fabric: &Fabric, lock: &NamedLock, others_stand_still: bool) {
    let (one, two) = (fabric.counter("one").expect("opened"), fabric.counter("two").expect("opened"));
    let locked = if others_stand_still { lock.lock_timeout(SHORT) } else { lock.lock_timeout(PATIENCE) };
    let mut guard = match locked {
        Err(error) if error.code() == ErrorCode::TimedOut && others_stand_still => return,
        locked => locked.expect("its owner is dead, or lets go"),
    };
    let values = || -> Result<(i64, i64)> { Ok((one.get()?, two.get()?)) };
    let (first, second) = values().expect("read");
    if guard.owner_died().expect("its own") {
        two.set(first).expect("mended");
        guard.mark_consistent().expect("its own");
    } else {
        assert_eq!(first, second, "half done, and nobody was told");
    }
    one.add(1).expect("added");
    two.add(1).expect("added");
    let (first, second) = values().expect("read");
    assert_eq!(first, second, "somebody else is inside");
    guard.unlock().expect("its own");
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("operations on the signals of the victim", move || {
        let fabric = root.signals();
        for _ in 0..2 {
            work(&fabric, Some(blow));
        }
    });
    let fabric = place.signals();
    within_patience("the check", move || check(&fabric, "with the victim"));
}

fn conclude(place: &Place) {
    let fabric = place.signals();
    check(&fabric, "after the victim");
    work(&fabric, None);
    // Nobody is left who could hold anything.
    let semaphore = fabric.open_semaphore("permits").expect("opened");
    let all = semaphore.try_acquire(PERMITS).expect("looked").expect("all are back");
    all.release().expect("its own");
    assert_eq!(semaphore.state().expect("read").free, PERMITS);
    let narrow = fabric.semaphore("narrow", 3).expect("opened");
    assert!(narrow.try_acquire(3).expect("looked").is_some(), "all are back");
    check(&fabric, "at the end");
}
