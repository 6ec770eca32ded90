//! The messages of a subscription as an asynchronous stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::reactor::{Call, Reactor};
use super::watch::sealed::Sealed;
use super::{Message, Subscriber};
use crate::error::{ErrorCode, Result};

/// The messages of a [`Subscriber`], for any executor: [`Subscriber::messages`].
///
/// It ends after an error, unless that is `Overrun`: that tells how many messages were lost, and the stream goes on behind them. What it
/// gave last counts as handled when it is asked for the next message. A thread of the library sleeps in place of the task, as long as it waits.
pub struct Messages {
    subscriber: Subscriber,
    buffer: Vec<u8>,
    reactor: Reactor,
    waiting: Option<u64>,
    ended: bool,
}

impl Subscriber {
    /// The messages as an asynchronous stream.
    pub fn messages(self) -> Messages {
        Messages {
            subscriber: self,
            buffer: Vec::new(),
            reactor: Reactor::default(),
            waiting: None,
            ended: false,
        }
    }
}

impl Messages {
    /// The subscription again.
    pub fn into_subscriber(self) -> Subscriber {
        self.subscriber
    }
}

impl Stream for Messages {
    type Item = Result<(Message, Vec<u8>)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(waiting) = this.waiting.take() {
            this.reactor.forget(waiting);
        }
        let found = match this.subscriber.try_recv(&mut this.buffer) {
            Ok(Some(message)) => Some(Ok((message, std::mem::take(&mut this.buffer)))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        // Looked at anew by whoever waits, so nothing that comes in between is missed.
        let found = match found {
            Some(found) => found,
            None => {
                let call = Call::Task(context.waker().clone());
                match this.subscriber.target().and_then(|target| this.reactor.wait(vec![target], call)) {
                    Ok(waiting) => {
                        this.waiting = Some(waiting);
                        return Poll::Pending;
                    }
                    Err(error) => Err(error),
                }
            }
        };
        this.ended = found.as_ref().is_err_and(|error| error.code() != ErrorCode::Overrun);
        Poll::Ready(Some(found))
    }
}
