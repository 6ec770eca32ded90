//! Leaving, dying and reaping in one process, where a peer is another attachment.

use std::sync::{Arc, Mutex, Weak};

use super::layout::Kind;
use super::{Heir, Registry};
use crate::error::{ErrorCode, Result};
use crate::segment::home::Home;
use crate::segment::locks::{LockFile, THREAD_BASE};
use crate::segment::{Backend, Geometry, Identity, attach_file, create_file};

const FILE: &str = "test.fabric";

/// Notes who was taken over from; fails as often as it is told.
#[derive(Default)]
struct Notes {
    inherited: Mutex<Vec<u16>>,
    failures: Mutex<u32>,
}

impl Heir for Notes {
    fn inherit(&self, thread: u16) -> Result<()> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(ErrorCode::NoSpace.into());
        }
        self.inherited.lock().unwrap().push(thread);
        Ok(())
    }
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let geometry = Geometry::for_limit(1 << 20).unwrap();
        let identity = Identity::new(0o600);
        create_file(
            &place.home(),
            FILE,
            Backend::File,
            &geometry,
            &identity,
            None,
            crate::fabric::FINGERPRINT,
        )
        .unwrap();
        place
    }

    fn home(&self) -> Home {
        Home::open(self.folder.path(), false).unwrap()
    }

    /// An attachment that has entered as a process.
    fn attach(&self, heir: &Arc<Notes>) -> Arc<Registry> {
        let segment =
            attach_file(&self.home(), FILE, Backend::File, false, crate::fabric::FINGERPRINT).unwrap();
        let registry = Registry::new(Arc::new(segment)).shared();
        let heir: Weak<Notes> = Arc::downgrade(heir);
        registry.set_heir(heir);
        registry.enter_process().unwrap();
        registry
    }

    /// The lock of a reaper in another process.
    fn locks(&self) -> LockFile {
        LockFile::new(
            std::fs::File::options()
                .read(true)
                .write(true)
                .open(self.folder.path().join(FILE))
                .unwrap()
                .into(),
        )
    }
}

/// The entry of a thread that ended without leaving.
fn dead_thread(registry: &Arc<Registry>) -> u16 {
    let registry = Arc::clone(registry);
    let thread = std::thread::spawn(move || {
        let index = registry.claim_thread(registry.process()).unwrap().unwrap();
        std::mem::forget(registry.take_life(index).unwrap().expect("a life word"));
        index
    });
    thread.join().unwrap()
}

#[test]
fn whoever_leaves_does_not_free_an_entry_that_a_reaper_is_at() {
    let place = Place::new();
    let heir = Arc::new(Notes::default());
    let (leaver, peer) = (place.attach(&heir), place.attach(&heir));
    let dead = dead_thread(&leaver);
    let reaper = place.locks();
    assert!(reaper.try_lock(THREAD_BASE + i64::from(dead)).unwrap());
    leaver.leave_all(&*heir).unwrap();
    // The entry could have another holder by now, whose things the reaper would take over.
    assert_eq!(peer.thread_state(dead).unwrap().kind(), Some(Kind::Live));
    assert_eq!(*heir.inherited.lock().unwrap(), [0u16; 0]);
    drop(reaper);
    assert_eq!(peer.reap(&*heir).unwrap().threads, 1, "whoever comes next finishes it");
    assert_eq!(peer.thread_state(dead).unwrap().kind(), Some(Kind::Free));
    assert_eq!(*heir.inherited.lock().unwrap(), [dead]);
}

#[test]
fn a_thread_that_could_not_leave_is_reaped() {
    let place = Place::new();
    let heir = Arc::new(Notes::default());
    let registry = place.attach(&heir);
    *heir.failures.lock().unwrap() = 1;
    let theirs = Arc::clone(&registry);
    let index = std::thread::spawn(move || theirs.member().unwrap().index).join().unwrap();
    assert_eq!(*heir.failures.lock().unwrap(), 0, "its leaving failed");
    assert_eq!(registry.reap(&*heir).unwrap().threads, 1);
    assert_eq!(*heir.inherited.lock().unwrap(), [index]);
}

#[test]
fn a_thread_keeps_no_entry_of_attachments_that_others_closed() {
    let place = Place::new();
    let heir = Arc::new(Notes::default());
    let keeper = place.attach(&heir);
    // More rounds than there are entries.
    for round in 0..200 {
        let heir = Arc::new(Notes::default());
        let registry = place.attach(&heir);
        registry.member().unwrap_or_else(|error| panic!("round {round}: {error}"));
        std::thread::spawn(move || {
            let strong = Arc::into_inner(heir).expect("the last one");
            registry.leave_all(&strong).unwrap();
        })
        .join()
        .unwrap();
    }
    keeper.member().unwrap();
    assert!(keeper.thread_count() <= 2, "{} entries are taken", keeper.thread_count());
}

#[test]
fn what_a_process_holds_for_its_views_ends_with_it() {
    let place = Place::new();
    let heir = Arc::new(Notes::default());
    let (peer, holder) = (place.attach(&heir), place.attach(&heir));
    let index = holder.claim_holder(8).unwrap().expect("there is room");
    assert_eq!(holder.claim_holder(1).unwrap(), None, "one is all that views may have");
    holder.holder_pins(index).unwrap().u32_at::<0>(3).store(7, std::sync::atomic::Ordering::Release);
    let pinned = || {
        let mut pinned = Vec::new();
        peer.each_pin(&mut |chunk| pinned.extend((chunk != 0).then_some(chunk)));
        pinned
    };
    assert_eq!((pinned(), peer.thread_count()), (vec![7], 0), "no thread's, but looked at");
    assert_eq!((peer.reap(&*heir).unwrap().threads, pinned()), (0, vec![7]), "its process lives");
    assert!(!peer.is_dead(index));
    // The kernel gives up the lock of a process that is gone.
    holder
        .segment()
        .locks()
        .unwrap()
        .unlock(crate::segment::locks::PROCESS_BASE + i64::from(holder.process()));
    assert!(peer.is_dead(index));
    peer.reap(&*heir).unwrap();
    assert_eq!(pinned(), Vec::<u32>::new());
    assert_eq!(peer.thread_state(index).unwrap().kind(), Some(Kind::Free));
}

#[test]
fn a_process_that_leaves_frees_what_it_held_for_views() {
    let place = Place::new();
    let heir = Arc::new(Notes::default());
    let (peer, holder) = (place.attach(&heir), place.attach(&heir));
    let index = holder.claim_holder(8).unwrap().expect("there is room");
    holder.holder_pins(index).unwrap().u32_at::<0>(0).store(7, std::sync::atomic::Ordering::Release);
    holder.leave_all(&*heir).unwrap();
    let mut pins = 0;
    peer.each_pin(&mut |chunk| pins += u32::from(chunk != 0));
    assert_eq!((pins, peer.thread_state(index).unwrap().kind()), (0, Some(Kind::Free)));
}
