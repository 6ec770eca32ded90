//! Opening topics.

use std::sync::Arc;

use super::directory::{Object, ObjectKind, Plan};
use super::{Fabric, Inner};
use crate::cache::Cache;
use crate::chunk::Relief;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;
use crate::table::{self, RecordClass};
use crate::topic::{self, Topic, TopicOptions};

impl topic::Host for Inner {
    fn reaped(&self) -> u64 {
        // ORDER Relaxed: a count; whoever asks only wants to know whether it changed.
        self.segment.reaped().load(Ordering::Relaxed)
    }

    fn reap(&self) {
        let _any = Relief::reap(self);
    }
}

impl Fabric {
    /// Opens the topic `name`, or makes it with these options. `WrongOptions` if it exists with others.
    pub fn topic(&self, name: &str, options: &TopicOptions) -> Result<Topic> {
        let (pool, table) = (&self.inner.pool, options.cache().table()?);
        table.check(pool)?;
        let object = self.inner.open_or_create(&Plan {
            kind: ObjectKind::Topic,
            name,
            options: [table.limit, table.entries, table.word(), 0, 0, 0, 0, 0],
            chunks: table::chunks_needed(pool, &table),
            lay_out: &|run, _| {
                let seed = self.inner.segment.identity().hash_seed;
                table::initialise(pool, run, RecordClass::Cache, seed, &table)
            },
        })?;
        let made = TopicOptions { limit: (object.options[0] != 0).then_some(object.options[0]) };
        if made != *options {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The topic `{name}` was made with {made:?}, not with {options:?}."),
            ));
        }
        self.topic_of(&object)
    }

    /// Opens the topic `name`, however it was made. `NotFound` if there is none.
    pub fn open_topic(&self, name: &str) -> Result<Topic> {
        self.inner.registry.enter()?;
        match self.inner.directory.find(&self.inner.pool, name)? {
            Some(object) if object.kind == ObjectKind::Topic => self.topic_of(&object),
            Some(object) => Err(Error::new(
                ErrorCode::WrongKind,
                format!("`{name}` exists as a {}, not as a topic.", object.kind.name()),
            )),
            None => Err(Error::new(ErrorCode::NotFound, format!("There is no topic `{name}`."))),
        }
    }

    fn topic_of(&self, object: &Object) -> Result<Topic> {
        let host = Arc::clone(&self.inner) as Arc<dyn crate::cache::Host>;
        let cache = Cache::new(self.inner.table(object)?, host);
        Ok(Topic::new(&object.name, cache, Arc::clone(&self.inner) as Arc<dyn topic::Host>))
    }
}
