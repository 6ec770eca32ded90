//! The judge of logs finds what is wrong and lets pass what is not.

use memora_testkit::history::{Line, operations};
use memora_testkit::log_history::{Summary, check};

fn line(c: &str, op: &str, t0: u64) -> Line {
    Line { c: c.into(), op: op.into(), q: Some("log".into()), t0, t1: Some(t0 + 5), ..Line::default() }
}

fn append(c: &str, seq: u64, t0: u64, position: u64) -> Line {
    let (p, sum) = (Some(c.to_string()), Some(format!("{c}{seq}")));
    Line { p, sum, seq: Some(seq), ok: Some(true), tok: Some(position), ..line(c, "append", t0) }
}

fn open(c: &str, name: Option<&str>, t0: u64, position: u64) -> Line {
    Line { s: name.map(str::to_string), tok: Some(position), ..line(c, "open", t0) }
}

fn read(c: &str, name: Option<&str>, t0: u64, position: u64, of: (&str, u64)) -> Line {
    let (p, sum) = (Some(of.0.to_string()), Some(format!("{}{}", of.0, of.1)));
    let s = name.map(str::to_string);
    Line { s, p, sum, seq: Some(of.1), tok: Some(position), ..line(c, "read", t0) }
}

fn empty(c: &str, t0: u64, position: u64) -> Line {
    Line { tok: Some(position), ..line(c, "read", t0) }
}

fn trimmed(c: &str, t0: u64, from: u64, to: u64) -> Line {
    Line { from: Some(from), to: Some(to), ..line(c, "read", t0) }
}

fn judge(lines: &[Line]) -> Result<Summary, String> {
    check(&operations(lines).unwrap(), "log")
}

/// Two producers and two readers in order.
fn good() -> Vec<Line> {
    vec![
        append("a", 1, 10, 0),
        append("b", 1, 20, 1),
        append("a", 2, 30, 2),
        open("r", None, 40, 0),
        read("r", None, 50, 0, ("a", 1)),
        read("r", None, 60, 1, ("b", 1)),
        open("n", Some("name"), 70, 1),
        read("n", Some("name"), 80, 1, ("b", 1)),
        read("n", Some("name"), 90, 2, ("a", 2)),
        trimmed("r", 100, 2, 2),
        empty("r", 110, 3),
        open("m", Some("name"), 120, 2),
    ]
}

#[track_caller]
fn broken(change: impl FnOnce(&mut Vec<Line>), word: &str) {
    let mut lines = good();
    change(&mut lines);
    let error = judge(&lines).expect_err("it is broken");
    assert!(error.contains(word), "{word}: {error}");
}

#[test]
fn a_history_in_order_passes() {
    assert_eq!(judge(&good()).unwrap(), Summary { appended: 3, read: 4, trimmed: 1 });
    let mut killed = good();
    killed[2].t1 = None;
    killed[2].tok = None;
    killed[2].ok = None;
    assert_eq!(judge(&killed).unwrap().appended, 2, "the last append of a killed one may be there");
}

#[test]
fn each_broken_rule_is_found() {
    broken(|lines| lines[1].tok = Some(0), "is also that of");
    broken(|lines| lines.push(read("n", Some("name"), 130, 3, ("a", 2))), "also at position");
    broken(|lines| lines[4] = read("r", None, 50, 0, ("c", 1)), "not appended");
    broken(|lines| lines[4].sum = Some("else".into()), "not appended");
    broken(
        |lines| {
            lines[2].ok = Some(false);
            lines[2].tok = None;
        },
        "refused",
    );
    broken(|lines| lines[5] = read("r", None, 60, 2, ("a", 2)), "comes next");
    broken(|lines| drop(lines.remove(5)), "comes next");
    broken(|lines| lines[9] = trimmed("r", 100, 1, 2), "comes next");
    broken(|lines| lines[9] = empty("r", 100, 2), "was answered before");
    broken(|lines| lines[11].tok = Some(1), "must go on");
    broken(|lines| lines[11].tok = Some(4), "must go on");
    broken(
        |lines| {
            lines.push(open("q", None, 130, 2));
            lines.push(read("q", None, 140, 2, ("a", 2)));
        },
        "trimmed before",
    );
    broken(
        |lines| {
            lines.push(append("b", 2, 130, 4));
            lines.push(append("a", 3, 140, 3));
        },
        "was answered before",
    );
}
