//! Every interleaving of taking, acknowledging, dying and taking over, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::super::layout::{FrameKind, FrameWord, LaneKind, LaneState, Shape, SubKind, lane};
use super::super::testing::{Stage, act_as};
use super::super::{ChannelKind, OverrunPolicy};
use super::hand::{Grip, Hand, moved_head, taker};
use super::layout::{CellKind, CellWord, HeadWord, Name};
use super::take::{self, Plan};
use super::{Acknowledge, Area, Part, join, layout};
use crate::shm::Shm;
use crate::shm::atomic::Ordering;

/// Bytes of a ring: of a hand, two cells and 64 bytes for payload.
const RING: u64 = 128;
/// Bytes of a message's frame: a word and 8 bytes.
const FRAME: u64 = 16;

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.check(check);
}

/// One lane with `messages` messages, and `consumers` consumers, of which the threads 1, 2, ... are the owners.
fn queue(messages: u64, consumers: u32) -> (Arc<Stage>, Arc<Area>) {
    crate::shm::fork::begin();
    let shape = Shape { offset: 0, lane_bytes: RING, lanes: 1, subs: 0 };
    let control = layout::bytes(1, consumers);
    let len = control + RING * u64::from(consumers + 1);
    let shm = Arc::new(Shm::heap(len).unwrap());
    let span = shm.span(0, len).unwrap();
    for at in (0..len).step_by(8) {
        span.u64(at).unwrap().store(0, Ordering::Relaxed);
    }
    for at in [16u64, 20, 24, 28, 64, 68, 72, 128, 192] {
        span.u32(at).unwrap().store(0, Ordering::Relaxed);
    }
    let entry = shm.block::<192>(shape.lane(0)).unwrap();
    entry.u64::<{ lane::RING }>().store(control, Ordering::Relaxed);
    entry.u64::<{ lane::STATE }>().store(LaneState::new(LaneKind::Closed, 0, 0, 1).0, Ordering::Relaxed);
    entry.u64::<{ lane::TAIL }>().store(messages * FRAME, Ordering::Relaxed);
    for number in 0..messages {
        let at = control + number * FRAME;
        let word = FrameWord::new(FRAME, FrameKind::Data, number * FRAME);
        span.u64(at).unwrap().store(word.0, Ordering::Relaxed);
        span.u64(at + 8).unwrap().store(number, Ordering::Relaxed);
    }
    let stage = Stage::new(shm.clone(), 0);
    let mut area = Area::with_shape(
        shm.clone(),
        stage.clone(),
        shape,
        ChannelKind::Queue,
        OverrunPolicy::Block,
        "model",
    )
    .unwrap();
    area.queue = Some(Part::new(shape.lane(1), 1, consumers, Some(Acknowledge::default())));
    for index in 0..consumers {
        let entry = area.entry(index).unwrap();
        let live = super::SubState::new(SubKind::Live, 0, index as u16 + 1, 1);
        entry.u64::<{ layout::consumer::STATE }>().store(live.0, Ordering::Relaxed);
        let ring = control + RING * u64::from(index + 1);
        entry.u64::<{ layout::consumer::RING }>().store(ring, Ordering::Relaxed);
    }
    (stage, Arc::new(area))
}

/// Takes the message at the head, as `Consumer::hold_batch` does, up to the step given: 1 opened, 2 claimed, 3 shown, 4 closed.
fn take(area: &Area, index: u32, hand: &Hand, grip: &mut Grip, steps: u32) -> bool {
    let head = area.head(0).unwrap();
    let reference = area.lane_ref(0).unwrap().unwrap();
    let Some(peeked) = area.lane(reference).unwrap().peek(&*area.ground, head.position()).unwrap() else {
        return false;
    };
    let mut bytes = [0; 8];
    area.lane(reference).unwrap().ring().copy_out(peeked.at, &mut bytes).unwrap();
    let name = Name::new(0, peeked.behind);
    grip.prepare::<true>(hand, name, CellWord::held(0, 1, false), 0, &bytes, false).unwrap().unwrap();
    let source = area.queue().unwrap().head_offset(0);
    let target = moved_head(peeked.behind, index);
    let entry = hand.entry.block();
    let plan = Plan { source, target: target.0, until: grip.next };
    let intent = take::open(entry, take::current(entry), plan);
    if steps == 1 {
        return false;
    }
    if head.taker() != taker(index) {
        take::help(area, head.taker(), source, head.0).unwrap();
    }
    let word = area.shm.block::<8>(source).unwrap().u64::<0>();
    let claimed = word.compare_exchange(head.0, target.0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if steps == 2 {
        return claimed;
    }
    if claimed {
        grip.show(hand)
    } else {
        grip.forget()
    }
    if steps > 3 {
        take::close(entry, intent);
    }
    claimed
}

/// Who has which message, by its payload; panics if two have it, or if one is not whole.
fn places(area: &Area, consumers: u32, messages: usize) -> Vec<Option<u32>> {
    let mut all = vec![None; messages];
    let mut scratch = Vec::new();
    for index in 0..consumers {
        let hand = Hand::of(area, index).unwrap().unwrap();
        for number in hand.shown() {
            let word = hand.look(number).expect("a cell that is shown has its number");
            if !matches!(word.kind(), Some(CellKind::Held | CellKind::Left | CellKind::Back)) {
                continue;
            }
            let content = hand.content(number);
            let len = hand.copy(content.data, &mut scratch).unwrap();
            let message = u64::from_le_bytes(scratch[..len].try_into().unwrap());
            assert_eq!(content.name, Name::new(0, (message + 1) * FRAME), "another's payload");
            assert_eq!(all[message as usize].replace(index), None, "message {message} is in two places");
        }
    }
    all
}

/// A consumer dies at any step of taking while others take from the same lane, and two heirs settle what it was at: each message
/// that was taken is in one hand, and what the head passed was taken.
#[test]
fn what_a_dead_taker_has_taken_is_in_one_place() {
    for steps in 1..=4 {
        model(3, move || {
            let (stage, area) = queue(2, 2);
            let victim = {
                let area = area.clone();
                loom::thread::spawn(move || {
                    let hand = Hand::of(&area, 0).unwrap().unwrap();
                    take(&area, 0, &hand, &mut Grip::default(), steps);
                })
            };
            let other = {
                let area = area.clone();
                loom::thread::spawn(move || {
                    let hand = Hand::of(&area, 1).unwrap().unwrap();
                    let mut grip = Grip::default();
                    take(&area, 1, &hand, &mut grip, 4);
                    take(&area, 1, &hand, &mut grip, 4);
                })
            };
            victim.join().unwrap();
            stage.kill(1);
            // It is proved dead while the other is still at work.
            act_as(3);
            join::inherit(&area, 0, 1).unwrap();
            other.join().unwrap();
            let head = area.head(0).unwrap().position();
            for (number, place) in places(&area, 2, 2).into_iter().enumerate() {
                assert_eq!(place.is_some(), (number as u64) < head / FRAME, "message {number}, head {head}");
            }
        });
    }
}

/// A late heir, and the next owner of the entry, which takes at once and dies in the midst of it, too: nothing is shown twice, and
/// nothing that either had taken is lost.
#[test]
fn a_late_heir_and_the_next_owner_agree_on_what_was_taken() {
    for steps in 1..=3 {
        for next in 2..=4 {
            model(3, move || {
                let (stage, area) = queue(2, 1);
                let hand = Hand::of(&area, 0).unwrap().unwrap();
                take(&area, 0, &hand, &mut Grip::default(), steps);
                stage.kill(1);
                let late = {
                    let area = area.clone();
                    loom::thread::spawn(move || {
                        join::inherit(&area, 0, 1).unwrap();
                    })
                };
                join::inherit(&area, 0, 1).unwrap();
                act_as(2);
                let (index, mine) = area.enter(2).unwrap();
                let mut grip = Grip::take_over(&hand).unwrap();
                assert!(take(&area, index, &hand, &mut grip, next), "nobody else takes");
                late.join().unwrap();
                assert_eq!(area.consumer_state(0).unwrap(), mine);
                if next > 2 {
                    let last = hand.look(hand.shown().end - 1).unwrap();
                    assert!(last.is(CellKind::Held), "what the new owner took is its own");
                }
                stage.kill(2);
                join::inherit(&area, 0, 2).unwrap();
                let taken = if steps > 1 { 2 } else { 1 };
                assert_eq!(places(&area, 1, 2).iter().flatten().count(), taken);
            });
        }
    }
}

/// A message whose time is over: its holder acknowledges it while two others want it. One of the three succeeds, and who takes it has the
/// whole message.
#[test]
fn a_message_is_acknowledged_or_taken_by_one() {
    model(2, || {
        let (_stage, area) = queue(1, 3);
        let hand = Hand::of(&area, 0).unwrap().unwrap();
        let mut grip = Grip::default();
        assert!(take(&area, 0, &hand, &mut grip, 4));
        let word = hand.look(0).unwrap();
        let rival = |index: u32| {
            let area = area.clone();
            move || {
                let from = Hand::of(&area, 0).unwrap().unwrap();
                let hand = Hand::of(&area, index).unwrap().unwrap();
                let mut grip = Grip::default();
                let mut scratch = Vec::new();
                let Some(word) = from.look(0).filter(|word| word.is(CellKind::Held)) else { return false };
                let content = from.content(0);
                let len = from.copy(content.data, &mut scratch).unwrap();
                grip.prepare::<true>(&hand, content.name, word.delivered(), 0, &scratch[..len], false)
                    .unwrap()
                    .unwrap();
                let entry = hand.entry.block();
                let gone = word.gone(taker(index));
                let plan = Plan { source: from.word_offset(0).unwrap(), target: gone.0, until: 1 };
                let intent = take::open(entry, take::current(entry), plan);
                let taken = from.change(0, word, gone);
                if taken {
                    grip.show(&hand)
                } else {
                    grip.forget()
                }
                take::close(entry, intent);
                taken
            }
        };
        let one = loom::thread::spawn(rival(1));
        let two = loom::thread::spawn(rival(2));
        let acknowledged = hand.change(0, word, word.to(CellKind::Done));
        // The owner uses the cell again at once.
        let area_of_owner = area.clone();
        grip.reclaim(&hand, |number, word| {
            take::help(&area_of_owner, word.taker(), hand.word_offset(number).unwrap(), word.0)
        })
        .unwrap();
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        assert_eq!([acknowledged, one, two].iter().filter(|done| **done).count(), 1);
        let place = places(&area, 3, 1)[0];
        assert_eq!(
            place,
            if one {
                Some(1)
            } else if two {
                Some(2)
            } else {
                None
            }
        );
    });
}

/// A taker dies between changing a cell of another hand and showing what it took, while the owner of that hand uses the cell again.
#[test]
fn what_was_taken_from_a_hand_survives_the_use_of_its_cell() {
    model(3, || {
        let (stage, area) = queue(2, 2);
        let hand = Hand::of(&area, 0).unwrap().unwrap();
        let mut grip = Grip::default();
        assert!(take(&area, 0, &hand, &mut grip, 4));
        let word = hand.look(0).unwrap();
        let dead = {
            let area = area.clone();
            loom::thread::spawn(move || {
                let from = Hand::of(&area, 0).unwrap().unwrap();
                let hand = Hand::of(&area, 1).unwrap().unwrap();
                let mut scratch = Vec::new();
                let content = from.content(0);
                let len = from.copy(content.data, &mut scratch).unwrap();
                let mut grip = Grip::default();
                grip.prepare::<true>(&hand, content.name, word.delivered(), 0, &scratch[..len], false)
                    .unwrap()
                    .unwrap();
                let entry = hand.entry.block();
                let gone = word.gone(taker(1));
                let plan = Plan { source: from.word_offset(0).unwrap(), target: gone.0, until: 1 };
                take::open(entry, take::current(entry), plan);
                from.change(0, word, gone)
            })
        };
        // The owner makes room, and then fills both cells, the first one anew if it was gone.
        for _ in 0..2 {
            grip.reclaim(&hand, |number, word| {
                take::help(&area, word.taker(), hand.word_offset(number).unwrap(), word.0)
            })
            .unwrap();
            if grip.next - grip.floor < 2 && area.head(0).unwrap().position() < 2 * FRAME {
                take(&area, 0, &hand, &mut grip, 4);
            }
            let bytes = [0xee; 8];
            if grip.next - grip.floor < 2 {
                let word = CellWord::held(0, 1, false).to(CellKind::Done);
                if grip.prepare::<true>(&hand, Name::new(0, 0), word, 0, &bytes, false).unwrap().is_some() {
                    grip.show(&hand);
                }
            }
        }
        assert!(dead.join().unwrap(), "nobody else changes the cell");
        stage.kill(2);
        act_as(3);
        join::inherit(&area, 1, 2).unwrap();
        assert_eq!(places(&area, 2, 2)[0], Some(1));
    });
}

/// At most once: two consumers copy from the head while the publisher, which had no room, goes on as soon as there is some.
#[test]
fn what_is_taken_at_most_once_is_whole() {
    model(3, || {
        let (_stage, area) = queue(RING / FRAME - 1, 1);
        let messages = RING / FRAME - 1;
        let consume = |area: Arc<Area>| {
            move || {
                let offset = area.queue().unwrap().head_offset(0);
                let head = area.head(0).unwrap();
                let reference = area.lane_ref(0).unwrap().unwrap();
                let lane = area.lane(reference).unwrap();
                let peeked = lane.peek(&*area.ground, head.position());
                let mut bytes = [0; 8];
                if let Ok(Some(peeked)) = peeked {
                    lane.ring().copy_out(peeked.at, &mut bytes).unwrap();
                    let word = area.shm.block::<8>(offset).unwrap().u64::<0>();
                    let target = HeadWord::new(peeked.behind, 0).0;
                    if word.compare_exchange(head.0, target, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                        assert_eq!(u64::from_le_bytes(bytes) * FRAME, head.position());
                        return Some(head.position());
                    }
                }
                None
            }
        };
        let other = loom::thread::spawn(consume(area.clone()));
        let publisher = {
            let area = area.clone();
            loom::thread::spawn(move || {
                let reference = area.lane_ref(0).unwrap().unwrap();
                let lane = area.lane(reference).unwrap();
                let mut head = lane.head::<false>(&*area.ground, 1).unwrap();
                for number in messages..messages + 2 {
                    let limit = area.limit(&[], 0, head.position).unwrap();
                    if head.position + lane.room::<false>(head.position, 8) <= limit {
                        let at = lane.begin::<false>(&mut head, 8);
                        lane.ring().copy_in(at, &number.to_le_bytes()).unwrap();
                        lane.commit::<false>(&mut head, 8);
                    }
                }
            })
        };
        let mine = consume(area.clone())();
        let theirs = other.join().unwrap();
        publisher.join().unwrap();
        assert!(mine.is_none() || mine != theirs, "taken twice");
        assert!(mine.is_some() || theirs.is_some(), "one of them was first");
    });
}
