//! The header of a record: what stands in front of every key and value.
//!
//! ```text
//! cache record (24 B header)                     record of a store, or of a cache with transactions (48 B header)
//!   0 id        u64  {seq of the chunk 44 | offset in it / 16 : 20} at its first writing; unique for ever
//!   8 value_len u32
//!  12 key_len   u16  0 = 65,536: no key is empty
//!  14 flags     u8   1 = tombstone (of a cache: a lease), 2 = moved by the cleaner (store only: the journal has it), 4 = stale, 8 = won,
//!                  16 = the user gave the id, 32 = a state of a transaction that took a place among entries
//!  15 expiry    u8   bits 32..40 of the expiry
//!  16 expiry    u32  bits 0..32; milliseconds of the table's clock, 0 = never
//!  20 client    u32  flags of the user
//!                                                 24 order u64  number of this state of its key
//!                                                 32 prev  u64  where the state before this one stands, 0 = none; that may be gone by now
//!                                                 40 stamp u64  when this state began to count, see the table's `stamp`
//!  key, filled up to 8 bytes with zeros; value; the record ends at a multiple of 16. Of a record that is marked as won the value is
//!  filled up to 8 bytes with zeros, and 8 bytes say who won it: {thread entry 16 | 0 | its generation 32}
//! ```
//! A relocated record keeps its id, so that a compare-and-swap does not fail because the cleaner moved the entry.

use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;
use crate::shm::{Block, Shm, Span, align8};

/// Bytes of the header of a cache record.
pub const HEADER_BYTES: u64 = 24;
/// Bytes of the header of a record of a store, or of a cache that transactions may change.
pub const EXTENDED_BYTES: u64 = 48;
/// Records begin at multiples of this: slots name them in this unit.
pub const RECORD_ALIGN: u64 = 16;
/// Expiries have 40 bits: 34 years of milliseconds.
pub const EXPIRY_MAX: u64 = (1 << 40) - 1;
/// Flag of a record that says that its key is gone.
pub const TOMBSTONE: u8 = 1;
/// Flag of a store's record that the cleaner moved: it does so only when the journal has it.
pub const RELOCATED: u8 = 2;
/// Mark of a cache's record: its value is out of date and may be shown until a new one is there.
pub const STALE: u8 = 4;
/// Mark of a cache's record: somebody was told to make a new value.
pub const WON: u8 = 8;
/// Mark of a cache's record: its id was given by the user, and says nothing about the chunk.
pub const GIVEN: u8 = 16;
/// Mark of a cache's record: it was put in place by a transaction and took a place among a limited number of entries then. It says
/// something as long as the transaction is not decided.
pub const PLACED: u8 = 32;
/// Bytes behind the value of a record that is marked as won: who won it.
pub const WINNER_BYTES: u64 = 8;
/// Flags that stay with an entry when something else about it changes.
pub const MARKS: u8 = STALE | WON;

/// Field offsets within a record.
pub mod at {
    pub const ID: usize = 0;
    pub const LENGTHS: usize = 8;
    pub const EXPIRY: usize = 16;
    pub const ORDER: usize = 24;
    pub const PREV: usize = 32;
    pub const STAMP: usize = 40;
}

/// The fields of a header, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Unique for ever; the public version.
    pub id: u64,
    pub value_len: u32,
    /// Bytes of the key, 1 to 65,536; 0 only in an answer that there is no such entry.
    pub key_len: u32,
    pub flags: u8,
    /// Instant on the table's clock in milliseconds, 0 = never.
    pub expiry: u64,
    /// Flags of the user.
    pub client: u32,
}

impl Head {
    #[inline]
    pub fn lengths_word(&self) -> u64 {
        self.value_len as u64
            // 65,536 has no bit left in this field: it is written as 0.
            | (self.key_len as u16 as u64) << 32
            | (self.flags as u64) << 48
            | (self.expiry >> 32 & 0xff) << 56
    }

    #[inline]
    pub fn expiry_word(&self) -> u64 {
        self.expiry & 0xffff_ffff | (self.client as u64) << 32
    }

    /// Reads the header of a record once. The id is loaded first.
    #[inline]
    pub fn read(block: Block<'_, { HEADER_BYTES as usize }>) -> Head {
        // ORDER Acquire [record-id]: the fields below are at least as new as the id; pairs with the store in `append`.
        let id = block.u64::<{ at::ID }>().load(Ordering::Acquire);
        // ORDER Relaxed: checked again by the caller after an acquire fence.
        let lengths = block.u64::<{ at::LENGTHS }>().load(Ordering::Relaxed);
        let expiry = block.u64::<{ at::EXPIRY }>().load(Ordering::Relaxed);
        Head {
            id,
            value_len: lengths as u32,
            key_len: u32::from(((lengths >> 32) as u16).wrapping_sub(1)) + 1,
            flags: (lengths >> 48) as u8,
            expiry: (expiry & 0xffff_ffff) | (lengths >> 56) << 32,
            client: (expiry >> 32) as u32,
        }
    }

    /// Bytes of the whole record.
    #[inline]
    pub fn bytes(&self, header: u64) -> u64 {
        let value = match self.is_won() {
            true => align8(self.value_len as u64) + WINNER_BYTES,
            false => self.value_len as u64,
        };
        record_bytes(header, self.key_len as u64, value)
    }

    /// Whether somebody was told to make a new value: his name stands behind the value.
    #[inline]
    pub fn is_won(&self) -> bool {
        self.flags & WON != 0
    }

    /// Whether the record says that its key is gone.
    #[inline]
    pub fn is_tombstone(&self) -> bool {
        self.flags & TOMBSTONE != 0
    }
}

/// Bytes that a record takes in its chunk.
#[inline]
pub const fn record_bytes(header: u64, key_len: u64, value_len: u64) -> u64 {
    (header + align8(key_len) + value_len + (RECORD_ALIGN - 1)) & !(RECORD_ALIGN - 1)
}

/// Reads the header at an absolute offset, checked.
#[inline]
pub fn head_at(shm: &Shm, offset: u64) -> Result<Head> {
    Ok(Head::read(shm.block(offset)?))
}

/// The key of a record as a span.
#[inline]
pub fn key_span<'a>(shm: &'a Shm, offset: u64, header: u64, head: &Head) -> Result<Span<'a>> {
    shm.span(offset + header, head.key_len as u64)
}

/// The value of a record as a span.
#[inline]
pub fn value_span<'a>(shm: &'a Shm, offset: u64, header: u64, head: &Head) -> Result<Span<'a>> {
    shm.span(offset + header + align8(head.key_len as u64), head.value_len as u64)
}

/// Who won a record that is marked so.
pub fn winner_span<'a>(shm: &'a Shm, offset: u64, header: u64, head: &Head) -> Result<Span<'a>> {
    let value = align8(head.value_len as u64);
    shm.span(offset + header + align8(head.key_len as u64) + value, WINNER_BYTES)
}

#[cold]
pub(super) fn damaged(offset: u64, head: &Head) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!(
            "The record at {offset} claims a key of {} and a value of {} bytes, which leaves its chunk.",
            head.key_len, head.value_len
        ),
    )
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_back_its_fields() {
        let shm = Shm::heap(4096).unwrap();
        let head = Head {
            id: 77,
            value_len: 0xdead_beef,
            key_len: 4096,
            flags: TOMBSTONE,
            expiry: EXPIRY_MAX - 5,
            client: 0x1234_5678,
        };
        let block = shm.block::<24>(16).unwrap();
        block.u64::<0>().store(head.id, Ordering::Relaxed);
        block.u64::<8>().store(head.lengths_word(), Ordering::Relaxed);
        block.u64::<16>().store(head.expiry_word(), Ordering::Relaxed);
        assert_eq!(head_at(&shm, 16).unwrap(), head);
        assert!(head_at(&shm, 4096 - 16).is_err());
        assert!(head.is_tombstone());
    }

    #[test]
    fn records_end_at_multiples_of_16_and_hold_their_parts() {
        for key in 1..40 {
            for value in 0..40 {
                let bytes = record_bytes(HEADER_BYTES, key, value);
                assert!(bytes.is_multiple_of(16));
                assert!(
                    bytes >= HEADER_BYTES + align8(key) + value
                        && bytes < HEADER_BYTES + align8(key) + value + 16
                );
            }
        }
    }
}
