//! Transactions over a pool without a segment and files without a disk: conflicts, the stopped, the dead, power cuts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::tests::{Memory, contents, recovered};
use super::*;
use crate::channel::testing::channel_at;
use crate::channel::{ChannelKind, ChannelOptions};
use crate::chunk::{ChunkId, Class, Need};
use crate::journal::sim::{Disk, Fault, Random};
use crate::table::{Hands, Intent, RecordClass, Update, Value};

const ACCOUNTS: u64 = 8;
const START: u64 = 100;

fn account(number: u64) -> Vec<u8> {
    format!("account {number}").into_bytes()
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

fn open_accounts(store: &Store) {
    store
        .transact(|transaction| {
            for of in 0..ACCOUNTS {
                transaction.put(&account(of), START.to_string().as_bytes())?;
            }
            Ok(())
        })
        .unwrap();
}

fn transfer(store: &Store, from: u64, to: u64, amount: u64) -> Result<()> {
    store.transact(|transaction| {
        let balance = number(&transaction.get(&account(from))?.expect("an account"));
        let amount = amount.min(balance);
        transaction.put(&account(from), (balance - amount).to_string().as_bytes())?;
        let other = number(&transaction.get(&account(to))?.expect("an account"));
        transaction.put(&account(to), (other + amount).to_string().as_bytes())
    })
}

fn sum(contents: &BTreeMap<Vec<u8>, Vec<u8>>) -> u64 {
    contents.iter().filter(|(key, _)| key.starts_with(b"account")).map(|(_, value)| number(value)).sum()
}

fn memory() -> (Memory, Disk, Store) {
    let (memory, disk) = (Memory::new(96, 16 << 10), Disk::default());
    let store = memory.store(&disk).unwrap();
    (memory, disk, store)
}

/// A store with files, and one without.
fn both() -> [(Memory, Disk, Store); 2] {
    [RecordClass::Store, RecordClass::Memory].map(|class| {
        let (memory, disk) = (Memory::of(96, 16 << 10, class), Disk::default());
        let store = memory.store(&disk).unwrap();
        (memory, disk, store)
    })
}

/// What the files say is what the memory says, where there are files.
fn assert_flushed(store: &Store, disk: &Disk, what: &str) {
    store.flush().unwrap();
    if store.core().unwrap().journal.is_some() {
        assert_eq!(recovered(disk).unwrap(), contents(store), "{what}");
    }
}

/// What a transaction does up to a point, where its thread is stopped.
struct Halfway<'a> {
    store: &'a Store,
    begun: crate::table::Begun,
    intents: Vec<Intent>,
}

impl<'a> Halfway<'a> {
    /// Puts new states in place; `None` deletes.
    fn installed(store: &'a Store, writes: &[(&[u8], Option<&[u8]>)]) -> Halfway<'a> {
        let (core, me) = store.actor().unwrap();
        let begun = core.table.begin(me).unwrap();
        let mut intents = Vec::new();
        for (key, value) in writes {
            let update = value.map(|value| Update {
                value: Value::Bytes(value),
                expiry: 0,
                client: 0,
                marks: 0,
                id: 0,
            });
            intents.push(core.table.install(me, &begun, key, update.as_ref()).unwrap().unwrap());
        }
        Halfway { store, begun, intents }
    }

    fn proves(&self) -> bool {
        let (core, me) = self.store.actor().unwrap();
        core.table.prove(me)
    }

    fn decides(&self) -> bool {
        let (core, me) = self.store.actor().unwrap();
        core.table.decide(me)
    }

    fn end(self) {
        let (core, me) = self.store.actor().unwrap();
        core.table.end(me, self.begun, &self.intents).unwrap();
    }
}

/// Does something as another thread of the stage.
fn elsewhere<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

#[test]
fn a_transaction_sees_its_own_changes_and_others_see_all_of_it_or_nothing() {
    for (memory, disk, store) in both() {
        store.set(b"there", b"old").unwrap();
        let mut transaction = store.transaction().unwrap();
        transaction.put(b"there", b"new").unwrap();
        transaction.put(b"fresh", b"value").unwrap();
        assert_eq!(transaction.get(b"there").unwrap(), Some(b"new".to_vec()));
        assert!(transaction.delete(b"fresh").unwrap() && !transaction.delete(b"fresh").unwrap());
        assert_eq!(transaction.get(b"fresh").unwrap(), None);
        transaction.put(b"fresh", b"again").unwrap();
        assert_eq!(store.get(b"there").unwrap(), Some(b"old".to_vec()));
        assert_eq!(store.get(b"fresh").unwrap(), None);
        transaction.commit().unwrap();
        assert_eq!(store.get(b"there").unwrap(), Some(b"new".to_vec()));
        assert_eq!(store.get(b"fresh").unwrap(), Some(b"again".to_vec()));
        let mut transaction = store.transaction().unwrap();
        assert!(transaction.delete(b"there").unwrap());
        transaction.put(b"fresh", b"never").unwrap();
        transaction.abort();
        assert_eq!(store.get(b"fresh").unwrap(), Some(b"again".to_vec()));
        let mut transaction = store.transaction().unwrap();
        assert!(transaction.delete(b"there").unwrap() && transaction.delete(b"fresh").unwrap());
        transaction.commit().unwrap();
        assert_eq!(contents(&store), BTreeMap::new());
        assert_eq!(store.stats().unwrap().entries, 0);
        memory.assert_sound();
        let _ = (&memory, &disk);
    }
}

#[test]
fn what_was_read_must_still_be_so_at_the_commit() {
    type Read = fn(&mut Transaction) -> Result<()>;
    type Interfere = fn(&Store);
    let cases: [(&str, Read, Interfere, bool); 8] = [
        ("nothing", |t| t.get(b"a").map(drop), |_| {}, true),
        ("another key", |t| t.get(b"a").map(drop), |s| drop(s.set(b"b", b"x")), true),
        ("overwritten", |t| t.get(b"a").map(drop), |s| drop(s.set(b"a", b"1")), false),
        ("deleted", |t| t.get(b"a").map(drop), |s| drop(s.delete(b"a")), false),
        ("created", |t| t.get(b"none").map(drop), |s| drop(s.set(b"none", b"x")), false),
        (
            "created and deleted",
            |t| t.get(b"none").map(drop),
            |s| {
                s.set(b"none", b"x").unwrap();
                s.delete(b"none").unwrap();
            },
            false,
        ),
        (
            "created, deleted and forgotten",
            |t| t.get(b"none").map(drop),
            |s| {
                s.set(b"none", b"x").unwrap();
                s.delete(b"none").unwrap();
                s.flush().unwrap();
            },
            false,
        ),
        ("written by itself", |t| t.get(b"c").map(drop), |s| drop(s.set(b"c", b"x")), false),
    ];
    for ((what, read, interfere, commits), (_memory, _disk, store)) in
        cases.iter().flat_map(|case| both().map(|memory| (*case, memory)))
    {
        store.set(b"a", b"1").unwrap();
        let mut transaction = store.transaction().unwrap();
        read(&mut transaction).unwrap();
        transaction.put(b"c", b"mine").unwrap();
        elsewhere(|| interfere(&store));
        let done = transaction.commit();
        assert_eq!(done.is_ok(), commits, "{what}");
        if let Err(error) = done {
            assert_eq!(error.code(), ErrorCode::Conflict, "{what}");
            assert_ne!(store.get(b"c").unwrap(), Some(b"mine".to_vec()), "{what}");
        }
    }
    // A key that was read twice, and differently in between, is known to be in vain at once.
    let (_memory, _disk, store) = memory();
    let mut transaction = store.transaction().unwrap();
    transaction.get(b"a").unwrap();
    elsewhere(|| store.set(b"a", b"2").unwrap());
    assert_eq!(transaction.get(b"a").unwrap_err().code(), ErrorCode::Conflict);
    let version = store.get_entry(b"a").unwrap().unwrap().version;
    let mut transaction = store.transaction().unwrap();
    transaction.expect(b"a", Some(version)).unwrap();
    assert_eq!(transaction.expect(b"b", Some(version)).unwrap_err().code(), ErrorCode::Conflict);
    transaction.expect(b"b", None).unwrap();
    transaction.put(b"c", b"x").unwrap();
    transaction.commit().unwrap();
}

#[test]
fn of_two_that_read_what_the_other_writes_one_commits() {
    for (memory, disk, store) in both() {
        for key in [b"x", b"y"] {
            store.set(key, b"1").unwrap();
        }
        let read_both = || {
            let mut transaction = store.transaction().unwrap();
            transaction.get(b"x").unwrap();
            transaction.get(b"y").unwrap();
            transaction
        };
        let (mut first, mut second) = (read_both(), read_both());
        first.put(b"x", b"0").unwrap();
        second.put(b"y", b"0").unwrap();
        elsewhere(|| first.commit().unwrap());
        assert_eq!(second.commit().unwrap_err().code(), ErrorCode::Conflict);
        assert_eq!(store.get(b"y").unwrap(), Some(b"1".to_vec()));
        let _ = (&memory, &disk);
    }
}

#[test]
fn a_transaction_that_is_too_large_is_refused_and_one_that_was_refused_can_be_used_on() {
    let (_memory, _disk, store) = memory();
    let mut transaction = store.transaction().unwrap();
    let too_long = vec![0; 20 << 10];
    assert_eq!(transaction.put(b"k", &too_long).unwrap_err().code(), ErrorCode::ValueTooLong);
    assert_eq!(transaction.put(b"", b"").unwrap_err().code(), ErrorCode::KeyTooLong);
    for key in 0..TRANSACTION_KEYS_MAX {
        transaction.put(&(key as u32).to_le_bytes(), b"").unwrap();
    }
    let error = transaction.put(b"one more", b"").unwrap_err();
    assert_eq!(error.code(), ErrorCode::TransactionTooLarge);
    assert!(error.to_string().contains("65536"), "{error}");
    transaction.put(&7u32.to_le_bytes(), b"seven").unwrap();
    // It does not fit this memory: nothing of it is done.
    assert_eq!(transaction.commit().unwrap_err().code(), ErrorCode::Full);
    assert_eq!(contents(&store), BTreeMap::new());
    store.set(b"k", b"fits").unwrap();
    assert_eq!(contents(&store).len(), 1);
}

#[test]
fn one_that_waits_for_room_holds_no_outbox() {
    let (memory, disk, store) = memory();
    let me = memory.host.actor().unwrap();
    let (object, chunks) = (9, 8);
    let first = memory.pool.allocate_run(me, Class::Control, object, chunks, Need::Object).unwrap();
    for number in first.0..first.0 + chunks {
        memory.pool.settle(me, ChunkId(number)).unwrap();
    }
    let options =
        ChannelOptions { kind: ChannelKind::Broadcast, lane_bytes: 4096, ..ChannelOptions::default() };
    let control = memory.pool.geometry().chunk_offset(first);
    let channel = channel_at(Arc::clone(memory.pool.shared_shm()), control, &options);
    let (outbox, mut subscriber) = (channel.outbox().unwrap(), channel.subscriber().unwrap());
    store.set(b"to be flushed", b"1").unwrap();
    let mut transaction = store.transaction().unwrap();
    for key in 0..3000u32 {
        transaction.put(&key.to_le_bytes(), &[7; 1000]).unwrap();
    }
    transaction.publish(&outbox, b"never").unwrap();
    let (tell, hear) = mpsc::channel();
    let other = outbox.clone();
    disk.after_next_sync(move || {
        // While it waits, somebody else uses the outbox.
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            drop(other.lock());
            done.send(()).unwrap();
        });
        tell.send(is_done.recv_timeout(Duration::from_secs(20)).is_ok()).unwrap();
    });
    assert_eq!(transaction.commit().unwrap_err().code(), ErrorCode::Full);
    assert_eq!(hear.try_recv(), Ok(true), "it was held during a flush for room, or there was none");
    assert!(subscriber.try_recv(&mut Vec::new()).unwrap().is_none());
}

#[test]
fn one_that_is_stopped_while_it_puts_its_states_in_place_is_read_past_and_overwritten() {
    for (memory, disk, store) in both() {
        store.set(b"a", b"old").unwrap();
        store.set(b"gone", b"old").unwrap();
        let halfway =
            Halfway::installed(&store, &[(b"a", Some(b"new")), (b"fresh", Some(b"new")), (b"gone", None)]);
        elsewhere(|| {
            assert_eq!(store.get(b"a").unwrap(), Some(b"old".to_vec()));
            assert_eq!(store.get(b"fresh").unwrap(), None);
            assert_eq!(store.get(b"gone").unwrap(), Some(b"old".to_vec()));
            let mut all = Vec::new();
            store
                .get_many(&[b"a", b"fresh", b"gone"], |_, value| all.push(value.map(<[u8]>::to_vec)))
                .unwrap();
            assert_eq!(all, [Some(b"old".to_vec()), None, Some(b"old".to_vec())]);
            assert_eq!(contents(&store).len(), 2);
            assert_eq!(store.stats().unwrap().entries, 2);
            store.flush().unwrap();
            // Who writes where one of its states stands does not wait for it.
            store.set(b"fresh", b"other").unwrap();
            assert_eq!(store.get(b"a").unwrap(), Some(b"old".to_vec()));
        });
        assert!(!halfway.proves(), "it was aborted");
        halfway.end();
        let expected: BTreeMap<_, _> = [(&b"a"[..], "old"), (b"fresh", "other"), (b"gone", "old")]
            .map(|(key, value)| (key.to_vec(), value.as_bytes().to_vec()))
            .into();
        assert_eq!(contents(&store), expected);
        assert_eq!(store.stats().unwrap().entries, 3);
        memory.assert_sound();
        let _ = (&memory, &disk);
    }
}

#[test]
fn one_that_is_stopped_while_it_is_proved_is_aborted_by_whoever_meets_it() {
    let (_memory, disk, store) = memory();
    store.set(b"a", b"old").unwrap();
    let halfway = Halfway::installed(&store, &[(b"a", Some(b"new"))]);
    assert!(halfway.proves());
    elsewhere(|| assert_eq!(store.get(b"a").unwrap(), Some(b"old".to_vec())));
    assert!(!halfway.decides(), "a reader has seen what was there before");
    halfway.end();
    // A flush does not abort it, but it commits behind the cut.
    let halfway = Halfway::installed(&store, &[(b"a", Some(b"new")), (b"b", Some(b"new"))]);
    assert!(halfway.proves());
    elsewhere(|| store.flush().unwrap());
    assert_eq!(recovered(&disk).unwrap()[&b"a"[..]], b"old");
    assert!(halfway.decides());
    halfway.end();
    assert_eq!(contents(&store).len(), 2);
    elsewhere(|| store.flush().unwrap());
    assert_eq!(recovered(&disk).unwrap(), contents(&store));
}

#[test]
fn one_whose_thread_died_is_ended_by_the_next_and_its_heir() {
    for (proves, decides, heir) in [
        (false, false, false),
        (true, false, false),
        (true, true, false),
        (false, false, true),
        (true, true, true),
    ] {
        for (memory, disk, store) in both() {
            store.set(b"a", b"old").unwrap();
            store.set(b"gone", b"old").unwrap();
            let dead = elsewhere(|| {
                let halfway = Halfway::installed(
                    &store,
                    &[(b"a", Some(b"new")), (b"fresh", Some(b"new")), (b"gone", None)],
                );
                if proves {
                    assert!(halfway.proves());
                }
                if decides {
                    assert!(halfway.decides());
                }
                std::mem::forget(halfway.intents);
                store.actor().unwrap().1.index
            });
            memory.host.stage.kill(dead);
            let (core, me) = store.actor().unwrap();
            if heir {
                assert!(core.table.has_left(dead).unwrap());
                core.table.end_left(me, dead).unwrap();
                assert!(!core.table.has_left(dead).unwrap());
                core.table.end_left(me, dead).unwrap();
            }
            let (a, fresh, gone) =
                if decides { ("new", Some("new"), None) } else { ("old", None, Some("old")) };
            let value = |key: &[u8]| store.get(key).unwrap().map(|value| String::from_utf8(value).unwrap());
            assert_eq!(value(b"a").as_deref(), Some(a));
            assert_eq!(value(b"fresh").as_deref(), fresh);
            assert_eq!(value(b"gone").as_deref(), gone);
            assert_flushed(&store, &disk, &format!("{proves} {decides} {heir}"));
            store.set(b"fresh", b"x").unwrap();
            store.set(b"gone", b"x").unwrap();
            assert_eq!(value(b"fresh").as_deref(), Some("x"));
            if heir {
                memory.host.stage.clear(dead);
                assert_eq!(store.stats().unwrap().entries, 3);
            }
        }
    }
}

#[test]
fn the_state_before_an_undecided_one_survives_cleaning() {
    for (memory, disk, store) in both() {
        store.set(b"kept", &[7; 300]).unwrap();
        // Everything else in its chunk dies.
        for _ in 0..60 {
            store.set(b"noise", &[1; 300]).unwrap();
        }
        store.flush().unwrap();
        let halfway = Halfway::installed(&store, &[(b"kept", Some(b"new"))]);
        elsewhere(|| {
            for round in 0..3000u32 {
                store.set(b"noise", &round.to_le_bytes().repeat(100)).unwrap();
                if round % 64 == 0 {
                    store.flush().unwrap();
                }
            }
            assert_eq!(store.get(b"kept").unwrap(), Some(vec![7; 300]));
        });
        halfway.end();
        assert_eq!(store.get(b"kept").unwrap(), Some(vec![7; 300]));
        memory.assert_sound();
        let _ = (&memory, &disk);
    }
}

#[test]
fn money_is_neither_made_nor_lost_while_many_transfer_and_others_look() {
    let rounds = if std::env::var_os("MEMORA_TORTURE").is_some() { 40_000 } else { 2_000 };
    let (memory, disk, store) = memory();
    open_accounts(&store);
    let (over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|seed| {
                let store = &store;
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for _ in 0..rounds {
                        let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
                        if from != to {
                            transfer(store, from, to, random.below(20)).unwrap();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            // A transaction that only reads sees one moment. One look at least, however late this thread comes.
            loop {
                let last = over.load(Ordering::Relaxed);
                let sum = store
                    .transact(|transaction| {
                        (0..ACCOUNTS).try_fold(0, |sum, of| {
                            Ok(sum + number(&transaction.get(&account(of))?.expect("an account")))
                        })
                    })
                    .unwrap();
                assert_eq!(sum, ACCOUNTS * START);
                looks.fetch_add(1, Ordering::Relaxed);
                if last {
                    break;
                }
            }
        });
        scope.spawn(|| {
            // New keys all the while: the index grows, chunks are cleaned.
            let mut random = Random(99);
            while !over.load(Ordering::Relaxed) {
                store.set(&random.below(400).to_le_bytes(), &[5; 200]).unwrap();
                store.delete(&random.below(400).to_le_bytes()).unwrap();
            }
        });
        scope.spawn(|| {
            // What a power cut would leave is always the state of one moment.
            let mut cuts = 0;
            loop {
                let last = over.load(Ordering::Relaxed);
                store.flush().unwrap();
                let cut = recovered(&disk.power_cut(&mut Random(cuts))).unwrap();
                assert_eq!(sum(&cut), ACCOUNTS * START, "cut {cuts}");
                cuts += 1;
                if last {
                    break;
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(looks.load(Ordering::Relaxed) > 0);
    assert_eq!(sum(&contents(&store)), ACCOUNTS * START);
    memory.assert_sound();
}

#[test]
fn a_store_without_files_takes_long_values_into_transactions() {
    let [_, (memory, _disk, store)] = both();
    let long = |byte: u8| vec![byte; 100_000];
    store.set(b"long", &long(1)).unwrap();
    let free = || memory.pool.free_count();
    let before = free();
    let halfway = Halfway::installed(&store, &[(b"long", Some(&long(2))), (b"other", Some(&long(3)))]);
    elsewhere(|| {
        assert_eq!(store.get(b"long").unwrap(), Some(long(1)));
        // Somebody died and memory is short: dead bytes are counted anew, runs that nothing points to are given back.
        crate::table::inherit(&store.core().unwrap().table, true).unwrap();
        let mut filled = 0u32;
        while store.set(&filled.to_le_bytes(), &[1; 4000]).is_ok() {
            filled += 1;
        }
        assert_eq!(store.stats().unwrap().entries, u64::from(filled) + 1);
        assert_eq!(store.get(b"long").unwrap(), Some(long(1)));
        for key in 0..filled {
            assert!(store.delete(&key.to_le_bytes()).unwrap());
        }
    });
    {
        let (core, me) = store.actor().unwrap();
        core.table.end(me, halfway.begun, &halfway.intents).unwrap();
    }
    assert_eq!((store.get(b"long").unwrap(), store.get(b"other").unwrap()), (Some(long(1)), None));
    for round in 2..40u8 {
        let mut transaction = store.transaction().unwrap();
        assert_eq!(transaction.get(b"long").unwrap(), Some(long(round - 1)));
        transaction.put(b"long", &long(round)).unwrap();
        transaction.put(b"other", &long(round)).unwrap();
        transaction.commit().unwrap();
        let mut transaction = store.transaction().unwrap();
        assert!(transaction.delete(b"other").unwrap());
        transaction.commit().unwrap();
        assert_eq!(store.get(b"other").unwrap(), None);
    }
    assert_eq!(store.get(b"long").unwrap(), Some(long(39)));
    assert!(free() >= before - 2, "{} of {before} chunks are free", free());
    memory.assert_sound();
}

#[test]
fn no_power_cut_tears_a_transaction() {
    let run = |disk: &Disk, seed: u64| -> Option<u64> {
        let memory = Memory::new(96, 16 << 10);
        let store = memory.store(disk).ok()?;
        open_accounts(&store);
        let mut acknowledged = store.flush().ok().map(|()| 0)?;
        let mut random = Random(seed);
        for round in 1..12u64 {
            for _ in 0..1 + random.below(5) {
                let _ = transfer(&store, random.below(ACCOUNTS), (random.below(ACCOUNTS) + 1) % ACCOUNTS, 7);
                let _ = store.set(b"round", round.to_string().as_bytes());
            }
            let done = if random.below(4) == 0 { store.checkpoint() } else { store.flush() };
            if done.is_ok() {
                acknowledged = round;
            }
        }
        Some(acknowledged)
    };
    let seeds = if std::env::var_os("MEMORA_TORTURE").is_some() { 20 } else { 2 };
    for seed in 0..seeds {
        let whole = Disk::default();
        run(&whole, seed).unwrap();
        for call in 1..=whole.calls() {
            let disk = Disk::default();
            disk.fail_at(call, Fault::DeadFrom);
            let acknowledged = run(&disk, seed);
            let found = recovered(&disk.power_cut(&mut Random(call))).unwrap();
            let sum = sum(&found);
            let nothing = found.is_empty() && acknowledged.is_none();
            assert!(nothing || sum == ACCOUNTS * START, "seed {seed}, call {call}: {sum}");
            let round = found.get(&b"round"[..]).map_or(0, |value| number(value));
            assert!(round >= acknowledged.unwrap_or(0), "seed {seed}, call {call}");
        }
    }
}

#[test]
fn a_closed_store_ends_its_transactions() {
    let (_memory, _disk, store) = memory();
    let mut transaction = store.transaction().unwrap();
    transaction.put(b"k", b"v").unwrap();
    transaction.get(b"read").unwrap();
    store.close().unwrap();
    let closed = |result: Result<()>| assert_eq!(result.unwrap_err().code(), ErrorCode::Closed);
    // Also where the transaction itself would know the answer.
    closed(transaction.get(b"k").map(drop));
    closed(transaction.put(b"k", b"w"));
    closed(transaction.delete(b"k").map(drop));
    closed(transaction.delete(b"read").map(drop));
    closed(transaction.expect(b"k", None));
    closed(transaction.set_durability(Durability::Process));
    closed(transaction.commit());
    closed(store.transaction().map(drop));
    closed(store.transact(|_| Ok(())));
}
