//! Events of caches go over broadcast channels that overrun: one for each cache that has events.
//!
//! The channel is an object like others, with a name that no user can give. Each process has one publisher for each cache,
//! made at its first event.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};
use std::time::Duration;

use super::Inner;
use super::directory::{HEADER_BYTES, ObjectKind, Plan};
use crate::cache::{Event, EventSource};
use crate::channel::{self, Channel, ChannelKind, ChannelOptions, OverrunPolicy, Publisher, Subscriber};
use crate::error::{ErrorCode, Result};
use crate::shm::atomic::Ordering;
use crate::table::{EventKind, Observer, Reference, Table, Verdict};

/// Events that are given up without another attempt after a publisher could not be made.
const REST: u32 = 256;
/// Removals that wait for the next change to be told, before they are sent without one; and at most.
const PENDING_MANY: usize = 64;
const PENDING_MAX: usize = 4096;
/// A ring of events takes no more of a fabric than this part.
const RING_SHARE: u64 = 128;

thread_local! {
    /// Whether the calling thread is telling an event: making a publisher takes chunks, which may evict entries.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Tells the changes that this process makes to one cache.
pub(super) struct Teller {
    fabric: Weak<Inner>,
    cache: u32,
    sender: Mutex<Sender>,
    /// What came up while a thread was telling: sent by whoever tells next, mostly at once by the same thread.
    pending: Mutex<Vec<Vec<u8>>>,
    /// Where events that could not be sent are counted.
    unsent: Option<u64>,
}

#[derive(Default)]
struct Sender {
    publisher: Option<Publisher>,
    message_len_max: usize,
    rest: u32,
}

impl Teller {
    fn new(fabric: Weak<Inner>, table: &Table) -> Teller {
        let (cache, unsent) = (table.object(), table.unsent_offset());
        Teller { fabric, cache, sender: Mutex::default(), pending: Mutex::default(), unsent }
    }

    /// Sends an event; answers how many could not be sent.
    fn send(&self, sender: &mut Sender, kind: EventKind, version: u64, key: &[u8]) -> u64 {
        self.put(sender, &Event::encode(kind, version, key))
    }

    fn put(&self, sender: &mut Sender, message: &[u8]) -> u64 {
        if self.has_publisher(sender)
            && let Some(publisher) = &mut sender.publisher
            && publisher.try_send(&message[..message.len().min(sender.message_len_max)]).is_ok()
        {
            return 0;
        }
        1
    }

    fn has_publisher(&self, sender: &mut Sender) -> bool {
        if sender.publisher.is_some() {
            return true;
        }
        if sender.rest > 0 {
            sender.rest -= 1;
            return false;
        }
        let made = self.fabric.upgrade().and_then(|fabric| {
            let ground = Arc::new(OwnGround(Weak::clone(&self.fabric)));
            let channel = fabric.event_channel(self.cache, ground).ok()?;
            Some((channel.publisher().ok()?, channel.claim_len_max()))
        });
        match made {
            Some((publisher, most)) => {
                (sender.publisher, sender.message_len_max) = (Some(publisher), most);
                true
            }
            None => {
                sender.rest = REST;
                false
            }
        }
    }

    /// Sends what others left.
    fn drain(&self, sender: &mut Sender) -> u64 {
        let mut unsent = 0;
        loop {
            let left = std::mem::take(&mut *lock(&self.pending));
            if left.is_empty() {
                return unsent;
            }
            unsent += left.iter().map(|message| self.put(sender, message)).sum::<u64>();
        }
    }

    /// As `tell` of a thread that is telling already: it may hold the sender itself, or another one that is waited for with
    /// this one held.
    fn tell_nested(&self, kind: EventKind, version: u64, key: &[u8]) -> u64 {
        let mut sender = match self.sender.try_lock() {
            Ok(sender) => sender,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                lock(&self.pending).push(Event::encode(kind, version, key));
                return 0;
            }
        };
        self.send(&mut sender, kind, version, key)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Observer for Teller {
    fn tell(&self, kind: EventKind, version: u64, key: &[u8]) -> u64 {
        if matches!(kind, EventKind::Evict | EventKind::Expire) {
            return self.tell_later(kind, version, key);
        }
        if TELLING.replace(true) {
            return self.tell_nested(kind, version, key);
        }
        let mut sender = lock(&self.sender);
        // What left the cache for this entry comes first.
        let unsent =
            self.drain(&mut sender) + self.send(&mut sender, kind, version, key) + self.drain(&mut sender);
        drop(sender);
        TELLING.set(false);
        unsent
    }

    /// As `tell` of who makes room: making a publisher would take more. The write for which it is made tells soon.
    fn tell_later(&self, kind: EventKind, version: u64, key: &[u8]) -> u64 {
        let mut pending = lock(&self.pending);
        if pending.len() >= PENDING_MAX {
            return 1;
        }
        pending.push(Event::encode(kind, version, key));
        let many = pending.len() >= PENDING_MANY;
        drop(pending);
        if !many || TELLING.replace(true) {
            return 0;
        }
        let unsent = match self.sender.try_lock() {
            Ok(mut sender) if sender.publisher.is_some() => self.drain(&mut sender),
            _ => 0,
        };
        TELLING.set(false);
        unsent
    }
}

/// The fabric of a publisher that the fabric itself keeps: it must not keep the fabric.
struct OwnGround(Weak<Inner>);

impl OwnGround {
    fn with<T>(&self, act: impl FnOnce(&Inner) -> Result<T>) -> Result<T> {
        act(&*self.0.upgrade().ok_or(ErrorCode::Closed)?)
    }
}

impl channel::Ground for OwnGround {
    fn thread(&self) -> Result<u16> {
        self.with(channel::Ground::thread)
    }

    fn usable(&self) -> Result<()> {
        self.with(channel::Ground::usable)
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.with(|inner| Ok(channel::Ground::thread_is_dead(inner, thread))).unwrap_or(false)
    }

    fn pid_of(&self, thread: u16) -> Option<u32> {
        self.with(|inner| Ok(inner.registry.pid_of(thread))).ok().flatten()
    }

    fn verdict(&self, reference: Reference) -> Result<Verdict> {
        self.with(|inner| channel::Ground::verdict(inner, reference))
    }

    fn abort(&self, reference: Reference) {
        let _ = self.with(|inner| {
            channel::Ground::abort(inner, reference);
            Ok(())
        });
    }

    fn take_ring(&self, object: u32, len: u64) -> Result<u64> {
        self.with(|inner| inner.take_ring(object, len))
    }

    fn keep_ring(&self, ring: u64, len: u64) -> Result<()> {
        self.with(|inner| inner.keep_ring(ring, len))
    }

    fn give_back_ring(&self, ring: u64, len: u64) -> Result<()> {
        self.with(|inner| inner.give_back_ring(ring, len))
    }

    fn channel(self: Arc<Self>, _name: &str) -> Result<channel::Area> {
        Err(ErrorCode::Internal.into())
    }
}

/// The events of a cache, as messages.
struct Source(Subscriber);

impl EventSource for Source {
    fn next(&mut self, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<bool> {
        let message = match timeout {
            Some(Duration::ZERO) => self.0.try_recv(into)?,
            timeout => self.0.recv(into, timeout)?,
        };
        Ok(message.is_some())
    }
}

impl Inner {
    /// Bytes of a process's ring of events: four chunks, if that is little of the fabric.
    fn event_lane_bytes(&self) -> u64 {
        let geometry = self.pool.geometry();
        let share = u64::from(geometry.chunk_count) * geometry.chunk_bytes / RING_SHARE;
        let wanted = (4 * geometry.chunk_bytes).min(share.next_power_of_two()).max(geometry.chunk_bytes);
        wanted.clamp(channel::layout::LANE_BYTES_MIN, channel::layout::LANE_BYTES_MAX)
    }

    /// The channel of a cache's events, made now if there is none.
    fn event_channel(&self, cache: u32, ground: Arc<dyn channel::Ground>) -> Result<Channel> {
        let lane_bytes = self.event_lane_bytes();
        let options = ChannelOptions {
            kind: ChannelKind::Broadcast,
            overrun: OverrunPolicy::Overrun,
            lane_bytes: lane_bytes as u32,
            ..ChannelOptions::default()
        };
        let object = self.open_or_create_any(&Plan {
            kind: ObjectKind::Channel,
            name: &format!(".events-{cache}"),
            options: [
                ChannelKind::Broadcast as u64,
                OverrunPolicy::Overrun as u64,
                lane_bytes,
                0,
                0,
                0,
                0,
                0,
            ],
            chunks: 1,
            lay_out: &|run, id| {
                let area = run.sub(HEADER_BYTES, run.len() - HEADER_BYTES)?;
                channel::create(area, &options, id)
            },
        })?;
        Ok(Channel::from_area(self.area(&object, ground)?))
    }

    /// A subscriber to a cache's events.
    pub(super) fn event_source(&self, cache: u32) -> Result<Box<dyn EventSource>> {
        let ground = self.me.get().and_then(Weak::upgrade).ok_or(ErrorCode::Closed)?;
        Ok(Box::new(Source(self.event_channel(cache, ground)?.subscriber()?)))
    }

    /// Has a table of ours tell its events.
    pub(super) fn observe(&self, table: &Table) {
        if !table.has_events() {
            return;
        }
        let mut tellers = lock(&self.tellers);
        let fabric = self.me.get().cloned().unwrap_or_default();
        let teller = tellers.entry(table.object()).or_insert_with(|| Arc::new(Teller::new(fabric, table)));
        table.observe(Arc::clone(teller) as Arc<dyn Observer>);
    }

    /// Sends the events that wait for the next change, because there is none: the fabric is being closed.
    pub(super) fn tell_the_rest(&self) {
        for teller in lock(&self.tellers).values() {
            if TELLING.replace(true) {
                return;
            }
            let unsent = teller.drain(&mut lock(&teller.sender));
            TELLING.set(false);
            self.note_unsent(teller, unsent);
        }
    }

    /// Counts the events that wait as lost: nobody of this process tells anything any more.
    pub(super) fn give_up_events(&self) {
        // A forked child leaves to its parent what its parent has not told yet.
        if !self.registry.is_forked() && self.segment.shm().writable() {
            for teller in lock(&self.tellers).values() {
                let unsent = std::mem::take(&mut *lock(&teller.pending)).len() as u64;
                self.note_unsent(teller, unsent);
            }
        }
    }

    fn note_unsent(&self, teller: &Teller, unsent: u64) {
        if let Some(block) =
            teller.unsent.filter(|_| unsent != 0).and_then(|at| self.segment.shm().view::<8>(at))
        {
            // ORDER Relaxed: a count.
            block.u64::<0>().fetch_add(unsent, Ordering::Relaxed);
        }
    }
}
