//! redb: a B-tree whose pages are copied when they change. One process by default; in its mode for many writers each commit is synced.

use std::path::Path;
use std::sync::Arc;

use redb::{
    ConcurrencyMode, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::engine::{Engine, Handle, Safe, Syncer, copy};
use super::{CACHE, Key, VALUE};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("entries");

pub struct Redb {
    database: Arc<Database>,
    shared: bool,
    syncer: Syncer,
}

/// A commit that makes those before it durable.
fn sync(database: &Database) {
    database.begin_write().expect("a transaction").commit().expect("committed");
}

impl Redb {
    pub fn open(folder: &Path, shared: bool) -> Result<Redb, String> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        if shared {
            builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
        }
        let database = builder.create(folder.join("data.redb")).map_err(|error| error.to_string())?;
        let database = Arc::new(database);
        let transaction = database.begin_write().map_err(|error| error.to_string())?;
        transaction.open_table(TABLE).map_err(|error| error.to_string())?;
        transaction.commit().map_err(|error| error.to_string())?;
        let synced = Arc::clone(&database);
        Ok(Redb { database, shared, syncer: Syncer::start(move || sync(&synced)) })
    }

    fn write(&self, safe: Safe, change: impl FnOnce(&WriteTransaction)) {
        let mut transaction = self.database.begin_write().expect("a transaction");
        if safe == Safe::Soon && !self.shared {
            transaction.set_durability(Durability::None).expect("no savepoints");
        }
        change(&transaction);
        transaction.commit().expect("committed");
        self.syncer.note(safe);
    }
}

impl Engine for Redb {
    fn handle(&self) -> Box<dyn Handle + '_> {
        Box::new(self)
    }

    fn settle(&self) {
        sync(&self.database);
    }
}

impl Handle for &Redb {
    fn get(&mut self, key: &Key, into: &mut [u8]) -> Option<usize> {
        let transaction = self.database.begin_read().expect("a transaction");
        let table = transaction.open_table(TABLE).expect("the table");
        table.get(key.as_slice()).expect("get").map(|value| copy(value.value(), into))
    }

    fn put(&mut self, key: &Key, value: &[u8], safe: Safe) {
        self.batch(&mut std::iter::once(*key), value, safe);
    }

    fn batch(&mut self, keys: &mut dyn Iterator<Item = Key>, value: &[u8], safe: Safe) {
        self.write(safe, |transaction| {
            let mut table = transaction.open_table(TABLE).expect("the table");
            for key in keys {
                table.insert(key.as_slice(), value).expect("put");
            }
        });
    }

    fn transfer(&mut self, keys: &[Key; 4], safe: Safe) {
        self.write(safe, |transaction| {
            let mut table = transaction.open_table(TABLE).expect("the table");
            for key in keys {
                let mut value = [0; VALUE];
                copy(table.get(key.as_slice()).expect("get").expect("a value").value(), &mut value);
                value[0] = value[0].wrapping_add(1);
                table.insert(key.as_slice(), value.as_slice()).expect("put");
            }
        });
    }

    fn scan(&mut self, from: &Key, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> usize {
        let transaction = self.database.begin_read().expect("a transaction");
        let table = transaction.open_table(TABLE).expect("the table");
        let entries = table.range(from.as_slice()..).expect("a range").take(count);
        entries
            .map(|entry| entry.expect("an entry"))
            .map(|(key, value)| visit(key.value(), value.value()))
            .count()
    }
}
