//! Entries that give figures of caches, channels and stores.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

use memora_core::{Cache, Channel, ErrorCode, Store};

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
    /// Keys read that were there, since the cache was made, by all processes, also those that are gone; as all counts here.
    /// Reading by processes that opened the fabric for reading only is not counted.
    pub hits: u64,
    /// Keys read that were not there, or had expired.
    pub misses: u64,
    /// Entries stored, by whatever call.
    pub sets: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Entries evicted from among the young, which were not read often enough.
    pub evicted_small: u64,
    /// Entries evicted from among the old, which were not read any more.
    pub evicted_main: u64,
    /// Expired entries that were removed to make room.
    pub expired: u64,
    /// Flushed entries that were removed to make room.
    pub flushed: u64,
    /// Milliseconds that entries evicted from among the young had been there, as a moving mean; UINT64_MAX before the first.
    pub evicted_small_age_ms: u64,
    /// The same for those evicted from among the old.
    pub evicted_main_age_ms: u64,
    /// Chunks of records that threads append to.
    pub open_chunks: u64,
    /// Chunks of records that are full.
    pub sealed_chunks: u64,
    /// Chunks of records that are being cleaned, or evicted from.
    pub cleaning_chunks: u64,
    /// Chunks that hold nothing any more and wait for views to end.
    pub quiet_chunks: u64,
}

/// What the threads of one process did to a cache since they attached; threads that have ended are not among them.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_process_counts_t {
    /// Its pid in its own PID namespace.
    pub pid: u32,
    /// Threads attached.
    pub threads: u32,
    /// Milliseconds since it attached.
    pub attached_ms: u64,
    /// Keys read that were there.
    pub hits: u64,
    /// Keys read that were not there, or had expired.
    pub misses: u64,
    /// Entries stored.
    pub sets: u64,
    /// Entries deleted.
    pub deletes: u64,
    /// Entries evicted for want of room.
    pub evicted: u64,
    /// Expired entries that were removed to make room.
    pub expired: u64,
}

/// Takes what one process did to a cache, and the first bytes of its command. Both are valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_process_fn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        counts: *const memora_process_counts_t,
        command: *const c_char,
    ),
>;

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
    /// Subscriptions that were taken away because they stood still for too long, or somebody ended them.
    pub ejected: u64,
    /// Of a queue: bytes that were published and not yet taken by anybody, with headers and padding.
    pub waiting_bytes: u64,
    /// Of a queue with acknowledgement: messages that consumers hold, or left and nobody has taken yet.
    pub unacknowledged: u64,
    /// Of a queue with acknowledgement: messages that were delivered again.
    pub redelivered: u64,
    /// Of a queue with acknowledgement: messages that became dead letters.
    pub dead_letters: u64,
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
    /// Bytes of journal since the last checkpoint of a shard.
    pub journal_bytes: u64,
    /// Bytes of the checkpoints that count, one of each shard.
    pub checkpoint_bytes: u64,
    /// Checkpoints of single shards so far, over the life of the files.
    pub checkpoints: u64,
    /// 1 if a failed sync made the store read-only, else 0.
    pub poisoned: u64,
    /// Snapshots that are open.
    pub snapshots: u64,
    /// Snapshots that were cancelled, over the life of the store in memory.
    pub snapshots_cancelled: u64,
    /// For how many milliseconds the oldest snapshot has been open; 0 without any.
    pub snapshot_oldest_ms: u64,
    /// Bytes of memory that would be free without snapshots.
    pub snapshot_bytes: u64,
    /// Shards that the files are divided into; 0 without files.
    pub shards: u64,
}

// SAFETY: repr(C), twenty fields of eight bytes.
unsafe impl Answer for memora_cache_stats_t {}
// SAFETY: repr(C), eight fields of eight bytes.
unsafe impl Answer for memora_channel_stats_t {}
// SAFETY: repr(C), fourteen fields of eight bytes.
unsafe impl Answer for memora_store_stats_t {}

/// Takes one subscription of a channel: its name ("" for an anonymous one), whether somebody holds it now (1 or 0), and the
/// bytes that were published and not yet handled by it. The name is valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_subscription_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, name: *const c_char, held: c_int, lag_bytes: u64)>;

/// Takes one consumer of a queue with acknowledgement: its number, whether a thread holds it now (1 or 0), and the messages that
/// stand in its hand and were not acknowledged.
#[allow(non_camel_case_types)]
pub type memora_consumer_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, consumer: u32, held: c_int, unacknowledged: u64)>;

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
            let memora_core::CacheStats { counts, chunks, .. } = found;
            let figures = memora_cache_stats_t {
                entries: found.entries,
                live_bytes: found.live_bytes,
                dead_bytes: found.dead_bytes,
                capacity_bytes: found.capacity_bytes,
                record_chunks: found.record_chunks,
                index_chunks: found.index_chunks,
                hits: counts.hits,
                misses: counts.misses,
                sets: counts.sets,
                deletes: counts.deletes,
                evicted_small: counts.evicted_small,
                evicted_main: counts.evicted_main,
                expired: counts.expired,
                flushed: counts.flushed,
                evicted_small_age_ms: found.evicted_small_age_ms.unwrap_or(u64::MAX),
                evicted_main_age_ms: found.evicted_main_age_ms.unwrap_or(u64::MAX),
                open_chunks: chunks.open,
                sealed_chunks: chunks.sealed,
                cleaning_chunks: chunks.cleaning,
                quiet_chunks: chunks.quiet,
            };
            border.put_sized(stats, struct_size, figures)
        })
    }
}

/// What to expect of a cache of one size, estimated from a sample of what is read. It is the hit ratio of an LRU cache; what counts is
/// by how much it rises or falls.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_advice_t {
    /// How many times the memory that the cache may use now.
    pub factor: f64,
    /// Bytes of records.
    pub bytes: u64,
    /// Entries of the present mean size that it would hold.
    pub entries: u64,
    /// The part of all reads that would find their key.
    pub hit_ratio: f64,
}

/// Takes what to expect of one size; valid only until the function returns.
#[allow(non_camel_case_types)]
pub type memora_advice_fn =
    Option<unsafe extern "C" fn(context: *mut c_void, advice: *const memora_advice_t)>;

/// Calls `function` for an eighth of the memory that the cache may use, a quarter, and so on up to eight times as much. With thousands
/// of reads in the sample (`*sampled_reads`, may be NULL) the estimates are good to two or three points. The function may call the
/// library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_NOT_FOUND (not enough was read), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_advice(
    cache: *mut memora_cache_t,
    function: memora_advice_fn,
    context: *mut c_void,
    sampled_reads: *mut u64,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = handles::with(handles::number(cache), |cache: &Cache| cache.advice())?;
            let function = border.function(function)?;
            let advice = found.ok_or(ErrorCode::NotFound)?;
            border.put(sampled_reads, advice.sampled_reads);
            for point in &advice.points {
                let point = memora_advice_t {
                    factor: point.factor,
                    bytes: point.bytes,
                    entries: point.entries,
                    hit_ratio: point.hit_ratio,
                };
                // Within the licence above: the caller's function, with what lives during the call.
                function(context, &point);
            }
            Ok(())
        })
    }
}

/// Calls `function` for each attached process, with what it did to the cache. The function may call the library, but not throw or
/// jump out.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_process_counts(
    cache: *mut memora_cache_t,
    function: memora_process_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let found = handles::with(handles::number(cache), |cache: &Cache| cache.process_counts())?;
            let function = border.function(function)?;
            for memora_core::ProcessCounts { process, counts } in &found {
                let counts = memora_process_counts_t {
                    pid: process.pid,
                    threads: process.threads,
                    attached_ms: process.attached_ms,
                    hits: counts.hits,
                    misses: counts.misses,
                    sets: counts.sets,
                    deletes: counts.deletes,
                    evicted: counts.evictions(),
                    expired: counts.expired,
                };
                let command = for_c(&process.command);
                // Within the licence above: the caller's function, with what lives during the call.
                function(context, &counts, command.as_ptr());
            }
            Ok(())
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
            let queue = found.queue.as_ref();
            let figures = memora_channel_stats_t {
                publishers: found.publishers.into(),
                lanes: found.lanes.into(),
                published_bytes: found.published_bytes,
                subscriptions: found.subscriptions.len() as u64,
                ejected: found.ejected,
                waiting_bytes: queue.map_or(0, |queue| queue.waiting_bytes),
                unacknowledged: queue
                    .map_or(0, |queue| queue.consumers.iter().map(|consumer| consumer.unacknowledged).sum()),
                redelivered: queue.map_or(0, |queue| queue.redelivered),
                dead_letters: queue.map_or(0, |queue| queue.dead_letters),
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

/// Calls `function` for each consumer of a queue with acknowledgement; those of other queues leave no trace. The function may
/// call the library, but not throw or jump out.
///
/// Returns MEMORA_OK, MEMORA_WRONG_KIND (the channel is no queue), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
/// MEMORA_CORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_consumers(
    channel: *mut memora_channel_t,
    function: memora_consumer_fn,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe {
        call(|border| {
            let function = border.function(function)?;
            let found = handles::with(handles::number(channel), |channel: &Channel| channel.stats())?;
            let queue = found.queue.ok_or(ErrorCode::WrongKind)?;
            for consumer in &queue.consumers {
                // Within the licence above: the caller's function.
                function(context, consumer.id, consumer.held.into(), consumer.unacknowledged);
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
                snapshots: found.snapshots,
                snapshots_cancelled: found.snapshots_cancelled,
                snapshot_oldest_ms: found.snapshot_oldest_ms,
                snapshot_bytes: found.snapshot_bytes,
                shards: found.shards.into(),
            };
            border.put_sized(stats, struct_size, figures)
        })
    }
}
