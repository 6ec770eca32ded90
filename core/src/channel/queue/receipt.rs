//! What a consumer does with the messages in its hand: acknowledge, give back, hold longer.

use std::collections::HashMap;
use std::time::Duration;

use super::super::area::Area;
use super::consumer::{Consumer, Holding};
use super::hand::{Hand, taker};
use super::layout::{CellKind, CellWord, Data};
use super::take::{self, Plan};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::time;

/// What a message of a queue with acknowledgement is acknowledged with, by the consumer that it was handed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The holder of the hand.
    pub(super) owner: u64,
    /// The cell, and its word when it was handed out.
    pub(super) number: u64,
    pub(super) word: CellWord,
}

impl Receipt {
    /// It as three words, for bindings to other languages.
    pub fn words(&self) -> [u64; 3] {
        [self.owner, self.number, self.word.0]
    }

    /// The receipt of these words. Words that come from nowhere else than [`Receipt::words`] are a receipt; any others are `NotHeld`.
    pub fn from_words([owner, number, word]: [u64; 3]) -> Receipt {
        Receipt { owner, number, word: CellWord(word) }
    }
}

/// Cells that were moved within the hand since they were handed out: by the word on the receipt, where they stand now.
#[derive(Debug, Default)]
pub struct Moved {
    now: HashMap<u64, (u64, CellWord)>,
    /// The tail at which the hand is tidied next.
    next: u64,
}

impl Moved {
    fn find(&self, receipt: &Receipt) -> (u64, CellWord) {
        self.now.get(&receipt.word.0).copied().unwrap_or((receipt.number, receipt.word))
    }

    /// Whether so many were taken since the hand was tidied that it is worth the trouble.
    pub fn is_time(&self, tail: u64) -> bool {
        tail >= self.next
    }

    fn put(&mut self, old: CellWord, new: (u64, CellWord)) {
        let key = self.now.iter().find(|(_, (_, word))| *word == old).map_or(old.0, |(key, _)| *key);
        self.now.insert(key, new);
    }
}

impl Consumer {
    pub(super) fn owner(&self) -> u64 {
        self.holding.as_ref().map_or(0, |holding| holding.owner)
    }

    /// The cell of a receipt.
    fn cell(&mut self, receipt: &Receipt) -> Result<(&mut Holding, u64, CellWord)> {
        self.area.ground.usable()?;
        self.start()?;
        let owner = self.owner();
        let Some(holding) = &mut self.holding else {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("The queue `{}` is without acknowledgement.", self.area.name),
            ));
        };
        if receipt.owner != owner || !receipt.word.is(CellKind::Held) {
            return Err(Error::new(
                ErrorCode::NotHeld,
                format!("The receipt is of another consumer of the queue `{}`.", self.area.name),
            ));
        }
        let (number, word) = holding.moved.find(receipt);
        // Before anything is written: another message may stand in that cell by now.
        if holding.hand.look(number) != Some(word) {
            holding.moved.now.remove(&receipt.word.0);
            return Err(ErrorCode::NotHeld.into());
        }
        Ok((holding, number, word))
    }

    /// Says that the message is handled: nobody gets it again. `NotHeld` if it is not this consumer's any more, because its time was
    /// over and another has it, or because it was acknowledged or given back before.
    #[inline]
    pub fn ack(&mut self, receipt: &Receipt) -> Result<()> {
        let (holding, number, word) = self.cell(receipt)?;
        let data = holding.hand.content(number).data;
        kill_point!("channel.ack.before");
        let done = holding.hand.change(number, word, word.to(CellKind::Done));
        // DIES AFTER: whoever takes over gives the chunks of a long message back.
        kill_point!("channel.ack.after");
        holding.settle_receipt(receipt, done)?;
        if data.is_parcel() { self.end_held(data) } else { Ok(()) }
    }

    /// A long message is done that this consumer held.
    #[cold]
    #[inline(never)]
    fn end_held(&self, data: Data) -> Result<()> {
        match &self.holding {
            Some(holding) => end_held(&self.area, &holding.hand, data),
            None => Ok(()),
        }
    }

    /// Acknowledges everything that this consumer holds. Gives how many messages that were.
    pub fn ack_all(&mut self) -> Result<u64> {
        self.area.ground.usable()?;
        self.start()?;
        let Consumer { area, holding, .. } = self;
        let Some(holding) = holding else { return Ok(0) };
        let mut count = 0;
        for number in holding.grip.floor..holding.grip.tail {
            if let Some(word) = holding.hand.look(number)
                && word.is(CellKind::Held)
            {
                let data = holding.hand.content(number).data;
                kill_point!("channel.ack.before");
                let done = holding.hand.change(number, word, word.to(CellKind::Done));
                kill_point!("channel.ack.after");
                count += u64::from(done);
                if done && data.is_parcel() {
                    end_held(area, &holding.hand, data)?;
                }
            }
        }
        holding.moved.now.clear();
        Ok(count)
    }

    /// Gives the message back: after `delay` it is delivered again, to this consumer or another. `NotHeld` as for [`Consumer::ack`].
    pub fn nack(&mut self, receipt: &Receipt, delay: Duration) -> Result<()> {
        let (holding, number, word) = self.cell(receipt)?;
        let back = if delay.is_zero() {
            word.touched().to(CellKind::Left)
        } else {
            holding.hand.set_due(number, after(delay));
            word.touched().to(CellKind::Back)
        };
        kill_point!("channel.return.before");
        let done = holding.hand.change(number, word, back);
        // DIES AFTER: others find it when they look round.
        kill_point!("channel.return.after");
        holding.settle_receipt(receipt, done)?;
        self.area.give_notice();
        Ok(())
    }

    /// Holds the message for `time` from now on, whatever was said before. `NotHeld` as for [`Consumer::ack`].
    pub fn extend(&mut self, receipt: &mut Receipt, time: Duration) -> Result<()> {
        let (holding, number, word) = self.cell(receipt)?;
        holding.hand.set_due(number, after(time));
        kill_point!("channel.extend.before");
        let done = holding.hand.change(number, word, word.touched());
        kill_point!("channel.extend.after");
        holding.settle_receipt(receipt, done)?;
        (receipt.number, receipt.word) = (number, word.touched());
        Ok(())
    }
}

/// The caller has made a cell of its own hand `Done` that names a parcel: gives the chunks back.
pub(super) fn end_held(area: &Area, hand: &Hand, data: Data) -> Result<()> {
    let mut words = Vec::new();
    let len = hand.copy(data, &mut words)?;
    area.end_parcel(area.parcel_words(&words[..len])?)
}

/// The time on the boot clock, never 0. A part of a millisecond counts as one.
fn after(time: Duration) -> u64 {
    let more = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    time::boot_ms().saturating_add(more).max(1)
}

impl Holding {
    fn settle_receipt(&mut self, receipt: &Receipt, done: bool) -> Result<()> {
        if !self.moved.now.is_empty() {
            self.moved.now.remove(&receipt.word.0);
        }
        if done { Ok(()) } else { Err(ErrorCode::NotHeld.into()) }
    }

    /// Moves messages that are held long behind the others, so that they do not keep the room of all that came after them.
    #[cold]
    #[inline(never)]
    pub fn tidy(&mut self, area: &Area) -> Result<()> {
        let count = self.hand.count();
        self.moved.next = self.grip.tail + count / 16 + 1;
        let mut scratch = Vec::new();
        // Each round frees at least what stood in front of the first one that it moves.
        for _ in 0..8 {
            let open = |number: &u64| {
                let kind = self.hand.look(*number).and_then(CellWord::kind);
                matches!(kind, Some(CellKind::Held | CellKind::Back | CellKind::Left))
            };
            let open: Vec<u64> = self.hand.shown().filter(open).collect();
            // Moving much again and again costs more than waiting for its acknowledgement.
            let bytes: u64 = open.iter().map(|number| self.hand.content(*number).data.len()).sum();
            if open.is_empty() || open.len() as u64 > count / 2 || bytes > area.shape.lane_bytes / 4 {
                break;
            }
            let before = self.grip.tail;
            for number in open {
                if !self.move_cell(area, number, &mut scratch)? {
                    break;
                }
            }
            let Holding { grip, hand, .. } = self;
            grip.reclaim(hand, |number, word| {
                take::help(area, word.taker(), hand.word_offset(number)?, word.0)
            })?;
            if grip.tail == before || !grip.is_tight(hand) {
                break;
            }
        }
        let Holding { hand, moved, .. } = self;
        // What others took meanwhile is not found any more.
        moved.now.retain(|_, (number, word)| hand.look(*number) == Some(*word));
        Ok(())
    }

    /// Moves one cell to the end of the hand, as if it were taken from another's. False if there is no room.
    fn move_cell(&mut self, area: &Area, number: u64, scratch: &mut Vec<u8>) -> Result<bool> {
        let Some(word) = self.hand.look(number) else { return Ok(true) };
        if !matches!(word.kind(), Some(CellKind::Held | CellKind::Back | CellKind::Left)) {
            return Ok(true);
        }
        let content = self.hand.content(number);
        let len = self.hand.copy(content.data, scratch)?;
        let Some(new) = self.grip.prepare::<true>(
            &self.hand,
            content.name,
            word,
            content.due,
            &scratch[..len],
            content.data.is_parcel(),
        )?
        else {
            return Ok(false);
        };
        let to = self.grip.next - 1;
        if self.take_cell(area, self.hand.word_offset(number)?, word, |holding| {
            holding.hand.change(number, word, word.gone(taker(holding.hand.index)))
        })? {
            self.moved.put(word, (to, new));
        }
        Ok(true)
    }

    /// Takes what was prepared by changing the word of a cell that stands at `source`; `change` does it. False if another was first.
    pub(super) fn take_cell(
        &mut self,
        area: &Area,
        source: u64,
        word: CellWord,
        change: impl FnOnce(&Holding) -> bool,
    ) -> Result<bool> {
        debug_assert!(area.shm.range(source, 8).is_some());
        let plan = Plan { source, target: word.gone(taker(self.hand.index)).0, until: self.grip.next };
        self.intent = take::open(self.hand.entry.block(), self.intent, plan);
        let taken = change(self);
        if taken {
            // DIES AFTER: who settles finds the target in the cell, or that its owner has noted it.
            kill_point!("channel.take.cell_gone");
            self.grip.show(&self.hand);
        } else {
            self.grip.forget();
        }
        self.intent = take::close(self.hand.entry.block(), self.intent);
        Ok(taken)
    }
}
