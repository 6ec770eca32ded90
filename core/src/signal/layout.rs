//! Bytes of a signal's control area, and their packed words as types.
//!
//! ```text
//! control area (after the object header, in one chunk)
//!   0 kind     u32  1 event, 2 counter, 3 lock, 4 semaphore
//!   4 cells    u32  semaphore: cells, one for each thread entry of the fabric; else 0
//!   8 permits  u64  semaphore: all permits; else 0
//!  64 word     u64  event: notifications for all so far    counter: the value, signed
//!                   lock: {held 1 | owner died 1 | 0 14 | thread 12 | 0 4 | generation of its entry 32}, lowest bits first
//!                   semaphore: {free permits 15 | owner died 1 | thread that moved permits last 12 | 0 4 | number of its move 32}
//!  72 ones     u64  event: notifications for one that nobody took yet; else 0
//!  80 wait     u32  wait word of those who wait
//! 128 cells    u64 each: permits of a thread: {held 15 | moving 15 | kind 2 | number of the move 32}
//!                   kind 0: nothing moves, 1 taking, 2 giving back, 3 given back for a dead thread
//! ```

/// Field offsets in the control area.
pub mod control {
    pub const KIND: usize = 0;
    pub const CELLS: usize = 4;
    pub const PERMITS: usize = 8;
    pub const WORD: usize = 64;
    pub const ONES: usize = 72;
    pub const WAIT: usize = 80;
    /// Bytes in front of the cells.
    pub const BYTES: usize = 128;
}

/// Bytes of a cell.
pub const CELL_BYTES: u64 = 8;
/// Permits of a semaphore at most: what 15 bits hold.
pub const PERMITS_MAX: u32 = 0x7fff;

/// What goes into the layout hash from here.
pub const FACTS: &[u64] = &[
    control::KIND as u64,
    control::CELLS as u64,
    control::PERMITS as u64,
    control::WORD as u64,
    control::ONES as u64,
    control::WAIT as u64,
    control::BYTES as u64,
    CELL_BYTES,
    PERMITS_MAX as u64,
];

/// What a signal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SignalKind {
    /// Notifications.
    Event = 1,
    /// A number.
    Counter = 2,
    /// One owner at a time.
    Lock = 3,
    /// A number of permits.
    Semaphore = 4,
}

impl SignalKind {
    pub(crate) fn from_number(number: u64) -> Option<SignalKind> {
        [SignalKind::Event, SignalKind::Counter, SignalKind::Lock, SignalKind::Semaphore]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }

    /// The name in messages and listings.
    pub const fn name(self) -> &'static str {
        match self {
            SignalKind::Event => "event",
            SignalKind::Counter => "counter",
            SignalKind::Lock => "lock",
            SignalKind::Semaphore => "semaphore",
        }
    }
}

const THREAD_SHIFT: u32 = 16;
const THREAD_MASK: u64 = 0xfff;

/// Who holds a lock: a thread entry, in the hands of one thread. No two threads ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub thread: u16,
    pub generation: u32,
}

/// The word of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockWord(pub u64);

impl LockWord {
    const HELD: u64 = 1;
    const DIED: u64 = 2;

    pub const fn free(died: bool) -> LockWord {
        LockWord(if died { LockWord::DIED } else { 0 })
    }

    pub const fn held(owner: Owner, died: bool) -> LockWord {
        let Owner { thread, generation } = owner;
        LockWord(
            LockWord::HELD
                | LockWord::free(died).0
                | ((thread as u64 & THREAD_MASK) << THREAD_SHIFT)
                | ((generation as u64) << 32),
        )
    }

    /// Whether an owner died and nobody said since that what the lock guards is whole.
    pub const fn died(self) -> bool {
        self.0 & LockWord::DIED != 0
    }

    pub const fn owner(self) -> Option<Owner> {
        if self.0 & LockWord::HELD == 0 {
            return None;
        }
        let thread = ((self.0 >> THREAD_SHIFT) & THREAD_MASK) as u16;
        Some(Owner { thread, generation: (self.0 >> 32) as u32 })
    }

    /// Whether a version of ours may have written it, in a fabric with so many thread entries.
    pub fn is_sound(self, threads: u16) -> bool {
        match self.owner() {
            None => self == LockWord::free(self.died()),
            Some(owner) => (1..threads).contains(&owner.thread) && self == LockWord::held(owner, self.died()),
        }
    }
}

/// The word of a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolWord(pub u64);

impl PoolWord {
    const DIED: u64 = 1 << 15;

    pub const fn new(free: u32, died: bool, mover: u16, number: u32) -> PoolWord {
        PoolWord(
            (free & PERMITS_MAX) as u64
                | if died { PoolWord::DIED } else { 0 }
                | ((mover as u64 & THREAD_MASK) << THREAD_SHIFT)
                | ((number as u64) << 32),
        )
    }

    /// Permits that nobody holds.
    pub const fn free(self) -> u32 {
        self.0 as u32 & PERMITS_MAX
    }

    /// Whether permits of a dead thread came back and nobody was told yet.
    pub const fn died(self) -> bool {
        self.0 & PoolWord::DIED != 0
    }

    /// The thread that moved permits last; 0 for none.
    pub const fn mover(self) -> u16 {
        ((self.0 >> THREAD_SHIFT) & THREAD_MASK) as u16
    }

    /// The number of its move.
    pub const fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn is_sound(self, permits: u32, threads: u16) -> bool {
        self.free() <= permits
            && self.mover() < threads
            && self == PoolWord::new(self.free(), self.died(), self.mover(), self.number())
    }
}

/// What a thread is doing with permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MoveKind {
    None = 0,
    Take = 1,
    Give = 2,
    /// Others give back what a dead thread held.
    Return = 3,
}

/// The permits of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellWord(pub u64);

impl CellWord {
    pub const fn new(held: u32, moving: u32, kind: MoveKind, number: u32) -> CellWord {
        CellWord(
            (held & PERMITS_MAX) as u64
                | (((moving & PERMITS_MAX) as u64) << 15)
                | ((kind as u64) << 30)
                | ((number as u64) << 32),
        )
    }

    pub const fn held(self) -> u32 {
        self.0 as u32 & PERMITS_MAX
    }

    pub const fn moving(self) -> u32 {
        (self.0 >> 15) as u32 & PERMITS_MAX
    }

    pub const fn kind(self) -> MoveKind {
        match (self.0 >> 30) & 3 {
            0 => MoveKind::None,
            1 => MoveKind::Take,
            2 => MoveKind::Give,
            _ => MoveKind::Return,
        }
    }

    pub const fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What the thread holds once the move that it shows took place.
    pub const fn held_after(self) -> Option<u32> {
        match self.kind() {
            MoveKind::None => Some(self.held()),
            MoveKind::Take => Some(self.held() + self.moving()),
            MoveKind::Give | MoveKind::Return => self.held().checked_sub(self.moving()),
        }
    }

    /// The next move.
    pub const fn opened(self, kind: MoveKind, moving: u32) -> CellWord {
        CellWord::new(self.held(), moving, kind, self.number().wrapping_add(1))
    }

    /// The move is over; this is held now.
    pub const fn closed(self, held: u32) -> CellWord {
        CellWord::new(held, 0, MoveKind::None, self.number())
    }

    pub fn is_sound(self, permits: u32) -> bool {
        let moving = match self.kind() {
            MoveKind::None => self.moving() == 0,
            MoveKind::Return => self.moving() == self.held() && self.held() > 0,
            MoveKind::Take | MoveKind::Give => self.moving() > 0,
        };
        moving && self.held() <= permits && self.held_after().is_some_and(|held| held <= permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_what_was_put_into_them() {
        let owner = Owner { thread: 1023, generation: u32::MAX };
        for died in [false, true] {
            let word = LockWord::held(owner, died);
            assert_eq!((word.owner(), word.died()), (Some(owner), died));
            assert!(word.is_sound(1024) && !word.is_sound(1023));
            assert_eq!((LockWord::free(died).owner(), LockWord::free(died).died()), (None, died));
            let word = PoolWord::new(PERMITS_MAX, died, 1023, 7);
            assert_eq!((word.free(), word.died(), word.mover(), word.number()), (PERMITS_MAX, died, 1023, 7));
            assert!(word.is_sound(PERMITS_MAX, 1024) && !word.is_sound(PERMITS_MAX - 1, 1024));
        }
        assert!(!LockWord(4).is_sound(9) && !LockWord(1 << 40).is_sound(9), "no version of ours wrote that");
        let word = CellWord::new(3, 2, MoveKind::Give, 9);
        assert_eq!((word.held(), word.moving(), word.kind(), word.number()), (3, 2, MoveKind::Give, 9));
        assert_eq!((word.held_after(), word.closed(1)), (Some(1), CellWord::new(1, 0, MoveKind::None, 9)));
        assert!(word.is_sound(3) && !word.is_sound(2));
        assert!(!CellWord::new(1, 2, MoveKind::Give, 9).is_sound(9), "more than it holds");
        assert!(
            !CellWord::new(1, 2, MoveKind::None, 9).is_sound(9)
                && !CellWord::new(5, 5, MoveKind::Take, 1).is_sound(9)
        );
    }
}
