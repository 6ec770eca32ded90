//! Writing, reading and checking the header.

use super::layout::{BYTE_ORDER, Geometry, HEADER_BYTES, LAYOUT_VERSION, MAGIC, SEALED_BYTES, at};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;
use crate::shm::{Block, Shm, time};

/// What tells a fabric from another: fixed at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uuid: u128,
    pub boot_id: u128,
    /// Seed of the hash of keys: unknown to whoever chooses keys from outside.
    pub hash_seed: u64,
    pub created_ms: u64,
    pub creator_uid: u32,
    pub mode: u32,
}

/// Which layout this library has: version and hash over all layout constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub layout_hash: u64,
}

impl Identity {
    /// A new identity.
    pub fn new(mode: u32) -> Identity {
        Identity {
            uuid: uuid::Uuid::new_v4().as_u128(),
            boot_id: boot_id(),
            hash_seed: uuid::Uuid::new_v4().as_u128() as u64,
            created_ms: time::wall_ms(),
            creator_uid: nix::unistd::geteuid().as_raw(),
            mode,
        }
    }
}

/// The kernel's id of this boot; 0 where it is hidden.
pub fn boot_id() -> u128 {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()
        .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok())
        .map_or(0, |id| id.as_u128())
}

type Header<'a> = Block<'a, HEADER_BYTES>;

fn halves(value: u128) -> (u64, u64) {
    (value as u64, (value >> 64) as u64)
}

/// Writes the header of a segment that nobody else can reach yet.
pub fn write(shm: &Shm, geometry: &Geometry, identity: &Identity, fingerprint: Fingerprint) -> Result<()> {
    let header: Header<'_> = shm.block(0)?;
    let (uuid_low, uuid_high) = halves(identity.uuid);
    let (boot_low, boot_high) = halves(identity.boot_id);
    // ORDER Relaxed: private until the name is published, which is a system call.
    let put = |word: &crate::shm::atomic::AtomicU64, value: u64| word.store(value, Ordering::Relaxed);
    let put_half = |word: &crate::shm::atomic::AtomicU32, value: u32| word.store(value, Ordering::Relaxed);
    put_half(header.u32::<{ at::LAYOUT_VERSION }>(), LAYOUT_VERSION);
    put_half(header.u32::<{ at::BYTE_ORDER }>(), BYTE_ORDER);
    put(header.u64::<{ at::LAYOUT_HASH }>(), fingerprint.layout_hash);
    put(header.u64::<{ at::FEATURES }>(), 0);
    put(header.u64::<{ at::UUID }>(), uuid_low);
    put(header.u64::<{ at::UUID + 8 }>(), uuid_high);
    put(header.u64::<{ at::BOOT_ID }>(), boot_low);
    put(header.u64::<{ at::BOOT_ID + 8 }>(), boot_high);
    put(header.u64::<{ at::HASH_SEED }>(), identity.hash_seed);
    put(header.u64::<{ at::LIMIT }>(), geometry.limit);
    put(header.u64::<{ at::CHUNK_BYTES }>(), geometry.chunk_bytes);
    put_half(header.u32::<{ at::CHUNK_COUNT }>(), geometry.chunk_count);
    put_half(header.u32::<{ at::PROCESS_COUNT }>(), geometry.process_count);
    put_half(header.u32::<{ at::THREAD_COUNT }>(), geometry.thread_count);
    put_half(header.u32::<{ at::DIRECTORY_CELLS }>(), geometry.directory_cells);
    put(header.u64::<{ at::PROCESS_OFFSET }>(), geometry.process_offset);
    put(header.u64::<{ at::THREAD_OFFSET }>(), geometry.thread_offset);
    put(header.u64::<{ at::CHUNK_TABLE_OFFSET }>(), geometry.chunk_table_offset);
    put(header.u64::<{ at::DIRECTORY_OFFSET }>(), geometry.directory_offset);
    put(header.u64::<{ at::LIFE_OFFSET }>(), geometry.life_offset);
    put(header.u64::<{ at::ARENA_OFFSET }>(), geometry.arena_offset);
    put(header.u64::<{ at::CREATED_MS }>(), identity.created_ms);
    put_half(header.u32::<{ at::CREATOR_UID }>(), identity.creator_uid);
    put_half(header.u32::<{ at::CREATOR_MODE }>(), identity.mode);
    put(header.u64::<{ at::LAST_BOOT }>(), boot_low);
    put(header.u64::<{ at::LAST_BOOT + 8 }>(), boot_high);
    put(header.u64::<{ at::MAGIC }>(), MAGIC);
    put(header.u64::<{ at::SEAL }>(), u64::from(seal(&sealed(header)?)));
    Ok(())
}

fn sealed(header: Header<'_>) -> Result<[u8; SEALED_BYTES]> {
    let mut bytes = [0; SEALED_BYTES];
    header.span().copy_out(0, &mut bytes)?;
    Ok(bytes)
}

fn seal(bytes: &[u8; SEALED_BYTES]) -> u32 {
    crc32c::crc32c(bytes)
}

fn u64_of(bytes: &[u8; SEALED_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn u32_of(bytes: &[u8; SEALED_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Copies the header out and checks everything about it. `place` names the segment in errors, `len` is the length of
/// the file or segment as the kernel tells it.
pub fn read(shm: &Shm, place: &str, len: u64, fingerprint: Fingerprint) -> Result<(Geometry, Identity)> {
    let not_a_fabric = |what: String| {
        Err(Error::new(ErrorCode::NotAFabric, format!("{place} is not a whole fabric: {what}.")))
    };
    let Ok(header) = shm.block::<HEADER_BYTES>(0) else {
        return not_a_fabric(format!("it has {} bytes, a header has {HEADER_BYTES}", shm.len()));
    };
    let bytes = sealed(header)?;
    if u64_of(&bytes, at::MAGIC) != MAGIC {
        return not_a_fabric("it does not begin with the magic of one".to_owned());
    }
    let version = u32_of(&bytes, at::LAYOUT_VERSION);
    let hash = u64_of(&bytes, at::LAYOUT_HASH);
    if u32_of(&bytes, at::BYTE_ORDER) != BYTE_ORDER {
        return Err(Error::new(
            ErrorCode::LayoutMismatch,
            format!("{place} was made on a machine of the other byte order."),
        ));
    }
    if version != LAYOUT_VERSION || hash != fingerprint.layout_hash {
        return Err(Error::new(
            ErrorCode::LayoutMismatch,
            format!(
                "{place} has layout version {version} with hash {hash:016x}; this library has version \
                 {LAYOUT_VERSION} with hash {:016x}.",
                fingerprint.layout_hash
            ),
        ));
    }
    // ORDER Relaxed: written before publication and never again.
    let stored = header.u64::<{ at::SEAL }>().load(Ordering::Relaxed);
    if stored != u64::from(seal(&bytes)) {
        return not_a_fabric("the checksum of its header is wrong".to_owned());
    }
    let geometry = Geometry {
        limit: u64_of(&bytes, at::LIMIT),
        chunk_bytes: u64_of(&bytes, at::CHUNK_BYTES),
        chunk_count: u32_of(&bytes, at::CHUNK_COUNT),
        process_count: u32_of(&bytes, at::PROCESS_COUNT),
        thread_count: u32_of(&bytes, at::THREAD_COUNT),
        directory_cells: u32_of(&bytes, at::DIRECTORY_CELLS),
        process_offset: u64_of(&bytes, at::PROCESS_OFFSET),
        thread_offset: u64_of(&bytes, at::THREAD_OFFSET),
        chunk_table_offset: u64_of(&bytes, at::CHUNK_TABLE_OFFSET),
        directory_offset: u64_of(&bytes, at::DIRECTORY_OFFSET),
        life_offset: u64_of(&bytes, at::LIFE_OFFSET),
        arena_offset: u64_of(&bytes, at::ARENA_OFFSET),
    };
    geometry.check()?;
    if len != geometry.limit {
        return not_a_fabric(format!("its header speaks of {} bytes, it has {len}", geometry.limit));
    }
    let join = |at: usize| u128::from(u64_of(&bytes, at)) | u128::from(u64_of(&bytes, at + 8)) << 64;
    let identity = Identity {
        uuid: join(at::UUID),
        boot_id: join(at::BOOT_ID),
        hash_seed: u64_of(&bytes, at::HASH_SEED),
        created_ms: u64_of(&bytes, at::CREATED_MS),
        creator_uid: u32_of(&bytes, at::CREATOR_UID),
        mode: u32_of(&bytes, at::CREATOR_MODE),
    };
    Ok((geometry, identity))
}

/// Whether the segment was last attached in another boot, as far as that is known: 0 stands for a hidden id.
pub fn is_of_another_boot(shm: &Shm) -> Result<bool> {
    let header: Header<'_> = shm.block(0)?;
    let here = halves(boot_id());
    // ORDER Relaxed: processes of one boot store equal words.
    let there = (
        header.u64::<{ at::LAST_BOOT }>().load(Ordering::Relaxed),
        header.u64::<{ at::LAST_BOOT + 8 }>().load(Ordering::Relaxed),
    );
    Ok(here != there && here != (0, 0) && there != (0, 0))
}

/// Notes that the segment is attached in this boot.
pub fn enter_boot(shm: &Shm) -> Result<()> {
    let header: Header<'_> = shm.block(0)?;
    let (low, high) = halves(boot_id());
    if is_of_another_boot(shm)? {
        // ORDER Relaxed: as above.
        header.u64::<{ at::LAST_BOOT }>().store(low, Ordering::Relaxed);
        header.u64::<{ at::LAST_BOOT + 8 }>().store(high, Ordering::Relaxed);
    }
    Ok(())
}
