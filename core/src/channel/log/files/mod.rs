//! Logs whose messages also stand in files, as durably as the user asks.
//!
//! The log in memory is the newest part. What is trimmed there was written before, so readers that are farther behind go on in the
//! files. The files are a journal as that of a store: the same batches, leader, group commit and recovery, with messages
//! instead of states. A message has its position, which says everything about order: it may stand in the files twice, and a leader that
//! was deposed may write on.
//!
//! | file | holds |
//! |---|---|
//! | `words` | the shared words |
//! | `line` | bytes in the batches |
//! | `flush` | what a flush writes |
//! | `recovery` | the first opener reads the files |
//! | `retention` | removing files |
//! | `cursor` | reading messages that are in memory no more |

mod cursor;
mod flush;
mod line;
mod recovery;
mod retention;
#[cfg(all(test, not(memora_loom)))]
mod tests;
pub mod words;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

pub use cursor::Cursor;
use flush::Flush;
pub use words::Words;

use super::layout::check_bytes;
use super::{LogFileStats, Retention, layout};
use crate::channel::ChannelOptions;
use crate::channel::area::Area;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::control::CAPACITY_MAX;
use crate::journal::directory::{Claimant, enter, refuse_foreign};
use crate::journal::layout::FileName;
use crate::journal::leader::Watch;
use crate::journal::ticker::Ticker;
use crate::journal::{Caller, Durability, FileLayer, Health, Journal, Owner, RealFiles};
use crate::shm::atomic::{AtomicU64, Ordering};

/// Bytes of a file unless the user says otherwise.
const FILE_BYTES_DEFAULT: u64 = 16 << 20;
/// Bytes of the smallest file.
const FILE_BYTES_MIN: u64 = 64 << 10;
/// Files that the limit must leave room for: the current one, the next one, and two to read.
const FILES_MIN: u64 = 4;
/// A long message takes at most this part of the limit of the files, so that what removes old ones leaves it whole.
const FILES_PART: u64 = 4;
/// Bytes in memory of the largest log with files: its longest message fits a batch.
const BYTES_MAX: u64 = 256 << 20;
/// How long a call waits for its flush at most: a disk that hangs is an error, not a hang.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// Files of a log: where they are, how durable messages are, how much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFiles {
    /// The directory, of this log alone. It is made if it is missing.
    pub dir: PathBuf,
    /// What messages appended through this handle survive, where the call says nothing else.
    pub durability: Durability,
    /// Bytes that the files may take; the oldest file is removed when there are more. At least four times `file_bytes`. `None`: only age
    /// removes files.
    pub bytes: Option<u64>,
    /// Bytes of each file, from 64 KiB to 64 MiB: files are removed as a whole.
    pub file_bytes: u64,
}

impl LogFiles {
    /// Files in a directory, flushed each 100 ms, kept until they are too old.
    pub fn new(dir: impl Into<PathBuf>) -> LogFiles {
        LogFiles {
            dir: dir.into(),
            durability: Durability::default(),
            bytes: None,
            file_bytes: FILE_BYTES_DEFAULT,
        }
    }
}

/// What opening the files of a log needs.
pub struct Opening {
    pub files: Arc<dyn FileLayer>,
    pub dir: PathBuf,
    pub durability: Durability,
    /// The fabric's id, and one for the log if it turns out to be new.
    pub fabric: [u8; 16],
    pub fresh: [u8; 16],
}

/// The files of a log as one process has them open.
pub struct Files {
    pub journal: Journal,
    pub dir: PathBuf,
    pub durability: Durability,
    recovery_watch: Watch,
    trim_watch: Watch,
    /// When to look for files that are too old, on the wall clock.
    look_at: AtomicU64,
    ticker: Mutex<Option<Ticker>>,
}

/// Refuses files that cannot be.
pub(super) fn check_options(name: &str, retention: &Retention, files: &LogFiles) -> Result<()> {
    let refuse = |what: String| Err(Error::new(ErrorCode::InvalidArgument, what));
    check_bytes(retention.bytes)?;
    if retention.bytes > BYTES_MAX {
        return refuse(format!(
            "The log `{name}` has files, so it takes at most {BYTES_MAX} bytes of memory, not {}: the files hold the rest.",
            retention.bytes
        ));
    }
    let longest = retention.bytes / u64::from(layout::BLOCKS);
    let least = (2 * longest + (16 << 10)).max(FILE_BYTES_MIN);
    if !(least..=CAPACITY_MAX).contains(&files.file_bytes) || !files.file_bytes.is_multiple_of(4096) {
        return refuse(format!(
            "`file_bytes` is {}: it must be a multiple of 4096 from {least} to {CAPACITY_MAX}.",
            files.file_bytes
        ));
    }
    if let Some(bytes) = files.bytes
        && bytes < FILES_MIN * files.file_bytes
    {
        return refuse(format!(
            "The files of the log `{name}` may take {bytes} bytes: at least {FILES_MIN} files of {} are needed.",
            files.file_bytes
        ));
    }
    Ok(())
}

/// Refuses a directory that belongs to something else, so that a mistyped one does not leave a log that cannot be opened.
pub(crate) fn check_directory(name: &str, options: &ChannelOptions) -> Result<()> {
    match &options.files {
        Some(files) => refuse_foreign(&RealFiles::open(&files.dir)?, Owner::Log, name),
        None => Ok(()),
    }
}

impl Area {
    /// The shared words of the files; an error if the log has none.
    pub fn words(&self) -> Result<&Words> {
        self.log()?.words.as_ref().ok_or_else(|| self.no_files())
    }

    /// The files; an error if the log has none, or they are not open here.
    pub fn files(&self) -> Result<&Files> {
        self.files.as_deref().ok_or_else(|| self.no_files())
    }

    #[cold]
    fn no_files(&self) -> Error {
        Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "The log `{}` has no files here: it was made without a directory, or is open for reading only.",
                self.name
            ),
        )
    }

    /// Bytes of the longest message that the files of a log keep; any without files or a limit of theirs.
    pub fn long_len_max_of_files(&self) -> u64 {
        let words = self.log.as_ref().and_then(|log| log.words.as_ref());
        words.and_then(Words::limit).map_or(u64::MAX, |limit| limit / FILES_PART)
    }

    /// Opens the files: enters the directory, recovers if nobody has, makes room for the journal.
    pub fn attach_files(&mut self, opening: Opening) -> Result<()> {
        let words = self.words()?;
        let known = if words.is_ready() { words.id() } else { None };
        let claimant = Claimant {
            owner: Owner::Log,
            name: &self.name,
            fabric: opening.fabric,
            store: known,
            fresh: opening.fresh,
        };
        let id = enter(&*opening.files, &claimant)?;
        self.files = Some(Box::new(Files {
            journal: Journal::new(opening.files, id),
            dir: opening.dir,
            durability: opening.durability,
            recovery_watch: Watch::new(),
            trim_watch: Watch::new(),
            look_at: AtomicU64::new(0),
            ticker: Mutex::new(None),
        }));
        self.recover()?;
        if self.words()?.id() != Some(id) {
            return Err(Error::new(
                ErrorCode::NotAStore,
                format!(
                    "{} holds another log than the one in memory.",
                    self.files()?.journal.files().place()
                ),
            ));
        }
        self.make_room()
    }

    /// Opens the real files, as a handle asks, or where the log says. Nothing for a log without files, and for one that is only read.
    pub(crate) fn open_files(&mut self, wanted: Option<&LogFiles>, fabric: [u8; 16]) -> Result<()> {
        let Some(words) = self.log.as_ref().and_then(|log| log.words.as_ref()) else { return Ok(()) };
        if !self.shm.writable() {
            if words.is_ready() {
                return Ok(());
            }
            return Err(Error::new(
                ErrorCode::ReadOnly,
                format!("The log `{}` was not recovered yet: open it once for writing.", self.name),
            ));
        }
        let (dir, durability) = match wanted {
            Some(wanted) => (wanted.dir.clone(), wanted.durability),
            None => (words.path()?, words.durability()),
        };
        let files: Arc<dyn FileLayer> = Arc::new(RealFiles::open(&dir)?);
        let fresh = uuid::Uuid::new_v4().into_bytes();
        self.attach_files(Opening { files, dir, durability, fabric, fresh })
    }

    /// Begins the thread that flushes, which keeps the log open no longer than others do.
    pub fn start_ticker(self: &Arc<Self>) -> Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        let Some(interval) = files.durability.interval() else { return Ok(()) };
        let weak: Weak<Area> = Arc::downgrade(self);
        let ticker = Ticker::start(interval, move || match weak.upgrade() {
            // Errors are told by the health word to whoever appends next; the next tick tries again.
            Some(area) => {
                let result = area.tick();
                !result.is_err_and(|e| matches!(e.code(), ErrorCode::Closed | ErrorCode::Forked))
            }
            None => false,
        })?;
        *files.ticker.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(ticker);
        Ok(())
    }

    /// Makes room for the journal where there is none yet. A full disk is no reason not to read.
    fn make_room(&self) -> Result<()> {
        let (control, journal) = (self.words()?.journal()?, &self.files()?.journal);
        let is_dead = |thread: u16| self.ground.thread_is_dead(thread);
        let caller = Caller { me: self.ground.thread()?, is_dead: &is_dead };
        match journal.lead(control, &caller, FLUSH_PATIENCE, |reign| journal.ensure_room(control, reign)) {
            Err(error) if error.code() == ErrorCode::NoSpace => {
                control.set_health(Health::NoSpace);
                Ok(())
            }
            other => other,
        }
    }

    /// One flush, if nobody else leads one, and a look at what may go.
    pub fn tick(&self) -> Result<()> {
        self.ground.usable()?;
        let (control, journal) = (self.words()?.journal()?, &self.files()?.journal);
        let is_dead = |thread: u16| self.ground.thread_is_dead(thread);
        let caller = Caller { me: self.ground.thread()?, is_dead: &is_dead };
        journal.flush_if_free(control, &caller, &Flush(self))?;
        self.retain_if_due()
    }

    /// Waits until everything that anybody published before is in files that are synced.
    pub fn flush(&self) -> Result<()> {
        let (control, journal) = (self.words()?.journal()?, &self.files()?.journal);
        let is_dead = |thread: u16| self.ground.thread_is_dead(thread);
        let caller = Caller { me: self.ground.thread()?, is_dead: &is_dead };
        let ticket = journal.ticket(control);
        journal.wait(control, &caller, &Flush(self), ticket, FLUSH_PATIENCE)?;
        // What is durable is durable, even where nothing could be removed.
        let _ = self.retain_if_due();
        Ok(())
    }

    /// Refuses a message before it changes anything.
    #[inline]
    pub fn accept(&self) -> Result<()> {
        self.words()?.journal()?.accept()
    }

    /// Refuses to go on where a named reader keeps the files of a log that blocks longer than their limit.
    pub fn accept_more(&self) -> Result<()> {
        let Some(words) = &self.log()?.words else { return Ok(()) };
        // ORDER Relaxed: only says whom to look at.
        if words.held().load(Ordering::Relaxed) == 0 || self.files.is_none() {
            return Ok(());
        }
        self.retain()?;
        match words.held().load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => {
                let (bound, keeper) = self.reader_bound()?;
                if keeper.is_none() { Ok(()) } else { Err(self.log_full(bound, keeper)) }
            }
        }
    }

    /// What is shown of the files.
    pub fn file_stats(&self) -> Result<Option<LogFileStats>> {
        let Some(words) = &self.log()?.words else { return Ok(None) };
        let control = words.journal()?;
        let mut count = 0;
        if let Some(files) = &self.files {
            let layer = files.journal.files();
            let names = layer.names().map_err(|e| Error::io("readdir", layer.place(), &e))?;
            let is_ours = |name: &&String| matches!(FileName::parse(name), Some(FileName::Journal { .. }));
            count = names.iter().filter(is_ours).count() as u64;
        }
        Ok(Some(LogFileStats {
            dir: words.path()?,
            oldest: words.stored().position(),
            durable: words.flushed(),
            files: count,
            bytes: count * control.checked_capacity()?,
            // ORDER Relaxed: counters.
            flushes: control.flushes().load(Ordering::Relaxed),
            flushed_bytes: control.bytes().load(Ordering::Relaxed),
            poisoned: control.health() == Health::Poisoned,
        }))
    }
}

/// Frees what a dead thread led, so that nobody waits until its silence is long enough. Repeating it is harmless.
pub(crate) fn inherit(area: &Area, thread: u16) -> Result<()> {
    let Some(words) = area.log.as_ref().and_then(|log| log.words.as_ref()) else { return Ok(()) };
    for word in [words.journal()?.leader(), words.trimmer(), words.recoverer()] {
        crate::journal::leader::inherit(word, thread);
    }
    Ok(())
}

/// Verifies the shared words.
pub(super) fn check(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(words) = area.log.as_ref().and_then(|log| log.words.as_ref()) else { return Ok(()) };
    if !words.is_ready() {
        return Ok(());
    }
    let log = area.log()?;
    let place = || format!("log `{}`", area.name);
    // What only grows, the smaller first.
    let (oldest, flushed) = (log.oldest().position(), words.flushed());
    if oldest > flushed {
        problem(format!("trimmed up to {oldest}, but only {flushed} messages are in the files"), place());
    }
    let end = log.end(oldest);
    if flushed > end {
        problem(format!("{flushed} messages are in the files, of {end}"), place());
    }
    let stored = words.stored().position();
    if stored > words.flushed() {
        problem(format!("the files begin at {stored}, behind the last message {flushed}"), place());
    }
    if words.id().is_none() {
        problem("it has no id".to_owned(), place());
    }
    if let Err(error) = words.path().and(words.journal()?.checked_capacity().map(|_| PathBuf::new())) {
        problem(error.detail().to_owned(), place());
    }
    Ok(())
}
