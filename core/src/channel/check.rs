//! Every invariant of a channel, live or dead.

use super::area::Area;
use super::lane::{Next, Place};
use super::layout::{LaneKind, NAMED, SubKind};
use super::{log, parcel, queue};
use crate::error::Result;

/// Frames of a lane that are read at most: a ring full of the smallest.
fn frames_max(area: &Area) -> u64 {
    area.shape.lane_bytes / 8
}

/// Says what is wrong with the channel by calling `problem` with what and where. On a live channel what changes while it is
/// looked at is not wrong.
pub(crate) fn check(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let mut rings: Vec<(u64, String)> = Vec::new();
    for index in 0..area.shape.lanes {
        let place = || format!("channel `{}` lane {index}", area.name);
        let before = match area.lane_state(index) {
            Ok(state) => state,
            Err(error) => {
                problem(error.detail().to_owned(), place());
                continue;
            }
        };
        let reference = match area.lane_ref(index) {
            Ok(reference) => reference,
            Err(error) => {
                problem(format!("its ring: {}", error.detail()), place());
                continue;
            }
        };
        let has_owner = matches!(before.kind(), Some(LaneKind::Live | LaneKind::Taking));
        if has_owner != (before.owner() != 0) {
            problem(format!("state {before:?}"), place());
        }
        let Some(reference) = reference else {
            if matches!(before.kind(), Some(LaneKind::Live | LaneKind::Closed))
                && area.lane_state(index)? == before
                && area.lane_ref(index)?.is_none()
            {
                problem(format!("{before:?} without a ring"), place());
            }
            continue;
        };
        rings.push((reference.ring, format!("lane {index}")));
        if !area.overruns() {
            check_frames(area, index, problem)?;
        }
    }
    queue::check::check(area, &mut rings, problem)?;
    rings.sort_unstable();
    for pair in rings.windows(2) {
        if pair[1].0 - pair[0].0 < area.shape.lane_bytes {
            problem(
                format!("the rings of {} and {} overlap", pair[0].1, pair[1].1),
                format!("channel `{}`", area.name),
            );
        }
    }
    log::check::check(area, problem)?;
    check_subscriptions(area, problem)
}

/// Says what the dead hold still, and what they left unfinished. Nobody else is at work, and the dead were reaped.
pub(crate) fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    queue::check::check_taken_over(area, problem)?;
    log::check::check_taken_over(area, problem)?;
    parcel::check_taken_over(area, problem)?;
    for index in 0..area.shape.lanes {
        let place = || format!("channel `{}` lane {index}", area.name);
        let Ok(state) = area.lane_state(index) else { continue };
        if state.owner() != 0 && area.ground.thread_is_dead(state.owner()) {
            problem(format!("{state:?}: the owner is dead and its lane was not taken over"), place());
        }
        if state.is(LaneKind::Closed)
            && let Ok(Some(reference)) = area.lane_ref(index)
            && !area.lane(reference)?.ends_at_tail()?
        {
            problem("a whole frame stands behind the tail".into(), place());
        }
    }
    for sub in 0..area.shape.subs {
        let Ok(state) = area.sub_state(sub) else { continue };
        if state.owner() != 0 && area.ground.thread_is_dead(state.owner()) {
            let place = format!("channel `{}` subscription {sub}", area.name);
            problem(format!("{state:?}: the owner is dead and its subscription was not taken over"), place);
        }
    }
    Ok(())
}

/// Reads a blocking lane from the place of each subscription to its tail.
fn check_frames(area: &Area, index: u32, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(reference) = area.lane_ref(index)? else { return Ok(()) };
    let lane = area.lane(reference)?;
    let mut scratch = Vec::new();
    for sub in 0..area.shape.subs {
        let state = area.sub_state(sub)?;
        if !matches!(state.kind(), Some(SubKind::Live | SubKind::Away)) {
            continue;
        }
        let tail = lane.tail();
        let start = match area.load_place(sub, index) {
            Ok(place) => place,
            Err(error) => {
                problem(error.detail().to_owned(), format!("channel `{}` lane {index}", area.name));
                continue;
            }
        };
        let mut at = start;
        let mut wrong = None;
        for _ in 0..frames_max(area) {
            if at.position >= tail {
                break;
            }
            match lane.next::<false>(&*area.ground, at, &mut scratch) {
                Ok(Next::Message { behind, .. }) => at = behind,
                Ok(Next::Parcel { words, behind }) => match area.copy_held_parcel(words, &mut scratch) {
                    Ok(_) => at = behind,
                    Err(error) => {
                        wrong = Some(error.detail().to_owned());
                        break;
                    }
                },
                Ok(Next::Empty | Next::Lapped) => {
                    // Padding may stand right in front of the tail.
                    if !padding_reaches(area, at, tail) {
                        wrong = Some(format!("no frame at position {}, the tail is {tail}", at.position));
                    }
                    break;
                }
                Err(error) => {
                    wrong = Some(error.detail().to_owned());
                    break;
                }
            }
        }
        // A reader or publisher that went on meanwhile makes this look void.
        let same = area.sub_state(sub)? == state && area.load_place(sub, index)? == start;
        if let Some(what) = wrong
            && same
        {
            problem(
                format!("{what} (subscription {sub} stands at {})", start.position),
                format!("channel `{}` lane {index}", area.name),
            );
        }
    }
    Ok(())
}

fn padding_reaches(area: &Area, at: Place, tail: u64) -> bool {
    let size = area.shape.lane_bytes;
    tail.is_multiple_of(size) && tail.saturating_sub(at.position) < size / 4
}

fn check_subscriptions(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let mut names = std::collections::HashMap::new();
    for sub in 0..area.shape.subs {
        let place = || format!("channel `{}` subscription {sub}", area.name);
        let state = match area.sub_state(sub) {
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
        if !matches!(state.kind(), Some(SubKind::Live | SubKind::Away)) {
            continue;
        }
        if state.flags() & NAMED != 0 {
            match area.sub_name(sub) {
                Ok(name) => {
                    if let Some(other) = names.insert(name.clone(), sub)
                        && area.sub_state(sub)? == state
                    {
                        problem(format!("has the name `{name}` of subscription {other}"), place());
                    }
                }
                Err(error) => problem(error.detail().to_owned(), place()),
            }
        }
        for lane in 0..area.shape.lanes {
            let Some(reference) = area.lane_ref(lane)? else { continue };
            // The place first: the tail only grows.
            let Ok(at) = area.load_place(sub, lane) else { continue };
            let view = area.lane(reference)?;
            let tail = view.tail();
            let wrong = if at.position > tail.saturating_add(area.shape.lane_bytes / 4) {
                Some("in front of the tail")
            } else if !area.overruns() && tail.saturating_sub(at.position) > area.shape.lane_bytes {
                Some("more than a ring behind the tail")
            } else {
                None
            };
            if let Some(what) = wrong
                && area.sub_state(sub)? == state
                && area.load_place(sub, lane)? == at
            {
                problem(format!("stands at {} in lane {lane}, {what} {tail}", at.position), place());
            }
        }
    }
    Ok(())
}
