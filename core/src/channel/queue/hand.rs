//! What a consumer holds: cells in the order in which it took, and their payload, in a ring of its own.
//!
//! Only the owner writes cells, payload, floor and tail; all others change nothing but the word of a cell that is shown, which lies
//! from the floor to the tail. The word carries the cell's number, so a word that somebody saw long ago is found nowhere any more.
//! A cell is used again only when its message is done or gone, and who copies payload validates it by changing the word.

use super::super::area::Area;
use super::KeptEntry;
use super::layout::{CellKind, CellWord, Data, HeadWord, Name, cell, consumer};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::{KeptRing, align8};

/// A consumer's hand, as its owner and all others see it.
pub struct Hand {
    /// Number of the consumer.
    pub index: u32,
    pub entry: KeptEntry,
    cells: KeptRing,
    payload: KeptRing,
}

/// What stands in a cell beside its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub name: Name,
    pub due: u64,
    pub data: Data,
}

impl Hand {
    /// The hand of a consumer; None if it never had one.
    pub fn of(area: &Area, index: u32) -> Result<Option<Hand>> {
        let Some(ring) = area.consumer_ring(index)? else { return Ok(None) };
        let half = area.shape.lane_bytes / 2;
        Ok(Some(Hand {
            index,
            entry: KeptEntry::new(&area.shm, area.queue()?.entry_offset(index))?,
            cells: KeptRing::new(&area.shm, ring, half)?,
            payload: KeptRing::new(&area.shm, ring + half, half)?,
        }))
    }

    /// How many cells there are.
    #[inline(always)]
    pub fn count(&self) -> u64 {
        self.cells.ring().len() / cell::BYTES
    }

    /// Bytes for payload.
    #[inline(always)]
    fn room(&self) -> u64 {
        self.payload.ring().len()
    }

    #[inline(always)]
    fn field(&self, number: u64, at: u64) -> &AtomicU64 {
        self.cells.ring().word(number.wrapping_mul(cell::BYTES).wrapping_add(at))
    }

    /// The word of a cell.
    #[inline(always)]
    pub fn word(&self, number: u64) -> &AtomicU64 {
        self.field(number, cell::WORD)
    }

    /// Where the word of a cell stands in the segment.
    pub fn word_offset(&self, number: u64) -> Result<u64> {
        let ring = self.cells.ring();
        Ok(ring.span(number.wrapping_mul(cell::BYTES), cell::BYTES)?.offset() + cell::WORD)
    }

    /// Who has what the cell holds; None if another cell stands in its place.
    #[inline(always)]
    pub fn look(&self, number: u64) -> Option<CellWord> {
        // ORDER Acquire [cell]: what the cell holds; and what the taker copied, if it is gone or done.
        let word = CellWord(self.word(number).load(Ordering::Acquire));
        word.is_of(number).then_some(word)
    }

    /// What a cell holds. Good as long as its word has not changed.
    #[inline(always)]
    pub fn content(&self, number: u64) -> Content {
        // ORDER Relaxed: the word was loaded before, and is looked at again or changed afterwards.
        let load = |at| self.field(number, at).load(Ordering::Relaxed);
        Content { name: Name(load(cell::NAME)), due: load(cell::DUE), data: Data(load(cell::DATA)) }
    }

    /// Copies payload to the start of `into`, which grows when it is too short. Good as long as the cell's word has not changed.
    pub fn copy(&self, data: Data, into: &mut Vec<u8>) -> Result<usize> {
        let len = data.len() as usize;
        if data.len() > self.room() {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("A consumer holds a message of {len} bytes."),
            ));
        }
        if into.len() < len {
            into.resize(len, 0);
        }
        self.payload.ring().copy_out(data.place(), &mut into[..len])?;
        Ok(len)
    }

    /// The numbers of the cells that are shown, at most as many as there are. Those of a live consumer may change.
    pub fn shown(&self) -> std::ops::Range<u64> {
        let block = self.entry.block();
        // ORDER Acquire [hand]: the cells in front of the tail.
        let tail = block.u64::<{ consumer::TAIL }>().load(Ordering::Acquire);
        // ORDER Relaxed: no more than a hint for others; of the owner's own writing, or ordered by taking over from it.
        let floor = block.u64::<{ consumer::FLOOR }>().load(Ordering::Relaxed);
        floor.max(tail.saturating_sub(self.count()))..tail
    }

    /// How many messages it holds.
    pub fn count_held(&self) -> u64 {
        let open = [CellKind::Held, CellKind::Back, CellKind::Left];
        let held = |number: &u64| {
            self.look(*number).and_then(CellWord::kind).is_some_and(|kind| open.contains(&kind))
        };
        self.shown().filter(held).count() as u64
    }

    /// Changes who has what a cell holds. False if somebody else was first.
    #[inline(always)]
    pub fn change(&self, number: u64, from: CellWord, to: CellWord) -> bool {
        // ORDER AcqRel [cell]: what was copied before, or what the owner wrote; and what the last who changed it did.
        self.word(number).compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The owner says when others may take what the cell holds. Before the word is changed that says so.
    #[inline(always)]
    pub fn set_due(&self, number: u64, due: u64) {
        // ORDER Relaxed: the change of the word orders it; who sees it early with the old word comes too late or too early for nothing.
        self.field(number, cell::DUE).store(due, Ordering::Relaxed);
    }
}

/// What the owner of a hand knows of it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grip {
    /// The first cell in use.
    pub floor: u64,
    /// Behind the last cell that is shown, and behind the last one that is prepared.
    pub tail: u64,
    pub next: u64,
    /// Payload: where that of the first cell begins, behind that of the last one shown, and of the last one prepared.
    start: u64,
    end: u64,
    next_end: u64,
}

fn damaged(hand: &Hand, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::Corrupt, format!("The hand of consumer {}: {what}.", hand.index))
}

impl Grip {
    /// What is known of a hand by whoever has taken it over.
    pub fn take_over(hand: &Hand) -> Result<Grip> {
        let block = hand.entry.block();
        // ORDER Relaxed: taking the entry ordered them.
        let floor = block.u64::<{ consumer::FLOOR }>().load(Ordering::Relaxed);
        let tail = block.u64::<{ consumer::TAIL }>().load(Ordering::Relaxed);
        if tail < floor || tail - floor > hand.count() || tail > u64::MAX / 2 {
            return Err(damaged(hand, format!("cells {floor} to {tail}")));
        }
        let mut grip = Grip { floor, tail, next: tail, ..Grip::default() };
        if floor < tail {
            let last = hand.content(tail - 1).data;
            grip.start = hand.content(floor).data.place();
            grip.end = last.place() + align8(last.len());
            if grip.end < grip.start {
                grip.end += Data::PLACES;
            }
            if grip.end - grip.start > hand.room() {
                return Err(damaged(hand, format!("payload from {} to {}", grip.start, grip.end)));
            }
        }
        grip.next_end = grip.end;
        Ok(grip)
    }

    /// Writes a message, or the words of a `parcel`, into the next cell, which nobody sees yet, with a word like `word`. None if there is no
    /// room: some is kept for moving cells within the hand, which may use `ALL`.
    #[inline(always)]
    pub fn prepare<const ALL: bool>(
        &mut self,
        hand: &Hand,
        name: Name,
        word: CellWord,
        due: u64,
        bytes: &[u8],
        parcel: bool,
    ) -> Result<Option<CellWord>> {
        let need = align8(bytes.len() as u64);
        let ring = hand.payload.ring();
        let rest = ring.len() - ring.at(self.next_end);
        // Payload does not cross the ring's end.
        let place = if need > rest { self.next_end + rest } else { self.next_end };
        let (cells, room) =
            if ALL { (hand.count(), ring.len()) } else { (hand.count() / 8 * 7, ring.len() / 4 * 3) };
        if self.next - self.floor >= cells || place + need - self.start > room {
            return Ok(None);
        }
        ring.copy_in(place, bytes)?;
        let number = self.next;
        let word = word.in_cell(number);
        // ORDER Relaxed: showing the cell orders them.
        hand.field(number, cell::NAME).store(name.0, Ordering::Relaxed);
        hand.field(number, cell::DUE).store(due, Ordering::Relaxed);
        let data = Data::new(place, bytes.len() as u64).as_parcel(parcel);
        hand.field(number, cell::DATA).store(data.0, Ordering::Relaxed);
        hand.word(number).store(word.0, Ordering::Relaxed);
        self.next = number + 1;
        self.next_end = place + need;
        Ok(Some(word))
    }

    /// Shows what was prepared.
    #[inline(always)]
    pub fn show(&mut self, hand: &Hand) {
        // ORDER Release [hand]: the cells in front of the tail.
        hand.entry.block().u64::<{ consumer::TAIL }>().store(self.next, Ordering::Release);
        (self.tail, self.end) = (self.next, self.next_end);
    }

    /// Forgets what was prepared.
    #[inline(always)]
    pub fn forget(&mut self) {
        (self.next, self.next_end) = (self.tail, self.end);
    }

    /// Makes room: moves the floor over cells whose message is done or gone. `help` is told of each that is gone, before its word may
    /// be overwritten. Nothing is prepared.
    pub fn reclaim(&mut self, hand: &Hand, mut help: impl FnMut(u64, CellWord) -> Result<()>) -> Result<()> {
        let before = self.floor;
        while self.floor < self.tail {
            let Some(word) = hand.look(self.floor) else {
                return Err(damaged(hand, format!("cell {} has another number", self.floor)));
            };
            match word.kind() {
                Some(CellKind::Done) => {}
                Some(CellKind::Gone) => help(self.floor, word)?,
                Some(_) => break,
                None => return Err(damaged(hand, format!("cell {} is {word:?}", self.floor))),
            }
            self.floor += 1;
        }
        if self.floor == before {
            return Ok(());
        }
        if self.floor == self.tail {
            self.start = self.end;
        } else {
            // Relative to what is known to be in use: places begin again some day.
            let ahead = hand.content(self.floor).data.place().wrapping_sub(self.start) & (Data::PLACES - 1);
            if ahead > self.end - self.start {
                return Err(damaged(hand, format!("payload of cell {} stands outside", self.floor)));
            }
            self.start += ahead;
        }
        kill_point!("channel.hand.before_floor");
        // ORDER Release [hand]: before any cell below it is written again.
        hand.entry.block().u64::<{ consumer::FLOOR }>().store(self.floor, Ordering::Release);
        kill_point!("channel.hand.floor");
        Ok(())
    }

    /// Whether more than half of the cells or of the payload is in use.
    #[inline(always)]
    pub fn is_tight(&self, hand: &Hand) -> bool {
        self.tail - self.floor > hand.count() / 2 || self.end - self.start > hand.room() / 2
    }
}

/// The number by which a word names a consumer: 0 is nobody.
#[inline(always)]
pub fn taker(index: u32) -> u8 {
    (index + 1) as u8
}

/// The head once the consumer has taken everything in front of `position`.
#[inline(always)]
pub fn moved_head(position: u64, index: u32) -> HeadWord {
    HeadWord::new(position, taker(index))
}
