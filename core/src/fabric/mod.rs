//! The fabric: one segment with its registry, its pool of chunks and its named objects.
//!
//! | file | holds |
//! |---|---|
//! | `options` | how a fabric is opened or created |
//! | `directory` | names to objects, without a lock |
//! | `objects` | opening caches, channels and stores |
//! | `signals` | opening events, counters, locks and semaphores |
//! | `services`, `topics` | opening services and topics |
//! | `events` | channels for the events of caches |
//! | `hosts` | what the layers below ask of the fabric |
//! | `inspect` | what people see: lists, figures |
//! | `check` | every invariant of every layer |

mod check;
mod directory;
mod events;
mod hosts;
mod inspect;
mod objects;
mod options;
mod services;
mod signals;
mod topics;

#[cfg(all(test, not(memora_loom)))]
mod layout_tests;
#[cfg(all(test, not(memora_loom)))]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};

pub use check::{CheckReport, Problem};
pub use directory::ObjectKind;
pub use inspect::{FabricInfo, FabricStat, ObjectInfo};
pub use options::{Create, FabricOptions};
pub use signals::SignalState;

pub use crate::registry::{ProcessInfo, ReapReport};
pub use crate::segment::Backend;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::chunk::{self, Pool, PoolGeometry, Relief};
use crate::error::{Error, ErrorCode, Result};
use crate::registry::{Heir, Registry};
use crate::segment::home::{self, Home};
use crate::segment::{self, Fingerprint, Segment};
use crate::table::Table;
use directory::Directory;

/// A named place in shared memory that all processes of the host may share: caches, channels, stores and signals live in it.
///
/// Clones share the attachment. Every method may be called from any thread. In a forked child every call answers `Forked`:
/// open the fabric anew there.
#[derive(Clone)]
pub struct Fabric {
    inner: Arc<Inner>,
}

/// An attached fabric.
pub(crate) struct Inner {
    name: String,
    segment: Arc<Segment>,
    registry: Arc<Registry>,
    pool: Arc<Pool>,
    directory: Directory,
    /// Tables of other objects that were cleaned from here, by the numbers of their objects.
    tables: Mutex<HashMap<u32, Arc<Table>>>,
    /// This very value.
    me: OnceLock<Weak<Inner>>,
    /// Who tells the events of caches, by the numbers of their objects.
    tellers: Mutex<HashMap<u32, Arc<events::Teller>>>,
    /// What keeps the chunks of this process's views; made with the first.
    holds: OnceLock<chunk::Holds>,
    /// The entry that owns this process's snapshots; claimed with the first.
    announcer: Mutex<Option<u16>>,
    /// How channels are looked at when nobody's thread is at work.
    undertaker: Arc<dyn crate::channel::Ground>,
}

/// Folds every layout constant into one number (FNV-1a over the words).
const fn fold(mut hash: u64, facts: &[u64]) -> u64 {
    let mut index = 0;
    while index < facts.len() {
        let mut byte = 0;
        while byte < 8 {
            hash = (hash ^ (facts[index] >> (8 * byte)) & 0xff).wrapping_mul(0x100_0000_01b3);
            byte += 1;
        }
        index += 1;
    }
    hash
}

/// The layout of this library.
pub(crate) const FINGERPRINT: Fingerprint = Fingerprint {
    layout_hash: {
        let hash = fold(0xcbf2_9ce4_8422_2325, segment::layout::FACTS);
        let hash = fold(hash, crate::registry::layout::FACTS);
        let hash = fold(hash, crate::chunk::layout::FACTS);
        let hash = fold(hash, crate::table::layout::FACTS);
        let hash = fold(hash, crate::tree::layout::FACTS);
        let hash = fold(hash, crate::channel::layout::FACTS);
        let hash = fold(hash, crate::channel::queue::layout::FACTS);
        let hash = fold(hash, crate::channel::log::layout::FACTS);
        let hash = fold(hash, crate::channel::log::files::words::FACTS);
        let hash = fold(hash, crate::store::layout::FACTS);
        let hash = fold(hash, crate::signal::layout::FACTS);
        let hash = fold(hash, crate::service::layout::FACTS);
        fold(hash, directory::FACTS)
    },
};

impl Fabric {
    /// Opens the fabric `name`, or creates it with a limit of 256 MiB that only its user may open.
    pub fn open(name: &str) -> Result<Fabric> {
        FabricOptions::new().open(name)
    }

    /// The fabrics in a home; `None`: in the default one. What cannot be opened is listed with its problem.
    pub fn list(home: Option<&Path>) -> Result<Vec<FabricInfo>> {
        inspect::list(home)
    }

    /// Removes a fabric's name and, when nobody is attached any more, its memory. Attached processes go on with it, unseen
    /// by those who open the name anew.
    pub fn remove(home: Option<&Path>, name: &str) -> Result<()> {
        home::check_name(name)?;
        let path = home.map_or_else(home::default_home, PathBuf::from);
        let mut found = false;
        if path.exists() {
            let home = Home::open(&path, false)?;
            for suffix in [".fabric", ".sysv"] {
                let file = format!("{name}{suffix}");
                if !home.join(&file).exists() {
                    continue;
                }
                found = true;
                if suffix == ".sysv"
                    && let Ok(descriptor) =
                        home.open_file(&file, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
                    && let Some((key, _)) = segment::sysv_key(&descriptor)
                {
                    segment::remove_sysv(key)?;
                }
                home.remove(&file)?;
            }
        }
        let posix = Home::posix();
        if let Ok(posix) = posix {
            let file = options::posix_name(name);
            if posix.join(&file).exists() {
                found = true;
                posix.remove(&file)?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(Error::new(
                ErrorCode::NotFound,
                format!("There is no fabric `{name}` in {}.", path.display()),
            ))
        }
    }

    fn attach(name: &str, segment: Segment) -> Result<Fabric> {
        let segment = Arc::new(segment);
        let geometry = *segment.geometry();
        let registry = Registry::new(Arc::clone(&segment)).shared();
        let pool = Arc::new(Pool::new(
            Arc::clone(segment.shm()),
            PoolGeometry {
                chunk_bytes: geometry.chunk_bytes,
                chunk_count: geometry.chunk_count,
                table_offset: geometry.chunk_table_offset,
                arena_offset: geometry.arena_offset,
            },
            Arc::new(hosts::Ground(Arc::clone(&registry))),
        )?);
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            directory: Directory::new(&segment),
            tables: Mutex::default(),
            me: OnceLock::new(),
            tellers: Mutex::default(),
            holds: OnceLock::new(),
            announcer: Mutex::new(None),
            undertaker: Arc::new(hosts::Undertaker(Arc::clone(&registry), Arc::clone(&pool))),
            segment,
            registry,
            pool,
        });
        let heir: Weak<Inner> = Arc::downgrade(&inner);
        let _ = inner.me.set(Weak::clone(&heir));
        inner.registry.set_heir(Weak::clone(&heir) as Weak<dyn Heir>);
        inner.pool.set_relief(heir as Weak<dyn Relief>);
        if inner.segment.shm().writable() {
            match inner.registry.enter_process() {
                Err(error) if error.code() == ErrorCode::TooManyProcesses => {
                    inner.registry.reap(&*inner)?;
                    inner.registry.enter_process()?;
                }
                result => result?,
            }
            // Whoever comes takes over from those who went: a cheap scan where nobody died.
            // Damage must not keep anybody from looking at it: what it touches stays where it is.
            match inner.registry.reap(&*inner) {
                Err(error) if error.code() != ErrorCode::Corrupt => return Err(error),
                _ => {}
            }
        }
        Ok(Fabric { inner })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file that stands for it, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.inner.segment.path().map(PathBuf::as_path)
    }

    /// The memory file of a fabric with the memfd backend, to be handed to other processes.
    pub fn memfd(&self) -> Result<std::os::fd::OwnedFd> {
        match (self.inner.segment.backend(), self.inner.segment.file()) {
            (Backend::Memfd, Some(file)) => {
                file.try_clone().map_err(|error| Error::io("dup", "the memory file", &error))
            }
            _ => Err(Error::new(
                ErrorCode::Unsupported,
                "Only a fabric with the memfd backend has a memory file.",
            )),
        }
    }

    /// Takes over from dead processes and threads now. Everybody does so when it opens the fabric or needs room.
    pub fn reap(&self) -> Result<ReapReport> {
        self.inner.registry.enter()?;
        self.inner.registry.reap(&*self.inner)
    }

    /// Ends the attachment for all its handles: later calls answer `Closed`. Memory is unmapped when the last handle is
    /// dropped. Data stays. Close stores first: closing one flushes it.
    pub fn close(&self) -> Result<()> {
        self.inner.registry.enter()?;
        self.inner.tell_the_rest();
        self.inner.registry.close();
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.give_up_events();
        // A failure leaves entries to the next reaper: this process holds their lock no longer.
        let _ = self.registry.leave_all(self);
    }
}
