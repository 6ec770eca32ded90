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
fn waits_that_are_over_before_they_come_to_sleep_eject_all_the_same() {
    let eject_after = Some(Duration::from_millis(5));
    let (_stage, channel) = channel_with(&ChannelOptions { eject_after, ..SMALL }, 1);
    act_as(2);
    let mut still = channel.subscriber().unwrap();
    act_as(1);
    let mut publisher = channel.publisher().unwrap();
    while publisher.try_send(&[1; 64]).is_ok() {}
    let start = std::time::Instant::now();
    let patience = Duration::from_secs(60);
    while channel.stats().unwrap().ejected == 0 && start.elapsed() < patience {
        let _ = publisher.send_timeout(&[2; 64], Duration::ZERO);
    }
    act_as(2);
    assert_eq!(still.poll(10, |_, _| {}).unwrap_err().code(), ErrorCode::Ejected);
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

/// It was stopped just before it showed how far it had come, or that it had lost something.
#[test]
fn who_was_ejected_does_not_move_the_place_of_the_next_holder_of_its_entry() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let options = ChannelOptions { kind: ChannelKind::Broadcast, overrun, ..SMALL };
        let (_stage, channel) = channel_with(&options, 1);
        act_as(1);
        let mut publisher = channel.publisher().unwrap();
        act_as(2);
        let mut stopped = channel.subscriber().unwrap();
        publisher.send(b"one").unwrap();
        publisher.send(b"two").unwrap();
        assert_eq!(stopped.poll(1, |_, _| {}).unwrap(), 1);
        let (mut stood, shown, to) = stopped.late_place();
        assert_ne!(shown, to);
        let index = stopped.id();
        assert!(channel.eject(index).unwrap());
        act_as(3);
        let mut next = channel.subscriber().unwrap();
        assert_eq!(next.id(), index);
        let area = &channel.area;
        let stand = area.place(index, 0).unwrap();
        let end = area.load_place(index, 0).unwrap();
        assert!(end.position > to.position);
        assert!(!area.move_place(stand, &mut { stood }, shown, to));
        assert_eq!(area.load_place(index, 0).unwrap(), end);
        if overrun == OverrunPolicy::Overrun {
            assert!(!area.jump_place(stand, &mut stood, shown, Place { position: 1 << 40, messages: 9 }));
            assert_eq!(area.load_place(index, 0).unwrap(), end);
        }
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
}

/// It stood in one lane where the next holder of its entry joined, and looked at that lane after it had taken from another.
#[test]
fn who_was_ejected_and_then_lapped_does_not_tell_a_loss_where_the_next_holder_stands() {
    let options = ChannelOptions { kind: ChannelKind::Broadcast, overrun: OverrunPolicy::Overrun, ..SMALL };
    let (_stage, channel) = channel_with(&options, 2);
    act_as(1);
    let (mut first, mut second) = (channel.publisher().unwrap(), channel.publisher().unwrap());
    assert_eq!((first.lane(), second.lane()), (0, 1));
    act_as(2);
    let mut stopped = channel.subscriber().unwrap();
    first.send(b"one").unwrap();
    assert_eq!(stopped.poll(9, |_, _| {}).unwrap(), 1);
    stopped.commit().unwrap();
    second.send(b"two").unwrap();
    let index = stopped.id();
    let before = channel.area.load_place(index, 0).unwrap();
    let mut next = None;
    // In the handler it is in the midst of a call, which has looked at its state before.
    let ended = stopped.poll(9, |message, _| {
        assert_eq!(message.lane, 1);
        assert!(channel.eject(index).unwrap());
        act_as(3);
        next = Some(channel.subscriber().unwrap());
        for _ in 0..100 {
            first.send(&[7; 100]).unwrap();
        }
        act_as(2);
    });
    assert_eq!(ended.unwrap(), 1);
    assert_eq!(channel.area.load_place(index, 0).unwrap(), before, "the next holder joined here, and stays");
    assert_eq!(stopped.try_recv(&mut Vec::new()).unwrap_err().code(), ErrorCode::Ejected);
    drop(stopped);
    act_as(3);
    let mut next = next.unwrap();
    assert_eq!(next.id(), index);
    let lost = next.poll(1000, |_, _| {}).unwrap_err();
    assert_eq!(lost.code(), ErrorCode::Overrun);
    let rest = next.poll(1000, |_, _| {}).unwrap();
    assert_eq!(lost.amount() + rest as u64, 100);
}
