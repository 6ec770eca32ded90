//! Every invariant of the registry.

use super::Registry;
use super::layout::{Kind, State, thread as field};
use crate::error::Result;

/// Tells `report(place, what)` everything that is wrong. Safe on a live registry: an entry that changes meanwhile is read
/// again.
pub fn check(registry: &Registry, report: &mut dyn FnMut(String, String)) -> Result<()> {
    for index in 0..registry.process_count() {
        let state = State::load(registry.process_word(index)?);
        if !matches!(state.kind(), Some(Kind::Free | Kind::Live)) {
            report(
                format!("process entry {index}"),
                format!("its state {:#x} is none of a process", state.0),
            );
        }
    }
    for index in registry.each_thread() {
        let word = registry.thread_entry(index)?.u64::<{ field::STATE }>();
        let state = State::load(word);
        let place = format!("thread entry {index}");
        match state.kind() {
            None => report(place, format!("its state {:#x} is none of a thread", state.0)),
            Some(Kind::Attaching | Kind::Live | Kind::Holder) => {
                if state.process() >= registry.process_count() {
                    report(place, format!("it names process {}, which cannot be", state.process()));
                } else {
                    let process = State::load(registry.process_word(state.process())?);
                    // A process leaves after its threads: read the thread again before complaining.
                    if process.kind() != Some(Kind::Live) && State::load(word) == state {
                        report(place, format!("its process {} has no live entry", state.process()));
                    }
                }
            }
            Some(Kind::Free | Kind::Lingering) => {}
        }
    }
    Ok(())
}
