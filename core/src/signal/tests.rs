//! What each signal promises, on threads that the test declares dead.

use std::time::Duration;

use super::check::count;
use super::layout::{CellWord, MoveKind, Owner, PoolWord};
use super::testing::{Stage, act_as, signal};
use super::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;
use std::sync::Arc;

const SOON: Option<Duration> = Some(Duration::from_millis(5));
const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Option<Duration> = Some(PATIENCE);

fn lock() -> (Arc<Stage>, NamedLock, Arc<Area>) {
    act_as(1);
    let (stage, area) = signal(SignalKind::Lock, 0);
    (stage, NamedLock::from_area(area.clone()), area)
}

fn semaphore(permits: u32) -> (Arc<Stage>, NamedSemaphore, Arc<Area>) {
    act_as(1);
    let (stage, area) = signal(SignalKind::Semaphore, permits);
    (stage, NamedSemaphore::from_area(area.clone()), area)
}

/// All permits are somewhere, and the check agrees.
#[track_caller]
fn assert_whole(area: &Area, free: u32) {
    let (pool, held) = count(area).unwrap().expect("nobody moves permits");
    assert_eq!((pool.free(), pool.free() + held), (free, area.permits));
    check(area, &mut |what, place| panic!("{place}: {what}")).unwrap();
}

#[test]
fn a_wait_ends_by_what_came_after_the_look_and_by_nothing_else() {
    let (_stage, area) = signal(SignalKind::Event, 0);
    let event = NamedEvent::from_area(area);
    let seen = event.sequence().unwrap();
    assert_eq!(event.wait(seen, Some(Duration::ZERO)).unwrap_err().code(), ErrorCode::TimedOut);
    assert_eq!(event.notify_all().unwrap(), 1);
    assert_eq!(event.wait(seen, None).unwrap(), Notified::All(1), "between the look and the wait");
    assert_eq!(event.wait(seen, None).unwrap(), Notified::All(1), "for all who looked before");
    assert_eq!(event.wait(1, SOON).unwrap_err().code(), ErrorCode::TimedOut, "it is known by now");
    event.notify_one().unwrap();
    event.notify_one().unwrap();
    assert_eq!(event.pending().unwrap(), 2);
    assert_eq!(event.wait(1, SOON).unwrap(), Notified::One);
    event.notify_all().unwrap();
    assert_eq!(event.wait(1, SOON).unwrap(), Notified::All(2), "the sequence comes first");
    assert_eq!(event.wait(2, SOON).unwrap(), Notified::One);
    assert_eq!(event.wait(2, SOON).unwrap_err().code(), ErrorCode::TimedOut);
}

#[test]
fn each_notification_for_one_ends_one_wait() {
    const EACH: u64 = 300;
    let (_stage, area) = signal(SignalKind::Event, 0);
    let event = NamedEvent::from_area(area);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| (0..).take_while(|_| event.wait(0, LONG) == Ok(Notified::One)).count() as u64)
            })
            .collect();
        for number in 0..EACH {
            event.notify_one().unwrap();
            if number % 50 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        while event.pending().unwrap() > 0 {
            std::thread::yield_now();
        }
        event.notify_all().unwrap();
        assert_eq!(waiters.into_iter().map(|waiter| waiter.join().unwrap()).sum::<u64>(), EACH);
    });
}

#[test]
fn a_counter_counts_and_wakes_who_waits_for_it() {
    let (_stage, area) = signal(SignalKind::Counter, 0);
    let counter = NamedCounter::from_area(area);
    assert_eq!((counter.add(5).unwrap(), counter.add(-7).unwrap()), (5, -2));
    assert_eq!((counter.set(10).unwrap(), counter.get().unwrap()), (-2, 10));
    assert_eq!(counter.compare_and_swap(9, 1).unwrap(), 10, "refused");
    assert_eq!(counter.compare_and_swap(10, i64::MAX).unwrap(), 10, "done");
    assert_eq!(counter.add(1).unwrap(), i64::MIN, "it wraps");
    counter.set(0).unwrap();
    assert_eq!(counter.wait_at_least(1, SOON).unwrap_err().code(), ErrorCode::TimedOut);
    assert_eq!(counter.wait_changed(0, SOON).unwrap_err().code(), ErrorCode::TimedOut);
    std::thread::scope(|scope| {
        let least = scope.spawn(|| counter.wait_at_least(2000, LONG).unwrap());
        let changed = scope.spawn(|| counter.wait_changed(0, LONG).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..2 {
            scope.spawn(|| (0..1000).for_each(|_| assert!(counter.add(1).unwrap() > 0)));
        }
        assert_eq!(least.join().unwrap(), 2000);
        assert_ne!(changed.join().unwrap(), 0);
    });
}

#[test]
fn a_lock_has_one_owner_who_may_not_lock_it_again() {
    let (_stage, lock, _area) = lock();
    let guard = lock.lock().unwrap();
    assert!(!guard.owner_died().unwrap());
    assert_eq!(lock.state().unwrap(), LockState { owner: Some((0, 1)), owner_died: false });
    for refused in [lock.lock().err(), lock.try_lock().err(), lock.lock_timeout(SOON.unwrap()).err()] {
        assert_eq!(refused.unwrap().code(), ErrorCode::WouldDeadlock);
    }
    act_as(2);
    assert!(lock.try_lock().unwrap().is_none());
    assert_eq!(lock.lock_timeout(SOON.unwrap()).err().unwrap().code(), ErrorCode::TimedOut);
    assert_eq!(lock.held().err().unwrap().code(), ErrorCode::NotOwner);
    guard.unlock().unwrap();
    drop(lock.lock().unwrap());
    lock.lock().unwrap().keep();
    lock.held().unwrap().unlock().unwrap();
    assert_eq!(lock.state().unwrap(), LockState { owner: None, owner_died: false });
}

#[test]
fn a_lock_excludes() {
    let (_stage, lock, _area) = lock();
    let within = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        for thread in 1..=3 {
            let (lock, within) = (&lock, &within);
            scope.spawn(move || {
                act_as(thread);
                for _ in 0..2000 {
                    let guard = lock.lock().unwrap();
                    drop(within.try_lock().expect("one at a time"));
                    drop(guard);
                }
            });
        }
    });
    assert!(lock.try_lock().unwrap().is_some());
}

#[test]
fn who_locks_after_a_death_is_told_until_somebody_says_that_all_is_whole() {
    for reaped in [false, true] {
        let (stage, lock, area) = lock();
        std::mem::forget(lock.lock().unwrap());
        stage.kill(1);
        if reaped {
            inherit(&area, 1).unwrap();
            inherit(&area, 1).unwrap();
            assert_eq!(lock.state().unwrap(), LockState { owner: None, owner_died: true });
        }
        act_as(2);
        let guard = lock.lock_timeout(PATIENCE).unwrap();
        assert!(guard.owner_died().unwrap());
        guard.unlock().unwrap();
        act_as(3);
        let mut guard = lock.try_lock().unwrap().expect("free");
        assert!(guard.owner_died().unwrap(), "nobody said that it is whole");
        guard.mark_consistent().unwrap();
        assert!(!guard.owner_died().unwrap());
        drop(guard);
        assert!(!lock.lock().unwrap().owner_died().unwrap());
    }
}

#[test]
fn an_owner_whose_entry_is_anothers_by_now_is_gone() {
    let (stage, lock, area) = lock();
    std::mem::forget(lock.lock().unwrap());
    // The reaper met damage elsewhere, say: nobody took the lock over.
    stage.kill(1);
    stage.replace(1);
    let guard = lock.lock_timeout(PATIENCE).unwrap();
    assert!(guard.owner_died().unwrap(), "the same entry, and another thread");
    // A reaper that is slow, and one that comes for another, take nothing from the living.
    inherit(&area, 2).unwrap();
    guard.unlock().unwrap();
}

#[test]
fn permits_are_taken_and_given_back() {
    let (_stage, semaphore, area) = semaphore(5);
    let two = semaphore.acquire(2).unwrap();
    let three = semaphore.try_acquire(3).unwrap().expect("there are three");
    assert_eq!((two.count(), three.count(), three.owner_died()), (2, 3, false));
    assert_whole(&area, 0);
    assert_eq!(semaphore.acquire(1).err().unwrap().code(), ErrorCode::WouldDeadlock);
    act_as(2);
    assert!(semaphore.try_acquire(1).unwrap().is_none());
    let refused = semaphore.acquire_timeout(1, SOON.unwrap()).err().unwrap();
    assert_eq!(refused.code(), ErrorCode::TimedOut);
    assert_eq!(semaphore.held(1).err().unwrap().code(), ErrorCode::NotOwner);
    for wrong in [0, 6] {
        assert_eq!(semaphore.acquire(wrong).err().unwrap().code(), ErrorCode::InvalidArgument);
    }
    two.release().unwrap();
    assert_whole(&area, 2);
    let one = semaphore.acquire(1).unwrap();
    let state = semaphore.state().unwrap();
    assert_eq!((state.permits, state.free, state.holders), (5, 1, vec![((0, 1), 3), ((0, 2), 1)]));
    drop((three, one));
    assert_whole(&area, 5);
}

#[test]
fn permits_of_the_dead_come_back_and_one_is_told() {
    for reaped in [false, true] {
        let (stage, semaphore, area) = semaphore(5);
        std::mem::forget((semaphore.acquire(2).unwrap(), semaphore.acquire(1).unwrap()));
        act_as(2);
        semaphore.acquire(1).unwrap().keep();
        let held = semaphore.held(1).unwrap();
        stage.kill(1);
        if reaped {
            inherit(&area, 1).unwrap();
            inherit(&area, 1).unwrap();
            assert_whole(&area, 4);
        }
        act_as(3);
        let four = semaphore.acquire_timeout(4, PATIENCE).unwrap();
        assert!(four.owner_died());
        assert_whole(&area, 0);
        drop(four);
        assert!(!semaphore.acquire(1).unwrap().owner_died(), "one was told");
        held.release().unwrap();
        assert_whole(&area, 5);
    }
}

/// In thread-local storage: its entry was given up before it was dropped.
#[test]
fn a_guard_that_outlives_its_threads_entry_gives_nothing_back() {
    let (stage, semaphore, area) = semaphore(3);
    let old = semaphore.acquire(2).unwrap();
    inherit(&area, 1).unwrap();
    stage.replace(1);
    let next = semaphore.acquire(3).unwrap();
    assert_eq!(old.release().unwrap_err().code(), ErrorCode::NotOwner);
    assert_eq!(area.permits_of(1).unwrap().held(), 3);
    next.release().unwrap();
    assert_whole(&area, 3);
}

#[test]
fn slow_heirs_take_nothing_from_the_next_holder_of_the_entry() {
    let (stage, semaphore, area) = semaphore(3);
    std::mem::forget(semaphore.acquire(2).unwrap());
    stage.kill(1);
    // Another wants permits, has seen the dead one's cell, and is slow; the reaper is not.
    inherit(&area, 1).unwrap();
    stage.replace(1);
    let living = semaphore.acquire(3).unwrap();
    assert!(!permits::inherit(&area, 1, || area.ground.thread_is_dead(1)).unwrap());
    assert!(!permits::inherit_dead(&area).unwrap());
    assert_eq!(area.permits_of(1).unwrap().held(), 3);
    assert!(living.owner_died());
    living.release().unwrap();
    assert_whole(&area, 3);
}

#[test]
fn heirs_wake_who_waits_for_the_dead() {
    let (stage, lock, area) = lock();
    std::mem::forget(lock.lock().unwrap());
    let (stage_too, semaphore, area_too) = semaphore(1);
    std::mem::forget(semaphore.acquire(1).unwrap());
    stage.kill(1);
    stage_too.kill(1);
    for area in [area, area_too] {
        let armed = area.waiters().arm();
        inherit(&area, 1).unwrap();
        // A futex does not sleep on a word that has changed since.
        let word =
            area.shm.block::<{ layout::control::BYTES }>(0).unwrap().u32::<{ layout::control::WAIT }>();
        assert_ne!(word.load(Relaxed), armed);
    }
}

#[test]
fn who_gives_permits_back_keeps_nobody_from_being_told_of_a_death() {
    let (stage, semaphore, area) = semaphore(3);
    std::mem::forget(semaphore.acquire(1).unwrap());
    act_as(2);
    let held = semaphore.acquire(1).unwrap();
    stage.kill(1);
    inherit(&area, 1).unwrap();
    held.release().unwrap();
    assert!(semaphore.acquire(3).unwrap().owner_died());
    assert!(!semaphore.acquire(3).unwrap().owner_died());
}

/// Stores words as they stand after a death at that step.
fn arrange(area: &Area, pool: PoolWord, thread: u16, cell: CellWord) {
    area.word().store(pool.0, Relaxed);
    area.cell(thread).unwrap().store(cell.0, Relaxed);
}

#[test]
fn whatever_step_a_thread_dies_at_its_permits_are_in_one_place() {
    use MoveKind::{Give, Return, Take};
    let cell = |held, moving, kind, number| CellWord::new(held, moving, kind, number);
    let pool = |free, mover, number| PoolWord::new(free, false, mover, number);
    // Of 4 permits thread 1 holds 1, thread 2 none; what thread 1 was at, and what the pool says.
    let steps = [
        (pool(3, 1, 7), cell(1, 2, Take, 8), "a take that did not take place"),
        (pool(1, 1, 8), cell(1, 2, Take, 8), "one that did"),
        (pool(3, 2, 8), cell(1, 2, Take, 8), "another's move of the same number"),
        (pool(3, 1, 7), cell(1, 1, Give, 8), "permits that were not given back"),
        (pool(4, 1, 8), cell(1, 1, Give, 8), "permits that were"),
        (pool(3, 1, 7), cell(1, 1, Return, 8), "an heir that died before"),
        (pool(4, 1, 8), cell(1, 1, Return, 8), "an heir that died after"),
    ];
    for (pool, cell, what) in steps {
        for next_moves_first in [false, true] {
            let (stage, semaphore, area) = semaphore(4);
            arrange(&area, pool, 1, cell);
            check(&area, &mut |problem, place| panic!("{what}: {place}: {problem}")).unwrap();
            stage.kill(1);
            act_as(2);
            if next_moves_first {
                drop(semaphore.acquire(1).unwrap());
            }
            inherit(&area, 1).unwrap();
            let all = semaphore.try_acquire(4).unwrap();
            assert!(all.is_some(), "{what}");
            drop(all);
            assert_whole(&area, 4);
        }
    }
}

#[test]
fn damaged_owners_and_permits_are_found() {
    let found = |area: &Area| {
        let mut problems = Vec::new();
        check(area, &mut |what, _| problems.push(what)).unwrap();
        problems
    };
    let (stage, _lock, area) = lock();
    area.word().store(u64::MAX, Relaxed);
    assert_eq!(found(&area).len(), 1);
    area.word().store(layout::LockWord::held(Owner { thread: 2, generation: 0 }, false).0, Relaxed);
    assert!(found(&area).is_empty());
    stage.kill(2);
    let mut problems = 0;
    check_taken_over(&area, &mut |_, _| problems += 1).unwrap();
    assert_eq!(problems, 1, "nobody took over");
    let (stage, semaphore, area) = semaphore(4);
    std::mem::forget(semaphore.acquire(1).unwrap());
    area.word().store(PoolWord::new(4, false, 0, 0).0, Relaxed);
    assert_eq!(found(&area), ["4 permits are free and 1 held, of 4"]);
    stage.kill(1);
    check_taken_over(&area, &mut |_, _| problems += 1).unwrap();
    assert_eq!(problems, 2);
}
