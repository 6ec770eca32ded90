//! Whose turn it is: one thread at a time, and a second one is refused at once.
//!
//! Nearly always it is the same thread that comes. So the first one is *favoured*: it needs no locked instruction, which would wait until all that it
//! stored before has reached the others. It says by a plain store that it is inside, then looks whether it is still favoured. The first other
//! thread that comes ends the favour, for good, by one heavy fence: either the favoured one sees that, or it is seen inside. From then on
//! all go by a compare-and-swap.

use std::marker::PhantomData;

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use super::{fence, thread};

/// Nobody came yet.
const NOBODY: u64 = 0;
/// The favour has ended; whether its thread is inside is not known yet.
const ENDING: u64 = 1;
/// The favour has ended; whose it was is seen if it is inside.
const ENDED: u64 = 2;

/// Lets one thread in at a time.
#[derive(Debug)]
pub struct Turn {
    /// One of the above, or which thread is favoured: no address of a thread is that small.
    favoured: AtomicU64,
    /// 1 while the favoured thread is inside, or looks whether it may be. Nobody else stores it.
    inside: AtomicU32,
    /// 1 while another thread is.
    taken: AtomicU32,
}

/// The turn, until dropped by the thread that took it.
#[derive(Debug)]
pub struct Held<'a>(&'a AtomicU32, PhantomData<*const ()>);

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // ORDER Release [turn]: what was done inside; pairs with the loads of `inside` and the change of `taken`.
        self.0.store(0, Ordering::Release);
    }
}

impl Default for Turn {
    fn default() -> Turn {
        // Without heavy fences nobody is favoured.
        let favoured = if fence::register() { NOBODY } else { ENDED };
        Turn { favoured: AtomicU64::new(favoured), inside: AtomicU32::new(0), taken: AtomicU32::new(0) }
    }
}

impl Turn {
    /// Takes the turn; none while somebody has it, be it this thread itself. Only where the kernel takes heavy fences away from a running process may it
    /// be refused to a second thread though nobody has it.
    #[inline(always)]
    pub fn take(&self) -> Option<Held<'_>> {
        self.take_as(thread::marker() as u64)
    }

    #[inline(always)]
    pub(super) fn take_as(&self, me: u64) -> Option<Held<'_>> {
        // ORDER Relaxed: a thread sees its own number, if that is what stands here, and nothing else depends on it.
        if self.favoured.load(Ordering::Relaxed) != me {
            return self.take_as_another(me);
        }
        // ORDER Acquire [turn]: what a thread did that had this number and has ended.
        if self.inside.load(Ordering::Acquire) != 0 {
            return None;
        }
        // ORDER Relaxed: the fence orders it.
        self.inside.store(1, Ordering::Relaxed);
        // Between the store and the second look; pairs with the fence in `end_favour`.
        fence::light();
        // ORDER Relaxed: the fence orders it.
        if self.favoured.load(Ordering::Relaxed) == me {
            return Some(Held(&self.inside, PhantomData));
        }
        // ORDER Release [turn]: who finds it 0 finds what was done inside before.
        self.inside.store(0, Ordering::Release);
        self.take_as_equal()
    }

    #[cold]
    #[inline(never)]
    fn take_as_another(&self, me: u64) -> Option<Held<'_>> {
        // ORDER Relaxed: nothing was done inside yet.
        if self.favoured.compare_exchange(NOBODY, me, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return self.take_as(me);
        }
        self.take_as_equal()
    }

    #[inline(never)]
    fn take_as_equal(&self) -> Option<Held<'_>> {
        // ORDER Acquire [favour]: the fence in front of the store, so that the look at `inside` below comes behind it.
        if self.favoured.load(Ordering::Acquire) != ENDED && !self.end_favour() {
            return None;
        }
        // Whoever is found outside here never comes in as the favoured one again.
        // ORDER Acquire [turn]: what the favoured one did inside.
        if self.inside.load(Ordering::Acquire) != 0 {
            return None;
        }
        // ORDER Acquire [turn]: what the last one did inside.
        let taken = self.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then(|| Held(&self.taken, PhantomData))
    }

    #[cold]
    #[inline(never)]
    fn end_favour(&self) -> bool {
        // ORDER Relaxed: the fence orders it.
        self.favoured.store(ENDING, Ordering::Relaxed);
        // Between the store and the look at `inside`; pairs with the fence in `take_as`.
        if !fence::heavy() {
            return false;
        }
        // ORDER Release [favour]: the fence; pairs with the load in `take_as_equal`.
        self.favoured.store(ENDED, Ordering::Release);
        true
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64 as Number;

    /// Threads count up what one at a time may touch; whoever is refused does not count.
    fn count(turn: &Turn, threads: usize, times: u64) -> (u64, u64) {
        let number = Number::new(0);
        let done = std::thread::scope(|scope| {
            let count = || {
                (0..times)
                    .filter(|_| {
                        let Some(_held) = turn.take() else { return false };
                        number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        true
                    })
                    .count() as u64
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        (number.load(Ordering::Relaxed), done)
    }

    #[test]
    fn who_is_inside_is_refused_and_another_thread_after_that_gets_it() {
        let turn = Turn::default();
        let held = turn.take().unwrap();
        assert!(turn.take().is_none(), "a call within a call");
        let other = || std::thread::scope(|scope| scope.spawn(|| turn.take().is_some()).join().unwrap());
        assert!(!other());
        assert!(turn.take().is_none(), "a refusal must not free it");
        drop(held);
        assert!(other());
        let held = turn.take().unwrap();
        assert!(!other() && turn.take().is_none());
        drop(held);
        assert!(turn.take().is_some());
    }

    #[test]
    fn threads_that_take_turns_lose_nothing() {
        for favoured in [NOBODY, ENDED] {
            let turn = Turn { favoured: AtomicU64::new(favoured), ..Turn::default() };
            let (number, done) = count(&turn, 4, 20_000);
            assert_eq!(number, done);
        }
    }

    #[test]
    fn a_favour_that_ends_while_its_thread_goes_in_and_out_loses_nothing() {
        for _ in 0..2000 {
            let (number, done) = count(&Turn::default(), 2, 20);
            assert_eq!(number, done);
        }
    }
}
