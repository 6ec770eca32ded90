//! Every invariant of a signal, live or dead.

use super::area::Area;
use super::layout::{MoveKind, PoolWord, SignalKind};
use crate::error::Result;

/// Looks at a semaphore before it is taken to change all the time.
const ROUNDS: u32 = 1000;

/// Says what is wrong with the signal by calling `problem` with what and where.
pub(crate) fn check(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let place = || format!("{} `{}`", area.kind.name(), area.name);
    match area.kind {
        // Any content is a number.
        SignalKind::Event | SignalKind::Counter => {}
        SignalKind::Lock => {
            if let Err(error) = area.lock_word() {
                problem(error.detail().to_owned(), place());
            }
        }
        SignalKind::Semaphore => match count(area) {
            Err(error) => problem(error.detail().to_owned(), place()),
            Ok(Some((pool, held))) if pool.free() + held != area.permits => {
                problem(
                    format!("{} permits are free and {held} held, of {}", pool.free(), area.permits),
                    place(),
                );
            }
            Ok(_) => {}
        },
    }
    Ok(())
}

/// What only holds once all who died were taken over from, and nobody else is at work.
pub(crate) fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let place = || format!("{} `{}`", area.kind.name(), area.name);
    match area.kind {
        SignalKind::Event | SignalKind::Counter => {}
        SignalKind::Lock => {
            if let Some(owner) = area.lock_word()?.owner()
                && area.is_gone(owner)
            {
                problem(format!("{owner:?} is dead and still holds it"), place());
            }
        }
        SignalKind::Semaphore => {
            for thread in 1..area.threads {
                let cell = area.permits_of(thread)?;
                if (cell.held() > 0 || cell.kind() != MoveKind::None) && area.ground.thread_is_dead(thread) {
                    problem(format!("thread {thread} is dead and still has {cell:?}"), place());
                }
            }
        }
    }
    Ok(())
}

/// The pool's word, and the permits in all cells at the instant when it stood there; none if it never stood long enough. What counts
/// in a cell does not change while the word stands.
pub(super) fn count(area: &Area) -> Result<Option<(PoolWord, u32)>> {
    for _ in 0..ROUNDS {
        let pool = area.pool()?;
        let mut held = 0u32;
        for thread in 1..area.threads {
            let cell = area.permits_of(thread)?;
            let took_place = pool.mover() == thread && pool.number() == cell.number();
            let counts = if took_place { cell.held_after().unwrap_or(0) } else { cell.held() };
            held = held.saturating_add(counts);
        }
        if area.pool()? == pool {
            return Ok(Some((pool, held)));
        }
    }
    Ok(None)
}
