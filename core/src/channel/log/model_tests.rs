//! Random operations and deaths on a log, against a list of messages.

use proptest::prelude::*;

use super::layout::BYTES_MIN;
use super::testing::log_with;
use super::tests::{assert_sound, dies};
use crate::channel::inherit::inherit;
use crate::channel::testing::act_as;
use crate::channel::*;
use crate::error::ErrorCode;

/// What the model does next.
#[derive(Clone, Debug)]
enum Op {
    Append { appender: usize, len: usize, count: usize },
    Poll { reader: usize, limit: usize },
    Recv { reader: usize },
    Commit { reader: usize },
    Unread { reader: usize },
    Seek { reader: usize, part: u64 },
    Kill { reader: usize },
    KillAppender { appender: usize, reap: bool },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3usize, 0..2025usize, 0..120usize)
            .prop_map(|(appender, len, count)| Op::Append { appender, len, count }),
        5 => (0..3usize, 0..300usize).prop_map(|(reader, limit)| Op::Poll { reader, limit }),
        2 => (0..3usize).prop_map(|reader| Op::Recv { reader }),
        1 => (0..3usize).prop_map(|reader| Op::Commit { reader }),
        1 => (0..3usize).prop_map(|reader| Op::Unread { reader }),
        1 => (0..3usize, 0..100u64).prop_map(|(reader, part)| Op::Seek { reader, part }),
        1 => (0..2usize).prop_map(|reader| Op::Kill { reader }),
        1 => (0..3usize, any::<bool>()).prop_map(|(appender, reap)| Op::KillAppender { appender, reap }),
    ]
}

/// A reader and where it must stand. The first two have names.
struct Reading {
    thread: u16,
    reader: LogReader,
    name: Option<&'static str>,
    position: u64,
    shown: u64,
}

impl Reading {
    /// One message, as the list says, or the exact loss.
    fn take(&mut self, all: &[Vec<u8>], oldest: u64) {
        let mut buffer = Vec::new();
        match self.reader.try_recv(&mut buffer) {
            Ok(None) => assert_eq!(self.position, all.len() as u64),
            Ok(Some(message)) => {
                assert!(self.position >= oldest, "a trimmed message at {}", self.position);
                assert_eq!((message.position, &buffer), (self.position, &all[self.position as usize]));
                self.position += 1;
            }
            Err(error) => self.lost(&error, oldest),
        }
    }

    fn lost(&mut self, error: &crate::error::Error, oldest: u64) {
        assert_eq!((error.code(), error.amount()), (ErrorCode::Overrun, oldest - self.position));
        self.position = oldest;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("MEMORA_TORTURE").is_some() { 5000 } else { 150 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_operations_and_deaths_is_that_of_a_list(ops in prop::collection::vec(op(), 1..150), blocks in any::<bool>()) {
        let overrun = if blocks { OverrunPolicy::Block } else { OverrunPolicy::Overrun };
        let (stage, channel) = log_with(overrun, Retention { bytes: BYTES_MIN, age: None });
        let mut threads = 2u16;
        let mut fresh = || { threads += 1; act_as(threads); threads };
        let oldest = || channel.stats().unwrap().log.unwrap().oldest;
        let mut readers: Vec<Reading> = [Some("a"), Some("b"), None].into_iter().map(|name| {
            let thread = fresh();
            let reader = match name {
                Some(name) => channel.named_reader(name, ReadFrom::Oldest).unwrap(),
                None => channel.reader(ReadFrom::Oldest).unwrap(),
            };
            Reading { thread, reader, name, position: 0, shown: 0 }
        }).collect();
        let mut appenders: Vec<(u16, Appender)> = (0..3).map(|_| (fresh(), channel.appender().unwrap())).collect();
        let mut all: Vec<Vec<u8>> = Vec::new();
        for op in ops {
            match op {
                Op::Append { appender, len, count } => {
                    let (thread, appender) = &mut appenders[appender];
                    act_as(*thread);
                    for number in 0..count {
                        let bytes = vec![(number + all.len()) as u8; len];
                        match appender.append(&bytes) {
                            Ok(position) => {
                                prop_assert_eq!(position, all.len() as u64);
                                all.push(bytes);
                            }
                            Err(error) => {
                                prop_assert!(blocks);
                                let keeper = readers.iter().filter(|it| it.name.is_some()).map(|it| it.shown).min();
                                prop_assert_eq!((error.code(), Some(error.amount())), (ErrorCode::LogFull, keeper));
                                break;
                            }
                        }
                    }
                }
                Op::Poll { reader, limit } => {
                    let it = &mut readers[reader];
                    act_as(it.thread);
                    let (oldest, mut at) = (oldest(), it.position);
                    it.shown = at;
                    let polled = it.reader.poll(limit, |message, bytes| {
                        assert_eq!((message.position, bytes), (at, all[at as usize].as_slice()));
                        at += 1;
                    });
                    match polled {
                        Ok(taken) => {
                            prop_assert!(at >= oldest || limit == 0);
                            prop_assert_eq!(taken, (all.len() - it.position as usize).min(limit));
                            it.position = at;
                        }
                        Err(error) => it.lost(&error, oldest),
                    }
                }
                Op::Recv { reader } => {
                    let it = &mut readers[reader];
                    act_as(it.thread);
                    it.shown = it.position;
                    it.take(&all, oldest());
                }
                Op::Commit { reader } => {
                    let it = &mut readers[reader];
                    act_as(it.thread);
                    it.reader.commit().unwrap();
                    it.shown = it.position;
                }
                Op::Unread { reader } => {
                    let it = &mut readers[reader];
                    act_as(it.thread);
                    it.reader.unread().unwrap();
                    it.position = it.shown;
                }
                Op::Seek { reader, part } => {
                    let it = &mut readers[reader];
                    act_as(it.thread);
                    let oldest = oldest();
                    let to = oldest + (all.len() as u64 - oldest) * part / 99;
                    it.reader.seek(ReadFrom::Position(to)).unwrap();
                    (it.position, it.shown) = (to, to);
                }
                Op::Kill { reader } => {
                    let Reading { thread, reader: dead, name, shown, .. } = readers.remove(reader);
                    dies(&stage, thread, dead);
                    let thread = fresh();
                    let again = channel.named_reader(name.unwrap(), ReadFrom::Newest).unwrap();
                    prop_assert_eq!(again.position(), shown);
                    readers.insert(reader, Reading { thread, reader: again, name, position: shown, shown });
                }
                Op::KillAppender { appender, reap } => {
                    let (thread, dead) = appenders.remove(appender);
                    dies(&stage, thread, dead);
                    if reap { inherit(&channel.area, thread).unwrap() }
                    let thread = fresh();
                    appenders.insert(appender, (thread, channel.appender().unwrap()));
                }
            }
            for it in &readers {
                prop_assert_eq!(it.reader.position(), it.position);
                prop_assert!(!blocks || it.name.is_none() || oldest() <= it.shown);
            }
            let stats = channel.stats().unwrap().log.unwrap();
            prop_assert_eq!(stats.end, all.len() as u64);
            prop_assert!(stats.bytes <= stats.bytes_max);
        }
        drop((appenders, readers));
        for thread in 2..=threads { inherit(&channel.area, thread).unwrap() }
        assert_sound(&channel);
    }
}
