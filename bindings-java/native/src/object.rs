//! What a handle can name.

use std::sync::{Mutex, MutexGuard, TryLockError};

use jni::sys::jlong;
use memora::{Cache, Channel, Error, ErrorCode, Fabric, Publisher, Store};

use crate::cache::Entries;
use crate::channel::Reader;
use crate::guard::Answer;

/// An object with the handle that it was made from (0: none).
pub struct Object {
    pub parent: jlong,
    pub kind: Kind,
}

pub enum Kind {
    Fabric(Fabric),
    Cache(Cache),
    Store(Store),
    Channel(Channel),
    Publisher(OneAtATime<Publisher>),
    Subscriber(OneAtATime<Reader>),
}

impl Object {
    pub fn fabric(&self) -> Answer<&Fabric> {
        match &self.kind {
            Kind::Fabric(fabric) => Ok(fabric),
            _ => Err(wrong()),
        }
    }

    pub fn entries(&self) -> Answer<&dyn Entries> {
        match &self.kind {
            Kind::Cache(cache) => Ok(cache),
            Kind::Store(store) => Ok(store),
            _ => Err(wrong()),
        }
    }

    pub fn store(&self) -> Answer<&Store> {
        match &self.kind {
            Kind::Store(store) => Ok(store),
            _ => Err(wrong()),
        }
    }

    pub fn channel(&self) -> Answer<&Channel> {
        match &self.kind {
            Kind::Channel(channel) => Ok(channel),
            _ => Err(wrong()),
        }
    }

    pub fn publisher(&self) -> Answer<MutexGuard<'_, Publisher>> {
        match &self.kind {
            Kind::Publisher(publisher) => publisher.take(),
            _ => Err(wrong()),
        }
    }

    pub fn subscriber(&self) -> Answer<MutexGuard<'_, Reader>> {
        match &self.kind {
            Kind::Subscriber(subscriber) => subscriber.take(),
            _ => Err(wrong()),
        }
    }
}

#[cold]
fn wrong() -> crate::guard::Fault {
    Error::new(ErrorCode::Internal, "The handle names an object of another kind.").into()
}

/// An object that one thread at a time may use; a second one is told so instead of waiting.
pub struct OneAtATime<T>(Mutex<T>);

impl<T> OneAtATime<T> {
    pub fn new(object: T) -> OneAtATime<T> {
        OneAtATime(Mutex::new(object))
    }

    fn take(&self) -> Answer<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(object) => Ok(object),
            // A panic inside was reported to its caller; the object keeps its own rules.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::new(
                ErrorCode::Busy,
                "Another thread is inside this publisher or subscriber: give each thread its own.",
            )
            .into()),
        }
    }
}
