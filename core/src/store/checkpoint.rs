//! Compaction without stopping writers: write what is live, make it count, remove what it makes obsolete.
//!
//! * Under the leadership of the flush, begin a new journal file; the next epoch is `first_epoch`.
//! * Walk the table and write every live state.
//! * Flush, so that the checkpoint shows nothing that the journal does not have.
//! * Write the manifest, then remove obsolete files.
//!
//! Whatever was published before the new file is in the checkpoint, or something newer of the same key is there or in the
//! journal; whatever is published later is in files from that one on.

use std::time::Duration;

use super::core::Core;
use super::flush::wall_expiry;
use crate::error::{Error, ErrorCode, Result};
use crate::journal::checkpoint::CheckpointFile;
use crate::journal::layout::Manifest;
use crate::journal::leader::{Reign, claim};
use crate::journal::{Journal, Lsn, Record};
use crate::shm::atomic::Ordering;
use crate::shm::time;

/// How long a flush that leads may keep a checkpoint waiting.
const PATIENCE: Duration = Duration::from_secs(30);

impl Core {
    /// Whether enough journal has been written since the last checkpoint: as much as was configured, and as much as is live.
    pub fn checkpoint_is_due(&self) -> Result<bool> {
        let words = self.words()?;
        // ORDER Relaxed: counters; being late or early by a flush does no harm.
        let written = words.journal().written().load(Ordering::Relaxed);
        let configured = words.checkpoint_at().load(Ordering::Relaxed);
        Ok(written > configured.max(words.checkpoint_len().load(Ordering::Relaxed)))
    }

    /// Makes a checkpoint. False: another process is making one.
    pub fn checkpoint(&self) -> Result<bool> {
        let Some(journal) = &self.journal else { return Ok(true) };
        let words = self.words()?;
        let me = self.me()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let Some(reign) = claim(words.checkpointer(), me, &is_dead, &self.checkpoint_watch, true)? else {
            return Ok(false);
        };
        kill_point!("store.checkpoint.claimed");
        let cut = match self.cut_journal(journal) {
            Ok(cut) => cut,
            Err(error) => {
                reign.give_back();
                return Err(error);
            }
        };
        match self.checkpoint_as(journal, &reign, cut) {
            // Deposed meanwhile: its files may be gone, and another makes one.
            Err(_) if !reign.holds() => Err(crate::journal::append::deposed()),
            other => other.map(|()| true),
        }
    }

    /// Begins the journal file from which on the journal is needed besides the checkpoint. Returns its place and the number
    /// of the first flush that writes there.
    fn cut_journal(&self, journal: &Journal) -> Result<(Lsn, u64)> {
        let control = self.words()?.journal();
        control.accept()?;
        let is_dead = |thread: u16| self.is_dead(thread);
        let caller = crate::journal::Caller { me: self.me()?, is_dead: &is_dead };
        journal.lead(control, &caller, PATIENCE, |leader| {
            let first = journal.roll_now(control, leader)?;
            // Nobody else leads, so the next number is drawn after this.
            let epoch = control.next_epoch()?;
            // ORDER Relaxed: a counter.
            control.written().store(0, Ordering::Relaxed);
            Ok((first, epoch))
        })
    }

    fn checkpoint_as(
        &self,
        journal: &Journal,
        reign: &Reign<'_>,
        (first, first_epoch): (Lsn, u64),
    ) -> Result<()> {
        let words = self.words()?;
        let control = words.journal();
        kill_point!("store.checkpoint.rolled");
        let mut file = CheckpointFile::create(journal, reign.term(), first_epoch)?;
        let written = (|| {
            let mut since_beat = 0u64;
            self.table.each_state(&mut |key, value, state| {
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
            let (parts, checkpoint_len, records) = file.finish()?;
            self.flush()?;
            if !reign.beat() {
                return Err(crate::journal::append::deposed());
            }
            Ok(Manifest {
                store: *journal.store(),
                term: reign.term(),
                parts,
                first_epoch,
                last_epoch: control.durable().load(Ordering::Acquire),
                first,
                checkpoint_len,
                records,
                order_floor: self.order_floor()?,
                wall_ms: time::wall_ms(),
            })
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
        journal.publish_manifest(&manifest, &|| reign.holds())?;
        // ORDER Relaxed: figures for statistics and for the next trigger.
        words.manifest_term().fetch_max(u64::from(manifest.term), Ordering::Relaxed);
        words.checkpoint_len().store(manifest.checkpoint_len, Ordering::Relaxed);
        // ORDER Relaxed: a number that stands for itself.
        journal.remove_obsolete(words.feed_bytes().load(Ordering::Relaxed))?;
        self.sweep()
    }

    /// Makes a checkpoint, waiting for one that another process is making; then its own, because that one may have looked
    /// at the table before the caller's last change.
    pub fn checkpoint_now(&self) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            match self.checkpoint() {
                Ok(true) => return Ok(()),
                // Another makes one, or took over because this thread was stopped for too long.
                Ok(false) => {}
                Err(error) if error.code() == ErrorCode::Busy => {}
                Err(error) => return Err(error),
            }
            if start.elapsed() > 4 * PATIENCE {
                return Err(Error::new(ErrorCode::TimedOut, "Another process keeps making a checkpoint."));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
