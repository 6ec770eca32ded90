//! Clients that use a store in transactions: what they read and write stands in the history.
//!
//! `txn` has the steps in `ops`: `get` with the key and, in the answer, what was read; `put` with the key and the name of the value.
//! `ok` = committed. `get` and `set` are operations outside of transactions. What is stored is `name;predecessor`: the name of the
//! value that the writer had read there before, nothing if there was none, `?` if it had not looked. Names are unique, so that a
//! judge knows who wrote what is read, and in which order the values of a key came.

use std::collections::HashMap;
use std::path::Path;

use memora::{ErrorCode, Result, Store};

use crate::history::{Line, Out, Recorder, Step, monotonic_ns};
use crate::{Failure, is_refusal, printable};

/// A client of a store.
#[derive(Debug)]
pub struct TransactionClient {
    recorder: Recorder,
    writes: u64,
}

/// The name in a stored value.
pub fn name_of(stored: &str) -> &str {
    stored.split(';').next().unwrap_or_default()
}

impl TransactionClient {
    /// A client whose history is appended to `path`.
    pub fn open(path: &Path, who: &str) -> Result<TransactionClient, Failure> {
        Ok(TransactionClient { recorder: Recorder::open(path, who)?, writes: 0 })
    }

    fn next_name(&mut self) -> String {
        self.writes += 1;
        format!("{}.{}", self.recorder.client(), self.writes)
    }

    fn line(&self, op: &str) -> Line {
        Line::new(self.recorder.client(), op)
    }

    /// Reads `reads` and writes `writes` in one transaction; those that are in both are read before. Whether it committed.
    pub fn transact(&mut self, store: &Store, reads: &[String], writes: &[String]) -> Result<bool, Failure> {
        let name = self.next_name();
        let mut line = self.line("txn");
        let get = |key: &String| Step { op: "get".into(), k: key.clone(), v: None, out: None };
        let put = |key: &String| Step { op: "put".into(), k: key.clone(), v: Some(name.clone()), out: None };
        line.ops = Some(reads.iter().map(get).chain(writes.iter().map(put)).collect());
        let mut line = self.recorder.ask(line)?;
        let steps = line.ops.as_mut().expect("just filled");
        let answer = (|| {
            let (mut transaction, mut seen) = (store.transaction()?, HashMap::new());
            for step in steps {
                if step.op == "get" {
                    let value = transaction.get(step.k.as_bytes())?.map(|value| printable(&value));
                    let found = value.as_deref().map(name_of).unwrap_or_default().to_string();
                    seen.insert(step.k.clone(), found);
                    step.out = value.map(Out::Text);
                } else {
                    let before = seen.get(&step.k).map_or("?", String::as_str);
                    transaction.put(step.k.as_bytes(), format!("{name};{before}").as_bytes())?;
                }
            }
            transaction.commit()
        })();
        let t1 = monotonic_ns();
        line.ok = Some(answer.is_ok());
        self.answered(line, t1, answer)
    }

    fn answered(&mut self, mut line: Line, t1: u64, answer: Result<()>) -> Result<bool, Failure> {
        line.err = answer.as_ref().err().map(|error| error.code().name().to_string());
        self.recorder.answer(line, t1)?;
        match answer {
            Ok(()) => Ok(true),
            Err(error) if error.code() == ErrorCode::Conflict || is_refusal(error.code()) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads one key outside of transactions.
    pub fn get(&mut self, store: &Store, key: &str) -> Result<(), Failure> {
        let mut line = self.line("get");
        line.k = Some(key.to_string());
        let mut line = self.recorder.ask(line)?;
        let answer = store.get(key.as_bytes());
        let t1 = monotonic_ns();
        line.ok = Some(answer.is_ok());
        let answer = answer.map(|value| line.out = value.map(|value| Out::Text(printable(&value))));
        self.answered(line, t1, answer).map(drop)
    }

    /// Writes one key outside of transactions, without having looked.
    pub fn set(&mut self, store: &Store, key: &str) -> Result<bool, Failure> {
        let mut line = self.line("set");
        let name = self.next_name();
        (line.k, line.v) = (Some(key.to_string()), Some(name.clone()));
        let mut line = self.recorder.ask(line)?;
        let answer = store.set(key.as_bytes(), format!("{name};?").as_bytes()).map(drop);
        let t1 = monotonic_ns();
        line.ok = Some(answer.is_ok());
        self.answered(line, t1, answer)
    }
}
