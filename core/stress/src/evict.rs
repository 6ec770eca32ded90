//! The worker on three caches that evict: one with a limit of bytes, one with a limit of entries, one that has what is left.
//!
//! The first letter of a key says in which cache it is. A value tells its key, its writer and its number, and the bytes that
//! follow are computed from that: so whoever reads it sees at once whether it is whole. In the history stands only its text.

use std::time::Instant;

use memora::{Cache, CacheOptions, CasOutcome, Entry, Fabric, Result, Version};

use crate::history::{Line, Recorder};
use crate::kv::{Codec, KeyValue, KvClient};
use crate::random::Random;
use crate::{Failure, Options, printable};

/// One of the caches.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The first letter of its keys.
    pub letter: char,
    /// Its name.
    pub name: &'static str,
    /// Its limit of bytes.
    pub limit: Option<u64>,
    /// Its limit of entries.
    pub entries: Option<u64>,
    /// So many keys.
    pub keys: u64,
}

/// The caches.
pub const CACHES: [Place; 3] = [
    Place { letter: 'b', name: "stress-bytes", limit: Some(1 << 20), entries: None, keys: 2_000 },
    Place { letter: 'e', name: "stress-entries", limit: None, entries: Some(500), keys: 2_000 },
    Place { letter: 'a', name: "stress-rest", limit: None, entries: None, keys: 50_000 },
];
/// Keys that are asked for more often than the others.
pub(crate) const HOT: u64 = 16;

/// The values of these workers: the text of the history, a line feed, and bytes computed from the text.
pub const CHECKED: Codec = Codec { encode, decode };

/// Upper bounds of `draw(100)` for each operation.
const OPERATIONS: &[(u64, &str)] =
    &[(30, "get"), (40, "gets"), (75, "set"), (82, "add"), (88, "replace"), (94, "del"), (100, "casv")];

/// Runs the worker until its bound.
pub fn evict(options: &Options) -> Result<(), Failure> {
    let caches = Caches::open(&Fabric::open(&options.fabric)?)?;
    let recorder = Recorder::open(&options.history, &options.seed)?;
    let mut worker = EvictClient::with(caches, recorder, &options.seed);
    let start = Instant::now();
    let mut done = 0;
    while options.goes_on(done, start) {
        done += 1;
        worker.step()?;
    }
    Ok(())
}

/// The three caches, as one object.
#[derive(Clone)]
pub struct Caches([Cache; 3]);

impl Caches {
    /// Opens or makes them.
    pub fn open(fabric: &Fabric) -> Result<Caches> {
        let open = |at: usize| {
            let Place { name, limit, entries, .. } = CACHES[at];
            fabric.cache_with(name, &CacheOptions { limit, entries, ..CacheOptions::default() })
        };
        Ok(Caches([open(0)?, open(1)?, open(2)?]))
    }

    /// In the order of [`CACHES`].
    pub fn each(&self) -> &[Cache; 3] {
        &self.0
    }

    /// The cache of a key.
    pub fn of(&self, key: &[u8]) -> &Cache {
        let at = CACHES.iter().position(|cache| key.first() == Some(&(cache.letter as u8)));
        &self.0[at.expect("a key begins with the letter of a cache")]
    }
}

impl KeyValue for Caches {
    fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>> {
        self.of(key).get_entry(key)
    }
    fn set(&self, key: &[u8], value: &[u8]) -> Result<Version> {
        self.of(key).set(key, value)
    }
    fn add(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
        KeyValue::add(self.of(key), key, value)
    }
    fn replace(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
        KeyValue::replace(self.of(key), key, value)
    }
    fn delete(&self, key: &[u8]) -> Result<bool> {
        self.of(key).delete(key)
    }
    fn compare_and_swap(&self, key: &[u8], value: &[u8], version: Version) -> Result<CasOutcome> {
        KeyValue::compare_and_swap(self.of(key), key, value, version)
    }
    fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
        self.of(key).append(key, bytes)
    }
    fn prepend(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
        self.of(key).prepend(key, bytes)
    }
    fn increment(&self, key: &[u8], by: u64) -> Result<Option<u64>> {
        KeyValue::increment(self.of(key), key, by)
    }
    fn decrement(&self, key: &[u8], by: u64) -> Result<Option<u64>> {
        KeyValue::decrement(self.of(key), key, by)
    }
}

/// A client that does one random operation after the other.
pub struct EvictClient {
    client: KvClient<Caches>,
    random: Random,
    number: u64,
}

impl EvictClient {
    /// A client that writes its questions and answers with `recorder`.
    pub fn with(caches: Caches, recorder: Recorder, seed: &str) -> EvictClient {
        EvictClient {
            client: KvClient::with(caches, recorder, CHECKED),
            random: Random::new(seed),
            number: 0,
        }
    }

    /// One operation. No error is an answer here: what evicts is never full.
    pub fn step(&mut self) -> Result<(), Failure> {
        self.number += 1;
        let line = self.choose();
        if self.client.perform(line)? {
            return Ok(());
        }
        Err(self.client.refusal().cloned().expect("it was refused").into())
    }

    fn choose(&mut self) -> Line {
        let Place { letter, keys, .. } = CACHES[self.random.draw(CACHES.len() as u64) as usize];
        let key = if self.random.draw(4) == 0 { self.random.draw(HOT) } else { self.random.draw(keys) };
        let draw = self.random.draw(100);
        let op = OPERATIONS.iter().find(|&&(bound, _)| draw < bound).expect("the last bound is 100").1;
        let mut line = self.client.line(op, &format!("{letter}{key}"));
        if matches!(line.op.as_str(), "set" | "add" | "replace" | "casv") {
            let len = match () {
                () if self.random.draw(200) == 0 => self.random.draw(150_000),
                () if self.random.draw(8) == 0 => self.random.draw(4_000),
                () => self.random.draw(500),
            };
            line.v = Some(text(&format!("{letter}{key}"), self.client.name(), self.number, len));
        }
        line
    }
}

/// The text of the value with this number of a client, of `len` bytes.
pub(crate) fn text(key: &str, client: &str, number: u64, len: u64) -> String {
    format!("{key}:{client}:{number}:{len}")
}

/// The bytes that follow a text.
fn body(text: &str) -> Option<Vec<u8>> {
    let len: usize = text.rsplit(':').next()?.parse().ok().filter(|len| *len < 1 << 20)?;
    let mut random = Random::new(text);
    let mut body = Vec::with_capacity(len + 8);
    while body.len() < len {
        body.extend_from_slice(&random.word().to_le_bytes());
    }
    body.truncate(len);
    Some(body)
}

fn encode(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(b'\n');
    bytes.extend(body(text).unwrap_or_default());
    bytes
}

fn decode(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let text = printable(&bytes[..end]);
    if bytes.get(end + 1..).is_some_and(|rest| body(&text).as_deref() == Some(rest)) {
        return text;
    }
    format!("torn, of {} bytes: {}", bytes.len(), text.chars().take(100).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_whole_or_not_one_is_told_from_all_that_were_written() {
        let text = "b7:w0-1-2:3:400";
        let whole = encode(text);
        assert_eq!(whole.len(), text.len() + 1 + 400);
        assert_eq!(decode(&whole), text);
        let other = encode("b7:w0-1-2:4:400");
        let mut torn = whole.clone();
        torn[300..].copy_from_slice(&other[300..]);
        let mut flipped = whole.clone();
        flipped[17] ^= 1;
        for bad in [
            &whole[..whole.len() - 1],
            &torn,
            &flipped,
            b"",
            b"b7:w0-1-2:3:400",
            &[whole.clone(), vec![0]].concat(),
        ] {
            assert!(decode(bad).starts_with("torn"), "{}", decode(bad));
        }
    }
}
