//! The judge of channels is judged: each rule has a history that breaks it and one that just does not.

use memora_testkit::history::{Line, operations};
use memora_testkit::queue_history::{Summary, check};

/// A short notation: one line per operation, `client op arguments t0 t1`.
fn history(text: &str) -> Vec<Line> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|text| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let mut line = Line::new(words[0], words[1]);
            line.q = Some("q".into());
            let (arguments, times) = words[2..].split_at(words.len() - 4);
            line.t0 = times[0].parse().unwrap();
            line.t1 = times[1].parse().ok();
            match words[1] {
                "send" => {
                    line.p = Some(words[0].into());
                    line.seq = arguments[0].parse().ok();
                    line.sum = Some(arguments[1].into());
                    line.ok = line.t1.map(|_| arguments.get(2) != Some(&"refused"));
                }
                "recv" if !arguments.is_empty() => {
                    line.p = Some(arguments[0].into());
                    line.seq = arguments[1].parse().ok();
                    line.sum = Some(arguments[2].into());
                }
                "gap" => {
                    line.p = Some(arguments[0].into());
                    line.from = arguments[1].parse().ok();
                    line.to = arguments[2].parse().ok();
                }
                "sub" => line.s = arguments.first().map(|name| name.to_string()),
                "kill" => (line.q, line.t1) = (None, None),
                _ => {}
            }
            line
        })
        .collect()
}

fn judge(text: &str) -> Result<Summary, String> {
    check(&operations(&history(text)).expect("well formed"))
}

#[track_caller]
fn bad(text: &str, hint: &str) {
    let error = judge(text).expect_err("the fault is not found");
    assert!(error.contains(hint), "{error}");
}

const SENT: &str = "
    c sub 1 2
    p send 1 a 10 11
    p send 2 b 12 13
    p send 3 d 14 15
    r send 1 x 10 14
    ";

#[test]
fn messages_in_order_from_two_producers_are_right() {
    let text = format!(
        "{SENT}
        c recv p 1 a 20 21
        c recv r 1 x 22 23
        c recv p 2 b 24 25
        c recv p 3 d 26 27
        c recv 28 29"
    );
    assert_eq!(judge(&text), Ok(Summary { sent: 4, received: 4, redelivered: 0, lost: 0 }));
}

#[test]
fn a_loss_is_found() {
    bad(&format!("{SENT} c recv p 1 a 20 21\n c recv p 3 d 22 23"), "2 is lost");
    bad(&format!("{SENT} c recv p 2 b 20 21"), "1 is lost");
    bad(&format!("{SENT} c recv p 1 a 20 21\n c recv 22 23"), "2 of p was there");
    bad(&format!("{SENT} c recv 22 23"), "1 of p was there");
}

#[test]
fn what_was_sent_before_or_while_subscribing_may_be_missing() {
    let late = "
        p send 1 a 1 2
        p send 2 b 3 9
        c sub 5 6
        p send 3 d 10 11
        ";
    for first in ["c recv p 2 b 20 21\n c recv p 3 d 22 23", "c recv p 3 d 22 23"] {
        assert!(judge(&format!("{late} {first}\n c recv 30 31")).is_ok());
    }
    bad(&format!("{late} c recv 22 23"), "3 of p was there");
}

#[test]
fn a_send_that_still_runs_need_not_be_seen() {
    let text = "
        c sub 1 2
        p send 1 a 10 20
        c recv 15 30";
    assert!(judge(text).is_ok());
    bad(&text.replace("15 30", "21 30"), "1 of p was there");
}

#[test]
fn a_duplicate_and_a_wrong_order_are_found() {
    bad(&format!("{SENT} c recv p 1 a 20 21\n c recv p 1 a 22 23"), "a duplicate");
    bad(&format!("{SENT} c recv p 1 a 20 21\n c recv p 2 b 22 23\n c recv p 1 a 24 25"), "a duplicate");
}

#[test]
fn a_damaged_or_foreign_message_is_found() {
    bad(&format!("{SENT} c recv p 1 b 20 21"), "never sent in this form");
    bad(&format!("{SENT} c recv p 4 e 20 21"), "never sent in this form");
    bad(&format!("{SENT} c recv z 1 a 20 21"), "sent nothing");
    bad("c sub 1 2\n p send 1 a refused 10 11\n c recv p 1 a 20 21", "refused");
    bad("c sub 1 2\n c recv p 1 a 3 4\n p send 1 a 10 11", "comes later");
    bad("p send 1 a 10 11\n c recv p 1 a 20 21", "without a subscription");
}

#[test]
fn a_refused_send_may_be_tried_again() {
    let text = "
        c sub 1 2
        p send 1 a refused 10 11
        p send 1 b 12 13
        c recv p 1 b 20 21
        c recv 22 23";
    assert_eq!(judge(text).map(|summary| summary.sent), Ok(1));
    bad("p send 1 a 1 2\n p send 3 a 3 4", "skips or repeats");
}

#[test]
fn the_last_send_of_a_killed_producer_may_arrive_or_not() {
    let text = "
        c sub 1 2
        p send 1 a 10 11
        p send 2 b 12 -
        p kill 20 -
        c recv p 1 a 30 31
        ";
    assert!(judge(&format!("{text} c recv 40 41")).is_ok());
    assert!(judge(&format!("{text} c recv p 2 b 40 41\n c recv 50 51")).is_ok());
    bad(&format!("{text} c recv p 2 b 40 41\n c recv p 2 b 50 51"), "a duplicate");
}

#[test]
fn reported_losses_are_exact() {
    assert_eq!(
        judge(&format!("{SENT} c recv p 1 a 20 21\n c gap p 2 2 22 22\n c recv p 3 d 23 24")).map(|s| s.lost),
        Ok(1)
    );
    let text = format!("{SENT} c recv p 1 a 20 21\n c recv p 3 d 22 23\n");
    assert!(judge(&format!("{text} c gap p 2 2 24 24")).is_ok());
    bad(&format!("{text} c gap p 3 3 24 24"), "2 is lost");
    bad(&format!("{text} c gap p 1 2 24 24"), "2 is lost");
    bad(&format!("{SENT} c recv p 1 a 20 21\n c recv p 2 b 23 24\n c gap p 1 1 25 25"), "did not happen");
    assert!(judge(&format!("{SENT} c recv p 2 b 20 21\n c gap p 1 1 24 24")).is_ok());
    // Sent while the subscriber was on its way: it may miss them, and may be told so.
    let slow = SENT.replace("c sub 1 2", "c sub 1 14");
    assert!(judge(&format!("{slow} c recv p 3 d 20 21")).is_ok());
    assert!(judge(&format!("{slow} c recv p 3 d 20 21\n c gap p 1 2 21 21")).is_ok());
    bad(&format!("{slow} c recv p 3 d 20 21\n c gap p 1 1 21 21"), "did not happen");
    // All of them were there before it began to subscribe.
    let late = SENT.replace("c sub 1 2", "c sub 14 16");
    assert!(judge(&format!("{late} c recv p 3 d 20 21")).is_ok());
    bad(&format!("{late} c recv p 3 d 20 21\n c gap p 1 2 21 21"), "did not happen");
}

const NAMED: &str = "
    c sub name 1 2
    p send 1 a 10 11
    p send 2 b 12 13
    p send 3 d 14 15
    c recv p 1 a 20 21
    c recv p 2 b 22 23
    c recv 24 -
    c kill 25 -
    d sub name 30 31
    ";

#[test]
fn the_next_holder_of_a_named_subscription_may_repeat_the_last_message_only() {
    let again = judge(&format!("{NAMED} d recv p 2 b 32 33\n d recv p 3 d 34 35\n d recv 36 37"));
    assert_eq!(again.map(|summary| summary.redelivered), Ok(1));
    assert!(judge(&format!("{NAMED} d recv p 3 d 34 35\n d recv 36 37")).is_ok());
    // Another lane may come before it.
    let other = format!("r send 1 e 16 17\n {NAMED} d recv r 1 e 32 33");
    let after = judge(&format!("{other} \n d recv p 2 b 34 35\n d recv p 3 d 36 37"));
    assert_eq!(after.map(|summary| summary.redelivered), Ok(1));
    bad(&format!("{other} \n d recv r 1 e 34 35"), "a duplicate");
    bad(&format!("{NAMED} d recv p 1 a 32 33"), "a duplicate");
    bad(&format!("{NAMED} d recv p 3 d 32 33\n d recv p 2 b 34 35"), "a duplicate");
    bad(&format!("{NAMED} d recv p 2 b 32 33\n d recv p 2 b 34 35"), "a duplicate");
    bad(&format!("{NAMED} d recv 36 37"), "3 of p was there");
}
