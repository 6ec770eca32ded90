//! What a handle can name.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

use jni::sys::jlong;
use memora::shm::{Held, Turn, thread};
use memora::{
    Appender, Cache, Channel, Client, Door, Error, ErrorCode, EventSubscriber, Fabric, Outbox, Service,
    Snapshot, Store, Topic, TopicSubscriber, View, ViewedMemory, WaitSet,
};

use crate::cache::Entries;
use crate::compute::Filler;
use crate::direct::Sender;
use crate::direct::Shared;
use crate::direct_reading::{Receiver, Shown};
use crate::feed::Following;
use crate::guard::{Answer, Fault};
use crate::log::Reading;
use crate::queue::Worker;
use crate::service::Serving;
use crate::signal::Signal;
use crate::transaction::Begun;

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
    Publisher(Sender),
    /// Keeps what Java writes itself.
    SharedLane(Shared),
    Subscriber(Box<Receiver>),
    /// Keeps what Java reads itself.
    SharedReading(Shown),
    Appender(OneAtATime<Appender>),
    LogReader(OneAtATime<Reading>),
    View(View),
    /// Nobody looks at it: it only keeps something mapped.
    Memory {
        _memory: ViewedMemory,
    },
    Events(OneAtATime<EventSubscriber>),
    Filler(OneAtATime<Filler>),
    Consumer(OneAtATime<Worker>),
    Signal(Signal),
    Service(Service),
    Client(OneAtATime<Client>),
    Server(Serving),
    Topic(Topic),
    TopicSubscriber(OneAtATime<TopicSubscriber>),
    Transaction(OneAtATime<Begun>),
    Outbox(Outbox),
    WaitSet(WaitSet),
    Feed(Box<OneAtATime<Following>>),
    Snapshot(Snapshot),
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

    pub fn cache(&self) -> Answer<&Cache> {
        match &self.kind {
            Kind::Cache(cache) => Ok(cache),
            _ => Err(wrong()),
        }
    }

    pub fn wait_set(&self) -> Answer<&WaitSet> {
        match &self.kind {
            Kind::WaitSet(set) => Ok(set),
            _ => Err(wrong()),
        }
    }

    pub fn view(&self) -> Answer<&View> {
        match &self.kind {
            Kind::View(view) => Ok(view),
            _ => Err(wrong()),
        }
    }

    pub fn events(&self) -> Answer<Taken<'_, EventSubscriber>> {
        match &self.kind {
            Kind::Events(subscriber) => subscriber.take(),
            _ => Err(wrong()),
        }
    }

    pub fn filler(&self) -> Answer<Taken<'_, Filler>> {
        match &self.kind {
            Kind::Filler(filler) => filler.take(),
            _ => Err(wrong()),
        }
    }

    pub fn consumer(&self) -> Answer<Taken<'_, Worker>> {
        match &self.kind {
            Kind::Consumer(worker) => worker.take(),
            _ => Err(wrong()),
        }
    }

    pub fn store(&self) -> Answer<&Store> {
        match &self.kind {
            Kind::Store(store) => Ok(store),
            _ => Err(wrong()),
        }
    }

    pub fn transaction(&self) -> Answer<Taken<'_, Begun>> {
        match &self.kind {
            Kind::Transaction(begun) => begun.take(),
            _ => Err(wrong()),
        }
    }

    pub fn snapshot(&self) -> Answer<&Snapshot> {
        match &self.kind {
            Kind::Snapshot(snapshot) => Ok(snapshot),
            _ => Err(wrong()),
        }
    }

    pub fn outbox(&self) -> Answer<&Outbox> {
        match &self.kind {
            Kind::Outbox(outbox) => Ok(outbox),
            _ => Err(wrong()),
        }
    }

    pub fn channel(&self) -> Answer<&Channel> {
        match &self.kind {
            Kind::Channel(channel) => Ok(channel),
            _ => Err(wrong()),
        }
    }

    pub fn topic(&self) -> Answer<&Topic> {
        match &self.kind {
            Kind::Topic(topic) => Ok(topic),
            _ => Err(wrong()),
        }
    }

    pub fn topic_subscriber(&self) -> Answer<Taken<'_, TopicSubscriber>> {
        match &self.kind {
            Kind::TopicSubscriber(subscriber) => subscriber.take(),
            _ => Err(wrong()),
        }
    }

    pub fn service(&self) -> Answer<&Service> {
        match &self.kind {
            Kind::Service(service) => Ok(service),
            _ => Err(wrong()),
        }
    }

    pub fn client(&self) -> Answer<Taken<'_, Client>> {
        match &self.kind {
            Kind::Client(client) => client.take(),
            _ => Err(wrong()),
        }
    }

    pub fn server(&self) -> Answer<&Serving> {
        match &self.kind {
            Kind::Server(server) => Ok(server),
            _ => Err(wrong()),
        }
    }

    pub fn sender(&self) -> Answer<&Sender> {
        match &self.kind {
            Kind::Publisher(sender) => Ok(sender),
            _ => Err(wrong()),
        }
    }

    /// A Java thread that writes or reads without a call: it is told to begin nothing any more.
    pub fn shut(&self) {
        if let Some(door) = self.door() {
            door.shut();
        }
    }

    /// Whether another Java thread is inside without a call.
    pub fn is_entered(&self) -> bool {
        self.door().is_some_and(|door| door.is_inside(thread::marker()))
    }

    fn door(&self) -> Option<&Door> {
        match &self.kind {
            Kind::Publisher(sender) => Some(sender.door()),
            Kind::Subscriber(receiver) => Some(receiver.door()),
            _ => None,
        }
    }

    pub fn appender(&self) -> Answer<Taken<'_, Appender>> {
        match &self.kind {
            Kind::Appender(appender) => appender.take(),
            _ => Err(wrong()),
        }
    }

    pub fn log_reader(&self) -> Answer<Taken<'_, Reading>> {
        match &self.kind {
            Kind::LogReader(reader) => reader.take(),
            _ => Err(wrong()),
        }
    }

    pub fn feed(&self) -> Answer<Taken<'_, Following>> {
        match &self.kind {
            Kind::Feed(following) => following.take(),
            _ => Err(wrong()),
        }
    }

    pub fn receiver(&self) -> Answer<&Receiver> {
        match &self.kind {
            Kind::Subscriber(receiver) => Ok(receiver),
            _ => Err(wrong()),
        }
    }
}

#[cold]
pub fn wrong() -> Fault {
    Error::new(ErrorCode::Internal, "The handle names an object of another kind.").into()
}

/// An object that one thread at a time may use; a second one is told so instead of waiting.
pub struct OneAtATime<T> {
    turn: Turn,
    object: UnsafeCell<T>,
}

// SAFETY: `Taken` gives the object to one thread at a time, so all that is asked of it is that it may go between threads.
unsafe impl<T: Send> Sync for OneAtATime<T> {}

/// The right to use the object, until dropped; also a panic drops it, and was reported to its caller.
pub struct Taken<'a, T> {
    object: &'a UnsafeCell<T>,
    _turn: Held<'a>,
}

impl<T> OneAtATime<T> {
    pub fn new(object: T) -> OneAtATime<T> {
        OneAtATime { turn: Turn::default(), object: UnsafeCell::new(object) }
    }

    #[inline]
    pub fn take(&self) -> Answer<Taken<'_, T>> {
        let turn = self.turn.take().ok_or_else(busy)?;
        Ok(Taken { object: &self.object, _turn: turn })
    }
}

#[cold]
fn busy() -> Fault {
    Error::new(
        ErrorCode::Busy,
        "Another thread is inside this object, which one thread at a time may use: give each thread its own.",
    )
    .into()
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the turn was taken by the one that made this, and is held until this is dropped.
        unsafe { &*self.object.get() }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and whoever has this mutably has it alone.
        unsafe { &mut *self.object.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_user_is_refused_until_the_first_has_finished() {
        let object = OneAtATime::new(1);
        {
            let mut first = object.take().ok().expect("free");
            assert!(object.take().is_err());
            assert!(object.take().is_err(), "a refusal must not free it");
            *first += 1;
        }
        assert_eq!(object.take().ok().map(|taken| *taken), Some(2));
    }

    #[test]
    fn threads_that_take_turns_lose_nothing() {
        let object = OneAtATime::new(0u64);
        let done: u64 = std::thread::scope(|scope| {
            let users: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..20_000).filter(|_| object.take().map(|mut taken| *taken += 1).is_ok()).count()
                            as u64
                    })
                })
                .collect();
            users.into_iter().map(|user| user.join().expect("a user")).sum()
        });
        assert_eq!(object.take().ok().map(|taken| *taken), Some(done));
    }
}
