//! Did a log keep one order for all?
//!
//! Judged by the rules of `docs/stress.md`:
//! - each position has one message and each message one position, whoever saw it: who appended it, and every reader;
//! - a message has a greater position than every one whose append was answered before its own began;
//! - whatever is read was appended in that form, not refused, and not before it was appended;
//! - a reader reads one position after the other; what it does not read was reported as trimmed, exactly, and to nobody a position is
//!   given that was reported as trimmed before;
//! - a reader that is told that nothing is there has all that was answered before it asked;
//! - who goes on with a name begins behind the message that was read last with it, or with it.
//!
//! The last append of a killed client may be there or not.

use std::collections::HashMap;

use memora_stress::history::{Line, Operation};

/// What a history that is in order contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Answered appends.
    pub appended: u64,
    /// Messages read, by all readers together.
    pub read: u64,
    /// Positions reported as trimmed, to all readers together.
    pub trimmed: u64,
}

type Message<'a> = (&'a str, u64, &'a str);

fn show(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_else(|_| format!("{line:?}"))
}

fn message(line: &Line) -> Option<Message<'_>> {
    Some((line.p.as_deref()?, line.seq?, line.sum.as_deref()?))
}

/// Judges the operations of a history on the log `name`; an error tells the first rule that was broken, with the line.
pub fn check(operations: &[Operation], name: &str) -> Result<Summary, String> {
    let mut sorted: Vec<&Operation> =
        operations.iter().filter(|operation| operation.line.q.as_deref() == Some(name)).collect();
    sorted.sort_by_key(|operation| operation.line.t0);
    let mut order = Order::default();
    let mut summary = Summary::default();
    for operation in &sorted {
        if operation.line.op == "append" {
            summary.appended += u64::from(order.append(operation)?);
        }
    }
    for operation in &sorted {
        if operation.line.op == "read" && operation.answered && operation.line.p.is_some() {
            order.read(operation)?;
            summary.read += 1;
        }
    }
    order.times(&sorted)?;
    follow(&sorted, &mut summary)?;
    Ok(summary)
}

/// The one order.
#[derive(Default)]
struct Order<'a> {
    /// When each message's tries began, and whether it was refused each time.
    tries: HashMap<Message<'a>, (u64, bool)>,
    at: HashMap<u64, Message<'a>>,
    of: HashMap<(&'a str, u64), u64>,
}

impl<'a> Order<'a> {
    /// True if it was answered with a position.
    fn append(&mut self, operation: &'a Operation) -> Result<bool, String> {
        let line = &operation.line;
        let Some(message) = message(line) else {
            return Err(format!("an append without p, seq or sum: {}", show(line)));
        };
        let refused = operation.answered && line.ok != Some(true);
        let tried = self.tries.entry(message).or_insert((line.t0, refused));
        tried.1 &= refused;
        match line.tok {
            Some(position) if operation.answered && !refused => {
                self.place(position, message, line)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn place(&mut self, position: u64, message: Message<'a>, line: &Line) -> Result<(), String> {
        let known = *self.at.entry(position).or_insert(message);
        if known != message {
            return Err(format!("position {position} is also that of {known:?}: {}", show(line)));
        }
        let first = *self.of.entry((message.0, message.1)).or_insert(position);
        if first != position {
            return Err(format!("the message is also at position {first}: {}", show(line)));
        }
        Ok(())
    }

    fn read(&mut self, operation: &'a Operation) -> Result<(), String> {
        let line = &operation.line;
        let (Some(message), Some(position)) = (message(line), line.tok) else {
            return Err(format!("a read message without seq, sum or tok: {}", show(line)));
        };
        match self.tries.get(&message) {
            Some((begun, false)) if *begun < operation.end => self.place(position, message, line),
            Some((_, true)) => Err(format!("it was refused: {}", show(line))),
            _ => Err(format!("it was not appended: {}", show(line))),
        }
    }

    /// Positions grow in time.
    fn times(&self, sorted: &[&'a Operation]) -> Result<(), String> {
        let mut done: Vec<(u64, u64)> = Vec::new();
        for operation in sorted {
            if operation.line.op == "append"
                && operation.answered
                && let Some(position) = operation.line.tok
            {
                done.push((operation.end, position));
            }
        }
        done.sort_unstable();
        let mut highest = Vec::with_capacity(done.len());
        for (_, position) in &done {
            highest.push(*position.max(highest.last().unwrap_or(&0)));
        }
        let before = |time: u64| match done.partition_point(|(end, _)| *end < time) {
            0 => None,
            count => Some(highest[count - 1]),
        };
        for operation in sorted {
            let line = &operation.line;
            let Some(position) = line.tok.filter(|_| operation.answered) else { continue };
            let earlier = before(line.t0);
            let wrong = match line.op.as_str() {
                "append" => earlier.is_some_and(|highest| highest >= position),
                "read" if line.p.is_none() => earlier.is_some_and(|highest| highest >= position),
                _ => false,
            };
            if wrong {
                return Err(format!("position {earlier:?} was answered before: {}", show(line)));
            }
        }
        Ok(())
    }
}

/// Each reader, one position after the other.
fn follow(sorted: &[&Operation], summary: &mut Summary) -> Result<(), String> {
    // By client and name: the position that comes next.
    let mut next: HashMap<(&str, Option<&str>), u64> = HashMap::new();
    // By name: the positions at which the next holder may begin.
    let mut named: HashMap<&str, (u64, u64)> = HashMap::new();
    // When it was reported that everything below a position is trimmed.
    let mut trims: Vec<(u64, u64)> = Vec::new();
    for operation in sorted {
        let line = &operation.line;
        let who = (line.c.as_str(), line.s.as_deref());
        match line.op.as_str() {
            "open" if operation.answered => {
                let Some(start) = line.tok else { continue };
                if let Some(name) = who.1 {
                    if let Some((low, high)) = named.get(name)
                        && !(*low..=*high).contains(&start)
                    {
                        return Err(format!("it must go on at {low} or {high}: {}", show(line)));
                    }
                    named.insert(name, (start, start));
                }
                next.insert(who, start);
            }
            "read" if operation.answered && line.err.is_none() => {
                let Some(expected) = next.get_mut(&who) else {
                    return Err(format!("a read without a reader: {}", show(line)));
                };
                let start = *expected;
                let behind = match (line.from, line.to, line.tok) {
                    (Some(from), Some(to), _) if from == start && to >= from => {
                        summary.trimmed += to - from + 1;
                        trims.push((operation.end, to + 1));
                        to + 1
                    }
                    (None, None, Some(position)) if position == start => {
                        if line.p.is_some()
                            && trims.iter().any(|(end, below)| *end < line.t0 && position < *below)
                        {
                            return Err(format!("the position was trimmed before: {}", show(line)));
                        }
                        start + u64::from(line.p.is_some())
                    }
                    _ => return Err(format!("position {start} comes next: {}", show(line))),
                };
                *expected = behind;
                if let Some(name) = who.1 {
                    // What was read last is handled when the next call is made.
                    named.insert(name, (start, behind));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
