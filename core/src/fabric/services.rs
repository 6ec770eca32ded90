//! Opening services.

use std::sync::Arc;

use super::directory::{HEADER_BYTES, Object, ObjectKind, Plan};
use super::{Fabric, Inner};
use crate::channel;
use crate::error::{Error, ErrorCode, Result};
use crate::service::{self, Area, Service, ServiceOptions};

impl Inner {
    /// The control area of a service.
    pub(super) fn service_area(&self, object: &Object, ground: Arc<dyn channel::Ground>) -> Result<Area> {
        let len = u64::from(object.chunks) * self.pool.geometry().chunk_bytes - HEADER_BYTES;
        Area::open(Arc::clone(self.segment.shm()), ground, object.offset + HEADER_BYTES, len, &object.name)
    }
}

impl Fabric {
    /// Opens the service `name`, or makes it with these options. `WrongOptions` if it exists with others.
    pub fn service(&self, name: &str, options: &ServiceOptions) -> Result<Service> {
        service::layout::check_options(options.message_bytes, options.calls)?;
        let object = self.inner.open_or_create(&Plan {
            kind: ObjectKind::Service,
            name,
            options: [u64::from(options.message_bytes), u64::from(options.calls), 0, 0, 0, 0, 0, 0],
            chunks: 1,
            lay_out: &|run, id| {
                let area = run.sub(HEADER_BYTES, run.len() - HEADER_BYTES)?;
                service::create(area, options, id)
            },
        })?;
        let service = self.existing_service(&object)?;
        if service.options() != *options {
            return Err(Error::new(
                ErrorCode::WrongOptions,
                format!("The service `{name}` was made with {:?}, not with {options:?}.", service.options()),
            ));
        }
        Ok(service)
    }

    /// Opens the service `name`, however it was made. `NotFound` if there is none.
    pub fn open_service(&self, name: &str) -> Result<Service> {
        self.inner.registry.enter()?;
        match self.inner.directory.find(&self.inner.pool, name)? {
            Some(object) if object.kind == ObjectKind::Service => self.existing_service(&object),
            Some(object) => Err(Error::new(
                ErrorCode::WrongKind,
                format!("`{name}` exists as a {}, not as a service.", object.kind.name()),
            )),
            None => Err(Error::new(ErrorCode::NotFound, format!("There is no service `{name}`."))),
        }
    }

    fn existing_service(&self, object: &Object) -> Result<Service> {
        let ground = Arc::clone(&self.inner) as Arc<dyn channel::Ground>;
        Ok(Service::from_area(self.inner.service_area(object, ground)?))
    }
}
