//! What damaged or hostile content of a log can do: errors and wrong messages, nothing else.

use std::time::Duration;

use super::layout::{BYTES_MIN, Cell};
use super::testing::{CONTROL, log_with};
use super::tests::small;
use crate::channel::inherit::inherit;
use crate::channel::testing::act_as;
use crate::channel::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

#[test]
fn any_content_of_a_log_gives_an_error_or_messages_and_never_a_panic() {
    let mut random = 0x9e3779b97f4a7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut errors = 0;
    for round in 0..400 {
        let overrun = if round % 2 == 0 { OverrunPolicy::Block } else { OverrunPolicy::Overrun };
        let age = (round % 3 == 0).then_some(Duration::from_millis(1));
        let (stage, channel) = log_with(overrun, Retention { bytes: BYTES_MIN, age });
        act_as(1);
        let mut reader = channel.named_reader("r", ReadFrom::Oldest).unwrap();
        let mut appender = channel.appender().unwrap();
        let fill = if round % 5 == 0 { 5000 } else { 40 };
        for number in 0..fill {
            let _ = appender.append(&vec![3; number % 50]);
        }
        let geometry = channel.area.log().unwrap().geometry;
        let all = stage.shm.span(CONTROL, stage.shm.len() - CONTROL).unwrap();
        let (part, log) = (geometry.part - CONTROL, geometry.log - CONTROL);
        for _ in 0..1 + next() % 60 {
            // Mostly the parts that are used, all of them sometimes.
            let at = match next() % 8 {
                0 => next() % 384,
                1 => 384 + next() % 256,
                2 => part + 64 + next() % 8,
                3 => part + 128 + next() % 512,
                4 | 5 => log + next() % 512,
                6 => log + geometry.block_at(0) + next() % 2048,
                _ => next() % all.len(),
            } & !7;
            let value = match next() % 6 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => Cell::new(next() % 4, next() % BYTES_MIN).0,
                3 => next() % 4096,
                4 => (1 << 48) - 1 - next() % 10,
                _ => next() % 64,
            };
            all.u64(at).unwrap().store(value, Relaxed);
        }
        for _ in 0..30 {
            errors += u32::from(appender.append(&[1; 500]).is_err());
            errors += u32::from(reader.poll(7, |_, _| {}).is_err());
        }
        let _ = reader.lag();
        errors += u32::from(reader.seek(ReadFrom::Oldest).is_err());
        let _ = check(&channel.area, &mut |_, _| errors += 1);
        errors += u32::from(inherit(&channel.area, 1).is_err());
        errors += u32::from(channel.stats().is_err());
        errors += u32::from(channel.appender().is_err());
        errors += u32::from(channel.named_reader("s", ReadFrom::Newest).is_err());
        errors += u32::from(channel.reader(ReadFrom::Oldest).map(|mut it| it.poll(9, |_, _| {})).is_err());
        let len = stage.shm.len() - CONTROL;
        errors += u32::from(Area::open(stage.shm.clone(), stage.clone(), CONTROL, len, "t").is_err());
    }
    assert!(errors > 400, "{errors}");
}

#[test]
fn a_log_whose_size_or_age_cannot_be_is_refused() {
    let (stage, channel) = small(OverrunPolicy::Block);
    let part = channel.area.log().unwrap().geometry.part;
    let len = stage.shm.len() - CONTROL;
    let open = |len| Area::open(stage.shm.clone(), stage.clone(), CONTROL, len, "t").map(|_| ());
    for (at, value) in [(0, 0), (0, BYTES_MIN * 2), (0, BYTES_MIN + 8), (0, u64::MAX), (8, 1 << 32)] {
        let word = stage.shm.block::<16>(part).unwrap().u64_at::<0>(at / 8);
        let before = word.swap(value, Relaxed);
        assert_eq!(open(len).unwrap_err().code(), ErrorCode::Corrupt, "{at} {value}");
        word.store(before, Relaxed);
    }
    open(len).unwrap();
    assert_eq!(
        open(super::layout::control_bytes(64, 112) + BYTES_MIN - 8).unwrap_err().code(),
        ErrorCode::Corrupt
    );
}

#[test]
fn a_check_names_what_is_wrong() {
    let damage = |at: fn(&Channel) -> (u64, u64), word: &str| {
        let (stage, channel) = small(OverrunPolicy::Overrun);
        let mut appender = channel.appender().unwrap();
        for _ in 0..20 {
            appender.append(b"message").unwrap();
        }
        let _reader = channel.named_reader("r", ReadFrom::Newest).unwrap();
        let (place, value) = at(&channel);
        stage.shm.block::<8>(place).unwrap().u64::<0>().store(value, Relaxed);
        let mut problems = Vec::new();
        check(&channel.area, &mut |what, place| problems.push(format!("{place}: {what}"))).unwrap();
        assert!(problems.iter().any(|problem| problem.contains(word)), "{word}: {problems:?}");
    };
    fn part(channel: &Channel) -> super::layout::Geometry {
        channel.area.log().unwrap().geometry
    }
    damage(|channel| (part(channel).part + 64, 30), "lies behind the end");
    damage(|channel| (part(channel).log + 8 * 7, Cell::new(1, 0).0), "names no record");
    damage(|channel| (part(channel).log + 8 * 7, Cell::new(5, part(channel).block_at(0)).0), "overwritten");
    damage(|channel| (part(channel).entry(0) + 8, 64), "ends in front of it");
    damage(|channel| (part(channel).entry(0) + 16, 3), "says that it is not there");
    damage(|channel| (part(channel).entry(0), 0xff), "Block 0");
    damage(|channel| (part(channel).entry(0), 0), "is free");
    damage(|channel| (channel.area.shape.sub(0) + 16, 21), "behind the end");
    damage(|channel| (part(channel).log + part(channel).block_at(0) + 8, 5), "names no record");
}
