//! Memora: a shared-memory data fabric for the processes of one Linux host.
#![deny(unsafe_code)]
// Models run the concurrent cores without a segment, so what only the fabric calls stands unused there.
#![cfg_attr(memora_loom, allow(dead_code, unused_imports))]
// Visitors of scans and checks are closures; naming each of their types would hide what they get.
#![allow(clippy::type_complexity)]

mod error;
pub mod limits;

#[macro_use]
pub mod shm;
#[cfg(not(memora_loom))]
mod cache;
mod channel;
mod chunk;
#[cfg(not(memora_loom))]
mod fabric;
mod journal;
#[cfg(not(memora_loom))]
mod registry;
#[cfg(not(memora_loom))]
mod segment;
mod service;
mod signal;
#[cfg(not(memora_loom))]
mod store;
mod table;
#[cfg(not(memora_loom))]
mod topic;
mod tree;
mod wait;

#[cfg(not(memora_loom))]
pub use cache::{
    Advice, AdvicePoint, Cache, CacheCounts, CacheOptions, CacheStats, ChunkStates, Counter, CounterKind,
    Event, EventKind, EventSubscriber, Lease, MetaEntry, MetaGet, MetaSet, ProcessCounts, SetMode,
    SetOutcome, Token, Ttl, View, WhenFull,
};
pub use channel::{
    Acknowledge, Appender, Channel, ChannelKind, ChannelOptions, ChannelStats, Claim, Consumer, ConsumerInfo,
    DeadLetters, Delivery, LogClaim, LogFileStats, LogFiles, LogMessage, LogReader, LogReaderInfo, LogStats,
    Message, MessageReader, MessageView, Outbox, OverrunPolicy, Publisher, QueueStats, ReadFrom, Receipt,
    Retention, Subscriber, SubscriptionInfo, WaitSet, Waitable, wait_any,
};
#[cfg(not(memora_loom))]
pub use channel::{
    Came, DirectLane, DirectPlace, DirectReading, Door, Messages, Readiness, Stand, WritingDesk,
};
pub use error::{Error, ErrorCode, Result};
#[cfg(not(memora_loom))]
pub use fabric::{
    Backend, CheckReport, Create, Fabric, FabricInfo, FabricOptions, FabricStat, ObjectInfo, ObjectKind,
    Problem, ProcessInfo, ReapReport, SignalState,
};
pub use service::{Call, Client, Request, Server, Service, ServiceOptions, ServiceStats};
pub use shm::{KernelFeatures, Viewed, ViewedMemory, kernel_features};
pub use signal::{
    LockGuard, LockState, NamedCounter, NamedEvent, NamedLock, NamedSemaphore, Notified, Permits,
    SemaphoreState, SignalKind,
};
#[cfg(not(memora_loom))]
pub use store::{
    BackupInfo, Change, Durability, Feed, FeedFrom, FeedPosition, Loss, RangeIter, RepairOptions,
    RepairReport, RestoreOptions, SHARDS_DEFAULT, Snapshot, SnapshotLimits, Store, StoreOptions, StoreStats,
    TRANSACTION_BYTES_MAX, TRANSACTION_KEYS_MAX, Transaction, VerifyReport, repair, restore, restore_from,
    retry_conflicts, verify,
};
pub use table::Direction;
pub use table::entry::{CasOutcome, DeleteOutcome, Entry, SetOptions, Version};
#[cfg(not(memora_loom))]
pub use topic::{Topic, TopicOptions, TopicStats, TopicSubscriber, TopicUpdate};
