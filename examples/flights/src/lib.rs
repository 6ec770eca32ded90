//! What the programs of the flights example share: names, the data, and the computation in a single thread.

use memora::{ChannelKind, ChannelOptions, OverrunPolicy};

pub mod crew;
pub mod data;
pub mod reference;
pub mod verify;

/// The names by which all four programs find each other.
pub mod names {
    /// Channel on which each flight is one message, its line of the CSV file as text.
    pub const CHANNEL: &str = "flights";
    /// Named subscription of the C program.
    pub const COUNTER: &str = "counter";
    /// Named subscription of the first JVM.
    pub const LATE: &str = "late";
    /// Cache from the origin's IATA code to `count delay_sum last_position`, decimal text.
    pub const AIRPORTS: &str = "airports";
    /// Store of the flights that were late.
    pub const LATE_STORE: &str = "late";
    /// The message after the last flight.
    pub const END: &[u8] = b"end";
    /// Bytes of the publisher's ring: far less than the data, so that back-pressure is real.
    pub const LANE_BYTES: u32 = 64 << 10;
}

/// Any error of the example, with what it was about.
pub type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// How the channel is made: every subscriber gets every flight, and the publisher waits for the slowest.
pub fn channel_options() -> ChannelOptions {
    ChannelOptions {
        kind: ChannelKind::Broadcast,
        overrun: OverrunPolicy::Block,
        lane_bytes: names::LANE_BYTES,
        ..ChannelOptions::default()
    }
}
