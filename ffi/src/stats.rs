//! Entries that give figures of caches, channels and stores.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use memora_core::{Cache, Channel, Store};

use crate::cache::memora_cache_t;
use crate::channel::memora_channel_t;
use crate::fabric::for_c;
use crate::guard::{Answer, call};
use crate::handles;
use crate::store::memora_store_t;

/// Figures of a cache.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_cache_stats_t {
    /// Entries, expired ones that nobody met since included.
    pub entries: u64,
    /// Bytes of the records of these entries, keys and headers included.
    pub live_bytes: u64,
    /// Bytes of replaced and deleted records that were not yet reclaimed.
    pub dead_bytes: u64,
    /// Bytes of records that the cache may hold now.
    pub capacity_bytes: u64,
    /// Chunks of records.
    pub record_chunks: u64,
    /// Chunks of the index.
    pub index_chunks: u64,
}

/// Figures of a channel.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_channel_stats_t {
    /// Rings that a publisher holds now.
    pub publishers: u64,
    /// Rings, with those of publishers that are gone.
    pub lanes: u64,
    /// Bytes ever published, with headers and padding.
    pub published_bytes: u64,
    /// Subscriptions, named ones that nobody holds included.
    pub subscriptions: u64,
}

/// Figures of a store.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_store_stats_t {
    /// Entries.
    pub entries: u64,
    /// Bytes of live records in memory.
    pub live_bytes: u64,
    /// Flushes that wrote something, by all processes.
    pub flushes: u64,
    /// Records written by flushes.
    pub flushed_records: u64,
    /// Bytes written by flushes.
    pub flushed_bytes: u64,
    /// Bytes of journal since the last checkpoint.
    pub journal_bytes: u64,
    /// Bytes of the last checkpoint.
    pub checkpoint_bytes: u64,
    /// Checkpoints so far, over the life of the files.
    pub checkpoints: u64,
    /// 1 if a failed sync made the store read-only, else 0.
    pub poisoned: u64,
}

// SAFETY: repr(C), six fields of eight bytes.
unsafe impl Answer for memora_cache_stats_t {}
// SAFETY: repr(C), four fields of eight bytes.
unsafe impl Answer for memora_channel_stats_t {}
// SAFETY: repr(C), nine fields of eight bytes.
unsafe impl Answer for memora_store_stats_t {}

/// Takes one subscription of a channel: its name ("" for an anonymous one), whether somebody holds it now (1 or 0), and the
/// bytes that were published and not yet handled by it. The name is valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_subscription_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, name: *const c_char, held: c_int, lag_bytes: u64)>;

/// Fills `stats` with figures of the cache. `struct_size` is sizeof *stats.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_stats(
    cache: *mut memora_cache_t,
    stats: *mut memora_cache_stats_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = handles::with(handles::number(cache), |cache: &Cache| cache.stats())?;
            let figures = memora_cache_stats_t {
                entries: found.entries,
                live_bytes: found.live_bytes,
                dead_bytes: found.dead_bytes,
                capacity_bytes: found.capacity_bytes,
                record_chunks: found.record_chunks,
                index_chunks: found.index_chunks,
            };
            border.put_sized(stats, struct_size, figures)
        })
    }
}

/// Fills `stats` with figures of the channel. `struct_size` is sizeof *stats.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_stats(
    channel: *mut memora_channel_t,
    stats: *mut memora_channel_stats_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = handles::with(handles::number(channel), |channel: &Channel| channel.stats())?;
            let figures = memora_channel_stats_t {
                publishers: found.publishers.into(),
                lanes: found.lanes.into(),
                published_bytes: found.published_bytes,
                subscriptions: found.subscriptions.len() as u64,
            };
            border.put_sized(stats, struct_size, figures)
        })
    }
}

/// Calls `function` for each subscription of the channel. The function may call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_subscriptions(
    channel: *mut memora_channel_t,
    function: memora_subscription_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let found = handles::with(handles::number(channel), |channel: &Channel| channel.stats())?;
            for subscription in &found.subscriptions {
                let name = for_c(&subscription.name);
                // Within the licence above: the caller's function, with a text that lives during the call.
                function(context, name.as_ptr(), subscription.held.into(), subscription.lag_bytes);
            }
            Ok(())
        })
    }
}

/// Fills `stats` with figures of the store. `struct_size` is sizeof *stats.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_stats(
    store: *mut memora_store_t,
    stats: *mut memora_store_stats_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = handles::with(handles::number(store), |store: &Store| store.stats())?;
            let figures = memora_store_stats_t {
                entries: found.entries,
                live_bytes: found.live_bytes,
                flushes: found.flushes,
                flushed_records: found.flushed_records,
                flushed_bytes: found.flushed_bytes,
                journal_bytes: found.journal_bytes,
                checkpoint_bytes: found.checkpoint_bytes,
                checkpoints: found.checkpoints,
                poisoned: found.poisoned.into(),
            };
            border.put_sized(stats, struct_size, figures)
        })
    }
}
