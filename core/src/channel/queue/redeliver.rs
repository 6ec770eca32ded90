//! Messages that were delivered and not acknowledged: given back, held too long, or left by the dead.
//!
//! A consumer looks round all hands when some were given back, and from time to time, because nobody tells of a death or of a
//! time that is over. What it finds it takes into its own hand; what lies in its own it only marks.
//!
//! A message that was delivered often enough goes to the channel for dead letters instead. Its cell says so before it is sent, so
//! that whoever finds the cell of one who died in between marks it when sending it again.

use std::sync::Arc;
use std::time::Duration;

use super::super::layout::{SubKind, control};
use super::super::publisher::Publisher;
use super::consumer::{Consumer, Found, Holding};
use super::hand::{Hand, taker};
use super::join;
use super::layout::{CellKind, CellWord};
use super::receipt::end_held;
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// Milliseconds between two looks round while others hold messages.
const LOOK_MS: u64 = 10;
/// Milliseconds until a dead letter is tried again whose channel is full, and one that its channel refuses.
const FULL_MS: u64 = 50;
const REFUSED_MS: u64 = 1000;

/// How far a look round is, and when the next one begins.
#[derive(Debug, Default)]
pub struct Round {
    /// The notice that the last look round began with.
    seen: Option<u32>,
    next_ms: u64,
    /// Where this one goes on: a consumer, and the number of a cell.
    consumer: u32,
    number: u64,
    /// What it began with, and when something is due of what it met.
    notice: u32,
    soonest_ms: u64,
    others: bool,
}

impl Round {
    /// The notice that the last look round began with.
    pub fn seen(&self) -> Option<u32> {
        self.seen
    }

    /// All hands were looked at.
    fn end(&mut self, now: u64) {
        (self.consumer, self.number) = (0, 0);
        self.seen = Some(self.notice);
        // Who sleeps while nobody holds anything wakes no oftener for this than it does anyway.
        let pause = if self.others { LOOK_MS } else { WAIT_SLICE_MS };
        self.next_ms = self.soonest_ms.min(now.saturating_add(pause)).max(now.saturating_add(1));
    }
}

impl Consumer {
    /// How long a sleeper may sleep until it must look round.
    pub(super) fn until_next_look(&self) -> Option<Duration> {
        let round = &self.holding.as_ref()?.round;
        Some(Duration::from_millis(round.next_ms.saturating_sub(time::boot_ms()).max(1)))
    }

    /// Takes one message that was delivered before and is for anybody now, into the scratch buffer.
    #[inline]
    pub(super) fn redelivered(&mut self) -> Result<Option<Found>> {
        let notice = self.area.returned();
        let Some(holding) = &mut self.holding else { return Ok(None) };
        let now = time::boot_ms();
        if holding.round.seen == Some(notice) && now < holding.round.next_ms {
            return Ok(None);
        }
        self.look_round(notice, now)
    }

    #[cold]
    #[inline(never)]
    fn look_round(&mut self, notice: u32, now: u64) -> Result<Option<Found>> {
        while let Some((index, number, word)) = self.next_due(notice, now)? {
            if let Some(holding) = &mut self.holding {
                holding.round.number = number + 1;
            }
            if let Some(found) = self.take_again(index, number, word)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether a message that was delivered before is for anybody now; takes none.
    pub(super) fn any_due(&mut self) -> Result<bool> {
        let (notice, now) = (self.area.returned(), time::boot_ms());
        let Some(holding) = &self.holding else { return Ok(false) };
        let rests = holding.round.seen == Some(notice) && now < holding.round.next_ms;
        Ok(!rests && self.next_due(notice, now)?.is_some())
    }

    /// The next cell from where the look round is that is for anybody, with the consumer whose it is; `None` at the end of the round.
    fn next_due(&mut self, notice: u32, now: u64) -> Result<Option<(u32, u64, CellWord)>> {
        let count = self.area.queue()?.consumers();
        while let Some(holding) = &mut self.holding {
            let round = &mut holding.round;
            if (round.consumer, round.number) == (0, 0) {
                (round.notice, round.soonest_ms, round.others) = (notice, u64::MAX, false);
            }
            if round.consumer >= count {
                round.end(now);
                if round.seen == Some(notice) {
                    break;
                }
                // It began before the last notice, and may have passed what that speaks of.
                continue;
            }
            let index = round.consumer;
            if let Some((number, word)) = self.look_at(index, now)? {
                return Ok(Some((index, number, word)));
            } else if let Some(holding) = &mut self.holding {
                (holding.round.consumer, holding.round.number) = (index + 1, 0);
            }
        }
        Ok(None)
    }

    /// The next cell of a consumer, from where the look round is, that is for anybody.
    fn look_at(&mut self, index: u32, now: u64) -> Result<Option<(u64, CellWord)>> {
        let Consumer { area, holding, .. } = self;
        let Some(holding) = holding else { return Ok(None) };
        let state = area.consumer_state(index)?;
        if state.is(SubKind::Free) {
            return Ok(None);
        }
        let mine = holding.hand.index == index;
        if !mine && state.owner() != 0 && area.ground.thread_is_dead(state.owner()) {
            join::take_over(area, index, state)?;
        }
        if !mine {
            if holding.others.len() <= index as usize {
                holding.others.resize_with(index as usize + 1, || None);
            }
            let known = &mut holding.others[index as usize];
            if known.is_none() {
                *known = Hand::of(area, index)?;
            }
        }
        let hand = if mine {
            &holding.hand
        } else {
            match &holding.others[index as usize] {
                Some(hand) => hand,
                None => return Ok(None),
            }
        };
        let shown = hand.shown();
        for number in shown.start.max(holding.round.number)..shown.end {
            let Some(word) = hand.look(number) else { continue };
            let due = hand.content(number).due;
            let is_due = match word.kind() {
                Some(CellKind::Left) => true,
                Some(CellKind::Back) => due <= now,
                Some(CellKind::Held) => due != 0 && due <= now,
                _ => continue,
            };
            if is_due {
                return Ok(Some((number, word)));
            }
            if due != 0 {
                holding.round.soonest_ms = holding.round.soonest_ms.min(due);
            }
            holding.round.others |= !mine;
        }
        Ok(None)
    }

    /// Takes the message of a cell that is for anybody. None if another was first, or it became a dead letter.
    fn take_again(&mut self, index: u32, number: u64, word: CellWord) -> Result<Option<Found>> {
        let Consumer { area, holding, scratch, .. } = self;
        let Some(holding) = holding else { return Ok(None) };
        let letters =
            area.queue()?.acknowledge.as_ref().and_then(|acknowledge| acknowledge.dead_letters.as_ref());
        let is_letter = word.is_letter() || letters.is_some_and(|letters| word.deliveries() >= letters.after);
        let mine = holding.hand.index == index;
        let Some(hand) = (if mine { Some(&holding.hand) } else { holding.others[index as usize].as_ref() })
        else {
            return Ok(None);
        };
        let content = hand.content(number);
        let len = match hand.copy(content.data, scratch) {
            Ok(len) => len,
            Err(error) => {
                let changed = hand.look(number) != Some(word);
                return if changed { Ok(None) } else { Err(error) };
            }
        };
        let due = holding.due();
        let held = word.touched().to(CellKind::Held);
        let held = if is_letter { held } else { held.delivered() };
        let (number, held) = if mine {
            if is_letter {
                return self.send_letter(number, word, len).map(|()| None);
            }
            holding.hand.set_due(number, due);
            kill_point!("channel.redeliver.before");
            if !holding.hand.change(number, word, held) {
                return Ok(None);
            }
            kill_point!("channel.redeliver.after");
            (number, held)
        } else {
            holding.make_room(area)?;
            let prepare = |holding: &mut Holding| {
                let parcel = content.data.is_parcel();
                holding.grip.prepare::<false>(&holding.hand, content.name, held, due, &scratch[..len], parcel)
            };
            let mut prepared = prepare(holding)?;
            if prepared.is_none() {
                holding.tidy(area)?;
                prepared = prepare(holding)?;
            }
            let Some(held) = prepared else {
                // The next call begins with this one.
                (holding.round.consumer, holding.round.number) = (index, number);
                return Err(holding.full(&area.name));
            };
            let to = holding.grip.next - 1;
            let source = match &holding.others[index as usize] {
                Some(hand) => hand.word_offset(number)?,
                None => return Ok(None),
            };
            let me = taker(holding.hand.index);
            let taken = holding.take_cell(area, source, word, |holding| {
                holding.others[index as usize]
                    .as_ref()
                    .is_some_and(|hand| hand.change(number, word, word.gone(me)))
            })?;
            if !taken {
                return Ok(None);
            }
            if let Some(hand) = &holding.others[index as usize] {
                // Nobody needs to ask any more who has it. A failure means that its owner uses the cell again already.
                hand.change(number, word.gone(me), word.gone(me).to(CellKind::Done));
            }
            if is_letter {
                return self.send_letter(to, held, len).map(|()| None);
            }
            (to, held)
        };
        // ORDER Relaxed: a counter.
        self.area.header().u64::<{ control::REDELIVERED }>().fetch_add(1, Ordering::Relaxed);
        let (deliveries, parcel) = (held.deliveries(), content.data.is_parcel());
        self.large |= parcel;
        Ok(Some(Found {
            name: content.name,
            at: 0,
            len,
            deliveries,
            again: true,
            word: held,
            number,
            parcel,
        }))
    }

    /// Sends what a cell of our own hand holds, and stands in the scratch buffer, to the channel for dead letters.
    fn send_letter(&mut self, number: u64, word: CellWord, len: usize) -> Result<()> {
        let Consumer { area, holding, scratch, large, .. } = self;
        let Some(holding) = holding else { return Ok(()) };
        let letter = word.touched().to(CellKind::Held).as_letter(true);
        holding.hand.set_due(number, holding.due());
        kill_point!("channel.letter.before");
        if !holding.hand.change(number, word, letter) {
            return Ok(());
        }
        // DIES AFTER: the letter may have been sent: who finds the cell marks it.
        kill_point!("channel.letter.marked");
        let data = holding.hand.content(number).data;
        let copied = if data.is_parcel() {
            *large = true;
            match holding.copy_parcel(area, number, letter, 0..len, scratch) {
                Ok(None) => return Ok(()),
                copied => copied.map(Option::unwrap_or_default),
            }
        } else {
            Ok(len)
        };
        let sent = copied.and_then(|len| {
            // The letter bears a time of its own, if the other channel's messages do.
            let (_, bytes) = area.unstamped(&scratch[..len])?;
            match &mut holding.letters {
                Some(publisher) => publisher.try_letter(bytes, word.is_letter()),
                None => area.letters().and_then(|mut publisher| {
                    let sent = publisher.try_letter(bytes, word.is_letter());
                    holding.letters = Some(publisher);
                    sent
                }),
            }
        });
        kill_point!("channel.letter.sent");
        let Err(error) = sent else {
            let done = holding.hand.change(number, letter, letter.to(CellKind::Done));
            kill_point!("channel.letter.done");
            if done && data.is_parcel() {
                end_held(area, &holding.hand, data)?;
            }
            // ORDER Relaxed: a counter.
            area.header().u64::<{ control::DEAD_LETTERS }>().fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let full = error.code() == ErrorCode::BackPressure;
        holding.hand.set_due(number, time::boot_ms() + if full { FULL_MS } else { REFUSED_MS });
        // It was not sent, so it bears the mark no more than before.
        let back = letter.touched().to(CellKind::Back).as_letter(word.is_letter());
        holding.hand.change(number, letter, back);
        kill_point!("channel.letter.back");
        if full {
            return Ok(());
        }
        Err(Error::new(
            error.code(),
            format!("A dead letter of the queue `{}`: {}", area.name, error.detail()),
        ))
    }
}

impl super::Area {
    /// A publisher on the channel for dead letters.
    fn letters(&self) -> Result<Publisher> {
        let acknowledge = self.queue()?.acknowledge.as_ref();
        let letters = acknowledge.and_then(|acknowledge| acknowledge.dead_letters.as_ref());
        let letters = letters.ok_or_else(|| {
            Error::new(
                ErrorCode::Corrupt,
                format!("The queue `{}` has a dead letter and no channel for it.", self.name),
            )
        })?;
        Publisher::new(Arc::new(Arc::clone(&self.ground).channel(&letters.channel)?))
    }
}
