//! Entries of the process table and of the thread table.
//!
//! ```text
//! process entry, 128 B                    thread entry, 512 B
//!  0  state {generation 32 | 0 | kind 8}    0  pins[8] u32              written by the owner on hot paths
//!  8  pid u32, uid u32                     32  snapshot u64             reserved for snapshots
//! 16  attached, ms since boot              64  open[8] u64              chunks open for appending, private
//! 24  PID namespace (inode)               128  state {generation 32 | process 12 | kind 8}
//! 32  command, 32 bytes                   136  tid u32, 140 has life word u32
//! 64  reserved                            144  attached, ms since boot
//!                                         152  writes u32               1 once it did more than read
//!                                         192  decision u64             of the transaction under way, see the table
//!                                         200  number u64               transactions begun, private
//!                                         208  first u64                number of the first chunk that may hold states of it
//!                                         216  object u64               the store that it is in
//!                                         256  counters[32] u64         reserved for statistics
//! ```
//! Thread entry 0 is nobody's, so that 0 can mean none. Its first word is one more than the highest entry ever claimed.

use crate::shm::atomic::{AtomicU64, Ordering};

/// Bytes of a process entry.
pub const PROCESS_BYTES: usize = 128;
/// Bytes of a thread entry.
pub const THREAD_BYTES: usize = 512;

/// Fields of a process entry.
pub mod process {
    pub const STATE: usize = 0;
    pub const PID: usize = 8;
    pub const UID: usize = 12;
    pub const ATTACHED_MS: usize = 16;
    pub const NAMESPACE: usize = 24;
    pub const COMMAND: usize = 32;
    pub const COMMAND_BYTES: usize = 32;
}

/// Fields of a thread entry.
pub mod thread {
    pub const PINS: usize = 0;
    pub const OPEN: usize = 64;
    pub const STATE: usize = 128;
    pub const TID: usize = 136;
    pub const HAS_LIFE: usize = 140;
    pub const ATTACHED_MS: usize = 144;
    pub const WRITES: usize = 152;
    pub const TRANSACTION: usize = 192;
    pub const TRANSACTION_BYTES: usize = 32;
    /// In entry 0, which is nobody's.
    pub const CLAIMED: usize = 0;
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    PROCESS_BYTES as u64,
    THREAD_BYTES as u64,
    process::NAMESPACE as u64,
    thread::PINS as u64,
    thread::OPEN as u64,
    thread::STATE as u64,
    thread::TID as u64,
    thread::HAS_LIFE as u64,
    thread::CLAIMED as u64,
    thread::WRITES as u64,
    thread::TRANSACTION as u64,
    Kind::Holder as u64,
];

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nobody's.
    Free = 0,
    /// Claimed; the holder is still setting it up.
    Attaching = 1,
    /// In use.
    Live = 2,
    /// A thread whose attachment was closed by another thread: it owns nothing any more, but still holds its life word.
    Lingering = 3,
    /// No thread's: its pins keep the chunks of the views of a process.
    Holder = 4,
}

/// The state word of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u64);

impl State {
    pub const fn new(kind: Kind, process: u32, generation: u32) -> State {
        State(kind as u64 | ((process as u64 & 0xfff) << 8) | ((generation as u64) << 32))
    }

    /// `None` for a number that no version of ours wrote.
    pub const fn kind(self) -> Option<Kind> {
        match self.0 as u8 {
            0 => Some(Kind::Free),
            1 => Some(Kind::Attaching),
            2 => Some(Kind::Live),
            3 => Some(Kind::Lingering),
            4 => Some(Kind::Holder),
            _ => None,
        }
    }

    /// The process entry of a thread.
    pub const fn process(self) -> u32 {
        (self.0 >> 8) as u32 & 0xfff
    }

    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The word of the freed entry: the next holder has another generation.
    pub const fn freed(self) -> State {
        State::new(Kind::Free, 0, self.generation().wrapping_add(1))
    }

    pub fn load(word: &AtomicU64) -> State {
        // ORDER Acquire [registry-state]: what the holder wrote before it changed the state is seen.
        State(word.load(Ordering::Acquire))
    }

    /// One change of an entry; false if somebody else was first.
    pub fn change(word: &AtomicU64, from: State, to: State) -> bool {
        // ORDER AcqRel [registry-state]: hands over the entry with all that was written to it.
        word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

const _: () = assert!(thread::OPEN + 64 <= thread::STATE && thread::ATTACHED_MS + 8 <= THREAD_BYTES);
const _: () = assert!(process::COMMAND + process::COMMAND_BYTES <= PROCESS_BYTES);
