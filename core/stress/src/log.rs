//! Clients of a log: what they append and read stands in the history.
//!
//! `append` names the message by `p`, `seq` and `sum`, and answers its position in `tok`. `open` is a reader, named by `s`, that begins at
//! position `tok`. `read` answers with `p`, `seq`, `sum` and `tok`; without `p` there was nothing, with `from` and `to` the log reported that
//! the positions from the first to the last were trimmed.

use memora::{Appender, Channel, ErrorCode, LogReader, ReadFrom, Result};

use crate::Failure;
use crate::history::monotonic_ns;
use crate::queue::{QueueClient, parse};
use crate::random::fnv1a;

/// What a client read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A message.
    Message,
    /// Nothing is there.
    Nothing,
    /// Messages were trimmed.
    Trimmed,
}

impl QueueClient {
    /// Appends the next message with `pad` bytes of filling; false if the log was full.
    pub fn append(&mut self, appender: &mut Appender, pad: usize) -> Result<bool, Failure> {
        let (payload, line) = self.next_message("append", pad);
        let mut line = self.recorder.ask(line)?;
        let answer = appender.append(payload.as_bytes());
        let t1 = monotonic_ns();
        line.ok = Some(answer.is_ok());
        line.tok = answer.as_ref().ok().copied();
        line.err = answer.as_ref().err().map(|error| error.code().name().to_string());
        self.recorder.answer(line, t1)?;
        match answer {
            Ok(_) => {
                self.went_on();
                Ok(true)
            }
            Err(error) if error.code() == ErrorCode::LogFull => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a reader, and records where it begins.
    pub fn open_reader(
        &mut self,
        channel: &Channel,
        name: Option<&str>,
        from: ReadFrom,
    ) -> Result<LogReader, Failure> {
        let mut line = self.line("open");
        line.s = name.map(str::to_string);
        let mut line = self.recorder.ask(line)?;
        let answer = match name {
            Some(name) => channel.named_reader(name, from),
            None => channel.reader(from),
        };
        let t1 = monotonic_ns();
        line.tok = answer.as_ref().ok().map(LogReader::position);
        line.err = answer.as_ref().err().map(|error| error.code().name().to_string());
        self.recorder.answer(line, t1)?;
        Ok(answer?)
    }

    /// Reads what is next.
    pub fn read(&mut self, reader: &mut LogReader, name: Option<&str>) -> Result<Read, Failure> {
        let mut line = self.line("read");
        line.s = name.map(str::to_string);
        let before = reader.position();
        let mut line = self.recorder.ask(line)?;
        let answer = reader.try_recv(&mut self.buffer);
        let t1 = monotonic_ns();
        let read = match answer {
            Ok(Some(message)) => {
                let (p, seq) = parse(&self.buffer).unwrap_or(("?".to_string(), 0));
                (line.p, line.seq) = (Some(p), Some(seq));
                line.sum = Some(format!("{:016x}", fnv1a(&self.buffer)));
                line.tok = Some(message.position);
                Read::Message
            }
            Ok(None) => {
                line.tok = Some(before);
                Read::Nothing
            }
            Err(error) if error.code() == ErrorCode::Overrun => {
                (line.from, line.to) = (Some(before), Some(before + error.amount() - 1));
                Read::Trimmed
            }
            Err(error) => {
                line.err = Some(error.code().name().to_string());
                self.recorder.answer(line, t1)?;
                return Err(error.into());
            }
        };
        self.recorder.answer(line, t1)?;
        Ok(read)
    }
}
