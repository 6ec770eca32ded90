//! What one thread at a time may use, and any thread may close.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

use memora_core::shm::{self, Turn};
use memora_core::{Error, ErrorCode, Result};

use crate::handles::{call_fence, close_fence};

/// A value used by one thread at a time: a second one gets an error instead of waiting.
pub(crate) struct Exclusive<T> {
    turn: Turn,
    closing: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: `Held` gives the value to one thread at a time, so all that is asked of it is that it may go between threads.
unsafe impl<T: Send> Sync for Exclusive<T> {}

/// The right to use the value, until dropped.
struct Held<'a, T> {
    value: &'a UnsafeCell<Option<T>>,
    _turn: shm::Held<'a>,
}

impl<T> Held<'_, T> {
    fn value(&mut self) -> &mut Option<T> {
        // SAFETY: the turn was taken by the one that made this, and is held until this is dropped.
        unsafe { &mut *self.value.get() }
    }
}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Exclusive<T> {
        Exclusive {
            turn: Turn::default(),
            closing: AtomicBool::new(false),
            value: UnsafeCell::new(Some(value)),
        }
    }

    #[inline]
    fn hold(&self) -> Option<Held<'_, T>> {
        Some(Held { _turn: self.turn.take()?, value: &self.value })
    }

    /// Calls `f` with the value, unless another thread is using it or it was closed.
    #[inline]
    pub(crate) fn with<R>(&self, what: &str, f: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let Some(mut held) = self.hold() else { return Err(busy(what)) };
        let result = match held.value() {
            Some(value) if !self.is_closing() => f(value),
            _ => Err(ErrorCode::Closed.into()),
        };
        drop(held);
        // Pairs with the fence in `close`: of the two, at least one sees what the other did, and drops the value.
        call_fence();
        if self.is_closing() {
            self.take();
        }
        result
    }

    /// Whether somebody has closed the value while it is in use: waits end then.
    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Drops the value, now or as soon as the thread that uses it comes out of its call.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        // Pairs with the fence in `with`. Should it fail, the value goes with the handle, a little later.
        close_fence();
        self.take();
    }

    #[cold]
    fn take(&self) {
        let value = self.hold().and_then(|mut held| held.value().take());
        // After it was given up: the value's own end may take its time.
        drop(value);
    }
}

#[cold]
fn busy(what: &str) -> Error {
    Error::new(ErrorCode::Busy, format!("Another thread, or a callback further up, is using this {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Counted(Arc<()>);

    #[test]
    fn a_second_user_is_refused_and_a_closed_value_is_gone() {
        let alive = Arc::new(());
        let value = Exclusive::new(Counted(alive.clone()));
        let nested = value.with("value", |_| {
            let busy = value.with("value", |_| Ok(())).unwrap_err();
            assert_eq!(busy.code(), ErrorCode::Busy);
            Ok(7)
        });
        assert_eq!(nested, Ok(7));
        value.close();
        assert_eq!(Arc::strong_count(&alive), 1);
        assert_eq!(value.with("value", |_| Ok(())).unwrap_err().code(), ErrorCode::Closed);
    }

    #[test]
    fn a_value_closed_while_in_use_goes_when_the_call_ends() {
        let alive = Arc::new(());
        let value = Exclusive::new(Counted(alive.clone()));
        let result = value.with("value", |inside| {
            value.close();
            assert!(value.is_closing());
            assert_eq!(Arc::strong_count(&inside.0), 2, "still there for the one who uses it");
            Ok(())
        });
        assert!(result.is_ok());
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn whoever_comes_last_drops_the_value() {
        for _ in 0..2000 {
            let alive = Arc::new(());
            let value = Exclusive::new(Counted(alive.clone()));
            std::thread::scope(|scope| {
                scope.spawn(|| value.with("value", |_| Ok(())));
                value.close();
            });
            assert_eq!(Arc::strong_count(&alive), 1);
        }
    }
}
