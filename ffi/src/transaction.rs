//! Entries of transactions of stores.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use memora_core::{Cache, ErrorCode, Outbox, Result, Store, Transaction, Version, retry_conflicts};

use crate::cache::{memora_cache_t, memora_entry_fn, memora_entry_t};
use crate::entries::{self, on, put_entry, span, there_was};
use crate::errors::{MEMORA_CONFLICT, MEMORA_OK};
use crate::exclusive::Exclusive;
use crate::guard::call;
use crate::handles::{self, Kind};
use crate::options::{self, memora_set_options_t};
use crate::outbox::memora_outbox_t;
use crate::store::memora_store_t;

/// A transaction of a store: several reads and changes that take effect as one, or not at all. Begin it with
/// memora_transaction_begin(), end it with memora_transaction_commit() or memora_transaction_abort(). For one thread at a time:
/// another one is answered MEMORA_BUSY.
#[allow(non_camel_case_types)]
pub struct memora_transaction_t {
    _opaque: [u8; 0],
}

/// Does the reads and changes of a transaction, and gives MEMORA_OK for its commit, MEMORA_CONFLICT to be called again with a new
/// one, or any other code to give it up.
#[allow(non_camel_case_types)]
pub type memora_transaction_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, transaction: *mut memora_transaction_t) -> c_int>;

/// A transaction behind a handle, until its commit takes it.
pub(crate) struct TransactionHandle {
    transaction: Exclusive<Option<Transaction>>,
}

impl TransactionHandle {
    fn new(transaction: Transaction) -> TransactionHandle {
        TransactionHandle { transaction: Exclusive::new(Some(transaction)) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Transaction) -> Result<R>) -> Result<R> {
        self.transaction
            .with("transaction", |transaction| f(transaction.as_mut().ok_or(ErrorCode::Closed)?))
    }

    /// Takes the transaction out, to be committed by one alone.
    fn take(&self) -> Result<Transaction> {
        self.transaction.with("transaction", |transaction| Ok(transaction.take().ok_or(ErrorCode::Closed)?))
    }

    /// Gives the transaction up.
    pub(crate) fn end(&self) -> Result<()> {
        self.transaction.close();
        Ok(())
    }
}

/// Ends the use of a handle and gives its transaction.
fn taken(handle: usize) -> Result<Transaction> {
    let transaction = handles::with(handle, TransactionHandle::take)?;
    // Another thread may have closed it just now, which is no matter: the transaction is ours.
    let _ = handles::close::<TransactionHandle>(handle);
    Ok(transaction)
}

/// Begins a transaction of `store`, with the durability of that handle. It holds nothing that others wait for.
///
/// What it reads is proved when it commits: until then it may see one key before and another one after the change of somebody
/// else. It cannot commit then.
/// On success `*transaction` is a new handle, to be ended with memora_transaction_commit() or memora_transaction_abort(); else it is
/// NULL. When the store is closed its calls are answered MEMORA_CLOSED, and it is still to be ended.
/// Returns MEMORA_OK, MEMORA_FULL (all handles of the process are open), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_begin(
    store: *mut memora_store_t,
    transaction: *mut *mut memora_transaction_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.open(transaction, || {
                handles::with(handles::number(store), Store::transaction).map(TransactionHandle::new)
            })
        })
    }
}

/// Copies the value of `key` into `buffer`, which has room for `capacity` bytes: what the transaction itself has put, or what the
/// store has.
///
/// `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The second
/// call finds the same value, or answers MEMORA_CONFLICT.
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer is unchanged),
/// MEMORA_CONFLICT (the key was read before and has changed since), MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_get(
    transaction: *mut memora_transaction_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { get(transaction, (key, key_len), (buffer, capacity), len, std::ptr::null_mut()) }
}

/// As memora_transaction_get(), and tells the version, the flags and the rest of the time to live in `*entry`. The version of what
/// the transaction itself has put is 0.
///
/// Returns what memora_transaction_get() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_get_entry(
    transaction: *mut memora_transaction_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { get(transaction, (key, key_len), (buffer, capacity), len, entry) }
}

unsafe fn get(
    transaction: *mut memora_transaction_t,
    key: (*const c_void, usize),
    buffer: (*mut c_void, usize),
    len: *mut usize,
    entry: *mut memora_entry_t,
) -> c_int {
    // SAFETY: what the caller of this says.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let key = border.key(span(key.0, key.1))?;
            let buffer = border.buffer(buffer.0, buffer.1, "buffer")?;
            let found = handle.with(|transaction| transaction.get_entry(key))?;
            put_entry(border, found, buffer, len, entry)
        })
    }
}

/// Calls `function` for the entries whose keys lie between `from` and `to`, as memora_store_range() does, but as this transaction sees
/// them, with its own changes among them. When it commits it is proved that no entry came into the part that was visited, or left it.
///
/// All entries are read before the first call of the function, which may also use this transaction.
/// Returns MEMORA_OK, MEMORA_NOT_ORDERED, MEMORA_CONFLICT (a key was read before and has changed since),
/// MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_range(
    transaction: *mut memora_transaction_t,
    from: *const c_void,
    from_len: usize,
    to: *const c_void,
    to_len: usize,
    flags: u32,
    limit: usize,
    function: memora_entry_fn,
    context: *mut c_void,
    more: *mut c_int,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        entries::range(transaction, function, context, more, |border, handle: &TransactionHandle, found| {
            let range = border.range(span(from, from_len), span(to, to_len), flags)?;
            let mut entries = Vec::new();
            let last = handle.with(|transaction| {
                transaction.range(range.from, range.to, range.direction, limit, |key, entry| {
                    entries.push((key.to_vec(), entry.clone()));
                })
            })?;
            entries.iter().for_each(|(key, entry)| found(key, entry));
            Ok(last)
        })
    }
}

/// Puts `value` under `key` when the transaction commits; from now on its own reads see it. `options` (time to live, which begins
/// with the commit, and flags) may be NULL. The bytes are copied.
///
/// An error leaves the transaction as it was.
/// Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY,
/// MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_put(
    transaction: *mut memora_transaction_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let options = options::set(border, options)?;
            let (key, value) = (border.key(span(key, key_len))?, border.value(span(value, value_len))?);
            handle.with(|transaction| transaction.put_with(key, value, &options))
        })
    }
}

/// Deletes the entry under `key` when the transaction commits. This reads the key.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (there is nothing to delete, as the transaction sees it), MEMORA_TRANSACTION_TOO_LARGE,
/// MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_delete(
    transaction: *mut memora_transaction_t,
    key: *const c_void,
    key_len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let key = border.key(span(key, key_len))?;
            there_was(handle.with(|transaction| transaction.delete(key))?)
        })
    }
}

/// Refuses to go on unless the entry under `key` has this version in the store now, and to commit unless it still has. `version`
/// points to what memora_store_get_entry() or a write gave; NULL: there must be no entry.
///
/// Returns MEMORA_OK, MEMORA_CONFLICT (it is another one), MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
/// MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_expect(
    transaction: *mut memora_transaction_t,
    key: *const c_void,
    key_len: usize,
    version: *const u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let key = border.key(span(key, key_len))?;
            let version = match version.is_null() {
                true => None,
                false => border.elements(version, 1, "version")?.first().copied().map(Version),
            };
            handle.with(|transaction| transaction.expect(key, version))
        })
    }
}

/// Sends `message` with the commit: subscribers get it when the transaction commits, and never if it does not. The messages of one
/// outbox come in the order in which they were published, all or none, also if the process dies meanwhile; together they may take
/// what one message may. The bytes are copied.
///
/// An error leaves the transaction as it was.
/// Returns MEMORA_OK, MEMORA_VALUE_TOO_LONG (also of all messages of the outbox together), MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY,
/// MEMORA_INVALID_ARGUMENT (also if the channel is of another fabric than the store, or of another opening of it), MEMORA_CLOSED
/// (the transaction or the outbox), MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_publish(
    transaction: *mut memora_transaction_t,
    outbox: *mut memora_outbox_t,
    message: *const c_void,
    message_len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let message = border.bytes(message, message_len, "message")?;
            handles::with(handles::number(outbox), |outbox: &Outbox| {
                handle.with(|transaction| transaction.publish(outbox, message))
            })
        })
    }
}

/// Sets the entry under `key` of a cache of the same fabric, which was made with `transactions`, when the transaction commits. The
/// transaction does not read caches: what is there is replaced. `options` may be NULL. The bytes are copied.
///
/// An error leaves the transaction as it was.
/// Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT
/// (also for a cache of another fabric, or that was made without `transactions`), MEMORA_CLOSED (the transaction or the cache),
/// MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_cache_set(
    transaction: *mut memora_transaction_t,
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let options = options::set(border, options)?;
            let (key, value) = (border.key(span(key, key_len))?, border.value(span(value, value_len))?);
            handles::with(handles::number(cache), |cache: &Cache| {
                handle.with(|transaction| transaction.cache_set(cache, key, value, &options))
            })
        })
    }
}

/// Deletes the entry under `key` of a cache when the transaction commits, whether it is there or not: what others put there meanwhile
/// goes as well, and leases end, because it may be made of what this transaction changes.
///
/// Returns what memora_transaction_cache_set() does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_cache_delete(
    transaction: *mut memora_transaction_t,
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(transaction, |border, handle: &TransactionHandle| {
            let key = border.key(span(key, key_len))?;
            handles::with(handles::number(cache), |cache: &Cache| {
                handle.with(|transaction| transaction.cache_delete(cache, key))
            })
        })
    }
}

/// Makes the commit as durable as `durability`, one of MEMORA_DURABILITY_*, whatever the handle of the store says.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (also for a store without files that cannot be so), MEMORA_BUSY, MEMORA_CLOSED,
/// MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_set_durability(
    transaction: *mut memora_transaction_t,
    durability: u32,
) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe {
        on(transaction, |_, handle: &TransactionHandle| {
            let durability = options::durability(durability, 0)?;
            handle.with(|transaction| transaction.set_durability(durability))
        })
    }
}

/// Makes all changes take effect at one moment, or none of them, and ends the transaction: whatever this answers but MEMORA_BUSY, the
/// handle is closed, and memora_transaction_abort() with it does nothing more than to answer MEMORA_CLOSED. With durability sync the
/// changes are on the disk when it answers MEMORA_OK. It never waits for subscribers.
///
/// Returns MEMORA_OK, MEMORA_CONFLICT (another has changed what was read, or was in the way: begin a new transaction with what is there
/// now), MEMORA_BACK_PRESSURE (a subscriber is behind and there is no room for a message: nothing was done), MEMORA_FULL,
/// MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_POISONED, MEMORA_IO, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_commit(transaction: *mut memora_transaction_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| taken(handles::number(transaction))?.commit()) }
}

/// Gives the transaction up and closes the handle; nothing of it was done. NULL is allowed and does nothing.
///
/// Returns MEMORA_OK, MEMORA_CLOSED (also after a commit), MEMORA_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_transaction_abort(transaction: *mut memora_transaction_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<TransactionHandle>(handles::number(transaction))) }
}

/// Calls `function` with a transaction of `store` and commits it if the function gives MEMORA_OK; does both again, from the start
/// with a new transaction, as long as the function or the commit answers MEMORA_CONFLICT, and lets the others go first each time. So
/// the function should do nothing else than to read and change the store through the transaction. Any other code of the function gives
/// the transaction up and is the answer.
///
/// The transaction ends with the call: the function neither commits nor keeps it. If it aborts it, nothing is done and the answer
/// is MEMORA_CLOSED. The function may call the library, but not throw or jump out.
/// Returns what memora_transaction_begin() and memora_transaction_commit() do, and what the function gives. MEMORA_CONFLICT: the others
/// were in the way each of 1000 times.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_transact(
    store: *mut memora_store_t,
    function: memora_transaction_fn,
    context: *mut c_void,
) -> c_int {
    let mut given = MEMORA_OK;
    // SAFETY: the pointers are those of a caller who keeps to the header.
    let done = unsafe {
        on(store, |border, store: &Store| {
            let function = border.function(function)?;
            retry_conflicts(|| {
                let handle = handles::insert(TransactionHandle::new(store.transaction()?).into_object())?;
                // Within the licence above: the caller's function.
                given = function(context, handles::pointer(handle));
                let transaction = taken(handle);
                // A thread that the function left inside finishes its call with a transaction that nobody commits.
                let _ = handles::close::<TransactionHandle>(handle);
                match given {
                    MEMORA_OK => transaction?.commit(),
                    MEMORA_CONFLICT => Err(ErrorCode::Conflict.into()),
                    _ => Ok(()),
                }
            })
        })
    };
    if done == MEMORA_OK { given } else { done }
}
