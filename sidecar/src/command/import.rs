//! `memora import`: sets what `export` wrote, or what anybody wrote in the same form.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memora::{Durability, Error, ErrorCode, SetOptions, StoreOptions};
use serde_json::Value;

use super::export::{COLUMNS, Entries, form_of, now_ms};
use super::open::Place;
use super::progress::Bar;
use crate::cli::Form;
use crate::output::{Answer, Failure, Outcome, Output};

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub set: u64,
    /// Their time was over already.
    pub expired: u64,
}

/// One entry as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u32,
    expires_ms: Option<u64>,
    ttl_ms: Option<u64>,
}

pub fn run(
    place: &Place,
    object: &str,
    file: &Path,
    form: Option<Form>,
    dir: Option<&Path>,
    output: &mut Output,
) -> Outcome {
    let standard = file == Path::new("-");
    // What is to be read is looked at before anything is made.
    let (input, total): (Box<dyn Read>, u64) = if standard {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file_in = File::open(file).map_err(|error| Failure::file(file, error))?;
        let total = file_in.metadata().map_err(|error| Failure::file(file, error))?.len();
        (Box::new(file_in), total)
    };
    let fabric = place.open_or_create()?;
    let entries = match (Entries::find(&fabric, object)?, dir) {
        (Some(entries), None) => entries,
        (_, Some(dir)) => {
            let options = StoreOptions {
                dir: Some(dir.to_owned()),
                durability: Durability::Process,
                ..StoreOptions::default()
            };
            Entries::Store(fabric.store(object, &options)?)
        }
        (None, None) => Entries::Cache(fabric.cache(object)?),
    };
    let name = if standard { "standard input".to_owned() } else { file.display().to_string() };
    let imported = read(&entries, form_of(form, file), input, &name, total)?;
    output.answer(
        || serde_json::json!({ "imported": imported.set, "expired": imported.expired }),
        || match imported.expired {
            0 => format!("{object}: {} entries", imported.set),
            expired => format!("{object}: {} entries; {expired} had expired", imported.set),
        },
    )?;
    Ok(Answer::Yes)
}

/// Sets all entries of an input, whose name is for messages; `total` bytes, 0 if that is not known.
pub fn read(
    entries: &Entries,
    form: Form,
    input: impl Read,
    name: &str,
    total: u64,
) -> Result<Imported, Failure> {
    let bar = Bar::bytes("import");
    let mut imported = Imported::default();
    let mut take = |line: u64, done: u64, row: Result<Row, String>| -> Result<(), Failure> {
        let set = row.and_then(|row| set(entries, &row, &mut imported).map_err(|error| error.to_string()));
        bar.at(done, total.max(done));
        set.map_err(|what| {
            Failure::Memora(Error::new(
                ErrorCode::InvalidArgument,
                format!("{name} line {line}: {what} The lines before are imported; importing them again changes nothing."),
            ))
        })
    };
    let result = match form {
        Form::Jsonl => each_json(input, name, &mut take),
        Form::Csv => each_csv(input, &mut take),
    };
    // What was set stays, also when a later line is bad.
    let settled = entries.settle();
    result?;
    settled?;
    bar.end();
    Ok(imported)
}

fn set(entries: &Entries, row: &Row, imported: &mut Imported) -> memora::Result<()> {
    let mut ttl_ms = row.ttl_ms;
    if let Some(expires) = row.expires_ms {
        let left = expires.saturating_sub(now_ms());
        if left == 0 {
            imported.expired += 1;
            return Ok(());
        }
        ttl_ms = Some(left);
    }
    entries.set(&row.key, &row.value, &SetOptions { ttl_ms, flags: row.flags })?;
    imported.set += 1;
    Ok(())
}

type Take<'a> = dyn FnMut(u64, u64, Result<Row, String>) -> Result<(), Failure> + 'a;

fn each_json(input: impl Read, name: &str, take: &mut Take<'_>) -> Result<(), Failure> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut text = Vec::new();
    let (mut line, mut done) = (0, 0);
    loop {
        text.clear();
        let len = input
            .read_until(b'\n', &mut text)
            .map_err(|error| Failure::Memora(Error::io("read", name, &error)))?;
        if len == 0 {
            return Ok(());
        }
        line += 1;
        done += len as u64;
        if !text.iter().all(u8::is_ascii_whitespace) {
            take(line, done, from_json(&text))?;
        }
    }
}

fn from_json(text: &[u8]) -> Result<Row, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("{error}."))?;
    let Value::Object(mut object) = value else { return Err("not a JSON object.".to_owned()) };
    let mut bytes = |name: &str| -> Result<Option<Vec<u8>>, String> {
        let base64 = format!("{name}_base64");
        let string = |value: Option<Value>, name: &str| match value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{name}` is not a string.")),
        };
        let (plain, encoded) = (object.remove(name), object.remove(&base64));
        either(name, string(plain, name)?, string(encoded, &base64)?)
    };
    let key = bytes("key")?.ok_or("`key` is missing.")?;
    let value = bytes("value")?.ok_or("`value` is missing.")?;
    let mut number = |name: &str| match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(format!("`{name}` is not a number of at least 0.")),
    };
    let flags = number("flags")?.unwrap_or(0);
    let row = Row {
        key,
        value,
        flags: u32::try_from(flags).map_err(|_| format!("`flags` is {flags}, at most {} fit.", u32::MAX))?,
        expires_ms: number("expires_ms")?,
        ttl_ms: number("ttl_ms")?,
    };
    match object.keys().next() {
        None => Ok(row),
        Some(other) => Err(format!("`{other}` is not known.")),
    }
}

fn either(name: &str, plain: Option<String>, encoded: Option<String>) -> Result<Option<Vec<u8>>, String> {
    match (plain, encoded) {
        (Some(_), Some(_)) => Err(format!("both `{name}` and `{name}_base64` are there.")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(text)) => {
            STANDARD.decode(text).map(Some).map_err(|error| format!("`{name}_base64`: {error}."))
        }
        (None, None) => Ok(None),
    }
}

fn each_csv(input: impl Read, take: &mut Take<'_>) -> Result<(), Failure> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
    let mut record = csv::StringRecord::new();
    let mut columns: Option<Vec<&'static str>> = None;
    loop {
        let (line, done) = (reader.position().line(), reader.position().byte());
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return take(line, done, Err(format!("{error}."))),
        }
        let line = record.position().map_or(line, csv::Position::line);
        let done = reader.position().byte();
        match &columns {
            None => match heading(&record) {
                Ok(found) => columns = Some(found),
                Err(what) => return take(line, done, Err(what)),
            },
            Some(columns) => take(line, done, from_csv(columns, &record))?,
        }
    }
}

/// What the columns are; their order and number is the writer's.
fn heading(record: &csv::StringRecord) -> Result<Vec<&'static str>, String> {
    let mut found = Vec::new();
    for name in record {
        let known = COLUMNS.into_iter().chain(["ttl_ms"]).find(|known| *known == name);
        match known {
            Some(known) if !found.contains(&known) => found.push(known),
            Some(known) => return Err(format!("the column `{known}` stands there twice.")),
            None => return Err(format!("the column `{name}` is not known.")),
        }
    }
    let has = |name: &str| found.contains(&name);
    match (has("key") || has("key_base64"), has("value") || has("value_base64")) {
        (true, true) => Ok(found),
        _ => Err(format!("the first line names the columns, such as {}.", COLUMNS.join(","))),
    }
}

fn from_csv(columns: &[&'static str], record: &csv::StringRecord) -> Result<Row, String> {
    if record.len() != columns.len() {
        return Err(format!("{} columns instead of {}.", record.len(), columns.len()));
    }
    let text = |name: &str| -> Option<String> {
        let at = columns.iter().position(|column| *column == name)?;
        record.get(at).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let bytes = |name: &str| either(name, text(name), text(&format!("{name}_base64")));
    let number = |name: &str| match text(name) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|error| format!("`{name}`: {error}.")),
    };
    let flags = number("flags")?.unwrap_or(0);
    Ok(Row {
        key: bytes("key")?.ok_or("`key` is missing.")?,
        value: bytes("value")?.unwrap_or_default(),
        flags: u32::try_from(flags).map_err(|_| format!("`flags` is {flags}, at most {} fit.", u32::MAX))?,
        expires_ms: number("expires_ms")?,
        ttl_ms: number("ttl_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use memora::{Entry, Fabric, FabricOptions};
    use proptest::prelude::*;

    use super::super::export::write;
    use super::*;

    fn fabric() -> (tempfile::TempDir, Fabric) {
        let home = tempfile::tempdir().unwrap();
        let fabric = FabricOptions::new().home(home.path()).limit(16 << 20).open("export").unwrap();
        (home, fabric)
    }

    fn all(entries: &Entries) -> BTreeMap<Vec<u8>, (Vec<u8>, u32, Option<u64>)> {
        let mut found = BTreeMap::new();
        let mut put = |key: &[u8], entry: &Entry| {
            found.insert(key.to_vec(), (entry.value.clone(), entry.flags, entry.ttl_ms));
        };
        let scan = |cursor, visit: &mut dyn FnMut(&[u8], &Entry)| match entries {
            Entries::Cache(cache) => cache.scan(cursor, 100, visit),
            Entries::Store(store) => store.scan(cursor, 100, visit),
        };
        let mut cursor = 0;
        loop {
            cursor = scan(cursor, &mut put).unwrap();
            if cursor == 0 {
                return found;
            }
        }
    }

    fn refused(form: Form, text: &str) -> String {
        let (_home, fabric) = fabric();
        let entries = Entries::Cache(fabric.cache("c").unwrap());
        match read(&entries, form, text.as_bytes(), "list", 0) {
            Err(Failure::Memora(error)) => error.detail().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bad_lines_are_named_with_what_is_wrong() {
        for (text, line, what) in [
            ("{\"key\":\"a\",\"value\":\"1\"}\n\nnonsense\n", 3, "expected"),
            ("[1]\n", 1, "not a JSON object"),
            ("{\"value\":\"1\"}", 1, "`key` is missing"),
            ("{\"key\":\"\",\"value\":\"1\"}", 1, "key"),
            ("{\"key\":\"a\",\"key_base64\":\"YQ==\",\"value\":\"1\"}", 1, "both"),
            ("{\"key\":\"a\",\"value_base64\":\"?\"}", 1, "value_base64"),
            ("{\"key\":\"a\",\"value\":\"1\",\"flags\":4294967296}", 1, "flags"),
            ("{\"key\":\"a\",\"value\":\"1\",\"colour\":1}", 1, "colour"),
        ] {
            let told = refused(Form::Jsonl, text);
            assert!(
                told.starts_with(&format!("list line {line}: ")) && told.contains(what),
                "{text}: {told}"
            );
        }
        for (text, line, what) in [
            ("a,b\n", 1, "`a` is not known"),
            ("key,flags\nx,1\n", 1, "names the columns"),
            ("key,value\nx,1\n\"multi\nline\",2\ny\n", 5, "1 columns instead of 2"),
            ("key,value,flags\nx,1,seven\n", 2, "flags"),
            ("key,value\n,1\n", 2, "`key` is missing"),
        ] {
            let told = refused(Form::Csv, text);
            assert!(
                told.starts_with(&format!("list line {line}: ")) && told.contains(what),
                "{text}: {told}"
            );
        }
    }

    #[test]
    fn columns_may_come_in_any_order_and_times_that_are_over_are_left_out() {
        let (_home, fabric) = fabric();
        let entries = Entries::Cache(fabric.cache("c").unwrap());
        let text = "value,key,expires_ms\n1,a,\n2,b,5\n3,c,99999999999999\n";
        let imported = read(&entries, Form::Csv, text.as_bytes(), "list", 0).unwrap();
        assert_eq!(imported, Imported { set: 2, expired: 1 });
        let found = all(&entries);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&b"a"[..]], (b"1".to_vec(), 0, None));
        assert!(found[&b"c"[..]].2.is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_bytes_come_back_in_both_forms_and_twice_is_as_once(
            given in proptest::collection::btree_map(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 1..40),
                    "[ -~\u{e9}\",\r\n\\\\]{1,12}".prop_map(String::into_bytes),
                ],
                (
                    prop_oneof![
                        proptest::collection::vec(any::<u8>(), 0..200),
                        "[ -~\u{4e16}\",\r\n\\\\]{0,30}".prop_map(String::into_bytes),
                    ],
                    any::<u32>(),
                    proptest::option::of(60_000u64..100_000_000),
                ),
                0..30,
            ),
        ) {
            let (home, fabric) = fabric();
            let dir = home.path().join("files");
            let options =
                StoreOptions { dir: Some(dir), durability: Durability::Process, ..StoreOptions::default() };
            let (cache, store) = (fabric.cache("c").unwrap(), fabric.store("s", &options).unwrap());
            for (key, (value, flags, ttl_ms)) in &given {
                cache.set_with(key, value, &SetOptions { ttl_ms: *ttl_ms, flags: *flags }).unwrap();
            }
            let (from, to) = (Entries::Cache(cache), Entries::Store(store));
            for form in [Form::Jsonl, Form::Csv] {
                let mut text = Vec::new();
                prop_assert_eq!(write(&from, form, &mut text).unwrap(), given.len() as u64);
                for _ in 0..2 {
                    let imported = read(&to, form, &text[..], "list", 0).unwrap();
                    prop_assert_eq!(imported, Imported { set: given.len() as u64, expired: 0 });
                    let found = all(&to);
                    prop_assert_eq!(found.len(), given.len());
                    for (key, (value, flags, ttl)) in &given {
                        let (value_now, flags_now, ttl_now) = &found[key];
                        prop_assert_eq!((value_now, flags_now), (value, flags));
                        prop_assert_eq!(ttl_now.is_some(), ttl.is_some());
                        // It goes on; the two clocks differ by their steps.
                        prop_assert!(ttl_now.unwrap_or(0) <= ttl.unwrap_or(0) + 50);
                    }
                }
            }
        }
    }
}
