//! What is compared, behind one face: get copies the value out, set overwrites it.

use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};
use memora::{Cache, CacheOptions, FabricOptions};

/// Bytes of keys and values.
pub const KEY: usize = 16;
pub const VALUE: usize = 100;
/// Entries of the table that is read and written.
pub const ENTRIES: u64 = 1_000_000;

/// The key of a number: printable, as memcached's text protocol wants it.
pub fn key(number: u64) -> [u8; KEY] {
    let mut key = *b"key-000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// One thread's access.
pub trait Handle {
    /// Copies the value out and gives its length.
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize>;
    fn set(&mut self, key: &[u8], value: &[u8]);

    /// Sets many keys to one value, in whatever way is fastest.
    fn fill(&mut self, keys: &mut dyn Iterator<Item = Vec<u8>>, value: &[u8]) {
        keys.for_each(|key| self.set(&key, value));
    }
}

/// A handle that can go to another thread.
pub type BoxedHandle = Box<dyn Handle + Send>;

impl Handle for Cache {
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize> {
        self.get_into(key, value).expect("get")
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        Cache::set(self, key, value).expect("set");
    }
}

/// Our cache in the fabric of a folder.
pub fn memora(home: &Path, limit: u64, options: &CacheOptions) -> Cache {
    let fabric = FabricOptions::new().home(home).limit(limit).open("compare").expect("a fabric");
    fabric.cache_with("compare", options).expect("a cache")
}

/// LMDB without any sync, in a folder on tmpfs: nothing faster of it survives the death of a process.
pub struct Lmdb {
    env: Env,
    database: Database<Bytes, Bytes>,
}

impl Lmdb {
    pub fn open(folder: &Path) -> Lmdb {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut options = EnvOpenOptions::new();
        options.map_size(2 << 30);
        // SAFETY: the folder is ours, nobody truncates its files, and each process opens it once.
        let env = unsafe {
            options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC);
            options.open(folder).expect("an environment")
        };
        let mut transaction = env.write_txn().expect("a transaction");
        let database = env.create_database(&mut transaction, None).expect("the database");
        transaction.commit().expect("committed");
        Lmdb { env, database }
    }

    /// Loads all entries in one transaction.
    pub fn load(&self, value: &[u8]) {
        let mut transaction = self.env.write_txn().expect("a transaction");
        for number in 0..ENTRIES {
            self.database.put(&mut transaction, &key(number), value).expect("put");
        }
        transaction.commit().expect("committed");
    }
}

impl Handle for Lmdb {
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize> {
        let transaction = self.env.read_txn().expect("a transaction");
        let found = self.database.get(&transaction, key).expect("get")?;
        value[..found.len()].copy_from_slice(found);
        Some(found.len())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let mut transaction = self.env.write_txn().expect("a transaction");
        self.database.put(&mut transaction, key, value).expect("put");
        transaction.commit().expect("committed");
    }
}

type Key = [u8; KEY];
type Value = [u8; VALUE];

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("keys and values of one length")
}

/// dashmap: a map of locked shards.
#[derive(Clone, Default)]
pub struct Dash(pub Arc<dashmap::DashMap<Key, Value>>);

impl Handle for Dash {
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize> {
        let found = self.0.get(&fixed::<KEY>(key))?;
        value[..VALUE].copy_from_slice(&*found);
        Some(VALUE)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(fixed(key), fixed(value));
    }
}

/// papaya: a map whose reads take no lock.
#[derive(Clone, Default)]
pub struct Papaya(pub Arc<papaya::HashMap<Key, Value>>);

impl Handle for Papaya {
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize> {
        let map = self.0.pin();
        value[..VALUE].copy_from_slice(map.get(&fixed::<KEY>(key))?);
        Some(VALUE)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.pin().insert(fixed(key), fixed(value));
    }
}

/// moka: a cache with TinyLFU.
#[derive(Clone)]
pub struct Moka(pub moka::sync::Cache<Key, Value>);

impl Moka {
    pub fn new(entries: u64) -> Moka {
        Moka(moka::sync::Cache::new(entries))
    }
}

impl Handle for Moka {
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize> {
        value[..VALUE].copy_from_slice(&self.0.get(&fixed::<KEY>(key))?);
        Some(VALUE)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(fixed(key), fixed(value));
    }
}
