//! A channel without a segment or a registry, for tests and models.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};

use super::area::{Area, Ground, create};
use super::{Channel, ChannelKind, ChannelOptions, OverrunPolicy};
use crate::chunk::{self, Actor, Pool};
use crate::error::{ErrorCode, Result};
use crate::shm::Shm;
use crate::table::{Reference, Verdict};

thread_local! {
    /// Who the calling thread is; tests set it.
    static THREAD: Cell<u16> = const { Cell::new(1) };
}

/// The entry that ends with the process.
pub const PROCESS: u16 = 6;

/// The calling thread is this entry from now on.
pub fn act_as(thread: u16) {
    THREAD.set(thread);
}

/// Threads are numbers; the test says who is dead. Rings follow the control area.
pub struct Stage {
    pub shm: Arc<Shm>,
    pub control: u64,
    dead: Mutex<HashSet<u16>>,
    rings: Mutex<Rings>,
    /// The channel for dead letters: a stage of its own.
    letters: Mutex<Option<Arc<Stage>>>,
    /// How transactions stand, by their references; the others are over.
    verdicts: Mutex<HashMap<u64, Verdict>>,
    /// For long messages, in a space of its own.
    chunks: OnceLock<(Arc<chunk::testing::Stage>, Arc<Pool>)>,
    /// Runs once, behind the next look at a verdict.
    after_look: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// Bytes of a control area in tests.
pub const CONTROL_BYTES: u64 = (64 << 10) - 256;

#[derive(Default)]
struct Rings {
    next: u64,
    free: Vec<u64>,
}

impl Stage {
    /// A space with room for a control area and `rings` rings.
    pub fn new(shm: Arc<Shm>, control: u64) -> Arc<Stage> {
        let rings = Rings { next: control + CONTROL_BYTES, ..Rings::default() };
        Arc::new(Stage {
            shm,
            control,
            dead: Mutex::default(),
            rings: Mutex::new(rings),
            letters: Mutex::default(),
            verdicts: Mutex::default(),
            chunks: OnceLock::new(),
            after_look: Mutex::default(),
        })
    }

    /// From now on there are chunks of 16 KiB for long messages.
    #[cfg(not(memora_loom))]
    pub fn give_chunks(&self, count: u32) -> &Pool {
        &self.chunks.get_or_init(|| chunk::testing::Stage::pool(8, count, 16 << 10)).1
    }

    /// Dead letters go there.
    pub fn send_letters_to(&self, other: &Arc<Stage>) {
        *self.letters.lock().unwrap() = Some(Arc::clone(other));
    }

    /// From now on a transaction stands so.
    pub fn decide(&self, reference: Reference, verdict: Verdict) {
        self.verdicts.lock().unwrap().insert(reference.0, verdict);
    }

    /// What happens while somebody who has looked at a verdict next is stopped.
    pub fn after_next_look(&self, hook: impl FnOnce() + Send + 'static) {
        *self.after_look.lock().unwrap() = Some(Box::new(hook));
    }

    /// From now on the kernel says that this thread is dead.
    pub fn kill(&self, thread: u16) {
        self.dead.lock().unwrap().insert(thread);
        if let Some((stage, _)) = self.chunks.get() {
            stage.kill(thread);
        }
    }
}

impl Ground for Stage {
    fn thread(&self) -> Result<u16> {
        Ok(THREAD.get())
    }

    fn process(&self) -> Result<u16> {
        Ok(PROCESS)
    }

    fn usable(&self) -> Result<()> {
        Ok(())
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.dead.lock().unwrap().contains(&thread)
    }

    fn pid_of(&self, thread: u16) -> Option<u32> {
        Some(u32::from(thread))
    }

    fn take_ring(&self, _object: u32, len: u64) -> Result<u64> {
        let mut rings = self.rings.lock().unwrap();
        if let Some(ring) = rings.free.pop() {
            return Ok(ring);
        }
        let ring = rings.next;
        if ring + len > self.shm.len() {
            return Err(ErrorCode::Full.into());
        }
        rings.next += len;
        Ok(ring)
    }

    fn keep_ring(&self, _ring: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn give_back_ring(&self, ring: u64, _len: u64) -> Result<()> {
        self.rings.lock().unwrap().free.push(ring);
        Ok(())
    }

    fn verdict(&self, reference: Reference) -> Result<Verdict> {
        let verdict = self.verdicts.lock().unwrap().get(&reference.0).copied();
        let hook = self.after_look.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        Ok(verdict.unwrap_or(Verdict::Over))
    }

    fn abort(&self, reference: Reference) {
        if let Some(verdict @ Verdict::Undecided) = self.verdicts.lock().unwrap().get_mut(&reference.0) {
            *verdict = Verdict::Aborted;
        }
    }

    fn pool(&self) -> Option<&Pool> {
        self.chunks.get().map(|(_, pool)| &**pool)
    }

    fn actor(&self) -> Result<Actor<'_>> {
        let (stage, _) = self.chunks.get().ok_or(ErrorCode::Internal)?;
        Ok(stage.actor(THREAD.get()))
    }

    fn channel(self: Arc<Self>, _name: &str) -> Result<Area> {
        let stage = self.letters.lock().unwrap().clone().ok_or(ErrorCode::NotFound)?;
        Area::open(stage.shm.clone(), stage.clone(), stage.control, CONTROL_BYTES, "letters")
    }
}

/// A channel on a stage of its own, as in a chunk of 64 KiB.
pub fn channel(
    kind: ChannelKind,
    overrun: OverrunPolicy,
    lane_bytes: u64,
    rings: u64,
) -> (Arc<Stage>, Channel) {
    let lane_bytes = lane_bytes as u32;
    channel_with(&ChannelOptions { kind, overrun, lane_bytes, ..ChannelOptions::default() }, rings)
}

/// As [`channel`], with any options.
pub fn channel_with(options: &ChannelOptions, rings: u64) -> (Arc<Stage>, Channel) {
    let control = 256;
    let len = control + CONTROL_BYTES + rings * u64::from(options.lane_bytes);
    let shm = Arc::new(Shm::heap(len).unwrap());
    create(shm.span(control, CONTROL_BYTES).unwrap(), options, 1).unwrap();
    let stage = Stage::new(shm.clone(), control);
    let channel = reopen(&stage);
    (stage, channel)
}

/// A channel in memory that holds other things as well: at `control`, its rings behind.
#[cfg(not(memora_loom))]
pub fn channel_at(shm: Arc<Shm>, control: u64, options: &ChannelOptions) -> Channel {
    create(shm.span(control, CONTROL_BYTES).unwrap(), options, 1).unwrap();
    reopen(&Stage::new(shm, control))
}

/// The channel as another process opens it.
pub fn reopen(stage: &Arc<Stage>) -> Channel {
    crate::shm::fork::begin();
    let area = Area::open(stage.shm.clone(), stage.clone(), stage.control, CONTROL_BYTES, "test").unwrap();
    Channel::from_area(area)
}

/// Numbers that look like chance and are the same in each run (xorshift64).
pub fn numbers() -> impl FnMut() -> u64 {
    let mut random = 0x2545f4914f6cdd1du64;
    move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    }
}
