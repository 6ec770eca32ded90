//! What the tests of Memora share: processes to kill and freeze, forked children, kill points, histories and their checkers.
#![deny(unsafe_code)]

pub mod caches;
pub mod call_history;
pub mod crew;
#[allow(unsafe_code)]
pub mod fork;
pub mod kill_point;
pub mod linearizability;
pub mod log_history;
pub mod process;
pub mod queue_history;
pub mod transaction_history;
#[allow(unsafe_code)]
pub mod words;
pub mod work_history;
pub use memora_stress::history;
