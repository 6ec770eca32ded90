//! The control area of an open signal: checked views on its words, and how its users wait.

use std::sync::Arc;
use std::time::Duration;

use super::layout::{CELL_BYTES, LockWord, Owner, PERMITS_MAX, PoolWord, SignalKind, control};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::fork::Origin;
use crate::shm::{Block, Kept, Shm, Span, fence};
use crate::wait::{Backoff, Patience, Step, WaitWord};

/// What a signal needs to know of the fabric.
pub trait Ground: Send + Sync {
    /// The calling thread, which is attached if it was not. An error after closing or forking.
    fn thread(&self) -> Result<Owner>;
    /// An error after closing or forking.
    fn usable(&self) -> Result<()>;
    /// Thread entries of the fabric; entry 0 is nobody's.
    fn threads(&self) -> u16;
    /// Whether the kernel proved the holder of this entry dead.
    fn thread_is_dead(&self, thread: u16) -> bool;
    /// How often the entry was claimed and freed.
    fn generation(&self, thread: u16) -> u32;
    /// Process and thread ids of the holder of this entry, for people to read; 0 where they are not known.
    fn ids(&self, thread: u16) -> (u32, u32);
}

/// An open signal.
pub struct Area {
    pub shm: Arc<Shm>,
    pub ground: Arc<dyn Ground>,
    pub kind: SignalKind,
    /// All permits of a semaphore.
    pub permits: u32,
    /// Thread entries of the fabric.
    pub threads: u16,
    pub name: Box<str>,
    header: Kept<{ control::BYTES }>,
    cells: u64,
    /// Heavy fences of others reach this process.
    registered: bool,
    origin: Origin,
}

/// Bytes of the control area of a signal of this kind.
pub fn bytes(kind: SignalKind, threads: u16) -> u64 {
    let cells = if kind == SignalKind::Semaphore { u64::from(threads) } else { 0 };
    control::BYTES as u64 + cells * CELL_BYTES
}

/// Permits that a semaphore may have.
pub fn check_permits(permits: u32) -> Result<()> {
    if (1..=PERMITS_MAX).contains(&permits) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!("A semaphore has 1 to {PERMITS_MAX} permits, not {permits}."),
    ))
}

/// Lays out a new control area in private memory of the caller.
pub fn create(area: Span<'_>, kind: SignalKind, permits: u32, threads: u16) -> Result<()> {
    let bytes = bytes(kind, threads);
    area.zero(0, bytes)?;
    let header: Block<'_, { control::BYTES }> = area.block(0)?;
    // ORDER Relaxed: private until the directory shows the object.
    header.u32::<{ control::KIND }>().store(kind as u32, Ordering::Relaxed);
    if kind == SignalKind::Semaphore {
        check_permits(permits)?;
        header.u32::<{ control::CELLS }>().store(u32::from(threads), Ordering::Relaxed);
        header.u64::<{ control::PERMITS }>().store(u64::from(permits), Ordering::Relaxed);
        let word = PoolWord::new(permits, false, 0, 0);
        header.u64::<{ control::WORD }>().store(word.0, Ordering::Relaxed);
    }
    Ok(())
}

impl Area {
    /// Opens the control area of at most `len` bytes at `offset`, checking what never changes in it.
    pub fn open(shm: Arc<Shm>, ground: Arc<dyn Ground>, offset: u64, len: u64, name: &str) -> Result<Area> {
        let header: Kept<{ control::BYTES }> = Kept::new(&shm, offset)?;
        let block = header.block();
        // ORDER Relaxed: written before the directory showed the object, never changed.
        let kind = block.u32::<{ control::KIND }>().load(Ordering::Relaxed);
        let cells = block.u32::<{ control::CELLS }>().load(Ordering::Relaxed);
        let permits = block.u64::<{ control::PERMITS }>().load(Ordering::Relaxed);
        let damaged =
            |what: &str| Error::new(ErrorCode::Corrupt, format!("Signal `{name}`: {what} cannot be."));
        let kind = SignalKind::from_number(u64::from(kind)).ok_or_else(|| damaged("its kind"))?;
        let threads = ground.threads();
        let semaphore = kind == SignalKind::Semaphore;
        if cells != if semaphore { u32::from(threads) } else { 0 } || bytes(kind, threads) > len {
            return Err(damaged("the number of its cells"));
        }
        if semaphore != (1..=u64::from(PERMITS_MAX)).contains(&permits) || (!semaphore && permits != 0) {
            return Err(damaged("the number of its permits"));
        }
        shm.span(offset, bytes(kind, threads))?;
        Ok(Area {
            registered: fence::register(),
            origin: Origin::here(),
            cells: offset + control::BYTES as u64,
            permits: permits as u32,
            name: name.into(),
            shm,
            ground,
            kind,
            threads,
            header,
        })
    }

    /// An error in a forked child. Cheap enough for every call.
    #[inline]
    pub fn same_process(&self) -> Result<()> {
        if self.is_here() { Ok(()) } else { self.ground.usable() }
    }

    /// Whether this is not a forked child of the process that opened it.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// An error in a forked child, after closing, and where nothing may be stored.
    #[inline]
    pub fn writable(&self) -> Result<()> {
        self.ground.usable()?;
        if self.shm.writable() { Ok(()) } else { Err(ErrorCode::ReadOnly.into()) }
    }

    /// The main word.
    #[inline]
    pub fn word(&self) -> &AtomicU64 {
        self.header.block().u64::<{ control::WORD }>()
    }

    /// Notifications of an event that are for one.
    #[inline]
    pub fn ones(&self) -> &AtomicU64 {
        self.header.block().u64::<{ control::ONES }>()
    }

    /// Where those sleep who wait.
    #[inline]
    pub fn waiters(&self) -> WaitWord<'_> {
        WaitWord::new(self.header.block().u32::<{ control::WAIT }>(), self.registered)
    }

    /// The permits of a thread.
    #[inline]
    pub fn cell(&self, thread: u16) -> Result<&AtomicU64> {
        if thread == 0 || thread >= self.threads || self.kind != SignalKind::Semaphore {
            return Err(self.damaged(format!("there is no cell of thread {thread}")));
        }
        Ok(self.shm.block::<8>(self.cells + u64::from(thread) * CELL_BYTES)?.u64::<0>())
    }

    /// The lock's word, checked.
    #[inline]
    pub fn lock_word(&self) -> Result<LockWord> {
        // ORDER Acquire [lock-word]: what the last owner did before it let go.
        let word = LockWord(self.word().load(Ordering::Acquire));
        if word.is_sound(self.threads) {
            Ok(word)
        } else {
            Err(self.damaged(format!("its word is {word:?}")))
        }
    }

    /// Changes the lock's word. False if somebody else was first.
    #[inline]
    pub fn change_lock(&self, from: LockWord, to: LockWord) -> bool {
        // ORDER AcqRel [lock-word]: hands over what the owner did; takes over what the last one did.
        self.word().compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether a thread that once stood in a word is gone for good: its entry shows that it is dead, or is another's by now.
    pub fn is_gone(&self, owner: Owner) -> bool {
        self.ground.generation(owner.thread) != owner.generation || self.ground.thread_is_dead(owner.thread)
    }

    pub fn damaged(&self, what: String) -> Error {
        Error::new(ErrorCode::Corrupt, format!("{} `{}`: {what}.", self.kind.name(), self.name))
    }

    fn timed_out(&self, timeout: Duration) -> Error {
        let what = match self.kind {
            SignalKind::Event => "was notified of nothing",
            SignalKind::Counter => "did not come to what was waited for",
            SignalKind::Lock => "was held by others",
            SignalKind::Semaphore => "had too few permits",
        };
        Error::new(
            ErrorCode::TimedOut,
            format!("The {} `{}` {what} for {} ms.", self.kind.name(), self.name, timeout.as_millis()),
        )
    }

    /// Looks until there is what is waited for, or the time is over: `TimedOut`. `look` learns whether the caller is about to
    /// sleep or to give up: then it also takes over from the dead.
    pub fn wait_for<T>(
        &self,
        timeout: Option<Duration>,
        mut look: impl FnMut(bool) -> Result<Option<T>>,
    ) -> Result<T> {
        if let Some(found) = look(false)? {
            return Ok(found);
        }
        let mut backoff = Backoff::new(&Patience::default(), timeout, Duration::from_millis(WAIT_SLICE_MS));
        loop {
            let (found, sleep) = match backoff.step() {
                Step::Again => (look(false)?, None),
                Step::TimedOut => {
                    return look(true)?.ok_or_else(|| self.timed_out(timeout.unwrap_or_default()));
                }
                Step::Park(most) => {
                    self.writable()?;
                    let armed = self.waiters().arm();
                    (look(true)?, Some((armed, most)))
                }
            };
            if let Some(found) = found {
                return Ok(found);
            }
            if let Some((armed, most)) = sleep {
                self.waiters().sleep(armed, most);
            }
        }
    }
}
