//! Error codes, their texts, and the message of a thread's last error.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use memora_core::{Error, ErrorCode};

/// The call did what it was asked to do.
pub const MEMORA_OK: c_int = 0;
/// An argument is not acceptable.
/// Read the message: it names the argument, its value and what is allowed.
pub const MEMORA_INVALID_ARGUMENT: c_int = -4097;
/// The name of a fabric or object is not acceptable.
/// Use 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_' and '-', not starting with '.'.
pub const MEMORA_INVALID_NAME: c_int = -4098;
/// There is no such fabric, object or entry.
/// Check the name with `memora ls`, or open with `Create::OpenOrCreate`.
pub const MEMORA_NOT_FOUND: c_int = -4099;
/// It exists already.
/// Open it instead of creating it, or remove it first with `memora rm`.
pub const MEMORA_ALREADY_EXISTS: c_int = -4100;
/// The operating system refuses access.
/// Ask the owner for a group and mode or mount it writable, or use a place of your own (MEMORA_HOME for fabrics, `dir` for stores).
pub const MEMORA_PERMISSION_DENIED: c_int = -4101;
/// The file or directory is not a safe place for a fabric.
/// Use a directory that you own with mode 0700, without symbolic links.
pub const MEMORA_NOT_OURS: c_int = -4102;
/// The file is not a Memora fabric, or it was truncated or overwritten.
/// Remove it with `memora rm` and let the next opener create it anew.
pub const MEMORA_NOT_A_FABRIC: c_int = -4103;
/// The fabric was made with another layout.
/// Use the same version of Memora in all processes, or remove the fabric and create it anew.
pub const MEMORA_LAYOUT_MISMATCH: c_int = -4104;
/// The limit is too small.
/// Give at least the limit that the message names.
pub const MEMORA_LIMIT_TOO_SMALL: c_int = -4105;
/// The file system or memory of the host has no room for more pages.
/// Enlarge the tmpfs (--shm-size, sizeLimit, mount -o remount,size=...), free space there, or open with a smaller limit.
pub const MEMORA_NO_SPACE: c_int = -4106;
/// The fabric or object has no room for more data.
/// Create it with a larger limit, delete entries, or enable eviction.
pub const MEMORA_FULL: c_int = -4107;
/// All process entries of the fabric are taken by live processes.
/// Close attachments that are not needed, or create the fabric with a larger limit.
pub const MEMORA_TOO_MANY_PROCESSES: c_int = -4108;
/// All thread entries of the fabric are taken by live threads.
/// Use fewer threads on the fabric, or create it with a larger limit.
pub const MEMORA_TOO_MANY_THREADS: c_int = -4109;
/// The object directory of the fabric is full.
/// Use fewer objects, or create the fabric with a larger limit.
pub const MEMORA_TOO_MANY_OBJECTS: c_int = -4110;
/// The object exists as another kind.
/// Use another name, or open it as the kind that the message names.
pub const MEMORA_WRONG_KIND: c_int = -4111;
/// The object or fabric exists with other options.
/// Open it with the options that it was made with, which the message names, or without any.
pub const MEMORA_WRONG_OPTIONS: c_int = -4112;
/// The key is longer than the limit, or empty.
/// Use keys of 1 byte to the limit that the message names; hash longer ones.
pub const MEMORA_KEY_TOO_LONG: c_int = -4113;
/// The value or message is longer than the limit.
/// Split it, or create the fabric or channel with larger chunks or lanes, as the message says.
pub const MEMORA_VALUE_TOO_LONG: c_int = -4114;
/// The caller's buffer is too small; nothing was taken.
/// Call again with a buffer of at least the length that the message names.
pub const MEMORA_BUFFER_TOO_SMALL: c_int = -4115;
/// The entry is not a decimal number of 64 bits.
/// Increment only entries that were set as decimal text, or delete the entry first.
pub const MEMORA_NOT_A_NUMBER: c_int = -4116;
/// The counter would leave 64 bits; it is unchanged.
/// Reset the counter, or count in smaller units.
pub const MEMORA_COUNTER_OVERFLOW: c_int = -4117;
/// The handle was closed.
/// Open it again; do not use a handle after closing it.
pub const MEMORA_CLOSED: c_int = -4118;
/// The handle belongs to the parent process of a fork.
/// Open the fabric anew in the child process.
pub const MEMORA_FORKED: c_int = -4119;
/// The attachment is read-only.
/// Open without `read_only`.
pub const MEMORA_READ_ONLY: c_int = -4120;
/// The content of the fabric breaks its own rules.
/// Run `memora check NAME`; remove the fabric and let a store recover from its files.
pub const MEMORA_CORRUPT: c_int = -4121;
/// The time given for waiting is over.
/// Wait longer, or look with `memora stat` at who is slow.
pub const MEMORA_TIMED_OUT: c_int = -4122;
/// The ring is full: a subscriber is behind.
/// Try again later, wait with `send`, use larger lanes, or the overrun policy.
pub const MEMORA_BACK_PRESSURE: c_int = -4123;
/// The subscriber was too slow and messages were overwritten.
/// Poll more often, use larger lanes, or the blocking policy.
pub const MEMORA_OVERRUN: c_int = -4124;
/// A live process holds the subscription of that name.
/// Use another name, or close the other subscriber.
pub const MEMORA_SUBSCRIPTION_IN_USE: c_int = -4125;
/// All subscriber entries of the channel are taken.
/// Close subscribers that are not needed.
pub const MEMORA_TOO_MANY_SUBSCRIBERS: c_int = -4126;
/// All lanes of the channel are taken by live producers.
/// Publish from fewer threads.
pub const MEMORA_TOO_MANY_PUBLISHERS: c_int = -4127;
/// Another process is doing this just now.
/// Try again.
pub const MEMORA_BUSY: c_int = -4128;
/// The directory holds something else, another store or another version.
/// Give the directory of this store, or an empty one.
pub const MEMORA_NOT_A_STORE: c_int = -4129;
/// A journal or checkpoint file has a bad record that is not its torn end.
/// Restore from a backup; `memora repair DIR` says what would be lost without, and saves the rest.
pub const MEMORA_JOURNAL_CORRUPT: c_int = -4130;
/// A sync of the store failed: it is read-only, because what reached the disk is not known.
/// Mend the disk, then remove the fabric and reopen the store: it recovers from its files.
pub const MEMORA_POISONED: c_int = -4131;
/// The operating system reports an error.
/// Read the message: it names the call, the path and the system's reason.
pub const MEMORA_IO: c_int = -4132;
/// This kernel, backend or build cannot do that.
/// Run `memora doctor`: it says what is missing.
pub const MEMORA_UNSUPPORTED: c_int = -4133;
/// The native library could not be loaded.
/// Set the property memora.library.path to the library, or java.io.tmpdir to a directory without noexec.
pub const MEMORA_LIBRARY_MISSING: c_int = -4134;
/// A bug in Memora was stopped at the border.
/// Please report it with the message.
pub const MEMORA_INTERNAL: c_int = -4135;
/// The entry has another version by now; nothing was stored.
/// Read the entry again and decide anew.
pub const MEMORA_STALE: c_int = -4136;
/// The consumer does not hold the message any more: its time was over and another has it, or it was acknowledged or given back.
/// Acknowledge in time, extend the time of long work, or make the queue with a longer visibility.
pub const MEMORA_NOT_HELD: c_int = -4137;
/// The consumer holds as many messages as it can without acknowledging.
/// Acknowledge or give back messages before taking more, or make the queue with larger lanes.
pub const MEMORA_TOO_MANY_HELD: c_int = -4138;
/// The calling thread would wait for itself: it holds the lock already, or permits without which there are never enough.
/// Let go first, or hand the guard on to the code that needs it: named locks are not recursive.
pub const MEMORA_WOULD_DEADLOCK: c_int = -4139;
/// The calling thread does not hold the lock, or not so many permits.
/// Let go once, in the thread that took it.
pub const MEMORA_NOT_OWNER: c_int = -4140;
/// What stands at the position was removed.
/// Read from the oldest position, or a store as it is and then its newest changes; keep more bytes, or a longer age.
pub const MEMORA_POSITION_TRIMMED: c_int = -4143;
/// The log is full of messages that a named reader has still to read.
/// Let the reader that the message names read on, end it with `unsubscribe` or `eject`, or make the log with more bytes or the overrun policy.
pub const MEMORA_LOG_FULL: c_int = -4144;
/// The position lies behind the end.
/// Read from the newest position or from the oldest: the log or store may have been made anew.
pub const MEMORA_POSITION_AHEAD: c_int = -4145;
/// The server that took the call died.
/// Ask again if the request may be executed twice: it is not known how far the server came.
pub const MEMORA_PEER_DIED: c_int = -4147;
/// All calls of the client are under way.
/// Collect replies before sending more, or make the service with more calls for each client.
pub const MEMORA_TOO_MANY_CALLS: c_int = -4148;
/// The server let the call go without a reply.
/// Look at the server: it refused the request, or an error or panic kept it from answering.
pub const MEMORA_UNANSWERED: c_int = -4149;
/// All client or server entries of the service are taken.
/// Close clients or servers that are not needed, or share one among threads.
pub const MEMORA_TOO_MANY_CLIENTS: c_int = -4150;
/// The subscription was taken away: it stood still for too long, somebody ended it, or the thread that used it last has ended.
/// Subscribe again; read more often, or make the channel with larger lanes or a longer time.
pub const MEMORA_EJECTED: c_int = -4152;
/// The files were written by another version of Memora.
/// Use the version that wrote them; to change versions, export with the one and import with the other.
pub const MEMORA_OTHER_VERSION: c_int = -4155;
/// A checkpoint or backup ends before its end.
/// Take another copy of it or another backup; `memora repair DIR` says what can be saved of a store.
pub const MEMORA_TRUNCATED: c_int = -4156;
/// The manifest that makes the store's checkpoint count is gone.
/// Put the file MANIFEST back or restore from a backup; `memora repair DIR` says what can be saved without it.
pub const MEMORA_MANIFEST_MISSING: c_int = -4157;
/// That is no backup of a store, or one that was not finished.
/// Give the directory or the stream that `memora backup` wrote; make the backup again if it was interrupted.
pub const MEMORA_NOT_A_BACKUP: c_int = -4158;
/// The store does not keep its keys in order.
/// Make it with `ordered`, or read it with `scan`.
pub const MEMORA_NOT_ORDERED: c_int = -4159;
/// The transaction read what another has changed meanwhile, or was in its way: nothing of it was done.
/// Do it again from the start with what is there now; the form with a function does so by itself.
pub const MEMORA_CONFLICT: c_int = -4161;
/// The transaction reads or writes more than one may.
/// Divide it into smaller ones; the message names the limit.
pub const MEMORA_TRANSACTION_TOO_LARGE: c_int = -4162;
/// The snapshot was cancelled: it was open for too long, or the store needed the memory that was kept for it.
/// Take a new snapshot and begin again; read in smaller parts, or give the store more memory or its snapshots a longer time.
pub const MEMORA_SNAPSHOT_TOO_OLD: c_int = -4163;
/// All snapshot entries of the store are taken.
/// Close snapshots that are not needed, or share one among threads.
pub const MEMORA_TOO_MANY_SNAPSHOTS: c_int = -4164;
/// The position is one of another store, which may have had the same name.
/// Begin anew: read the store as it is and then its newest changes; keep positions with the store that gave them.
pub const MEMORA_POSITION_FOREIGN: c_int = -4166;
/// Journal files that are kept for the change feed only are damaged; the data of the store is whole.
/// Remove the file that the message names and the older ones: readers of the feed that need them are told POSITION_TRIMMED, others go on.
pub const MEMORA_FEED_DAMAGED: c_int = -4170;

/// What the code of an error is to C.
pub(crate) fn to_c(code: ErrorCode) -> c_int {
    -(4096 + c_int::from(code.number()))
}

fn from_c(code: c_int) -> Option<ErrorCode> {
    let number = -(code.checked_add(4096)?);
    ErrorCode::ALL.iter().copied().find(|known| c_int::from(known.number()) == number)
}

const TEXT_LEN: usize = 256;

/// A constant text with a NUL at its end.
struct Text([u8; TEXT_LEN]);

impl Text {
    const fn of(parts: &[&str]) -> Text {
        let mut bytes = [0; TEXT_LEN];
        let mut at = 0;
        let mut part = 0;
        while part < parts.len() {
            let text = parts[part].as_bytes();
            let mut from = 0;
            while from < text.len() {
                assert!(at < TEXT_LEN - 1, "TEXT_LEN is too small for this text");
                bytes[at] = text[from];
                at += 1;
                from += 1;
            }
            part += 1;
        }
        Text(bytes)
    }

    fn as_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}

struct Texts {
    name: Text,
    text: Text,
    remedy: Text,
}

const fn texts() -> [Texts; ErrorCode::ALL.len()] {
    let mut all = [const { Texts { name: Text::of(&[]), text: Text::of(&[]), remedy: Text::of(&[]) } };
        ErrorCode::ALL.len()];
    let mut index = 0;
    while index < all.len() {
        let code = ErrorCode::ALL[index];
        all[index].name = Text::of(&["MEMORA_", code.name()]);
        all[index].text = Text::of(&[code.text()]);
        all[index].remedy = Text::of(&[code.remedy()]);
        index += 1;
    }
    all
}

static TEXTS: [Texts; ErrorCode::ALL.len()] = texts();
static OK: Texts =
    Texts { name: Text::of(&["MEMORA_OK"]), text: Text::of(&["No error."]), remedy: Text::of(&["Go on."]) };
static UNKNOWN: Texts = Texts {
    name: Text::of(&["MEMORA_UNKNOWN"]),
    text: Text::of(&["This is not an error code of this version of Memora."]),
    remedy: Text::of(&["Use the library that the program was built with, or a newer one."]),
};

fn texts_of(code: c_int) -> &'static Texts {
    if code == MEMORA_OK {
        return &OK;
    }
    from_c(code)
        .and_then(|known| ErrorCode::ALL.iter().position(|listed| *listed == known))
        .map_or(&UNKNOWN, |index| &TEXTS[index])
}

const MESSAGE_LEN: usize = 1024;

/// The last error of a thread. Without destructors, so that it serves until the very end of the thread.
struct Last {
    code: Cell<c_int>,
    amount: Cell<u64>,
    /// Whether `message` holds the text of `code` already: the texts of frequent answers are made when asked for.
    ready: Cell<bool>,
    message: Cell<[u8; MESSAGE_LEN]>,
}

thread_local! {
    static LAST: Last = const {
        Last {
            code: Cell::new(MEMORA_OK),
            amount: Cell::new(0),
            ready: Cell::new(false),
            message: Cell::new([0; MESSAGE_LEN]),
        }
    };
}

/// Remembers an error as the thread's last and gives its code.
pub(crate) fn remember(error: &Error) -> c_int {
    let code = to_c(error.code());
    LAST.with(|last| {
        last.code.set(code);
        last.amount.set(error.amount());
        // A constant text costs nothing until somebody asks for it.
        let constant = std::ptr::eq(error.detail(), error.code().text());
        last.ready.set(!constant);
        if !constant {
            last.message.set(cut(&error.to_string()));
        }
    });
    code
}

/// The text with a NUL at its end, cut between two characters where it is too long.
fn cut(text: &str) -> [u8; MESSAGE_LEN] {
    let mut len = text.len().min(MESSAGE_LEN - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    let mut message = [0; MESSAGE_LEN];
    for (place, byte) in message.iter_mut().zip(&text.as_bytes()[..len]) {
        // A NUL inside, from a name that somebody gave, would end the text for C.
        *place = if *byte == 0 { b'?' } else { *byte };
    }
    message
}

/// One sentence that says what `code` means; constant, never NULL, also for a number that is no code. Safe from any
/// thread and in signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn memora_strerror(code: c_int) -> *const c_char {
    texts_of(code).text.as_ptr()
}

/// One sentence that says what to do about `code`; constant, never NULL. Safe from any thread and in signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn memora_error_remedy(code: c_int) -> *const c_char {
    texts_of(code).remedy.as_ptr()
}

/// The name of `code` as this header spells it, such as "MEMORA_CLOSED"; constant, never NULL. Safe from any thread and
/// in signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn memora_error_name(code: c_int) -> *const c_char {
    texts_of(code).name.as_ptr()
}

/// What happened in the last call of this thread that failed, with the values, and the remedy. Never NULL; empty when no
/// call has failed. The text belongs to the library and stays as it is until the next failing call of the same thread;
/// a call that succeeds leaves it alone.
#[unsafe(no_mangle)]
pub extern "C" fn memora_last_error_message() -> *const c_char {
    LAST.with(|last| {
        if !last.ready.replace(true)
            && let Some(code) = from_c(last.code.get())
        {
            last.message.set(cut(&Error::from(code).to_string()));
        }
        last.message.as_ptr().cast_const().cast()
    })
}

/// The code of the last call of this thread that failed; MEMORA_OK when none has.
#[unsafe(no_mangle)]
pub extern "C" fn memora_last_error_code() -> c_int {
    LAST.with(|last| last.code.get())
}

/// The number that belongs to the last error of this thread: for MEMORA_BUFFER_TOO_SMALL the bytes needed, for
/// MEMORA_OVERRUN the messages lost, for MEMORA_STALE the version that the entry has; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn memora_last_error_amount() -> u64 {
    LAST.with(|last| last.amount.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn text(pointer: *const c_char) -> String {
        // SAFETY: the entries under test give texts with a NUL that live as long as the thread.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_constants_are_the_table_of_the_core() {
        let source = include_str!("errors.rs");
        for code in ErrorCode::ALL {
            let expected = format!(
                "/// {}\n/// {}\npub const MEMORA_{}: c_int = {};",
                code.text(),
                code.remedy(),
                code.name(),
                to_c(*code)
            );
            assert!(source.contains(&expected), "errors.rs lacks\n{expected}");
        }
        let constants = source.lines().filter(|line| line.starts_with("pub const MEMORA_")).count();
        // One more is MEMORA_OK.
        assert_eq!(constants, ErrorCode::ALL.len() + 1, "a constant that the table does not have");
    }

    #[test]
    fn every_code_has_its_texts_and_any_other_number_has_some() {
        for code in ErrorCode::ALL {
            assert_eq!(text(memora_strerror(to_c(*code))), code.text());
            assert_eq!(text(memora_error_remedy(to_c(*code))), code.remedy());
            assert_eq!(text(memora_error_name(to_c(*code))), format!("MEMORA_{}", code.name()));
        }
        for number in [0, 1, -1, -4096, -9999, c_int::MIN, c_int::MAX] {
            assert!(!text(memora_strerror(number)).is_empty(), "{number}");
        }
    }

    #[test]
    fn the_message_names_values_and_remedy_and_survives_a_long_text() {
        remember(&Error::with_amount(ErrorCode::BufferTooSmall, 77, "The value has 77 bytes."));
        let message = text(memora_last_error_message());
        assert!(
            message.contains("77 bytes") && message.contains(ErrorCode::BufferTooSmall.remedy()),
            "{message}"
        );
        assert_eq!((memora_last_error_amount(), memora_last_error_code()), (77, MEMORA_BUFFER_TOO_SMALL));
        remember(&Error::from(ErrorCode::Closed));
        assert!(text(memora_last_error_message()).contains(ErrorCode::Closed.remedy()));
        remember(&Error::new(ErrorCode::Io, format!("a\0b{}", "ö".repeat(MESSAGE_LEN))));
        let message = text(memora_last_error_message());
        assert!(message.starts_with("a?bö") && message.len() >= MESSAGE_LEN - 2, "{}", message.len());
    }
}
