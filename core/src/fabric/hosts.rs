//! What the layers below ask of the fabric.

use std::sync::Arc;

use super::Inner;
use super::directory::{Object, ObjectKind};
use crate::channel;
use crate::chunk::{self, Actor, ChunkId, Pool};
use crate::error::{ErrorCode, Result};
use crate::registry::{Heir, Member, Registry};
use crate::shm::Block;
use crate::shm::atomic::AtomicU32;
use crate::table::{self, Reference, Table, Verdict};

impl Heir for Inner {
    /// First the objects, which only need the thread's number; then its chunks, of which some are kept because an object
    /// names them. What is damaged in a channel, service or signal is passed over: it must neither keep the dead of all others from
    /// being taken over, nor the entry of this one from being free again. What is damaged stays as it is, and `check` tells it.
    fn inherit(&self, thread: u16) -> Result<()> {
        let objects = self.directory.sound_objects(&self.pool)?;
        let (mut areas, mut services, mut unreadable) = (Vec::new(), Vec::new(), false);
        let mut tables = Vec::new();
        for object in &objects {
            if object.kind == ObjectKind::Service {
                if let Some(service) = past(self.service_area(object, Arc::clone(&self.undertaker)))? {
                    past(crate::service::inherit(&service, thread))?;
                    services.push(service);
                } else {
                    unreadable = true;
                }
            }
            if object.kind == ObjectKind::Channel {
                if let Some(area) = past(self.area(object, Arc::clone(&self.undertaker)))? {
                    past(channel::inherit(&area, thread))?;
                    areas.push(area);
                } else {
                    unreadable = true;
                }
            }
            if object.kind == ObjectKind::Store {
                tables.push(self.table(object));
            }
            if object.kind == ObjectKind::Signal {
                past(self.bare_signal(object).and_then(|area| crate::signal::inherit(&area, thread)))?;
            }
        }
        let referenced = |first: ChunkId| {
            let named = self.directory.names_chunk(self.pool.shm(), first).unwrap_or(true);
            let offset = self.pool.geometry().chunk_offset(first);
            // What cannot be read is kept: a leak is repaired by hand, a chunk that is freed in use is not.
            named
                || tables.iter().any(|table| match table {
                    Ok(table) => table.tree().is_some_and(|tree| tree.names_chunk(first).unwrap_or(true)),
                    Err(_) => true,
                })
                || unreadable
                || areas.iter().any(|area| channel::names_ring(area, offset).unwrap_or(true))
                || services.iter().any(|area| crate::service::names_ring(area, offset).unwrap_or(true))
        };
        chunk::inherit(&self.pool, thread, &referenced)?;
        for object in &objects {
            if object.kind.is_table() {
                let table = self.table(object)?;
                if table.has_left(thread)? {
                    // In the place of the dead: whoever reaps because all entries are taken has none of its own.
                    table.end_left(actor(self.registry.member_at(thread)?), thread)?;
                }
                // Before the death is known: who counts anew then finds that the dead has no place any more.
                table.close_line(thread);
                // Who leaves by itself is in the middle of nothing: what it did is counted.
                crate::table::inherit(&table, self.registry.is_dead(thread))?;
                if let Some(tree) = table.tree() {
                    tree.inherit(thread)?;
                }
                if object.kind == ObjectKind::Store {
                    crate::store::object::inherit(&self.pool, object.offset, thread)?;
                    crate::store::object::inherit_snapshots(&table, thread);
                }
            }
        }
        // Its states are ended in all objects, and its messages were before.
        table::finish_left(self.registry.transaction(thread)?);
        Ok(())
    }
}

/// Passes over what is damaged: `None`.
fn past<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == ErrorCode::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

impl chunk::Relief for Inner {
    fn cleaner(&self, object: u32) -> Result<Option<Arc<dyn chunk::Cleaner>>> {
        if let Some(table) = self.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&object)
        {
            return Ok(Some(Arc::clone(table) as Arc<dyn chunk::Cleaner>));
        }
        for known in self.directory.sound_objects(&self.pool)? {
            if known.id == object && known.kind.is_table() {
                return Ok(Some(self.shared_table(&known)?));
            }
        }
        Ok(None)
    }

    fn cleaners(&self) -> Result<Vec<Arc<dyn chunk::Cleaner>>> {
        let objects = self.directory.sound_objects(&self.pool)?;
        let tables = objects.iter().filter(|object| object.kind.is_table());
        tables.map(|object| Ok(self.shared_table(object)? as Arc<dyn chunk::Cleaner>)).collect()
    }

    fn reap(&self) -> bool {
        // What cannot be taken over because content is damaged must not keep a writer from going on.
        self.registry.reap(self).is_ok_and(|report| report.threads + report.processes > 0)
    }
}

impl Inner {
    /// The table of a cache or store, opened once for all who clean it.
    fn shared_table(&self, object: &Object) -> Result<Arc<Table>> {
        let mut tables = self.tables.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(table) = tables.get(&object.id) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.table(object)?);
        tables.insert(object.id, Arc::clone(&table));
        Ok(table)
    }

    /// Chunks that pins keep, the later ones of runs included.
    fn held_chunks(&self) -> Result<u32> {
        let (mut held, mut failure) = (0u32, Ok(()));
        self.registry.each_pin(&mut |chunk| {
            if chunk != 0 {
                match self.pool.run_len(ChunkId(chunk)) {
                    Ok(run) => held = held.saturating_add(run),
                    Err(error) => failure = Err(error),
                }
            }
        });
        failure.map(|()| held)
    }

    /// The calling thread, as the pool knows it.
    #[inline]
    pub(super) fn me(&self) -> Result<Actor<'_>> {
        self.registry.member().map(actor)
    }
}

#[inline]
fn actor(member: Member<'_>) -> Actor<'_> {
    Actor { index: member.index, pins: member.pins, open: member.open, transaction: member.transaction }
}

/// The segment and the registry, as the pool sees them.
pub struct Ground(pub Arc<Registry>);

impl chunk::Ground for Ground {
    fn commit(&self, offset: u64, len: u64) -> Result<()> {
        self.0.segment().commit(offset, len)
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.0.is_dead(thread)
    }

    fn thread_generation(&self, thread: u16) -> u32 {
        self.0.generation(thread)
    }

    fn thread_count(&self) -> u32 {
        self.0.thread_count()
    }

    fn thread_limit(&self) -> u32 {
        u32::from(self.0.thread_entries())
    }

    fn each_pin(&self, visit: &mut dyn FnMut(u32)) {
        self.0.each_pin(visit);
    }

    fn transaction(&self, thread: u16) -> Result<Block<'_, 32>> {
        self.0.transaction(thread)
    }
}

impl crate::cache::Host for Inner {
    #[inline]
    fn enter(&self) -> Result<()> {
        self.registry.enter()
    }

    #[inline]
    fn actor(&self) -> Result<Actor<'_>> {
        self.me()
    }

    #[inline]
    fn seat(&self) -> Result<chunk::Seat> {
        self.registry.seat().map(|(index, offset)| chunk::Seat::new(index, offset))
    }

    #[inline]
    fn reader(&self) -> Result<u16> {
        self.registry.reader()
    }

    fn processes(&self) -> Result<Vec<(crate::registry::ProcessInfo, Vec<u16>)>> {
        self.registry.processes_with_threads()
    }

    fn events(&self, cache: u32) -> Result<Box<dyn crate::cache::EventSource>> {
        self.event_source(cache)
    }

    #[inline]
    fn hold(&self, chunk: ChunkId) -> Result<bool> {
        let count = self.pool.geometry().chunk_count;
        let holds = self.holds.get_or_init(|| chunk::Holds::new(count));
        let run = self.pool.run_len(chunk)?;
        if run > 1 && !holds.is_held(chunk) && self.held_chunks()? + run > count / 4 {
            return Ok(false);
        }
        holds.hold(self, chunk)
    }

    #[inline]
    fn let_go(&self, chunk: ChunkId) {
        // In a forked child the pin is the parent's.
        if let Some(holds) = self.holds.get()
            && !self.registry.is_forked()
        {
            // A pin that cannot be cleared because content is damaged ends with the process.
            let _ = holds.let_go(self, chunk);
        }
    }
}

impl chunk::Holders for Inner {
    fn claim_holder(&self) -> Result<Option<u16>> {
        // Views keep a quarter of the chunks at most, and of the entries.
        let chunks = self.pool.geometry().chunk_count / 4;
        let most =
            (chunks / chunk::PIN_COUNT as u32).max(1).min(u32::from(self.registry.thread_entries()) / 4);
        self.registry.claim_holder(most)
    }

    fn holder_pins(&self, holder: u16) -> Result<crate::shm::Block<'_, 32>> {
        self.registry.holder_pins(holder)
    }

    fn free_holder(&self, holder: u16) -> Result<()> {
        self.registry.free_holder(holder)
    }
}

impl crate::store::Host for Inner {
    fn enter(&self) -> Result<()> {
        self.registry.enter()
    }

    fn end_left(&self, me: Actor<'_>) -> Result<()> {
        for object in self.directory.sound_objects(&self.pool)? {
            if object.kind.is_table() {
                self.table(&object)?.end_left(me, me.index)?;
            }
        }
        table::finish_left(self.registry.transaction(me.index)?);
        Ok(())
    }

    fn process_entry(&self) -> Result<u16> {
        let mut announcer = self.announcer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(entry) = *announcer {
            return Ok(entry);
        }
        // The calling thread is attached first: then the process is.
        self.registry.member()?;
        let most = u32::from(self.registry.thread_entries()) / 2;
        let entry = self.registry.claim_holder(most)?.ok_or(ErrorCode::TooManySnapshots)?;
        *announcer = Some(entry);
        Ok(entry)
    }
}

impl crate::table::Hands for Inner {
    fn actor(&self) -> Result<Actor<'_>> {
        self.me()
    }
}

impl channel::Ground for Inner {
    fn thread(&self) -> Result<u16> {
        Ok(self.registry.member()?.index)
    }

    fn thread_to_end(&self) -> Result<u16> {
        self.registry.thread_to_end()
    }

    fn process(&self) -> Result<u16> {
        crate::store::Host::process_entry(self)
    }

    fn usable(&self) -> Result<()> {
        self.registry.enter()
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.registry.is_dead(thread)
    }

    fn life(&self, thread: u16) -> Option<(&AtomicU32, u32)> {
        self.registry.watch_life(thread)
    }

    fn pid_of(&self, thread: u16) -> Option<u32> {
        self.registry.pid_of(thread)
    }

    fn take_ring(&self, object: u32, len: u64) -> Result<u64> {
        channel::ring::take(&self.pool, self.me()?, object, len)
    }

    fn keep_ring(&self, ring: u64, _len: u64) -> Result<()> {
        channel::ring::keep(&self.pool, self.me()?, ring)
    }

    fn give_back_ring(&self, ring: u64, _len: u64) -> Result<()> {
        channel::ring::give_back(&self.pool, self.me()?, ring)
    }

    fn verdict(&self, reference: Reference) -> Result<Verdict> {
        table::verdict(self.registry.transaction(reference.thread())?, reference)
    }

    fn abort(&self, reference: Reference) {
        if let Ok(words) = self.registry.transaction(reference.thread()) {
            table::abort(words, reference);
        }
    }

    fn pool(&self) -> Option<&Pool> {
        Some(&self.pool)
    }

    fn actor(&self) -> Result<Actor<'_>> {
        self.me()
    }

    fn channel(self: Arc<Self>, name: &str) -> Result<channel::Area> {
        let object = self.channel_object(name)?;
        self.area(&object, Arc::clone(&self) as Arc<dyn channel::Ground>)
    }
}

/// What a channel may ask of whoever takes over from a dead thread: nothing that needs an entry of its own.
pub struct Undertaker(pub Arc<Registry>, pub Arc<Pool>);

impl channel::Ground for Undertaker {
    fn thread(&self) -> Result<u16> {
        Err(ErrorCode::Internal.into())
    }

    fn usable(&self) -> Result<()> {
        Ok(())
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.0.is_dead(thread)
    }

    fn pid_of(&self, thread: u16) -> Option<u32> {
        self.0.pid_of(thread)
    }

    fn pool(&self) -> Option<&Pool> {
        Some(&self.1)
    }

    fn take_ring(&self, _object: u32, _len: u64) -> Result<u64> {
        Err(ErrorCode::Internal.into())
    }

    fn keep_ring(&self, _ring: u64, _len: u64) -> Result<()> {
        Err(ErrorCode::Internal.into())
    }

    fn verdict(&self, reference: Reference) -> Result<Verdict> {
        table::verdict(self.0.transaction(reference.thread())?, reference)
    }

    fn abort(&self, reference: Reference) {
        if let Ok(words) = self.0.transaction(reference.thread()) {
            table::abort(words, reference);
        }
    }

    fn give_back_ring(&self, _ring: u64, _len: u64) -> Result<()> {
        Err(ErrorCode::Internal.into())
    }

    fn channel(self: Arc<Self>, _name: &str) -> Result<channel::Area> {
        Err(ErrorCode::Internal.into())
    }
}
