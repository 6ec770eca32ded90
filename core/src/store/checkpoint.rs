//! Compaction without stopping writers, one shard at a time: write what is live, make it count, remove what it makes obsolete.
//!
//! * Under the leadership of the flush, flush and begin a new journal file; the next epoch is `first_epoch`.
//! * Walk the buckets of the shard and write every live state.
//! * Flush, so that the checkpoint shows nothing that the journal does not have.
//! * Write the manifest, with this checkpoint in place of the shard's last one, then remove obsolete files.
//!
//! Whatever was published before the new file is in the checkpoint, or something newer of the same key is there or in the
//! journal; whatever is published later is in files from that one on.

use std::time::{Duration, Instant};

use super::core::Core;
use super::flush::wall_expiry;
use super::shards::Map;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::checkpoint::CheckpointFile;
use crate::journal::leader::{Reign, claim};
use crate::journal::manifest::{Manifest, Row, SHARDS_MAX, rows_with};
use crate::journal::{Caller, Journal, Lsn, Record};
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// How long another process may keep a checkpoint of one shard waiting.
const PATIENCE: Duration = Duration::from_secs(120);
/// Parts of one term after which the next one is begun.
const PARTS_OF_A_TERM: u32 = 1 << 19;
/// Times that the number of shards may change during one round over all.
const CHANGES_MAX: u32 = 64;

/// A checkpoint in the making.
struct Making<'a> {
    journal: &'a Journal,
    reign: &'a Reign<'a>,
    /// In force when it was begun.
    before: Option<Manifest>,
    map: Map,
    shard: u32,
}

impl Core {
    /// Whether enough journal has been written since the last checkpoint: as much as was configured, and as much as is live, divided by
    /// the number of shards, of which each has its turn.
    pub fn checkpoint_is_due(&self) -> Result<bool> {
        let words = self.words()?;
        // ORDER Relaxed: a counter; being late or early by a flush does no harm.
        let written = words.journal().written().load(Ordering::Relaxed);
        let window = self.window()?;
        Ok(written > window / u64::from(self.map()?.shards))
    }

    /// Bytes of journal that a round over all shards is made for.
    fn window(&self) -> Result<u64> {
        let words = self.words()?;
        // ORDER Relaxed: figures that decide when, and nothing else.
        let configured = words.checkpoint_at().load(Ordering::Relaxed);
        Ok(configured.max(words.checkpoint_len().load(Ordering::Relaxed)))
    }

    /// Makes the checkpoint of the shard that needs it most; of more of them as long as there are files of another map, or more journal
    /// than a window, as where writers are faster than checkpoints: both take room until then.
    pub fn checkpoint_some(&self) -> Result<()> {
        for _ in 0..SHARDS_MAX {
            match self.checkpoint_shard(None)? {
                Some(manifest) if manifest.is_mixed() || self.is_behind(&manifest)? => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// Whether the full journal files that some shard still needs are more than a window, and more than one or two.
    fn is_behind(&self, manifest: &Manifest) -> Result<bool> {
        let Some(journal) = &self.journal else { return Ok(false) };
        let control = self.words()?.journal();
        // ORDER Acquire [journal-tail]: the files in front of it are written to no more.
        let tail = Lsn(control.tail().load(Ordering::Acquire)).at_sector(0);
        let full = journal.bytes_between(manifest.first.at_sector(0), tail)?;
        Ok(full > self.window()?.max(2 * control.checked_capacity()?))
    }

    /// Makes the checkpoint of a shard, or of the one that needs it most. The answer is the manifest; `None`: another process is making one.
    pub fn checkpoint_shard(&self, wanted: Option<u32>) -> Result<Option<Manifest>> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let words = self.words()?;
        let me = self.me()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let lead = |next| claim(words.checkpointer(), me, &is_dead, &self.checkpoint_watch, next);
        let Some(mut reign) = lead(false)? else { return Ok(None) };
        kill_point!("store.checkpoint.claimed");
        // Only now: whoever led before and names a manifest later removes nothing.
        let mut before = journal.manifest()?;
        if before.as_ref().is_some_and(|manifest| manifest.next_part(reign.term()) > PARTS_OF_A_TERM) {
            drop(reign);
            let Some(next) = lead(true)? else { return Ok(None) };
            reign = next;
            before = journal.manifest()?;
        }
        let map = self.map()?;
        let rows = before.as_ref().map_or(&[][..], |manifest| &manifest.rows[..]);
        let shard = wanted.filter(|shard| *shard < map.shards).unwrap_or_else(|| map.neediest(rows));
        let making = Making { journal, reign: &reign, before, map, shard };
        match self.make_checkpoint(&making) {
            // Deposed meanwhile: its files may be gone, and another makes one.
            Err(_) if !reign.holds() => Err(crate::journal::append::deposed()),
            other => other.map(Some),
        }
    }

    fn make_checkpoint(&self, making: &Making<'_>) -> Result<Manifest> {
        let (journal, reign) = (making.journal, making.reign);
        let words = self.words()?;
        let control = words.journal();
        control.accept()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let (first, first_epoch) =
            journal.cut(control, &Caller { me: self.me()?, is_dead: &is_dead }, self)?;
        kill_point!("store.checkpoint.rolled");
        let places = making.map.places(self.table.bucket_count());
        let is_mine = |bucket: u64| places.get(bucket as usize) == Some(&making.shard);
        let part = making.before.as_ref().map_or(0, |manifest| manifest.next_part(reign.term()));
        let mut file = CheckpointFile::create(journal, (reign.term(), part), first_epoch)?;
        let written = (|| {
            let mut since_beat = 0u64;
            self.table.each_state_in(&is_mine, &mut |key, value, state| {
                if !state.tombstone {
                    file.push(&Record {
                        order: state.order,
                        expiry_ms: wall_expiry(state.expiry),
                        flags: state.client,
                        key,
                        value: Some(value),
                    })?;
                }
                since_beat += 1;
                if since_beat.is_multiple_of(256) && !reign.beat() {
                    return Err(crate::journal::append::deposed());
                }
                Ok(())
            })?;
            kill_point!("store.checkpoint.walked");
            let written = file.finish()?;
            self.flush()?;
            if !reign.beat() {
                return Err(crate::journal::append::deposed());
            }
            self.manifest_with(making, (first, first_epoch), part, written)
        })();
        let manifest = match written {
            Ok(manifest) => manifest,
            Err(error) => {
                // The next one is tried when as much again was written, or on command.
                file.abandon();
                return Err(error);
            }
        };
        // From here on the files stay even if this fails: the manifest may have its name already.
        // ORDER Relaxed: a number that stands for itself.
        let keep = words.feed_bytes().load(Ordering::Relaxed);
        journal.put_in_force(&manifest, keep, &|| reign.holds())?;
        // ORDER Relaxed: figures for statistics and for the next trigger.
        words.checkpoints().fetch_max(manifest.number, Ordering::Relaxed);
        words.checkpoint_len().store(manifest.live_bytes(), Ordering::Relaxed);
        self.sweep(&is_mine)?;
        if making.shard == 0 {
            // Once in a round.
            self.scrub()?;
        }
        Ok(manifest)
    }

    fn manifest_with(
        &self,
        making: &Making<'_>,
        (first, first_epoch): (Lsn, u64),
        part: u32,
        (parts, bytes, records): (u32, u64, u64),
    ) -> Result<Manifest> {
        let (map, before) = (making.map, making.before.as_ref());
        let row = Row {
            map: map.id,
            shards: map.shards,
            shard: making.shard,
            term: making.reign.term(),
            part,
            parts,
            first,
            first_epoch,
            bytes,
            records,
        };
        let rows = rows_with(before.map_or(&[], |manifest| &manifest.rows), row);
        Ok(Manifest {
            term: making.reign.term(),
            shards: map.shards,
            number: before.map_or(0, |manifest| manifest.number).saturating_add(1),
            last_epoch: self.words()?.journal().durable().load(Ordering::Acquire),
            order_floor: self.order_floor()?,
            wall_ms: time::wall_ms(),
            ..Manifest::new(*making.journal.store(), rows)
        })
    }

    /// Makes a checkpoint of every shard, waiting where another process is making one; then its own, because that one may have
    /// looked at the table before the caller's last change.
    pub fn checkpoint_now(&self) -> Result<()> {
        if self.journal.is_none() {
            return Ok(());
        }
        let (mut map, mut changes) = (self.map()?, 0);
        let mut shard = 0;
        while shard < map.shards {
            self.checkpoint_patiently(shard)?;
            shard += 1;
            let now = self.map()?;
            if now != map {
                (map, shard, changes) = (now, 0, changes + 1);
                if changes > CHANGES_MAX {
                    return Err(Error::new(ErrorCode::Busy, "The number of shards changes all the time."));
                }
            }
        }
        Ok(())
    }

    fn checkpoint_patiently(&self, shard: u32) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.checkpoint_shard(Some(shard)) {
                Ok(Some(_)) => return Ok(()),
                // Another makes one, or took over because this thread was stopped for too long.
                Ok(None) => {}
                Err(error) if error.code() == ErrorCode::Busy => {}
                Err(error) => return Err(error),
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::new(ErrorCode::TimedOut, "Another process keeps making a checkpoint."));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
