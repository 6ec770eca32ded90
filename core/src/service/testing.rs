//! A service without a segment or a registry, for tests and models.

use std::sync::Arc;

use super::{Area, Service, ServiceOptions, create};
use crate::channel::testing::{CONTROL_BYTES, Stage};
use crate::shm::Shm;

/// Where the control area begins.
pub const CONTROL: u64 = 256;

/// A service on a stage of its own, with room for this many clients.
pub fn service(options: &ServiceOptions, rings: u64) -> (Arc<Stage>, Service) {
    let shape = super::layout::Shape {
        offset: CONTROL,
        message_bytes: options.message_bytes.into(),
        calls: options.calls.into(),
        clients: 0,
        servers: 0,
    };
    let shm = Arc::new(Shm::heap(CONTROL + CONTROL_BYTES + rings * shape.ring_bytes()).unwrap());
    create(shm.span(CONTROL, CONTROL_BYTES).unwrap(), options, 1).unwrap();
    let stage = Stage::new(shm, CONTROL);
    let service = reopen(&stage);
    (stage, service)
}

/// The service as another process opens it.
pub fn reopen(stage: &Arc<Stage>) -> Service {
    crate::shm::fork::begin();
    Service::from_area(open(stage).unwrap())
}

/// Opens its area.
pub fn open(stage: &Arc<Stage>) -> crate::error::Result<Area> {
    Area::open(stage.shm.clone(), stage.clone(), CONTROL, CONTROL_BYTES, "test")
}
