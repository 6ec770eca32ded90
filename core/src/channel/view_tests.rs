//! Messages looked at where they stand: the same bytes as a copy, as long as they may stand there, and nothing worse than other bytes whatever peers write.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::layout::{FrameKind, FrameWord};
use super::testing::{Stage, act_as, channel_with};
use super::tests::assert_sound;
use super::*;
use crate::chunk::Loose;
use crate::error::ErrorCode;
use crate::shm::Span;
use crate::shm::atomic::Ordering::Relaxed;

const LANE: u32 = 4096;
const CHUNKS: u32 = 64;
const PART: usize = (16 << 10) - crate::chunk::PARCEL_HEADER as usize;

fn options(kind: ChannelKind) -> ChannelOptions {
    ChannelOptions { kind, lane_bytes: LANE, ..ChannelOptions::default() }
}

fn stage_of(options: &ChannelOptions) -> (Arc<Stage>, Channel) {
    let (stage, channel) = channel_with(options, 8);
    stage.give_chunks(CHUNKS);
    act_as(1);
    (stage, channel)
}

fn bytes_of(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 8 * 31 + at * 7) as u8).collect()
}

fn ring_of<'a>(stage: &'a Stage, channel: &Channel, lane: u32) -> Span<'a> {
    stage.shm.span(channel.area.lane_ref(lane).unwrap().unwrap().ring, u64::from(LANE)).unwrap()
}

/// Everything that a view can be asked.
fn assert_shows(view: &MessageView<'_>, bytes: &[u8]) {
    let len = bytes.len();
    assert_eq!((view.len(), view.is_empty(), view.message().len), (len, len == 0, len));
    assert!(view.to_vec().unwrap() == bytes);
    for at in (0..len.min(20)).chain(len.saturating_sub(20)..len).chain([PART - 3, 2 * PART, 2 * PART - 13]) {
        let rest = bytes.get(at..).unwrap_or_default();
        for count in [0, 1, 4, 7, 8, 9, 16, 40, rest.len()] {
            let mut part = vec![0; count];
            let copied = view.copy_to(at, &mut part);
            if at <= len && count <= rest.len() {
                copied.unwrap();
                assert!(part == rest[..count], "{count} at {at} of {len}");
            } else {
                assert_eq!(copied.unwrap_err().code(), ErrorCode::InvalidArgument);
            }
        }
        assert_eq!(view.u8_at(at).ok(), rest.first().copied());
        assert_eq!(view.u32_at(at).ok(), rest.first_chunk().map(|word| u32::from_le_bytes(*word)));
        assert_eq!(view.u64_at(at).ok(), rest.first_chunk().map(|word| u64::from_le_bytes(*word)));
    }
    for at in [len + 1, usize::MAX, usize::MAX - 7] {
        assert_eq!(view.copy_to(at, &mut []).unwrap_err().code(), ErrorCode::InvalidArgument);
        assert_eq!(view.u64_at(at).unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    let (mut read, mut piece) = (Vec::new(), [0; 1000]);
    let mut reader = view.reader();
    while let count @ 1.. = reader.read(&mut piece).unwrap() {
        read.extend_from_slice(&piece[..count]);
    }
    assert!(read == bytes);
    assert!(view.is_whole());
}

#[test]
fn a_view_shows_what_a_copy_holds_and_what_is_forwarded_is_the_same() {
    let lossy = ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(ChannelKind::Broadcast) };
    for (options, timestamps) in [
        (options(ChannelKind::Stream), false),
        (options(ChannelKind::Broadcast), true),
        (lossy.clone(), false),
        (lossy, true),
    ] {
        let waits = options.overrun != OverrunPolicy::Overrun;
        let (_stage, channel) = stage_of(&ChannelOptions { timestamps, ..options.clone() });
        let (_other_stage, other) = stage_of(&ChannelOptions { timestamps: !timestamps, ..options.clone() });
        let mut subscriber = channel.subscriber().unwrap();
        let (mut forwarded, mut forwarder) = (other.subscriber().unwrap(), other.publisher().unwrap());
        let mut publisher = channel.publisher().unwrap();
        let most = channel.message_len_max();
        let lens =
            [0, 1, 7, 8, 9, 31, 32, 64, 200, 511, 480, 1500, LANE as usize, PART, 2 * PART + 5, 70_000];
        for len in lens.into_iter().filter(|len| *len <= most.min(other.message_len_max())) {
            let bytes = bytes_of(len);
            let position = publisher.send(&bytes).unwrap();
            let mut shown = 0;
            let taken = subscriber.poll_in_place(10, |view| {
                assert_eq!((view.message().position, view.message().lane), (position, publisher.lane()));
                assert_eq!(view.message().sent_ns != 0, timestamps);
                assert_shows(view, &bytes);
                // For who overruns nobody waits: a long message was copied into one place.
                assert_eq!(view.as_ptr().is_none(), waits && len > channel.claim_len_max(), "{len}");
                forwarder.forward(view)?;
                shown += 1;
                Ok(())
            });
            assert_eq!((taken.unwrap(), shown), (1, 1));
            let taken = forwarded.poll_in_place(10, |view| {
                assert_shows(view, &bytes);
                Ok(())
            });
            assert_eq!(taken.unwrap(), 1);
        }
        assert_eq!(subscriber.poll_in_place(10, |_| panic!("nothing is there")).unwrap(), 0);
        drop((subscriber, forwarded));
        assert_sound(&channel);
        assert_sound(&other);
    }
}

#[test]
fn a_message_stands_until_the_next_call_and_comes_again_if_its_handler_panics() {
    let (_stage, channel) = stage_of(&options(ChannelKind::Stream));
    let mut subscriber = channel.subscribe("s").unwrap();
    let mut publisher = channel.publisher().unwrap();
    let message = |number: u64| [number; 32].map(u64::to_le_bytes).concat();
    for number in 0..3 {
        publisher.send(&message(number)).unwrap();
    }
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        subscriber.poll_in_place(10, |view| {
            assert_eq!(view.u64_at(0)?, 0, "the second one");
            Ok(())
        })
    }));
    assert!(panicked.is_err());
    let mut seen = Vec::new();
    // The first was handled; the second is handed out again.
    let taken = subscriber.poll_in_place(2, |view| {
        seen.push(view.u64_at(248).unwrap());
        while publisher.try_send(&message(9)).is_ok() {}
        assert_eq!(view.u64_at(0)?, view.u64_at(248)?, "nobody writes here now");
        Ok(())
    });
    assert_eq!((taken.unwrap(), seen), (2, vec![1, 2]));
    subscriber.unread().unwrap();
    let mut again = Vec::new();
    let mut note = |view: &MessageView<'_>| {
        again.push(view.u64_at(0)?);
        Ok(())
    };
    subscriber.poll_in_place(2, &mut note).unwrap();
    subscriber.unread().unwrap();
    // An error of a handler comes behind what was handled, and its message comes again.
    let failing =
        |view: &MessageView<'_>| if view.u64_at(0)? == 2 { view.u64_at(250).map(drop) } else { Ok(()) };
    assert_eq!(subscriber.poll_in_place(2, failing).unwrap(), 1);
    assert_eq!(subscriber.poll_in_place(2, failing).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(subscriber.poll_in_place(2, failing).unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(subscriber.poll_in_place(1, &mut note).unwrap(), 1);
    assert_eq!(again, [1, 2, 2]);
    while publisher.try_send(&message(9)).is_ok() {}
    subscriber.commit().unwrap();
    publisher.try_send(&message(9)).unwrap();
}

#[test]
fn what_a_peer_does_to_a_frame_under_its_reader_changes_bytes_and_nothing_else() {
    let (stage, channel) = stage_of(&options(ChannelKind::Stream));
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let ring = ring_of(&stage, &channel, publisher.lane());
    publisher.send(&bytes_of(100)).unwrap();
    publisher.send(b"second").unwrap();
    let words = [
        FrameWord::new(8, FrameKind::Data, 0).0,
        FrameWord::new(4096, FrameKind::Data, 0).0,
        FrameWord::new(4096, FrameKind::Padding, 0).0,
        FrameWord::new(24, FrameKind::Parcel, 0).0,
        0,
        u64::MAX,
    ];
    let mut lens = Vec::new();
    let taken = subscriber.poll_in_place(10, |view| {
        lens.push(view.len());
        if lens.len() > 1 {
            assert_eq!(view.to_vec()?, b"second");
            return Ok(());
        }
        for word in words {
            ring.u64(0).unwrap().store(word, Relaxed);
            assert_shows(view, &bytes_of(100));
        }
        // What is read twice need not be the same twice.
        let before = view.u64_at(8).unwrap();
        ring.u64(16).unwrap().store(!before, Relaxed);
        assert_eq!((view.u64_at(8)?, view.to_vec()?.len()), (!before, 100));
        Ok(())
    });
    assert_eq!((taken.unwrap(), lens), (2, vec![100, 6]), "it goes on behind what it had checked");
}

#[test]
fn what_a_peer_does_to_a_parcel_under_its_reader_gives_an_error_or_other_bytes() {
    let (stage, channel) = stage_of(&options(ChannelKind::Broadcast));
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let len = 4 * PART;
    publisher.send(&bytes_of(len)).unwrap();
    publisher.send(b"second").unwrap();
    let ring = ring_of(&stage, &channel, publisher.lane());
    let pool = stage.give_chunks(CHUNKS);
    let first = Loose::from_word(ring.u64(8).unwrap().load(Relaxed)).unwrap();
    let next = pool.loose_span(first).unwrap().unwrap().u64(0).unwrap();
    let mut seen = 0;
    let taken = subscriber.poll_in_place(10, |view| {
        seen += 1;
        if seen > 1 {
            assert_eq!(view.to_vec()?, b"second");
            return Ok(());
        }
        let sound = next.load(Relaxed);
        assert_eq!(view.u64_at(len - 8).unwrap(), u64::from_le_bytes(*bytes_of(len).last_chunk().unwrap()));
        assert_eq!(view.u8_at(0).unwrap(), 0, "so that it looks for the chunk anew");
        for word in [0, 40, u64::MAX, sound ^ 1 << 40, 1 << 63] {
            next.store(word, Relaxed);
            assert_eq!(view.u64_at(len - 8).unwrap_err().code(), ErrorCode::Corrupt, "{word:#x}");
            assert_eq!(view.to_vec().unwrap_err().code(), ErrorCode::Corrupt);
            assert!(view.reader().read_to_end(&mut Vec::new()).is_err());
        }
        // A ring of chunks: as many steps as the message has chunks.
        next.store(first.word(), Relaxed);
        assert_eq!(view.to_vec().unwrap().len(), len);
        ring.u64(16).unwrap().store(u64::MAX, Relaxed);
        assert_eq!(view.len(), len);
        next.store(sound, Relaxed);
        assert_shows(view, &bytes_of(len));
        Ok(())
    });
    assert_eq!(taken.unwrap(), 2);
}

#[test]
fn who_is_ejected_while_it_looks_is_told_so_and_forwards_nothing() {
    for long in [false, true] {
        let (_stage, channel) = stage_of(&options(ChannelKind::Broadcast));
        let (_other_stage, other) = stage_of(&options(ChannelKind::Stream));
        let (mut subscriber, mut forwarded) = (channel.subscriber().unwrap(), other.subscriber().unwrap());
        let mut publisher = channel.publisher().unwrap();
        let mut forwarder = other.publisher().unwrap();
        for _ in 0..2 {
            publisher.send(&bytes_of(if long { 20_000 } else { 500 })).unwrap();
        }
        let mut seen = 0;
        let id = subscriber.id();
        let ended = subscriber.poll_in_place(10, |view| {
            seen += 1;
            if seen == 1 {
                return Ok(());
            }
            assert!(view.is_whole());
            assert!(channel.eject(id).unwrap());
            for _ in 0..20 {
                publisher.send(&[9; 500]).unwrap();
            }
            // Its bytes are anybody's now, or gone.
            let _ = view.to_vec();
            assert!(!view.is_whole());
            assert!(forwarder.forward(view).is_err());
            Ok(())
        });
        // What was handed out before comes first.
        assert_eq!((ended.unwrap(), seen), (1, 2));
        assert_eq!(subscriber.poll_in_place(1, |_| Ok(())).unwrap_err().code(), ErrorCode::Ejected);
        assert_eq!(forwarded.poll(9, |_, _| ()).unwrap(), 0);
    }
}

#[test]
fn on_a_lane_that_overruns_a_view_is_a_copy_that_stays_whole() {
    let lossy = ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(ChannelKind::Broadcast) };
    let (_stage, channel) = stage_of(&lossy);
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    for number in 0..3u64 {
        publisher.send(&[number; 8].map(u64::to_le_bytes).concat()).unwrap();
    }
    let mut seen = Vec::new();
    let result = subscriber.poll_in_place(10, |view| {
        for _ in 0..200 {
            publisher.send(&[9; 64]).unwrap();
        }
        assert!(view.is_whole());
        seen.push((view.u64_at(0)?, view.u64_at(56)?));
        Ok(())
    });
    assert_eq!((result.unwrap(), seen), (1, vec![(0, 0)]));
    let lost = subscriber.poll_in_place(1, |_| Ok(())).unwrap_err();
    assert_eq!((lost.code(), lost.amount() > 2), (ErrorCode::Overrun, true));
}

#[test]
fn a_lane_that_a_binding_writes_goes_on_from_where_that_says_and_nowhere_else() {
    let (_stage, channel) = stage_of(&options(ChannelKind::Stream));
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let behind = publisher.send(b"one").unwrap();
    let (head, limit) = publisher.reach();
    assert_eq!((head, limit), (behind, u64::from(LANE)));
    for wrong in [head - 8, head + 4, limit + 8, u64::MAX, u64::MAX - 7] {
        assert_eq!(publisher.went_on(wrong).unwrap_err().code(), ErrorCode::InvalidArgument, "{wrong}");
    }
    // As the binding does it.
    let reference = channel.area.lane_ref(publisher.lane()).unwrap().unwrap();
    let lane = channel.area.lane(reference).unwrap();
    lane.ring().word(head + 16).store(0, Relaxed);
    lane.ring().word(head + 8).store(u64::from_le_bytes(*b"two     "), Relaxed);
    lane.ring().word(head).store(DirectLane::FRAME | 11 | (head / 8) << 48, Relaxed);
    publisher.went_on(head + 16).unwrap();
    publisher.send(b"three").unwrap();
    let mut seen = Vec::new();
    subscriber.poll(9, |_, bytes| seen.push(bytes.to_vec())).unwrap();
    assert_eq!(seen, [&b"one"[..], b"two", b"three"]);
    let lossy = ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(ChannelKind::Broadcast) };
    for options in [lossy, ChannelOptions { timestamps: true, ..options(ChannelKind::Stream) }] {
        let (_stage, channel) = stage_of(&options);
        assert!(channel.publisher().unwrap().direct().unwrap().is_none());
    }
}

#[test]
fn a_binding_that_reads_lanes_itself_goes_on_only_to_where_it_can_be() {
    let (_stage, channel) = stage_of(&options(ChannelKind::Stream));
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let reading = subscriber.direct().unwrap().expect("the kernel runs fences of others");
    assert_eq!((reading.state(), reading.stamped()), (subscriber.state.0, false));
    assert_eq!((subscriber.direct_epoch(), subscriber.direct_lanes()), (None, 0));
    for _ in 0..3 {
        publisher.try_send(&[1; 8]).unwrap();
    }
    assert_eq!(subscriber.poll(1, |_, _| ()).unwrap(), 1);
    let place = subscriber.direct_place(0).unwrap().unwrap();
    assert_eq!((place.lane, place.ring.1, subscriber.direct_lanes()), (0, LANE as usize, 1));
    assert!(subscriber.direct_place(1).unwrap().is_none() && subscriber.direct_epoch().is_some());
    assert_eq!(subscriber.stand(0), Stand { shown: 0, position: 16 });
    for (shown, position) in
        [(0, 8), (0, 20), (24, 16), (4, 16), (0, 8 + u64::from(LANE)), (u64::MAX - 7, u64::MAX - 7), (32, 24)]
    {
        let refused = subscriber.went_on(0, Stand { shown, position }).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{shown} {position}");
    }
    assert!(subscriber.went_on(1, Stand { shown: 0, position: 8 }).is_err());
    // The binding shows the first and handles the second.
    let shown = channel.area.place(0, 0).unwrap().u64::<0>();
    shown.store(16, Relaxed);
    subscriber.went_on(0, Stand { shown: 16, position: 32 }).unwrap();
    assert_eq!(subscriber.poll(10, |_, _| ()).unwrap(), 1);
    assert_eq!((shown.load(Relaxed), subscriber.lag().unwrap()), (32, 0));
    subscriber.commit().unwrap();
    assert_eq!(shown.load(Relaxed), 48);
    let lossy = ChannelOptions { overrun: OverrunPolicy::Overrun, ..options(ChannelKind::Broadcast) };
    let (_stage, channel) = stage_of(&lossy);
    assert!(channel.subscriber().unwrap().direct().unwrap().is_none());
}
