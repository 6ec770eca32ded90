//! Did a queue give each message to one consumer?
//!
//! Judged by the rules of `docs/stress.md`, for each message, which is a producer and a number:
//! - whatever is taken was sent in that form, not refused, and not before it was sent;
//! - it is taken once without the mark that somebody may have had it, and not at all without it after it was taken with it;
//! - after it was acknowledged nobody takes it any more, and it does not become a dead letter;
//! - each consumer takes the messages of a producer that nobody had before in the order of their numbers;
//! - a consumer that is told that nothing is there does not see that another later takes as new what was sent before it asked;
//! - in the end, when the queue was emptied, everything that was sent was acknowledged or is a dead letter; on a queue without
//!   acknowledgement it was taken, except as much as consumers were killed in the midst of taking.
//!
//! The last send of a killed producer may be taken or not.

use std::collections::HashMap;

use memora_stress::history::{Line, Operation};

/// The queue whose history is judged.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether messages are acknowledged.
    pub acknowledged: bool,
    /// The channel for its dead letters, which was emptied, too.
    pub letters: Option<&'a str>,
}

/// What a history that is in order contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Acknowledged sends.
    pub sent: u64,
    /// Messages taken that nobody had before.
    pub taken: u64,
    /// Messages taken that somebody may have had.
    pub redelivered: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages taken as dead letters.
    pub letters: u64,
    /// Messages that nobody saw, because their consumer was killed in the midst of taking.
    pub lost: u64,
}

/// What happened to one message.
#[derive(Default)]
struct Fate<'a> {
    sends: Vec<&'a Operation>,
    takes: Vec<&'a Operation>,
    letters: Vec<&'a Operation>,
    acks: Vec<&'a Operation>,
}

impl Fate<'_> {
    fn is_sent(&self) -> bool {
        self.sends.iter().any(|send| send.answered && send.line.ok == Some(true))
    }

    /// When the acknowledgement was answered.
    fn acknowledged_at(&self) -> Option<u64> {
        self.acks.iter().find(|ack| ack.answered && ack.line.ok == Some(true)).map(|ack| ack.end)
    }
}

/// Judges the operations of a history; an error tells the first rule that was broken, with the line.
pub fn check(operations: &[Operation], queue: &Queue<'_>) -> Result<Summary, String> {
    let mut fates: HashMap<(&str, u64), Fate> = HashMap::new();
    let (mut empty, mut open) = (Vec::new(), 0);
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by_key(|operation| operation.line.t0);
    for operation in sorted {
        let line = &operation.line;
        let here = line.q.as_deref() == Some(queue.name);
        let letters = line.q.is_some() && line.q.as_deref() == queue.letters;
        if !here && !letters {
            continue;
        }
        if line.op == "take" && here && !operation.answered {
            open += 1;
        }
        let (Some(p), Some(seq)) = (line.p.as_deref(), line.seq) else {
            if line.op == "take" && here && operation.answered && line.err.is_none() {
                empty.push(operation);
            }
            continue;
        };
        let fate = fates.entry((p, seq)).or_default();
        match line.op.as_str() {
            "send" if here => fate.sends.push(operation),
            "take" if here => fate.takes.push(operation),
            "take" => fate.letters.push(operation),
            "ack" if here => fate.acks.push(operation),
            "send" | "ack" | "back" => {}
            other => return Err(format!("operation `{other}` is not judged: {}", show(line))),
        }
    }
    let mut summary = Summary::default();
    let mut last: HashMap<(&str, &str), u64> = HashMap::new();
    let mut new: Vec<&Operation> = Vec::new();
    for fate in fates.values() {
        judge(fate, queue, &mut summary)?;
        new.extend(fate.takes.iter().filter(|take| is_new(take)));
    }
    new.sort_by_key(|take| take.line.t0);
    for take in &new {
        let (Some(p), Some(seq)) = (take.line.p.as_deref(), take.line.seq) else { continue };
        if let Some(before) = last.insert((&take.line.c, p), seq)
            && before >= seq
        {
            return Err(format!("after {before}: {}", show(&take.line)));
        }
    }
    nothing_was_there(&empty, &new, &fates)?;
    if summary.lost > open {
        return Err(format!("{} messages are lost, {open} takers were killed", summary.lost));
    }
    Ok(summary)
}

fn is_new(take: &Operation) -> bool {
    take.line.tok == Some(1)
}

fn judge(fate: &Fate<'_>, queue: &Queue<'_>, summary: &mut Summary) -> Result<(), String> {
    summary.sent += u64::from(fate.is_sent());
    for take in fate.takes.iter().chain(&fate.letters) {
        let line = &take.line;
        let same = |send: &&&Operation| send.line.sum == line.sum;
        if !fate.sends.iter().any(|send| same(&send)) {
            return Err(format!("never sent in this form: {}", show(line)));
        }
        let good =
            |send: &&&Operation| !(send.answered && send.line.ok != Some(true)) && send.line.t0 <= take.end;
        if !fate.sends.iter().filter(same).any(|send| good(&send)) {
            return Err(format!("the send was refused, or comes later: {}", show(line)));
        }
        if fate.acknowledged_at().is_some_and(|time| time < line.t0) {
            return Err(format!("it was acknowledged before: {}", show(line)));
        }
    }
    for takes in [&fate.takes, &fate.letters] {
        let new: Vec<&&Operation> = takes.iter().filter(|take| is_new(take)).collect();
        if let [_, second, ..] = new[..] {
            return Err(format!("a duplicate without a mark: {}", show(&second.line)));
        }
        if let (Some(new), Some(again)) = (new.first(), takes.iter().find(|take| !is_new(take)))
            && again.end < new.line.t0
            && queue.letters.is_none_or(|letters| new.line.q.as_deref() != Some(letters))
        {
            return Err(format!("new after it was delivered again: {}", show(&new.line)));
        }
        summary.redelivered += takes.iter().filter(|take| !is_new(take)).count() as u64;
    }
    summary.taken += fate.takes.iter().filter(|take| is_new(take)).count() as u64;
    summary.acknowledged += u64::from(fate.acknowledged_at().is_some());
    summary.letters += u64::from(!fate.letters.is_empty());
    if let (Some(time), Some(letter)) = (fate.acknowledged_at(), fate.letters.first()) {
        return Err(format!("acknowledged at {time} and a dead letter: {}", show(&letter.line)));
    }
    if !fate.is_sent() {
        return Ok(());
    }
    let maybe = fate.acks.iter().any(|ack| !ack.answered);
    if queue.acknowledged {
        if fate.acknowledged_at().is_none() && fate.letters.is_empty() && !maybe {
            return Err(format!(
                "lost: {}",
                fate.sends.last().map_or(String::new(), |send| show(&send.line))
            ));
        }
    } else {
        summary.lost += u64::from(fate.takes.is_empty());
    }
    Ok(())
}

/// Answered empty: what was sent before is not taken as new by an operation that began later.
fn nothing_was_there(
    empty: &[&Operation],
    new: &[&Operation],
    fates: &HashMap<(&str, u64), Fate<'_>>,
) -> Result<(), String> {
    // By the latest time at which their send had ended, the empty answers that began after it and ended before the take.
    for take in new {
        let (Some(p), Some(seq)) = (take.line.p.as_deref(), take.line.seq) else { continue };
        let Some(fate) = fates.get(&(p, seq)) else { continue };
        let accepted = fate.sends.iter().find(|send| send.answered && send.line.ok == Some(true));
        let Some(sent) = accepted.map(|send| send.end) else { continue };
        let from = empty.partition_point(|empty| empty.line.t0 <= sent);
        let wrong = empty[from..].iter().take_while(|empty| empty.line.t0 < take.line.t0);
        if let Some(wrong) = wrong.into_iter().find(|empty| empty.end < take.line.t0) {
            return Err(format!("answered empty although {seq} of {p} was there: {}", show(&wrong.line)));
        }
    }
    Ok(())
}

fn show(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_else(|_| format!("{line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use memora_stress::history::operations;

    /// One line per operation: `client op [p seq sum mark] t0 t1`, with `-` for no end.
    fn judge_text(text: &str, acknowledged: bool) -> Result<Summary, String> {
        let lines: Vec<Line> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|text| {
                let words: Vec<&str> = text.split_whitespace().collect();
                let (words, times) = words.split_at(words.len() - 2);
                let mut line = Line::new(words[0], words[1].trim_end_matches('!'));
                line.q = Some(if words[1].ends_with('!') { "dead" } else { "q" }.into());
                line.t0 = times[0].parse().unwrap();
                line.t1 = times[1].parse().ok();
                line.p = words.get(2).map(|p| p.to_string());
                line.seq = words.get(3).map(|seq| seq.parse().unwrap());
                line.sum = words.get(4).map(|sum| sum.to_string());
                line.tok = words.get(5).map(|tok| tok.parse().unwrap());
                if matches!(line.op.as_str(), "send" | "ack" | "back") {
                    line.ok = line.t1.map(|_| words.get(6) != Some(&"no"));
                }
                line
            })
            .collect();
        let queue = Queue { name: "q", acknowledged, letters: Some("dead") };
        check(&operations(&lines).expect("well formed"), &queue)
    }

    const SENT: &str = "p send p 1 a 0 1 2\np send p 2 b 0 3 4\n";

    #[track_caller]
    fn bad(text: &str, acknowledged: bool, hint: &str) {
        let error = judge_text(&format!("{SENT}{text}"), acknowledged).expect_err("the fault is not found");
        assert!(error.contains(hint), "{error}");
    }

    #[test]
    fn good_histories_are_in_order() {
        let text = "c take p 1 a 1 5 6\nc back p 1 7 8\nd take p 1 a 2 9 10\nd ack p 1 11 12\nc take p 2 b 1 13 14\nc ack p 2 15 16\nc take 17 18";
        let summary = judge_text(&format!("{SENT}{text}"), true).unwrap();
        assert_eq!((summary.sent, summary.taken, summary.redelivered, summary.acknowledged), (2, 2, 1, 2));
        let text = "c take p 1 a 1 5 6\nc ack p 1 7 8\nd take! p 2 b 1 9 10\nd take! p 2 b 2 11 12";
        assert_eq!(judge_text(&format!("{SENT}{text}"), true).unwrap().letters, 1);
        let summary = judge_text(&format!("{SENT}c take p 1 a 1 5 6\nd take 7 -"), false).unwrap();
        assert_eq!((summary.taken, summary.lost), (1, 1));
    }

    #[test]
    fn each_fault_is_found() {
        let rest = "c ack p 1 50 51\nc take p 2 b 1 52 53\nc ack p 2 54 55\n";
        bad(&format!("c take p 1 a 1 5 6\nd take p 1 a 1 5 6\n{rest}"), true, "a duplicate");
        bad(&format!("c take p 1 x 1 5 6\n{rest}"), true, "never sent");
        bad(&format!("c take p 1 a 1 0 0\n{rest}"), true, "comes later");
        bad(&format!("c take p 1 a 1 5 6\nd take p 1 a 2 60 61\n{rest}"), true, "acknowledged before");
        bad(&format!("c take p 1 a 1 5 6\nd take! p 1 a 1 20 21\n{rest}"), true, "and a dead letter");
        bad(&format!("c take p 1 a 2 5 6\nd take p 1 a 1 20 21\n{rest}"), true, "new after");
        bad("c take p 1 a 1 5 6\nc ack p 1 7 8", true, "lost");
        bad("c take p 1 a 1 5 6", false, "lost");
        bad("c take p 2 b 1 5 6\nc take p 1 a 1 7 8", false, "after 2");
        bad("c take 5 6\nc take p 1 a 1 7 8\nc take p 2 b 1 9 10", false, "answered empty");
        bad("p send p 3 c 0 no 5 6\nc take p 3 c 1 7 8", false, "was refused");
    }
}
