//! Stress workers of Memora: random operations whose questions and answers are written down as a history.
//!
//! The forms, names and sizes are those of `docs/stress.md`, so that workers in C and Java can share one fabric with these.
#![forbid(unsafe_code)]

pub mod evict;
pub mod history;
pub mod kv;
pub mod log;
pub mod queue;
pub mod random;
pub mod transaction;
pub mod whole;
pub mod work;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Name of the cache that all workers share.
pub const CACHE: &str = "stress";
/// Name of the channel that all workers share: another one, so that both kinds of workers can storm one fabric.
pub const CHANNEL: &str = "stress-queue";
/// Bytes of each lane of the channel.
pub const LANE_BYTES: u32 = 64 << 10;

/// What every worker needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the fabric; it is created if there is none.
    pub fabric: String,
    /// Chooses the operations.
    pub seed: String,
    /// The file to which the history is appended.
    pub history: PathBuf,
    /// When to end.
    pub bound: Bound,
    /// Operations after which it rests for a millisecond each time.
    pub burst: Option<u64>,
}

impl Options {
    /// Whether to go on after `done` operations since `start`; rests where it is time to.
    fn goes_on(&self, done: u64, start: Instant) -> bool {
        if self.burst.is_some_and(|burst| done > 0 && done.is_multiple_of(burst)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.bound.allows(done, start)
    }
}

/// When a worker ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// After so many operations.
    Operations(u64),
    /// After so long.
    Time(Duration),
    /// Never: it runs until it is killed.
    Killed,
}

impl Bound {
    /// Whether to go on after `done` operations since `start`.
    fn allows(self, done: u64, start: Instant) -> bool {
        match self {
            Bound::Operations(count) => done < count,
            Bound::Time(time) => start.elapsed() < time,
            Bound::Killed => true,
        }
    }
}

/// Why a worker gave up.
#[derive(Debug)]
pub enum Failure {
    /// A call answered with an error that is not one of the expected answers.
    Memora(memora::Error),
    /// The history cannot be written.
    History(io::Error),
}

impl From<memora::Error> for Failure {
    fn from(error: memora::Error) -> Failure {
        Failure::Memora(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::History(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Memora(error) => write!(f, "{error}"),
            Failure::History(error) => write!(f, "The history cannot be written: {error}."),
        }
    }
}

impl std::error::Error for Failure {}

/// True for errors that are answers: the operation was refused and changed nothing.
fn is_refusal(code: memora::ErrorCode) -> bool {
    use memora::ErrorCode::{BackPressure, Busy, Full, NoSpace, TimedOut};
    matches!(code, Full | NoSpace | Busy | BackPressure | TimedOut)
}

/// Bytes as text for a history; what should never be there becomes `?`.
fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'"' | b'\\' => '?',
            0x20..=0x7e => byte as char,
            _ => '?',
        })
        .collect()
}
