//! The manifest: which checkpoints count, and where the journal begins that must be replayed over them.
//!
//! A store is divided into shards, each with checkpoint files of its own: a row says where those of one shard are, and from which place
//! on the journal is needed besides them. Which shard a key belongs to is nobody's business here: replay takes all files
//! and lets the newest state win. A row only has to say which *map* it is of: all rows of one map together hold everything.
//!
//! **What the rows promise.** Everything that was flushed in front of the `first` of a row, and was in its shard then, is in its files, or
//! something newer is there or in the journal from `first` on. So the rows of one whole map, and the journal from the lowest
//! `first` of *all* rows on, are the store. All rows, also those of another map: what was deleted since a row was made
//! comes back from the files of the row unless the journal has the deletion.
//!
//! ```text
//!  0 magic 8 | 8 version 4 | 12 seal of 8..12 and 16.. 4 | 16 store 16 | 32 term 4 | 36 rows 4 | 40 shards 4 | 44 zeros 4
//! 48 number 8 | 56 first lsn 8 | 64 first epoch 8 | 72 last epoch 8 | 80 order floor 8 | 88 wall ms 8 | 96 zeros up to 128
//! 128 rows of 64:  0 map 8 | 8 shards of the map 4 | 12 shard 4 | 16 term 4 | 20 part 4 | 24 parts 4 | 28 zeros 4
//!                 32 first lsn 8 | 40 first epoch 8 | 48 bytes 8 | 56 records 8
//! ```

use super::layout::{FORMAT_VERSION, FileName, Refused, check_seal, put32, put64, seal, u32_at, u64_at};
use super::lsn::Lsn;

const MAGIC: u64 = u64::from_le_bytes(*b"MEMORAM1");
/// Bytes in front of the rows.
pub const MANIFEST_HEAD_LEN: usize = 128;
/// Bytes of a row.
pub const ROW_LEN: usize = 64;
/// Shards of a store at most.
pub const SHARDS_MAX: u32 = 64;
/// Rows at most: a whole map, and one that is being made.
pub const ROWS_MAX: usize = 2 * SHARDS_MAX as usize;
/// Bytes at most.
pub const MANIFEST_LEN_MAX: usize = manifest_len(ROWS_MAX);
/// The map of files that hold everything in one row.
pub const MAP_OF_ONE: u64 = 0;

/// Bytes of a manifest with so many rows.
pub const fn manifest_len(rows: usize) -> usize {
    MANIFEST_HEAD_LEN + rows * ROW_LEN
}

/// The checkpoint of one shard: its files are `checkpoint.<term>.<part>`, as many as `parts`, from `part` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which way of dividing the store it belongs to; another number for each.
    pub map: u64,
    /// How many shards that has.
    pub shards: u32,
    pub shard: u32,
    pub term: u32,
    pub part: u32,
    pub parts: u32,
    /// The journal is needed from here on.
    pub first: Lsn,
    /// Flushes with lower numbers were complete before the checkpoint looked at anything.
    pub first_epoch: u64,
    /// Bytes of all parts, each up to the end of its last batch.
    pub bytes: u64,
    pub records: u64,
}

impl Row {
    /// Names of its files.
    pub fn files(self) -> impl Iterator<Item = FileName> {
        (0..self.parts).map(move |part| FileName::Checkpoint { term: self.term, part: self.part + part })
    }

    /// Whether a file is one of its own.
    pub fn names(&self, term: u32, part: u32) -> bool {
        term == self.term && part >= self.part && part - self.part < self.parts
    }

    fn encode(&self, bytes: &mut [u8]) {
        put64(bytes, 0, self.map);
        let words = [self.shards, self.shard, self.term, self.part, self.parts];
        for (index, word) in words.into_iter().enumerate() {
            put32(bytes, 8 + index * 4, word);
        }
        let words = [self.first.0, self.first_epoch, self.bytes, self.records];
        for (index, word) in words.into_iter().enumerate() {
            put64(bytes, 32 + index * 8, word);
        }
    }

    fn decode(bytes: &[u8]) -> Option<Row> {
        let row = Row {
            map: u64_at(bytes, 0),
            shards: u32_at(bytes, 8),
            shard: u32_at(bytes, 12),
            term: u32_at(bytes, 16),
            part: u32_at(bytes, 20),
            parts: u32_at(bytes, 24),
            first: Lsn(u64_at(bytes, 32)),
            first_epoch: u64_at(bytes, 40),
            bytes: u64_at(bytes, 48),
            records: u64_at(bytes, 56),
        };
        let possible = row.shard < row.shards
            && row.shards <= SHARDS_MAX
            && row.term <= Lsn::PART_MAX
            && row.part <= Lsn::PART_MAX
            && row.parts <= Lsn::PART_MAX + 1 - row.part;
        possible.then_some(row)
    }
}

/// Whether all shards of a map have a row.
fn is_whole(rows: &[Row], map: u64) -> bool {
    let mut of = rows.iter().filter(|row| row.map == map);
    let Some(first) = of.next() else { return false };
    1 + of.count() == first.shards as usize
}

/// The rows when one more checkpoint counts: it replaces the one of its shard. Those of another map go when its own is whole; until then one whole
/// map stays, and what an unfinished one had that came in between goes: its keys are in the whole one and the journal.
pub fn rows_with(before: &[Row], row: Row) -> Vec<Row> {
    let mut rows: Vec<Row> =
        before.iter().filter(|other| (other.map, other.shard) != (row.map, row.shard)).copied().collect();
    rows.push(row);
    let whole = match is_whole(&rows, row.map) {
        true => None,
        false => rows.iter().map(|row| row.map).find(|map| is_whole(&rows, *map)),
    };
    rows.retain(|other| other.map == row.map || Some(other.map) == whole);
    rows
}

/// Which checkpoints count and where the journal begins that must be replayed over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub store: [u8; 16],
    /// In its name. Of several manifests the one with the highest counts.
    pub term: u32,
    /// How many shards the store is divided into from now on; 0: whoever reads the files says.
    pub shards: u32,
    /// Manifests of this store so far.
    pub number: u64,
    /// Batches of earlier epochs are contained in the checkpoints and do not count.
    pub first_epoch: u64,
    /// Durable epoch when the last checkpoint was complete.
    pub last_epoch: u64,
    /// Earlier journal files do not count.
    pub first: Lsn,
    /// No state of a key that is gone from the files has a higher order.
    pub order_floor: u64,
    pub wall_ms: u64,
    pub rows: Vec<Row>,
}

impl Manifest {
    /// A manifest with these rows, of the term of the last one. What else it says is 0.
    pub fn new(store: [u8; 16], rows: Vec<Row>) -> Manifest {
        let any_whole = rows.iter().any(|row| is_whole(&rows, row.map));
        // Without a whole map all of the journal is needed.
        let needed = |least: Option<u64>| least.filter(|_| any_whole).unwrap_or(0);
        Manifest {
            store,
            term: rows.last().map_or(0, |row| row.term),
            shards: 0,
            number: 0,
            first_epoch: needed(rows.iter().map(|row| row.first_epoch).min()),
            last_epoch: 0,
            first: Lsn(needed(rows.iter().map(|row| row.first.0).min())),
            order_floor: 0,
            wall_ms: 0,
            rows,
        }
    }

    /// One checkpoint that holds everything: its parts, bytes and records.
    pub fn of_one(
        store: [u8; 16],
        term: u32,
        (parts, bytes, records): (u32, u64, u64),
        first: Lsn,
        first_epoch: u64,
    ) -> Manifest {
        let (map, shards, shard, part) = (MAP_OF_ONE, 1, 0, 0);
        let row = Row { map, shards, shard, term, part, parts, first, first_epoch, bytes, records };
        Manifest::new(store, vec![row])
    }

    /// Bytes and records of all its files.
    pub fn size(&self) -> (u64, u64) {
        self.rows.iter().fold((0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.records))
    }

    /// Bytes of what is live, as the checkpoints of a whole map say.
    pub fn live_bytes(&self) -> u64 {
        let whole = self.rows.iter().map(|row| row.map).find(|map| is_whole(&self.rows, *map));
        self.rows.iter().filter(|row| Some(row.map) == whole).map(|row| row.bytes).sum()
    }

    /// Whether every shard of this map has a row, and no other map has any.
    pub fn is_of_map(&self, map: u64) -> bool {
        is_whole(&self.rows, map) && self.rows.iter().all(|row| row.map == map)
    }

    /// Whether it has rows of several maps.
    pub fn is_mixed(&self) -> bool {
        self.rows.iter().any(|row| row.map != self.rows[0].map)
    }

    /// Whether a checkpoint file counts.
    pub fn names(&self, term: u32, part: u32) -> bool {
        self.rows.iter().any(|row| row.names(term, part))
    }

    /// The first part of a term that no checkpoint that was complete before can have.
    pub fn next_part(&self, term: u32) -> u32 {
        if term != self.term {
            return 0;
        }
        let of_term = self.rows.iter().filter(|row| row.term == term);
        of_term.map(|row| row.part + row.parts).max().unwrap_or(0)
    }

    /// Whether a checkpoint file that does not count is of before: others may be in the making.
    pub fn is_past(&self, term: u32, part: u32) -> bool {
        !self.names(term, part) && (term < self.term || (term == self.term && part < self.next_part(term)))
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; manifest_len(self.rows.len())];
        put64(&mut bytes, 0, MAGIC);
        put32(&mut bytes, 8, FORMAT_VERSION);
        bytes[16..32].copy_from_slice(&self.store);
        put32(&mut bytes, 32, self.term);
        put32(&mut bytes, 36, self.rows.len() as u32);
        put32(&mut bytes, 40, self.shards);
        let words =
            [self.number, self.first.0, self.first_epoch, self.last_epoch, self.order_floor, self.wall_ms];
        for (index, word) in words.into_iter().enumerate() {
            put64(&mut bytes, 48 + index * 8, word);
        }
        for (row, into) in self.rows.iter().zip(bytes[MANIFEST_HEAD_LEN..].chunks_exact_mut(ROW_LEN)) {
            row.encode(into);
        }
        let crc = seal(&bytes);
        put32(&mut bytes, 12, crc);
        bytes
    }

    /// Reads a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Refused> {
        check_seal(bytes, bytes.len().max(MANIFEST_HEAD_LEN), MAGIC)?;
        let count = u32_at(bytes, 36) as usize;
        if count > ROWS_MAX || bytes.len() != manifest_len(count) {
            return Err(Refused::Damaged);
        }
        let rows: Option<Vec<Row>> =
            bytes[MANIFEST_HEAD_LEN..].chunks_exact(ROW_LEN).map(Row::decode).collect();
        Ok(Manifest {
            store: bytes[16..32].try_into().expect("sixteen bytes"),
            term: u32_at(bytes, 32),
            shards: u32_at(bytes, 40),
            number: u64_at(bytes, 48),
            first: Lsn(u64_at(bytes, 56)),
            first_epoch: u64_at(bytes, 64),
            last_epoch: u64_at(bytes, 72),
            order_floor: u64_at(bytes, 80),
            wall_ms: u64_at(bytes, 88),
            rows: rows.ok_or(Refused::Damaged)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(map: u64, shards: u32, shard: u32, term: u32, first: u32) -> Row {
        let first = Lsn::new(1, first, 8);
        let (part, parts) = (3 * shard, 2);
        Row { map, shards, shard, term, part, parts, first, first_epoch: 5, bytes: 100, records: 7 }
    }

    #[test]
    fn the_journal_is_needed_from_the_lowest_place_of_all_rows_and_from_its_beginning_until_a_map_is_whole() {
        let mut rows = rows_with(&[], row(8, 2, 1, 1, 4));
        assert_eq!(Manifest::new([0; 16], rows.clone()).first, Lsn::NONE);
        rows = rows_with(&rows, row(8, 2, 0, 2, 5));
        assert_eq!(Manifest::new([0; 16], rows.clone()).first, Lsn::new(1, 4, 8));
        rows = rows_with(&rows, row(8, 2, 1, 3, 6));
        assert_eq!((rows.len(), Manifest::new([0; 16], rows.clone()).first), (2, Lsn::new(1, 5, 8)));
        // Another number: the old rows hold the journal until the new ones are all there.
        for (shard, first, expected) in [(0, 7, 5), (2, 8, 5), (1, 9, 7)] {
            rows = rows_with(&rows, row(9, 3, shard, 4, first));
            assert_eq!(Manifest::new([0; 16], rows.clone()).first, Lsn::new(1, expected, 8));
        }
        assert!(rows.len() == 3 && rows.iter().all(|row| row.map == 9));
    }

    #[test]
    fn of_unfinished_maps_only_the_one_in_the_making_stays() {
        let mut rows = Vec::new();
        for shard in 0..SHARDS_MAX {
            rows = rows_with(&rows, row(1, SHARDS_MAX, shard, 1, 1));
        }
        for map in 2..50 {
            for shard in 0..SHARDS_MAX - 1 {
                rows = rows_with(&rows, row(map, SHARDS_MAX, shard, 2, 9));
                assert!(rows.len() < ROWS_MAX && rows.iter().all(|row| [1, map].contains(&row.map)));
            }
            assert_eq!(Manifest::new([0; 16], rows.clone()).first, Lsn::new(1, 1, 8));
        }
        let manifest = Manifest::new([0; 16], rows);
        assert!(manifest.is_mixed() && !manifest.is_of_map(49) && manifest.live_bytes() == 6400);
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn files_in_the_making_are_neither_named_nor_past() {
        let rows = vec![row(1, 2, 0, 4, 1), row(1, 2, 1, 5, 1)];
        let manifest = Manifest::new([0; 16], rows);
        let of = |term, part| (manifest.names(term, part), manifest.is_past(term, part));
        assert_eq!((of(4, 1), of(5, 3), of(5, 4)), ((true, false), (true, false), (true, false)));
        assert_eq!((of(4, 2), of(3, 0), of(5, 0)), ((false, true), (false, true), (false, true)));
        assert_eq!((of(5, 5), of(6, 0)), ((false, false), (false, false)));
        assert_eq!((manifest.next_part(5), manifest.next_part(6)), (5, 0));
    }

    #[test]
    fn a_row_that_cannot_be_is_refused() {
        for wrong in [
            row(1, 2, 2, 1, 1),
            row(1, SHARDS_MAX + 1, 0, 1, 1),
            Row { parts: 5, part: Lsn::PART_MAX, ..row(1, 1, 0, 1, 1) },
            Row { parts: u32::MAX, ..row(1, 1, 0, 1, 1) },
        ] {
            let bytes = Manifest { rows: vec![wrong], ..Manifest::new([0; 16], Vec::new()) }.encode();
            assert_eq!(Manifest::decode(&bytes), Err(Refused::Damaged), "{wrong:?}");
        }
        let bytes = Manifest::new([0; 16], vec![row(1, 1, 0, 1, 1)]).encode();
        assert_eq!(Manifest::decode(&bytes[..bytes.len() - ROW_LEN]), Err(Refused::Damaged));
    }
}
