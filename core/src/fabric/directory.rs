//! Names to objects, without a lock.
//!
//! A cell of the directory is 8 bytes, `{kind 8 | tag 24 | chunk 32}`, 0 for empty. An object is laid out in chunks that
//! only its creator can reach and then published by one compare-and-swap of the first empty cell in the order in which its
//! name is probed. Cells never become empty again, so two creators of one name meet at the same cell, and one wins.
//!
//! The first chunk of an object begins with its header:
//!
//! ```text
//! 0   kind u32, length of the name u32     16  options[8] u64
//! 8   created, ms since 1970               80  name, 64 bytes
//!                                         144  chunks u32          up to 256 reserved
//! ```

use crate::chunk::{Actor, ChunkId, Class, Need, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::NAME_LEN_MAX;
use crate::segment::Segment;
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::{Block, Shm, Span, time};

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectKind {
    /// Entries in memory.
    Cache = 1,
    /// Messages.
    Channel = 2,
    /// Entries with a journal.
    Store = 3,
    /// An event, a counter, a lock or a semaphore.
    Signal = 4,
    /// Requests and replies.
    Service = 5,
    /// The newest value of each key.
    Topic = 6,
}

impl ObjectKind {
    const fn from_number(number: u8) -> Option<ObjectKind> {
        match number {
            1 => Some(ObjectKind::Cache),
            2 => Some(ObjectKind::Channel),
            3 => Some(ObjectKind::Store),
            4 => Some(ObjectKind::Signal),
            5 => Some(ObjectKind::Service),
            6 => Some(ObjectKind::Topic),
            _ => None,
        }
    }

    /// Whether it holds entries.
    pub(super) const fn is_table(self) -> bool {
        matches!(self, ObjectKind::Cache | ObjectKind::Store | ObjectKind::Topic)
    }

    /// The name in messages and listings.
    pub const fn name(self) -> &'static str {
        match self {
            ObjectKind::Cache => "cache",
            ObjectKind::Channel => "channel",
            ObjectKind::Store => "store",
            ObjectKind::Signal => "signal",
            ObjectKind::Service => "service",
            ObjectKind::Topic => "topic",
        }
    }
}

/// Bytes of the header of an object.
pub const HEADER_BYTES: u64 = 256;

mod at {
    pub const KIND: usize = 0;
    pub const NAME_LEN: usize = 4;
    pub const CREATED_MS: usize = 8;
    pub const OPTIONS: usize = 16;
    pub const NAME: usize = 80;
    pub const CHUNKS: usize = 144;
}

/// What goes into the layout hash from here.
pub const FACTS: &[u64] = &[
    HEADER_BYTES,
    at::KIND as u64,
    at::NAME_LEN as u64,
    at::OPTIONS as u64,
    at::NAME as u64,
    at::CHUNKS as u64,
];

const _: () = assert!(crate::table::layout::OBJECT_HEADER_BYTES == HEADER_BYTES);

/// A published object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Number of its cell, from 1: what its chunks carry.
    pub id: u32,
    pub kind: ObjectKind,
    pub name: String,
    /// What it was made with; the meaning is the kind's.
    pub options: [u64; 8],
    pub chunks: u32,
    /// Where its header begins.
    pub offset: u64,
}

/// What a new object is made from.
pub struct Plan<'a> {
    pub kind: ObjectKind,
    pub name: &'a str,
    pub options: [u64; 8],
    /// Chunks in a row.
    pub chunks: u32,
    /// Lays out what follows the header; gets the whole run and the object's number.
    pub lay_out: &'a dyn Fn(Span<'_>, u32) -> Result<()>,
}

/// The directory of an attached fabric.
pub struct Directory {
    offset: u64,
    cells: u32,
}

fn tag(name: &str) -> u64 {
    // FNV-1a: fixed for ever, and good enough for a thousand names.
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn cell_word(kind: ObjectKind, hash: u64, chunk: ChunkId) -> u64 {
    kind as u64 | ((hash >> 40) << 8) | (u64::from(chunk.0) << 32)
}

impl Directory {
    pub fn new(segment: &Segment) -> Directory {
        let geometry = segment.geometry();
        Directory { offset: geometry.directory_offset, cells: geometry.directory_cells }
    }

    fn cell<'s>(&self, shm: &'s Shm, index: u32) -> Result<&'s AtomicU64> {
        let block: Block<'s, 8> = shm.block(self.offset + u64::from(index % self.cells) * 8)?;
        Ok(block.u64::<0>())
    }

    /// Cells in the order in which a name is probed.
    fn probe(&self, hash: u64) -> impl Iterator<Item = u32> + use<> {
        let (start, cells) = (hash as u32, self.cells);
        (0..cells).map(move |step| start.wrapping_add(step) % cells)
    }

    /// The object that a cell names.
    fn read(&self, pool: &Pool, index: u32, cell: u64) -> Result<Object> {
        let damaged = |what: &str| Error::new(ErrorCode::Corrupt, format!("Directory cell {index}: {what}."));
        let kind =
            ObjectKind::from_number(cell as u8).ok_or_else(|| damaged("it names no kind of object"))?;
        let chunk = ChunkId((cell >> 32) as u32);
        let span = pool.span(chunk).map_err(|_| damaged("it names a chunk that is not there"))?;
        let header: Block<'_, { HEADER_BYTES as usize }> = span.block(0)?;
        // ORDER Relaxed: written before the cell was published, never changed; the caller loaded the cell with Acquire.
        let len = header.u32::<{ at::NAME_LEN }>().load(Ordering::Relaxed) as usize;
        let chunks = header.u32::<{ at::CHUNKS }>().load(Ordering::Relaxed);
        if len == 0
            || len > NAME_LEN_MAX
            || header.u32::<{ at::KIND }>().load(Ordering::Relaxed) != kind as u32
        {
            return Err(damaged("the header of its object is not one"));
        }
        pool.run_span(chunk, chunks.max(1)).map_err(|_| damaged("its object leaves the arena"))?;
        let mut name = vec![0; len];
        span.copy_out(at::NAME as u64, &mut name)?;
        let name = String::from_utf8(name).map_err(|_| damaged("the name of its object is no text"))?;
        let mut options = [0; 8];
        for (place, option) in options.iter_mut().enumerate() {
            *option = header.u64_at::<{ at::OPTIONS }>(place).load(Ordering::Relaxed);
        }
        Ok(Object { id: index + 1, kind, name, options, chunks: chunks.max(1), offset: span.offset() })
    }

    /// The object of a name.
    pub fn find(&self, pool: &Pool, name: &str) -> Result<Option<Object>> {
        let hash = tag(name);
        for index in self.probe(hash) {
            // ORDER Acquire [directory-cell]: the object is whole when its cell is seen.
            let cell = self.cell(pool.shm(), index)?.load(Ordering::Acquire);
            if cell == 0 {
                return Ok(None);
            }
            if (cell >> 8) & 0xff_ffff == hash >> 40 {
                let object = self.read(pool, index, cell)?;
                if object.name == name {
                    return Ok(Some(object));
                }
            }
        }
        Ok(None)
    }

    /// All objects.
    pub fn objects(&self, pool: &Pool) -> Result<Vec<Object>> {
        self.cells(pool)?.into_iter().collect()
    }

    /// The objects that can be read, without those whose cell or header is damaged: for whoever must go on with the rest.
    pub fn sound_objects(&self, pool: &Pool) -> Result<Vec<Object>> {
        Ok(self.cells(pool)?.into_iter().flatten().collect())
    }

    /// What stands in the cells that are taken.
    fn cells(&self, pool: &Pool) -> Result<Vec<Result<Object>>> {
        let mut cells = Vec::new();
        for index in 0..self.cells {
            // ORDER Acquire [directory-cell]: as in `find`.
            let cell = self.cell(pool.shm(), index)?.load(Ordering::Acquire);
            if cell != 0 {
                cells.push(self.read(pool, index, cell));
            }
        }
        Ok(cells)
    }

    /// Whether some object begins at this chunk.
    pub fn names_chunk(&self, shm: &Shm, chunk: ChunkId) -> Result<bool> {
        for index in 0..self.cells {
            // ORDER Acquire [directory-cell]: as in `find`.
            let cell = self.cell(shm, index)?.load(Ordering::Acquire);
            if cell != 0 && cell >> 32 == u64::from(chunk.0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The object of the plan's name, made now if there is none. `WrongKind` if it is another kind.
    pub fn open_or_create(&self, pool: &Pool, me: Option<Actor<'_>>, plan: &Plan<'_>) -> Result<Object> {
        // Each lost race means that another object took the cell: bounded by the number of cells.
        for _ in 0..=self.cells {
            if let Some(object) = self.find(pool, plan.name)? {
                if object.kind != plan.kind {
                    return Err(Error::new(
                        ErrorCode::WrongKind,
                        format!(
                            "`{}` exists as a {}, not as a {}.",
                            plan.name,
                            object.kind.name(),
                            plan.kind.name()
                        ),
                    ));
                }
                return Ok(object);
            }
            let Some(me) = me else {
                return Err(Error::new(
                    ErrorCode::ReadOnly,
                    format!(
                        "There is no {} `{}`, and this attachment cannot create it.",
                        plan.kind.name(),
                        plan.name
                    ),
                ));
            };
            if let Some(object) = self.create(pool, me, plan)? {
                return Ok(object);
            }
        }
        Err(ErrorCode::Busy.into())
    }

    /// Makes an object; `None` if another took the cell.
    fn create(&self, pool: &Pool, me: Actor<'_>, plan: &Plan<'_>) -> Result<Option<Object>> {
        let hash = tag(plan.name);
        let mut free = None;
        for index in self.probe(hash) {
            // ORDER Acquire [directory-cell]: as in `find`.
            if self.cell(pool.shm(), index)?.load(Ordering::Acquire) == 0 {
                free = Some(index);
                break;
            }
        }
        let Some(index) = free else {
            return Err(Error::new(
                ErrorCode::TooManyObjects,
                format!("All {} cells of the object directory are taken.", self.cells),
            ));
        };
        let first = pool.allocate_run(me, Class::Control, index + 1, plan.chunks, Need::Object)?;
        let made = (|| {
            let run = pool.run_span(first, plan.chunks)?;
            run.zero(0, HEADER_BYTES)?;
            let header: Block<'_, { HEADER_BYTES as usize }> = run.block(0)?;
            // ORDER Relaxed: nobody can reach the chunk yet; the cell releases it.
            header.u32::<{ at::KIND }>().store(plan.kind as u32, Ordering::Relaxed);
            header.u32::<{ at::NAME_LEN }>().store(plan.name.len() as u32, Ordering::Relaxed);
            header.u64::<{ at::CREATED_MS }>().store(time::wall_ms(), Ordering::Relaxed);
            header.u32::<{ at::CHUNKS }>().store(plan.chunks, Ordering::Relaxed);
            for (place, option) in plan.options.iter().enumerate() {
                header.u64_at::<{ at::OPTIONS }>(place).store(*option, Ordering::Relaxed);
            }
            run.copy_in(at::NAME as u64, plan.name.as_bytes())?;
            (plan.lay_out)(run, index + 1)
        })();
        if let Err(error) = made {
            pool.release(me, first)?;
            return Err(error);
        }
        let cell = cell_word(plan.kind, hash, first);
        // DIES BEFORE: open chunks that nothing names: the reaper frees them.
        kill_point!("directory.create.before_publish");
        // ORDER AcqRel [directory-cell]: releases the whole object.
        let published = self
            .cell(pool.shm(), index)?
            .compare_exchange(0, cell, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !published {
            pool.release(me, first)?;
            return Ok(None);
        }
        // DIES AFTER: a published object in open chunks of the dead: the reaper settles them.
        kill_point!("directory.create.published");
        pool.settle(me, first)?;
        Ok(Some(self.read(pool, index, cell)?))
    }
}
