//! What subscribers see of publishers.

use std::time::Duration;

use super::*;
use crate::error::ErrorCode;
use crate::fabric::{Backend, Fabric, FabricOptions};

fn fabric() -> Fabric {
    FabricOptions::new().backend(Backend::Heap).limit(8 << 20).open("topics").unwrap()
}

fn topic() -> (Fabric, Topic) {
    let fabric = fabric();
    let topic = fabric.topic("prices", &TopicOptions::default()).unwrap();
    (fabric, topic)
}

/// Everything that is there, as (key, value, number, conflated).
fn all(subscriber: &mut TopicSubscriber) -> Vec<(String, Option<String>, u64, u64)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let mut found = Vec::new();
    while let Some(update) = subscriber.try_next().unwrap() {
        found.push((text(update.key), update.value.map(text), update.number, update.conflated));
    }
    found.sort();
    found
}

fn one(key: &str, value: &str, number: u64, conflated: u64) -> (String, Option<String>, u64, u64) {
    (key.into(), Some(value.into()), number, conflated)
}

#[test]
fn a_new_subscriber_gets_what_is_there_and_then_the_newest_with_the_number_of_those_it_skipped() {
    let (_fabric, topic) = topic();
    for price in ["1", "2", "3"] {
        topic.publish(b"apples", price.as_bytes()).unwrap();
    }
    topic.publish(b"pears", b"7").unwrap();
    let mut subscriber = topic.subscribe().unwrap();
    assert_eq!(subscriber.waiting(), 2);
    assert_eq!(all(&mut subscriber), [one("apples", "3", 3, 0), one("pears", "7", 1, 0)]);
    assert_eq!(all(&mut subscriber), []);
    for price in 4..=9u32 {
        assert_eq!(topic.publish(b"apples", price.to_string().as_bytes()).unwrap(), u64::from(price));
    }
    topic.publish(b"plums", b"1").unwrap();
    topic.publish(b"plums", b"2").unwrap();
    assert_eq!(all(&mut subscriber), [one("apples", "9", 9, 5), one("plums", "2", 2, 1)]);
    assert_eq!(topic.get(b"plums").unwrap(), Some((b"2".to_vec(), 2)));
    assert_eq!(subscriber.next(Some(Duration::from_millis(5))).unwrap(), None);
    let stats = topic.stats().unwrap();
    assert_eq!((stats.keys, stats.updates), (3, 12));
}

#[test]
fn a_retracted_key_is_told_and_its_numbers_go_on() {
    let (_fabric, topic) = topic();
    topic.publish(b"k", b"1").unwrap();
    let mut subscriber = topic.subscribe().unwrap();
    assert_eq!(all(&mut subscriber), [one("k", "1", 1, 0)]);
    assert_eq!(topic.retract(b"k").unwrap(), 2);
    assert_eq!(topic.get(b"k").unwrap(), None);
    assert_eq!(all(&mut subscriber), [("k".to_owned(), None, 2, 0)]);
    assert_eq!(topic.publish(b"k", b"").unwrap(), 3);
    assert_eq!(all(&mut subscriber), [one("k", "", 3, 0)]);
    assert_eq!(topic.get(b"none").unwrap(), None);
}

#[test]
fn a_subscriber_that_was_too_slow_for_the_hints_compares_all_keys() {
    let (_fabric, topic) = topic();
    let mut subscriber = topic.subscribe().unwrap();
    // Far more hints than a ring holds.
    for round in 1..=40u64 {
        for key in 0..1000u32 {
            let number = topic.publish(&key.to_le_bytes(), &round.to_le_bytes()).unwrap();
            assert_eq!(number, round);
        }
    }
    let mut keys = std::collections::HashSet::new();
    while let Some(update) = subscriber.try_next().unwrap() {
        assert_eq!((update.number, update.conflated), (40, 39));
        assert_eq!(update.value.as_deref(), Some(&40u64.to_le_bytes()[..]));
        assert!(keys.insert(update.key), "once");
    }
    assert_eq!(keys.len(), 1000);
    assert!(subscriber.events.lost() > 0, "the test is about lost hints");
}

#[test]
fn a_value_whose_hint_was_never_sent_is_found_after_a_while() {
    let (_fabric, topic) = topic();
    topic.publish(b"k", b"1").unwrap();
    let mut subscriber = topic.subscribe().unwrap();
    assert_eq!(all(&mut subscriber).len(), 1);
    topic.publish(b"k", b"2").unwrap();
    // As if its publisher stood still between the value and the hint.
    assert!(subscriber.events.next(Some(Duration::from_secs(60))).unwrap().is_some());
    let update = subscriber.next(Some(Duration::from_secs(60))).unwrap().expect("found by comparing");
    assert_eq!((update.number, update.conflated), (2, 0));
}

#[test]
fn publishers_of_one_key_give_each_number_once_and_no_subscriber_sees_one_go_back() {
    const EACH: u64 = 3000;
    let (fabric, topic) = topic();
    std::thread::scope(|scope| {
        for publisher in 0..3u64 {
            let topic = topic.clone();
            scope.spawn(move || {
                for count in 0..EACH {
                    let value =
                        [publisher.to_le_bytes(), count.to_le_bytes(), (publisher ^ count).to_le_bytes()];
                    topic.publish(&[(count % 2) as u8], &value.concat()).unwrap();
                }
            });
        }
        for _ in 0..2 {
            let topic = topic.clone();
            scope.spawn(move || {
                let mut subscriber = topic.subscribe().unwrap();
                let (mut last, mut seen) = ([0u64; 2], [0u64; 2]);
                while last.iter().sum::<u64>() < 3 * EACH {
                    let update = subscriber.next(Some(Duration::from_secs(60))).unwrap().expect("more comes");
                    let key = update.key[0] as usize;
                    assert!(update.number > last[key], "{} after {}", update.number, last[key]);
                    if seen[key] > 0 {
                        assert_eq!(update.number, last[key] + update.conflated + 1);
                    }
                    (last[key], seen[key]) = (update.number, seen[key] + 1);
                    let value = update.value.unwrap();
                    let word = |at: usize| u64::from_le_bytes(value[at * 8..][..8].try_into().unwrap());
                    assert_eq!(word(0) ^ word(1), word(2), "torn");
                }
                assert_eq!(subscriber.try_next().unwrap(), None);
            });
        }
    });
    assert_eq!(topic.stats().unwrap().updates, 3 * EACH);
    assert!(fabric.check().unwrap().problems.is_empty());
}

#[test]
fn what_is_wrong_is_told() {
    let (fabric, topic) = topic();
    let code = |error: Error| error.code();
    assert!(fabric.open_topic("prices").is_ok());
    assert_eq!(fabric.open_topic("none").map(|_| ()).map_err(code), Err(ErrorCode::NotFound));
    assert_eq!(fabric.cache("prices").map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    fabric.cache("cache").unwrap();
    assert_eq!(fabric.open_topic("cache").map(|_| ()).map_err(code), Err(ErrorCode::WrongKind));
    let other = TopicOptions { limit: Some(1 << 20) };
    assert_eq!(fabric.topic("prices", &other).map(|_| ()).map_err(code), Err(ErrorCode::WrongOptions));
    assert_eq!(topic.publish(b"", b"x").map_err(code), Err(ErrorCode::KeyTooLong));
    // A value that no publisher of this version wrote.
    topic.cache.set(b"k", b"bad").unwrap();
    assert_eq!(topic.publish(b"k", b"x").map_err(code), Err(ErrorCode::Corrupt));
    assert_eq!(topic.get(b"k").map_err(code), Err(ErrorCode::Corrupt));
    assert_eq!(topic.subscribe().map(|_| ()).map_err(code), Err(ErrorCode::Corrupt));
    // A topic that is full keeps what it has.
    let small = fabric.topic("small", &TopicOptions { limit: Some(512 << 10) });
    let small = small.unwrap();
    let full = (0..100_000u32).find_map(|key| small.publish(&key.to_le_bytes(), &[7; 1000]).err());
    assert_eq!(full.unwrap().code(), ErrorCode::Full);
    assert_eq!(small.get(&0u32.to_le_bytes()).unwrap(), Some((vec![7; 1000], 1)));
}
