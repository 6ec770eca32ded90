//! The header of a segment and the places of its tables.
//!
//! ```text
//! 0        header, 4 KiB
//! +        process table   process_count x 128 B      all tables are reserved at creation
//! +        thread table    thread_count  x 512 B
//! +        chunk table     chunk_count   x 128 B
//! +        directory       directory_cells x 8 B
//! +        life pages      thread_count / 3 pages     reserved when a thread attaches
//! +        arena           chunk_count x chunk_bytes  reserved when a chunk is first used
//! ```
//! Little endian, offsets in bytes from the base. Bytes 0 to 176 of the header never change after publication and are
//! covered by the checksum at 176; an attaching process copies them to private memory, checks them and never reads them
//! again.

use crate::error::{Error, ErrorCode, Result};
use crate::limits::{FABRIC_LIMIT_MAX, FABRIC_LIMIT_MIN, PROCESS_COUNT_MAX, THREAD_COUNT_MAX};
use crate::shm::PAGE;
use crate::shm::life::WORDS_PER_PAGE;

/// `MEMORA` and two bytes that no text has.
pub const MAGIC: u64 = u64::from_le_bytes(*b"MEMORA\x00\xfa");
/// Counts incompatible changes of any layout.
pub const LAYOUT_VERSION: u32 = 1;
/// Reads differently on a machine of the other byte order.
pub const BYTE_ORDER: u32 = 0x0102_0304;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 4096;
/// Bytes covered by the checksum.
pub const SEALED_BYTES: usize = 176;

/// Fields of the header, as byte offsets.
pub mod at {
    pub const MAGIC: usize = 0;
    pub const LAYOUT_VERSION: usize = 8;
    pub const BYTE_ORDER: usize = 12;
    pub const LAYOUT_HASH: usize = 16;
    pub const FEATURES: usize = 24;
    pub const UUID: usize = 32;
    pub const BOOT_ID: usize = 48;
    pub const HASH_SEED: usize = 64;
    pub const LIMIT: usize = 72;
    pub const CHUNK_BYTES: usize = 80;
    pub const CHUNK_COUNT: usize = 88;
    pub const PROCESS_COUNT: usize = 92;
    pub const THREAD_COUNT: usize = 96;
    pub const DIRECTORY_CELLS: usize = 100;
    pub const PROCESS_OFFSET: usize = 104;
    pub const THREAD_OFFSET: usize = 112;
    pub const CHUNK_TABLE_OFFSET: usize = 120;
    pub const DIRECTORY_OFFSET: usize = 128;
    pub const LIFE_OFFSET: usize = 136;
    pub const ARENA_OFFSET: usize = 144;
    pub const CREATED_MS: usize = 152;
    pub const CREATOR_UID: usize = 160;
    pub const CREATOR_MODE: usize = 164;
    /// CRC32C of bytes 0 to 176, in the low half.
    pub const SEAL: usize = 176;
    /// The boot in which the segment was last attached: two words, changed when a kept file meets a new boot.
    pub const LAST_BOOT: usize = 192;
    /// Threads reaped so far: whoever keeps derived counts recounts when it changes.
    pub const REAPED: usize = 208;
}

/// Bytes of an entry of the process table.
pub const PROCESS_BYTES: u64 = 128;
/// Bytes of an entry of the thread table.
pub const THREAD_BYTES: u64 = 512;
/// Bytes of a chunk descriptor.
pub const CHUNK_DESCRIPTOR_BYTES: u64 = 128;
/// Bytes of a cell of the directory.
pub const CELL_BYTES: u64 = 8;

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    MAGIC,
    HEADER_BYTES as u64,
    SEALED_BYTES as u64,
    PROCESS_BYTES,
    THREAD_BYTES,
    CHUNK_DESCRIPTOR_BYTES,
    CELL_BYTES,
    at::UUID as u64,
    at::LIMIT as u64,
    at::ARENA_OFFSET as u64,
    at::SEAL as u64,
    at::LAST_BOOT as u64,
    at::REAPED as u64,
    WORDS_PER_PAGE,
];

const _: () = assert!(at::CREATOR_MODE + 4 <= SEALED_BYTES && SEALED_BYTES <= at::SEAL);
const _: () = assert!(at::REAPED + 8 <= HEADER_BYTES);

/// Sizes, counts and places of the tables: in private memory, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of the whole segment.
    pub limit: u64,
    pub chunk_bytes: u64,
    /// Chunks of the arena; number 0 is never handed out.
    pub chunk_count: u32,
    pub process_count: u32,
    /// Entries of the thread table; index 0 means none.
    pub thread_count: u32,
    pub directory_cells: u32,
    pub process_offset: u64,
    pub thread_offset: u64,
    pub chunk_table_offset: u64,
    pub directory_offset: u64,
    pub life_offset: u64,
    pub arena_offset: u64,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn align_up(value: u64, to: u64) -> u64 {
    value.div_ceil(to) * to
}

impl Geometry {
    /// The geometry for a limit in bytes; the limit is rounded down to whole pages.
    pub fn for_limit(limit: u64) -> Result<Geometry> {
        if limit < FABRIC_LIMIT_MIN {
            return Err(Error::new(
                ErrorCode::LimitTooSmall,
                format!("A limit of {limit} bytes is below the least of {FABRIC_LIMIT_MIN} bytes (1 MiB)."),
            ));
        }
        if limit > FABRIC_LIMIT_MAX {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("A limit of {limit} bytes is above the most of {FABRIC_LIMIT_MAX} bytes (1 TiB)."),
            ));
        }
        let limit = limit / PAGE * PAGE;
        let chunk_bytes = match limit {
            0..=0x80_0000 => 16 << 10,
            0x80_0001..=0x1_0000_0000 => 64 << 10,
            0x1_0000_0001..=0x10_0000_0000 => 256 << 10,
            _ => MIB,
        };
        let (process_count, thread_count, directory_cells) = match limit {
            0..=0x80_0000 => (32, 64, 256),
            0x80_0001..=0x400_0000 => (128, 512, 512),
            _ => (PROCESS_COUNT_MAX, THREAD_COUNT_MAX, 1024),
        };
        let mut geometry = Geometry {
            limit,
            chunk_bytes,
            // An upper bound first: the chunk table is sized by it, the arena takes what is left.
            chunk_count: (limit / chunk_bytes) as u32,
            process_count,
            thread_count,
            directory_cells,
            process_offset: HEADER_BYTES as u64,
            thread_offset: 0,
            chunk_table_offset: 0,
            directory_offset: 0,
            life_offset: 0,
            arena_offset: 0,
        };
        geometry.thread_offset = geometry.process_offset + u64::from(process_count) * PROCESS_BYTES;
        geometry.chunk_table_offset = geometry.thread_offset + u64::from(thread_count) * THREAD_BYTES;
        geometry.directory_offset =
            geometry.chunk_table_offset + u64::from(geometry.chunk_count) * CHUNK_DESCRIPTOR_BYTES;
        geometry.life_offset =
            align_up(geometry.directory_offset + u64::from(directory_cells) * CELL_BYTES, PAGE);
        geometry.arena_offset = geometry.life_offset + geometry.life_pages() * PAGE;
        geometry.chunk_count = ((limit - geometry.arena_offset) / chunk_bytes) as u32;
        geometry.check()?;
        Ok(geometry)
    }

    /// Pages of life words.
    pub fn life_pages(&self) -> u64 {
        u64::from(self.thread_count).div_ceil(WORDS_PER_PAGE)
    }

    /// Bytes from the base that are reserved when the segment is made.
    pub fn table_bytes(&self) -> u64 {
        self.life_offset
    }

    /// Refuses any geometry that this library would not have made, so that all later arithmetic is safe.
    pub fn check(&self) -> Result<()> {
        let broken = |what: &str| {
            Err(Error::new(ErrorCode::NotAFabric, format!("The header's {what} is impossible: {self:?}.")))
        };
        if !(FABRIC_LIMIT_MIN..=FABRIC_LIMIT_MAX).contains(&self.limit) || !self.limit.is_multiple_of(PAGE) {
            return broken("limit");
        }
        if !self.chunk_bytes.is_power_of_two() || !(16 << 10..=MIB).contains(&self.chunk_bytes) {
            return broken("chunk size");
        }
        if !(2..=PROCESS_COUNT_MAX).contains(&self.process_count)
            || !(4..=THREAD_COUNT_MAX).contains(&self.thread_count)
            || !self.directory_cells.is_power_of_two()
            || self.directory_cells > 1 << 16
        {
            return broken("count of entries");
        }
        let places = [
            (self.process_offset, u64::from(self.process_count) * PROCESS_BYTES),
            (self.thread_offset, u64::from(self.thread_count) * THREAD_BYTES),
            (self.chunk_table_offset, u64::from(self.chunk_count) * CHUNK_DESCRIPTOR_BYTES),
            (self.directory_offset, u64::from(self.directory_cells) * CELL_BYTES),
            (self.life_offset, self.life_pages() * PAGE),
            (self.arena_offset, u64::from(self.chunk_count) * self.chunk_bytes),
        ];
        let mut end = HEADER_BYTES as u64;
        for (offset, len) in places {
            if offset < end || offset % 64 != 0 || offset > self.limit || len > self.limit - offset {
                return broken("table");
            }
            end = offset + len;
        }
        if self.chunk_count < 4
            || !self.life_offset.is_multiple_of(PAGE)
            || !self.arena_offset.is_multiple_of(PAGE)
        {
            return broken("arena");
        }
        Ok(())
    }
}

/// A byte count as people write it.
pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        _ if bytes >= GIB && bytes.is_multiple_of(GIB) => format!("{} GiB", bytes / GIB),
        _ if bytes >= MIB => format!("{:.1} MiB", bytes as f64 / MIB as f64),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_from_the_least_to_the_most_has_a_geometry_that_fits() {
        let mut limit = FABRIC_LIMIT_MIN;
        while limit <= FABRIC_LIMIT_MAX {
            for limit in [limit, limit + 4097, limit * 3 / 2] {
                if limit > FABRIC_LIMIT_MAX {
                    continue;
                }
                let geometry = Geometry::for_limit(limit).unwrap();
                let used = geometry.arena_offset + u64::from(geometry.chunk_count) * geometry.chunk_bytes;
                assert!(used <= limit && limit - used < geometry.chunk_bytes + PAGE, "{geometry:?}");
            }
            limit *= 2;
        }
    }

    #[test]
    fn limits_outside_the_bounds_name_the_bound() {
        let error = Geometry::for_limit(4096).unwrap_err();
        assert_eq!(error.code(), ErrorCode::LimitTooSmall);
        assert!(error.to_string().contains("1048576"), "{error}");
        assert_eq!(Geometry::for_limit(u64::MAX).unwrap_err().code(), ErrorCode::InvalidArgument);
    }

    #[test]
    fn no_single_changed_field_passes_the_check_with_an_overlap() {
        let good = Geometry::for_limit(16 << 20).unwrap();
        for value in [0, 1, 63, u64::MAX, u64::MAX / 2, good.limit, good.limit - 8] {
            for field in 0..6 {
                let mut bad = good;
                match field {
                    0 => bad.process_offset = value,
                    1 => bad.thread_offset = value,
                    2 => bad.chunk_table_offset = value,
                    3 => bad.directory_offset = value,
                    4 => bad.life_offset = value,
                    _ => bad.arena_offset = value,
                }
                assert!(bad.check().is_err(), "field {field} = {value}");
            }
        }
    }
}
