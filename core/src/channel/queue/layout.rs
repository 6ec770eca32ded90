//! Bytes of what a queue has beside its lanes, and their packed words as types.
//!
//! ```text
//! behind the lane entries: one head for each lane, 64 B each; then consumer entries, 192 B each
//!
//! head
//!   0 word u64  {consumer 8 | position / 8 : 56}, lowest bits first: everything in front of the position was taken; by whom last,
//!               as the number of its entry + 1, 0 for nobody
//!
//! consumer entry (line 0 hardly ever changes, line 1 is written and helped at each taking, line 2 at each taking)
//!   0 state  u64  {kind 8 | 0 8 | owner thread 12 | 0 4 | generation 32}, as of a subscription
//!   8 ring   u64  offset of its ring in the segment, 0 before it has one; never changes afterwards
//!  64 intent u64  {phase 2 | number 62}: 0 none, 1 open, 2 taken
//!  72 source u64  offset of the word by which it takes       80 target u64  what stands there once it has taken
//!  88 until  u64  number behind its last cell then
//! 128 floor  u64  number of the first cell that is still in use     136 tail u64  number behind its last cell
//!
//! ring of a consumer, `lane_bytes` long: the first half is cells of 32 B, the second half is the payload of what they hold.
//! The cell with number n stands at n modulo their count.
//!
//! cell
//!   0 word u64  {kind 3 | letter 1 | deliveries 10 | consumer 8 | touched 4 | number 38}
//!   8 name u64  {lane 8 | position / 8 : 56}: the message, by its lane and the position behind it
//!  16 due  u64  ms of the boot clock: held: others may take it from then on, 0 never; back: so may anybody
//!  24 data u64  {len 23 | parcel 1 | place / 8 : 40}: where in the second half it begins, modulo its length; with the flag the two words
//!               of a parcel stand there, as in its frame, and its chunks are this cell's: in a cell that is done by nobody's taking they go
//! ```

use super::super::layout::{control, lane};

/// Field offsets in a head.
pub mod head {
    pub const WORD: usize = 0;
    pub const BYTES: u64 = 64;
}

/// Field offsets in a consumer entry.
pub mod consumer {
    pub const STATE: usize = 0;
    pub const RING: usize = 8;
    pub const INTENT: usize = 64;
    pub const SOURCE: usize = 72;
    pub const TARGET: usize = 80;
    pub const UNTIL: usize = 88;
    pub const FLOOR: usize = 128;
    pub const TAIL: usize = 136;
    pub const BYTES: u64 = 192;
}

/// Field offsets in a cell.
pub mod cell {
    pub const WORD: u64 = 0;
    pub const NAME: u64 = 8;
    pub const DUE: u64 = 16;
    pub const DATA: u64 = 24;
    pub const BYTES: u64 = 32;
}

/// Consumers of a queue at most: their number + 1 has 8 bits.
pub const CONSUMERS_MAX: u64 = 254;
/// Consumers of a queue at least: a control area that has no room for them is too small.
const CONSUMERS_MIN: u64 = 2;
/// Deliveries are counted up to here.
pub const DELIVERIES_MAX: u32 = (1 << 10) - 1;
/// Bytes of a message: 23 bits.
pub const LEN_MAX: u64 = PARCEL - 1;
/// Flag of what a cell holds: it names a parcel.
const PARCEL: u64 = 1 << 23;

/// Lanes and consumers of a queue whose control area has `len` bytes: as many lanes as its chunk size deserves, and as many
/// consumers as then fit.
pub const fn counts(len: u64) -> Option<(u32, u32)> {
    let mut lanes = 256;
    while lanes >= 32 {
        let rest = len.saturating_sub(bytes(lanes, 0));
        let consumers = rest / consumer::BYTES;
        if bytes(lanes, CONSUMERS_MIN as u32) <= len {
            return Some((lanes, if consumers < CONSUMERS_MAX { consumers } else { CONSUMERS_MAX } as u32));
        }
        lanes /= 2;
    }
    None
}

/// Bytes of the control area of a queue.
pub const fn bytes(lanes: u32, consumers: u32) -> u64 {
    control::BYTES as u64 + lanes as u64 * (lane::BYTES + head::BYTES) + consumers as u64 * consumer::BYTES
}

/// How far a lane was taken, and who took last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadWord(pub u64);

impl HeadWord {
    #[inline(always)]
    pub const fn new(position: u64, taker: u8) -> HeadWord {
        HeadWord((position / 8) << 8 | taker as u64)
    }

    /// Everything in front of it was taken.
    #[inline(always)]
    pub const fn position(self) -> u64 {
        (self.0 >> 8) << 3
    }

    /// Number of the consumer + 1; 0 for nobody.
    #[inline(always)]
    pub const fn taker(self) -> u8 {
        self.0 as u8
    }
}

/// A message by its lane and the position behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub u64);

impl Name {
    #[inline(always)]
    pub const fn new(lane: u32, position: u64) -> Name {
        Name((position / 8) << 8 | (lane & 0xff) as u64)
    }

    #[inline(always)]
    pub const fn lane(self) -> u32 {
        (self.0 & 0xff) as u32
    }

    #[inline(always)]
    pub const fn position(self) -> u64 {
        (self.0 >> 8) << 3
    }
}

/// What a cell is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CellKind {
    /// Its owner has handed the message out.
    Held = 1,
    /// Given back: anybody may take the message when it is due.
    Back = 2,
    /// Given back or left by a dead owner: anybody may take the message.
    Left = 3,
    /// Another consumer has taken the message.
    Gone = 4,
    /// Nothing any more.
    Done = 5,
}

const LETTER: u64 = 1 << 3;
const DELIVERIES_AT: u32 = 4;
const TAKER_AT: u32 = 14;
const TOUCHED_AT: u32 = 22;
const NUMBER_AT: u32 = 26;
const NUMBER_MASK: u64 = (1 << (64 - NUMBER_AT)) - 1;

/// The word of a cell: who has what it holds. Changed by compare-and-swap alone once the cell is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CellWord(pub u64);

impl CellWord {
    /// A message in its owner's hand, delivered so often.
    #[inline(always)]
    pub const fn held(number: u64, deliveries: u32, letter: bool) -> CellWord {
        let deliveries = if deliveries < DELIVERIES_MAX { deliveries } else { DELIVERIES_MAX };
        CellWord(
            CellKind::Held as u64
                | (letter as u64) << 3
                | (deliveries as u64) << DELIVERIES_AT
                | (number & NUMBER_MASK) << NUMBER_AT,
        )
    }

    /// The same message in the cell with this number.
    #[inline(always)]
    pub const fn in_cell(self, number: u64) -> CellWord {
        let kept = 7 | LETTER | (DELIVERIES_MAX as u64) << DELIVERIES_AT;
        CellWord(self.0 & kept | (number & NUMBER_MASK) << NUMBER_AT)
    }

    /// None for a number that is no kind.
    #[inline(always)]
    pub const fn kind(self) -> Option<CellKind> {
        match self.0 & 7 {
            1 => Some(CellKind::Held),
            2 => Some(CellKind::Back),
            3 => Some(CellKind::Left),
            4 => Some(CellKind::Gone),
            5 => Some(CellKind::Done),
            _ => None,
        }
    }

    #[inline(always)]
    pub fn is(self, kind: CellKind) -> bool {
        self.kind() == Some(kind)
    }

    /// The same cell as another kind.
    #[inline(always)]
    pub const fn to(self, kind: CellKind) -> CellWord {
        CellWord(self.0 & !7 | kind as u64)
    }

    /// Another word of the same meaning, so that who saw the old one comes too late.
    #[inline(always)]
    pub const fn touched(self) -> CellWord {
        let touched = (self.0 >> TOUCHED_AT).wrapping_add(1) & 0xf;
        CellWord(self.0 & !(0xf << TOUCHED_AT) | touched << TOUCHED_AT)
    }

    /// Taken by the consumer with this number + 1.
    #[inline(always)]
    pub const fn gone(self, taker: u8) -> CellWord {
        CellWord(self.to(CellKind::Gone).0 & !(0xff << TAKER_AT) | (taker as u64) << TAKER_AT)
    }

    /// Who has taken it: number of the consumer + 1.
    #[inline(always)]
    pub const fn taker(self) -> u8 {
        (self.0 >> TAKER_AT) as u8
    }

    /// How often the message was delivered, this time included if it is held.
    #[inline(always)]
    pub const fn deliveries(self) -> u32 {
        (self.0 >> DELIVERIES_AT) as u32 & DELIVERIES_MAX
    }

    /// The same word with one delivery more.
    #[inline(always)]
    pub const fn delivered(self) -> CellWord {
        let more = if self.deliveries() < DELIVERIES_MAX { 1 << DELIVERIES_AT } else { 0 };
        CellWord(self.0 + more)
    }

    /// Whether it is being sent to the channel for dead letters, or was when its holder died.
    #[inline(always)]
    pub const fn is_letter(self) -> bool {
        self.0 & LETTER != 0
    }

    /// The same word with or without the mark of a dead letter.
    #[inline(always)]
    pub const fn as_letter(self, letter: bool) -> CellWord {
        CellWord(self.0 & !LETTER | (letter as u64) << 3)
    }

    /// Whether the cell's own holder is done with its message: nobody else has taken it.
    #[inline(always)]
    pub const fn ended_here(self) -> bool {
        matches!(self.kind(), Some(CellKind::Done)) && self.taker() == 0
    }

    /// Whether it is the word of the cell with this number, and not of an earlier or later one in the same place.
    #[inline(always)]
    pub const fn is_of(self, number: u64) -> bool {
        self.0 >> NUMBER_AT == number & NUMBER_MASK
    }
}

impl std::fmt::Debug for CellWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letter = if self.is_letter() { " letter" } else { "" };
        match self.kind() {
            Some(kind) => write!(
                f,
                "{kind:?}{letter}, cell {} delivered {} times, taker {}",
                self.0 >> NUMBER_AT,
                self.deliveries(),
                self.taker()
            ),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

/// Where the payload of a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data(pub u64);

impl Data {
    /// Places grow to here and begin again, a multiple of every ring's length.
    pub const PLACES: u64 = 1 << 43;

    #[inline(always)]
    pub const fn new(place: u64, len: u64) -> Data {
        Data((place / 8) << 24 | len & LEN_MAX)
    }

    /// The same with the flag that it names a parcel, or without.
    #[inline(always)]
    pub const fn as_parcel(self, parcel: bool) -> Data {
        Data(self.0 & !PARCEL | (parcel as u64) << 23)
    }

    /// Whether the words of a parcel stand there.
    #[inline(always)]
    pub const fn is_parcel(self) -> bool {
        self.0 & PARCEL != 0
    }

    #[inline(always)]
    pub const fn place(self) -> u64 {
        (self.0 >> 24) << 3
    }

    #[inline(always)]
    pub const fn len(self) -> u64 {
        self.0 & LEN_MAX
    }
}

/// How far a consumer's taking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes nothing.
    None,
    /// It has taken once the source holds the target.
    Open,
    /// It has taken, and somebody may have changed the source since.
    Taken,
}

/// The phase of a taking, with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent(pub u64);

impl Intent {
    /// None for a number that is no phase.
    #[inline(always)]
    pub const fn phase(self) -> Option<Phase> {
        match self.0 & 3 {
            0 => Some(Phase::None),
            1 => Some(Phase::Open),
            2 => Some(Phase::Taken),
            _ => None,
        }
    }

    /// The same taking in another phase.
    #[inline(always)]
    pub const fn to(self, phase: Phase) -> Intent {
        Intent(self.0 & !3 | phase as u64)
    }

    /// The next taking, open.
    #[inline(always)]
    pub const fn next(self) -> Intent {
        Intent((self.0 | 3).wrapping_add(2))
    }
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    head::BYTES,
    consumer::INTENT as u64,
    consumer::FLOOR as u64,
    consumer::BYTES,
    cell::BYTES,
    PARCEL,
    TAKER_AT as u64,
    NUMBER_AT as u64,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_their_parts() {
        let head = HeadWord::new(1 << 58, 254);
        assert_eq!((head.position(), head.taker()), (1 << 58, 254));
        let name = Name::new(255, (1 << 58) + 8);
        assert_eq!((name.lane(), name.position()), (255, (1 << 58) + 8));
        let data = Data::new(Data::PLACES - 8, LEN_MAX);
        assert_eq!((data.place(), data.len(), data.is_parcel()), (Data::PLACES - 8, LEN_MAX, false));
        let named = data.as_parcel(true);
        assert_eq!((named.place(), named.len(), named.is_parcel()), (data.place(), LEN_MAX, true));
        assert_eq!(named.as_parcel(false), data);
        let word = CellWord::held((1 << 38) + 5, 7, false);
        assert!(word.is_of(5) && !word.is_of(6) && word.is(CellKind::Held) && !word.is_letter());
        let gone = word.delivered().as_letter(true).gone(254);
        assert_eq!((gone.kind(), gone.deliveries(), gone.taker()), (Some(CellKind::Gone), 8, 254));
        assert!(gone.is_letter() && gone.is_of(5) && !gone.as_letter(false).is_letter());
        assert!(
            word.to(CellKind::Done).ended_here()
                && !gone.to(CellKind::Done).ended_here()
                && !word.ended_here()
        );
        let mut touched = word;
        for _ in 0..16 {
            assert!(touched.is_of(5) && touched.deliveries() == 7 && touched.taker() == 0);
            touched = touched.touched();
        }
        assert_eq!(touched, word);
        assert_ne!(word.touched(), word);
        assert_eq!(CellWord::held(0, 5000, false).delivered().deliveries(), DELIVERIES_MAX);
        assert_eq!(CellWord(0).kind(), None);
        let elsewhere = gone.touched().in_cell(9);
        assert_eq!((elsewhere.taker(), elsewhere.deliveries(), elsewhere.is_letter()), (0, 8, true));
        assert!(elsewhere.is_of(9) && elsewhere.is(CellKind::Gone));
        let intent = Intent(0).next();
        assert_eq!(
            (intent.phase(), intent.to(Phase::Taken).phase()),
            (Some(Phase::Open), Some(Phase::Taken))
        );
        assert_eq!(intent.to(Phase::Taken).next(), intent.to(Phase::None).next());
        assert_ne!(intent.next(), intent);
        assert_eq!(Intent(3).phase(), None);
    }

    #[test]
    fn the_parts_of_a_control_area_fit_its_chunk() {
        for (chunk, lanes, consumers) in
            [(16u64 << 10, 32, 39), (64 << 10, 128, 167), (256 << 10, 256, CONSUMERS_MAX as u32)]
        {
            assert_eq!(counts(chunk - 256), Some((lanes, consumers)));
            assert!(bytes(lanes, consumers) <= chunk - 256);
        }
        assert_eq!(counts(8192), None);
    }
}
