//! What a flush writes: of every key that changed the newest state of before its cut.
//!
//! A flush moves the clock of the store on and takes the states with earlier stamps: see the table's `stamp`. The walk over
//! the chunks finds them; of several of one key it keeps the last, unless the store has a change feed: then all, in their order. What loses its compare-and-swap, what its writer did not
//! live to publish and what a transaction has not decided never reaches the files. Because all states of a transaction have
//! one stamp, and a flush counts as a whole or not at all, no power cut leaves a part of one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use super::core::Core;
use crate::chunk::record::{self, EXTENDED_BYTES, Head, RELOCATED};
use crate::chunk::{Unflushed, Walked};
use crate::error::Result;
use crate::journal::{Batches, Record, Source};
use crate::shm::atomic::Ordering;
use crate::shm::time;
use crate::table::{Cut, KeyState};

/// Keys that are collected before they are written, so that the first flush of a large store needs little memory. A key that
/// comes again is written again, which does no harm.
const KEYS_MAX: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// What a flush remembers until its files are synced.
#[derive(Default)]
pub struct Taken {
    /// Chunks, and up to where the journal has them.
    marks: Vec<(Unflushed, u64)>,
    /// Keys whose state is a tombstone, with that state.
    tombstones: Vec<(Vec<u8>, KeyState)>,
}

/// States to be written: for each hash of a key the newest with its order.
#[derive(Default)]
struct Newest {
    states: HashMap<u64, (u64, u64), BuildHasherDefault<AsItIs>>,
    /// Other keys of the same hash.
    others: Vec<u64>,
    /// With a change feed: all states, with their orders. They are not written in parts, because those of a key may stand anywhere.
    all: Option<Vec<(u64, u64)>>,
    /// Room for two keys.
    keys: [Vec<u8>; 2],
}

/// What is hashed is a hash, with a seed that nobody outside knows.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The wall clock at which an entry that expires on the boot clock is gone; 0 = never.
pub fn wall_expiry(expiry: u64) -> u64 {
    if expiry == 0 { 0 } else { (time::wall_ms() + expiry).saturating_sub(time::boot_ms()).max(1) }
}

impl Core {
    /// The chunks with records that the files do not have.
    fn unflushed(&self) -> Result<Vec<Unflushed>> {
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.pool().unflushed(self.object, &mut known)
    }

    /// Notes that the files have a chunk up to a position.
    pub(super) fn mark_flushed(&self, seen: &Unflushed, to: u64) -> Result<()> {
        kill_point!("store.flush.before_mark");
        self.pool().set_flushed(seen, to)?;
        kill_point!("store.flush.marked");
        Ok(())
    }

    /// Walks one chunk from its mark on. Returns the position up to which every record is decided and looked at.
    fn walk_chunk(
        &self,
        seen: &Unflushed,
        cut: u64,
        newest: &mut Newest,
        batches: &mut Batches<'_>,
        taken: &mut Taken,
    ) -> Result<u64> {
        let mut walk = self.pool().walk(seen.chunk, EXTENDED_BYTES, seen.from)?;
        let mut decided = seen.from;
        // The first record that a later flush has to take, and the last if its owner may be about to publish it.
        let (mut later, mut unpublished) = (None, None);
        while let Some(found) = walk.next()? {
            unpublished = None;
            if found.head.flags & RELOCATED == 0 {
                match self.table.cut(self.host.actor()?, &found, cut)? {
                    Cut::Before(order) => self.note(newest, &found, order)?,
                    Cut::Behind => later = later.or(Some(found.position)),
                    Cut::Unpublished => unpublished = seen.open.then_some(found.position),
                }
                if newest.states.len() >= KEYS_MAX {
                    self.push_all(newest, batches, taken)?;
                }
            }
            decided = walk.position();
        }
        Ok([later, unpublished].into_iter().flatten().min().unwrap_or(decided))
    }

    /// Copies the key of a record into a buffer, in place of what is there.
    fn key_of(&self, offset: u64, head: &Head, key: &mut Vec<u8>) -> Result<()> {
        let span = record::key_span(self.pool().shm(), offset, EXTENDED_BYTES, head)?;
        key.resize(head.key_len as usize, 0);
        span.copy_out(0, key)
    }

    fn note(&self, newest: &mut Newest, found: &Walked, order: u64) -> Result<()> {
        if let Some(all) = &mut newest.all {
            all.push((order, found.offset));
            return Ok(());
        }
        let [key, before] = &mut newest.keys;
        self.key_of(found.offset, &found.head, key)?;
        match newest.states.entry(self.table.hash(key)) {
            Entry::Vacant(place) => {
                place.insert((found.offset, order));
            }
            Entry::Occupied(mut place) => {
                let (offset, other) = *place.get();
                let head = record::head_at(self.pool().shm(), offset)?;
                self.key_of(offset, &head, before)?;
                if before != key {
                    newest.others.push(found.offset);
                } else if order > other {
                    place.insert((found.offset, order));
                }
            }
        }
        Ok(())
    }

    /// Writes what was collected, in the order in which it stands in memory.
    fn push_all(&self, newest: &mut Newest, batches: &mut Batches<'_>, taken: &mut Taken) -> Result<()> {
        let mut offsets = std::mem::take(&mut newest.others);
        offsets.extend(newest.states.drain().map(|(_, (offset, _))| offset));
        offsets.sort_unstable();
        if let Some(all) = &mut newest.all {
            // Of each key in the order of its states.
            all.sort_unstable();
            offsets.extend(all.drain(..).map(|(_, offset)| offset));
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for offset in offsets {
            let (head, state) = self.table.state_at(offset)?;
            self.key_of(offset, &head, &mut key)?;
            let span = record::value_span(self.pool().shm(), offset, EXTENDED_BYTES, &head)?;
            value.resize(head.value_len as usize, 0);
            span.copy_out(0, &mut value)?;
            batches.push(&Record {
                order: state.order,
                expiry_ms: wall_expiry(state.expiry),
                flags: state.client,
                key: &key,
                value: (!state.tombstone).then_some(&value),
            })?;
            if state.tombstone {
                taken.tombstones.push((key.clone(), state));
            }
        }
        Ok(())
    }
}

impl Source for Core {
    type Taken = Taken;

    fn collect(&self, batches: &mut Batches<'_>) -> Result<Taken> {
        let (mut taken, mut newest) = (Taken::default(), Newest::default());
        // ORDER Relaxed: a number that stands for itself.
        newest.all = (self.words()?.feed_bytes().load(Ordering::Relaxed) != 0).then(Vec::new);
        let cut = self.table.next_time();
        kill_point!("store.flush.cut");
        for seen in self.unflushed()? {
            let to = self.walk_chunk(&seen, cut, &mut newest, batches, &mut taken)?;
            taken.marks.push((seen, to));
        }
        self.push_all(&mut newest, batches, &mut taken)?;
        Ok(taken)
    }

    fn settle(&self, taken: Taken) -> Result<()> {
        for (seen, to) in &taken.marks {
            self.mark_flushed(seen, *to)?;
        }
        for (key, state) in &taken.tombstones {
            self.drop_tombstone(key, state)?;
        }
        Ok(())
    }
}
