//! What clients and servers see of each other.

use std::time::Duration;

use super::inherit::inherit;
use super::layout::{CellKind, EntryKind, Status};
use super::testing::{reopen, service};
use super::*;
use crate::channel::testing::act_as;
use crate::error::ErrorCode;

pub const SMALL: ServiceOptions = ServiceOptions { message_bytes: 100, calls: 4 };
pub const NOW: Option<Duration> = Some(Duration::ZERO);

pub fn code<T>(result: Result<T>) -> ErrorCode {
    result.err().expect("an error").code()
}

/// The server takes the next request and gives its bytes.
#[track_caller]
pub fn taken(server: &mut Server) -> (Request, Vec<u8>) {
    let mut bytes = Vec::new();
    let request = server.try_take(&mut bytes).unwrap().expect("a request");
    assert_eq!(request.len(), bytes.len());
    (request, bytes)
}

#[track_caller]
pub fn nothing(server: &mut Server) {
    assert!(server.try_take(&mut Vec::new()).unwrap().is_none());
}

#[test]
fn requests_and_replies_of_every_length_arrive_whole() {
    let (_stage, service) = service(&SMALL, 1);
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let mut reply = vec![9; 7];
    for len in (0..=100).chain(0..=100) {
        let request: Vec<u8> = (0..len).map(|at| (at * 3 + len) as u8).collect();
        let call = client.send(&request).unwrap();
        assert_eq!(client.poll(call, &mut reply).unwrap(), None);
        let (token, bytes) = taken(&mut server);
        assert_eq!(bytes, request);
        assert_eq!(client.poll(call, &mut reply).unwrap(), None);
        let answer: Vec<u8> = (0..100 - len).map(|at| (at * 5 + len) as u8).collect();
        assert!(token.reply(&answer).unwrap());
        assert_eq!(client.wait(call, &mut reply, NOW).unwrap(), answer.len());
        assert_eq!(reply, answer);
        assert_eq!(code(client.poll(call, &mut reply)), ErrorCode::InvalidArgument, "told once");
    }
    nothing(&mut server);
    assert_eq!(code(client.send(&[0; 101])), ErrorCode::ValueTooLong);
    client.send(b"q").unwrap();
    let (token, _) = taken(&mut server);
    assert_eq!(code(token.reply(&[0; 101])), ErrorCode::ValueTooLong);
    let (_, ended) = client.poll_any(&mut reply).unwrap().unwrap();
    assert_eq!(code(ended), ErrorCode::Unanswered, "the request was let go");
    let stats = service.stats().unwrap();
    assert_eq!((stats.clients, stats.servers, stats.rings, stats.calls), (1, 1, 1, 203));
}

#[test]
fn several_calls_are_under_way_and_end_in_any_order() {
    let (_stage, service) = service(&SMALL, 1);
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let mut reply = Vec::new();
    for _ in 0..5 {
        let calls: Vec<Call> = (0..4u8).map(|number| client.send(&[number]).unwrap()).collect();
        assert_eq!((client.outstanding(), code(client.send(b"more"))), (4, ErrorCode::TooManyCalls));
        let mut tokens: Vec<(Request, Vec<u8>)> = (0..4).map(|_| taken(&mut server)).collect();
        nothing(&mut server);
        while let Some((token, bytes)) = tokens.pop() {
            assert!(token.reply(&[bytes[0] + 10]).unwrap());
        }
        assert_eq!(client.poll(calls[2], &mut reply).unwrap(), Some(1));
        assert_eq!(reply, [12]);
        let mut rest = Vec::new();
        while let Some((call, ended)) = client.wait_any(&mut reply, NOW).unwrap() {
            assert_eq!(ended.unwrap(), 1);
            rest.push((call, reply[0]));
        }
        rest.sort_by_key(|(call, _)| call.number());
        assert_eq!(rest, [(calls[0], 10), (calls[1], 11), (calls[3], 13)]);
        assert!(client.poll_any(&mut reply).unwrap().is_none());
    }
}

#[test]
fn each_request_is_taken_by_one_server_and_a_new_server_finds_the_oldest() {
    let (_stage, service) = service(&SMALL, 2);
    let mut clients = [service.client().unwrap(), service.client().unwrap()];
    let mut servers = [service.server().unwrap(), service.server().unwrap()];
    for round in 0..20u8 {
        for client in &mut clients {
            client.send(&[round]).unwrap();
            client.send(&[round]).unwrap();
        }
        for which in [0, 1, 1, 0] {
            let (token, bytes) = taken(&mut servers[which]);
            assert_eq!(bytes, [round]);
            token.reply(&bytes).unwrap();
        }
        servers.iter_mut().for_each(nothing);
        for client in &mut clients {
            for _ in 0..2 {
                client.poll_any(&mut Vec::new()).unwrap().unwrap().1.unwrap();
            }
        }
    }
    // The first call stays where it is while later ones come and go in the other cells.
    let old = clients[0].send(b"old").unwrap();
    for _ in 0..20 {
        let call = clients[0].send(b"new").unwrap();
        clients[0].cancel(call).unwrap();
    }
    let mut late = service.server().unwrap();
    let (token, bytes) = taken(&mut late);
    assert_eq!((bytes.as_slice(), token.number()), (&b"old"[..], old.number()));
    nothing(&mut late);
    servers.iter_mut().for_each(nothing);
    // A server that has seen the old call taken finds the next one behind many that were given up.
    for _ in 0..20 {
        let call = clients[0].send(b"gone").unwrap();
        clients[0].cancel(call).unwrap();
    }
    let next = clients[0].send(b"next").unwrap();
    assert_eq!(taken(&mut servers[1]).0.number(), next.number());
    servers.iter_mut().for_each(nothing);
    nothing(&mut late);
}

#[test]
fn a_request_that_timed_out_before_it_was_taken_is_never_served() {
    let (_stage, service) = service(&SMALL, 1);
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let mut reply = Vec::new();
    for _ in 0..9 {
        assert_eq!(code(client.call(b"late", &mut reply, NOW)), ErrorCode::TimedOut);
        nothing(&mut server);
    }
    let call = client.send(b"sound").unwrap();
    assert_eq!(taken(&mut server).1, b"sound");
    client.cancel(call).unwrap();
    let stats = service.stats().unwrap();
    assert_eq!((stats.timed_out, stats.asked, stats.outstanding_for_test()), (9, 0, 0));
}

impl ServiceStats {
    pub fn outstanding_for_test(&self) -> u32 {
        self.asked + self.taken + self.left
    }
}

#[test]
fn a_reply_that_comes_too_late_is_dropped_and_its_cell_comes_back() {
    let (_stage, service) = service(&SMALL, 1);
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let mut reply = Vec::new();
    let mut late = Vec::new();
    for _ in 0..3 {
        let call = client.send(b"slow").unwrap();
        late.push(taken(&mut server).0);
        assert_eq!(code(client.wait(call, &mut reply, NOW)), ErrorCode::TimedOut);
    }
    assert_eq!(service.stats().unwrap().left, 3);
    // One cell is left: each call uses it.
    for number in 0..10u8 {
        let call = client.send(&[number]).unwrap();
        assert_eq!(code(client.send(b"more")), ErrorCode::TooManyCalls);
        let (token, bytes) = taken(&mut server);
        assert!(!token.is_given_up().unwrap());
        assert!(token.reply(&bytes).unwrap());
        assert_eq!(client.wait(call, &mut reply, NOW).unwrap(), 1);
        assert_eq!(reply, [number]);
    }
    for token in late {
        assert!(token.is_given_up().unwrap());
        assert!(!token.reply(b"late").unwrap(), "nobody waits for it");
    }
    assert_eq!(service.stats().unwrap().outstanding_for_test(), 0);
    let calls: Vec<Call> = (0..4).map(|_| client.send(b"again").unwrap()).collect();
    for call in calls {
        assert_eq!(client.poll(call, &mut reply).unwrap(), None, "no reply of another call");
    }
}

#[test]
fn a_client_whose_cells_are_all_with_stopped_servers_goes_on_with_others() {
    let (_stage, service) = service(&SMALL, 2);
    let (mut client, mut stopped) = (service.client().unwrap(), service.server().unwrap());
    let mut kept = Vec::new();
    for _ in 0..4 {
        let call = client.send(b"stuck").unwrap();
        kept.push(taken(&mut stopped).0);
        client.cancel(call).unwrap();
    }
    let mut server = service.server().unwrap();
    let call = client.send(b"goes on").unwrap();
    let (token, bytes) = taken(&mut server);
    assert_eq!((bytes.as_slice(), token.client()), (&b"goes on"[..], 1));
    assert!(token.reply(b"yes").unwrap());
    let mut reply = Vec::new();
    client.wait(call, &mut reply, NOW).unwrap();
    assert_eq!(reply, b"yes");
    // The entry that was left is used again once its cells are back.
    for token in kept {
        assert!(!token.reply(b"late").unwrap());
    }
    let mut other = service.client().unwrap();
    let call = other.send(b"first entry").unwrap();
    assert_eq!(taken(&mut server).0.client(), 0);
    assert_eq!(code(other.poll(call, &mut reply)), ErrorCode::Unanswered);
    assert_eq!(service.stats().unwrap().rings, 2);
}

#[test]
fn after_closing_nothing_is_taken_and_what_was_taken_is_answered_or_let_go() {
    let fabric = crate::fabric::FabricOptions::new().backend(crate::fabric::Backend::Heap).limit(8 << 20);
    let fabric = fabric.open("closing").unwrap();
    let service = fabric.service("s", &SMALL).unwrap();
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let calls: Vec<Call> = (0..3).map(|_| client.send(b"q").unwrap()).collect();
    let (first, second) = (taken(&mut server).0, taken(&mut server).0);
    fabric.close().unwrap();
    assert_eq!(code(server.try_take(&mut Vec::new())), ErrorCode::Closed);
    assert_eq!(code(client.poll(calls[0], &mut Vec::new())), ErrorCode::Closed);
    assert!(first.reply(b"yes").unwrap());
    drop(second);
    let cells = service.area.cells(0).unwrap().unwrap();
    let kinds = [0, 1, 2].map(|which: usize| cells.look(calls[which].number()).unwrap().kind().unwrap());
    assert_eq!(kinds, [CellKind::Free, CellKind::Free, CellKind::Asked]);
}

#[test]
fn a_request_that_was_moved_before_closing_is_ended_by_the_thread_that_has_it() {
    let fabric = crate::fabric::FabricOptions::new().backend(crate::fabric::Backend::Heap).limit(8 << 20);
    let fabric = fabric.open("closing").unwrap();
    let service = fabric.service("s", &SMALL).unwrap();
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let calls: Vec<Call> = (0..4).map(|_| client.send(b"q").unwrap()).collect();
    let mut tokens: Vec<Request> = (0..4).map(|_| taken(&mut server).0).collect();
    let (ready, closed) = &(std::sync::Barrier::new(3), std::sync::Barrier::new(3));
    std::thread::scope(|scope| {
        let (give, given) = std::sync::mpsc::channel::<Vec<Request>>();
        // One thread is attached by then, the other comes to the fabric only after it was closed.
        let strangers = tokens.split_off(2);
        scope.spawn(move || {
            let mut tokens = given.recv().unwrap();
            tokens[0].write(0, b"ye").unwrap();
            ready.wait();
            closed.wait();
            tokens[0].write(2, b"s").unwrap();
            assert!(tokens.remove(0).commit(3).unwrap());
            drop(tokens);
        });
        give.send(tokens).unwrap();
        scope.spawn(move || {
            ready.wait();
            closed.wait();
            let [first, second] = strangers.try_into().unwrap();
            assert!(first.reply(b"yes").unwrap());
            assert!(second.refuse().unwrap());
        });
        ready.wait();
        fabric.close().unwrap();
        closed.wait();
    });
    let cells = service.area.cells(0).unwrap().unwrap();
    let end = |call: &Call| {
        assert_eq!(cells.look(call.number()).unwrap().kind(), Some(CellKind::Free));
        cells.answered(call.number()).unwrap().unwrap()
    };
    let ends: Vec<Status> = calls.iter().map(end).collect();
    assert_eq!(ends, [Status::Replied, Status::Unanswered, Status::Replied, Status::Unanswered]);
}

#[test]
fn the_cell_of_a_call_that_was_answered_is_usable_though_its_server_stands_still() {
    let (_stage, service) = service(&ServiceOptions { message_bytes: 100, calls: 1 }, 1);
    act_as(1);
    let mut client = service.client().unwrap();
    act_as(2);
    let mut server = service.server().unwrap();
    act_as(1);
    let cells = service.area.cells(0).unwrap().unwrap();
    let mut reply = Vec::new();
    for round in 0..4u8 {
        let call = client.send(&[round]).unwrap();
        act_as(2);
        let token = taken(&mut server).0;
        let mine = cells.look(call.number()).unwrap();
        assert!(token.reply(&[round + 10]).unwrap());
        // As it is between the two stores.
        assert!(cells.change(mine.as_kind(CellKind::Free), mine).unwrap());
        act_as(1);
        assert_eq!(client.wait(call, &mut reply, NOW).unwrap(), 1);
        assert_eq!(reply, [round + 10]);
    }
    assert_eq!(service.stats().unwrap().rings, 1, "no other cells were needed");
}

#[test]
fn a_request_that_is_dropped_is_told_and_one_is_answered_by_another_thread() {
    let (_stage, service) = service(&SMALL, 1);
    act_as(1);
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let mut reply = Vec::new();
    let call = client.send(b"q").unwrap();
    drop(taken(&mut server));
    assert_eq!(code(client.wait(call, &mut reply, None)), ErrorCode::Unanswered);
    let call = client.send(b"q").unwrap();
    assert!(taken(&mut server).0.refuse().unwrap());
    assert_eq!(code(client.wait(call, &mut reply, None)), ErrorCode::Unanswered);
    // Another thread answers; the one that took it may end meanwhile.
    let call = client.send(b"q").unwrap();
    act_as(4);
    let mut taker = service.server().unwrap();
    let mut token = taken(&mut taker).0;
    act_as(5);
    token.write(3, b"lo").unwrap();
    token.write(0, b"hel").unwrap();
    inherit(&service.area, 4).unwrap();
    assert!(token.commit(5).unwrap());
    act_as(1);
    assert_eq!(client.wait(call, &mut reply, None).unwrap(), 5);
    assert_eq!(reply, b"hello");
    // Its thread ended before another touched it: told to the client, and nothing that is written later counts.
    let call = client.send(b"q").unwrap();
    act_as(6);
    let mut taker = service.server().unwrap();
    let mut token = taken(&mut taker).0;
    inherit(&service.area, 6).unwrap();
    act_as(5);
    token.write(0, b"late").unwrap();
    assert!(!token.commit(4).unwrap());
    act_as(1);
    assert_eq!(code(client.wait(call, &mut reply, None)), ErrorCode::PeerDied);
    nothing(&mut server);
    let longer = client.send(b"q").unwrap();
    let mut token = taken(&mut server).0;
    assert_eq!(code(token.write(99, b"xx")), ErrorCode::ValueTooLong);
    assert_eq!(code(token.write(usize::MAX, b"xx")), ErrorCode::ValueTooLong);
    assert_eq!(code(token.commit(101)), ErrorCode::ValueTooLong);
    assert_eq!(code(client.poll(longer, &mut reply)), ErrorCode::Unanswered);
}

#[test]
fn who_closes_leaves_its_entries_to_others() {
    let (_stage, service) = service(&ServiceOptions::default(), 1);
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let mut client = service.client().unwrap();
        let mut server = service.server().unwrap();
        let call = client.send(b"q").unwrap();
        numbers.push(call.number());
        client.send(b"never taken").unwrap();
        let token = taken(&mut server).0;
        drop(client);
        assert!(!token.reply(b"x").unwrap());
        nothing(&mut server);
    }
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let stats = service.stats().unwrap();
    assert_eq!((stats.rings, stats.clients, stats.servers, stats.outstanding_for_test()), (1, 0, 0, 0));
    assert_eq!(service.area.client_state(0).unwrap().kind(), Some(EntryKind::Closed));
    let all: Vec<Server> = (0..128).map(|_| service.server().unwrap()).collect();
    assert_eq!(code(service.server()), ErrorCode::TooManyClients);
    drop(all);
    let only = service.client().unwrap();
    assert_eq!(code(service.client()), ErrorCode::Full, "no memory for more");
    drop(only);
    let mut problems = Vec::new();
    check(&service.area, &mut |what, place| problems.push((what, place))).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

/// A server that has answered and is not scheduled just then still has the cell: the client is told that it has none to spare.
fn patiently<T>(mut ask: impl FnMut() -> Result<T>) -> T {
    loop {
        match ask() {
            Err(error) if error.code() == ErrorCode::TooManyCalls => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

#[test]
fn clients_and_servers_in_threads_hand_over_every_call_spinning_and_sleeping() {
    const CALLS: u64 = 3000;
    let (stage, _service) = service(&SMALL, 3);
    std::thread::scope(|scope| {
        for thread in 0..2u16 {
            let service = reopen(&stage);
            scope.spawn(move || {
                act_as(10 + thread);
                let mut server = service.server().unwrap();
                let mut bytes = Vec::new();
                while let Some(request) = server.take(&mut bytes, Some(Duration::from_millis(500))).unwrap() {
                    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    if number % 100 == 7 {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    assert!(request.reply(&(number * 3).to_le_bytes()).unwrap());
                }
            });
        }
        for thread in 0..3u16 {
            let service = reopen(&stage);
            scope.spawn(move || {
                act_as(20 + thread);
                let mut client = service.client().unwrap();
                let mut reply = Vec::new();
                let mut under_way = std::collections::HashMap::new();
                for number in 0..CALLS {
                    let number = number * 10 + u64::from(thread);
                    if number % 3 == 0 {
                        patiently(|| client.call(&number.to_le_bytes(), &mut reply, None));
                        assert_eq!(reply, (number * 3).to_le_bytes());
                        continue;
                    }
                    if number % 64 == 0 {
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    while client.outstanding() >= 3 {
                        let (call, ended) = client.wait_any(&mut reply, None).unwrap().unwrap();
                        ended.unwrap();
                        let number: u64 = under_way.remove(&call).unwrap();
                        assert_eq!(reply, (number * 3).to_le_bytes());
                    }
                    under_way.insert(patiently(|| client.send(&number.to_le_bytes())), number);
                }
                while let Some((call, ended)) = client.wait_any(&mut reply, None).unwrap() {
                    ended.unwrap();
                    let number: u64 = under_way.remove(&call).unwrap();
                    assert_eq!(reply, (number * 3).to_le_bytes());
                }
                assert!(under_way.is_empty());
            });
        }
    });
}
