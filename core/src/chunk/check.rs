//! Every invariant of the pool, as code.

use super::layout::{Class, Dead, Kind, State, at, pair, unpair};
use super::record::{EXTENDED_BYTES, HEADER_BYTES};
use super::{ChunkId, Pool, state};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Verifies the descriptors and that every chunk of records can be walked. Calls `report(place, what)` for each breach.
/// With `live`, only what holds at any instant is verified; without, nobody else may be at work and the dead were reaped.
/// `extended` says of an object whether its records have the extended header, where their class does not say so.
pub fn check(
    pool: &Pool,
    live: bool,
    extended: &dyn Fn(u32) -> bool,
    report: &mut dyn FnMut(String, String),
) -> Result<()> {
    let mut taken = 0;
    for chunk in pool.chunks() {
        let seen = pool.state(chunk)?;
        let mut problems = Vec::new();
        taken += u32::from(!seen.is_free());
        check_chunk(pool, chunk, seen, live, extended, &mut problems)?;
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
    extended: &dyn Fn(u32) -> bool,
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
        Kind::Virgin => class == Class::None,
        Kind::Free => matches!(class, Class::None | Class::Buckets),
        Kind::Sealed | Kind::Evicting => class.has_records(),
        Kind::Index => matches!(class, Class::Control | Class::Buckets),
        Kind::Lane => class == Class::Lane,
        Kind::Open | Kind::Quiesce => class != Class::None,
        Kind::RunHead | Kind::RunContinued => matches!(class, Class::Small | Class::Main | Class::Memory),
    };
    if !fits {
        problems.push(format!("{seen:?}: this state and this class do not go together"));
    }
    if kind == Kind::RunContinued {
        check_part(pool, chunk, problems)?;
    }
    if !class.has_records() || !matches!(kind, Kind::Open | Kind::Sealed | Kind::Evicting | Kind::RunHead) {
        return Ok(());
    }
    let descriptor = pool.descriptor(chunk)?;
    // ORDER Relaxed: written before the chunk had any record.
    let object = descriptor.u32::<{ at::OBJECT }>().load(Ordering::Relaxed);
    let is_extended = class.is_extended() || (class != Class::Node && extended(object));
    let header = if is_extended { EXTENDED_BYTES } else { HEADER_BYTES };
    let tail = match pool.tail(chunk) {
        Ok(tail) => tail,
        Err(error) => {
            problems.push(error.detail().to_string());
            return Ok(());
        }
    };
    // ORDER Relaxed: a count.
    let dead = Dead(descriptor.u64::<{ at::DEAD }>().load(Ordering::Relaxed));
    // An estimate may count a record twice: when it was taken, and when the record was unlinked.
    let exact = dead.generation() == seen.generation() && dead.is_exact();
    if kind != Kind::Open && exact && dead.bytes() as u64 > tail {
        problems.push(format!("{} bytes are counted as dead, but only {tail} were written", dead.bytes()));
    }
    if kind == Kind::RunHead {
        check_run(pool, chunk, seen, tail, problems)?;
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

/// The first chunk of a run has as many others as its record needs.
fn check_run(pool: &Pool, first: ChunkId, seen: State, tail: u64, problems: &mut Vec<String>) -> Result<()> {
    let count = pool.run_len(first)?;
    if tail.div_ceil(pool.geometry().chunk_bytes) != u64::from(count) {
        problems.push(format!("a run of {count} chunks holds a record of {tail} bytes"));
    }
    for number in first.0 + 1..first.0 + count {
        let part = pool.state(ChunkId(number))?;
        if !pool.is_part_of(ChunkId(number), part, first, seen.generation())? {
            problems.push(format!("chunk {number} is {part:?}, not a part of this run of {count}"));
        }
    }
    Ok(())
}

/// A later chunk of a run lies in it.
fn check_part(pool: &Pool, chunk: ChunkId, problems: &mut Vec<String>) -> Result<()> {
    // ORDER Relaxed: written before the chunk became a part.
    let parent = pool.descriptor(chunk)?.u64::<{ at::PARENT }>().load(Ordering::Relaxed);
    let first = ChunkId(unpair(parent).0);
    let is_in = first.0 != 0 && first < chunk && {
        let head = pool.state(first)?;
        let kind = matches!(head.kind(), Some(Kind::Open | Kind::RunHead | Kind::Quiesce));
        kind && chunk.0 - first.0 < pool.run_len(first)? && pair(first.0, head.generation()) == parent
    };
    if !is_in {
        problems.push(format!("it is a part of a run that begins with chunk {}, which is none", first.0));
    }
    Ok(())
}
