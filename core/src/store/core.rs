//! What the handles and the ticker of one process share: the table, the journal, the shared words.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::layout::{WORDS_LEN, Words};
use crate::chunk::{Actor, Known, Pool};
use crate::error::{ErrorCode, Result};
use crate::journal::leader::Watch;
use crate::journal::{Caller, Health, Journal};
use crate::shm::atomic::Ordering;
use crate::table::{Hands, KeyState, Table};

/// How long a call waits for its flush at most: a disk that hangs is an error, not a hang.
pub const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// The process and thread that a store runs in.
pub trait Host: Hands {
    /// Refuses a handle that was closed, or that was inherited by a forked child.
    fn enter(&self) -> Result<()>;
    /// Ends the transaction of the calling thread that an error broke off, in all objects: where there is one table, that does it.
    fn end_left(&self, _me: Actor<'_>) -> Result<()> {
        Ok(())
    }
    /// An entry of the thread table that ends with this process: the owner of its snapshots.
    fn process_entry(&self) -> Result<u16>;
}

/// A store as one process has it open.
pub struct Core {
    /// Name of the store.
    pub name: String,
    pub host: Arc<dyn Host>,
    pub table: Table,
    pub object: u32,
    /// Where the store's shared words stand.
    pub words: u64,
    /// `None` for a store without files.
    pub journal: Option<Journal>,
    pub checkpoint_watch: Watch,
    pub recovery_watch: Watch,
    /// Durable tombstones that stayed because a snapshot needed what they replaced.
    pub left: Mutex<Vec<(Vec<u8>, KeyState)>>,
    /// Which chunks the flushes of this process have to look at.
    pub known: Mutex<Known>,
}

/// Tombstones that a process remembers to take out; those beyond are left to the next checkpoint.
const LEFT_MAX: usize = 1 << 16;

/// For so long a change tries to get room before it believes that there is none, as long as others write as well.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// How long and how often a change has looked for room.
#[derive(Default)]
pub struct Patience {
    since: Option<Instant>,
    tries: u32,
}

impl Core {
    /// Memory may be full of what the files do not have yet: flushes, and says whether it is worth another try. Others may take what
    /// that gained, and overwriting may take what growing may not: so it is, for a while, as long as there was something to write.
    pub fn flush_for_room(&self, patience: &mut Patience) -> Result<bool> {
        let since = *patience.since.get_or_insert_with(Instant::now);
        if self.journal.is_none() || since.elapsed() > ROOM_PATIENCE {
            return Ok(false);
        }
        // ORDER Relaxed: a figure.
        let written = || -> Result<u64> { Ok(self.words()?.journal().records().load(Ordering::Relaxed)) };
        let before = written()?;
        self.flush()?;
        self.drop_left()?;
        patience.tries += 1;
        Ok(patience.tries <= 2 || written()? != before)
    }

    /// The pool of the fabric.
    pub fn pool(&self) -> &Pool {
        self.table.pool()
    }

    /// The shared words.
    pub fn words(&self) -> Result<Words<'_>> {
        Words::at(self.pool().shm(), self.words)
    }

    /// Index of the calling thread.
    pub fn me(&self) -> Result<u16> {
        Ok(self.host.actor()?.index)
    }

    /// Whether a thread is proven dead.
    pub fn is_dead(&self, thread: u16) -> bool {
        self.pool().ground().thread_is_dead(thread)
    }

    /// The highest order of any state that left the table.
    pub fn order_floor(&self) -> Result<u64> {
        // ORDER Acquire [order-floor]: at least as high as that of every state whose slot was seen empty.
        Ok(self.table.floor().load(Ordering::Acquire))
    }

    /// Refuses a write before it changes anything.
    #[inline]
    pub fn accept(&self) -> Result<()> {
        match &self.journal {
            Some(_) => self.words()?.journal().accept(),
            None => Ok(()),
        }
    }

    /// Waits until everything that the caller published or saw is durable.
    pub fn flush(&self) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let control = self.words()?.journal();
        let me = self.me()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let ticket = journal.ticket(control);
        journal.wait(control, &Caller { me, is_dead: &is_dead }, self, ticket, FLUSH_PATIENCE)
    }

    /// One flush, if nobody else leads one; a checkpoint, if one is due.
    pub fn tick(&self) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let control = self.words()?.journal();
        let me = self.me()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        journal.flush_if_free(control, &Caller { me, is_dead: &is_dead }, self)?;
        self.drop_left()?;
        if self.checkpoint_is_due()? {
            self.checkpoint_some()?;
        }
        Ok(())
    }

    /// Takes a durable tombstone out of the table. The floor is raised before, so that whoever finds the key absent and
    /// creates it again takes a higher order.
    pub fn drop_tombstone(&self, key: &[u8], state: &KeyState) -> Result<()> {
        kill_point!("store.tombstone.before_floor");
        // ORDER AcqRel [order-floor]: before the slot is emptied; pairs with the load of whoever inserts into an empty one.
        self.table.floor().fetch_max(state.order, Ordering::AcqRel);
        kill_point!("store.tombstone.before_drop");
        let gone = self.table.drop_tombstone(self.host.actor()?, key, state)?;
        kill_point!("store.tombstone.dropped");
        if !gone {
            let mut left = self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if left.len() < LEFT_MAX {
                left.push((key.to_vec(), *state));
            }
        }
        Ok(())
    }

    /// Takes out the tombstones that stayed for snapshots, unless they are still needed.
    pub fn drop_left(&self) -> Result<()> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for (key, state) in &left {
            self.drop_tombstone(key, state)?;
        }
        Ok(())
    }

    /// Makes room for the journal where there is none yet. A full disk is no reason not to read.
    pub fn prepare_journal(&self) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let control = self.words()?.journal();
        let me = self.me()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let caller = Caller { me, is_dead: &is_dead };
        match journal.lead(control, &caller, FLUSH_PATIENCE, |reign| journal.ensure_room(control, reign)) {
            Err(error) if error.code() == ErrorCode::NoSpace => {
                control.set_health(Health::NoSpace);
                Ok(())
            }
            other => other,
        }
    }

    /// Whether the store was recovered and is in use: a new table has floor 0.
    pub fn is_ready(&self) -> Result<bool> {
        Ok(self.order_floor()? != 0)
    }
}

const _: () = assert!(WORDS_LEN >= crate::journal::control::CONTROL_LEN + 128);
