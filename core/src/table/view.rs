//! Reading without a copy: the chunk of the record is held while its bytes are looked at.
//!
//! Holding is announced where others copy the value, so the look that follows every copy, whether the slot still names the
//! record, is the second look of a pin: the record was linked after the pin could be seen, so its chunk is not reused before
//! the pin is gone.

use super::Table;
use crate::chunk::ChunkId;
use crate::chunk::record::Head;
use crate::error::Result;
use crate::shm::{Viewed, align8};

impl Table {
    /// Finds the record of `key` and holds its chunk. `hold` announces a chunk; what it answers lets go when it is dropped.
    /// With `None` the value is copied. It may be called several times. Counted as [`Table::read_for`] does.
    pub fn view<H>(
        &self,
        reader: u16,
        key: &[u8],
        mut hold: impl FnMut(ChunkId) -> Result<Option<H>>,
    ) -> Result<Option<(Head, Viewed, Option<H>)>> {
        let mut seen = None;
        let head = self.read_for(reader, key, |head, value| {
            // What an attempt before this one held is let go first.
            seen = None;
            let record = value.offset().saturating_sub(self.header + align8(key.len() as u64));
            let chunk = self.pool.geometry().chunk_of(record);
            let len = head.value_len as usize;
            let held = if len == 0 { None } else { chunk.map_or(Ok(None), &mut hold)? };
            let bytes = if held.is_some() {
                Viewed::shared(&self.shm, value.offset(), len as u64)?
            } else {
                let mut copy = vec![0; len];
                value.copy_out(0, &mut copy)?;
                Viewed::copied(copy)
            };
            seen = Some((bytes, held));
            Ok(())
        })?;
        Ok(head.and_then(|head| seen.map(|(bytes, held)| (head, bytes, held))))
    }
}
