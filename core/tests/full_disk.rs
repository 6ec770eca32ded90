//! A tmpfs without room: an error with a remedy, never a bus error, and nothing is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use memora::{CacheOptions, ErrorCode, FabricOptions, WhenFull};

/// A mounted tmpfs; unmounted when dropped.
struct Tmpfs {
    path: PathBuf,
    _parent: tempfile::TempDir,
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let status = Command::new("mount").args(arguments).arg(path).status();
    status.is_ok_and(|status| status.success())
}

impl Tmpfs {
    /// None, with a message, where that is not allowed.
    fn new(size: &str) -> Option<Tmpfs> {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("small");
        std::fs::create_dir(&path).expect("mkdir");
        let options = format!("size={size},mode=0700");
        if !nix::unistd::geteuid().is_root() || !mount(&["-t", "tmpfs", "-o", &options, "none"], &path) {
            eprintln!("skipped: needs root, to mount a small tmpfs");
            return None;
        }
        Some(Tmpfs { path, _parent: parent })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A failure leaves a mount of a few MiB behind, which the directory's removal reports.
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

#[test]
fn a_fabric_whose_tables_do_not_fit_is_refused_and_leaves_nothing() {
    let Some(tmpfs) = Tmpfs::new("128k") else { return };
    let error = FabricOptions::new().home(&tmpfs.path).open("one").err().expect("no room");
    assert_eq!(error.code(), ErrorCode::NoSpace, "{error}");
    assert!(error.to_string().contains("remount") && error.to_string().contains("small"), "{error}");
    assert_eq!(std::fs::read_dir(&tmpfs.path).expect("list").count(), 0);
}

#[test]
fn a_tmpfs_that_fills_up_refuses_new_entries_keeps_the_old_ones_and_goes_on_when_it_grows() {
    let Some(tmpfs) = Tmpfs::new("6m") else { return };
    let fabric = FabricOptions::new().home(&tmpfs.path).limit(64 << 20).open("one").expect("open");
    let options = CacheOptions { when_full: WhenFull::Reject, ..CacheOptions::default() };
    let cache = fabric.cache_with("c", &options).expect("cache");
    let value = [7; 1000];
    let mut stored = 0u32;
    let error = loop {
        match cache.set(&stored.to_le_bytes(), &value) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 64 << 10, "more was stored than the tmpfs holds");
    };
    assert_eq!(error.code(), ErrorCode::NoSpace, "{error}");
    assert!(error.to_string().contains("remount"), "{error}");
    assert!(stored > 1000, "only {stored} entries fitted");
    for key in 0..stored {
        let seen = cache.get(&key.to_le_bytes()).expect("get");
        assert_eq!(seen.as_deref(), Some(&value[..]), "entry {key} of {stored}");
    }
    assert_eq!(fabric.check().expect("check").problems, []);
    assert!(mount(&["-o", "remount,size=32m"], &tmpfs.path));
    for key in stored..stored + 2000 {
        cache.set(&key.to_le_bytes(), &value).expect("there is room now");
    }
    assert_eq!(fabric.check().expect("check").problems, []);
    drop((cache, fabric));
}
