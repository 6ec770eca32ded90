//! Every invariant of the pool, as code.

use super::layout::{Class, Dead, Kind, State, at};
use super::record::{EXTENDED_BYTES, HEADER_BYTES};
use super::{ChunkId, Pool, state};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Verifies the descriptors and that every chunk of records can be walked. Calls `report(place, what)` for each breach.
/// With `live`, only what holds at any instant is verified; without, nobody else may be at work and the dead were reaped.
pub fn check(pool: &Pool, live: bool, report: &mut dyn FnMut(String, String)) -> Result<()> {
    let mut taken = 0;
    for chunk in pool.chunks() {
        let seen = pool.state(chunk)?;
        let mut problems = Vec::new();
        taken += u32::from(!matches!(seen.kind(), Some(Kind::Free | Kind::Virgin)));
        check_chunk(pool, chunk, seen, live, &mut problems)?;
        // A chunk that changed meanwhile was in order when it was looked at by its new rules, or will be looked at later.
        if pool.state(chunk)? == seen {
            for what in problems {
                report(format!("chunk {}", chunk.0), what);
            }
        }
    }
    let counted = pool.geometry().chunk_count - 1 - pool.free_count();
    // Who counts anew while others take leaves it off by those.
    if !live && counted.abs_diff(taken) > pool.ground().thread_count() + 2 {
        report("pool".into(), format!("{taken} chunks are taken, but {counted} are counted"));
    }
    Ok(())
}

fn check_chunk(
    pool: &Pool,
    chunk: ChunkId,
    seen: State,
    live: bool,
    problems: &mut Vec<String>,
) -> Result<()> {
    let (Some(kind), Some(class)) = (seen.kind(), seen.class()) else {
        problems.push(format!("the state {:#x} is none", seen.0));
        return Ok(());
    };
    if state::has_owner(kind) != (seen.owner() != 0) {
        problems.push(format!("{seen:?}: this state and this owner do not go together"));
    }
    if !live && state::has_owner(kind) && pool.ground().thread_is_dead(seen.owner()) {
        problems.push(format!("{seen:?}: the owner is dead and its chunk was not taken over"));
    }
    let fits = match kind {
        Kind::Virgin | Kind::Free => class == Class::None,
        Kind::Sealed | Kind::Evicting => class.has_records(),
        Kind::Index => matches!(class, Class::Control | Class::Buckets),
        Kind::Lane => class == Class::Lane,
        Kind::Open | Kind::Quiesce => class != Class::None,
        Kind::RunHead | Kind::RunContinued => false,
    };
    if !fits {
        problems.push(format!("{seen:?}: this state and this class do not go together"));
    }
    if !class.has_records() || !matches!(kind, Kind::Open | Kind::Sealed | Kind::Evicting) {
        return Ok(());
    }
    let descriptor = pool.descriptor(chunk)?;
    let header = if class == Class::Store { EXTENDED_BYTES } else { HEADER_BYTES };
    let tail = match pool.tail(chunk) {
        Ok(tail) => tail,
        Err(error) => {
            problems.push(error.detail().to_string());
            return Ok(());
        }
    };
    // ORDER Relaxed: a count.
    let dead = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed));
    if kind != Kind::Open && dead.generation() == seen.generation() && dead.bytes() as u64 > tail {
        problems.push(format!("{} bytes are counted as dead, but only {tail} were written", dead.bytes()));
    }
    let mut walk = pool.walk(chunk, header, 0)?;
    loop {
        match walk.next() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                problems.push(error.detail().to_string());
                break;
            }
        }
    }
    Ok(())
}
