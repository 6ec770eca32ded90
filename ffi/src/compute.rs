//! Making a value once for all who ask for it, and serving what is out of date meanwhile.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::{Mutex, PoisonError};

use memora_core::{Cache, ErrorCode, Lease, MetaEntry, Result, Token};

use crate::cache::memora_cache_t;
use crate::channel::{deadline, slice};
use crate::entries::{on, span};
use crate::guard::call;
use crate::handles;
use crate::options::{self, memora_set_options_t};
use crate::view::{Looked, memora_view_t};

/// The entry was invalidated: its value is out of date.
pub const MEMORA_ENTRY_STALE: u32 = 1;
/// The caller is the one who makes the value anew, and nobody else is told so.
pub const MEMORA_ENTRY_WON: u32 = 2;
/// Somebody else was told to make the value anew.
pub const MEMORA_ENTRY_TAKEN: u32 = 4;

/// The right to make the value of a key that is missing. Use it up with memora_token_fill() or memora_token_abandon(). It ends with
/// the thread that asked for it, and with its process: then the next who asks makes the value.
#[allow(non_camel_case_types)]
pub struct memora_token_t {
    _opaque: [u8; 0],
}

/// A token behind a handle.
pub(crate) struct TokenHandle {
    cache: Cache,
    token: Mutex<Option<Token>>,
}

impl TokenHandle {
    fn take(&self) -> Result<Token> {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.take().ok_or_else(|| ErrorCode::Closed.into())
    }

    /// The next who asks gets the right.
    pub(crate) fn end(&self) -> Result<()> {
        self.take().map_or(Ok(()), |token| self.cache.abandon(token))
    }
}

/// Asks for the value of `key`, or for the right to make it: of all threads of all processes that ask, one gets the right, and the
/// others wait for its value, `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all.
///
/// On success one of the two is a new handle, and the other one NULL: `*view`, with a copy of the entry, to be released with
/// memora_view_release(); or `*token`: make the value, then call memora_token_fill(). Who waits goes on at once when the key is set,
/// when the right is given up, and when the thread or process that has it ends. Of an entry that was invalidated the first who asks
/// gets the right, the others what is out of date.
/// Returns MEMORA_OK, MEMORA_TIMED_OUT (who makes the value lives and is not ready), MEMORA_BUSY (that is this very thread),
/// MEMORA_KEY_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_lease(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    timeout_ms: i64,
    view: *mut *mut memora_view_t,
    token: *mut *mut memora_token_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            border.wanted(token, "token")?;
            border.put(token, std::ptr::null_mut());
            border.open_some(view, || {
                let key = border.key(span(key, key_len))?;
                let deadline = deadline(timeout_ms);
                loop {
                    let wait = if timeout_ms == 0 { None } else { slice(deadline) };
                    // A handle anew for each slice: a close by another thread ends the wait.
                    let asked = handles::with(handles::number(cache), |cache: &Cache| {
                        cache.lease(key, wait.unwrap_or_default()).map(|lease| (lease, cache.clone()))
                    });
                    match asked {
                        Ok((Lease::Found(entry), _)) => return Ok(Some(Looked::Own(entry, 0))),
                        Ok((Lease::Compute(taken), cache)) => {
                            border
                                .open(token, || Ok(TokenHandle { cache, token: Mutex::new(Some(taken)) }))?;
                            return Ok(None);
                        }
                        Err(error) if error.code() == ErrorCode::TimedOut && wait.is_some() => {}
                        Err(error) => return Err(error),
                    }
                }
            })
        })
    }
}

/// Stores the value that a token is for, and uses the token up, also when this fails: then the next who asks makes the value.
/// `options` (time to live, flags) may be NULL, `version` too.
///
/// Returns what memora_cache_set() does, or MEMORA_STALE: the right was lost, because the key was set, deleted or flushed meanwhile,
/// or the thread that asked ended and another one took over; nothing was stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_token_fill(
    token: *mut memora_token_t,
    value: *const c_void,
    value_len: usize,
    options: *const memora_set_options_t,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let number = handles::number(token);
            let stored = handles::with(number, |token: &TokenHandle| {
                let taken = token.take()?;
                let value = border.value(span(value, value_len))?;
                token.cache.fill(taken, value, &options::set(border, options)?)
            });
            // Of no use any more, whatever came of it. A number that is no token's has said so above.
            let _ = handles::close::<TokenHandle>(number);
            border.put(version, stored?.ok_or(ErrorCode::Stale)?.0);
            Ok(())
        })
    }
}

/// Gives the right up: the next who asks, or one who waits, gets it. NULL is allowed and does nothing.
///
/// Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_token_abandon(token: *mut memora_token_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { call(|_| handles::close::<TokenHandle>(handles::number(token))) }
}

/// Marks an entry as out of date: it may be shown for `stale_for_ms` milliseconds more (0: as long as it would have lived), and the
/// first who asks by memora_cache_get_meta() or memora_cache_lease() is told to make it anew. It gets a new version, so that what was
/// made from the old one cannot be stored by a swap. `*version` (may be NULL) becomes it.
///
/// Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_invalidate(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    stale_for_ms: u64,
    version: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let marked = cache.invalidate(border.key(span(key, key_len))?, options::ttl(stale_for_ms))?;
            border.put(version, marked.ok_or(ErrorCode::NotFound)?.0);
            Ok(())
        })
    }
}

/// Gets the entry of `key`, and whether the caller is to make it anew: the first who sees it when it is out of date, or when it has
/// less than `recache_below_ms` milliseconds to live (0: that does not count). Everybody gets the value. Who makes it anew sets it,
/// best by memora_cache_compare_and_swap() with the version of the view.
///
/// On success `*view` is a new handle with a copy, to be released; else it is NULL. The marks of its entry, see memora_view_bytes(),
/// are those of MEMORA_ENTRY_*.
/// Returns what memora_cache_view() does, or MEMORA_NO_SPACE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_get_meta(
    cache: *mut memora_cache_t,
    key: *const c_void,
    key_len: usize,
    recache_below_ms: u64,
    view: *mut *mut memora_view_t,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        on(cache, |border, cache: &Cache| {
            let key = border.key(span(key, key_len))?;
            border.open(view, || {
                let found =
                    cache.get_meta(key, options::ttl(recache_below_ms))?.ok_or(ErrorCode::NotFound)?;
                let MetaEntry { entry, stale, won, taken } = found;
                let mark = |holds: bool, mark: u32| if holds { mark } else { 0 };
                let marks = mark(stale, MEMORA_ENTRY_STALE)
                    | mark(won, MEMORA_ENTRY_WON)
                    | mark(taken, MEMORA_ENTRY_TAKEN);
                Ok(Looked::Own(entry, marks))
            })
        })
    }
}

/// Empties the cache at one moment, however many entries there are. Their room is taken back when it is needed.
///
/// Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_flush(cache: *mut memora_cache_t) -> c_int {
    // SAFETY: the handle is a number, nothing is read through it.
    unsafe { on(cache, |_, cache: &Cache| cache.flush().map(|_| ())) }
}
