//! Clients of a queue: what they take, acknowledge and give back stands in the history.
//!
//! A message that was taken stands in a line `take` with `p`, `seq` and `sum` from its payload and with `tok`: 1 if the queue says that
//! nobody had it before, 2 if it says that somebody may have had it. `ack` and `back` name the message by `p` and `seq`.

use std::time::{Duration, Instant};

use memora::{Acknowledge, ChannelKind, ChannelOptions, Consumer, Delivery, ErrorCode, Fabric};

use crate::history::monotonic_ns;
use crate::queue::{QueueClient, parse};
use crate::random::{Random, fnv1a};
use crate::{Failure, Options};

/// Name of the queue of the worker.
pub const QUEUE: &str = "stress-work";
/// Bytes of each ring.
const LANE_BYTES: u32 = 64 << 10;
/// How long a queue must give nothing before it is empty: what the dead held is given out sooner.
const EMPTY: Duration = Duration::from_secs(2);

/// What a worker on a queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends and takes.
    Both,
    /// Only sends.
    Produce,
    /// Only takes.
    Consume,
    /// Takes and acknowledges until the queue is empty.
    Drain,
}

/// Runs the worker on a queue with acknowledgement until its bound: of what it takes it acknowledges seven of ten messages, gives two back
/// and keeps one to acknowledge it with the next that it keeps.
pub fn work(options: &Options, role: Role) -> Result<(), Failure> {
    let mut client = QueueClient::open(&options.history, &options.seed, QUEUE)?;
    let mut random = Random::new(&options.seed);
    let queue = Fabric::open(&options.fabric)?.channel(
        QUEUE,
        &ChannelOptions {
            kind: ChannelKind::Queue,
            lane_bytes: LANE_BYTES,
            acknowledge: Some(Acknowledge::default()),
            ..ChannelOptions::default()
        },
    )?;
    let mut publisher = matches!(role, Role::Both | Role::Produce).then(|| queue.publisher()).transpose()?;
    let mut consumer = (role != Role::Produce).then(|| queue.consumer()).transpose()?;
    if role == Role::Drain {
        let Some(consumer) = &mut consumer else { return Ok(()) };
        while let Some(taken) = client.take(consumer, Some(EMPTY))? {
            client.ack(consumer, &taken)?;
        }
        return Ok(());
    }
    let (start, mut done, mut kept) = (Instant::now(), 0, None);
    while options.goes_on(done, start) {
        done += 1;
        let mut refused = false;
        if let Some(publisher) = &mut publisher
            && (consumer.is_none() || random.draw(2) == 0)
        {
            refused = !client.send(publisher, random.draw(100) as usize)?;
            if !refused {
                continue;
            }
        }
        let Some(consumer) = &mut consumer else {
            if refused {
                std::thread::sleep(Duration::from_millis(1));
            }
            continue;
        };
        let wait = publisher.is_none().then_some(Duration::from_millis(50));
        let Some(taken) = client.take(consumer, wait)? else { continue };
        match random.draw(10) {
            0 => {
                if let Some(before) = kept.replace(taken) {
                    client.ack(consumer, &before)?;
                }
            }
            1 => drop(client.back(consumer, &taken, Duration::ZERO)?),
            2 => drop(client.back(consumer, &taken, Duration::from_millis(1 + random.draw(5)))?),
            _ => drop(client.ack(consumer, &taken)?),
        }
    }
    Ok(())
}

/// A message that a client holds.
#[derive(Debug)]
pub struct Taken {
    /// What came with it; its receipt may be renewed by extending.
    pub delivery: Delivery,
    p: String,
    seq: u64,
}

impl QueueClient {
    /// Takes one message; waits for it if `wait` is given. None if there was none.
    pub fn take(
        &mut self,
        consumer: &mut Consumer,
        wait: Option<Duration>,
    ) -> Result<Option<Taken>, Failure> {
        let line = self.line("take");
        let mut line = self.recorder.ask(line)?;
        let answer = match wait {
            None => consumer.try_recv(&mut self.buffer),
            Some(_) => consumer.recv(&mut self.buffer, wait),
        };
        let t1 = monotonic_ns();
        let taken = match answer {
            Ok(Some(delivery)) => {
                let (p, seq) = parse(&self.buffer).unwrap_or(("?".to_string(), 0));
                line.p = Some(p.clone());
                line.seq = Some(seq);
                line.sum = Some(format!("{:016x}", fnv1a(&self.buffer)));
                line.tok = Some(if delivery.redelivered { 2 } else { 1 });
                Some(Taken { delivery, p, seq })
            }
            Ok(None) => None,
            Err(error) => {
                line.err = Some(error.code().name().to_string());
                self.recorder.answer(line, t1)?;
                return if error.code() == ErrorCode::TooManyHeld { Ok(None) } else { Err(error.into()) };
            }
        };
        self.recorder.answer(line, t1)?;
        Ok(taken)
    }

    /// Acknowledges a message; false if it was not held any more.
    pub fn ack(&mut self, consumer: &mut Consumer, taken: &Taken) -> Result<bool, Failure> {
        self.settle("ack", taken, || consumer.ack(&taken.delivery.receipt))
    }

    /// Gives a message back; false if it was not held any more.
    pub fn back(&mut self, consumer: &mut Consumer, taken: &Taken, delay: Duration) -> Result<bool, Failure> {
        self.settle("back", taken, || consumer.nack(&taken.delivery.receipt, delay))
    }

    fn settle(
        &mut self,
        op: &str,
        taken: &Taken,
        call: impl FnOnce() -> memora::Result<()>,
    ) -> Result<bool, Failure> {
        let mut line = self.line(op);
        (line.p, line.seq) = (Some(taken.p.clone()), Some(taken.seq));
        let mut line = self.recorder.ask(line)?;
        let answer = call();
        let t1 = monotonic_ns();
        line.ok = Some(answer.is_ok());
        line.err = answer.as_ref().err().map(|error| error.code().name().to_string());
        self.recorder.answer(line, t1)?;
        match answer {
            Ok(()) => Ok(true),
            Err(error) if error.code() == ErrorCode::NotHeld => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
