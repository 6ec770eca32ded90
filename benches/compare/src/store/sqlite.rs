//! SQLite with a write-ahead log, which processes share; a connection for each thread.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::engine::{Engine, Handle, Safe, Syncer, copy};
use super::{CACHE, Key, VALUE};

const GET: &str = "SELECT value FROM entries WHERE key = ?1";
const PUT: &str =
    "INSERT INTO entries (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const SCAN: &str = "SELECT key, value FROM entries WHERE key >= ?1 ORDER BY key LIMIT ?2";

pub struct Sqlite {
    file: PathBuf,
    syncer: Syncer,
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(20))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "cache_size", -((CACHE >> 10) as i64))?;
    connection.pragma_update(None, "mmap_size", 4i64 << 30)?;
    Ok(connection)
}

fn sync_log(file: &Path) {
    // Not there before the first change.
    if let Ok(log) = File::options().write(true).open(file.with_file_name("data.sqlite-wal")) {
        log.sync_data().expect("synced");
    }
}

impl Sqlite {
    pub fn open(folder: &Path) -> Result<Sqlite, String> {
        let file = folder.join("data.sqlite");
        let connection = connect(&file).map_err(|error| error.to_string())?;
        let table =
            "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID";
        connection.execute(table, []).map_err(|error| error.to_string())?;
        let synced = file.clone();
        Ok(Sqlite { file, syncer: Syncer::start(move || sync_log(&synced)) })
    }
}

impl Engine for Sqlite {
    fn handle(&self) -> Box<dyn Handle + '_> {
        let connection = connect(&self.file).expect("a connection");
        Box::new(Connected { connection, safe: None, syncer: &self.syncer })
    }

    fn settle(&self) {
        sync_log(&self.file);
    }
}

struct Connected<'a> {
    connection: Connection,
    safe: Option<Safe>,
    syncer: &'a Syncer,
}

impl Connected<'_> {
    /// FULL syncs the log at each commit, NORMAL only before it is copied back.
    fn prepare(&mut self, safe: Safe) {
        if self.safe != Some(safe) {
            let level = if safe == Safe::Now { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level).expect("a level");
            self.safe = Some(safe);
        }
    }

    fn write(&mut self, safe: Safe, change: impl FnOnce(&Connection)) {
        self.prepare(safe);
        run(&self.connection, "BEGIN IMMEDIATE");
        change(&self.connection);
        run(&self.connection, "COMMIT");
        self.syncer.note(safe);
    }
}

fn run(connection: &Connection, sql: &str) {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute([])).expect("run");
}

fn value_of(connection: &Connection, key: &Key, into: &mut [u8]) -> Option<usize> {
    let mut statement = connection.prepare_cached(GET).expect("a statement");
    let found = statement.query_row([key.as_slice()], |row| Ok(copy(row.get_ref(0)?.as_blob()?, into)));
    found.optional().expect("get")
}

fn put(connection: &Connection, key: &Key, value: &[u8]) {
    let mut statement = connection.prepare_cached(PUT).expect("a statement");
    statement.execute(params![key.as_slice(), value]).expect("put");
}

impl Handle for Connected<'_> {
    fn get(&mut self, key: &Key, into: &mut [u8]) -> Option<usize> {
        value_of(&self.connection, key, into)
    }

    fn put(&mut self, key: &Key, value: &[u8], safe: Safe) {
        self.prepare(safe);
        put(&self.connection, key, value);
        self.syncer.note(safe);
    }

    fn batch(&mut self, keys: &mut dyn Iterator<Item = Key>, value: &[u8], safe: Safe) {
        self.write(safe, |connection| keys.for_each(|key| put(connection, &key, value)));
    }

    fn transfer(&mut self, keys: &[Key; 4], safe: Safe) {
        self.write(safe, |connection| {
            for key in keys {
                let mut value = [0; VALUE];
                value_of(connection, key, &mut value).expect("a value");
                value[0] = value[0].wrapping_add(1);
                put(connection, key, &value);
            }
        });
    }

    fn scan(&mut self, from: &Key, count: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> usize {
        let mut statement = self.connection.prepare_cached(SCAN).expect("a statement");
        let mut rows = statement.query(params![from.as_slice(), count as i64]).expect("a range");
        let mut visited = 0;
        while let Some(row) = rows.next().expect("an entry") {
            let (key, value) = (row.get_ref(0).expect("a key"), row.get_ref(1).expect("a value"));
            visit(key.as_blob().expect("bytes"), value.as_blob().expect("bytes"));
            visited += 1;
        }
        visited
    }
}
