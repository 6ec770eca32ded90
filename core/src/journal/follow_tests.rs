//! One who follows a journal, beside leaders that died, and damage.

use std::sync::Arc;
use std::time::Duration;

use super::append::Batches;
use super::control::{CONTROL_LEN, Control};
use super::files::FileLayer;
use super::follow::Follower;
use super::layout::{FIRST_SECTOR, FileHeader, FileName, Record, file_tag};
use super::leader::{Watch, claim};
use super::sim::Disk;
use super::{Caller, Journal, Lsn, Source};
use crate::error::{ErrorCode, Result};
use crate::shm::Shm;
use crate::shm::atomic::Ordering;

const STORE: [u8; 16] = [7; 16];
const CAPACITY: u64 = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes one key, with a value that fills some sectors.
struct Key<'a>(&'a str);

impl Source for Key<'_> {
    type Taken = ();

    fn collect(&self, batches: &mut Batches<'_>) -> Result<()> {
        let value = Some(&[1; 3000][..]);
        batches.push(&Record { order: 1, expiry_ms: 0, flags: 0, key: self.0.as_bytes(), value })
    }

    fn settle(&self, (): ()) -> Result<()> {
        Ok(())
    }
}

struct Rig {
    disk: Disk,
    journal: Journal,
    shm: Shm,
}

impl Rig {
    fn new() -> Rig {
        let (disk, shm) = (Disk::default(), Shm::heap(4096).unwrap());
        Control(shm.block::<CONTROL_LEN>(0).unwrap()).init(1, 0, CAPACITY);
        let rig = Rig { journal: Journal::new(Arc::new(disk.clone()), STORE), disk, shm };
        let caller = Caller { me: 1, is_dead: &|_| false };
        let room = |reign: &_| rig.journal.ensure_room(rig.control(), reign);
        rig.journal.lead(rig.control(), &caller, PATIENCE, room).unwrap();
        rig
    }

    fn control(&self) -> Control<'_> {
        Control(self.shm.block::<CONTROL_LEN>(0).unwrap())
    }

    fn tail(&self) -> Lsn {
        Lsn(self.control().tail().load(Ordering::Acquire))
    }

    fn flush(&self, key: &str) {
        let (control, caller) = (self.control(), Caller { me: 1, is_dead: &|thread| thread != 1 });
        let ticket = self.journal.ticket(control);
        self.journal.wait(control, &caller, &Key(key), ticket, PATIENCE).unwrap();
    }

    /// A leader comes, and dies: the next one begins a file of a new term.
    fn leader_dies(&self) {
        let leader = claim(self.control().leader(), 5, &|_| true, &Watch::new(), false).unwrap();
        std::mem::forget(leader.expect("nobody leads"));
    }

    /// What one reads who begins at a place.
    fn read(&self, from: Lsn) -> Result<Vec<String>> {
        let (mut follower, mut keys, mut body) = (Follower::new(from), Vec::new(), Vec::new());
        while let Some(flush) = follower.next(&self.journal, self.tail())? {
            for place in flush.batches {
                follower.body(&self.journal, place, &mut body)?;
                let (record, _) = Record::decode(&body).expect("whole");
                keys.push(String::from_utf8(record.key.to_vec()).unwrap());
            }
        }
        Ok(keys)
    }

    fn read_all(&self) -> Result<Vec<String>> {
        self.read(self.journal.oldest(self.tail())?)
    }

    /// Leaves a file as a leader does that dies before it becomes the current one.
    fn leave_file(&self, term: u32, number: u32, previous: Lsn) {
        let name = FileName::Journal { term, number };
        let header = FileHeader {
            store: STORE,
            tag: file_tag(&STORE, name),
            capacity: CAPACITY,
            previous,
            created_ms: 1,
        };
        let _ = self.disk.remove(&name.to_string());
        let file = self.disk.create(&name.to_string()).unwrap();
        file.reserve(CAPACITY).unwrap();
        file.write_at(0, &header.encode()).unwrap();
    }
}

#[test]
fn a_file_that_never_became_the_current_one_is_passed_over() {
    // Of the same term as what was written before, or of one of its own; the leader may also write it when others are long ahead.
    for (term, number, late) in [(1, 1, false), (1, 1, true), (2, 0, false), (2, 0, true)] {
        let rig = Rig::new();
        rig.flush("a");
        let end = rig.tail();
        assert_eq!((end.term(), end.number()), (1, 0));
        if !late {
            rig.leave_file(term, number, end);
        }
        rig.leader_dies();
        if term == 2 {
            // It claims a term, and so does the next one.
            super::leader::inherit(rig.control().leader(), 5);
            rig.leader_dies();
        }
        rig.flush("b");
        assert!(rig.tail().term() > term, "{:?}", rig.tail());
        if late {
            rig.leave_file(term, number, end);
        }
        rig.flush("c");
        for from in [Lsn::new(1, 0, FIRST_SECTOR), end, rig.journal.oldest(rig.tail()).unwrap()] {
            let expected: &[&str] = if from == end { &["b", "c"] } else { &["a", "b", "c"] };
            assert_eq!(rig.read(from).unwrap(), expected, "{term}.{number}, late {late}");
        }
    }
}

#[test]
fn a_batch_that_is_damaged_is_told_and_not_passed_over() {
    for rolls in [false, true] {
        let rig = Rig::new();
        rig.flush("a");
        let second = rig.tail();
        rig.flush("b");
        rig.flush("c");
        if rolls {
            rig.leader_dies();
            rig.flush("d");
        }
        let name = FileName::Journal { term: second.term(), number: second.number() }.to_string();
        rig.disk.edit(&name, |bytes| bytes[second.byte() as usize] ^= 1);
        let error = rig.read_all().unwrap_err();
        assert_eq!(error.code(), ErrorCode::JournalCorrupt, "{error}");
        assert!(error.detail().contains(&name), "{error}");
        // A place that is none.
        let error = rig.read(second.at_sector(second.sector() + 1)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::JournalCorrupt, "{error}");
    }
}
