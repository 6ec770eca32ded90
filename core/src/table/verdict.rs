//! What others than tables see of the decision about a transaction, by the words in the entry of its thread.

use super::intent::at;
use super::stamp::{Decision, Phase, Reference};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Block;
use crate::shm::atomic::Ordering;

/// Bytes of the words.
const BYTES: usize = 32;

/// How a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Undecided,
    Committed,
    Aborted,
    /// The words are about another one, or none: what this one put anywhere was settled before.
    Over,
}

/// How the transaction that `reference` names stands, by the `words` of its thread. They hold only the lowest bits of its number: who
/// acts on it looks afterwards whether what names the transaction is still there.
pub fn verdict(words: Block<'_, BYTES>, reference: Reference) -> Result<Verdict> {
    // ORDER Acquire [decision]: everything that its thread put in place, or settled, before.
    let seen = Decision(words.u64::<{ at::DECISION }>().load(Ordering::Acquire));
    if !seen.is_of(reference.number()) {
        return Ok(Verdict::Over);
    }
    match seen.phase() {
        Some(Phase::None) => Ok(Verdict::Over),
        Some(Phase::Active | Phase::Proving) => Ok(Verdict::Undecided),
        Some(Phase::Committed) => Ok(Verdict::Committed),
        Some(Phase::Aborted) => Ok(Verdict::Aborted),
        None => Err(Error::new(
            ErrorCode::Corrupt,
            format!("The decision {:#018x} of thread {} cannot be.", seen.0, reference.thread()),
        )),
    }
}

/// Aborts the transaction if it is not decided.
pub fn abort(words: Block<'_, BYTES>, reference: Reference) {
    let word = words.u64::<{ at::DECISION }>();
    // ORDER Acquire [decision]: as in `verdict`.
    let mut seen = Decision(word.load(Ordering::Acquire));
    while seen.is_of(reference.number()) && matches!(seen.phase(), Some(Phase::Active | Phase::Proving)) {
        kill_point!("table.verdict.before_abort");
        // ORDER AcqRel [decision]: as every decision.
        match word.compare_exchange(
            seen.0,
            seen.with(Phase::Aborted, 0).0,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => {
                kill_point!("table.verdict.aborted");
                return;
            }
            Err(other) => seen = Decision(other),
        }
    }
}
