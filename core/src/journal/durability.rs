//! What a user asks of the files.

/// Milliseconds between two flushes of an async store or log, unless the user says otherwise.
pub const INTERVAL_MS_DEFAULT: u64 = 100;

/// What an acknowledged change of a store, or message of a log, survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of every process, not of the host: nothing is flushed until somebody asks for it.
    Process,
    /// That, and the death of the host but for the last interval.
    Async {
        /// Milliseconds between two flushes.
        interval_ms: u64,
    },
    /// That, and the death of the host: the change is on the disk when the call returns.
    Sync,
}

impl Default for Durability {
    fn default() -> Durability {
        Durability::Async { interval_ms: INTERVAL_MS_DEFAULT }
    }
}

impl Durability {
    /// How often somebody has to look for what is to be flushed; None: never.
    pub(crate) fn interval(self) -> Option<std::time::Duration> {
        let ms = match self {
            Durability::Process => return None,
            Durability::Async { interval_ms } => interval_ms.max(1),
            // What is beside the flush, and what calls of other durabilities leave, is nobody else's work.
            Durability::Sync => INTERVAL_MS_DEFAULT,
        };
        Some(std::time::Duration::from_millis(ms))
    }
}
