//! Every interleaving of publishing, trimming, reading and joining, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;

use super::index::Part;
use super::layout::{Geometry, Newest, record};
use super::parcel::RECORD;
use crate::channel::area::Area;
use crate::channel::layout::Shape;
use crate::channel::testing::{Stage, act_as};
use crate::channel::{Appender, Channel, LogReader, OverrunPolicy, ReadFrom};
use crate::error::ErrorCode;
use crate::shm::Shm;
use crate::shm::atomic::{Ordering, spin_hint};

/// Four cells, and four blocks of 56 bytes: a message of 8 bytes each.
const BYTES: u64 = 256;
const BLOCKS: u32 = 4;

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.check(check);
}

fn log(overrun: OverrunPolicy) -> Channel {
    crate::shm::fork::begin();
    let shape = Shape { offset: 0, lane_bytes: 4096, lanes: 0, subs: 1 };
    let geometry = Geometry::new(&shape, BYTES, BLOCKS);
    assert_eq!((geometry.cells(), geometry.block_bytes()), (4, 56));
    let len = geometry.log + BYTES;
    let shm = Arc::new(Shm::heap(len).unwrap());
    let span = shm.span(0, len).unwrap();
    for word in 0..len / 8 {
        span.u64(word * 8).unwrap().store(0, Ordering::Relaxed);
    }
    for at in [24u64, 64, 68, 128, 192] {
        span.u32(at).unwrap().store(0, Ordering::Relaxed);
    }
    let part = Part::with_geometry(&shm, geometry, 0).unwrap();
    let stage = Stage::new(shm.clone(), 0);
    Channel::from_area(Area::with_log(shm, stage, shape, part, overrun, "model").unwrap())
}

fn put(appender: &mut Appender, number: u64) -> u64 {
    appender.append(&number.to_le_bytes()).unwrap()
}

/// One message, or nothing, or a loss; what is accepted is whole and of its position.
fn look(reader: &mut LogReader, buffer: &mut Vec<u8>) -> Option<(u64, u64)> {
    let before = reader.position();
    match reader.try_recv(buffer) {
        Ok(Some(message)) => {
            assert_eq!(message.position, before);
            Some((before, u64::from_le_bytes(buffer.as_slice().try_into().unwrap())))
        }
        Ok(None) => None,
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::Overrun, "{error}");
            assert_eq!(reader.position(), before + error.amount());
            assert!(error.amount() > 0);
            None
        }
    }
}

/// A publisher that goes round through cells and blocks while a reader copies.
#[test]
fn a_reader_never_accepts_what_was_trimmed_while_it_copied() {
    const BEFORE: u64 = 4;
    const SENT: u64 = 6;
    model(2, || {
        act_as(1);
        let channel = log(OverrunPolicy::Overrun);
        let mut appender = channel.appender().unwrap();
        for number in 0..BEFORE {
            put(&mut appender, 100 + number);
        }
        let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
        let publisher = loom::thread::spawn(move || {
            act_as(1);
            for number in BEFORE..SENT {
                assert_eq!(put(&mut appender, 100 + number), number);
            }
        });
        let mut buffer = Vec::new();
        for _ in 0..2 {
            if let Some((position, number)) = look(&mut reader, &mut buffer) {
                assert_eq!(number, 100 + position);
            }
        }
        publisher.join().unwrap();
        for _ in 0..SENT {
            if let Some((position, number)) = look(&mut reader, &mut buffer) {
                assert_eq!(number, 100 + position);
            }
        }
        assert_eq!(reader.position(), SENT);
    });
}

/// Two publishers: each message has one position, positions have no holes, and a reader sees them in their order.
#[test]
fn two_publishers_share_one_order_without_holes() {
    model(2, || {
        let channel = log(OverrunPolicy::Overrun);
        let appenders: Vec<_> = [1u16, 2]
            .into_iter()
            .map(|thread| {
                act_as(thread);
                channel.appender().unwrap()
            })
            .collect();
        let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
        let threads: Vec<_> = appenders
            .into_iter()
            .zip([1u64, 2])
            .map(|(mut appender, who)| {
                loom::thread::spawn(move || {
                    act_as(who as u16);
                    let position = put(&mut appender, who);
                    // Its block is let go on this thread.
                    drop(appender);
                    position
                })
            })
            .collect();
        let mut seen = Vec::new();
        let mut buffer = Vec::new();
        seen.extend(look(&mut reader, &mut buffer));
        let positions: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for _ in 0..3 {
            seen.extend(look(&mut reader, &mut buffer));
        }
        let mut expected = vec![(positions[0], 1), (positions[1], 2)];
        expected.sort_unstable();
        assert_eq!(seen, expected);
        assert_eq!((seen[0].0, seen[1].0), (0, 1));
    });
}

/// What a reader sees of a message while it is published. The reader is not the thread that made the log: a model takes what a thread has
/// stored or seen before it yields for known to it, and would not show it the zeros again.
#[test]
fn a_message_is_seen_whole_or_not_at_all() {
    model(3, || {
        act_as(1);
        let channel = log(OverrunPolicy::Overrun);
        let mut appender = channel.appender().unwrap();
        let reader = loom::thread::spawn(move || {
            let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
            let mut buffer = Vec::new();
            while reader.position() < 2 {
                match look(&mut reader, &mut buffer) {
                    Some((position, number)) => assert_eq!(number, 7 + position),
                    None => spin_hint(),
                }
            }
        });
        put(&mut appender, 7);
        put(&mut appender, 8);
        reader.join().unwrap();
    });
}

/// A named reader comes while a publisher trims: what it was given is kept for it.
#[test]
fn what_a_reader_was_given_when_it_came_is_kept_for_it() {
    model(2, || {
        act_as(1);
        let channel = log(OverrunPolicy::Block);
        let mut appender = channel.appender().unwrap();
        for number in 0..4 {
            put(&mut appender, number);
        }
        let publisher = loom::thread::spawn(move || {
            act_as(1);
            // Each needs a block that is in use, or is told that a reader needs it.
            for number in 4..6u64 {
                if let Err(error) = appender.append(&number.to_le_bytes()) {
                    assert_eq!(error.code(), ErrorCode::LogFull, "{error}");
                }
            }
        });
        act_as(2);
        let mut reader = channel.named_reader("n", ReadFrom::Oldest).unwrap();
        let given = reader.position();
        publisher.join().unwrap();
        let mut buffer = Vec::new();
        for position in given..given + 2 {
            let message = reader.try_recv(&mut buffer).unwrap().expect("kept");
            assert_eq!((message.position, buffer.as_slice()), (position, position.to_le_bytes().as_slice()));
        }
    });
}

/// A log whose first block names a long message at position 0, which its publisher has still to mark; its block, and what it is named by.
fn with_long_message() -> (Channel, u32, Newest) {
    act_as(1);
    let channel = log(OverrunPolicy::Overrun);
    let area = &channel.area;
    let taken = area.take_block(1, RECORD, true).unwrap();
    let at = area.log().unwrap().geometry.block_at(taken.index);
    area.name_parcel_of_log(taken.index, taken.state, at, [7, 8]).unwrap();
    area.log().unwrap().ring().word(at + record::POSITION).store(0, Ordering::Relaxed);
    (channel, taken.index, Newest::new(at, taken.state.generation()))
}

/// A block is begun anew while somebody follows the long messages that it names.
#[test]
fn what_is_written_over_the_name_of_a_long_message_is_never_believed() {
    model(3, || {
        let (channel, index, newest) = with_long_message();
        channel.area.mark_kept(index, newest, 0).unwrap();
        let area = channel.area.clone();
        let follower = loom::thread::spawn(move || {
            act_as(2);
            let found = area.parcels_of_block(index, 0).unwrap().unwrap_or_default();
            assert!(found.iter().all(|parcel| (parcel.position, parcel.words) == (0, [7, 8])), "{found:?}");
        });
        channel.area.empty_block_of_parcels(index).unwrap();
        channel.area.may_overwrite();
        // What somebody sends, who would like it to be taken for a name.
        let area = &channel.area;
        for (field, value) in [
            (record::LEN, record::IS_PARCEL | record::NAMES),
            (record::POSITION, 0),
            (record::FIRST, 9),
            (record::WHOLE, 10),
            (record::BEFORE, 0),
        ] {
            area.log().unwrap().ring().word(newest.at() + field).store(value, Ordering::Relaxed);
        }
        follower.join().unwrap();
    });
}

/// A long message is trimmed before its publisher came to mark it: one of the two gives its chunks back.
#[test]
fn a_long_message_that_is_trimmed_while_it_is_marked_is_given_back_by_somebody() {
    model(3, || {
        let (channel, index, newest) = with_long_message();
        let area = channel.area.clone();
        let trimmer = loom::thread::spawn(move || {
            act_as(2);
            let log = area.log().unwrap();
            let seen = log.oldest();
            area.move_oldest(seen, 1).unwrap();
            assert_eq!(log.oldest().position(), 1);
            let (trimmed, _) = area.trimmed_parcels(0, 1).unwrap();
            !trimmed.is_empty()
        });
        let publisher = channel.area.mark_kept(index, newest, 0).unwrap();
        assert!(trimmer.join().unwrap() || publisher);
    });
}
