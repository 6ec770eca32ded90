//! What a thread leaves in a channel when it is dead, or detaches.

use super::area::Area;
use super::layout::{LaneKind, LaneState, SubKind};
use super::queue::join;
use crate::error::Result;

/// Takes over everything that the entry `thread` held: its lanes are closed with whole frames, its named subscriptions are
/// away, its anonymous ones forgotten, what it held of a queue is for anybody, its sleepers' wakes are paid. Repeating it is harmless, also at the same time. What is
/// damaged is left, and told when everything else is done.
///
/// The caller makes sure that nobody gets the entry meanwhile, so each state that names it is one of the dead.
pub(crate) fn inherit(area: &Area, thread: u16) -> Result<()> {
    let mut damage = Ok(());
    let mut held = false;
    for index in 0..area.shape.lanes {
        match inherit_lane_of(area, index, thread) {
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
        match inherit_block(area, index, thread) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    // A consumer that leaves no trace may have died before it gave back what it had taken.
    if area.queue.as_ref().is_some_and(|queue| queue.acknowledge.is_none()) {
        area.free_all_parcels();
    }
    damage = damage.and(super::log::files::inherit(area, thread));
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

fn inherit_block(area: &Area, index: u32, thread: u16) -> Result<bool> {
    let (seen, ..) = area.look_at_block(index)?;
    if seen.owner() == thread { area.inherit_block(index, seen) } else { Ok(false) }
}

fn inherit_lane_of(area: &Area, index: u32, thread: u16) -> Result<bool> {
    let seen = area.lane_state(index)?;
    if seen.owner() == thread {
        return inherit_lane(area, index, seen);
    }
    // A lane that a process holds is used by its threads, whose transactions end with them.
    match area.lane_ref(index)? {
        Some(lane) if seen.is(LaneKind::Live) => area.lane(lane)?.settle_gate_of(&*area.ground, thread),
        _ => Ok(false),
    }
}

/// Takes over one lane whose holder is dead or detaches. The caller wakes who sleeps.
///
/// `seen` is its state from before the holder was proved dead: if the lane has another state by then, it may be held by a live thread that
/// got the same entry, and stays as it is. False if nobody held it.
pub(super) fn inherit_lane(area: &Area, index: u32, seen: LaneState) -> Result<bool> {
    if !matches!(seen.kind(), Some(LaneKind::Taking | LaneKind::Live)) {
        return Ok(false);
    }
    let next = match area.lane_ref(index)? {
        None => LaneKind::Free,
        Some(reference) => {
            // Its ring may be new to everybody.
            area.lane_came();
            let lane = area.lane(reference)?;
            if area.overruns() {
                lane.repair::<true>(&*area.ground, seen.generation())?
            } else {
                lane.repair::<false>(&*area.ground, seen.generation())?
            }
            area.settle_parcel(lane, seen)?;
            LaneKind::Closed
        }
    };
    kill_point!("channel.inherit.before_close");
    area.change_lane(index, seen, LaneState::new(next, 0, 0, seen.generation()))?;
    kill_point!("channel.inherit.closed");
    Ok(true)
}

/// Whether some lane or consumer of the channel names the ring that contains the byte at `offset`: what the pool asks about open chunks of
/// the dead. Those of parcels that were published were kept when the lane was taken over, which comes before; the others nobody names.
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

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::super::ChannelKind;
    use super::super::area::Ground;
    use super::super::testing::{PROCESS, act_as};
    use super::super::tests::{assert_sound, block, dies, drain, texts};
    use super::*;
    use crate::table::{Reference, Verdict};

    #[test]
    fn a_late_helper_leaves_the_lane_of_a_live_thread_that_got_the_same_entry() {
        let (stage, channel) = block(ChannelKind::Broadcast);
        let mut subscriber = channel.subscriber().unwrap();
        act_as(2);
        let mut dead = channel.publisher().unwrap();
        dead.send(b"of the dead").unwrap();
        let seen = channel.area.lane_state(dead.lane()).unwrap();
        let index = dead.lane();
        dies(&stage, 2, dead);
        // A helper has proved it dead, and stops here.
        inherit(&channel.area, 2).unwrap();
        let mut live = channel.publisher().unwrap();
        let state = channel.area.lane_state(index).unwrap();
        assert_eq!((live.lane(), state.owner()), (index, seen.owner()), "it goes on with the lane");
        inherit_lane(&channel.area, index, seen).unwrap();
        assert_eq!(channel.area.lane_state(index).unwrap(), state);
        live.send(b"of the living").unwrap();
        assert_eq!(texts(&drain(&mut subscriber)), ["of the dead", "of the living"]);
        assert_sound(&channel);
    }

    /// Uses a handle on another thread, as entry 3, and then here again.
    fn moves<T: Send>(handle: &mut T, used: impl Fn(&mut T) + Send + Sync) {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                act_as(3);
                used(handle);
                handle
            });
            let handle = there.join().unwrap();
            used(handle);
        });
    }

    #[test]
    fn a_late_helper_leaves_a_handle_that_came_back_to_a_thread_with_the_same_entry() {
        let (_stage, channel) = block(ChannelKind::Broadcast);
        let area = &channel.area;
        act_as(2);
        let mut publisher = channel.publisher().unwrap();
        let mut named = channel.subscribe("n").unwrap();
        let mut anonymous = channel.subscriber().unwrap();
        // A helper has looked at them, is about to take them for those of a dead thread, and stops here.
        let lane = area.lane_state(publisher.lane()).unwrap();
        let subs = [named.id(), anonymous.id()].map(|index| (index, area.sub_state(index).unwrap()));
        moves(&mut publisher, |publisher| assert!(publisher.send(b"here").unwrap() > 0));
        assert!(!area.change_lane(publisher.lane(), lane, lane).unwrap());
        inherit_lane(area, publisher.lane(), lane).unwrap();
        moves(&mut named, |named| named.commit().unwrap());
        moves(&mut anonymous, |anonymous| anonymous.commit().unwrap());
        for (index, seen) in subs {
            assert!(!area.release_sub(index, seen).unwrap(), "{index}");
        }
        let lane = area.lane_state(publisher.lane()).unwrap();
        publisher.send(b"and there").unwrap();
        assert_eq!(area.lane_state(publisher.lane()).unwrap(), lane, "it did not take another lane");
        assert_eq!(texts(&drain(&mut named)), ["here", "here", "and there"]);
        assert_eq!(texts(&drain(&mut anonymous)), ["here", "here", "and there"]);
        assert_sound(&channel);
    }

    #[test]
    fn a_publisher_whose_thread_has_ended_goes_on_in_its_lane() {
        let (stage, channel) = block(ChannelKind::Broadcast);
        let other = channel.publisher().unwrap();
        let mut publisher = channel.publisher().unwrap();
        let lane = publisher.lane();
        assert!(other.lane() < lane);
        drop(other);
        for (ends, next) in [(1, 3), (3, 4)] {
            inherit(&channel.area, ends).unwrap();
            act_as(next);
            publisher.send(b"message").unwrap();
            assert_eq!(publisher.lane(), lane);
        }
        inherit(&channel.area, 4).unwrap();
        // Unless somebody else has it.
        let others = [channel.publisher().unwrap(), channel.publisher().unwrap()];
        assert_eq!(others[1].lane(), lane);
        publisher.send(b"message").unwrap();
        assert!(others.iter().all(|other| other.lane() != publisher.lane()));
        assert_sound(&channel);
        drop(stage);
    }

    #[test]
    fn an_outbox_keeps_its_lane_whichever_threads_end() {
        let (stage, channel) = block(ChannelKind::Broadcast);
        let mut subscriber = channel.subscriber().unwrap();
        act_as(2);
        let outbox = channel.outbox().unwrap();
        let lane = outbox.lock().lane();
        let mut sent = Vec::new();
        for ends in [2, 3, 4] {
            act_as(ends);
            let text = format!("by {ends}");
            outbox.lock().send(text.as_bytes()).unwrap();
            sent.push(text);
            inherit(&channel.area, ends).unwrap();
            act_as(1);
            // Whoever would take a lane that nobody has.
            assert_ne!(channel.publisher().unwrap().lane(), lane);
            assert_eq!(outbox.lock().lane(), lane);
        }
        assert_eq!(texts(&drain(&mut subscriber)), sent);
        // One dies in the middle of a commit: its transaction is ended before the process is taken over from.
        act_as(3);
        let reference = Reference::new(3, 9);
        stage.decide(reference, Verdict::Undecided);
        outbox.lock().set_gate(reference, &[b"never".to_vec()]).unwrap();
        act_as(1);
        inherit(&channel.area, 4).unwrap();
        assert_eq!(stage.verdict(reference).unwrap(), Verdict::Undecided, "of another thread");
        inherit(&channel.area, 3).unwrap();
        assert_eq!(stage.verdict(reference).unwrap(), Verdict::Aborted);
        stage.decide(reference, Verdict::Over);
        inherit(&channel.area, PROCESS).unwrap();
        assert_eq!(drain(&mut subscriber).len(), 0);
        outbox.lock().send(b"again").unwrap();
        assert_eq!((texts(&drain(&mut subscriber)), outbox.lock().lane()), (vec!["again".to_owned()], lane));
        assert_sound(&channel);
    }

    #[test]
    fn who_cannot_take_over_a_lane_writes_nothing_into_it() {
        let (_stage, channel) = block(ChannelKind::Broadcast);
        let area = &channel.area;
        act_as(3);
        let mut publisher = channel.publisher().unwrap();
        publisher.send(b"message").unwrap();
        let lane = area.lane_ref(publisher.lane()).unwrap().unwrap();
        let lane = area.lane(lane).unwrap();
        inherit(area, 3).unwrap();
        // Something that is no frame stands where the next one goes.
        lane.ring().word(lane.tail()).store(1, crate::shm::atomic::Ordering::Relaxed);
        act_as(4);
        for _ in 0..3 {
            assert_eq!(publisher.try_send(b"late").unwrap_err().code(), crate::error::ErrorCode::Corrupt);
        }
        lane.ring().word(lane.tail()).store(0, crate::shm::atomic::Ordering::Relaxed);
        publisher.try_send(b"message").unwrap();
    }
}
