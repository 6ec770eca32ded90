//! A log without a segment or a registry, for tests and models.

use std::sync::Arc;

use crate::channel::area::{Area, create};
use crate::channel::testing::Stage;
use crate::channel::{Channel, ChannelKind, ChannelOptions, OverrunPolicy, Retention, bytes_needed};
use crate::shm::Shm;

/// Where the control area begins.
pub const CONTROL: u64 = 256;

/// A log on a stage of its own.
pub fn log_with(overrun: OverrunPolicy, retention: Retention) -> (Arc<Stage>, Channel) {
    let retention = Some(retention);
    let options = ChannelOptions { kind: ChannelKind::Log, overrun, retention, ..ChannelOptions::default() };
    let len = bytes_needed(&options).unwrap();
    let shm = Arc::new(Shm::heap(CONTROL + len).unwrap());
    create(shm.span(CONTROL, len).unwrap(), &options, 1).unwrap();
    let stage = Stage::new(shm, CONTROL);
    let channel = reopen(&stage);
    (stage, channel)
}

/// The log as another process opens it.
pub fn reopen(stage: &Arc<Stage>) -> Channel {
    crate::shm::fork::begin();
    let len = stage.shm.len() - CONTROL;
    Channel::from_area(Area::open(stage.shm.clone(), stage.clone(), CONTROL, len, "test").unwrap())
}
