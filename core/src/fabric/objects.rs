//! Opening caches, channels and stores.

use std::path::PathBuf;
use std::sync::Arc;

use super::directory::{HEADER_BYTES, Object, ObjectKind, Plan};
use super::{Fabric, Inner};
use crate::cache::{Cache, CacheOptions};
use crate::channel::{self, Area, Channel, ChannelOptions};
use crate::error::{Error, ErrorCode, Result};
use crate::journal::{FileLayer, RealFiles};
use crate::shm::time;
use crate::store::layout::Words;
use crate::store::{Core, Durability, Opening, Store, StoreOptions};
use crate::table::layout::USER_OFFSET;
use crate::table::{self, RecordClass, Table};

impl Inner {
    /// The table of a cache or store.
    pub(super) fn table(&self, object: &Object) -> Result<Table> {
        let class = match object.kind {
            ObjectKind::Store => RecordClass::Store,
            _ => RecordClass::Cache,
        };
        Table::open(Arc::clone(&self.pool), object.id, object.offset, class, Arc::new(time::boot_ms))
    }

    /// The control area of a channel.
    pub(super) fn area(&self, object: &Object, ground: Arc<dyn channel::Ground>) -> Result<Area> {
        let len = u64::from(object.chunks) * self.pool.geometry().chunk_bytes - HEADER_BYTES;
        Area::open(Arc::clone(self.segment.shm()), ground, object.offset + HEADER_BYTES, len, &object.name)
    }

    fn open_or_create(&self, plan: &Plan<'_>) -> Result<Object> {
        self.registry.enter()?;
        let me = if self.segment.shm().writable() { Some(self.registry.actor()?) } else { None };
        self.directory.open_or_create(&self.pool, me, plan)
    }

    fn open_table(
        &self,
        kind: ObjectKind,
        class: RecordClass,
        name: &str,
        limit: u64,
        finish: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Object> {
        self.open_or_create(&Plan {
            kind,
            name,
            options: [limit, 0, 0, 0, 0, 0, 0, 0],
            chunks: table::chunks_needed(&self.pool),
            lay_out: &|run, _| {
                table::initialise(&self.pool, run, class, self.segment.identity().hash_seed, limit)?;
                finish(run.offset() + USER_OFFSET)
            },
        })
    }
}

impl Fabric {
    /// Opens the cache `name`, or makes it.
    pub fn cache(&self, name: &str) -> Result<Cache> {
        self.cache_with(name, &CacheOptions::default())
    }

    /// Opens the cache `name`, or makes it with these options. `WrongOptions` if it exists with another limit than asked.
    pub fn cache_with(&self, name: &str, options: &CacheOptions) -> Result<Cache> {
        let limit = options.limit.unwrap_or(0);
        let object =
            self.inner.open_table(ObjectKind::Cache, RecordClass::Cache, name, limit, &|_| Ok(()))?;
        if options.limit.is_some() && object.options[0] != limit {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!(
                    "The cache `{name}` was made with a limit of {} bytes, not {limit}.",
                    object.options[0]
                ),
            ));
        }
        Ok(Cache::new(self.inner.table(&object)?, Arc::clone(&self.inner) as Arc<dyn crate::cache::Host>))
    }

    /// Opens the channel `name`, or makes it with these options. `WrongOptions` if it exists with others.
    pub fn channel(&self, name: &str, options: &ChannelOptions) -> Result<Channel> {
        channel::layout::check_lane_bytes(u64::from(options.lane_bytes))?;
        let object = self.inner.open_or_create(&Plan {
            kind: ObjectKind::Channel,
            name,
            options: [
                options.kind as u64,
                options.overrun as u64,
                u64::from(options.lane_bytes),
                0,
                0,
                0,
                0,
                0,
            ],
            chunks: 1,
            lay_out: &|run, id| {
                let area = run.sub(HEADER_BYTES, run.len() - HEADER_BYTES)?;
                channel::create(area, options.kind, options.overrun, u64::from(options.lane_bytes), id)
            },
        })?;
        let channel = self.existing(&object)?;
        if channel.options() != *options {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The channel `{name}` was made with {:?}, not with {options:?}.", channel.options()),
            ));
        }
        Ok(channel)
    }

    /// Opens the channel `name`, however it was made. `NotFound` if there is none.
    pub fn open_channel(&self, name: &str) -> Result<Channel> {
        self.inner.registry.enter()?;
        match self.inner.directory.find(&self.inner.pool, name)? {
            Some(object) if object.kind == ObjectKind::Channel => self.existing(&object),
            Some(object) => Err(Error::new(
                ErrorCode::WrongKind,
                format!("`{name}` exists as a {}, not as a channel.", object.kind.name()),
            )),
            None => Err(Error::new(ErrorCode::NotFound, format!("There is no channel `{name}`."))),
        }
    }

    fn existing(&self, object: &Object) -> Result<Channel> {
        let ground = Arc::clone(&self.inner) as Arc<dyn channel::Ground>;
        Ok(Channel::from_area(self.inner.area(object, ground)?))
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
        let dir = options.dir.as_deref().map(std::path::absolute).transpose();
        let asked = dir.map_err(|error| Error::io("resolve", "the directory of the store", &error))?;
        self.inner.registry.enter()?;
        let known = self.inner.directory.find(&self.inner.pool, name)?.is_some();
        if !known && asked.is_none() && options.durability != Durability::Process {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("The new store `{name}` has no files: give `dir`, or durability `process`."),
            ));
        }
        let shm = self.inner.segment.shm();
        let object =
            self.inner.open_table(ObjectKind::Store, RecordClass::Store, name, 0, &|words| match &asked {
                Some(dir) => Words::at(shm, words)?.set_path(dir),
                None => Ok(()),
            })?;
        let dir = Words::at(shm, object.offset + USER_OFFSET)?.path()?;
        if asked.is_some() && asked != dir {
            let text = |dir: &Option<PathBuf>| {
                dir.as_ref().map_or_else(|| "memory only".to_owned(), |dir| dir.display().to_string())
            };
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The store `{name}` has its files in {}, not in {}.", text(&dir), text(&asked)),
            ));
        }
        if dir.is_none() && options.durability != Durability::Process {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The store `{name}` has no files: only durability `process` is possible."),
            ));
        }
        let files = match &dir {
            Some(dir) => Some(Arc::new(RealFiles::open(dir)?) as Arc<dyn FileLayer>),
            None => None,
        };
        let opening = Opening {
            name,
            fabric: self.inner.segment.identity().uuid.to_le_bytes(),
            fresh: uuid::Uuid::new_v4().into_bytes(),
            checkpoint_bytes: options.checkpoint_bytes,
            files,
        };
        let core = Core::open(
            Arc::clone(&self.inner) as Arc<dyn crate::store::Host>,
            self.inner.table(&object)?,
            object.offset + USER_OFFSET,
            &opening,
            &mut |step| progress(step.bytes_done, step.bytes_total),
        )?;
        Store::new(core, options.durability)
    }
}
