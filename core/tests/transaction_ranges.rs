//! Ranges that transactions read: with their own changes, and proved at the commit.

use std::ops::Bound;

use memora::{Direction, Durability, ErrorCode, Fabric, FabricOptions, Store, StoreOptions, Transaction};

fn stores(home: &std::path::Path) -> (Fabric, [Store; 2]) {
    let fabric = FabricOptions::new().home(home.join("home")).limit(16 << 20).open("ranges").unwrap();
    let memory =
        StoreOptions { durability: Durability::Process, ordered: Some(true), ..StoreOptions::default() };
    let files = StoreOptions { dir: Some(home.join("files")), ..memory.clone() };
    let stores = [("memory", memory), ("files", files)].map(|(name, options)| {
        let store = fabric.store(name, &options).unwrap();
        for key in ["a", "b", "c", "d", "e"] {
            store.set(key.as_bytes(), key.to_uppercase().as_bytes()).unwrap();
        }
        store
    });
    (fabric, stores)
}

fn bound(key: &str) -> Bound<&[u8]> {
    Bound::Included(key.as_bytes())
}

/// Keys and values of a range as text, and from where to go on.
fn read(
    transaction: &mut Transaction,
    (from, to): (&str, &str),
    direction: Direction,
    limit: usize,
) -> (String, Option<String>) {
    let mut text = String::new();
    let more = transaction
        .range(bound(from), bound(to), direction, limit, |key, entry| {
            text.push_str(std::str::from_utf8(key).unwrap());
            text.push_str(std::str::from_utf8(&entry.value).unwrap());
        })
        .unwrap();
    (text, more.map(|key| String::from_utf8(key).unwrap()))
}

#[test]
fn a_range_shows_what_the_transaction_itself_has_changed() {
    let home = tempfile::tempdir().unwrap();
    let (_fabric, stores) = stores(home.path());
    for store in stores {
        let mut transaction = store.transaction().unwrap();
        transaction.put(b"bb", b"new").unwrap();
        transaction.put(b"c", b"over").unwrap();
        assert!(transaction.delete(b"d").unwrap());
        transaction.put(b"z", b"outside").unwrap();
        let mut all = |direction, limit| read(&mut transaction, ("b", "f"), direction, limit);
        assert_eq!(all(Direction::Forward, 9), ("bBbbnewcovereE".into(), None));
        assert_eq!(all(Direction::Backward, 9), ("eEcoverbbnewbB".into(), None));
        assert_eq!(all(Direction::Forward, 2), ("bBbbnew".into(), Some("bb".into())));
        assert_eq!(all(Direction::Backward, 2), ("eEcover".into(), Some("c".into())));
        assert_eq!(all(Direction::Forward, 0), (String::new(), None));
        transaction.commit().unwrap();
        let mut found = Vec::new();
        store
            .range(Bound::Unbounded, Bound::Unbounded, Direction::Forward, 99, |key, _| {
                found.push(key.to_vec())
            })
            .unwrap();
        assert_eq!(found, [&b"a"[..], b"b", b"bb", b"c", b"e", b"z"]);
    }
}

#[test]
fn what_came_into_a_range_or_left_it_is_a_conflict_and_what_is_beside_it_is_not() {
    type Interfere = fn(&Store);
    let cases: [(&str, Interfere, bool); 7] = [
        ("nothing", |_| {}, true),
        ("beside it", |store| drop(store.set(b"dd", b"x")), true),
        ("behind what the limit let it see", |store| drop(store.set(b"cc", b"x")), true),
        ("a new key", |store| drop(store.set(b"bb", b"x")), false),
        ("a key that changed", |store| drop(store.set(b"b", b"x")), false),
        ("a key that left", |store| drop(store.delete(b"b")), false),
        (
            "a key that came and left",
            |store| {
                store.set(b"bb", b"x").unwrap();
                store.delete(b"bb").unwrap();
                store.flush().unwrap();
            },
            false,
        ),
    ];
    for (what, interfere, commits) in cases {
        let home = tempfile::tempdir().unwrap();
        let (_fabric, stores) = stores(home.path());
        for store in stores {
            let mut transaction = store.transaction().unwrap();
            let (seen, more) = read(&mut transaction, ("b", "d"), Direction::Forward, 2);
            assert_eq!((seen.as_str(), more.as_deref()), ("bBcC", Some("c")));
            // Its own new keys in the range are no conflict.
            transaction.put(b"bz", b"own").unwrap();
            std::thread::scope(|scope| scope.spawn(|| interfere(&store)).join().unwrap());
            let done = transaction.commit();
            assert_eq!(done.is_ok(), commits, "{what}");
            if let Err(error) = done {
                assert_eq!(error.code(), ErrorCode::Conflict, "{what}");
            }
        }
    }
}

#[test]
fn of_two_that_count_a_range_and_put_into_it_one_commits() {
    let home = tempfile::tempdir().unwrap();
    let (_fabric, stores) = stores(home.path());
    for store in stores {
        std::thread::scope(|scope| {
            for thread in 0..3u32 {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..40u32 {
                        store
                            .transact(|transaction| {
                                let (mut count, mut last) = (0u32, None);
                                transaction.range(
                                    bound("n"),
                                    bound("o"),
                                    Direction::Forward,
                                    999,
                                    |_, entry| {
                                        count += 1;
                                        last = Some(entry.value.clone());
                                    },
                                )?;
                                // The number of each is how many were there before.
                                assert_eq!(last, (count > 0).then(|| (count - 1).to_be_bytes().to_vec()));
                                let key = format!("n{count:05} {thread} {round}");
                                transaction.put(key.as_bytes(), &count.to_be_bytes())
                            })
                            .unwrap();
                    }
                });
            }
        });
        let mut numbers = Vec::new();
        store
            .prefix(b"n", Direction::Forward, 999, |_, entry| {
                numbers.push(u32::from_be_bytes(entry.value[..].try_into().unwrap()));
            })
            .unwrap();
        assert_eq!(numbers, (0..120).collect::<Vec<_>>());
    }
}

#[test]
fn a_store_without_order_has_no_ranges() {
    let home = tempfile::tempdir().unwrap();
    let fabric = FabricOptions::new().home(home.path().join("home")).limit(8 << 20).open("plain").unwrap();
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let store = fabric.store("plain", &options).unwrap();
    let mut transaction = store.transaction().unwrap();
    let error =
        transaction.range(Bound::Unbounded, Bound::Unbounded, Direction::Forward, 9, |_, _| {}).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotOrdered);
}
