//! The state machine of a chunk as a table. Every edge is one compare-and-swap of the state word.

use super::layout::Kind::{self, *};

/// Who may take an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Any thread: it becomes the owner, or finishes what needs no owner.
    Anyone,
    /// The owner in the state word.
    Owner,
    /// Whoever takes over from an owner that the kernel proved dead.
    Reaper,
}

/// All edges: from, to, by whom. What is not here never happens.
pub const EDGES: &[(Kind, Kind, By)] = &[
    // Allocation.
    (Virgin, Open, By::Anyone),
    (Free, Open, By::Anyone),
    // The owner is ready with it: records are sealed, control areas, buckets and lanes go into use.
    (Open, Sealed, By::Owner),
    (Open, Index, By::Owner),
    (Open, Lane, By::Owner),
    // A helper of a split settles the children: they are reachable, so their owner has finished them.
    (Open, Index, By::Anyone),
    // Never published, given back.
    (Open, Quiesce, By::Owner),
    // The dead leave chunks open: what is reachable goes into use, records are sealed, the rest is given back.
    (Open, Sealed, By::Reaper),
    (Open, Index, By::Reaper),
    (Open, Lane, By::Reaper),
    (Open, Quiesce, By::Reaper),
    // Cleaning. It may be taken over even from a live cleaner: each of its steps is fenced by the slot's version.
    (Sealed, Evicting, By::Anyone),
    (Evicting, Evicting, By::Anyone),
    (Evicting, Sealed, By::Owner),
    (Evicting, Sealed, By::Reaper),
    (Evicting, Quiesce, By::Owner),
    // Every record was unlinked, each counted by whoever did it.
    (Sealed, Quiesce, By::Anyone),
    // Sealed before it was full: another thread appends to it.
    (Sealed, Open, By::Anyone),
    // A long record: the later chunks have no owner any more; the first one when the record was published. It changes its
    // queue where it stands, and goes when the record was unlinked; the later chunks go while it is quiet.
    (Open, RunContinued, By::Owner),
    (Open, RunHead, By::Owner),
    (Open, RunHead, By::Reaper),
    (RunHead, RunHead, By::Anyone),
    (RunContinued, RunContinued, By::Anyone),
    (RunHead, Quiesce, By::Anyone),
    (RunContinued, Free, By::Anyone),
    // Emptied for a row of chunks, after the scan of pins.
    (Evicting, Open, By::Owner),
    // Retired by the object that used it.
    (Index, Quiesce, By::Anyone),
    (Lane, Quiesce, By::Anyone),
    // After the scan of pins; needs no owner, so nothing is left to take over.
    (Quiesce, Free, By::Anyone),
];

/// Whether the table has this edge for anyone.
pub fn allowed(from: Kind, to: Kind) -> bool {
    EDGES.iter().any(|(start, end, _)| *start == from && *end == to)
}

/// Whether a chunk of this kind names an owner.
pub const fn has_owner(kind: Kind) -> bool {
    matches!(kind, Open | Evicting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_chunk_in_use_is_opened_and_only_quiet_ones_are_freed() {
        for (from, to, _) in EDGES {
            assert!(*to != Open || matches!(from, Virgin | Free | Sealed | Evicting), "{from:?} -> {to:?}");
            assert!(*to != Free || matches!(from, Quiesce | RunContinued), "{from:?} -> {to:?}");
            assert!(*to != Virgin, "{from:?} -> {to:?}");
        }
        assert!(
            !allowed(Sealed, Free) && !allowed(Evicting, Free),
            "nothing is freed without the scan of pins"
        );
    }

    #[test]
    fn every_owned_state_has_an_edge_for_the_reaper() {
        for kind in [Open, Evicting] {
            assert!(has_owner(kind));
            assert!(EDGES.iter().any(|(from, _, by)| *from == kind && *by == By::Reaper), "{kind:?}");
        }
    }
}
