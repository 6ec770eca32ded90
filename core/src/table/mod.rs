//! The table: an index of slots over records. Caches and stores are tables with a face.
//!
//! A key's hash chooses an index chunk through the directory, a home bucket in it, and a tag. A slot with that tag names a
//! record; one compare-and-swap of the slot publishes, replaces or unlinks it. Readers copy the value out, then check that
//! the slot did not change; they write nothing. New keys take the insert lock of their home bucket, the only lock there
//! is; it can be taken from a dead or stopped holder because every empty slot it may be about to fill gets another version.
//! An index chunk that is full is split in two while everybody goes on.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of the control area, directory and buckets |
//! | `slot`, `hash` | the 8-byte word as a type; the hash of keys |
//! | `lookup` | reading: one key, many keys, while a split goes on |
//! | `quick` | the common case of reading and overwriting, straight through |
//! | `advisor` | what more or less memory would give |
//! | `observe` | telling what changes |
//! | `stats` | what was done, counted by threads each for itself |
//! | `view` | reading without a copy |
//! | `action` | what an update sees, may do, and did |
//! | `update` | changing: the loop of every writer |
//! | `insert` | new keys: lock, steal, poison |
//! | `split` | dividing an index chunk, with helpers |
//! | `clean` | moving live records out of chunks of mostly dead ones |
//! | `evict` | what goes when a cache is full |
//! | `queue` | the queues of its chunks |
//! | `ghost` | which keys were evicted lately |
//! | `count` | live bytes, entries, what still fits; taking the counts anew |
//! | `places` | keeping a limit of entries |
//! | `expire` | taking out what has expired, a little at a time |
//! | `flush` | making everything gone at one moment |
//! | `ordered` | keys in order: the tree beside the table |
//! | `lease` | who makes the value of a key that is not there |
//! | `stamp` | when a state of a store began to count |
//! | `decide` | states whose transaction is not decided: reading past them, deciding for who does not |
//! | `intent` | the states of a transaction: putting them in place, proving what was read, making them count |
//! | `announce` | which times of a store are still read |
//! | `snapshot` | reading a store as it was |
//! | `entry` | what users see of an entry |
//! | `scan` | all entries, in an order that splits do not disturb |
//! | `state` | what a store needs: states with their order, tombstones |
//! | `check` | every invariant of a table |
//!
//! # What a store can rely on
//!
//! A table opened with [`RecordClass::Store`] appends records with the extended header into chunks of class `Store`.
//!
//! * **Orders.** A record carries the number of this state of its key: one more than that of the record it replaces, or
//!   than [`Table::floor`] where the key is absent. It is written before the record is published, and the compare-and-swap
//!   expects the very record whose order was read: so orders grow with the order of publication, and nobody has to help.
//! * **Deletes are tombstones**: records with the flag `TOMBSTONE`, which readers answer as absent and counts leave out.
//!   [`Table::drop_tombstone`] takes one out when the journal has it and the floor was raised to its order; so does the
//!   cleaner, which moves others like any record.
//! * **All states**, tombstones included: [`Table::each_state`]. Those on one side of a cut: [`Table::cut`].
//! * **Stamps** say since when a state counts, or which transaction decides: see `stamp`, `decide` and `intent`.
//! * **Walking**: `Pool::walk(chunk, EXTENDED_BYTES, from)` gives whole records up to the tail, in any chunk state in which
//!   `Pool::unflushed` lists it. [`Table::is_live`] says whether a slot points to a record.
//! * **Chunks that the journal does not have** are never reset: the cleaner asks `Pool::may_be_cleaned`. When nothing else
//!   can be cleaned an update answers `Full`: flush, then try again.
//! * **Relocation** copies a record with its id and order and marks the copy `RELOCATED`: the journal has it.
//! * **Expired** records of a store are answered as absent, but only the store unlinks them.
//! * **Restoring** after the segment was lost: [`Table::restore`] puts a state with its order if it is newer than what is
//!   there, and above the floor where nothing is there.
//! * **Control words**: 2560 bytes from `layout::USER_OFFSET` behind the start of the object belong to the store.

mod action;
mod advisor;
mod announce;
mod check;
mod clean;
mod count;
mod decide;
mod drop;
mod empty;
pub mod entry;
mod evict;
#[cfg(all(test, not(memora_loom)))]
mod evict_tests;
mod expire;
mod flush;
mod ghost;
mod hash;
mod insert;
mod intent;
pub mod layout;
mod lease;
mod lookup;
mod observe;
mod ordered;
mod places;
#[cfg(all(test, not(memora_loom)))]
mod places_tests;
mod queue;
mod quick;
mod scan;
mod slot;
mod snapshot;
#[cfg(all(test, memora_loom))]
mod snapshot_interleavings;
#[cfg(all(test, not(memora_loom)))]
mod snapshot_tests;
mod split;
mod stamp;
mod state;
mod stats;
mod update;
mod verdict;
mod view;

#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(all(test, not(memora_loom)))]
mod run_tests;
#[cfg(all(test, not(memora_loom)))]
mod stamped_tests;
#[cfg(all(test, not(memora_loom)))]
mod tests;
#[cfg(all(test, memora_loom))]
mod transaction_interleavings;

use std::sync::{Arc, OnceLock, Weak};

pub use action::{Action, Changed, Current, Id, Restored, Revision, Update, Value};
pub use check::{check, inherit};
pub use count::TableStats;
pub use intent::{Begun, Intent, Sighting, finish_left};
pub use lease::{Asked, End};
pub use observe::{EventKind, Observer};
pub use ordered::{Cursor, Direction, Keys};
pub use snapshot::View;
pub use stamp::Reference;
pub use state::{Cut, KeyState};
pub use stats::{ChunkStates, Count, Counts};
pub use verdict::{Verdict, abort, verdict};

use crate::chunk::record::{EXTENDED_BYTES, HEADER_BYTES};
use crate::chunk::{Account, Actor, ChunkId, Class, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::{KEY_LEN_MAX, STORE_KEY_REST, VALUE_LEN_MAX};
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::shm::{Shm, Span};
use crate::tree::{self, Tree};
use hash::Hasher;
use layout::{Aux, Control, DIRECTORY_OFFSET, Entry, OBJECT_HEADER_BYTES, Shape, control, option};

/// Which records a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordClass {
    /// 24 B header; deletes unlink.
    Cache,
    /// 48 B header with the order of the state and its stamp; deletes are tombstones, which the journal hears of.
    Store,
    /// The same header, but there is no journal: a deletion is a tombstone only as long as a snapshot may need it.
    Memory,
    /// As `Cache`, but with the extended header: transactions may change it.
    Stamped,
}

impl RecordClass {
    const fn class(self) -> Class {
        match self {
            RecordClass::Cache | RecordClass::Stamped => Class::Main,
            RecordClass::Store => Class::Store,
            RecordClass::Memory => Class::Memory,
        }
    }

    const fn header(self) -> u64 {
        match self {
            RecordClass::Cache => HEADER_BYTES,
            RecordClass::Store | RecordClass::Memory | RecordClass::Stamped => EXTENDED_BYTES,
        }
    }

    /// The class of a cache, which transactions may change or not.
    pub const fn of_cache(transactions: bool) -> RecordClass {
        if transactions { RecordClass::Stamped } else { RecordClass::Cache }
    }

    /// Whether it is a cache: tombstones are leases, or deletions that nobody has unlinked yet.
    #[inline]
    const fn is_cache(self) -> bool {
        matches!(self, RecordClass::Cache | RecordClass::Stamped)
    }

    /// Whether records have orders and stamps.
    #[inline]
    const fn has_stamps(self) -> bool {
        !matches!(self, RecordClass::Cache)
    }

    /// Whether a journal has to hear of every change.
    #[inline]
    const fn is_journaled(self) -> bool {
        matches!(self, RecordClass::Store)
    }
}

/// Tells the milliseconds that expiries are compared with: the boot clock for a cache, a clamped wall clock for a store.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// An index of slots over records, in one object of a fabric.
pub struct Table {
    pool: Arc<Pool>,
    /// Number of the object: what its chunks of records carry.
    object: u32,
    /// Where the control area begins, behind the object's header.
    control: u64,
    /// Where the directory begins.
    directory: u64,
    /// The hash's top bits choose an entry: 64 - D.
    shift: u32,
    bits: u32,
    shape: Shape,
    class: RecordClass,
    header: u64,
    /// Copies of what the pool knows, for the common case.
    shm: Arc<Shm>,
    arena: u64,
    chunk_shift: u32,
    chunk_count: u64,
    /// The limit given at creation, 0 for none.
    limit: u64,
    /// The most entries, 0 for any number.
    entries_limit: u64,
    /// Whether entries are evicted when it is full.
    evicts: bool,
    /// Whether reading counts for what is evicted: not through an attachment that cannot write.
    notes_reads: bool,
    /// Whether the cache tells its events.
    events: bool,
    /// Who hears of what changes.
    observer: OnceLock<Arc<dyn Observer>>,
    /// The parts of the aux area.
    aux: Aux,
    /// Where the threads count what they do; outside the space if they do not.
    lines: u64,
    /// Where the advisor's sample begins; outside the space if there is none.
    advisor: u64,
    sampling: advisor::Sampling,
    /// Chunks of the object itself.
    own_chunks: u32,
    /// What this process knows of the queues: private.
    eviction: evict::Eviction,
    hasher: Hasher,
    clock: Clock,
    /// What this process last found to fit, and at which change of the pool: private.
    capacity: count::CapacityCache,
    /// How far this process came with taking out what has expired: private.
    round: expire::Round,
    /// Who lends readers of a store a hand.
    hands: OnceLock<Weak<dyn Hands>>,
    /// The keys in order, if the table has them.
    tree: Option<Tree>,
    gone: ordered::Gone,
    /// The change of the pool at which this process last looked how much is kept for snapshots: private.
    views_bounded: AtomicU32,
}

/// Who finds the calling thread's entry for a reader that meets a state without its stamp.
pub trait Hands: Send + Sync {
    /// The calling thread's entry.
    fn actor(&self) -> Result<Actor<'_>>;
}

/// How a table is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// Whether it has what only caches have: ghosts, statistics, an advisor.
    pub cache: bool,
    /// Bytes that it may hold, 0 for what the fabric has: of live records, or of all its chunks if it evicts.
    pub limit: u64,
    /// The most entries, 0 for any number.
    pub entries: u64,
    /// Whether it evicts when it is full.
    pub evict: bool,
    /// Whether it tells its events.
    pub events: bool,
    /// Whether it keeps its keys in order.
    pub ordered: bool,
    /// Whether transactions may change it: of a cache, whose class says so as well.
    pub transactions: bool,
}

impl TableOptions {
    fn aux(&self, pool: &Pool) -> Aux {
        let geometry = pool.geometry();
        let all = u64::from(geometry.chunk_count) * geometry.chunk_bytes;
        let room = if self.limit != 0 { self.limit.min(all) } else { all };
        match self.cache {
            true => {
                Aux::of_cache(room, self.limit != 0, self.entries, self.evict, pool.ground().thread_limit())
            }
            false if self.ordered => Aux { tree: tree::area_bytes(pool), ..Aux::default() },
            false => Aux::default(),
        }
    }

    /// The word `options` of the control area.
    pub fn word(&self) -> u64 {
        (u64::from(self.evict) * option::EVICT)
            | (u64::from(self.events) * option::EVENTS)
            | (u64::from(self.transactions) * option::TRANSACTIONS)
    }

    /// Chunks that must fit a limit besides those of the object itself: the young ones and the old ones, those that are being
    /// written and those that are being evicted, and two for an index that grows.
    const CHUNKS_MIN: u64 = 8;

    /// Refuses a limit that leaves no room for records.
    pub fn check(&self, pool: &Pool) -> Result<()> {
        let least = (u64::from(chunks_needed(pool, self)) + Self::CHUNKS_MIN) * pool.geometry().chunk_bytes;
        if self.evict && self.limit != 0 && self.limit < least {
            return Err(Error::new(
                ErrorCode::LimitTooSmall,
                format!(
                    "The limit of {} bytes is too small: give at least {least}, or make a smaller fabric.",
                    self.limit
                ),
            ));
        }
        Ok(())
    }
}

/// Chunks that the object of a table needs in a row: control area, directory, aux area and the first index chunk.
pub fn chunks_needed(pool: &Pool, options: &TableOptions) -> u32 {
    let geometry = pool.geometry();
    let bits = layout::directory_bits(geometry.chunk_count);
    layout::control_chunks(geometry.chunk_bytes, bits, options.aux(pool)) + 1
}

/// Lays out a table in the chunks of a new object, which only the caller can reach yet. `run` is all of them, the object's
/// header in front.
pub fn initialise(
    pool: &Pool,
    run: Span<'_>,
    class: RecordClass,
    seed: u64,
    options: &TableOptions,
) -> Result<()> {
    let geometry = pool.geometry();
    let (bits, aux) = (layout::directory_bits(geometry.chunk_count), options.aux(pool));
    let chunks = layout::control_chunks(geometry.chunk_bytes, bits, aux);
    let root_offset = run.offset() + chunks as u64 * geometry.chunk_bytes;
    let root =
        geometry.chunk_of(root_offset).filter(|_| run.len() == (chunks as u64 + 1) * geometry.chunk_bytes);
    let Some(root) = root else {
        return Err(Error::new(ErrorCode::Internal, format!("{} bytes were given for a table.", run.len())));
    };
    run.zero(OBJECT_HEADER_BYTES, run.len() - OBJECT_HEADER_BYTES)?;
    // ORDER Relaxed: nobody can reach the object yet; the cell that publishes it orders these stores.
    let block: Control<'_> = run.block(OBJECT_HEADER_BYTES)?;
    block.u64::<{ control::SEED }>().store(seed, Ordering::Relaxed);
    let class_number = class.class() as u64;
    block.u64::<{ control::BITS_CLASS }>().store(bits as u64 | class_number << 32, Ordering::Relaxed);
    block.u64::<{ control::LIMIT }>().store(options.limit, Ordering::Relaxed);
    block.u64::<{ control::OPTIONS }>().store(options.word(), Ordering::Relaxed);
    block.u64::<{ control::ENTRIES_LIMIT }>().store(options.entries, Ordering::Relaxed);
    block.u64::<{ control::AUX }>().store(aux.words()[0], Ordering::Relaxed);
    block.u64::<{ control::ADVISOR }>().store(aux.words()[1], Ordering::Relaxed);
    block.u64::<{ control::TIME }>().store(stamp::TIME_FIRST, Ordering::Relaxed);
    block.u64::<{ control::TREE }>().store(aux.words()[2], Ordering::Relaxed);
    if options.evict {
        pool.begin_account(ChunkId(root.0 - chunks), chunks + 1)?;
    }
    let entry = Entry::new(root.0, pool.state(root)?.generation(), 0);
    let start = layout::aux_offset(bits) + aux.ghosts + aux.stats;
    Table::begin_sample(run.sub(start, aux.advisor)?);
    for index in 0..1u64 << bits {
        run.u64(DIRECTORY_OFFSET + index * 8)?.store(entry.0, Ordering::Relaxed);
    }
    Ok(())
}

impl Table {
    /// The table in an object, whose header stands at `object_offset`.
    pub fn open(
        pool: Arc<Pool>,
        object: u32,
        object_offset: u64,
        class: RecordClass,
        clock: Clock,
    ) -> Result<Table> {
        let control_offset = object_offset.saturating_add(OBJECT_HEADER_BYTES);
        let block: Control<'_> = pool.shm().block(control_offset)?;
        // ORDER Relaxed: written before the object was published; read once.
        let bits_class = block.u64::<{ control::BITS_CLASS }>().load(Ordering::Relaxed);
        let (bits, class_number) = (bits_class as u32, (bits_class >> 32) as u32);
        let right = layout::directory_bits(pool.geometry().chunk_count);
        if bits != right || class_number != class.class() as u32 || object & !OBJECT_MASK != 0 || object == 0
        {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!(
                    "Object {object} has {bits} directory bits and class {class_number}; {right} and {class:?} were expected."
                ),
            ));
        }
        let directory = object_offset.saturating_add(DIRECTORY_OFFSET);
        pool.shm().span(directory, 8 << bits)?;
        let limit = block.u64::<{ control::LIMIT }>().load(Ordering::Relaxed);
        let seed = block.u64::<{ control::SEED }>().load(Ordering::Relaxed);
        let options = block.u64::<{ control::OPTIONS }>().load(Ordering::Relaxed);
        let entries_limit = block.u64::<{ control::ENTRIES_LIMIT }>().load(Ordering::Relaxed);
        let aux = Aux::from_words([
            block.u64::<{ control::AUX }>().load(Ordering::Relaxed),
            block.u64::<{ control::ADVISOR }>().load(Ordering::Relaxed),
            block.u64::<{ control::TREE }>().load(Ordering::Relaxed),
        ]);
        let aux_area =
            pool.shm().span(object_offset.saturating_add(layout::aux_offset(bits)), aux.bytes())?;
        let threads = u64::from(pool.ground().thread_limit());
        let tree = match aux.tree {
            0 => None,
            bytes if bytes == tree::area_bytes(&pool) => {
                let area = aux_area.offset() + aux.ghosts + aux.stats + aux.advisor;
                Some(Tree::open(Arc::clone(&pool), object, area)?)
            }
            bytes => {
                return Err(Error::new(
                    ErrorCode::Corrupt,
                    format!("Object {object} has an ordered index with an area of {bytes} bytes."),
                ));
            }
        };
        let stamped = options & option::TRANSACTIONS != 0;
        if class.is_cache() && class != RecordClass::of_cache(stamped) {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!(
                    "Object {object} has the options {options:#x}, which do not fit a table of {class:?}."
                ),
            ));
        }
        let evicts = options & option::EVICT != 0 && class.is_cache();
        let head = pool.geometry().chunk_of(object_offset).ok_or_else(|| outside(object_offset))?;
        let chunk_bytes = pool.geometry().chunk_bytes;
        let most = if limit == 0 { u32::MAX } else { u32::try_from(limit / chunk_bytes).unwrap_or(u32::MAX) };
        let account = Account { head, limit: most };
        if evicts {
            pool.open_account(object, account);
            pool.renew_reserve();
        }
        Ok(Table {
            own_chunks: layout::control_chunks(chunk_bytes, bits, aux) + 1,
            eviction: evict::Eviction::new(account),
            object,
            control: control_offset,
            directory,
            shift: 64 - bits,
            bits,
            shape: Shape::new(pool.geometry().chunk_bytes),
            class,
            header: class.header(),
            limit,
            entries_limit,
            evicts,
            notes_reads: evicts && pool.shm().writable(),
            events: options & option::EVENTS != 0,
            observer: OnceLock::new(),
            aux,
            lines: Table::lines_at(aux_area.offset() + aux.ghosts, aux.stats, threads),
            advisor: if aux.advisor == 0 {
                stats::NO_LINES
            } else {
                aux_area.offset() + aux.ghosts + aux.stats
            },
            sampling: advisor::Sampling::new(),
            hasher: Hasher::new(seed),
            clock,
            capacity: count::CapacityCache::new(),
            round: expire::Round::new(),
            hands: OnceLock::new(),
            tree,
            gone: ordered::Gone::default(),
            views_bounded: AtomicU32::new(0),
            shm: Arc::clone(pool.shared_shm()),
            arena: pool.geometry().arena_offset,
            chunk_shift: pool.geometry().chunk_bytes.trailing_zeros(),
            chunk_count: u64::from(pool.geometry().chunk_count),
            pool,
        })
    }

    /// Says who lends readers of a store a hand, once.
    pub fn set_hands(&self, hands: Weak<dyn Hands>) {
        let _ = self.hands.set(hands);
    }

    /// The pool that the table's chunks come from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Number of the object.
    pub fn object(&self) -> u32 {
        self.object
    }

    /// Longest value that fits with a key of this length.
    #[inline]
    pub fn value_len_max(&self, key_len: usize) -> u64 {
        let overhead = crate::chunk::record::record_bytes(self.header, key_len as u64, 0) + 16;
        match self.class {
            RecordClass::Cache | RecordClass::Memory | RecordClass::Stamped => {
                VALUE_LEN_MAX.min(self.pool.run_bytes_max().saturating_sub(overhead))
            }
            RecordClass::Store => self.pool.geometry().chunk_bytes.saturating_sub(overhead),
        }
    }

    /// Longest key. The records of a store lie in one chunk each.
    #[inline]
    pub fn key_len_max(&self) -> usize {
        match (self.class, &self.tree) {
            (_, Some(_)) => tree::key_len_max(self.pool.geometry().chunk_bytes),
            (RecordClass::Cache | RecordClass::Memory | RecordClass::Stamped, None) => KEY_LEN_MAX,
            (RecordClass::Store, None) => {
                KEY_LEN_MAX.min(self.pool.geometry().chunk_bytes as usize - STORE_KEY_REST)
            }
        }
    }

    /// The most entries, 0 for any number.
    pub fn entries_limit(&self) -> u64 {
        self.entries_limit
    }

    /// Whether the cache tells its events.
    pub fn has_events(&self) -> bool {
        self.events
    }

    /// Whether transactions may change it.
    pub fn has_transactions(&self) -> bool {
        self.class.has_stamps()
    }

    /// The object's first chunk.
    fn first_chunk(&self) -> Result<ChunkId> {
        self.pool.geometry().chunk_of(self.control).ok_or_else(|| outside(self.control))
    }

    /// Where the aux area begins.
    fn aux_start(&self) -> u64 {
        self.control - OBJECT_HEADER_BYTES + layout::aux_offset(self.bits)
    }

    /// The ghosts of a cache that evicts; no bytes for others.
    pub(crate) fn ghosts(&self) -> Result<Span<'_>> {
        self.pool.shm().span(self.aux_start(), self.aux.ghosts)
    }

    /// The advisor's sample of a cache; no bytes for others.
    pub(crate) fn advisor_area(&self) -> Result<Span<'_>> {
        self.pool.shm().span(self.aux_start() + self.aux.ghosts + self.aux.stats, self.aux.advisor)
    }

    #[inline]
    fn control(&self) -> Control<'_> {
        self.pool.shm().block(self.control).expect("checked when the table was opened")
    }

    /// The highest order of any state that left the table; 0 in a store that was not recovered yet.
    pub fn floor(&self) -> &AtomicU64 {
        self.control().u64::<{ control::FLOOR }>()
    }

    /// The clock of a store's states.
    fn time(&self) -> &AtomicU64 {
        self.control().u64::<{ control::TIME }>()
    }

    /// Milliseconds on the table's clock.
    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    #[inline]
    fn directory_word(&self, index: u64) -> Result<&AtomicU64> {
        let block = self.pool.shm().block::<8>(self.directory + (index & ((1 << self.bits) - 1)) * 8)?;
        Ok(block.u64::<0>())
    }

    /// The directory entry for a hash, its index, and the bytes of its index chunk.
    #[inline]
    fn entry(&self, hash: u64) -> Result<(u64, Entry)> {
        let index = hash >> self.shift;
        // ORDER Acquire [directory]: the index chunk was laid out, or filled by a split, before its entry was stored.
        Ok((index, Entry(self.directory_word(index)?.load(Ordering::Acquire))))
    }

    /// The bytes of the index chunk that an entry names.
    #[inline]
    fn index_span(&self, entry: Entry) -> Result<Span<'_>> {
        if !entry.in_use() || entry.chunk() > u32::MAX as u64 {
            return Err(bad_entry(entry));
        }
        self.pool.span(ChunkId(entry.chunk() as u32))
    }
}

/// Numbers of objects leave the highest bits of a word to marks.
const OBJECT_MASK: u32 = 0x3fff_ffff;

#[cold]
#[inline(never)]
fn outside(offset: u64) -> Error {
    Error::new(ErrorCode::Corrupt, format!("An object stands at {offset}, outside the arena."))
}

#[cold]
#[inline(never)]
fn bad_entry(entry: Entry) -> Error {
    Error::new(ErrorCode::Corrupt, format!("The directory entry {:#018x} names no index chunk.", entry.0))
}

#[cold]
#[inline(never)]
fn too_many_tries(what: &str) -> Error {
    Error::new(ErrorCode::Busy, format!("{what}: others changed it each time it was tried."))
}
