//! Every invariant of a service, live or dead.

use super::area::Area;
use super::layout::{CellKind, EntryKind, NUMBER_MAX};
use crate::error::Result;

/// Says what is wrong with the service by calling `problem` with what and where. On a live service what changes while it is
/// looked at is not wrong.
pub(crate) fn check(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let mut rings: Vec<(u64, u32)> = Vec::new();
    for index in 0..area.shape.clients {
        let place = || format!("service `{}` client {index}", area.name);
        let before = match area.client_state(index) {
            Ok(state) => state,
            Err(error) => {
                problem(error.detail().to_owned(), place());
                continue;
            }
        };
        let has_owner = matches!(before.kind(), Some(EntryKind::Live | EntryKind::Taking));
        if has_owner != (before.owner() != 0) {
            problem(format!("state {before:?}"), place());
        }
        let cells = match area.cells(index) {
            Ok(Some(cells)) => cells,
            Ok(None) => {
                if matches!(before.kind(), Some(EntryKind::Live | EntryKind::Closed))
                    && area.client_state(index)? == before
                    && area.cells(index)?.is_none()
                {
                    problem(format!("{before:?} without a ring"), place());
                }
                continue;
            }
            Err(error) => {
                problem(format!("its ring: {}", error.detail()), place());
                continue;
            }
        };
        // ORDER Relaxed: never changes once set.
        rings.push((area.ring_word(index)?.load(crate::shm::atomic::Ordering::Relaxed), index));
        if let Err(error) = cells.posted() {
            problem(error.detail().to_owned(), place());
        }
        for number in 0..area.shape.calls {
            let seen = cells.look(number)?;
            let place = || format!("service `{}` client {index} cell {number}", area.name);
            let Some(kind) = seen.kind() else {
                problem(format!("its word is {:#018x}", seen.0), place());
                continue;
            };
            let has_server = matches!(kind, CellKind::Taken | CellKind::Left);
            let belongs = seen.0 == 0 || seen.number() & (area.shape.calls - 1) == number;
            if has_server != (seen.server() != 0) || !belongs || seen.number() > NUMBER_MAX - 1 {
                problem(format!("its word is {seen:?}"), place());
            }
            if before.is(EntryKind::Closed)
                && matches!(kind, CellKind::Asked | CellKind::Taken)
                && cells.look(number)? == seen
                && area.client_state(index)? == before
            {
                problem(format!("{seen:?} though its client has left"), place());
            }
        }
    }
    rings.sort_unstable();
    for pair in rings.windows(2) {
        if pair[1].0 - pair[0].0 < area.shape.ring_bytes() {
            problem(
                format!("the rings of clients {} and {} overlap", pair[0].1, pair[1].1),
                format!("service `{}`", area.name),
            );
        }
    }
    for index in 0..area.shape.servers {
        let place = || format!("service `{}` server {index}", area.name);
        match area.server_state(index) {
            Ok(state) if state.is(EntryKind::Live) == (state.owner() != 0) && !is_for_lanes(state.kind()) => {
            }
            Ok(state) => problem(format!("state {state:?}"), place()),
            Err(error) => problem(error.detail().to_owned(), place()),
        }
    }
    Ok(())
}

/// Kinds that a server entry never has.
fn is_for_lanes(kind: Option<EntryKind>) -> bool {
    matches!(kind, Some(EntryKind::Taking | EntryKind::Closed))
}

/// Says what the dead hold still. Nobody else is at work, and the dead were reaped.
pub(crate) fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let dead = |owner: u16| owner != 0 && area.ground.thread_is_dead(owner);
    for index in 0..area.shape.clients {
        let place = || format!("service `{}` client {index}", area.name);
        let Ok(state) = area.client_state(index) else { continue };
        if dead(state.owner()) {
            problem(format!("{state:?}: the owner is dead and its entry was not taken over"), place());
        }
        let Ok(Some(cells)) = area.cells(index) else { continue };
        for number in 0..area.shape.calls {
            let seen = cells.look(number)?;
            if matches!(seen.kind(), Some(CellKind::Taken | CellKind::Left)) && dead(seen.server()) {
                problem(format!("{seen:?}: the server is dead and its call was not taken over"), place());
            }
        }
    }
    super::parcel::check_taken_over(area, problem)?;
    for index in 0..area.shape.servers {
        let Ok(state) = area.server_state(index) else { continue };
        if dead(state.owner()) {
            problem(
                format!("{state:?}: the owner is dead and its entry was not taken over"),
                format!("service `{}` server {index}", area.name),
            );
        }
    }
    Ok(())
}
