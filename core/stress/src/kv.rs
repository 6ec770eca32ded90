//! The worker on the cache `stress`, and the client that records what it asks of any cache or store.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use memora::{
    Cache, CacheOptions, CasOutcome, Entry, Error, ErrorCode, Fabric, Result, SetOptions, Store, Version,
    WhenFull,
};

use crate::history::{Line, Out, Recorder, monotonic_ns};
use crate::random::Random;
use crate::{CACHE, Failure, Options, is_refusal, printable};

/// Runs the worker until its bound.
pub fn kv(options: &Options) -> Result<(), Failure> {
    let recorder = Recorder::open(&options.history, &options.seed)?;
    let cache = kept_cache(&Fabric::open(&options.fabric)?)?;
    let mut worker =
        Worker { client: KvClient::with(cache, recorder, PLAIN), random: Random::new(&options.seed) };
    let start = Instant::now();
    let mut done = 0;
    while options.goes_on(done, start) {
        done += 1;
        let line = worker.choose(done);
        worker.client.perform(line)?;
    }
    Ok(())
}

/// The cache that the workers share. It evicts nothing: every answer must follow from what was stored.
pub fn kept_cache(fabric: &Fabric) -> Result<Cache> {
    fabric.cache_with(CACHE, &CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() })
}

/// What a cache and a store have in common.
pub trait KeyValue {
    /// The entry of a key.
    fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>>;
    /// Stores.
    fn set(&self, key: &[u8], value: &[u8]) -> Result<Version>;
    /// Stores if there is no entry.
    fn add(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>>;
    /// Stores if there is an entry.
    fn replace(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>>;
    /// Deletes.
    fn delete(&self, key: &[u8]) -> Result<bool>;
    /// Stores if the entry has that version.
    fn compare_and_swap(&self, key: &[u8], value: &[u8], version: Version) -> Result<CasOutcome>;
    /// Puts bytes behind the value.
    fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>>;
    /// Puts bytes in front of the value.
    fn prepend(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>>;
    /// Counts up.
    fn increment(&self, key: &[u8], by: u64) -> Result<Option<u64>>;
    /// Counts down.
    fn decrement(&self, key: &[u8], by: u64) -> Result<Option<u64>>;
}

macro_rules! key_value {
    ($($object:ty),*) => { $(
        impl KeyValue for $object {
            fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>> {
                self.get_entry(key)
            }
            fn set(&self, key: &[u8], value: &[u8]) -> Result<Version> {
                self.set(key, value)
            }
            fn add(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
                self.add(key, value, &SetOptions::default())
            }
            fn replace(&self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
                self.replace(key, value, &SetOptions::default())
            }
            fn delete(&self, key: &[u8]) -> Result<bool> {
                self.delete(key)
            }
            fn compare_and_swap(&self, key: &[u8], value: &[u8], version: Version) -> Result<CasOutcome> {
                self.compare_and_swap(key, value, version, &SetOptions::default())
            }
            fn append(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
                self.append(key, bytes)
            }
            fn prepend(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Version>> {
                self.prepend(key, bytes)
            }
            fn increment(&self, key: &[u8], by: u64) -> Result<Option<u64>> {
                self.increment(key, by, None)
            }
            fn decrement(&self, key: &[u8], by: u64) -> Result<Option<u64>> {
                self.decrement(key, by, None)
            }
        }
    )* };
}

key_value!(Cache, Store);

/// How values stand in the history and in the cache.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// From the text in the history to the bytes that are stored.
    pub encode: fn(&str) -> Vec<u8>,
    /// Back; what cannot be right becomes a text that nobody wrote.
    pub decode: fn(&[u8]) -> String,
}

/// Values are the texts themselves.
pub const PLAIN: Codec = Codec { encode: |text| text.as_bytes().to_vec(), decode: printable };

/// A client that records each question and answer.
#[derive(Debug)]
pub struct KvClient<K> {
    object: K,
    recorder: Recorder,
    codec: Codec,
    /// The version that the latest `gets` of a key saw.
    versions: HashMap<String, Version>,
    /// The value that the latest read of a key saw.
    values: HashMap<String, String>,
    refusal: Option<Error>,
}

impl<K: KeyValue> KvClient<K> {
    /// A client on `object` that appends to the history in `path`.
    pub fn open(object: K, path: &Path, name: &str, codec: Codec) -> std::io::Result<KvClient<K>> {
        Ok(KvClient::with(object, Recorder::open(path, name)?, codec))
    }

    /// A client that writes with `recorder`.
    pub fn with(object: K, recorder: Recorder, codec: Codec) -> KvClient<K> {
        KvClient { object, recorder, codec, versions: HashMap::new(), values: HashMap::new(), refusal: None }
    }

    /// The client's name in the history.
    pub fn name(&self) -> &str {
        self.recorder.client()
    }

    /// An operation on a key, to be completed with its arguments and given to [`KvClient::perform`].
    ///
    /// A `casv` without a version that this client knows, and a `cas` without a value that it knows, become a `gets`.
    pub fn line(&self, op: &str, key: &str) -> Line {
        let (known, value) = (self.versions.get(key), self.values.get(key));
        let unknown = op == "casv" && known.is_none() || op == "cas" && value.is_none();
        let op = if unknown { "gets" } else { op };
        let mut line = Line::new(self.name(), op);
        line.k = Some(key.to_string());
        if op == "casv" {
            line.tok = known.map(|version| version.0);
        }
        if op == "cas" {
            line.exp = value.cloned();
        }
        line
    }

    /// Asks and records. True if it was answered, false if it was refused with one of the expected errors.
    pub fn perform(&mut self, line: Line) -> Result<bool, Failure> {
        self.record(line, KvClient::call)
    }

    /// Records a question and the answer that `call` completes it with. True if it was answered, false if it was refused with one
    /// of the expected errors.
    pub fn record(
        &mut self,
        line: Line,
        call: impl FnOnce(&mut KvClient<K>, &mut Line) -> Result<(), Error>,
    ) -> Result<bool, Failure> {
        let mut line = self.recorder.ask(line)?;
        let answer = call(self, &mut line);
        let t1 = monotonic_ns();
        if let Err(error) = &answer {
            line.ok = Some(false);
            line.err = Some(error.code().name().to_string());
        }
        self.recorder.answer(line, t1)?;
        match answer {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(error.code()) => {
                self.refusal = Some(error);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What it works on.
    pub fn object(&self) -> &K {
        &self.object
    }

    /// Why the latest refused operation was refused.
    pub fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }

    fn call(&mut self, line: &mut Line) -> Result<(), Error> {
        let key = line.k.clone().unwrap_or_default();
        let key_bytes = key.as_bytes();
        let value = line.v.as_deref().map(self.codec.encode).unwrap_or_default();
        let by = line.by.unwrap_or_default();
        match line.op.as_str() {
            "get" => {
                if let Some(entry) = self.object.get_entry(key_bytes)? {
                    line.out = Some(self.seen(&key, &entry));
                }
            }
            "gets" => {
                if let Some(entry) = self.object.get_entry(key_bytes)? {
                    line.out = Some(self.seen(&key, &entry));
                    line.tok = Some(entry.version.0);
                    self.versions.insert(key, entry.version);
                }
            }
            "set" => {
                self.object.set(key_bytes, &value)?;
                line.ok = Some(true);
            }
            "add" => line.ok = Some(self.object.add(key_bytes, &value)?.is_some()),
            "replace" => line.ok = Some(self.object.replace(key_bytes, &value)?.is_some()),
            "append" => line.ok = Some(self.object.append(key_bytes, &value)?.is_some()),
            "prepend" => line.ok = Some(self.object.prepend(key_bytes, &value)?.is_some()),
            "cas" => {
                let expected = line.exp.as_deref().map(self.codec.encode).unwrap_or_default();
                line.ok = Some(self.compare_values(key_bytes, &expected, &value)?);
            }
            "del" => line.ok = Some(self.object.delete(key_bytes)?),
            "casv" => {
                let version = Version(line.tok.unwrap_or_default());
                let outcome = self.object.compare_and_swap(key_bytes, &value, version)?;
                line.ok = Some(matches!(outcome, CasOutcome::Stored(_)));
            }
            "incr" | "decr" => {
                let answer = if line.op == "incr" {
                    self.object.increment(key_bytes, by)
                } else {
                    self.object.decrement(key_bytes, by)
                };
                match answer {
                    Ok(number) => line.out = number.map(Out::Number),
                    Err(error)
                        if matches!(error.code(), ErrorCode::NotANumber | ErrorCode::CounterOverflow) => {}
                    Err(error) => return Err(error),
                }
            }
            other => unreachable!("{other} is no operation of a worker"),
        }
        Ok(())
    }
}

impl<K: KeyValue> KvClient<K> {
    /// The text of a value that was read.
    pub fn text(&self, value: &[u8]) -> String {
        (self.codec.decode)(value)
    }

    /// The bytes of a text.
    pub fn bytes(&self, text: &str) -> Vec<u8> {
        (self.codec.encode)(text)
    }

    /// Remembers a value that was read.
    fn seen(&mut self, key: &str, entry: &Entry) -> Out {
        let text = (self.codec.decode)(&entry.value);
        self.values.insert(key.to_string(), text.clone());
        Out::Text(text)
    }

    /// Stores if the entry has a certain value: the version that it was seen with is that of this value.
    fn compare_values(&self, key: &[u8], expected: &[u8], value: &[u8]) -> Result<bool> {
        loop {
            let Some(entry) = self.object.get_entry(key)?.filter(|entry| entry.value == expected) else {
                return Ok(false);
            };
            match self.object.compare_and_swap(key, value, entry.version)? {
                CasOutcome::Stored(_) => return Ok(true),
                CasOutcome::NotFound => return Ok(false),
                // Somebody else stored something, maybe the same value: each round is his success.
                CasOutcome::Stale(_) => {}
            }
        }
    }
}

struct Worker {
    client: KvClient<Cache>,
    random: Random,
}

/// Upper bounds of `draw(100)` for each operation.
const TEXT: &[(u64, &str)] = &[
    (22, "get"),
    (36, "gets"),
    (54, "set"),
    (62, "add"),
    (69, "replace"),
    (78, "del"),
    (88, "casv"),
    (92, "cas"),
    (96, "append"),
    (100, "prepend"),
];
const NUMBER: &[(u64, &str)] =
    &[(20, "get"), (25, "gets"), (35, "set"), (45, "add"), (80, "incr"), (95, "decr"), (100, "del")];

impl Worker {
    /// The operation with this number.
    fn choose(&mut self, number: u64) -> Line {
        let text = self.random.draw(10) < 7;
        let key =
            if text { format!("k{}", self.random.draw(8)) } else { format!("n{}", self.random.draw(4)) };
        let draw = self.random.draw(100);
        let table = if text { TEXT } else { NUMBER };
        let op = table.iter().find(|&&(bound, _)| draw < bound).expect("the last bound is 100").1;
        let mut line = self.client.line(op, &key);
        match line.op.as_str() {
            "set" | "add" | "replace" | "casv" | "cas" | "append" | "prepend" => {
                line.v = Some(self.value(text, number));
            }
            "incr" | "decr" => line.by = Some(1 + self.random.draw(9)),
            _ => {}
        }
        line
    }

    fn value(&mut self, text: bool, number: u64) -> String {
        if !text {
            return self.random.draw(1000).to_string();
        }
        let len = if self.random.draw(10) == 0 { self.random.draw(2000) } else { self.random.draw(60) };
        format!("{}:{number}:{}", self.client.name(), "x".repeat(len as usize))
    }
}
