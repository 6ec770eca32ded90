//! A lane that a binding writes itself, where crossing into this library for each message costs more than writing it.
//!
//! Who may write when is settled by its [`Door`](super::Door). The binding does what [`Publisher::try_send`] does as long as there is room in front of the ring's end: it stores 0 into the word behind the frame, then the
//! payload, then the frame's word and the tail, both with release, and then looks whether anybody sleeps. All else it leaves to the
//! publisher, which it tells how far it came.

use std::sync::Arc;

use super::layout::{FrameKind, FrameWord, LANE_BYTES_MAX, control, lane};
use super::publisher::Publisher;
use super::wait::WaitWord;
use crate::error::Result;
use crate::shm::{Shm, Span};

/// Where the parts of a publisher's lane stand in this process. They stay mapped as long as this lives, also when the publisher is closed.
pub struct DirectLane {
    shm: Arc<Shm>,
    /// Where the wait word of the subscribers stands in the segment.
    data: u64,
    ring: (usize, usize),
    entry: (usize, usize),
    sleepers: (usize, usize),
    state: u64,
    most: usize,
}

/// Address and length.
pub(super) fn part(span: Span<'_>) -> (usize, usize) {
    (span.as_ptr().addr(), span.len() as usize)
}

impl DirectLane {
    /// Bytes of the frame's word; the binding adds the length, and the position divided by 8 in the upper 16 bits.
    pub const FRAME: u64 = FrameWord::new(0, FrameKind::Data, 0).0;
    /// Where the tail stands in the entry, and the state at its start.
    pub const TAIL: usize = lane::TAIL;

    /// Address and length of the ring, a power of two.
    pub fn ring(&self) -> (usize, usize) {
        self.ring
    }

    /// Address and length of the lane's entry: its state stands at 0, its tail at [`DirectLane::TAIL`].
    pub fn entry(&self) -> (usize, usize) {
        self.entry
    }

    /// Address and length of the word that says in its two lowest bits whether [`DirectLane::wake`] is to be called.
    pub fn sleepers(&self) -> (usize, usize) {
        self.sleepers
    }

    /// The state of the lane as long as it is the publisher's.
    pub fn state(&self) -> u64 {
        self.state
    }

    /// Bytes of the longest message that may be written so.
    pub fn message_len_max(&self) -> usize {
        self.most
    }

    /// Wakes who sleeps until a message comes. Whoever uses or closes the publisher meanwhile does not matter.
    pub fn wake(&self) -> Result<()> {
        let word = self.shm.block::<8>(self.data)?;
        // Only processes that heavy fences of others reach write lanes so.
        WaitWord::new(word.u32::<0>(), true).notify();
        Ok(())
    }
}

impl Publisher {
    /// Where its lane stands, if a binding may write it: on channels that block and bear no times, where the kernel runs fences of
    /// others for this process. For the calling thread alone, and as long as no other one uses the publisher.
    pub fn direct(&mut self) -> Result<Option<DirectLane>> {
        self.hold()?;
        let area = &self.area;
        let plain = !area.overruns() && !area.stamped && area.registered;
        let reference =
            area.lane_ref(self.lane.index)?.filter(|_| plain && area.shape.lane_bytes <= LANE_BYTES_MAX);
        let Some(reference) = reference else { return Ok(None) };
        let shm = &area.shm;
        let data = area.shape.offset + control::DATA as u64;
        Ok(Some(DirectLane {
            shm: Arc::clone(shm),
            data,
            ring: part(shm.span(reference.ring, area.shape.lane_bytes)?),
            entry: part(shm.span(reference.entry, lane::BYTES)?),
            sleepers: part(shm.span(data, 8)?),
            state: self.state.0,
            most: area.message_len_max as usize,
        }))
    }
}
