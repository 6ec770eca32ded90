//! Messages that a transaction decides about.

use super::inherit::inherit;
use super::testing::{Stage, act_as, channel, channel_with};
use super::tests::{assert_sound, dies, drain, texts};
use super::*;
use crate::error::ErrorCode;
use crate::table::{Reference, Verdict};

fn messages(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Sends messages behind a gate; `verdict` says how it ends.
fn send(stage: &Stage, publisher: &mut Publisher, number: u64, texts: &[&str], verdict: Verdict) {
    let reference = Reference::new(1, number);
    stage.decide(reference, Verdict::Undecided);
    let gate = publisher.set_gate(reference, &messages(texts)).unwrap();
    stage.decide(reference, verdict);
    publisher.end_gate(&gate, verdict == Verdict::Committed);
    stage.decide(reference, Verdict::Over);
}

#[test]
fn a_message_comes_with_the_commit_and_not_before_and_not_at_all_after_an_abort() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let (stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
        let mut publisher = channel.publisher().unwrap();
        let mut subscriber = channel.subscriber().unwrap();
        publisher.send(b"before").unwrap();
        let reference = Reference::new(1, 7);
        stage.decide(reference, Verdict::Undecided);
        let gate = publisher.set_gate(reference, &messages(&["a", "b"])).unwrap();
        assert_eq!(texts(&drain(&mut subscriber)), ["before"]);
        assert_eq!(drain(&mut subscriber).len(), 0, "it is not decided");
        stage.decide(reference, Verdict::Aborted);
        assert_eq!(drain(&mut subscriber).len(), 0, "it was aborted");
        publisher.end_gate(&gate, false);
        stage.decide(reference, Verdict::Over);
        assert_eq!(drain(&mut subscriber).len(), 0);

        let reference = Reference::new(1, 8);
        stage.decide(reference, Verdict::Undecided);
        let gate = publisher.set_gate(reference, &messages(&["c", "", "d"])).unwrap();
        assert_eq!(drain(&mut subscriber).len(), 0);
        stage.decide(reference, Verdict::Committed);
        let mut other = channel.subscriber().unwrap();
        assert_eq!(texts(&drain(&mut subscriber)), ["c", "", "d"], "by the decision alone");
        publisher.end_gate(&gate, true);
        stage.decide(reference, Verdict::Over);
        publisher.send(b"behind").unwrap();
        assert_eq!(texts(&drain(&mut subscriber)), ["behind"]);
        assert_eq!(texts(&drain(&mut other)), ["c", "", "d", "behind"], "who came before the tail was moved");
        assert_sound(&channel);
    }
}

#[test]
fn gates_stand_at_every_offset_of_the_ring_and_what_was_aborted_costs_no_room() {
    for (kind, overrun) in [
        (ChannelKind::Broadcast, OverrunPolicy::Block),
        (ChannelKind::Broadcast, OverrunPolicy::Overrun),
        (ChannelKind::Stream, OverrunPolicy::Block),
    ] {
        let (stage, channel) = channel(kind, overrun, 4096, 1);
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        for round in 0..6000usize {
            let text = "x".repeat(round * 7 % 300);
            let number = round as u64 + 1;
            if round % 5 == 0 {
                publisher.try_send(text.as_bytes()).unwrap();
                assert_eq!(texts(&drain(&mut subscriber)), [text.as_str()], "round {round}");
            }
            send(&stage, &mut publisher, number, &[&text, "never"], Verdict::Aborted);
            let batch = [text.as_str(), "y", &text[..text.len() / 3]];
            let batch = &batch[..1 + round % 3];
            send(&stage, &mut publisher, number, batch, Verdict::Committed);
            if round % 2 == 0 {
                assert_eq!(texts(&drain(&mut subscriber)), batch, "round {round}");
            } else {
                let mut all = Vec::new();
                while !subscriber.is_empty_now(&mut all) {}
                assert_eq!(all, batch, "round {round}");
            }
            subscriber.commit().unwrap();
        }
        assert_sound(&channel);
    }
}

impl Subscriber {
    /// Takes one message; true if there was none.
    fn is_empty_now(&mut self, all: &mut Vec<String>) -> bool {
        let mut into = Vec::new();
        let found = self.try_recv(&mut into).unwrap().is_some();
        if found {
            all.push(String::from_utf8(into).unwrap());
        }
        !found
    }
}

#[test]
fn whoever_takes_over_a_lane_settles_the_gate_that_a_dead_one_left() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        for verdict in [Verdict::Undecided, Verdict::Aborted, Verdict::Committed] {
            for late in [false, true] {
                let (stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 2);
                let mut named = channel.subscribe("named").unwrap();
                act_as(2);
                let mut dead = channel.publisher().unwrap();
                dead.send(b"sent").unwrap();
                let reference = Reference::new(2, 1);
                stage.decide(reference, Verdict::Undecided);
                let lane = dead.lane();
                dead.set_gate(reference, &messages(&["one", "two"])).unwrap();
                stage.decide(reference, verdict);
                act_as(1);
                // A reader goes through by the decision, before anybody takes over.
                let seen = if late { drain(&mut named).len() } else { 0 };
                if late {
                    assert_eq!(seen, if verdict == Verdict::Committed { 3 } else { 1 });
                }
                dies(&stage, 2, dead);
                inherit(&channel.area, 2).unwrap();
                stage.decide(reference, Verdict::Over);
                let mut next = channel.publisher().unwrap();
                assert_eq!(next.lane(), lane);
                next.send(b"next").unwrap();
                let expected: &[&str] = if verdict == Verdict::Committed {
                    &["sent", "one", "two", "next"]
                } else {
                    &["sent", "next"]
                };
                assert_eq!(texts(&drain(&mut named)), expected[seen..], "{overrun:?} {verdict:?} {late}");
                named.commit().unwrap();
                assert_sound(&channel);
            }
        }
    }
}

#[test]
fn a_late_helper_leaves_the_gate_of_the_next_holder() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 2);
    let mut subscriber = channel.subscriber().unwrap();
    act_as(2);
    let dead = channel.publisher().unwrap();
    let index = dead.lane();
    let seen = channel.area.lane_state(index).unwrap();
    act_as(1);
    dies(&stage, 2, dead);
    // A helper has proved it dead, and stops here.
    inherit(&channel.area, 2).unwrap();
    let mut live = channel.publisher().unwrap();
    let reference = Reference::new(1, 1);
    stage.decide(reference, Verdict::Undecided);
    let gate = live.set_gate(reference, &messages(&["of the living"])).unwrap();
    super::inherit::inherit_lane(&channel.area, index, seen).unwrap();
    assert_eq!(channel.area.ground.verdict(reference).unwrap(), Verdict::Undecided, "it was not aborted");
    stage.decide(reference, Verdict::Committed);
    live.end_gate(&gate, true);
    assert_eq!(texts(&drain(&mut subscriber)), ["of the living"]);
    assert_sound(&channel);
}

#[test]
fn consumers_of_a_queue_take_what_was_committed_once() {
    for acknowledge in [None, Some(Acknowledge::default())] {
        let options = ChannelOptions {
            kind: ChannelKind::Queue,
            lane_bytes: 4096,
            acknowledge,
            ..ChannelOptions::default()
        };
        let (stage, channel) = channel_with(&options, 4);
        let mut publisher = channel.publisher().unwrap();
        let mut consumers = [channel.consumer().unwrap(), channel.consumer().unwrap()];
        for round in 0..2000u64 {
            let text = format!("message {round}{}", ".".repeat(round as usize % 100));
            send(&stage, &mut publisher, round + 1, &[&text, "never"], Verdict::Aborted);
            send(&stage, &mut publisher, round + 1, &[&text], Verdict::Committed);
            let consumer = &mut consumers[round as usize % 2];
            let mut got = Vec::new();
            consumer
                .poll(9, |delivery, bytes| {
                    got.push((String::from_utf8(bytes.to_vec()).unwrap(), delivery.receipt.clone()));
                })
                .unwrap();
            assert_eq!(got.len(), 1, "round {round}");
            assert_eq!(got[0].0, text);
            if options.acknowledge.is_some() {
                consumer.ack(&got[0].1).unwrap();
            }
        }
        assert_sound(&channel);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_sent() {
    let (_stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 1);
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let most = channel.message_len_max();
    let error = publisher.make_ready(&[vec![1; most]]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong, "the gate takes 16 bytes");
    publisher.make_ready(&[vec![1; most - 16]]).unwrap();
    for _ in 0..2 {
        publisher.send(&vec![2; most - 100]).unwrap();
    }
    let error = publisher.make_ready(&[vec![1; most - 16]]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BackPressure);
    assert_eq!(drain(&mut subscriber).len(), 2);
    subscriber.commit().unwrap();
    publisher.make_ready(&[vec![1; most - 16]]).unwrap();
    assert!(drain(&mut subscriber).is_empty());
    assert_sound(&channel);
}

#[test]
fn a_gate_whose_transaction_is_over_is_damage_and_is_told() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 1);
    let mut subscriber = channel.subscriber().unwrap();
    let mut publisher = channel.publisher().unwrap();
    let reference = Reference::new(1, 3);
    stage.decide(reference, Verdict::Undecided);
    publisher.set_gate(reference, &messages(&["never"])).unwrap();
    stage.decide(reference, Verdict::Over);
    let mut into = Vec::new();
    assert_eq!(subscriber.try_recv(&mut into).unwrap_err().code(), ErrorCode::Corrupt);
}

#[test]
fn a_reader_that_was_stopped_takes_the_decision_of_one_gate_for_no_other() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        let (stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        let (first, second) = (Reference::new(1, 1), Reference::new(1, 2 + 256));
        stage.decide(first, Verdict::Undecided);
        let gate = publisher.set_gate(first, &messages(&["first"])).unwrap();
        // The first was aborted; the decision that a reader looks at next is that of one which came 256 later, sends nothing here, and
        // whose words look the same. Before the reader goes on the next one sets its gate at the same place.
        stage.decide(first, Verdict::Committed);
        stage.decide(second, Verdict::Undecided);
        stage.after_next_look(move || {
            act_as(1);
            publisher.end_gate(&gate, false);
            publisher.set_gate(second, &messages(&["second"])).unwrap();
            std::mem::forget(publisher);
        });
        assert!(drain(&mut subscriber).is_empty(), "{overrun:?}: it is not decided");
        stage.decide(second, Verdict::Committed);
        assert_eq!(texts(&drain(&mut subscriber)), ["second"]);
    }
}

#[test]
fn a_reader_that_was_stopped_at_a_gate_sees_what_became_of_it() {
    for overrun in [OverrunPolicy::Block, OverrunPolicy::Overrun] {
        for (looked, committed) in
            [(Verdict::Committed, false), (Verdict::Over, true), (Verdict::Over, false)]
        {
            let (stage, channel) = channel(ChannelKind::Broadcast, overrun, 4096, 1);
            let mut subscriber = channel.subscriber().unwrap();
            let mut publisher = channel.publisher().unwrap();
            let reference = Reference::new(1, 1);
            stage.decide(reference, Verdict::Undecided);
            let gate = publisher.set_gate(reference, &messages(&["behind it"])).unwrap();
            // Its transaction is over by now, or the words are those of a later one which look the same; either way the gate was ended
            // before.
            stage.decide(reference, looked);
            stage.after_next_look(move || {
                act_as(1);
                publisher.end_gate(&gate, committed);
                std::mem::forget(publisher);
            });
            let mut found = texts(&drain(&mut subscriber));
            found.extend(texts(&drain(&mut subscriber)));
            let sent: &[&str] = if committed { &["behind it"] } else { &[] };
            assert_eq!(found, sent, "{overrun:?} {looked:?}");
            assert_sound(&channel);
        }
    }
}

#[test]
fn a_late_helper_finds_a_gate_settled_and_its_transaction_over() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Block, 4096, 1);
    let mut subscriber = channel.subscriber().unwrap();
    act_as(2);
    let mut dead = channel.publisher().unwrap();
    dead.send(b"sent").unwrap();
    let reference = Reference::new(2, 1);
    stage.decide(reference, Verdict::Over);
    dead.set_gate(reference, &messages(&["never"])).unwrap();
    act_as(1);
    dies(&stage, 2, dead);
    let other = super::testing::reopen(&stage);
    let hook = stage.clone();
    stage.after_next_look(move || {
        hook.decide(reference, Verdict::Aborted);
        inherit(&other.area, 2).unwrap();
        hook.decide(reference, Verdict::Over);
    });
    inherit(&channel.area, 2).unwrap();
    assert_eq!(texts(&drain(&mut subscriber)), ["sent"]);
    assert_sound(&channel);
}

#[test]
fn a_gate_that_is_laid_over_what_a_reader_has_not_read_is_a_loss_and_no_damage() {
    let (stage, channel) = channel(ChannelKind::Broadcast, OverrunPolicy::Overrun, 4096, 1);
    let mut lost = 0;
    for filled in 0..4096 / 100 {
        let mut subscriber = channel.subscriber().unwrap();
        let mut publisher = channel.publisher().unwrap();
        for _ in 0..filled {
            publisher.send(&[b'a'; 100]).unwrap();
        }
        let reference = Reference::new(1, filled + 1);
        stage.decide(reference, Verdict::Undecided);
        let gate = publisher.set_gate(reference, &messages(&["b".repeat(400).as_str()])).unwrap();
        loop {
            let mut into = Vec::new();
            match subscriber.try_recv(&mut into) {
                Ok(None) => break,
                Ok(Some(_)) => assert_eq!(into, [b'a'; 100], "{filled}"),
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::Overrun, "{filled}: {error}");
                    lost += 1;
                }
            }
        }
        stage.decide(reference, Verdict::Committed);
        publisher.end_gate(&gate, true);
        stage.decide(reference, Verdict::Over);
    }
    assert!(lost > 0);
    assert_sound(&channel);
}
