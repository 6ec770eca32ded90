//! Every invariant of a queue beside those of its lanes.

use std::collections::HashMap;

use super::super::area::Area;
use super::super::lane::{Lane, PARCEL_WORDS};
use super::super::layout::SubKind;
use super::hand::{Grip, Hand};
use super::layout::{CellKind, Name, Phase};
use super::take;
use crate::error::Result;

/// Says what is wrong with heads, consumers and their hands. On a live queue what changes while it is looked at is not wrong.
pub fn check(
    area: &Area,
    rings: &mut Vec<(u64, String)>,
    problem: &mut dyn FnMut(String, String),
) -> Result<()> {
    let Some(queue) = &area.queue else { return Ok(()) };
    for lane in 0..area.shape.lanes {
        check_head(area, lane, problem)?;
    }
    for index in 0..queue.consumers() {
        let place = || format!("queue `{}` consumer {index}", area.name);
        let state = match area.consumer_state(index) {
            Ok(state) => state,
            Err(error) => {
                problem(error.detail().to_owned(), place());
                continue;
            }
        };
        let has_owner = matches!(state.kind(), Some(SubKind::Live | SubKind::Joining));
        if has_owner != (state.owner() != 0) {
            problem(format!("state {state:?}"), place());
        }
        match Hand::of(area, index) {
            Err(error) => problem(format!("its ring: {}", error.detail()), place()),
            Ok(None) if matches!(state.kind(), Some(SubKind::Live | SubKind::Away)) => {
                if area.consumer_state(index)? == state && area.consumer_ring(index)?.is_none() {
                    problem(format!("{state:?} without a ring"), place());
                }
            }
            Ok(None) => {}
            Ok(Some(hand)) => {
                if let Some(ring) = area.consumer_ring(index)? {
                    rings.push((ring, format!("consumer {index}")));
                }
                check_hand(area, &hand, problem)?;
            }
        }
    }
    Ok(())
}

/// What was taken of a lane lies in front of its tail, and what was not is whole frames.
fn check_head(area: &Area, lane: u32, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let place = || format!("queue `{}` lane {lane}", area.name);
    let head = area.head(lane)?;
    let consumers = area.queue()?.consumers();
    if u32::from(head.taker()) > consumers {
        problem(format!("consumer {} took last, there are {consumers}", head.taker() - 1), place());
    }
    let Some(reference) = area.lane_ref(lane)? else {
        if head.position() != 0 && area.lane_ref(lane)?.is_none() {
            problem(format!("taken up to {} without a ring", head.position()), place());
        }
        return Ok(());
    };
    let view = area.lane(reference)?;
    let tail = view.tail();
    let mut position = head.position();
    let (mut wrong, mut scratch) = (None, Vec::new());
    // A consumer may take a frame before its publisher has moved the tail: a padding and a message at most.
    if position > tail.saturating_add(area.shape.lane_bytes / 4) {
        wrong = Some(format!("taken up to {position}, in front of the tail {tail}"));
    } else if tail.saturating_sub(position) > area.shape.lane_bytes {
        wrong = Some(format!("taken up to {position}, more than a ring behind the tail {tail}"));
    } else {
        for _ in 0..area.shape.lane_bytes / 8 {
            if position >= tail || wrong.is_some() {
                break;
            }
            match view.peek(&*area.ground, position) {
                Ok(Some(peeked)) => {
                    if peeked.parcel {
                        wrong = check_parcel(area, &view, peeked.at, &mut scratch)?;
                    }
                    position = peeked.behind;
                }
                // Padding may stand right in front of the tail.
                Ok(None)
                    if tail - position < area.shape.lane_bytes
                        && tail.is_multiple_of(area.shape.lane_bytes) =>
                {
                    break;
                }
                Ok(None) => {
                    wrong = Some(format!("no frame at position {position}, the tail is {tail}"));
                    break;
                }
                Err(error) => {
                    wrong = Some(error.detail().to_owned());
                    break;
                }
            }
        }
    }
    if let Some(what) = wrong
        && area.head(lane)? == head
    {
        problem(what, place());
    }
    Ok(())
}

/// What is wrong with the parcel that the frame names whose payload is at `at`.
fn check_parcel(area: &Area, lane: &Lane<'_>, at: u64, scratch: &mut Vec<u8>) -> Result<Option<String>> {
    let mut words = [0; PARCEL_WORDS as usize];
    lane.ring().copy_out(at, &mut words)?;
    let copied = area.parcel_words(&words).and_then(|words| area.copy_held_parcel(words, scratch));
    Ok(copied.err().map(|error| error.detail().to_owned()))
}

/// Cells are of their numbers, their payload lies in the ring, and their messages come from in front of the heads.
fn check_hand(area: &Area, hand: &Hand, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let place = || format!("queue `{}` consumer {}", area.name, hand.index);
    let state = area.consumer_state(hand.index)?;
    if take::current(hand.entry.block()).phase().is_none() {
        problem("its intent has no phase".into(), place());
    }
    if let Err(error) = Grip::take_over(hand)
        && area.consumer_state(hand.index)? == state
        && state.owner() == 0
    {
        problem(error.detail().to_owned(), place());
    }
    let mut scratch = Vec::new();
    for number in hand.shown() {
        let Some(word) = hand.look(number) else {
            if hand.shown().contains(&number) && hand.look(number).is_none() {
                problem(format!("cell {number} is of another number"), place());
            }
            continue;
        };
        let content = hand.content(number);
        let wrong = match word.kind() {
            None => Some(format!("cell {number} is {word:?}")),
            Some(CellKind::Done) => None,
            Some(CellKind::Gone) if word.taker() == 0 => Some(format!("cell {number} was taken by nobody")),
            Some(CellKind::Gone) => None,
            Some(_) => match hand.copy(content.data, &mut scratch) {
                Err(error) => Some(format!("cell {number}: {}", error.detail())),
                Ok(len) if content.data.is_parcel() => {
                    let words = area.parcel_words(&scratch[..len]);
                    let copied = words.and_then(|words| area.copy_held_parcel(words, &mut scratch));
                    copied.err().map(|error| format!("cell {number}: {}", error.detail()))
                }
                Ok(_) if content.name.lane() >= area.shape.lanes => {
                    Some(format!("cell {number} is of lane {}", content.name.lane()))
                }
                Ok(_) => {
                    // The head afterwards: it only grows.
                    let head = area.head(content.name.lane())?.position();
                    (content.name.position() > head).then(|| {
                        format!(
                            "cell {number} holds {:?}, which was not taken: the head is at {head}",
                            content.name
                        )
                    })
                }
            },
        };
        if let Some(what) = wrong
            && hand.look(number) == Some(word)
            && hand.shown().contains(&number)
        {
            problem(what, place());
        }
    }
    Ok(())
}

/// Says what the dead left unfinished. Nobody else is at work, and the dead were reaped.
pub fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(queue) = &area.queue else { return Ok(()) };
    let mut held: HashMap<Name, u32> = HashMap::new();
    for index in 0..queue.consumers() {
        let place = || format!("queue `{}` consumer {index}", area.name);
        let Ok(state) = area.consumer_state(index) else { continue };
        if state.owner() != 0 && area.ground.thread_is_dead(state.owner()) {
            problem(format!("{state:?}: the owner is dead and its messages were not taken over"), place());
        }
        let Ok(Some(hand)) = Hand::of(area, index) else { continue };
        let away = state.is(SubKind::Away);
        if away && take::current(hand.entry.block()).phase() != Some(Phase::None) {
            problem("its intent was not settled".into(), place());
        }
        for number in hand.shown() {
            let Some(word) = hand.look(number) else { continue };
            match word.kind() {
                Some(CellKind::Held) if away => problem(format!("cell {number} is held by nobody"), place()),
                Some(CellKind::Held | CellKind::Back | CellKind::Left) => {
                    let name = hand.content(number).name;
                    if let Some(other) = held.insert(name, index) {
                        problem(format!("holds {name:?}, and so does consumer {other}"), place());
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}
