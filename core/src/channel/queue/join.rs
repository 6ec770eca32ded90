//! Consumers of a queue with acknowledgement: entering, leaving, and what the dead leave.
//!
//! An entry keeps its ring, and what is in it, for ever: who leaves or dies leaves the messages that it held for anybody, and the
//! next consumer goes on with the entry, messages and all.

use super::super::area::Area;
use super::super::layout::{SubKind, SubState};
use super::hand::Hand;
use super::layout::{CellKind, consumer};
use super::take;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

impl Area {
    /// Gives the calling thread a consumer entry with a ring.
    pub(super) fn enter(&self, me: u16) -> Result<(u32, SubState)> {
        let count = self.queue()?.consumers();
        if let Some(entered) = self.enter_left(me)? {
            return Ok(entered);
        }
        // Before the queue grows: entries of the dead that no reaper has met yet.
        let mut any = false;
        for index in 0..count {
            let seen = self.consumer_state(index)?;
            if seen.owner() != 0 && self.ground.thread_is_dead(seen.owner()) {
                any |= take_over(self, index, seen)?;
            }
        }
        if any && let Some(entered) = self.enter_left(me)? {
            return Ok(entered);
        }
        for index in 0..count {
            let seen = self.consumer_state(index)?;
            let joining = SubState::new(SubKind::Joining, 0, me, seen.generation().wrapping_add(1));
            if !seen.is(SubKind::Free) || !self.change_consumer(index, seen, joining)? {
                continue;
            }
            // DIES AFTER: the reaper frees the entry.
            kill_point!("channel.enter.joining");
            let made = self.make_hand(index);
            let next = match made {
                Ok(()) => SubState::new(SubKind::Live, 0, me, joining.generation()),
                Err(_) => SubState::new(SubKind::Free, 0, 0, joining.generation()),
            };
            self.change_consumer(index, joining, next)?;
            made?;
            kill_point!("channel.enter.live");
            return Ok((index, next));
        }
        Err(Error::new(
            ErrorCode::TooManySubscribers,
            format!("All {count} consumers of the queue `{}` are there.", self.name),
        ))
    }

    fn enter_left(&self, me: u16) -> Result<Option<(u32, SubState)>> {
        for index in 0..self.queue()?.consumers() {
            let seen = self.consumer_state(index)?;
            if !seen.is(SubKind::Away) {
                continue;
            }
            let mine = SubState::new(SubKind::Live, 0, me, seen.generation().wrapping_add(1));
            kill_point!("channel.enter.before_adopt");
            if self.change_consumer(index, seen, mine)? {
                // DIES AFTER: left again by the reaper.
                kill_point!("channel.enter.adopted");
                return Ok(Some((index, mine)));
            }
        }
        Ok(None)
    }

    /// Gives the entry that the calling thread is joining its ring.
    fn make_hand(&self, index: u32) -> Result<()> {
        let bytes = self.shape.lane_bytes;
        let ring = self.ground.take_ring(self.object(), bytes)?;
        // DIES AFTER: the chunks are open and no entry names them: the reaper frees them.
        kill_point!("channel.hand.taken");
        // Cells of whoever had the memory before must not look like ours.
        if let Err(error) = self.shm.span(ring, bytes / 2).and_then(|cells| cells.zero(0, bytes / 2)) {
            self.ground.give_back_ring(ring, bytes)?;
            return Err(error);
        }
        // ORDER Release [ring]: the zeros in its cells; pairs with the load in `consumer_ring`.
        self.entry(index)?.u64::<{ consumer::RING }>().store(ring, Ordering::Release);
        // DIES AFTER: the entry names the ring: the reaper keeps it.
        kill_point!("channel.hand.named");
        self.ground.keep_ring(ring, bytes)
    }

    /// The holder of an entry leaves it: what it holds is for anybody. False if the entry is not its own any more.
    pub(super) fn leave(&self, index: u32, mine: SubState) -> Result<bool> {
        if self.consumer_state(index)? != mine {
            return Ok(false);
        }
        let hand = Hand::of(self, index)?;
        let left = match &hand {
            Some(hand) => self.leave_cells(hand, mine)?,
            None => 0,
        };
        let away = SubState::new(SubKind::Away, 0, 0, mine.generation());
        kill_point!("channel.quit.before");
        let changed = self.change_consumer(index, mine, away)?;
        // DIES AFTER: others find what was left at their next look round.
        kill_point!("channel.quit.after");
        if left > 0 {
            self.give_notice();
        }
        Ok(changed)
    }

    /// Leaves what stands in a hand for anybody, as long as its entry has this state. Gives how much there is.
    fn leave_cells(&self, hand: &Hand, state: SubState) -> Result<u64> {
        let mut left = 0;
        for number in hand.shown() {
            let Some(seen) = hand.look(number) else { continue };
            if seen.ended_here() {
                self.end_left(hand, number, state)?;
                continue;
            }
            if !seen.is(CellKind::Held) {
                left += u64::from(seen.is(CellKind::Left) || seen.is(CellKind::Back));
                continue;
            }
            // The word was loaded before: whoever holds the message under a later owner has changed it since.
            if self.consumer_state(hand.index)? != state {
                break;
            }
            kill_point!("channel.inherit.before_left");
            // A failure means that another has left or taken it.
            left += u64::from(hand.change(number, seen, seen.touched().to(CellKind::Left)));
            kill_point!("channel.inherit.left");
        }
        Ok(left)
    }
}

impl Area {
    /// What a cell holds is done, as its word said: gives the chunks back that it names, if the hand's entry has this state still.
    pub(super) fn end_left(&self, hand: &Hand, number: u64, state: SubState) -> Result<()> {
        let data = hand.content(number).data;
        if !data.is_parcel() {
            return Ok(());
        }
        let mut words = Vec::new();
        let copied = hand.copy(data, &mut words);
        // ORDER Acquire [hand]: what was loaded and copied before; pairs with the fence in `Holding::begin`: who sees bytes that a later holder
        // wrote sees its state.
        fence(Ordering::Acquire);
        if self.consumer_state(hand.index)? != state {
            return Ok(());
        }
        kill_point!("channel.parcel.before_end");
        // What is damaged stays as it is, and keeps nobody from the rest; `check` tells it.
        match copied.and_then(|len| self.parcel_words(&words[..len])).and_then(|words| self.end_parcel(words))
        {
            Err(error) if error.code() != ErrorCode::Corrupt => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes over one consumer entry if the entry `thread` held it. The caller makes sure that nobody gets that entry meanwhile.
pub fn inherit(area: &Area, index: u32, thread: u16) -> Result<bool> {
    let seen = area.consumer_state(index)?;
    if seen.owner() == thread { take_over(area, index, seen) } else { Ok(false) }
}

/// Takes over one consumer entry whose holder is dead or detaches: what it was taking is settled, and what it held is left for anybody.
/// Repeating it is harmless, also at the same time.
///
/// `seen` is its state from before the holder was proved dead: if the entry has another state by then, it may be held by a live thread
/// that got the same entry of the registry, and stays as it is. False if nobody held it.
pub(super) fn take_over(area: &Area, index: u32, seen: SubState) -> Result<bool> {
    if !matches!(seen.kind(), Some(SubKind::Live | SubKind::Joining)) {
        return Ok(false);
    }
    let Some(hand) = Hand::of(area, index)? else {
        area.change_consumer(index, seen, SubState::new(SubKind::Free, 0, 0, seen.generation()))?;
        return Ok(true);
    };
    take::settle(area, index, seen, hand.count())?;
    area.leave(index, seen)?;
    Ok(true)
}

/// Whether some consumer's ring contains the byte at `offset`.
pub fn names_ring(area: &Area, offset: u64) -> Result<bool> {
    let Some(queue) = &area.queue else { return Ok(false) };
    for index in 0..queue.consumers() {
        if let Some(ring) = area.consumer_ring(index)?
            && (ring..ring + area.shape.lane_bytes).contains(&offset)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::super::super::testing::act_as;
    use super::super::tests::{assert_sound, least_once};
    use super::*;

    #[test]
    fn a_late_helper_leaves_the_consumer_of_a_live_thread_that_got_the_same_entry() {
        let (_stage, channel) = least_once();
        let area = &channel.area;
        let mut buffer = Vec::new();
        channel.publisher().unwrap().send(b"once more").unwrap();
        act_as(2);
        let mut dead = channel.consumer().unwrap();
        assert!(dead.try_recv(&mut buffer).unwrap().is_some());
        let seen = area.consumer_state(0).unwrap();
        std::mem::forget(dead);
        // A helper has proved it dead, and stops here; the reaper comes, and then a thread that is entry 2 again.
        inherit(area, 0, 2).unwrap();
        let mut live = channel.consumer().unwrap();
        assert!(live.try_recv(&mut buffer).unwrap().is_some());
        let state = area.consumer_state(0).unwrap();
        assert_eq!(state.owner(), seen.owner(), "it goes on with the entry");
        take_over(area, 0, seen).unwrap();
        assert_eq!(area.consumer_state(0).unwrap(), state);
        // What it holds is its own.
        act_as(3);
        assert!(channel.consumer().unwrap().try_recv(&mut buffer).unwrap().is_none());
        act_as(2);
        drop(live);
        assert_sound(&channel);
    }

    #[test]
    fn a_late_helper_leaves_a_consumer_that_came_back_to_a_thread_with_the_same_entry() {
        let (_stage, channel) = least_once();
        let area = &channel.area;
        let mut buffer = Vec::new();
        channel.publisher().unwrap().send(b"one").unwrap();
        act_as(2);
        let mut consumer = channel.consumer().unwrap();
        let held = consumer.try_recv(&mut buffer).unwrap().unwrap();
        // A helper has looked at it, is about to take it for that of a dead thread, and stops here.
        let seen = area.consumer_state(0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                act_as(3);
                assert!(consumer.try_recv(&mut Vec::new()).unwrap().is_none());
            });
        });
        assert!(consumer.try_recv(&mut buffer).unwrap().is_none());
        let state = area.consumer_state(0).unwrap();
        assert_eq!((state.owner(), seen.owner()), (2, 2));
        take_over(area, 0, seen).unwrap();
        assert_eq!(area.consumer_state(0).unwrap(), state);
        // It still has what it held, and its receipts are good.
        consumer.ack(&held.receipt).unwrap();
        drop(consumer);
        assert_sound(&channel);
    }
}
