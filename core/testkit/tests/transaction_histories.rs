//! The judge of transactions knows each anomaly, and lets pass what is none.

use memora_testkit::history::{Line, operations};
use memora_testkit::transaction_history::{Summary, check};

/// A transaction of a client of its own, from `t0` to `t1`; what is read and written is `key=name;before`, or `key` for nothing.
fn txn(c: &str, (t0, t1): (u64, u64), reads: &[&str], writes: &[&str]) -> String {
    let mut steps = Vec::new();
    for read in reads {
        match read.split_once('=') {
            Some((key, value)) => steps.push(format!(r#"{{"op":"get","k":"{key}","out":"{value}"}}"#)),
            None => steps.push(format!(r#"{{"op":"get","k":"{read}"}}"#)),
        }
    }
    for write in writes {
        let (key, name) = write.split_once('=').expect("key=name");
        steps.push(format!(r#"{{"op":"put","k":"{key}","v":"{name}"}}"#));
    }
    let steps = steps.join(",");
    format!(r#"{{"c":"{c}","op":"txn","ops":[{steps}],"t0":{t0},"t1":{t1},"ok":true}}"#)
}

fn judge(lines: &[String]) -> Result<Summary, String> {
    let lines: Vec<Line> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|it| panic!("{it}: {line}")))
        .collect();
    check(&operations(&lines).expect("well formed"))
}

#[track_caller]
fn assert_breach(lines: &[String], what: &str) {
    let told = judge(lines).expect_err("it is broken");
    assert!(told.contains(what), "{told}");
}

const ALL: (u64, u64) = (10, 1000);

fn first() -> String {
    txn("first", (1, 2), &["x", "y"], &["x=x0", "y=y0"])
}

#[test]
fn what_is_in_order_passes() {
    let lines = [
        first(),
        txn("a", ALL, &["x=x0;"], &["x=x1"]),
        txn("b", ALL, &["x=x1;x0", "y=y0;"], &["y=y1"]),
        txn("c", ALL, &["x=x1;x0", "y=y0;"], &[]),
        txn("d", ALL, &["x=x0;", "y=y0;"], &[]),
        r#"{"c":"e","op":"get","k":"y","t0":10,"t1":20,"ok":true,"out":"y1;y0"}"#.to_string(),
        r#"{"c":"f","op":"set","k":"z","v":"z1","t0":10,"t1":20,"ok":true}"#.to_string(),
        txn("g", ALL, &["z=z1;?"], &["z=z2"]),
    ];
    assert_eq!(judge(&lines), Ok(Summary { done: 8, writers: 5, refused: 0, of_the_dead: 0 }));
}

#[test]
fn write_skew_is_found() {
    let lines = [
        first(),
        txn("a", ALL, &["x=x0;", "y=y0;"], &["x=x1"]),
        txn("b", ALL, &["x=x0;", "y=y0;"], &["y=y1"]),
    ];
    assert_breach(&lines, "no order of all");
    // Each alone is in order.
    assert!(judge(&lines[..2]).is_ok());
}

#[test]
fn a_lost_update_is_found() {
    let lines = [first(), txn("a", ALL, &["x=x0;"], &["x=x1"]), txn("b", ALL, &["x=x0;"], &["x=x2"])];
    assert_breach(&lines, "a lost update");
}

#[test]
fn read_skew_is_found() {
    let lines = [
        first(),
        txn("a", ALL, &["x=x0;", "y=y0;"], &["x=x1", "y=y1"]),
        txn("b", ALL, &["x=x0;", "y=y1;y0"], &[]),
    ];
    assert_breach(&lines, "no order of all");
}

#[test]
fn a_long_fork_is_found() {
    let lines = [
        first(),
        txn("a", ALL, &["x=x0;"], &["x=x1"]),
        txn("b", ALL, &["y=y0;"], &["y=y1"]),
        txn("c", ALL, &["x=x1;x0", "y=y0;"], &[]),
        txn("d", ALL, &["x=x0;", "y=y1;y0"], &[]),
    ];
    assert_breach(&lines, "no order of all");
    assert!(judge(&lines[..4]).is_ok());
}

#[test]
fn a_stale_read_is_found_although_some_order_explains_it() {
    let lines = [first(), txn("a", (10, 20), &["x=x0;"], &["x=x1"]), txn("b", (30, 40), &["x=x0;"], &[])];
    assert_breach(&lines, "was answered before");
    // Not if they met.
    assert!(judge(&[first(), lines[1].clone(), txn("b", (20, 40), &["x=x0;"], &[])]).is_ok());
}

#[test]
fn what_was_refused_or_never_written_must_not_be_read() {
    let refused = txn("a", ALL, &["x=x0;"], &["x=x1"]).replace("true", "false");
    let lines = [first(), refused, txn("b", ALL, &["x=x1;x0"], &[])];
    assert_breach(&lines, "was refused");
    let summary = judge(&lines[..2]).expect("in order");
    assert_eq!((summary.done, summary.refused), (1, 1));
    assert_breach(&[first(), txn("b", ALL, &["x=other;x0"], &[])], "which nobody wrote");
    assert_breach(&[first(), txn("b", ALL, &[], &["x=x0"])], "was written twice");
}

#[test]
fn what_the_killed_had_asked_took_place_as_a_whole_or_not_at_all() {
    let open = r#"{"c":"a","op":"txn","ops":[{"op":"get","k":"x"},{"op":"get","k":"y"},{"op":"put","k":"x","v":"x1"},{"op":"put","k":"y","v":"y1"}],"t0":10}"#;
    let kill = r#"{"c":"a","op":"kill","t0":50}"#;
    let dead = [first(), open.to_string(), kill.to_string()];
    assert_eq!(judge(&dead).expect("in order").of_the_dead, 0);
    let seen = [dead.as_slice(), &[txn("b", (60, 70), &["x=x1;x0", "y=y1;y0"], &[])]].concat();
    assert_eq!(judge(&seen).expect("in order").of_the_dead, 1);
    // One half of it; what came before the other half is known from who sees that later.
    let torn = [
        dead.as_slice(),
        &[txn("b", (60, 70), &["x=x1;x0", "y=y0;"], &[]), txn("c", (80, 90), &["x=x1;x0", "y=y1;y0"], &[])],
    ]
    .concat();
    assert_breach(&torn, "no order of all");
}
