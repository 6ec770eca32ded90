//! Reading. Nothing is locked and nothing is written: what was copied is checked afterwards.
//!
//! The argument: a slot was seen with a word, and after the copy it is still that word (or the chunk of its record was not
//! reused since). A chunk is reused only after every slot that named its records has changed. So the copied bytes are those
//! of the record that the slot named at the moment it was first read: that moment is when the read took effect.

use super::decide::Counts;
use super::evict::note_read;
use super::layout::{Bucket, Entry, IN_STASH, MIGRATED, SLOT_COUNT, bucket, bucket_of};
use super::slot::{Slot, SlotKind, tag_of};
use super::{Count, Table, too_many_tries};
use crate::chunk::ChunkId;
use crate::chunk::layout::{at, unpair};
use crate::chunk::record::{self, Head};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Span, align8};

/// Readings of one key that others may spoil before it is an error: each one is somebody's progress.
const TRIES: u32 = 20_000;

/// What became of an attempt.
pub(super) enum Attempt<T> {
    Done(T),
    /// Something changed underneath: try again.
    Again,
    /// The index chunk is being split: look in its children too.
    Split,
}

/// Reads the record that a slot names, or its child in a split.
pub(super) trait Look: FnMut(&AtomicU64, Slot, Slot) -> Result<Attempt<Option<Head>>> {}

impl<F: FnMut(&AtomicU64, Slot, Slot) -> Result<Attempt<Option<Head>>>> Look for F {}

/// A slot that was found with a record of the key.
pub(super) struct Found<'a> {
    pub slot: &'a AtomicU64,
    pub word: Slot,
    pub head: Head,
    /// Where the record stands.
    pub offset: u64,
}

impl Table {
    /// Reads the record of `key`: `copy` gets its header and value and copies what it wants; it may be called several
    /// times, and only its last call counts. The answer is the header, or `None` if there is no such entry.
    #[inline]
    pub fn read(
        &self,
        key: &[u8],
        mut copy: impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Option<Head>> {
        let head = self.read_hashed(self.hasher.hash(key), key, &mut copy)?;
        Ok(head.filter(|head| head.key_len != 0))
    }

    /// As [`Table::read`], counted for the holder of a thread entry, or for nobody if that is 0.
    #[inline]
    pub fn read_for(
        &self,
        reader: u16,
        key: &[u8],
        mut copy: impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Option<Head>> {
        let hash = self.hasher.hash(key);
        let found = self.read_hashed(hash, key, &mut copy)?.filter(|head| head.key_len != 0);
        self.note(reader, if found.is_some() { Count::Hit } else { Count::Miss }, 1);
        self.sample(reader, hash);
        Ok(found)
    }

    #[inline]
    pub(super) fn read_hashed(
        &self,
        hash: u64,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Option<Head>> {
        match self.read_quick(hash, key, copy) {
            Some(answer) => Ok(answer),
            None => self.read_again(hash, key, copy),
        }
    }

    #[inline(never)]
    fn read_again(
        &self,
        hash: u64,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Option<Head>> {
        self.read_with(hash, &mut |slot, word, expected| self.read_record(slot, word, expected, key, copy))
    }

    /// Reads what `look` takes for the record of the key with this hash. It gets a slot, the word that names the record, and that
    /// which the slot must hold then; it answers as `read_record`.
    #[inline]
    pub(super) fn read_with(&self, hash: u64, look: &mut impl Look) -> Result<Option<Head>> {
        for _ in 0..TRIES {
            match self.read_once(hash, look)? {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Again => {}
                Attempt::Split => {
                    if let Attempt::Done(answer) = self.read_split(hash, look)? {
                        return Ok(answer);
                    }
                }
            }
            crate::shm::atomic::spin_hint();
        }
        Err(too_many_tries("Reading an entry"))
    }

    #[inline]
    fn read_once(&self, hash: u64, look: &mut impl Look) -> Result<Attempt<Option<Head>>> {
        let (index, entry) = self.entry(hash)?;
        let span = self.index_span(entry)?;
        let home = bucket_of(span, self.shape.home(hash))?;
        let still = || self.directory_word(index).map(|word| word.load(Ordering::Relaxed) == entry.0);
        let mut look = |bucket: Bucket<'_>| self.read_bucket(bucket, hash, look);
        let mut answer = look(home)?;
        if let Attempt::Done(None) = answer {
            answer = self.rest_of_key(span, home, hash, &mut look)?;
        }
        match answer {
            Attempt::Done(answer) => {
                // ORDER Acquire [chunk-reuse]: if the index chunk was reused, the entry is seen to have changed.
                fence(Ordering::Acquire);
                Ok(if still()? { Attempt::Done(answer) } else { Attempt::Again })
            }
            other => Ok(other),
        }
    }

    /// Looks on where a key may be when it is not in its home bucket.
    #[inline]
    fn rest_of_key<'a, T>(
        &self,
        span: Span<'a>,
        home: Bucket<'a>,
        hash: u64,
        look: &mut impl FnMut(Bucket<'a>) -> Result<Attempt<Option<T>>>,
    ) -> Result<Attempt<Option<T>>> {
        // ORDER Relaxed: these marks are stored before the slot that they are about, which whoever knows of the key has seen.
        let overflow = home.u8::<{ bucket::OVERFLOW }>().load(Ordering::Relaxed);
        let flags = home.u8::<{ bucket::FLAGS }>().load(Ordering::Relaxed);
        let candidates = self.shape.candidates(hash);
        if frozen(home) || flags & MIGRATED != 0 {
            return Ok(Attempt::Split);
        }
        let others = [
            (overflow != 0, candidates[1]),
            (flags & IN_STASH != 0, candidates[2]),
            (flags & IN_STASH != 0, candidates[3]),
        ];
        for (wanted, number) in others {
            if wanted {
                let bucket = bucket_of(span, number)?;
                match look(bucket)? {
                    Attempt::Done(None) if frozen(bucket) => return Ok(Attempt::Split),
                    Attempt::Done(None) => {}
                    other => return Ok(other),
                }
            }
        }
        Ok(Attempt::Done(None))
    }

    #[inline]
    fn read_bucket(
        &self,
        bucket: Bucket<'_>,
        hash: u64,
        look: &mut impl Look,
    ) -> Result<Attempt<Option<Head>>> {
        let wanted = Slot::wanted(tag_of(hash));
        for number in 0..SLOT_COUNT {
            let slot = bucket.u64_at::<0>(number);
            // ORDER Acquire [slot]: the record that the word names is whole.
            let word = Slot(slot.load(Ordering::Acquire));
            if word.matches(wanted) {
                match look(slot, word, word)? {
                    Attempt::Done(None) => {}
                    other => {
                        if self.notes_reads && matches!(other, Attempt::Done(_)) {
                            note_read(bucket, number);
                        }
                        return Ok(other);
                    }
                }
            }
        }
        Ok(Attempt::Done(None))
    }

    /// Reads the record that `word` names, if it is the key's; `slot` must still hold `expected` afterwards.
    /// `Done(None)` means: another key. An entry that expired or was deleted is `Done(Some)` with key length 0.
    #[inline]
    fn read_record(
        &self,
        slot: &AtomicU64,
        word: Slot,
        expected: Slot,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Result<Attempt<Option<Head>>> {
        let (mut offset, shm) = (word.offset(), self.pool.shm());
        let mut counts = Counts::This;
        let outcome = (|| {
            let mut head = record::head_at(shm, offset)?;
            if head.key_len as usize != key.len()
                || !shm.span(offset + self.header, key.len() as u64)?.equals(0, key)?
            {
                return Ok(None);
            }
            counts = self.what_counts(slot, expected, offset)?;
            if let Counts::Before { offset: before, .. } = counts {
                // Nothing: not even a record with an id, which a transaction would see changed when this one is gone.
                if before == 0 {
                    return Ok(None);
                }
                offset = before;
                head = record::head_at(shm, offset)?;
            }
            if head.is_tombstone()
                || (head.expiry != 0 && head.expiry <= self.now_ms())
                || self.is_flushed(&head, offset)
            {
                return Ok(Some(Head { key_len: 0, ..head }));
            }
            let value = shm.span(offset + self.header + align8(key.len() as u64), head.value_len as u64)?;
            copy(&head, value)?;
            Ok(Some(head))
        })();
        // ORDER Acquire [chunk-reuse]: if any byte was of a later use of the chunk, the slot is seen to have changed.
        fence(Ordering::Acquire);
        // ORDER Relaxed: ordered by the fence.
        if slot.load(Ordering::Relaxed) == expected.0 && counts.stand() {
            return match outcome {
                Ok(Some(head)) => {
                    // ORDER Relaxed: ordered by the fence.
                    let id = shm.block::<8>(offset)?.u64::<0>().load(Ordering::Relaxed);
                    if id == head.id { Ok(Attempt::Done(Some(head))) } else { Ok(Attempt::Again) }
                }
                Ok(None) => Ok(Attempt::Done(None)),
                Err(error) => Err(error),
            };
        }
        // What the copy itself objects to (a buffer too small) stands only for what was really there.
        Ok(Attempt::Again)
    }

    /// Reads while the index chunk is being split: first the old buckets, whose frozen slots count as long as the child's
    /// slot is virgin, then the child's. Entries only ever move from old to child, so none is missed.
    #[cold]
    fn read_split(&self, hash: u64, look: &mut impl Look) -> Result<Attempt<Option<Head>>> {
        let (index, entry) = self.entry(hash)?;
        let span = self.index_span(entry)?;
        let Some(child) = self.child_span(entry, hash)? else { return Ok(Attempt::Again) };
        let mut answer = Attempt::Done(None);
        'search: for number in self.shape.candidates(hash) {
            let (old, new) = (bucket_of(span, number)?, bucket_of(child, number)?);
            for slot_number in 0..SLOT_COUNT {
                let slot = old.u64_at::<0>(slot_number);
                // ORDER Acquire [slot]: the record that the word names is whole.
                let word = Slot(slot.load(Ordering::Acquire));
                if word.offset() == 0 || word.tag() != tag_of(hash) {
                    continue;
                }
                let found = match word.kind() {
                    SlotKind::Record => look(slot, word, word)?,
                    SlotKind::Frozen => look(new.u64_at::<0>(slot_number), word, Slot::VIRGIN)?,
                    _ => continue,
                };
                match found {
                    Attempt::Done(None) => {}
                    // The child's slot is in use: it will be found there.
                    Attempt::Again if word.kind() == SlotKind::Frozen => {}
                    other => {
                        answer = other;
                        break 'search;
                    }
                }
            }
        }
        if let Attempt::Done(None) = answer {
            for number in self.shape.candidates(hash) {
                answer = self.read_bucket(bucket_of(child, number)?, hash, look)?;
                if !matches!(answer, Attempt::Done(None)) {
                    break;
                }
            }
        }
        // ORDER Acquire [chunk-reuse]: as in `read_once`.
        fence(Ordering::Acquire);
        let still = self.directory_word(index)?.load(Ordering::Relaxed) == entry.0;
        Ok(if still { answer } else { Attempt::Again })
    }

    /// The child of a splitting index chunk that a hash belongs to.
    pub(super) fn child_span(&self, entry: Entry, hash: u64) -> Result<Option<Span<'_>>> {
        match self.child_of(entry, hash)? {
            Some(child) => Ok(Some(self.pool.span(child)?)),
            None => Ok(None),
        }
    }

    /// The chunk of that child.
    pub(super) fn child_of(&self, entry: Entry, hash: u64) -> Result<Option<ChunkId>> {
        let descriptor = self.pool.descriptor(ChunkId(entry.chunk() as u32))?;
        // ORDER Acquire [index-split]: the children were zeroed before they were named.
        let (left, right) = unpair(descriptor.u64::<{ at::SPLIT }>().load(Ordering::Acquire));
        if left == 0 || right == 0 || entry.depth() >= self.bits {
            return Ok(None);
        }
        let bit = hash >> (63 - entry.depth()) & 1;
        Ok(Some(ChunkId(if bit == 0 { left } else { right })))
    }

    /// Reads many keys, whose memory is fetched together; `visit` gets the place of each key and its value.
    /// Counted as [`Table::read_for`] does.
    pub fn read_many(
        &self,
        reader: u16,
        keys: &[&[u8]],
        mut visit: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let mut hits = 0;
        let mut value = Vec::new();
        self.ahead(
            keys.len(),
            |number| keys[number],
            |number, hash, place| {
                let mut copy = |head: &Head, bytes: Span<'_>| {
                    let len = head.value_len as usize;
                    if value.len() < len {
                        value.resize(len, 0);
                    }
                    bytes.copy_out(0, &mut value[..len])
                };
                let head = match self.read_found(place, keys[number], &mut copy) {
                    Some(head) => Some(head),
                    None => self.read_hashed(hash, keys[number], &mut copy)?.filter(|head| head.key_len != 0),
                };
                hits += u64::from(head.is_some());
                self.sample(reader, hash);
                visit(number, head.map(|head| &value[..head.value_len as usize]));
                Ok(true)
            },
        )?;
        self.note(reader, Count::Hit, hits);
        self.note(reader, Count::Miss, keys.len() as u64 - hits);
        Ok(())
    }

    /// Finds the slot of a key for a writer, in the index chunk at `span`. What was compared is proved right when the
    /// writer's compare-and-swap from `word` succeeds.
    #[inline]
    pub(super) fn find<'a>(
        &'a self,
        span: Span<'a>,
        hash: u64,
        key: &[u8],
    ) -> Result<Attempt<Option<Found<'a>>>> {
        let home = bucket_of(span, self.shape.home(hash))?;
        let mut look = |bucket: Bucket<'a>| self.find_in_bucket(bucket, hash, key);
        match look(home)? {
            Attempt::Done(None) => self.rest_of_key(span, home, hash, &mut look),
            other => Ok(other),
        }
    }

    #[inline]
    fn find_in_bucket<'a>(
        &'a self,
        bucket: Bucket<'a>,
        hash: u64,
        key: &[u8],
    ) -> Result<Attempt<Option<Found<'a>>>> {
        let wanted = Slot::wanted(tag_of(hash));
        let shm = self.pool.shm();
        for number in 0..SLOT_COUNT {
            let slot = bucket.u64_at::<0>(number);
            // ORDER Acquire [slot]: the record that the word names is whole.
            let word = Slot(slot.load(Ordering::Acquire));
            if !word.matches(wanted) {
                continue;
            }
            let offset = word.offset();
            let outcome = record::head_at(shm, offset).and_then(|head| {
                let same = head.key_len as usize == key.len()
                    && shm.span(offset + self.header, key.len() as u64)?.equals(0, key)?;
                Ok((head, same))
            });
            match outcome {
                Ok((head, true)) => return Ok(Attempt::Done(Some(Found { slot, word, head, offset }))),
                // Another key, unless the bytes were already those of a later use of the chunk.
                outcome => {
                    // ORDER Acquire [chunk-reuse]: as in `read_record`.
                    fence(Ordering::Acquire);
                    if slot.load(Ordering::Relaxed) != word.0 {
                        return Ok(Attempt::Again);
                    }
                    outcome?;
                }
            }
        }
        Ok(Attempt::Done(None))
    }

    /// Whether a slot points to the record at `offset`, whose hash is `hash`, or to one that is not decided yet and has it behind
    /// it: what makes it live. While its bucket is being
    /// moved the answer may be yes for a record that was just replaced.
    pub fn is_live(&self, hash: u64, offset: u64) -> Result<bool> {
        for _ in 0..TRIES {
            let (index, entry) = self.entry(hash)?;
            let span = self.index_span(entry)?;
            let child = self.child_span(entry, hash)?;
            let mut live = false;
            for span in [Some(span), child].into_iter().flatten() {
                for number in self.shape.candidates(hash) {
                    let bucket = bucket_of(span, number)?;
                    for number in 0..SLOT_COUNT {
                        // ORDER Acquire [slot]: as for readers.
                        let word = Slot(bucket.u64_at::<0>(number).load(Ordering::Acquire));
                        live |= word.kind() != SlotKind::Empty
                            && (word.offset() == offset
                                || word.tag() == tag_of(hash) && self.is_before(offset, word.offset()));
                    }
                }
            }
            // ORDER Acquire [chunk-reuse]: as in `read_once`.
            fence(Ordering::Acquire);
            if live || self.directory_word(index)?.load(Ordering::Relaxed) == entry.0 {
                return Ok(live);
            }
        }
        Err(too_many_tries("Looking for a record"))
    }

    /// The hash of a key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// The hash of the key of the record at `offset`. `scratch` is only a buffer.
    pub(super) fn hash_of_record(&self, offset: u64, head: &Head, scratch: &mut Vec<u8>) -> Result<u64> {
        let key = record::key_span(self.pool.shm(), offset, self.header, head)?;
        scratch.clear();
        scratch.resize(head.key_len as usize, 0);
        key.copy_out(0, scratch)?;
        Ok(self.hasher.hash(scratch))
    }
}

/// Whether any slot of the bucket was frozen by a split.
#[inline]
pub(super) fn frozen(bucket: Bucket<'_>) -> bool {
    // ORDER Acquire [slot]: who sees a frozen slot sees the children of the split.
    (0..SLOT_COUNT)
        .any(|number| Slot(bucket.u64_at::<0>(number).load(Ordering::Acquire)).kind() == SlotKind::Frozen)
}
