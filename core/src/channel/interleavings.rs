//! Every interleaving of the lane, of joining and ejecting, and of the wait word, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::area::Area;
use super::lane::{Head, Lane, Next, Place};
use super::layout::{Count, LaneKind, LaneState, Shape, SubKind, SubState, lane};
use super::testing::{Stage, act_as};
use super::wait::WaitWord;
use super::{Channel, ChannelKind, OverrunPolicy};
use crate::error::ErrorCode;
use crate::shm::Shm;
use crate::shm::atomic::{Ordering, spin_hint};
use crate::table::{Reference, Verdict};

/// Bytes of a ring in these models.
const RING: u64 = 64;
/// Where the ring lies behind the lane's entry, and a reader's place behind the ring.
const PLACE: u64 = lane::BYTES + RING;
/// How often a reader looks while a producer laps it.
const LOOKS: usize = 2;

pub(super) fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(check);
}

/// Makes every 8-byte word of a range, before the threads that share them.
fn touch(shm: &Shm, from: u64, len: u64) {
    let span = shm.span(from, len).unwrap();
    for word in 0..len / 8 {
        span.u64(word * 8).unwrap().store(0, Ordering::Relaxed);
    }
}

fn view(shm: &Shm) -> Lane<'_> {
    Lane::new(shm.span(lane::BYTES, RING).unwrap().ring().unwrap(), shm.block(0).unwrap())
}

/// A ground for lanes without gates.
fn nobody() -> Arc<Stage> {
    Stage::new(Arc::new(Shm::heap(8).unwrap()), 0)
}

fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 16 + at as u64 + 1) as u8).collect()
}

fn put<const OVERRUN: bool>(lane: Lane<'_>, head: &mut Head, bytes: &[u8]) {
    let at = lane.begin::<OVERRUN>(head, bytes.len() as u64);
    lane.ring().copy_in(at, bytes).unwrap();
    lane.commit::<OVERRUN>(head, bytes.len() as u64);
}

/// A producer and a reader on a ring that wraps with padding: each message arrives whole, in order, once.
#[test]
fn a_blocking_lane_delivers_whole_frames_in_order_over_padding_and_wrap() {
    // 16, 32 and 32 bytes of 64: the third goes to the start of the ring, behind 16 bytes of padding.
    const LENS: [usize; 3] = [8, 24, 24];
    model(3, || {
        let shm = Arc::new(Shm::heap(PLACE + 8).unwrap());
        touch(&shm, 0, PLACE + 8);
        let producer = {
            let shm = shm.clone();
            loom::thread::spawn(move || {
                let lane = view(&shm);
                let place = shm.block::<8>(PLACE).unwrap().u64::<0>();
                let mut head = Head::default();
                for (number, len) in LENS.into_iter().enumerate() {
                    // As `Area::limit` looks at the place of a reader.
                    let need = lane.room::<false>(head.position, len as u64);
                    while head.position + need > place.load(Ordering::Acquire) + RING {
                        spin_hint();
                    }
                    put::<false>(lane, &mut head, &payload(number as u64, len));
                }
            })
        };
        let lane = view(&shm);
        let mut at = Place::default();
        let mut scratch = Vec::new();
        for (number, expected) in LENS.into_iter().enumerate() {
            loop {
                match lane.next::<false>(&*nobody(), at, &mut scratch).unwrap() {
                    Next::Message { len, behind } => {
                        assert_eq!(scratch[..len], payload(number as u64, expected));
                        at = behind;
                        // As `Area::move_place` does it.
                        shm.block::<8>(PLACE).unwrap().u64::<0>().store(at.position, Ordering::Release);
                        break;
                    }
                    _ => spin_hint(),
                }
            }
        }
        producer.join().unwrap();
        assert_eq!(lane.tail(), at.position);
    });
}

/// A producer that laps its reader: what the reader accepts is whole and has its number; what it lost is counted.
#[test]
fn a_lapped_reader_never_accepts_a_torn_frame_and_counts_what_it_lost() {
    // Two frames of 24 bytes and 16 bytes of padding fill the ring: the third message overwrites the first, the fourth the
    // second.
    const SENT: u64 = 4;
    model(2, || {
        let shm = Arc::new(Shm::heap(PLACE).unwrap());
        touch(&shm, 0, PLACE);
        let mut head = Head::default();
        for number in 0..2 {
            put::<true>(view(&shm), &mut head, &payload(number, 8));
        }
        let producer = {
            let shm = shm.clone();
            loom::thread::spawn(move || {
                for number in 2..SENT {
                    put::<true>(view(&shm), &mut head, &payload(number, 8));
                }
            })
        };
        let lane = view(&shm);
        let mut at = Place::default();
        let mut scratch = Vec::new();
        let look = |at: &mut Place, scratch: &mut Vec<u8>| match lane
            .next::<true>(&*nobody(), *at, scratch)
            .unwrap()
        {
            Next::Message { len, behind } => {
                assert_eq!(scratch[..len], payload(at.messages, 8), "message {}", at.messages);
                assert_eq!(behind.messages, at.messages + 1);
                *at = behind;
            }
            Next::Lapped => {
                if let Some(place) = lane.resume(*at).unwrap() {
                    assert!(Count::between(at.messages, place.messages) > 0, "lapped, but nothing lost");
                    *at = place;
                }
            }
            Next::Empty => {}
            Next::Parcel { .. } => panic!("none is sent"),
        };
        for _ in 0..LOOKS {
            look(&mut at, &mut scratch);
        }
        producer.join().unwrap();
        // At rest it comes to the end: by messages that are there or by a jump that counts those that are not.
        for _ in 0..SENT + 1 {
            look(&mut at, &mut scratch);
        }
        assert_eq!((at.messages, at.position), (SENT, lane.tail()));
    });
}

/// One lane and two subscriptions, laid out by hand.
pub(super) fn small(overrun: OverrunPolicy) -> Channel {
    let shape = Shape { offset: 0, lane_bytes: RING, lanes: 1, subs: 2 };
    let bytes = Shape::bytes(1, 2);
    let shm = Arc::new(Shm::heap(bytes + RING).unwrap());
    touch(&shm, 0, bytes + RING);
    for at in [16u64, 20, 24, 28, 64, 68, 72, 128, 192] {
        shm.span(0, bytes).unwrap().u32(at).unwrap().store(0, Ordering::Relaxed);
    }
    shape_ring(&shm, &shape, bytes);
    let stage = Stage::new(shm.clone(), 0);
    Channel::from_area(Area::with_shape(shm, stage, shape, ChannelKind::Broadcast, overrun, "model").unwrap())
}

/// The lane is closed, with its ring behind the control area.
fn shape_ring(shm: &Shm, shape: &Shape, ring: u64) {
    let entry = shm.block::<64>(shape.lane(0)).unwrap();
    entry.u64::<{ lane::RING }>().store(ring, Ordering::Relaxed);
    entry.u64::<{ lane::STATE }>().store(LaneState::new(LaneKind::Closed, 0, 0, 1).0, Ordering::Relaxed);
}

/// A subscriber joins while a publisher that has looked at the subscriptions before goes on for a lap: nothing that the
/// subscriber has to read is overwritten, and nothing that was sent after it joined is missing.
#[test]
fn a_subscriber_that_joins_a_busy_publisher_misses_nothing_after_its_start() {
    model(2, || {
        crate::shm::fork::begin();
        let channel = small(OverrunPolicy::Block);
        let mut publisher = channel.publisher().unwrap();
        for _ in 0..4 {
            publisher.try_send(b"").unwrap();
        }
        let sender = loom::thread::spawn(move || {
            let mut last = 0;
            for _ in 0..6 {
                match publisher.try_send(b"") {
                    Ok(position) => last = position,
                    Err(error) => assert_eq!(error.code(), ErrorCode::BackPressure),
                }
            }
            (publisher, last)
        });
        let mut subscriber = channel.subscriber().unwrap();
        let start = subscriber.lag().unwrap();
        let (publisher, last) = sender.join().unwrap();
        let mut next = None;
        // A frame that was overwritten would be of another position: an error.
        let taken = subscriber
            .poll(100, |message, _| {
                assert!(next.is_none_or(|next| next == message.position));
                next = Some(message.position + 8);
            })
            .unwrap();
        assert!(taken as u64 * 8 >= start);
        assert!(next.is_none_or(|next| next == last + 8), "up to the last message");
        drop((subscriber, publisher));
    });
}

/// A publisher overwrites what an ejected subscriber is copying: the subscriber sees that the copy is void.
#[test]
fn an_ejected_reader_does_not_take_what_was_overwritten_for_its_own() {
    model(3, || {
        crate::shm::fork::begin();
        let channel = small(OverrunPolicy::Block);
        let area = channel.area.clone();
        let (index, state) = area.subscribe(1, None).unwrap();
        let (reference, _) = area.take_lane(1).unwrap();
        let mut head = area.lane(reference).unwrap().head::<false>(&*area.ground, 1).unwrap();
        for number in 0..2 {
            put::<false>(area.lane(reference).unwrap(), &mut head, &payload(number, 16));
        }
        let writer = {
            let area = area.clone();
            loom::thread::spawn(move || {
                assert!(area.eject(index, state).unwrap());
                let mut subs = Vec::new();
                area.bounding(&mut subs).unwrap();
                let limit = area.limit(&subs, 0, head.position).unwrap();
                let lane = area.lane(reference).unwrap();
                assert!(head.position + lane.room::<false>(head.position, 16) <= limit);
                put::<false>(lane, &mut head, &payload(2, 16));
            })
        };
        let lane = area.lane(reference).unwrap();
        let mut scratch = Vec::new();
        let found = lane.next::<false>(&*nobody(), Place::default(), &mut scratch);
        crate::shm::atomic::fence(Ordering::Acquire);
        // As `Proof::holds`.
        let mine = area.sub_word(index).unwrap().load(Ordering::Relaxed) == state.0;
        if mine {
            assert!(matches!(found, Ok(Next::Message { len: 16, .. })));
            assert_eq!(scratch[..16], payload(0, 16));
        }
        writer.join().unwrap();
        assert_eq!(
            SubState(area.sub_word(index).unwrap().load(Ordering::Relaxed)).kind(),
            Some(SubKind::Free)
        );
    });
}

/// A subscriber shows its place while it is ejected and another joins with its entry: the other one's place stays where it joined.
#[test]
fn an_ejected_reader_does_not_move_the_place_of_the_next_holder_of_its_entry() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        model(2, move || {
            crate::shm::fork::begin();
            let channel = small(overrun);
            let mut publisher = channel.publisher().unwrap();
            act_as(2);
            let mut stopped = channel.subscriber().unwrap();
            publisher.try_send(b"").unwrap();
            assert_eq!(stopped.poll(1, |_, _| {}).unwrap(), 1);
            let index = stopped.id();
            let late = loom::thread::spawn(move || {
                act_as(2);
                // Its place is shown, or it is told.
                if let Err(error) = stopped.commit() {
                    assert_eq!(error.code(), ErrorCode::Ejected);
                }
                // Not dropped: that would be one more look.
                std::mem::forget(stopped);
            });
            act_as(3);
            assert!(channel.eject(index).unwrap());
            publisher.try_send(b"").unwrap();
            let (next, _) = channel.area.subscribe(3, None).unwrap();
            assert_eq!(next, index);
            let end = channel.area.load_place(index, 0).unwrap();
            late.join().unwrap();
            assert_eq!(channel.area.load_place(index, 0).unwrap(), end);
            act_as(1);
            drop(publisher);
        });
    }
}

/// Two threads move the tail of a dead producer's lane while its next producer goes on.
#[test]
fn helpers_and_the_next_producer_agree_on_the_tail() {
    model(3, || {
        let shm = Arc::new(Shm::heap(PLACE).unwrap());
        touch(&shm, 0, PLACE);
        let mut head = Head::default();
        put::<true>(view(&shm), &mut head, &payload(0, 8));
        // Dead behind its commit: neither counted nor moved.
        let entry = shm.block::<192>(0).unwrap();
        entry.u64::<{ lane::TAIL }>().store(0, Ordering::Relaxed);
        entry.u64::<{ lane::COUNT }>().store(0, Ordering::Relaxed);
        let helper = {
            let shm = shm.clone();
            loom::thread::spawn(move || view(&shm).repair::<true>(&*nobody(), 1).unwrap())
        };
        let mut next = view(&shm).head::<true>(&*nobody(), 1).unwrap();
        assert_eq!((next.position, next.messages), (24, 1));
        put::<true>(view(&shm), &mut next, &payload(1, 8));
        helper.join().unwrap();
        assert_eq!(view(&shm).end::<true>().unwrap(), Place { position: 48, messages: 2 });
    });
}

/// A publisher and sleepers: whoever decides to sleep after the message was published is woken.
#[test]
fn no_sleeper_misses_the_wake_of_a_message() {
    for (publisher_fenced_by_others, sleeper_fences_others) in
        [(true, true), (false, true), (true, false), (false, false)]
    {
        model(4, move || {
            let shm = Arc::new(Shm::heap(16).unwrap());
            touch(&shm, 8, 8);
            shm.block::<8>(0).unwrap().u32::<0>().store(0, Ordering::Relaxed);
            let sleep = |shm: Arc<Shm>| {
                move || {
                    let word = shm.block::<8>(0).unwrap().u32::<0>();
                    let armed = WaitWord::new(word, sleeper_fences_others).arm();
                    let seen = shm.block::<16>(0).unwrap().u64::<8>().load(Ordering::Acquire);
                    (seen == 0).then_some(armed)
                }
            };
            let other = loom::thread::spawn(sleep(shm.clone()));
            let publisher = {
                let shm = shm.clone();
                loom::thread::spawn(move || {
                    let block = shm.block::<16>(0).unwrap();
                    block.u64::<8>().store(1, Ordering::Release);
                    WaitWord::new(block.u32::<0>(), publisher_fenced_by_others).notify();
                })
            };
            let asleep = [sleep(shm.clone())(), other.join().unwrap()];
            publisher.join().unwrap();
            let word = shm.block::<8>(0).unwrap().u32::<0>().load(Ordering::Relaxed);
            for armed in asleep.into_iter().flatten() {
                // A futex does not sleep on, or was woken from, a word that has changed since.
                assert_ne!(word, armed, "asleep for ever");
            }
        });
    }
}

/// The words of the one thread whose transactions gates name.
struct Words(Arc<Shm>, u64);

impl Words {
    fn block(&self) -> crate::shm::Block<'_, 32> {
        self.0.block(self.1).unwrap()
    }
}

impl super::area::Ground for Words {
    fn thread(&self) -> crate::Result<u16> {
        Ok(1)
    }

    fn usable(&self) -> crate::Result<()> {
        Ok(())
    }

    fn thread_is_dead(&self, _thread: u16) -> bool {
        false
    }

    fn pid_of(&self, _thread: u16) -> Option<u32> {
        None
    }

    fn take_ring(&self, _object: u32, _len: u64) -> crate::Result<u64> {
        Err(ErrorCode::Internal.into())
    }

    fn keep_ring(&self, _ring: u64, _len: u64) -> crate::Result<()> {
        Ok(())
    }

    fn give_back_ring(&self, _ring: u64, _len: u64) -> crate::Result<()> {
        Ok(())
    }

    fn verdict(&self, reference: Reference) -> crate::Result<Verdict> {
        crate::table::verdict(self.block(), reference)
    }

    fn abort(&self, reference: Reference) {
        crate::table::abort(self.block(), reference);
    }

    fn channel(self: Arc<Self>, _name: &str) -> crate::Result<Area> {
        Err(ErrorCode::Internal.into())
    }
}

/// Bytes of the ring in front of which gates stand, and where the words of the transaction are.
const GATED: u64 = 128;
const WORDS: u64 = lane::BYTES + GATED;

fn gated(shm: &Shm) -> Lane<'_> {
    Lane::new(shm.span(lane::BYTES, GATED).unwrap().ring().unwrap(), shm.block(0).unwrap())
}

/// A transaction of the producer whose message is one byte; the next one's number looks the same in the decision.
fn transaction(shm: &Arc<Shm>, head: &mut Head, number: u64, commits: bool) {
    let words = Words(Arc::clone(shm), WORDS);
    let reference = Reference::new(1, number);
    let decide = |state: u64| {
        // As `Table::begin`, `prove`, `decide` and `end` store it: {time | number 8 | beat | state}.
        words.block().u64::<0>().store((number & 0xff) << 6 | state, Ordering::Release);
    };
    decide(1);
    let lane = gated(shm);
    let gate = lane.set_gate::<false>(head, 7, reference, &[&[number as u8]]).unwrap();
    decide(if commits { 3 } else { 4 });
    match commits {
        true => lane.open_gate::<false>(head, &gate),
        false => lane.take_gate_back(&gate),
    }
    decide(0);
}

/// A reader gets what was committed and never what was aborted, also where the decision of a later transaction looks the same as that
/// about the one whose gate it found; and no gate seems damaged.
#[test]
fn a_reader_passes_a_gate_exactly_if_its_transaction_is_committed() {
    for commits in [[true, false], [false, true], [true, true]] {
        model(3, move || {
            let shm = Arc::new(Shm::heap(WORDS + 32).unwrap());
            touch(&shm, 0, WORDS + 32);
            let producer = {
                let shm = shm.clone();
                loom::thread::spawn(move || {
                    let mut head = Head::default();
                    transaction(&shm, &mut head, 3, commits[0]);
                    transaction(&shm, &mut head, 3 + 256, commits[1]);
                })
            };
            let expected: Vec<u8> =
                commits.into_iter().zip([3, 3]).filter(|it| it.0).map(|it| it.1).collect();
            let words = Words(shm.clone(), WORDS);
            let (mut at, mut scratch, mut got) = (Place::default(), Vec::new(), Vec::new());
            let mut look = || match gated(&shm).next::<false>(&words, at, &mut scratch).unwrap() {
                Next::Empty => false,
                Next::Message { len, behind } => {
                    got.extend_from_slice(&scratch[..len]);
                    at = behind;
                    true
                }
                Next::Lapped | Next::Parcel { .. } => panic!("a lane that blocks, with short messages"),
            };
            for _ in 0..LOOKS {
                look();
            }
            producer.join().unwrap();
            while look() {}
            assert_eq!(got, expected);
        });
    }
}

/// Two who take over the lane of a dead producer, while a reader looks: the gate is settled once, as the transaction was decided.
#[test]
fn heirs_settle_the_gate_of_a_dead_producer_alike() {
    for state in [1, 2, 3, 4] {
        model(2, move || {
            let shm = Arc::new(Shm::heap(WORDS + 32).unwrap());
            touch(&shm, 0, WORDS + 32);
            let words = Words(shm.clone(), WORDS);
            words.block().u64::<0>().store(5 << 6 | state, Ordering::Release);
            let reference = Reference::new(1, 5);
            gated(&shm).set_gate::<false>(&mut Head::default(), 7, reference, &[b"m"]).unwrap();
            let heir = {
                let shm = shm.clone();
                loom::thread::spawn(move || {
                    gated(&shm).repair::<false>(&Words(shm.clone(), WORDS), 7).unwrap();
                })
            };
            gated(&shm).repair::<false>(&words, 7).unwrap();
            let seen = gated(&shm).next::<false>(&words, Place::default(), &mut Vec::new()).unwrap();
            assert_eq!(matches!(seen, Next::Message { .. }), state == 3);
            heir.join().unwrap();
            assert!(gated(&shm).ends_at_tail().unwrap());
            assert_eq!(gated(&shm).tail() != 0, state == 3);
        });
    }
}
