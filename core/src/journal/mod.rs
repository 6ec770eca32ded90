//! The journal: write-ahead log files in a directory, the leader who writes them, and reading them back.
//!
//! # What stands in the files
//! A persistent log fills the same batches with its messages, of which each stands at a position that never changes; what follows is
//! of a store. Its files hold not operations but **states**: a record says "this key had this value, and this is state number `order` of the key".
//! A flush draws its number (`epoch`), then looks at every key that changed and writes the state that is current *at that
//! moment*. Of all states of a key the highest `order` wins at replay, in whatever order files and batches are read. So
//! writing something twice is harmless, and so is a leader who was stopped, deposed, and writes on when it wakes.
//!
//! # Who writes
//! The leader: a word with a term ([`leader`]). Whoever needs durability and finds nobody leading leads one flush for all
//! who wait (`sync`). A new term begins a new file.
//!
//! # What counts as durable
//! What stood in a file that was synced *and* whose writer then still led. A failed sync poisons the journal for good.
//!
//! | file | holds |
//! |---|---|
//! | `layout`, `lsn` | every byte of the files |
//! | `control` | the shared words |
//! | `files` | the trait of all file calls, and the real ones |
//! | `leader` | who writes: claim, beat, deposition |
//! | `append` | batches, rolling to the next file |
//! | `sync` | group commit |
//! | `checkpoint` | checkpoint files, removal of what is obsolete |
//! | `manifest` | which checkpoints count, and from where on the journal is needed |
//! | `follow` | reading flush by flush, as they come |
//! | `replay` | reading back, torn ends, corruption |
//! | `feed` | how much is kept of what checkpoints need no more |
//! | `directory` | identity of a directory, exclusion of a second fabric |
//! | `backup` | backups as directories and streams |
//! | `tail` | what was written since some moment, read while others write |
//! | `salvage` | what can be read of damaged files, and what cannot |
//! | `check` | verifies the files without a fabric |
//! | `history` | verifies what is kept for the feed only |
//! | `durability` | what a user asks for |
//! | `ticker` | the thread that flushes |

pub mod append;
pub mod backup;
pub mod check;
pub mod checkpoint;
pub mod control;
pub mod directory;
pub mod durability;
pub mod feed;
pub mod files;
pub mod follow;
#[cfg(all(test, not(memora_loom)))]
mod follow_tests;
pub mod history;
pub mod layout;
pub mod leader;
pub mod lsn;
pub mod manifest;
pub mod replay;
pub mod salvage;
#[cfg(all(test, not(memora_loom)))]
pub mod sim;
pub mod sync;
pub mod tail;
#[cfg(all(test, not(memora_loom)))]
mod tests;
pub mod ticker;

pub use append::{Batches, Journal};
pub use control::{Control, Health};
pub use durability::Durability;
pub use files::{FileLayer, RealFiles};
pub use layout::{Entry, Owner, Record};
pub use lsn::Lsn;
pub use sync::{Caller, Source};
