//! Subscriptions that stand still while a publisher waits.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::lane::Place;
use super::testing::{act_as, channel_with};
use super::tests::assert_sound;
use super::*;
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const SMALL: ChannelOptions = ChannelOptions {
    kind: ChannelKind::Stream,
    overrun: OverrunPolicy::Block,
    lane_bytes: 4096,
    timestamps: false,
    eject_after: None,
    acknowledge: None,
    retention: None,
    files: None,
};

#[test]
fn who_stands_still_for_too_long_while_a_publisher_waits_is_ejected_and_who_moves_is_not() {
    for (kind, named) in
        [(ChannelKind::Stream, false), (ChannelKind::Broadcast, false), (ChannelKind::Broadcast, true)]
    {
        let eject_after = Some(Duration::from_millis(400));
        let options = ChannelOptions { kind, lane_bytes: 4096, eject_after, ..ChannelOptions::default() };
        let (stage, channel) = channel_with(&options, 1);
        assert_eq!(channel.options(), options);
        act_as(2);
        let mut still =
            if named { channel.subscribe("still").unwrap() } else { channel.subscriber().unwrap() };
        act_as(1);
        let mut publisher = channel.publisher().unwrap();
        while publisher.try_send(&[1; 64]).is_ok() {}
        // Whoever waits ejects, and so does whoever tries again and again. One that moves is waited for.
        let moving = (kind == ChannelKind::Broadcast).then(|| channel.subscriber().unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = moving.map(|mut moving| {
                let done = &done;
                scope.spawn(move || {
                    act_as(3);
                    let mut seen = 0;
                    while !done.load(Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                        seen += moving.poll(1, |_, _| {}).unwrap();
                    }
                    loop {
                        match moving.poll(1000, |_, _| {}).unwrap() {
                            0 => return seen,
                            more => seen += more,
                        }
                    }
                })
            });
            let mut sent = 0;
            if named {
                publisher.send(&[2; 64]).unwrap();
                sent = 1;
            }
            while channel.stats().unwrap().ejected == 0 {
                sent += usize::from(publisher.try_send(&[2; 64]).is_ok());
            }
            for _ in 0..100 {
                publisher.send(&[2; 64]).unwrap();
            }
            done.store(true, Relaxed);
            if let Some(reader) = reader {
                assert_eq!(reader.join().unwrap(), sent + 100, "it was never ejected");
            }
        });
        assert_eq!(channel.stats().unwrap().ejected, 1);
        act_as(2);
        assert_eq!(still.poll(10, |_, _| {}).unwrap_err().code(), ErrorCode::Ejected);
        drop(still);
        assert_sound(&channel);
        drop(stage);
    }
}

#[test]
fn a_time_for_ejecting_that_cannot_be_is_refused() {
    let refused = |options: ChannelOptions| check_options("c", &options).unwrap_err().code();
    let after = |time| ChannelOptions { eject_after: Some(time), ..ChannelOptions::default() };
    for time in [Duration::ZERO, Duration::from_micros(1500), Duration::from_secs(1 << 33)] {
        assert_eq!(refused(after(time)), ErrorCode::InvalidArgument);
    }
    let second = after(Duration::from_secs(1));
    check_options("c", &second).unwrap();
    assert_eq!(
        refused(ChannelOptions { overrun: OverrunPolicy::Overrun, ..second.clone() }),
        ErrorCode::InvalidArgument
    );
    assert_eq!(refused(ChannelOptions { kind: ChannelKind::Queue, ..second }), ErrorCode::InvalidArgument);
}

/// It was stopped just before it showed how far it had come.
#[test]
fn who_was_ejected_does_not_move_the_place_of_the_next_holder_of_its_entry() {
    let (_stage, channel) = channel_with(&ChannelOptions { kind: ChannelKind::Broadcast, ..SMALL }, 1);
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    act_as(2);
    let mut stopped = channel.subscriber().unwrap();
    let first = publisher.send(b"one").unwrap();
    let end = publisher.send(b"two").unwrap();
    assert_eq!(stopped.poll(1, |_, _| {}).unwrap(), 1);
    let index = stopped.id();
    assert!(channel.eject(index).unwrap());
    act_as(3);
    let mut next = channel.subscriber().unwrap();
    assert_eq!(next.id(), index);
    let area = &channel.area;
    area.move_place(area.place(index, 0).unwrap(), 0, Place { position: first, messages: 0 });
    assert_eq!(area.load_place(index, 0).unwrap().position, end);
    act_as(2);
    assert_eq!(stopped.commit().unwrap_err().code(), ErrorCode::Ejected);
    drop(stopped);
    act_as(3);
    publisher.send(b"three").unwrap();
    let mut heard = Vec::new();
    next.poll(9, |_, bytes| heard.push(bytes.to_vec())).unwrap();
    assert_eq!(heard, [b"three"]);
    assert_sound(&channel);
}
