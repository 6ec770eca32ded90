//! What a thread leaves in a channel when it is dead, or detaches.

use super::area::Area;
use super::layout::{LaneKind, LaneState, SubKind};
use super::queue::join;
use crate::error::Result;

/// Takes over everything that the entry `thread` held: its lanes are closed with whole frames, its named subscriptions are
/// away, its anonymous ones forgotten, what it held of a queue is for anybody, its sleepers' wakes are paid. Repeating it is harmless, also at the same time. What is
/// damaged is left, and told when everything else is done.
pub(crate) fn inherit(area: &Area, thread: u16) -> Result<()> {
    let mut damage = Ok(());
    let mut held = false;
    for index in 0..area.shape.lanes {
        match inherit_lane(area, index, thread) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    for index in 0..area.shape.subs {
        match inherit_subscription(area, index, thread) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    for index in 0..area.queue.as_ref().map_or(0, |queue| queue.consumers()) {
        match join::inherit(area, index, thread) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    for index in 0..area.log.as_ref().map_or(0, |log| log.geometry.blocks) {
        match area.inherit_block(index, thread) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    if held {
        area.data().wake_all();
        area.space().wake_all();
    }
    damage
}

fn inherit_subscription(area: &Area, index: u32, thread: u16) -> Result<bool> {
    let seen = area.sub_state(index)?;
    if !matches!(seen.kind(), Some(SubKind::Live | SubKind::Joining)) || seen.owner() != thread {
        return Ok(false);
    }
    // A failure means that another reaper was first, or its holder, if this is a detach.
    area.release_sub(index, seen)?;
    Ok(true)
}

/// Takes over one lane if the entry `thread` held it. The caller wakes who sleeps.
pub(super) fn inherit_lane(area: &Area, index: u32, thread: u16) -> Result<bool> {
    let seen = area.lane_state(index)?;
    if !matches!(seen.kind(), Some(LaneKind::Taking | LaneKind::Live)) || seen.owner() != thread {
        return Ok(false);
    }
    let next = match area.lane_ref(index)? {
        None => LaneKind::Free,
        Some(reference) => {
            // Its ring may be new to everybody.
            area.lane_came();
            let lane = area.lane(reference)?;
            if area.overruns() {
                lane.repair::<true>()?
            } else {
                lane.repair::<false>()?
            }
            LaneKind::Closed
        }
    };
    kill_point!("channel.inherit.before_close");
    area.change_lane(index, seen, LaneState::new(next, 0, 0, seen.generation()))?;
    kill_point!("channel.inherit.closed");
    Ok(true)
}

/// Whether some lane or consumer of the channel names the ring that contains the byte at `offset`: what the pool asks about open chunks
/// of the dead.
pub(crate) fn names_ring(area: &Area, offset: u64) -> Result<bool> {
    for index in 0..area.shape.lanes {
        if let Some(lane) = area.lane_ref(index)?
            && (lane.ring..lane.ring + area.shape.lane_bytes).contains(&offset)
        {
            return Ok(true);
        }
    }
    join::names_ring(area, offset)
}
