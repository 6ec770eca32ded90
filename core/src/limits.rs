//! Every bound of the product, with its unit and the reason for that number.

/// Bytes. The smallest limit of a fabric: its tables and a few chunks.
pub const FABRIC_LIMIT_MIN: u64 = 1 << 20;
/// Bytes. The limit of a fabric when the user names none: fits a container's tmpfs after raising it once.
pub const FABRIC_LIMIT_DEFAULT: u64 = 256 << 20;
/// Bytes. The largest limit: 36-bit offsets in units of 16 bytes.
pub const FABRIC_LIMIT_MAX: u64 = 1 << 40;
/// Bytes of a fabric's or an object's name: it stands in a file name and in one object header.
pub const NAME_LEN_MAX: usize = 64;
/// Attached processes at most; fewer in small fabrics.
pub const PROCESS_COUNT_MAX: u32 = 256;
/// Attached threads at most; fewer in small fabrics. Ids have 12 bits and 0 means none.
pub const THREAD_COUNT_MAX: u32 = 1024;
/// Bytes of a key: the field for its length has 16 bits, and 0 in it stands for this. In a store a record also fits a chunk.
pub const KEY_LEN_MAX: usize = 65_536;
/// Bytes of a chunk that the longest key of a store leaves for the rest of its record.
pub const STORE_KEY_REST: usize = 512;
/// Bytes of a value in a cache: a run of chunks of this length can still be made in a fabric of the default limit.
pub const VALUE_LEN_MAX: u64 = 128 << 20;
/// Milliseconds. No sleep in shared memory is longer than this: a waker may die before it wakes.
pub const WAIT_SLICE_MS: u64 = 50;
