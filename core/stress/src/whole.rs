//! The worker that does all that a cache can do, on the caches of [`crate::evict`]: views that it holds, leases that it fills, gives
//! up or dies with, time to live, marks, flushing and scanning, too. Keys are many and values short, so that the index grows.

use std::time::{Duration, Instant};

use memora::{Cache, DeleteOutcome, Error, ErrorCode, Fabric, Lease, Result, SetOptions, Version, View};

use crate::evict::{CACHES, CHECKED, Caches, HOT, text};
use crate::history::{Line, Out, Recorder};
use crate::kv::KvClient;
use crate::random::Random;
use crate::{Failure, Options};

/// So many views are held at once.
const VIEWS: usize = 3;
/// How long it waits for whoever makes a value.
const WAIT: Duration = Duration::from_millis(50);

/// Upper bounds of `draw(1000)` for each operation.
const OPERATIONS: &[(u64, &str)] = &[
    (120, "get"),
    (200, "gets"),
    (270, "view"),
    (300, "get into"),
    (330, "get many"),
    (600, "set"),
    (640, "set with ttl"),
    (670, "add"),
    (700, "replace"),
    (730, "casv"),
    (770, "del"),
    (785, "delete if"),
    (810, "get and set"),
    (825, "get and delete"),
    (845, "touch"),
    (865, "invalidate"),
    (925, "lease"),
    (980, "compute"),
    (992, "scan"),
    (998, "look"),
    (1000, "flush"),
];

/// Runs the worker until its bound.
pub fn whole(options: &Options) -> Result<(), Failure> {
    let caches = Caches::open(&Fabric::open(&options.fabric)?)?;
    let recorder = Recorder::open(&options.history, &options.seed)?;
    let mut client = WholeClient {
        client: KvClient::with(caches, recorder, CHECKED),
        random: Random::new(&options.seed),
        number: 0,
        views: Vec::new(),
    };
    let start = Instant::now();
    while options.goes_on(client.number, start) {
        client.step()?;
    }
    Ok(())
}

struct WholeClient {
    client: KvClient<Caches>,
    random: Random,
    number: u64,
    /// What is looked at, and what was seen there first.
    views: Vec<(View, Vec<u8>)>,
}

impl WholeClient {
    fn step(&mut self) -> Result<(), Failure> {
        self.number += 1;
        let key = self.key();
        let draw = self.random.draw(1000);
        let name = OPERATIONS.iter().find(|&&(bound, _)| draw < bound).expect("the last bound is 1000").1;
        match name {
            "get" | "gets" | "del" => self.plain(name, &key),
            "set" | "add" | "replace" | "casv" => self.plain(name, &key),
            "view" => self.view(&key),
            "get into" => self.read(&key, |cache, key| {
                let mut buffer = [0; 1024];
                match cache.get_into(key, &mut buffer) {
                    Err(error) if error.code() == ErrorCode::BufferTooSmall => cache.get(key),
                    found => Ok(found?.map(|len| buffer[..len].to_vec())),
                }
            }),
            "get many" => self.read(&key, |cache, key| {
                let mut found = None;
                cache.get_many(&[b"of nobody", key, b"nor this"], |place, value| {
                    assert!(place == 1 || value.is_none(), "a key that nobody set");
                    found = value.map(<[u8]>::to_vec).or(found.take());
                })?;
                Ok(found)
            }),
            "set with ttl" => {
                let ttl_ms = Some(1 + self.random.draw(30));
                self.store("set", &key, |cache, key, value| {
                    cache.set_with(key, value, &SetOptions { ttl_ms, flags: 7 }).map(|_| true)
                })
            }
            "delete if" => self.delete_if(&key),
            "get and set" => self.exchange(&key, true),
            "get and delete" => self.exchange(&key, false),
            "touch" => {
                let ttl_ms = (self.random.draw(2) == 0).then(|| 1 + self.random.draw(30));
                self.mark("touch", &key, |cache, key| cache.touch(key, ttl_ms))
            }
            // Not where somebody computes: his value is the answer although it is not stored, and the stale one stays.
            "invalidate" if !is_computed(&key) => {
                self.mark("stale", &key, |cache, key| Ok(cache.invalidate(key, Some(50))?.is_some()))
            }
            "lease" => self.lease(&key),
            "compute" if is_computed(&key) => self.compute(&key),
            "scan" => self.scan(&key),
            "look" => self.look(&key),
            // Seldom: nothing is evicted out of an empty cache.
            "flush" if self.random.draw(30) == 0 => Ok(self.cache(&key).flush()?),
            _ => self.plain("get", &key),
        }
    }

    fn key(&mut self) -> String {
        let place = CACHES[self.random.draw(CACHES.len() as u64) as usize];
        let key = if self.random.draw(4) == 0 { self.random.draw(HOT) } else { self.random.draw(place.keys) };
        format!("{}{key}", place.letter)
    }

    fn cache(&self, key: &str) -> &Cache {
        self.client.object().of(key.as_bytes())
    }

    /// The text of a new value.
    fn value(&mut self, key: &str) -> String {
        let len = match () {
            () if self.random.draw(300) == 0 => self.random.draw(100_000),
            () if self.random.draw(20) == 0 => self.random.draw(4_000),
            () if key.starts_with(CACHES[0].letter) => self.random.draw(1000),
            () => self.random.draw(80),
        };
        text(key, self.client.name(), self.number, len)
    }

    /// Asks and records. What evicts is never full; that one had to wait too long, or for itself, is an answer.
    fn record(
        &mut self,
        line: Line,
        call: impl FnOnce(&mut KvClient<Caches>, &mut Line) -> Result<()>,
    ) -> Result<bool, Failure> {
        if self.client.record(line, call)? {
            return Ok(true);
        }
        let refusal = self.client.refusal().cloned().expect("it was refused");
        match refusal.code() {
            ErrorCode::TimedOut => Ok(false),
            _ => Err(refusal.into()),
        }
    }

    fn plain(&mut self, op: &str, key: &str) -> Result<(), Failure> {
        let mut line = self.client.line(op, key);
        if matches!(line.op.as_str(), "set" | "add" | "replace" | "casv") {
            line.v = Some(self.value(key));
        }
        if self.client.perform(line)? {
            return Ok(());
        }
        Err(self.client.refusal().cloned().expect("it was refused").into())
    }

    /// A way of reading.
    fn read(
        &mut self,
        key: &str,
        read: impl FnOnce(&Cache, &[u8]) -> Result<Option<Vec<u8>>>,
    ) -> Result<(), Failure> {
        let line = self.client.line("get", key);
        self.record(line, |client, line| {
            let found = read(client.object().of(key.as_bytes()), key.as_bytes())?;
            line.out = found.map(|value| Out::Text(client.text(&value)));
            Ok(())
        })?;
        Ok(())
    }

    /// A way of storing.
    fn store(
        &mut self,
        op: &str,
        key: &str,
        store: impl FnOnce(&Cache, &[u8], &[u8]) -> Result<bool>,
    ) -> Result<(), Failure> {
        let mut line = self.client.line(op, key);
        let text = self.value(key);
        let value = self.client.bytes(&text);
        line.v = Some(text);
        self.record(line, |client, line| {
            line.ok = Some(store(client.object().of(key.as_bytes()), key.as_bytes(), &value)?);
            Ok(())
        })?;
        Ok(())
    }

    /// Something that leaves the value; it answers whether there was one.
    fn mark(
        &mut self,
        op: &str,
        key: &str,
        mark: impl FnOnce(&Cache, &[u8]) -> Result<bool>,
    ) -> Result<(), Failure> {
        let line = self.client.line(op, key);
        self.record(line, |client, line| {
            line.ok = Some(mark(client.object().of(key.as_bytes()), key.as_bytes())?);
            Ok(())
        })?;
        Ok(())
    }

    /// Reads a value where it stands and goes on looking at it for some operations: it must not change.
    fn view(&mut self, key: &str) -> Result<(), Failure> {
        let mut seen = None;
        self.read(key, |cache, key| {
            seen = cache.view(key)?.map(|view| Ok::<_, Error>((view.to_vec()?, view))).transpose()?;
            Ok(seen.as_ref().map(|(value, _)| value.clone()))
        })?;
        if let Some((value, view)) = seen {
            self.views.push((view, value));
        }
        if self.views.len() > VIEWS {
            let (view, value) = self.views.remove(0);
            assert!(view.to_vec()? == value, "a view of {} bytes changed while it was held", value.len());
        }
        Ok(())
    }

    fn delete_if(&mut self, key: &str) -> Result<(), Failure> {
        let version = self.cache(key).get_entry(key.as_bytes())?.map_or(Version(1), |entry| entry.version);
        let line = self.client.line("del", key);
        self.record(line, |client, line| {
            match client.object().of(key.as_bytes()).delete_if(key.as_bytes(), version)? {
                DeleteOutcome::Deleted => line.ok = Some(true),
                // Another version, or none: nothing was done.
                _ => line.err = Some("STALE".to_string()),
            }
            Ok(())
        })?;
        Ok(())
    }

    fn exchange(&mut self, key: &str, set: bool) -> Result<(), Failure> {
        let mut line = self.client.line("exchange", key);
        line.v = set.then(|| self.value(key));
        let value = line.v.as_deref().map(|text| self.client.bytes(text));
        self.record(line, |client, line| {
            let cache = client.object().of(key.as_bytes());
            let found = match &value {
                Some(value) => cache.get_and_set(key.as_bytes(), value, &SetOptions::default())?,
                None => cache.get_and_delete(key.as_bytes())?,
            };
            line.out = found.map(|entry| Out::Text(client.text(&entry.value)));
            Ok(())
        })?;
        Ok(())
    }

    /// Asks for the right to make a value, and fills it, gives it up, or is killed meanwhile.
    fn lease(&mut self, key: &str) -> Result<(), Failure> {
        let mut lease = None;
        let line = self.client.line("get", key);
        self.record(line, |client, line| {
            match client.object().of(key.as_bytes()).lease(key.as_bytes(), WAIT)? {
                Lease::Found(entry) => line.out = Some(Out::Text(client.text(&entry.value))),
                Lease::Compute(token) => {
                    // It may be missing or stale.
                    line.err = Some("LEASE".to_string());
                    lease = Some(token);
                }
            }
            Ok(())
        })?;
        let Some(token) = lease else { return Ok(()) };
        self.think();
        if self.random.draw(5) == 0 {
            return Ok(self.cache(key).abandon(token)?);
        }
        self.store("set", key, |cache, _, value| {
            Ok(cache.fill(token, value, &SetOptions::default())?.is_some())
        })
    }

    fn compute(&mut self, key: &str) -> Result<(), Failure> {
        let mut line = self.client.line("compute", key);
        let text = self.value(key);
        let value = self.client.bytes(&text);
        line.v = Some(text);
        let pause = self.random.draw(200);
        self.record(line, |client, line| {
            let cache = client.object().of(key.as_bytes());
            let found = cache.get_or_compute(key.as_bytes(), &SetOptions::default(), WAIT, || {
                std::thread::sleep(Duration::from_micros(pause));
                Ok(value)
            })?;
            line.out = Some(Out::Text(client.text(&found)));
            Ok(())
        })?;
        Ok(())
    }

    fn think(&mut self) {
        std::thread::sleep(Duration::from_micros(self.random.draw(200)));
    }

    /// Some entries, wherever they are: each must be whole and that of its key.
    fn scan(&mut self, key: &str) -> Result<(), Failure> {
        let (mut cursor, mut found) = (0, Vec::new());
        for _ in 0..1 + self.random.draw(4) {
            cursor = self.cache(key).scan(cursor, 20, |key, entry| {
                found.push((String::from_utf8_lossy(key).into_owned(), entry.value.clone()));
            })?;
            if cursor == 0 {
                break;
            }
        }
        for (key, value) in found {
            let text = self.client.text(&value);
            assert!(text.starts_with(&format!("{key}:")), "{key} has the value {text}");
        }
        Ok(())
    }

    fn look(&mut self, key: &str) -> Result<(), Failure> {
        let cache = self.cache(key);
        cache.stats()?;
        cache.len()?;
        cache.advice()?;
        Ok(())
    }
}

/// Whether a key is one of those whose values are computed by [`Cache::get_or_compute`].
fn is_computed(key: &str) -> bool {
    key.ends_with('0') || key.ends_with('5')
}
