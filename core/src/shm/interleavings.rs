//! Every interleaving of taking turns, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::atomic::{AtomicU64, Ordering};
use super::turn::Turn;

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(check);
}

/// Counts up inside as often as it is let in: how often.
fn count_up(turn: &Turn, number: &AtomicU64, me: u64, times: usize) -> u64 {
    let mut done = 0;
    for _ in 0..times {
        if let Some(_held) = turn.take_as(me) {
            // Torn by whoever is inside at the same time, and lost where what the last one did is not seen.
            number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            done += 1;
        }
    }
    done
}

fn threads(times: &'static [usize], preemptions: usize) {
    model(preemptions, move || {
        let (turn, number) = (Arc::new(Turn::default()), Arc::new(AtomicU64::new(0)));
        // The first of them is favoured.
        assert_eq!(count_up(&turn, &number, 11, 1), 1);
        let others: Vec<_> = (1..times.len())
            .map(|index| {
                let (turn, number) = (turn.clone(), number.clone());
                loom::thread::spawn(move || count_up(&turn, &number, 11 + index as u64, times[index]))
            })
            .collect();
        let mut done = 1 + count_up(&turn, &number, 11, times[0]);
        for other in others {
            done += other.join().unwrap();
        }
        assert_eq!(number.load(Ordering::Relaxed), done);
        for me in [11, 12] {
            assert!(turn.take_as(me).is_some(), "free in the end");
        }
    });
}

#[test]
fn the_favoured_thread_and_another_are_never_inside_together() {
    threads(&[2, 2], 4);
}

#[test]
fn of_two_that_end_a_favour_one_at_most_is_inside() {
    threads(&[1, 1, 1], 3);
}

/// Whoever was refused, another one was inside: of two calls at the same time one succeeds.
#[test]
fn of_all_that_come_one_is_let_in() {
    model(4, || {
        let turn = Arc::new(Turn::default());
        drop(turn.take_as(11));
        let other = {
            let turn = turn.clone();
            loom::thread::spawn(move || turn.take_as(12).map(std::mem::forget).is_some())
        };
        let mine = turn.take_as(11).map(std::mem::forget).is_some();
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one of the two has it, and keeps it");
    });
}
