//! What goes beyond reading, setting and deleting: each is one change of one entry, seen by others at one moment.

use super::{Cache, Counter};
use crate::error::Result;
use crate::table::entry::{DeleteOutcome, Entry, SetOptions, Version};
use crate::table::{Action, Current, Id, Revision, Update, Value};

impl Cache {
    /// Puts bytes behind the value that is there; flags and time to live stay. `None` if there is no such entry.
    pub fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
        self.extend(key, Value::Append(bytes))
    }

    /// Puts bytes in front of the value that is there; flags and time to live stay. `None` if there is no such entry.
    pub fn prepend(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
        self.extend(key, Value::Prepend(bytes))
    }

    fn extend(&self, key: &[u8], value: Value<'_>) -> Result<Option<Version>> {
        let changed = self.table.update(self.host.actor()?, key, |current| {
            Ok(current.map_or(Action::Keep, |current| Action::Put(beside(&current, value))))
        })?;
        Ok(changed.changed.then_some(Version(changed.id)))
    }

    /// Deletes `key` only if its version is still `expected`.
    pub fn delete_if(&self, key: &[u8], expected: Version) -> Result<DeleteOutcome> {
        let mut found = None;
        let changed = self.table.update(self.host.actor()?, key, |current| {
            found = current.map(|current| Version(current.head.id));
            Ok(if found == Some(expected) { Action::Remove } else { Action::Keep })
        })?;
        Ok(match found {
            Some(_) if changed.changed => DeleteOutcome::Deleted,
            Some(version) => DeleteOutcome::Stale(version),
            None => DeleteOutcome::NotFound,
        })
    }

    /// Gives an entry another time to live, from now; `None` = for ever. Its version stays. False if there is no such entry.
    pub fn touch(&self, key: &[u8], ttl_ms: Option<u64>) -> Result<bool> {
        let me = self.host.actor()?;
        let expiry = self.expiry(ttl_ms);
        let changed = self.table.update(me, key, |current| Ok(retimed(current.as_ref(), expiry)))?;
        Ok(changed.changed)
    }

    /// As [`Cache::touch`], and answers the entry, with its new time to live.
    pub fn get_and_touch(&self, key: &[u8], ttl_ms: Option<u64>) -> Result<Option<Entry>> {
        let me = self.host.actor()?;
        let expiry = self.expiry(ttl_ms);
        let mut found = None;
        self.table.update(me, key, |current| {
            found = self.seen(current.as_ref())?;
            Ok(retimed(current.as_ref(), expiry))
        })?;
        Ok(found.map(|entry| Entry { ttl_ms, ..entry }))
    }

    /// Sets `key` to `value` and answers the entry that was there.
    pub fn get_and_set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> Result<Option<Entry>> {
        let me = self.host.actor()?;
        let update = self.put(value, options);
        let mut found = None;
        self.table.update(me, key, |current| {
            found = self.seen(current.as_ref())?;
            Ok(Action::Put(update))
        })?;
        Ok(found)
    }

    /// Deletes `key` and answers the entry that was there.
    pub fn get_and_delete(&self, key: &[u8]) -> Result<Option<Entry>> {
        let mut found = None;
        self.table.update(self.host.actor()?, key, |current| {
            found = self.seen(current.as_ref())?;
            Ok(Action::Remove)
        })?;
        Ok(found)
    }

    /// Counts, with the rules that `counter` says, and answers the new number; for a signed counter the bits of an `i64`.
    /// `None` if there is no such entry and no initial number. `NotANumber` for other values and `CounterOverflow` leave
    /// the entry as it was.
    pub fn count_with(&self, key: &[u8], counter: &Counter) -> Result<Option<u64>> {
        let me = self.host.actor()?;
        let expiry = self.expiry(counter.ttl_ms);
        let mut answer = None;
        self.table.update(me, key, |current| {
            answer = match &current {
                Some(current) => Some(counter.next(current)?),
                None => counter.initial,
            };
            let Some(number) = answer else { return Ok(Action::Keep) };
            let value = counter.value(number);
            Ok(Action::Put(match &current {
                Some(current) if counter.renew_ttl => Update { expiry, ..beside(current, value) },
                Some(current) => beside(current, value),
                None => Update { value, expiry, client: 0, marks: 0, id: 0 },
            }))
        })?;
        Ok(answer)
    }

    /// Makes every entry gone that is there now: at one moment, whatever the size. Entries that are set afterwards stay. The
    /// memory is used again as it is needed.
    pub fn flush(&self) -> Result<()> {
        self.table.flush(self.host.actor()?)
    }

    /// The entry that an update sees. What it answers may be torn, if the update is asked again.
    pub(super) fn seen(&self, current: Option<&Current<'_>>) -> Result<Option<Entry>> {
        current.map(|current| self.copied(current)).transpose()
    }

    /// A copy of an entry that an update sees.
    pub(super) fn copied(&self, current: &Current<'_>) -> Result<Entry> {
        let mut value = vec![0; current.head.value_len as usize];
        current.value.copy_out(0, &mut value)?;
        Ok(self.entry(&current.head, value))
    }

    /// The instant at which something ends that begins now.
    pub(super) fn expiry(&self, ttl_ms: Option<u64>) -> u64 {
        super::expiry(ttl_ms, || self.table.now_ms())
    }
}

/// A new value for an entry, with everything else as it is.
pub(super) fn beside<'v>(current: &Current<'_>, value: Value<'v>) -> Update<'v> {
    let head = &current.head;
    Update { value, expiry: head.expiry, client: head.client, marks: head.flags, id: 0 }
}

/// Another end for an entry.
fn retimed(current: Option<&Current<'_>>, expiry: u64) -> Action<'static> {
    current.map_or(Action::Keep, |current| {
        Action::Revise(Revision { expiry, marks: current.head.flags, id: Id::Keep, win: false })
    })
}
