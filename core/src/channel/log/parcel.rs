//! Messages that are too long for a block: they stand in chunks of the fabric, and the record of their position names them.
//!
//! The record stands in its publisher's block as any other and gets its position as any other: so a long message is visible whole by one
//! compare-and-swap, or not at all. It names the record of the long message before it in its block, and the block's entry names the newest one, so all of
//! a block are found without a look at its other records:
//!
//! ```text
//! chunks open, not named            who dies here leaves chunks that nobody names: the reaper frees them
//! named by the entry, not kept      whoever takes the block over from the dead looks at the cell of its position: published, it keeps the
//!                                   chunks; else it takes the name back, and the chunks are as above
//! kept                              the message is published; its chunks are nobody's
//! trimmed                           anybody gives the chunks back, at any time, as often as they like: they are named by number and generation
//! block begun anew                  its taker gives back what the others left, and takes the names away before it writes
//! ```
//!
//! Whoever moves `oldest` gives back what was trimmed. If it dies before, the next one does it, or whoever begins the block anew.
//! Readers hold nothing: a chunk that is gone while they copy belonged to a message that was trimmed.
//!
//! Long messages that are kept take at most the log's bytes once more, or are one.

use super::index::{EntryBlock, Found};
use super::layout::{Cell, Newest, block, record};
use crate::channel::area::Area;
use crate::channel::layout::LaneState;
use crate::chunk::Loose;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::align8;
use crate::shm::atomic::{AtomicU64, Ordering, fence};

/// Bytes of a record that names a parcel.
pub const RECORD: u64 = align8(record::HEADER + record::NAMES);
/// Walks before giving up: a holder that names long messages is at work meanwhile.
const ROUNDS: u32 = 100;
/// The position of a record that has none yet.
const NONE: u64 = u64::MAX;

/// A published long message as its record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parcel {
    pub position: u64,
    /// The word of its first chunk, and its bytes.
    pub words: [u64; 2],
}

fn newest_word(entry: EntryBlock<'_>) -> &AtomicU64 {
    entry.u64::<{ block::PARCEL }>()
}

#[cold]
fn corrupt(area: &Area, what: String) -> Error {
    Error::new(ErrorCode::Corrupt, format!("Log `{}`: {what}.", area.name))
}

impl Area {
    /// What the record of a long message names.
    pub fn words_of(&self, found: &Found) -> Result<[u64; 2]> {
        if found.len != record::NAMES {
            return Err(corrupt(self, format!("{} bytes cannot name a parcel", found.len)));
        }
        self.words_at(found.at - record::HEADER)
    }

    fn words_at(&self, at: u64) -> Result<[u64; 2]> {
        let ring = self.log()?.ring();
        // ORDER Relaxed: bytes of a record; the cell or the block's entry ordered them, and the caller validates.
        Ok([record::FIRST, record::WHOLE].map(|field| ring.word(at + field).load(Ordering::Relaxed)))
    }

    /// Writes the record of a long message at byte `at` of the log, in a block that the caller holds, and names it in the block's entry.
    pub fn name_parcel_of_log(&self, index: u32, state: LaneState, at: u64, words: [u64; 2]) -> Result<()> {
        let log = self.log()?;
        let word = newest_word(log.entry(&self.shm, index)?);
        // ORDER Relaxed: the holder's own word.
        let before = Newest(word.load(Ordering::Relaxed)).at();
        let ring = log.ring();
        let fields = [
            (record::LEN, record::IS_PARCEL | record::NAMES),
            (record::POSITION, NONE),
            (record::FIRST, words[0]),
            (record::WHOLE, words[1]),
            (record::BEFORE, before),
        ];
        for (field, value) in fields {
            // ORDER Relaxed: bytes of the publisher; the store below orders them.
            ring.word(at + field).store(value, Ordering::Relaxed);
        }
        // Before it can be seen: whoever frees looks at the entries of all blocks only if this says so.
        // ORDER Relaxed: the cell orders it, and nobody trims what it has not seen published.
        log.parcels_word().fetch_max(1, Ordering::Relaxed);
        kill_point!("channel.log_parcel.before_name");
        // ORDER Release [log-parcel]: the record; pairs with the load in `parcels_of_block`.
        word.store(Newest::new(at, state.generation()).0, Ordering::Release);
        // DIES AFTER: the name is taken back by whoever takes the block over.
        kill_point!("channel.log_parcel.named");
        Ok(())
    }

    /// The newest long message of a block, which `state` holds or held, was published or never will be: keeps its chunks, or takes its name back.
    /// Repeating it is harmless.
    pub fn settle_parcel_of_log(&self, index: u32, state: LaneState) -> Result<()> {
        let log = self.log()?;
        let word = newest_word(log.entry(&self.shm, index)?);
        // ORDER Acquire [log-parcel]: the record.
        let newest = Newest(word.load(Ordering::Acquire));
        // Of another holder it is its own affair.
        if newest.at() == 0 || newest.is_kept() || newest.generation() != state.generation() {
            return Ok(());
        }
        let at = newest.at();
        self.check_place(index, at, u64::MAX)?;
        let ring = log.ring();
        // ORDER Relaxed: ordered by the load above, and by the end of who wrote it.
        let position = ring.word(at + record::POSITION).load(Ordering::Relaxed);
        let published = position < log.geometry.position_max()
            && log.cell(position) == Cell::new(log.geometry.lap(position), at);
        if !published {
            // ORDER Relaxed: as above.
            let before = ring.word(at + record::BEFORE).load(Ordering::Relaxed);
            let before =
                if before == 0 { Newest(0) } else { Newest::new(before, newest.generation()).kept() };
            kill_point!("channel.log_parcel.before_unname");
            // ORDER AcqRel [log-parcel]: a failure means that another was first. No word comes twice.
            let _ = word.compare_exchange(newest.0, before.0, Ordering::AcqRel, Ordering::Relaxed);
            // DIES AFTER: the chunks are open still, and nobody names them.
            kill_point!("channel.log_parcel.unnamed");
            return Ok(());
        }
        let words = self.words_at(at)?;
        self.keep_parcel_of_log(index, state, newest, Parcel { position, words })
    }

    /// The newest long message of a block was published: its chunks are nobody's, unless it was trimmed already.
    fn keep_parcel_of_log(&self, index: u32, state: LaneState, newest: Newest, parcel: Parcel) -> Result<()> {
        let parcels = self.must_have_parcels()?;
        for chunk in parcels.chunks(parcel.words)? {
            kill_point!("channel.log_parcel.before_keep");
            parcels.keep(state.owner(), &[chunk])?;
        }
        // DIES BEFORE: whoever takes the block over does it all again.
        kill_point!("channel.log_parcel.before_mark");
        if self.mark_kept(index, newest, parcel.position)? { self.end_parcel(parcel.words) } else { Ok(()) }
    }

    /// The chunks of the newest long message of a block are nobody's. True if it was trimmed before: then the caller gives them back, as others may do.
    pub fn mark_kept(&self, index: u32, newest: Newest, position: u64) -> Result<bool> {
        let log = self.log()?;
        let word = newest_word(log.entry(&self.shm, index)?);
        // ORDER AcqRel [log-parcel]: the chunks are nobody's; a failure means that another was first.
        let _ = word.compare_exchange(newest.0, newest.kept().0, Ordering::AcqRel, Ordering::Relaxed);
        // DIES AFTER: one that was trimmed before is given back when the block is begun anew.
        kill_point!("channel.log_parcel.marked");
        // ORDER SeqCst [log-kept]: the mark before the look at `oldest`; pairs with the fence in `trimmed_parcels`.
        fence(Ordering::SeqCst);
        Ok(log.oldest().position() > position)
    }

    /// The holder of a block has published the long message that it named at byte `at` of the log.
    pub fn published_parcel(&self, index: u32, state: LaneState, at: u64, parcel: Parcel) -> Result<()> {
        self.keep_parcel_of_log(index, state, Newest::new(at, state.generation()), parcel)
    }

    /// Refuses a place where no record of block `index` that names a parcel can stand, in front of `behind`.
    fn check_place(&self, index: u32, at: u64, behind: u64) -> Result<()> {
        let geometry = self.log()?.geometry;
        let first = geometry.block_at(index);
        if at >= first && at < behind && at + RECORD <= first + geometry.block_bytes() {
            return Ok(());
        }
        Err(corrupt(self, format!("block {index} names a long message at byte {at}")))
    }

    /// The long messages of a block that were published and kept, at `floor` or behind it, the newest first. None if it changes all the time.
    pub fn parcels_of_block(&self, index: u32, floor: u64) -> Result<Option<Vec<Parcel>>> {
        let word = newest_word(self.log()?.entry(&self.shm, index)?);
        for _ in 0..ROUNDS {
            // ORDER Acquire [log-parcel]: the records that it leads to.
            let newest = Newest(word.load(Ordering::Acquire));
            let walked = self.walk_block(index, newest, floor);
            // ORDER Acquire [log-trim]: what was read; who read bytes of a block that was begun anew sees that its names were taken away before.
            fence(Ordering::Acquire);
            // ORDER Relaxed: the fence orders it. No word comes twice.
            if word.load(Ordering::Relaxed) == newest.0 {
                return walked.map(Some);
            }
        }
        Ok(None)
    }

    /// What it says is to be believed if the block's entry names the same long message afterwards.
    fn walk_block(&self, index: u32, newest: Newest, floor: u64) -> Result<Vec<Parcel>> {
        let ring = self.log()?.ring();
        let (mut at, mut behind) = (newest.at(), u64::MAX);
        let mut all = Vec::new();
        // Ends: places get smaller, which is checked.
        while at != 0 {
            self.check_place(index, at, behind)?;
            // ORDER Relaxed: bytes of records; the entry ordered them, and the caller validates.
            let field = |field: u64| ring.word(at + field).load(Ordering::Relaxed);
            if field(record::LEN) != record::IS_PARCEL | record::NAMES {
                return Err(corrupt(self, format!("the record at byte {at} names no parcel")));
            }
            // The newest may have no position yet, or one that it does not get.
            if behind != u64::MAX || newest.is_kept() {
                let position = field(record::POSITION);
                if position < floor {
                    break;
                }
                all.push(Parcel { position, words: self.words_at(at)? });
            }
            (at, behind) = (field(record::BEFORE), at);
        }
        Ok(all)
    }

    /// The long messages that are kept, the oldest first.
    pub fn parcels_of_log(&self) -> Result<Vec<Parcel>> {
        let log = self.log()?;
        let mut all = Vec::new();
        // ORDER Relaxed: whoever saw one published sees that there are some.
        if log.parcels_word().load(Ordering::Relaxed) == 0 {
            return Ok(all);
        }
        let oldest = log.oldest().position();
        for index in 0..log.geometry.blocks {
            all.extend(self.parcels_of_block(index, oldest)?.unwrap_or_default());
        }
        all.sort_by_key(|parcel| parcel.position);
        Ok(all)
    }

    /// Gives back the chunks of the long messages that were trimmed. Anybody may, at any time.
    pub fn free_parcels_of_log(&self) -> Result<()> {
        let log = self.log()?;
        // ORDER Acquire [log-freed]: what others gave back.
        let freed = log.parcels_word().load(Ordering::Acquire);
        if freed == 0 {
            return Ok(());
        }
        let oldest = log.oldest().position();
        let (trimmed, all_seen) = self.trimmed_parcels(freed - 1, oldest)?;
        trimmed.iter().try_for_each(|parcel| self.end_parcel(parcel.words))?;
        if all_seen {
            // DIES BEFORE: the next one gives back once more what is gone.
            kill_point!("channel.log_parcel.before_freed");
            // ORDER AcqRel [log-freed]: everything in front of it was given back.
            log.parcels_word().fetch_max(oldest + 1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The long messages that were trimmed, from `floor` to `oldest`, which the caller has read; false if there may be more. What its publisher has
    /// still to mark is that one's affair.
    pub fn trimmed_parcels(&self, floor: u64, oldest: u64) -> Result<(Vec<Parcel>, bool)> {
        // ORDER SeqCst [log-kept]: `oldest` before the look at the marks; pairs with the fence in `mark_kept`.
        fence(Ordering::SeqCst);
        let (mut trimmed, mut all_seen) = (Vec::new(), true);
        for index in 0..self.log()?.geometry.blocks {
            match self.parcels_of_block(index, floor)? {
                Some(parcels) => trimmed.extend(parcels.into_iter().filter(|it| it.position < oldest)),
                None => all_seen = false,
            }
        }
        Ok((trimmed, all_seen))
    }

    /// The caller took a block to begin it anew, and everything in it was trimmed: gives back what nobody has, and takes the names away.
    pub fn empty_block_of_parcels(&self, index: u32) -> Result<()> {
        let word = newest_word(self.log()?.entry(&self.shm, index)?);
        // ORDER Acquire [log-parcel]: the records.
        let newest = Newest(word.load(Ordering::Acquire));
        if newest.0 == 0 {
            return Ok(());
        }
        // What is damaged stays, and is told by a check.
        for parcel in self.walk_block(index, newest, 0).unwrap_or_default() {
            let _ = self.end_parcel(parcel.words);
        }
        // DIES BEFORE: the next taker does it.
        kill_point!("channel.log_parcel.before_empty");
        // ORDER Relaxed: the fence of the caller orders it in front of what is written into the block.
        word.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Takes chunks for a message and writes it into them, for a log that keeps at most so many bytes in chunks as it has itself. Trims what is in the way.
    pub fn write_parcel_of_log(&self, message: &[u8]) -> Result<Vec<Loose>> {
        let (len, most) = (message.len() as u64, self.log()?.geometry.bytes);
        let kept = self.parcels_of_log()?;
        let mut bytes = kept.iter().fold(len, |sum, parcel| sum.saturating_add(parcel.words[1]));
        let mut behind = 0;
        for parcel in &kept {
            if bytes <= most {
                break;
            }
            (bytes, behind) = (bytes.saturating_sub(parcel.words[1]), parcel.position + 1);
        }
        self.trim_to(behind, behind)?;
        loop {
            match self.write_parcel(&[], message) {
                Err(error) if error.code() == ErrorCode::Full => {
                    // There is no memory beside other objects.
                    let Some(oldest) = self.parcels_of_log()?.first().copied() else { return Err(error) };
                    self.trim_to(oldest.position + 1, oldest.position + 1)?;
                }
                result => return result,
            }
        }
    }
}

/// What all blocks name, also of messages that were trimmed: their chunks may be gone.
pub fn named(area: &Area) -> Result<Vec<[u64; 2]>> {
    let mut all = Vec::new();
    for index in 0..area.log.as_ref().map_or(0, |log| log.geometry.blocks) {
        let parcels = area.parcels_of_block(index, 0)?.unwrap_or_default();
        all.extend(parcels.iter().map(|parcel| parcel.words));
    }
    Ok(all)
}
