//! Opening caches, channels and stores.

use std::sync::{Arc, Weak};

use super::directory::{HEADER_BYTES, Object, ObjectKind, Plan};
use super::{Fabric, Inner};
use crate::cache::{Cache, CacheOptions, WhenFull};
use crate::channel::{self, Acknowledge, Area, Channel, ChannelKind, ChannelOptions};
use crate::error::{Error, ErrorCode, Result};
use crate::segment::home::check_name;
use crate::shm::time;
use crate::store::layout::Words;
use crate::store::{self, Store, StoreOptions};
use crate::table::layout::{USER_OFFSET, option};
use crate::table::{self, RecordClass, Table};

impl Inner {
    /// The table of a cache or store.
    pub(super) fn table(&self, object: &Object) -> Result<Table> {
        let class = match object.kind {
            ObjectKind::Store
                if Words::at(self.segment.shm(), object.offset + USER_OFFSET)?.path()?.is_some() =>
            {
                RecordClass::Store
            }
            ObjectKind::Store => RecordClass::Memory,
            _ => RecordClass::of_cache(has_transactions(object)),
        };
        let clock = Arc::new(time::boot_ms);
        let table = Table::open(Arc::clone(&self.pool), object.id, object.offset, class, clock)?;
        self.observe(&table);
        Ok(table)
    }

    /// The control area of a channel.
    pub(super) fn area(&self, object: &Object, ground: Arc<dyn channel::Ground>) -> Result<Area> {
        let len = u64::from(object.chunks) * self.pool.geometry().chunk_bytes - HEADER_BYTES;
        Area::open(Arc::clone(self.segment.shm()), ground, object.offset + HEADER_BYTES, len, &object.name)
    }

    /// The channel of that name; an error if there is none.
    pub(super) fn channel_object(&self, name: &str) -> Result<Object> {
        self.registry.enter()?;
        match self.directory.find(&self.pool, name)? {
            Some(object) if object.kind == ObjectKind::Channel => Ok(object),
            Some(object) => Err(Error::new(
                ErrorCode::WrongKind,
                format!("`{name}` exists as a {}, not as a channel.", object.kind.name()),
            )),
            None => Err(Error::new(ErrorCode::NotFound, format!("There is no channel `{name}`."))),
        }
    }

    pub(super) fn open_or_create(&self, plan: &Plan<'_>) -> Result<Object> {
        check_name(plan.name)?;
        self.open_or_create_any(plan)
    }

    /// Also for names that only the fabric itself gives.
    pub(super) fn open_or_create_any(&self, plan: &Plan<'_>) -> Result<Object> {
        self.registry.enter()?;
        let me = if self.segment.shm().writable() { Some(self.me()?) } else { None };
        self.directory.open_or_create(&self.pool, me, plan)
    }
}

/// Whether it is a cache that transactions may change.
pub(super) fn has_transactions(object: &Object) -> bool {
    object.kind == ObjectKind::Cache && object.options[2] & option::TRANSACTIONS != 0
}

/// What a cache was made with.
fn options_of(object: &Object) -> CacheOptions {
    let [limit, entries, word, ..] = object.options;
    CacheOptions {
        limit: (limit != 0).then_some(limit),
        entries: (entries != 0).then_some(entries),
        when_full: if word & option::EVICT != 0 { WhenFull::Evict } else { WhenFull::Reject },
        events: word & option::EVENTS != 0,
        transactions: word & option::TRANSACTIONS != 0,
    }
}

impl Fabric {
    /// Opens the cache `name`, however it was made, or makes it with the default options.
    pub fn cache(&self, name: &str) -> Result<Cache> {
        let object = self.cache_object(name, &CacheOptions::default())?;
        self.cache_of(&object)
    }

    /// Opens the cache `name`, or makes it with these options. `WrongOptions` if it exists with others.
    pub fn cache_with(&self, name: &str, options: &CacheOptions) -> Result<Cache> {
        let object = self.cache_object(name, options)?;
        let made = options_of(&object);
        if made != *options {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The cache `{name}` was made with {made:?}, not with {options:?}."),
            ));
        }
        self.cache_of(&object)
    }

    fn cache_object(&self, name: &str, options: &CacheOptions) -> Result<Object> {
        let (pool, table) = (&self.inner.pool, options.table()?);
        table.check(pool)?;
        self.inner.open_or_create(&Plan {
            kind: ObjectKind::Cache,
            name,
            options: [table.limit, table.entries, table.word(), 0, 0, 0, 0, 0],
            chunks: table::chunks_needed(pool, &table),
            lay_out: &|run, _| {
                let seed = self.inner.segment.identity().hash_seed;
                table::initialise(pool, run, RecordClass::of_cache(table.transactions), seed, &table)
            },
        })
    }

    fn cache_of(&self, object: &Object) -> Result<Cache> {
        let table = self.inner.table(object)?;
        let hands: Weak<dyn table::Hands> =
            Arc::downgrade(&(Arc::clone(&self.inner) as Arc<dyn table::Hands>));
        table.set_hands(hands);
        Ok(Cache::new(table, Arc::clone(&self.inner) as Arc<dyn crate::cache::Host>))
    }

    /// Opens the channel `name`, or makes it with these options. `WrongOptions` if it exists with others. Where messages go to a channel for
    /// dead letters, that one is made first, as a queue with acknowledgement, if there is none.
    pub fn channel(&self, name: &str, options: &ChannelOptions) -> Result<Channel> {
        channel::layout::check_lane_bytes(u64::from(options.lane_bytes))?;
        channel::check_options(name, options)?;
        let options = &channel::settle_options(name, options)?;
        channel::check_directory(name, options)?;
        if let Some(letters) =
            options.acknowledge.as_ref().and_then(|acknowledge| acknowledge.dead_letters.as_ref())
        {
            self.channel_for_letters(&letters.channel, options.lane_bytes)?;
        }
        let chunk_bytes = self.inner.pool.geometry().chunk_bytes;
        let needed = channel::bytes_needed(options).unwrap_or(0) + HEADER_BYTES;
        let object = self.inner.open_or_create(&Plan {
            kind: ObjectKind::Channel,
            name,
            options: [
                options.kind as u64,
                options.overrun as u64,
                u64::from(options.lane_bytes),
                u64::from(options.acknowledge.is_some()),
                options.retention.as_ref().map_or(0, |retention| retention.bytes),
                u64::from(options.files.is_some()),
                0,
                0,
            ],
            chunks: needed.div_ceil(chunk_bytes) as u32,
            lay_out: &|run, id| {
                let area = run.sub(HEADER_BYTES, run.len() - HEADER_BYTES)?;
                channel::create(area, options, id)
            },
        })?;
        let ground = Arc::clone(&self.inner) as Arc<dyn channel::Ground>;
        let area = self.inner.area(&object, ground)?;
        let mut made = area.options();
        if made.kind != options.kind {
            return Err(Error::new(
                ErrorCode::WrongKind,
                format!("The channel `{name}` exists as a {:?}, not as a {:?}.", made.kind, options.kind),
            ));
        }
        // The directory may be mounted elsewhere here: what it says of itself decides. How durable messages are is said by each handle.
        if let (Some(made), Some(wanted)) = (&mut made.files, &options.files) {
            (made.dir, made.durability) = (wanted.dir.clone(), wanted.durability);
        }
        if made != *options {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The channel `{name}` was made with {made:?}, not with {options:?}."),
            ));
        }
        Channel::with_files(area, options.files.as_ref(), self.uuid())
    }

    /// Makes sure that there is a channel of that name.
    fn channel_for_letters(&self, name: &str, lane_bytes: u32) -> Result<()> {
        match self.inner.channel_object(name) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == ErrorCode::NotFound => {
                let options = ChannelOptions {
                    kind: ChannelKind::Queue,
                    lane_bytes,
                    acknowledge: Some(Acknowledge::default()),
                    ..ChannelOptions::default()
                };
                match self.channel(name, &options) {
                    // Somebody made it just now, in another way.
                    Err(error) if matches!(error.code(), ErrorCode::WrongOptions | ErrorCode::WrongKind) => {
                        self.inner.channel_object(name).map(|_| ())
                    }
                    made => made.map(|_| ()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the channel `name`, however it was made. `NotFound` if there is none.
    pub fn open_channel(&self, name: &str) -> Result<Channel> {
        let object = self.inner.channel_object(name)?;
        self.existing(&object)
    }

    fn uuid(&self) -> [u8; 16] {
        self.inner.segment.identity().uuid.to_le_bytes()
    }

    fn existing(&self, object: &Object) -> Result<Channel> {
        let ground = Arc::clone(&self.inner) as Arc<dyn channel::Ground>;
        Channel::with_files(self.inner.area(object, ground)?, None, self.uuid())
    }

    /// Opens the store `name`, or makes it, with its files in `options.dir`; recovers from the files where the memory is
    /// new. One directory belongs to one store.
    pub fn store(&self, name: &str, options: &StoreOptions) -> Result<Store> {
        self.store_with_progress(name, options, |_, _| {})
    }

    /// As [`Fabric::store`]; `progress` hears bytes read and bytes to read while the store recovers.
    pub fn store_with_progress(
        &self,
        name: &str,
        options: &StoreOptions,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Store> {
        store::object::check_options(name, options)?;
        let pool = &self.inner.pool;
        let found = self.inner.open_or_create(&Plan {
            kind: ObjectKind::Store,
            name,
            options: [u64::from(options.ordered.unwrap_or(false)), 0, 0, 0, 0, 0, 0, 0],
            chunks: store::object::chunks_needed(pool, options),
            lay_out: &|run, _| {
                store::object::initialise(pool, run, self.inner.segment.identity().hash_seed, options)
            },
        })?;
        let object =
            store::object::Object { name, number: found.id, offset: found.offset, fabric: self.uuid() };
        let host = Arc::clone(&self.inner) as Arc<dyn store::Host>;
        store::object::open(Arc::clone(pool), host, &object, options, &mut |step| {
            progress(step.bytes_done, step.bytes_total);
        })
    }
}
