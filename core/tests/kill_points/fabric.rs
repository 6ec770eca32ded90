//! Victims that create, attach, list, reap and remove: whoever comes after them opens the same names.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Barrier;

use memora::{Backend, ChannelOptions, Durability, ErrorCode, Fabric, FabricOptions, StoreOptions};
use memora_testkit::kill_point::{Victim, within_patience};
use memora_testkit::process::{Worker, tell};

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment};

pub const SCENARIO: Scenario =
    Scenario { role: "fabric", covers: |_| true, tries: 2, prepare, survive, conclude };

/// Names that the victim creates; the first has a corpse in it.
const NAMES: [&str; 3] = ["old", "new", KEYED];
/// The one that is a segment of System V, which outlives its directory.
const KEYED: &str = "keyed";

/// Removes that segment when a run is over, however it ends.
pub struct Keyed(pub PathBuf);

impl Drop for Keyed {
    fn drop(&mut self) {
        // Most runs have none.
        let _ = Fabric::remove(Some(&self.0), KEYED);
    }
}

fn open(place: &Place, name: &str) -> Fabric {
    FabricOptions::new()
        .home(place.home())
        .limit(2 << 20)
        .backend(if name == KEYED { Backend::SysV } else { Backend::File })
        .open(name)
        .unwrap_or_else(|error| panic!("fabric {name} does not open: {error}"))
}

fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = open(place, NAMES[0]);
    fabric.cache("things").expect("created").set(b"key", b"value").expect("stored");
    // Somebody died here and was not yet reaped.
    let mut corpse = Worker::spawn(ENTRY, "corpse", &borrowed(&environment(place)));
    corpse.expect_line("attached");
    assert_eq!(corpse.kill().signal(), Some(9));
    Vec::new()
}

/// Attaches two threads, holds a bit of everything, and waits to be killed.
pub fn corpse(place: &Place) {
    let fabric = open(place, NAMES[0]);
    let other = fabric.clone();
    let thread = std::thread::spawn(move || {
        let channel = other.channel("messages", &ChannelOptions::default()).expect("created");
        let mut publisher = channel.publisher().expect("a lane");
        let _subscriber = channel.subscribe("corpse").expect("subscribed");
        publisher.try_send(b"last words").expect("sent");
        let claim = publisher.claim(100).expect("claimed");
        tell("attached");
        std::thread::sleep(memora_testkit::process::PATIENCE);
        claim.abort();
    });
    fabric.cache("things").expect("opened").set(b"corpse", b"was here").expect("stored");
    thread.join().expect("it is killed before");
}

fn use_everything(fabric: &Fabric, place: &Place, who: &str) {
    use_all_but_the_store(fabric, who);
    use_the_store(fabric, place, who).unwrap_or_else(|error| panic!("the store: {error}"));
    let names: Vec<String> =
        fabric.objects().expect("listed").into_iter().map(|object| object.name.to_string()).collect();
    for name in ["things", "messages", "ledger"] {
        assert!(names.iter().any(|known| known == name), "{name} is not listed: {names:?}");
    }
}

fn use_all_but_the_store(fabric: &Fabric, who: &str) {
    let cache = fabric.cache("things").expect("the cache opens");
    cache.set(who.as_bytes(), b"value").expect("stored");
    assert_eq!(cache.get(who.as_bytes()).expect("read").as_deref(), Some(&b"value"[..]));
    let channel = fabric.channel("messages", &ChannelOptions::default()).expect("the channel opens");
    let mut publisher = channel.publisher().expect("a lane");
    publisher.try_send(who.as_bytes()).expect("sent");
}

fn use_the_store(fabric: &Fabric, place: &Place, who: &str) -> memora::Result<()> {
    let options = StoreOptions {
        dir: Some(place.store_dir().join(fabric.name())),
        durability: Durability::Process,
        ..StoreOptions::default()
    };
    let store = fabric.store("ledger", &options)?;
    store.set(who.as_bytes(), b"value")?;
    assert_eq!(store.get(who.as_bytes())?.as_deref(), Some(&b"value"[..]));
    Ok(())
}

pub fn victim(place: &Place) {
    for name in NAMES {
        let fabric = open(place, name);
        use_everything(&fabric, place, "victim");
        let threads: Vec<_> = (0..2)
            .map(|number| {
                let fabric = fabric.clone();
                std::thread::spawn(move || {
                    let cache = fabric.cache("things").expect("opened");
                    cache.set(format!("thread {number}").as_bytes(), b"value").expect("stored");
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        close_under_a_thread(place, name);
        let again = open(place, name);
        again.reap().expect("reaped");
        again.check().expect("checked");
        again.stat().expect("counted");
        again.close().expect("closed");
        fabric.close().expect("closed");
    }
    let listed = Fabric::list(Some(&place.home())).expect("listed");
    assert!(listed.len() >= NAMES.len());
    let gone = open(place, "gone");
    gone.close().expect("closed");
    Fabric::remove(Some(&place.home()), "gone").expect("removed");
}

/// Gives up a fabric that another living thread has used, too.
fn close_under_a_thread(place: &Place, name: &str) {
    let fabric = open(place, name);
    let (used, closed) = (Barrier::new(2), Barrier::new(2));
    let (mine, used, closed) = (fabric.clone(), &used, &closed);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let cache = mine.cache("things").expect("opened");
            cache.set(b"under a thread", b"value").expect("stored");
            drop((cache, mine));
            used.wait();
            closed.wait();
        });
        used.wait();
        fabric.close().expect("closed");
        let refused = fabric.cache("things").err().expect("it is closed");
        assert_eq!(refused.code(), ErrorCode::Closed, "{refused}");
        drop(fabric);
        closed.wait();
    });
}

fn survive(place: &Place, blow: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("opening what the victim was about to create", move || {
        for name in NAMES {
            let fabric = open(&place, name);
            let who = format!("survivor {blow:?}");
            use_all_but_the_store(&fabric, &who);
            match use_the_store(&fabric, &place, &who) {
                Err(error) if blow.keeps_out() && error.code() == ErrorCode::Busy => {}
                result => result.unwrap_or_else(|error| panic!("the store: {error}")),
            }
            check(&fabric, "with the victim");
        }
        Fabric::list(Some(&place.home())).expect("listed");
    });
}

fn conclude(place: &Place) {
    for name in NAMES {
        let fabric = open(place, name);
        use_everything(&fabric, place, "last");
        check(&fabric, "after the victim");
    }
    let listed = Fabric::list(Some(&place.home())).expect("listed");
    // Those of POSIX have one place for all homes, and may be somebody else's.
    let here = listed.into_iter().filter(|info| info.backend != Backend::Posix);
    let mut names: Vec<String> = here.map(|info| info.name.to_string()).collect();
    names.retain(|name| name != "gone");
    names.sort();
    let mut expected = NAMES.map(str::to_string);
    expected.sort();
    assert_eq!(names, expected);
    match Fabric::remove(Some(&place.home()), "gone") {
        Ok(()) => {}
        Err(error) => assert_eq!(error.code(), ErrorCode::NotFound, "{error}"),
    }
}
