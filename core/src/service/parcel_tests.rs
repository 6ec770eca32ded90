//! Requests and replies that do not fit a cell: whole or not at all, and their chunks are given back once, whoever dies or gives up.

use std::sync::Arc;
use std::time::Duration;

use super::inherit::{inherit, let_calls_go};
use super::layout::{AnswerWord, CellKind, CellWord, Status, half};
use super::parcel::Side;
use super::testing::service;
use super::tests::{NOW, SMALL, code, nothing, taken};
use super::*;
use crate::channel::testing::{Stage, act_as, numbers};
use crate::chunk::{self, Loose, PARCEL_HEADER, Search};
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const CHUNKS: u32 = 64;
const PART: usize = (16 << 10) - PARCEL_HEADER as usize;

fn stage() -> (Arc<Stage>, Service, u32) {
    let (stage, service) = service(&SMALL, 3);
    let free = stage.give_chunks(CHUNKS).free_count();
    act_as(1);
    (stage, service, free)
}

fn free(stage: &Stage) -> u32 {
    stage.give_chunks(CHUNKS).free_count()
}

fn long(len: usize, number: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 8 * 31 + at + number * 7) as u8).collect()
}

#[track_caller]
fn assert_sound(service: &Service) {
    let mut problems = Vec::new();
    let mut problem = |what, place| problems.push(format!("{place}: {what}"));
    check(&service.area, &mut problem).unwrap();
    check_taken_over(&service.area, &mut problem).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

/// The thread is dead: takes over from it, also in the pool.
#[track_caller]
fn reap(stage: &Stage, service: &Service, thread: u16) {
    stage.kill(thread);
    inherit(&service.area, thread).unwrap();
    let pool = stage.give_chunks(CHUNKS);
    let named = |chunk| names_ring(&service.area, pool.geometry().chunk_offset(chunk)).unwrap();
    chunk::inherit(pool, thread, &named).unwrap();
    assert_sound(service);
}

/// Takes chunks until there are none for objects.
fn fill(stage: &Stage) -> Vec<Loose> {
    let pool = stage.give_chunks(CHUNKS);
    let me = crate::channel::Ground::actor(stage).unwrap();
    let mut taken = Vec::new();
    let mut search = Search::default();
    while let Ok(chunk) = pool.take_loose(me, 99, &mut search) {
        taken.push(chunk);
    }
    taken
}

#[test]
fn messages_of_every_kind_of_length_arrive_whole_in_both_directions() {
    let (stage, service, before) = stage();
    let most = service.message_len_max();
    assert!(most > 20 * PART && most < CHUNKS as usize * PART, "{most}");
    let mut server = service.server().unwrap();
    let mut client = service.client().unwrap();
    assert_eq!((client.message_len_max(), server.message_len_max()), (most, most));
    let lens = [100, 101, 0, PART - 1, PART, PART + 1, 2 * PART, 5 * PART + 3, most, 1];
    let mut reply = Vec::new();
    for (number, len) in lens.into_iter().enumerate() {
        for back in lens {
            let call = client.send(&long(len, number)).unwrap();
            let (token, bytes) = taken(&mut server);
            assert_eq!((token.reply_len_max(), bytes), (most, long(len, number)), "{len}");
            assert_eq!(free(&stage), before, "the request is given back before it is answered");
            assert!(token.reply(&long(back, number + 1)).unwrap());
            assert_eq!(client.wait(call, &mut reply, NOW).unwrap(), back);
            assert_eq!(reply, long(back, number + 1), "{back}");
            assert_eq!(free(&stage), before);
        }
    }
    assert_sound(&service);
    // One byte more.
    let error = client.send(&vec![0; most + 1]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ValueTooLong);
    assert!(error.detail().contains(&format!("up to {most} bytes")), "{error}");
    let call = client.send(b"q").unwrap();
    let (mut token, _) = taken(&mut server);
    assert_eq!(code(token.write(most, b"x")), ErrorCode::ValueTooLong);
    assert_eq!(code(token.write(usize::MAX, b"xy")), ErrorCode::ValueTooLong);
    assert_eq!(code(token.try_reply(&vec![0; most + 1])), ErrorCode::ValueTooLong);
    assert!(token.try_reply(b"short").unwrap(), "it was still to be answered");
    assert_eq!(code(token.try_reply(b"again")), ErrorCode::InvalidArgument);
    client.wait(call, &mut reply, NOW).unwrap();
    assert_eq!((reply.as_slice(), free(&stage)), (&b"short"[..], before));
}

#[test]
fn without_chunks_the_cell_is_all_there_is() {
    let (_stage, service) = service(&SMALL, 1);
    assert_eq!(service.message_len_max(), 100);
    assert_eq!(code(service.client().unwrap().send(&[0; 101])), ErrorCode::ValueTooLong);
}

#[test]
fn a_long_reply_is_put_together_in_any_order() {
    let (stage, service, before) = stage();
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let mut reply = Vec::new();
    let whole = long(3 * PART, 1);
    for cuts in [vec![0, 50, 90, 200, 2 * PART], vec![0, PART, 60], vec![2 * PART, 0, PART]] {
        let call = client.send(b"q").unwrap();
        let (mut token, _) = taken(&mut server);
        for &at in &cuts {
            let end = cuts.iter().copied().filter(|&other| other > at).min().unwrap_or(whole.len());
            token.write(at, &whole[at..end]).unwrap();
        }
        assert!(token.commit(whole.len()).unwrap());
        client.wait(call, &mut reply, NOW).unwrap();
        assert_eq!(reply, whole, "{cuts:?}");
        // What was written is more than what is answered.
        let call = client.send(b"q").unwrap();
        let (mut token, _) = taken(&mut server);
        token.write(0, &whole).unwrap();
        assert!(token.commit(77).unwrap());
        client.wait(call, &mut reply, NOW).unwrap();
        assert_eq!((reply.as_slice(), free(&stage)), (&whole[..77], before));
    }
    // More is answered than was written: what was not written is something.
    let call = client.send(b"q").unwrap();
    let (mut token, _) = taken(&mut server);
    token.write(0, b"begin").unwrap();
    assert!(token.commit(PART + 9).unwrap());
    assert_eq!(client.wait(call, &mut reply, NOW).unwrap(), PART + 9);
    assert!(reply.starts_with(b"begin") && free(&stage) == before);
}

#[test]
fn a_call_gives_its_chunks_back_however_it_ends() {
    let (stage, service, before) = stage();
    let mut client = service.client().unwrap();
    let mut server = service.server().unwrap();
    let mut reply = Vec::new();
    let request = long(3 * PART, 0);
    let send = |client: &mut Client| client.send(&request).unwrap();
    // Nobody takes it: its time is over, or it is given up.
    let call = send(&mut client);
    assert!(free(&stage) < before);
    assert_eq!(code(client.wait(call, &mut reply, NOW)), ErrorCode::TimedOut);
    assert_eq!(free(&stage), before);
    let call = send(&mut client);
    client.cancel(call).unwrap();
    assert_eq!(free(&stage), before);
    nothing(&mut server);
    // It was taken, and then its time is over, or it is given up: the reply is dropped.
    for cancelled in [false, true] {
        let call = send(&mut client);
        let (token, _) = taken(&mut server);
        if cancelled {
            client.cancel(call).unwrap();
        } else {
            assert_eq!(code(client.wait(call, &mut reply, NOW)), ErrorCode::TimedOut);
        }
        assert!(!token.reply(&request).unwrap());
        assert_eq!(free(&stage), before);
    }
    // The reply is there and nobody wants it any more.
    let call = send(&mut client);
    assert!(taken(&mut server).0.reply(&request).unwrap());
    assert!(free(&stage) < before);
    client.cancel(call).unwrap();
    assert_eq!(free(&stage), before);
    // It is refused, or let go.
    for refused in [false, true] {
        let call = send(&mut client);
        let (mut token, _) = taken(&mut server);
        token.write(0, &request).unwrap();
        if refused {
            assert!(token.refuse().unwrap())
        } else {
            drop(token)
        }
        assert_eq!(code(client.wait(call, &mut reply, NOW)), ErrorCode::Unanswered);
        assert_eq!(free(&stage), before);
    }
    // Its client closes: a request that waits, one that is taken, and a reply.
    let _calls = [send(&mut client), send(&mut client), send(&mut client)];
    assert!(taken(&mut server).0.reply(&request).unwrap());
    let (token, _) = taken(&mut server);
    drop(client);
    assert_eq!(free(&stage), before);
    assert!(!token.reply(&request).unwrap());
    assert_eq!(free(&stage), before);
    assert_sound(&service);
}

#[test]
fn a_server_that_stood_still_over_a_long_reply_takes_it_back() {
    let (stage, service, before) = stage();
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let reply = long(3 * PART, 0);
    for (given_up, ended) in [(true, true), (true, false), (false, false)] {
        let call = client.send(b"q").unwrap();
        let (mut token, _) = taken(&mut server);
        token.put_long(&reply).unwrap();
        assert!(free(&stage) < before);
        // As it is when it goes on.
        if given_up {
            client.cancel(call).unwrap();
        }
        if ended {
            assert!(!token.end(reply.len() as u64, Status::Replied).unwrap());
            assert_eq!(free(&stage), before, "also while it is held");
        }
        drop(token);
        assert_eq!(free(&stage), before, "{given_up} {ended}");
        if !given_up {
            assert_eq!(code(client.wait(call, &mut Vec::new(), NOW)), ErrorCode::Unanswered);
        }
    }
    assert_sound(&service);
}

#[test]
fn without_memory_nothing_is_sent_and_a_request_is_still_to_be_answered() {
    let (stage, service, before) = stage();
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let (request, mut reply) = (long(3 * PART, 0), Vec::new());
    let call = client.send(&request).unwrap();
    let (mut token, _) = taken(&mut server);
    let all = fill(&stage);
    let left = free(&stage);
    let error = client.send(&request).unwrap_err();
    assert_eq!((error.code(), client.outstanding()), (ErrorCode::Full, 1));
    assert!(error.detail().contains(&format!("request of {} bytes", request.len())), "{error}");
    assert_eq!(code(token.try_reply(&request)), ErrorCode::Full);
    assert_eq!(free(&stage), left, "what it had taken by then is given back");
    assert!(token.try_reply(b"no memory").unwrap());
    client.wait(call, &mut reply, NOW).unwrap();
    assert_eq!(reply, b"no memory");
    // Who does not try again lets the request go.
    let call = client.send(b"q").unwrap();
    assert_eq!(code(taken(&mut server).0.reply(&request)), ErrorCode::Full);
    assert_eq!(code(client.wait(call, &mut reply, NOW)), ErrorCode::Unanswered);
    let pool = stage.give_chunks(CHUNKS);
    all.iter().for_each(|chunk| pool.give_back_loose(*chunk).unwrap());
    client.call_for_test(&mut server, &request);
    assert_eq!(free(&stage), before);
}

/// What a thread that died in the midst of sending had done.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Written,
    LenStored,
    Shown,
    KeptSome,
    Kept,
}
const STEPS: [Step; 5] = [Step::Written, Step::LenStored, Step::Shown, Step::KeptSome, Step::Kept];

/// Does what sends a message, up to a step.
fn up_to(step: Step, service: &Service, side: Side, number: u64, message: &[u8]) {
    let area = &service.area;
    let cells = area.cells(0).unwrap().unwrap();
    let chunks = area.write_parcel(&cells, side, number, message).unwrap();
    let half = if side == Side::Request { cells.request(number) } else { cells.answer(number) }.unwrap();
    if step == Step::Written {
        return;
    }
    half.u64::<{ half::LEN }>().store(message.len() as u64, Relaxed);
    if step == Step::LenStored {
        return;
    }
    let word = match side {
        Side::Request => CellWord::new(CellKind::Asked, 0, number).0,
        Side::Reply => AnswerWord::new(Status::Replied, number).0,
    };
    half.u64::<{ half::WORD }>().store(word, Relaxed);
    match step {
        Step::KeptSome => area.keep_parcel(&chunks[..1]).unwrap(),
        Step::Kept => area.keep_parcel(&chunks).unwrap(),
        _ => {}
    }
}

#[test]
fn a_client_that_dies_at_any_step_of_a_long_request_leaves_nothing() {
    for step in STEPS {
        for served in [false, true] {
            let (stage, service, before) = stage();
            act_as(2);
            let victim = service.client().unwrap();
            up_to(step, &service, Side::Request, 1, &long(3 * PART, 0));
            std::mem::forget(victim);
            act_as(1);
            let mut server = service.server().unwrap();
            let asked = !matches!(step, Step::Written | Step::LenStored);
            if served && asked {
                // It may be served, even before its client is known to be dead.
                let (token, bytes) = taken(&mut server);
                assert_eq!(bytes, long(3 * PART, 0));
                reap(&stage, &service, 2);
                assert!(!token.reply(&bytes).unwrap());
            } else {
                reap(&stage, &service, 2);
            }
            nothing(&mut server);
            assert_eq!(free(&stage), before, "{step:?} {served}");
            service.client().unwrap().call_for_test(&mut server, &long(2 * PART, 1));
            assert_eq!((service.stats().unwrap().rings, free(&stage)), (1, before));
        }
    }
}

#[test]
fn a_server_that_dies_at_any_step_of_a_long_reply_has_answered_or_leaves_nothing() {
    for step in STEPS {
        for given_up in [false, true] {
            let (stage, service, before) = stage();
            let mut client = service.client().unwrap();
            let call = client.send(&long(2 * PART, 0)).unwrap();
            act_as(2);
            let mut victim = service.server().unwrap();
            std::mem::forget(taken(&mut victim));
            std::mem::forget(victim);
            up_to(step, &service, Side::Reply, call.number(), &long(3 * PART, 1));
            act_as(1);
            let mut reply = Vec::new();
            if given_up {
                client.cancel(call).unwrap();
                reap(&stage, &service, 2);
            } else {
                reap(&stage, &service, 2);
                let ended = client.wait(call, &mut reply, NOW);
                if matches!(step, Step::Written | Step::LenStored) {
                    assert_eq!(code(ended), ErrorCode::PeerDied);
                } else {
                    ended.unwrap();
                    assert_eq!(reply, long(3 * PART, 1));
                }
            }
            assert_eq!(free(&stage), before, "{step:?} {given_up}");
            let mut server = service.server().unwrap();
            for _ in 0..5 {
                client.call_for_test(&mut server, &long(2 * PART, 1));
            }
            assert_eq!(free(&stage), before);
            assert_sound(&service);
        }
    }
}

#[test]
fn the_next_client_ends_what_a_dead_server_had_of_a_call_that_was_left() {
    let (stage, service, before) = stage();
    let mut client = service.client().unwrap();
    let calls: Vec<Call> = (0..4).map(|_| client.send(b"q").unwrap()).collect();
    act_as(2);
    let mut victim = service.server().unwrap();
    calls.iter().for_each(|_| std::mem::forget(taken(&mut victim)));
    std::mem::forget(victim);
    act_as(1);
    calls.iter().for_each(|call| client.cancel(*call).unwrap());
    drop(client);
    // It goes on, and dies when it has shown the reply.
    act_as(2);
    up_to(Step::Kept, &service, Side::Reply, calls[2].number(), &long(3 * PART, 1));
    act_as(1);
    stage.kill(2);
    assert!(free(&stage) < before);
    let _next = service.client().unwrap();
    assert_eq!((service.stats().unwrap().left, free(&stage)), (0, before));
}

#[test]
fn a_reaper_that_was_slow_takes_no_chunks_from_the_next_client() {
    let (stage, service, before) = stage();
    act_as(2);
    let mut victim = service.client().unwrap();
    victim.send(&long(2 * PART, 0)).unwrap();
    let seen = service.area.client_state(0).unwrap();
    std::mem::forget(victim);
    reap(&stage, &service, 2);
    act_as(1);
    let mut client = service.client().unwrap();
    let mut server = service.server().unwrap();
    let calls: Vec<Call> = (0..2).map(|number| client.send(&long(2 * PART, number)).unwrap()).collect();
    // One waits to be collected, one waits for a server.
    assert!(taken(&mut server).0.reply(&long(3 * PART, 5)).unwrap());
    let cells = service.area.cells(0).unwrap().unwrap();
    let_calls_go(&service.area, &cells, seen).unwrap();
    // Nor does who ends a call that was there before, however late.
    for number in 1..calls[0].number() {
        service.area.end_call(&cells, number);
    }
    let mut reply = Vec::new();
    client.wait(calls[0], &mut reply, NOW).unwrap();
    assert_eq!(reply, long(3 * PART, 5));
    assert_eq!(taken(&mut server).1, long(2 * PART, 1));
    assert_eq!(code(client.wait(calls[1], &mut reply, NOW)), ErrorCode::Unanswered);
    assert_eq!(free(&stage), before);
}

#[test]
fn requests_that_are_given_up_while_they_are_copied_are_served_whole_or_not_at_all() {
    let (stage, service, before) = stage();
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let done = std::sync::atomic::AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            act_as(2);
            let (mut bytes, mut served) = (Vec::new(), 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let Some(request) = server.try_take(&mut bytes).expect("no error") else { continue };
                let number = bytes[0] as usize / 7;
                assert!(bytes == long(6 * PART, number), "a torn request");
                let _ = request.reply(&bytes).expect("answered");
                served += 1;
            }
            drop(server);
            served
        });
        act_as(1);
        let mut reply = Vec::new();
        for round in 0..3000usize {
            let message = long(6 * PART, round % 30);
            let Ok(call) = client.send(&message) else { continue };
            if round % 3 == 0 {
                match client.wait(call, &mut reply, Some(Duration::from_micros(200))) {
                    Ok(_) => assert!(reply == message, "another reply"),
                    Err(error) => assert_eq!(error.code(), ErrorCode::TimedOut),
                }
            } else {
                for _ in 0..round % 500 {
                    std::hint::spin_loop();
                }
                client.cancel(call).expect("given up");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        worker.join().expect("it ends")
    });
    assert!(served > 100, "{served}");
    assert_eq!(free(&stage), before);
    assert_sound(&service);
}

#[test]
fn a_chunk_that_is_none_of_the_call_is_neither_read_nor_given_back() {
    let (stage, service, before) = stage();
    let pool = stage.give_chunks(CHUNKS);
    let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
    let cells = service.area.cells(0).unwrap().unwrap();
    let me = crate::channel::Ground::actor(&*stage).unwrap();
    let foreign = pool.take_loose(me, 99, &mut Search::default()).unwrap();
    pool.keep_loose(1, foreign).unwrap();
    let mut bytes = Vec::new();
    // Another object's; one that has another number; one whose length is another; none at all.
    for damage in 0..5 {
        let call = client.send(&long(2 * PART, 0)).unwrap();
        let half = cells.request(call.number()).unwrap();
        let (first, len) = (half.u64::<{ half::HEADER as usize }>(), half.u64::<{ half::LEN }>());
        let kept = first.load(Relaxed);
        let span = pool.loose_span(Loose::from_word(kept).unwrap()).unwrap().unwrap();
        match damage {
            0 => first.store(foreign.word(), Relaxed),
            1 => span.u64(16).unwrap().store(call.number() + 4, Relaxed),
            2 => len.store(2 * PART as u64 + 1, Relaxed),
            3 => first.store(0, Relaxed),
            // The last names the first: a ring.
            _ => span.u64(0).unwrap().store(kept, Relaxed),
        }
        if damage == 4 {
            // It ends: the length says how many there are.
            let _ = server.try_take(&mut bytes).unwrap();
        } else {
            assert_eq!(code(server.try_take(&mut bytes)), ErrorCode::Corrupt, "{damage}");
        }
        let ended = client.wait(call, &mut bytes, NOW);
        assert_eq!(code(ended), ErrorCode::Unanswered, "its server let it go");
    }
    assert!(pool.loose_span(foreign).unwrap().is_some());
    assert_eq!(client.outstanding(), 0);
    // What the damage left is told by the check.
    let mut problems = Vec::new();
    check_taken_over(&service.area, &mut |what, _| problems.push(what)).unwrap();
    assert!(problems.iter().any(|problem| problem.contains("nobody names its chunk")), "{problems:?}");
    assert!(free(&stage) < before);
}

#[test]
fn a_request_that_waits_and_is_not_whole_is_told_by_the_check() {
    let (_stage, service, _) = stage();
    let mut client = service.client().unwrap();
    let call = client.send(&long(2 * PART, 0)).unwrap();
    assert_sound(&service);
    let cells = service.area.cells(0).unwrap().unwrap();
    service.area.end_parcel(&cells, Side::Request, call.number());
    let mut problems = Vec::new();
    check_taken_over(&service.area, &mut |what, _| problems.push(what)).unwrap();
    assert!(problems.iter().any(|problem| problem.contains("not whole")), "{problems:?}");
}

#[test]
fn any_content_of_a_cell_or_a_parcel_gives_an_error_and_never_a_panic() {
    let mut next = numbers();
    let (mut errors, mut whole) = (0usize, 0usize);
    for _ in 0..400 {
        let (stage, service, _) = stage();
        let (mut client, mut server) = (service.client().unwrap(), service.server().unwrap());
        let mut bytes = Vec::new();
        let calls: Vec<Call> = (0..4).map(|number| client.send(&long(3 * PART, number)).unwrap()).collect();
        let held = server.try_take(&mut bytes).unwrap();
        whole += usize::from(taken(&mut server).0.reply(&long(2 * PART, 1)).unwrap());
        let pool = stage.give_chunks(CHUNKS);
        let cells = service.area.cells(0).unwrap().unwrap();
        for _ in 0..1 + next() % 4 {
            let number = 1 + next() % 4;
            let half =
                if next().is_multiple_of(2) { cells.request(number) } else { cells.answer(number) }.unwrap();
            let (len, first) = (half.u64::<{ half::LEN }>(), half.u64::<{ half::HEADER as usize }>());
            let value = match next() % 5 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => next() % (1 << 18),
                3 => first.load(Relaxed),
                _ => next() % u64::from(CHUNKS + 2),
            };
            let chunk = Loose::from_word(first.load(Relaxed));
            let span = chunk.and_then(|chunk| pool.loose_span(chunk).ok().flatten());
            match (next() % 4, span) {
                (0, _) => len.store(value, Relaxed),
                (1, _) => first.store(value, Relaxed),
                (_, Some(span)) => span.u64(next() % 5 * 8).unwrap().store(value, Relaxed),
                _ => {}
            }
        }
        for _ in 0..3 {
            match server.try_take(&mut bytes) {
                Ok(Some(request)) => {
                    whole += 1;
                    errors += usize::from(request.reply(&bytes).is_err());
                }
                Ok(None) => {}
                Err(_) => errors += 1,
            }
        }
        drop(held);
        for call in calls {
            match client.wait(call, &mut bytes, NOW) {
                Ok(_) => whole += 1,
                Err(_) => errors += 1,
            }
        }
        let _ = check(&service.area, &mut |_, _| errors += 1);
        let _ = check_taken_over(&service.area, &mut |_, _| errors += 1);
        stage.kill(1);
        errors += usize::from(inherit(&service.area, 1).is_err());
        act_as(3);
        let mut next_client = service.client().unwrap();
        next_client.call_for_test(&mut service.server().unwrap(), &long(2 * PART, 7));
    }
    assert!(errors > 400 && whole > 1000, "{errors} {whole}");
}

impl Client {
    /// A call that is answered with its own bytes.
    #[track_caller]
    fn call_for_test(&mut self, server: &mut Server, message: &[u8]) {
        let call = self.send(message).unwrap();
        let (token, bytes) = taken(server);
        assert!(token.reply(&bytes).unwrap());
        let mut reply = Vec::new();
        self.wait(call, &mut reply, NOW).unwrap();
        assert_eq!(reply, message);
    }
}
