//! How a cache is made.

use crate::error::{Error, ErrorCode, Result};
use crate::table::TableOptions;

/// How a cache is made. One that exists keeps its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes that it may use, records, index and ghosts together; `None`: what the fabric has and nobody else needs.
    pub limit: Option<u64>,
    /// The most entries; `None`: any number.
    pub entries: Option<u64>,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// Whether it tells what happens to entries to those who subscribe to its events.
    pub events: bool,
    /// Whether transactions of stores may change it. Its entries take 24 bytes more each, and writing costs a little more.
    pub transactions: bool,
}

/// What a full cache does with a new entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Takes it, and gives up what is least likely to be asked for again.
    #[default]
    Evict,
    /// Answers `Full`: nothing is lost that was not deleted and has not expired.
    Reject,
}

impl CacheOptions {
    pub(crate) fn table(&self) -> Result<TableOptions> {
        for (name, value) in [("limit", self.limit), ("entries", self.entries)] {
            if value == Some(0) {
                return Err(Error::new(
                    ErrorCode::InvalidArgument,
                    format!("`{name}` is 0: give at least 1, or leave it out."),
                ));
            }
        }
        Ok(TableOptions {
            cache: true,
            limit: self.limit.unwrap_or(0),
            entries: self.entries.unwrap_or(0),
            evict: self.when_full == WhenFull::Evict,
            events: self.events,
            ordered: false,
            transactions: self.transactions,
        })
    }
}
