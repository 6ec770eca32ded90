//! Huge pages: asked for without privileges, seen by every process, and never more than one range beyond what is needed.

use std::ffi::OsStr;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use memora::shm::{HUGE_PAGE, Shm};
use memora::{Backend, Fabric, FabricOptions};
use memora_testkit::process::{Worker, role, tell};

const HOME: &str = "MEMORA_TEST_HOME";
const LIMIT: u64 = 64 << 20;
const ENTRIES: u32 = 10_000;
const VALUE: [u8; 1000] = [7; 1000];

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-test").tempdir_in("/dev/shm").expect("a temporary home")
}

/// Bytes of this process's mappings of files with `name` in their path that are mapped by huge pages.
fn mapped_huge(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let (mut ours, mut bytes) = (false, 0);
    for line in text.lines() {
        if line.split(' ').nth(1).is_some_and(|word| word.len() == 4 && word.ends_with(['s', 'p'])) {
            ours = line.contains(name);
        }
        let huge = line.strip_prefix("ShmemPmdMapped:").or_else(|| line.strip_prefix("FilePmdMapped:"));
        if let (true, Some(size)) = (ours, huge) {
            bytes += size.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10;
        }
    }
    bytes
}

/// Whether this host gives huge pages to a file there.
fn host_gives_them(home: &Path) -> bool {
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(home.join("probe"));
    let file = file.expect("a file");
    file.set_len(16 * HUGE_PAGE).expect("room");
    file.write_all_at(&[1], 0).expect("room");
    let made = Shm::map_file(&file, 16 * HUGE_PAGE, true).expect("mapped").collapse(0);
    std::fs::remove_file(home.join("probe")).expect("removed");
    if !made {
        eprintln!("this host gives no huge pages: only what must hold without them is checked");
    }
    made
}

fn fill(fabric: &Fabric) {
    let cache = fabric.cache("c").expect("a cache");
    for key in 0..ENTRIES {
        cache.set(&key.to_le_bytes(), &VALUE).expect("set");
    }
}

fn read_all(fabric: &Fabric) {
    let cache = fabric.cache("c").expect("a cache");
    for key in 0..ENTRIES {
        assert_eq!(cache.get(&key.to_le_bytes()).expect("get").as_deref(), Some(&VALUE[..]), "{key}");
    }
}

#[test]
fn every_process_has_a_large_fabric_in_huge_pages_where_the_host_gives_them() {
    if role().is_some() {
        let home = std::env::var_os(HOME).expect("a home");
        let fabric = FabricOptions::new().home(Path::new(&home)).open("large").expect("attach");
        read_all(&fabric);
        tell(&format!("huge {}", mapped_huge("large.fabric")));
        return;
    }
    let home = home();
    let gives = host_gives_them(home.path());
    let fabric = FabricOptions::new().home(home.path()).limit(LIMIT).open("large").expect("open");
    fill(&fabric);
    read_all(&fabric);
    let taken = std::fs::metadata(fabric.path().expect("a file")).expect("metadata").blocks() * 512;
    let entry = "every_process_has_a_large_fabric_in_huge_pages_where_the_host_gives_them";
    let mut other = Worker::spawn(entry, "reader", &[(HOME, home.path().as_os_str() as &OsStr)]);
    let theirs: u64 = other.expect_line("huge ").parse().expect("a number");
    other.expect_success();
    if gives {
        let ours = mapped_huge("large.fabric");
        // On a slow host some ranges are left to small pages, but neither that of the tables nor the first one behind it.
        assert!(ours >= 2 * HUGE_PAGE, "only {ours} bytes of {taken}");
        assert!(theirs >= 2 * HUGE_PAGE, "{theirs} bytes there, {ours} here");
    }
    let needed = u64::from(ENTRIES) * 1100;
    // A range is partly used where the tables, where what stays in place, and where the records begin or end.
    assert!(taken < needed + 4 * HUGE_PAGE, "{taken} bytes were taken for {needed}");
    assert_eq!(fabric.check().expect("check").problems, []);
}

#[test]
fn a_small_fabric_takes_no_huge_page_and_other_backends_have_them() {
    let home = home();
    let small = FabricOptions::new().home(home.path()).limit(8 << 20).open("small").expect("open");
    small.cache("c").expect("a cache").set(b"k", b"v").expect("set");
    let taken = std::fs::metadata(small.path().expect("a file")).expect("metadata").blocks() * 512;
    assert!(taken < 1 << 20, "{taken} bytes for one entry");

    let gives = host_gives_them(home.path());
    for (backend, name) in [(Backend::Memfd, "memfd:memora"), (Backend::Heap, "memfd:memora-heap")] {
        let before = mapped_huge(name);
        let options = FabricOptions::new().home(home.path()).limit(LIMIT).backend(backend);
        let fabric = options.open("other").expect("open");
        fill(&fabric);
        read_all(&fabric);
        assert!(!gives || mapped_huge(name) >= before + 2 * HUGE_PAGE, "{backend:?}");
        assert_eq!(fabric.check().expect("check").problems, []);
    }
}
