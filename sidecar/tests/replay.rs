//! `memora replay`: hit ratios that can be counted by hand, processes that share a cache, and files that are no traces.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::Builder::new().prefix("memora-replay-").tempdir().unwrap())
    }

    fn trace(&self, name: &str, ids: impl IntoIterator<Item = u32>) -> PathBuf {
        self.file(name, &ids.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.0.path().join(name);
        std::fs::write(&file, content).unwrap();
        file
    }

    fn replay(&self, file: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memora"));
        command.env("MEMORA_HOME", self.0.path().join("home")).env_remove("MEMORA_KILL_POINT");
        command.arg("replay").arg(file).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn lines(&self, file: &Path, arguments: &[&str]) -> Vec<String> {
        let output = self.replay(file, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn ratio(&self, file: &Path, arguments: &[&str]) -> f64 {
        let lines = self.lines(file, arguments);
        let last = lines.last().unwrap();
        last.strip_suffix(" %").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{lines:?}"))
    }
}

#[test]
fn where_all_objects_fit_only_the_first_request_of_each_misses() {
    let folder = Folder::new();
    let trace = folder.trace("a.u32", (0..4000).map(|place| place % 1000));
    assert_eq!(folder.lines(&trace, &["--objects", "1000"]), ["requests 4000", "hits 3000", "75.00 %"]);
    assert_eq!(folder.lines(&trace, &["--memory", "8MiB"]), ["requests 4000", "hits 3000", "75.00 %"]);
    let output = folder.replay(&trace, &["--objects", "1000", "--format", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["requests"], &json["hits"]), (&4000.into(), &3000.into()));
    assert_eq!((&json["hit_ratio"], &json["procs"]), (&75.0.into(), &1.into()));
    assert!(!folder.0.path().join("home").exists(), "the cache of a replay leaves no file");
}

#[test]
fn a_small_cache_keeps_what_is_asked_for_often_and_no_more_than_it_may() {
    let folder = Folder::new();
    // 50 objects that every second request asks for, and between them objects that come once.
    let hot = (0..20_000u32).map(|place| if place % 2 == 0 { place / 2 % 50 } else { 1000 + place });
    let ratio = folder.ratio(&folder.trace("hot.u32", hot), &["--objects", "200"]);
    assert!((49.0..=50.0).contains(&ratio), "{ratio}");
    // A loop over more objects than fit: at best the share that stays.
    let around = folder.trace("loop.u32", (0..20_000).map(|place| place % 1000));
    let ratio = folder.ratio(&around, &["--objects", "100"]);
    assert!(ratio <= 10.0, "100 entries of 1000 cannot meet {ratio} % of a loop");
}

#[test]
fn processes_share_the_cache_and_lose_no_request() {
    let folder = Folder::new();
    let trace = folder.trace("a.u32", (0..40_000).map(|place| place % 8000));
    // Each of three may have a place for the same new object for a moment, before two of them see that it is there.
    let lines = folder.lines(&trace, &["--objects", "8002", "--procs", "3"]);
    assert_eq!(lines[0], "requests 40000");
    // Two that ask for the same new object at once both miss, but they are never a whole round apart.
    let hits: u64 = lines[1].strip_prefix("hits ").unwrap().parse().unwrap();
    assert!((30_000..=32_000).contains(&hits), "{lines:?}");
    assert_eq!(lines[2], format!("{:.2} %", hits as f64 / 400.0));
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let folder = Folder::new();
    for (file, problem) in [
        (folder.file("odd.u32", b"1234567"), "7 bytes"),
        (folder.file("empty.u32", b""), "no requests"),
        (folder.file("text.u32.zst", b"not zstd"), "not compressed"),
        (folder.0.path().join("none.u32"), "No such file"),
        (folder.0.path().to_path_buf(), "directory"),
    ] {
        let output = folder.replay(&file, &["--objects", "10"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(problem) && stderr.contains(file.to_str().unwrap()), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn bad_numbers_are_refused_before_anything_is_read() {
    let folder = Folder::new();
    let trace = folder.0.path().join("none.u32");
    for arguments in [
        &[][..],
        &["--objects", "0"],
        &["--objects", "-1"],
        &["--objects", "many"],
        &["--objects", "5000000000"],
        &["--objects", "10", "--memory", "1MiB"],
        &["--objects", "10", "--procs", "0"],
        &["--objects", "10", "--procs", "33"],
        &["--objects", "10", "--value-bytes", "0"],
        &["--memory", "1XB"],
    ] {
        let output = folder.replay(&trace, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
