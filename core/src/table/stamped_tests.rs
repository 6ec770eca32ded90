//! Caches that transactions may change: what is undecided, what stands before it, and what evicts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::lease::Owner;
use super::places_tests::Heard;
use super::tests::Bench;
use super::*;
use crate::chunk::Actor;

const CHUNK: u64 = 1 << 14;

fn stamped(threads: u16, options: TableOptions) -> Bench {
    Bench::with(threads, 128, CHUNK, RecordClass::Stamped, &TableOptions { cache: true, ..options })
}

/// Caches that evict by bytes and by entries, and that refuse.
fn all(threads: u16) -> [Bench; 4] {
    let options = TableOptions { events: true, ..TableOptions::default() };
    [
        TableOptions { limit: 48 * CHUNK, evict: true, ..options },
        TableOptions { entries: 500, evict: true, ..options },
        TableOptions { ..options },
        TableOptions { entries: 500, ..options },
    ]
    .map(|options| stamped(threads, options))
}

fn update(value: &[u8]) -> Update<'_> {
    Update { value: Value::Bytes(value), expiry: 0, client: 0, marks: 0, id: 0 }
}

/// A transaction up to a point, where its thread is stopped.
struct Halfway<'a> {
    bench: &'a Bench,
    thread: u16,
    begun: Begun,
    intents: Vec<Intent>,
}

impl<'a> Halfway<'a> {
    fn begun(bench: &'a Bench, thread: u16) -> Halfway<'a> {
        let begun = bench.table.begin(bench.me(thread)).unwrap();
        Halfway { bench, thread, begun, intents: Vec::new() }
    }

    /// Puts new states in place; `None` deletes.
    fn installed(bench: &'a Bench, thread: u16, writes: &[(&[u8], Option<&[u8]>)]) -> Halfway<'a> {
        let mut halfway = Halfway::begun(bench, thread);
        for (key, value) in writes {
            assert!(halfway.install(key, *value).unwrap());
        }
        halfway
    }

    fn install(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool> {
        let put = value.map(update);
        let intent = self.bench.table.install(self.me(), &self.begun, key, put.as_ref())?;
        let any = intent.is_some();
        self.intents.extend(intent);
        Ok(any)
    }

    fn me(&self) -> Actor<'a> {
        self.bench.me(self.thread)
    }

    fn proves(&self) -> bool {
        self.bench.table.prove(self.me())
    }

    fn sees(&self, key: &[u8], sighting: &Sighting) -> bool {
        self.bench.table.is_unchanged(self.me(), &self.begun, key, sighting).unwrap()
    }

    fn decides(&self) -> bool {
        self.bench.table.decide(self.me())
    }

    fn end(self) {
        self.bench.table.end(self.me(), self.begun, &self.intents).unwrap();
    }

    /// All of it at once; whether it was committed.
    fn commit(self) -> bool {
        let done = self.proves() && self.decides();
        self.end();
        done
    }
}

fn sight(bench: &Bench, key: &[u8]) -> Sighting {
    bench.table.sight(key, &mut |_, _| Ok(())).unwrap().0
}

/// Writes new keys as a thread until `enough`.
fn press(bench: &Bench, thread: u16, most: u64, enough: impl Fn() -> bool) {
    for number in 0..most {
        let _ = bench.set(bench.me(thread), format!("noise {thread} {number}").as_bytes(), &[1; 200]);
        if enough() {
            return;
        }
    }
}

#[test]
fn what_a_transaction_puts_in_place_counts_when_it_is_committed_and_not_before() {
    for bench in all(2) {
        let heard = Arc::new(Heard::default());
        bench.table.observe(heard.clone());
        let other = bench.me(2);
        for key in [b"a".as_slice(), b"gone"] {
            bench.set(other, key, b"old").unwrap();
        }
        let told = || std::mem::take(&mut *heard.0.lock().unwrap());
        told();
        let writes: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"new")), (b"fresh", Some(b"new")), (b"gone", None)];
        for commits in [false, true] {
            let halfway = Halfway::installed(&bench, 1, &writes);
            assert_eq!(bench.get(b"a").unwrap(), b"old");
            assert_eq!((bench.get(b"fresh"), bench.get(b"gone")), (None, Some(b"old".to_vec())));
            let mut seen = 0;
            bench
                .table
                .scan(0, usize::MAX, |_, _, value| {
                    seen += 1;
                    assert_eq!(value, b"old");
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, 2);
            assert_eq!(told(), []);
            if commits {
                assert!(halfway.commit());
            } else {
                halfway.end();
                assert_eq!(told(), []);
            }
        }
        assert_eq!((bench.get(b"a").unwrap(), bench.get(b"fresh").unwrap()), (b"new".into(), b"new".into()));
        assert_eq!((bench.get(b"gone"), bench.table.len().unwrap()), (None, 2));
        let all: Vec<_> = [(EventKind::Set, "a"), (EventKind::Set, "fresh"), (EventKind::Delete, "gone")]
            .map(|(kind, key)| (kind, key.as_bytes().to_vec()))
            .into();
        assert_eq!(told(), all);
        let counts = bench.table.counts();
        assert_eq!((counts.of(Count::Set), counts.of(Count::Delete)), (4, 1));
        // What comes there before the decision goes with it: there is a record, though there is nothing to delete.
        assert!(Halfway::begun(&bench, 1).install(b"gone", None).unwrap());
        assert_eq!(bench.get(b"gone"), None);
        bench.table.end_left(bench.me(1), 1).unwrap();
        assert!(Halfway::installed(&bench, 1, &[(b"gone", None)]).commit());
        assert_eq!((bench.get(b"gone"), told()), (None, Vec::new()));
        bench.assert_sound();
    }
}

#[test]
fn what_was_read_is_proved_also_against_what_left_the_cache() {
    type Interfere = fn(&Bench);
    let cases: [(&str, Interfere, bool); 7] = [
        ("nothing", |_| {}, true),
        ("overwritten", |b| drop(b.set(b.me(2), b"a", b"x")), false),
        ("deleted", |b| drop(b.delete(b.me(2), b"a")), false),
        ("created", |b| drop(b.set(b.me(2), b"none", b"x")), false),
        (
            "created and deleted",
            |b| {
                b.set(b.me(2), b"none", b"x").unwrap();
                b.delete(b.me(2), b"none").unwrap();
            },
            false,
        ),
        ("flushed", |b| b.table.flush(b.me(2)).unwrap(), false),
        ("deleted by a transaction", |b| assert!(Halfway::installed(b, 2, &[(b"a", None)]).commit()), false),
    ];
    for (what, interfere, commits) in cases {
        for bench in all(2) {
            bench.set(bench.me(2), b"a", b"old").unwrap();
            let seen = [b"a".as_slice(), b"none"].map(|key| (key, sight(&bench, key)));
            interfere(&bench);
            let halfway = Halfway::installed(&bench, 1, &[(b"mine", Some(b"x"))]);
            assert!(halfway.proves());
            let same = seen.iter().all(|(key, sighting)| halfway.sees(key, sighting));
            assert_eq!(same, commits, "{what}");
            halfway.end();
            bench.assert_sound();
        }
    }
    // What was evicted has changed.
    let bench = &all(2)[0];
    bench.set(bench.me(2), b"a", b"old").unwrap();
    let seen = sight(bench, b"a");
    press(bench, 2, 20_000, || bench.table.counts().of(Count::EvictSmall) > 10_000);
    assert_eq!(bench.get(b"a"), None);
    let halfway = Halfway::installed(bench, 1, &[(b"mine", Some(b"x"))]);
    assert!(halfway.proves() && !halfway.sees(b"a", &seen));
    halfway.end();
}

#[test]
fn one_that_is_stopped_is_read_past_and_aborted_by_who_writes_there() {
    for bench in all(2) {
        let other = bench.me(2);
        bench.set(other, b"a", b"old").unwrap();
        let halfway = Halfway::installed(&bench, 1, &[(b"a", Some(b"new")), (b"fresh", Some(b"new"))]);
        assert_eq!(bench.get(b"a").unwrap(), b"old");
        bench.set(other, b"fresh", b"other").unwrap();
        assert!(!halfway.proves(), "it was aborted");
        halfway.end();
        assert_eq!(
            (bench.get(b"a").unwrap(), bench.get(b"fresh").unwrap()),
            (b"old".into(), b"other".into())
        );
        // While it is proved a reader waits, and aborts it.
        let halfway = Halfway::installed(&bench, 1, &[(b"a", Some(b"new"))]);
        assert!(halfway.proves());
        assert_eq!(bench.get(b"a").unwrap(), b"old");
        assert!(!halfway.decides());
        halfway.end();
        assert_eq!(bench.table.len().unwrap(), 2);
        bench.assert_sound();
    }
}

#[test]
fn one_whose_thread_died_is_ended_by_who_meets_it_or_by_its_heir() {
    for (proves, decides, heir) in [
        (false, false, false),
        (true, false, false),
        (true, true, false),
        (false, false, true),
        (true, false, true),
        (true, true, true),
    ] {
        for bench in all(2) {
            let heard = Arc::new(Heard::default());
            bench.table.observe(heard.clone());
            let other = bench.me(2);
            bench.set(other, b"a", b"old").unwrap();
            bench.set(other, b"gone", b"old").unwrap();
            let writes: [(&[u8], Option<&[u8]>); 3] =
                [(b"a", Some(b"new")), (b"fresh", Some(b"new")), (b"gone", None)];
            let halfway = Halfway::installed(&bench, 1, &writes);
            assert!(!proves || halfway.proves());
            assert!(!decides || halfway.decides());
            drop(halfway);
            bench.stage.kill(1);
            heard.0.lock().unwrap().clear();
            if heir {
                assert!(bench.table.has_left(1).unwrap());
                bench.table.end_left(other, 1).unwrap();
                assert!(!bench.table.has_left(1).unwrap());
                inherit(&bench.table, true).unwrap();
            }
            let (a, fresh, gone): (&[u8], _, _) = if decides {
                (b"new", Some(b"new".to_vec()), None)
            } else {
                (b"old", None, Some(b"old".to_vec()))
            };
            assert_eq!(bench.get(b"a").unwrap(), a);
            assert_eq!((bench.get(b"fresh"), bench.get(b"gone")), (fresh, gone));
            // Whoever writes there meets them all, and tells what nobody has told: once.
            for key in [b"a".as_slice(), b"fresh", b"gone"] {
                let _ = bench.table.update(other, key, |_| Ok(Action::Keep)).unwrap();
                let _ = bench.table.update(other, key, |_| Ok(Action::Keep)).unwrap();
            }
            let mut told: Vec<_> = heard.0.lock().unwrap().clone();
            told.sort_by(|one, other| one.1.cmp(&other.1));
            let all: Vec<_> = [(EventKind::Set, "a"), (EventKind::Set, "fresh"), (EventKind::Delete, "gone")]
                .map(|(kind, key)| (kind, key.as_bytes().to_vec()))
                .into();
            assert_eq!(told, if decides { all } else { Vec::new() }, "{proves} {decides} {heir}");
            assert_eq!(bench.table.len().unwrap(), 2);
            if !heir {
                bench.table.end_left(other, 1).unwrap();
                inherit(&bench.table, true).unwrap();
            }
            bench.stage.clear(1);
            bench.assert_sound();
        }
    }
}

#[test]
fn eviction_aborts_what_is_undecided_and_never_loses_what_was_committed() {
    for (bench, popular, proves) in
        [(0, false), (0, true), (1, false), (1, true)].into_iter().flat_map(|(which, popular)| {
            [false, true].map(|proves| (all(2).into_iter().nth(which).unwrap(), popular, proves))
        })
    {
        let other = bench.me(2);
        let evicted = || {
            let counts = bench.table.counts();
            counts.of(Count::EvictSmall) + counts.of(Count::EvictMain)
        };
        let halfway = Halfway::installed(&bench, 1, &[(b"a", Some(&[7; 300])), (b"b", Some(&[8; 300]))]);
        if popular {
            // A reader that sees nothing there counts as one.
            for key in [b"a", b"b"] {
                (0..3).for_each(|_| assert_eq!(bench.get(key), None));
            }
        }
        bench.pool.put_away(bench.me(1), bench.table.object).unwrap();
        assert!(!proves || halfway.proves());
        // Its chunk is the oldest.
        press(&bench, 2, 50_000, || evicted() > 3000);
        assert!(evicted() > 3000);
        let committed = if proves { halfway.decides() } else { halfway.proves() && halfway.decides() };
        halfway.end();
        assert!(!committed, "eviction had to decide about its states");
        assert_eq!((bench.get(b"a"), bench.get(b"b")), (None, None));
        let _ = other;
        bench.assert_sound();
        // One that was committed and not ended is evicted as any other, whole and counted.
        let halfway = Halfway::installed(&bench, 1, &[(b"a", Some(&[7; 300])), (b"b", Some(&[8; 300]))]);
        bench.pool.put_away(bench.me(1), bench.table.object).unwrap();
        assert!(halfway.proves() && halfway.decides());
        let before = evicted();
        press(&bench, 2, 50_000, || evicted() > before + 3000);
        halfway.end();
        for (key, byte) in [(b"a", 7), (b"b", 8)] {
            assert!(bench.get(key).is_none_or(|value| value == [byte; 300]));
        }
        bench.assert_sound();
    }
}

#[test]
fn the_state_before_an_undecided_one_survives_eviction_and_cleaning() {
    for bench in all(2) {
        let other = bench.me(2);
        bench.set(other, b"kept", &[7; 300]).unwrap();
        // What is not evicted because it is read often, where anything is evicted.
        for _ in 0..3 {
            bench.get(b"kept").unwrap();
        }
        // Everything else in its chunk dies.
        for _ in 0..60 {
            bench.set(other, b"noise", &[1; 300]).unwrap();
        }
        let halfway = Halfway::installed(&bench, 1, &[(b"kept", Some(b"new"))]);
        let before = bench.table.before(halfway.intents[0].offset()).unwrap();
        let chunk = bench.pool.geometry().chunk_of(before).unwrap();
        let state = || bench.pool.state(chunk).unwrap();
        bench.pool.put_away(other, bench.table.object).unwrap();
        let sealed = state();
        if !bench.table.evicts {
            assert!(bench.pool.take_dirty(other, chunk, sealed).unwrap());
            assert!(bench.table.clean_records(other, chunk, usize::MAX).unwrap());
        }
        for number in 0..40_000u32 {
            let _ = bench.set(other, &number.to_be_bytes(), &[1; 200]);
            if !bench.table.evicts {
                let _ = bench.delete(other, &number.to_be_bytes());
            }
            if let Some(value) = bench.get(b"kept") {
                assert_eq!(value, [7; 300], "the state before, whole");
            } else if bench.table.evicts {
                break;
            }
        }
        assert_ne!(state(), sealed);
        assert!(!halfway.proves(), "who wanted the chunk has decided");
        halfway.end();
        if !bench.table.evicts {
            assert_eq!(bench.get(b"kept").unwrap(), [7; 300]);
        }
        bench.assert_sound();
    }
}

#[test]
fn a_transaction_that_is_larger_than_the_cache_conflicts_with_itself_and_one_that_fits_does_not() {
    let bench = &all(1)[0];
    let me = bench.me(1);
    press(bench, 1, 20_000, || bench.table.counts().of(Count::EvictSmall) > 1000);
    for round in 0..50u32 {
        let mut halfway = Halfway::begun(bench, 1);
        for key in 0..64u32 {
            assert!(halfway.install(&key.to_le_bytes(), Some(&round.to_le_bytes())).unwrap());
        }
        assert!(halfway.commit(), "round {round}");
        press(bench, 1, 50, || false);
    }
    let mut halfway = Halfway::begun(bench, 1);
    let error = (0..100_000u32).find_map(|key| halfway.install(&key.to_le_bytes(), Some(&[1; 200])).err());
    assert_eq!(error.map(|error| error.code()), Some(ErrorCode::Conflict));
    halfway.end();
    bench.set(me, b"k", b"value").unwrap();
    bench.assert_sound();
}

#[test]
fn a_transaction_ends_a_lease_and_one_that_is_aborted_leaves_it() {
    let fill = |bench: &Bench, ticket: u64| {
        let end = End::Fill(update(b"filled"));
        bench.table.end_lease(bench.me(2), b"k", ticket, end).unwrap().changed
    };
    let lease =
        |bench: &Bench, thread: u16| bench.table.lease(bench.me(thread), b"k", &mut |_| Ok(())).unwrap();
    for bench in all(3) {
        for value in [None, Some(b"put".as_slice())] {
            for commits in [false, true] {
                let Asked::Taken(ticket) = lease(&bench, 2) else { panic!("nobody has it") };
                let halfway = Halfway::installed(&bench, 1, &[(b"k", value)]);
                assert_eq!((bench.get(b"k"), bench.table.len().unwrap() <= 1), (None, true));
                if commits {
                    assert!(halfway.commit());
                    assert!(!fill(&bench, ticket), "what it computed may be out of date");
                    assert_eq!(bench.get(b"k").as_deref(), value);
                } else {
                    halfway.end();
                    let mine = Owner { thread: 2, generation: bench.pool.ground().thread_generation(2) };
                    assert_eq!(lease(&bench, 3), Asked::Held { by: mine, own: false });
                    assert!(fill(&bench, ticket));
                    assert_eq!(bench.get(b"k").unwrap(), b"filled");
                }
                bench.delete(bench.me(2), b"k").unwrap();
            }
        }
        // A deletion that nobody has unlinked is nobody's lease.
        bench.set(bench.me(2), b"k", b"old").unwrap();
        let halfway = Halfway::installed(&bench, 1, &[(b"k", None)]);
        assert!(halfway.proves() && halfway.decides());
        drop(halfway);
        bench.stage.kill(1);
        let Asked::Taken(ticket) = lease(&bench, 3) else { panic!("it was deleted") };
        assert_eq!(bench.table.len().unwrap(), 0);
        bench.table.end_left(bench.me(2), 1).unwrap();
        let end = End::Fill(update(b"filled"));
        assert!(bench.table.end_lease(bench.me(3), b"k", ticket, end).unwrap().changed);
        inherit(&bench.table, true).unwrap();
        bench.stage.clear(1);
        bench.assert_sound();
    }
}

#[test]
fn a_flush_aborts_what_is_under_way_so_that_no_commit_is_gone_at_once() {
    for proves in [false, true] {
        for bench in all(2) {
            let other = bench.me(2);
            bench.set(other, b"a", b"old").unwrap();
            let halfway = Halfway::installed(&bench, 1, &[(b"a", Some(b"new")), (b"b", Some(b"new"))]);
            assert!(!proves || halfway.proves());
            bench.table.flush(other).unwrap();
            let committed = if proves { halfway.decides() } else { halfway.proves() && halfway.decides() };
            assert!(!committed);
            halfway.end();
            assert_eq!((bench.get(b"a"), bench.get(b"b"), bench.table.len().unwrap()), (None, None, 0));
            let halfway = Halfway::installed(&bench, 1, &[(b"a", Some(b"new")), (b"b", Some(b"new"))]);
            assert!(halfway.commit());
            assert_eq!((bench.get(b"a").unwrap(), bench.table.len().unwrap()), (b"new".into(), 2));
            bench.table.flush(other).unwrap();
            assert_eq!((bench.get(b"a"), bench.table.len().unwrap()), (None, 0));
            bench.assert_sound();
        }
    }
}

#[test]
fn limits_hold_for_what_is_undecided() {
    // A limit of entries, where nothing is evicted: each state that brings one takes its place at once.
    let bench = stamped(2, TableOptions { entries: 3, ..TableOptions::default() });
    bench.set(bench.me(2), b"a", b"old").unwrap();
    let mut halfway =
        Halfway::installed(&bench, 1, &[(b"a", Some(b"new")), (b"b", Some(b"x")), (b"c", Some(b"x"))]);
    assert_eq!(halfway.install(b"d", Some(b"x")).unwrap_err().code(), ErrorCode::Full);
    assert_eq!(bench.set(bench.me(2), b"e", b"x").unwrap_err().code(), ErrorCode::Full);
    halfway.end();
    for key in [b"e", b"f"] {
        bench.set(bench.me(2), key, b"x").unwrap();
    }
    assert_eq!(bench.table.len().unwrap(), 3);
    assert!(Halfway::installed(&bench, 1, &[(b"e", None), (b"f", Some(b"y"))]).commit());
    assert!(Halfway::installed(&bench, 1, &[(b"g", Some(b"y"))]).commit());
    assert_eq!(bench.set(bench.me(2), b"h", b"x").unwrap_err().code(), ErrorCode::Full);
    // Places of one that died: counted anew while its states stand, given back when they are gone.
    bench.delete(bench.me(2), b"g").unwrap();
    let halfway = Halfway::installed(&bench, 1, &[(b"g", Some(b"z"))]);
    drop(halfway);
    bench.stage.kill(1);
    inherit(&bench.table, true).unwrap();
    assert_eq!(bench.set(bench.me(2), b"h", b"x").unwrap_err().code(), ErrorCode::Full);
    bench.table.end_left(bench.me(2), 1).unwrap();
    bench.stage.clear(1);
    bench.set(bench.me(2), b"h", b"x").unwrap();
    assert_eq!(bench.table.len().unwrap(), 3);
    bench.assert_sound();
    // A limit of bytes: what one transaction puts in place is counted as it comes.
    let bench = stamped(1, TableOptions { limit: 20_000, ..TableOptions::default() });
    let mut halfway = Halfway::begun(&bench, 1);
    let full = (0..1000u32).find_map(|key| halfway.install(&key.to_le_bytes(), Some(&[1; 452])).err());
    assert_eq!(full.map(|error| error.code()), Some(ErrorCode::Full));
    assert_eq!(halfway.intents.len(), 20_000 / 512);
    halfway.end();
    assert_eq!(bench.table.live_sum(), 0);
    let mut halfway = Halfway::begun(&bench, 1);
    for key in 0..20_000 / 512u32 {
        assert!(halfway.install(&key.to_le_bytes(), Some(&[1; 452])).unwrap());
    }
    assert!(halfway.commit());
    assert_eq!(bench.table.live_sum(), 20_000 / 512 * 512);
    bench.assert_sound();
}

#[test]
fn what_has_expired_behind_an_undecided_state_is_told_once() {
    for bench in all(2) {
        let heard = Arc::new(Heard::default());
        bench.table.observe(heard.clone());
        // The clock of the bench stands at 1000.
        for key in [b"put".as_slice(), b"back"] {
            bench.set_until(bench.me(2), key, b"old", 500).unwrap();
        }
        let mut halfway = Halfway::installed(&bench, 1, &[(b"put", Some(b"new"))]);
        assert!(halfway.install(b"back", None).unwrap(), "a record says so, though it has expired");
        assert!(halfway.commit());
        bench.pool.put_away(bench.me(2), bench.table.object).unwrap();
        let mut stopped = Halfway::begun(&bench, 1);
        assert!(stopped.install(b"back", Some(b"x")).unwrap());
        stopped.end();
        bench.table.expire_until(bench.me(2), || Ok(false)).unwrap();
        let expired = |key: &[u8]| {
            let heard = heard.0.lock().unwrap();
            heard.iter().filter(|(kind, of)| *kind == EventKind::Expire && of == key).count()
        };
        assert_eq!((expired(b"put"), expired(b"back")), (1, 1));
        assert_eq!(bench.table.len().unwrap(), 1);
        bench.assert_sound();
    }
}

#[test]
fn long_values_go_through_transactions() {
    let long = |byte: u8| vec![byte; 60_000];
    for bench in all(2) {
        bench.set(bench.me(2), b"long", &long(1)).unwrap();
        for round in 2..60u8 {
            let aborted =
                Halfway::installed(&bench, 1, &[(b"long", Some(&long(0))), (b"other", Some(&long(0)))]);
            assert_eq!(bench.get(b"long").unwrap(), long(round - 1));
            aborted.end();
            assert!(
                Halfway::installed(
                    &bench,
                    1,
                    &[(b"long", Some(&long(round))), (b"other", Some(&long(round)))]
                )
                .commit()
            );
            assert_eq!(
                (bench.get(b"long").unwrap(), bench.get(b"other").unwrap()),
                (long(round), long(round))
            );
            assert!(Halfway::installed(&bench, 1, &[(b"other", None)]).commit());
            assert_eq!(bench.get(b"other"), None);
        }
        bench.assert_sound();
    }
}

#[test]
fn transactions_of_many_threads_are_whole_while_others_evict_and_flush() {
    let options = TableOptions { evict: true, events: true, ..TableOptions::default() };
    for options in [
        TableOptions { limit: 60 * CHUNK, ..options },
        TableOptions { entries: 700, ..options },
        TableOptions::default(),
    ] {
        let bench = stamped(6, options);
        let (over, commits, looks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let pairs = 40u32;
        let rounds = if std::env::var_os("MEMORA_TORTURE").is_some() { 60_000 } else { 3000 };
        let keys = |pair: u32| [format!("pair {pair} left"), format!("pair {pair} right")];
        std::thread::scope(|scope| {
            let (bench, over, commits, looks) = (&bench, &over, &commits, &looks);
            let writers: Vec<_> = (1..=2u16)
                .map(|thread| {
                    scope.spawn(move || {
                        // As long as nobody has seen a pair, but not for ever.
                        let goes_on =
                            |round| round < rounds || round < 500 * rounds && looks.load(Relaxed) == 0;
                        for round in (0..).take_while(|round| goes_on(*round)) {
                            let pair = (round * 7 + u32::from(thread)) % pairs;
                            let value = format!("{thread} {round}").into_bytes();
                            let mut halfway = Halfway::begun(bench, thread);
                            let deletes = round % 11 == 0;
                            let done = keys(pair).iter().all(|key| {
                                match halfway.install(key.as_bytes(), (!deletes).then_some(&value)) {
                                    Ok(_) => true,
                                    Err(error) => {
                                        assert!(
                                            matches!(error.code(), ErrorCode::Conflict | ErrorCode::Full),
                                            "{error}"
                                        );
                                        false
                                    }
                                }
                            });
                            if !done {
                                halfway.end();
                            } else if halfway.commit() {
                                commits.fetch_add(1, Relaxed);
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(move || {
                let mut number = 0u32;
                while !over.load(Relaxed) {
                    number += 1;
                    let key = number.to_le_bytes();
                    let _ = bench.set(bench.me(3), &key, &[3; 150]);
                    if !bench.table.evicts {
                        bench.delete(bench.me(3), &(number - number % 2).to_le_bytes()).unwrap();
                    }
                    if number.is_multiple_of(5000) {
                        bench.table.flush(bench.me(3)).unwrap();
                    }
                    if bench.table.limit != 0 {
                        let held = bench.pool.held(bench.table.first_chunk().unwrap()).chunks;
                        assert!(u64::from(held) * CHUNK <= bench.table.limit);
                    }
                }
            });
            for thread in 4..=5u16 {
                scope.spawn(move || {
                    let mut pair = 0;
                    while !over.load(Relaxed) {
                        pair = (pair + 1) % pairs;
                        let mut values = [None, None];
                        let seen = [0, 1].map(|side| {
                            bench
                                .table
                                .sight(keys(pair)[side].as_bytes(), &mut |head, span| {
                                    let mut value = vec![0; head.value_len as usize];
                                    span.copy_out(0, &mut value)?;
                                    values[side] = Some(value);
                                    Ok(())
                                })
                                .unwrap()
                                .0
                        });
                        let halfway = Halfway::begun(bench, thread);
                        let same = halfway.proves()
                            && (0..2).all(|side| halfway.sees(keys(pair)[side].as_bytes(), &seen[side]));
                        if same && halfway.decides() && seen.iter().all(|sighting| sighting.present) {
                            assert_eq!(values[0], values[1], "pair {pair}");
                            looks.fetch_add(1, Relaxed);
                        }
                        halfway.end();
                    }
                });
            }
            for writer in writers {
                writer.join().unwrap();
            }
            over.store(true, Relaxed);
        });
        assert!(commits.load(Relaxed) > 0 && looks.load(Relaxed) > 0, "{options:?}");
        assert!(options.entries == 0 || bench.table.len().unwrap() <= options.entries);
        bench.assert_sound();
    }
}

#[test]
fn what_counts_stands_only_as_long_as_decision_and_stamp_do() {
    let (reference, decided) = (Reference::new(3, 9), stamp::Decision::new(stamp::Phase::Active, 9, 0));
    let words = [decided.0, reference.0].map(crate::shm::atomic::AtomicU64::new);
    let [decision, stamp] = &words;
    let counts = decide::Counts::Before { offset: 0, decision, seen: decided, stamp, reference };
    assert!(counts.stand());
    // The decision of a later transaction may look the same: then this one's states are stamped, or gone.
    stamp.store(7, Relaxed);
    assert!(!counts.stand());
    stamp.store(reference.0, Relaxed);
    decision.store(decided.beaten().0, Relaxed);
    assert!(!counts.stand());
}

#[test]
fn young_entries_are_counted_once_however_a_transaction_ends() {
    let bench = stamped(2, TableOptions { entries: 500, evict: true, ..TableOptions::default() });
    for key in [b"a", b"b", b"c"] {
        bench.set(bench.me(2), key, b"old").unwrap();
    }
    assert_eq!(bench.table.small_entries(), 3);
    let writes: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"new")), (b"b", None), (b"fresh", Some(b"new"))];
    Halfway::installed(&bench, 1, &writes).end();
    assert_eq!(bench.table.small_entries(), 3, "aborted");
    assert!(Halfway::installed(&bench, 1, &writes).commit());
    assert_eq!(bench.table.small_entries(), 3, "one came and one went");
    assert!(bench.table.recount_entries().unwrap());
    assert_eq!(bench.table.small_entries(), 3, "as the index says");
    bench.assert_sound();
}

#[test]
fn a_record_that_a_slot_names_or_that_has_one_without_a_stamp_before_it_is_kept() {
    let bench = Bench::new(1, 64, CHUNK, RecordClass::Memory);
    let (table, me) = (&bench.table, bench.me(1));
    let [first, second] = [b"one", b"two"].map(|value| bench.set(me, b"k", value).unwrap().offset);
    let hash = table.hash(b"k");
    let span = table.index_span(table.entry(hash).unwrap().1).unwrap();
    assert!(table.is_shielded(me, span, hash, second).unwrap(), "the slot names it");
    assert!(!table.is_shielded(me, span, hash, first).unwrap());
    let stamp = table.stamp_word(second).unwrap();
    let before = stamp.load(Relaxed);
    // Its writer is stopped behind its publication: a snapshot that is taken now goes behind it.
    stamp.store(stamp::PENDING, Relaxed);
    assert!(table.is_before(first, second) && !table.is_before(second, first));
    assert!(table.is_shielded(me, span, hash, first).unwrap());
    assert!(stamp.load(Relaxed) >= before, "it was given its stamp");
    assert!(!table.is_shielded(me, span, hash, first).unwrap());
}

#[test]
fn what_a_slot_does_not_name_any_more_is_not_settled() {
    let bench = Bench::new(1, 64, CHUNK, RecordClass::Memory);
    let me = bench.me(1);
    let offset = bench.set(me, b"k", b"v").unwrap().offset;
    let stamp = bench.table.stamp_word(offset).unwrap();
    stamp.store(stamp::PENDING, Relaxed);
    let word = slot::Slot::VIRGIN.publish(1, offset);
    let other = crate::shm::atomic::AtomicU64::new(word.unlink().0);
    assert!(!bench.table.settle_slot(me, &other, word).unwrap());
    assert_eq!(stamp.load(Relaxed), stamp::PENDING, "its chunk may be in use for something else");
}
