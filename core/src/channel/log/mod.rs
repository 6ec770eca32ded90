//! Logs: one order over all publishers, kept to be read again.
//!
//! A publisher writes a record into a *block* of the log that it holds alone, and then makes it visible by one
//! compare-and-swap of a *cell*: the cell of position p says where the record of p is. Whoever loses it tries the next position.
//! So positions have no holes, every reader sees the same order, and a publisher that stops or dies at any instruction is in
//! nobody's way: before the compare-and-swap nobody knows of its message, behind it the message is complete.
//!
//! Cells follow each other in a ring, and a cell names the lap that it belongs to. Positions are filled in order, so whether a position
//! is filled never changes back, and the end is found by looking at a few cells: no word counts messages, nothing has to be repaired.
//!
//! The log never takes more than its bytes. Who needs a block or a cell that is in use moves `oldest` beyond what stands there
//! first: that is *trimming*. A reader copies a message and then looks at `oldest`: if that is beyond the message, the copy may be anything and is
//! thrown away. Readers hold nothing and write nothing but, if they have a name, their position.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of cells, blocks and records |
//! | `index` | cells and records of an open log: the end, the record at a position |
//! | `trim` | what is too old, or stands in the way |
//! | `room` | blocks: taking, closing, what the dead leave |
//! | `parcel` | messages that are too long for a block |
//! | `appender`, `claim` | the sending end |
//! | `reader` | the receiving end |
//! | `files` | logs that are also in files |
//! | `check` | every invariant |

mod appender;
pub(super) mod check;
mod claim;
pub(crate) mod files;
mod index;
pub mod layout;
pub(super) mod parcel;
#[cfg(all(test, not(memora_loom)))]
mod parcel_tests;
mod reader;
pub(super) mod room;
mod trim;

#[cfg(all(test, not(memora_loom)))]
mod damage_tests;
#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(all(test, not(memora_loom)))]
mod model_tests;
#[cfg(all(test, not(memora_loom)))]
mod reader_tests;
#[cfg(test)]
pub(super) mod testing;
#[cfg(all(test, not(memora_loom)))]
mod tests;

use std::time::Duration;

pub use appender::Appender;
pub use claim::LogClaim;
pub use files::LogFiles;
pub use index::{Part, create};
pub use reader::{LogMessage, LogReader, ReadFrom};

use super::area::Area;
use super::layout::{LaneKind, NAMED, SubKind};
use super::{ChannelKind, ChannelOptions};
use crate::error::{Error, ErrorCode, Result};

/// How much a log keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of the log, with everything that belongs to it but 16 KiB: a power of two from 256 KiB to 1 GiB. They are reserved when the log is
    /// made and are never exceeded by messages that take at most a 128th part. Longer ones take chunks of the fabric of their own: what is kept of them takes
    /// at most as many bytes again, or is one message.
    pub bytes: u64,
    /// Messages older than this are trimmed, even if there is room; `None`: only for want of room. Whole milliseconds.
    pub age: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { bytes: layout::BYTES_DEFAULT, age: None }
    }
}

/// Counts of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStats {
    /// The oldest position that is kept: so many messages were trimmed in the log's life.
    pub oldest: u64,
    /// The position that the next message gets: so many messages were published in the log's life.
    pub end: u64,
    /// Bytes of the records in blocks that hold messages which are kept, and of the long messages that are kept in chunks.
    pub bytes: u64,
    /// [`Retention::bytes`]: for records, and as much for long messages.
    pub bytes_max: u64,
    /// The named readers.
    pub readers: Vec<LogReaderInfo>,
    /// What is in files, of a log that has some.
    pub files: Option<LogFileStats>,
}

/// What the files of a log hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileStats {
    /// Where they are, as whoever made the log said.
    pub dir: std::path::PathBuf,
    /// The oldest position that they hold.
    pub oldest: u64,
    /// Messages in front of this position are in files that are synced.
    pub durable: u64,
    /// Files, the one that is prepared included; 0 for an attachment that only reads.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Flushes that wrote something, by all processes.
    pub flushes: u64,
    /// Bytes that they wrote.
    pub flushed_bytes: u64,
    /// Whether a failed sync has ended all appending.
    pub poisoned: bool,
}

/// A named reader of a log, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReaderInfo {
    /// Its number in the channel.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Whether a thread holds it now, alive or not yet found dead.
    pub held: bool,
    /// The position of the message that it reads next.
    pub position: u64,
    /// Messages from there to the end.
    pub lag: u64,
}

/// Refuses options that cannot be together, and fills in what a log leaves out.
pub(crate) fn settle_options(name: &str, options: &ChannelOptions) -> Result<ChannelOptions> {
    let refuse = |what: String| Err(Error::new(ErrorCode::InvalidArgument, what));
    let mut options = options.clone();
    if options.kind != ChannelKind::Log {
        if options.retention.is_some() {
            return refuse(format!("Channel `{name}` is a {:?}: only a log has `retention`.", options.kind));
        }
        if options.files.is_some() {
            return refuse(format!("Channel `{name}` is a {:?}: only a log has `files`.", options.kind));
        }
        return Ok(options);
    }
    if options.timestamps {
        return refuse(format!("Channel `{name}` is a log: its messages bear their time if it has an age."));
    }
    let retention = options.retention.get_or_insert_default();
    layout::check_bytes(retention.bytes)?;
    if let Some(age) = retention.age
        && (age.is_zero()
            || age.as_millis() > u128::from(u32::MAX)
            || !age.subsec_nanos().is_multiple_of(1_000_000))
    {
        return refuse(format!("`age` is {age:?}: it must be whole milliseconds from 1 to {}.", u32::MAX));
    }
    if let Some(files) = &options.files {
        files::check_options(name, retention, files)?;
    }
    // A log has no lanes.
    options.lane_bytes = super::layout::LANE_BYTES_DEFAULT;
    Ok(options)
}

/// Bytes that the control area of a channel of these options takes; None for one that fits any chunk.
pub(crate) fn bytes_needed(options: &ChannelOptions) -> Option<u64> {
    let retention = options.retention.as_ref().filter(|_| options.kind == ChannelKind::Log)?;
    let words = options.files.as_ref().map_or(0, |_| files::words::LEN);
    Some(layout::control_bytes(layout::SUBS, layout::BLOCKS) + retention.bytes + words)
}

impl Area {
    /// The log that this channel is; an error if it is none.
    #[inline(always)]
    pub(super) fn log(&self) -> Result<&Part> {
        match &self.log {
            Some(log) => Ok(log),
            None => Err(self.no_log()),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_log(&self) -> Error {
        Error::new(
            ErrorCode::WrongKind,
            format!("Channel `{}` is a {:?}, not a log: it keeps no messages.", self.name, self.kind),
        )
    }

    /// An error if this channel is a log, which has no lanes.
    pub(super) fn no_lanes(&self) -> Result<()> {
        if self.log.is_none() {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::WrongKind,
            format!(
                "Channel `{}` is a log: it has appenders and readers, not publishers and subscribers.",
                self.name
            ),
        ))
    }

    /// What a log counts; None for other kinds.
    pub(super) fn log_stats(&self) -> Result<Option<LogStats>> {
        let Some(log) = &self.log else { return Ok(None) };
        self.trim_by_age()?;
        let oldest = log.oldest().position();
        let end = log.end(oldest);
        let first = self.first_kept()?;
        let mut stats = LogStats {
            oldest: first,
            files: self.file_stats()?,
            end,
            bytes: 0,
            bytes_max: log.geometry.bytes,
            readers: Vec::new(),
        };
        for index in 0..log.geometry.blocks {
            let (_, used, behind) = self.look_at_block(index)?;
            if behind > oldest {
                stats.bytes += used;
            }
        }
        for parcel in self.parcels_of_log()? {
            stats.bytes = stats.bytes.saturating_add(parcel.words[1]);
        }
        for id in 0..self.shape.subs {
            let seen = self.sub_state(id)?;
            if !matches!(seen.kind(), Some(SubKind::Live | SubKind::Away)) || seen.flags() & NAMED == 0 {
                continue;
            }
            let position = self.reader_position(id)?;
            stats.readers.push(LogReaderInfo {
                id,
                name: self.sub_name(id)?,
                held: seen.is(SubKind::Live),
                position,
                lag: end.saturating_sub(position),
            });
        }
        Ok(Some(stats))
    }

    /// The oldest message that a reader of this process finds, in memory or in files.
    pub(super) fn first_kept(&self) -> Result<u64> {
        let log = self.log()?;
        let oldest = log.oldest().position();
        match &log.words {
            Some(words) if self.files.is_some() => Ok(words.stored().position().min(oldest)),
            _ => Ok(oldest),
        }
    }

    /// Blocks that an appender holds now.
    pub(super) fn count_appenders(&self) -> Result<u32> {
        let Some(log) = &self.log else { return Ok(0) };
        let mut count = 0;
        for index in 0..log.geometry.blocks {
            count += u32::from(self.look_at_block(index)?.0.is(LaneKind::Live));
        }
        Ok(count)
    }
}
