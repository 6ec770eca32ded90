//! The common case, straight through: a key in its home bucket, a record that nobody changes meanwhile.
//!
//! What these functions answer is right; where anything is unusual (another bucket, a split, a change underneath, damage)
//! they answer `None` and have done nothing, and the general functions do the work. So they need no results with errors,
//! and the processor sees few branches: all slots of a bucket are compared at once before one is chosen.

use super::action::{Changed, Update, Value};
use super::evict::note_read;
use super::layout::{BUCKET_BYTES, Bucket, Entry, SLOT_COUNT, Shape, bucket};
use super::slot::{Slot, SlotKind, tag_of};
use super::stamp::Stamp;
use super::{RecordClass, Table};
use crate::chunk::Actor;
use crate::chunk::record::{EXPIRY_MAX, EXTENDED_BYTES, HEADER_BYTES, Head, MARKS, at};
use crate::error::Result;
use crate::limits::KEY_LEN_MAX;
use crate::shm::atomic::{AtomicU64, Ordering, fence};
use crate::shm::{Block, Shm, Span, Window, align8};

/// The home bucket of a hash, with what proves that it is still that.
#[derive(Clone, Copy)]
struct Home<'a> {
    word: &'a AtomicU64,
    entry: u64,
    /// Where the index chunk begins.
    start: u64,
    bucket: Bucket<'a>,
}

/// Keys whose memory is fetched together.
const GROUP: usize = 8;

/// A slot with the tag of a key, and the word that was seen in it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    home: Home<'a>,
    slot: &'a AtomicU64,
    word: Slot,
    /// Where the slot is.
    bucket: Bucket<'a>,
    number: usize,
}

/// A record whose key was compared.
struct Seen<'a> {
    head: Head,
    /// The header that a record of any class has.
    fields: Block<'a, { HEADER_BYTES as usize }>,
    value: Span<'a>,
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
    /// The space that it lies in.
    #[inline]
    pub fn shm(&self) -> &Shm {
        &self.shm
    }

    /// The header of this table's records: the compiler sees that it is a multiple of 8.
    #[inline(always)]
    fn header_bytes(&self) -> u64 {
        if self.class.has_stamps() { EXTENDED_BYTES } else { HEADER_BYTES }
    }

    #[inline(always)]
    fn home<'a>(&self, space: Window<'a>, hash: u64) -> Option<Home<'a>> {
        // Both offsets are multiples anyway; cutting them spares a branch that asks.
        let word = space.view::<8>((self.directory & !7) + (hash >> self.shift) * 8)?.u64::<0>();
        // ORDER Acquire [directory]: as in `Table::entry`.
        let entry = word.load(Ordering::Acquire);
        let chunk = Entry(entry).chunk();
        if !Entry(entry).in_use() || chunk == 0 || chunk >= self.chunk_count {
            return None;
        }
        let start = (self.arena + (chunk << self.chunk_shift)) & !(BUCKET_BYTES - 1);
        Some(Home { word, entry, start, bucket: space.view(start + self.shape.home(hash) * BUCKET_BYTES)? })
    }

    /// Reads the record that a slot names, up to the key. `None`: another key, or anything else than the common case.
    #[inline(always)]
    fn look<'a>(&self, space: Window<'a>, word: Slot, key: &[u8]) -> Option<Seen<'a>> {
        let offset = word.offset();
        let fields = space.view(offset)?;
        let head = Head::read(fields);
        if head.key_len as usize != key.len() {
            return None;
        }
        let at = self.header_bytes() + align8(u64::from(head.key_len));
        let record = space.range(offset, at + align8(u64::from(head.value_len)))?;
        let same = record.equals(self.header_bytes(), key).unwrap_or(false);
        if !same || head.is_tombstone() {
            return None;
        }
        Some(Seen { head, fields, value: record.sub(at, u64::from(head.value_len)).ok()? })
    }

    /// Reads the record of a place: `Some` if it is the key's, and was copied whole.
    #[inline(always)]
    fn read_place(
        &self,
        space: Window<'_>,
        place: &Place<'_>,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Option<Head> {
        let Seen { head, fields, value } = self.look(space, place.word, key)?;
        if self.class.has_stamps() {
            let extended: Block<'_, { EXTENDED_BYTES as usize }> = space.view(place.word.offset())?;
            // ORDER Acquire [stamp]: as in `what_counts`.
            let stamp = extended.u64::<{ at::STAMP }>().load(Ordering::Acquire);
            let Stamp::Since(_) = Stamp::of(stamp) else { return None };
        }
        if (head.expiry != 0 && head.expiry <= self.now_ms()) || self.is_flushed(&head, place.word.offset()) {
            return None;
        }
        copy(&head, value).ok()?;
        // ORDER Acquire [chunk-reuse]: if any byte was of a later use of a chunk, the slot or the entry is seen to have changed.
        fence(Ordering::Acquire);
        // ORDER Relaxed: ordered by the fence.
        let id = fields.u64::<{ at::ID }>().load(Ordering::Relaxed);
        let same = place.slot.load(Ordering::Relaxed) == place.word.0 && id == head.id && place.home.stands();
        if same && self.notes_reads {
            note_read(place.bucket, place.number);
        }
        same.then_some(head)
    }

    /// The first slot in the home bucket that may be the key's.
    #[inline(always)]
    fn place<'a>(&self, space: Window<'a>, hash: u64) -> Option<Place<'a>> {
        self.place_in(space, self.home(space, hash)?, hash)
    }

    /// The first slot with the key's tag in its home bucket, or else in the other one.
    #[inline(always)]
    fn place_in<'a>(&self, space: Window<'a>, home: Home<'a>, hash: u64) -> Option<Place<'a>> {
        let mut bucket = home.bucket;
        let mut found = matching(bucket, tag_of(hash));
        // ORDER Relaxed: as in `rest_of_key`.
        if found == 0 && bucket.u8::<{ bucket::OVERFLOW }>().load(Ordering::Relaxed) != 0 {
            let number = self.shape.alternative(self.shape.home(hash), Shape::choice(hash));
            bucket = space.view(home.start + number * BUCKET_BYTES)?;
            found = matching(bucket, tag_of(hash));
        }
        if found == 0 {
            return None;
        }
        let number = (found.trailing_zeros() & 7) as usize;
        let slot = bucket.u64_at::<0>(number);
        // ORDER Acquire [slot]: the record that the word names is whole.
        let word = Slot(slot.load(Ordering::Acquire));
        word.matches(Slot::wanted(tag_of(hash))).then_some(Place { home, slot, word, bucket, number })
    }

    /// The answer of [`Table::read`] where it is simple: a hit, or a miss that the home bucket alone proves.
    #[inline]
    pub(super) fn read_quick(
        &self,
        hash: u64,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Option<Option<Head>> {
        let space = self.shm.window();
        let home = self.home(space, hash)?;
        match self.place_in(space, home, hash) {
            Some(place) => self.read_place(space, &place, key, copy).map(Some),
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

    /// Goes through keys while the memory of those that follow is on its way: the records of the next [`GROUP`], and the buckets of the
    /// group behind. `visit` gets the number of a key, its hash and its place, and tells whether to go on.
    #[inline]
    pub(super) fn ahead<'k>(
        &self,
        count: usize,
        key: impl Fn(usize) -> &'k [u8],
        mut visit: impl FnMut(usize, u64, &Option<Place<'_>>) -> Result<bool>,
    ) -> Result<()> {
        let space = self.shm.window();
        let (mut hashes, mut places) = ([0; 4 * GROUP], [None; 2 * GROUP]);
        let groups = count.div_ceil(GROUP);
        let members = |group: usize| (group * GROUP).min(count)..((group + 1) * GROUP).min(count);
        for step in 0..groups + 2 {
            for number in members(step) {
                let hash = self.hasher.hash(key(number));
                hashes[number % (4 * GROUP)] = hash;
                if let Some(home) = self.home(space, hash) {
                    space.prefetch(home.bucket.offset());
                }
            }
            for number in step.checked_sub(1).map_or(0..0, members) {
                let place = self.place(space, hashes[number % (4 * GROUP)]);
                if let Some(Place { word, .. }) = place {
                    space.prefetch(word.offset());
                    space.prefetch(word.offset() + 64);
                    space.prefetch(word.offset() + 128);
                }
                places[number % (2 * GROUP)] = place;
            }
            for number in step.checked_sub(2).map_or(0..0, members) {
                if !visit(number, hashes[number % (4 * GROUP)], &places[number % (2 * GROUP)])? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// As [`Table::read_quick`], for a key whose place was found before.
    #[inline]
    pub(super) fn read_found(
        &self,
        place: &Option<Place<'_>>,
        key: &[u8],
        copy: &mut impl FnMut(&Head, Span<'_>) -> Result<()>,
    ) -> Option<Head> {
        self.read_place(self.shm.window(), place.as_ref()?, key, copy)
    }

    /// Overwrites an entry of a cache where it is simple: the new record is not longer, and the open chunk has room.
    #[inline]
    pub(super) fn put_quick(
        &self,
        me: Actor<'_>,
        hash: u64,
        key: &[u8],
        update: &Update<'_>,
    ) -> Option<Changed> {
        let Value::Bytes(value) = update.value else { return None };
        let plain = self.class == RecordClass::Cache && update.id == 0;
        if !plain || key.len() > KEY_LEN_MAX || self.is_pressed() {
            return None;
        }
        let space = self.shm.window();
        let place = self.place(space, hash)?;
        let count = self.pool.dead_count(place.word.offset())?;
        let Seen { head: old, .. } = self.look(space, place.word, key)?;
        let head = Head {
            id: 0,
            value_len: u32::try_from(value.len()).ok()?,
            key_len: key.len() as u32,
            flags: update.marks & MARKS,
            expiry: update.expiry.min(EXPIRY_MAX),
            client: update.client,
        };
        let (old_bytes, bytes) = (old.bytes(HEADER_BYTES), head.bytes(HEADER_BYTES));
        // What has expired is told; who won is named behind the value: the general function does both.
        if bytes > old_bytes || self.has_expired(&old) || head.is_won() {
            return None;
        }
        let generation = count.generation();
        let class = self.class_at(place.word.offset()).ok()?;
        // Behind the load of the slot, before the chunk is looked at.
        let epoch = self.quiet_epoch()?;
        let appended = self.pool.append_quick(me, class, self.object, &head, key, value, bytes)?;
        if self.was_flushed(epoch, &old, place.word.offset()) || epoch.is_over(appended.number) {
            // Once for each flush: the general function takes another chunk.
            let _ = self.pool.give_up(&appended);
            return None;
        }
        kill_point!("table.replace.before_publish");
        // ORDER AcqRel [slot]: as in `replace`: expects the very word whose record was compared.
        let next = place.word.publish(tag_of(hash), appended.offset);
        if place.slot.compare_exchange(place.word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // Errors of counting are damage, which the general function meets as well.
            let _ = self.pool.give_up(&appended);
            return None;
        }
        kill_point!("table.replace.published");
        let _ = self.pool.add_to(&count, generation, old_bytes);
        if bytes != old_bytes {
            let fresh = Head { id: appended.number << 20, ..head };
            self.count_record(me, &fresh, appended.offset, bytes as i64 - old_bytes as i64, 0);
        }
        Some(Changed { id: appended.id, offset: appended.offset, changed: true })
    }
}
