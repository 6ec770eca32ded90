//! The shared words of a log with files, behind the log itself.
//!
//! ```text
//!   0 journal     128 B, see `journal::control`
//! 128 trimmer     u64  {term, owner, beat}        168 flushed  u64  messages in front of it are in files that are synced
//! 136 recoverer   u64  {term, owner, beat}        176 stored   u64  {position 48 | joins 16}: the oldest that the files hold
//! 144 log id      16 B                            184 marks    u64  {hash 32 | flush 32} of the readers' places in the files
//! 160 ready       u64  1 once it was recovered    192 limit    u64  bytes that the files may take; 0 any
//! 200 interval    u64  0 process, 1 sync, else 2 and the ms of async: of who made it
//! 208 path length u64                             216 trimmed at u64  lsn of the file that was current when files were trimmed last
//! 224 held        u64  1 + id of the named reader that keeps the files longer than their limit; 0 nobody
//! 232 zeros up to 256
//! 256 path        up to 1024 bytes: where the files are, for those who open the log by its name alone
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use crate::channel::log::LogFiles;
use crate::channel::log::layout::Oldest;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::{Control, Durability};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::{Block, Kept, Shm};

/// Bytes of the words.
pub const WORDS_LEN: usize = 256;
/// Bytes of a path at most.
pub const PATH_LEN_MAX: usize = 1024;
/// Bytes that a log with files takes more.
pub const LEN: u64 = (WORDS_LEN + PATH_LEN_MAX) as u64;

/// What goes into the layout hash from here.
pub const FACTS: &[u64] =
    &[WORDS_LEN as u64, PATH_LEN_MAX as u64, crate::journal::control::CONTROL_LEN as u64, 1];

/// The shared words, checked once.
pub struct Words {
    shm: Arc<Shm>,
    at: u64,
    block: Kept<WORDS_LEN>,
}

fn durability_word(durability: Durability) -> u64 {
    match durability {
        Durability::Process => 0,
        Durability::Sync => 1,
        Durability::Async { interval_ms } => interval_ms.saturating_add(2),
    }
}

impl Words {
    /// Lays them out in private memory of the caller.
    pub fn create(shm: &Shm, at: u64, files: &LogFiles) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let path =
            std::path::absolute(&files.dir).map_err(|e| Error::io("realpath", files.dir.display(), &e))?;
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > PATH_LEN_MAX {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("`dir` has {} bytes, at most {PATH_LEN_MAX} are possible.", bytes.len()),
            ));
        }
        shm.span(at, LEN)?.zero(0, LEN)?;
        shm.span(at + WORDS_LEN as u64, bytes.len() as u64)?.copy_in(0, bytes)?;
        let block: Block<'_, WORDS_LEN> = shm.block(at)?;
        // ORDER Relaxed: private until the directory shows the object.
        block.u64::<192>().store(files.bytes.unwrap_or(0), Ordering::Relaxed);
        block.u64::<200>().store(durability_word(files.durability), Ordering::Relaxed);
        block.u64::<208>().store(bytes.len() as u64, Ordering::Relaxed);
        block.u64::<56>().store(files.file_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The words at a place of the segment.
    pub fn open(shm: &Arc<Shm>, at: u64) -> Result<Words> {
        shm.span(at, LEN)?;
        Ok(Words { shm: Arc::clone(shm), at, block: Kept::new(shm, at)? })
    }

    fn word<const AT: usize>(&self) -> &AtomicU64 {
        self.block.block().u64::<AT>()
    }

    /// The journal's words.
    pub fn journal(&self) -> Result<Control<'_>> {
        Ok(Control(self.shm.block(self.at)?))
    }

    /// Leadership of trimming.
    pub fn trimmer(&self) -> &AtomicU64 {
        self.word::<128>()
    }

    /// Leadership of recovery.
    pub fn recoverer(&self) -> &AtomicU64 {
        self.word::<136>()
    }

    /// 1 once the log was recovered.
    pub fn ready(&self) -> &AtomicU64 {
        self.word::<160>()
    }

    pub fn is_ready(&self) -> bool {
        // ORDER Acquire [log-ready]: everything that the recovery put into memory.
        self.ready().load(Ordering::Acquire) != 0
    }

    pub fn flushed_word(&self) -> &AtomicU64 {
        self.word::<168>()
    }

    /// Messages in front of this position are in files that are synced.
    pub fn flushed(&self) -> u64 {
        // ORDER Acquire [log-flushed]: the files hold what the number says.
        self.flushed_word().load(Ordering::Acquire)
    }

    pub fn stored_word(&self) -> &AtomicU64 {
        self.word::<176>()
    }

    /// The oldest message that the files hold.
    pub fn stored(&self) -> Oldest {
        // ORDER Acquire [log-stored]: the readers that joined before it.
        Oldest(self.stored_word().load(Ordering::Acquire))
    }

    /// A named reader came, or went back: who looked at the readers before does not trim files any more.
    pub fn reader_joined(&self) {
        // ORDER AcqRel [log-stored]: the reader's state and position; pairs with the compare-and-swap of who trims.
        self.stored_word().fetch_add(Oldest(0).joined().0, Ordering::AcqRel);
    }

    /// What the files hold of the readers' places.
    pub fn marks(&self) -> &AtomicU64 {
        self.word::<184>()
    }

    /// Bytes that the files may take.
    pub fn limit(&self) -> Option<u64> {
        // ORDER Relaxed: never changes.
        Some(self.word::<192>().load(Ordering::Relaxed)).filter(|limit| *limit != 0)
    }

    /// Of who made the log.
    pub fn durability(&self) -> Durability {
        // ORDER Relaxed: never changes.
        match self.word::<200>().load(Ordering::Relaxed) {
            0 => Durability::Process,
            1 => Durability::Sync,
            more => Durability::Async { interval_ms: more - 2 },
        }
    }

    /// The file that was current when files were trimmed last.
    pub fn trimmed_at(&self) -> &AtomicU64 {
        self.word::<216>()
    }

    /// The named reader that keeps the files longer than their limit.
    pub fn held(&self) -> &AtomicU64 {
        self.word::<224>()
    }

    /// The log's id; `None` before it was recovered.
    pub fn id(&self) -> Option<[u8; 16]> {
        // ORDER Relaxed: set before the log is ready, and only looked at behind that.
        let words = [self.word::<144>(), self.word::<152>()].map(|word| word.load(Ordering::Relaxed));
        (words != [0, 0]).then(|| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&words[0].to_le_bytes());
            id[8..].copy_from_slice(&words[1].to_le_bytes());
            id
        })
    }

    /// Sets the id, once. False: another id stands there.
    pub fn set_id(&self, id: &[u8; 16]) -> bool {
        for (word, bytes) in [self.word::<144>(), self.word::<152>()].iter().zip(id.chunks_exact(8)) {
            let value = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            // ORDER Relaxed: as in `id`.
            let _ = word.compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.id() == Some(*id)
    }

    /// Where the files are.
    pub fn path(&self) -> Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        // ORDER Relaxed: never changes.
        let len = self.word::<208>().load(Ordering::Relaxed);
        if len == 0 || len > PATH_LEN_MAX as u64 {
            return Err(Error::new(ErrorCode::Corrupt, format!("A log names a path of {len} bytes.")));
        }
        let mut bytes = vec![0; len as usize];
        self.shm.span(self.at + WORDS_LEN as u64, len)?.copy_out(0, &mut bytes)?;
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
}
