//! Waiting for several channels: by a call, by a descriptor, as a task.

use std::future::poll_fn;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use futures_core::Stream;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::testing::{Stage, act_as, channel, channel_with};
use super::tests::block;
use super::*;
use crate::error::ErrorCode;

const LONG: Option<Duration> = Some(Duration::from_secs(60));
const NO_TIME: Option<Duration> = Some(Duration::ZERO);

/// Three channels: a stream, a broadcast that overruns, a queue with acknowledgement.
fn three() -> [(Arc<Stage>, Channel); 3] {
    let queue = ChannelOptions {
        kind: ChannelKind::Queue,
        lane_bytes: 4096,
        acknowledge: Some(Acknowledge::default()),
        ..ChannelOptions::default()
    };
    [
        block(ChannelKind::Stream),
        channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 8),
        channel_with(&queue, 12),
    ]
}

fn is_readable(descriptor: impl AsFd, timeout_ms: u16) -> bool {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::from(timeout_ms)).unwrap() == 1
}

#[test]
fn who_waits_for_several_channels_learns_which_has_something() {
    let channels = three();
    let [(_, stream), (_, broadcast), (_, queue)] = &channels;
    act_as(1);
    let (mut first, mut second) = (stream.subscriber().unwrap(), broadcast.subscriber().unwrap());
    let mut third = queue.consumer().unwrap();
    let mut buffer = Vec::new();
    for round in 0..30u64 {
        // Sometimes it is there before the wait, sometimes it comes while the other sleeps.
        let early = round % 2 == 0;
        let which = (round % 3) as usize;
        let channel = &channels[which].1;
        std::thread::scope(|scope| {
            let send = move || {
                act_as(2);
                channel.publisher().unwrap().send(&round.to_le_bytes()).unwrap();
            };
            if early {
                scope.spawn(send).join().unwrap();
            } else {
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(round));
                    send();
                });
            }
            let ready = wait_any(&mut [&mut first, &mut second, &mut third], LONG).unwrap();
            assert_eq!(ready, Some(which), "{round}");
        });
        match which {
            0 => assert!(first.try_recv(&mut buffer).unwrap().is_some()),
            1 => assert!(second.try_recv(&mut buffer).unwrap().is_some()),
            _ => {
                let delivery = third.try_recv(&mut buffer).unwrap().unwrap();
                third.ack(&delivery.receipt).unwrap();
            }
        }
        assert_eq!(buffer, round.to_le_bytes());
    }
    assert_eq!(wait_any(&mut [&mut first, &mut second], NO_TIME).unwrap(), None);
    // Longer than a consumer sleeps before it looks after what others hold: nobody holds anything.
    let quarter = Some(Duration::from_millis(250));
    assert_eq!(wait_any(&mut [&mut first, &mut second, &mut third], quarter).unwrap(), None);
}

#[test]
fn what_is_given_back_or_left_by_the_dead_wakes_who_waits_for_several_channels() {
    let [(_stream_stage, stream), _, (stage, queue)] = three();
    act_as(1);
    let mut first = stream.subscriber().unwrap();
    let mut third = queue.consumer().unwrap();
    let mut buffer = Vec::new();
    for dies in [false, true] {
        queue.publisher().unwrap().send(b"once more").unwrap();
        std::thread::scope(|scope| {
            let (stage, queue) = (&stage, &queue);
            let (taken, told) = std::sync::mpsc::channel();
            scope.spawn(move || {
                act_as(2);
                let mut other = queue.consumer().unwrap();
                let delivery = other.try_recv(&mut Vec::new()).unwrap().unwrap();
                taken.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                if dies {
                    stage.kill(2);
                    std::mem::forget(other);
                } else {
                    other.nack(&delivery.receipt, Duration::ZERO).unwrap();
                }
            });
            told.recv().unwrap();
            assert_eq!(wait_any(&mut [&mut first, &mut third], LONG).unwrap(), Some(1));
        });
        let delivery = third.try_recv(&mut buffer).unwrap().unwrap();
        assert!(delivery.redelivered && buffer == b"once more", "{dies}");
        third.ack(&delivery.receipt).unwrap();
    }
}

#[test]
fn losses_ends_and_padding_are_seen_as_what_they_are() {
    let (_stage, overrun) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 8);
    act_as(1);
    let mut subscriber = overrun.subscriber().unwrap();
    let mut publisher = overrun.publisher().unwrap();
    for _ in 0..100 {
        publisher.send(&[7; 100]).unwrap();
    }
    assert_eq!(wait_any(&mut [&mut subscriber], NO_TIME).unwrap(), Some(0));
    assert_eq!(subscriber.poll(1000, |_, _| {}).unwrap_err().code(), ErrorCode::Overrun);
    while subscriber.poll(1000, |_, _| {}).unwrap() > 0 {}
    assert_eq!(wait_any(&mut [&mut subscriber], NO_TIME).unwrap(), None);
    overrun.eject(subscriber.id()).unwrap();
    assert_eq!(wait_any(&mut [&mut subscriber], LONG).unwrap_err().code(), ErrorCode::Ejected);

    // A claim that was given up behind padding has left the padding alone.
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let (_stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 8);
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        let mut sent = 0;
        while sent + 2 * 120 < 4096 {
            sent = publisher.send(&[1; 100]).unwrap();
            while subscriber.poll(10, |_, _| {}).unwrap() > 0 {}
        }
        publisher.claim(400).unwrap().abort();
        assert_eq!(wait_any(&mut [&mut subscriber], NO_TIME).unwrap(), None, "{overrun:?} at {sent}");
        publisher.send(b"behind it").unwrap();
        assert_eq!(wait_any(&mut [&mut subscriber], NO_TIME).unwrap(), Some(0), "{overrun:?}");
        assert_eq!(subscriber.poll(10, |_, bytes| assert_eq!(bytes, b"behind it")).unwrap(), 1);
    }
}

#[test]
fn too_many_sources_and_none_are_refused() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    act_as(1);
    assert_eq!(wait_any(&mut [], NO_TIME).unwrap_err().code(), ErrorCode::InvalidArgument);
    let mut all: Vec<_> = (0..channel.area.shape.subs).map(|_| channel.subscriber().unwrap()).collect();
    let channels: Vec<_> = (0..5).map(|_| block(ChannelKind::Broadcast)).collect();
    for (_, channel) in &channels {
        all.extend((0..channel.area.shape.subs).map(|_| channel.subscriber().unwrap()));
    }
    let mut sources: Vec<_> = all.iter_mut().map(|one| one as &mut dyn Waitable).collect();
    assert!(sources.len() > 127);
    assert_eq!(wait_any(&mut sources, NO_TIME).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(wait_any(&mut sources[..127], NO_TIME).unwrap(), None);
    let mut set = WaitSet::new();
    assert_eq!(set.wait(NO_TIME).unwrap_err().code(), ErrorCode::InvalidArgument);
    for (place, source) in sources[..127].iter_mut().enumerate() {
        assert_eq!(set.watch(*source).unwrap(), place);
    }
    assert_eq!(set.watch(sources[127]).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(set.wait(NO_TIME).unwrap(), None);
    channel.publisher().unwrap().send(b"for all of the first channel").unwrap();
    assert_eq!(set.wait(LONG).unwrap(), Some(0));
}

#[test]
fn a_descriptor_is_readable_when_something_is_there_and_only_then() {
    let channels = three();
    let [(_, stream), (_, broadcast), (_, queue)] = &channels;
    act_as(1);
    let (mut first, mut second) = (stream.subscriber().unwrap(), broadcast.subscriber().unwrap());
    let mut third = queue.consumer().unwrap();
    let mut readiness = Readiness::new().unwrap();
    assert!(!is_readable(&readiness, 0));
    let mut buffer = Vec::new();
    for round in 0..30u64 {
        let which = (round % 3) as usize;
        if round % 2 == 0 {
            channels[which].1.publisher().unwrap().send(&round.to_le_bytes()).unwrap();
        }
        readiness.arm(&mut [&mut first, &mut second]).unwrap();
        // What was armed before counts no more.
        readiness.arm(&mut [&mut first, &mut second, &mut third]).unwrap();
        if round % 2 != 0 {
            channels[which].1.publisher().unwrap().send(&round.to_le_bytes()).unwrap();
        }
        assert!(is_readable(&readiness, 60_000), "{round}");
        match which {
            0 => assert!(first.try_recv(&mut buffer).unwrap().is_some()),
            1 => assert!(second.try_recv(&mut buffer).unwrap().is_some()),
            // It may be readable because it is time to look after what others hold.
            _ => loop {
                if let Some(delivery) = third.try_recv(&mut buffer).unwrap() {
                    third.ack(&delivery.receipt).unwrap();
                    break;
                }
                readiness.arm(&mut [&mut first, &mut second, &mut third]).unwrap();
                assert!(is_readable(&readiness, 60_000), "{round}");
            },
        }
        assert_eq!(buffer, round.to_le_bytes());
        readiness.arm(&mut [&mut first, &mut second]).unwrap();
        assert!(!is_readable(&readiness, 3), "{round}");
    }
}

/// Wakes a thread that waits for a task.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        std::thread::park();
    }
}

#[test]
fn a_task_gets_each_message_in_order_and_the_end() {
    let (_stage, channel) = block(ChannelKind::Broadcast);
    act_as(1);
    let subscriber = channel.subscriber().unwrap();
    let id = subscriber.id();
    let mut messages = subscriber.messages();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            act_as(2);
            let mut publisher = channel.publisher().unwrap();
            for number in 0..2000u64 {
                publisher.send(&number.to_le_bytes()).unwrap();
                if number % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut next = || run(poll_fn(|context| Pin::new(&mut messages).poll_next(context)));
        for number in 0..2000u64 {
            let (_, bytes) = next().unwrap().unwrap();
            assert_eq!(bytes, number.to_le_bytes());
        }
        let ender = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            assert!(channel.eject(id).unwrap());
        });
        assert_eq!(next().unwrap().unwrap_err().code(), ErrorCode::Ejected);
        assert!(next().is_none(), "it has ended");
        ender.join().unwrap();
    });
}
