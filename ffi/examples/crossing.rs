//! What the border to C costs: get, set and send through Rust and through `libmemora.so`, interleaved, in one process.
//! `cargo build --release -p memora-ffi && cargo run --release -p memora-ffi --example crossing`
//!
//! The library is the one that programs link, loaded from beside this program; both sides use the same fabric, keys and
//! buffers. `crossing count rust|c get|set|send` only performs one of them 100 000 times, for tools that count instructions.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::time::Instant;

use memora_core::{Cache, ChannelOptions, Create, FabricOptions, OverrunPolicy, Publisher};

const VALUE: [u8; 100] = [7; 100];
const TIMES: u32 = 1_000_000;
const ROUNDS: usize = 7;

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Get = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *mut c_void, usize, *mut usize) -> c_int;
type Set = unsafe extern "C" fn(
    *mut c_void,
    *const c_void,
    usize,
    *const c_void,
    usize,
    *const c_void,
    *mut u64,
) -> c_int;
type Open = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type OpenCache = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_void, *mut *mut c_void) -> c_int;

type Send = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *mut u64) -> c_int;
type OpenPublisher = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int;

/// The functions of the C library, and what it has open.
struct Library {
    get: Get,
    set: Set,
    send: Send,
    cache: *mut c_void,
    publisher: *mut c_void,
}

impl Library {
    fn open(file: PathBuf, fabric: &str, cache: &str, channel: &str) -> Library {
        let text = |text: &str| CString::new(text).expect("no NUL in a name");
        // SAFETY: the library stays loaded; the types of the functions are those of memora.h.
        unsafe {
            let library = dlopen(text(file.to_str().expect("UTF-8")).as_ptr(), 2);
            assert!(!library.is_null(), "{} cannot be loaded: build it first", file.display());
            let symbol = |name: &str| {
                let symbol = dlsym(library, text(name).as_ptr());
                assert!(!symbol.is_null(), "{name} is missing");
                symbol
            };
            let open: Open = std::mem::transmute(symbol("memora_fabric_open"));
            let open_cache: OpenCache = std::mem::transmute(symbol("memora_cache_open"));
            let (mut opened, mut place) = (std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(open(text(fabric).as_ptr(), &mut opened), 0);
            assert_eq!(open_cache(opened, text(cache).as_ptr(), std::ptr::null(), &mut place), 0);
            let open_publisher: OpenPublisher = std::mem::transmute(symbol("memora_publisher_open"));
            let open_channel: OpenCache = std::mem::transmute(symbol("memora_channel_open"));
            let (mut lanes, mut publisher) = (std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(open_channel(opened, text(channel).as_ptr(), std::ptr::null(), &mut lanes), 0);
            assert_eq!(open_publisher(lanes, &mut publisher), 0);
            Library {
                get: std::mem::transmute::<*mut c_void, Get>(symbol("memora_cache_get")),
                set: std::mem::transmute::<*mut c_void, Set>(symbol("memora_cache_set")),
                send: std::mem::transmute::<*mut c_void, Send>(symbol("memora_publisher_try_send")),
                cache: place,
                publisher,
            }
        }
    }

    #[inline]
    fn get(&self, key: &[u8; 16], buffer: &mut [u8; 128]) -> usize {
        let mut len = 0;
        // SAFETY: pointers with their lengths.
        let result = unsafe {
            (self.get)(
                self.cache,
                key.as_ptr().cast(),
                16,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut len,
            )
        };
        assert_eq!(result, 0);
        len
    }

    #[inline]
    fn set(&self, key: &[u8; 16]) -> u64 {
        let mut version = 0;
        let (key, value) = (key.as_ptr().cast(), VALUE.as_ptr().cast());
        // SAFETY: pointers with their lengths.
        let result =
            unsafe { (self.set)(self.cache, key, 16, value, VALUE.len(), std::ptr::null(), &mut version) };
        assert_eq!(result, 0);
        version
    }
}

impl Library {
    #[inline]
    fn send(&self) -> u64 {
        let mut position = 0;
        // SAFETY: pointers with their lengths.
        let result = unsafe { (self.send)(self.publisher, VALUE.as_ptr().cast(), 56, &mut position) };
        assert_eq!(result, 0);
        position
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * bound) >> 32
    }
}

#[inline]
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key-000000000000";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Bytes whose number the compiler does not know, as it cannot know it in the library.
#[inline]
fn of_any_length(bytes: &[u8]) -> &[u8] {
    std::hint::black_box(bytes)
}

/// Nanoseconds of one of so many calls, with keys that are the same for every case.
fn time(times: u32, keys: u64, mut call: impl FnMut(&[u8; 16]) -> u64) -> f64 {
    let mut random = Random(keys);
    let start = Instant::now();
    let mut sum = 0u64;
    for _ in 0..times {
        sum = sum.wrapping_add(call(&key(random.below(keys))));
    }
    std::hint::black_box(sum);
    start.elapsed().as_nanos() as f64 / f64::from(times)
}

/// What both sides work on.
struct Both {
    cache: Cache,
    publisher: Publisher,
    library: Library,
}

fn perform(side: &str, what: &str, times: u32, keys: u64, both: &mut Both) -> f64 {
    let Both { cache, publisher, library } = both;
    let mut buffer = [0u8; 128];
    match (side, what) {
        ("rust", "get") => time(times, keys, |key| {
            cache.get_into(of_any_length(key), &mut buffer).expect("get").expect("an entry") as u64
        }),
        ("c", "get") => time(times, keys, |key| library.get(key, &mut buffer) as u64),
        ("rust", "set") => {
            time(times, keys, |key| cache.set(of_any_length(key), of_any_length(&VALUE)).expect("set").0)
        }
        ("c", "set") => time(times, keys, |key| library.set(key)),
        ("rust", "send") => {
            time(times, keys, |_| publisher.try_send(of_any_length(&VALUE[..56])).expect("send"))
        }
        ("c", "send") => time(times, keys, |_| library.send()),
        ("none", _) => time(times, keys, |key| u64::from(std::hint::black_box(key)[15])),
        _ => panic!("rust or c; get, set or send; not {side} {what}"),
    }
}

/// Measures both sides on one fabric, or performs what is counted.
fn compare(keys: u64, arguments: &[String]) {
    let home = PathBuf::from(format!("/dev/shm/memora-crossing-{}", std::process::id()));
    // SAFETY: no other thread runs. The library opens its fabric in the same place.
    unsafe { std::env::set_var("MEMORA_HOME", &home) };
    let options = FabricOptions::new().limit(1 << 30).create(Create::CreateNew);
    let fabric = options.open("crossing").expect("a fabric");
    let cache = fabric.cache("cache").expect("a cache");
    (0..keys).for_each(|number| _ = cache.set(&key(number), &VALUE).expect("set"));
    let program = std::env::current_exe().expect("a program");
    let built = program.parent().and_then(|examples| examples.parent()).expect("a directory");
    // Nobody subscribes, and nobody is waited for: this is what a publisher pays.
    let options = ChannelOptions { overrun: OverrunPolicy::Overrun, ..ChannelOptions::default() };
    let publisher = fabric.channel("channel", &options).expect("a channel").publisher().expect("a publisher");
    let library = Library::open(built.join("libmemora.so"), "crossing", "cache", "channel");
    let mut both = Both { cache, publisher, library };
    if let [count, side, what] = arguments {
        assert_eq!(count, "count", "crossing [count none|rust|c get|set|send]");
        perform(side, what, 100_000, keys, &mut both);
    } else {
        for what in ["get", "set", "send"] {
            let mut best = [f64::MAX; 2];
            for _ in 0..ROUNDS {
                for (place, side) in ["rust", "c"].into_iter().enumerate() {
                    best[place] = best[place].min(perform(side, what, TIMES, keys, &mut both));
                }
            }
            let [rust, c] = best;
            println!(
                "{what}, {keys} keys of 16 B, values of 100 B, messages of 56 B, best of {ROUNDS}: Rust {rust:.1} ns, C {c:.1} ns"
            );
        }
    }
    drop((both, fabric));
    let _ = std::fs::remove_dir_all(&home);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    compare(10_000, &arguments);
    if arguments.is_empty() {
        compare(100_000, &arguments);
    }
}
