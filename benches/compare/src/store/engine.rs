//! What is compared, behind one face, and the two of them that many processes write at once: ours and LMDB.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode};
use memora::{Create, Direction, Durability, FabricOptions, Store, StoreOptions};

use super::{Key, VALUE, fjall, redb, sqlite};

/// What a change has to survive when its call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safe {
    /// A loss of power takes at most the changes of about the last [`INTERVAL`].
    Soon,
    /// A loss of power takes nothing.
    Now,
}

/// How often what is `Soon` is brought to the disk.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// A database that is open in this process.
pub trait Engine: Send + Sync {
    /// What one thread uses.
    fn handle(&self) -> Box<dyn Handle + '_>;
    /// Says how safe the next changes are to be, where that belongs to the whole of it.
    fn prepare(&self, _safe: Safe) {}
    /// Brings everything to the disk.
    fn settle(&self);
}

/// One thread's access. Each call but `batch` and `transfer` is a transaction of its own.
pub trait Handle {
    /// Copies the value out and gives its length.
    fn get(&mut self, key: &Key, into: &mut [u8]) -> Option<usize>;
    fn put(&mut self, key: &Key, value: &[u8], safe: Safe);
    /// Puts all keys in one transaction.
    fn batch(&mut self, keys: &mut dyn Iterator<Item = Key>, value: &[u8], safe: Safe);
    /// Reads four keys, and writes their values with another first byte, in one transaction.
    fn transfer(&mut self, keys: &[Key; 4], safe: Safe);
    /// Visits `count` entries in the order of their keys, from `from` on, and gives their number.
    fn scan(&mut self, from: &Key, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> usize;
}

/// Opens or makes a database with its files in a folder; ours also has memory, in another one.
pub fn open(name: &str, folder: &Path, memory: &Path, keys: u64) -> Result<Box<dyn Engine>, String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    Ok(match name {
        "memora" => Box::new(Memora::open(folder, memory, keys, false)?),
        "ordered" => Box::new(Memora::open(folder, memory, keys, true)?),
        "lmdb" => Box::new(Lmdb::open(folder, keys)?),
        "redb" => Box::new(redb::Redb::open(folder, false)?),
        "redb-shared" => Box::new(redb::Redb::open(folder, true)?),
        "fjall" => Box::new(fjall::Fjall::open(folder)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(folder)?),
        unknown => return Err(format!("there is no engine `{unknown}`")),
    })
}

/// A thread that syncs each [`INTERVAL`] what has changed, for those who have none of their own. It ends with its process.
pub struct Syncer(Arc<AtomicBool>);

impl Syncer {
    pub fn start(sync: impl Fn() + Send + 'static) -> Syncer {
        let changed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&changed);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(INTERVAL);
                if seen.swap(false, Ordering::AcqRel) {
                    sync();
                }
            }
        });
        Syncer(changed)
    }

    /// Says that there is something to sync, if it is to be safe soon.
    pub fn note(&self, safe: Safe) {
        if safe == Safe::Soon && !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// Copies a value into the beginning of a buffer.
pub fn copy(value: &[u8], into: &mut [u8]) -> usize {
    into[..value.len()].copy_from_slice(value);
    value.len()
}

struct Memora(Store);

impl Memora {
    fn open(folder: &Path, memory: &Path, keys: u64, ordered: bool) -> Result<Memora, String> {
        // Twice what is needed, so that the garbage of overwrites has room; the same for the journal's window.
        let limit = (keys * 400 + (300 << 20)).next_multiple_of(4 << 20);
        let fabric = FabricOptions::new().home(memory).limit(limit).create(Create::OpenOrCreate);
        let fabric = fabric.open("store").map_err(|error| error.to_string())?;
        let options = StoreOptions {
            dir: Some(folder.join("files")),
            ordered: Some(ordered),
            ..StoreOptions::default()
        };
        let as_the_others = Durability::Async { interval_ms: INTERVAL.as_millis() as u64 };
        assert_eq!(options.durability, as_the_others, "the default");
        fabric.store("bench", &options).map(Memora).map_err(|error| error.to_string())
    }
}

impl Engine for Memora {
    fn handle(&self) -> Box<dyn Handle + '_> {
        Box::new(self.0.clone())
    }

    fn settle(&self) {
        self.0.flush().expect("flushed");
    }
}

fn durability(safe: Safe) -> Durability {
    match safe {
        Safe::Soon => Durability::default(),
        Safe::Now => Durability::Sync,
    }
}

impl Handle for Store {
    fn get(&mut self, key: &Key, into: &mut [u8]) -> Option<usize> {
        self.get_into(key, into).expect("get")
    }

    fn put(&mut self, key: &Key, value: &[u8], safe: Safe) {
        self.set_durable(key, value, durability(safe)).expect("set");
    }

    fn batch(&mut self, keys: &mut dyn Iterator<Item = Key>, value: &[u8], safe: Safe) {
        let mut transaction = self.transaction().expect("a transaction");
        transaction.set_durability(durability(safe)).expect("a store with files");
        keys.for_each(|key| transaction.put(&key, value).expect("put"));
        transaction.commit().expect("committed");
    }

    fn transfer(&mut self, keys: &[Key; 4], safe: Safe) {
        self.transact(|transaction| {
            transaction.set_durability(durability(safe))?;
            for key in keys {
                let mut value = transaction.get(key)?.expect("a value");
                value[0] = value[0].wrapping_add(1);
                transaction.put(key, &value)?;
            }
            Ok(())
        })
        .expect("a transaction");
    }

    fn scan(&mut self, from: &Key, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> usize {
        let mut visited = 0;
        self.range(Bound::Included(from), Bound::Unbounded, Direction::Forward, count, |key, entry| {
            visited += 1;
            visit(key, &entry.value);
        })
        .expect("keys in order");
        visited
    }
}

struct Lmdb {
    env: Env,
    database: Database<Bytes, Bytes>,
    syncer: Syncer,
}

impl Lmdb {
    fn open(folder: &Path, keys: u64) -> Result<Lmdb, String> {
        let mut options = EnvOpenOptions::new();
        options.map_size((keys as usize * 2000 + (1 << 30)).next_multiple_of(1 << 20));
        // SAFETY: the folder is ours, nobody truncates its files, and each process opens it once.
        let env = unsafe { options.open(folder) }.map_err(|error| error.to_string())?;
        let mut transaction = env.write_txn().map_err(|error| error.to_string())?;
        let database = env.create_database(&mut transaction, None).map_err(|error| error.to_string())?;
        transaction.commit().map_err(|error| error.to_string())?;
        let synced = env.clone();
        let syncer = Syncer::start(move || synced.force_sync().expect("synced"));
        Ok(Lmdb { env, database, syncer })
    }

    fn write(&self, safe: Safe, change: impl FnOnce(&mut heed::RwTxn<'_>)) {
        let mut transaction = self.env.write_txn().expect("a transaction");
        change(&mut transaction);
        transaction.commit().expect("committed");
        self.syncer.note(safe);
    }
}

impl Engine for Lmdb {
    fn handle(&self) -> Box<dyn Handle + '_> {
        Box::new(self)
    }

    fn prepare(&self, safe: Safe) {
        let mode = if safe == Safe::Soon { FlagSetMode::Enable } else { FlagSetMode::Disable };
        // SAFETY: only the thread that is told what to do calls this, between two tasks.
        unsafe { self.env.set_flags(EnvFlags::NO_SYNC, mode) }.expect("flags");
    }

    fn settle(&self) {
        self.env.force_sync().expect("synced");
    }
}

impl Handle for &Lmdb {
    fn get(&mut self, key: &Key, into: &mut [u8]) -> Option<usize> {
        let transaction = self.env.read_txn().expect("a transaction");
        self.database.get(&transaction, key).expect("get").map(|value| copy(value, into))
    }

    fn put(&mut self, key: &Key, value: &[u8], safe: Safe) {
        self.write(safe, |transaction| self.database.put(transaction, key, value).expect("put"));
    }

    fn batch(&mut self, keys: &mut dyn Iterator<Item = Key>, value: &[u8], safe: Safe) {
        self.write(safe, |transaction| {
            keys.for_each(|key| self.database.put(transaction, &key, value).expect("put"));
        });
    }

    fn transfer(&mut self, keys: &[Key; 4], safe: Safe) {
        self.write(safe, |transaction| {
            for key in keys {
                let mut value = [0; VALUE];
                copy(self.database.get(transaction, key).expect("get").expect("a value"), &mut value);
                value[0] = value[0].wrapping_add(1);
                self.database.put(transaction, key, &value).expect("put");
            }
        });
    }

    fn scan(&mut self, from: &Key, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> usize {
        let transaction = self.env.read_txn().expect("a transaction");
        let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
        let entries = self.database.range(&transaction, &range).expect("a range").take(count);
        entries.map(|entry| entry.expect("an entry")).map(|(key, value)| visit(key, value)).count()
    }
}
