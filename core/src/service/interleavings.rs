//! Every interleaving of a call with its server's work, with giving up, and with the death of either, on the real functions.
//!
//! Run with `RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --release --target-dir target/loom interleavings`.

use std::sync::Arc;
use std::time::Duration;

use super::inherit::inherit;
use super::layout::CellKind;
use super::testing::{CONTROL, open, service};
use super::*;
use crate::channel::testing::{Stage, act_as};
use crate::error::ErrorCode;
use crate::shm::atomic::spin_hint;

const OPTIONS: ServiceOptions = ServiceOptions { message_bytes: 8, calls: 2 };
const CLIENT: u16 = 1;
const SERVER: u16 = 2;
const NOW: Option<Duration> = Some(Duration::ZERO);

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.check(check);
}

/// A service with a client and a server, whose threads are entries 1 and 2.
fn stage() -> (Arc<Stage>, Client, Server) {
    let (stage, service) = service(&OPTIONS, 1);
    // Bytes of requests and replies are made before the threads that share them.
    let cells = stage.shm.span(CONTROL + crate::channel::testing::CONTROL_BYTES, 2 * 2 * 64).unwrap();
    act_as(CLIENT);
    let client = service.client().unwrap();
    for word in 0..cells.len() / 8 {
        cells.u64(word * 8).unwrap().store(0, Ordering::Relaxed);
    }
    act_as(SERVER);
    let mut server = service.server().unwrap();
    assert!(server.try_take(&mut Vec::new()).unwrap().is_none());
    act_as(CLIENT);
    (stage, client, server)
}

/// Takes what comes within a few looks and answers with the request's byte + 1.
fn serve(server: &mut Server, looks: usize) -> Vec<(u8, bool)> {
    act_as(SERVER);
    let mut bytes = Vec::new();
    let mut done = Vec::new();
    for _ in 0..looks {
        match server.try_take(&mut bytes).unwrap() {
            Some(request) => done.push((bytes[0], request.reply(&[bytes[0] + 1]).unwrap())),
            None => spin_hint(),
        }
    }
    done
}

/// A call is given up while its server takes and answers it; the next call may use the cell: no reply of another call is ever
/// seen, a reply that the server knows to be seen is, and each request is served once at most.
#[test]
fn giving_up_and_answering_agree_on_the_end_of_a_call() {
    model(2, || {
        let (stage, mut client, mut server) = stage();
        let worker = loom::thread::spawn(move || {
            let done = serve(&mut server, 2);
            (server, done)
        });
        let mut reply = Vec::new();
        let mut ends = Vec::new();
        for byte in [10u8, 20, 30] {
            let call = client.send(&[byte]);
            let Ok(call) = call else {
                assert_eq!(call.unwrap_err().code(), ErrorCode::TooManyCalls);
                continue;
            };
            let first = client.poll(call, &mut reply).unwrap();
            let ended = match first {
                Some(len) => Some(len),
                None => match client.withdraw_for_model(call, &mut reply) {
                    Ok(len) => Some(len),
                    Err(error) => {
                        assert_eq!(error.code(), ErrorCode::TimedOut);
                        None
                    }
                },
            };
            if ended.is_some() {
                assert_eq!(reply, [byte + 1], "the reply of another call");
            }
            ends.push((byte, ended.is_some()));
        }
        let (mut server, mut done) = worker.join().unwrap();
        done.extend(serve(&mut server, 1));
        for (byte, got) in &ends {
            let served: Vec<bool> =
                done.iter().filter(|(seen, _)| seen == byte).map(|(_, told)| *told).collect();
            assert!(served.len() <= 1, "served twice: {done:?}");
            // A server that was told so, gave the reply.
            assert!(!*got || !served.is_empty(), "{byte}: {ends:?} {done:?}");
            assert!(served != [true] || *got, "{byte}: {ends:?} {done:?}");
        }
        let area = open(&stage).unwrap();
        let cells = area.cells(0).unwrap().unwrap();
        for number in 0..2 {
            assert_eq!(cells.look(number).unwrap().kind(), Some(CellKind::Free));
        }
    });
}

/// The server is dead at some point of its work, which a reaper and the client find out at the same time: the call ends with its
/// reply or the death, and the cell is free.
#[test]
fn a_reaper_and_a_client_agree_on_the_death_of_a_server() {
    for answered in [false, true] {
        model(2, move || {
            let (stage, mut client, mut server) = stage();
            let call = client.send(&[10]).unwrap();
            act_as(SERVER);
            let mut bytes = Vec::new();
            let request = server.try_take(&mut bytes).unwrap().unwrap();
            if answered {
                let cells = open(&stage).unwrap().cells(0).unwrap().unwrap();
                let taken = cells.look(call.number()).unwrap();
                request.reply(&[11]).unwrap();
                // As it is between the two stores.
                assert!(cells.change(taken.as_kind(CellKind::Free), taken).unwrap());
            } else {
                std::mem::forget(request);
            }
            std::mem::forget(server);
            stage.kill(SERVER);
            let reaper = {
                let area = open(&stage).unwrap();
                loom::thread::spawn(move || inherit(&area, SERVER).unwrap())
            };
            act_as(CLIENT);
            let mut reply = Vec::new();
            let ended = client.poll(call, &mut reply);
            reaper.join().unwrap();
            if answered {
                assert_eq!((ended.unwrap(), reply.as_slice()), (Some(1), &[11u8][..]));
            } else {
                assert_eq!(ended.unwrap_err().code(), ErrorCode::PeerDied);
            }
            let next = client.send(&[20]).unwrap();
            assert_eq!(client.poll(next, &mut reply).unwrap(), None);
        });
    }
}

/// A dead client's entry is taken over by a reaper and by the next client while the server answers what the dead one asked.
#[test]
fn the_successor_of_a_dead_client_sees_no_reply_to_it() {
    const NEXT: u16 = 3;
    model(2, || {
        let (stage, mut victim, mut server) = stage();
        victim.send(&[10]).unwrap();
        std::mem::forget(victim);
        stage.kill(CLIENT);
        let worker = loom::thread::spawn(move || {
            let done = serve(&mut server, 2);
            (server, done)
        });
        let next = {
            let area = Arc::new(open(&stage).unwrap());
            loom::thread::spawn(move || {
                act_as(NEXT);
                let mut client = Client::new(area).unwrap();
                let call = client.send(&[20]).unwrap();
                let mut reply = Vec::new();
                let got = client.poll(call, &mut reply).unwrap();
                assert!(got.is_none() || reply == [21], "a reply to the dead");
                (client, call, got.is_some())
            })
        };
        let (mut server, mut done) = worker.join().unwrap();
        let (mut client, call, got) = next.join().unwrap();
        done.extend(serve(&mut server, 2));
        assert_eq!(done.iter().filter(|(byte, _)| *byte == 20).count(), 1, "{done:?}");
        if !got {
            act_as(NEXT);
            let mut reply = Vec::new();
            client.wait(call, &mut reply, NOW).unwrap();
            assert_eq!(reply, [21]);
        }
        let area = open(&stage).unwrap();
        let cells = area.cells(0).unwrap().unwrap();
        for number in 0..2 {
            assert_eq!(cells.look(number).unwrap().kind(), Some(CellKind::Free));
        }
    });
}

/// Two servers look for the same request.
#[test]
fn one_of_two_servers_takes_a_request() {
    model(2, || {
        let (stage, mut client, server) = stage();
        act_as(3);
        let mut other = Server::new(Arc::new(open(&stage).unwrap())).unwrap();
        assert!(other.try_take(&mut Vec::new()).unwrap().is_none());
        let workers = [(server, SERVER), (other, 3)].map(|(mut server, thread)| {
            loom::thread::spawn(move || {
                act_as(thread);
                let mut bytes = Vec::new();
                let taken = server.try_take(&mut bytes).unwrap();
                taken.map(|request| request.reply(&[bytes[0] + 1]).unwrap())
            })
        });
        act_as(CLIENT);
        let call = client.send(&[10]).unwrap();
        let taken = workers.map(|worker| worker.join().unwrap());
        assert!(taken.iter().flatten().count() <= 1, "{taken:?}");
        let mut reply = Vec::new();
        let got = client.poll(call, &mut reply).unwrap();
        assert_eq!(got.is_some(), taken.iter().any(Option::is_some));
        assert!(got.is_none() || reply == [11]);
    });
}
