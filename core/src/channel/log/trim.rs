//! Trimming: moving `oldest` over messages that are too old or stand in the way. Done by whoever writes, a bounded piece at a time.
//!
//! What named readers still have to read is not trimmed on a log that blocks. A reader that comes, or goes back, changes the word
//! of `oldest` too, after it has shown its position: who looked at the readers before that fails and looks again.
//!
//! The word counts those changes in 16 bits. A publisher that stands still between its look and its change while 65536 readers, or a
//! multiple of that, come or go back, and nobody trims anything, would not fail: then a reader that came in that time is told exactly
//! how much it lost, as on a log that does not block. Nothing is damaged by it.

use super::index::{Look, POSITION};
use super::layout::{Oldest, ReaderPlace};
use crate::channel::area::Area;
use crate::channel::layout::{SubKind, sub};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::time;

/// Tries before giving up: each failed one is another's success.
const ROUNDS: u32 = 1000;

impl Area {
    fn reader_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.shm.block::<{ sub::NAME as usize }>(self.shape.sub(index))?.u64::<{ POSITION }>())
    }

    /// Where a named reader stands, with the mark of the holder that said so.
    pub fn reader_place(&self, index: u32) -> Result<ReaderPlace> {
        // ORDER Acquire [log-place]: the reader has copied what is in front of it.
        Ok(ReaderPlace(self.reader_word(index)?.load(Ordering::Acquire)))
    }

    /// The position of the message that a named reader reads next.
    pub fn reader_position(&self, index: u32) -> Result<u64> {
        Ok(self.reader_place(index)?.position())
    }

    /// Shows where a new named reader begins, in an entry that nobody else looks at yet.
    pub fn begin_reader(&self, index: u32, place: ReaderPlace) -> Result<()> {
        // ORDER Release [log-place]: its state comes after it.
        self.reader_word(index)?.store(place.0, Ordering::Release);
        Ok(())
    }

    /// Shows where a named reader stands. False if the entry was given to another meanwhile: a holder that was ejected while it was
    /// stopped moves nobody else.
    #[inline]
    pub fn show_reader(&self, index: u32, from: ReaderPlace, to: ReaderPlace) -> Result<bool> {
        // ORDER Release [log-place]: what is in front of it was copied; pairs with the load in `reader_place`.
        let shown =
            self.reader_word(index)?.compare_exchange(from.0, to.0, Ordering::Release, Ordering::Relaxed);
        Ok(shown.is_ok())
    }

    /// A named reader that shows its position came, or went back: from here on nothing that it still has to read is trimmed where the log
    /// blocks. Gives what is the oldest now.
    pub fn reader_joined(&self) -> Result<u64> {
        let log = self.log()?;
        for _ in 0..ROUNDS {
            let seen = log.oldest();
            // ORDER AcqRel [log-oldest]: the reader's state and position; pairs with the load in `trim_to`.
            let joined = log.oldest_word().compare_exchange(
                seen.0,
                seen.joined().0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if joined.is_ok() {
                // DIES AFTER: a reader that is away, with a good position.
                kill_point!("channel.log_join.joined");
                // Files are not removed either.
                if let Some(words) = &log.words {
                    words.reader_joined();
                }
                return Ok(seen.position());
            }
        }
        Err(self.too_fast())
    }

    #[cold]
    pub fn too_fast(&self) -> Error {
        Error::new(ErrorCode::Busy, format!("The log `{}` changes too fast.", self.name))
    }

    /// How far may be trimmed, and who keeps what follows. What is in files is not lost to a reader.
    fn bound(&self) -> Result<(u64, Option<u32>)> {
        match &self.log()?.words {
            Some(words) => Ok((words.flushed(), None)),
            None if self.overruns() => Ok((u64::MAX, None)),
            None => self.reader_bound(),
        }
    }

    /// What the named readers have read all of, and the one that is farthest behind.
    pub(super) fn reader_bound(&self) -> Result<(u64, Option<u32>)> {
        let mut bound = (u64::MAX, None);
        for index in 0..self.shape.subs {
            if matches!(self.sub_state(index)?.kind(), Some(SubKind::Live | SubKind::Away)) {
                let position = self.reader_position(index)?;
                if position < bound.0 {
                    bound = (position, Some(index));
                }
            }
        }
        Ok(bound)
    }

    /// Makes sure that everything below `need` is trimmed, and if it does it, as much as may be up to `wish`. `LogFull` if a named
    /// reader has still to read it.
    pub fn trim_to(&self, need: u64, wish: u64) -> Result<u64> {
        let log = self.log()?;
        for _ in 0..ROUNDS {
            let seen = log.oldest();
            if seen.position() >= need {
                return Ok(seen.position());
            }
            let (bound, keeper) = self.bound()?;
            if bound < need {
                if log.words.is_some() {
                    // Only what is in the files may go.
                    self.flush()?;
                    continue;
                }
                return Err(self.log_full(bound, keeper));
            }
            self.move_oldest(seen, wish.min(bound).max(need))?;
        }
        Err(self.too_fast())
    }

    /// Moves `oldest` from what was seen.
    pub(super) fn move_oldest(&self, seen: Oldest, to: u64) -> Result<()> {
        kill_point!("channel.log_trim.before");
        // ORDER AcqRel [log-oldest]: a failure means that another trimmed, or a reader came.
        let _ = self.log()?.oldest_word().compare_exchange(
            seen.0,
            seen.moved(to).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        // DIES AFTER: the messages are trimmed; what they stood in is free for the next who looks. Chunks of long ones are given back by the next who trims.
        kill_point!("channel.log_trim.done");
        // What is damaged stays, and is told to whoever reads it.
        let _ = self.free_parcels_of_log();
        Ok(())
    }

    #[cold]
    pub(super) fn log_full(&self, bound: u64, keeper: Option<u32>) -> Error {
        let name = keeper.and_then(|index| self.sub_name(index).ok()).unwrap_or_default();
        Error::with_amount(
            ErrorCode::LogFull,
            bound,
            format!(
                "The log `{}` is full, and its reader `{name}` has still to read from position {bound}.",
                self.name
            ),
        )
    }

    /// Trims what is older than the log's age, as far as named readers let it.
    pub fn trim_by_age(&self) -> Result<()> {
        let log = self.log()?;
        if log.age_ms == 0 || !self.shm.writable() {
            return Ok(());
        }
        let Some(young) = time::boot_ms().checked_sub(log.age_ms) else { return Ok(()) };
        let seen = log.oldest();
        if !self.is_older(seen.position(), young)? {
            return Ok(());
        }
        // Times grow with positions.
        let (mut low, mut high) = (seen.position() + 1, log.end(seen.position()));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_older(middle, young)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (bound, _) = self.bound()?;
        if low.min(bound) > seen.position() {
            self.move_oldest(seen, low.min(bound))?;
        }
        Ok(())
    }

    /// Whether there was a message at a position, from before `young`.
    fn is_older(&self, position: u64, young: u64) -> Result<bool> {
        let log = self.log()?;
        Ok(match log.look(position)? {
            Look::Empty => false,
            Look::Trimmed => true,
            Look::Found(found) => found.time_ms < young || !log.is_kept(position),
        })
    }
}
