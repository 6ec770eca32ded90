//! `memora export`: all entries of a cache or store as JSON lines or CSV.
//!
//! Bytes that are UTF-8 stand as they are under `key` and `value`, others in base64 under `key_base64` and `value_base64`. A time to
//! live is written as the instant at which it ends, so that an entry does not live longer because it was exported.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memora::{Cache, Durability, Entry, Fabric, ObjectKind, SetOptions, Store, StoreOptions};
use serde_json::{Map, Value};

use super::open::Place;
use super::progress::Bar;
use crate::cli::Form;
use crate::output::{Answer, Failure, Outcome, Output, put_bytes};

/// Columns of the CSV form.
pub const COLUMNS: [&str; 6] = ["key", "key_base64", "value", "value_base64", "flags", "expires_ms"];

/// What holds entries.
pub enum Entries {
    Cache(Cache),
    Store(Store),
}

impl Entries {
    /// The object of that name; `None` if there is none.
    pub fn find(fabric: &Fabric, name: &str) -> Result<Option<Entries>, Failure> {
        let Some(object) = fabric.objects()?.into_iter().find(|object| object.name == name) else {
            return Ok(None);
        };
        let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
        Ok(Some(match object.kind {
            ObjectKind::Store => Entries::Store(fabric.store(name, &options)?),
            // Another kind is refused with its name.
            _ => Entries::Cache(fabric.cache(name)?),
        }))
    }

    fn len(&self) -> memora::Result<u64> {
        match self {
            Entries::Cache(cache) => cache.len(),
            Entries::Store(store) => store.len(),
        }
    }

    fn scan(&self, cursor: u64, visit: &mut dyn FnMut(&[u8], &Entry)) -> memora::Result<u64> {
        match self {
            Entries::Cache(cache) => cache.scan(cursor, 256, visit),
            Entries::Store(store) => store.scan(cursor, 256, visit),
        }
    }

    /// Sets an entry.
    pub fn set(&self, key: &[u8], value: &[u8], options: &SetOptions) -> memora::Result<()> {
        match self {
            Entries::Cache(cache) => cache.set_with(key, value, options).map(drop),
            Entries::Store(store) => store.set_with(key, value, options).map(drop),
        }
    }

    /// Makes what was set durable where there are files.
    pub fn settle(&self) -> memora::Result<()> {
        match self {
            Entries::Cache(_) => Ok(()),
            Entries::Store(store) => store.flush(),
        }
    }
}

/// Wall clock, ms.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The form that was asked for, or that the name of the file says.
pub fn form_of(form: Option<Form>, file: &Path) -> Form {
    let csv = file.extension().is_some_and(|extension| extension == "csv");
    form.unwrap_or(if csv { Form::Csv } else { Form::Jsonl })
}

enum Sink<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Sink<W> {
    fn new(form: Form, out: W) -> io::Result<Sink<W>> {
        Ok(match form {
            Form::Jsonl => Sink::Jsonl(out),
            Form::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(COLUMNS).map_err(io::Error::from)?;
                Sink::Csv(Box::new(csv))
            }
        })
    }

    fn put(&mut self, key: &[u8], entry: &Entry, now: u64) -> io::Result<()> {
        let expires = entry.ttl_ms.map(|ttl| now.saturating_add(ttl));
        match self {
            Sink::Jsonl(out) => {
                let mut object = Map::new();
                put_bytes(&mut object, "key", key);
                put_bytes(&mut object, "value", &entry.value);
                if entry.flags != 0 {
                    object.insert("flags".to_owned(), entry.flags.into());
                }
                if let Some(expires) = expires {
                    object.insert("expires_ms".to_owned(), expires.into());
                }
                serde_json::to_writer(&mut *out, &Value::Object(object)).map_err(io::Error::from)?;
                out.write_all(b"\n")
            }
            Sink::Csv(csv) => {
                let (key, key_base64) = columns(key);
                let (value, value_base64) = columns(&entry.value);
                let flags = if entry.flags == 0 { String::new() } else { entry.flags.to_string() };
                let expires = expires.map_or(String::new(), |expires| expires.to_string());
                csv.write_record([key, key_base64, value, value_base64, flags, expires])
                    .map_err(io::Error::from)
            }
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Sink::Jsonl(mut out) => out.flush(),
            Sink::Csv(mut csv) => csv.flush(),
        }
    }
}

/// Bytes as text or as base64: the other column is empty.
fn columns(bytes: &[u8]) -> (String, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), String::new()),
        Err(_) => (String::new(), STANDARD.encode(bytes)),
    }
}

pub fn run(place: &Place, object: &str, file: &Path, form: Option<Form>, output: &mut Output) -> Outcome {
    let fabric = place.open_existing(object)?;
    let entries = Entries::find(&fabric, object)?.ok_or_else(|| place.no_object(object))?;
    let form = form_of(form, file);
    if file == Path::new("-") {
        write(&entries, form, BufWriter::with_capacity(1 << 20, io::stdout().lock()))?;
        return Ok(Answer::Yes);
    }
    let out = File::create(file).map_err(|error| Failure::file(file, error))?;
    let count = write(&entries, form, BufWriter::with_capacity(1 << 20, &out))
        .and_then(|count| out.sync_all().map(|()| count).map_err(|error| Failure::file(file, error)))?;
    output.answer(
        || serde_json::json!({ "exported": count }),
        || format!("{}: {count} entries", file.display()),
    )?;
    Ok(Answer::Yes)
}

/// Writes all entries; the answer is how many.
pub fn write<W: Write>(entries: &Entries, form: Form, out: W) -> Result<u64, Failure> {
    let total = entries.len()?;
    let bar = Bar::entries("export");
    let mut sink = Sink::new(form, out)?;
    let (mut cursor, mut count) = (0, 0);
    loop {
        let now = now_ms();
        let mut failed = None;
        cursor = entries.scan(cursor, &mut |key, entry| {
            if failed.is_none() {
                failed = sink.put(key, entry, now).err();
                count += 1;
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        bar.at(count, total.max(count));
        if cursor == 0 {
            break;
        }
    }
    sink.end()?;
    bar.end();
    Ok(count)
}
