//! Opening a fabric: everybody gets the same whole one, on every backend; bad input is an error that says what to do.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use memora::{Backend, Create, ErrorCode, Fabric, FabricOptions};
use memora_testkit::kill_point::{Harm, Victim};
use memora_testkit::process::role;

const ENTRY: &str = "plays_its_role";

/// A home in memory, so that pages are reserved as in real use.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there")
}

fn small(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home).limit(2 << 20)
}

fn names(home: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(home)
        .expect("the home")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[track_caller]
fn refused(result: memora::Result<Fabric>, code: ErrorCode, says: &str) {
    let error = match result {
        Ok(fabric) => panic!("{:?} was opened", fabric.path()),
        Err(error) => error,
    };
    assert_eq!(error.code(), code, "{error}");
    let text = error.to_string();
    assert!(text.contains(says) && text.contains(code.remedy()), "`{says}` is missing in: {text}");
}

#[test]
fn plays_its_role() {
    let Some(role) = role() else { return };
    let home = PathBuf::from(std::env::var_os("OPENING_HOME").expect("the parent gives it"));
    let backend = if role == "sysv" { Backend::SysV } else { Backend::File };
    let fabric = small(&home).backend(backend).open("one").expect("open");
    fabric.cache("c").expect("cache").set(b"victim", b"was here").expect("set");
}

#[test]
fn everybody_who_opens_at_once_gets_the_same_fabric_and_no_private_file_is_left() {
    for round in 0..20 {
        let home = home();
        let barrier = Barrier::new(8);
        let uuids: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let fabric = small(home.path()).open("one").expect("open");
                        // Used at once: what a joiner gets is whole.
                        fabric.cache("c").expect("cache").set(b"key", b"value").expect("set");
                        fabric.info().expect("info").uuid
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(uuids.iter().all(|uuid| *uuid == uuids[0]), "round {round}: {uuids:?}");
        assert_eq!(names(home.path()), ["one.fabric"], "round {round}");
    }
}

#[test]
fn a_creator_killed_or_frozen_at_any_point_leaves_nothing_that_disturbs_the_next() {
    let points = [
        ("file", "segment.create.locked"),
        ("file", "segment.create.before_publish"),
        ("file", "segment.create.published"),
        ("sysv", "segment.create.locked"),
        ("sysv", "segment.create.key_written"),
        ("sysv", "segment.create.before_publish"),
        ("sysv", "segment.create.published"),
    ];
    for (backend, point) in points {
        for harm in Harm::ALL {
            let home = home();
            let environment: [(&str, &OsStr); 1] = [("OPENING_HOME", home.path().as_os_str())];
            let victim = Victim::harm(ENTRY, backend, &environment, (point, 1, harm))
                .unwrap_or_else(|| panic!("{point} is not reached"));
            let kind = if backend == "sysv" { Backend::SysV } else { Backend::File };
            let fabric = small(home.path()).backend(kind).open("one").expect("the next opener");
            let cache = fabric.cache("c").expect("cache");
            cache.set(b"next", b"1").expect("set");
            let uuid = fabric.info().expect("info").uuid;
            victim.finish();
            if harm == Harm::Freeze {
                let seen = cache.get(b"victim").expect("get");
                assert_eq!(seen.as_deref(), Some(&b"was here"[..]), "{point}: it made another fabric");
            }
            // Whoever creates next sweeps the wrecks, whatever fabric it makes.
            small(home.path()).backend(kind).create(Create::CreateNew).open("two").expect("another");
            let left = names(home.path());
            assert!(left.iter().all(|name| !name.starts_with('.')), "{point} {harm:?}: {left:?}");
            let again = small(home.path()).backend(kind).open("one").expect("again");
            assert_eq!(again.info().expect("info").uuid, uuid, "{point} {harm:?}");
            assert_eq!(fabric.check().expect("check").problems, [], "{point} {harm:?}");
            for name in ["one", "two"] {
                Fabric::remove(Some(home.path()), name).expect("remove");
            }
        }
    }
}

#[test]
fn every_backend_keeps_what_one_attachment_stores_for_the_next() {
    let name = format!("conformance-{}", std::process::id());
    for backend in [Backend::File, Backend::Posix, Backend::SysV, Backend::Memfd, Backend::Heap] {
        let home = home();
        let options = small(home.path()).backend(backend);
        let first = options.clone().create(Create::CreateNew).open(&name).expect("create");
        assert_eq!(first.info().expect("info").backend, backend);
        let cache = first.cache("c").expect("cache");
        let keys: Vec<Vec<u8>> = (0..500u32).map(|key| key.to_le_bytes().to_vec()).collect();
        for key in &keys {
            cache.set(key, &[key[0]; 200]).expect("set");
        }
        let other = match backend {
            Backend::Heap => first.clone(),
            Backend::Memfd => {
                FabricOptions::new().open_fd(first.memfd().expect("descriptor")).expect("attach")
            }
            _ => {
                refused(
                    options.clone().create(Create::CreateNew).open(&name),
                    ErrorCode::AlreadyExists,
                    &name,
                );
                options.clone().create(Create::OpenOnly).open(&name).expect("attach")
            }
        };
        let seen = other.cache("c").expect("cache");
        for key in &keys {
            assert_eq!(seen.get(key).expect("get").as_deref(), Some(&[key[0]; 200][..]), "{backend:?}");
        }
        // A thread of its own comes and goes.
        std::thread::scope(|scope| {
            scope.spawn(|| seen.set(b"thread", b"1").expect("set"));
        });
        assert_eq!(cache.get(b"thread").expect("get").as_deref(), Some(&b"1"[..]));
        assert_eq!(other.check().expect("check").problems, [], "{backend:?}");
        let attached = if backend == Backend::Heap { 1 } else { 2 };
        assert_eq!(first.stat().expect("stat").processes.len(), attached, "{backend:?}");
        drop((seen, other));
        assert_eq!(first.stat().expect("stat").processes.len(), 1, "{backend:?}: leaving frees the entry");
        drop((cache, first));
        if matches!(backend, Backend::File | Backend::Posix | Backend::SysV) {
            let listed = Fabric::list(Some(home.path())).expect("list");
            assert!(listed.iter().any(|info| info.name == name && info.problem.is_none()), "{backend:?}");
            let again = options.clone().create(Create::OpenOnly).open(&name).expect("attach again");
            assert_eq!(again.cache("c").expect("cache").len().expect("len"), 501, "{backend:?}");
            drop(again);
            Fabric::remove(Some(home.path()), &name).expect("remove");
            refused(options.create(Create::OpenOnly).open(&name), ErrorCode::NotFound, &name);
        }
    }
}

#[test]
fn threads_that_come_and_go_use_no_entries_up() {
    let fabric = FabricOptions::new().backend(Backend::Heap).limit(2 << 20).open("threads").expect("open");
    let cache = fabric.cache("c").expect("cache");
    for round in 0..300u32 {
        std::thread::scope(|scope| {
            // Joined by hand: a scope may end before a thread has given its entry back.
            scope.spawn(|| cache.set(b"key", &round.to_le_bytes()).expect("set")).join().expect("no panic");
        });
        assert_eq!(cache.get(b"key").expect("get").as_deref(), Some(&round.to_le_bytes()[..]));
    }
    let threads: u32 = fabric.stat().expect("stat").processes.iter().map(|process| process.threads).sum();
    assert!(threads <= 2, "{threads} entries are taken by this one thread");
}

#[test]
fn the_shared_memory_crate_opens_our_posix_segment() {
    let name = format!("interop-{}", std::process::id());
    let fabric = FabricOptions::new().backend(Backend::Posix).limit(2 << 20).open(&name).expect("open");
    let path = fabric.path().expect("a path").to_owned();
    let object = format!("/{}", path.file_name().expect("a file").to_str().expect("text"));
    let file = std::fs::read(&path).expect("read");
    let opened = shared_memory::ShmemConf::new().os_id(&object).open().expect("the other library opens it");
    assert_eq!(opened.len() as u64, fabric.info().expect("info").limit);
    assert_eq!(&file[..6], b"MEMORA");
    drop(opened);
    assert!(path.exists(), "a visitor does not remove it");
    drop(fabric);
    Fabric::remove(None, &name).expect("remove");
}

#[test]
fn a_read_only_attachment_reads_and_refuses_to_write() {
    let home = home();
    let writer = small(home.path()).open("one").expect("open");
    writer.cache("c").expect("cache").set(b"key", b"value").expect("set");
    let reader = small(home.path()).read_only(true).open("one").expect("read-only");
    let cache = reader.cache("c").expect("cache");
    assert_eq!(cache.get(b"key").expect("get").as_deref(), Some(&b"value"[..]));
    assert_eq!(cache.set(b"key", b"other").expect_err("no").code(), ErrorCode::ReadOnly);
    assert_eq!(reader.cache("new").err().expect("no").code(), ErrorCode::ReadOnly);
    assert_eq!(writer.stat().expect("stat").processes.len(), 1, "a reader takes no entry");
    // A file that the reader may not write is enough.
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let path = reader.path().expect("path").display().to_string();
    assert!(maps.lines().any(|line| line.ends_with(&path) && line.contains(" r--s ")), "{maps}");
}

#[test]
fn a_damaged_file_is_refused_with_the_remedy_and_left_as_it_is() {
    let home = home();
    let path = home.path().join("one.fabric");
    small(home.path()).open("one").expect("open").cache("c").expect("cache").set(b"k", b"v").expect("set");
    let good = std::fs::read(&path).expect("read");
    let put = |bytes: &[u8]| std::fs::write(&path, bytes).expect("write");
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    let open = || small(home.path()).open("one");
    for len in [0, 1, 4095, 4096, good.len() - 1] {
        put(&good[..len]);
        refused(open(), ErrorCode::NotAFabric, "one.fabric");
        assert_eq!(std::fs::metadata(&path).expect("there").len(), len as u64, "it was changed");
    }
    put(&vec![0x5a; good.len()]);
    refused(open(), ErrorCode::NotAFabric, "magic");
    put(&with(8, 7));
    refused(open(), ErrorCode::LayoutMismatch, "version 6");
    put(&with(16, 1));
    refused(open(), ErrorCode::LayoutMismatch, "hash");
    for at in (24..176).step_by(4) {
        put(&with(at, 0x80));
        refused(open(), ErrorCode::NotAFabric, "checksum");
    }
    put(&good);
    assert_eq!(
        open().expect("the good one").cache("c").expect("cache").get(b"k").expect("get"),
        Some(b"v".to_vec())
    );
}

#[test]
fn content_overwritten_behind_the_header_is_an_error_of_the_call_and_no_crash() {
    let home = home();
    let path = home.path().join("one.fabric");
    small(home.path()).open("one").expect("open").cache("c").expect("cache").set(b"k", b"v").expect("set");
    let good = std::fs::read(&path).expect("read");
    for byte in [0x01, 0x5a, 0xff] {
        let mut bytes = good.clone();
        bytes[4096..].fill(byte);
        std::fs::write(&path, &bytes).expect("write");
        match small(home.path()).open("one").and_then(|fabric| fabric.cache("c")?.set(b"k", b"v")) {
            Ok(version) => panic!("stored as {version:?} in rubbish of {byte:#x}"),
            Err(error) => assert!(!error.remedy().is_empty(), "{error}"),
        }
        // Looking is still possible: by a read-only attachment, which needs no entry.
        let report = small(home.path()).read_only(true).open("one").expect("look").check().expect("check");
        assert!(!report.problems.is_empty(), "{byte:#x}");
    }
}

#[test]
fn places_that_are_not_safe_are_refused() {
    let home = home();
    let real = home.path().join("real");
    std::fs::create_dir(&real).expect("mkdir");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    symlink(&real, home.path().join("link")).expect("symlink");
    refused(small(&home.path().join("link")).open("one"), ErrorCode::NotOurs, "link");
    std::fs::write(home.path().join("file"), b"x").expect("write");
    refused(small(&home.path().join("file")).open("one"), ErrorCode::NotOurs, "file");
    refused(small(&home.path().join("missing/home")).open("one"), ErrorCode::NotFound, "missing");
    // The file itself: a link, a pipe, a directory, one that everybody may write.
    small(&real).open("one").expect("open");
    symlink(real.join("one.fabric"), real.join("two.fabric")).expect("symlink");
    refused(small(&real).open("two"), ErrorCode::NotOurs, "symbolic link");
    nix::unistd::mkfifo(&real.join("pipe.fabric"), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    refused(small(&real).open("pipe"), ErrorCode::NotOurs, "plain file");
    refused(small(&real).read_only(true).open("pipe"), ErrorCode::NotOurs, "plain file");
    std::fs::set_permissions(real.join("one.fabric"), std::fs::Permissions::from_mode(0o666)).expect("chmod");
    refused(small(&real).open("one"), ErrorCode::NotOurs, "everybody");
    // The home: one that everybody may write.
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    refused(small(&real).open("three"), ErrorCode::NotOurs, "everybody");
}

#[test]
fn a_home_of_somebody_else_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to make a directory of another user");
        return;
    }
    let home = home();
    std::os::unix::fs::chown(home.path(), Some(12345), None).expect("chown");
    refused(small(home.path()).open("one"), ErrorCode::NotOurs, "12345");
    assert_eq!(names(home.path()), [""; 0], "nothing was made there");
}

#[test]
fn modes_hold_whatever_the_umask_and_are_never_for_everybody() {
    let parent = home();
    let home = parent.path().join("made");
    let private = small(&home).open("one").expect("open");
    let group = small(&home).mode(0o660).open("two").expect("open");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o7777;
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(private.path().expect("path")), 0o600);
    assert_eq!(mode(group.path().expect("path")), 0o660);
    refused(small(&home).mode(0o666).open("three"), ErrorCode::InvalidArgument, "666");
    refused(small(&home).limit(4096).open("four"), ErrorCode::LimitTooSmall, "1048576");
    for name in ["", ".", "../x", ".hidden", "a/b", "with space", &"x".repeat(65)] {
        refused(small(&home).open(name), ErrorCode::InvalidName, "not acceptable");
    }
    assert_eq!(names(&home), ["one.fabric", "two.fabric"]);
}

#[test]
fn a_closed_handle_answers_closed_and_its_objects_too() {
    let home = home();
    let fabric = small(home.path()).open("one").expect("open");
    let cache = fabric.cache("c").expect("cache");
    fabric.close().expect("close");
    assert_eq!(cache.get(b"k").expect_err("closed").code(), ErrorCode::Closed);
    assert_eq!(cache.set(b"k", b"v").expect_err("closed").code(), ErrorCode::Closed);
    assert_eq!(fabric.cache("d").err().expect("closed").code(), ErrorCode::Closed);
    assert_eq!(fabric.reap().expect_err("closed").code(), ErrorCode::Closed);
    assert_eq!(fabric.close().expect_err("closed").code(), ErrorCode::Closed);
    drop((fabric, cache));
    small(home.path()).open("one").expect("again").cache("c").expect("cache").set(b"k", b"v").expect("set");
}
