//! Changes of a part of an entry.

use super::Store;
use crate::error::Result;
use crate::table::entry::Version;
use crate::table::{Action, Id, Revision, Update, Value};

impl Store {
    /// Puts bytes behind the value that is there; flags and time to live stay. `None` if there is no such entry.
    pub fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
        self.extend(key, Value::Append(bytes))
    }

    /// Puts bytes in front of the value that is there; flags and time to live stay. `None` if there is no such entry.
    pub fn prepend(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
        self.extend(key, Value::Prepend(bytes))
    }

    fn extend(&self, key: &[u8], value: Value<'_>) -> Result<Option<Version>> {
        let changed = self.change(key, self.shared.durability, |current| {
            Ok(current.map_or(Action::Keep, |current| {
                let (expiry, client) = (current.head.expiry, current.head.client);
                Action::Put(Update { value, expiry, client, marks: 0, id: 0 })
            }))
        })?;
        Ok(changed.changed.then_some(Version(changed.id)))
    }

    /// Gives an entry another time to live, from now; `None` = for ever. It gets a new version, as every state of a store.
    /// False if there is no such entry.
    pub fn touch(&self, key: &[u8], ttl_ms: Option<u64>) -> Result<bool> {
        let expiry = match ttl_ms {
            Some(ttl) => self.core()?.table.now_ms().saturating_add(ttl).max(1),
            None => 0,
        };
        let changed = self.change(key, self.shared.durability, |current| {
            Ok(current.map_or(Action::Keep, |_| {
                Action::Revise(Revision { expiry, marks: 0, id: Id::New, win: false })
            }))
        })?;
        Ok(changed.changed)
    }
}
