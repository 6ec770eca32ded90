//! The file `FEED`, in which a directory says how much old journal is kept for the change feed.
//!
//! Each writer has a private name of its own until its file is whole, so none of them is in the way of another, and the last rename
//! counts. Whoever has renamed removes the private names of the others: those of the dead, and perhaps one of somebody alive,
//! who then looks anew.

use std::io::{Error as IoError, ErrorKind, Result as IoResult};

use super::files::FileLayer;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};

/// Name of the file.
pub const NAME: &str = "FEED";
const BEFORE: &str = "FEED.";
const BEHIND: &str = ".tmp";

/// Whether that is the private name of somebody who writes the file.
pub fn is_unfinished(name: &str) -> bool {
    name.strip_prefix(BEFORE).is_some_and(|rest| rest.ends_with(BEHIND))
}

fn failed(files: &dyn FileLayer, operation: &'static str, error: &IoError) -> Error {
    Error::io(operation, format!("{}/{NAME}", files.place()), error)
}

/// How many bytes the directory says; 0 if it says nothing.
pub fn kept(files: &dyn FileLayer) -> Result<u64> {
    let file = match files.open(NAME) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        other => other.map_err(|e| failed(files, "open", &e))?,
    };
    let mut bytes = [0; 32];
    let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", &e))?;
    let text = std::str::from_utf8(&bytes[..len]).ok().map(str::trim);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Error::new(
            ErrorCode::JournalCorrupt,
            format!("{}/{NAME} is no number of bytes: remove it, or write one into it.", files.place()),
        )
    })
}

/// Sets how many bytes are kept, if that is wanted, and puts into `word` what the directory says then.
pub fn keep(files: &dyn FileLayer, wanted: Option<u64>, word: &AtomicU64) -> Result<()> {
    if let Some(bytes) = wanted
        && kept(files)? != bytes
    {
        write(files, bytes)?;
    }
    // Of several who write, the one that looks last leaves what the last rename said.
    loop {
        let known = kept(files)?;
        // ORDER Relaxed: a number that stands for itself.
        word.store(known, Ordering::Relaxed);
        if kept(files)? == known {
            return Ok(());
        }
    }
}

/// Makes the directory say so, durably.
pub fn write(files: &dyn FileLayer, bytes: u64) -> Result<()> {
    loop {
        let mine = format!("{BEFORE}{}{BEHIND}", uuid::Uuid::new_v4().simple());
        match written(files, &mine, bytes) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                let _ = files.remove(&mine);
                return Err(failed(files, "write", &error));
            }
        }
    }
    remove_unfinished(files).map_err(|e| failed(files, "unlink", &e))
}

/// False if another writer took the file for one of the dead.
fn written(files: &dyn FileLayer, mine: &str, bytes: u64) -> IoResult<bool> {
    let file = files.create(mine)?;
    file.write_at(0, format!("{bytes}\n").as_bytes())?;
    file.sync()?;
    // DIES BEFORE: what was said before still counts, and the next writer removes the name.  DIES AFTER: the new number counts.
    kill_point!("store.feed.before_rename");
    match files.rename(mine, NAME) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    }
    kill_point!("store.feed.renamed");
    files.sync_names().map(|()| true)
}

fn remove_unfinished(files: &dyn FileLayer) -> IoResult<()> {
    for name in files.names()?.iter().filter(|name| is_unfinished(name)) {
        match files.remove(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::RealFiles;

    #[test]
    fn writers_at_the_same_moment_are_in_nobodys_way_and_leave_one_number() {
        let home = tempfile::tempdir().unwrap();
        let word = AtomicU64::new(0);
        let open = || RealFiles::open(home.path()).unwrap();
        // Of one who was killed.
        open().create("FEED.dead.tmp").unwrap();
        std::thread::scope(|scope| {
            for writer in 1..=4u64 {
                let (open, word) = (&open, &word);
                scope.spawn(move || {
                    let files = open();
                    for round in 0..100 {
                        keep(&files, Some(writer * 1000 + round), word).unwrap();
                    }
                });
            }
        });
        let files = open();
        assert_eq!(
            kept(&files).unwrap(),
            word.load(Ordering::Relaxed),
            "all look at what the directory says"
        );
        assert_eq!(kept(&files).unwrap() % 1000, 99);
        let names = files.names().unwrap();
        assert!(!names.iter().any(|name| is_unfinished(name)), "nothing is left behind: {names:?}");
        keep(&files, None, &word).unwrap();
        assert_eq!(kept(&files).unwrap() % 1000, 99, "who wants nothing changes nothing");
    }

    #[test]
    fn a_number_that_cannot_be_read_is_told() {
        let home = tempfile::tempdir().unwrap();
        let files = RealFiles::open(home.path()).unwrap();
        assert_eq!(kept(&files).unwrap(), 0);
        std::fs::write(home.path().join(NAME), "much").unwrap();
        let error = keep(&files, None, &AtomicU64::new(0)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::JournalCorrupt);
    }
}
