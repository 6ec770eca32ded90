//! Bytes of a channel's control area and of a frame, and their packed words as types.
//!
//! ```text
//! control area (after the object header, in one chunk)
//!   0 kind       u32  1 stream, 2 broadcast, 3 queue, 4 log
//!   4 overrun    u32  1 block, 2 overrun
//!   8 lane_bytes u64  bytes of each ring, a power of two
//!  16 lanes      u32  lane entries, a multiple of 8
//!  20 subs       u32  subscription entries; of a queue: consumer entries
//!  24 object     u32  number of the object that the chunks of rings are marked with
//!  28 acknowledge u32 queue: 1 if messages are acknowledged    32 visibility u64  queue: ms after which others get a message; 0 never
//!  40 letters_after u32  queue: deliveries after which a message is a dead letter; 0 never   44 letters_len u32  bytes of the name at 256
//!  48 eject_after u64 ms that a subscription may stand still while a publisher waits for it; 0 for ever
//!  56 stamped    u32  1 if each payload begins with the time at which it was sent, 8 B, ns of the monotonic clock
//!  64 lane_epoch u32  grows when a lane gets its ring          68 sub_epoch u32  grows when a subscription comes or goes
//!  72 returned   u32  queue: grows when messages are given back     80 ejected u64  subscriptions that were ejected
//! 128 data       u32  wait word of the subscribers
//! 192 space      u32  wait word of the publishers
//! 256 letters    64 B queue: name of the channel for dead letters
//! 320 redelivered u64 queue: messages that were delivered again  328 dead_letters u64  queue: messages that became dead letters
//! 384 lane entries, 192 B each; then subscription entries, 128 B each; then for each subscription one place for each lane.
//!     A queue has heads and consumer entries behind the lane entries instead: see `queue::layout`. A log has no lanes: see `log::layout`
//!
//! lane entry (line 0 is written once in a sixteenth of the ring, line 1 at each message, line 2 once in an eighth)
//!   0 state  u64  {kind 8 | 0 8 | owner thread 12 | 0 4 | generation 32}, lowest bits first
//!   8 ring   u64  offset of the ring in the segment, 0 before it has one; never changes afterwards
//!  16 intent u64  overrun: bytes at positions below intent - lane_bytes may be overwritten
//!  24 parcel u64  the newest parcel: {chunk 32 | its generation 32}; 0 before there was one
//!  64 tail   u64  position behind the last whole frame
//!  72 count  u64  overrun: {messages 48 | position / 8 : 16}: how many messages stand in front of that position
//! 128 marks  u64 x 8  overrun: the first frame boundary in each eighth of the ring
//!
//! subscription entry
//!   0 state  u64  {kind 8 | flags 8 | owner thread 12 | 0 4 | generation 32}
//!   8 name_len u64    16 position u64  log: where it stands    64 name  64 B
//!
//! place of a subscription in a lane, 16 B
//!   0 position u64  everything in front of it is handled
//!   8 handled  u64  overrun: {messages 48 | position / 8 : 16}, stored before `position`
//!
//! frame: at position p of a lane, in the ring at p modulo lane_bytes; begins at a multiple of 8, never crosses the ring's end
//!   0 word    u64  {length with header 32 | kind 8 | flags 8 | position / 8 : 16}; 0 = not yet committed; kinds 1 message, 2 padding,
//!                  3 opened gate, 4 gate, which has the lane's generation as length, 5 name of a parcel; flags 1 first and 2 last frame of a message, 4 it
//!                  may have been sent before
//!   8 number  u64  overrun only: how many messages of the lane came before this one
//!   8 or 16 payload, filled up to 8 bytes. Of a frame that names a parcel: the word of its first chunk, and its bytes u64
//!
//! parcel: a message that is too long for its lane; in chunks of its own, each {number 32 | generation 32} in the one before it
//!   0 next   u64  the next chunk, 0 in the last one
//!   8 before u64  in the first: the parcel that was sent before, whose chunks may be gone
//!  16 position u64  in the first: of its frame               24 len u64  in the first: bytes in all
//!  32 term   u64  in the first: generation of the lane's state when it was sent
//!  40 bytes of the message
//! ```
//! A frame is valid if and only if its word is not 0. A padding frame is the word alone and reaches to the end of the ring.
//! A gate stands in front of messages that a transaction decides about: 8 reference u64, as in the stamp of a record. It may cross the
//! ring's end between its two words.
//! The word behind the last frame of a lane is 0.

use crate::error::{Error, ErrorCode, Result};

/// Field offsets in the control area.
pub mod control {
    pub const KIND: usize = 0;
    pub const OVERRUN: usize = 4;
    pub const LANE_BYTES: usize = 8;
    pub const LANES: usize = 16;
    pub const SUBS: usize = 20;
    pub const OBJECT: usize = 24;
    pub const ACKNOWLEDGE: usize = 28;
    pub const VISIBILITY: usize = 32;
    pub const LETTERS_AFTER: usize = 40;
    pub const LETTERS_LEN: usize = 44;
    pub const EJECT_AFTER: usize = 48;
    pub const STAMPED: usize = 56;
    pub const LANE_EPOCH: usize = 64;
    pub const SUB_EPOCH: usize = 68;
    pub const RETURNED: usize = 72;
    pub const EJECTED: usize = 80;
    pub const DATA: usize = 128;
    pub const SPACE: usize = 192;
    pub const LETTERS: usize = 256;
    pub const REDELIVERED: usize = 320;
    pub const DEAD_LETTERS: usize = 328;
    /// Bytes in front of the lane entries.
    pub const BYTES: usize = 384;
}

/// Field offsets in a lane entry.
pub mod lane {
    pub const STATE: usize = 0;
    pub const RING: usize = 8;
    pub const INTENT: usize = 16;
    pub const PARCEL: usize = 24;
    pub const TAIL: usize = 64;
    pub const COUNT: usize = 72;
    pub const MARKS: usize = 128;
    /// Parts of the ring that have a mark.
    pub const MARK_COUNT: u64 = 8;
    pub const BYTES: u64 = 192;
}

/// Field offsets in a subscription entry.
pub mod sub {
    pub const STATE: usize = 0;
    pub const NAME_LEN: usize = 8;
    pub const POSITION: usize = 16;
    pub const NAME: u64 = 64;
    pub const BYTES: u64 = 128;
}

/// Field offsets in the place of a subscription in a lane.
pub mod place {
    pub const POSITION: usize = 0;
    pub const HANDLED: usize = 8;
    pub const BYTES: u64 = 16;
}

const _: () = assert!(lane::MARKS + lane::MARK_COUNT as usize * 8 == lane::BYTES as usize);
const _: () = assert!(sub::NAME + crate::limits::NAME_LEN_MAX as u64 == sub::BYTES);
const _: () = assert!(control::LETTERS + crate::limits::NAME_LEN_MAX == control::REDELIVERED);

/// Bytes of the smallest ring.
pub const LANE_BYTES_MIN: u64 = 4096;
/// Bytes of the largest ring.
pub const LANE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a ring if the user names none.
pub const LANE_BYTES_DEFAULT: u32 = 64 << 10;
/// Bytes that a subscription's place in a lane moves at most at once where messages are counted: 16 bits of 8 bytes.
pub const STEP_MAX: u64 = 1 << 18;

/// Positions beyond this cannot be reached: damaged content.
pub const POSITION_MAX: u64 = 1 << 62;

/// Bytes of a frame's word.
pub const WORD: u64 = 8;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A message.
    Data = 1,
    /// Filler up to the end of the ring.
    Padding = 2,
    /// What a gate is after its transaction was committed: nothing to stop at.
    Opened = 3,
    /// A transaction decides whether what follows was sent.
    Gate = 4,
    /// The name of a message that stands in chunks of its own.
    Parcel = 5,
}

/// Bytes of a gate: its word and the reference.
pub const GATE_BYTES: u64 = 16;

/// First and last frame of a message: always both, until messages may span frames.
const WHOLE: u64 = 3;
/// Flag of a frame: whoever sent it may have sent it before, and died before it knew.
const AGAIN: u64 = 1 << 42;

/// The first word of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameWord(pub u64);

impl FrameWord {
    /// The word of a frame of `len` bytes, header included, at `position`.
    #[inline]
    pub const fn new(len: u64, kind: FrameKind, position: u64) -> FrameWord {
        FrameWord(len & 0xffff_ffff | (kind as u64) << 32 | WHOLE << 40 | (position / 8) << 48)
    }

    /// The word of a gate at `position`, set by the holder of the lane's `generation`: no other holder's is the same.
    pub const fn gate(generation: u32, position: u64) -> FrameWord {
        FrameWord::new(generation as u64, FrameKind::Gate, position)
    }

    /// The holder of the lane that set a gate.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// Bytes with the header, without the filling.
    #[inline]
    pub const fn len(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// The same word with the mark that the message may have been sent before.
    #[inline]
    pub const fn marked_again(self) -> FrameWord {
        FrameWord(self.0 | AGAIN)
    }

    /// Whether the message may have been sent before.
    #[inline]
    pub const fn is_again(self) -> bool {
        self.0 & AGAIN != 0
    }

    /// None for a number that is no kind, or a word that belongs to another position: damaged or overwritten.
    #[inline]
    pub const fn kind_at(self, position: u64) -> Option<FrameKind> {
        if self.0 >> 48 != (position / 8) & 0xffff {
            return None;
        }
        match self.0 >> 32 & 0xffff {
            0x301 | 0x701 => Some(FrameKind::Data),
            0x302 => Some(FrameKind::Padding),
            0x303 => Some(FrameKind::Opened),
            0x304 => Some(FrameKind::Gate),
            0x305 | 0x705 => Some(FrameKind::Parcel),
            _ => None,
        }
    }
}

/// A number of messages together with the low bits of the position that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl Count {
    pub const fn new(messages: u64, position: u64) -> Count {
        Count(messages << 16 | (position / 8) & 0xffff)
    }

    /// Modulo 2^48.
    pub const fn messages(self) -> u64 {
        self.0 >> 16
    }

    /// The position that the number belongs to, which is at `known` or less than 512 KiB behind it.
    pub const fn position_from(self, known: u64) -> u64 {
        known.wrapping_add(((self.0 & 0xffff).wrapping_sub(known / 8) & 0xffff) * 8)
    }

    /// How many messages lie between two numbers.
    pub const fn between(earlier: u64, later: u64) -> u64 {
        later.wrapping_sub(earlier) & 0xffff_ffff_ffff
    }
}

/// Who holds a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LaneKind {
    /// Never used: it has no ring.
    Free = 0,
    /// A thread gives it a ring.
    Taking = 1,
    /// A thread publishes on it.
    Live = 2,
    /// Nobody publishes on it; what it holds can be read, and the next publisher goes on behind it.
    Closed = 3,
}

/// Who holds a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SubKind {
    /// Nobody: it bounds no publisher.
    Free = 0,
    /// A thread writes its name and places; it bounds no publisher yet.
    Joining = 1,
    /// A thread reads.
    Live = 2,
    /// Its holder is away; its places stay.
    Away = 3,
}

macro_rules! state_word {
    ($(#[$doc:meta])* $name:ident of $kind:ident { $($variant:ident = $number:literal),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub u64);

        impl $name {
            pub const fn new(kind: $kind, flags: u8, owner: u16, generation: u32) -> $name {
                $name(kind as u64 | (flags as u64) << 8 | ((owner as u64) & 0xfff) << 16 | (generation as u64) << 32)
            }

            /// None for a number that is no kind: damaged content.
            #[inline]
            pub const fn kind(self) -> Option<$kind> {
                match self.0 as u8 {
                    $($number => Some($kind::$variant),)*
                    _ => None,
                }
            }

            #[inline]
            pub fn is(self, kind: $kind) -> bool {
                self.kind() == Some(kind)
            }

            #[inline]
            pub const fn flags(self) -> u8 {
                (self.0 >> 8) as u8
            }

            /// Index of the thread entry that holds it; 0 for none.
            #[inline]
            pub const fn owner(self) -> u16 {
                (self.0 >> 16) as u16 & 0xfff
            }

            #[inline]
            pub const fn generation(self) -> u32 {
                (self.0 >> 32) as u32
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.kind() {
                    Some(kind) => write!(
                        f, "{kind:?} of thread {} generation {} flags {}", self.owner(), self.generation(), self.flags()
                    ),
                    None => write!(f, "{:#018x}", self.0),
                }
            }
        }
    };
}

state_word! {
    /// The state word of a lane.
    LaneState of LaneKind { Free = 0, Taking = 1, Live = 2, Closed = 3 }
}

state_word! {
    /// The state word of a subscription.
    SubState of SubKind { Free = 0, Joining = 1, Live = 2, Away = 3 }
}

/// Flag of a subscription: it keeps its place while its holder is away.
pub const NAMED: u8 = 1;

/// Where the parts of a control area lie: a private copy, checked when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Where the control area begins in the segment.
    pub offset: u64,
    /// Bytes of each ring.
    pub lane_bytes: u64,
    /// Lane entries.
    pub lanes: u32,
    /// Subscription entries.
    pub subs: u32,
}

impl Shape {
    /// Entries that fit a control area of `len` bytes: as many lanes as its chunk size deserves, half as many subscriptions.
    pub const fn counts(len: u64) -> Option<(u32, u32)> {
        let candidates: [(u32, u32); 4] = [(256, 128), (128, 64), (64, 32), (32, 12)];
        let mut place = 0;
        while place < candidates.len() {
            let (lanes, subs) = candidates[place];
            if Shape::bytes(lanes, subs) <= len {
                return Some((lanes, subs));
            }
            place += 1;
        }
        None
    }

    /// Bytes of a control area.
    pub const fn bytes(lanes: u32, subs: u32) -> u64 {
        control::BYTES as u64
            + lanes as u64 * lane::BYTES
            + subs as u64 * (sub::BYTES + lanes as u64 * place::BYTES)
    }

    #[inline]
    pub const fn lane(&self, index: u32) -> u64 {
        self.offset + control::BYTES as u64 + index as u64 * lane::BYTES
    }

    #[inline]
    pub const fn sub(&self, index: u32) -> u64 {
        self.lane(self.lanes) + index as u64 * sub::BYTES
    }

    #[inline]
    pub const fn place(&self, sub: u32, lane: u32) -> u64 {
        self.sub(self.subs) + (sub as u64 * self.lanes as u64 + lane as u64) * place::BYTES
    }

    /// Bytes of the longest message. A stream or broadcast that blocks (`waits`) takes half a ring: with its padding in front of
    /// the ring's end that fits an empty one. Where readers may be lapped, or consumers hold copies, it is an eighth and at most
    /// 128 KiB: a message with its padding, or a batch with its own, moves less than the low bits of a count can tell.
    pub const fn message_len_max(&self, waits: bool) -> u64 {
        let eighth = self.lane_bytes / 8;
        let most = if waits {
            self.lane_bytes / 2
        } else if eighth < STEP_MAX / 2 {
            eighth
        } else {
            STEP_MAX / 2
        };
        most.saturating_sub(16)
    }
}

/// Refuses ring sizes that are no power of two or outside the bounds.
pub fn check_lane_bytes(lane_bytes: u64) -> Result<()> {
    if lane_bytes.is_power_of_two() && (LANE_BYTES_MIN..=LANE_BYTES_MAX).contains(&lane_bytes) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!(
            "lane_bytes is {lane_bytes}: it must be a power of two from {LANE_BYTES_MIN} to {LANE_BYTES_MAX}."
        ),
    ))
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    control::BYTES as u64,
    lane::BYTES,
    lane::TAIL as u64,
    lane::INTENT as u64,
    lane::PARCEL as u64,
    crate::chunk::PARCEL_HEADER,
    control::LANE_BYTES as u64,
    control::DATA as u64,
    control::SPACE as u64,
    control::EJECT_AFTER as u64,
    control::STAMPED as u64,
    control::RETURNED as u64,
    control::LETTERS as u64,
    sub::POSITION as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_their_parts() {
        let word = FrameWord::new(64, FrameKind::Data, 0x12345678);
        assert_eq!((word.len(), word.kind_at(0x12345678)), (64, Some(FrameKind::Data)));
        assert_eq!(word.kind_at(0x12345680), None, "of another position");
        let again = word.marked_again();
        assert_eq!((again.len(), again.kind_at(0x12345678)), (64, Some(FrameKind::Data)));
        assert!(again.is_again() && !word.is_again());
        let gate = FrameWord::gate(0xdead_beef, 0x12345678);
        assert_eq!((gate.generation(), gate.kind_at(0x12345678)), (0xdead_beef, Some(FrameKind::Gate)));
        assert_ne!(gate, FrameWord::gate(0xdead_bee0, 0x12345678), "another holder");
        assert_eq!(FrameWord(7 << 32).kind_at(0), None);
        let state = SubState::new(SubKind::Away, NAMED, 0xabc, 0xdead_beef);
        assert_eq!(
            (state.kind(), state.flags(), state.owner(), state.generation()),
            (Some(SubKind::Away), NAMED, 0xabc, 0xdead_beef)
        );
        assert_eq!(LaneState(9).kind(), None);
    }

    #[test]
    fn a_count_finds_the_position_that_it_belongs_to() {
        for (known, position) in [(0, 0), (8, 64), ((1 << 19) - 8, 1 << 19), (1 << 30, (1 << 30) + STEP_MAX)]
        {
            let count = Count::new(7, position);
            assert_eq!((count.messages(), count.position_from(known)), (7, position));
        }
        assert_eq!(Count::between((1 << 48) - 1, 1), 2);
    }

    #[test]
    fn the_parts_of_a_control_area_fit_its_chunk_and_do_not_overlap() {
        for chunk in [16u64 << 10, 64 << 10, 256 << 10, 1 << 20] {
            let (lanes, subs) = Shape::counts(chunk - 256).unwrap();
            let shape = Shape { offset: 256, lane_bytes: 4096, lanes, subs };
            assert!(lanes.is_multiple_of(8) && shape.place(subs, 0) <= chunk, "{chunk}: {shape:?}");
            assert_eq!(shape.place(subs, 0) - 256, Shape::bytes(lanes, subs));
        }
        assert_eq!(Shape::counts(4096), None);
    }
}
