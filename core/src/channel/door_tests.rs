//! The door of a thread that writes a lane itself: nobody else writes while it is inside, and whatever moment it is thrown out at, the lane goes on.

use super::area::Area;
use super::door::{Door, WritingDesk};
use super::lane::{Head, Next, Place};
use super::layout::{LaneState, WORD, lane};
use crate::shm::atomic::Ordering;
use crate::shm::{align8, fence};

/// Who writes the lane itself, and who is another thread.
const WRITER: usize = 1;
const OTHER: usize = 2;

/// Moments of a message, each behind the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Moment {
    Entered,
    Written,
    Committed,
    Moved,
    Left,
}

/// What a binding does for a message of a thread, step by step, up to a moment. False if it asks the library.
fn write(area: &Area, desk: &WritingDesk, state: LaneState, message: &[u8], end: Moment) -> bool {
    let ring = area.lane(area.lane_ref(0).unwrap().unwrap()).unwrap();
    let (head, len) = (desk.head.load(Ordering::Relaxed), message.len() as u64);
    let need = align8(WORD + len);
    if desk.door.inside.load(Ordering::Relaxed) != Door::OUTSIDE
        || need > ring.size() - head % ring.size()
        || head + need + WORD > desk.limit.load(Ordering::Relaxed)
    {
        return false;
    }
    // ORDER Relaxed: the fence orders it.
    desk.door.inside.store(Door::INSIDE, Ordering::Relaxed);
    fence::light();
    let held = LaneState(area.lane_word(0).unwrap().load(Ordering::Relaxed)) == state;
    if desk.door.open.load(Ordering::Relaxed) != Door::OPEN || !held {
        desk.door.inside.store(Door::OUTSIDE, Ordering::Release);
        return false;
    }
    if end == Moment::Entered {
        return true;
    }
    let mut at = Head::default();
    at.position = head;
    let payload = ring.begin::<false>(&mut at, len);
    ring.ring().copy_in(payload, message).unwrap();
    if end == Moment::Written {
        return true;
    }
    let tail = ring.tail();
    ring.commit::<false>(&mut at, len);
    if end == Moment::Committed {
        // As if it had not come to the tail.
        let entry = area.shm.block::<{ lane::BYTES as usize }>(area.shape.lane(0)).unwrap();
        entry.u64::<{ lane::TAIL }>().store(tail, Ordering::Relaxed);
        return true;
    }
    if end == Moment::Moved {
        return true;
    }
    desk.head.store(at.position, Ordering::Relaxed);
    // ORDER Release [door]: what was written; pairs with the look of who wants the publisher.
    desk.door.inside.store(Door::OUTSIDE, Ordering::Release);
    true
}

/// The messages of the lane that follow its first, which is empty.
fn sent(area: &Area) -> Vec<Vec<u8>> {
    let ring = area.lane(area.lane_ref(0).unwrap().unwrap()).unwrap();
    let (mut at, mut scratch, mut all) = (Place::default(), Vec::new(), Vec::new());
    loop {
        match ring.next::<false>(&*area.ground, at, &mut scratch).unwrap() {
            Next::Message { len, behind } => {
                all.push(scratch[..len].to_vec());
                at = behind;
            }
            Next::Empty => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ring.tail(), at.position, "the tail stands behind the last");
    assert!(all.remove(0).is_empty());
    all
}

#[cfg(not(memora_loom))]
mod moments {
    use super::super::testing::{act_as, channel};
    use super::super::{Channel, ChannelKind, OverrunPolicy, Publisher};
    use super::*;
    use crate::shm::thread;

    fn begun() -> (Channel, Publisher) {
        act_as(1);
        let (_, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 2);
        let mut publisher = channel.publisher().unwrap();
        publisher.try_send(b"").unwrap();
        (channel, publisher)
    }

    /// Whatever moment a thread is thrown out at, what it committed is there and stays, and who sends next goes on behind it: the same thread,
    /// another one, or the next publisher of the lane.
    #[test]
    fn a_thread_that_is_thrown_out_leaves_a_lane_that_goes_on() {
        let here = thread::marker();
        for end in [Moment::Entered, Moment::Written, Moment::Committed, Moment::Moved, Moment::Left] {
            for mark in [Door::INSIDE, Door::BROKEN] {
                for next in 0..3 {
                    let (channel, mut publisher) = begun();
                    let (area, state) = (channel.area.clone(), publisher.state);
                    let desk = WritingDesk::default();
                    assert!(desk.take(&mut publisher, OTHER).unwrap(), "nobody was let in");
                    let writer = if next == 1 { WRITER } else { here };
                    assert!(desk.open(&publisher, writer) && !desk.open(&publisher, OTHER));
                    assert!(write(&area, &desk, state, b"first", Moment::Left));
                    assert!(write(&area, &desk, state, b"second", end));
                    let there = end >= Moment::Committed;
                    if end != Moment::Left {
                        desk.door.inside.store(mark, Ordering::Relaxed);
                        assert!(!write(&area, &desk, state, b"not", Moment::Left), "the library looks first");
                        assert_eq!(desk.door.is_inside(OTHER), mark == Door::INSIDE);
                    }
                    assert!(!desk.door.is_inside(writer), "who is here is not there");
                    let mut expected: Vec<&[u8]> = vec![b"first"];
                    expected.extend(there.then_some(&b"second"[..]));
                    if next == 2 {
                        drop(publisher);
                        publisher = channel.publisher().unwrap();
                        assert_eq!(publisher.lane(), 0);
                    } else if next == 1 && mark == Door::INSIDE && end != Moment::Left {
                        assert!(!desk.take(&mut publisher, OTHER).unwrap(), "it is writing");
                        continue;
                    } else {
                        let me = if next == 1 { OTHER } else { here };
                        assert!(desk.take(&mut publisher, me).unwrap());
                    }
                    publisher.try_send(b"third").unwrap();
                    desk.give(&publisher);
                    expected.push(b"third");
                    if next == 0 {
                        assert!(write(&area, &desk, state, b"fourth", Moment::Left), "{end:?}");
                        expected.push(b"fourth");
                    } else {
                        assert!(!write(&area, &desk, state, b"not", Moment::Left));
                    }
                    assert_eq!(sent(&area), expected, "{end:?} {mark} {next}");
                }
            }
        }
    }

    /// Whoever closes a publisher while its thread is being let in keeps the door shut.
    #[test]
    fn a_door_that_was_shut_first_never_opens() {
        let (channel, publisher) = begun();
        let desk = WritingDesk::default();
        desk.door.shut();
        assert!(!desk.open(&publisher, WRITER));
        assert!(!write(&channel.area, &desk, publisher.state, b"not", Moment::Left));
        assert!(sent(&channel.area).is_empty());
    }
}

/// Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.
#[cfg(memora_loom)]
mod interleavings {
    use std::sync::Arc;

    use super::super::interleavings::{model, small};
    use super::super::{Channel, OverrunPolicy, Publisher};
    use super::*;
    use crate::shm::atomic::AtomicU64;

    fn begun() -> (Channel, Publisher, Arc<WritingDesk>) {
        crate::shm::fork::begin();
        let channel = small(OverrunPolicy::Block);
        let mut publisher = channel.publisher().unwrap();
        publisher.try_send(b"").unwrap();
        (channel, publisher, Arc::default())
    }

    /// The messages 1 and 2 of the writer, as far as it may write them.
    fn writes(area: &Area, desk: &WritingDesk, state: LaneState) -> Vec<Vec<u8>> {
        [vec![1], vec![2]].into_iter().take_while(|it| write(area, desk, state, it, Moment::Left)).collect()
    }

    fn assert_sent(area: &Area, mut written: Vec<Vec<u8>>, other: bool) {
        if other {
            // Behind all of the writer's, which never comes back.
            written.push(vec![9]);
        }
        assert_eq!(sent(area), written);
    }

    /// Another thread sends by the publisher whose thread writes: it is refused, or it writes alone and behind everything.
    #[test]
    fn another_thread_sends_behind_the_one_that_writes_or_not_at_all() {
        model(4, || {
            let (channel, mut publisher, desk) = begun();
            let (area, state) = (channel.area.clone(), publisher.state);
            assert!(desk.open(&publisher, WRITER));
            let writer = {
                let (area, desk) = (area.clone(), desk.clone());
                loom::thread::spawn(move || writes(&area, &desk, state))
            };
            let had = desk.take(&mut publisher, OTHER).unwrap();
            if had {
                publisher.try_send(&[9]).unwrap();
                desk.give(&publisher);
            }
            let written = writer.join().unwrap();
            assert_sent(&area, written, had);
            assert!(desk.take(&mut publisher, OTHER).unwrap());
            std::mem::forget(publisher);
        });
    }

    /// Another thread closes the publisher, and the next one has its lane: alone, or the publisher is left to a later call.
    #[test]
    fn the_next_publisher_has_the_lane_of_a_closed_one_alone() {
        model(4, || {
            let (channel, publisher, desk) = begun();
            let (area, state) = (channel.area.clone(), publisher.state);
            assert!(desk.open(&publisher, WRITER));
            let writer = {
                let (area, desk) = (area.clone(), desk.clone());
                loom::thread::spawn(move || writes(&area, &desk, state))
            };
            // As a handle's close does it, but for its patience.
            desk.door.shut();
            assert!(fence::heavy());
            let closed = !desk.door.is_inside(OTHER);
            if closed {
                follow(&channel, publisher);
            } else {
                std::mem::forget(publisher);
            }
            let written = writer.join().unwrap();
            assert_sent(&area, written, closed);
        });
    }

    /// The publisher is dropped, and the next one sends.
    fn follow(channel: &Channel, publisher: Publisher) {
        drop(publisher);
        let mut next = channel.publisher().unwrap();
        next.try_send(&[9]).unwrap();
        std::mem::forget(next);
    }

    /// The publisher is closed while its thread is just being let in: that call is over, or announced and waited for.
    #[test]
    fn a_thread_that_is_let_in_while_the_publisher_is_closed_does_not_write() {
        model(4, || {
            let (channel, publisher, desk) = begun();
            let (area, state) = (channel.area.clone(), publisher.state);
            // The announcement and the generation of `handles`.
            let words = Arc::new((AtomicU64::new(0), AtomicU64::new(1)));
            let publisher = Arc::new(loom::sync::Mutex::new(Some(publisher)));
            let writer = {
                let (area, desk, words) = (area.clone(), desk.clone(), words.clone());
                let publisher = publisher.clone();
                loom::thread::spawn(move || {
                    let (announced, generation) = &*words;
                    announced.store(1, Ordering::Relaxed);
                    fence::light();
                    let valid = generation.load(Ordering::Relaxed) == 1;
                    let let_in =
                        valid && desk.open(publisher.lock().unwrap().as_ref().expect("announced"), WRITER);
                    announced.store(0, Ordering::Release);
                    if let_in { writes(&area, &desk, state) } else { Vec::new() }
                })
            };
            let (announced, generation) = &*words;
            generation.store(2, Ordering::Relaxed);
            desk.door.shut();
            assert!(fence::heavy());
            let closed = announced.load(Ordering::Acquire) == 0 && !desk.door.is_inside(OTHER);
            if closed {
                follow(&channel, publisher.lock().unwrap().take().unwrap());
            }
            let written = writer.join().unwrap();
            assert_sent(&area, written, closed);
            std::mem::forget(publisher.lock().unwrap().take());
        });
    }
}
