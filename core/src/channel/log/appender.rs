//! The sending end of a log.

use std::sync::Arc;

use super::layout::{Cell, block, record};
use super::parcel::{self, Parcel};
use super::room::Taken;
use crate::channel::area::Area;
use crate::channel::layout::{LaneKind, LaneState};
use crate::error::{Error, ErrorCode, Result};
use crate::journal::Durability;
use crate::shm::atomic::Ordering;
use crate::shm::{Kept, align8, thread, time};

/// Positions that others fill while this one tries; more means that content is damaged.
const ROUNDS: u32 = 1 << 20;
/// Cells are made room for so many at a time: a part of all.
const AHEAD: u64 = 64;
/// What is too old is looked for so many times within the log's age.
const LOOKS: u64 = 16;

/// Appends messages to a log. Messages of one appender have growing positions; nobody waits for it, whatever becomes of it.
///
/// It may be moved to another thread: the first call there takes its block over.
pub struct Appender {
    area: Arc<Area>,
    marker: usize,
    /// None before there was room for the first.
    block: Option<Block>,
    /// Where the next message probably goes: every position in front of it is filled.
    next: u64,
    /// Known to be trimmed.
    oldest: u64,
    /// When to look for what is too old, in ms of the boot clock.
    look_at: u64,
    /// What messages survive where the log has files.
    durability: Option<Durability>,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

/// The block that it holds.
struct Block {
    taken: Taken,
    /// Where it begins in the log.
    at: u64,
    entry: Kept<{ block::BYTES as usize }>,
}

impl Block {
    fn new(area: &Area, taken: Taken) -> Result<Block> {
        let geometry = area.log()?.geometry;
        let entry = Kept::new(&area.shm, geometry.entry(taken.index))?;
        Ok(Block { taken, at: geometry.block_at(taken.index), entry })
    }
}

impl Appender {
    pub(in crate::channel) fn new(area: Arc<Area>) -> Result<Appender> {
        area.same_process()?;
        let log = area.log()?;
        let me = area.ground.thread()?;
        let block = match area.take_block(me, record::HEADER, true) {
            Ok(taken) => Some(Block::new(&area, taken)?),
            // The first message tries again.
            Err(error) if error.code() == ErrorCode::LogFull => None,
            Err(error) => return Err(error),
        };
        let oldest = log.oldest().position();
        Ok(Appender {
            block,
            marker: thread::marker(),
            next: log.end(oldest),
            oldest,
            look_at: 0,
            durability: area.files.as_ref().map(|files| files.durability),
            area,
            alone: std::marker::PhantomData,
        })
    }

    /// Appends a message and gives its position. Never waits: what is in the way is trimmed, or `LogFull` if a named reader of a log that
    /// blocks has still to read it.
    #[inline]
    pub fn append(&mut self, message: &[u8]) -> Result<u64> {
        if let Some(durability) = self.durability {
            return self.append_to_files(message, durability);
        }
        let position = self.put(message)?;
        self.area.data().notify();
        Ok(position)
    }

    /// As [`Appender::append`], with a durability of its own: with `Sync` the message is on the disk when the call returns. An error of the flush
    /// says that it is visible and not known to be durable. `InvalidArgument` for anything but `Process` on a log without files.
    pub fn append_durable(&mut self, message: &[u8], durability: Durability) -> Result<u64> {
        match (self.durability, durability) {
            (Some(_), _) => self.append_to_files(message, durability),
            (None, Durability::Process) => self.append(message),
            (None, _) => Err(Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "The log `{}` has no files, so no message of it can be {durability:?}.",
                    self.area.name
                ),
            )),
        }
    }

    #[inline(never)]
    fn append_to_files(&mut self, message: &[u8], durability: Durability) -> Result<u64> {
        let position = self.put_accepted(message)?;
        self.shown(position, durability)
    }

    /// A message is visible at `position`: wakes who waits, and waits itself for what was asked for.
    fn shown(&mut self, position: u64, durability: Durability) -> Result<u64> {
        self.area.data().notify();
        if durability == Durability::Sync {
            self.area.flush()?;
        }
        Ok(position)
    }

    /// As `put`, unless the files say that nothing is to be added.
    fn put_accepted(&mut self, message: &[u8]) -> Result<u64> {
        self.accept()?;
        self.put(message)
    }

    /// An error if the files say that nothing is to be added.
    fn accept(&self) -> Result<()> {
        if self.durability.is_some() {
            self.area.ground.usable()?;
            self.area.accept()?;
        }
        Ok(())
    }

    /// Room for a message that is written in place: where its record begins in the log.
    pub(super) fn begin_accepted(&mut self, len: u64) -> Result<u64> {
        self.accept()?;
        self.begin(len)
    }

    /// The payload of a record that was begun and not finished.
    pub(super) fn payload(&self, at: u64, len: u64) -> Result<crate::shm::Span<'_>> {
        self.claimed_here()?;
        self.area.log()?.ring().span(at + record::HEADER, len)
    }

    /// An error if the block of a claim is not this thread's: it may be another's by now.
    fn claimed_here(&self) -> Result<()> {
        if self.is_held_here() {
            return Ok(());
        }
        let text = format!("A message of the log `{}` was claimed by another thread.", self.area.name);
        Err(Error::new(ErrorCode::Closed, text))
    }

    /// Makes the message visible that was written in place.
    pub(super) fn finish_claim(&mut self, at: u64, len: u64) -> Result<u64> {
        self.accept()?;
        self.area.ground.usable()?;
        self.claimed_here()?;
        let position = self.finish(at, len)?;
        self.shown(position, self.durability.unwrap_or(Durability::Process))
    }

    /// Waits until everything that anybody appended before is in files that are synced. `InvalidArgument` if the log has no files.
    pub fn flush(&self) -> Result<()> {
        self.area.ground.usable()?;
        self.area.flush()
    }

    /// Appends messages and wakes who waits once, for all of them; gives the position of the last one, None if there was none. Others
    /// may come in between, and if this process dies the first ones may be there and the last ones not. An error has as its amount
    /// how many were appended before it. With `Sync` one flush serves all of them.
    pub fn append_all<'m>(&mut self, messages: impl IntoIterator<Item = &'m [u8]>) -> Result<Option<u64>> {
        let (mut count, mut last) = (0, None);
        let mut result = Ok(());
        for message in messages {
            match self.put_accepted(message) {
                Ok(position) => (count, last) = (count + 1, Some(position)),
                Err(error) => {
                    result = Err(Error::with_amount(error.code(), count, error.detail()));
                    break;
                }
            }
        }
        if count > 0 {
            self.area.data().notify();
            if self.durability == Some(Durability::Sync) {
                result = result.and(self.area.flush());
            }
        }
        result.map(|()| last)
    }

    /// Bytes of the longest message; one that is longer than a 128th of the log's bytes takes chunks of the fabric of its own.
    pub fn message_len_max(&self) -> usize {
        self.area.parcel_len_max() as usize
    }

    /// Whether the calling thread holds the block: only its holder, or the reaper of a dead holder, changes its state.
    #[inline(always)]
    fn is_held_here(&self) -> bool {
        let Some(block) = &self.block else { return false };
        // ORDER Relaxed: of our own thread's writing, or ordered by the move to this thread.
        let state = block.entry.block().u64::<{ block::STATE }>().load(Ordering::Relaxed);
        thread::marker() == self.marker && state == block.taken.state.0
    }

    /// Makes a message visible, without waking anybody.
    #[inline(always)]
    fn put(&mut self, message: &[u8]) -> Result<u64> {
        let len = message.len() as u64;
        if len > self.area.message_len_max {
            return self.put_parcel(message);
        }
        let at = self.begin(len)?;
        self.area.log()?.ring().copy_in(at + record::HEADER, message)?;
        self.finish(at, len)
    }

    /// Where in the log there is room for the record of a message of `len` bytes, in a block that the calling thread holds.
    #[inline(always)]
    fn begin(&mut self, len: u64) -> Result<u64> {
        self.hold()?;
        if len > self.area.message_len_max {
            return Err(self.too_long(len, self.area.message_len_max));
        }
        self.room(align8(record::HEADER + len))
    }

    #[cfg(all(test, not(memora_loom)))]
    pub(super) fn block_for_test(&self) -> (u32, LaneState) {
        let taken = self.block.as_ref().unwrap().taken;
        (taken.index, taken.state)
    }

    /// Names a long message and goes no further.
    #[cfg(all(test, not(memora_loom)))]
    pub(super) fn name_for_test(&mut self, words: [u64; 2]) {
        let at = self.room(parcel::RECORD).unwrap();
        let taken = &mut self.block.as_mut().unwrap().taken;
        taken.used += parcel::RECORD;
        self.area.name_parcel_of_log(taken.index, taken.state, at, words).unwrap();
    }

    /// The calling thread holds the block, if there is one.
    #[inline(always)]
    fn hold(&mut self) -> Result<()> {
        self.area.ground.usable()?;
        if self.is_held_here() { Ok(()) } else { self.adopt() }
    }

    /// Makes the message visible whose payload stands in the record at `at`, which was begun just now.
    #[inline(always)]
    fn finish(&mut self, at: u64, len: u64) -> Result<u64> {
        let need = align8(record::HEADER + len);
        let ring = self.area.log()?.ring();
        // ORDER Relaxed: bytes of the publisher; the cell orders them.
        ring.word(at + record::LEN).store(len, Ordering::Relaxed);
        kill_point!("channel.log_record.written");
        let Some(block) = &mut self.block else { return Err(ErrorCode::Internal.into()) };
        // Before it is visible: whoever continues the block goes on behind it.
        // ORDER Relaxed: the holder's; letting go orders it.
        block.entry.block().u64::<{ block::USED }>().store(block.taken.used + need, Ordering::Relaxed);
        // DIES AFTER: the record is lost room, nothing else.
        kill_point!("channel.log_record.counted");
        let position = publish(&self.area, block, at, self.next, &mut self.oldest, &mut self.look_at)?;
        block.taken.used += need;
        self.next = position + 1;
        Ok(position)
    }

    /// As `put`, of a message that is too long for a block.
    #[cold]
    #[inline(never)]
    fn put_parcel(&mut self, message: &[u8]) -> Result<u64> {
        self.hold()?;
        let len = message.len() as u64;
        if len > self.area.parcel_len_max() {
            return Err(self.too_long(len, self.area.parcel_len_max()));
        }
        let chunks = self.area.write_parcel_of_log(message)?;
        let first = chunks.first().ok_or(ErrorCode::Internal)?;
        let words = [first.word(), len];
        let mut named = None;
        let (at, taken, position) = match self.publish_parcel(words, &mut named) {
            Ok(published) => published,
            Err(error) => {
                if let Some(taken) = named {
                    self.area.settle_parcel_of_log(taken.index, taken.state)?;
                }
                self.area.must_have_parcels()?.discard(self.area.ground.actor()?, &chunks)?;
                return Err(error);
            }
        };
        self.next = position + 1;
        self.area.published_parcel(taken.index, taken.state, at, Parcel { position, words })?;
        Ok(position)
    }

    /// Makes the message visible that stands in chunks; says where its record is, in which block, and its position. `named` is that block from
    /// the moment on at which it names the message.
    fn publish_parcel(&mut self, words: [u64; 2], named: &mut Option<Taken>) -> Result<(u64, Taken, u64)> {
        let at = self.room(parcel::RECORD)?;
        let Some(block) = &mut self.block else { return Err(ErrorCode::Internal.into()) };
        // Before it is named: whoever continues the block goes on behind it.
        block.taken.used += parcel::RECORD;
        // ORDER Relaxed: the holder's; letting go orders it.
        block.entry.block().u64::<{ block::USED }>().store(block.taken.used, Ordering::Relaxed);
        // DIES AFTER: the record is lost room, nothing else.
        kill_point!("channel.log_parcel.counted");
        *named = Some(block.taken);
        self.area.name_parcel_of_log(block.taken.index, block.taken.state, at, words)?;
        let position = publish(&self.area, block, at, self.next, &mut self.oldest, &mut self.look_at)?;
        Ok((at, block.taken, position))
    }

    /// Where in the log there is room for `need` bytes of a block that this publisher holds.
    #[inline(always)]
    fn room(&mut self, need: u64) -> Result<u64> {
        let max = self.area.log()?.geometry.block_bytes();
        if self.block.as_ref().is_none_or(|block| block.taken.used + need > max) {
            self.next_block(need)?;
        }
        match &self.block {
            Some(block) => Ok(block.at + block.taken.used),
            None => Err(ErrorCode::Internal.into()),
        }
    }

    #[cold]
    #[inline(never)]
    fn too_long(&self, len: u64, most: u64) -> Error {
        let Area { name, message_len_max, .. } = &*self.area;
        let what = if most == *message_len_max && most < self.area.parcel_len_max() {
            format!(
                "A claim of {len} bytes does not fit the log `{name}`: it takes up to {most} bytes, a 128th part of its `bytes`; `append` takes it."
            )
        } else if self.durability.is_some() {
            format!(
                "A message of {len} bytes does not fit the log `{name}`: it takes messages up to {most} bytes, as its files and half of the chunks of its fabric do."
            )
        } else {
            format!(
                "A message of {len} bytes does not fit the log `{name}`: it takes messages up to {most} bytes, half of the chunks of its fabric and 128 MiB at most."
            )
        };
        Error::new(ErrorCode::ValueTooLong, what)
    }

    /// Goes on with another block.
    #[cold]
    #[inline(never)]
    fn next_block(&mut self, need: u64) -> Result<()> {
        let me = self.area.ground.thread()?;
        self.area.accept_more()?;
        let taken = self.area.take_block(me, need, false)?;
        let left = self.block.replace(Block::new(&self.area, taken)?);
        // DIES AFTER: the reaper closes both.
        kill_point!("channel.log_block.changed");
        if let Some(left) = left {
            self.area.close_block(left.taken.index, left.taken.state)?;
        }
        Ok(())
    }

    /// Takes the block over from the thread that used it before, or another block if that has ended.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Result<()> {
        let me = self.area.ground.thread()?;
        if let Some(block) = &mut self.block {
            let seen = block.taken.state;
            // No state comes twice: late helpers compare with what they saw.
            let mine = LaneState::new(LaneKind::Live, 0, me, seen.generation().wrapping_add(1));
            if self.area.change_block(block.taken.index, seen, mine)? {
                self.area.may_overwrite();
                block.taken.state = mine;
            } else {
                self.block = None;
            }
        }
        if self.block.is_none() {
            let taken = self.area.take_block(me, record::HEADER, true)?;
            self.block = Some(Block::new(&self.area, taken)?);
        }
        self.marker = thread::marker();
        Ok(())
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if let Some(block) = &self.block
            && self.area.same_process().is_ok()
        {
            // Fails if the reaper of the thread that used it closed it already.
            let _ = self.area.close_block(block.taken.index, block.taken.state);
        }
    }
}

/// Gives the whole record at byte `at` of the log the first position that is free; every one in front of `next` is not.
#[inline(always)]
fn publish(
    area: &Area,
    block: &Block,
    at: u64,
    next: u64,
    oldest: &mut u64,
    look_at: &mut u64,
) -> Result<u64> {
    let mut position = next;
    let log = area.log()?;
    let ring = log.ring();
    for _ in 0..ROUNDS {
        let (seen, lap) = (log.cell(position), log.geometry.lap(position));
        if seen.lap() >= lap {
            position = log.end(position + 1);
            continue;
        }
        if seen.lap() + 1 != lap || position >= log.geometry.position_max() {
            return Err(no_cell(area, position, seen));
        }
        if position >= *oldest + log.geometry.cells() {
            *oldest = make_cells(area, position)?;
        }
        // Behind the look at the cell: times grow with positions.
        let now = if log.age_ms == 0 { 0 } else { time::boot_ms() };
        if now > *look_at {
            *look_at = now + log.age_ms / LOOKS;
            area.trim_by_age()?;
        }
        // ORDER Relaxed: bytes of the publisher; the cell orders them.
        ring.word(at + record::TIME).store(now, Ordering::Relaxed);
        // ORDER Relaxed: bytes of the publisher; the cell orders them.
        ring.word(at + record::POSITION).store(position, Ordering::Relaxed);
        // Before it is visible: nobody begins the block anew while a record of it is kept.
        // ORDER Relaxed: the holder's; letting go orders it.
        block.entry.block().u64::<{ block::BEHIND }>().store(position + 1, Ordering::Relaxed);
        // DIES BEFORE: nobody knows of the record; the position is the next one's.
        kill_point!("channel.log_publish.before");
        // A stopped publisher comes late: the cell has another lap, or the position is still free. Cells never go back.
        // ORDER AcqRel [log-cell]: the record, and that the positions before it are filled; pairs with the load in `Part::cell`.
        let published = log.cell_word(position).compare_exchange(
            seen.0,
            Cell::new(lap, at).0,
            Ordering::AcqRel,
            // ORDER Acquire [log-cell]: who filled it had seen the ones before it filled.
            Ordering::Acquire,
        );
        if published.is_ok() {
            // DIES AFTER: the message is published.
            kill_point!("channel.log_publish.done");
            return Ok(position);
        }
        position = log.end(position + 1);
    }
    Err(area.too_fast())
}

/// Makes room for the cell of `position` and some more; gives what is the oldest then.
#[cold]
#[inline(never)]
fn make_cells(area: &Area, position: u64) -> Result<u64> {
    let cells = area.log()?.geometry.cells();
    let need = position - cells + 1;
    area.trim_to(need, need + cells / AHEAD)
}

#[cold]
#[inline(never)]
fn no_cell(area: &Area, position: u64, seen: Cell) -> Error {
    match area.log() {
        Ok(log) if position < log.geometry.position_max() => log.damaged(position, seen),
        _ => Error::new(
            ErrorCode::Full,
            format!("The log `{}` has used all its {position} positions.", area.name),
        ),
    }
}
