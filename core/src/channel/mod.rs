//! Channels: messages from many publishers to one subscriber (stream), to each subscriber (broadcast), each to one of many consumers
//! (queue), or kept in one order for all to read again (log).
//!
//! A log is a thing of its own: see [`log`]. On all others each publisher writes into a ring of its own, its *lane*, so no publisher waits for another, and nothing that a dead or
//! stopped one left can stand in anybody's way. A message is visible by one store. Its order is that of its publisher; between
//! publishers there is none.
//!
//! | | stream | broadcast | queue |
//! |---|---|---|---|
//! | who gets a message | the one subscriber | each subscriber | one of the consumers |
//! | sent before the first subscriber | waits in the lane | is for nobody | waits in the lane |
//! | an anonymous subscriber closes or dies | as for broadcast | it is forgotten and blocks nobody | what it did not acknowledge goes to others |
//! | a named one closes or dies | as for broadcast | its place stays: nothing is lost, and its lanes may fill up | there are none |
//!
//! With [`OverrunPolicy::Block`] a publisher never overwrites what a subscriber still has to read: `send` waits, `try_send` says
//! `BackPressure`. With [`OverrunPolicy::Overrun`] it never waits, and a subscriber that is too slow learns how many messages it lost.
//!
//! A message's *position* counts the bytes of its lane up to its end. It grows from message to message for as long as the
//! channel exists, also when another publisher goes on with the lane: `(lane, position)` names a message for ever.
//!
//! A channel keeps the rings that it once needed: as many as it had publishers at the same time, so at most one for each lane
//! (32 in chunks of 16 KiB, up to 256 in larger ones) of `lane_bytes` each. A publisher that closes leaves its ring, with what
//! is still unread in it, to the next one, and so does one that died.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of the control area and of frames |
//! | `lane` | one ring: frames, commit, padding, wrap, overrun |
//! | `area` | checked views on the control area; taking a lane, letting a subscription go |
//! | `subscription` | joining, coming back, leaving, ejecting |
//! | `parcel` | messages that are too long for a lane |
//! | `eject` | the time that publishers wait for one that stands still |
//! | `publisher`, `subscriber` | the two ends |
//! | `direct`, `direct_reading` | a lane that a binding writes itself, lanes that it reads itself |
//! | `door` | who may touch them when |
//! | `view` | messages looked at where they stand |
//! | `gate`, `outbox` | messages that a transaction decides about |
//! | `log` | one order, kept: cells, blocks, trimming |
//! | `queue` | many consumers: heads, hands, acknowledgement, redelivery |
//! | `ring` | memory for rings from the pool |
//! | `watch` | waiting on several channels at once |
//! | `reactor`, `stream` | a thread that sleeps for event loops and tasks |
//! | `inherit`, `check` | what a dead thread leaves; every invariant |

mod area;
mod check;
#[cfg(not(memora_loom))]
mod direct;
#[cfg(not(memora_loom))]
mod direct_reading;
mod door;
#[cfg(test)]
mod door_tests;
mod eject;
mod gate;
mod inherit;
mod lane;
pub mod layout;
pub mod log;
mod outbox;
mod parcel;
#[cfg(all(test, not(memora_loom)))]
mod parcel_tests;
mod publisher;
pub mod queue;
#[cfg(not(memora_loom))]
mod reactor;
pub(crate) mod ring;
#[cfg(not(memora_loom))]
mod stream;
mod subscriber;
mod subscription;
mod view;
#[cfg(all(test, not(memora_loom)))]
mod view_tests;
mod watch;

#[cfg(all(test, not(memora_loom)))]
mod batch_tests;
#[cfg(all(test, not(memora_loom)))]
mod damage_tests;
#[cfg(all(test, not(memora_loom)))]
mod eject_tests;
#[cfg(all(test, not(memora_loom)))]
mod gate_tests;
#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(all(test, not(memora_loom)))]
mod model_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(all(test, not(memora_loom)))]
mod tests;
#[cfg(all(test, not(memora_loom)))]
mod watch_tests;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use area::{Area, Ground, create};
pub(crate) use check::{check, check_taken_over};
#[cfg(not(memora_loom))]
pub use direct::DirectLane;
#[cfg(not(memora_loom))]
pub use direct_reading::{DirectPlace, DirectReading, Stand};
pub use door::{Came, Door, WritingDesk};
pub(crate) use gate::Gate;
pub(crate) use inherit::{inherit, names_ring};
pub(crate) use log::files::check_directory;
pub use log::{
    Appender, LogClaim, LogFileStats, LogFiles, LogMessage, LogReader, LogReaderInfo, LogStats, ReadFrom,
    Retention,
};
pub(crate) use log::{bytes_needed, settle_options};
pub use outbox::Outbox;
pub(crate) use publisher::write_at;
pub use publisher::{Claim, Publisher};
pub use queue::{Acknowledge, Consumer, ConsumerInfo, DeadLetters, Delivery, QueueStats, Receipt};
#[cfg(not(memora_loom))]
pub use reactor::Readiness;
#[cfg(not(memora_loom))]
pub use stream::Messages;
pub use subscriber::Subscriber;
pub use subscription::SubscriptionInfo;
pub use view::{MessageReader, MessageView};
pub use watch::{WaitSet, Waitable, wait_any};

use crate::error::Result;
use crate::wait;
use layout::LaneKind;

/// Who gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum ChannelKind {
    /// Many publishers, one subscriber.
    #[default]
    Stream = 1,
    /// Many publishers, each subscriber gets each message.
    Broadcast = 2,
    /// Many publishers, many consumers, each message goes to one of them.
    Queue = 3,
    /// Many appenders, one order, kept: each reader gets each message, from any position on.
    Log = 4,
}

impl ChannelKind {
    pub(crate) fn from_number(number: u32) -> Option<ChannelKind> {
        [ChannelKind::Stream, ChannelKind::Broadcast, ChannelKind::Queue, ChannelKind::Log]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// What happens when a lane is full of messages that some subscriber has not read, or a log of messages that some named reader has not
/// read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u32)]
pub enum OverrunPolicy {
    /// The publisher waits (or is told `BackPressure`): nothing is lost. On a log: it is told `LogFull`.
    #[default]
    Block = 1,
    /// The publisher goes on; the subscriber is told how many messages it lost.
    Overrun = 2,
}

impl OverrunPolicy {
    pub(crate) fn from_number(number: u32) -> Option<OverrunPolicy> {
        [OverrunPolicy::Block, OverrunPolicy::Overrun].into_iter().find(|policy| *policy as u32 == number)
    }
}

/// How a channel is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Who gets a message.
    pub kind: ChannelKind,
    /// What happens when a lane is full.
    pub overrun: OverrunPolicy,
    /// Bytes of each publisher's ring: a power of two from 4 KiB to 1 GiB. A message of a stream or broadcast that blocks takes at
    /// most half of it, any other an eighth and at most 128 KiB, and longer ones chunks of their own: [`Channel::message_len_max`].
    pub lane_bytes: u32,
    /// Each message bears the time at which it was sent: [`Message::sent_ns`]. It takes 8 more bytes, and its publisher reads a clock.
    pub timestamps: bool,
    /// How long a subscription of a stream or broadcast that blocks may stand still while a publisher waits for it, in whole
    /// milliseconds: then it is ejected, and its holder's next call answers `Ejected`. `None`: publishers wait for ever.
    pub eject_after: Option<Duration>,
    /// A queue whose messages are acknowledged: each is delivered at least once. `None`: at most once. Other kinds have none.
    pub acknowledge: Option<Acknowledge>,
    /// How much a log keeps; `None`: the default. Other kinds have none.
    pub retention: Option<Retention>,
    /// A log whose messages also stand in files; `None`: in memory alone. Other kinds have none.
    pub files: Option<LogFiles>,
}

impl Default for ChannelOptions {
    fn default() -> ChannelOptions {
        ChannelOptions {
            kind: ChannelKind::default(),
            overrun: OverrunPolicy::default(),
            lane_bytes: layout::LANE_BYTES_DEFAULT,
            timestamps: false,
            eject_after: None,
            acknowledge: None,
            retention: None,
            files: None,
        }
    }
}

/// Refuses options that cannot be together.
pub(crate) fn check_options(name: &str, options: &ChannelOptions) -> Result<()> {
    eject::check_options(name, options)?;
    queue::check_options(name, options)
}

/// What came with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The lane, which is its publisher's.
    pub lane: u32,
    /// Bytes of the lane up to the end of this message: grows from message to message, never 0.
    pub position: u64,
    /// Bytes of the message.
    pub len: usize,
    /// When it was sent: nanoseconds of the host's monotonic clock (`CLOCK_MONOTONIC`, `System.nanoTime()`); 0 on a channel
    /// without [`ChannelOptions::timestamps`].
    pub sent_ns: u64,
}

/// Counts of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStats {
    /// Lanes that a publisher holds now; of a log: its appenders.
    pub publishers: u32,
    /// Lanes that have a ring.
    pub lanes: u32,
    /// Bytes ever published, with headers and padding.
    pub published_bytes: u64,
    /// All subscriptions.
    pub subscriptions: Vec<SubscriptionInfo>,
    /// Subscriptions that were ejected so far.
    pub ejected: u64,
    /// What a queue counts beside.
    pub queue: Option<QueueStats>,
    /// What a log counts instead of lanes and bytes.
    pub log: Option<LogStats>,
}

/// A named channel of a fabric.
#[derive(Clone)]
pub struct Channel {
    area: Arc<Area>,
}

impl Area {
    /// How it was made. Directory and durability are those of this handle where its files are open, else of who made it.
    pub(crate) fn options(&self) -> ChannelOptions {
        let files = self.log.as_ref().and_then(|log| log.words.as_ref()).map(|words| LogFiles {
            dir: match &self.files {
                Some(files) => files.dir.clone(),
                None => words.path().unwrap_or_default(),
            },
            durability: self.files.as_ref().map_or_else(|| words.durability(), |files| files.durability),
            bytes: words.limit(),
            file_bytes: words.journal().and_then(|control| control.checked_capacity()).unwrap_or(0),
        });
        ChannelOptions {
            kind: self.kind,
            overrun: self.overrun,
            lane_bytes: self.shape.lane_bytes as u32,
            timestamps: self.stamped,
            eject_after: self.eject_after,
            acknowledge: self.queue.as_ref().and_then(|queue| queue.acknowledge.clone()),
            retention: self.log.as_ref().map(log::Part::retention),
            files,
        }
    }
}

impl Channel {
    pub(crate) fn from_area(area: Area) -> Channel {
        Channel { area: Arc::new(area) }
    }

    /// Opens the files of a log that has some, and begins to flush them.
    pub(crate) fn with_files(mut area: Area, wanted: Option<&LogFiles>, fabric: [u8; 16]) -> Result<Channel> {
        area.open_files(wanted, fabric)?;
        let channel = Channel::from_area(area);
        channel.area.start_ticker()?;
        Ok(channel)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.area.name
    }

    /// How it was made.
    pub fn options(&self) -> ChannelOptions {
        self.area.options()
    }

    /// Waits until everything that anybody appended before, and where the named readers are, is in files that are synced.
    /// `InvalidArgument` if the log has no files; `WrongKind` on other channels.
    pub fn flush(&self) -> Result<()> {
        self.area.ground.usable()?;
        self.area.flush()
    }

    /// Bytes of the longest message. One longer than [`Channel::claim_len_max`] takes chunks of the fabric of its own: 128 MiB at most, and
    /// half of them. On a log with files also at most a quarter of their limit.
    pub fn message_len_max(&self) -> usize {
        self.area.parcel_len_max() as usize
    }

    /// Bytes of the longest message that can be claimed, or sent together with others: it stands in its publisher's ring.
    pub fn claim_len_max(&self) -> usize {
        self.area.message_len_max as usize
    }

    /// A new publisher, with a lane of its own: one that another has left, if there is one, else a new one with a ring of
    /// [`ChannelOptions::lane_bytes`], which the channel keeps.
    pub fn publisher(&self) -> Result<Publisher> {
        Publisher::new(self.area.clone())
    }

    /// A new anonymous subscriber: gets what is sent from now on, and is forgotten when it closes or dies. On a stream it takes
    /// the one subscription; `SubscriptionInUse` while another holds it.
    pub fn subscriber(&self) -> Result<Subscriber> {
        Subscriber::new(self.area.clone(), None)
    }

    /// The subscriber of that name: made now if there was none, else it goes on at its place. `SubscriptionInUse` while its
    /// holder lives. A named subscription keeps its place, and with [`OverrunPolicy::Block`] its messages, until
    /// [`Channel::unsubscribe`].
    pub fn subscribe(&self, name: &str) -> Result<Subscriber> {
        Subscriber::new(self.area.clone(), Some(name))
    }

    /// A new consumer of a queue. `WrongKind` on a channel of another kind.
    ///
    /// With acknowledgement it has a ring of [`ChannelOptions::lane_bytes`] for what it holds, which the channel keeps for later
    /// consumers; `TooManySubscribers` if all entries are held.
    pub fn consumer(&self) -> Result<Consumer> {
        Consumer::new(self.area.clone())
    }

    /// A new appender of a log. `WrongKind` on a channel of another kind.
    pub fn appender(&self) -> Result<Appender> {
        Appender::new(self.area.clone())
    }

    /// A new reader of a log, without a name: it holds nothing, and others do not know of it. Works on a read-only attachment, too.
    pub fn reader(&self, from: ReadFrom) -> Result<LogReader> {
        LogReader::new(self.area.clone(), None, from)
    }

    /// The reader of a log with that name: made now if there was none, beginning at `from`, else it goes on where it was, and `from` is not
    /// used. `SubscriptionInUse` while its holder lives. What it has not read is kept with [`OverrunPolicy::Block`], until
    /// [`Channel::unsubscribe`]; with the other one it is told how much was trimmed.
    pub fn named_reader(&self, name: &str, from: ReadFrom) -> Result<LogReader> {
        LogReader::new(self.area.clone(), Some(name), from)
    }

    /// Ends a named subscription whose holder is away. False if there is none of that name.
    pub fn unsubscribe(&self, name: &str) -> Result<bool> {
        self.area.same_process()?;
        self.area.unsubscribe(name)
    }

    /// Takes a subscription away from its holder, dead, alive or stopped, so that it blocks nobody any more. The holder's next
    /// call answers `Ejected`. False if there is no such subscription.
    pub fn eject(&self, id: u32) -> Result<bool> {
        self.area.same_process()?;
        if id >= self.area.shape.subs {
            return Ok(false);
        }
        self.area.eject(id, self.area.sub_state(id)?)
    }

    /// All subscriptions, with how far they are behind.
    pub fn subscriptions(&self) -> Result<Vec<SubscriptionInfo>> {
        self.area.same_process()?;
        self.area.subscriptions()
    }

    /// Counts.
    pub fn stats(&self) -> Result<ChannelStats> {
        let mut stats = ChannelStats {
            publishers: 0,
            lanes: 0,
            published_bytes: 0,
            subscriptions: self.subscriptions()?,
            ejected: self.area.ejected(),
            queue: self.area.queue_stats()?,
            log: self.area.log_stats()?,
        };
        stats.publishers = self.area.count_appenders()?;
        for index in 0..self.area.shape.lanes {
            stats.publishers += u32::from(self.area.lane_state(index)?.is(LaneKind::Live));
            if let Some(lane) = self.area.lane_ref(index)? {
                stats.lanes += 1;
                stats.published_bytes = stats.published_bytes.saturating_add(self.area.lane(lane)?.tail());
            }
        }
        Ok(stats)
    }
}
