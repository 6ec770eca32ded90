//! One commit over a store, caches and channels: whoever looks sees all of it or nothing, also when those who commit are killed.
//!
//! `MEMORA_TORTURE=N` makes the storm longer.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{
    Cache, CacheOptions, ChannelKind, ChannelOptions, Durability, ErrorCode, Fabric, FabricOptions,
    SetOptions, Store, StoreOptions, WhenFull,
};
use memora_stress::random::Random;
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, Worker};
use tempfile::TempDir;

const HOME: &str = "MEMORA_CACHES_HOME";
const KEYS: u64 = 8;

fn place() -> TempDir {
    tempfile::Builder::new().prefix("memora-caches-").tempdir_in("/dev/shm").expect("writable")
}

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(24 << 20).open("fabric").expect("the fabric opens")
}

fn store(fabric: &Fabric) -> Store {
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    fabric.store("truth", &options).expect("the store opens")
}

fn cache(fabric: &Fabric, name: &str, when_full: WhenFull) -> Cache {
    let options = CacheOptions { transactions: true, when_full, ..CacheOptions::default() };
    fabric.cache_with(name, &options).expect("the cache opens")
}

#[test]
fn all_of_a_commit_counts_or_nothing() {
    let home = place();
    let fabric = fabric(home.path());
    let store = store(&fabric);
    let options = ChannelOptions { kind: ChannelKind::Broadcast, ..ChannelOptions::default() };
    let channel = fabric.channel("news", &options).unwrap();
    let (outbox, mut reader) = (channel.outbox().unwrap(), channel.subscriber().unwrap());
    let caches = [WhenFull::Evict, WhenFull::Reject].map(|full| cache(&fabric, &format!("{full:?}"), full));
    let plain = SetOptions::default();
    let mut message = Vec::new();
    for round in 0..50u8 {
        caches[1].set(b"gone", b"there").unwrap();
        let mut transaction = store.transaction().unwrap();
        transaction.get(b"read").unwrap();
        transaction.put(b"key", &[round]).unwrap();
        transaction.cache_set(&caches[0], b"key", &[round], &plain).unwrap();
        transaction.cache_set(&caches[1], b"key", b"replaced", &plain).unwrap();
        transaction.cache_set(&caches[1], b"key", &[round], &plain).unwrap();
        transaction.cache_delete(&caches[1], b"gone").unwrap();
        transaction.cache_delete(&caches[0], b"never there").unwrap();
        transaction.publish(&outbox, &[round]).unwrap();
        let before = caches.each_ref().map(|cache| cache.get(b"key").unwrap());
        assert!(before.iter().all(|value| value.as_deref() != Some(&[round])));
        if round % 2 == 0 {
            store.set(b"read", &[round]).unwrap();
            assert_eq!(transaction.commit().unwrap_err().code(), ErrorCode::Conflict);
            assert_eq!(caches.each_ref().map(|cache| cache.get(b"key").unwrap()), before);
            assert_eq!(caches[1].get(b"gone").unwrap().as_deref(), Some(&b"there"[..]));
            assert!(reader.try_recv(&mut message).unwrap().is_none());
        } else {
            transaction.commit().unwrap();
            for cache in &caches {
                assert_eq!(cache.get(b"key").unwrap().as_deref(), Some(&[round][..]));
            }
            assert_eq!(store.get(b"key").unwrap().as_deref(), Some(&[round][..]));
            assert_eq!(caches[1].get(b"gone").unwrap(), None);
            assert!(reader.try_recv(&mut message).unwrap().is_some() && message == [round]);
        }
        assert_eq!(caches[0].get(b"never there").unwrap(), None);
        assert_eq!(caches[0].len().unwrap(), u64::from(round > 0));
    }
    let report = fabric.check().unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

#[test]
fn a_lease_ends_when_what_it_is_made_of_changes() {
    let home = place();
    let fabric = fabric(home.path());
    let (store, cache) = (store(&fabric), cache(&fabric, "cache", WhenFull::Evict));
    store.set(b"k", b"old").unwrap();
    let plain = SetOptions::default();
    let answer = cache.get_or_compute(b"k", &plain, Duration::from_secs(5), || {
        let made = store.get(b"k")?.expect("there");
        store.transact(|transaction| {
            transaction.put(b"k", b"new")?;
            transaction.cache_delete(&cache, b"k")
        })?;
        Ok(made)
    });
    assert_eq!(answer.unwrap(), b"old", "what the caller made");
    assert_eq!(cache.get(b"k").unwrap(), None, "it is out of date, and is not kept");
}

#[test]
fn what_cannot_take_part_is_refused_and_the_transaction_goes_on() {
    let home = place();
    let fabric = fabric(home.path());
    let store = store(&fabric);
    let plain = SetOptions::default();
    let without = fabric.cache("without").unwrap();
    let mut transaction = store.transaction().unwrap();
    let error = transaction.cache_set(&without, b"k", b"v", &plain).unwrap_err();
    assert!(error.code() == ErrorCode::InvalidArgument && error.detail().contains("transactions"), "{error}");
    let other = place();
    let elsewhere = self::fabric(other.path());
    let foreign = cache(&elsewhere, "foreign", WhenFull::Evict);
    assert_eq!(transaction.cache_delete(&foreign, b"k").unwrap_err().code(), ErrorCode::InvalidArgument);
    let good = cache(&fabric, "good", WhenFull::Reject);
    let long = transaction.cache_set(&good, &vec![7; 70_000], b"v", &plain).unwrap_err();
    assert_eq!(long.code(), ErrorCode::KeyTooLong);
    transaction.cache_set(&good, b"k", b"v", &plain).unwrap();
    transaction.commit().unwrap();
    assert_eq!(good.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn what_does_not_fit_a_cache_at_once_is_told_and_is_no_conflict() {
    let home = place();
    let fabric = fabric(home.path());
    let store = store(&fabric);
    let options = CacheOptions { limit: Some(2 << 20), transactions: true, ..CacheOptions::default() };
    let small = fabric.cache_with("small", &options).unwrap();
    let plain = SetOptions::default();
    let change = |count: u32| {
        store.transact(|transaction| {
            for number in 0..count {
                transaction.cache_set(&small, &number.to_le_bytes(), &[7; 4000], &plain)?;
            }
            transaction.put(b"count", &count.to_le_bytes())
        })
    };
    for round in 0..3u32 {
        change(20 + round).unwrap();
        let error = change(1000).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TransactionTooLarge, "{error}");
        assert!(error.detail().contains("each cache"), "{error}");
        // Nothing of it was done.
        assert_eq!(store.get(b"count").unwrap(), Some((20 + round).to_le_bytes().to_vec()));
        assert_eq!(small.get(&999u32.to_le_bytes()).unwrap(), None);
    }
    let report = fabric.check().unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

fn moment(key: &[u8]) -> Vec<u8> {
    [b"moment", key].concat()
}

/// Sets a key to the same value in the store and in both caches, and deletes it in all of them now and then.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let fabric = fabric(&home);
    let store = store(&fabric);
    let caches = [WhenFull::Evict, WhenFull::Reject].map(|full| cache(&fabric, &format!("{full:?}"), full));
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    let plain = SetOptions::default();
    process::tell("ready");
    loop {
        let key = random.draw(KEYS).to_le_bytes();
        let value = vec![random.draw(250) as u8 + 1; 1 + random.draw(3000) as usize];
        let delete = random.draw(5) == 0;
        store
            .transact(|transaction| {
                // What is not there has no version: this key says that something happened.
                transaction.put(&moment(&key), b"")?;
                match delete {
                    true => drop(transaction.delete(&key)?),
                    false => transaction.put(&key, &value)?,
                }
                for cache in &caches {
                    match delete {
                        true => transaction.cache_delete(cache, &key)?,
                        false => transaction.cache_set(cache, &key, &value, &plain)?,
                    }
                }
                Ok(())
            })
            .expect("committed");
        // Others fill the cache that evicts, so that states are met by those who look for room.
        let filler = random.draw(2000).to_be_bytes();
        caches[0]
            .set(&[b"filler", &filler[..]].concat(), &vec![0; random.draw(20_000) as usize])
            .expect("set");
    }
}

#[test]
fn a_storm_leaves_store_and_caches_alike() {
    let home = place();
    let fabric = fabric(home.path());
    let store = store(&fabric);
    let caches = [WhenFull::Evict, WhenFull::Reject].map(|full| cache(&fabric, &format!("{full:?}"), full));
    let spawn = |role: &str| {
        let path: OsString = home.path().into();
        let environment: [(&str, &OsStr); 1] = [(HOME, &path)];
        let mut worker = Worker::spawn("entry", role, &environment);
        worker.expect_line("ready");
        worker
    };
    let mut random = Random::new("transactional caches");
    let roles = ["one", "two", "three"];
    let mut workers: Vec<Worker> = roles.iter().map(|role| spawn(role)).collect();
    let (mut reads, mut evicted) = (0u64, 0u64);
    let mut compare = |alone: bool| {
        let key = random.draw(KEYS).to_le_bytes();
        let when = || store.get_entry(&moment(&key)).expect("read").map(|entry| entry.version);
        let before = when();
        let value = store.get(&key).expect("read");
        let rejecting = caches[1].get(&key).expect("read");
        let evicting = caches[0].get(&key).expect("read");
        if when() != before {
            assert!(!alone);
            return;
        }
        // The store did not change in between, so neither did what is committed with it.
        assert!(rejecting == value, "the cache that rejects, alone {alone}");
        evicted += u64::from(evicting.is_none() && value.is_some());
        assert!(evicting.is_none() || evicting == value, "the cache that evicts, alone {alone}");
        reads += 1;
    };
    let mut blows = Random::new("blows");
    for _ in 0..25 * torture() {
        let end = Instant::now() + Duration::from_millis(blows.draw(80));
        while Instant::now() < end {
            compare(false);
        }
        let which = blows.draw(roles.len() as u64) as usize;
        if blows.draw(3) == 0 {
            assert!(workers[which].stop(), "it ended by itself: {}", workers[which].errors());
            let end = Instant::now() + Duration::from_millis(blows.draw(100));
            while Instant::now() < end {
                compare(false);
            }
            workers[which].resume();
        } else {
            assert!(Worker::was_killed(workers[which].kill()), "{}", workers[which].errors());
            workers[which] = spawn(roles[which]);
        }
    }
    for worker in &mut workers {
        assert!(Worker::was_killed(worker.kill()), "it ended by itself: {}", worker.errors());
    }
    fabric.reap().expect("reaped");
    (0..200).for_each(|_| compare(true));
    assert!(reads > 1000, "this was no storm: {reads} reads, {evicted} evicted");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}
