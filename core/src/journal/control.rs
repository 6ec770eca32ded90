//! The shared words of a journal: 128 bytes in the control chunk of the object that owns it.
//!
//! ```text
//!  0 leader u64   {term, owner, beat}            32 event u32     bumped when `durable` moves, futex
//!  8 tail u64     lsn up to which all is synced  36 health u32    0 well, 1 no space, 2 poisoned, 3 cannot write
//! 16 epoch u64    flushes begun                  40 written u64   bytes since the last checkpoint began
//! 24 durable u64  flush up to which all is safe  48 spare u64     lsn of a prepared file, sector 0
//! 56 capacity u64 bytes of a file   64 flushes  72 batches  80 records  88 bytes   (counters)   96 zeros
//! ```

use super::layout::FILE_HEADER_LEN;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Block;
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes. No journal makes longer files.
pub const CAPACITY_MAX: u64 = 64 << 20;
/// Bytes of the control words.
pub const CONTROL_LEN: usize = 128;

/// What the last attempt to write said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Health {
    /// Writes are accepted.
    Well = 0,
    /// The file system is full: writes are refused until a retry succeeds.
    NoSpace = 1,
    /// A sync failed: writes are refused for ever.
    Poisoned = 2,
    /// Writing fails for another reason: writes are refused until a retry succeeds.
    CannotWrite = 3,
}

fn impossible_epoch() -> Error {
    Error::new(ErrorCode::Corrupt, "The journal has counted more flushes than there can be.")
}

/// The shared words, checked once.
#[derive(Clone, Copy)]
pub struct Control<'a>(pub Block<'a, CONTROL_LEN>);

impl<'a> Control<'a> {
    /// Leadership of the flush.
    pub fn leader(self) -> &'a AtomicU64 {
        self.0.u64::<0>()
    }

    /// Up to where the journal is synced.
    pub fn tail(self) -> &'a AtomicU64 {
        self.0.u64::<8>()
    }

    /// Number of flushes begun.
    pub fn epoch(self) -> &'a AtomicU64 {
        self.0.u64::<16>()
    }

    /// Number of the flush up to which everything is safe.
    pub fn durable(self) -> &'a AtomicU64 {
        self.0.u64::<24>()
    }

    /// Bumped when `durable` moves.
    pub fn event(self) -> &'a AtomicU32 {
        self.0.u32::<32>()
    }

    /// Bytes written since the last checkpoint began.
    pub fn written(self) -> &'a AtomicU64 {
        self.0.u64::<40>()
    }

    /// A file that stands ready.
    pub fn spare(self) -> &'a AtomicU64 {
        self.0.u64::<48>()
    }

    /// Bytes of a journal file.
    pub fn capacity(self) -> &'a AtomicU64 {
        self.0.u64::<56>()
    }

    /// Bytes of a file, if that is a number that some journal may have: a wrong one would fill the disk.
    pub fn checked_capacity(self) -> Result<u64> {
        // ORDER Relaxed: set before the journal is ready, never changed.
        let capacity = self.capacity().load(Ordering::Relaxed);
        if (FILE_HEADER_LEN..=CAPACITY_MAX).contains(&capacity) {
            Ok(capacity)
        } else {
            Err(Error::new(
                ErrorCode::Corrupt,
                format!("The journal names {capacity} bytes as the size of its files."),
            ))
        }
    }

    /// Draws the number of a flush.
    pub fn draw_epoch(self) -> Result<u64> {
        self.next_epoch()?;
        // ORDER SeqCst [journal-epoch]: the number is drawn before anything is looked at; pairs with `ticket`.
        let before = self.epoch().fetch_add(1, Ordering::SeqCst);
        before.checked_add(1).ok_or_else(impossible_epoch)
    }

    /// The number that the next flush will draw.
    pub fn next_epoch(self) -> Result<u64> {
        // ORDER SeqCst [journal-epoch]: flushes from this number on look at the table after what the caller did before.
        self.epoch().load(Ordering::SeqCst).checked_add(1).ok_or_else(impossible_epoch)
    }

    /// Flushes that wrote something.
    pub fn flushes(self) -> &'a AtomicU64 {
        self.0.u64::<64>()
    }

    /// Batches written.
    pub fn batches(self) -> &'a AtomicU64 {
        self.0.u64::<72>()
    }

    /// Records written.
    pub fn records(self) -> &'a AtomicU64 {
        self.0.u64::<80>()
    }

    /// Bytes written.
    pub fn bytes(self) -> &'a AtomicU64 {
        self.0.u64::<88>()
    }

    /// The words of a new journal, all zero before: terms, epochs and files begin after all that its directory holds.
    ///
    /// Each word is only ever changed from zero, so whoever was stopped in here, was overtaken by another and wakes when the
    /// journal is long in use changes nothing.
    pub fn init(self, term: u32, epoch: u64, capacity: u64) {
        let epoch = epoch.max(1);
        let words = [
            (self.capacity(), capacity.clamp(FILE_HEADER_LEN, CAPACITY_MAX)),
            (self.durable(), epoch),
            (self.epoch(), epoch),
            (self.leader(), super::leader::LeaderWord::free(term.max(1)).0),
        ];
        for (word, value) in words {
            // ORDER AcqRel [leader-word]: the leader's word is set last, with the others before it.
            let _ = word.compare_exchange(0, value, Ordering::AcqRel, Ordering::Relaxed);
            kill_point!("journal.init.word");
        }
    }

    /// What the last attempt to write said.
    #[inline]
    pub fn health(self) -> Health {
        // ORDER Relaxed: a flag that stands for itself.
        match self.0.u32::<36>().load(Ordering::Relaxed) {
            0 => Health::Well,
            1 => Health::NoSpace,
            3 => Health::CannotWrite,
            _ => Health::Poisoned,
        }
    }

    /// Remembers what an attempt said. Poison stays.
    pub fn set_health(self, health: Health) {
        let word = self.0.u32::<36>();
        let mut seen = word.load(Ordering::Relaxed);
        while seen != Health::Poisoned as u32 && seen != health as u32 {
            match word.compare_exchange(seen, health as u32, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
    }

    /// Refuses a write before it changes anything.
    #[inline]
    pub fn accept(self) -> Result<()> {
        match self.health() {
            Health::Well => Ok(()),
            Health::NoSpace => Err(Error::new(
                ErrorCode::NoSpace,
                "The file system of the directory is full: the write was refused, nothing changed.",
            )),
            Health::Poisoned => Err(ErrorCode::Poisoned.into()),
            Health::CannotWrite => Err(Error::new(
                ErrorCode::Io,
                "The directory cannot be written: the write was refused, nothing changed.",
            )),
        }
    }

    /// Moves `durable` up to `epoch` and wakes all who wait for it.
    pub fn advance_durable(self, epoch: u64) {
        // ORDER Release [journal-durable]: whoever reads the number may rely on the files; pairs with `sync::wait`.
        self.durable().fetch_max(epoch, Ordering::AcqRel);
        self.event().fetch_add(1, Ordering::AcqRel);
        crate::shm::futex::wake(self.event(), u32::MAX);
    }
}
