//! What a thread leaves in a signal when it is dead, or detaches.

use super::area::Area;
use super::layout::SignalKind;
use super::{lock, permits};
use crate::error::Result;

/// Takes over everything that the entry `thread` held: its lock is free and its permits are back, and the next owner is told.
/// Whoever it may have owed a wake is woken. Repeating it is harmless, also at the same time.
pub(crate) fn inherit(area: &Area, thread: u16) -> Result<()> {
    let held = match area.kind {
        SignalKind::Event | SignalKind::Counter => false,
        SignalKind::Lock => lock::inherit(area, thread)?,
        SignalKind::Semaphore => permits::inherit(area, thread, || true)?,
    };
    if held {
        area.waiters().wake_all();
    }
    Ok(())
}
