//! Memora: a shared-memory data fabric for the processes of one Linux host.
#![deny(unsafe_code)]

mod error;
pub mod limits;

#[macro_use]
pub mod shm;
#[allow(dead_code, unused_imports)]
mod cache;
#[allow(dead_code, unused_imports)]
mod channel;
#[allow(dead_code, unused_imports)]
mod chunk;
#[allow(dead_code, unused_imports)]
mod journal;
#[allow(dead_code)]
mod store;
#[allow(dead_code, unused_imports)]
mod table;

pub use channel::{
    Channel, ChannelKind, ChannelOptions, ChannelStats, Claim, Message, OverrunPolicy, Publisher, Subscriber,
    SubscriptionInfo,
};
pub use error::{Error, ErrorCode, Result};
pub use shm::{KernelFeatures, kernel_features};
