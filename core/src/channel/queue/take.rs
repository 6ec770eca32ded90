//! Intents: how others can tell what a consumer has taken when it died in the midst of taking.
//!
//! 1. The taker prepares copies in its hand behind the tail, where nobody sees them.
//! 2. It stores in its entry the *source*, which is the word that it is about to change, the *target*, which is what the word becomes, and
//!    the tail that its hand has then; and opens its intent.
//! 3. If the source names another consumer as the last who changed it, it notes in the intent of that one, if it is still about
//!    this very change, that it has taken ([`help`]).
//! 4. It changes the source to the target by compare-and-swap. From here on the messages are in its hand.
//! 5. It moves its tail and closes the intent. If step 4 failed it only closes it.
//!
//! A target is unique: a head's position never comes again, and neither does a cell's number with its deliveries. So a dead taker has
//! taken if its source holds its target, or if its intent was noted as taken by who changed the source afterwards (step 3 comes
//! before step 4). [`settle`] looks in that order and finishes step 5 for it. A stopped consumer that comes late to any step finds the intent
//! under another number, or the word changed.

use super::super::area::Area;
use super::super::layout::SubState;
use super::EntryBlock;
use super::layout::{Intent, Phase, consumer};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

/// What a taker says beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the word stands that it is about to change.
    pub source: u64,
    /// What that word becomes.
    pub target: u64,
    /// The tail of its hand then.
    pub until: u64,
}

/// The owner's intent as it stands.
#[inline]
pub fn current(entry: EntryBlock<'_>) -> Intent {
    // ORDER Acquire [intent]: the plan that belongs to it, and that of who helped.
    Intent(entry.u64::<{ consumer::INTENT }>().load(Ordering::Acquire))
}

/// The owner opens its next intent. Gives it.
#[inline(always)]
pub fn open(entry: EntryBlock<'_>, last: Intent, plan: Plan) -> Intent {
    // ORDER Release [intent]: the last intent was closed before its plan is overwritten; pairs with the fence in `read`.
    fence(Ordering::Release);
    // ORDER Relaxed: the store of the intent orders them.
    entry.u64::<{ consumer::SOURCE }>().store(plan.source, Ordering::Relaxed);
    entry.u64::<{ consumer::TARGET }>().store(plan.target, Ordering::Relaxed);
    entry.u64::<{ consumer::UNTIL }>().store(plan.until, Ordering::Relaxed);
    let intent = last.next();
    kill_point!("channel.take.before_open");
    // ORDER Release [intent]: the plan, and what was prepared in the hand.
    entry.u64::<{ consumer::INTENT }>().store(intent.0, Ordering::Release);
    // DIES AFTER: nothing was taken: who settles finds another word in the source.
    kill_point!("channel.take.open");
    intent
}

/// The owner has shown what it took, or has taken nothing.
#[inline(always)]
pub fn close(entry: EntryBlock<'_>, intent: Intent) -> Intent {
    let closed = intent.to(Phase::None);
    // ORDER Release [intent]: the tail.
    entry.u64::<{ consumer::INTENT }>().store(closed.0, Ordering::Release);
    kill_point!("channel.take.closed");
    closed
}

/// The plan of an intent that is not closed; None if it is closed, or another one meanwhile.
fn read(entry: EntryBlock<'_>, intent: Intent) -> Option<Plan> {
    // ORDER Relaxed: validated below.
    let plan = Plan {
        source: entry.u64::<{ consumer::SOURCE }>().load(Ordering::Relaxed),
        target: entry.u64::<{ consumer::TARGET }>().load(Ordering::Relaxed),
        until: entry.u64::<{ consumer::UNTIL }>().load(Ordering::Relaxed),
    };
    // ORDER Acquire [intent]: pairs with the fence in `open`: who loaded a word of a later plan sees that this intent is closed.
    fence(Ordering::Acquire);
    // ORDER Relaxed: the fence orders it.
    let now = Intent(entry.u64::<{ consumer::INTENT }>().load(Ordering::Relaxed));
    (now == intent || now == intent.to(Phase::Taken)).then_some(plan)
}

/// The word at `source` holds `value`, which says that the consumer `taker` (its number + 1, 0 nobody) changed it last, and the caller
/// is about to change it: first makes sure that others can tell afterwards that it was taken.
#[inline]
pub fn help(area: &Area, taker: u8, source: u64, value: u64) -> Result<()> {
    if taker == 0 {
        return Ok(());
    }
    let entry = area.entry(u32::from(taker) - 1)?;
    let seen = current(entry);
    if seen.phase() != Some(Phase::Open) {
        return Ok(());
    }
    let Some(plan) = read(entry, seen) else { return Ok(()) };
    if (plan.source, plan.target) == (source, value) {
        kill_point!("channel.help.before");
        // ORDER AcqRel [intent]: comes before the caller's change of the source. A failure means that it was noted or closed already.
        let _ = entry.u64::<{ consumer::INTENT }>().compare_exchange(
            seen.0,
            seen.to(Phase::Taken).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        kill_point!("channel.help.noted");
    }
    Ok(())
}

/// Finishes the taking that a dead consumer was at, whose entry has the state `dead`: shows what it took, or forgets it. Repeating it is
/// harmless, also at the same time, and also when the entry has another owner by then. `cells` is how many a hand has.
pub fn settle(area: &Area, index: u32, dead: SubState, cells: u64) -> Result<()> {
    let entry = area.entry(index)?;
    // Each round that fails is one step of another who settles: open, taken, closed.
    for _ in 0..4 {
        let seen = current(entry);
        let phase = seen.phase().ok_or_else(|| {
            Error::new(ErrorCode::Corrupt, format!("Consumer {index} has the intent {:#x}.", seen.0))
        })?;
        // The intent was loaded before: an intent of a later owner stands there only after the state has changed.
        if phase == Phase::None || area.consumer_state(index)? != dead {
            return Ok(());
        }
        let Some(plan) = read(entry, seen) else { continue };
        let mut taken = phase == Phase::Taken;
        if !taken {
            // ORDER Acquire [intent]: who changed the source after the dead one noted that before.
            let value = area.shm.block::<8>(plan.source)?.u64::<0>().load(Ordering::Acquire);
            taken = value == plan.target;
        }
        if taken {
            let tail = entry.u64::<{ consumer::TAIL }>();
            // ORDER Acquire [hand]: as for all others.
            let now = tail.load(Ordering::Acquire);
            // ORDER Relaxed: a bound for damaged content.
            let floor = entry.u64::<{ consumer::FLOOR }>().load(Ordering::Relaxed);
            // The next owner of the entry may have aimed at the same target, and hit it.
            if current(entry) != seen {
                continue;
            }
            if plan.until < now || plan.until.wrapping_sub(floor) > cells {
                return Err(Error::new(
                    ErrorCode::Corrupt,
                    format!("Consumer {index} was about to hold the cells {floor} to {}.", plan.until),
                ));
            }
            kill_point!("channel.settle.before_tail");
            if now != plan.until {
                // ORDER AcqRel [hand]: the cells that the dead one prepared. A failure means that another has settled.
                let _ = tail.compare_exchange(now, plan.until, Ordering::AcqRel, Ordering::Relaxed);
            }
            kill_point!("channel.settle.tail");
        }
        // ORDER AcqRel [intent]: the tail. A failure means that another has settled, or has noted that it was taken.
        let closed = entry.u64::<{ consumer::INTENT }>().compare_exchange(
            seen.0,
            seen.to(Phase::None).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        kill_point!("channel.settle.closed");
        if closed.is_ok() {
            return Ok(());
        }
    }
    Ok(())
}
