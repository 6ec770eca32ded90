//! What an update sees, what it may do, and what it did.

use super::lease::Owner;
use crate::chunk::record::Head;
use crate::shm::Span;

/// The entry as an update finds it: neither expired nor deleted.
pub struct Current<'a> {
    pub head: Head,
    /// Its value. What is copied from it may be torn; then the update does not take effect and is asked again.
    pub value: Span<'a>,
    /// Who was told to make a new one, if somebody was.
    pub winner: Option<Owner>,
}

/// The bytes of a new value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    Bytes(&'v [u8]),
    /// A counter, written in decimal.
    Number(u64),
    /// A counter with a sign, written in decimal.
    Signed(i64),
    /// The bytes that are there, and these behind them. Of an entry that is not there: these alone.
    Append(&'v [u8]),
    /// These bytes, and behind them those that are there. Of an entry that is not there: these alone.
    Prepend(&'v [u8]),
}

/// What shall become of the entry.
#[derive(Clone, Copy, Debug)]
pub enum Action<'v> {
    /// Nothing.
    Keep,
    /// A new value.
    Put(Update<'v>),
    /// The same value and the same flags of the user, with something else beside it. Nothing, where there is no entry.
    Revise(Revision),
    /// A lease that names its owner, in place of no entry; see [`super::lease`].
    Lease(&'v [u8]),
    /// Gone.
    Remove,
    /// Gone by a record that says so, also where nothing is: so that nothing comes there before its transaction is decided.
    Bury,
}

/// A new value with what stands beside it.
#[derive(Clone, Copy, Debug)]
pub struct Update<'v> {
    pub value: Value<'v>,
    /// Instant on the table's clock, 0 for never.
    pub expiry: u64,
    /// Flags of the user.
    pub client: u32,
    /// Marks of the record: `STALE` and `WON` of `chunk::record`, which a new value usually has not.
    pub marks: u8,
    /// The id that the user wants it to have; 0 for one of its own.
    pub id: u64,
}

/// What changes about an entry whose value stays.
#[derive(Clone, Copy, Debug)]
pub struct Revision {
    /// Instant on the table's clock, 0 for never.
    pub expiry: u64,
    /// Marks of the record.
    pub marks: u8,
    /// Which version it has then.
    pub id: Id,
    /// With the mark [`record::WON`]: the caller is the one who won, also where it was somebody else before.
    pub win: bool,
}

/// The version of an entry whose value stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// The one it has. Entries of a store get a new one nevertheless.
    Keep,
    /// A new one, so that compare-and-swaps which were prepared before fail.
    New,
    /// This one.
    Given(u64),
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Id of the new record: the entry's version from now on; 0 if it was kept or removed without a record.
    pub id: u64,
    /// Where the new record stands, 0 if there is none.
    pub offset: u64,
    /// Whether anything was changed.
    pub changed: bool,
}

impl Changed {
    pub(super) const NOTHING: Changed = Changed { id: 0, offset: 0, changed: false };
}

/// A record that shall be put as it was when it was journaled.
#[derive(Clone, Copy, Debug)]
pub struct Restored<'v> {
    /// `None` for a tombstone.
    pub value: Option<&'v [u8]>,
    pub order: u64,
    pub expiry: u64,
    pub client: u32,
}
