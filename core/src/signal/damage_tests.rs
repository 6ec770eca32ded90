//! What damaged or hostile content of a signal can do: errors and wrong numbers, nothing else.

use std::time::Duration;

use super::area::bytes;
use super::layout::control;
use super::testing::{THREADS, act_as, signal};
use super::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const KINDS: [SignalKind; 4] =
    [SignalKind::Event, SignalKind::Counter, SignalKind::Lock, SignalKind::Semaphore];

#[test]
fn any_content_gives_an_error_or_a_number_and_never_a_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut errors = 0;
    for round in 0..20_000 {
        act_as(1);
        let kind = KINDS[round % 4];
        let (stage, area) = signal(kind, if kind == SignalKind::Semaphore { 5 } else { 0 });
        let len = bytes(kind, THREADS);
        let all = area.shm.span(0, len).unwrap();
        for _ in 0..1 + next() % 4 {
            let at = if next() % 2 == 0 { 64 } else { next() % len } & !7;
            let value = match next() % 4 {
                0 => next(),
                1 => next() % 16,
                2 => ((next() % 4) << 30) | ((next() % 4) << 15) | (next() % 4) | ((next() % 4) << 32),
                _ => u64::MAX - next() % 4,
            };
            all.u64(at).unwrap().store(value, Relaxed);
        }
        if next() % 2 == 0 {
            stage.kill(2);
        }
        let mut note = |failed: bool| errors += u32::from(failed);
        let soon = Some(Duration::ZERO);
        match kind {
            SignalKind::Event => {
                let event = NamedEvent::from_area(area.clone());
                note(
                    event.notify_one().is_err()
                        || event.notify_all().is_err()
                        || event.wait(0, soon).is_err(),
                );
            }
            SignalKind::Counter => {
                let counter = NamedCounter::from_area(area.clone());
                note(counter.add(i64::MAX).is_err() || counter.wait_at_least(1, soon).is_err());
            }
            SignalKind::Lock => {
                let lock = NamedLock::from_area(area.clone());
                note(lock.state().is_err());
                note(lock.try_lock().map(drop).is_err());
                note(lock.held().map(drop).is_err());
            }
            SignalKind::Semaphore => {
                let semaphore = NamedSemaphore::from_area(area.clone());
                note(semaphore.state().is_err());
                note(semaphore.try_acquire(2).map(drop).is_err());
                note(semaphore.held(1).map(drop).is_err());
            }
        }
        for thread in 1..THREADS {
            note(inherit(&area, thread).is_err());
        }
        note(check(&area, &mut |_, _| {}).is_err() || check_taken_over(&area, &mut |_, _| {}).is_err());
        note(Area::open(area.shm.clone(), stage.clone(), 0, len, "t").is_err());
    }
    assert!(errors > 5_000, "{errors}");
}

#[test]
fn a_control_area_that_cannot_be_is_refused() {
    for kind in KINDS {
        let (stage, area) = signal(kind, if kind == SignalKind::Semaphore { 5 } else { 0 });
        let len = bytes(kind, THREADS);
        let open = |offset, len| Area::open(area.shm.clone(), stage.clone(), offset, len, "t");
        assert!(open(0, len).is_ok());
        let header = area.shm.block::<{ control::BYTES }>(0).unwrap();
        for (at, value) in
            [(0, 9u64), (0, u64::MAX), (8, 40_000), (8, u64::MAX), (0, (kind as u64) | 77 << 32)]
        {
            let word = header.u64_at::<0>(at / 8);
            let before = word.swap(value, Relaxed);
            assert_eq!(open(0, len).err().unwrap().code(), ErrorCode::Corrupt, "{kind:?}: {value} at {at}");
            word.store(before, Relaxed);
        }
        assert!(open(0, len - 8).is_err() && open(u64::MAX - 7, len).is_err());
    }
    for permits in [0, 32_768, u32::MAX] {
        assert_eq!(check_permits(permits).unwrap_err().code(), ErrorCode::InvalidArgument);
    }
}
