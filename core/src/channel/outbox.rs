//! A channel as transactions send to it.

#[cfg(memora_loom)]
use loom::sync::{Mutex, MutexGuard};
use std::sync::Arc;
#[cfg(not(memora_loom))]
use std::sync::{Mutex, MutexGuard};

use super::{Channel, Publisher};
use crate::error::Result;

/// A lane of a channel for messages that transactions of a store send: [`Transaction::publish`](crate::Transaction::publish). Clones
/// share the lane, any thread may use them, also when those that did have ended, and all messages that went through it arrive in the
/// order of their commits.
///
/// While one thread commits, others that commit with the same outbox wait for it, which takes microseconds; threads that shall not have an
/// outbox each. A process that is killed or stopped holds up no other process.
#[derive(Clone)]
pub struct Outbox {
    publisher: Arc<Mutex<Publisher>>,
}

impl Channel {
    /// A new outbox, with a lane as [`Channel::publisher`] has it. `WrongKind` on a log, whose one order cannot wait for decisions.
    pub fn outbox(&self) -> Result<Outbox> {
        Ok(Outbox { publisher: Arc::new(Mutex::new(Publisher::shared(Arc::clone(&self.area))?)) })
    }
}

impl Outbox {
    /// Its publisher; other threads wait.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The same for all clones; who locks several does so in this order.
    pub(crate) fn order(&self) -> usize {
        Arc::as_ptr(&self.publisher).addr()
    }
}
