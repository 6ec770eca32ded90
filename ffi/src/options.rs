//! The structures of options and what fills them with defaults.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::path::PathBuf;
use std::time::Duration;

use memora_core as core;
use memora_core::{Error, ErrorCode, Result};

use crate::guard::{Border, Options, call};

/// Backend of a fabric: a file in the home directory (the default).
pub const MEMORA_BACKEND_FILE: u32 = 0;
/// Backend of a fabric: POSIX shared memory (shm_open).
pub const MEMORA_BACKEND_POSIX: u32 = 1;
/// Backend of a fabric: System V shared memory (shmget).
pub const MEMORA_BACKEND_SYSV: u32 = 2;
/// Backend of a fabric: sealed anonymous memory, handed over as a descriptor (memfd_create).
pub const MEMORA_BACKEND_MEMFD: u32 = 3;
/// Backend of a fabric: private memory of this process.
pub const MEMORA_BACKEND_HEAP: u32 = 4;

/// Open the fabric, or create it if there is none (the default).
pub const MEMORA_OPEN_OR_CREATE: u32 = 0;
/// Create the fabric; MEMORA_ALREADY_EXISTS if there is one.
pub const MEMORA_CREATE_NEW: u32 = 1;
/// Open the fabric; MEMORA_NOT_FOUND if there is none.
pub const MEMORA_OPEN_ONLY: u32 = 2;

/// A full cache takes new entries and gives up what is least likely to be asked for again (the default).
pub const MEMORA_WHEN_FULL_EVICT: u32 = 0;
/// A full cache answers MEMORA_FULL: nothing is lost that was not deleted and has not expired.
pub const MEMORA_WHEN_FULL_REJECT: u32 = 1;

/// Numbers of a counter: 0 to 2^64 - 1; counting beyond is MEMORA_COUNTER_OVERFLOW, counting down stops at 0 (the default).
pub const MEMORA_COUNTER_UNSIGNED: u32 = 0;
/// Numbers of a counter: those of memcached: 0 to 2^64 - 1, counting up begins again at 0, counting down stops at 0.
pub const MEMORA_COUNTER_WRAPPING: u32 = 1;
/// Numbers of a counter: those of Redis: -2^63 to 2^63 - 1; leaving them is MEMORA_COUNTER_OVERFLOW.
pub const MEMORA_COUNTER_SIGNED: u32 = 2;

/// No group: the fabric belongs to the user alone.
pub const MEMORA_NO_GROUP: u32 = 0xffff_ffff;

/// No change feed: old journal is not kept for one any more.
pub const MEMORA_NO_FEED: u64 = 0xffff_ffff_ffff_ffff;

/// Kind of a channel: many publishers, and each message goes to the subscriber (one at a time).
pub const MEMORA_CHANNEL_STREAM: u32 = 0;
/// Kind of a channel: each message goes to every subscriber (the default).
pub const MEMORA_CHANNEL_BROADCAST: u32 = 1;

/// Kind of a channel: each message goes to one of the consumers, see memora_consumer_open().
pub const MEMORA_CHANNEL_QUEUE: u32 = 2;

/// A publisher whose ring is full waits, or is refused, until the subscribers have read (the default).
pub const MEMORA_OVERRUN_BLOCK: u32 = 0;
/// A publisher never waits: a subscriber that is too slow loses messages, and is told how many.
pub const MEMORA_OVERRUN_LOSE: u32 = 1;

/// What an answer of the store survives: the death of any process, not that of the host.
pub const MEMORA_DURABILITY_PROCESS: u32 = 0;
/// What an answer of the store survives: as process, and that of the host but for the last `interval_ms` (the default).
pub const MEMORA_DURABILITY_ASYNC: u32 = 1;
/// What an answer of the store survives: the death of the host; the answer waits for the disk.
pub const MEMORA_DURABILITY_SYNC: u32 = 2;

/// Options of a fabric. Fill it with memora_fabric_options_init(), then change what you want.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_fabric_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// Bytes that the fabric may take at most, at creation. 0: 256 MiB.
    pub limit: u64,
    /// Directory of the fabric's file. NULL: $MEMORA_HOME, or else /dev/shm/memora-<uid>.
    pub home: *const c_char,
    /// Permission bits at creation, such as 0660. 0: only the user.
    pub mode: u32,
    /// Group at creation, or MEMORA_NO_GROUP.
    pub group: u32,
    /// One of MEMORA_BACKEND_*.
    pub backend: u32,
    /// One of MEMORA_OPEN_OR_CREATE, MEMORA_CREATE_NEW, MEMORA_OPEN_ONLY.
    pub create: u32,
    /// Not 0: the fabric can be read only.
    pub read_only: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of a cache. Fill it with memora_cache_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_cache_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// Bytes that the cache may take at most, its index included. 0: what the fabric has and nobody else needs.
    pub limit: u64,
    /// The most entries. 0: any number.
    pub entries: u64,
    /// One of MEMORA_WHEN_FULL_*.
    pub when_full: u32,
    /// Not 0: what happens to entries is told to those who listen, see memora_events_open().
    pub events: u32,
    /// Not 0: transactions of stores may change it. Each entry takes 24 bytes more.
    pub transactions: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// How memora_cache_count() counts. Fill it with memora_counter_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_counter_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// What a missing entry is set to, if `create` is not 0; for a signed counter an int64_t cast to uint64_t.
    pub initial: u64,
    /// Milliseconds after which an entry that is made so expires. 0: never.
    pub ttl_ms: u64,
    /// One of MEMORA_COUNTER_*.
    pub kind: u32,
    /// Not 0: counts down.
    pub down: u32,
    /// Not 0: a missing entry is set to `initial`, to which nothing is added. 0: it is MEMORA_NOT_FOUND.
    pub create: u32,
    /// Not 0: an entry that is there gets `ttl_ms` as well, instead of keeping its own time.
    pub renew_ttl: u32,
}

/// Options of one write to a cache or store. Fill it with memora_set_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_set_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// Milliseconds after which the entry expires. 0: never.
    pub ttl_ms: u64,
    /// A number of yours that is kept with the entry.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of a channel. Fill it with memora_channel_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_channel_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// One of MEMORA_CHANNEL_*.
    pub kind: u32,
    /// One of MEMORA_OVERRUN_*.
    pub overrun: u32,
    /// Bytes of the ring of each publisher. 0: the default.
    pub lane_bytes: u32,
    /// Not 0: a queue whose messages are acknowledged, so that each is delivered at least once. 0: at most once.
    pub acknowledge: u32,
    /// With `acknowledge`: milliseconds that a consumer may hold a message before others get it too. 0: until it dies or closes.
    pub visibility_ms: u32,
    /// With `acknowledge`: deliveries after which a message that was not acknowledged goes to `dead_letters`: 1 to 1000. 0: it is
    /// delivered until somebody acknowledges it.
    pub deliveries_max: u32,
    /// With `deliveries_max`: the channel that such messages are sent to, made as a queue with acknowledgement if there is none.
    pub dead_letters: *const c_char,
    /// Of a stream or broadcast that blocks: milliseconds that a subscription may stand still while a publisher waits for it; then it is
    /// taken away, and its holder is answered MEMORA_EJECTED. 0: publishers wait for ever.
    pub eject_after_ms: u32,
    /// Not 0: each message bears the time at which it was sent, which takes 8 more bytes and the reading of a clock.
    pub timestamps: u32,
}

/// Options of a log. Fill it with memora_log_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_log_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// Bytes that the log takes at most: a power of two from 256 KiB to 1 GiB. 0: 16 MiB. Longer messages than a 128th part take
    /// chunks of the fabric besides: as many bytes again are kept of them, or one.
    pub bytes: u64,
    /// Milliseconds after which a message is trimmed. 0: only for want of room.
    pub age_ms: u64,
    /// One of MEMORA_OVERRUN_*: with MEMORA_OVERRUN_BLOCK nothing is trimmed that a named reader has still to read. The default
    /// is MEMORA_OVERRUN_LOSE.
    pub overrun: u32,
    /// What messages survive that are appended through this handle: one of MEMORA_DURABILITY_*; for a log with files. The default is
    /// MEMORA_DURABILITY_ASYNC.
    pub durability: u32,
    /// Directory of files that hold the messages too, of this log alone. NULL: the log is in memory only.
    pub dir: *const c_char,
    /// Bytes that the files may take: then the oldest one is removed. 0: only `age_ms` removes files.
    pub file_bytes_max: u64,
    /// Bytes of each file. 0: the default.
    pub file_bytes: u64,
    /// With MEMORA_DURABILITY_ASYNC: milliseconds between two syncs. 0: the default.
    pub interval_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Options of a store. Fill it with memora_store_options_init().
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct memora_store_options_t {
    /// Bytes of this structure in the calling program; set by the init function.
    pub struct_size: usize,
    /// Directory of the store's files. NULL: the one that the store was made with; a new store needs one, unless its
    /// durability is MEMORA_DURABILITY_PROCESS.
    pub dir: *const c_char,
    /// Bytes of journal after which a checkpoint is made. 0: the default.
    pub checkpoint_bytes: u64,
    /// One of MEMORA_DURABILITY_*.
    pub durability: u32,
    /// With MEMORA_DURABILITY_ASYNC: milliseconds between two syncs. 0: the default.
    pub interval_ms: u32,
    /// 1: the store keeps its keys in order, for memora_store_range(). 0: as it was made; a new store then does not.
    pub ordered: u32,
    /// Shards that the files of a new store are divided into, 1 to 64. 0: 4. A store whose files say how many there are keeps that
    /// number: memora_store_set_shards() changes it.
    pub shards: u32,
    /// Bytes of old journal that are kept for memora_store_feed(), which then has every committed change. 0: as the directory says,
    /// which remembers it; a new one keeps none. MEMORA_NO_FEED: none any more.
    pub feed_bytes: u64,
}

macro_rules! options {
    ($type:ident, $default:expr) => {
        // SAFETY: repr(C), `struct_size` first, only integers and raw pointers; the fields fill the structure, which the
        // test `no_structure_of_options_has_padding` adds up.
        unsafe impl Options for $type {
            const DEFAULT: $type = $default;
            const NAME: &'static str = stringify!($type);
        }
    };
}

options!(
    memora_fabric_options_t,
    memora_fabric_options_t {
        struct_size: size_of::<memora_fabric_options_t>(),
        limit: 0,
        home: std::ptr::null(),
        mode: 0,
        group: MEMORA_NO_GROUP,
        backend: MEMORA_BACKEND_FILE,
        create: MEMORA_OPEN_OR_CREATE,
        read_only: 0,
        reserved: 0,
    }
);
options!(
    memora_cache_options_t,
    memora_cache_options_t {
        struct_size: size_of::<memora_cache_options_t>(),
        limit: 0,
        entries: 0,
        when_full: MEMORA_WHEN_FULL_EVICT,
        events: 0,
        transactions: 0,
        reserved: 0,
    }
);
options!(
    memora_counter_options_t,
    memora_counter_options_t {
        struct_size: size_of::<memora_counter_options_t>(),
        initial: 0,
        ttl_ms: 0,
        kind: MEMORA_COUNTER_UNSIGNED,
        down: 0,
        create: 0,
        renew_ttl: 0,
    }
);
options!(
    memora_set_options_t,
    memora_set_options_t { struct_size: size_of::<memora_set_options_t>(), ttl_ms: 0, flags: 0, reserved: 0 }
);
options!(
    memora_channel_options_t,
    memora_channel_options_t {
        struct_size: size_of::<memora_channel_options_t>(),
        kind: MEMORA_CHANNEL_BROADCAST,
        overrun: MEMORA_OVERRUN_BLOCK,
        lane_bytes: 0,
        acknowledge: 0,
        visibility_ms: 0,
        deliveries_max: 0,
        dead_letters: std::ptr::null(),
        eject_after_ms: 0,
        timestamps: 0,
    }
);
options!(
    memora_log_options_t,
    memora_log_options_t {
        struct_size: size_of::<memora_log_options_t>(),
        bytes: 0,
        age_ms: 0,
        overrun: MEMORA_OVERRUN_LOSE,
        durability: MEMORA_DURABILITY_ASYNC,
        dir: std::ptr::null(),
        file_bytes_max: 0,
        file_bytes: 0,
        interval_ms: 0,
        reserved: 0,
    }
);
options!(
    memora_store_options_t,
    memora_store_options_t {
        struct_size: size_of::<memora_store_options_t>(),
        dir: std::ptr::null(),
        checkpoint_bytes: 0,
        durability: MEMORA_DURABILITY_ASYNC,
        interval_ms: 0,
        ordered: 0,
        shards: 0,
        feed_bytes: 0,
    }
);

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_fabric_options_init(
    options: *mut memora_fabric_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_cache_options_init(
    options: *mut memora_cache_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_counter_options_init(
    options: *mut memora_counter_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_set_options_init(
    options: *mut memora_set_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_channel_options_init(
    options: *mut memora_channel_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_log_options_init(
    options: *mut memora_log_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

/// Fills `options` with the defaults. `struct_size` is sizeof *options.
///
/// Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memora_store_options_init(
    options: *mut memora_store_options_t,
    struct_size: usize,
) -> c_int {
    // SAFETY: the pointers are those of a caller who keeps to the header.
    unsafe { call(|border| border.init_options(options, struct_size)) }
}

pub(crate) fn unknown(what: &str, value: u32) -> Error {
    Error::new(ErrorCode::InvalidArgument, format!("{value} is no {what} of this version of the library."))
}

pub(crate) fn zero(reserved: u32) -> Result<()> {
    if reserved == 0 { Ok(()) } else { Err(unknown("value of `reserved`", reserved)) }
}

/// The builder that the options of a fabric stand for.
pub(crate) fn fabric(
    border: &Border,
    options: *const memora_fabric_options_t,
) -> Result<core::FabricOptions> {
    let options = border.options(options)?;
    zero(options.reserved)?;
    let mut builder = core::FabricOptions::new();
    if options.limit != 0 {
        builder = builder.limit(options.limit);
    }
    if options.mode != 0 {
        builder = builder.mode(options.mode);
    }
    if options.group != MEMORA_NO_GROUP {
        builder = builder.group(options.group);
    }
    if let Some(home) = border.optional_text(options.home, "home")? {
        builder = builder.home(PathBuf::from(home));
    }
    builder = builder.backend(match options.backend {
        MEMORA_BACKEND_FILE => core::Backend::File,
        MEMORA_BACKEND_POSIX => core::Backend::Posix,
        MEMORA_BACKEND_SYSV => core::Backend::SysV,
        MEMORA_BACKEND_MEMFD => core::Backend::Memfd,
        MEMORA_BACKEND_HEAP => core::Backend::Heap,
        other => return Err(unknown("backend", other)),
    });
    builder = builder.create(match options.create {
        MEMORA_OPEN_OR_CREATE => core::Create::OpenOrCreate,
        MEMORA_CREATE_NEW => core::Create::CreateNew,
        MEMORA_OPEN_ONLY => core::Create::OpenOnly,
        other => return Err(unknown("way to create", other)),
    });
    Ok(builder.read_only(options.read_only != 0))
}

/// The options of a cache.
pub(crate) fn cache(border: &Border, options: *const memora_cache_options_t) -> Result<core::CacheOptions> {
    let options = border.options(options)?;
    zero(options.reserved)?;
    Ok(core::CacheOptions {
        limit: (options.limit != 0).then_some(options.limit),
        entries: (options.entries != 0).then_some(options.entries),
        when_full: match options.when_full {
            MEMORA_WHEN_FULL_EVICT => core::WhenFull::Evict,
            MEMORA_WHEN_FULL_REJECT => core::WhenFull::Reject,
            other => return Err(unknown("answer to a full cache", other)),
        },
        events: options.events != 0,
        transactions: options.transactions != 0,
    })
}

/// How a counter counts.
pub(crate) fn counter(
    border: &Border,
    by: u64,
    options: *const memora_counter_options_t,
) -> Result<core::Counter> {
    let options = border.options(options)?;
    Ok(core::Counter {
        kind: match options.kind {
            MEMORA_COUNTER_UNSIGNED => core::CounterKind::Unsigned,
            MEMORA_COUNTER_WRAPPING => core::CounterKind::Wrapping,
            MEMORA_COUNTER_SIGNED => core::CounterKind::Signed,
            other => return Err(unknown("kind of counter", other)),
        },
        down: options.down != 0,
        by,
        initial: (options.create != 0).then_some(options.initial),
        ttl_ms: ttl(options.ttl_ms),
        renew_ttl: options.renew_ttl != 0,
    })
}

/// A time to live; 0 is none.
pub(crate) fn ttl(ttl_ms: u64) -> Option<u64> {
    (ttl_ms != 0).then_some(ttl_ms)
}

/// The options of one write.
pub(crate) fn set(border: &Border, options: *const memora_set_options_t) -> Result<core::SetOptions> {
    if options.is_null() {
        return Ok(core::SetOptions::default());
    }
    let options = border.options(options)?;
    zero(options.reserved)?;
    Ok(core::SetOptions { ttl_ms: ttl(options.ttl_ms), flags: options.flags })
}

/// An overrun policy by its number.
pub(crate) fn overrun(number: u32) -> Result<core::OverrunPolicy> {
    match number {
        MEMORA_OVERRUN_BLOCK => Ok(core::OverrunPolicy::Block),
        MEMORA_OVERRUN_LOSE => Ok(core::OverrunPolicy::Overrun),
        other => Err(unknown("overrun policy", other)),
    }
}

/// The options of a channel.
pub(crate) fn channel(
    border: &Border,
    options: *const memora_channel_options_t,
) -> Result<core::ChannelOptions> {
    let options = border.options(options)?;
    let default = core::ChannelOptions::default();
    Ok(core::ChannelOptions {
        kind: match options.kind {
            MEMORA_CHANNEL_STREAM => core::ChannelKind::Stream,
            MEMORA_CHANNEL_BROADCAST => core::ChannelKind::Broadcast,
            MEMORA_CHANNEL_QUEUE => core::ChannelKind::Queue,
            other => return Err(unknown("kind of channel", other)),
        },
        overrun: overrun(options.overrun)?,
        lane_bytes: if options.lane_bytes == 0 { default.lane_bytes } else { options.lane_bytes },
        acknowledge: acknowledge(border, &options)?,
        eject_after: (options.eject_after_ms != 0)
            .then(|| Duration::from_millis(options.eject_after_ms.into())),
        timestamps: options.timestamps != 0,
        ..default
    })
}

/// How the messages of a queue are acknowledged.
fn acknowledge(border: &Border, options: &memora_channel_options_t) -> Result<Option<core::Acknowledge>> {
    let letters = border.optional_text(options.dead_letters, "dead_letters")?;
    let wrong = |text: &str| Err(Error::new(ErrorCode::InvalidArgument, text));
    let dead_letters = match (options.deliveries_max, letters) {
        (0, None) => None,
        (after, Some(channel)) if after != 0 => {
            Some(core::DeadLetters { after, channel: channel.to_owned() })
        }
        _ => return wrong("`deliveries_max` and `dead_letters` belong together: set both, or none."),
    };
    if options.acknowledge != 0 {
        let visibility =
            (options.visibility_ms != 0).then(|| Duration::from_millis(options.visibility_ms.into()));
        return Ok(Some(core::Acknowledge { visibility, dead_letters }));
    }
    if options.visibility_ms != 0 || dead_letters.is_some() {
        return wrong("`visibility_ms` and `dead_letters` need `acknowledge`.");
    }
    Ok(None)
}

/// Milliseconds between two syncs when the caller names none.
const INTERVAL_MS_DEFAULT: u32 = 100;

/// A durability by its number.
pub(crate) fn durability(number: u32, interval_ms: u32) -> Result<core::Durability> {
    match number {
        MEMORA_DURABILITY_PROCESS => Ok(core::Durability::Process),
        MEMORA_DURABILITY_ASYNC => {
            let interval_ms = if interval_ms == 0 { INTERVAL_MS_DEFAULT } else { interval_ms };
            Ok(core::Durability::Async { interval_ms: interval_ms.into() })
        }
        MEMORA_DURABILITY_SYNC => Ok(core::Durability::Sync),
        other => Err(unknown("durability", other)),
    }
}

/// The options of a log.
pub(crate) fn log(border: &Border, options: *const memora_log_options_t) -> Result<core::ChannelOptions> {
    let mut retention = core::Retention::default();
    let (mut overrun, mut files) = (core::OverrunPolicy::Overrun, None);
    if !options.is_null() {
        let options = border.options(options)?;
        zero(options.reserved)?;
        if options.bytes != 0 {
            retention.bytes = options.bytes;
        }
        retention.age = (options.age_ms != 0).then(|| Duration::from_millis(options.age_ms));
        overrun = self::overrun(options.overrun)?;
        files = log_files(border, &options)?;
    }
    let (kind, retention) = (core::ChannelKind::Log, Some(retention));
    Ok(core::ChannelOptions { kind, overrun, retention, files, ..core::ChannelOptions::default() })
}

fn log_files(border: &Border, options: &memora_log_options_t) -> Result<Option<core::LogFiles>> {
    let durability = durability(options.durability, options.interval_ms)?;
    let Some(dir) = border.optional_text(options.dir, "dir")? else {
        if options.file_bytes_max != 0 || options.file_bytes != 0 || options.interval_ms != 0 {
            let text = "`file_bytes_max`, `file_bytes` and `interval_ms` need `dir`.";
            return Err(Error::new(ErrorCode::InvalidArgument, text));
        }
        return Ok(None);
    };
    let mut files = core::LogFiles { durability, ..core::LogFiles::new(dir) };
    files.bytes = (options.file_bytes_max != 0).then_some(options.file_bytes_max);
    if options.file_bytes != 0 {
        files.file_bytes = options.file_bytes;
    }
    Ok(Some(files))
}

/// The options of a store.
pub(crate) fn store(border: &Border, options: *const memora_store_options_t) -> Result<core::StoreOptions> {
    let options = border.options(options)?;
    let default = core::StoreOptions::default();
    Ok(core::StoreOptions {
        dir: border.optional_text(options.dir, "dir")?.map(PathBuf::from),
        durability: durability(options.durability, options.interval_ms)?,
        checkpoint_bytes: match options.checkpoint_bytes {
            0 => default.checkpoint_bytes,
            bytes => bytes,
        },
        ordered: match options.ordered {
            0 => None,
            1 => Some(true),
            other => return Err(unknown("value of `ordered`", other)),
        },
        feed_bytes: match options.feed_bytes {
            0 => None,
            MEMORA_NO_FEED => Some(0),
            bytes => Some(bytes),
        },
        shards: (options.shards != 0).then_some(options.shards),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_structure_of_options_has_padding() {
        assert_eq!(size_of::<memora_fabric_options_t>(), 3 * 8 + 6 * 4);
        assert_eq!(size_of::<memora_cache_options_t>(), 3 * 8 + 4 * 4);
        assert_eq!(size_of::<memora_counter_options_t>(), 3 * 8 + 4 * 4);
        assert_eq!(size_of::<memora_set_options_t>(), 2 * 8 + 2 * 4);
        assert_eq!(size_of::<memora_channel_options_t>(), 2 * 8 + 8 * 4);
        assert_eq!(size_of::<memora_log_options_t>(), 6 * 8 + 4 * 4);
        assert_eq!(size_of::<memora_store_options_t>(), 4 * 8 + 4 * 4);
    }

    fn on_border<R>(body: impl FnOnce(&Border) -> Result<R>) -> Result<R> {
        let mut result = Err(ErrorCode::Internal.into());
        // SAFETY: the tests give pointers to their own variables.
        unsafe {
            call(|border| {
                result = body(border);
                Ok(())
            })
        };
        result
    }

    #[test]
    fn a_program_that_knows_fewer_options_gets_the_defaults_for_the_rest() {
        let mut old = <memora_set_options_t as Options>::DEFAULT;
        old.struct_size = 16;
        old.ttl_ms = 5;
        old.flags = 99;
        let made = on_border(|border| set(border, &old)).unwrap();
        assert_eq!((made.ttl_ms, made.flags), (Some(5), 0), "flags stand beyond the size that was said");
    }

    #[test]
    fn a_program_that_knows_more_options_is_refused_only_if_it_uses_them() {
        #[repr(C)]
        struct Newer {
            known: memora_set_options_t,
            unknown: u64,
        }
        let mut newer = Newer { known: <memora_set_options_t as Options>::DEFAULT, unknown: 0 };
        newer.known.struct_size = size_of::<Newer>();
        let pointer = (&raw const newer).cast();
        assert!(on_border(|border| set(border, pointer)).is_ok());
        newer.unknown = 1;
        let pointer = (&raw const newer).cast();
        let error = on_border(|border| set(border, pointer)).map(drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported);
    }

    #[test]
    fn the_init_function_fills_what_the_program_has_and_no_more() {
        let mut bytes = [0xAAu64; 6];
        let pointer = bytes.as_mut_ptr().cast::<memora_set_options_t>();
        // SAFETY: the array has 48 bytes.
        assert_eq!(unsafe { memora_set_options_init(pointer, 16) }, 0);
        assert_eq!(bytes, [16, 0, 0xAA, 0xAA, 0xAA, 0xAA]);
        // SAFETY: as above.
        assert_eq!(unsafe { memora_set_options_init(pointer, 40) }, 0);
        assert_eq!(bytes, [40, 0, 0, 0, 0, 0xAA]);
    }

    #[test]
    fn a_structure_that_was_not_filled_is_refused() {
        for size in [0, 7, 5000, usize::MAX] {
            let mut raw = <memora_set_options_t as Options>::DEFAULT;
            raw.struct_size = size;
            let error = on_border(|border| set(border, &raw)).map(drop).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{size}");
        }
    }
}
