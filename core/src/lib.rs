//! Memora: a shared-memory data fabric for the processes of one Linux host.
#![deny(unsafe_code)]
// Visitors of scans and checks are closures; naming each of their types would hide what they get.
#![allow(clippy::type_complexity)]

mod error;
pub mod limits;

#[macro_use]
pub mod shm;
mod cache;
mod channel;
mod chunk;
mod fabric;
mod journal;
mod registry;
mod segment;
mod store;
mod table;

pub use cache::{Cache, CacheOptions, CacheStats};
pub use channel::{
    Channel, ChannelKind, ChannelOptions, ChannelStats, Claim, Message, OverrunPolicy, Publisher, Subscriber,
    SubscriptionInfo,
};
pub use error::{Error, ErrorCode, Result};
pub use fabric::{
    Backend, CheckReport, Create, Fabric, FabricInfo, FabricOptions, FabricStat, ObjectInfo, ObjectKind,
    Problem, ProcessInfo, ReapReport,
};
pub use shm::{KernelFeatures, kernel_features};
pub use store::{Durability, Store, StoreOptions, StoreStats};
pub use table::entry::{CasOutcome, Entry, SetOptions, Version};
