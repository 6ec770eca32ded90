//! The one table of errors. Rust, C, Java, the command line and `docs/errors.md` all come from it.

use std::fmt;

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! error_table {
    ($( $number:literal $variant:ident $name:literal $text:literal $remedy:literal; )*) => {
        /// What went wrong, as a stable number and name shared by all languages.
        ///
        /// Numbers are never reused: a retired one stays reserved in the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum ErrorCode {
            $( #[doc = $text] $variant = $number, )*
        }

        impl ErrorCode {
            /// All codes in the order of their numbers.
            pub const ALL: &'static [ErrorCode] = &[ $( ErrorCode::$variant, )* ];

            /// The stable number, as documented in `docs/errors.md`.
            pub const fn number(self) -> u16 { self as u16 }

            /// The stable name in capitals, as C and Java spell it.
            pub const fn name(self) -> &'static str {
                match self { $( ErrorCode::$variant => $name, )* }
            }

            /// One sentence: what happened.
            pub const fn text(self) -> &'static str {
                match self { $( ErrorCode::$variant => $text, )* }
            }

            /// One sentence: what to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $( ErrorCode::$variant => $remedy, )* }
            }
        }
    };
}

error_table! {
    1 InvalidArgument "INVALID_ARGUMENT" "An argument is not acceptable." "Read the message: it names the argument, its value and what is allowed.";
    2 InvalidName "INVALID_NAME" "The name of a fabric or object is not acceptable." "Use 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_' and '-', not starting with '.'.";
    3 NotFound "NOT_FOUND" "There is no such fabric, object or entry." "Check the name with `memora ls`, or open with `Create::OpenOrCreate`.";
    4 AlreadyExists "ALREADY_EXISTS" "It exists already." "Open it instead of creating it, or remove it first with `memora rm`.";
    5 PermissionDenied "PERMISSION_DENIED" "The operating system refuses access." "Ask the owner for a group and mode or mount it writable, or use a place of your own (MEMORA_HOME for fabrics, `dir` for stores).";
    6 NotOurs "NOT_OURS" "The file or directory is not a safe place for a fabric." "Use a directory that you own with mode 0700, without symbolic links.";
    7 NotAFabric "NOT_A_FABRIC" "The file is not a Memora fabric, or it was truncated or overwritten." "Remove it with `memora rm` and let the next opener create it anew.";
    8 LayoutMismatch "LAYOUT_MISMATCH" "The fabric was made with another layout." "Use the same version of Memora in all processes, or remove the fabric and create it anew.";
    9 LimitTooSmall "LIMIT_TOO_SMALL" "The limit is too small." "Give at least the limit that the message names.";
    10 NoSpace "NO_SPACE" "The file system or memory of the host has no room for more pages." "Enlarge the tmpfs (--shm-size, sizeLimit, mount -o remount,size=...), free space there, or open with a smaller limit.";
    11 Full "FULL" "The fabric or object has no room for more data." "Create it with a larger limit, delete entries, or enable eviction.";
    12 TooManyProcesses "TOO_MANY_PROCESSES" "All process entries of the fabric are taken by live processes." "Close attachments that are not needed, or create the fabric with a larger limit.";
    13 TooManyThreads "TOO_MANY_THREADS" "All thread entries of the fabric are taken by live threads." "Use fewer threads on the fabric, or create it with a larger limit.";
    14 TooManyObjects "TOO_MANY_OBJECTS" "The object directory of the fabric is full." "Use fewer objects, or create the fabric with a larger limit.";
    15 WrongKind "WRONG_KIND" "The object exists as another kind." "Use another name, or open it as the kind that the message names.";
    16 WrongOptions "WRONG_OPTIONS" "The object or fabric exists with other options." "Open it with the options that it was made with, which the message names, or without any.";
    17 KeyTooLong "KEY_TOO_LONG" "The key is longer than the limit, or empty." "Use keys of 1 byte to the limit that the message names; hash longer ones.";
    18 ValueTooLong "VALUE_TOO_LONG" "The value or message is longer than the limit." "Split it, or create the fabric or channel with larger chunks or lanes, as the message says.";
    19 BufferTooSmall "BUFFER_TOO_SMALL" "The caller's buffer is too small; nothing was taken." "Call again with a buffer of at least the length that the message names.";
    20 NotANumber "NOT_A_NUMBER" "The entry is not a decimal number of 64 bits." "Increment only entries that were set as decimal text, or delete the entry first.";
    21 CounterOverflow "COUNTER_OVERFLOW" "The counter would leave 64 bits; it is unchanged." "Reset the counter, or count in smaller units.";
    22 Closed "CLOSED" "The handle was closed." "Open it again; do not use a handle after closing it.";
    23 Forked "FORKED" "The handle belongs to the parent process of a fork." "Open the fabric anew in the child process.";
    24 ReadOnly "READ_ONLY" "The attachment is read-only." "Open without `read_only`.";
    25 Corrupt "CORRUPT" "The content of the fabric breaks its own rules." "Run `memora check NAME`; remove the fabric and let a store recover from its files.";
    26 TimedOut "TIMED_OUT" "The time given for waiting is over." "Wait longer, or look with `memora stat` at who is slow.";
    27 BackPressure "BACK_PRESSURE" "The ring is full: a subscriber is behind." "Try again later, wait with `send`, use larger lanes, or the overrun policy.";
    28 Overrun "OVERRUN" "The subscriber was too slow and messages were overwritten." "Poll more often, use larger lanes, or the blocking policy.";
    29 SubscriptionInUse "SUBSCRIPTION_IN_USE" "A live process holds the subscription of that name." "Use another name, or close the other subscriber.";
    30 TooManySubscribers "TOO_MANY_SUBSCRIBERS" "All subscriber entries of the channel are taken." "Close subscribers that are not needed.";
    31 TooManyPublishers "TOO_MANY_PUBLISHERS" "All lanes of the channel are taken by live producers." "Publish from fewer threads.";
    32 Busy "BUSY" "Another process is doing this just now." "Try again.";
    33 NotAStore "NOT_A_STORE" "The directory holds something else, another store or another version." "Give the directory of this store, or an empty one.";
    34 JournalCorrupt "JOURNAL_CORRUPT" "A journal or checkpoint file has a bad record that is not its torn end." "Restore from a backup; `memora repair DIR` says what would be lost without, and saves the rest.";
    35 Poisoned "POISONED" "A sync of the store failed: it is read-only, because what reached the disk is not known." "Mend the disk, then remove the fabric and reopen the store: it recovers from its files.";
    36 Io "IO" "The operating system reports an error." "Read the message: it names the call, the path and the system's reason.";
    37 Unsupported "UNSUPPORTED" "This kernel, backend or build cannot do that." "Run `memora doctor`: it says what is missing.";
    38 LibraryMissing "LIBRARY_MISSING" "The native library could not be loaded." "Set the property memora.library.path to the library, or java.io.tmpdir to a directory without noexec.";
    39 Internal "INTERNAL" "A bug in Memora was stopped at the border." "Please report it with the message.";
    40 Stale "STALE" "The entry has another version by now; nothing was stored." "Read the entry again and decide anew.";
    41 NotHeld "NOT_HELD" "The consumer does not hold the message any more: its time was over and another has it, or it was acknowledged or given back." "Acknowledge in time, extend the time of long work, or make the queue with a longer visibility.";
    42 TooManyHeld "TOO_MANY_HELD" "The consumer holds as many messages as it can without acknowledging." "Acknowledge or give back messages before taking more, or make the queue with larger lanes.";
    43 WouldDeadlock "WOULD_DEADLOCK" "The calling thread would wait for itself: it holds the lock already, or permits without which there are never enough." "Let go first, or hand the guard on to the code that needs it: named locks are not recursive.";
    44 NotOwner "NOT_OWNER" "The calling thread does not hold the lock, or not so many permits." "Let go once, in the thread that took it.";
    47 PositionTrimmed "POSITION_TRIMMED" "What stands at the position was removed." "Read from the oldest position, or a store as it is and then its newest changes; keep more bytes, or a longer age.";
    48 LogFull "LOG_FULL" "The log is full of messages that a named reader has still to read." "Let the reader that the message names read on, end it with `unsubscribe` or `eject`, or make the log with more bytes or the overrun policy.";
    49 PositionAhead "POSITION_AHEAD" "The position lies behind the end." "Read from the newest position or from the oldest: the log or store may have been made anew.";
    51 PeerDied "PEER_DIED" "The server that took the call died." "Ask again if the request may be executed twice: it is not known how far the server came.";
    52 TooManyCalls "TOO_MANY_CALLS" "All calls of the client are under way." "Collect replies before sending more, or make the service with more calls for each client.";
    53 Unanswered "UNANSWERED" "The server let the call go without a reply." "Look at the server: it refused the request, or an error or panic kept it from answering.";
    54 TooManyClients "TOO_MANY_CLIENTS" "All client or server entries of the service are taken." "Close clients or servers that are not needed, or share one among threads.";
    56 Ejected "EJECTED" "The subscription was taken away: it stood still for too long, somebody ended it, or the thread that used it last has ended." "Subscribe again; read more often, or make the channel with larger lanes or a longer time.";
    59 OtherVersion "OTHER_VERSION" "The files were written by another version of Memora." "Use the version that wrote them; to change versions, export with the one and import with the other.";
    60 Truncated "TRUNCATED" "A checkpoint or backup ends before its end." "Take another copy of it or another backup; `memora repair DIR` says what can be saved of a store.";
    61 ManifestMissing "MANIFEST_MISSING" "The manifest that makes the store's checkpoint count is gone." "Put the file MANIFEST back or restore from a backup; `memora repair DIR` says what can be saved without it.";
    62 NotABackup "NOT_A_BACKUP" "That is no backup of a store, or one that was not finished." "Give the directory or the stream that `memora backup` wrote; make the backup again if it was interrupted.";
    63 NotOrdered "NOT_ORDERED" "The store does not keep its keys in order." "Make it with `ordered`, or read it with `scan`.";
    65 Conflict "CONFLICT" "The transaction read what another has changed meanwhile, or was in its way: nothing of it was done." "Do it again from the start with what is there now; the form with a function does so by itself.";
    66 TransactionTooLarge "TRANSACTION_TOO_LARGE" "The transaction reads or writes more than one may." "Divide it into smaller ones; the message names the limit.";
    67 SnapshotTooOld "SNAPSHOT_TOO_OLD" "The snapshot was cancelled: it was open for too long, or the store needed the memory that was kept for it." "Take a new snapshot and begin again; read in smaller parts, or give the store more memory or its snapshots a longer time.";
    68 TooManySnapshots "TOO_MANY_SNAPSHOTS" "All snapshot entries of the store are taken." "Close snapshots that are not needed, or share one among threads.";
    70 PositionForeign "POSITION_FOREIGN" "The position is one of another store, which may have had the same name." "Begin anew: read the store as it is and then its newest changes; keep positions with the store that gave them.";
    74 FeedDamaged "FEED_DAMAGED" "Journal files that are kept for the change feed only are damaged; the data of the store is whole." "Remove the file that the message names and the older ones: readers of the feed that need them are told POSITION_TRIMMED, others go on.";
}

/// An error: its code, what happened with the values, and the remedy.
///
/// One pointer wide, so that results which are no errors travel in registers.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    code: ErrorCode,
    detail: Option<Box<str>>,
    /// A number that belongs to the code: bytes needed, messages lost; 0 otherwise.
    amount: u64,
}

impl Error {
    #[cold]
    fn from_parts(code: ErrorCode, detail: Option<Box<str>>, amount: u64) -> Error {
        Error(Box::new(Parts { code, detail, amount }))
    }

    /// An error whose text says what happened, with the values.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Error {
        Error::from_parts(code, Some(detail.into().into_boxed_str()), 0)
    }

    /// An error with the number that belongs to its code (`BufferTooSmall`: bytes; `Overrun`: messages lost).
    pub fn with_amount(code: ErrorCode, amount: u64, detail: impl Into<String>) -> Error {
        Error::from_parts(code, Some(detail.into().into_boxed_str()), amount)
    }

    /// An error of the operating system, with the call and the path or object that it was made for.
    pub fn io(call: &str, place: impl fmt::Display, error: &std::io::Error) -> Error {
        let code = match error.raw_os_error() {
            Some(libc::ENOENT) => ErrorCode::NotFound,
            Some(libc::EEXIST) => ErrorCode::AlreadyExists,
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => ErrorCode::PermissionDenied,
            Some(libc::ENOSPC | libc::EDQUOT | libc::ENOMEM) => ErrorCode::NoSpace,
            Some(libc::ELOOP) => ErrorCode::NotOurs,
            _ => ErrorCode::Io,
        };
        Error::new(code, format!("{call} {place}: {error}"))
    }

    /// What went wrong, for programs.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// The number that belongs to the code: bytes needed for `BufferTooSmall`, messages lost for `Overrun`, the oldest position for
    /// `PositionTrimmed`, the end for `PositionAhead`, the position of the reader for `LogFull`; else 0.
    pub fn amount(&self) -> u64 {
        self.0.amount
    }

    /// What happened, with the values, without the remedy.
    pub fn detail(&self) -> &str {
        self.0.detail.as_deref().unwrap_or(self.0.code.text())
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        self.0.code.remedy()
    }
}

/// The cheap form for hot paths: the code's own text.
impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Error {
        Error::from_parts(code, None, 0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { code, detail, amount } = &*self.0;
        f.debug_struct("Error").field("code", code).field("detail", detail).field("amount", amount).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.detail(), self.remedy())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_every_code_has_a_remedy() {
        let mut numbers = std::collections::HashSet::new();
        let mut names = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(numbers.insert(code.number()), "{code:?} reuses number {}", code.number());
            assert!(names.insert(code.name()), "{code:?} reuses name {}", code.name());
            assert!(code.text().ends_with('.') && code.remedy().ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn the_message_holds_what_happened_and_the_remedy() {
        let error = Error::new(ErrorCode::Full, "Cache `prices` is full: 8 MiB of 8 MiB.");
        let text = error.to_string();
        assert!(text.contains("8 MiB of 8 MiB") && text.contains("larger limit"), "{text}");
    }
}
