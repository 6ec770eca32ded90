//! Segments that must not be trusted: of another boot, of a sender who could cut them, beside files that are none.

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Backend, Create, Fabric, FabricOptions};
use crate::error::ErrorCode;
use crate::segment::home;
use crate::segment::layout::at;
use crate::{Durability, StoreOptions};

fn options(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home).limit(4 << 20)
}

fn store_options(home: &Path) -> StoreOptions {
    StoreOptions { dir: Some(home.join("files")), durability: Durability::Sync, ..StoreOptions::default() }
}

/// A fabric with an entry in a cache and one in a store; then its file says that it was last used in another boot.
fn left_by_another_boot(home: &Path) {
    let fabric = options(home).open("old").unwrap();
    fabric.cache("c").unwrap().set(b"k", b"v").unwrap();
    fabric.store("s", &store_options(home)).unwrap().set(b"k", b"v").unwrap();
    drop(fabric);
    let file = std::fs::File::options().write(true).open(home.join("old.fabric")).unwrap();
    file.write_all_at(&[7; 16], at::LAST_BOOT as u64).unwrap();
}

#[test]
fn a_file_that_a_reboot_may_have_torn_is_made_anew_and_stores_recover() {
    let program = std::env::current_exe().unwrap();
    let place = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    left_by_another_boot(place.path());
    let only = options(place.path()).create(Create::OpenOnly).open("old");
    if home::is_in_memory(&std::fs::File::open(place.path()).unwrap().into()) {
        assert!(only.is_ok(), "what lies in memory does not outlive a boot");
        return;
    }
    let error = only.err().expect("refused");
    assert!(error.code() == ErrorCode::NotAFabric && error.detail().contains("restart"), "{error}");
    assert!(options(place.path()).read_only(true).open("old").is_err());
    let fabric = options(place.path()).open("old").unwrap();
    assert_eq!(fabric.cache("c").unwrap().get(b"k").unwrap(), None);
    let store = fabric.store("s", &store_options(place.path())).unwrap();
    assert_eq!(store.get(b"k").unwrap(), Some(b"v".to_vec()), "from its files");
    // The new one is not of another boot, and who has it open shares it.
    let other = options(place.path()).create(Create::OpenOnly).open("old").unwrap();
    assert_eq!(other.info().unwrap().uuid, fabric.info().unwrap().uuid);
}

#[test]
fn a_file_in_use_or_in_memory_is_not_taken_for_torn() {
    let program = std::env::current_exe().unwrap();
    let disk = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    left_by_another_boot(disk.path());
    let fabric = options(disk.path()).open("old").unwrap();
    fabric.cache("c").unwrap().set(b"k", b"w").unwrap();
    // A container may show its processes another boot id.
    let file = std::fs::File::options().write(true).open(disk.path().join("old.fabric")).unwrap();
    file.write_all_at(&[9; 16], at::LAST_BOOT as u64).unwrap();
    let other = options(disk.path()).open("old").unwrap();
    assert_eq!(other.cache("c").unwrap().get(b"k").unwrap(), Some(b"w".to_vec()));

    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    left_by_another_boot(memory.path());
    let fabric = options(memory.path()).open("old").unwrap();
    assert_eq!(fabric.cache("c").unwrap().get(b"k").unwrap(), Some(b"v".to_vec()));
}

#[test]
fn a_memory_file_that_its_sender_could_cut_is_refused() {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fabric = FabricOptions::new().backend(Backend::Memfd).limit(1 << 20).open("sealed").unwrap();
    let sealed = std::fs::File::from(fabric.memfd().unwrap());
    let mut bytes = vec![0; 1 << 20];
    sealed.read_exact_at(&mut bytes, 0).unwrap();
    let copy = std::fs::File::from(memfd_create(c"copy", MFdFlags::MFD_CLOEXEC).unwrap());
    copy.write_all_at(&bytes, 0).unwrap();
    let error = FabricOptions::new().open_fd(copy.into()).err().expect("refused");
    assert!(error.code() == ErrorCode::InvalidArgument && error.detail().contains("seal"), "{error}");
    assert!(FabricOptions::new().open_fd(sealed.into()).is_ok());
}

#[test]
fn a_pipe_under_the_name_of_a_fabric_keeps_nobody_waiting() {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = place.path().join("pipe.sysv");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    Fabric::remove(Some(place.path()), "pipe").unwrap();
    assert!(!path.exists());
}

#[test]
fn a_damaged_object_does_not_keep_what_threads_leave_in_others_from_being_taken_over() {
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let fabric = options(home.path()).open("one-broken").unwrap();
    let cache = fabric.cache("sound").unwrap();
    fabric.cache("broken").unwrap();
    let inner = &fabric.inner;
    let broken = inner.directory.find(&inner.pool, "broken").unwrap().expect("just made");
    let file = std::fs::File::options().write(true).open(home.path().join("one-broken.fabric")).unwrap();
    file.write_all_at(&[0xff; 8], broken.offset).unwrap();
    assert_eq!(fabric.cache("broken").err().unwrap().code(), ErrorCode::Corrupt);
    // More threads than there are entries, each leaving an open chunk behind.
    for round in 0..inner.registry.thread_entries() + 10 {
        let cache = cache.clone();
        std::thread::spawn(move || cache.set(&round.to_le_bytes(), b"x").unwrap()).join().unwrap();
    }
    assert!(fabric.check().unwrap().problems.iter().any(|problem| problem.to_string().contains("cell")));
}

#[test]
fn damaged_content_of_a_channel_or_service_does_not_keep_entries_of_ended_threads() {
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let fabric = options(home.path()).open("torn").unwrap();
    let channel_options = crate::ChannelOptions { lane_bytes: 4096, ..Default::default() };
    let channel = fabric.channel("torn-lane", &channel_options).unwrap();
    fabric.channel("torn-head", &channel_options).unwrap();
    fabric.service("torn-service", &crate::ServiceOptions::default()).unwrap();
    let cache = fabric.cache("sound").unwrap();
    let file = std::fs::File::options().write(true).open(home.path().join("torn.fabric")).unwrap();
    let inner = &fabric.inner;
    let content = |name: &str| {
        inner.directory.find(&inner.pool, name).unwrap().expect("just made").offset
            + super::directory::HEADER_BYTES
    };
    // A lane whose ring begins with a frame that cannot be, of a thread that ends with it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = channel.publisher().unwrap();
            publisher.send(b"x").unwrap();
            let lane = crate::channel::layout::control::BYTES as u64;
            let at = content("torn-lane") + lane + crate::channel::layout::lane::TAIL as u64;
            file.write_all_at(&[0xff; 8], at).unwrap();
            std::mem::forget(publisher);
        });
    });
    // Kinds that there are not.
    file.write_all_at(&[0xff; 4], content("torn-head")).unwrap();
    file.write_all_at(&[0xff; 4], content("torn-service")).unwrap();
    assert_eq!(fabric.open_channel("torn-head").err().unwrap().code(), ErrorCode::Corrupt);
    assert_eq!(fabric.open_service("torn-service").err().unwrap().code(), ErrorCode::Corrupt);
    // More threads than there are entries, each leaving an open chunk behind.
    for round in 0..inner.registry.thread_entries() + 10 {
        let cache = cache.clone();
        std::thread::spawn(move || cache.set(&round.to_le_bytes(), b"x").unwrap()).join().unwrap();
    }
    let problems = fabric.check().unwrap().problems;
    for name in ["torn-lane", "torn-head", "torn-service"] {
        assert!(problems.iter().any(|problem| problem.to_string().contains(name)), "{name}: {problems:?}");
    }
}
