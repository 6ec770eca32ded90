//! What a thread leaves in a service when it is dead, or detaches.

use super::area::{Area, Cells};
use super::layout::{CellKind, CellWord, EntryKind, EntryState};
use super::parcel::Side;
use crate::error::Result;

/// States that a call passes through at most while its client lets it go: asked, taken, left.
const STEPS: usize = 4;

/// Takes over everything that the entry `thread` held: calls that it took as a server are told to be its victims, what it asked
/// as a client is withdrawn, its entries are closed. Repeating it is harmless, also at the same time. What is damaged is
/// left, and told when everything else is done.
pub(crate) fn inherit(area: &Area, thread: u16) -> Result<()> {
    let mut damage = Ok(());
    let mut held = false;
    for index in 0..area.shape.clients {
        damage = damage.and(inherit_calls(area, index, thread));
        match inherit_clients(area, index, thread) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    for index in 0..area.shape.servers {
        match area.server_state(index).and_then(|seen| inherit_server(area, index, seen, thread)) {
            Ok(was_held) => held |= was_held,
            Err(error) => damage = damage.and(Err(error)),
        }
    }
    if held {
        // A wake that it owed.
        area.asked().wake_all();
    }
    damage
}

/// Tells a client which of its calls the entry `thread` took and will not answer any more.
fn inherit_calls(area: &Area, index: u32, thread: u16) -> Result<()> {
    let Some(cells) = area.cells(index)? else { return Ok(()) };
    let mut any = false;
    for number in 0..area.shape.calls {
        let seen = cells.look(number)?;
        if matches!(seen.kind(), Some(CellKind::Taken | CellKind::Left)) && seen.server() == thread {
            // What it showed is its client's to read; what it took nobody answers any more. What is damaged keeps nothing else from being taken over.
            if seen.kind() == Some(CellKind::Taken) {
                let _ = area.keep_reply_of(&cells, seen.number(), thread);
                area.end_parcel(&cells, Side::Request, seen.number());
            } else {
                area.end_call(&cells, seen.number());
            }
            kill_point!("service.inherit.before_died");
            // A failure means that the client gave it up or found the death itself: then the next look finds it.
            any |= cells.change(seen, seen.as_kind(CellKind::Died))? || given_up(area, &cells, seen)?;
            kill_point!("service.inherit.died");
        }
    }
    if any {
        cells.wait(area.registered).wake_all();
    }
    Ok(())
}

/// The client gave a call up just now whose server is gone: frees its cell. True if this did it.
fn given_up(area: &Area, cells: &Cells, seen: CellWord) -> Result<bool> {
    let left = CellWord::new(CellKind::Left, seen.server(), seen.number());
    if cells.look(seen.number())? != left {
        return Ok(false);
    }
    area.end_call(cells, seen.number());
    cells.change(left, left.as_kind(CellKind::Died))
}

/// Takes over one client entry if the entry `thread` holds it. Nobody else gets that thread entry meanwhile.
fn inherit_clients(area: &Area, index: u32, thread: u16) -> Result<bool> {
    let mut held = false;
    // Live, taking, closed: another who takes over may be faster with each.
    for _ in 0..STEPS {
        let seen = area.client_state(index)?;
        if seen.owner() != thread {
            break;
        }
        held |= inherit_client(area, index, seen)?;
    }
    Ok(held)
}

/// Takes over one client entry whose holder is dead or leaves, if it has the state `seen` still: its generation tells it from that of
/// a later holder with the same thread entry. The caller wakes who sleeps.
pub(super) fn inherit_client(area: &Area, index: u32, seen: EntryState) -> Result<bool> {
    let seen = match seen.kind() {
        Some(EntryKind::Taking) => seen,
        Some(EntryKind::Live) => {
            // From here on no other thread can go on with the client: its calls end.
            let taking = EntryState::new(EntryKind::Taking, 0, seen.owner(), seen.generation());
            kill_point!("service.inherit.before_close");
            if !area.change_client(index, seen, taking)? {
                return Ok(false);
            }
            taking
        }
        _ => return Ok(false),
    };
    let next = match area.cells(index)? {
        None => EntryKind::Free,
        Some(cells) => {
            // Its ring may be new to everybody.
            area.client_came();
            let_calls_go(area, &cells, seen)?;
            EntryKind::Closed
        }
    };
    kill_point!("service.inherit.before_close");
    area.change_client(index, seen, EntryState::new(next, 0, 0, seen.generation()))?;
    kill_point!("service.inherit.closed");
    Ok(true)
}

fn inherit_server(area: &Area, index: u32, seen: EntryState, thread: u16) -> Result<bool> {
    if seen.owner() != thread {
        return Ok(false);
    }
    kill_point!("service.inherit.before_free");
    area.change_server(index, seen, EntryState::new(EntryKind::Free, 0, 0, seen.generation()))?;
    kill_point!("service.inherit.freed");
    Ok(true)
}

/// Withdraws what was asked and leaves what was taken to its servers, as long as the entry has this state.
pub(super) fn let_calls_go(area: &Area, cells: &Cells, state: EntryState) -> Result<()> {
    for number in 0..area.shape.calls {
        let mut ended = None;
        for _ in 0..STEPS {
            let seen = cells.look(number)?;
            ended = Some(seen.number());
            let next = match seen.kind() {
                Some(CellKind::Asked) => seen.as_kind(CellKind::Free),
                Some(CellKind::Taken) => CellWord::new(CellKind::Left, seen.server(), seen.number()),
                Some(CellKind::Free | CellKind::Left | CellKind::Died) => break,
                None => return Err(cells.damaged("the word of a cell")),
            };
            // The word was loaded before: if it is a later owner's, the state has changed since.
            if area.client_state(cells.index)? != state {
                return Ok(());
            }
            kill_point!("service.leave.before");
            if cells.change(seen, next)? {
                kill_point!("service.leave.after");
                break;
            }
        }
        // The word was loaded before, as above.
        if area.client_state(cells.index)? != state {
            return Ok(());
        }
        if let Some(ended) = ended {
            // DIES BEFORE: the entry is that of the dead still, whoever comes next goes on.
            area.end_call(cells, ended);
        }
    }
    Ok(())
}

/// Whether some client of the service names the ring that contains the byte at `offset`: what the pool asks about open
/// chunks of the dead. Those of replies that were shown were kept before; the others belong to calls that ended.
pub(crate) fn names_ring(area: &Area, offset: u64) -> Result<bool> {
    for index in 0..area.shape.clients {
        // ORDER Acquire [client-ring]: as in `cells`.
        let ring = area.ring_word(index)?.load(crate::shm::atomic::Ordering::Acquire);
        if ring != 0 && ring <= offset && offset - ring < area.shape.ring_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}
