//! Views across processes: they never block a writer, end with their process, stay with the parent of a fork, and take no more than
//! their share of a fabric.

use std::path::{Path, PathBuf};

use memora::{Cache, CacheOptions, ErrorCode, Fabric, FabricOptions, View};
use memora_testkit::fork::Child;
use memora_testkit::process::{self, Worker, tell};

const HOME: &str = "MEMORA_TESTKIT_HOME";
const BYTES: usize = 9000;

/// Plays the other processes; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a home"));
    match role.as_str() {
        "holder" => hold(&home),
        "forker" => fork_with_a_view(&home),
        other => panic!("unknown role {other}"),
    }
}

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("memora-views-").tempdir_in("/dev/shm").expect("/dev/shm is writable")
}

fn options(home: &Path) -> FabricOptions {
    FabricOptions::new().home(home.to_path_buf()).limit(4 << 20)
}

fn open(home: &Path) -> Fabric {
    options(home).open("views").unwrap_or_else(|error| panic!("the fabric does not open: {error}"))
}

fn cache(fabric: &Fabric) -> Cache {
    fabric.cache_with("cache", &CacheOptions::default()).expect("opened")
}

fn value(key: usize, round: usize) -> Vec<u8> {
    format!("{key}/{round};").into_bytes().into_iter().cycle().take(BYTES).collect()
}

fn name(key: usize) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

fn fill(cache: &Cache, round: usize) {
    for key in 0..40 {
        cache.set(&name(key), &value(key, round)).expect("there is room");
    }
}

#[track_caller]
fn assert_sound(fabric: &Fabric) {
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

fn views(cache: &Cache, round: usize) -> Vec<View> {
    (0..40)
        .map(|key| {
            let view = cache.view(&name(key)).expect("read").expect("it is there");
            assert_eq!(view.to_vec().expect("read"), value(key, round));
            view
        })
        .collect()
}

fn hold(home: &Path) {
    let fabric = open(home);
    let views = views(&cache(&fabric), 0);
    assert!(views.iter().all(|view| !view.is_copy()), "40 chunks are within a quarter of 255");
    tell("held");
    // Stays until it is killed, or told by the end of its input to go on.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("readable");
    for (key, view) in views.iter().enumerate() {
        assert_eq!(view.to_vec().expect("read"), value(key, 0), "view of key {key}");
    }
    drop(views);
    tell("end");
}

#[test]
fn writers_go_on_under_the_views_of_a_stopped_process_and_get_its_chunks_when_it_is_killed() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    fill(&cache, 0);
    let mut holder = Worker::spawn("entry", "holder", &[(HOME, home.path().as_os_str())]);
    holder.expect_line("held");
    assert!(holder.stop());
    // Each chunk that can be had is used many times.
    for round in 1..60 {
        fill(&cache, round);
    }
    let views_beside = views(&cache, 59);
    // Views have a quarter of the chunks in all, in entries of eight pins; the stopped process keeps five of these.
    let chunks = fabric.stat().expect("counted").chunks as usize + 1;
    assert_eq!(views_beside.iter().filter(|view| !view.is_copy()).count(), (chunks / 4 / 8 - 5) * 8);
    assert_sound(&fabric);
    assert!(Worker::was_killed(holder.kill()));
    assert_sound(&fabric);
    drop(views_beside);
    for round in 60..120 {
        fill(&cache, round);
    }
    // The entries of the dead one are free for views of others.
    assert!(views(&cache, 119).iter().all(|view| !view.is_copy()));
    assert_sound(&fabric);
}

#[test]
fn a_stopped_process_finds_the_bytes_of_its_views_when_it_goes_on() {
    let home = home();
    let fabric = open(home.path());
    let cache = cache(&fabric);
    fill(&cache, 0);
    let mut holder = Worker::spawn("entry", "holder", &[(HOME, home.path().as_os_str())]);
    holder.expect_line("held");
    assert!(holder.stop());
    for round in 1..60 {
        fill(&cache, round);
    }
    holder.resume();
    holder.end_input();
    holder.expect_line("end");
    holder.expect_success();
    assert_sound(&fabric);
}

fn fork_with_a_view(home: &Path) {
    let fabric = open(home);
    let cache = cache(&fabric);
    fill(&cache, 0);
    let view = cache.view(&name(7)).expect("read").expect("it is there");
    let mut inherited = Some(view);
    Child::fork(|| {
        let view = inherited.take().expect("the parent made it");
        let code = view.to_vec().err().map(|error| error.code());
        assert_eq!(code, Some(ErrorCode::Forked));
        // The pin is the parent's.
        drop(view);
    })
    .expect_success();
    let view = inherited.expect("only the child took it");
    for round in 1..60 {
        fill(&cache, round);
    }
    assert_eq!(view.to_vec().expect("read"), value(7, 0));
    tell("end");
}

#[test]
fn a_forked_child_does_not_end_the_views_of_its_parent() {
    let home = home();
    let mut worker = Worker::spawn("entry", "forker", &[(HOME, home.path().as_os_str())]);
    worker.expect_line("end");
    worker.expect_success();
}

#[test]
fn views_take_a_quarter_of_a_small_fabric_and_are_copies_beyond() {
    let home = home();
    let fabric = options(home.path()).limit(1 << 20).open("small").expect("opened");
    let cache = cache(&fabric);
    let chunks = fabric.stat().expect("counted").chunks;
    let mut keys = 0;
    while keys < 30 && cache.set(&name(keys), &value(keys, 0)).is_ok() {
        keys += 1;
    }
    let views: Vec<View> =
        (0..keys).map(|key| cache.view(&name(key)).expect("read").expect("there")).collect();
    let held = views.iter().filter(|view| !view.is_copy()).count() as u64;
    assert!(held >= 8 && held <= chunks / 4, "{held} of {chunks}");
    assert!(held < keys as u64);
    for round in 1..10 {
        for key in 0..keys {
            cache
                .set(&name(key), &value(key, round))
                .expect("an overwriting value of the same length has room");
        }
    }
    for (key, view) in views.iter().enumerate() {
        assert_eq!(view.to_vec().expect("read"), value(key, 0));
    }
    drop(views);
    assert_sound(&fabric);
}

#[test]
fn a_reader_without_the_right_to_write_gets_copies() {
    let home = home();
    let fabric = open(home.path());
    fill(&cache(&fabric), 0);
    let reader = options(home.path()).read_only(true).open("views").expect("opened");
    let view = cache(&reader).view(&name(5)).expect("read").expect("it is there");
    assert!(view.is_copy());
    assert_eq!(view.to_vec().expect("read"), value(5, 0));
}

#[test]
fn a_view_of_a_closed_fabric_says_so_and_keeps_its_memory_and_its_pin() {
    let home = home();
    let (fabric, other) = (open(home.path()), open(home.path()));
    let cache_of_other = cache(&other);
    fill(&cache_of_other, 0);
    let view = cache(&fabric).view(&name(9)).expect("read").expect("it is there");
    fabric.close().expect("closed");
    drop(fabric);
    assert_eq!(view.to_vec().err().map(|error| error.code()), Some(ErrorCode::Closed));
    for round in 1..60 {
        fill(&cache_of_other, round);
    }
    let mut buffer = vec![0; BYTES];
    assert!(!view.is_copy() && view.len() == BYTES);
    // The memory is mapped as long as the view lives; the bytes are those of the value that was looked at.
    let pointed = view.as_ptr();
    assert_eq!(pointed as usize % 8, 0);
    assert_eq!(view.copy_to(&mut buffer).err().map(|error| error.code()), Some(ErrorCode::Closed));
    drop(view);
    assert_sound(&other);
    let code = |key: usize| cache_of_other.view(&name(key)).expect("read").map(|view| view.is_copy());
    assert_eq!(code(9), Some(false));
}
