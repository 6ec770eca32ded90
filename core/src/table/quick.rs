//! The common case, straight through: a key in its home bucket, a record that nobody changes meanwhile.
//!
//! What these functions answer is right; where anything is unusual (another bucket, a split, a change underneath, damage)
//! they answer `None` and have done nothing, and the general functions do the work. So they need no results with errors,
//! and the processor sees few branches: all slots of a bucket are compared at once before one is chosen.

use super::layout::{BUCKET_BYTES, Bucket, Entry, SLOT_COUNT, Shape, bucket};
use super::slot::{Slot, SlotKind, tag_of};
use super::update::{Changed, Update, Value};
use super::{RecordClass, Table};
use crate::chunk::Actor;
use crate::chunk::record::{EXPIRY_MAX, Head, MARKS};
use crate::error::Result;
use crate::limits::KEY_LEN_MAX;
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Span, align8};

/// The home bucket of a hash, with what proves that it is still that.
#[derive(Clone, Copy)]
struct Home<'a> {
    word: &'a AtomicU64,
    entry: u64,
    bucket: Bucket<'a>,
}

/// A slot with the tag of a key, and the word that was seen in it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    home: Home<'a>,
    slot: &'a AtomicU64,
    word: Slot,
}

/// A record whose key was compared.
struct Seen<'a> {
    head: Head,
    /// The whole record.
    record: Span<'a>,
}

impl Home<'_> {
    /// Whether the directory still names the chunk of the bucket. Behind an acquire fence.
    #[inline]
    fn stands(&self) -> bool {
        // ORDER Relaxed: ordered by the fence.
        self.word.load(Ordering::Relaxed) == self.entry
    }
}

/// Which slots of a bucket name a record with a tag, as bits: hints.
#[inline(always)]
fn matching(bucket: Bucket<'_>, tag: u16) -> u32 {
    bucket.matching_halves(Slot::WANTED_HALF, (Slot::wanted(tag) >> 32) as u32) & ((1 << SLOT_COUNT) - 1)
}

impl Table {
    #[inline(always)]
    fn home(&self, hash: u64) -> Option<Home<'_>> {
        let word = self.shm.view::<8>(self.directory + (hash >> self.shift) * 8)?.u64::<0>();
        // ORDER Acquire [directory]: as in `Table::entry`.
        let entry = word.load(Ordering::Acquire);
        let chunk = Entry(entry).chunk();
        if !Entry(entry).in_use() || chunk == 0 || chunk >= self.chunk_count {
            return None;
        }
        let offset = self.arena + (chunk << self.chunk_shift) + self.shape.home(hash) * BUCKET_BYTES;
        Some(Home { word, entry, bucket: self.shm.view(offset)? })
    }

    /// Reads the record that a slot names, up to the key. `None`: another key, or anything else than the common case.
    #[inline(always)]
    fn look(&self, word: Slot, key: &[u8]) -> Option<Seen<'_>> {
        let offset = word.offset();
        let head = Head::read(self.shm.view(offset)?);
        let key_bytes = align8(key.len() as u64);
        let record = self.shm.range(offset, self.header + key_bytes + u64::from(head.value_len))?;
        let same = head.key_len as usize == key.len() && record.equals(self.header, key).unwrap_or(false);
        (same && !head.is_tombstone()).then_some(Seen { head, record })
    }

    /// Reads the record of a place: `Some` if it is the key's, and was copied whole.
    #[inline(always)]
    fn read_place(
        &self,
        place: &Place<'_>,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Option<Head> {
        let Seen { head, record } = self.look(place.word, key)?;
        if head.expiry != 0 && head.expiry <= self.now_ms() {
            return None;
        }
        let at = self.header + align8(key.len() as u64);
        copy(&head, record.sub(at, u64::from(head.value_len)).ok()?).ok()?;
        // ORDER Acquire [chunk-reuse]: if any byte was of a later use of a chunk, the slot or the entry is seen to have changed.
        fence(Ordering::Acquire);
        // ORDER Relaxed: ordered by the fence.
        let id = self.shm.view::<8>(place.word.offset())?.u64::<0>().load(Ordering::Relaxed);
        let same = place.slot.load(Ordering::Relaxed) == place.word.0 && id == head.id && place.home.stands();
        same.then_some(head)
    }

    /// The first slot in the home bucket that may be the key's.
    #[inline(always)]
    fn place(&self, hash: u64) -> Option<Place<'_>> {
        self.place_in(self.home(hash)?, hash)
    }

    /// The first slot with the key's tag in its home bucket, or else in the other one.
    #[inline(always)]
    fn place_in<'a>(&'a self, home: Home<'a>, hash: u64) -> Option<Place<'a>> {
        let mut bucket = home.bucket;
        let mut found = matching(bucket, tag_of(hash));
        // ORDER Relaxed: as in `rest_of_key`.
        if found == 0 && bucket.u8::<{ bucket::OVERFLOW }>().load(Ordering::Relaxed) != 0 {
            let number = self.shape.alternative(self.shape.home(hash), Shape::choice(hash));
            let start = self.arena + (Entry(home.entry).chunk() << self.chunk_shift);
            bucket = self.shm.view(start + number * BUCKET_BYTES)?;
            found = matching(bucket, tag_of(hash));
        }
        if found == 0 {
            return None;
        }
        let slot = bucket.u64_at::<0>((found.trailing_zeros() & 7) as usize);
        // ORDER Acquire [slot]: the record that the word names is whole.
        let word = Slot(slot.load(Ordering::Acquire));
        word.matches(Slot::wanted(tag_of(hash))).then_some(Place { home, slot, word })
    }

    /// The answer of [`Table::read`] where it is simple: a hit, or a miss that the home bucket alone proves.
    #[inline]
    pub(super) fn read_quick(
        &self,
        hash: u64,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Option<Option<Head>> {
        let home = self.home(hash)?;
        match self.place_in(home, hash) {
            Some(place) => self.read_place(&place, key, copy).map(Some),
            None => self.is_missing(&home, hash).then_some(None),
        }
    }

    /// Whether a key without a slot in its home bucket is in none.
    #[inline]
    fn is_missing(&self, home: &Home<'_>, hash: u64) -> bool {
        // ORDER Relaxed: as in `rest_of_key`.
        let overflow = home.bucket.u8::<{ bucket::OVERFLOW }>().load(Ordering::Relaxed);
        let flags = home.bucket.u8::<{ bucket::FLAGS }>().load(Ordering::Relaxed);
        // The hints were taken from words that may have been half old: the slots are loaded once more.
        let wanted = Slot::wanted(tag_of(hash));
        let plain = overflow == 0
            && flags == 0
            && (0..SLOT_COUNT).all(|number| {
                // ORDER Acquire [slot]: who sees a frozen slot sees the children of the split.
                let word = Slot(home.bucket.u64_at::<0>(number).load(Ordering::Acquire));
                word.kind() != SlotKind::Frozen && !word.matches(wanted)
            });
        // ORDER Acquire [chunk-reuse]: as in `read_place`.
        fence(Ordering::Acquire);
        plain && home.stands()
    }

    /// Finds up to `N` keys at once: fetches all their buckets, then all the records that those name.
    #[inline]
    pub(super) fn places<const N: usize>(&self, keys: &[&[u8]]) -> [(u64, Option<Place<'_>>); N] {
        let mut places = [(0, None); N];
        for (place, key) in places.iter_mut().zip(keys) {
            place.0 = self.hasher.hash(key);
            if let Some(home) = self.home(place.0) {
                self.shm.prefetch(home.bucket.offset());
            }
        }
        for place in &mut places[..keys.len().min(N)] {
            place.1 = self.place(place.0);
            if let Some(Place { word, .. }) = place.1 {
                self.shm.prefetch(word.offset());
                self.shm.prefetch(word.offset() + 64);
                self.shm.prefetch(word.offset() + 128);
            }
        }
        places
    }

    /// As [`Table::read_quick`], for a key whose place was found before.
    #[inline]
    pub(super) fn read_found(
        &self,
        place: &Option<Place<'_>>,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Option<Head> {
        self.read_place(place.as_ref()?, key, copy)
    }

    /// Overwrites an entry of a cache where it is simple: the new record is not longer, the open chunk has room, and there
    /// are free chunks enough.
    #[inline]
    pub(super) fn put_quick(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        update: &Update<'_>,
    ) -> Option<Changed> {
        let Value::Bytes(value) = update.value else { return None };
        if self.class != RecordClass::Cache
            || key.len() > KEY_LEN_MAX
            || self.pool.free_count() <= self.pool.pressure_mark()
        {
            return None;
        }
        let place = self.place(hash)?;
        let offset = place.word.offset();
        let (chunk, dead) = self.pool.dead_word(offset)?;
        let Seen { head: old, .. } = self.look(place.word, key)?;
        let head = Head {
            id: 0,
            value_len: u32::try_from(value.len()).ok()?,
            key_len: key.len() as u32,
            flags: update.marks & MARKS,
            expiry: update.expiry.min(EXPIRY_MAX),
            client: update.client,
        };
        let (old_bytes, bytes) = (old.bytes(self.header), head.bytes(self.header));
        if bytes > old_bytes {
            return None;
        }
        // ORDER Relaxed: as in `Pool::dead_generation`, which this is.
        let generation = crate::chunk::layout::Dead(dead.load(Ordering::Relaxed)).generation();
        let appended = self.pool.append_quick(me, self.object, &head, key, value, bytes)?;
        kill_point!("table.replace.before_publish");
        // ORDER AcqRel [slot]: as in `replace`: expects the very word whose record was compared.
        let next = place.word.publish(tag_of(hash), appended.offset);
        if place.slot.compare_exchange(place.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // Errors of counting are damage, which the general function meets as well.
            let _ = self.pool.give_up(&appended);
            return None;
        }
        kill_point!("table.replace.published");
        let _ = self.pool.add_dead(chunk, generation, old_bytes);
        if bytes != old_bytes {
            self.count(me, bytes as i64 - old_bytes as i64, 0);
        }
        Some(Changed { id: appended.id, offset: appended.offset, changed: true })
    }
}
