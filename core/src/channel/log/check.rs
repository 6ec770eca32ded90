//! Every invariant of a log, live or dead.

use super::index::{Found, Look};
use super::layout::{Cell, record};
use crate::channel::area::Area;
use crate::channel::layout::{LaneKind, NAMED, SubKind};
use crate::error::Result;
use crate::shm::align8;

/// Says what is wrong with the log. On a live one what changes while it is looked at is not wrong.
pub fn check(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(log) = &area.log else { return Ok(()) };
    let place = || format!("log `{}`", area.name);
    for index in 0..log.geometry.blocks {
        match area.look_at_block(index) {
            Ok((state, ..)) if state.is(LaneKind::Live) != (state.owner() != 0) => {
                problem(format!("block {index} has state {state:?}"), place());
            }
            Ok(_) => {}
            Err(error) => problem(error.detail().to_owned(), place()),
        }
    }
    // The oldest first: both only grow.
    let oldest = log.oldest().position();
    let end = log.end(oldest);
    if oldest > 0 && !log.is_filled(oldest - 1) {
        problem(format!("the oldest position {oldest} lies behind the end"), place());
        return Ok(());
    }
    if end - oldest > log.geometry.cells() && log.oldest().position() == oldest {
        problem(format!("{} positions are kept in {} cells", end - oldest, log.geometry.cells()), place());
        return Ok(());
    }
    for position in oldest..end.min(oldest + log.geometry.cells()) {
        let wrong = match log.look(position) {
            Ok(Look::Found(found)) => match wrong_record(area, position, &found)? {
                None if found.parcel => wrong_parcel(area, &found),
                wrong => wrong,
            },
            Ok(Look::Empty) => Some("is not filled".to_owned()),
            Ok(Look::Trimmed) => Some("is overwritten".to_owned()),
            Err(error) => Some(error.detail().to_owned()),
        };
        if let Some(wrong) = wrong
            && log.is_kept(position)
        {
            problem(format!("position {position} of {oldest} to {end}: {wrong}"), place());
        }
    }
    check_cells(area, end, problem);
    super::files::check(area, problem)?;
    check_readers(area, problem)
}

/// What is wrong with the chunks of a long message.
fn wrong_parcel(area: &Area, found: &Found) -> Option<String> {
    match area.words_of(found).and_then(|words| area.is_whole_parcel(words)) {
        Ok(true) => None,
        Ok(false) => Some("its chunks are not all there".to_owned()),
        Err(error) => Some(error.detail().to_owned()),
    }
}

/// What is wrong with the record of a position.
fn wrong_record(area: &Area, position: u64, found: &Found) -> Result<Option<String>> {
    let Some(log) = &area.log else { return Ok(None) };
    let (at, len) = (found.at - record::HEADER, found.len);
    let geometry = log.geometry;
    let index = ((at - geometry.block_at(0)) / geometry.block_bytes()) as u32;
    let Ok((state, used, behind)) = area.look_at_block(index) else { return Ok(None) };
    let end = at - geometry.block_at(index) + align8(record::HEADER + len);
    let what = if state.is(LaneKind::Free) {
        "is free"
    } else if used < end {
        "ends in front of it"
    } else if behind <= position {
        "says that it is not there"
    } else {
        return Ok(None);
    };
    // A block that changed meanwhile makes this look void.
    let same = area.look_at_block(index).is_ok_and(|again| again == (state, used, behind));
    Ok(same.then(|| format!("its block {index} {what}: {state:?}, {used} bytes, behind {behind}")))
}

/// Cells have the lap of the end in front of it and the lap before behind it.
fn check_cells(area: &Area, end: u64, problem: &mut dyn FnMut(String, String)) {
    let Some(log) = &area.log else { return };
    let cells = log.geometry.cells();
    let mut wrong = (0, 0, Cell(0));
    for position in end.saturating_sub(cells)..end {
        let cell = log.cell(position);
        if cell.lap() != log.geometry.lap(position) {
            wrong = (wrong.0 + 1, position, cell);
        }
    }
    if wrong.0 > 0 && log.end(end) == end {
        problem(
            format!(
                "{} cells have another lap than their position, the last one {:?} of {}",
                wrong.0, wrong.2, wrong.1
            ),
            format!("log `{}`", area.name),
        );
    }
}

fn check_readers(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(log) = &area.log else { return Ok(()) };
    for index in 0..area.shape.subs {
        // What is damaged in its state is told with the subscriptions.
        let Ok(state) = area.sub_state(index) else { continue };
        if !matches!(state.kind(), Some(SubKind::Live | SubKind::Away)) {
            continue;
        }
        let place = || format!("log `{}` reader {index}", area.name);
        let position = area.reader_position(index)?;
        let wrong = if state.flags() & NAMED == 0 {
            Some("it has no name".to_owned())
        } else if position > 0 && !log.is_filled(position - 1) {
            Some(format!("it stands at {position}, behind the end"))
        } else {
            None
        };
        if let Some(wrong) = wrong
            && area.sub_state(index)? == state
        {
            problem(wrong, place());
        }
    }
    Ok(())
}

/// Says what the dead hold still. Nobody else is at work, and the dead were reaped.
pub fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(log) = &area.log else { return Ok(()) };
    for index in 0..log.geometry.blocks {
        let Ok((state, ..)) = area.look_at_block(index) else { continue };
        if state.is(LaneKind::Live) && area.ground.thread_is_dead(state.owner()) {
            problem(
                format!("block {index} is {state:?}: the owner is dead and its block was not taken over"),
                format!("log `{}`", area.name),
            );
        }
    }
    Ok(())
}
