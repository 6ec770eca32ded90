//! Lanes that a binding reads itself, where crossing into this library for each look costs more than the look.
//!
//! The binding does what [`Subscriber::poll_in_place`] does as long as nothing but messages and padding stand in lanes that it knows: it shows its
//! places by one exchange each, loads a frame's word with acquire, checks it, and looks at the message. All else it leaves to the subscriber, which
//! it tells where it stands: new lanes, gates, long messages, damage, ejection, sleeping.

use std::sync::Arc;

use super::direct::part;
use super::layout::{POSITION_MAX, control, place, sub};
use super::subscriber::Subscriber;
use super::wait::WaitWord;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Shm;
use crate::shm::atomic::Ordering;

/// Where the parts of a subscription stand in this process. They stay mapped as long as this lives, also when the subscriber is closed.
pub struct DirectReading {
    shm: Arc<Shm>,
    /// Where the wait word of the publishers stands in the segment.
    space: u64,
    control: (usize, usize),
    entry: (usize, usize),
    state: u64,
    stamped: bool,
}

/// Where the parts of one of its lanes stand in this process.
pub struct DirectPlace {
    /// The lane's number in the channel.
    pub lane: u32,
    /// Address and length of the ring, a power of two.
    pub ring: (usize, usize),
    /// Address and length of the place, whose first word is the position that publishers see.
    pub place: (usize, usize),
}

/// Where a subscription stands in one of its lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stand {
    /// What publishers see.
    pub shown: u64,
    /// Everything in front of it was handled.
    pub position: u64,
}

impl DirectReading {
    /// Address and length of the control area's first part.
    pub fn control(&self) -> (usize, usize) {
        self.control
    }

    /// Where in it the number stands, of 4 bytes, that grows when a lane comes.
    pub const LANE_EPOCH: usize = control::LANE_EPOCH;
    /// Where in it the word stands, of 4 bytes, that says in its two lowest bits whether [`DirectReading::wake`] is to be called.
    pub const SPACE: usize = control::SPACE;

    /// Address and length of the subscription's entry, which begins with its state.
    pub fn entry(&self) -> (usize, usize) {
        self.entry
    }

    /// The state as long as the calling thread holds the subscription.
    pub fn state(&self) -> u64 {
        self.state
    }

    /// Wakes publishers that sleep until there is room. Whoever uses or closes the subscriber meanwhile does not matter.
    pub fn wake(&self) -> Result<()> {
        let word = self.shm.block::<8>(self.space)?;
        // Only processes that heavy fences of others reach read lanes so.
        WaitWord::new(word.u32::<0>(), true).notify();
        Ok(())
    }

    /// Whether each message begins with 8 bytes that say when it was sent.
    pub fn stamped(&self) -> bool {
        self.stamped
    }
}

impl Subscriber {
    /// Where it stands, if a binding may read its lanes: on channels that block, where the kernel runs fences of others for this process. For the
    /// calling thread alone, and as long as no other one uses the subscriber.
    pub fn direct(&mut self) -> Result<Option<DirectReading>> {
        self.commit()?;
        let area = &self.area;
        if area.overruns() || !area.registered {
            return Ok(None);
        }
        let shm = &area.shm;
        Ok(Some(DirectReading {
            shm: Arc::clone(shm),
            space: area.shape.offset + control::SPACE as u64,
            control: part(shm.span(area.shape.offset, control::BYTES as u64)?),
            entry: part(shm.span(area.shape.sub(self.index), sub::BYTES)?),
            state: self.state.0,
            stamped: area.stamped,
        }))
    }

    /// How many lanes it knows.
    pub fn direct_lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Where the parts of the lane stand that it learnt of as the `number`th.
    pub fn direct_place(&self, number: usize) -> Result<Option<DirectPlace>> {
        let Some(reading) = self.lanes.get(number) else { return Ok(None) };
        let (area, lane) = (&self.area, reading.lane.index);
        let Some(reference) = area.lane_ref(lane)? else { return Ok(None) };
        Ok(Some(DirectPlace {
            lane,
            ring: part(area.shm.span(reference.ring, area.shape.lane_bytes)?),
            place: part(area.shm.span(area.shape.place(self.index, lane), place::BYTES)?),
        }))
    }

    /// The number up to which lanes are known, if the next call has nothing to do but to look at those for messages; else the binding must leave
    /// that call to the library.
    pub fn direct_epoch(&self) -> Option<u32> {
        self.lane_epoch.filter(|_| self.pending.is_none() && !self.parcels)
    }

    /// Where it stands in a lane.
    pub fn stand(&self, number: usize) -> Stand {
        self.lanes.get(number).map_or_else(Stand::default, |reading| Stand {
            shown: reading.shown.position,
            position: reading.place.position,
        })
    }

    /// What publishers see of where it stands in a lane, if a binding may have changed that without coming to say so.
    pub fn shown_of(&self, number: usize) -> Result<u64> {
        let known = self.stand(number).shown;
        let Some(reading) = self.lanes.get(number) else { return Ok(known) };
        let at = self
            .area
            .shm
            .block::<{ place::BYTES as usize }>(self.area.shape.place(self.index, reading.lane.index))?;
        // ORDER Relaxed: of a thread of this process that has been waited for.
        Ok(at.u64::<{ place::POSITION }>().load(Ordering::Relaxed).max(known))
    }

    /// The binding has handled messages up to that place of a lane, and shown it as far as it says.
    pub fn went_on(&mut self, number: usize, to: Stand) -> Result<()> {
        let from = self.stand(number);
        if to == from {
            return Ok(());
        }
        let size = self.area.shape.lane_bytes;
        let can_be = to.shown.is_multiple_of(8)
            && to.position.is_multiple_of(8)
            && from.shown <= to.shown
            && from.position <= to.position
            && to.shown <= to.position
            && to.position <= POSITION_MAX
            // A ring at most is looked at before it is shown.
            && to.position - to.shown <= size;
        match self.lanes.get_mut(number).filter(|_| can_be && !self.area.overruns()) {
            Some(reading) => {
                reading.went_on(to);
                Ok(())
            }
            None => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("A subscription cannot go on from {from:?} to {to:?}."),
            )),
        }
    }
}
