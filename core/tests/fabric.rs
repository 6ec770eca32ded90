//! One fabric, three objects: what a user sees first.

use std::time::Duration;

use memora::{
    Backend, CacheOptions, ChannelKind, ChannelOptions, Create, Durability, ErrorCode, Fabric, FabricOptions,
    OverrunPolicy, StoreOptions, WhenFull,
};
use tempfile::TempDir;

fn home() -> TempDir {
    tempfile::Builder::new().prefix("memora-test").tempdir_in("/dev/shm").expect("a temporary home")
}

fn options(home: &TempDir) -> FabricOptions {
    FabricOptions::new().home(home.path()).limit(16 << 20)
}

fn broadcast() -> ChannelOptions {
    ChannelOptions {
        kind: ChannelKind::Broadcast,
        overrun: OverrunPolicy::Block,
        lane_bytes: 64 << 10,
        ..ChannelOptions::default()
    }
}

fn assert_sound(fabric: &Fabric) {
    let report = fabric.check().unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

/// The same steps on every backend.
fn use_all_three_objects(fabric: &Fabric, home: &TempDir) {
    let cache = fabric.cache("prices").unwrap();
    for number in 0..5000u32 {
        cache.set(format!("key {number}").as_bytes(), &number.to_le_bytes()).unwrap();
    }
    assert_eq!(cache.len().unwrap(), 5000);
    assert_eq!(cache.get(b"key 4711").unwrap(), Some(4711u32.to_le_bytes().to_vec()));
    assert!(cache.delete(b"key 1").unwrap() && cache.get(b"key 1").unwrap().is_none());

    let channel = fabric.channel("events", &broadcast()).unwrap();
    let mut subscriber = channel.subscribe("reader").unwrap();
    let mut publisher = channel.publisher().unwrap();
    for number in 0..100u32 {
        publisher.send(&number.to_le_bytes()).unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        assert!(
            subscriber.poll(16, |_, bytes| seen.push(u32::from_le_bytes(bytes.try_into().unwrap()))).unwrap()
                > 0
        );
    }
    assert_eq!(seen, (0..100).collect::<Vec<_>>());

    let dir = home.path().join(format!("{}-files", fabric.info().unwrap().backend.name()));
    let files = StoreOptions { dir: Some(dir), durability: Durability::Sync, ..StoreOptions::default() };
    let store = fabric.store("orders", &files).unwrap();
    store.set(b"4711", b"two of them").unwrap();
    assert_eq!(store.get(b"4711").unwrap(), Some(b"two of them".to_vec()));
    store.close().unwrap();
    drop((publisher, subscriber));
    assert_sound(fabric);
}

#[test]
fn every_backend_carries_the_three_objects() {
    for backend in [Backend::File, Backend::Posix, Backend::SysV, Backend::Memfd, Backend::Heap] {
        let home = home();
        let name = format!("all-{}", std::process::id());
        let fabric = options(&home).backend(backend).open(&name).unwrap();
        use_all_three_objects(&fabric, &home);
        let stat = fabric.stat().unwrap();
        assert_eq!((stat.info.objects, stat.info.processes), (3, 1), "{backend:?}");
        drop(fabric);
        if matches!(backend, Backend::File | Backend::Posix | Backend::SysV) {
            let again = options(&home).backend(backend).create(Create::OpenOnly).open(&name).unwrap();
            assert_eq!(again.cache("prices").unwrap().len().unwrap(), 4999, "{backend:?}");
            assert_eq!(again.info().unwrap().processes, 1);
            drop(again);
            Fabric::remove(Some(home.path()), &name).unwrap();
            let error = options(&home).backend(backend).create(Create::OpenOnly).open(&name).err().unwrap();
            assert_eq!(error.code(), ErrorCode::NotFound, "{backend:?}");
        }
    }
}

#[test]
fn a_memory_file_is_shared_by_its_descriptor() {
    let home = home();
    let fabric = options(&home).backend(Backend::Memfd).open("sealed").unwrap();
    fabric.cache("c").unwrap().set(b"k", b"v").unwrap();
    let other = FabricOptions::new().open_fd(fabric.memfd().unwrap()).unwrap();
    assert_eq!(other.cache("c").unwrap().get(b"k").unwrap(), Some(b"v".to_vec()));
    assert_eq!(other.info().unwrap().processes, 2);
    let file = std::fs::File::from(fabric.memfd().unwrap());
    assert!(file.set_len(0).is_err(), "the size is sealed");
}

#[test]
fn two_creators_at_once_get_one_fabric_and_one_object() {
    for round in 0..20 {
        let home = home();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|number: u32| {
                    let options = options(&home);
                    scope.spawn(move || {
                        let fabric = options.open("one").unwrap();
                        let cache = fabric.cache("c").unwrap();
                        cache.set(&number.to_le_bytes(), b"here").unwrap();
                        fabric.info().unwrap().uuid
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "round {round}: {ids:?}");
        let fabric = options(&home).open("one").unwrap();
        assert_eq!(fabric.cache("c").unwrap().len().unwrap(), 4);
        assert_eq!(fabric.objects().unwrap().len(), 1);
        assert_sound(&fabric);
        let left: Vec<_> =
            std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["one.fabric"], "nothing else is left in the home");
    }
}

#[test]
fn the_memory_of_a_store_may_be_lost_but_not_its_files() {
    let home = home();
    let dir = home.path().join("files");
    let files = StoreOptions { dir: Some(dir), durability: Durability::Sync, ..StoreOptions::default() };
    let fabric = options(&home).open("lost").unwrap();
    let store = fabric.store("orders", &files).unwrap();
    for number in 0..300u32 {
        store.set(&number.to_le_bytes(), format!("value {number}").as_bytes()).unwrap();
    }
    store.delete(&7u32.to_le_bytes()).unwrap();
    drop((store, fabric));
    Fabric::remove(Some(home.path()), "lost").unwrap();
    let fabric = options(&home).open("lost").unwrap();
    let store = fabric.store("orders", &files).unwrap();
    assert_eq!(store.len().unwrap(), 299);
    assert_eq!(store.get(&7u32.to_le_bytes()).unwrap(), None);
    assert_eq!(store.get(&299u32.to_le_bytes()).unwrap(), Some(b"value 299".to_vec()));
    assert_sound(&fabric);
}

#[test]
fn threads_that_end_give_their_entries_and_chunks_back() {
    let home = home();
    let fabric = options(&home).open("threads").unwrap();
    let cache = fabric.cache("c").unwrap();
    for round in 0..700u32 {
        let cache = cache.clone();
        std::thread::spawn(move || cache.set(&round.to_le_bytes(), b"x").unwrap()).join().unwrap();
    }
    assert_eq!(cache.len().unwrap(), 700);
    assert_eq!(fabric.stat().unwrap().processes[0].threads, 1);
    assert_sound(&fabric);
}

#[test]
fn an_attachment_closed_by_another_thread_leaves_nothing_behind() {
    let home = home();
    let keeper = options(&home).open("linger").unwrap();
    for _ in 0..100 {
        let fabric = options(&home).open("linger").unwrap();
        let (ready, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            let shared = fabric.clone();
            let (ready, wait) = (&ready, &wait);
            scope.spawn(move || {
                shared.cache("c").unwrap().set(b"k", b"v").unwrap();
                drop(shared);
                ready.wait();
                wait.wait();
            });
            ready.wait();
            drop(fabric);
            wait.wait();
        });
    }
    keeper.reap().unwrap();
    let stat = keeper.stat().unwrap();
    assert_eq!(stat.processes.len(), 1, "{:?}", stat.processes);
    assert_eq!(keeper.cache("c").unwrap().get(b"k").unwrap(), Some(b"v".to_vec()));
    assert_sound(&keeper);
}

#[test]
fn a_closed_handle_is_an_error_and_not_a_crash() {
    let home = home();
    let fabric = options(&home).open("closed").unwrap();
    let cache = fabric.cache("c").unwrap();
    let mut publisher = fabric.channel("e", &broadcast()).unwrap().publisher().unwrap();
    fabric.close().unwrap();
    assert_eq!(cache.get(b"k").err().unwrap().code(), ErrorCode::Closed);
    assert_eq!(cache.set(b"k", b"v").err().unwrap().code(), ErrorCode::Closed);
    assert_eq!(fabric.cache("d").err().unwrap().code(), ErrorCode::Closed);
    assert_eq!(fabric.close().err().unwrap().code(), ErrorCode::Closed);
    // A publisher may finish what its lane has room for, or say so; it never crashes.
    let _ = publisher.send_timeout(b"x", Duration::from_millis(1));
}

#[test]
fn a_read_only_attachment_reads_and_refuses_to_write() {
    let home = home();
    let fabric = options(&home).open("shown").unwrap();
    fabric.cache("c").unwrap().set(b"k", b"v").unwrap();
    let reader = options(&home).read_only(true).open("shown").unwrap();
    let cache = reader.cache("c").unwrap();
    assert_eq!(cache.get(b"k").unwrap(), Some(b"v".to_vec()));
    assert_eq!(cache.set(b"k", b"w").err().unwrap().code(), ErrorCode::ReadOnly);
    assert_eq!(reader.cache("new").err().unwrap().code(), ErrorCode::ReadOnly);
    assert_eq!(reader.info().unwrap().processes, 1, "a reader takes no entry");
    assert_eq!(fabric.cache("c").unwrap().get(b"k").unwrap(), Some(b"v".to_vec()));
}

#[test]
fn names_kinds_and_options_that_do_not_fit_are_told_with_a_remedy() {
    let home = home();
    let fabric = options(&home).open("names").unwrap();
    for name in ["", ".hidden", "a/b", "space bar", &"x".repeat(65)] {
        assert_eq!(options(&home).open(name).err().unwrap().code(), ErrorCode::InvalidName, "{name}");
        assert_eq!(fabric.cache(name).err().unwrap().code(), ErrorCode::InvalidName, "{name}");
    }
    fabric.cache("c").unwrap();
    let error = fabric.channel("c", &broadcast()).err().unwrap();
    assert!(error.code() == ErrorCode::WrongKind && error.to_string().contains("cache"), "{error}");
    fabric.channel("e", &broadcast()).unwrap();
    let other = ChannelOptions { lane_bytes: 128 << 10, ..broadcast() };
    assert_eq!(fabric.channel("e", &other).err().unwrap().code(), ErrorCode::WrongOptions);
    let limited = CacheOptions { limit: Some(1 << 20), ..CacheOptions::default() };
    let error = fabric.cache_with("c", &limited).err().unwrap();
    assert!(error.code() == ErrorCode::WrongOptions && error.to_string().contains("1048576"), "{error}");
    fabric.cache_with("c", &CacheOptions::default()).unwrap();
    fabric.cache_with("limited", &limited).unwrap();
    for other in [
        CacheOptions::default(),
        CacheOptions { limit: Some(2 << 20), ..limited },
        CacheOptions { entries: Some(7), ..limited },
        CacheOptions { when_full: WhenFull::Reject, ..limited },
        CacheOptions { events: true, ..limited },
        CacheOptions { transactions: true, ..limited },
    ] {
        assert_eq!(fabric.cache_with("limited", &other).err().unwrap().code(), ErrorCode::WrongOptions);
    }
    fabric.cache("limited").unwrap();
    let tiny = CacheOptions { limit: Some(50 << 10), ..limited };
    assert_eq!(fabric.cache_with("tiny", &tiny).err().unwrap().code(), ErrorCode::LimitTooSmall);
    for nothing in [CacheOptions { limit: Some(0), ..limited }, CacheOptions { entries: Some(0), ..limited }]
    {
        assert_eq!(fabric.cache_with("none", &nothing).err().unwrap().code(), ErrorCode::InvalidArgument);
    }
    assert_eq!(fabric.open_channel("none").err().unwrap().code(), ErrorCode::NotFound);
    assert_eq!(
        options(&home).create(Create::CreateNew).open("names").err().unwrap().code(),
        ErrorCode::AlreadyExists
    );
    assert_eq!(options(&home).mode(0o666).open("names").err().unwrap().code(), ErrorCode::InvalidArgument);
    let small = options(&home).limit(1 << 19).open("small").err().unwrap();
    assert!(small.code() == ErrorCode::LimitTooSmall && small.to_string().contains("1048576"), "{small}");
}

#[test]
fn files_that_are_no_fabric_are_refused_and_left_alone() {
    use std::os::unix::fs::{FileExt, symlink};
    let home = home();
    let path = |name: &str| home.path().join(format!("{name}.fabric"));
    let code = |name: &str| options(&home).open(name).err().map(|error| error.code());

    std::fs::write(path("short"), b"hello").unwrap();
    assert_eq!(code("short"), Some(ErrorCode::NotAFabric));
    assert_eq!(std::fs::read(path("short")).unwrap(), b"hello");

    std::fs::write(path("zeros"), vec![0; 1 << 20]).unwrap();
    assert_eq!(code("zeros"), Some(ErrorCode::NotAFabric));

    drop(options(&home).open("cut").unwrap());
    std::fs::File::options().write(true).open(path("cut")).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(code("cut"), Some(ErrorCode::NotAFabric));

    drop(options(&home).open("newer").unwrap());
    let file = std::fs::File::options().write(true).open(path("newer")).unwrap();
    file.write_all_at(&77u32.to_le_bytes(), 8).unwrap();
    let error = options(&home).open("newer").err().unwrap();
    assert_eq!(error.code(), ErrorCode::LayoutMismatch);
    assert!(error.to_string().contains("version 77") && error.to_string().contains("version 1"), "{error}");

    drop(options(&home).open("real").unwrap());
    symlink(path("real"), path("link")).unwrap();
    assert_eq!(code("link"), Some(ErrorCode::NotOurs));

    // Each field of the sealed header, changed alone.
    drop(options(&home).open("field").unwrap());
    let file = std::fs::File::options().read(true).write(true).open(path("field")).unwrap();
    for at in (0..176).step_by(4) {
        let mut before = [0; 4];
        file.read_exact_at(&mut before, at).unwrap();
        file.write_all_at(&(u32::from_le_bytes(before) ^ 0x0101_0101).to_le_bytes(), at).unwrap();
        assert!(
            matches!(code("field"), Some(ErrorCode::NotAFabric | ErrorCode::LayoutMismatch)),
            "byte {at}: {:?}",
            code("field")
        );
        file.write_all_at(&before, at).unwrap();
    }
    assert_eq!(code("field"), None, "the untouched fabric opens again");
}
