//! Signals without a segment or a registry, for tests and models.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::area::{Area, Ground, bytes, create};
use super::layout::{Owner, SignalKind};
use crate::error::Result;
use crate::shm::Shm;

thread_local! {
    /// Who the calling thread is; tests set it.
    static THREAD: Cell<u16> = const { Cell::new(1) };
}

/// The calling thread is this entry from now on.
pub fn act_as(thread: u16) {
    THREAD.set(thread);
}

/// Threads of the stage, nobody included.
pub const THREADS: u16 = 5;

/// Threads are numbers; the test says who is dead.
#[derive(Default)]
pub struct Stage {
    dead: Mutex<HashSet<u16>>,
    generations: Mutex<[u32; THREADS as usize]>,
}

impl Stage {
    /// From now on the kernel says that this thread is dead.
    pub fn kill(&self, thread: u16) {
        self.dead.lock().unwrap().insert(thread);
    }

    /// The entry of a dead thread is another's.
    pub fn replace(&self, thread: u16) {
        self.generations.lock().unwrap()[usize::from(thread)] += 1;
        self.dead.lock().unwrap().remove(&thread);
    }
}

impl Ground for Stage {
    fn thread(&self) -> Result<Owner> {
        let thread = THREAD.get();
        Ok(Owner { thread, generation: self.generation(thread) })
    }

    fn usable(&self) -> Result<()> {
        Ok(())
    }

    fn threads(&self) -> u16 {
        THREADS
    }

    fn thread_is_dead(&self, thread: u16) -> bool {
        self.dead.lock().unwrap().contains(&thread)
    }

    fn generation(&self, thread: u16) -> u32 {
        self.generations.lock().unwrap()[usize::from(thread)]
    }

    fn ids(&self, thread: u16) -> (u32, u32) {
        (0, u32::from(thread))
    }
}

/// A signal on a stage of its own.
pub fn signal(kind: SignalKind, permits: u32) -> (Arc<Stage>, Arc<Area>) {
    crate::shm::fork::begin();
    let len = bytes(kind, THREADS);
    let shm = Arc::new(Shm::heap(len).unwrap());
    create(shm.span(0, len).unwrap(), kind, permits, THREADS).unwrap();
    let stage = Arc::new(Stage::default());
    let area = Area::open(shm, stage.clone(), 0, len, "test").unwrap();
    (stage, Arc::new(area))
}
