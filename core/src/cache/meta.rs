//! Serving what is out of date while one makes it anew, as memcached's meta protocol does.
//!
//! | memcached | here |
//! |---|---|
//! | `mg` flags v, f, c, t, s, k | [`Entry`]: value, flags, version, time to live; the length of the value; the key is the caller's |
//! | `mg` R, N, T, E; answers W, X, Z | [`Cache::get_meta_with`]; [`MetaEntry`]: `won`, `stale`, `taken` |
//! | `ms` C, E, F, I, T, N and its modes | [`Cache::set_meta`] |
//! | `md` I, T, C, E | [`Cache::invalidate_with`]; without I: [`Cache::delete_if`] |
//! | `ma` N, J, D, T and its modes | [`Cache::count_with`] |
//! | q, O | belong to the protocol, not to the cache |
//! | `mg` h, l (hit before, time since the last access) | not kept: reading writes nothing that others see |

use super::Cache;
use crate::chunk::record::{STALE, WON};
use crate::error::{Error, ErrorCode, Result};
use crate::table::entry::{CasOutcome, Entry, SetOptions, Version};
use crate::table::{Action, Current, Id, Revision, Update, Value};

/// An entry and what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaEntry {
    /// The entry.
    pub entry: Entry,
    /// It was invalidated: its value is out of date.
    pub stale: bool,
    /// The caller is the one who makes it anew, and nobody else is told so. memcached's W.
    pub won: bool,
    /// Somebody else was told to make it anew. memcached's Z.
    pub taken: bool,
}

/// What happens to the time to live of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// It stays.
    #[default]
    Keep,
    /// It lives for ever.
    Forever,
    /// So many milliseconds from now.
    Ms(u64),
}

/// How [`Cache::get_meta_with`] reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaGet {
    /// With less than this to live, the first who sees it makes it anew. memcached's R.
    pub recache_below_ms: Option<u64>,
    /// An entry that is missing is made, empty, with so much time to live, and the caller is the one who fills it. memcached's N.
    pub vivify_ms: Option<u64>,
    /// The new time to live. memcached's T.
    pub ttl: Ttl,
    /// The version of an entry that is made because it was missing; not 0. memcached's E.
    pub version: Option<Version>,
}

/// When [`Cache::set_meta`] stores, and what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetMode {
    /// Always.
    #[default]
    Set,
    /// Only where there is no entry.
    Add,
    /// Only where there is one.
    Replace,
    /// Behind the value that is there.
    Append,
    /// In front of the value that is there.
    Prepend,
}

/// How [`Cache::set_meta`] stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaSet {
    /// When, and what.
    pub mode: SetMode,
    /// Time to live and flags of a new value; those of one that is extended stay.
    pub options: SetOptions,
    /// Only an entry of this version is changed. memcached's C.
    pub expected: Option<Version>,
    /// An entry of another version than the expected one gets the value nevertheless, marked as out of date, and keeps its time
    /// to live and whether somebody was told to make it anew. memcached's I.
    pub invalidate: bool,
    /// The version that the entry gets; not 0. memcached's E.
    pub version: Option<Version>,
    /// With `Append` and `Prepend`: a missing entry is made, with so much time to live. memcached's N.
    pub vivify_ms: Option<u64>,
}

/// What [`Cache::set_meta`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// Stored: this is the new version.
    Stored(Version),
    /// The entry has this version by now. memcached's EX.
    Stale(Version),
    /// There is no such entry. memcached's NF.
    NotFound,
    /// The mode forbids it. memcached's NS.
    NotStored,
}

impl Cache {
    /// Marks an entry as out of date: it may be shown for `stale_for_ms` more (`None`: as long as it would have lived), and the
    /// first who reads it by [`Cache::get_meta`] or [`Cache::lease`] is told to make it anew. It gets a new version, so that what
    /// was computed from the old one cannot be stored by compare-and-swap. `None` if there is no such entry; then the right to
    /// make it, which somebody may have by [`Cache::lease`], ends, and the next who asks gets it.
    pub fn invalidate(&self, key: &[u8], stale_for_ms: Option<u64>) -> Result<Option<Version>> {
        Ok(match self.invalidate_with(key, stale_for_ms, None, None)? {
            CasOutcome::Stored(version) => Some(version),
            CasOutcome::Stale(_) | CasOutcome::NotFound => None,
        })
    }

    /// As [`Cache::invalidate`], but only an entry of the version `expected`, and with `version` for its new one (not 0).
    pub fn invalidate_with(
        &self,
        key: &[u8],
        stale_for_ms: Option<u64>,
        expected: Option<Version>,
        version: Option<Version>,
    ) -> Result<CasOutcome> {
        let me = self.host.actor()?;
        let id = match given(version)? {
            0 => Id::New,
            id => Id::Given(id),
        };
        let end = stale_for_ms.map(|ttl_ms| self.expiry(Some(ttl_ms)));
        let mut found = None;
        let changed = self.table.update_leased(me, key, true, |current| {
            found = None;
            if current.as_ref().is_some_and(|current| current.head.is_tombstone()) {
                // What is being made may be made from what is out of date by now.
                return Ok(if expected.is_none() { Action::Remove } else { Action::Keep });
            }
            found = current.as_ref().map(|current| Version(current.head.id));
            let Some(current) = current.filter(|_| expected.is_none() || expected == found) else {
                return Ok(Action::Keep);
            };
            // What had less to live than that keeps it.
            let expiry = match (end, current.head.expiry) {
                (Some(end), 0) => end,
                (Some(end), expiry) => end.min(expiry),
                (None, expiry) => expiry,
            };
            Ok(Action::Revise(Revision { expiry, marks: STALE, id, win: false }))
        })?;
        Ok(match found {
            Some(_) if changed.changed => CasOutcome::Stored(Version(changed.id)),
            Some(version) => CasOutcome::Stale(version),
            None => CasOutcome::NotFound,
        })
    }

    /// The entry of `key`, and whether the caller is to make it anew: the first who sees it when it is out of date, or when it
    /// has less than `recache_below_ms` to live. Everybody gets the value. Who makes it anew sets it, best by compare-and-swap
    /// with the version that he saw. If the thread that was told so ends, or its process is killed, the next who asks is told.
    pub fn get_meta(&self, key: &[u8], recache_below_ms: Option<u64>) -> Result<Option<MetaEntry>> {
        self.get_meta_with(key, &MetaGet { recache_below_ms, ..MetaGet::default() })
    }

    /// As [`Cache::get_meta`], with all that memcached's `mg` can ask for.
    pub fn get_meta_with(&self, key: &[u8], how: &MetaGet) -> Result<Option<MetaEntry>> {
        self.host.enter()?;
        let id = given(how.version)?;
        // Most calls change nothing: they read, as everybody does.
        if how.ttl == Ttl::Keep {
            let mut value = Vec::new();
            let head = self.table.read(key, |head, bytes| {
                value.clear();
                value.resize(head.value_len as usize, 0);
                bytes.copy_out(0, &mut value)
            })?;
            match head {
                Some(head)
                    if !self.wins(head.flags, head.expiry, how, || self.table.winner_lives(key))? =>
                {
                    let entry = self.entry(&head, value);
                    return Ok(Some(meta(entry, head.flags, false)));
                }
                None if how.vivify_ms.is_none() => return Ok(None),
                _ => {}
            }
        }
        let me = self.host.actor()?;
        let mut answer = None;
        let changed = self.table.update(me, key, |current| {
            let Some(current) = current else {
                answer = None;
                let Some(ttl_ms) = how.vivify_ms else { return Ok(Action::Keep) };
                let entry = Entry { value: Vec::new(), version: Version(0), flags: 0, ttl_ms: Some(ttl_ms) };
                answer = Some(meta(entry, 0, true));
                let expiry = self.expiry(Some(ttl_ms));
                return Ok(Action::Put(Update {
                    value: Value::Bytes(&[]),
                    expiry,
                    client: 0,
                    marks: WON,
                    id,
                }));
            };
            let (marks, expiry) = (current.head.flags, current.head.expiry);
            let won = self.wins(marks, expiry, how, || {
                Ok(current.winner.is_some_and(|winner| !self.table.is_gone(winner)))
            })?;
            let after = self.end(expiry, how.ttl);
            let mut found = meta(self.copied(&current)?, marks, won);
            found.entry.ttl_ms = super::ttl_left(after, || self.table.now_ms());
            answer = Some(found);
            if !won && after == expiry {
                return Ok(Action::Keep);
            }
            let marks = if won { marks | WON } else { marks };
            Ok(Action::Revise(Revision { expiry: after, marks, id: Id::Keep, win: won }))
        })?;
        Ok(answer.map(|mut answer| {
            if changed.changed {
                answer.entry.version = Version(changed.id);
            }
            answer
        }))
    }

    /// Stores with all that memcached's `ms` can ask for.
    pub fn set_meta(&self, key: &[u8], value: &[u8], how: &MetaSet) -> Result<SetOutcome> {
        let me = self.host.actor()?;
        let fresh = Update { id: given(how.version)?, ..self.put(value, &how.options) };
        let mut refusal = SetOutcome::NotStored;
        let changed = self.table.update(me, key, |current| {
            let action = self.meta_action(current.as_ref(), value, &fresh, how);
            Ok(action.unwrap_or_else(|refused| {
                refusal = refused;
                Action::Keep
            }))
        })?;
        Ok(if changed.changed { SetOutcome::Stored(Version(changed.id)) } else { refusal })
    }

    fn meta_action<'v>(
        &self,
        current: Option<&Current<'_>>,
        value: &'v [u8],
        fresh: &Update<'v>,
        how: &MetaSet,
    ) -> Result<Action<'v>, SetOutcome> {
        let Some(current) = current else {
            let extends = matches!(how.mode, SetMode::Append | SetMode::Prepend);
            return match how.vivify_ms {
                _ if how.expected.is_some() => Err(SetOutcome::NotFound),
                Some(ttl_ms) if extends => {
                    Ok(Action::Put(Update { expiry: self.expiry(Some(ttl_ms)), ..*fresh }))
                }
                _ if extends || how.mode == SetMode::Replace => Err(SetOutcome::NotStored),
                _ => Ok(Action::Put(*fresh)),
            };
        };
        let version = Version(current.head.id);
        let other = how.expected.is_some_and(|expected| expected != version);
        if other && !how.invalidate {
            return Err(SetOutcome::Stale(version));
        }
        let beside = |value| Update { id: fresh.id, ..super::operations::beside(current, value) };
        let update = match how.mode {
            SetMode::Add => return Err(SetOutcome::NotStored),
            SetMode::Append => beside(Value::Append(value)),
            SetMode::Prepend => beside(Value::Prepend(value)),
            SetMode::Set | SetMode::Replace => *fresh,
        };
        Ok(Action::Put(if other {
            let marks = STALE | current.head.flags & WON;
            Update { marks, expiry: current.head.expiry, ..update }
        } else {
            update
        }))
    }

    /// Whether whoever sees an entry with these marks and this end is to make it anew: nobody else is at it, or `lives`.
    fn wins(
        &self,
        marks: u8,
        expiry: u64,
        how: &MetaGet,
        lives: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let short = || {
            let left = super::ttl_left(expiry, || self.table.now_ms());
            how.recache_below_ms.zip(left).is_some_and(|(below, left)| left < below)
        };
        Ok((marks & STALE != 0 || short()) && (marks & WON == 0 || !lives()?))
    }

    fn end(&self, expiry: u64, ttl: Ttl) -> u64 {
        match ttl {
            Ttl::Keep => expiry,
            Ttl::Forever => self.expiry(None),
            Ttl::Ms(ttl_ms) => self.expiry(Some(ttl_ms)),
        }
    }
}

fn meta(entry: Entry, marks: u8, won: bool) -> MetaEntry {
    MetaEntry { entry, stale: marks & STALE != 0, won, taken: marks & WON != 0 && !won }
}

/// The id of a version that the user gives; 0 for none.
fn given(version: Option<Version>) -> Result<u64> {
    match version {
        Some(Version(0)) => {
            Err(Error::new(ErrorCode::InvalidArgument, "A version that is given must not be 0."))
        }
        version => Ok(version.map_or(0, |version| version.0)),
    }
}
