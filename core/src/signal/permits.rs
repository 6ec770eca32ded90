//! Moving permits between a semaphore's pool and the cells of threads, so that each is in exactly one place, whoever dies.
//!
//! A permit moves between two words, and nothing changes two words at once. So a thread first shows in its cell what it is about
//! to move, with a number (it *opens* the move); then it changes the pool's word by one compare-and-swap, which also names the thread and
//! the number: this is the moment at which the permits move; then it enters the result in its cell (it *closes* the move).
//! Before anybody overwrites the pool's word, it closes the move that the word names (it *helps*). Therefore an open move took place
//! if and only if the pool's word names it:
//!
//! ```text
//! free + sum over all cells of (held, after the move if the pool's word names it) = all permits, at any instant
//! ```
//!
//! A thread that died has at most one open move. Its heirs, any number of them, close it if it took place and cancel it otherwise;
//! then they open a move of their own in the dead one's cell, which gives back all that is held there, and carry it out together: the pool's
//! word names that move, too, so it takes place once. Words carry the number of the move, so that who was slow fails.

use super::area::Area;
use super::layout::{CellWord, MoveKind, PoolWord};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Tries before giving up: each failed one is another thread's success.
const ROUNDS: u32 = 1_000_000;

/// How a take ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The permits are the thread's. Whether permits of a dead thread came back before, and this is the first to hear of it.
    Now { owner_died: bool },
    /// There are too few.
    TooFew,
}

impl Area {
    /// The pool's word, checked.
    pub fn pool(&self) -> Result<PoolWord> {
        // ORDER Acquire [permits]: the cells as they were closed before this word was stored; what those did who gave permits back.
        let word = PoolWord(self.word().load(Ordering::Acquire));
        if word.is_sound(self.permits, self.threads) {
            return Ok(word);
        }
        Err(self.damaged(format!("its word is {word:?}")))
    }

    /// A thread's cell, checked.
    pub fn permits_of(&self, thread: u16) -> Result<CellWord> {
        // ORDER Acquire [permits]: as for the pool's word.
        let word = CellWord(self.cell(thread)?.load(Ordering::Acquire));
        if word.is_sound(self.permits) {
            return Ok(word);
        }
        Err(self.damaged(format!("the cell of thread {thread} is {word:?}")))
    }

    fn change_cell(&self, thread: u16, from: CellWord, to: CellWord) -> Result<bool> {
        // ORDER AcqRel [permits]: an open move is seen by who sees the pool's word that names it, a closed one by who sees the
        // word after that.
        Ok(self.cell(thread)?.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    pub(super) fn change_pool(&self, from: PoolWord, to: PoolWord) -> bool {
        // ORDER AcqRel [permits]: hands over what was done under the permits; publishes the closed move that it overwrites.
        self.word().compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn busy(&self) -> Error {
        Error::new(ErrorCode::Busy, format!("The permits of `{}` change too fast.", self.name))
    }
}

/// Whether the pool's word says that this move of the thread took place.
fn names(pool: PoolWord, thread: u16, cell: CellWord) -> bool {
    pool.mover() == thread && pool.number() == cell.number()
}

/// Closes a move that took place. Whoever does it does the same.
fn close(area: &Area, thread: u16, open: CellWord) -> Result<()> {
    let held = open.held_after().ok_or_else(|| area.damaged(format!("a move is {open:?}")))?;
    // A failure means that another closed it.
    area.change_cell(thread, open, open.closed(held))?;
    Ok(())
}

/// Closes the move that the pool's word names, before the word is overwritten.
pub(super) fn help(area: &Area, pool: PoolWord) -> Result<()> {
    if pool.mover() == 0 {
        return Ok(());
    }
    let cell = area.permits_of(pool.mover())?;
    if cell.kind() != MoveKind::None && names(pool, pool.mover(), cell) {
        kill_point!("signal.permits.before_help");
        close(area, pool.mover(), cell)?;
        kill_point!("signal.permits.helped");
    }
    Ok(())
}

/// The pool's word after the open move `cell` of the thread took place; none if there are too few permits.
pub(super) fn moved(area: &Area, pool: PoolWord, thread: u16, cell: CellWord) -> Result<Option<PoolWord>> {
    let (free, died) = match cell.kind() {
        // Who takes is told, and nobody after it.
        MoveKind::Take => match pool.free().checked_sub(cell.moving()) {
            None => return Ok(None),
            Some(free) => (free, false),
        },
        MoveKind::Give => (pool.free() + cell.moving(), pool.died()),
        MoveKind::Return => (pool.free() + cell.moving(), true),
        MoveKind::None => return Err(ErrorCode::Internal.into()),
    };
    if free > area.permits {
        return Err(area.damaged(format!("{free} of {} permits would be free", area.permits)));
    }
    Ok(Some(PoolWord::new(free, died, thread, cell.number())))
}

/// Carries out the move that is open in the thread's cell; it takes place once, whoever else carries it out at the same time. None
/// if there are too few permits; else the pool's word that was replaced, if this call did it.
pub fn carry_out(area: &Area, thread: u16, open: CellWord) -> Result<Option<Option<PoolWord>>> {
    for _ in 0..ROUNDS {
        // The pool's word first: if the move took place before, this word names it or the cell is closed already.
        let pool = area.pool()?;
        if area.permits_of(thread)? != open {
            return Ok(Some(None));
        }
        if names(pool, thread, open) {
            close(area, thread, open)?;
            return Ok(Some(None));
        }
        help(area, pool)?;
        let Some(next) = moved(area, pool, thread, open)? else { return Ok(None) };
        kill_point!("signal.permits.before_move");
        if area.change_pool(pool, next) {
            // DIES AFTER: it took place; whoever moves permits next closes it.
            kill_point!("signal.permits.moved");
            kill_point!("signal.permits.before_close");
            close(area, thread, open)?;
            kill_point!("signal.permits.closed");
            return Ok(Some(Some(pool)));
        }
    }
    Err(area.busy())
}

/// Takes back an open move of the calling thread that did not take place.
fn cancel(area: &Area, me: u16, open: CellWord) -> Result<()> {
    kill_point!("signal.permits.before_cancel");
    if !area.change_cell(me, open, open.closed(open.held()))? {
        return Err(area.damaged(format!("the cell of thread {me} is not its own")));
    }
    kill_point!("signal.permits.cancelled");
    Ok(())
}

/// Opens a move of the calling thread, which has none.
pub(super) fn open(area: &Area, me: u16, cell: CellWord, kind: MoveKind, count: u32) -> Result<CellWord> {
    if cell.kind() != MoveKind::None {
        return Err(area.damaged(format!("the cell of thread {me} is {cell:?}")));
    }
    let open = cell.opened(kind, count);
    kill_point!("signal.permits.before_open");
    if !area.change_cell(me, cell, open)? {
        return Err(area.damaged(format!("the cell of thread {me} is not its own")));
    }
    // DIES AFTER: it did not take place: heirs cancel it.
    kill_point!("signal.permits.open");
    Ok(open)
}

/// Takes permits for the calling thread, whose entry is `me`.
pub fn take(area: &Area, me: u16, count: u32) -> Result<Taken> {
    if area.pool()?.free() < count {
        return Ok(Taken::TooFew);
    }
    let cell = area.permits_of(me)?;
    let open = open(area, me, cell, MoveKind::Take, count)?;
    match carry_out(area, me, open) {
        Ok(Some(Some(pool))) => Ok(Taken::Now { owner_died: pool.died() }),
        // Nobody but the thread itself carries out what it takes.
        Ok(Some(None)) => Err(area.damaged(format!("the cell of thread {me} is not its own"))),
        Ok(None) => cancel(area, me, open).map(|()| Taken::TooFew),
        Err(error) => {
            cancel(area, me, open)?;
            Err(error)
        }
    }
}

pub fn too_many(area: &Area, held: u32, count: u32) -> Error {
    Error::new(
        ErrorCode::NotOwner,
        format!("The calling thread holds {held} permits of `{}`, not {count}.", area.name),
    )
}

/// Gives back permits of the calling thread, whose entry is `me`.
pub fn give(area: &Area, me: u16, count: u32) -> Result<()> {
    let cell = area.permits_of(me)?;
    if cell.held() < count {
        return Err(too_many(area, cell.held(), count));
    }
    let open = open(area, me, cell, MoveKind::Give, count)?;
    if let Err(error) = carry_out(area, me, open) {
        cancel(area, me, open)?;
        return Err(error);
    }
    area.waiters().notify();
    Ok(())
}

/// The thread is dead or leaves: what it held is free, and the next who takes is told. True if it held anything. Repeating it is
/// harmless, also at the same time. `is_dead` is asked after each look at the cell: what was seen is then the dead one's, and
/// changing it fails if the entry has another holder by now, whose moves have other numbers.
pub fn inherit(area: &Area, thread: u16, is_dead: impl Fn() -> bool) -> Result<bool> {
    let mut any = false;
    for _ in 0..ROUNDS {
        let cell = area.permits_of(thread)?;
        if cell.kind() == MoveKind::None && cell.held() == 0 || !is_dead() {
            return Ok(any);
        }
        match cell.kind() {
            MoveKind::None => {
                let open = cell.opened(MoveKind::Return, cell.held());
                kill_point!("signal.inherit.before_return");
                // A failure means that another heir was first.
                area.change_cell(thread, cell, open)?;
                kill_point!("signal.inherit.returning");
            }
            MoveKind::Return => {
                carry_out(area, thread, cell)?;
            }
            MoveKind::Take | MoveKind::Give => {
                // The cell first: if the word that is looked at after it does not name the move, and the cell is still open when it
                // is changed, the move did not take place.
                let pool = area.pool()?;
                if names(pool, thread, cell) {
                    close(area, thread, cell)?;
                } else {
                    kill_point!("signal.inherit.before_cancel");
                    area.change_cell(thread, cell, cell.closed(cell.held()))?;
                    kill_point!("signal.inherit.cancelled");
                }
            }
        }
        any = true;
    }
    Err(area.busy())
}

/// Takes over from all who are dead. True if any held permits.
pub fn inherit_dead(area: &Area) -> Result<bool> {
    let mut any = false;
    for thread in 1..area.threads {
        let cell = area.permits_of(thread)?;
        if cell.held() > 0 || cell.kind() != MoveKind::None {
            any |= inherit(area, thread, || area.ground.thread_is_dead(thread))?;
        }
    }
    if any {
        area.waiters().wake_all();
    }
    Ok(any)
}
