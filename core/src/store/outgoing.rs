//! The messages of a transaction.

#[cfg(memora_loom)]
use loom::sync::MutexGuard;
#[cfg(not(memora_loom))]
use std::sync::MutexGuard;

use crate::channel::{Gate, Outbox, Publisher};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Shm;
use crate::table::Reference;

/// What a transaction sends, by outbox.
#[derive(Default)]
pub(super) struct Outgoing {
    /// In the order in which outboxes are locked.
    batches: Vec<(Outbox, Vec<Vec<u8>>)>,
}

/// The messages of one outbox while they are committed.
pub(super) struct Batch<'a> {
    publisher: MutexGuard<'a, Publisher>,
    messages: &'a [Vec<u8>],
    gate: Option<Gate>,
}

impl Outgoing {
    /// Adds a message, unless those of this outbox are too long together by that, or it is one of another fabric.
    pub fn add(&mut self, outbox: &Outbox, message: &[u8], shm: &Shm) -> Result<()> {
        let place = self.batches.binary_search_by_key(&outbox.order(), |(other, _)| other.order());
        let known = match place {
            Ok(at) => self.batches[at].1.as_slice(),
            Err(_) => &[],
        };
        {
            let publisher = outbox.lock();
            if !publisher.is_in(shm) {
                return Err(Error::new(
                    ErrorCode::InvalidArgument,
                    format!(
                        "Channel `{}` is of another fabric, or of another opening of it, than the store.",
                        publisher.channel_name()
                    ),
                ));
            }
            let lengths: Vec<usize> = known.iter().map(Vec::len).chain([message.len()]).collect();
            publisher.check_together(lengths.into_iter())?;
        }
        match place {
            Ok(at) => self.batches[at].1.push(message.to_vec()),
            Err(at) => self.batches.insert(at, (outbox.clone(), vec![message.to_vec()])),
        }
        Ok(())
    }

    /// Locks the outboxes, and makes sure that there is room: `BackPressure` if not.
    pub fn ready(&self) -> Result<Vec<Batch<'_>>> {
        let mut batches = Vec::with_capacity(self.batches.len());
        for (outbox, messages) in &self.batches {
            let mut publisher = outbox.lock();
            publisher.make_ready(messages)?;
            batches.push(Batch { publisher, messages, gate: None });
        }
        Ok(batches)
    }
}

impl Batch<'_> {
    /// Lays the messages behind a gate that names the transaction.
    pub fn set(&mut self, reference: Reference) -> Result<()> {
        self.gate = Some(self.publisher.set_gate(reference, self.messages)?);
        Ok(())
    }

    /// The transaction is decided. Harmless where no gate was set.
    pub fn end(&mut self, committed: bool) {
        if let Some(gate) = self.gate.take() {
            self.publisher.end_gate(&gate, committed);
        }
    }
}
