//! Transactions against others that stopped, or died, where it hurts most: what they left must mislead nobody.

use std::collections::BTreeMap;

use super::tests::{Memory, contents};
use super::*;
use crate::journal::sim::Disk;
use crate::table::{Begun, Intent, Update, Value};

fn memory() -> (Memory, Store) {
    let memory = Memory::new(96, 16 << 10);
    let store = memory.store(&Disk::default()).unwrap();
    (memory, store)
}

/// Does something as another thread of the stage.
fn elsewhere<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

/// Puts new states in place, as a transaction of the calling thread; `None` deletes.
fn install(store: &Store, writes: &[(&[u8], Option<&[u8]>)]) -> (Begun, Vec<Intent>) {
    let (core, me) = store.actor().unwrap();
    let begun = core.table.begin(me).unwrap();
    let mut intents = Vec::new();
    for (key, value) in writes {
        let update =
            value.map(|value| Update { value: Value::Bytes(value), expiry: 0, client: 0, marks: 0, id: 0 });
        intents.push(core.table.install(me, &begun, key, update.as_ref()).unwrap().unwrap());
    }
    (begun, intents)
}

fn commit(store: &Store, begun: Begun, intents: &[Intent]) {
    let (core, me) = store.actor().unwrap();
    assert!(core.table.prove(me) && core.table.decide(me));
    core.table.end(me, begun, intents).unwrap();
}

#[test]
fn one_that_is_stopped_where_there_was_nothing_keeps_nobody_from_committing() {
    let (memory, store) = memory();
    let (begun, intents) = install(&store, &[(b"fresh", Some(b"undecided"))]);
    elsewhere(|| {
        for round in 0..3 {
            let mut transaction = store.transaction().unwrap();
            assert_eq!(transaction.get(b"fresh").unwrap(), None);
            transaction.put(b"other", &[round]).unwrap();
            transaction.commit().unwrap();
        }
    });
    // It was only read past: it still commits, and who has seen nothing there does not any more.
    let mut late = store.transaction().unwrap();
    assert_eq!(late.get(b"fresh").unwrap(), None);
    late.put(b"late", b"x").unwrap();
    commit(&store, begun, &intents);
    assert_eq!(late.commit().unwrap_err().code(), ErrorCode::Conflict);
    assert_eq!(store.get(b"fresh").unwrap(), Some(b"undecided".to_vec()));
    assert_eq!(contents(&store).len(), 2);
    memory.assert_sound();
}

#[test]
fn entries_that_are_counted_anew_are_those_that_count() {
    for commits in [true, false] {
        let (memory, store) = memory();
        for key in [b"kept", b"gone", b"long"] {
            store.set(key, b"old").unwrap();
        }
        let long = [7; 2000];
        let writes: [(&[u8], Option<&[u8]>); 4] =
            [(b"fresh", Some(b"new")), (b"gone", None), (b"kept", Some(b"new")), (b"long", Some(&long))];
        let (begun, intents) = install(&store, &writes);
        elsewhere(|| {
            // Somebody died: the counts are taken anew from the slots.
            let (core, _me) = store.actor().unwrap();
            crate::table::inherit(&core.table, true).unwrap();
            assert_eq!((store.len().unwrap(), contents(&store).len()), (3, 3));
        });
        let (core, me) = store.actor().unwrap();
        if commits {
            commit(&store, begun, &intents);
        } else {
            core.table.end(me, begun, &intents).unwrap();
        }
        let expected: BTreeMap<_, _> = contents(&store);
        assert_eq!(expected.contains_key(&b"fresh"[..]), commits);
        assert_eq!(store.len().unwrap(), expected.len() as u64, "commits: {commits}");
        let mut problems = Vec::new();
        crate::table::check(&core.table, false, &mut |place, what| problems.push(format!("{place}: {what}")))
            .unwrap();
        assert_eq!(problems, Vec::<String>::new(), "commits: {commits}");
        memory.assert_sound();
    }
}

/// The decision of a thread has only the lowest bits of a transaction's number. Who was stopped between the stamp of a state
/// and its decision may find that of a later transaction, which looks as if it were about this one.
#[test]
fn the_decision_of_a_later_transaction_is_not_taken_for_that_of_an_earlier() {
    let (_memory, store) = memory();
    let (core, me) = store.actor().unwrap();
    let (begun, intents) = install(&store, &[(b"a", Some(b"new"))]);
    let seen = core.table.stamp_of(&intents[0]).unwrap();
    assert!(core.table.is_under_way(&intents[0], seen).unwrap());
    commit(&store, begun, &intents);
    for later in 1..=512 {
        let begun = core.table.begin(me).unwrap();
        assert!(!core.table.is_under_way(&intents[0], seen).unwrap(), "{later} transactions later");
        core.table.end(me, begun, &[]).unwrap();
    }
    assert_eq!(store.get(b"a").unwrap(), Some(b"new".to_vec()));
}

/// Whoever takes over because all entries are taken has none of its own: it stands in that of the dead.
#[test]
fn what_the_dead_left_is_ended_in_their_own_place() {
    for decides in [false, true] {
        let (memory, store) = memory();
        store.set(b"a", b"old").unwrap();
        let dead = elsewhere(|| {
            let (_begun, intents) = install(&store, &[(b"a", Some(b"new")), (b"fresh", Some(b"new"))]);
            let (core, me) = store.actor().unwrap();
            assert!(!decides || core.table.prove(me) && core.table.decide(me));
            std::mem::forget(intents);
            me.index
        });
        memory.host.stage.kill(dead);
        let (core, _me) = store.actor().unwrap();
        core.table.end_left(memory.host.stage.actor(dead), dead).unwrap();
        assert!(!core.table.has_left(dead).unwrap());
        let expected: &[u8] = if decides { b"new" } else { b"old" };
        assert_eq!(store.get(b"a").unwrap(), Some(expected.to_vec()));
        assert_eq!(store.get(b"fresh").unwrap().is_some(), decides);
        assert_eq!(store.len().unwrap(), contents(&store).len() as u64);
        memory.host.stage.clear(dead);
    }
}
