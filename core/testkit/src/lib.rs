//! What the tests of Memora share: processes to kill and freeze, kill points, histories and their checkers.
#![forbid(unsafe_code)]

pub mod kill_point;
pub mod linearizability;
pub mod process;
pub mod queue_history;
pub use memora_stress::history;
