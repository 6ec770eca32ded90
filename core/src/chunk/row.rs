//! Making chunks in a row free, when enough are free but not in a row, or would be if garbage was cleaned.
//!
//! Of all rows that could be made free the one with the fewest live bytes is chosen. All its chunks are taken first, so that
//! nobody takes one of them meanwhile: the free ones are opened, the others are taken as cleaners take them. Then what is
//! live is moved out; and when no pin holds them the chunks go straight from being cleaned to being open. Who fails gives
//! everything back, and tries another row a few times. Who is killed leaves what any cleaner and any owner leaves.

use std::cell::Cell;
use std::collections::HashSet;

use super::append::CLEANING;
use super::layout::{Class, Kind, State, at};
use super::relief::Cleaner;
use super::{Actor, ChunkId, Need, Pool};
use crate::error::Result;
use crate::shm::atomic::{Ordering, fence};

/// Rows that are tried to be made before something else is done.
const ROWS: u32 = 3;

thread_local! {
    /// The chunk that this thread cleans for a row: it is kept when it is empty.
    static KEPT: Cell<u32> = const { Cell::new(0) };
}

/// What must be done to have a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cost {
    /// It is free.
    Nothing,
    /// So many live bytes must be moved.
    Move(u64),
    /// It is in use by others.
    Never,
}

/// A row that could be made free.
struct Row {
    first: ChunkId,
    count: u32,
}

/// The chunks of a row that were taken so far.
#[derive(Default)]
struct Taken {
    opened: Vec<ChunkId>,
    /// Taken for cleaning, with their objects.
    cleaning: Vec<(ChunkId, u32)>,
}

impl Pool {
    /// Makes `count` chunks in a row free, and takes them. `None` if no row can be made with what is free for moving.
    #[cold]
    pub(super) fn make_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        count: u32,
        need: Need,
        own: Option<&dyn Cleaner>,
    ) -> Result<Option<ChunkId>> {
        for _ in 0..ROWS {
            let Some(row) = self.cheapest_row(me, count, need, own)? else { return Ok(None) };
            if self.have_row(me, class, object, &row, own)? {
                return Ok(Some(row.first));
            }
        }
        Ok(None)
    }

    /// Makes one of the first chunks of the arena free for something that will stay there, and takes it; `None` if the lowest
    /// chunk that can be had is free already, or none of them can be had.
    pub(super) fn make_low(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        need: Need,
        own: Option<&dyn Cleaner>,
    ) -> Result<Option<ChunkId>> {
        if self.free_count() <= self.must_stay(need) || self.kept_buckets(class)?.is_some() {
            return Ok(None);
        }
        for number in 1..self.low_end().min(self.geometry().chunk_count) {
            match self.cost_of(me, ChunkId(number), own)? {
                Cost::Nothing => return Ok(None),
                Cost::Never => {}
                Cost::Move(_) => {
                    let row = Row { first: ChunkId(number), count: 1 };
                    let done = self.have_row(me, class, object, &row, own)?;
                    return Ok(done.then_some(row.first));
                }
            }
        }
        Ok(None)
    }

    /// Takes all chunks of a row as one run, or none.
    fn have_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        row: &Row,
        own: Option<&dyn Cleaner>,
    ) -> Result<bool> {
        let mut taken = Taken::default();
        let done = self.clear_row(me, class, object, row, own, &mut taken);
        if let Ok(true) = done {
            self.describe_run(row.first, row.count)?;
            return Ok(true);
        }
        self.give_back_row(me, &taken)?;
        done
    }

    /// The row with the fewest live bytes, if what is free besides it is enough to move them to.
    fn cheapest_row(
        &self,
        me: Actor<'_>,
        count: u32,
        need: Need,
        own: Option<&dyn Cleaner>,
    ) -> Result<Option<Row>> {
        let chunk_bytes = self.geometry().chunk_bytes;
        let mut costs = std::collections::VecDeque::new();
        let (mut sum, mut free, mut best) = (0, 0, None);
        let all_free = self.free_count();
        for chunk in self.chunks() {
            let cost = self.cost_of(me, chunk, own)?;
            costs.push_back(cost);
            match cost {
                Cost::Nothing => free += 1,
                Cost::Move(bytes) => sum += bytes,
                Cost::Never => {
                    costs.clear();
                    (sum, free) = (0, 0);
                }
            }
            if costs.len() as u32 > count {
                match costs.pop_front() {
                    Some(Cost::Nothing) => free -= 1,
                    Some(Cost::Move(bytes)) => sum -= bytes,
                    _ => {}
                }
            }
            // Records do not fill the chunks that they are moved to, and the last of these stays open.
            let moved = if sum == 0 { 0 } else { (sum + sum / 8).div_ceil(chunk_bytes) as u32 + 1 };
            if costs.len() as u32 == count
                && all_free.saturating_sub(free) >= moved + self.must_stay(need)
                && best.is_none_or(|(least, _)| sum < least)
            {
                best = Some((sum, ChunkId(chunk.0 + 1 - count)));
            }
        }
        Ok(best.map(|(_, first)| Row { first, count }))
    }

    fn cost_of(&self, me: Actor<'_>, chunk: ChunkId, own: Option<&dyn Cleaner>) -> Result<Cost> {
        let state = self.state(chunk)?;
        // What the caller fills can be put away.
        let mine = state.is(Kind::Open) && state.owner() == me.index;
        Ok(match (state.kind(), state.class()) {
            _ if state.is_free() => Cost::Nothing,
            (Some(kind), Some(class))
                if (kind == Kind::Sealed || mine)
                    && class.has_records()
                    && self.may_be_cleaned(chunk, class)? =>
            {
                let known = self.has_relief() || own.map(Cleaner::object) == Some(self.object_of(chunk)?);
                if known { Cost::Move(self.live_bytes(chunk)?) } else { Cost::Never }
            }
            _ => Cost::Never,
        })
    }

    /// The object that a chunk belongs to.
    fn object_of(&self, chunk: ChunkId) -> Result<u32> {
        // ORDER Relaxed: written by the owner before the chunk was sealed.
        Ok(self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed))
    }

    /// Takes and empties the chunks of a row. False when one of them cannot be had.
    fn clear_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        row: &Row,
        own: Option<&dyn Cleaner>,
        taken: &mut Taken,
    ) -> Result<bool> {
        // The entry has one place for a chunk that its thread cleans: what stands there is for later.
        while let Some((chunk, object)) = self.being_cleaned(me)? {
            self.put_back(me, chunk)?;
            self.set_entry_chunk(me, object | CLEANING, None)?;
        }
        self.reserve_pages(row.first, row.count)?;
        for number in row.first.0..row.first.0 + row.count {
            if !self.take_for_row(me, class, object, ChunkId(number), taken)? {
                return Ok(false);
            }
        }
        for (chunk, of) in &taken.cleaning {
            self.set_entry_chunk(me, of | CLEANING, Some(*chunk))?;
            KEPT.set(chunk.0);
            let cleaned = self.clean_taken(me, own, *chunk, *of, usize::MAX);
            KEPT.set(0);
            if !cleaned? {
                return Ok(false);
            }
            kill_point!("chunk.row.emptied");
        }
        if self.any_pinned(row) {
            return Ok(false);
        }
        while let Some((chunk, _)) = taken.cleaning.pop() {
            if !self.open_emptied(me, class, object, chunk)? {
                return Ok(false);
            }
            taken.opened.push(chunk);
        }
        Ok(true)
    }

    fn take_for_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        chunk: ChunkId,
        taken: &mut Taken,
    ) -> Result<bool> {
        if self.state(chunk)?.is(Kind::Open) {
            self.put_away_others(me, None)?;
        }
        let seen = self.state(chunk)?;
        match seen.kind() {
            Some(Kind::Free | Kind::Virgin) => {
                if !self.open_one(me, class, object, chunk)? {
                    return Ok(false);
                }
                self.count_taken(1);
                taken.opened.push(chunk);
            }
            Some(Kind::Sealed) => {
                let of = self.object_of(chunk)?;
                if !self.take_dirty(me, chunk, seen)? {
                    return Ok(false);
                }
                taken.cleaning.push((chunk, of));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether a cleaner that has emptied a chunk keeps it, because it is to be one of a row.
    pub(super) fn is_kept(&self, chunk: ChunkId) -> bool {
        KEPT.get() == chunk.0
    }

    fn any_pinned(&self, row: &Row) -> bool {
        // ORDER SeqCst [pin]: as in `Pool::free_if_unpinned`.
        fence(Ordering::SeqCst);
        let mut any = false;
        self.ground().each_pin(&mut |chunk| {
            any |= (row.first.0..row.first.0 + row.count).contains(&chunk);
        });
        any
    }

    /// An emptied chunk, of which no pin was seen, becomes the caller's.
    fn open_emptied(&self, me: Actor<'_>, class: Class, object: u32, chunk: ChunkId) -> Result<bool> {
        let seen = self.state(chunk)?;
        if !seen.is(Kind::Evicting) || seen.owner() != me.index {
            return Ok(false);
        }
        let (descriptor, generation) = (self.descriptor(chunk)?, seen.generation().wrapping_add(1));
        let (charged, open) = (self.charged(descriptor), State::new(Kind::Open, class, me.index, generation));
        kill_point!("chunk.row.before_open");
        if !self.transition(descriptor, seen, open) {
            return Ok(false);
        }
        // DIES AFTER: as after taking a free chunk.
        kill_point!("chunk.row.opened");
        self.describe(chunk, object, generation)?;
        self.discharge(charged, seen.class().unwrap_or(Class::None))?;
        if !self.charge(descriptor, class, object)? {
            self.retire(chunk, open)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Gives back what was taken of a row: opened chunks and emptied ones become free, the others are as they were.
    fn give_back_row(&self, me: Actor<'_>, taken: &Taken) -> Result<()> {
        for (chunk, object) in &taken.cleaning {
            self.set_entry_chunk(me, object | CLEANING, None)?;
            self.put_back(me, *chunk)?;
        }
        let mut quiet = Vec::new();
        let opened: HashSet<ChunkId> = taken.opened.iter().copied().collect();
        for chunk in opened {
            let seen = self.state(chunk)?;
            let next = State::new(Kind::Quiesce, seen.class().unwrap_or(Class::Main), 0, seen.generation());
            if seen.is(Kind::Open)
                && seen.owner() == me.index
                && self.transition(self.descriptor(chunk)?, seen, next)
            {
                quiet.push((chunk, next));
            }
        }
        if quiet.is_empty() { Ok(()) } else { self.free_if_unpinned(&quiet) }
    }
}
