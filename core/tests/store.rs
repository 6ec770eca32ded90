//! A store in a real fabric: shared by processes, recovered after all are gone, refused where it must be.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memora::{
    ChannelKind, ChannelOptions, Create, Durability, ErrorCode, Fabric, FabricOptions, LogFiles,
    RepairOptions, RestoreOptions, Retention, Store, StoreOptions, repair, restore, verify,
};
use memora_testkit::process::{Worker, role, tell};

const ENTRY: &str = "plays_its_role";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("PLACE_HOME", self.home()), ("PLACE_FILES", self.files())]
    }

    fn worker(&self, role: &str) -> Worker {
        let owned = self.environment();
        let borrowed: Vec<(&str, &OsStr)> =
            owned.iter().map(|(name, path)| (*name, path.as_os_str())).collect();
        Worker::spawn(ENTRY, role, &borrowed)
    }

    fn lose_the_segment(&self) {
        Fabric::remove(Some(&self.home()), "store-test").unwrap();
    }
}

fn open(home: &Path, files: &Path, durability: Durability) -> (Fabric, Store) {
    let fabric = FabricOptions::new()
        .home(home.to_path_buf())
        .limit(16 << 20)
        .create(Create::OpenOrCreate)
        .open("store-test")
        .unwrap();
    let options = StoreOptions { dir: Some(files.to_path_buf()), durability, ..StoreOptions::default() };
    let store = fabric.store("orders", &options).unwrap();
    (fabric, store)
}

/// Not a test of its own: what a child of the tests below does.
#[test]
fn plays_its_role() {
    let Some(role) = role() else { return };
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let (home, files) = (variable("PLACE_HOME"), variable("PLACE_FILES"));
    match role.as_str() {
        "sync" => {
            let (_fabric, store) = open(&home, &files, Durability::Sync);
            for step in 0u64.. {
                let key = format!("{}", std::process::id());
                store.set(key.as_bytes(), step.to_string().as_bytes()).unwrap();
                tell(&format!("ack {key} {step}"));
            }
        }
        "async" => {
            let (_fabric, store) = open(&home, &files, Durability::Async { interval_ms: 10 });
            store.set(b"before", b"1").unwrap();
            tell("set");
            // The ticker works while this thread only sleeps.
            std::thread::sleep(Duration::from_secs(60));
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn sync_survives_the_death_of_all_processes_and_then_the_loss_of_the_segment() {
    sync_survives(true);
}

#[test]
fn sync_survives_the_loss_of_processes_and_segment_at_once() {
    sync_survives(false);
}

/// `look`: whether anybody opens the store again while its segment is still there.
fn sync_survives(look: bool) {
    let place = Place::new();
    let mut workers = [place.worker("sync"), place.worker("sync"), place.worker("sync")];
    let mut last = Vec::new();
    for round in 0..40 {
        for worker in &mut workers {
            let line = worker.expect_line("ack ");
            if round == 39 {
                let (key, step) = line.split_once(' ').unwrap();
                last.push((key.to_owned(), step.parse::<u64>().unwrap()));
            }
        }
    }
    for worker in &mut workers {
        worker.kill();
    }
    for worker in &mut workers {
        while let Some(line) = worker.next_line("ack ", Duration::from_millis(200)) {
            let (key, step) = line.split_once(' ').unwrap();
            let known = last.iter_mut().find(|(known, _)| known == key).unwrap();
            known.1 = known.1.max(step.parse().unwrap());
        }
    }
    let value = |store: &Store, key: &str| -> u64 {
        String::from_utf8(store.get(key.as_bytes()).unwrap().unwrap()).unwrap().parse().unwrap()
    };
    if look {
        // As it is after the death of processes alone: everything, and sound.
        let (fabric, store) = open(&place.home(), &place.files(), Durability::Process);
        for (key, step) in &last {
            assert!(value(&store, key) >= *step);
        }
        fabric.reap().unwrap();
        assert_eq!(fabric.check().unwrap().problems, []);
        drop((store, fabric));
    }
    place.lose_the_segment();
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Process);
    for (key, step) in &last {
        assert!(value(&store, key) >= *step, "{key} lost {step}");
    }
    assert_eq!(store.len().unwrap(), 3);
    assert_eq!(fabric.check().unwrap().problems, []);
}

#[test]
fn async_is_flushed_by_the_ticker_though_the_process_does_nothing() {
    let place = Place::new();
    let mut worker = place.worker("async");
    worker.expect_line("set");
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Process);
    while store.stats().unwrap().flushed_records == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    worker.kill();
    drop((store, fabric));
    place.lose_the_segment();
    let (_fabric, store) = open(&place.home(), &place.files(), Durability::Process);
    assert_eq!(store.get(b"before").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn a_directory_is_one_fabrics_until_all_of_it_are_gone() {
    let place = Place::new();
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Sync);
    store.set(b"a", b"1").unwrap();
    let other = FabricOptions::new().home(place.home()).limit(16 << 20).open("another").unwrap();
    let options = StoreOptions { dir: Some(place.files()), ..StoreOptions::default() };
    assert_eq!(other.store("orders", &options).err().unwrap().code(), ErrorCode::Busy);
    assert_eq!(other.store("invoices", &options).err().unwrap().code(), ErrorCode::NotAStore);
    drop((store, fabric));
    let taken = other.store("orders", &options).unwrap();
    assert_eq!(taken.get(b"a").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn a_store_is_opened_by_name_alone_and_not_as_anything_else() {
    let place = Place::new();
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Sync);
    store.set(b"a", b"1").unwrap();
    let by_name = fabric.store("orders", &StoreOptions::default()).unwrap();
    assert_eq!(by_name.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(fabric.cache("orders").err().unwrap().code(), ErrorCode::WrongKind);
    let memory_only = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let scratch = fabric.store("scratch", &memory_only).unwrap();
    scratch.set(b"a", b"2").unwrap();
    assert!(scratch.delete(b"a").unwrap());
    assert_eq!(
        fabric.store("new", &StoreOptions::default()).err().unwrap().code(),
        ErrorCode::InvalidArgument
    );
    assert_eq!(fabric.check().unwrap().problems, []);
}

#[test]
fn a_full_file_system_refuses_writes_before_they_change_anything() {
    let place = Place::new();
    let files = place.files();
    std::fs::create_dir(&files).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs"])
        .arg(&files)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let unmount = || {
        std::process::Command::new("umount").arg("-l").arg(&files).status().unwrap();
    };
    let outcome = std::panic::catch_unwind(|| {
        let fabric = FabricOptions::new().home(place.home()).limit(32 << 20).open("full").unwrap();
        let options = StoreOptions {
            dir: Some(files.join("store")),
            durability: Durability::Sync,
            checkpoint_bytes: 8 << 20,
            ..StoreOptions::default()
        };
        let store = fabric.store("orders", &options).unwrap();
        let mut acknowledged = Vec::new();
        let refused = loop {
            let number = acknowledged.len() as u32;
            assert!(number < 2000, "6 MB take no {number} values of 10 KB");
            match store.set(&number.to_be_bytes(), &[number as u8; 10_000]) {
                Ok(_) => acknowledged.push(number),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code(), ErrorCode::NoSpace, "{refused}");
        // From now on nothing is changed.
        let before = store.len().unwrap();
        assert_eq!(store.set(b"later", b"x").unwrap_err().code(), ErrorCode::NoSpace);
        assert_eq!(store.len().unwrap(), before);
        assert_eq!(store.get(&0u32.to_be_bytes()).unwrap().unwrap().len(), 10_000);
        // There is room again: the store goes on by itself.
        std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(&files).status().unwrap();
        store.flush().unwrap();
        store.set(b"later", b"x").unwrap();
        let count = acknowledged.len();
        drop((store, fabric));
        Fabric::remove(Some(&place.home()), "full").unwrap();
        let fabric = FabricOptions::new().home(place.home()).limit(32 << 20).open("full").unwrap();
        let store = fabric.store("orders", &options).unwrap();
        for number in acknowledged {
            assert!(store.get(&number.to_be_bytes()).unwrap().is_some(), "{number} of {count} is lost");
        }
        assert_eq!(store.get(b"later").unwrap(), Some(b"x".to_vec()));
    });
    unmount();
    if let Err(reason) = outcome {
        std::panic::resume_unwind(reason);
    }
}

/// The files of a directory.
#[test]
fn a_journal_that_is_many_times_the_memory_is_recovered() {
    let place = Place::new();
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Process);
    let value = |round: u32| vec![round as u8; 30_000];
    for round in 0..2000u32 {
        store.set(&(round % 40).to_le_bytes(), &value(round)).unwrap();
        if round % 20 == 0 {
            store.flush().unwrap();
        }
        if round % 50 == 7 || round > 1995 {
            assert!(store.delete(&(round % 40).to_le_bytes()).unwrap());
        }
    }
    store.flush().unwrap();
    assert!(store.stats().unwrap().journal_bytes > 3 * (16 << 20));
    let kept = |store: &Store| {
        let kept: Vec<_> = (0..40u32).map(|key| store.get(&key.to_le_bytes()).unwrap()).collect();
        kept
    };
    let before = kept(&store);
    assert!(before.iter().flatten().count() > 30 && before.iter().any(Option::is_none));
    drop(store);
    fabric.close().unwrap();
    place.lose_the_segment();
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Process);
    assert_eq!(kept(&store), before);
    assert_eq!(store.len().unwrap(), before.iter().flatten().count() as u64);
    let report = fabric.check().unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn the_directory_of_a_log_is_refused_by_the_tools_of_stores_and_left_as_it_is() {
    let place = Place::new();
    let at = |name: &str| place.folder.path().join(name);
    let (fabric, store) = open(&place.home(), &place.files(), Durability::Sync);
    store.set(b"a", b"1").unwrap();
    store.backup(at("backup"), |_, _| {}).unwrap();
    let files = LogFiles { durability: Durability::Sync, file_bytes: 64 << 10, ..LogFiles::new(at("log")) };
    let options = ChannelOptions {
        kind: ChannelKind::Log,
        retention: Some(Retention { bytes: 256 << 10, age: None }),
        files: Some(files),
        ..ChannelOptions::default()
    };
    let log = fabric.channel("ticks", &options).unwrap();
    log.appender().unwrap().append(b"tick").unwrap();
    drop((log, store, fabric));
    let before = content(&at("log"));
    assert!(before.len() >= 2);
    let apply = RepairOptions { apply: true, name: Some("ticks".into()) };
    let overwrite = RestoreOptions { name: None, overwrite: true };
    for error in [
        verify(at("log"), |_, _| {}).unwrap_err(),
        repair(at("log"), &RepairOptions::default(), |_, _| {}).unwrap_err(),
        repair(at("log"), &apply, |_, _| {}).unwrap_err(),
        restore(at("backup"), at("log"), &overwrite, |_, _| {}).unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::NotAStore, "{error}");
        assert!(error.detail().contains("the log `ticks`"), "{error}");
    }
    assert_eq!(content(&at("log")), before);
    assert_eq!(verify(place.files(), |_, _| {}).unwrap().records, 1);
}
