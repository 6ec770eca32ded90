//! The ordered index: a B-link tree of the keys of a table.
//!
//! A node is an immutable record in a chunk that its writer owns; a mapping word says for each id which record is the node
//! now. Every change is one compare-and-swap of a mapping word, so whoever is killed or stopped, at whatever instruction,
//! leaves a tree that everybody reads and changes. Readers copy a node and look at its word again.
//!
//! * **A node that is full** is divided: a right half under a fresh id, then one swap of the left one, which names the right
//!   half and ends where it begins. Until the parent knows the right half, searches find it by the link. Whoever walks
//!   over such a link when it changes something tells the parent.
//! * **A node that has become empty, or nearly**, is merged into the next one: it is made *dead*, which no insertion passes;
//!   the next node takes over its keys and its low bound; then the parents and the left neighbour are turned to the next
//!   node, and the id is free. Each step can be done by anyone, and whoever changes something and meets a dead node does
//!   all of them. See `merge` for why nothing is lost.
//! * **Nothing refers to an id alone**, but to the use of an id: who comes late to an id that was freed and reused knows it
//!   and begins again at the root.
//!
//! Which keys are in the tree is for the table to say: see `table::ordered`.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | the area, mapping words, references |
//! | `node` | the bytes of a node |
//! | `load` | copying nodes, walking down |
//! | `write` | putting a key in, taking one out, publishing nodes |
//! | `split` | ids, dividing nodes, telling parents |
//! | `merge` | taking nodes out |
//! | `keep` | moving nodes out of chunks of mostly dead ones; what the dead leave |
//! | `check` | every invariant of a tree |

mod check;
#[cfg(all(test, memora_loom))]
mod interleavings;
mod keep;
pub mod layout;
mod load;
mod merge;
mod node;
mod split;
#[cfg(all(test, not(memora_loom)))]
mod tests;
mod write;

use std::sync::{Arc, Mutex};

use crate::chunk::{Actor, ChunkId, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Span;
use crate::shm::atomic::{AtomicU64, Ordering};
use layout::{Intent, Shape};

pub use layout::Word;
pub use load::{Leaf, Probe};
pub use write::{Entered, Writer};

/// Where writers of nodes get room for them: the table that the tree belongs to.
pub trait Room {
    /// A place for a record of `bytes` in the caller's open chunk of nodes.
    fn room(&self, me: Actor<'_>, bytes: u64) -> Result<(ChunkId, u64)>;
}

/// Rounds of a search that others may spoil; each is somebody's progress, unless content is damaged.
const TRIES: u32 = if cfg!(memora_loom) { 20 } else { 2000 };
/// Steps to the right and down that one search makes at most.
const STEPS: u32 = 100_000;

/// The ordered index of one table.
pub struct Tree {
    pool: Arc<Pool>,
    /// Number of the object: what its chunks carry.
    object: u32,
    /// Where the area begins.
    area: u64,
    shape: Shape,
    /// Where this process looks next for an id that was freed, and some that it knows: private hints.
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    cursor: u64,
    ids: Vec<u32>,
}

/// Bytes that the area of an index takes in the control area of its table.
pub fn area_bytes(pool: &Pool) -> u64 {
    let geometry = pool.geometry();
    Shape::new(geometry.chunk_bytes, geometry.chunk_count, pool.ground().thread_limit()).bytes()
}

/// The longest key of a table with an index: several must fit into a node, and a node into a part of a chunk.
pub fn key_len_max(chunk_bytes: u64) -> usize {
    (chunk_bytes / 16).min(4096) as usize
}

/// The longest node: its record shares its chunk with others.
fn node_bytes_max(chunk_bytes: u64) -> usize {
    (chunk_bytes / 2 - 64) as usize
}

impl Tree {
    /// The tree whose area begins at `area`. Its bytes were zero at first: an empty tree.
    pub fn open(pool: Arc<Pool>, object: u32, area: u64) -> Result<Tree> {
        let geometry = pool.geometry();
        let shape = Shape::new(geometry.chunk_bytes, geometry.chunk_count, pool.ground().thread_limit());
        pool.shm().span(area, shape.bytes())?;
        Ok(Tree { pool, object, area, shape, spare: Mutex::default() })
    }

    fn area_word(&self, at: u64) -> Result<&AtomicU64> {
        Ok(self.pool.shm().block::<8>(self.area + at)?.u64::<0>())
    }

    /// The lowest id that was never used.
    fn high(&self) -> Result<&AtomicU64> {
        self.area_word(layout::HIGH as u64)
    }

    fn intent(&self, thread: u16, which: Intent) -> Result<&AtomicU64> {
        if u64::from(thread) >= self.shape.threads {
            return Err(damaged(format!("Thread {thread} has no intents.")));
        }
        self.area_word(layout::HEAD_BYTES + u64::from(thread) * layout::INTENT_BYTES + which as u64 * 8)
    }

    fn directory_word(&self, chunk: u64) -> Result<&AtomicU64> {
        self.area_word(self.shape.directory() + chunk * 8)
    }

    /// The mapping words that an entry of the directory names; `None` if there are none yet.
    fn mapping_span(&self, chunk: u64) -> Result<Option<Span<'_>>> {
        if chunk >= self.shape.chunks {
            return Ok(None);
        }
        // ORDER Acquire [tree-directory]: the words were zeroed before the chunk was named.
        let named = self.directory_word(chunk)?.load(Ordering::Acquire);
        if named == 0 { Ok(None) } else { self.pool.span(ChunkId(named as u32)).map(Some) }
    }

    /// The mapping word of an id; `None` if there is none yet.
    #[inline]
    fn mapping(&self, id: u32) -> Result<Option<&AtomicU64>> {
        let (chunk, index) = (u64::from(id) / self.shape.words, u64::from(id) % self.shape.words);
        match self.mapping_span(chunk)? {
            Some(span) => span.u64(index * 8).map(Some),
            None => Ok(None),
        }
    }

    /// The mapping word of an id now; free if there is none yet.
    #[inline]
    pub fn word(&self, id: u32) -> Result<Word> {
        // ORDER Acquire [tree-map]: the node that it names is whole.
        Ok(self.mapping(id)?.map_or(Word::VIRGIN, |word| Word(word.load(Ordering::Acquire))))
    }

    /// Whether a chunk holds mapping words of this tree.
    pub fn names_chunk(&self, chunk: ChunkId) -> Result<bool> {
        for index in 0..self.shape.chunks {
            // ORDER Acquire [tree-directory]: as for users of the words.
            if self.directory_word(index)?.load(Ordering::Acquire) as u32 == chunk.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cold]
fn damaged(what: String) -> Error {
    Error::new(ErrorCode::Corrupt, what)
}

#[cold]
fn bad_node(id: u32) -> Error {
    damaged(format!("The node {id} of the ordered index holds no node."))
}

#[cold]
fn leads_nowhere() -> Error {
    damaged("The ordered index leads in circles or nowhere.".to_owned())
}
