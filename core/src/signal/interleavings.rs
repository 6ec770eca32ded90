//! Every interleaving of handing over locks and permits, also from the dead, and of waiting, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::area::{Area, Ground};
use super::check::count;
use super::event::{Notified, look};
use super::layout::{MoveKind, Owner, SignalKind, control};
use super::permits::{self, Taken};
use super::testing::{Stage, THREADS, signal};
use super::{NamedEvent, lock};
use crate::shm::atomic::Ordering;

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.check(check);
}

fn stage(kind: SignalKind, permits: u32) -> (Arc<Stage>, Arc<Area>) {
    let (stage, area) = signal(kind, permits);
    // Every word, before the threads that share them.
    area.waiters().wake_all();
    area.ones().store(0, Ordering::Relaxed);
    if kind == SignalKind::Semaphore {
        for thread in 1..THREADS {
            area.permits_of(thread).unwrap();
        }
    }
    (stage, area)
}

fn owner(thread: u16) -> Owner {
    Owner { thread, generation: 0 }
}

fn spawn<T: 'static>(
    area: &Arc<Area>,
    act: impl FnOnce(&Area) -> T + 'static,
) -> loom::thread::JoinHandle<T> {
    let area = Arc::clone(area);
    loom::thread::spawn(move || act(&area))
}

/// The value of the wait word, as a sleeper sees it.
fn wait_value(area: &Area) -> u32 {
    area.shm.block::<{ control::BYTES }>(0).unwrap().u32::<{ control::WAIT }>().load(Ordering::Relaxed)
}

/// Looks once and, if there is nothing, goes to sleep: what it sleeps on.
fn sleep<T>(area: &Area, look: impl Fn() -> Option<T>) -> Result<T, u32> {
    let armed = area.waiters().arm();
    look().ok_or(armed)
}

/// An owner dies; two others and an heir find the lock: one of them has it and is told, and sees what the dead one did.
#[test]
fn one_takes_the_lock_of_the_dead_and_is_told() {
    model(3, || {
        let (stage, area) = stage(SignalKind::Lock, 0);
        let dead = spawn(&area, |area| {
            lock::try_take(area, owner(1), false).unwrap().expect("free");
            // What the lock guards: any word that nobody else uses here.
            area.ones().store(7, Ordering::Relaxed);
        });
        dead.join().unwrap();
        stage.kill(1);
        let try_it = |thread: u16| {
            move |area: &Area| {
                let taken = lock::try_take(area, owner(thread), true).unwrap()?;
                assert!(taken.died());
                assert_eq!(area.ones().load(Ordering::Relaxed), 7);
                Some(taken)
            }
        };
        let (two, three) = (spawn(&area, try_it(2)), spawn(&area, try_it(3)));
        lock::inherit(&area, 1).unwrap();
        let taken = [two.join().unwrap(), three.join().unwrap()];
        assert_eq!(taken.iter().flatten().count(), 1, "{taken:?}");
    });
}

/// A slow heir of an owner that is dead, and whose entry is another's by now, who locks and lets go: nothing is taken from the living.
#[test]
fn a_slow_heir_takes_no_lock_from_the_living() {
    model(3, || {
        let (stage, area) = stage(SignalKind::Lock, 0);
        lock::try_take(&area, owner(1), false).unwrap().expect("free");
        stage.kill(1);
        let slow = spawn(&area, |area| lock::inherit(area, 1).unwrap());
        let next = spawn(&area, |area| {
            let Some(_) = lock::try_take(area, owner(2), true).unwrap() else { return false };
            lock::let_go(area, owner(2)).expect("it is its own");
            true
        });
        slow.join().unwrap();
        assert!(next.join().unwrap(), "free, or its owner dead");
        assert!(lock::try_take(&area, owner(3), false).unwrap().expect("free").died());
    });
}

/// Who waits for a lock that is let go gets it or is woken.
#[test]
fn who_waits_for_a_lock_gets_it_or_is_woken() {
    model(3, || {
        let (_stage, area) = stage(SignalKind::Lock, 0);
        lock::try_take(&area, owner(1), false).unwrap().expect("free");
        let waits = |thread| {
            move |area: &Area| {
                sleep(area, || lock::try_take(area, owner(thread), false).unwrap()).map(|_| thread)
            }
        };
        let (two, three) = (spawn(&area, waits(2)), spawn(&area, waits(3)));
        lock::let_go(&area, owner(1)).unwrap();
        let ends = [two.join().unwrap(), three.join().unwrap()];
        let owners: Vec<u16> = ends.iter().flatten().copied().collect();
        assert!(owners.len() <= 1, "{owners:?} have the lock");
        for armed in ends.iter().filter_map(|end| end.err()) {
            match owners.first() {
                // It armed before or after the release; in the second case the new owner wakes it.
                Some(owner_now) => {
                    lock::let_go(&area, owner(*owner_now)).unwrap();
                    assert_ne!(wait_value(&area), armed, "asleep for ever");
                }
                None => assert_ne!(wait_value(&area), armed, "asleep for ever"),
            }
        }
    });
}

/// One notification for one, two who wait: one has taken it, or is woken to take it; nobody else ends.
#[test]
fn one_of_those_who_wait_takes_a_notification_for_one() {
    for all in [false, true] {
        model(3, move || {
            let (_stage, area) = stage(SignalKind::Event, 0);
            let waits = |area: &Area| sleep(area, || look(area, 0));
            let (two, three) = (spawn(&area, waits), spawn(&area, waits));
            let event = NamedEvent::from_area(area.clone());
            if all {
                event.notify_all().unwrap();
            } else {
                event.notify_one().unwrap();
            }
            let ends = [two.join().unwrap(), three.join().unwrap()];
            let notified: Vec<Notified> = ends.iter().flatten().copied().collect();
            for armed in ends.iter().filter_map(|end| end.err()) {
                // Asleep although a notification is left for it: it is woken.
                if all || notified.is_empty() {
                    assert_ne!(wait_value(&area), armed, "asleep for ever");
                }
            }
            if !all {
                let left = area.ones().load(Ordering::Relaxed);
                assert_eq!(notified.len() as u64 + left, 1, "{notified:?}");
            }
        });
    }
}

/// Takes or gives one permit as the functions do, up to a step: 1 opened, 2 moved, 3 closed. The thread dies after it.
fn up_to(area: &Area, me: u16, kind: MoveKind, steps: u32) {
    let cell = area.permits_of(me).unwrap();
    let open = permits::open(area, me, cell, kind, 1).unwrap();
    for _ in 0..if steps == 2 { 10 } else { 0 } {
        let pool = area.pool().unwrap();
        permits::help(area, pool).unwrap();
        let Some(next) = permits::moved(area, pool, me, open).unwrap() else { return };
        if area.change_pool(pool, next) {
            return;
        }
    }
    if steps == 3 {
        permits::carry_out(area, me, open).unwrap();
    }
}

#[track_caller]
fn assert_whole(area: &Area, free: u32) {
    let (pool, held) = count(area).unwrap().expect("nobody moves permits");
    assert_eq!((pool.free(), pool.free() + held), (free, area.permits));
}

/// The thread 1, which had a permit for longer, died at a step of a move; its heirs are done: every permit but those that thread 2
/// took is free, each once, and the next who takes is told.
fn assert_taken_over(area: &Area, kind: MoveKind, steps: u32, told: bool) {
    assert_whole(area, 2);
    let Taken::Now { owner_died } = permits::take(area, 3, 2).unwrap() else { panic!("two are free") };
    // A thread that gave back all it had died with nothing.
    if kind == MoveKind::Take || steps == 1 {
        assert!(owner_died || told);
    }
    assert_whole(area, 0);
}

const MOVES: [(MoveKind, u32); 6] = [
    (MoveKind::Take, 1),
    (MoveKind::Take, 2),
    (MoveKind::Take, 3),
    (MoveKind::Give, 1),
    (MoveKind::Give, 2),
    (MoveKind::Give, 3),
];

/// Another takes a permit: whether it was told of a death.
fn take_one(area: &Area) -> bool {
    match permits::take(area, 2, 1).unwrap() {
        Taken::Now { owner_died } => owner_died,
        Taken::TooFew => panic!("there is one for each"),
    }
}

/// A thread moves a permit and dies at any step while another takes one; its heir does not wait for the other.
#[test]
fn permits_of_a_thread_that_dies_beside_another_come_back_once() {
    for (kind, steps) in MOVES {
        model(3, move || {
            let (stage, area) = stage(SignalKind::Semaphore, 3);
            assert!(matches!(permits::take(&area, 1, 1).unwrap(), Taken::Now { .. }));
            let victim = spawn(&area, move |area| up_to(area, 1, kind, steps));
            let other = spawn(&area, take_one);
            victim.join().unwrap();
            stage.kill(1);
            permits::inherit(&area, 1, || true).unwrap();
            let told = other.join().unwrap();
            assert_taken_over(&area, kind, steps, told);
        });
    }
}

/// Two heirs of a thread that died at any step of a move, and another who takes a permit meanwhile.
#[test]
fn permits_of_the_dead_come_back_once_to_two_heirs() {
    for (kind, steps) in MOVES {
        model(2, move || {
            let (stage, area) = stage(SignalKind::Semaphore, 3);
            assert!(matches!(permits::take(&area, 1, 1).unwrap(), Taken::Now { .. }));
            up_to(&area, 1, kind, steps);
            stage.kill(1);
            let late = spawn(&area, |area| permits::inherit(area, 1, || true).unwrap());
            let other = spawn(&area, take_one);
            permits::inherit(&area, 1, || true).unwrap();
            late.join().unwrap();
            let told = other.join().unwrap();
            assert_taken_over(&area, kind, steps, told);
        });
    }
}

/// An heir that only wanted permits is slow; the reaper is not, and the entry is the next thread's, who takes at once: it keeps what
/// it took.
#[test]
fn a_slow_heir_takes_no_permits_from_the_next_thread() {
    model(2, || {
        let (stage, area) = stage(SignalKind::Semaphore, 2);
        assert!(matches!(permits::take(&area, 1, 1).unwrap(), Taken::Now { .. }));
        stage.kill(1);
        let slow = {
            let (area, stage) = (area.clone(), stage.clone());
            loom::thread::spawn(move || {
                permits::inherit(&area, 1, || stage.thread_is_dead(1)).unwrap();
            })
        };
        permits::inherit(&area, 1, || true).unwrap();
        stage.replace(1);
        assert!(matches!(permits::take(&area, 1, 2).unwrap(), Taken::Now { owner_died: true }));
        slow.join().unwrap();
        assert_eq!(area.permits_of(1).unwrap().held(), 2);
        assert_whole(&area, 0);
    });
}

/// Who waits for a permit that is given back has it or is woken.
#[test]
fn who_waits_for_a_permit_has_it_or_is_woken() {
    model(3, || {
        let (_stage, area) = stage(SignalKind::Semaphore, 1);
        assert!(matches!(permits::take(&area, 1, 1).unwrap(), Taken::Now { .. }));
        let waiter = spawn(&area, |area| {
            sleep(area, || Some(permits::take(area, 2, 1).unwrap()).filter(|taken| *taken != Taken::TooFew))
        });
        permits::give(&area, 1, 1).unwrap();
        match waiter.join().unwrap() {
            Ok(_) => assert_whole(&area, 0),
            Err(armed) => assert_ne!(wait_value(&area), armed, "asleep for ever"),
        }
    });
}
