//! Ejecting subscriptions that stand still while a publisher waits for them.
//!
//! A publisher that has no room remembers of each subscription that holds it back where that stands and since when. One that is
//! still there when the channel's time is over loses its place, whether its holder is slow, stopped or away. The holder is told
//! at its next call; what it had copied by then it finds void (see [`Subscriber`](super::Subscriber)).

use std::time::{Duration, Instant};

use super::area::Area;
use super::layout::{SubState, control, place};
use super::{ChannelKind, ChannelOptions, OverrunPolicy};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Refuses a time that cannot be, or that the channel has no use for.
pub(crate) fn check_options(name: &str, options: &ChannelOptions) -> Result<()> {
    let Some(time) = options.eject_after else { return Ok(()) };
    let waits = matches!(options.kind, ChannelKind::Stream | ChannelKind::Broadcast);
    if options.overrun != OverrunPolicy::Block || !waits {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "Nobody waits for a subscriber of channel `{name}`: `eject_after` needs a stream or broadcast that blocks."
            ),
        ));
    }
    if time.as_millis() == 0
        || time.as_millis() > u128::from(u32::MAX)
        || time.subsec_nanos() % 1_000_000 != 0
    {
        return Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("`eject_after` is {time:?}: it must be whole milliseconds from 1 to {}.", u32::MAX),
        ));
    }
    Ok(())
}

/// A subscription that holds a publisher back.
#[derive(Clone, Copy)]
struct Still {
    index: u32,
    state: SubState,
    position: u64,
    since: Instant,
}

/// The subscriptions that a publisher waits for.
#[derive(Default)]
pub(super) struct Watch {
    still: Vec<Still>,
}

impl Watch {
    /// Nobody is waited for any more.
    pub fn clear(&mut self) {
        self.still.clear();
    }

    /// Looks at those of `subs` that keep `lane` from growing up to `end`, and ejects who has stood still for long enough.
    /// Whether anybody was.
    pub fn eject(&mut self, area: &Area, subs: &[u32], lane: u32, end: u64) -> Result<bool> {
        let Some(after) = area.eject_after else { return Ok(false) };
        let (now, mut next, mut any) = (Instant::now(), Vec::new(), false);
        for &index in subs {
            let state = area.sub_state(index)?;
            // ORDER Relaxed: only whether it moved.
            let position = area.place(index, lane)?.u64::<{ place::POSITION }>().load(Ordering::Relaxed);
            if position.saturating_add(area.shape.lane_bytes) >= end {
                continue;
            }
            let same = |one: &&Still| (one.index, one.state, one.position) == (index, state, position);
            let since = self.still.iter().find(same).map_or(now, |one| one.since);
            if now.duration_since(since) >= after {
                any |= area.eject(index, state)?;
            } else {
                next.push(Still { index, state, position, since });
            }
        }
        self.still = next;
        Ok(any)
    }
}

impl Area {
    /// Counts a subscription that was ejected.
    pub(super) fn count_ejected(&self) {
        // ORDER Relaxed: a count; one too few if its ejector was killed in between.
        self.header().u64::<{ control::EJECTED }>().fetch_add(1, Ordering::Relaxed);
    }

    /// Subscriptions that were ejected so far.
    pub(super) fn ejected(&self) -> u64 {
        // ORDER Relaxed: a count.
        self.header().u64::<{ control::EJECTED }>().load(Ordering::Relaxed)
    }

    /// How long a subscription may stand still, as it stands in the control area: 0 for ever.
    pub(super) fn eject_after_from(millis: u64) -> Option<Option<Duration>> {
        let time = (millis != 0).then(|| Duration::from_millis(millis));
        (millis <= u64::from(u32::MAX)).then_some(time)
    }
}
