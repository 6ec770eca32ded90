//! What damaged or hostile content of a channel can do: errors and wrong messages, nothing else.

use super::inherit::inherit;
use super::layout::{FrameKind, FrameWord, LaneKind, lane};
use super::testing::{CONTROL_BYTES, act_as, channel};
use super::tests::block;
use super::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

#[test]
fn any_content_of_a_lane_or_control_area_gives_an_error_or_messages_and_never_a_panic() {
    use crate::shm::Span;
    let mut random = 0x9e3779b97f4a7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut errors = 0;
    for round in 0..600 {
        let overrun = if round % 2 == 0 { OverrunPolicy::Block } else { OverrunPolicy::Overrun };
        let (stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 2);
        act_as(1);
        let mut subscriber = channel.subscribe("s").unwrap();
        let mut publisher = channel.publisher().unwrap();
        for _ in 0..20 {
            publisher.send(&[3; 77]).unwrap();
        }
        let all: Span<'_> = stage.shm.span(256, stage.shm.len() - 256).unwrap();
        for _ in 0..1 + next() % 40 {
            // Mostly the parts that are used, all of them sometimes.
            let at = match next() % 4 {
                0 => next() % 384,
                1 => 384 + next() % 192,
                2 => 384 + 64 * 192 + next() % 128,
                _ => next() % all.len(),
            } & !7;
            let value = match next() % 4 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => FrameWord::new(next() % 5000, FrameKind::Padding, next() % 8192).0,
                _ => next() % 8192,
            };
            all.u64(at).unwrap().store(value, Relaxed);
        }
        for _ in 0..30 {
            errors += u32::from(publisher.try_send(&[1; 500]).is_err());
            errors += u32::from(subscriber.poll(7, |_, _| {}).is_err());
            let looked = subscriber.poll_in_place(2, |view| {
                let bytes = view.to_vec().unwrap();
                assert_eq!(view.u64_at(0).is_ok(), bytes.len() >= 8);
                Ok(())
            });
            errors += u32::from(looked.is_err());
        }
        let _ = check(&channel.area, &mut |_, _| errors += 1);
        errors += u32::from(inherit(&channel.area, 1).is_err());
        errors += u32::from(channel.stats().is_err());
        errors += u32::from(channel.subscribe("s").is_err());
        errors += u32::from(channel.publisher().is_err());
        let bytes = CONTROL_BYTES;
        errors += u32::from(Area::open(stage.shm.clone(), stage.clone(), 256, bytes, "t").is_err());
    }
    assert!(errors > 600, "{errors}");
}

#[test]
fn a_control_area_that_cannot_be_is_refused() {
    let (stage, channel) = block(ChannelKind::Stream);
    let bytes = CONTROL_BYTES;
    let header = channel.area.header();
    for (at, value) in [(0, 9u64), (8, 5000), (8, u64::MAX), (16, 3)] {
        let word = channel.area.shm.block::<32>(256).unwrap().u64_at::<0>(at / 8);
        let before = word.swap(value, Relaxed);
        let opened = Area::open(stage.shm.clone(), stage.clone(), 256, bytes, "t");
        assert_eq!(opened.err().unwrap().code(), ErrorCode::Corrupt);
        word.store(before, Relaxed);
    }
    assert!(Area::open(stage.shm.clone(), stage.clone(), u64::MAX - 7, bytes, "t").is_err());
    assert!(header.u32::<0>().load(Relaxed) == 1);
    for lane_bytes in [0, 100, 2048, 5000, 1 << 31] {
        let (_stage, other) = block(ChannelKind::Stream);
        let area = other.area.shm.span(256, bytes).unwrap();
        let error = create(area, &ChannelOptions { lane_bytes, ..ChannelOptions::default() }, 1).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

#[test]
fn marks_that_no_lane_can_reach_lead_a_lapped_reader_nowhere() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 1);
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    publisher.send(b"x").unwrap();
    assert_eq!(subscriber.poll(1, |_, _| {}).unwrap(), 1);
    let reference = channel.area.lane_ref(0).unwrap().unwrap();
    let entry = stage.shm.block::<192>(reference.entry).unwrap();
    let far = u64::MAX - 63;
    entry.u64::<{ lane::INTENT }>().store(u64::MAX, Relaxed);
    entry.u64::<{ lane::TAIL }>().store(u64::MAX, Relaxed);
    entry.u64_at::<{ lane::MARKS }>(0).store(far, Relaxed);
    let ring = stage.shm.span(reference.ring, 4096).unwrap();
    for at in [0, 8, 24, 40, 48, 56] {
        let word = FrameWord::new(16, FrameKind::Data, far + at);
        ring.u64((far + at) % 4096).unwrap().store(word.0, Relaxed);
    }
    for _ in 0..100 {
        // An error, or nothing: never a place that overflows.
        assert!(!matches!(subscriber.poll(7, |_, _| {}), Ok(1..)));
    }
}

#[test]
fn frames_without_end_end_a_call_after_a_quarter_of_the_ring() {
    // In a ring of 512 KiB or more the check in a frame's word is the same in each lap: these frames are good for ever.
    const RING: u64 = 512 << 10;
    let (stage, channel) = channel(ChannelKind::Stream, OverrunPolicy::Block, RING, 1);
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    publisher.send(b"x").unwrap();
    let ring = stage.shm.span(channel.area.lane_ref(0).unwrap().unwrap().ring, RING).unwrap();
    for at in (0..RING).step_by(64) {
        ring.u64(at).unwrap().store(FrameWord::new(64, FrameKind::Data, at).0, Relaxed);
    }
    for _ in 0..3 {
        assert_eq!(subscriber.poll(usize::MAX, |_, _| {}).unwrap() as u64, RING / 4 / 64);
    }
}

#[test]
fn a_damaged_lane_keeps_nothing_else_of_the_dead_from_being_taken_over() {
    let (stage, channel) = block(ChannelKind::Broadcast);
    act_as(2);
    let (first, second) = (channel.publisher().unwrap(), channel.publisher().unwrap());
    let named = channel.subscribe("n").unwrap();
    let id = named.id();
    let word = channel.area.lane_word(first.lane()).unwrap();
    stage.kill(2);
    let damaged = second.lane();
    std::mem::forget((first, second, named));
    act_as(1);
    let sound = word.swap(0xff, Relaxed);
    assert_eq!(inherit(&channel.area, 2).unwrap_err().code(), ErrorCode::Corrupt);
    assert!(channel.area.lane_state(damaged).unwrap().is(LaneKind::Closed));
    assert!(!channel.subscriptions().unwrap().iter().any(|sub| sub.id == id && sub.held));
    // Mended, it is taken over like the others.
    word.store(sound, Relaxed);
    inherit(&channel.area, 2).unwrap();
    assert!(channel.area.lane_state(0).unwrap().is(LaneKind::Closed));
}
