//! All arguments, parsed and validated here, before anything is opened.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use memora::limits::{FABRIC_LIMIT_MAX, FABRIC_LIMIT_MIN, KEY_LEN_MAX, NAME_LEN_MAX};
use memora::{FeedFrom, ReadFrom};

/// What every help text ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0  done (also when the reader of our output closed the pipe)
  1  the answer is no: no such key, a problem found by `check` or `doctor`
  2  the arguments are wrong; nothing was opened
  3  it could not be done; the message names the reason and the remedy";

/// Look into shared-memory fabrics, change them, check them.
#[derive(Debug, Parser)]
#[command(name = "memora", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command accepts.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory of the fabrics [default: /dev/shm/memora-<uid>]
    #[arg(long, global = true, env = "MEMORA_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Fabric to work on
    #[arg(long, global = true, default_value = "default", value_name = "NAME", value_parser = name)]
    pub fabric: String,
    /// Limit of the fabric, if this command creates it: 1MiB to 1TiB [default: 256MiB]
    #[arg(long, global = true, value_name = "SIZE", value_parser = limit)]
    pub limit: Option<u64>,
    /// Form of the output
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; values byte for byte
    Text,
    /// One JSON document, or one a line where there may be many
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the fabrics of the home
    Ls,
    /// Show a fabric or one of its objects: sizes, processes, counters
    Stat {
        /// Fabric [default: that of --fabric]
        #[arg(value_parser = name)]
        name: Option<String>,
        /// One object of it
        #[arg(value_parser = name)]
        object: Option<String>,
    },
    /// Print the value of a key of a cache
    Get {
        #[command(flatten)]
        cache: CacheName,
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
    },
    /// Set a key of a cache
    Set {
        #[command(flatten)]
        cache: CacheName,
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
        /// Value, or - to read it from standard input
        value: OsString,
        /// Time to live, such as 500ms, 30s, 5m, 1h [default: for ever]
        #[arg(long, value_parser = ttl)]
        ttl: Option<Duration>,
        /// A number kept with the value
        #[arg(long, default_value_t = 0)]
        flags: u32,
    },
    /// Delete a key of a cache
    Del {
        #[command(flatten)]
        cache: CacheName,
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
    },
    /// Add to a counter of a cache and print the new number
    Incr {
        #[command(flatten)]
        cache: CacheName,
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
        /// How much to add
        #[arg(default_value_t = 1)]
        by: u64,
        /// Subtract instead (stops at 0)
        #[arg(long)]
        down: bool,
        /// Number that a missing counter gets instead [default: a missing counter is refused]
        #[arg(long, value_name = "NUMBER")]
        initial: Option<u64>,
    },
    /// Send messages on a channel, made at its first use
    Send {
        /// Channel
        #[arg(value_parser = name)]
        channel: String,
        /// Message, or - to read it from standard input
        message: OsString,
        /// With -: each line of standard input is one message
        #[arg(long)]
        lines: bool,
        /// Kind of the channel, if this command makes it
        #[arg(long, value_enum, default_value_t = Kind::Broadcast)]
        kind: Kind,
        /// What a full ring does, if this command makes the channel
        #[arg(long, value_enum, default_value_t = WhenFull::Block)]
        when_full: WhenFull,
        /// Bytes of each producer's ring, if this command makes the channel
        #[arg(long, value_name = "SIZE", value_parser = lane_bytes)]
        lane_bytes: Option<u32>,
        #[command(flatten)]
        queue: QueueOptions,
        /// Bytes that a log keeps at most, if this command makes it
        #[arg(long, value_name = "SIZE", value_parser = size)]
        log_bytes: Option<u64>,
        /// Age at which messages of a log are trimmed, if this command makes it
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        log_age: Option<Duration>,
        #[command(flatten)]
        log_files: LogFileOptions,
        /// How long to wait for room
        #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Send a request to a service and print the reply
    Call {
        /// Service
        #[arg(value_parser = name)]
        service: String,
        /// Request, or - to read it from standard input
        request: OsString,
        /// How long to wait for the reply
        #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Print the messages of a channel, from now on or from the place of a named subscription; those of a queue only with --take, those of
    /// a log from any position, of a topic all values first
    Tail {
        /// Channel or topic
        #[arg(value_parser = name)]
        channel: String,
        /// Named subscription, which keeps its place between calls [default: anonymous, from now on]
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: Option<String>,
        /// Of a queue: take the messages, so that no other consumer gets them; acknowledged ones when they are printed
        #[arg(long, conflicts_with = "name")]
        take: bool,
        /// On a log: where to begin, unless the name has a place already
        #[arg(long, value_name = "oldest|newest|POSITION", value_parser = read_from)]
        from: Option<ReadFrom>,
        /// Go on for ever
        #[arg(long, short)]
        follow: bool,
        /// End after so many messages
        #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Without --follow: how long to wait for the next message before ending
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
    /// Print the committed changes of a store that keeps a feed: position, tab, set or del, tab, key, and of a set tab, value
    Feed {
        /// Store
        #[arg(value_parser = name)]
        store: String,
        /// Where to begin: with the oldest change that is kept, with what is flushed from now on, or behind the change of a position
        #[arg(long, value_name = "oldest|newest|POSITION", default_value = "newest", value_parser = feed_from)]
        from: FeedFrom,
        /// Only keys that begin with this
        #[arg(long, value_name = "TEXT", value_parser = KeyParser)]
        prefix: Option<Key>,
        /// Go on for ever
        #[arg(long, short)]
        follow: bool,
        /// End after so many changes
        #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Without --follow: how long to wait for the next change before ending
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
        wait: Duration,
    },
    /// Notify who waits for an event, or wait for it
    Event {
        #[command(subcommand)]
        command: EventCommand,
    },
    /// Print a named counter, after a change or a wait if one is given
    Counter {
        /// Counter
        #[arg(value_parser = name)]
        name: String,
        #[command(flatten)]
        change: CounterChange,
        /// With --wait-at-least: how long; exits with 1 when it is over [default: without end]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "wait_at_least")]
        timeout: Option<Duration>,
    },
    /// Run a program under a named lock and exit as it does; in its environment MEMORA_OWNER_DIED is 1 if an owner died before
    Lock {
        /// Lock
        #[arg(value_parser = name)]
        name: String,
        /// How long to wait for the lock [default: without end]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
        /// Program and its arguments
        #[arg(required = true, last = true)]
        program: Vec<OsString>,
    },
    /// Run a program while holding permits of a named semaphore and exit as it does
    Semaphore {
        /// Semaphore
        #[arg(value_parser = name)]
        name: String,
        /// All permits, if this command makes it, 1 to 32767 [default: it must be there]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=32767))]
        permits: Option<u32>,
        /// Permits that the program needs
        #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32767))]
        count: u32,
        /// How long to wait for them [default: without end]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
        /// Program and its arguments
        #[arg(required = true, last = true)]
        program: Vec<OsString>,
    },
    /// Verify every invariant of a fabric, live or dead; exits with 1 and names what is wrong
    Check {
        /// Fabric [default: that of --fabric]
        #[arg(value_parser = name)]
        name: Option<String>,
        /// Instead: the files of a store or of a backup in this directory, without any fabric
        #[arg(long, value_name = "DIR", conflicts_with = "name")]
        dir: Option<PathBuf>,
    },
    /// Write a backup of a store while everybody goes on using it
    Backup {
        /// Store
        #[arg(value_parser = name)]
        store: String,
        /// Directory, empty or not there; or - for a stream on standard output
        target: PathBuf,
    },
    /// Make a store of a backup, in a directory that a fabric then opens with `memora store --dir`
    Restore {
        /// Directory or file of the backup, or - for a stream on standard input
        source: PathBuf,
        /// Directory of the new store, empty or not there
        target: PathBuf,
        /// Name of the new store [default: that of the store which was backed up]
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: Option<String>,
        /// Replace the store that is in the directory; it stays if the backup is bad
        #[arg(long)]
        overwrite: bool,
    },
    /// Say exactly what is lost of a store whose files are damaged; with --yes, save the rest. Exits with 1 if something is damaged
    Repair {
        /// Directory of the store's files
        dir: PathBuf,
        /// Do it; the originals are kept beside under other names [default: only say what it would do]
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// Only say what it would do, which is the default
        #[arg(long)]
        dry_run: bool,
        /// Name of the store, where its file STORE is damaged
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: Option<String>,
    },
    /// Write all entries of a cache or store as text
    Export {
        /// Cache or store
        #[arg(value_parser = name)]
        object: String,
        /// File, or - for standard output
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Form of the entries [default: csv for a file that ends with .csv, else jsonl]
        #[arg(long = "as", value_enum, value_name = "FORM")]
        form: Option<Form>,
    },
    /// Set the entries that `export` wrote, or anybody in the same form; doing it twice changes nothing
    Import {
        /// Cache or store
        #[arg(value_parser = name)]
        object: String,
        /// File, or - for standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Form of the entries [default: csv for a file that ends with .csv, else jsonl]
        #[arg(long = "as", value_enum, value_name = "FORM")]
        form: Option<Form>,
        /// Directory of the store's files, if this command makes it [default: a new object is a cache]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Remove a fabric; the files of its stores stay
    Rm {
        /// Fabric
        #[arg(value_parser = name)]
        name: String,
        /// Also if processes are attached: they keep what they have mapped, new ones start afresh
        #[arg(long)]
        force: bool,
    },
    /// Say what on this host will hurt, each with its remedy; exits with 1 if something will
    Doctor {
        /// Warnings count as problems
        #[arg(long)]
        strict: bool,
    },
    /// Open or flush a log
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Print entries of a store in the order of their keys: key, tab, value
    Scan {
        /// Store
        #[arg(value_parser = name)]
        store: String,
        #[command(flatten)]
        range: ScanRange,
    },
    /// Read and write a store
    Store {
        #[command(flatten)]
        store: StoreName,
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Do random operations and write their history, for a checker (docs/stress.md); without a bound until killed
    Stress {
        #[command(subcommand)]
        work: Work,
    },
    /// Replay a trace of requests against a cache of its own and print the hit ratio
    Replay {
        #[command(flatten)]
        options: ReplayOptions,
    },
    /// Print the version
    Version,
}

/// What is replayed, and against which cache.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("size").required(true))]
pub struct ReplayOptions {
    /// Trace: the id of an object for each request as a little-endian u32, plain or compressed by zstd
    pub file: PathBuf,
    /// Objects that the cache may hold
    #[arg(long, group = "size", value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=OBJECTS_MAX))]
    pub objects: Option<u64>,
    /// Bytes that the cache may use, instead: records, index and all else
    #[arg(long, group = "size", value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Processes that share the cache and the requests
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=PROCESSES_MAX))]
    pub procs: u32,
    /// Bytes of each value
    #[arg(long, default_value_t = 16, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=VALUE_MAX))]
    pub value_bytes: u32,
    /// Take part in the replay of the process that started this one
    #[arg(long, hide = true)]
    pub helper: bool,
}

/// As many as ids of 32 bits can name.
const OBJECTS_MAX: u64 = 1 << 32;
const PROCESSES_MAX: i64 = 32;
/// What fits a record of the smallest chunks.
const VALUE_MAX: i64 = 8192;

#[derive(Debug, Subcommand)]
pub enum Work {
    /// Random operations on the cache `stress`
    Kv {
        #[command(flatten)]
        options: StressOptions,
    },
    /// Random operations on caches that evict
    Evict {
        #[command(flatten)]
        options: StressOptions,
    },
    /// Messages on the channel `stress`
    Queue {
        #[command(flatten)]
        options: StressOptions,
        /// What to do
        #[arg(long, value_enum, default_value_t = Role::Both)]
        role: Role,
        /// Named subscription [default: anonymous, from now on]
        #[arg(long, value_name = "NAME", value_parser = name)]
        subscription: Option<String>,
    },
    /// Messages on the queue `stress-work`, which are acknowledged, given back or kept
    #[command(name = "work")]
    Jobs {
        #[command(flatten)]
        options: StressOptions,
        /// What to do
        #[arg(long, value_enum, default_value_t = WorkRole::Both)]
        role: WorkRole,
    },
}

/// What a worker on a queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkRole {
    /// Sends and takes
    Both,
    /// Only sends
    Produce,
    /// Only takes
    Consume,
    /// Takes and acknowledges until the queue is empty
    Drain,
}

/// What every stress worker needs.
#[derive(Debug, Args)]
pub struct StressOptions {
    /// Chooses the operations
    #[arg(long, value_name = "TEXT")]
    pub seed: String,
    /// File that the history is appended to
    #[arg(long, value_name = "FILE")]
    pub history: PathBuf,
    /// End after so many operations
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds")]
    pub ops: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
    /// Rest for a millisecond after every so many operations
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub burst: Option<u64>,
}

/// What a worker on a channel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends and receives
    Both,
    /// Only sends
    Produce,
    /// Only receives
    Consume,
}

#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Notify all who wait, and those who begin later with an older sequence
    Notify {
        /// Event
        #[arg(value_parser = name)]
        name: String,
        /// Exactly one wait ends by this, the next that begins if nobody waits
        #[arg(long)]
        one: bool,
    },
    /// Wait until all are notified, or one is, and print the sequence; exits with 1 when the time is over
    Wait {
        /// Event
        #[arg(value_parser = name)]
        name: String,
        /// Sequence that is known already: ends at once if it is older [default: what comes from now on]
        #[arg(long, value_name = "SEQUENCE")]
        seen: Option<u64>,
        /// How long to wait [default: without end]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
}

/// What happens to a counter before it is printed: one of these, or nothing.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct CounterChange {
    /// Add this
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub add: Option<i64>,
    /// Set it to this
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub set: Option<i64>,
    /// Wait until it is this or more
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub wait_at_least: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Print the value of a key
    Get {
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
    },
    /// Set a key
    Set {
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
        /// Value, or - to read it from standard input
        value: OsString,
        /// A number kept with the value
        #[arg(long, default_value_t = 0)]
        flags: u32,
    },
    /// Delete a key
    Del {
        /// Key
        #[arg(value_parser = KeyParser)]
        key: Key,
    },
    /// Wait until everything written so far is on the disk
    Flush,
    /// Write a checkpoint, which lets the old journal go
    Checkpoint,
    /// Print how many shards the files are divided into, or change it, while others read and write
    Shards {
        /// How many from now on, 1 to 64
        #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
        number: Option<u32>,
    },
}

/// Which entries of a store, and which way.
#[derive(Debug, Args)]
pub struct ScanRange {
    /// Only keys that begin with this
    #[arg(long, value_name = "TEXT", value_parser = KeyParser, conflicts_with_all = ["from", "to"])]
    pub prefix: Option<Key>,
    /// From this key on
    #[arg(long, value_name = "KEY", value_parser = KeyParser)]
    pub from: Option<Key>,
    /// Up to this key, without it
    #[arg(long, value_name = "KEY", value_parser = KeyParser)]
    pub to: Option<Key>,
    /// From the greatest key to the least
    #[arg(long)]
    pub reverse: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER")]
    pub count: Option<usize>,
}

/// Which cache.
#[derive(Debug, Args)]
pub struct CacheName {
    /// Cache to work on
    #[arg(long = "cache", default_value = "cache", value_name = "NAME", value_parser = name)]
    pub cache: String,
}

/// Which store.
#[derive(Debug, Args)]
pub struct StoreName {
    /// Store to work on
    #[arg(long = "store", global = true, default_value = "store", value_name = "NAME", value_parser = name)]
    pub store: String,
    /// Directory of its files [default: where it is; a new store without one has none and needs --durability process]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What a change of this command survives
    #[arg(long, global = true, value_enum, default_value_t = Durable::Async)]
    pub durability: Durable,
    /// Keep the keys in order, for `memora scan` [default: as it was made; a new store does not]
    #[arg(long, global = true)]
    pub ordered: bool,
    /// Bytes of old journal to keep for `memora feed`, 0 for no feed [default: as it was said last; a new store keeps none]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub feed_bytes: Option<u64>,
    /// Shards to divide the files of a new store into, 1 to 64 [default: 4]
    #[arg(long, global = true, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: Option<u32>,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durable {
    /// Any process's death
    Process,
    /// Also loss of power, but for the last 100 ms
    Async,
    /// Also loss of power
    Sync,
}

/// What is done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Open a log, made at its first use; with a directory, what its files hold is there again. Prints where it begins and ends
    Open {
        /// Log
        #[arg(value_parser = name)]
        log: String,
        /// What a log does that is full of messages for a named reader
        #[arg(long, value_enum, default_value_t = WhenFull::Overrun)]
        when_full: WhenFull,
        /// Bytes that it keeps in memory at most
        #[arg(long, value_name = "SIZE", value_parser = size)]
        log_bytes: Option<u64>,
        /// Age at which messages are trimmed
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        log_age: Option<Duration>,
        #[command(flatten)]
        files: LogFileOptions,
    },
    /// Wait until every message so far, and the place of each named reader, is on the disk
    Flush {
        /// Log
        #[arg(value_parser = name)]
        log: String,
    },
}

/// Files of a log.
#[derive(Debug, Args)]
pub struct LogFileOptions {
    /// Directory of a log's files, if this command makes it [default: it has none]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// What a message of a log with files survives
    #[arg(long, value_enum, default_value_t = Durable::Async, requires = "log_dir")]
    pub durability: Durable,
    /// Bytes that its files may take [default: only age removes files]
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "log_dir")]
    pub log_dir_bytes: Option<u64>,
    /// Bytes of each of its files [default: 16 MiB]
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "log_dir")]
    pub log_file_bytes: Option<u64>,
}

/// How a queue is made.
#[derive(Debug, Args)]
pub struct QueueOptions {
    /// Messages of a queue are acknowledged: each is delivered at least once, if this command makes the channel
    #[arg(long)]
    pub acknowledge: bool,
    /// How long a consumer may hold a message before others get it too [default: until it dies or leaves]
    #[arg(long, value_name = "TIME", requires = "acknowledge", value_parser = humantime::parse_duration)]
    pub visibility: Option<Duration>,
    /// Where messages go that nobody acknowledged [default: they are delivered until somebody does]
    #[arg(long, value_name = "CHANNEL", requires = "acknowledge", requires = "deliveries", value_parser = name)]
    pub dead_letters: Option<String>,
    /// Deliveries after which they go there
    #[arg(long, value_name = "COUNT", requires = "dead_letters", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub deliveries: Option<u32>,
}

/// Form of exported entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values under a heading
    Csv,
}

/// Kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Many producers, one subscriber
    Stream,
    /// Every message to every subscriber
    Broadcast,
    /// Every message to one of the consumers
    Queue,
    /// One order, kept to be read again
    Log,
}

/// What a producer meets when a subscriber is a whole ring behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// It waits
    Block,
    /// The subscriber loses the oldest messages and is told how many
    Overrun,
}

/// A key: 1 to [`KEY_LEN_MAX`] bytes, of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

#[derive(Clone)]
struct KeyParser;

impl clap::builder::TypedValueParser for KeyParser {
    type Value = Key;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Key, clap::Error> {
        let bytes = value.to_os_string().into_vec();
        if bytes.is_empty() || bytes.len() > KEY_LEN_MAX {
            let text = format!("a key has 1 to {KEY_LEN_MAX} bytes, this one has {}\n", bytes.len());
            return Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).with_cmd(command));
        }
        Ok(Key(bytes))
    }
}

fn name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= NAME_LEN_MAX
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if fits { Ok(text.to_owned()) } else { Err(memora::ErrorCode::InvalidName.remedy().to_owned()) }
}

fn read_from(text: &str) -> Result<ReadFrom, String> {
    match text {
        "oldest" => Ok(ReadFrom::Oldest),
        "newest" => Ok(ReadFrom::Newest),
        _ => text
            .parse()
            .map(ReadFrom::Position)
            .map_err(|_| "oldest, newest or the number of a position".to_owned()),
    }
}

fn feed_from(text: &str) -> Result<FeedFrom, String> {
    match text {
        "oldest" => Ok(FeedFrom::Oldest),
        "newest" => Ok(FeedFrom::Newest),
        _ => text
            .parse()
            .map(FeedFrom::Position)
            .map_err(|_| "oldest, newest or a position as it was printed".to_owned()),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if ttl < Duration::from_millis(1) { Err("at least 1ms".to_owned()) } else { Ok(ttl) }
}

/// A size such as `65536`, `64KiB`, `256MiB` or `1GiB` (also with K, M, G, T alone: powers of 1024).
fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a size such as 65536, 64KiB or 1GiB".to_owned())?;
    let factor = match unit.trim_end_matches("iB") {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1u64 << 40,
        _ => return Err(format!("unknown unit {unit}: use KiB, MiB, GiB or TiB")),
    };
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

fn limit(text: &str) -> Result<u64, String> {
    let limit = size(text)?;
    if (FABRIC_LIMIT_MIN..=FABRIC_LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(format!(
            "a fabric has {} to {}",
            crate::output::bytes(FABRIC_LIMIT_MIN),
            crate::output::bytes(FABRIC_LIMIT_MAX)
        ))
    }
}

fn lane_bytes(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "less than 4GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "K", "1KB", "-1", "1.5M", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_keys_outside_the_bounds_are_refused_before_anything_is_opened() {
        for bad in [
            vec!["memora", "check", "../x"],
            vec!["memora", "check", ".hidden"],
            vec!["memora", "get", ""],
            vec!["memora", "--limit", "1K", "set", "a", "1"],
            vec!["memora", "set", "a", "1", "--ttl", "5"],
            vec!["memora", "tail", "c", "-n", "0"],
            vec!["memora", "tail", "c", "--from", "-1"],
            vec!["memora", "tail", "c", "--from", "first"],
            vec!["memora", "feed", "s", "--from", "7"],
            vec!["memora", "feed", "s", "--from", "7.-1"],
            vec!["memora", "store", "flush", "--feed-bytes", "much"],
        ] {
            assert!(Cli::try_parse_from(&bad).is_err(), "{bad:?}");
        }
        let long = "k".repeat(KEY_LEN_MAX + 1);
        assert!(Cli::try_parse_from(["memora", "get", &long]).is_err());
        assert!(Cli::try_parse_from(["memora", "get", &long[1..]]).is_ok());
    }
}
