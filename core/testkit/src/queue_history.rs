//! Did a broadcast channel deliver what was sent?
//!
//! Judged by the rules of `docs/stress.md`, for each subscription (an anonymous consumer, or all holders of a named one) and each producer:
//! - whatever arrives was sent by that producer under that number with that checksum, not refused, and not before it was sent;
//! - the numbers arrive in order, each once, without a hole except those reported as a `gap`;
//! - everything whose send began after the subscription was ready arrives before anything later of that producer, and before the
//!   consumer is told that nothing is there;
//! - a consumer that is told that nothing is there has all that was acknowledged before it asked;
//! - the next holder of a named subscription may begin with the one message that its predecessor received last and perhaps did not
//!   handle, and goes on from there.
//!
//! The last send of a killed producer may arrive or not.

use std::collections::{BTreeMap, HashMap, HashSet};

use memora_stress::history::{Line, Operation};

/// What a history that is in order contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Acknowledged sends.
    pub sent: u64,
    /// Messages received, by all consumers together.
    pub received: u64,
    /// Messages received again by the next holder of a named subscription.
    pub redelivered: u64,
    /// Messages that the library reported as lost.
    pub lost: u64,
}

/// Judges the operations of a history; an error tells the first rule that was broken, with the line.
pub fn check(operations: &[Operation]) -> Result<Summary, String> {
    let producers = Producers::read(operations)?;
    let mut summary = Summary { sent: producers.acknowledged(), ..Summary::default() };
    for subscription in subscriptions(operations)? {
        follow(&subscription, &producers, &mut summary)?;
    }
    Ok(summary)
}

/// One try to send a message.
struct Try<'a> {
    sum: &'a str,
    start: u64,
    refused: bool,
}

/// Everything that one producer sent to one channel.
#[derive(Default)]
struct Producer<'a> {
    tries: HashMap<u64, Vec<Try<'a>>>,
    /// Start and end of the acknowledged sends, by number from 1.
    acknowledged: Vec<(u64, u64)>,
}

impl Producer<'_> {
    /// The highest number acknowledged before `time`; 0 if none.
    fn acknowledged_before(&self, time: u64) -> u64 {
        self.acknowledged.partition_point(|&(_, end)| end < time) as u64
    }

    /// The lowest number whose send began after `time`; `u64::MAX` if none was acknowledged.
    fn first_after(&self, time: u64) -> u64 {
        let index = self.acknowledged.partition_point(|&(start, _)| start <= time);
        if index < self.acknowledged.len() { index as u64 + 1 } else { u64::MAX }
    }
}

#[derive(Default)]
struct Producers<'a>(BTreeMap<(&'a str, &'a str), Producer<'a>>);

impl<'a> Producers<'a> {
    fn read(operations: &'a [Operation]) -> Result<Producers<'a>, String> {
        let mut producers = Producers::default();
        let mut sends: Vec<&Operation> =
            operations.iter().filter(|operation| operation.line.op == "send").collect();
        sends.sort_by_key(|operation| operation.line.t0);
        for operation in sends {
            let line = &operation.line;
            let (Some(q), Some(p), Some(seq), Some(sum)) = (&line.q, &line.p, line.seq, &line.sum) else {
                return Err(format!("a send without q, p, seq or sum: {}", show(line)));
            };
            let producer = producers.0.entry((q, p)).or_default();
            if seq != producer.acknowledged.len() as u64 + 1 {
                return Err(format!("the producer itself skips or repeats a number: {}", show(line)));
            }
            let accepted = operation.answered && line.ok == Some(true);
            let refused = operation.answered && !accepted;
            producer.tries.entry(seq).or_default().push(Try { sum, start: line.t0, refused });
            if accepted {
                producer.acknowledged.push((line.t0, operation.end));
            }
        }
        Ok(producers)
    }

    fn acknowledged(&self) -> u64 {
        self.0.values().map(|producer| producer.acknowledged.len() as u64).sum()
    }
}

/// One consumer incarnation.
struct Consumer<'a> {
    /// When it began to subscribe, and when that was done.
    begun: u64,
    ready: u64,
    name: Option<&'a str>,
    q: &'a str,
    events: Vec<&'a Operation>,
    /// Reported losses: producer, first and last number.
    gaps: Vec<(&'a str, u64, u64)>,
}

/// The consumers of each subscription, in the order in which they held it.
fn subscriptions(operations: &[Operation]) -> Result<Vec<Vec<Consumer<'_>>>, String> {
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by_key(|operation| operation.line.t0);
    let mut consumers: BTreeMap<(&str, &str), Consumer> = BTreeMap::new();
    for operation in sorted {
        let line = &operation.line;
        match line.op.as_str() {
            "sub" if operation.answered && line.err.is_none() => {
                let q = line.q.as_deref().ok_or_else(|| format!("a sub without q: {}", show(line)))?;
                let consumer = Consumer {
                    begun: line.t0,
                    ready: operation.end,
                    name: line.s.as_deref(),
                    q,
                    events: Vec::new(),
                    gaps: Vec::new(),
                };
                if consumers.insert((q, &line.c), consumer).is_some() {
                    return Err(format!("a consumer subscribes twice: {}", show(line)));
                }
            }
            "recv" | "gap" if operation.answered => {
                let q = line.q.as_deref().ok_or_else(|| format!("no q: {}", show(line)))?;
                let consumer = consumers
                    .get_mut(&(q, line.c.as_str()))
                    .ok_or_else(|| format!("received without a subscription: {}", show(line)))?;
                if line.op == "recv" {
                    consumer.events.push(operation);
                } else {
                    let (Some(p), Some(from), Some(to)) = (line.p.as_deref(), line.from, line.to) else {
                        return Err(format!("a gap without p, from or to: {}", show(line)));
                    };
                    consumer.gaps.push((p, from, to));
                }
            }
            "sub" | "recv" | "gap" | "send" | "ack" => {}
            other => return Err(format!("operation `{other}` is not judged")),
        }
    }
    let mut named: BTreeMap<(&str, &str), Vec<Consumer>> = BTreeMap::new();
    let mut subscriptions = Vec::new();
    for consumer in consumers.into_values() {
        match consumer.name {
            Some(name) => named.entry((consumer.q, name)).or_default().push(consumer),
            None => subscriptions.push(vec![consumer]),
        }
    }
    for (_, mut holders) in named {
        holders.sort_by_key(|consumer| consumer.ready);
        subscriptions.push(holders);
    }
    Ok(subscriptions)
}

/// Follows one subscription through all its holders.
fn follow(holders: &[Consumer<'_>], producers: &Producers<'_>, summary: &mut Summary) -> Result<(), String> {
    let ready = holders[0].ready;
    // The number that must come next, for each producer that has been heard.
    let mut next: HashMap<&str, u64> = HashMap::new();
    let mut last: Option<(&str, u64)> = None;
    for holder in holders {
        // The place of what a holder took last may not have been stored when it died: its successor sees that message again, as its
        // first one of that producer. Other lanes may come before it.
        let unstored = last;
        let mut heard = HashSet::new();
        let mut gaps = holder.gaps.clone();
        for operation in &holder.events {
            let line = &operation.line;
            let Some(p) = line.p.as_deref() else {
                if line.err.is_none() {
                    nothing_is_missing(line, ready, holder.q, &next, producers)?;
                }
                continue;
            };
            let producer = producers
                .0
                .get(&(holder.q, p))
                .ok_or_else(|| format!("from a producer that sent nothing: {}", show(line)))?;
            let (Some(seq), Some(sum)) = (line.seq, line.sum.as_deref()) else {
                return Err(format!("a recv with p but without seq or sum: {}", show(line)));
            };
            let tries = producer.tries.get(&seq).map_or(&[][..], |tries| tries);
            if !tries.iter().any(|sent| sent.sum == sum) {
                return Err(format!("never sent in this form: {}", show(line)));
            }
            if !tries.iter().any(|sent| sent.sum == sum && !sent.refused && sent.start <= operation.end) {
                return Err(format!("the send was refused, or comes later: {}", show(line)));
            }
            let again = heard.insert(p) && unstored == Some((p, seq));
            last = Some((p, seq));
            summary.received += 1;
            // A hole is right if it is exactly what was reported; before the first message the report may begin too early.
            let expected = match next.get(p) {
                Some(&expected) => Some(expected),
                None => Some(producer.first_after(ready)).filter(|&first| seq > first),
            };
            let reported = |&(q, from, to): &(&str, u64, u64)| {
                q == p
                    && to + 1 == seq
                    && expected.is_some_and(|first| from == first || (!next.contains_key(p) && from < first))
            };
            match expected {
                // What was lost before the first message may have been sent while the subscription was being made: it was there
                // already, and its maker was slow to hear of it. What was there before it began is no loss.
                None => {
                    let before = producer.acknowledged_before(holders[0].begun);
                    let early = |&(q, _, to): &(&str, u64, u64)| q == p && to + 1 == seq && to > before;
                    if let Some(at) = gaps.iter().position(early) {
                        gaps.swap_remove(at);
                    }
                }
                Some(expected) if seq == expected => {}
                Some(expected) if again && seq + 1 == expected => summary.redelivered += 1,
                Some(expected) if seq < expected => {
                    return Err(format!("a duplicate, expected {expected}: {}", show(line)));
                }
                Some(expected) => match gaps.iter().position(reported) {
                    Some(at) => {
                        gaps.swap_remove(at);
                        summary.lost += seq - expected;
                    }
                    None => return Err(format!("{expected} is lost: {}", show(line))),
                },
            }
            next.insert(p, seq + 1);
        }
        if let Some((p, from, to)) =
            gaps.iter().find(|(p, from, _)| next.get(p).is_some_and(|next| from < next))
        {
            return Err(format!("a loss of {p} from {from} to {to} was reported that did not happen"));
        }
    }
    Ok(())
}

/// Answered empty: all that was acknowledged before the question must have arrived.
fn nothing_is_missing(
    line: &Line,
    ready: u64,
    q: &str,
    next: &HashMap<&str, u64>,
    producers: &Producers<'_>,
) -> Result<(), String> {
    for ((channel, p), producer) in &producers.0 {
        let acknowledged = producer.acknowledged_before(line.t0);
        let missing = next.get(p).copied().unwrap_or_else(|| producer.first_after(ready));
        if *channel == q && missing <= acknowledged {
            return Err(format!("answered empty although {missing} of {p} was there: {}", show(line)));
        }
    }
    Ok(())
}

fn show(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_else(|_| format!("{line:?}"))
}
