//! Clients of a queue: what they take, acknowledge and give back stands in the history.
//!
//! A message that was taken stands in a line `take` with `p`, `seq` and `sum` from its payload and with `tok`: 1 if the queue says that
//! nobody had it before, 2 if it says that somebody may have had it. `ack` and `back` name the message by `p` and `seq`.

use std::time::Duration;

use memora::{Consumer, Delivery, ErrorCode};

use crate::Failure;
use crate::history::monotonic_ns;
use crate::queue::{QueueClient, parse};
use crate::random::fnv1a;

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
