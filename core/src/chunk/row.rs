//! Making chunks in a row free, when enough are free but not in a row, or would be if garbage was cleaned.
//!
//! Of all rows that could be made free the one with the fewest live bytes is chosen. All its chunks are taken first, so that
//! nobody takes one of them meanwhile: the free ones are opened, the others are taken as cleaners take them. Then what is
//! live is moved out, or evicted where that may be; and when no pin holds them the chunks go straight from being cleaned to
//! being open. Who fails gives everything back, and tries another row a few times. Who is killed leaves what any cleaner and any
//! owner leaves.

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};

use super::append::CLEANING;
use super::layout::{Class, Kind, State, at, unpair};
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
    /// So many live bytes of a cache that evicts must go.
    Evict(u64),
    /// It is in use by others.
    Never,
}

/// The costs of the last chunks that were looked at, as many as a row has.
#[derive(Default)]
struct Window {
    costs: VecDeque<Cost>,
    /// Bytes that must be moved or evicted, and those that must be moved.
    live: u64,
    moving: u64,
    /// Chunks that are free, and that are evicted from.
    free: u32,
    evicting: u32,
}

impl Window {
    fn push(&mut self, cost: Cost, count: u32) {
        match cost {
            Cost::Nothing => self.free += 1,
            Cost::Move(bytes) => (self.live, self.moving) = (self.live + bytes, self.moving + bytes),
            Cost::Evict(bytes) => (self.live, self.evicting) = (self.live + bytes, self.evicting + 1),
            Cost::Never => {
                *self = Window::default();
                return;
            }
        }
        self.costs.push_back(cost);
        if self.costs.len() as u32 <= count {
            return;
        }
        match self.costs.pop_front() {
            Some(Cost::Nothing) => self.free -= 1,
            Some(Cost::Move(bytes)) => (self.live, self.moving) = (self.live - bytes, self.moving - bytes),
            Some(Cost::Evict(bytes)) => (self.live, self.evicting) = (self.live - bytes, self.evicting - 1),
            Some(Cost::Never) | None => {}
        }
    }
}

/// A row that could be made free.
struct Row {
    first: ChunkId,
    count: u32,
    /// Whether what evicts is evicted; else it is moved as well.
    evict: bool,
}

impl Row {
    fn chunks(&self) -> impl Iterator<Item = ChunkId> + use<> {
        (self.first.0..self.first.0 + self.count).map(ChunkId)
    }
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
        if !self.may_hold(object, count) {
            return Ok(None);
        }
        // Chunks that could not be had: others are at work there.
        let mut avoided = Vec::new();
        for _ in 0..ROWS {
            let Some(row) = self.cheapest_row(me, count, need, own, &avoided)? else { return Ok(None) };
            match self.have_row(me, class, object, &row, own)? {
                None => return Ok(Some(row.first)),
                Some(lost) => avoided.push(lost),
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
        if self.free_count() <= self.must_stay(need) {
            return Ok(None);
        }
        self.lowest(me, class, object, own, self.low_end(), false)
    }

    /// As `make_low`, for the index of a cache that evicts: wherever the lowest chunk is, and if nothing is free to move its
    /// records to, they are evicted. An index grows with the number of entries, so what is left lies behind it in one piece.
    pub fn take_low(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        need: Need,
        own: &dyn Cleaner,
    ) -> Result<Option<ChunkId>> {
        let full = self.free_count() <= self.must_stay(need);
        let end = self.geometry().chunk_count;
        match self.lowest(me, class, object, Some(own), end, full)? {
            Some(chunk) => Ok(Some(chunk)),
            None => self.take(me, class, object, 1, need),
        }
    }

    /// The lowest chunk below `end` that is not free and can be made so.
    fn lowest(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        own: Option<&dyn Cleaner>,
        end: u32,
        evict: bool,
    ) -> Result<Option<ChunkId>> {
        if self.kept_buckets(class)?.is_some() || !self.may_hold(object, 1) {
            return Ok(None);
        }
        for number in 1..end.min(self.geometry().chunk_count) {
            let row = Row { first: ChunkId(number), count: 1, evict };
            match self.cost_of(me, row.first, own)? {
                Cost::Nothing => return Ok(None),
                // A long value is worth more than a place that is a little lower.
                Cost::Evict(_) if self.evicting_run_of(row.first)?.is_some() => {}
                Cost::Move(_) if evict => {}
                Cost::Never => {}
                Cost::Move(_) | Cost::Evict(_) => {
                    let lost = self.have_row(me, class, object, &row, own)?;
                    return Ok(lost.is_none().then_some(row.first));
                }
            }
        }
        Ok(None)
    }

    /// Takes all chunks of a row as one run, or none. The answer is the chunk that could not be had.
    fn have_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        row: &Row,
        own: Option<&dyn Cleaner>,
    ) -> Result<Option<ChunkId>> {
        let mut taken = Taken::default();
        let lost = self.clear_row(me, class, object, row, own, &mut taken);
        if let Ok(None) = lost {
            self.describe_run(row.first, row.count)?;
        } else {
            self.give_back_row(me, &taken)?;
        }
        lost
    }

    /// The row with the fewest live bytes, if what is free besides it is enough to move them to.
    fn cheapest_row(
        &self,
        me: Actor<'_>,
        count: u32,
        need: Need,
        own: Option<&dyn Cleaner>,
        avoided: &[ChunkId],
    ) -> Result<Option<Row>> {
        let (mut window, mut best) = (Window::default(), None);
        let all_free = self.free_count();
        for chunk in self.chunks() {
            let cost = if avoided.contains(&chunk) { Cost::Never } else { self.cost_of(me, chunk, own)? };
            window.push(cost, count);
            let least = best.map_or(u64::MAX, |(least, _)| least);
            if window.costs.len() as u32 != count || window.live >= least {
                continue;
            }
            // Records do not fill the chunks that they are moved to, and the last of these stays open.
            let moved = match window.moving {
                0 => 0,
                bytes => (bytes + bytes / 8).div_ceil(self.geometry().chunk_bytes) as u32 + 1,
            };
            // Where nothing is moved the reserve is not needed, and what evicts makes it anew.
            let need = if moved == 0 && window.evicting > 0 { Need::Overwrite } else { need };
            if all_free.saturating_sub(window.free) >= moved + self.must_stay(need) {
                best = Some((window.live, ChunkId(chunk.0 + 1 - count)));
            }
        }
        Ok(best.map(|(_, first)| Row { first, count, evict: true }))
    }

    /// Whether a row of a cache can come yet, because enough is free or evicts and nothing that stays lies between: others may
    /// stand in its way for a moment.
    pub(super) fn row_may_come(&self, class: Class, count: u32) -> Result<bool> {
        let (mut could, mut evicting, mut row, mut longest) = (0, 0, 0, 0);
        for chunk in self.chunks() {
            let state = self.state(chunk)?;
            let evicts = state.class().is_some_and(Class::has_records) && self.gives_way(chunk)?;
            let goes = evicts || state.is_free() || state.is(Kind::Quiesce);
            (could, row) = if goes { (could + 1, row + 1) } else { (could, 0) };
            evicting += u32::from(evicts);
            longest = longest.max(row);
        }
        let enough = longest >= count && could >= count + self.must_stay(Need::Overwrite);
        Ok(class.has_records() && evicting > 0 && enough)
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
                if self.gives_way(chunk)? {
                    return Ok(Cost::Evict(self.live_bytes(chunk)?));
                }
                // What a snapshot needs cannot be had.
                if self.is_kept_for_snapshot(chunk, state)? {
                    return Ok(Cost::Never);
                }
                let known = self.has_relief() || own.map(Cleaner::object) == Some(self.object_of(chunk)?);
                if known { Cost::Move(self.live_bytes(chunk)?) } else { Cost::Never }
            }
            (Some(Kind::RunHead | Kind::RunContinued), _) if self.evicting_run_of(chunk)?.is_some() => {
                Cost::Evict(self.geometry().chunk_bytes)
            }
            _ => Cost::Never,
        })
    }

    /// The object that a chunk belongs to.
    fn object_of(&self, chunk: ChunkId) -> Result<u32> {
        // ORDER Relaxed: written by the owner before the chunk was sealed.
        Ok(self.descriptor(chunk)?.u32::<{ at::OBJECT }>().load(Ordering::Relaxed))
    }

    /// Takes and empties the chunks of a row. The answer is the one that cannot be had.
    fn clear_row(
        &self,
        me: Actor<'_>,
        class: Class,
        object: u32,
        row: &Row,
        own: Option<&dyn Cleaner>,
        taken: &mut Taken,
    ) -> Result<Option<ChunkId>> {
        // The entry has one place for a chunk that its thread cleans: what stands there is for later.
        while let Some((chunk, object)) = self.being_cleaned(me)? {
            self.put_back(me, chunk)?;
            self.set_entry_chunk(me, object | CLEANING, None)?;
        }
        self.reserve_pages(row.first, row.count)?;
        // Runs last: they are not taken but evicted, which is for nothing if another chunk cannot be had.
        let (mut runs, mut rest) = (Vec::new(), Vec::new());
        for chunk in row.chunks() {
            match self.evicting_run_of(chunk)? {
                Some(run) => {
                    rest.push(chunk);
                    if runs.last() != Some(&run) {
                        runs.push(run);
                    }
                }
                None if !self.take_for_row(me, class, object, chunk, taken)? => return Ok(Some(chunk)),
                None => {}
            }
        }
        for (first, seen) in runs {
            if !self.empty_taken(me, own, first, seen, self.object_of(first)?)? {
                return Ok(Some(first));
            }
        }
        for chunk in rest {
            if !self.take_for_row(me, class, object, chunk, taken)? {
                return Ok(Some(chunk));
            }
        }
        for (chunk, of) in &taken.cleaning {
            self.set_entry_chunk(me, of | CLEANING, Some(*chunk))?;
            let seen = self.state(*chunk)?;
            if !seen.is(Kind::Evicting) || seen.owner() != me.index {
                return Ok(Some(*chunk));
            }
            let emptied = if row.evict && self.gives_way(*chunk)? {
                self.empty_taken(me, own, *chunk, seen, *of)?
            } else {
                KEPT.set(chunk.0);
                let cleaned = self.clean_taken(me, own, *chunk, *of, usize::MAX);
                KEPT.set(0);
                cleaned?
            };
            if !emptied {
                return Ok(Some(*chunk));
            }
            kill_point!("chunk.row.emptied");
        }
        let pinned = self.pinned(row)?;
        if pinned.is_some() {
            return Ok(pinned);
        }
        while let Some((chunk, _)) = taken.cleaning.pop() {
            if !self.open_emptied(me, class, object, chunk)? {
                return Ok(Some(chunk));
            }
            taken.opened.push(chunk);
        }
        Ok(None)
    }

    /// The first chunk of the settled run that a chunk belongs to, with its state, if its object evicts.
    fn evicting_run_of(&self, chunk: ChunkId) -> Result<Option<(ChunkId, State)>> {
        let seen = self.state(chunk)?;
        let first = match seen.kind() {
            Some(Kind::RunHead) => chunk,
            // ORDER Relaxed: written before the chunk became a part.
            Some(Kind::RunContinued) => {
                ChunkId(unpair(self.descriptor(chunk)?.u64::<{ at::PARENT }>().load(Ordering::Relaxed)).0)
            }
            _ => return Ok(None),
        };
        if first.0 == 0 || self.descriptor(first).is_err() {
            return Ok(None);
        }
        let state = self.state(first)?;
        let part = first == chunk || self.is_part_of(chunk, seen, first, state.generation())?;
        Ok((part && state.is(Kind::RunHead) && self.gives_way(first)?).then_some((first, state)))
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
                let cleanable = match seen.class() {
                    Some(class) if class.has_records() => self.may_be_cleaned(chunk, class)?,
                    _ => false,
                };
                if !cleanable || !self.take_dirty(me, chunk, seen)? {
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

    /// A chunk of the row that is pinned, or that a snapshot needs.
    fn pinned(&self, row: &Row) -> Result<Option<ChunkId>> {
        // ORDER SeqCst [pin]: as in `Pool::free_if_unpinned`.
        fence(Ordering::SeqCst);
        let mut pinned = None;
        self.ground().each_pin(&mut |chunk| {
            if (row.first.0..row.first.0 + row.count).contains(&chunk) {
                pinned = Some(ChunkId(chunk));
            }
        });
        for chunk in row.chunks() {
            let state = self.state(chunk)?;
            if state.is(Kind::Evicting) && self.is_kept_for_snapshot(chunk, state)? {
                return Ok(Some(chunk));
            }
        }
        Ok(pinned)
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
