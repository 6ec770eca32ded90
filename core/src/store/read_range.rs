//! A range that a transaction has read, and the proof at its commit that nothing came into it.
//!
//! A key enters the tree before its entry is there. So whoever looks behind the beginning of the proof and does not find a
//! key in the tree comes before its entry.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::name::Name;
use super::transaction::BEAT;
use crate::chunk::Actor;
use crate::error::Result;
use crate::table::{Begun, Cursor, Direction, Keys, Sighting, Table};

/// A range, and the floor of the table before it was read.
pub struct ReadRange {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    floor: u64,
}

impl ReadRange {
    /// The range between two bounds.
    pub fn new(from: Bound<&[u8]>, to: Bound<&[u8]>, floor: u64) -> ReadRange {
        ReadRange { from: from.map(<[u8]>::to_vec), to: to.map(<[u8]>::to_vec), floor }
    }

    /// Whether no key came into it but what the transaction itself puts there. What was read of it is among `reads`, which are
    /// proved for themselves.
    pub fn is_unchanged(
        &self,
        table: &Table,
        me: Actor<'_>,
        begun: &Begun,
        reads: &BTreeMap<Name, Sighting>,
    ) -> Result<bool> {
        let bounds = (self.from.as_ref().map(Vec::as_slice), self.to.as_ref().map(Vec::as_slice));
        let mut cursor = Cursor::new(Direction::Forward, bounds.0, bounds.1);
        let (mut keys, mut looked) = (Keys::default(), 0usize);
        while table.next_keys(&mut cursor, &mut keys, None)? {
            for key in keys.iter() {
                looked += 1;
                if looked.is_multiple_of(BEAT) {
                    table.beat(me);
                }
                if !reads.contains_key(key) && !table.is_untouched(me, begun, key)? {
                    return Ok(false);
                }
            }
        }
        // What came and left again since moved the floor.
        Ok(table.floor_now() == self.floor)
    }
}
