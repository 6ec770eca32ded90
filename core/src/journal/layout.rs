//! The bytes of the files: names, file headers, batches, records, the identity of a directory; the manifest is in [`manifest`](super::manifest).
//!
//! Everything is little endian. A journal or checkpoint file is a header of 4096 bytes and then batches, each at a
//! multiple of 512 bytes. A batch is a header of 64 bytes and a body of records, filled up with zeros to the next
//! multiple of 512, so that no sector that was ever synced is written again.
//!
//! **A batch is valid if and only if** its magic stands there, its header checksum fits, its file tag is that of the file
//! that it is read from, its `lsn` names the very place at which it stands, its body length is within bounds, and the
//! body checksum fits. **A file ends** at the first place that holds no valid batch. That end is *torn* (and legal) unless
//! something says that it was synced: a later valid batch of the file with `synced_lsn` beyond the end, or the header of
//! the next file with `previous` beyond it. Then the file is corrupt, and that is an error, never a shorter journal.
//!
//! **A flush counts** only if all its batches are valid: the last says how many there are. So what is recovered is always
//! the state at the cut of some flush, and no transaction comes back in part.
//!
//! ```text
//! lsn, tail, previous:   | term 20 | file number 20 | sector 24 |       sector = byte / 512 in that file
//! ```

use super::lsn::Lsn;

/// Bytes of a sector: batches begin at multiples of it.
pub const SECTOR: u64 = 512;
/// Where the last sector begins that a place can name: no file of ours is longer.
pub const FILE_LEN_MAX: u64 = Lsn::SECTOR_MAX as u64 * SECTOR;
/// Bytes of the header of a file; the first batch follows.
pub const FILE_HEADER_LEN: u64 = 4096;
/// The first sector that can hold a batch.
pub const FIRST_SECTOR: u32 = (FILE_HEADER_LEN / SECTOR) as u32;
/// Bytes of a batch header.
pub const BATCH_HEADER_LEN: usize = 64;
/// Bytes of a record's header in a batch.
pub const RECORD_HEADER_LEN: usize = 32;
/// Bytes of a body from which a batch is cut.
pub const BATCH_CUT: usize = 1 << 20;
/// Bytes. No body is longer: the cut and one largest record.
pub const BODY_LEN_MAX: usize = BATCH_CUT + (2 << 20);
/// Version of all formats of this file.
pub const FORMAT_VERSION: u32 = 4;

const FILE_MAGIC: u64 = u64::from_le_bytes(*b"MEMORAJ1");
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"MBT1");
const IDENTITY_MAGIC: u64 = u64::from_le_bytes(*b"MEMORAS1");

const BACKUP_MAGIC: u64 = u64::from_le_bytes(*b"MEMORAB1");

/// Name of the file that makes a directory a complete backup.
pub const BACKUP_NAME: &str = "BACKUP";
/// Bytes of that file, and of the head of a backup as a stream.
pub const BACKUP_LEN: usize = SECTOR as usize;
/// Bytes of the identity file.
pub const IDENTITY_LEN: usize = 192;
/// Name of the identity file.
pub const IDENTITY_NAME: &str = "STORE";
/// Name of the file that carries the locks of the attached processes.
pub const LOCK_NAME: &str = "LOCK";

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().expect("four bytes")))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().expect("eight bytes")))
}

pub(super) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Last version whose seals left out the version.
const UNSEALED_VERSION: u32 = 2;

/// The checksum at byte 12 of every header: over the version and everything behind. This rule, the magic and the place of the version
/// are the same in all versions from 3 on, so that a rotten version is told from another one.
pub(super) fn seal(bytes: &[u8]) -> u32 {
    match u32_at(bytes, 8) {
        1..=UNSEALED_VERSION => crc32c::crc32c(&bytes[16..]),
        _ => crc32c::crc32c_append(crc32c::crc32c(&bytes[8..12]), &bytes[16..]),
    }
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Whole, but of another version of the format.
    Version(u32),
    /// No such header, or a damaged one.
    Damaged,
}

/// Checks what is the same in all headers.
pub(super) fn check_seal(bytes: &[u8], len: usize, magic: u64) -> Result<(), Refused> {
    if bytes.len() != len || u64_at(bytes, 0) != magic || u32_at(bytes, 12) != seal(bytes) {
        return Err(Refused::Damaged);
    }
    match u32_at(bytes, 8) {
        FORMAT_VERSION => Ok(()),
        other => Err(Refused::Version(other)),
    }
}

/// What a file of the directory is, as its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// `journal.<term>.<number>`
    Journal { term: u32, number: u32 },
    /// `checkpoint.<term>.<part>`
    Checkpoint { term: u32, part: u32 },
    /// `MANIFEST.<term>`
    Manifest { term: u32 },
    /// `MANIFEST.<term>.tmp`: under its private name until it is complete.
    Unfinished { term: u32 },
}

impl FileName {
    /// Reads a name; `None` for one that is not of ours.
    pub fn parse(name: &str) -> Option<FileName> {
        let number = |text: &str| {
            let digits = text.len() == 7 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|number| *number <= Lsn::PART_MAX)
        };
        let mut parts = name.split('.');
        let parsed = match (parts.next()?, parts.next(), parts.next()) {
            ("journal", Some(term), Some(file)) => {
                FileName::Journal { term: number(term)?, number: number(file)? }
            }
            ("checkpoint", Some(term), Some(part)) => {
                FileName::Checkpoint { term: number(term)?, part: number(part)? }
            }
            ("MANIFEST", Some(term), None) => FileName::Manifest { term: number(term)? },
            ("MANIFEST", Some(term), Some("tmp")) => FileName::Unfinished { term: number(term)? },
            _ => return None,
        };
        parts.next().is_none().then_some(parsed)
    }

    /// The term in the name.
    pub fn term(self) -> u32 {
        match self {
            FileName::Journal { term, .. }
            | FileName::Checkpoint { term, .. }
            | FileName::Manifest { term }
            | FileName::Unfinished { term } => term,
        }
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileName::Journal { term, number } => write!(f, "journal.{term:07}.{number:07}"),
            FileName::Checkpoint { term, part } => write!(f, "checkpoint.{term:07}.{part:07}"),
            FileName::Manifest { term } => write!(f, "MANIFEST.{term:07}"),
            FileName::Unfinished { term } => write!(f, "MANIFEST.{term:07}.tmp"),
        }
    }
}

/// The number that all batches of one file carry, so that a batch of another file or store is never taken for its own.
pub fn file_tag(store: &[u8; 16], name: FileName) -> u64 {
    let (kind, term, number) = match name {
        FileName::Journal { term, number } => (1u64, term, number),
        FileName::Checkpoint { term, part } => (2, term, part),
        FileName::Manifest { term } => (3, term, 0),
        FileName::Unfinished { term } => (4, term, 0),
    };
    u64_at(store, 0)
        ^ u64_at(store, 8).rotate_left(17)
        ^ (kind << 60 | u64::from(term) << 32 | u64::from(number))
}

/// The header of a journal or checkpoint file.
///
/// ```text
///  0 magic 8 | 8 version 4 | 12 seal of 8..12 and 16..64 4 | 16 store 16 | 32 tag 8 | 40 capacity 8 | 48 previous lsn 8
/// 56 created, wall ms 8 | 64 zeros up to 4096
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub store: [u8; 16],
    pub tag: u64,
    pub capacity: u64,
    /// Up to where the file before this one was synced when this one was begun; `Lsn::NONE` for the first.
    pub previous: Lsn,
    pub created_ms: u64,
}

impl FileHeader {
    /// The 4096 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FILE_HEADER_LEN as usize];
        put64(&mut bytes, 0, FILE_MAGIC);
        put32(&mut bytes, 8, FORMAT_VERSION);
        bytes[16..32].copy_from_slice(&self.store);
        put64(&mut bytes, 32, self.tag);
        put64(&mut bytes, 40, self.capacity);
        put64(&mut bytes, 48, self.previous.0);
        put64(&mut bytes, 56, self.created_ms);
        let crc = seal(&bytes[..64]);
        put32(&mut bytes, 12, crc);
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, Refused> {
        check_seal(bytes.get(..64).unwrap_or_default(), 64, FILE_MAGIC)?;
        Ok(FileHeader {
            store: bytes[16..32].try_into().expect("sixteen bytes"),
            tag: u64_at(bytes, 32),
            capacity: u64_at(bytes, 40),
            previous: Lsn(u64_at(bytes, 48)),
            created_ms: u64_at(bytes, 56),
        })
    }
}

/// The header of a batch.
///
/// ```text
///  0 magic 4 | 4 crc32c of 8..64 4 | 8 crc32c of the body 4 | 12 body length 4 | 16 tag 8 | 24 lsn 8 | 32 synced lsn 8
/// 40 epoch 8 | 48 wall ms 8 | 56 records 4 | 60 whole flush 4
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub body_crc: u32,
    pub body_len: u32,
    pub tag: u64,
    /// The place of this very batch.
    pub lsn: Lsn,
    /// Everything below was synced when this batch was written.
    pub synced_lsn: Lsn,
    /// The flush that it belongs to.
    pub epoch: u64,
    pub wall_ms: u64,
    pub count: u32,
    /// In the last batch of a flush: how many batches the flush has. 0 in the others. A flush counts as a whole or not at all.
    pub whole: u32,
}

impl BatchHeader {
    /// The 64 bytes.
    pub fn encode(&self) -> [u8; BATCH_HEADER_LEN] {
        let mut bytes = [0; BATCH_HEADER_LEN];
        put32(&mut bytes, 0, BATCH_MAGIC);
        put32(&mut bytes, 8, self.body_crc);
        put32(&mut bytes, 12, self.body_len);
        put64(&mut bytes, 16, self.tag);
        put64(&mut bytes, 24, self.lsn.0);
        put64(&mut bytes, 32, self.synced_lsn.0);
        put64(&mut bytes, 40, self.epoch);
        put64(&mut bytes, 48, self.wall_ms);
        put32(&mut bytes, 56, self.count);
        put32(&mut bytes, 60, self.whole);
        let crc = crc32c::crc32c(&bytes[8..]);
        put32(&mut bytes, 4, crc);
        bytes
    }

    /// Reads a header; `None` if it is not a whole one. The caller compares tag and place.
    pub fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = bytes.get(..BATCH_HEADER_LEN)?;
        if u32_at(bytes, 0) != BATCH_MAGIC || u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        let header = BatchHeader {
            body_crc: u32_at(bytes, 8),
            body_len: u32_at(bytes, 12),
            tag: u64_at(bytes, 16),
            lsn: Lsn(u64_at(bytes, 24)),
            synced_lsn: Lsn(u64_at(bytes, 32)),
            epoch: u64_at(bytes, 40),
            wall_ms: u64_at(bytes, 48),
            count: u32_at(bytes, 56),
            whole: u32_at(bytes, 60),
        };
        (header.body_len as usize <= BODY_LEN_MAX && header.body_len > 0).then_some(header)
    }
}

/// Bytes that a batch with a body of `body_len` takes in its file.
pub fn batch_len(body_len: usize) -> u64 {
    ((BATCH_HEADER_LEN + body_len) as u64).next_multiple_of(SECTOR)
}

/// A record as the files hold it: the state of one key when its flush looked at it.
///
/// ```text
///  0 order 8 | 8 expiry, wall ms 8 (0 never) | 16 value length 4 | 20 client flags 4
/// 24 key length 2 (0 = 65,536) | 26 kind 1 | 27 zeros 5 | 32 key | value | zeros to a multiple of 8
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number of this state of the key: of all states of one key that stand in the files, the highest wins.
    pub order: u64,
    /// Wall clock in ms from which the entry is gone; 0 = never.
    pub expiry_ms: u64,
    pub flags: u32,
    pub key: &'a [u8],
    /// `None` for a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What a body is filled with: a record of a store, or a line of a log.
pub trait Entry {
    /// Appends itself to a body, which stays a multiple of 8 bytes long.
    fn encode(&self, body: &mut Vec<u8>);
}

impl Entry for Record<'_> {
    fn encode(&self, body: &mut Vec<u8>) {
        Record::encode(self, body);
    }
}

impl<'a> Record<'a> {
    /// Bytes in a body.
    pub fn encoded_len(&self) -> usize {
        (RECORD_HEADER_LEN + self.key.len() + self.value.map_or(0, <[u8]>::len)).next_multiple_of(8)
    }

    /// Appends the record to a body.
    pub fn encode(&self, body: &mut Vec<u8>) {
        let start = body.len();
        body.extend_from_slice(&self.order.to_le_bytes());
        body.extend_from_slice(&self.expiry_ms.to_le_bytes());
        body.extend_from_slice(&(self.value.map_or(0, <[u8]>::len) as u32).to_le_bytes());
        body.extend_from_slice(&self.flags.to_le_bytes());
        body.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
        body.push(if self.value.is_some() { 1 } else { 2 });
        body.extend_from_slice(&[0; 5]);
        body.extend_from_slice(self.key);
        body.extend_from_slice(self.value.unwrap_or_default());
        body.resize(start + self.encoded_len(), 0);
    }

    /// Reads the record at the start of `body`; `None` if there is no whole one. The second value is its length.
    pub fn decode(body: &'a [u8]) -> Option<(Record<'a>, usize)> {
        let header = body.get(..RECORD_HEADER_LEN)?;
        let value_len = u32_at(header, 16) as usize;
        let key_len = usize::from(u16::from_le_bytes([header[24], header[25]]).wrapping_sub(1)) + 1;
        let key_end = RECORD_HEADER_LEN + key_len;
        let end = key_end.checked_add(value_len)?;
        let key = body.get(RECORD_HEADER_LEN..key_end)?;
        let value = body.get(key_end..end)?;
        let value = match header[26] {
            1 => Some(value),
            2 if value.is_empty() => None,
            _ => return None,
        };
        let total = end.next_multiple_of(8);
        if total > body.len() {
            return None;
        }
        let record = Record {
            order: u64_at(header, 0),
            expiry_ms: u64_at(header, 8),
            flags: u32_at(header, 20),
            key,
            value,
        };
        Some((record, total))
    }
}

/// Says which store or log the directory belongs to and which fabric holds it in memory.
///
/// ```text
///  0 magic 8 | 8 version 4 | 12 seal of 8..12 and 16..192 4 | 16 store 16 | 32 fabric 16 | 48 name length 4
/// 52 owner 4 (0 store, 1 log) | 56 name 64 | 120 term 4 | 124 zeros up to 192
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub store: [u8; 16],
    pub fabric: [u8; 16],
    pub owner: Owner,
    /// A manifest of this term or a later one stands in the directory; 0: perhaps none.
    pub manifest: u32,
    pub name: String,
}

/// What the files of a directory belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Owner {
    Store = 0,
    Log = 1,
}

impl Owner {
    /// For messages.
    pub fn noun(self) -> &'static str {
        match self {
            Owner::Store => "store",
            Owner::Log => "log",
        }
    }
}

/// Says that the files beside it are a complete backup, and of what; the head of a backup as a stream.
///
/// ```text
///  0 magic 8 | 8 version 4 | 12 seal of 8..12 and 16..512 4 | 16 id of the backup, in its batches, 16 | 32 store 16
/// 48 begun, wall ms 8 | 56 name length 4 | 60 zero 4 | 64 name 64 | 128 bytes kept for the change feed 8 | 136 zeros up to 512
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupHead {
    pub id: [u8; 16],
    pub store: [u8; 16],
    pub begun_ms: u64,
    pub name: String,
    /// How much journal the store kept for its change feed; 0: it had none.
    pub feed_bytes: u64,
}

impl BackupHead {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; BACKUP_LEN];
        put64(&mut bytes, 0, BACKUP_MAGIC);
        put32(&mut bytes, 8, FORMAT_VERSION);
        bytes[16..32].copy_from_slice(&self.id);
        bytes[32..48].copy_from_slice(&self.store);
        put64(&mut bytes, 48, self.begun_ms);
        let name = &self.name.as_bytes()[..self.name.len().min(64)];
        put32(&mut bytes, 56, name.len() as u32);
        bytes[64..64 + name.len()].copy_from_slice(name);
        put64(&mut bytes, 128, self.feed_bytes);
        let crc = seal(&bytes);
        put32(&mut bytes, 12, crc);
        bytes
    }

    /// Reads the bytes.
    pub fn decode(bytes: &[u8]) -> Result<BackupHead, Refused> {
        check_seal(bytes, BACKUP_LEN, BACKUP_MAGIC)?;
        let name = bytes[64..128].get(..u32_at(bytes, 56) as usize).ok_or(Refused::Damaged)?;
        Ok(BackupHead {
            id: bytes[16..32].try_into().expect("sixteen bytes"),
            store: bytes[32..48].try_into().expect("sixteen bytes"),
            begun_ms: u64_at(bytes, 48),
            name: String::from_utf8(name.to_vec()).map_err(|_| Refused::Damaged)?,
            feed_bytes: u64_at(bytes, 128),
        })
    }
}

impl Identity {
    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; IDENTITY_LEN];
        put64(&mut bytes, 0, IDENTITY_MAGIC);
        put32(&mut bytes, 8, FORMAT_VERSION);
        bytes[16..32].copy_from_slice(&self.store);
        bytes[32..48].copy_from_slice(&self.fabric);
        let name = &self.name.as_bytes()[..self.name.len().min(64)];
        put32(&mut bytes, 48, name.len() as u32);
        put32(&mut bytes, 52, self.owner as u32);
        bytes[56..56 + name.len()].copy_from_slice(name);
        put32(&mut bytes, 120, self.manifest);
        let crc = seal(&bytes);
        put32(&mut bytes, 12, crc);
        bytes
    }

    /// Reads the file.
    pub fn decode(bytes: &[u8]) -> Result<Identity, Refused> {
        check_seal(bytes, IDENTITY_LEN, IDENTITY_MAGIC)?;
        let len = u32_at(bytes, 48) as usize;
        let name = bytes[56..120].get(..len).ok_or(Refused::Damaged)?;
        Ok(Identity {
            store: bytes[16..32].try_into().expect("sixteen bytes"),
            fabric: bytes[32..48].try_into().expect("sixteen bytes"),
            owner: [Owner::Store, Owner::Log]
                .into_iter()
                .find(|owner| *owner as u32 == u32_at(bytes, 52))
                .ok_or(Refused::Damaged)?,
            manifest: u32_at(bytes, 120),
            name: String::from_utf8(name.to_vec()).map_err(|_| Refused::Damaged)?,
        })
    }
}

/// Makes a whole header one of another version.
#[cfg(test)]
pub fn set_version(header: &mut [u8], version: u32) {
    put32(header, 8, version);
    let crc = seal(header);
    put32(header, 12, crc);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::manifest::{Manifest, manifest_len};
    use proptest::prelude::*;

    #[test]
    fn names_come_back_and_foreign_names_are_not_ours() {
        for name in [
            FileName::Journal { term: 1, number: 0 },
            FileName::Journal { term: 1048575, number: 77 },
            FileName::Checkpoint { term: 12, part: 3 },
            FileName::Manifest { term: 9 },
            FileName::Unfinished { term: 9 },
        ] {
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for name in
            // The last ones: parts wider than a place can hold, and a second spelling of a name.
            [
                "STORE",
                "journal",
                "journal.1",
                "journal.0000001.x",
                "journal.0000001.0000002.3",
                "data.db",
                "journal.1048576.0000000",
                "journal.0000001.1048576",
                "checkpoint.9999999.0000000",
                "MANIFEST.+000001",
            ]
        {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }

    fn manifest() -> Manifest {
        let manifest = Manifest::of_one([7; 16], 3, (1, 99, 5), Lsn::new(1, 2, 8), 10);
        Manifest { last_epoch: 12, order_floor: 44, wall_ms: 1, shards: 4, number: 9, ..manifest }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_header_manifest_or_identity_is_detected() {
        let header = FileHeader {
            store: [1; 16],
            tag: 2,
            capacity: 1 << 20,
            previous: Lsn::new(1, 1, 9),
            created_ms: 4,
        };
        let batch = BatchHeader {
            body_crc: 1,
            body_len: 8,
            tag: 3,
            lsn: Lsn::new(1, 0, 8),
            synced_lsn: Lsn::new(1, 0, 8),
            epoch: 4,
            wall_ms: 5,
            count: 1,
            whole: 3,
        };
        let identity = Identity {
            store: [1; 16],
            fabric: [2; 16],
            owner: Owner::Log,
            manifest: 3,
            name: "flights".into(),
        };
        assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
        assert_eq!(BatchHeader::decode(&batch.encode()), Some(batch));
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
        assert_eq!(Identity::decode(&identity.encode()), Ok(identity.clone()));
        for bit in 0..64 * 8 {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&bytes), Err(Refused::Damaged), "header bit {bit}");
            let mut bytes = batch.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&bytes), None, "batch bit {bit}");
        }
        for bit in 0..manifest_len(1) * 8 {
            let mut bytes = manifest().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&bytes), Err(Refused::Damaged), "manifest bit {bit}");
        }
        let backup = BackupHead {
            id: [1; 16],
            store: [2; 16],
            begun_ms: 3,
            name: "flights".into(),
            feed_bytes: 1 << 30,
        };
        assert_eq!(BackupHead::decode(&backup.encode()), Ok(backup.clone()));
        for bit in 0..BACKUP_LEN * 8 {
            let mut bytes = backup.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BackupHead::decode(&bytes), Err(Refused::Damaged), "backup bit {bit}");
        }
        for bit in 0..IDENTITY_LEN * 8 {
            let mut bytes = identity.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Identity::decode(&bytes), Err(Refused::Damaged), "identity bit {bit}");
        }
    }

    #[test]
    fn whole_headers_of_another_version_are_told_from_rotten_ones() {
        let mut bytes = manifest().encode();
        set_version(&mut bytes, 7);
        assert_eq!(Manifest::decode(&bytes), Err(Refused::Version(7)));
        // As version 2 sealed it: without the version.
        let mut bytes = manifest().encode();
        bytes[8] = 2;
        assert_eq!(Manifest::decode(&bytes), Err(Refused::Damaged));
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(Refused::Version(2)));
    }

    proptest! {
        #[test]
        fn records_come_back_and_any_bytes_decode_without_panic(
            order: u64, expiry_ms: u64, flags: u32,
            key in proptest::collection::vec(any::<u8>(), 1..300),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..500)),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let record = Record { order, expiry_ms, flags, key: &key, value: value.as_deref() };
            let mut body = Vec::new();
            record.encode(&mut body);
            prop_assert_eq!(body.len(), record.encoded_len());
            prop_assert_eq!(Record::decode(&body), Some((record, body.len())));
            for cut in 0..body.len() {
                prop_assert_eq!(Record::decode(&body[..cut]), None);
            }
            let _ = Record::decode(&noise);
            let _ = BatchHeader::decode(&noise);
            let _ = Manifest::decode(&noise);
            let _ = Identity::decode(&noise);
            let _ = BackupHead::decode(&noise);
        }
    }
}
