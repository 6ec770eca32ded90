//! Named points at which a test kills or freezes the process.
//!
//! Around every store that others can see stands `kill_point!("layer.operation.where")`. Without the feature
//! `kill-points` it is nothing at all. With it, `MEMORA_KILL_POINT=name:nth:kill` (or `stop`) makes the process send
//! itself SIGKILL (or SIGSTOP) when it reaches the point for the nth time, counted from 1.

/// Marks a kill point; the name must stand in [`NAMES`].
macro_rules! kill_point {
    ($name:literal) => {
        #[cfg(feature = "kill-points")]
        {
            const INDEX: usize = $crate::shm::kill_point::index_of($name);
            $crate::shm::kill_point::reached(INDEX);
        }
    };
}

/// Every kill point, by layer. A name is `layer.operation.where`.
pub const NAMES: &[&str] = &[
    // segment
    "segment.create.locked",
    "segment.create.before_publish",
    "segment.create.published",
    "segment.create.key_written",
    // registry
    "registry.process.locked",
    "registry.process.live",
    "registry.process.before_free",
    "registry.process.freed",
    "registry.thread.claimed",
    "registry.thread.life_taken",
    "registry.thread.live",
    "registry.thread.inherited",
    "registry.thread.before_free",
    "registry.thread.freed",
    "registry.leave.before_linger",
    "registry.holder.claimed",
    "registry.holder.live",
    "registry.holder.before_free",
    "registry.holder.freed",
    "registry.reap.process_locked",
    "registry.reap.before_process_free",
    "registry.reap.process_freed",
    "registry.reap.thread_locked",
    "registry.reap.thread_inherited",
    "registry.reap.before_thread_free",
    "registry.reap.thread_freed",
    // directory
    "directory.create.before_publish",
    "directory.create.published",
    // chunk
    "chunk.allocate.before_open",
    "chunk.allocate.opened",
    "chunk.allocate.described",
    "chunk.charge.charged",
    "chunk.row.emptied",
    "chunk.row.before_open",
    "chunk.row.opened",
    "chunk.run.taken",
    "chunk.run.continued",
    "chunk.run.before_seal",
    "chunk.run.before_requeue",
    "chunk.run.sealed",
    "chunk.run.before_part",
    "chunk.append.written",
    "chunk.append.below_tail",
    "chunk.adopt.before",
    "chunk.adopt.opened",
    "chunk.settle.before",
    "chunk.settle.after",
    "chunk.retire.before",
    "chunk.retire.quiet",
    "chunk.free.before",
    "chunk.free.after",
    "chunk.pin.announced",
    "chunk.hold.announced",
    "chunk.hold.before_clear",
    "chunk.hold.cleared",
    "chunk.clean.before_evicting",
    "chunk.clean.evicting",
    "chunk.clean.before_quiesce",
    "chunk.inherit.before_settle",
    "chunk.inherit.before_free",
    "chunk.inherit.before_unclean",
    "chunk.parcel.taken",
    "chunk.parcel.before_free",
    "chunk.parcel.freed",
    // table
    "table.replace.before_publish",
    "table.replace.published",
    "table.unlink.before",
    "table.unlink.after",
    "table.insert.before_unlock",
    "table.insert.locked",
    "table.insert.unlocked",
    "table.insert.before_publish",
    "table.insert.published",
    "table.lock.before",
    "table.lock.stolen",
    "table.lock.poisoned",
    "table.split.before_start",
    "table.split.started",
    "table.split.migrated",
    "table.split.before_swing",
    "table.split.swung",
    "table.split.before_freeze",
    "table.split.frozen",
    "table.split.before_migrated",
    "table.split.before_move",
    "table.split.moved",
    "table.stamp.before",
    "table.stamp.done",
    "table.decide.before_abort",
    "table.decide.aborted",
    "table.intent.before_begin",
    "table.intent.begun",
    "table.intent.installed",
    "table.intent.before_proving",
    "table.intent.proving",
    "table.intent.before_commit",
    "table.intent.committed",
    "table.intent.decided",
    "table.intent.before_drop",
    "table.intent.before_stamp",
    "table.intent.stamped",
    "table.intent.before_back",
    "table.intent.back",
    "table.intent.before_end",
    "table.intent.ended",
    "table.inherit.before_abort",
    "table.inherit.state_ended",
    "table.inherit.before_none",
    "table.cut.before_fence",
    "table.cut.fenced",
    "table.clean.before_move",
    "table.clean.moved",
    "table.drop.before",
    "table.drop.after",
    "table.evict.before_position",
    "table.evict.before_put_back",
    "table.inherit.before_retire",
    "table.stats.before_close",
    "table.event.before_tell",
    "table.advisor.locked",
    "table.advisor.before_unlock",
    "table.flush.before_pending",
    "table.flush.pending",
    "table.flush.before_done",
    "table.flush.done",
    "table.lease.asked",
    "table.lease.before_ring",
    // channel
    "channel.lane.before_adopt",
    "channel.lane.adopted",
    "channel.lane.taking",
    "channel.lane.live",
    "channel.ring.taken",
    "channel.ring.named",
    "channel.leave.before",
    "channel.leave.after",
    "channel.inherit.before_close",
    "channel.inherit.closed",
    "channel.pad.before_commit",
    "channel.pad.committed",
    "channel.frame.announced",
    "channel.frame.before_commit",
    "channel.frame.committed",
    "channel.batch.before_commit",
    "channel.batch.committed",
    "channel.gate.before_set",
    "channel.gate.set",
    "channel.gate.before_open",
    "channel.gate.opened",
    "channel.gate.before_back",
    "channel.gate.back",
    "channel.gate.before_settle",
    "channel.gate.settled",
    "table.verdict.before_abort",
    "table.verdict.aborted",
    "channel.tail.counted",
    "channel.repair.before_tail",
    "channel.repair.moved",
    "channel.close.before",
    "channel.close.after",
    "channel.place.before",
    "channel.place.after",
    "channel.join.claimed",
    "channel.place.counted",
    "channel.jump.marked",
    "channel.jump.counted",
    "channel.join.before_live",
    "channel.join.live",
    "channel.attach.before",
    "channel.attach.after",
    "channel.join.announced",
    "channel.eject.before",
    "channel.eject.after",
    "channel.wake.before_clear",
    "channel.wake.cleared",
    "channel.wait.armed",
    "channel.return.counted",
    "channel.return.before",
    "channel.return.after",
    "channel.ack.before",
    "channel.ack.after",
    "channel.extend.before",
    "channel.extend.after",
    "channel.consume.before_claim",
    "channel.consume.claimed",
    "channel.take.prepared",
    "channel.take.before_open",
    "channel.take.open",
    "channel.take.claimed",
    "channel.take.cell_gone",
    "channel.take.shown",
    "channel.take.closed",
    "channel.help.before",
    "channel.help.noted",
    "channel.settle.before_tail",
    "channel.settle.tail",
    "channel.settle.closed",
    "channel.hand.before_floor",
    "channel.hand.floor",
    "channel.hand.taken",
    "channel.hand.named",
    "channel.enter.joining",
    "channel.enter.live",
    "channel.enter.before_adopt",
    "channel.enter.adopted",
    "channel.quit.before",
    "channel.quit.after",
    "channel.inherit.before_left",
    "channel.inherit.left",
    "channel.redeliver.before",
    "channel.redeliver.after",
    "channel.letter.before",
    "channel.letter.marked",
    "channel.letter.sent",
    "channel.letter.done",
    "channel.letter.back",
    // journal
    "journal.init.word",
    "journal.lead.claimed",
    "journal.epoch.drawn",
    "journal.file.before_create",
    "journal.file.created",
    "journal.file.reserved",
    "journal.file.header_written",
    "journal.file.before_install",
    "journal.file.installed",
    "journal.batch.before_write",
    "journal.batch.written",
    "journal.batch.before_sync",
    "journal.batch.synced",
    "journal.tail.moved",
    "journal.flush.before_settle",
    "journal.flush.settled",
    "journal.durable.moved",
    "journal.lead.before_release",
    "journal.lead.released",
    // store
    "store.identity.before_write",
    "store.identity.before_rename",
    "store.identity.renamed",
    "store.identity.locked",
    "store.feed.before_rename",
    "store.feed.renamed",
    "store.flush.cut",
    "store.flush.before_mark",
    "store.flush.marked",
    "store.tombstone.before_floor",
    "store.tombstone.before_drop",
    "store.tombstone.dropped",
    "store.checkpoint.claimed",
    "store.checkpoint.rolled",
    "store.checkpoint.walked",
    "store.checkpoint.before_sync",
    "store.checkpoint.synced",
    "store.manifest.before_rename",
    "store.manifest.renaming",
    "store.manifest.renamed",
    "store.manifest.durable",
    "store.checkpoint.removing",
    "store.shards.before_change",
    "store.shards.changed",
    "store.recover.claimed",
    "store.recover.forgetting",
    "store.recover.record",
    "store.recover.before_words",
    "store.recover.before_ready",
    "store.recover.ready",
    // signal
    "signal.notify.before_all",
    "signal.notify.all",
    "signal.notify.before_one",
    "signal.notify.one",
    "signal.notified.before_take",
    "signal.notified.taken",
    "signal.counter.before_change",
    "signal.counter.changed",
    "signal.lock.before_take",
    "signal.lock.taken",
    "signal.lock.before_free",
    "signal.lock.freed",
    "signal.lock.before_consistent",
    "signal.lock.consistent",
    "signal.inherit.before_free",
    "signal.inherit.freed",
    "signal.permits.before_open",
    "signal.permits.open",
    "signal.permits.before_help",
    "signal.permits.helped",
    "signal.permits.before_move",
    "signal.permits.moved",
    "signal.permits.before_close",
    "signal.permits.closed",
    "signal.permits.before_cancel",
    "signal.permits.cancelled",
    "signal.inherit.before_cancel",
    "signal.inherit.cancelled",
    "signal.inherit.before_return",
    "signal.inherit.returning",
    // service
    "service.client.before_adopt",
    "service.client.adopted",
    "service.client.taking",
    "service.client.live",
    "service.ring.taken",
    "service.ring.named",
    "service.close.before",
    "service.close.after",
    "service.server.before",
    "service.server.live",
    "service.server.before_free",
    "service.server.freed",
    "service.ask.before",
    "service.ask.asked",
    "service.ask.posted",
    "service.request.named",
    "service.request.before_keep",
    "service.request.kept",
    "service.request.copied",
    "service.reply.named",
    "service.reply.kept",
    "service.reply.copied",
    "service.inherit.before_keep",
    "service.take.before",
    "service.take.after",
    "service.answer.before_adopt",
    "service.answer.adopted",
    "service.answer.before",
    "service.answer.answered",
    "service.answer.freed",
    "service.answer.before_let_go",
    "service.answer.let_go",
    "service.withdraw.before",
    "service.withdraw.after",
    "service.death.before",
    "service.death.after",
    "service.reuse.before",
    "service.reuse.after",
    "service.leave.before",
    "service.leave.after",
    "service.inherit.before_died",
    "service.inherit.died",
    "service.inherit.before_close",
    "service.inherit.closed",
    "service.inherit.before_free",
    "service.inherit.freed",
    // the harness itself
    "test.self",
    // logs
    "channel.log_record.written",
    "channel.log_record.counted",
    "channel.log_publish.before",
    "channel.log_publish.done",
    "channel.log_block.before_take",
    "channel.log_block.taken",
    "channel.log_block.emptied",
    "channel.log_block.changed",
    "channel.log_block.before_close",
    "channel.log_block.closed",
    "channel.log_parcel.counted",
    "channel.log_parcel.before_name",
    "channel.log_parcel.named",
    "channel.log_parcel.before_unname",
    "channel.log_parcel.unnamed",
    "channel.log_parcel.before_keep",
    "channel.log_parcel.before_mark",
    "channel.log_parcel.marked",
    "channel.log_parcel.before_freed",
    "channel.log_parcel.before_empty",
    "channel.log_trim.before",
    "channel.log_trim.done",
    "channel.log_join.joined",
    "channel.log_attach.before_mark",
    "channel.log_attach.marked",
    "channel.log_place.before",
    "channel.log_place.after",
    "channel.log_inherit.before_close",
    "channel.log_inherit.closed",
    // log_files
    "channel.log_files_flush.before_mark",
    "channel.log_files_flush.marked",
    "channel.log_files_recover.claimed",
    "channel.log_files_recover.before_cells",
    "channel.log_files_recover.cells",
    "channel.log_files_recover.reader",
    "channel.log_files_recover.before_ready",
    "channel.log_files_recover.ready",
    "channel.log_files_trim.claimed",
    "channel.log_files_trim.before_stored",
    "channel.log_files_trim.stored",
    // ordered index
    "tree.publish.before",
    "tree.publish.after",
    "tree.touch.before",
    "tree.touch.after",
    "tree.leave.before",
    "tree.leave.after",
    "tree.map.before",
    "tree.map.named",
    "tree.intent.noted",
    "tree.divide.installed",
    "tree.divide.linked",
    "tree.grow.linked",
    "tree.tell.after",
    "tree.merge.dead",
    "tree.merge.fenced",
    "tree.merge.for_good",
    "tree.merge.taken_over",
    "tree.merge.parent",
    "tree.merge.left",
    "tree.free.before",
    "tree.free.after",
    "table.leave.locked",
    // messages that are too long for a lane
    "channel.parcel.before_name",
    "channel.parcel.named",
    "channel.parcel.before_commit",
    "channel.parcel.committed",
    "channel.parcel.kept",
    "channel.parcel.before_unname",
    "channel.parcel.unnamed",
    "channel.parcel.before_inherit",
    "channel.parcel.before_end",
    // tools for the files of a store
    "store.backup.before_head",
    "store.backup.complete",
    "store.restore.before_removing",
    "store.restore.removing",
    "store.repair.before_aside",
    "store.repair.aside",
    "table.bury.published",
    "table.snapshot.before_claim",
    "table.snapshot.claimed",
    "table.snapshot.opened",
    "table.snapshot.before_withdraw",
    "table.snapshot.withdrawn",
    "table.snapshot.before_take_over",
    "table.snapshot.taken_over",
    "table.snapshot.before_cancel",
    "table.snapshot.cancelled",
    "table.snapshot.before_fence",
    "table.snapshot.fenced",
];

/// The place of a name in [`NAMES`]; fails the build for an unknown one.
pub const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while index < NAMES.len() {
        if equal(NAMES[index].as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("this kill point does not stand in NAMES")
}

const fn equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(feature = "kill-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::NAMES;

    static HITS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    struct Armed {
        index: usize,
        nth: u64,
        signal: libc::c_int,
    }

    /// Reads `name:nth:kill|stop`.
    fn parse(text: &str) -> Option<Armed> {
        let mut parts = text.split(':');
        let (name, nth, action) = (parts.next()?, parts.next()?, parts.next()?);
        let index = NAMES.iter().position(|known| *known == name)?;
        let signal = match action {
            "kill" => libc::SIGKILL,
            "stop" => libc::SIGSTOP,
            _ => return None,
        };
        Some(Armed { index, nth: nth.parse().ok()?, signal })
    }

    /// Counts the point and, if it is the armed one at its turn, sends this process the signal.
    pub fn reached(index: usize) {
        let hit = HITS[index].fetch_add(1, Ordering::Relaxed) + 1;
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var("MEMORA_KILL_POINT").ok()?;
            let armed = parse(&text);
            assert!(armed.is_some(), "MEMORA_KILL_POINT={text} is not name:nth:kill|stop with a known name");
            armed
        });
        if let Some(armed) = armed
            && armed.index == index
            && armed.nth == hit
        {
            // To this very thread: a signal to the process may be taken by another thread, and this one would run on.
            // SAFETY: sends a signal; takes no pointers.
            unsafe { libc::raise(armed.signal) };
        }
    }

    /// How often each point of [`NAMES`] was reached in this process.
    pub fn hits() -> Vec<(&'static str, u64)> {
        NAMES.iter().zip(&HITS).map(|(name, hits)| (*name, hits.load(Ordering::Relaxed))).collect()
    }
}

#[cfg(feature = "kill-points")]
pub use armed::{hits, reached};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_have_their_form() {
        let mut seen = std::collections::HashSet::new();
        for name in NAMES {
            assert!(seen.insert(name), "{name} stands twice");
            assert!(
                name.split('.').count() >= 2 && !name.contains(':'),
                "{name} is not layer.operation.where"
            );
        }
        assert_eq!(NAMES[index_of("test.self")], "test.self");
    }
}
