//! Cells and records of an open log.
//!
//! Position p is filled if its cell has the lap of p, or a later one. A publisher fills p only after it saw p - 1 filled, so all
//! positions below the end are filled and none at or behind it is. Whoever sees a filled cell, with Acquire, sees all before it.

use std::sync::Arc;

use super::files::words::{self, Words};
use super::layout::{BLOCKS, Cell, Geometry, Oldest, SUBS, block, check_bytes, control_bytes, part, record};
use super::{LogFiles, Retention};
use crate::channel::layout::{Shape, sub};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Block, Kept, KeptRing, Ring, Shm, Span};

/// What a channel that is a log has: a private copy of what never changes, checked when it was made.
pub struct Part {
    pub geometry: Geometry,
    /// Messages older than this are trimmed, in ms; 0: never.
    pub age_ms: u64,
    /// The words of its files if it has some.
    pub words: Option<Words>,
    head: Kept<{ part::BLOCKS }>,
    log: KeptRing,
}

/// The head of a record that stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where in the log its payload begins.
    pub at: u64,
    /// Bytes of the payload.
    pub len: u64,
    /// The payload names a parcel, which holds the message.
    pub parcel: bool,
    /// When it was published, in ms of the boot clock; 0 where the log has no age.
    pub time_ms: u64,
}

/// What is at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// No message yet.
    Empty,
    /// A message.
    Found(Found),
    /// The message was trimmed.
    Trimmed,
}

/// A block's entry.
pub type EntryBlock<'a> = Block<'a, { block::BYTES as usize }>;

/// Lays out a new log behind the subscriptions, in private memory of the caller.
pub fn create(area: Span<'_>, shape: &Shape, retention: &Retention, files: Option<&LogFiles>) -> Result<()> {
    check_bytes(retention.bytes)?;
    let control = control_bytes(SUBS, BLOCKS);
    let words = files.map_or(0, |_| words::LEN);
    if area.len() < control + retention.bytes + words {
        return Err(Error::new(
            ErrorCode::LimitTooSmall,
            format!("A log of {} bytes does not fit {} bytes.", retention.bytes, area.len()),
        ));
    }
    let geometry = Geometry::new(shape, retention.bytes, BLOCKS);
    // Its part of the control area and the cells; blocks need not be zero.
    let part = geometry.part - area.offset();
    area.zero(part, control - part + geometry.cells() * 8)?;
    let head: Block<'_, { part::BLOCKS }> = area.shm().block(geometry.part)?;
    let age = retention.age.map_or(0, |age| age.as_millis() as u64);
    // ORDER Relaxed: private until the directory shows the object.
    head.u64::<{ part::BYTES }>().store(retention.bytes, Ordering::Relaxed);
    head.u64::<{ part::AGE }>().store(age, Ordering::Relaxed);
    head.u64::<{ part::FILES }>().store(u64::from(files.is_some()), Ordering::Relaxed);
    match files {
        Some(files) => Words::create(area.shm(), geometry.words(), files),
        None => Ok(()),
    }
}

impl Part {
    /// Opens the log whose control area, of at most `len` bytes, has this shape; None if it cannot be.
    pub fn open(shm: &Arc<Shm>, shape: &Shape, len: u64) -> Result<Option<Part>> {
        let at = shape.place(shape.subs, 0);
        let head: Block<'_, { part::BLOCKS }> = shm.block(at)?;
        // ORDER Relaxed: written before the directory showed the object, never changed.
        let bytes = head.u64::<{ part::BYTES }>().load(Ordering::Relaxed);
        let age_ms = head.u64::<{ part::AGE }>().load(Ordering::Relaxed);
        let files = head.u64::<{ part::FILES }>().load(Ordering::Relaxed);
        if check_bytes(bytes).is_err()
            || files > 1
            || len < control_bytes(SUBS, BLOCKS) + bytes + files * words::LEN
            || age_ms > u32::MAX.into()
        {
            return Ok(None);
        }
        let mut part = Part::with_geometry(shm, Geometry::new(shape, bytes, BLOCKS), age_ms)?;
        if files == 1 {
            part.words = Some(Words::open(shm, part.geometry.words())?);
        }
        Ok(Some(part))
    }

    /// The log whose parts lie as `geometry` says.
    pub fn with_geometry(shm: &Arc<Shm>, geometry: Geometry, age_ms: u64) -> Result<Part> {
        shm.span(geometry.part, geometry.log - geometry.part)?;
        Ok(Part {
            head: Kept::new(shm, geometry.part)?,
            log: KeptRing::new(shm, geometry.log, geometry.bytes)?,
            geometry,
            age_ms,
            words: None,
        })
    }

    /// How it was made.
    pub fn retention(&self) -> Retention {
        let age = (self.age_ms != 0).then(|| std::time::Duration::from_millis(self.age_ms));
        Retention { bytes: self.geometry.bytes, age }
    }

    /// The bytes of the log itself.
    #[inline(always)]
    pub fn ring(&self) -> Ring<'_> {
        self.log.ring()
    }

    #[inline(always)]
    pub fn oldest_word(&self) -> &AtomicU64 {
        self.head.block().u64::<{ part::OLDEST }>()
    }

    /// The oldest position that is kept.
    #[inline(always)]
    pub fn oldest(&self) -> Oldest {
        // ORDER Acquire [log-oldest]: the readers that joined before it, and what was seen by who trimmed.
        Oldest(self.oldest_word().load(Ordering::Acquire))
    }

    /// Whether what was copied before this call was of the record at `position`: it was not trimmed.
    #[inline(always)]
    pub fn is_kept(&self, position: u64) -> bool {
        // ORDER Acquire [log-trim]: what was copied; pairs with the fence in `may_overwrite`: who copied bytes that were
        // overwritten sees that they were trimmed before.
        fence(Ordering::Acquire);
        // ORDER Relaxed: the fence orders it.
        Oldest(self.oldest_word().load(Ordering::Relaxed)).position() <= position
    }

    /// 0 before there was a long message; see `parcel`.
    pub fn parcels_word(&self) -> &AtomicU64 {
        self.head.block().u64::<{ part::PARCELS }>()
    }

    #[inline(always)]
    pub fn cell_word(&self, position: u64) -> &AtomicU64 {
        self.ring().word(self.geometry.cell_at(position))
    }

    /// The cell of a position.
    #[inline(always)]
    pub fn cell(&self, position: u64) -> Cell {
        // ORDER Acquire [log-cell]: the record, and that all positions before it are filled; pairs with `Appender::publish`.
        Cell(self.cell_word(position).load(Ordering::Acquire))
    }

    /// Whether a message was published at a position.
    #[inline(always)]
    pub fn is_filled(&self, position: u64) -> bool {
        self.cell(position).lap() >= self.geometry.lap(position)
    }

    /// The first position from `from` on that is not filled; every one before `from` is. Looks at few cells, however far it is.
    #[inline]
    pub fn end(&self, from: u64) -> u64 {
        let mut low = from;
        let mut step = 1u64;
        // All below `low` are filled; ends because positions have an end.
        while low < self.geometry.position_max() && self.is_filled(low) {
            let far = (low + step).min(self.geometry.position_max());
            if !self.is_filled(far) {
                return self.bisect(low + 1, far);
            }
            low = far;
            step *= 2;
        }
        low
    }

    /// The first position from `low` to `high` that is not filled; `high` is not, and all before `low` are.
    #[cold]
    fn bisect(&self, mut low: u64, mut high: u64) -> u64 {
        while low < high {
            let middle = low + (high - low) / 2;
            if self.is_filled(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What is at a position. What it says of a record is to be believed if [`Part::is_kept`] says so afterwards.
    #[inline(always)]
    pub fn look(&self, position: u64) -> Result<Look> {
        let (cell, lap) = (self.cell(position), self.geometry.lap(position));
        if cell.lap() != lap {
            return Ok(if cell.lap() < lap { Look::Empty } else { Look::Trimmed });
        }
        let (ring, at) = (self.ring(), cell.at());
        // ORDER Relaxed: bytes of a record; the cell ordered them, and the caller validates.
        let word = |field: u64| ring.word(at + field).load(Ordering::Relaxed);
        let head = word(record::LEN);
        let (len, parcel) = (head & (record::IS_PARCEL - 1), head & record::IS_PARCEL != 0);
        if !self.geometry.fits(at, len) || word(record::POSITION) != position {
            return if self.is_kept(position) {
                Err(self.damaged(position, cell))
            } else {
                Ok(Look::Trimmed)
            };
        }
        Ok(Look::Found(Found { at: at + record::HEADER, len, parcel, time_ms: word(record::TIME) }))
    }

    #[cold]
    #[inline(never)]
    pub fn damaged(&self, position: u64, cell: Cell) -> Error {
        Error::new(
            ErrorCode::Corrupt,
            format!("The cell {:#018x} of position {position} names no record of it.", cell.0),
        )
    }

    /// A block's entry.
    pub fn entry<'a>(&self, shm: &'a Shm, index: u32) -> Result<EntryBlock<'a>> {
        shm.block(self.geometry.entry(index))
    }
}

/// Where a named reader's position stands in its entry.
pub const POSITION: usize = sub::POSITION;
