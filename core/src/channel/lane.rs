//! A lane: the ring of one producer, and what its readers do with it.
//!
//! The producer writes the payload, stores 0 into the word behind the frame, and then commits by one release store of the
//! frame's word. Nobody claims anything that others would have to wait for: what is not committed is invisible, and stays
//! so if the producer dies. On a lane that blocks, the producer never passes the places of its readers. On a lane that
//! overruns it passes whom it likes: it announces in `intent` how far it will overwrite *before* it does so, and a reader
//! validates what it copied against `intent` *after* the copy.
//!
//! `tail` follows from the frames: anybody may move it over frames that are committed, and whoever takes over the lane of a
//! dead producer does.

use super::area::Ground;
use super::layout::{Count, FrameKind, FrameWord, GATE_BYTES, POSITION_MAX, STEP_MAX, WORD, lane};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Block, Ring, align8};

/// One lane with its ring, checked.
#[derive(Clone, Copy)]
pub struct Lane<'a> {
    pub(super) ring: Ring<'a>,
    entry: Block<'a, { lane::BYTES as usize }>,
}

/// The producer's private state: where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Position of the next frame.
    pub position: u64,
    /// Messages in front of it; counted on lanes that overrun.
    pub messages: u64,
    /// The last announced intent.
    intent: u64,
}

/// Frames that follow each other without a message at most: padding, an opened gate, padding.
const BARE_MAX: usize = 4;

/// A reader's private state in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Position of the frame that is read next.
    pub position: u64,
    /// Messages in front of it; counted on lanes that overrun.
    pub messages: u64,
}

/// What a reader found, where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No frame is committed there yet.
    Empty,
    /// A message of this length, whose payload begins at position `at`; `behind` is the place behind it.
    Message { at: u64, len: u64, behind: Place },
    /// A message stands in chunks of its own.
    Parcel { words: [u64; 2], behind: Place },
    /// The producer has overwritten the place.
    Lapped,
}

/// What a reader copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// No frame is committed there yet.
    Empty,
    /// A message of this length was copied; `behind` is the place behind it.
    Message { len: usize, behind: Place },
    /// A message stands in chunks of its own.
    Parcel { words: [u64; 2], behind: Place },
    /// The producer has overwritten the place.
    Lapped,
}

/// A message that stands in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// Position of its payload.
    pub at: u64,
    /// Bytes of its payload.
    pub len: u64,
    /// The position behind it.
    pub behind: u64,
    /// It may have been sent before.
    pub again: bool,
    /// The payload is the words of a parcel.
    pub parcel: bool,
}

/// Bytes of the payload of a frame that names a parcel.
pub const PARCEL_WORDS: u64 = 16;

/// Bytes in front of the payload.
#[inline(always)]
pub const fn header(overrun: bool) -> u64 {
    if overrun { 16 } else { WORD }
}

#[cold]
#[inline(never)]
pub(super) fn corrupt(place: u64, word: FrameWord) -> Error {
    Error::new(ErrorCode::Corrupt, format!("The frame word {:#018x} at position {place} cannot be.", word.0))
}

#[cold]
fn no_message(position: u64) -> Error {
    Error::new(ErrorCode::Corrupt, format!("No message follows what stands in front of position {position}."))
}

impl<'a> Lane<'a> {
    /// The lane whose ring is `ring` and whose entry is `entry`.
    #[inline(always)]
    pub fn new(ring: Ring<'a>, entry: Block<'a, { lane::BYTES as usize }>) -> Lane<'a> {
        Lane { ring, entry }
    }

    /// Bytes of its ring.
    #[inline(always)]
    pub fn size(self) -> u64 {
        self.ring.len()
    }

    #[inline(always)]
    fn at(self, position: u64) -> u64 {
        self.ring.at(position)
    }

    /// Bytes that a message of `len` bytes takes at `position`: the frame, the word behind it, and padding if it does not
    /// fit in front of the ring's end.
    #[inline(always)]
    pub fn room<const OVERRUN: bool>(self, position: u64, len: u64) -> u64 {
        let need = align8(header(OVERRUN) + len);
        let rest = self.size() - self.at(position);
        if need <= rest { need + WORD } else { rest + need + WORD }
    }

    /// The producer makes ready for a message of `len` bytes. The caller has made sure of [`Lane::room`] and of the longest
    /// length. Gives where in the ring the payload goes.
    #[inline(always)]
    pub fn begin<const OVERRUN: bool>(self, head: &mut Head, len: u64) -> u64 {
        let need = align8(header(OVERRUN) + len);
        let rest = self.size() - self.at(head.position);
        if need > rest {
            self.pad::<OVERRUN>(head, rest);
        }
        if OVERRUN {
            self.announce(head, head.position + need + WORD);
        }
        // First of all, so that the stores to the frame's own line, which readers look at, follow each other closely.
        // ORDER Relaxed: bytes of the producer; the commit orders them.
        self.ring.word(head.position + need).store(0, Ordering::Relaxed);
        self.at(head.position) + header(OVERRUN)
    }

    #[cold]
    fn pad<const OVERRUN: bool>(self, head: &mut Head, rest: u64) {
        if OVERRUN {
            self.announce(head, head.position + rest + WORD);
        }
        // ORDER Relaxed: bytes of the producer; the commit below orders them.
        self.ring.word(0).store(0, Ordering::Relaxed);
        kill_point!("channel.pad.before_commit");
        // ORDER Release [frame]: as in `commit`.
        self.ring
            .word(head.position)
            .store(FrameWord::new(rest, FrameKind::Padding, head.position).0, Ordering::Release);
        // DIES AFTER: readers skip the padding; the tail is moved over it by whoever takes over.
        kill_point!("channel.pad.committed");
        self.moved::<OVERRUN>(head, rest);
    }

    /// Overrun: everything at positions below `intent - size` may be overwritten from here on.
    #[inline(always)]
    pub(super) fn announce(self, head: &mut Head, intent: u64) {
        // Never backwards: what a predecessor announced it may have overwritten. Some way ahead, so that readers, which look
        // at it for each message, lose the line rarely.
        if intent > head.intent {
            head.intent = intent + self.size() / 16;
            // ORDER Relaxed: the fence orders it.
            self.entry.u64::<{ lane::INTENT }>().store(head.intent, Ordering::Relaxed);
        }
        kill_point!("channel.frame.announced");
        // ORDER Release [intent]: before any byte that is overwritten; pairs with the fence in `next`.
        fence(Ordering::Release);
    }

    /// Commits the frame that was begun, with its payload of `len` bytes written. Gives the position behind it.
    #[inline(always)]
    pub fn commit<const OVERRUN: bool>(self, head: &mut Head, len: u64) -> u64 {
        self.commit_marked::<OVERRUN, false>(head, len)
    }

    /// As [`Lane::commit`]; says of the message that it may have been sent before if `AGAIN`.
    #[inline(always)]
    pub fn commit_marked<const OVERRUN: bool, const AGAIN: bool>(self, head: &mut Head, len: u64) -> u64 {
        let len = header(OVERRUN) + len;
        let need = align8(len);
        if OVERRUN {
            // ORDER Relaxed: bytes of the producer; the commit below orders them.
            self.ring.word(head.position + WORD).store(head.messages, Ordering::Relaxed);
        }
        // DIES BEFORE: the word here is still 0, nobody sees the frame; the next producer of the lane overwrites it.
        kill_point!("channel.frame.before_commit");
        let word = FrameWord::new(len, FrameKind::Data, head.position);
        let word = if AGAIN { word.marked_again() } else { word };
        // ORDER Release [frame]: payload and the zero behind it; pairs with the load in `next`.
        self.ring.word(head.position).store(word.0, Ordering::Release);
        // DIES AFTER: the message is published; the tail is moved over it by whoever takes over.
        kill_point!("channel.frame.committed");
        head.messages += u64::from(OVERRUN);
        self.moved::<OVERRUN>(head, need);
        head.position
    }

    /// Commits the frame that was begun with the two words of a parcel as its payload; says of the message that it may have been sent before if
    /// `again`. Gives the position behind it.
    pub fn commit_parcel<const OVERRUN: bool>(self, head: &mut Head, words: [u64; 2], again: bool) -> u64 {
        let len = header(OVERRUN) + PARCEL_WORDS;
        if OVERRUN {
            // ORDER Relaxed: bytes of the producer; the commit below orders them.
            self.ring.word(head.position + WORD).store(head.messages, Ordering::Relaxed);
        }
        for (word, at) in words.into_iter().zip([header(OVERRUN), header(OVERRUN) + 8]) {
            // ORDER Relaxed: bytes of the producer; the commit below orders them.
            self.ring.word(head.position + at).store(word, Ordering::Relaxed);
        }
        let word = FrameWord::new(len, FrameKind::Parcel, head.position);
        let word = if again { word.marked_again() } else { word };
        // DIES BEFORE: the word here is still 0; whoever takes over drops the parcel.
        kill_point!("channel.parcel.before_commit");
        // ORDER Release [frame]: the words and the zero behind them, and the parcel; pairs with the load in `next`.
        self.ring.word(head.position).store(word.0, Ordering::Release);
        // DIES AFTER: the message is published; its chunks are kept by the reaper.
        kill_point!("channel.parcel.committed");
        head.messages += u64::from(OVERRUN);
        self.moved::<OVERRUN>(head, len);
        head.position
    }

    /// The newest parcel of the lane.
    pub fn parcel_word(self) -> &'a AtomicU64 {
        self.entry.u64::<{ lane::PARCEL }>()
    }

    /// Bytes that messages of these lengths take at `position`, as [`Lane::room`]; padding lies in front of the one that does not
    /// fit in front of the ring's end.
    pub fn room_for_all<const OVERRUN: bool>(self, position: u64, messages: &[&[u8]]) -> u64 {
        let mut end = position;
        for message in messages {
            end += self.room::<OVERRUN>(end, message.len() as u64) - WORD;
        }
        end - position + WORD
    }

    /// Commits messages that nobody sees one without the others. The caller has made sure of [`Lane::room_for_all`], which is no
    /// more than a ring. Gives the position behind the last.
    pub fn put_all<const OVERRUN: bool>(self, head: &mut Head, messages: &[&[u8]]) -> Result<u64> {
        let total = self.room_for_all::<OVERRUN>(head.position, messages) - WORD;
        if OVERRUN {
            self.announce(head, head.position + total + WORD);
        }
        // ORDER Relaxed: bytes of the producer, all of them behind the first word, which is still 0; its commit orders them.
        self.ring.word(head.position + total).store(0, Ordering::Relaxed);
        let mut first = FrameWord(0);
        let number = self.lay::<OVERRUN>(head.position, head.messages, messages, &mut |position, word| {
            if position == head.position {
                first = word;
            } else {
                self.ring.word(position).store(word.0, Ordering::Relaxed);
            }
        })?;
        // DIES BEFORE: the first word is still 0, nobody sees any of them; the next producer of the lane overwrites them.
        kill_point!("channel.batch.before_commit");
        // ORDER Release [frame]: as in `commit`.
        self.ring.word(head.position).store(first.0, Ordering::Release);
        // DIES AFTER: all are published; the tail is moved over them by whoever takes over.
        kill_point!("channel.batch.committed");
        head.messages = number;
        self.moved::<OVERRUN>(head, total);
        Ok(head.position)
    }

    /// Lays messages behind each other from `position` on, the first of them with the number `number`; `commit` stores their words.
    /// Gives the number behind the last.
    pub(super) fn lay<const OVERRUN: bool>(
        self,
        mut position: u64,
        mut number: u64,
        messages: &[&[u8]],
        commit: &mut impl FnMut(u64, FrameWord),
    ) -> Result<u64> {
        for message in messages {
            let len = header(OVERRUN) + message.len() as u64;
            let rest = self.size() - self.at(position);
            if align8(len) > rest {
                commit(position, FrameWord::new(rest, FrameKind::Padding, position));
                position += rest;
            }
            if OVERRUN {
                // ORDER Relaxed: bytes of the producer; the commit of the first orders them.
                self.ring.word(position + WORD).store(number, Ordering::Relaxed);
                number += 1;
            }
            self.ring.copy_in(self.at(position) + header(OVERRUN), message)?;
            commit(position, FrameWord::new(len, FrameKind::Data, position));
            position += align8(len);
        }
        Ok(number)
    }

    /// Shows that the lane has grown by `need` bytes.
    #[inline(always)]
    pub(super) fn moved<const OVERRUN: bool>(self, head: &mut Head, need: u64) {
        let behind = head.position + need;
        if OVERRUN {
            // ORDER Release [lane-tail]: as the tail.
            self.entry.u64::<{ lane::COUNT }>().store(Count::new(head.messages, behind).0, Ordering::Release);
            kill_point!("channel.tail.counted");
        }
        // ORDER Release [lane-tail]: the frames in front of it; pairs with the loads of whoever joins or takes over.
        self.entry.u64::<{ lane::TAIL }>().store(behind, Ordering::Release);
        if OVERRUN {
            let shift = (self.size() / lane::MARK_COUNT).trailing_zeros();
            if head.position >> shift != behind >> shift {
                // ORDER Release [mark]: everything in front of it is committed; pairs with the load in `resume`.
                self.entry
                    .u64_at::<{ lane::MARKS }>((behind >> shift) as usize % lane::MARK_COUNT as usize)
                    .store(behind, Ordering::Release);
            }
        }
        head.position = behind;
    }

    /// Position behind the last whole frame.
    #[inline]
    pub fn tail(self) -> u64 {
        // ORDER Acquire [lane-tail]: the frames in front of it.
        self.entry.u64::<{ lane::TAIL }>().load(Ordering::Acquire)
    }

    /// Where a reader that joins now begins.
    pub fn end<const OVERRUN: bool>(self) -> Result<Place> {
        if !OVERRUN {
            return Ok(Place { position: self.tail(), messages: 0 });
        }
        // The producer counts before it moves the tail, so the count is of the tail or of a later frame; how much later its
        // low bits tell, if the tail did not move too far meanwhile.
        for _ in 0..1000 {
            let tail = self.tail();
            // ORDER Acquire [lane-tail]: the frames in front of the counted position.
            let count = Count(self.entry.u64::<{ lane::COUNT }>().load(Ordering::Acquire));
            if self.tail().wrapping_sub(tail) < STEP_MAX {
                return Ok(Place { position: count.position_from(tail), messages: count.messages() });
            }
        }
        Err(Error::new(ErrorCode::Busy, "A lane moves too fast to join it."))
    }

    /// Whether no committed frame stands behind the tail.
    pub fn ends_at_tail(self) -> Result<bool> {
        let tail = self.tail();
        // ORDER Acquire [frame]: as in `next`.
        let word = FrameWord(self.ring.word(tail).load(Ordering::Acquire));
        Ok(word.0 == 0 || word.kind_at(tail).is_none())
    }

    /// Moves the tail over frames that are committed, all at once: who joins meanwhile gets all of a batch or nothing. Anybody
    /// may: the tail follows from the frames. A gate that the holder of `generation`, which is over, has left is settled first.
    pub fn repair<const OVERRUN: bool>(self, ground: &dyn Ground, generation: u32) -> Result<()> {
        for _ in 0..1000 {
            let tail = self.tail();
            let (mut behind, mut messages) = (tail, 0);
            // A producer dies at most one batch behind its tail, which is no more than a ring; the bound is for damaged content.
            let moved = loop {
                // ORDER Acquire [frame]: as in `next`.
                let word = FrameWord(self.ring.word(behind).load(Ordering::Acquire));
                if word.0 == 0 {
                    break false;
                }
                let kind = word.kind_at(behind);
                // A producer that took the lane meanwhile has moved the tail, and may be on its way round the ring.
                if self.tail() != tail {
                    break true;
                }
                let Some(kind) = kind else { return Err(corrupt(behind, word)) };
                if kind == FrameKind::Gate {
                    // One of the next holder: the lane is in its hands.
                    if word.generation() != generation {
                        return Ok(());
                    }
                    self.settle_gate(ground, behind, word)?;
                    continue;
                }
                behind = behind.wrapping_add(align8(self.check(behind, word, kind, header(OVERRUN))?));
                messages += u64::from(matches!(kind, FrameKind::Data | FrameKind::Parcel));
                if behind.wrapping_sub(tail) > self.size() {
                    return Err(corrupt(tail, word));
                }
            };
            if moved {
                continue;
            }
            if behind == tail {
                return Ok(());
            }
            if OVERRUN {
                let count = self.entry.u64::<{ lane::COUNT }>();
                // ORDER Acquire [lane-tail]: as in `end`.
                let seen = count.load(Ordering::Acquire);
                // Counted already if the count belongs to a later position than the tail.
                if Count(seen).position_from(tail) == tail {
                    // ORDER Release [lane-tail]: as in `moved`. A failure means that the producer or a helper was first.
                    let _ = count.compare_exchange(
                        seen,
                        Count::new(Count(seen).messages() + messages, behind).0,
                        Ordering::Release,
                        Ordering::Relaxed,
                    );
                }
            }
            kill_point!("channel.repair.before_tail");
            // ORDER Release [lane-tail]: as in `moved`. A failure means that the producer or a helper was first.
            let _ = self.entry.u64::<{ lane::TAIL }>().compare_exchange(
                tail,
                behind,
                Ordering::Release,
                Ordering::Relaxed,
            );
            kill_point!("channel.repair.moved");
        }
        Err(Error::new(ErrorCode::Busy, "A lane moves too fast to be repaired."))
    }

    /// Where a producer goes on that has taken the lane.
    pub fn head<const OVERRUN: bool>(self, ground: &dyn Ground, generation: u32) -> Result<Head> {
        self.repair::<OVERRUN>(ground, generation)?;
        let Place { position, messages } = self.end::<OVERRUN>()?;
        if !position.is_multiple_of(8) || position > POSITION_MAX {
            return Err(Error::new(ErrorCode::Corrupt, format!("A lane ends at position {position}.")));
        }
        // ORDER Relaxed: the owner's word; taking the lane ordered it.
        let intent = self.entry.u64::<{ lane::INTENT }>().load(Ordering::Relaxed);
        Ok(Head { position, messages, intent })
    }

    /// Checks the length of a frame: within the ring, and up to its end if it is padding.
    #[inline(always)]
    fn check(self, position: u64, word: FrameWord, kind: FrameKind, header: u64) -> Result<u64> {
        let rest = self.size() - self.at(position);
        let len = word.len();
        let good = match kind {
            FrameKind::Data => len >= header && align8(len) <= rest,
            FrameKind::Padding => len == rest,
            FrameKind::Opened => len == GATE_BYTES,
            FrameKind::Gate => false,
            FrameKind::Parcel => len == header + PARCEL_WORDS && len <= rest,
        };
        if good { Ok(len) } else { Err(corrupt(position, word)) }
    }

    /// Reads the frame at `place` and copies its payload to the start of `into`, which grows when it is too short.
    ///
    /// The copy is whole and of that frame if the caller still holds its subscription afterwards (lanes that block), or as
    /// validated here (lanes that overrun).
    #[inline(always)]
    pub fn next<const OVERRUN: bool>(
        self,
        ground: &dyn Ground,
        place: Place,
        into: &mut Vec<u8>,
    ) -> Result<Next> {
        let (at, len, behind) = match self.find::<OVERRUN>(ground, place)? {
            Found::Message { at, len, behind } => (at, len as usize, behind),
            Found::Parcel { words, behind } => return Ok(Next::Parcel { words, behind }),
            Found::Empty => return Ok(Next::Empty),
            Found::Lapped => return Ok(Next::Lapped),
        };
        if into.len() < len {
            into.resize(len, 0);
        }
        self.ring.copy_out(at, &mut into[..len])?;
        if OVERRUN && self.lapped(at - header(OVERRUN)) {
            return Ok(Next::Lapped);
        }
        Ok(Next::Message { len, behind })
    }

    /// Finds the frame at `place`. What is read of its payload afterwards is whole and of that frame if the caller then still holds its
    /// subscription (lanes that block), or if the frame is then not [`Lane::lapped`] (lanes that overrun).
    #[inline(always)]
    pub fn find<const OVERRUN: bool>(self, ground: &dyn Ground, mut place: Place) -> Result<Found> {
        for _ in 0..BARE_MAX {
            // ORDER Acquire [frame]: payload and the zero behind it; pairs with the store in `commit`.
            let word = FrameWord(self.ring.word(place.position).load(Ordering::Acquire));
            if word.0 == 0 {
                return Ok(if OVERRUN && self.lapped(place.position) { Found::Lapped } else { Found::Empty });
            }
            let checked = match word.kind_at(place.position) {
                Some(FrameKind::Gate) => match self.pass_gate::<OVERRUN>(ground, place.position, word) {
                    Ok(true) => {
                        place.position = place.position.wrapping_add(GATE_BYTES);
                        continue;
                    }
                    Ok(false) if OVERRUN && self.lapped(place.position) => return Ok(Found::Lapped),
                    Ok(false) => return Ok(Found::Empty),
                    Err(error) => Err(error),
                },
                Some(kind) => self.check(place.position, word, kind, header(OVERRUN)).map(|len| (kind, len)),
                None => Err(corrupt(place.position, word)),
            };
            let (kind, len) = match checked {
                Ok(checked) => checked,
                // What a later lap left there need not look like a frame.
                Err(_) if OVERRUN && self.lapped(place.position) => return Ok(Found::Lapped),
                Err(error) => return Err(error),
            };
            let behind = place.position.wrapping_add(align8(len));
            if kind == FrameKind::Parcel {
                return self.next_parcel::<OVERRUN>(place, behind);
            }
            if kind != FrameKind::Data {
                if OVERRUN && self.lapped(place.position) {
                    return Ok(Found::Lapped);
                }
                place.position = behind;
                continue;
            }
            let number = if OVERRUN {
                // ORDER Relaxed: part of the frame; validated here if it is wrong, by the caller if it is right.
                self.ring.word(place.position + WORD).load(Ordering::Relaxed)
            } else {
                0
            };
            if OVERRUN && Count::between(place.messages, number) != 0 {
                let lapped = self.lapped(place.position);
                return if lapped { Ok(Found::Lapped) } else { Err(corrupt(place.position, word)) };
            }
            let behind = Place { position: behind, messages: number.wrapping_add(u64::from(OVERRUN)) };
            let at = place.position + header(OVERRUN);
            return Ok(Found::Message { at, len: len - header(OVERRUN), behind });
        }
        Err(no_message(place.position))
    }

    /// The frame at `place`, which names a parcel.
    #[cold]
    #[inline(never)]
    fn next_parcel<const OVERRUN: bool>(self, place: Place, behind: u64) -> Result<Found> {
        // ORDER Relaxed: part of the frame; validated below where it may be overwritten.
        let word = |at| self.ring.word(place.position + at).load(Ordering::Relaxed);
        let words = [word(header(OVERRUN)), word(header(OVERRUN) + 8)];
        let number = if OVERRUN { word(WORD) } else { 0 };
        if OVERRUN {
            if self.lapped(place.position) {
                return Ok(Found::Lapped);
            }
            if Count::between(place.messages, number) != 0 {
                return Err(Error::new(
                    ErrorCode::Corrupt,
                    format!("The parcel at position {} has the number {number}.", place.position),
                ));
            }
        }
        let messages = number.wrapping_add(u64::from(OVERRUN));
        Ok(Found::Parcel { words, behind: Place { position: behind, messages } })
    }

    /// Whether a reader that stands at `position` would find anything: a message, a loss or damage.
    pub fn has_message<const OVERRUN: bool>(self, ground: &dyn Ground, mut position: u64) -> bool {
        for _ in 0..BARE_MAX {
            // ORDER Acquire [frame]: as in `next`.
            let word = FrameWord(self.ring.word(position).load(Ordering::Acquire));
            if OVERRUN && self.lapped(position) {
                return true;
            }
            if word.0 == 0 {
                return false;
            }
            let len = match word.kind_at(position) {
                Some(FrameKind::Padding) => self.size() - self.at(position),
                Some(FrameKind::Opened) => GATE_BYTES,
                Some(FrameKind::Gate) => match self.pass_gate::<OVERRUN>(ground, position, word) {
                    Ok(true) => GATE_BYTES,
                    Ok(false) => return false,
                    Err(_) => return true,
                },
                _ => return true,
            };
            position = position.wrapping_add(len);
        }
        true
    }

    /// Lanes that block: the message at `position`, behind padding if there is some, without copying it. What this says, and what
    /// is copied afterwards, is good if the reader finds that its place has not moved meanwhile.
    #[inline(always)]
    pub fn peek(self, ground: &dyn Ground, mut position: u64) -> Result<Option<Peeked>> {
        for _ in 0..BARE_MAX {
            // ORDER Acquire [frame]: as in `next`.
            let word = FrameWord(self.ring.word(position).load(Ordering::Acquire));
            if word.0 == 0 {
                return Ok(None);
            }
            let Some(kind) = word.kind_at(position) else { return Err(corrupt(position, word)) };
            if kind == FrameKind::Gate {
                if !self.pass_gate::<false>(ground, position, word)? {
                    return Ok(None);
                }
                position = position.wrapping_add(GATE_BYTES);
                continue;
            }
            let len = self.check(position, word, kind, WORD)?;
            let behind = position.wrapping_add(align8(len));
            if let FrameKind::Data | FrameKind::Parcel = kind {
                let (at, parcel) = (position + WORD, kind == FrameKind::Parcel);
                return Ok(Some(Peeked { at, len: len - WORD, behind, again: word.is_again(), parcel }));
            }
            position = behind;
        }
        Err(no_message(position))
    }

    /// Overrun: whether bytes at `position` may have been overwritten by now. What was loaded before this call is good
    /// if not.
    #[inline(always)]
    pub(super) fn lapped(self, position: u64) -> bool {
        // ORDER Acquire [intent]: everything loaded before; pairs with the fence in `announce`: who saw a byte of a later lap
        // sees the intent that came before it.
        fence(Ordering::Acquire);
        // ORDER Relaxed: the fence orders it.
        let intent = self.entry.u64::<{ lane::INTENT }>().load(Ordering::Relaxed);
        intent.saturating_sub(position) > self.size()
    }

    /// Overrun: where a reader goes on that was lapped at `place`: at a frame that stands in the middle of the ring. The
    /// difference of the message counts is what it lost. None if the producer is too fast just now: try again.
    pub fn resume(self, place: Place) -> Result<Option<Place>> {
        let tail = self.tail();
        // ORDER Relaxed: a first guess; validated below.
        let intent = self.entry.u64::<{ lane::INTENT }>().load(Ordering::Relaxed);
        // Leave the producer a quarter of the ring before it comes round again.
        let oldest = intent.saturating_sub(self.size() / 4 * 3).max(place.position);
        let mut best: Option<u64> = None;
        for index in 0..lane::MARK_COUNT as usize {
            // ORDER Acquire [mark]: what stands in front of it is committed.
            let mark = self.entry.u64_at::<{ lane::MARKS }>(index).load(Ordering::Acquire);
            let can_be = mark.is_multiple_of(8) && mark <= POSITION_MAX;
            if can_be && mark >= oldest && mark < tail && best.is_none_or(|best| mark < best) {
                best = Some(mark);
            }
        }
        let Some(mut position) = best else { return Ok(None) };
        for _ in 0..BARE_MAX {
            // ORDER Acquire [frame]: as in `next`.
            let word = FrameWord(self.ring.word(position).load(Ordering::Acquire));
            let number = if self.at(position) + WORD < self.size() {
                // ORDER Relaxed: part of the frame; validated below.
                self.ring.word(position + WORD).load(Ordering::Relaxed)
            } else {
                0
            };
            if word.0 == 0 || self.lapped(position) {
                return Ok(None);
            }
            match word.kind_at(position) {
                Some(FrameKind::Data | FrameKind::Parcel) => {
                    return Ok(Some(Place { position, messages: number }));
                }
                Some(kind @ (FrameKind::Padding | FrameKind::Opened)) => {
                    position = position.wrapping_add(align8(self.check(position, word, kind, 16)?));
                }
                // In front of the tail gates are open; this one's lane goes on just now.
                Some(FrameKind::Gate) => return Ok(None),
                None => return Err(corrupt(position, word)),
            }
        }
        Ok(None)
    }

    /// The ring, for the payload of a frame that was begun.
    #[inline(always)]
    pub fn ring(self) -> Ring<'a> {
        self.ring
    }

    /// The producer asks for the lines that it writes next, behind the one that its readers look at: the store that commits
    /// a frame waits for the line of the word behind it.
    #[inline(always)]
    pub fn prefetch(self, position: u64) {
        self.ring.prefetch_write(position + 64);
        self.ring.prefetch_write(position + 384);
    }

    /// A reader with a backlog asks for lines that it reads soon.
    #[inline(always)]
    pub fn prefetch_read(self, position: u64) {
        self.ring.prefetch(position + 128);
    }
}
