//! The entries of caches that a transaction changes.

use std::collections::BTreeMap;

use super::transaction::Put;
use crate::cache::Cache;
use crate::chunk::Actor;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Shm;
use crate::table::{Begun, Intent, Update, Value};

/// What a transaction changes in caches, in the order in which all transactions do.
#[derive(Default)]
pub(super) struct Caching {
    caches: Vec<Part>,
}

struct Part {
    cache: Cache,
    /// `None` deletes.
    writes: BTreeMap<Vec<u8>, Option<Put>>,
}

impl Caching {
    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// Keys that are changed.
    pub fn len(&self) -> usize {
        self.caches.iter().map(|part| part.writes.len()).sum()
    }

    /// Adds a change; gives how many bytes of keys and values there are less, because it takes the place of another.
    pub fn add(&mut self, cache: &Cache, key: &[u8], put: Option<Put>, shm: &Shm) -> Result<usize> {
        let table = cache.table();
        if !std::ptr::eq(table.shm(), shm) {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                "The cache is of another fabric, or of another opening of it, than the store.",
            ));
        }
        if !cache.has_transactions() {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                "The cache was made without `transactions`, which costs 24 bytes an entry.",
            ));
        }
        table.check_lengths(key.len(), put.as_ref().map_or(0, |put| put.value.len()))?;
        let at = match self.caches.binary_search_by_key(&table.object(), |part| part.cache.table().object()) {
            Ok(at) => at,
            Err(at) => {
                self.caches.insert(at, Part { cache: cache.clone(), writes: BTreeMap::new() });
                at
            }
        };
        let old = self.caches[at].writes.insert(key.to_vec(), put);
        Ok(old.map_or(0, |old| key.len() + old.map_or(0, |put| put.value.len())))
    }

    /// Puts the new states in place, behind those of the store. False: somebody is in the way.
    pub fn install(&self, me: Actor<'_>, begun: &Begun, intents: &mut Vec<Vec<Intent>>) -> Result<bool> {
        for part in &self.caches {
            let table = part.cache.table();
            intents.push(Vec::with_capacity(part.writes.len()));
            for (key, put) in &part.writes {
                let update = put.as_ref().map(|put| Update {
                    value: Value::Bytes(&put.value),
                    expiry: put.options.ttl_ms.map_or(0, |ttl| table.now_ms().saturating_add(ttl).max(1)),
                    client: put.options.flags,
                    marks: 0,
                    id: 0,
                });
                match (table.install(me, begun, key, update.as_ref())?, intents.last_mut()) {
                    (Some(intent), Some(intents)) => intents.push(intent),
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// Ends the states that were put in place: the transaction is decided.
    pub fn end(&self, me: Actor<'_>, begun: &Begun, intents: &[Vec<Intent>]) -> Result<()> {
        let mut ended = Ok(());
        for (part, intents) in self.caches.iter().zip(intents) {
            ended = ended.and(part.cache.table().end_states(me, begun, intents));
        }
        ended
    }
}
