//! The worker on the channel `stress`, and the client that records what it sends to and receives from any channel.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use memora::{
    Channel, ChannelKind, ChannelOptions, ErrorCode, Fabric, OverrunPolicy, Publisher, Result, Subscriber,
};

use crate::history::{Line, Recorder, monotonic_ns};
use crate::random::{Random, fnv1a};
use crate::{CHANNEL, Failure, LANE_BYTES, Options, is_refusal, printable};

/// What a worker does on the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Sends and receives in turn, as the seed says.
    #[default]
    Both,
    /// Only sends.
    Produce,
    /// Only receives.
    Consume,
}

/// What only the worker on the channel needs to know.
#[derive(Clone, Debug, Default)]
pub struct QueueOptions {
    /// What it does.
    pub role: Role,
    /// A named subscription, which keeps its place while nobody holds it; anonymous otherwise.
    pub subscription: Option<String>,
}

/// Runs the worker until its bound.
pub fn queue(options: &Options, queue: &QueueOptions) -> Result<(), Failure> {
    let mut client = QueueClient::open(&options.history, &options.seed, CHANNEL)?;
    let mut random = Random::new(&options.seed);
    let channel = Fabric::open(&options.fabric)?.channel(
        CHANNEL,
        &ChannelOptions {
            kind: ChannelKind::Broadcast,
            overrun: OverrunPolicy::Block,
            lane_bytes: LANE_BYTES,
            ..ChannelOptions::default()
        },
    )?;
    let mut subscriber = match queue.role {
        Role::Produce => None,
        Role::Both | Role::Consume => Some(client.subscribe(&channel, queue.subscription.as_deref())?),
    };
    let mut publisher = match queue.role {
        Role::Consume => None,
        Role::Both | Role::Produce => Some(channel.publisher()?),
    };
    let start = Instant::now();
    let mut done = 0;
    let mut refused = false;
    while options.goes_on(done, start) {
        done += 1;
        match (&mut publisher, &mut subscriber) {
            (Some(publisher), None) => {
                if refused {
                    std::thread::sleep(Duration::from_millis(1));
                }
                refused = !client.send(publisher, pad(&mut random))?;
            }
            (Some(publisher), Some(_)) if !refused && random.draw(2) == 0 => {
                refused = !client.send(publisher, pad(&mut random))?;
            }
            (Some(_), Some(subscriber)) => {
                let found = client.recv(subscriber, None)?;
                if refused && !found {
                    std::thread::sleep(Duration::from_millis(1));
                }
                refused = false;
            }
            (None, Some(subscriber)) => {
                client.recv(subscriber, Some(Duration::from_millis(50)))?;
            }
            (None, None) => unreachable!("every role has a publisher or a subscriber"),
        }
    }
    Ok(())
}

/// Length of the filling of a message.
fn pad(random: &mut Random) -> usize {
    let len = if random.draw(20) == 0 { random.draw(4000) } else { random.draw(100) };
    len as usize
}

/// A client that records each question and answer; at most one publisher and one subscriber.
#[derive(Debug)]
pub struct QueueClient {
    pub(crate) recorder: Recorder,
    channel: String,
    /// The number of the next message.
    seq: u64,
    pub(crate) buffer: Vec<u8>,
    /// The number that comes next from each producer that was heard.
    next: HashMap<String, u64>,
    /// How many lost messages the library reported, and how many of them are recorded as gaps.
    reported: u64,
    recorded: u64,
}

impl QueueClient {
    /// A client on the channel of that name, which appends to the history in `path`.
    pub fn open(path: &Path, name: &str, channel: &str) -> std::io::Result<QueueClient> {
        Ok(QueueClient {
            recorder: Recorder::open(path, name)?,
            channel: channel.to_string(),
            seq: 1,
            buffer: Vec::new(),
            next: HashMap::new(),
            reported: 0,
            recorded: 0,
        })
    }

    pub(crate) fn line(&self, op: &str) -> Line {
        let mut line = Line::new(self.recorder.client(), op);
        line.q = Some(self.channel.clone());
        line
    }

    /// How many lost messages the library reported.
    pub fn reported(&self) -> u64 {
        self.reported
    }

    /// Subscribes, and records when the subscription was ready.
    pub fn subscribe(&mut self, channel: &Channel, name: Option<&str>) -> Result<Subscriber, Failure> {
        let mut line = self.line("sub");
        line.s = name.map(str::to_string);
        let mut line = self.recorder.ask(line)?;
        let answer = match name {
            Some(name) => channel.subscribe(name),
            None => channel.subscriber(),
        };
        let t1 = monotonic_ns();
        if let Err(error) = &answer {
            line.err = Some(error.code().name().to_string());
        }
        self.recorder.answer(line, t1)?;
        Ok(answer?)
    }

    /// Sends the next message with `pad` bytes of filling; false if it was refused.
    pub fn send(&mut self, publisher: &mut Publisher, pad: usize) -> Result<bool, Failure> {
        self.send_by(pad, |payload| publisher.try_send(payload))
    }

    /// The next message with `pad` bytes of filling, and the question that names it.
    pub(crate) fn next_message(&self, op: &str, pad: usize) -> (String, Line) {
        let payload = format!("{} {} {}", self.recorder.client(), self.seq, "x".repeat(pad));
        let mut line = self.line(op);
        line.p = Some(self.recorder.client().to_string());
        line.seq = Some(self.seq);
        line.sum = Some(format!("{:016x}", fnv1a(payload.as_bytes())));
        (payload, line)
    }

    /// The next message was accepted.
    pub(crate) fn went_on(&mut self) {
        self.seq += 1;
    }

    /// Sends the next message by any call that publishes the payload.
    pub fn send_by(&mut self, pad: usize, call: impl FnOnce(&[u8]) -> Result<u64>) -> Result<bool, Failure> {
        let (payload, line) = self.next_message("send", pad);
        let mut line = self.recorder.ask(line)?;
        let answer = call(payload.as_bytes());
        let t1 = monotonic_ns();
        line.ok = Some(answer.is_ok());
        line.err = answer.as_ref().err().map(|error| error.code().name().to_string());
        self.recorder.answer(line, t1)?;
        match answer {
            Ok(_) => {
                self.went_on();
                Ok(true)
            }
            Err(error) if is_refusal(error.code()) || error.code() == ErrorCode::TimedOut => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives a message; false if there was none.
    pub fn recv(&mut self, subscriber: &mut Subscriber, wait: Option<Duration>) -> Result<bool, Failure> {
        let mut line = self.recorder.ask(self.line("recv"))?;
        let answer = match wait {
            None => subscriber.try_recv(&mut self.buffer),
            Some(_) => subscriber.recv(&mut self.buffer, wait),
        };
        let t1 = monotonic_ns();
        match answer {
            Ok(Some(message)) => {
                let payload = &self.buffer[..message.len.min(self.buffer.len())];
                let (p, seq) = parse(payload).unwrap_or(("?".to_string(), 0));
                line.sum = Some(format!("{:016x}", fnv1a(payload)));
                line.seq = Some(seq);
                line.p = Some(p.clone());
                self.recorder.answer(line, t1)?;
                self.record_gap(&p, seq)?;
                self.next.insert(p, seq + 1);
                Ok(true)
            }
            Ok(None) => {
                self.recorder.answer(line, t1)?;
                Ok(false)
            }
            Err(error) => {
                if error.code() != ErrorCode::TimedOut {
                    line.ok = Some(false);
                    line.err = Some(error.code().name().to_string());
                }
                self.recorder.answer(line, t1)?;
                match error.code() {
                    ErrorCode::TimedOut => Ok(false),
                    ErrorCode::Overrun => {
                        self.reported += error.amount();
                        Ok(false)
                    }
                    code if is_refusal(code) => Ok(false),
                    _ => Err(error.into()),
                }
            }
        }
    }

    /// Records what was lost before message `seq`, if the library reported so many losses.
    fn record_gap(&mut self, p: &str, seq: u64) -> Result<(), Failure> {
        let first = self.next.get(p).copied();
        let next = first.unwrap_or(1);
        // From a producer that was not heard before, some may have been sent before the subscription: they are not counted as lost.
        let lost = seq.saturating_sub(next).min(if first.is_some() {
            u64::MAX
        } else {
            self.reported - self.recorded
        });
        if lost == 0 || self.recorded + lost > self.reported {
            return Ok(());
        }
        self.recorded += lost;
        let mut line = self.line("gap");
        line.p = Some(p.to_string());
        (line.from, line.to) = (Some(next), Some(seq - 1));
        let now = monotonic_ns();
        line.t0 = now;
        self.recorder.answer(line, now)?;
        Ok(())
    }
}

/// Producer and number from the head of a payload.
pub(crate) fn parse(payload: &[u8]) -> Option<(String, u64)> {
    let text = printable(payload);
    let mut parts = text.splitn(3, ' ');
    let (p, seq) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some((p.to_string(), seq.parse().ok()?))
}
