//! The first opener reads the files into the table; the others wait.
//!
//! The segment holds everything when all processes died: then the state is ready already and there is nothing to do but the
//! next flush. After the loss of the segment the object is new, and one opener, who leads by a word with a term, replays
//! the files. A recoverer that died or was stopped is overtaken by another who begins again with an empty table: the files
//! may have been changed since from another fabric, and a key that was deleted there must not come back. What a sleeper
//! still does when it wakes finds newer states, or a floor above its own, and changes nothing; the one record that it may
//! have put between is found by its id, which is older than the recovery, and then the recovery begins once more.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Host};
use super::shards::first_word;
use crate::chunk::Known;
use crate::chunk::record::{EXPIRY_MAX, EXTENDED_BYTES};
use crate::error::{Error, ErrorCode, Result};
use crate::journal::directory::{Claimant, enter};
use crate::journal::leader::{Reign, Watch, claim};
use crate::journal::manifest::{Manifest, SHARDS_MAX};
use crate::journal::replay::{Progress, Replayed, census, replay, replay_in_parallel, survey};
use crate::journal::{FileLayer, Journal, Lsn, Owner, Record};
use crate::shm::atomic::Ordering;
use crate::shm::time;
use crate::table::{Hands, Restored, Table};

/// Bytes of a journal file for a checkpoint threshold: an eighth of it, and room for the largest batch.
fn file_bytes(checkpoint_bytes: u64, chunk_bytes: u64) -> u64 {
    let largest = (crate::journal::layout::BATCH_CUT as u64 + 2 * chunk_bytes + 8192).next_multiple_of(4096);
    (checkpoint_bytes / 8).clamp(1 << 20, 16 << 20).max(largest).next_multiple_of(4096)
}

/// The boot clock at which an entry that expires on the wall clock is gone; 0 = never.
pub(super) fn boot_expiry(expiry_ms: u64, wall_ms: u64, boot_ms: u64) -> u64 {
    if expiry_ms == 0 {
        return 0;
    }
    // The clock of this host may be further on than that of the host on which the time was clamped to what a record holds.
    boot_ms.saturating_add(expiry_ms.saturating_sub(wall_ms).max(1)).min(EXPIRY_MAX)
}

/// Recoveries that another process disturbed: each needs one that was stopped for a second, lost its reign, and woke.
const DISTURBED_MAX: u32 = 8;

/// Bytes of files from which they are read by several threads.
const PARALLEL_BYTES: u64 = if cfg!(test) { 1 << 20 } else { 8 << 20 };

/// How many threads read so many bytes of files.
fn readers(bytes: u64) -> usize {
    if bytes < PARALLEL_BYTES {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(READERS_MAX)
}

/// Threads that read files at most.
const READERS_MAX: usize = if cfg!(test) { 2 } else { 16 };

/// What opening a store needs besides its table.
pub struct Opening<'a> {
    pub name: &'a str,
    /// The fabric's id, and one for the store if it turns out to be new.
    pub fabric: [u8; 16],
    pub fresh: [u8; 16],
    pub checkpoint_bytes: u64,
    /// Shards, unless the files say how many there are.
    pub shards: u32,
    /// `None` for a store without files, and for one that is only read.
    pub files: Option<Arc<dyn FileLayer>>,
    /// False for a read-only attachment.
    pub writable: bool,
}

impl Core {
    /// Opens a store over its table: enters the directory, recovers if nobody has, makes room for the journal.
    pub fn open(
        host: Arc<dyn Host>,
        table: Table,
        words: u64,
        opening: &Opening<'_>,
        say: &mut dyn FnMut(Progress),
    ) -> Result<Core> {
        let hands: Arc<dyn Hands> = host.clone();
        table.set_hands(Arc::downgrade(&hands));
        let mut core = Core {
            name: opening.name.to_owned(),
            host,
            object: table.object(),
            table,
            words,
            journal: None,
            checkpoint_watch: Watch::new(),
            recovery_watch: Watch::new(),
            left: std::sync::Mutex::default(),
            known: std::sync::Mutex::default(),
        };
        if !opening.writable {
            return if core.is_ready()? {
                Ok(core)
            } else {
                Err(Error::new(
                    ErrorCode::ReadOnly,
                    format!("The store `{}` was not recovered yet: open it once for writing.", opening.name),
                ))
            };
        }
        if let Some(files) = &opening.files {
            let store = if core.is_ready()? { core.words()?.store_id() } else { None };
            let claimant = Claimant {
                owner: Owner::Store,
                name: opening.name,
                fabric: opening.fabric,
                store,
                fresh: opening.fresh,
            };
            let id = enter(&**files, &claimant)?;
            core.journal = Some(Journal::new(Arc::clone(files), id));
        }
        let recovered = core.recover(opening, say)?;
        if let Some(journal) = &core.journal
            && core.words()?.store_id() != Some(*journal.store())
        {
            return Err(other_store(journal));
        }
        core.prepare_journal()?;
        if recovered {
            core.sweep(&|_| true)?;
            core.scrub()?;
        }
        Ok(core)
    }

    /// Makes the store ready (true), or waits until another opener has done so. `say` hears how far it is.
    fn recover(&self, opening: &Opening<'_>, say: &mut dyn FnMut(Progress)) -> Result<bool> {
        let is_dead = |thread: u16| self.is_dead(thread);
        loop {
            if self.is_ready()? {
                return Ok(false);
            }
            let words = self.words()?;
            if let Some(reign) = claim(words.recoverer(), self.me()?, &is_dead, &self.recovery_watch, true)? {
                kill_point!("store.recover.claimed");
                if self.is_ready()? {
                    return Ok(false);
                }
                match self.recover_as(&reign, opening, say) {
                    // Stopped for too long: another has taken over.
                    Err(error) if error.code() == ErrorCode::Busy => continue,
                    result => return result.map(|()| true),
                }
            }
            // The recoverer is alive and moves, or is overtaken: so this ends.
            // ORDER Relaxed: figures to show.
            say(Progress {
                bytes_done: words.recovered().load(Ordering::Relaxed),
                bytes_total: words.to_recover().load(Ordering::Relaxed),
                records: 0,
            });
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn recover_as(
        &self,
        reign: &Reign<'_>,
        opening: &Opening<'_>,
        say: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let words = self.words()?;
        let (mut replayed, mut manifest) = (Replayed::default(), None);
        if let Some(journal) = &self.journal {
            let mut tries = 0;
            loop {
                let began = self.forget_earlier(reign)?;
                match self.replay_files(journal, reign, say) {
                    Ok(found) => (replayed, manifest) = found,
                    Err(error) => {
                        // What is damaged shows while the rest is put into memory: it goes again. Whoever dies here leaves it to the next
                        // recovery, and so does an error; whoever was deposed must leave it.
                        if error.code() != ErrorCode::Busy && reign.beat() {
                            let _ = self.forget(reign);
                        }
                        return Err(error);
                    }
                }
                // The first of all has no predecessor that could interfere.
                if reign.term() == 1 || !self.has_older(began)? {
                    break;
                }
                tries += 1;
                if tries > DISTURBED_MAX {
                    return Err(Error::new(
                        ErrorCode::Busy,
                        "Another process keeps recovering the same store.",
                    ));
                }
            }
            if !words.set_store_id(journal.store()) {
                return Err(other_store(journal));
            }
        }
        if replayed.term_max >= Lsn::PART_MAX {
            return Err(Error::new(ErrorCode::Full, "All terms of the journal are used up."));
        }
        kill_point!("store.recover.before_words");
        // Each of these changes a word only once, from zero: a sleeper that comes here late changes nothing.
        // ORDER Relaxed: ordered by the state below.
        let _ = words.checkpoint_at().compare_exchange(
            0,
            opening.checkpoint_bytes.max(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        let capacity = file_bytes(opening.checkpoint_bytes, self.pool().geometry().chunk_bytes);
        words.journal().init(replayed.term_max + 1, replayed.epoch_max.saturating_add(1), capacity);
        let first_term = crate::journal::leader::LeaderWord::free(replayed.term_max + 1);
        // ORDER Relaxed: ordered by the state below.
        let _ = words.checkpointer().compare_exchange(0, first_term.0, Ordering::Relaxed, Ordering::Relaxed);
        if self.journal.is_some() {
            let told = |of: fn(&Manifest) -> u64| manifest.as_ref().map_or(0, of);
            let shards = match told(|manifest| u64::from(manifest.shards)) {
                0 => opening.shards,
                shards => shards.min(u64::from(SHARDS_MAX)) as u32,
            };
            let seed = (uuid::Uuid::new_v4().as_u128() as u64).max(1);
            let once = [
                (words.shards(), first_word(shards)),
                (words.map_seed(), seed),
                (words.checkpoints(), told(|manifest| manifest.number)),
                (words.checkpoint_len(), told(Manifest::live_bytes)),
            ];
            for (word, value) in once {
                // ORDER Relaxed: ordered by the state below.
                let _ = word.compare_exchange(0, value, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        kill_point!("store.recover.before_ready");
        // The floor is the mark of being ready: from now on an absent key takes an order above all that the files hold, so
        // what a sleeper still wants to restore is refused.
        // ORDER AcqRel [order-floor]: the table and the words stand before.
        let floor = replayed.order_max.max(1);
        let _ = self.table.floor().compare_exchange(0, floor, Ordering::AcqRel, Ordering::Relaxed);
        kill_point!("store.recover.ready");
        Ok(())
    }

    /// Takes out of the table what an earlier recovery put there before it was broken off. Returns the least id that a record
    /// of this recovery can have.
    fn forget_earlier(&self, reign: &Reign<'_>) -> Result<u64> {
        if reign.term() == 1 {
            return Ok(0);
        }
        self.forget(reign)
    }

    /// Takes everything out of a table that is not ready. The answer is as above.
    fn forget(&self, reign: &Reign<'_>) -> Result<u64> {
        let (actor, pool) = (self.host.actor()?, self.pool());
        loop {
            let mut found = Vec::new();
            self.table.each_state(&mut |key, _, state| {
                found.push((key.to_vec(), state.id));
                Ok(())
            })?;
            if found.is_empty() {
                break;
            }
            for (key, id) in &found {
                if !reign.beat() {
                    return Err(crate::journal::append::deposed());
                }
                kill_point!("store.recover.forgetting");
                self.table.forget(actor, key, *id)?;
            }
        }
        // Records of an older chunk have older ids: this thread begins a new one.
        pool.put_away(actor, self.object)?;
        // All that was in the table came out of the files: its chunks may be cleaned, or each attempt would cost its room again.
        for chunk in pool.unflushed(self.object, &mut Known::default())? {
            pool.set_flushed(&chunk, pool.tail(chunk.chunk)?)?;
        }
        Ok(pool.next_id())
    }

    /// Whether the table holds a record from before this recovery: that of a recoverer which was stopped, lost its reign
    /// and put one more record when it woke.
    fn has_older(&self, began: u64) -> Result<bool> {
        let mut any = false;
        self.table.each_state(&mut |_, _, state| {
            any |= state.id < began;
            Ok(())
        })?;
        Ok(any)
    }

    fn replay_files(
        &self,
        journal: &Journal,
        reign: &Reign<'_>,
        say: &mut dyn FnMut(Progress),
    ) -> Result<(Replayed, Option<Manifest>)> {
        let words = self.words()?;
        let files: &dyn FileLayer = &**journal.files();
        let found = survey(files, journal.store())?;
        // ORDER Relaxed: figures to show.
        words.to_recover().store(found.bytes, Ordering::Relaxed);
        // The newest wall clock in the files bounds ours: an entry never lives longer because the clock went back.
        let flushes = census(files, journal.store(), &found)?;
        let wall_ms = time::wall_ms().max(flushes.wall_ms);
        let boot_ms = time::boot_ms();
        let restore = |record: &Record<'_>| -> Result<()> {
            kill_point!("store.recover.record");
            let actor = self.host.actor()?;
            let expiry = boot_expiry(record.expiry_ms, wall_ms, boot_ms);
            let restored =
                Restored { value: record.value, order: record.order, expiry, client: record.flags };
            match self.table.restore(actor, record.key, &restored) {
                // What newer states have replaced fills the memory: the files have it, so it may go.
                Err(error) if error.code() == ErrorCode::Full => {
                    self.note_all_in_files()?;
                    self.table.restore(actor, record.key, &restored)?;
                }
                other => drop(other?),
            }
            Ok(())
        };
        let mut told = |progress: Progress| {
            // ORDER Relaxed: figures to show.
            words.recovered().store(progress.bytes_done, Ordering::Relaxed);
            say(progress);
        };
        let store = journal.store();
        let threads = readers(found.bytes);
        let replayed = if threads == 1 {
            replay(files, store, &found, &flushes, &mut told, &mut |record| {
                if !reign.beat() {
                    return Err(crate::journal::append::deposed());
                }
                restore(record)
            })?
        } else {
            let mut meanwhile = |progress: Progress| {
                told(progress);
                if reign.beat() { Ok(()) } else { Err(crate::journal::append::deposed()) }
            };
            replay_in_parallel(files, store, &found, &flushes, threads, &mut meanwhile, &|record| {
                if !reign.holds() {
                    return Err(crate::journal::append::deposed());
                }
                restore(record)
            })?
        };
        Ok((replayed, found.manifest))
    }

    /// Everything in memory was read from the files, so what is dead of it may be cleaned. Nobody changes the store before it is ready.
    fn note_all_in_files(&self) -> Result<()> {
        for seen in self.pool().unflushed(self.object, &mut Known::default())? {
            let mut walk = self.pool().walk(seen.chunk, EXTENDED_BYTES, seen.from)?;
            while walk.next()?.is_some() {}
            // Whoever dies here: the next one begins again with an empty table.
            self.mark_flushed(&seen, walk.position())?;
        }
        Ok(())
    }

    /// Takes out of some buckets of the table what the journal has and nobody needs: tombstones, and entries whose time is over.
    pub fn sweep(&self, wanted: &dyn Fn(u64) -> bool) -> Result<()> {
        if self.journal.is_none() {
            return Ok(());
        }
        let now = self.table.now_ms();
        let pool = self.pool();
        let (mut tombstones, mut expired) = (Vec::new(), Vec::new());
        self.table.each_state_in(wanted, &mut |key, _, state| {
            if state.tombstone {
                let chunk = pool.geometry().chunk_of(state.offset);
                let flushed = match chunk {
                    Some(chunk) => {
                        pool.is_flushed(chunk, state.offset - pool.geometry().chunk_offset(chunk))?
                    }
                    None => false,
                };
                if flushed || state.relocated {
                    tombstones.push((key.to_vec(), *state));
                }
            } else if state.expiry != 0 && state.expiry <= now {
                expired.push((key.to_vec(), state.id));
            }
            Ok(())
        })?;
        for (key, state) in &tombstones {
            self.drop_tombstone(key, state)?;
        }
        for (key, id) in &expired {
            self.table.bury_expired(self.host.actor()?, key, *id)?;
        }
        Ok(())
    }

    /// Takes keys out of the index that are in no bucket any more.
    pub fn scrub(&self) -> Result<()> {
        if self.journal.is_none() {
            return Ok(());
        }
        self.table.scrub_tree(self.host.actor()?)
    }
}

fn other_store(journal: &Journal) -> Error {
    Error::new(
        ErrorCode::NotAStore,
        format!("{} holds another store than the one in memory.", journal.files().place()),
    )
}
