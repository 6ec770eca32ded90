//! What the journal got since some moment, read while others go on writing it.
//!
//! A walk over the table sees states of different moments. Together with everything that was flushed since the walk began, up to the
//! cut of a flush that began behind it, it is the state at that cut: of each key the highest order wins, as in recovery. So the
//! walk stands for a checkpoint that was begun at that moment, and recovery's own way of reading does the rest.
//!
//! Files that count are opened first and looked at again then: what a checkpoint removes afterwards stays readable. Of the file that is
//! being written only what is durable is looked at, so that a batch under way is never taken for a damaged one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::append::Journal;
use super::control::Control;
use super::files::{FileLayer, LockMode, LogFile};
use super::layout::{FIRST_SECTOR, FileName, Record};
use super::lsn::Lsn;
use super::manifest::Manifest;
use super::replay::{Survey, census, replay, survey};
use super::sync::Caller;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// How long a flush that leads may keep a reader waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Times that the files are listed: each but the last needs a checkpoint that was completed meanwhile.
const LISTINGS: u32 = 100;

/// A moment between two flushes.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Where the next flush writes, or behind.
    place: Lsn,
    /// The number of the next flush.
    epoch: u64,
}

/// Files that were open when they counted, and how much of each is durable.
struct Held {
    place: String,
    names: Vec<String>,
    files: Vec<(String, Arc<dyn LogFile>, u64)>,
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl FileLayer for Held {
    fn create(&self, _name: &str) -> io::Result<Box<dyn LogFile>> {
        refused()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let (_, file, end) = self.files.iter().find(|held| held.0 == name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(UpTo { file: Arc::clone(file), end: *end }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names.clone())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn sync_names(&self) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _byte: u64, _mode: LockMode) -> io::Result<bool> {
        refused()
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// A file as if it ended at a place.
struct UpTo {
    file: Arc<dyn LogFile>,
    end: u64,
}

impl LogFile for UpTo {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()?.min(self.end))
    }

    fn reserve(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn write_at(&self, _at: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX).min(into.len());
        self.file.read_at(at, &mut into[..len])
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}

impl Journal {
    /// This moment: what is published from now on stands in flushes that come behind it.
    pub fn moment(&self, control: Control<'_>, caller: &Caller<'_>) -> Result<Moment> {
        self.lead(control, caller, PATIENCE, |_| {
            // Nobody else leads, so no flush is under way.
            // ORDER Acquire [journal-tail]: what the last flush wrote stands in front of it.
            Ok(Moment { place: Lsn(control.tail().load(Ordering::Acquire)), epoch: control.next_epoch()? })
        })
    }

    /// Hands every record of the flushes since `moment` to `visit`, or, if a checkpoint has contained some of them since, every record
    /// of the store; the caller has flushed before.
    pub fn since(
        &self,
        control: Control<'_>,
        moment: Moment,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let (held, mut found) = self.hold(control, moment)?;
        if found.manifest.as_ref().is_none_or(|manifest| manifest.first <= moment.place) {
            let walk = Manifest::of_one(self.store, 0, (0, 0, 0), moment.place, moment.epoch);
            found.manifest = Some(walk);
            found.journals.retain(|place| *place >= moment.place.at_sector(FIRST_SECTOR));
        }
        let flushes = census(&held, &self.store, &found)?;
        replay(&held, &self.store, &found, &flushes, &mut |_| {}, visit).map(drop)
    }

    /// Opens the files that count, with what they are.
    fn hold(&self, control: Control<'_>, moment: Moment) -> Result<(Held, Survey)> {
        let files = &*self.files;
        for _ in 0..LISTINGS {
            match self.try_hold(moment) {
                Ok((mut held, found)) => {
                    // ORDER Acquire [journal-tail]: everything in front of it is durable.
                    let tail = Lsn(control.tail().load(Ordering::Acquire));
                    for (name, _, end) in &mut held.files {
                        let Some(FileName::Journal { term, number }) = FileName::parse(name) else {
                            continue;
                        };
                        let first = Lsn::new(term, number, 0);
                        *end = match first.same_file(tail) {
                            true => tail.byte(),
                            false if first > tail => 0,
                            false => u64::MAX,
                        };
                    }
                    return Ok((held, found));
                }
                // A checkpoint has removed a file between listing and opening.
                Err(error) if error.code() == ErrorCode::NotFound => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorCode::Busy, format!("The files in {} change all the time.", files.place())))
    }

    fn try_hold(&self, moment: Moment) -> Result<(Held, Survey)> {
        let files = &*self.files;
        let found = survey(files, &self.store)?;
        let checkpoint = found.manifest.as_ref().filter(|manifest| manifest.first > moment.place);
        let rows = checkpoint.map_or(&[][..], |manifest| &manifest.rows[..]);
        let parts = rows.iter().flat_map(|row| row.files());
        let since = moment.place.at_sector(FIRST_SECTOR);
        let journals = found.journals.iter().filter(|place| checkpoint.is_some() || **place >= since);
        let journals = journals.map(|place| FileName::Journal { term: place.term(), number: place.number() });
        let mut held = Held { place: files.place(), names: Vec::new(), files: Vec::new() };
        for name in parts.chain(journals).map(|name| name.to_string()) {
            let file = files.open(&name).map_err(|e| super::append::failed(files, "open", &name, &e))?;
            held.files.push((name.clone(), file.into(), u64::MAX));
            held.names.push(name);
        }
        Ok((held, found))
    }
}
