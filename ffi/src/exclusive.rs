//! What one thread at a time may use, and any thread may close.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, MutexGuard, TryLockError};

use memora_core::{Error, ErrorCode, Result};

/// A value used by one thread at a time: a second one gets an error instead of waiting.
pub(crate) struct Exclusive<T> {
    value: Mutex<Option<T>>,
    closing: AtomicBool,
}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Exclusive<T> {
        Exclusive { value: Mutex::new(Some(value)), closing: AtomicBool::new(false) }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<T>>> {
        match self.value.try_lock() {
            Ok(value) => Some(value),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Calls `f` with the value, unless another thread is using it or it was closed.
    #[inline]
    pub(crate) fn with<R>(&self, what: &str, f: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let Some(mut value) = self.try_lock() else {
            let text = format!("Another thread, or a callback further up, is using this {what}.");
            return Err(Error::new(ErrorCode::Busy, text));
        };
        let result = match value.as_mut() {
            Some(value) if !self.is_closing() => f(value),
            _ => Err(ErrorCode::Closed.into()),
        };
        drop(value);
        // Pairs with the fence in `close`: of the two, at least one sees what the other did, and drops the value.
        fence(Ordering::SeqCst);
        if self.is_closing() {
            self.take();
        }
        result
    }

    /// Whether somebody has closed the value while it is in use: waits end then.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Drops the value, now or as soon as the thread that uses it comes out of its call.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        // Pairs with the fence in `with`.
        fence(Ordering::SeqCst);
        self.take();
    }

    fn take(&self) {
        let value = self.try_lock().and_then(|mut value| value.take());
        // Outside the lock: the value's own end may take its time.
        drop(value);
    }
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
