//! fjall: a log-structured tree, of one process.

use std::path::Path;

use fjall::{KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace, PersistMode, Readable};

use super::engine::{Engine, Handle, Safe, Syncer, copy};
use super::{CACHE, Key, VALUE};

pub struct Fjall {
    database: OptimisticTxDatabase,
    entries: OptimisticTxKeyspace,
    syncer: Syncer,
}

impl Fjall {
    pub fn open(folder: &Path) -> Result<Fjall, String> {
        let builder = OptimisticTxDatabase::builder(folder).cache_size(CACHE as u64);
        let database = builder.open().map_err(|error| error.to_string())?;
        let entries = database
            .keyspace("entries", KeyspaceCreateOptions::default)
            .map_err(|error| error.to_string())?;
        let synced = database.clone();
        let syncer = Syncer::start(move || synced.persist(PersistMode::SyncData).expect("synced"));
        Ok(Fjall { database, entries, syncer })
    }

    fn done(&self, safe: Safe) {
        match safe {
            Safe::Soon => self.syncer.note(safe),
            Safe::Now => self.settle(),
        }
    }
}

impl Engine for Fjall {
    fn handle(&self) -> Box<dyn Handle + '_> {
        Box::new(self)
    }

    fn settle(&self) {
        self.database.persist(PersistMode::SyncData).expect("synced");
    }
}

impl Handle for &Fjall {
    fn get(&mut self, key: &Key, into: &mut [u8]) -> Option<usize> {
        self.entries.inner().get(key).expect("get").map(|value| copy(&value, into))
    }

    fn put(&mut self, key: &Key, value: &[u8], safe: Safe) {
        self.entries.inner().insert(key, value).expect("put");
        self.done(safe);
    }

    fn batch(&mut self, keys: &mut dyn Iterator<Item = Key>, value: &[u8], safe: Safe) {
        let mut batch = self.database.inner().batch();
        keys.for_each(|key| batch.insert(self.entries.inner(), key, value));
        batch.commit().expect("committed");
        self.done(safe);
    }

    fn transfer(&mut self, keys: &[Key; 4], safe: Safe) {
        loop {
            let mut transaction = self.database.write_tx().expect("a transaction");
            for key in keys {
                let mut value = [0; VALUE];
                copy(&transaction.get(&self.entries, key).expect("get").expect("a value"), &mut value);
                value[0] = value[0].wrapping_add(1);
                transaction.insert(&self.entries, key, value);
            }
            if transaction.commit().expect("committed").is_ok() {
                break;
            }
        }
        self.done(safe);
    }

    fn scan(&mut self, from: &Key, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> usize {
        let entries = self.entries.inner().range(from.as_slice()..).take(count);
        entries
            .map(|entry| entry.into_inner().expect("an entry"))
            .map(|(key, value)| visit(&key, &value))
            .count()
    }
}
