//! What clients and servers leave when they die, and when they move to other threads.

use super::inherit::inherit;
use super::layout::{CellKind, CellWord, EntryKind};
use super::testing::service;
use super::tests::{NOW, SMALL, code, nothing, taken};
use super::*;
use crate::channel::testing::act_as;
use crate::error::ErrorCode;

#[test]
fn the_death_of_the_server_that_took_a_call_is_told_at_once_and_others_take_the_rest() {
    let (stage, service) = service(&SMALL, 1);
    act_as(1);
    let mut client = service.client().unwrap();
    for reaped in [false, true] {
        act_as(2 + u16::from(reaped));
        let mut victim = service.server().unwrap();
        act_as(1);
        let calls: Vec<Call> = (0..4u8).map(|number| client.send(&[number]).unwrap()).collect();
        act_as(2 + u16::from(reaped));
        // One was answered, one is in work, two were not taken.
        assert!(taken(&mut victim).0.reply(b"done").unwrap());
        let held = taken(&mut victim).0;
        std::mem::forget((victim, held));
        stage.kill(2 + u16::from(reaped));
        act_as(1);
        if reaped {
            let before = service.stats().unwrap().servers;
            inherit(&service.area, 3).unwrap();
            inherit(&service.area, 3).unwrap();
            assert_eq!(service.stats().unwrap().servers, before - 1);
        }
        let mut reply = Vec::new();
        assert_eq!(code(client.wait(calls[1], &mut reply, None)), ErrorCode::PeerDied);
        assert_eq!(service.stats().unwrap().taken, 0, "nothing is with the dead");
        assert_eq!(client.wait(calls[0], &mut reply, NOW).unwrap(), 4, "what it answered is there");
        let mut next = service.server().unwrap();
        for number in [2u8, 3] {
            let (token, bytes) = taken(&mut next);
            assert_eq!(bytes, [number]);
            assert!(token.reply(&bytes).unwrap());
            client.wait(calls[number as usize], &mut reply, NOW).unwrap();
            assert_eq!(reply, [number]);
        }
        nothing(&mut next);
    }
    let stats = service.stats().unwrap();
    assert_eq!((stats.died, stats.outstanding_for_test()), (2, 0));
}

#[test]
fn the_next_client_takes_back_what_dead_servers_have_before_anybody_reaps_them() {
    let (stage, service) = service(&SMALL, 1);
    act_as(1);
    let mut client = service.client().unwrap();
    let calls: Vec<Call> = (0..3).map(|_| client.send(b"q").unwrap()).collect();
    act_as(2);
    let mut victim = service.server().unwrap();
    let held: Vec<Request> = (0..3).map(|_| taken(&mut victim).0).collect();
    act_as(1);
    for call in calls {
        client.cancel(call).unwrap();
    }
    drop(client);
    std::mem::forget((victim, held));
    stage.kill(2);
    assert_eq!(service.stats().unwrap().left, 3);
    let _next = service.client().unwrap();
    assert_eq!(service.stats().unwrap().left, 0);
}

#[test]
fn a_server_that_died_between_its_answer_and_the_end_of_its_work_has_answered() {
    for reaped in [false, true] {
        let (stage, service) = service(&SMALL, 1);
        act_as(1);
        let mut client = service.client().unwrap();
        let call = client.send(b"q").unwrap();
        act_as(2);
        let mut victim = service.server().unwrap();
        assert!(taken(&mut victim).0.reply(b"done").unwrap());
        act_as(1);
        // As it is between the two stores.
        let cells = service.area.cells(0).unwrap().unwrap();
        let taken = CellWord::new(CellKind::Taken, 2, call.number());
        assert!(cells.change(taken.as_kind(CellKind::Free), taken).unwrap());
        stage.kill(2);
        if reaped {
            inherit(&service.area, 2).unwrap();
            assert_eq!(cells.look(call.number()).unwrap().kind(), Some(CellKind::Died));
        }
        let mut reply = Vec::new();
        // The quick look and the thorough one find it.
        assert_eq!(client.poll(call, &mut reply).unwrap(), Some(4));
        for _ in 0..8 {
            let call = client.send(b"more").unwrap();
            client.cancel(call).unwrap();
        }
        assert_eq!(service.stats().unwrap().outstanding_for_test(), 0, "the cell was taken back");
        std::mem::forget(victim);
    }
}

#[test]
fn what_a_dead_client_asked_is_withdrawn_and_its_successor_gets_none_of_its_replies() {
    let (stage, service) = service(&SMALL, 1);
    act_as(1);
    let mut server = service.server().unwrap();
    act_as(2);
    let mut victim = service.client().unwrap();
    victim.send(b"answered").unwrap();
    victim.send(b"taken").unwrap();
    victim.send(b"asked").unwrap();
    act_as(1);
    let (first, second) = (taken(&mut server).0, taken(&mut server).0);
    assert!(first.reply(b"old").unwrap());
    std::mem::forget(victim);
    stage.kill(2);
    // Without any reaper: the next client takes over from the dead.
    let mut client = service.client().unwrap();
    nothing(&mut server);
    let mut reply = Vec::new();
    let calls: Vec<Call> = (0..3).map(|_| client.send(b"new").unwrap()).collect();
    assert_eq!(code(client.send(b"more")), ErrorCode::TooManyCalls, "one cell is with the server still");
    assert!(second.is_given_up().unwrap());
    assert!(!second.reply(b"for the dead").unwrap());
    for call in calls {
        assert_eq!(client.poll(call, &mut reply).unwrap(), None);
        let (token, bytes) = taken(&mut server);
        assert_eq!((bytes.as_slice(), token.number()), (&b"new"[..], call.number()));
        token.reply(b"right").unwrap();
        client.wait(call, &mut reply, NOW).unwrap();
        assert_eq!(reply, b"right");
    }
    assert_eq!(service.stats().unwrap().rings, 1, "the same cells");
}

#[test]
fn a_call_that_was_asked_but_not_counted_is_not_asked_twice() {
    let (stage, service) = service(&SMALL, 1);
    act_as(1);
    let mut server = service.server().unwrap();
    act_as(2);
    let mut victim = service.client().unwrap();
    let call = victim.send(b"q").unwrap();
    // As it is between the two stores.
    let cells = service.area.cells(0).unwrap().unwrap();
    cells.entry().u64::<{ layout::client::POSTED }>().store(0, Ordering::Relaxed);
    act_as(1);
    let (token, _) = taken(&mut server);
    assert_eq!(token.number(), call.number());
    std::mem::forget(victim);
    stage.kill(2);
    inherit(&service.area, 2).unwrap();
    assert!(!token.reply(b"late").unwrap());
    let mut client = service.client().unwrap();
    let next = client.send(b"next").unwrap();
    assert!(next.number() > call.number());
    assert_eq!(taken(&mut server).1, b"next");
}

#[test]
fn a_reaper_that_was_slow_takes_nothing_from_the_next_client() {
    let (stage, service) = service(&SMALL, 1);
    act_as(2);
    let victim = service.client().unwrap();
    let seen = service.area.client_state(0).unwrap();
    std::mem::forget(victim);
    stage.kill(2);
    act_as(1);
    let mut client = service.client().unwrap();
    let call = client.send(b"q").unwrap();
    let cells = service.area.cells(0).unwrap().unwrap();
    inherit::let_calls_go(&service.area, &cells, seen).unwrap();
    let mut server = service.server().unwrap();
    assert_eq!(taken(&mut server).0.number(), call.number());
}

#[test]
fn who_saw_a_dead_client_takes_nothing_from_a_later_one_with_the_same_thread_entry() {
    let (_stage, service) = service(&SMALL, 1);
    act_as(2);
    let victim = service.client().unwrap();
    let seen = service.area.client_state(0).unwrap();
    std::mem::forget(victim);
    inherit(&service.area, 2).unwrap();
    let mut client = service.client().unwrap();
    let call = client.send(b"q").unwrap();
    let next = service.area.client_state(0).unwrap();
    assert_eq!(next.owner(), seen.owner());
    assert!(!inherit::inherit_client(&service.area, 0, seen).unwrap());
    assert_eq!(service.area.client_state(0).unwrap(), next);
    // Nor if the client came back to it from another thread.
    act_as(3);
    client.adopt().unwrap();
    act_as(2);
    client.adopt().unwrap();
    assert!(!inherit::inherit_client(&service.area, 0, next).unwrap());
    act_as(1);
    let mut server = service.server().unwrap();
    assert_eq!(taken(&mut server).0.number(), call.number());
}

#[test]
fn a_client_that_moves_while_its_thread_is_taken_over_has_lost_its_calls() {
    let (_stage, service) = service(&SMALL, 2);
    act_as(2);
    let mut client = service.client().unwrap();
    let call = client.send(b"q").unwrap();
    // As it is before the calls are let go.
    let seen = service.area.client_state(0).unwrap();
    let taking = layout::EntryState::new(EntryKind::Taking, 0, 2, seen.generation());
    assert!(service.area.change_client(0, seen, taking).unwrap());
    act_as(3);
    assert_eq!(code(client.poll(call, &mut Vec::new())), ErrorCode::Closed);
    inherit(&service.area, 2).unwrap();
    assert_eq!(service.area.client_state(0).unwrap().kind(), Some(EntryKind::Closed));
    nothing(&mut service.server().unwrap());
    let next = client.send(b"next").unwrap();
    assert_eq!(client.poll(next, &mut Vec::new()).unwrap(), None);
}

#[test]
fn a_client_moves_between_threads_and_its_calls_end_if_its_thread_ends() {
    let (_stage, service) = service(&SMALL, 2);
    act_as(1);
    let mut server = service.server().unwrap();
    let mut client = service.client().unwrap();
    let mut reply = Vec::new();
    let call = client.send(b"q").unwrap();
    // Thread 2 takes the client over, then thread 2 ends.
    client = std::thread::scope(|scope| {
        scope
            .spawn(move || {
                act_as(2);
                assert_eq!(client.poll(call, &mut Vec::new()).unwrap(), None);
                client
            })
            .join()
            .unwrap()
    });
    inherit(&service.area, 1).unwrap();
    let mut server_of_thread_1 = std::mem::replace(&mut server, service.server().unwrap());
    assert!(taken(&mut server_of_thread_1).0.reply(b"yes").unwrap(), "it takes another entry");
    assert_eq!(client.poll(call, &mut reply).unwrap(), Some(3));
    let call = client.send(b"lost").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            act_as(3);
            client.poll(call, &mut Vec::new()).unwrap();
            inherit(&reopen_area(&service), 3).unwrap();
            assert_eq!(code(client.poll(call, &mut Vec::new())), ErrorCode::Closed);
            let next = client.send(b"next").unwrap();
            assert_eq!(client.poll(next, &mut Vec::new()).unwrap(), None);
            assert_eq!(client.outstanding(), 1);
        });
    });
    nothing(&mut server);
}

fn reopen_area(service: &Service) -> Arc<Area> {
    service.area.clone()
}
