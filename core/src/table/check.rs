//! Every invariant of a table, as code, and what becomes of a table when a thread died.

use std::collections::{HashMap, HashSet};

use super::layout::{BUCKET_BYTES, Entry, IN_STASH, SLOT_COUNT, bucket, bucket_of, control, control_chunks};
use super::slot::{Slot, SlotKind, tag_of};
use super::{Table, too_many_tries};
use crate::chunk::layout::{State, at, unpair};
use crate::chunk::record::{self, PLACED};
use crate::chunk::{ChunkId, Class, Kind};
use crate::error::Result;
use crate::shm::Span;
use crate::shm::atomic::{Ordering, fence};

/// A thread was reaped: the counts may be off by what it did last, and an index chunk that it was about to retire may be
/// left. Repeating it is harmless.
pub fn inherit(table: &Table, died: bool) -> Result<()> {
    if died {
        table.note_death();
        if table.evicts {
            table.pool.recount_held(table.object, table.first_chunk()?)?;
        }
    }
    for (chunk, state) in table.unreachable_index_chunks()? {
        kill_point!("table.inherit.before_retire");
        table.pool.retire_buckets(chunk, state)?;
    }
    Ok(())
}

impl Table {
    /// The first index chunk, which stands behind the control area.
    pub(super) fn root_chunk(&self) -> Option<ChunkId> {
        let geometry = self.pool.geometry();
        let chunks = control_chunks(geometry.chunk_bytes, self.bits, self.aux) as u64;
        geometry.chunk_of(self.control + chunks * geometry.chunk_bytes)
    }

    /// Index chunks in use that nothing leads to, with the states in which they were seen before.
    fn unreachable_index_chunks(&self) -> Result<Vec<(ChunkId, State)>> {
        let root = self.root_chunk();
        let mut used = Vec::new();
        for chunk in self.pool.used_chunks() {
            let state = self.pool.state(chunk)?;
            // ORDER Relaxed: written before the chunk went into use.
            let object = self.pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
            // The first index chunk is one of the control area's run, until it was divided and is anybody's.
            let index = state.class() == Some(Class::Buckets) || Some(chunk) == root;
            if state.is(Kind::Index) && index && object == self.object {
                used.push((chunk, state));
            }
        }
        // Looked for after the states: a child is named before it is settled, so one that a split has just got is found.
        let reachable = self.reachable_index_chunks()?;
        used.retain(|(chunk, _)| !reachable.contains(chunk));
        Ok(used)
    }

    /// Index chunks that the directory names, and the children of those that are being split.
    fn reachable_index_chunks(&self) -> Result<HashSet<ChunkId>> {
        let mut reachable = HashSet::new();
        for index in 0..1u64 << self.bits {
            let mut tries = 0;
            loop {
                // ORDER Acquire [directory]: as in `Table::entry`.
                let entry = Entry(self.directory_word(index)?.load(Ordering::Acquire));
                self.index_span(entry)?;
                let chunk = ChunkId(entry.chunk() as u32);
                // ORDER Acquire [index-split]: the children were settled after they were named.
                let split = self.pool.descriptor(chunk)?.u64::<{ at::SPLIT }>().load(Ordering::Acquire);
                // ORDER Acquire [chunk-reuse]: if the chunk was reused, the entry is seen to have changed.
                fence(Ordering::Acquire);
                if self.directory_word(index)?.load(Ordering::Relaxed) == entry.0 {
                    let (left, right) = unpair(split);
                    reachable.extend([chunk, ChunkId(left), ChunkId(right)]);
                    break;
                }
                tries += 1;
                if tries > 1000 {
                    return Err(too_many_tries("Reading the directory"));
                }
            }
        }
        Ok(reachable)
    }
}

/// The tree is sound, and every key that a slot has is in it.
fn check_tree(
    table: &Table,
    live: bool,
    keys: &HashMap<Vec<u8>, Seen>,
    report: &mut dyn FnMut(String, String),
) -> Result<()> {
    let Some(tree) = &table.tree else { return Ok(()) };
    tree.check(live, report)?;
    for (key, seen) in keys {
        if !tree.contains(key)? && unchanged(table, seen)? {
            let what = format!("the key {:?} is not in the ordered index", String::from_utf8_lossy(key));
            report(seen.place.clone(), what);
        }
    }
    Ok(())
}

/// What the check found of one entry.
struct Seen {
    place: String,
    chunk: ChunkId,
    number: u64,
    slot: usize,
    word: Slot,
    part: Part,
}

/// A part of the directory that shares an index chunk.
#[derive(Clone, Copy)]
struct Part {
    /// Where it begins.
    index: u64,
    /// What the directory says there.
    named: Entry,
    /// The index chunk that the part has: the named one, or its child where a split has not swung this half yet.
    entry: Entry,
}

impl Part {
    fn read(table: &Table, index: u64) -> Result<Part> {
        // ORDER Acquire [directory]: as in `Table::entry`.
        let named = Entry(table.directory_word(index)?.load(Ordering::Acquire));
        let mut entry = named;
        while entry.in_use()
            && entry.depth() < table.bits
            && table.index_span(entry).is_ok()
            && table.range(index, entry).start != index
            && let Some(child) = table.child_of(entry, index << table.shift)?
        {
            entry = Entry::new(child.0, table.pool.state(child)?.generation(), entry.depth() + 1);
        }
        Ok(Part { index, named, entry })
    }

    fn is_unchanged(&self, table: &Table) -> Result<bool> {
        // ORDER Acquire [directory]: as in `Table::entry`.
        Ok(table.directory_word(self.index)?.load(Ordering::Acquire) == self.named.0)
    }
}

/// Verifies a table. Calls `report(place, what)` for each breach. With `live`, only what holds at any instant is verified,
/// and what changed meanwhile is not reported; without, nobody else is at work and the dead were reaped.
pub fn check(table: &Table, live: bool, report: &mut dyn FnMut(String, String)) -> Result<()> {
    let mut keys: HashMap<Vec<u8>, Seen> = HashMap::new();
    let mut totals = Totals::default();
    let mut index = 0;
    while index < 1 << table.bits {
        let part = Part::read(table, index)?;
        let entry = part.entry;
        let place = format!("object {} directory {index}", table.object);
        if !entry.in_use() || entry.depth() > table.bits || table.index_span(entry).is_err() {
            report(place, format!("the entry {:#x} names no index chunk", entry.0));
            index += 1;
            continue;
        }
        check_directory(table, live, part, &place, report)?;
        check_index_chunk(table, live, part, &mut keys, &mut totals, report)?;
        index = table.range(index, entry).end;
    }
    check_tree(table, live, &keys, report)?;
    if !live {
        check_counts(table, &totals, report)?;
        check_account(table, report)?;
        for (chunk, state) in table.unreachable_index_chunks()? {
            report(
                format!("object {} chunk {}", table.object, chunk.0),
                format!("nothing leads to it: {state:?}"),
            );
        }
    }
    Ok(())
}

fn check_directory(
    table: &Table,
    live: bool,
    part: Part,
    place: &str,
    report: &mut dyn FnMut(String, String),
) -> Result<()> {
    let Part { index, entry, .. } = part;
    let chunk = ChunkId(entry.chunk() as u32);
    let state = table.pool.state(chunk)?;
    let in_use = matches!(state.kind(), Some(Kind::Index | Kind::Open))
        && matches!(state.class(), Some(Class::Buckets | Class::Control))
        && state.generation() & 0xf_ffff == entry.generation();
    if !in_use && part.is_unchanged(table)? {
        report(place.into(), format!("chunk {} is {state:?}", chunk.0));
    }
    let range = table.range(index, entry);
    if range.start != index && !live {
        report(place.into(), format!("depth {} does not begin here", entry.depth()));
    }
    // While a split swings the directory, and until a writer comes by after one that died there, a range names the old chunk
    // and its children.
    let children = [0u64, 1 << 63 >> entry.depth()].map(|hash| table.child_of(entry, hash).ok().flatten());
    let is_parent = |seen: Entry| {
        seen.in_use()
            && seen.depth() < entry.depth()
            && table.index_span(seen).is_ok()
            && table.child_of(seen, index << table.shift).ok().flatten() == Some(chunk)
    };
    for other in range {
        // ORDER Acquire [directory]: as in `Table::entry`.
        let seen = Entry(table.directory_word(other)?.load(Ordering::Acquire));
        let child = children.contains(&Some(ChunkId(seen.chunk() as u32)));
        if seen != entry && !child && !is_parent(seen) && !live && part.is_unchanged(table)? {
            report(
                place.into(),
                format!("entry {other} of the same range is {:#x}, not {:#x}", seen.0, entry.0),
            );
        }
    }
    Ok(())
}

/// Sums over all slots.
#[derive(Default)]
struct Totals {
    entries: u64,
    live_bytes: u64,
    live_of_chunk: HashMap<ChunkId, u64>,
}

fn check_index_chunk(
    table: &Table,
    live: bool,
    part: Part,
    keys: &mut HashMap<Vec<u8>, Seen>,
    totals: &mut Totals,
    report: &mut dyn FnMut(String, String),
) -> Result<()> {
    let entry = part.entry;
    let parent = ChunkId(entry.chunk() as u32);
    let children: Vec<ChunkId> = [0u64, 1 << 63 >> entry.depth()]
        .iter()
        .filter_map(|hash| table.child_of(entry, *hash).ok().flatten())
        .collect();
    for number in 0..table.shape.buckets {
        for slot in 0..SLOT_COUNT {
            let word_in = |chunk: ChunkId| -> Result<Slot> {
                // ORDER Acquire [slot]: as for readers.
                Ok(Slot(
                    bucket_of(table.pool.span(chunk)?, number)?.u64_at::<0>(slot).load(Ordering::Acquire),
                ))
            };
            let old = word_in(parent)?;
            let mut found = vec![];
            for child in &children {
                let word = word_in(*child)?;
                if word != Slot::VIRGIN {
                    found.push((*child, word));
                }
            }
            if found.is_empty() {
                found.push((parent, old));
            } else if old.kind() != SlotKind::Frozen && !live {
                let place = format!("object {} chunk {} bucket {number} slot {slot}", table.object, parent.0);
                report(place, format!("{old:?} was moved to a child and is not frozen"));
            }
            for (chunk, word) in found {
                if word.offset() == 0 {
                    continue;
                }
                let place = format!("object {} chunk {} bucket {number} slot {slot}", table.object, chunk.0);
                let seen = Seen { place, chunk, number, slot, word, part };
                check_slot(table, live, seen, keys, totals, report)?;
            }
        }
    }
    Ok(())
}

/// Whether a slot still says what it said.
fn unchanged(table: &Table, seen: &Seen) -> Result<bool> {
    // ORDER Acquire [chunk-reuse]: what was read before is proved by what is read now.
    fence(Ordering::Acquire);
    let slot = bucket_of(table.pool.span(seen.chunk)?, seen.number)?.u64_at::<0>(seen.slot);
    // ORDER Acquire [slot]: as for readers.
    Ok(slot.load(Ordering::Acquire) == seen.word.0 && seen.part.is_unchanged(table)?)
}

fn check_slot(
    table: &Table,
    live: bool,
    seen: Seen,
    keys: &mut HashMap<Vec<u8>, Seen>,
    totals: &mut Totals,
    report: &mut dyn FnMut(String, String),
) -> Result<()> {
    let mut problems = Vec::new();
    let key = check_record(table, &seen, totals, &mut problems)?;
    if !problems.is_empty() {
        if unchanged(table, &seen)? {
            problems.into_iter().for_each(|what| report(seen.place.clone(), what));
        }
        return Ok(());
    }
    let Some(key) = key else { return Ok(()) };
    if let Some(other) = keys.get(&key)
        && (!live || (unchanged(table, other)? && unchanged(table, &seen)? && unchanged(table, other)?))
    {
        report(
            seen.place.clone(),
            format!("the key {:?} is also in {}", String::from_utf8_lossy(&key), other.place),
        );
    }
    keys.insert(key, seen);
    Ok(())
}

/// Checks the record that a slot names, and returns its key.
fn check_record(
    table: &Table,
    seen: &Seen,
    totals: &mut Totals,
    problems: &mut Vec<String>,
) -> Result<Option<Vec<u8>>> {
    let (pool, offset) = (&table.pool, seen.word.offset());
    let Some(chunk) = pool.geometry().chunk_of(offset) else {
        problems.push(format!("{:?} is outside the arena", seen.word));
        return Ok(None);
    };
    let state = pool.state(chunk)?;
    let of_table = matches!(state.kind(), Some(Kind::Open | Kind::Sealed | Kind::Evicting | Kind::RunHead))
        && state.class().is_some_and(|class| table.is_own(class))
        // ORDER Relaxed: written before the record was.
        && pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == table.object;
    let position = offset - pool.geometry().chunk_offset(chunk);
    let head = record::head_at(pool.shm(), offset)?;
    let bytes = head.bytes(table.header);
    if !of_table {
        problems.push(format!("{:?} names a record in chunk {}, which is {state:?}", seen.word, chunk.0));
    } else if position.saturating_add(bytes) > pool.tail(chunk)? || head.id == 0 {
        problems.push(format!("{:?} names no whole record below the tail of chunk {}", seen.word, chunk.0));
    } else {
        let mut key = vec![0; head.key_len as usize];
        record::key_span(pool.shm(), offset, table.header, &head)?.copy_out(0, &mut key)?;
        let hash = table.hash(&key);
        if tag_of(hash) != seen.word.tag() {
            problems.push(format!("{:?} has another tag than its key, {:#x}", seen.word, tag_of(hash)));
        }
        if !table.range(seen.part.index, seen.part.entry).contains(&(hash >> table.shift)) {
            problems.push(format!("the key belongs to directory entry {}", hash >> table.shift));
        }
        check_marks(table, table.pool.span(seen.chunk)?, seen, hash, problems)?;
        // What was flushed is still linked, but counts for nothing.
        if !table.is_flushed(&head, offset) {
            *totals.live_of_chunk.entry(chunk).or_default() += bytes;
        }
        check_decision(table, offset, problems)?;
        let counted = table.counted(offset)?;
        // What is not decided yet is no entry, but takes room, and maybe a place.
        if counted != Some(offset) && !table.is_flushed(&head, offset) {
            totals.entries += u64::from(head.flags & PLACED != 0);
            totals.live_bytes += bytes;
        }
        if let Some(counted) = counted {
            let head = record::head_at(pool.shm(), counted)?;
            if !table.is_flushed(&head, counted) {
                totals.entries += u64::from(!head.is_tombstone());
                totals.live_bytes += head.bytes(table.header);
            }
        }
        return Ok(Some(key));
    }
    Ok(None)
}

/// A state that is not decided belongs to a transaction that somebody has under way.
fn check_decision(table: &Table, offset: u64, problems: &mut Vec<String>) -> Result<()> {
    if let Some(reference) = table.undecided(offset)?
        && !matches!(table.decision_of(table.stamp_word(offset)?, reference), Ok(Some(_)))
        // Ended meanwhile, if others are at work.
        && table.undecided(offset)? == Some(reference)
    {
        problems.push(format!(
            "the record at {offset} waits for transaction {} of thread {}, which is not under way",
            reference.number(),
            reference.thread()
        ));
    }
    Ok(())
}

/// A key stands in one of its buckets, and the marks of its home lead there.
fn check_marks(
    table: &Table,
    span: Span<'_>,
    seen: &Seen,
    hash: u64,
    problems: &mut Vec<String>,
) -> Result<()> {
    let candidates = table.shape.candidates(hash);
    let home = bucket_of(span, candidates[0])?;
    // ORDER Relaxed: the marks were stored before the slot, which was loaded with Acquire.
    let overflow = home.u8::<{ bucket::OVERFLOW }>().load(Ordering::Relaxed) != 0;
    let stash = home.u8::<{ bucket::FLAGS }>().load(Ordering::Relaxed) & IN_STASH != 0;
    match candidates.iter().position(|number| *number == seen.number) {
        None => problems.push(format!("the key belongs to bucket {}", candidates[0])),
        Some(0) => {}
        Some(1) if !overflow => problems.push("no overflow mark in the home bucket leads here".into()),
        Some(2..) if !stash => problems.push("no stash mark in the home bucket leads here".into()),
        Some(_) => {}
    }
    Ok(())
}

/// A cache that evicts holds no more chunks than it may, and no more than its account shows.
fn check_account(table: &Table, report: &mut dyn FnMut(String, String)) -> Result<()> {
    if !table.evicts {
        return Ok(());
    }
    let (mut held, pool) = (0, &table.pool);
    for chunk in pool.used_chunks() {
        let state = pool.state(chunk)?;
        // ORDER Relaxed: nobody else is at work.
        let own = pool.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed) == table.object;
        held += u32::from(own && !state.is(Kind::Free) && !state.is(Kind::Virgin));
    }
    let counted = pool.held(table.first_chunk()?).chunks;
    if held > counted || held > table.quota() {
        let what = format!("it holds {held} chunks, counts {counted} and may hold {}", table.quota());
        report(format!("object {}", table.object), what);
    }
    Ok(())
}

fn check_counts(table: &Table, totals: &Totals, report: &mut dyn FnMut(String, String)) -> Result<()> {
    let place = format!("object {}", table.object);
    if table.counts_are_due(control::RECOUNTED) && table.pool.shm().writable() {
        table.count_bytes_anew()?;
    }
    let counted = table.len()?;
    if counted != totals.entries && table.pool.shm().writable() {
        report(place.clone(), format!("{} entries are there, {counted} are counted", totals.entries));
    }
    // ORDER Relaxed: nobody else is at work.
    let deaths = table.control().u64::<{ control::DEATHS }>().load(Ordering::Relaxed);
    let off = table.live_sum().abs_diff(totals.live_bytes);
    let slack = deaths.saturating_mul(table.pool.geometry().chunk_bytes);
    if off > slack {
        report(
            place.clone(),
            format!(
                "{} bytes are live, {} are counted, after {deaths} deaths",
                totals.live_bytes,
                table.live_sum()
            ),
        );
    }
    for (chunk, live) in &totals.live_of_chunk {
        if table.pool.live_bytes(*chunk)? < *live {
            report(place.clone(), format!("chunk {} has {live} live bytes, more than it counts", chunk.0));
        }
    }
    debug_assert!(table.shape.buckets * BUCKET_BYTES <= table.pool.geometry().chunk_bytes);
    Ok(())
}
