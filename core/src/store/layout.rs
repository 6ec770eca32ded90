//! The shared words of a store, in the part of its table's control area that is free for the object.
//!
//! ```text
//!   0 journal      128 B, see `journal::control`
//! 128 checkpointer u64  {term, owner, beat}      168 checkpoints    u64  manifests so far
//! 136 recoverer    u64  {term, owner, beat}      176 checkpoint len u64  bytes of the checkpoints that count
//! 144 shards       u64  {version 32, number 32}  184 checkpoint at  u64  bytes of journal that trigger as many checkpoints as there are shards
//! 152 store id     16 B                          192 recovered      u64  bytes read so far   200 of these in all
//! 208 path length  u64  0 = the store has no files           216 feed bytes  u64  old journal that is kept
//! 224 map seed     u64  random; zeros up to 256
//! 256 path         up to 1024 bytes: where the files are, for those who open the store by its name alone
//! ```

use crate::error::{Error, ErrorCode, Result};
use crate::journal::Control;
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::{Block, Shm};

/// Bytes of the words.
pub const WORDS_LEN: usize = 256;
/// Bytes of a path at most.
pub const PATH_LEN_MAX: usize = 1024;

// Behind them stand the table's announcements of snapshots.
const _: () = assert!(
    cfg!(memora_loom)
        || crate::table::layout::USER_OFFSET + (WORDS_LEN + PATH_LEN_MAX) as u64
            <= crate::table::layout::OBJECT_HEADER_BYTES + crate::table::layout::control::SNAPSHOTS
);

/// What the layout hash of a fabric covers of this layer.
pub const FACTS: &[u64] = &[
    WORDS_LEN as u64,
    PATH_LEN_MAX as u64,
    crate::journal::control::CONTROL_LEN as u64,
    crate::table::layout::USER_OFFSET,
    crate::journal::layout::FORMAT_VERSION as u64,
];

/// The shared words, checked once.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    block: Block<'a, WORDS_LEN>,
    shm: &'a Shm,
}

impl<'a> Words<'a> {
    /// The words at an offset of the segment.
    pub fn at(shm: &'a Shm, offset: u64) -> Result<Words<'a>> {
        shm.span(offset, (WORDS_LEN + PATH_LEN_MAX) as u64)?;
        Ok(Words { block: shm.block(offset)?, shm })
    }

    /// The journal's words.
    pub fn journal(self) -> Control<'a> {
        Control(self.shm.block(self.block.offset()).expect("a part of a block that was checked"))
    }

    /// Leadership of checkpoints.
    pub fn checkpointer(self) -> &'a AtomicU64 {
        self.block.u64::<128>()
    }

    /// Leadership of recovery.
    pub fn recoverer(self) -> &'a AtomicU64 {
        self.block.u64::<136>()
    }

    /// How many shards there are: see [`shards`](super::shards).
    pub fn shards(self) -> &'a AtomicU64 {
        self.block.u64::<144>()
    }

    /// A number that no other table in memory has.
    pub fn map_seed(self) -> &'a AtomicU64 {
        self.block.u64::<224>()
    }

    /// Checkpoints so far, of single shards.
    pub fn checkpoints(self) -> &'a AtomicU64 {
        self.block.u64::<168>()
    }

    /// Bytes of the checkpoints that count, one of each shard.
    pub fn checkpoint_len(self) -> &'a AtomicU64 {
        self.block.u64::<176>()
    }

    /// Bytes of journal that trigger a checkpoint.
    pub fn checkpoint_at(self) -> &'a AtomicU64 {
        self.block.u64::<184>()
    }

    /// Bytes that recovery has read.
    pub fn recovered(self) -> &'a AtomicU64 {
        self.block.u64::<192>()
    }

    /// Bytes that recovery has to read.
    pub fn to_recover(self) -> &'a AtomicU64 {
        self.block.u64::<200>()
    }

    /// The store's id; `None` before the first opener has one.
    pub fn store_id(self) -> Option<[u8; 16]> {
        // ORDER Relaxed: set before the floor makes the store ready, and only looked at behind it.
        let words =
            [self.block.u64::<152>(), self.block.u64::<160>()].map(|word| word.load(Ordering::Relaxed));
        (words != [0, 0]).then(|| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&words[0].to_le_bytes());
            id[8..].copy_from_slice(&words[1].to_le_bytes());
            id
        })
    }

    /// Sets the id, once. False: another id stands there.
    pub fn set_store_id(self, id: &[u8; 16]) -> bool {
        for (word, bytes) in [self.block.u64::<152>(), self.block.u64::<160>()].iter().zip(id.chunks_exact(8))
        {
            let value = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            // ORDER Relaxed: as in `store_id`.
            let _ = word.compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.store_id() == Some(*id)
    }

    /// Bytes of old journal that are kept for the change feed; 0: there is none.
    pub fn feed_bytes(self) -> &'a AtomicU64 {
        self.block.u64::<216>()
    }

    /// Where the files are; `None` for a store without files, or before the first opener has said it.
    pub fn path(self) -> Result<Option<std::path::PathBuf>> {
        use std::os::unix::ffi::OsStringExt;
        // ORDER Acquire [store-path]: the bytes stand before their length.
        let len = self.block.u64::<208>().load(Ordering::Acquire) as usize;
        if len == 0 {
            return Ok(None);
        }
        if len > PATH_LEN_MAX {
            return Err(Error::new(ErrorCode::Corrupt, format!("The store names a path of {len} bytes.")));
        }
        let mut bytes = vec![0; len];
        self.shm.span(self.block.offset() + WORDS_LEN as u64, len as u64)?.copy_out(0, &mut bytes)?;
        Ok(Some(std::ffi::OsString::from_vec(bytes).into()))
    }

    /// Says where the files are, once: by the one who creates the object, before others can reach it.
    pub fn set_path(self, path: &std::path::Path) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > PATH_LEN_MAX {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("`dir` has {} bytes, at most {PATH_LEN_MAX} are possible.", bytes.len()),
            ));
        }
        self.shm.span(self.block.offset() + WORDS_LEN as u64, bytes.len() as u64)?.copy_in(0, bytes)?;
        // ORDER Release [store-path]: the bytes stand before their length.
        self.block.u64::<208>().store(bytes.len() as u64, Ordering::Release);
        Ok(())
    }
}
