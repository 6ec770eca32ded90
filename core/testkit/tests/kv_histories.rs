//! The judge is judged: histories that are right, histories that are wrong in one known way, and big ones.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use memora_testkit::history::{Line, Operation, Out, operations};
use memora_testkit::linearizability::{Budget, Verdict, check, check_evicting};

fn judge(text: &str) -> Verdict {
    let lines: Vec<Line> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    check(&operations(&lines).expect("well formed"), Budget::default()).expect("can be judged")
}

#[track_caller]
fn good(text: &str) {
    assert_eq!(judge(text), Verdict::Linearizable);
}

#[track_caller]
fn bad(text: &str, hint: &str) {
    match judge(text) {
        Verdict::Violation { key, story } => {
            assert_eq!(key, "k");
            assert!(story.contains(hint), "{story}");
        }
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn overlapping_reads_may_see_the_old_or_the_new_value() {
    for out in ["1", "2"] {
        good(&format!(
            r#"
            {{"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}}
            {{"c":"a","op":"set","k":"k","v":"2","t0":10,"t1":20,"ok":true}}
            {{"c":"b","op":"get","k":"k","t0":12,"t1":18,"out":"{out}"}}"#
        ));
    }
}

#[test]
fn a_stale_read_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"set","k":"k","v":"2","t0":10,"t1":20,"ok":true}
        {"c":"b","op":"get","k":"k","t0":21,"t1":25,"out":"1"}"#,
        r#""out":"1""#,
    );
}

#[test]
fn two_readers_that_see_a_write_go_back_are_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"set","k":"k","v":"2","t0":10,"t1":50,"ok":true}
        {"c":"b","op":"get","k":"k","t0":12,"t1":15,"out":"2"}
        {"c":"d","op":"get","k":"k","t0":16,"t1":20,"out":"1"}"#,
        r#""out":"1""#,
    );
}

#[test]
fn a_torn_value_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"aaaa","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"set","k":"k","v":"bbbb","t0":10,"t1":20,"ok":true}
        {"c":"b","op":"get","k":"k","t0":11,"t1":19,"out":"aabb"}"#,
        "aabb",
    );
}

#[test]
fn a_lost_update_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"0","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"gets","k":"k","t0":6,"t1":7,"out":"0","tok":9}
        {"c":"b","op":"gets","k":"k","t0":6,"t1":7,"out":"0","tok":9}
        {"c":"a","op":"casv","k":"k","tok":9,"v":"x","t0":10,"t1":20,"ok":true}
        {"c":"b","op":"casv","k":"k","tok":9,"v":"y","t0":10,"t1":20,"ok":true}"#,
        "casv",
    );
}

#[test]
fn a_version_that_comes_back_with_an_equal_value_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"gets","k":"k","t0":6,"t1":7,"out":"1","tok":9}
        {"c":"a","op":"set","k":"k","v":"2","t0":10,"t1":15,"ok":true}
        {"c":"a","op":"set","k":"k","v":"1","t0":20,"t1":25,"ok":true}
        {"c":"b","op":"casv","k":"k","tok":9,"v":"y","t0":30,"t1":40,"ok":true}"#,
        "casv",
    );
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"gets","k":"k","t0":6,"t1":7,"out":"1","tok":9}
        {"c":"a","op":"set","k":"k","v":"1","t0":10,"t1":15,"ok":true}
        {"c":"a","op":"gets","k":"k","t0":26,"t1":27,"out":"1","tok":9}"#,
        r#""tok":9"#,
    );
}

#[test]
fn a_refused_compare_and_swap_with_the_newest_version_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"gets","k":"k","t0":6,"t1":7,"out":"1","tok":9}
        {"c":"a","op":"casv","k":"k","tok":9,"v":"2","t0":10,"t1":20,"ok":false}"#,
        "casv",
    );
}

/// What an entry that vanished by itself explains, and what it does not.
#[test]
fn what_evicts_may_lose_an_entry_but_not_bring_one_back() {
    let judge = |text: &str| {
        let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        check_evicting(&operations(&lines).expect("well formed"), Budget::default()).expect("can be judged")
    };
    let set = r#"{"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}"#;
    let over = r#"{"c":"a","op":"set","k":"k","v":"2","t0":6,"t1":9,"ok":true}"#;
    let miss = r#"{"c":"b","op":"get","k":"k","t0":10,"t1":11}"#;
    let add = r#"{"c":"b","op":"add","k":"k","v":"3","t0":12,"t1":13,"ok":true}"#;
    for lost in [format!("{set}\n{miss}"), format!("{set}\n{add}"), format!("{set}\n{miss}\n{over}")] {
        assert_eq!(judge(&lost), Verdict::Linearizable, "{lost}");
    }
    let hit = |out: &str| format!(r#"{{"c":"d","op":"get","k":"k","t0":20,"t1":21,"out":"{out}"}}"#);
    for back in [
        // After the miss; before the overwriting; of nobody.
        format!("{set}\n{miss}\n{}", hit("1")),
        format!("{set}\n{over}\n{}", hit("1")),
        format!("{set}\n{add}\n{}", hit("1")),
        format!("{set}\n{}", hit("4")),
    ] {
        assert!(matches!(judge(&back), Verdict::Violation { .. }), "{back}");
    }
}

#[test]
fn a_double_add_is_found() {
    bad(
        r#"
        {"c":"a","op":"add","k":"k","v":"1","t0":0,"t1":9,"ok":true}
        {"c":"b","op":"add","k":"k","v":"2","t0":1,"t1":8,"ok":true}"#,
        "add",
    );
    good(
        r#"
        {"c":"a","op":"add","k":"k","v":"1","t0":0,"t1":9,"ok":true}
        {"c":"b","op":"add","k":"k","v":"2","t0":1,"t1":8,"ok":true}
        {"c":"d","op":"del","k":"k","t0":1,"t1":8,"ok":true}"#,
    );
}

#[test]
fn a_lost_increment_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"0","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"incr","k":"k","by":1,"t0":10,"t1":20,"out":1}
        {"c":"b","op":"incr","k":"k","by":1,"t0":10,"t1":20,"out":1}"#,
        "incr",
    );
    good(
        r#"
        {"c":"a","op":"set","k":"k","v":"0","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"incr","k":"k","by":1,"t0":10,"t1":20,"out":2}
        {"c":"b","op":"incr","k":"k","by":1,"t0":10,"t1":20,"out":1}
        {"c":"b","op":"decr","k":"k","by":9,"t0":30,"t1":31,"out":0}
        {"c":"b","op":"incr","k":"k","by":18446744073709551615,"t0":32,"t1":33,"out":18446744073709551615}
        {"c":"b","op":"incr","k":"k","by":1,"t0":34,"t1":35}
        {"c":"b","op":"get","k":"k","t0":36,"t1":37,"out":"18446744073709551615"}"#,
    );
}

#[test]
fn a_resurrected_delete_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"del","k":"k","t0":10,"t1":20,"ok":true}
        {"c":"b","op":"get","k":"k","t0":21,"t1":22}
        {"c":"b","op":"get","k":"k","t0":23,"t1":24,"out":"1"}"#,
        r#""out":"1""#,
    );
}

#[test]
fn a_delete_that_two_clients_did_is_found() {
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"del","k":"k","t0":10,"t1":20,"ok":true}
        {"c":"b","op":"del","k":"k","t0":10,"t1":20,"ok":true}"#,
        "del",
    );
}

#[test]
fn append_prepend_replace_and_cas_have_their_usual_meaning() {
    good(
        r#"
        {"c":"a","op":"append","k":"k","v":"x","t0":0,"t1":1,"ok":false}
        {"c":"a","op":"replace","k":"k","v":"x","t0":2,"t1":3,"ok":false}
        {"c":"a","op":"set","k":"k","v":"b","t0":4,"t1":5,"ok":true}
        {"c":"a","op":"append","k":"k","v":"c","t0":6,"t1":9,"ok":true}
        {"c":"b","op":"prepend","k":"k","v":"a","t0":6,"t1":9,"ok":true}
        {"c":"a","op":"cas","k":"k","exp":"abc","v":"z","t0":10,"t1":11,"ok":true}
        {"c":"a","op":"cas","k":"k","exp":"abc","v":"y","t0":12,"t1":13,"ok":false}
        {"c":"a","op":"get","k":"k","t0":14,"t1":15,"out":"z"}"#,
    );
    bad(
        r#"
        {"c":"a","op":"set","k":"k","v":"b","t0":4,"t1":5,"ok":true}
        {"c":"a","op":"append","k":"k","v":"c","t0":6,"t1":9,"ok":true}
        {"c":"b","op":"append","k":"k","v":"d","t0":6,"t1":9,"ok":true}
        {"c":"b","op":"get","k":"k","t0":10,"t1":11,"out":"bd"}"#,
        r#""out":"bd""#,
    );
}

#[test]
fn an_open_write_may_take_effect_until_the_kill_or_never_but_not_later_and_not_twice() {
    let start = r#"
        {"c":"a","op":"set","k":"k","v":"1","t0":0,"t1":5,"ok":true}
        {"c":"w","op":"set","k":"k","v":"2","t0":10}
        {"c":"w","op":"kill","t0":30}"#;
    let get = |t0: u64, out: &str| {
        format!(r#"{{"c":"b","op":"get","k":"k","t0":{t0},"t1":{},"out":"{out}"}}"#, t0 + 1)
    };
    good(&format!("{start}\n{}\n{}", get(40, "1"), get(50, "1")));
    good(&format!("{start}\n{}\n{}", get(12, "1"), get(50, "2")));
    good(&format!("{start}\n{}\n{}", get(40, "2"), get(50, "2")));
    bad(&format!("{start}\n{}\n{}", get(40, "1"), get(50, "2")), r#""out":"2""#);
    bad(&format!("{start}\n{}\n{}", get(20, "2"), get(50, "1")), r#""out":"1""#);
    bad(&format!("{start}\n{}", get(7, "2")), r#""out":"2""#);
    // Without the killer's line it may come at any time.
    let endless = start.replace(r#"{"c":"w","op":"kill","t0":30}"#, "");
    good(&format!("{endless}\n{}\n{}", get(40, "1"), get(50, "2")));
    // Two set between: the open one fits only between them.
    good(&format!(
        "{endless}\n{}\n{}\n{}",
        get(40, "1"),
        get(50, "2"),
        r#"{"c":"b","op":"set","k":"k","v":"3","t0":60,"t1":61,"ok":true}"#
    ));
    bad(
        &format!(
            "{endless}\n{}\n{}\n{}",
            get(50, "2"),
            r#"{"c":"b","op":"set","k":"k","v":"3","t0":60,"t1":61,"ok":true}"#,
            get(70, "2")
        ),
        r#""out":"2""#,
    );
}

#[test]
fn an_open_increment_counts_once_or_never() {
    let start = r#"
        {"c":"a","op":"set","k":"k","v":"0","t0":0,"t1":5,"ok":true}
        {"c":"w","op":"incr","k":"k","by":1,"t0":10}
        {"c":"w","op":"kill","t0":30}"#;
    let incr = |out: u64| format!(r#"{{"c":"b","op":"incr","k":"k","by":5,"t0":40,"t1":41,"out":{out}}}"#);
    good(&format!("{start}\n{}", incr(5)));
    good(&format!("{start}\n{}", incr(6)));
    bad(&format!("{start}\n{}", incr(7)), "incr");
}

#[test]
fn a_refused_write_has_no_effect() {
    let start = r#"
        {"c":"a","op":"set","k":"k","v":"0","t0":0,"t1":5,"ok":true}
        {"c":"a","op":"set","k":"k","v":"1","t0":6,"t1":7,"ok":false,"err":"FULL"}"#;
    good(&format!(
        r#"{start}{}"#,
        "\n{\"c\":\"a\",\"op\":\"get\",\"k\":\"k\",\"t0\":8,\"t1\":9,\"out\":\"0\"}"
    ));
    bad(
        &format!(
            r#"{start}{}"#,
            "\n{\"c\":\"a\",\"op\":\"get\",\"k\":\"k\",\"t0\":8,\"t1\":9,\"out\":\"1\"}"
        ),
        r#""out":"1""#,
    );
}

/// A store that is right by construction: operations take effect one by one, and their questions and answers lie around that instant.
struct Model {
    random: u64,
    key_count: u64,
    keys: HashMap<String, (String, u64)>,
    version: u64,
}

impl Model {
    fn draw(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn store(&mut self, key: &str, value: String) {
        self.version += 1;
        self.keys.insert(key.to_string(), (value, self.version));
    }

    /// One operation at its instant; `known` is a version that the client once saw of that key.
    fn apply(&mut self, line: &mut Line, known: &mut HashMap<String, u64>, number: u64) {
        let key = format!("k{}", self.draw(self.key_count));
        let now = self.keys.get(&key).cloned();
        let value =
            if key.as_str() < "k5" { format!("{}:{number}", line.c) } else { self.draw(50).to_string() };
        line.k = Some(key.clone());
        let kind = self.draw(9);
        match kind {
            0 | 1 => {
                line.op = "get".into();
                line.out = now.map(|(value, _)| Out::Text(value));
            }
            2 => {
                line.op = "gets".into();
                line.tok = now.as_ref().map(|&(_, version)| version);
                if let Some(version) = line.tok {
                    known.insert(key, version);
                }
                line.out = now.map(|(value, _)| Out::Text(value));
            }
            3..=5 => {
                line.op = ["set", "add", "replace"][kind as usize - 3].into();
                line.v = Some(value.clone());
                let stores = kind == 3 || now.is_some() == (kind == 5);
                line.ok = Some(stores);
                if stores {
                    self.store(&key, value);
                }
            }
            6 => {
                line.op = "del".into();
                line.ok = Some(self.keys.remove(&key).is_some());
            }
            7 => {
                let Some(&version) = known.get(&key) else {
                    line.op = "get".into();
                    line.out = now.map(|(value, _)| Out::Text(value));
                    return;
                };
                line.op = "casv".into();
                line.tok = Some(version);
                line.v = Some(value.clone());
                line.ok = Some(now.is_some_and(|(_, now)| now == version));
                if line.ok == Some(true) {
                    self.store(&key, value);
                }
            }
            _ => {
                line.op = if self.draw(3) == 0 { "decr" } else { "incr" }.into();
                line.by = Some(1 + self.draw(9));
                let old = now.and_then(|(value, _)| value.parse::<u64>().ok());
                if let Some(old) = old {
                    let by = line.by.unwrap();
                    let new = if line.op == "decr" { old.saturating_sub(by) } else { old + by };
                    line.out = Some(Out::Number(new));
                    self.store(&key, new.to_string());
                }
            }
        }
    }
}

/// A right history of `count` operations by `clients` clients; one in `kills` ends with a kill.
fn right_history(seed: u64, count: usize, clients: usize, kills: u64) -> Vec<Line> {
    right_history_on(8, seed, count, clients, kills)
}

fn right_history_on(key_count: u64, seed: u64, count: usize, clients: usize, kills: u64) -> Vec<Line> {
    let mut model = Model { random: seed | 1, key_count, keys: HashMap::new(), version: 0 };
    let mut free_at = vec![0u64; clients];
    let mut names: Vec<String> = (0..clients).map(|client| format!("c{client}")).collect();
    let mut known: Vec<HashMap<String, u64>> = vec![HashMap::new(); clients];
    let mut lines = Vec::with_capacity(count);
    let mut now = 1000;
    for number in 0..count as u64 {
        now += 1 + model.draw(20);
        let ready: Vec<usize> = (0..clients).filter(|&client| free_at[client] < now).collect();
        if ready.is_empty() {
            continue;
        }
        let client = ready[model.draw(ready.len() as u64) as usize];
        // Some are stopped for long: many operations of others pass meanwhile.
        let reach = if model.draw(300) == 0 { 5_000 } else { 60 };
        let mut line = Line::new(&names[client], "");
        line.t0 = now - model.draw(reach.min(now - free_at[client]));
        let end = now + model.draw(reach);
        let die = kills > 0 && model.draw(kills) == 0;
        if die && model.draw(2) == 0 {
            // Killed before it took effect.
            line.op = "set".into();
            line.k = Some(format!("k{}", model.draw(key_count)));
            line.v = Some(format!("{}:{number}", line.c));
        } else {
            model.apply(&mut line, &mut known[client], number);
        }
        if die {
            (line.ok, line.out) = (None, None);
            line.tok = line.tok.filter(|_| line.op == "casv");
            if model.draw(2) == 0 {
                let mut kill = Line::new(&names[client], "kill");
                kill.t0 = end;
                lines.push(kill);
            }
            names[client] = format!("c{client}.{number}");
            known[client].clear();
        } else {
            line.t1 = Some(end);
        }
        free_at[client] = end + 1;
        lines.push(line);
    }
    lines
}

#[test]
fn random_right_histories_are_accepted_and_each_spoiled_one_is_refused() {
    let mut spoiled = 0;
    for seed in 1..=60 {
        let mut lines = right_history(seed * 7919, 400, 5, if seed % 2 == 0 { 40 } else { 0 });
        let verdict = check(&operations(&lines).unwrap(), Budget::default()).unwrap();
        assert_eq!(verdict, Verdict::Linearizable, "seed {seed}");
        // A read long after shows what a successful set stored long before and a later one replaced.
        let end = lines.iter().map(|line| line.t1.unwrap_or(line.t0)).max().unwrap();
        let set = |line: &&Line| line.op == "set" && line.t1.is_some() && line.k.as_deref() == Some("k1");
        if lines.iter().filter(set).count() < 2 {
            continue;
        }
        let first = lines.iter().find(set).unwrap().clone();
        let mut stale = Line::new("reader", "get");
        stale.k = first.k;
        stale.out = first.v.map(Out::Text);
        (stale.t0, stale.t1) = (end + 100_000, Some(end + 100_001));
        lines.push(stale);
        let verdict = check(&operations(&lines).unwrap(), Budget::default()).unwrap();
        assert!(matches!(verdict, Verdict::Violation { .. }), "seed {seed}: {verdict:?}");
        spoiled += 1;
    }
    assert!(spoiled > 30, "only {spoiled} histories could be spoiled");
}

#[test]
fn two_hundred_thousand_operations_are_judged_within_the_budget() {
    let lines = right_history(42, 200_000, 8, 2_000);
    let start = Instant::now();
    let budget = Budget { time: Duration::from_secs(60), ..Budget::default() };
    let verdict = check(&operations(&lines).unwrap(), budget).unwrap();
    println!("{} operations in {:?}", lines.len(), start.elapsed());
    assert_eq!(verdict, Verdict::Linearizable);
}

#[test]
fn a_search_without_budget_says_that_it_is_undecided() {
    let lines = right_history(43, 5_000, 8, 0);
    let verdict =
        check(&operations(&lines).unwrap(), Budget { configurations: 10, ..Budget::default() }).unwrap();
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict:?}");
}

/// A key in the slow judge: its value, which write it is, how many there were, and which write each version shown belongs to.
#[derive(Clone, Default)]
struct Slow {
    value: Option<String>,
    write: u64,
    writes: u64,
    shown: Vec<(u64, u64)>,
}

impl Slow {
    fn store(&mut self, value: Option<String>) {
        self.value = value;
        self.writes += 1;
        self.write = self.writes;
    }

    /// Whether `version` may be that of the current write; notes it.
    fn has(&mut self, version: u64) -> bool {
        if let Some(&(_, write)) = self.shown.iter().find(|(shown, _)| *shown == version) {
            return write == self.write;
        }
        let free = self.shown.iter().all(|&(_, write)| write != self.write);
        if free {
            self.shown.push((version, self.write));
        }
        free
    }

    /// Does the operation; false if its answer, if there is one, does not fit.
    fn apply(&mut self, operation: &Operation) -> bool {
        let line = &operation.line;
        let fits = |ok: bool| !operation.answered || line.ok == Some(ok);
        let out = line.out.as_ref().map(Out::text);
        let there = self.value.is_some();
        match line.op.as_str() {
            "get" => !operation.answered || out == self.value,
            "gets" => !operation.answered || out == self.value && (!there || self.has(line.tok.unwrap())),
            // A set is only ever refused without effect.
            "set" if operation.answered && line.ok == Some(false) => true,
            "set" | "add" | "replace" => {
                let stores = line.op == "set" || there == (line.op == "replace");
                if stores {
                    self.store(line.v.clone());
                }
                fits(stores)
            }
            "del" => {
                if there {
                    self.store(None);
                }
                fits(there)
            }
            "casv" => {
                let known = self.shown.iter().any(|&(shown, _)| shown == line.tok.unwrap());
                // Nobody was shown that version: a refusal always fits.
                if operation.answered && line.ok == Some(false) && !known {
                    return true;
                }
                let stores = there && self.has(line.tok.unwrap());
                if stores {
                    self.store(line.v.clone());
                }
                fits(stores)
            }
            _ => {
                let (old, by) =
                    (self.value.as_ref().and_then(|value| value.parse::<u64>().ok()), line.by.unwrap());
                let new = old.map(|old| if line.op == "decr" { old.saturating_sub(by) } else { old + by });
                if new.is_some() {
                    self.store(new.map(|new| new.to_string()));
                }
                !operation.answered || out == new.map(|new| new.to_string())
            }
        }
    }
}

/// Tries every order, without any cleverness; and, where entries may vanish, every moment for that.
fn slow_judge(left: &[&Operation], state: &Slow, evicts: bool) -> bool {
    if left.iter().all(|operation| !operation.answered) {
        return true;
    }
    for (index, operation) in left.iter().enumerate() {
        if left.iter().any(|other| other.answered && other.end < operation.line.t0) {
            continue;
        }
        let mut rest = left.to_vec();
        rest.remove(index);
        // An open one whose end has passed can only be left out.
        rest.retain(|other| other.answered || other.end >= operation.line.t0);
        for vanishes in [false, true] {
            let mut next = state.clone();
            if vanishes {
                if !evicts || next.value.is_none() {
                    continue;
                }
                next.store(None);
            }
            if next.apply(operation) && slow_judge(&rest, &next, evicts) {
                return true;
            }
        }
    }
    false
}

#[test]
fn the_judge_agrees_with_one_that_tries_every_order() {
    let (mut right, mut wrong, mut only_evicting) = (0, 0, 0);
    for seed in 1..6000u64 {
        let mut lines = right_history_on(1, seed * 2_654_435_761, 7, 3, 5);
        // Spoil an answer of most.
        let mut random = Model { random: seed * 7_919 + 1, key_count: 1, keys: HashMap::new(), version: 0 };
        if random.draw(4) > 0 {
            let index = random.draw(lines.len() as u64) as usize;
            let line = &mut lines[index];
            if line.t1.is_some() {
                line.ok = line.ok.map(|ok| !ok);
                let number = random.draw(50);
                line.out = match (line.op.as_str(), line.out.take()) {
                    ("get", Some(_)) if random.draw(2) == 0 => None,
                    ("get" | "gets", Some(_)) => Some(Out::Text(number.to_string())),
                    ("incr" | "decr", Some(_)) => Some(Out::Number(number)),
                    (_, out) => out,
                };
            }
        }
        let operations = operations(&lines).unwrap();
        let all: Vec<&Operation> = operations.iter().collect();
        let expected = [false, true].map(|evicts| slow_judge(&all, &Slow::default(), evicts));
        let found = [check, check_evicting]
            .map(|judge| judge(&operations, Budget::default()).unwrap() == Verdict::Linearizable);
        let text: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        assert_eq!(found, expected, "seed {seed}, {}:\n{}", all.len(), text.join("\n"));
        match expected {
            [true, _] => right += 1,
            [false, true] => only_evicting += 1,
            [false, false] => wrong += 1,
        }
    }
    assert!(
        right > 1000 && only_evicting > 200 && wrong > 1000,
        "{right} right, {only_evicting} right for what evicts, {wrong} wrong"
    );
}
