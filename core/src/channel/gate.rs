//! Gates: messages of a lane that a transaction decides about.
//!
//! The producer lays the messages, and in front of them a gate that names the transaction; its word makes it seen. Whoever reads the
//! lane stops at the gate as long as the decision about that transaction is not *committed*, and goes through when it is. Then the
//! producer opens the gate for good and moves the tail; or, if the transaction was aborted, takes the gate back: its word is 0 again, and
//! the next message goes there. Both come before the transaction is over, so who finds it over looks at the gate again.
//!
//! Nobody waits for anybody: behind a gate there are messages of the same producer only. What a dead producer has left whoever
//! takes over its lane settles: aborts the transaction if it is not decided, and opens the gate or takes it back. A gate's word has the
//! generation of the lane's holder, which is never the same again, so one who comes late to that hits no gate of a later holder.
//!
//! An empty channel says nothing about a transaction: a reader may find nothing just before the commit.

use std::sync::Arc;

use super::area::{Ground, STAMP};
use super::lane::{Head, Lane, corrupt, header};
use super::layout::{FrameKind, FrameWord, GATE_BYTES, WORD};
use super::publisher::{Publisher, Wait, now};
use crate::error::Result;
use crate::shm::align8;
use crate::shm::atomic::Ordering;
use crate::table::{Reference, Verdict};

/// Looks at a gate whose transaction seems to be over: each but the last takes another one that was taken back in between.
const LOOKS: usize = 1000;

/// What a producer knows of the gate that it has set.
pub(crate) struct Gate {
    position: u64,
    /// Bytes with the messages behind it.
    bytes: u64,
    /// Messages in front of what follows them.
    messages: u64,
}

impl Lane<'_> {
    /// Bytes that a gate with these messages takes at `position`.
    fn room_for_gate<const OVERRUN: bool>(self, position: u64, messages: &[&[u8]]) -> u64 {
        GATE_BYTES + self.room_for_all::<OVERRUN>(position + GATE_BYTES, messages)
    }

    /// Lays messages behind a gate, and shows it. The caller has made sure of [`Lane::room_for_gate`], and is the lane's holder of
    /// `generation`.
    pub(super) fn set_gate<const OVERRUN: bool>(
        self,
        head: &mut Head,
        generation: u32,
        reference: Reference,
        messages: &[&[u8]],
    ) -> Result<Gate> {
        let position = head.position;
        let bytes = self.room_for_gate::<OVERRUN>(position, messages) - WORD;
        if OVERRUN {
            self.announce(head, position + bytes + WORD);
        }
        // ORDER Relaxed: bytes of the producer, all of them behind the word of the gate, which is still 0; that orders them.
        self.ring.word(position + bytes).store(0, Ordering::Relaxed);
        self.ring.word(position + WORD).store(reference.0, Ordering::Relaxed);
        let messages =
            self.lay::<OVERRUN>(position + GATE_BYTES, head.messages, messages, &mut |position, word| {
                self.ring.word(position).store(word.0, Ordering::Relaxed);
            })?;
        // DIES BEFORE: nobody sees any of them; the next producer of the lane overwrites them.
        kill_point!("channel.gate.before_set");
        // ORDER Release [frame]: the reference and the messages; pairs with the load in `next`.
        self.ring.word(position).store(FrameWord::gate(generation, position).0, Ordering::Release);
        // DIES AFTER: whoever takes over the lane settles it.
        kill_point!("channel.gate.set");
        Ok(Gate { position, bytes, messages })
    }

    /// The transaction is committed: nobody stops at the gate any more.
    pub(super) fn open_gate<const OVERRUN: bool>(self, head: &mut Head, gate: &Gate) {
        kill_point!("channel.gate.before_open");
        // DIES BEFORE: readers go through by the decision; whoever takes over the lane opens it.
        // ORDER Release [gate]: before the transaction is over; pairs with the second look in `pass_gate`.
        self.ring.word(gate.position).store(opened(gate.position).0, Ordering::Release);
        // DIES AFTER: the tail is moved over it by whoever takes over.
        kill_point!("channel.gate.opened");
        head.messages = gate.messages;
        self.moved::<OVERRUN>(head, gate.bytes);
    }

    /// The transaction is aborted: nothing was sent.
    pub(super) fn take_gate_back(self, gate: &Gate) {
        kill_point!("channel.gate.before_back");
        // DIES BEFORE: nobody passes it, by the decision; whoever takes over the lane takes it back.
        // ORDER Release [gate]: as in `open_gate`.
        self.ring.word(gate.position).store(0, Ordering::Release);
        kill_point!("channel.gate.back");
    }

    /// Whether a reader may go through the gate at `position`, whose word it found to be `word`.
    #[cold]
    pub(super) fn pass_gate<const OVERRUN: bool>(
        self,
        ground: &dyn Ground,
        position: u64,
        word: FrameWord,
    ) -> Result<bool> {
        for _ in 0..LOOKS {
            // ORDER Relaxed: part of the gate, whose word ordered it.
            let reference = Reference(self.ring.word(position + WORD).load(Ordering::Relaxed));
            let verdict = ground.verdict(reference);
            // The words of another transaction of that thread may look the same; but then this gate was opened or taken back before.
            // ORDER Acquire [gate]: behind the decision.
            let now = FrameWord(self.ring.word(position).load(Ordering::Acquire));
            // What was opened just now is found at the next look; whoever sleeps is woken for it.
            if now != word || OVERRUN && self.lapped(position) {
                return Ok(false);
            }
            // It may have been taken back, and the next one stands here under the same word.
            // ORDER Relaxed: part of the gate, whose word ordered it.
            if self.ring.word(position + WORD).load(Ordering::Relaxed) != reference.0 {
                continue;
            }
            match verdict? {
                Verdict::Committed => return Ok(true),
                Verdict::Undecided | Verdict::Aborted => return Ok(false),
                // One was taken back here, and the next one stands here already: its decision is seen behind its word.
                Verdict::Over => {}
            }
        }
        Err(corrupt(position, word))
    }

    /// Settles the gate behind the tail if a transaction of `thread` decides about it, which is dead: its lane is one that its process
    /// holds. Whether there was one.
    pub(super) fn settle_gate_of(self, ground: &dyn Ground, thread: u16) -> Result<bool> {
        let tail = self.tail();
        // ORDER Acquire [frame]: as in `next`.
        let word = FrameWord(self.ring.word(tail).load(Ordering::Acquire));
        if word.kind_at(tail) != Some(FrameKind::Gate) {
            return Ok(false);
        }
        // ORDER Relaxed: part of the gate, whose word ordered it.
        let reference = Reference(self.ring.word(tail + WORD).load(Ordering::Relaxed));
        if reference.thread() != thread {
            return Ok(false);
        }
        self.settle_gate_by(ground, tail, word, reference).map(|()| true)
    }

    /// Settles the gate at `position` that a holder of the lane which is over has left. Repeating it is harmless, also at the same time.
    pub(super) fn settle_gate(self, ground: &dyn Ground, position: u64, word: FrameWord) -> Result<()> {
        // ORDER Relaxed: part of the gate, whose word ordered it.
        let reference = Reference(self.ring.word(position + WORD).load(Ordering::Relaxed));
        self.settle_gate_by(ground, position, word, reference)
    }

    fn settle_gate_by(
        self,
        ground: &dyn Ground,
        position: u64,
        word: FrameWord,
        reference: Reference,
    ) -> Result<()> {
        ground.abort(reference);
        let next = match ground.verdict(reference)? {
            Verdict::Committed => opened(position),
            Verdict::Aborted => FrameWord(0),
            // Another has settled it, and then ended the transaction; or it is damaged.
            Verdict::Undecided | Verdict::Over => {
                // ORDER Acquire [gate]: as in `pass_gate`.
                let now = FrameWord(self.ring.word(position).load(Ordering::Acquire));
                return if now == word { Err(corrupt(position, word)) } else { Ok(()) };
            }
        };
        kill_point!("channel.gate.before_settle");
        // ORDER AcqRel [gate]: as in `open_gate`. A failure means that another has settled it.
        let _ =
            self.ring.word(position).compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
        kill_point!("channel.gate.settled");
        Ok(())
    }
}

/// What stands in place of a gate that is open for good.
const fn opened(position: u64) -> FrameWord {
    FrameWord::new(GATE_BYTES, FrameKind::Opened, position)
}

impl Publisher {
    /// Makes sure that these messages can be sent behind a gate now: `BackPressure` if there is no room.
    pub(crate) fn make_ready(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        self.check_together(messages.iter().map(Vec::len))?;
        self.hold()?;
        if self.area.overruns() {
            return Ok(());
        }
        let messages = self.as_sent(messages);
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let need = self.lane.view().room_for_gate::<false>(self.head.position, &messages);
        if self.head.position + need > self.limit {
            self.wait_for_room(need, Wait::Never)?;
        }
        Ok(())
    }

    /// Refuses messages that are too long for one batch behind a gate.
    pub(crate) fn check_together(&self, messages: impl ExactSizeIterator<Item = usize>) -> Result<()> {
        let (header, count) = (header(self.area.overruns()), messages.len());
        let frames = messages.map(|len| align8(header + self.stamp_len() + len as u64));
        let bytes = frames.fold(GATE_BYTES, u64::saturating_add);
        if bytes > align8(header + self.area.message_len_max + self.stamp_len()) {
            return Err(self.too_many(count, bytes));
        }
        Ok(())
    }

    /// With the time in front where messages bear it.
    fn as_sent(&self, messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
        if self.stamp_len() == 0 {
            return messages.to_vec();
        }
        debug_assert_eq!(self.stamp_len(), STAMP as u64);
        let stamp = now();
        messages.iter().map(|message| [&stamp[..], message].concat()).collect()
    }

    /// Sends messages that count if the transaction is committed, behind [`Publisher::make_ready`].
    pub(crate) fn set_gate(&mut self, reference: Reference, messages: &[Vec<u8>]) -> Result<Gate> {
        self.make_ready(messages)?;
        let messages = self.as_sent(messages);
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let (lane, generation) = (self.lane.view(), self.state.generation());
        if self.area.overruns() {
            lane.set_gate::<true>(&mut self.head, generation, reference, &messages)
        } else {
            lane.set_gate::<false>(&mut self.head, generation, reference, &messages)
        }
    }

    /// The transaction is decided: its messages are sent, or were not.
    pub(crate) fn end_gate(&mut self, gate: &Gate, committed: bool) {
        let lane = self.lane.view();
        match (committed, self.area.overruns()) {
            (false, _) => lane.take_gate_back(gate),
            (true, true) => lane.open_gate::<true>(&mut self.head, gate),
            (true, false) => lane.open_gate::<false>(&mut self.head, gate),
        }
        if committed {
            self.area.data().notify();
        }
    }

    /// Whether it publishes in the fabric whose memory this is.
    pub(crate) fn is_in(&self, shm: &crate::shm::Shm) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.area.shm), shm)
    }

    /// Name of its channel.
    pub(crate) fn channel_name(&self) -> &str {
        &self.area.name
    }
}
