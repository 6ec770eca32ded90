//! Keys in order: what binds a table and its tree together.
//!
//! **Every key that a slot has a record of, tombstones included, is in the tree.** So scans find each key in the tree and ask
//! the table for its value; a key of which no slot has a record any more is only looked at in vain, and taken out.
//!
//! * A key enters the tree before its record is appended. Under the insert lock of its home bucket, when it is seen that
//!   no slot has the key, the leaf that shows it is *touched*: its mapping word gets another version. Then the slot is filled.
//! * A key leaves the tree under the same lock, when no slot has it: the leaf is read, then it is looked at again whether the
//!   lock is still held, the index chunk in use and not being divided, and the key absent; then the leaf is swapped.
//!
//! Locks can be taken from whoever is stopped. If one who takes a key out is stopped behind his last look, whoever takes the
//! lock and inserts the key touches the leaf first, so the sleeper's swap fails. If one who inserts is stopped, whoever takes
//! the lock poisons the empty slots, so the sleeper's swap of the slot fails, and he begins again by entering the key. The
//! same holds for those who work in the children of a split: they do so behind the freezing of the slots, which the last
//! look sees. `docs/crash-safety.md` has the argument in full.
//!
//! Who is killed between an unlinking and the leaving of the key, or between its entering and the filling of the slot, leaves
//! a key in the tree that no slot has. Scans that may write take it out, so does [`Table::scrub_tree`].

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Mutex;

use super::layout::bucket_of;
use super::lookup::{Attempt, frozen};
use super::{Table, too_many_tries};
use crate::chunk::record::{HEADER_BYTES, Head};
use crate::chunk::{Actor, ChunkId, Class, Guard, Need};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Span;
use crate::shm::atomic::{AtomicU32, Ordering, fence};
use crate::tree::{Entered, Leaf, Probe, Room, Tree};

/// Keys that a process remembers to take out; those beyond are left to scans.
const GONE_MAX: usize = 4096;
/// Of those, how many one change takes out.
const GONE_STEP: usize = 4;
/// Times that the leaf of a key is looked for under the insert lock.
const TOUCHES: u32 = 4;

/// Keys whose records were unlinked where the insert lock of their home could not be taken: private.
#[derive(Default)]
pub(super) struct Gone {
    count: AtomicU32,
    keys: Mutex<VecDeque<Vec<u8>>>,
}

impl Room for Table {
    fn room(&self, me: Actor<'_>, bytes: u64) -> Result<(ChunkId, u64)> {
        match self.pool.room(me, Class::Node, self.object, bytes)? {
            Some(place) => Ok(place),
            None => self.make_room(me, Class::Node, Need::Growth, bytes),
        }
    }
}

impl Table {
    /// The tree of the keys, if the table has one.
    pub fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    fn ordered(&self) -> Result<&Tree> {
        self.tree.as_ref().ok_or_else(|| ErrorCode::NotOrdered.into())
    }

    /// Puts a key into the tree, if there is one: before its record is appended. It is for [`Table::touch_tree`] to see to it
    /// that it is still there when a slot is filled.
    #[inline]
    pub fn enter_tree(&self, me: Actor<'_>, key: &[u8]) -> Result<Option<Entered>> {
        match &self.tree {
            None => Ok(None),
            Some(tree) => tree.writer(me, self)?.enter(key).map(Some),
        }
    }

    /// The caller holds the insert lock of the key's home and saw that no slot has the key. Touches the leaf that shows the key:
    /// from now on until the lock is given back the key stays in the tree, whatever others prepared before. False if it is not
    /// there any more: it must be entered again.
    pub fn touch_tree(&self, key: &[u8], entered: Entered) -> Result<bool> {
        let tree = self.ordered()?;
        let mut entered = entered;
        for _ in 0..TOUCHES {
            if tree.touch(entered)? {
                return Ok(true);
            }
            match tree.shows(key)? {
                Some(now) => entered = now,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Whether no slot of an index chunk has a record of the key, nor could have one that is in a child of it.
    fn is_absent(&self, span: Span<'_>, hash: u64, key: &[u8]) -> Result<bool> {
        if !matches!(self.find(span, hash, key)?, Attempt::Done(None)) {
            return Ok(false);
        }
        for number in self.shape.candidates(hash) {
            let bucket = bucket_of(span, number)?;
            if frozen(bucket) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a key out of the tree if no slot has a record of it. Does nothing where that cannot be seen just now.
    pub fn leave_tree(&self, me: Actor<'_>, key: &[u8]) -> Result<()> {
        let Some(tree) = &self.tree else { return Ok(()) };
        let hash = self.hasher.hash(key);
        let (index, entry) = self.entry(hash)?;
        let span = self.index_span(entry)?;
        let stands = || -> Result<bool> {
            // ORDER Acquire [directory]: as in `Table::entry`.
            Ok(self.directory_word(index)?.load(Ordering::Acquire) == entry.0)
        };
        let pinned = Guard::pin(me, ChunkId(entry.chunk() as u32))?;
        // The second look of the pin.
        if !stands()? || !self.is_absent(span, hash, key)? {
            return Ok(());
        }
        let lock = self.lock(me, span, self.shape.home(hash))?;
        kill_point!("table.leave.locked");
        let writer = tree.writer(me, self);
        let left = writer.as_ref().map_err(Error::clone).and_then(|writer| {
            // The lock is looked at last: whoever took it before has poisoned the slots, or is seen here.
            writer.leave(key, || Ok(stands()? && self.is_absent(span, hash, key)? && lock.holds()))
        });
        lock.release();
        drop(pinned);
        if left? { writer?.tidy(key) } else { Ok(()) }
    }

    /// Remembers that the record of a key was unlinked.
    pub(super) fn forget_later(&self, key: Option<Vec<u8>>) {
        let Some(key) = key else { return };
        let mut keys = self.gone.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if keys.len() < GONE_MAX {
            keys.push_back(key);
            // ORDER Relaxed: private to the process, a hint.
            self.gone.count.store(keys.len() as u32, Ordering::Relaxed);
        }
    }

    /// The key of a record that is about to be unlinked, if that is to be remembered. It is that of the record if the swap that
    /// unlinks it succeeds.
    pub(super) fn key_to_note(&self, offset: u64, head: &Head) -> Result<Option<Vec<u8>>> {
        if self.tree.is_none() {
            return Ok(None);
        }
        let mut key = vec![0; head.key_len as usize];
        crate::chunk::record::key_span(self.pool.shm(), offset, self.header, head)?.copy_out(0, &mut key)?;
        Ok(Some(key))
    }

    /// Takes a few keys out of the tree whose records were unlinked.
    #[inline]
    pub(super) fn leave_some(&self, me: Actor<'_>) -> Result<()> {
        // ORDER Relaxed: private to the process, a hint.
        if self.tree.is_none() || self.gone.count.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        for _ in 0..GONE_STEP {
            let next = {
                let mut keys = self.gone.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let next = keys.pop_front();
                self.gone.count.store(keys.len() as u32, Ordering::Relaxed);
                next
            };
            let Some(key) = next else { break };
            self.leave_tree(me, &key)?;
        }
        Ok(())
    }

    /// Moves nodes out of a chunk that the caller has taken. False when there was no room to move one.
    pub(super) fn clean_nodes(&self, me: Actor<'_>, chunk: ChunkId, count: usize) -> Result<bool> {
        let Some(tree) = &self.tree else {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("Chunk {} holds nodes of no index.", chunk.0),
            ));
        };
        let generation = self.pool.state(chunk)?.generation();
        let from = self.pool.clean_position(chunk, generation)?;
        let Some(mut walk) = self.pool.walk_taken(me, chunk, HEADER_BYTES, from)? else { return Ok(true) };
        for _ in 0..count {
            let Some(walked) = walk.next()? else {
                self.pool.cleaned(me, chunk, self.object)?;
                return Ok(true);
            };
            if !tree.move_node(me, &walked)? {
                return Ok(false);
            }
            self.pool.set_clean_position(chunk, generation, walked.position + walked.bytes)?;
        }
        Ok(true)
    }

    /// Takes every key out of the tree that no slot has a record of.
    pub fn scrub_tree(&self, me: Actor<'_>) -> Result<()> {
        if self.tree.is_none() {
            return Ok(());
        }
        let mut cursor = Cursor::new(Direction::Forward, Bound::Unbounded, Bound::Unbounded);
        let mut keys = Keys::default();
        while self.next_keys(&mut cursor, &mut keys, None)? {
            for key in keys.iter() {
                if !self.has_record(key)? {
                    self.leave_tree(me, key)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a slot has a record of the key. A yes may be old.
    pub(crate) fn has_record(&self, key: &[u8]) -> Result<bool> {
        let hash = self.hasher.hash(key);
        for _ in 0..1000 {
            let (index, entry) = self.entry(hash)?;
            let span = self.index_span(entry)?;
            let found = !self.is_absent(span, hash, key)?;
            // ORDER Acquire [chunk-reuse]: as for readers.
            fence(Ordering::Acquire);
            if self.directory_word(index)?.load(Ordering::Relaxed) == entry.0 {
                return Ok(found);
            }
        }
        Err(too_many_tries("Looking for a record"))
    }

    /// The keys of the next leaf that lie in the range of a cursor, which moves on. False at the end. `words` gets ids and
    /// mapping words of what was read: as long as these stand, no key has come into the part of the range that was given.
    pub fn next_keys(
        &self,
        cursor: &mut Cursor,
        keys: &mut Keys,
        words: Option<&mut Vec<(u32, u64)>>,
    ) -> Result<bool> {
        keys.clear();
        if cursor.done {
            return Ok(false);
        }
        let mut leaf = std::mem::take(&mut cursor.leaf);
        let there = self.ordered()?.leaf(cursor.probe(), &mut leaf)?;
        if let Some(words) = words {
            words.extend_from_slice(&leaf.words);
        }
        if there {
            cursor.take(&leaf, keys)?;
        } else {
            cursor.done = true;
        }
        cursor.leaf = leaf;
        Ok(there)
    }

    /// Reads many keys, whose memory is fetched together; `visit` gets the place of each key with its header and value, or
    /// `None` where there is no such entry.
    pub fn read_many_heads(
        &self,
        keys: &Keys,
        value: &mut Vec<u8>,
        mut visit: impl FnMut(usize, Option<(&Head, &[u8])>) -> Result<bool>,
    ) -> Result<()> {
        self.ahead(
            keys.len(),
            |number| keys.get(number),
            |number, hash, place| {
                let key = keys.get(number);
                let mut copy = |head: &Head, bytes: Span<'_>| {
                    let len = head.value_len as usize;
                    if value.len() < len {
                        value.resize(len, 0);
                    }
                    bytes.copy_out(0, &mut value[..len])
                };
                let head = match self.read_found(place, key, &mut copy) {
                    Some(head) => Some(head),
                    None => self.read_hashed(hash, key, &mut copy)?.filter(|head| head.key_len != 0),
                };
                visit(number, head.as_ref().map(|head| (head, &value[..head.value_len as usize])))
            },
        )
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the least key to the greatest.
    #[default]
    Forward,
    /// From the greatest key to the least.
    Backward,
}

/// Keys one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }
}

/// How far a scan in order has come.
#[derive(Debug)]
pub struct Cursor {
    direction: Direction,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    done: bool,
    leaf: Leaf,
}

fn is_below(one: &Bound<Vec<u8>>, end: &[u8]) -> bool {
    match one {
        Bound::Unbounded => false,
        Bound::Included(key) => key.as_slice() < end,
        Bound::Excluded(key) => key.as_slice() <= end,
    }
}

impl Cursor {
    /// Over the keys of a range.
    pub fn new(direction: Direction, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Cursor {
        let (from, to) = (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec));
        Cursor { direction, from, to, done: false, leaf: Leaf::default() }
    }

    fn probe(&self) -> Probe<'_> {
        match (self.direction, &self.from, &self.to) {
            (Direction::Forward, Bound::Unbounded, _) => Probe::First,
            (Direction::Forward, Bound::Included(key) | Bound::Excluded(key), _) => Probe::At(key),
            (Direction::Backward, _, Bound::Unbounded) => Probe::Last,
            (Direction::Backward, _, Bound::Included(key)) => Probe::At(key),
            (Direction::Backward, _, Bound::Excluded(key)) => Probe::Before(key),
        }
    }

    /// Takes the keys of a leaf, and moves on behind it.
    fn take(&mut self, leaf: &Leaf, keys: &mut Keys) -> Result<()> {
        let start = match &self.from {
            Bound::Unbounded => 0,
            Bound::Included(key) => leaf.find(key)?.0,
            Bound::Excluded(key) => leaf.find(key).map(|(at, found)| at + usize::from(found))?,
        };
        let end = match &self.to {
            Bound::Unbounded => leaf.count(),
            Bound::Included(key) => leaf.find(key).map(|(at, found)| at + usize::from(found))?,
            Bound::Excluded(key) => leaf.find(key)?.0,
        };
        let count = end.saturating_sub(start);
        for step in 0..count {
            let at = match self.direction {
                Direction::Forward => start + step,
                Direction::Backward => end - 1 - step,
            };
            leaf.key_into(at, &mut keys.bytes)?;
            keys.ends.push(keys.bytes.len());
        }
        match self.direction {
            Direction::Forward => match leaf.high() {
                Some(high) if !is_below(&self.to, high) => self.from = Bound::Included(high.to_vec()),
                _ => self.done = true,
            },
            Direction::Backward => match (leaf.low(), &self.from) {
                (Some(low), Bound::Unbounded) => self.to = Bound::Excluded(low.to_vec()),
                (Some(low), Bound::Included(key) | Bound::Excluded(key)) if key.as_slice() < low => {
                    self.to = Bound::Excluded(low.to_vec());
                }
                _ => self.done = true,
            },
        }
        Ok(())
    }
}
