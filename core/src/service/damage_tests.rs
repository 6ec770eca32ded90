//! What damaged or hostile content of a service can do: errors and wrong replies, nothing else.

use std::time::Duration;

use super::inherit::inherit;
use super::layout::{AnswerWord, CellWord, NUMBER_MAX, Status, control, half};
use super::testing::{CONTROL, open, reopen, service};
use super::*;
use crate::channel::testing::{CONTROL_BYTES, act_as};
use crate::error::ErrorCode;
use crate::shm::atomic::Ordering::Relaxed;

const OPTIONS: ServiceOptions = ServiceOptions { message_bytes: 100, calls: 4 };

#[test]
fn any_content_of_a_cell_or_control_area_gives_an_error_or_messages_and_never_a_panic() {
    let mut random = 0x9e3779b97f4a7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut errors = 0;
    for _ in 0..600 {
        let (stage, service) = service(&OPTIONS, 2);
        act_as(1);
        let mut client = service.client().unwrap();
        let mut server = service.server().unwrap();
        let calls: Vec<Call> = (0..4).map(|_| client.send(&[3; 77]).unwrap()).collect();
        let mut bytes = Vec::new();
        let mut held: Vec<Request> = (0..2).filter_map(|_| server.try_take(&mut bytes).unwrap()).collect();
        let all = stage.shm.span(CONTROL, stage.shm.len() - CONTROL).unwrap();
        for _ in 0..1 + next() % 40 {
            // Mostly the parts that are used, all of them sometimes.
            let at = match next() % 5 {
                0 => next() % 192,
                1 => 192 + next() % 128,
                2 => CONTROL_BYTES + next() % (4 * 384),
                3 => CONTROL_BYTES + next() % 8 * 192 + next() % 16,
                _ => next() % all.len(),
            } & !7;
            let value = match next() % 6 {
                0 => next(),
                1 => u64::MAX - next() % 64,
                2 => CellWord((next() % 6) | (next() % 4) << 4 | (next() % 9) << 16).0,
                3 => AnswerWord::new(Status::Replied, next() % 9).0,
                4 => NUMBER_MAX - next() % 9,
                _ => next() % 8192,
            };
            all.u64(at).unwrap().store(value, Relaxed);
        }
        for _ in 0..6 {
            errors += u32::from(client.send(&[1; 50]).is_err());
            if let Ok(Some(request)) = server.try_take(&mut bytes) {
                errors += u32::from(request.reply(&bytes[..bytes.len().min(9)]).is_err());
            }
            if let Some(request) = held.pop() {
                errors += u32::from(request.reply(b"held").is_err());
            }
            errors += u32::from(!matches!(client.poll_any(&mut bytes), Ok(Some((_, Ok(_))))));
        }
        for call in calls {
            errors += u32::from(client.wait(call, &mut bytes, Some(Duration::ZERO)).is_err());
        }
        errors += u32::from(client.outstanding() > 4);
        let _ = check(&service.area, &mut |_, _| errors += 1);
        let _ = check_taken_over(&service.area, &mut |_, _| errors += 1);
        errors += u32::from(inherit(&service.area, 1).is_err());
        errors += u32::from(service.stats().is_err());
        errors += u32::from(service.client().is_err());
        errors += u32::from(service.server().is_err());
        errors += u32::from(open(&stage).is_err());
    }
    assert!(errors > 600, "{errors}");
}

#[test]
fn a_control_area_that_cannot_be_is_refused() {
    let (stage, service) = service(&OPTIONS, 1);
    for (at, value) in [
        (control::MESSAGE_BYTES, 0u32),
        (control::MESSAGE_BYTES, u32::MAX),
        (control::CALLS, 0),
        (control::CALLS, 3),
        (control::CLIENTS, 257),
        (control::SERVERS, 0),
    ] {
        let word = stage.shm.span(CONTROL, 64).unwrap().u32(at as u64).unwrap();
        let before = word.swap(value, Relaxed);
        assert_eq!(open(&stage).err().unwrap().code(), ErrorCode::Corrupt, "{at} {value}");
        word.store(before, Relaxed);
    }
    assert!(open(&stage).is_ok());
    let far = Area::open(stage.shm.clone(), stage.clone(), u64::MAX - 7, CONTROL_BYTES, "t");
    assert!(far.is_err());
    drop(service);
}

#[test]
fn requests_of_hostile_lengths_and_numbers_are_refused_and_the_next_client_is_served() {
    let (stage, service) = service(&OPTIONS, 2);
    act_as(1);
    let (mut hostile, mut client) = (service.client().unwrap(), service.client().unwrap());
    let mut server = service.server().unwrap();
    let call = hostile.send(b"q").unwrap();
    let cells = service.area.cells(0).unwrap().unwrap();
    cells.request(call.number()).unwrap().u64::<{ half::LEN }>().store(101, Relaxed);
    let honest = client.send(b"honest").unwrap();
    let mut bytes = Vec::new();
    assert_eq!(server.try_take(&mut bytes).unwrap_err().code(), ErrorCode::Corrupt);
    let request = server.try_take(&mut bytes).unwrap().unwrap();
    assert_eq!((bytes.as_slice(), request.client()), (&b"honest"[..], 1));
    // A count of calls that nobody can have made hides no other client for longer than an error.
    cells.entry().u64::<{ layout::client::POSTED }>().store(u64::MAX, Relaxed);
    assert!(request.reply(b"a").unwrap());
    client.wait(honest, &mut bytes, None).unwrap();
    client.send(b"honest").unwrap();
    let found = (0..4).find_map(|_| server.try_take(&mut bytes).ok().flatten());
    assert_eq!(found.unwrap().client(), 1);
    // Replies of a hostile length.
    let second = reopen(&stage);
    let call = client.send(b"q").unwrap();
    let cells = second.area.cells(1).unwrap().unwrap();
    let answer = cells.answer(call.number()).unwrap();
    answer.u64::<{ half::LEN }>().store(101, Relaxed);
    answer.u64::<{ half::WORD }>().store(AnswerWord::new(Status::Replied, call.number()).0, Relaxed);
    assert_eq!(client.poll(call, &mut bytes).unwrap_err().code(), ErrorCode::Corrupt);
}
