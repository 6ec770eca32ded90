//! What users of caches and stores see of an entry.

/// The version of an entry, and the token of compare-and-swap: no other state of any entry in the same fabric ever has it.
/// A store that is recovered into a new fabric gives its entries new versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// An entry with what stands beside its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub version: Version,
    /// Flags of the user, kept and not looked at.
    pub flags: u32,
    /// Milliseconds left to live; `None` = for ever.
    pub ttl_ms: Option<u64>,
}

/// What may be said with a new value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// Milliseconds to live; `None` = for ever.
    pub ttl_ms: Option<u64>,
    /// Flags of the user, kept and not looked at.
    pub flags: u32,
}

/// What a compare-and-swap found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CasOutcome {
    /// The version was right: this is the new one.
    Stored(Version),
    /// The entry has this version by now.
    Stale(Version),
    /// There is no such entry.
    NotFound,
}

/// What a conditional deletion found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The version was right: the entry is gone.
    Deleted,
    /// The entry has this version by now.
    Stale(Version),
    /// There is no such entry.
    NotFound,
}

/// Bytes from which fresh memory is taken zeroed: pages that the system zeroes as they are touched need no zeroing before.
const LONG: usize = 128 << 10;

/// Makes a buffer as long as a value that is about to be copied into it.
#[inline]
pub fn set_len(value: &mut Vec<u8>, len: usize) {
    if len >= LONG && value.capacity() < len {
        *value = vec![0; len];
    } else {
        value.clear();
        value.resize(len, 0);
    }
}
