//! Victims on services: clients and servers in one process, several calls under way, short and long, giving up, threads that end with calls in hand.

use std::time::Duration;

use memora::{ErrorCode, Fabric, Service, ServiceOptions};
use memora_stress::random::Random;
use memora_testkit::call_history::{CallClient, CallServer, judge};
use memora_testkit::fork::end_thread;
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::{PATIENCE, Worker};

use crate::{Blow, ENTRY, Place, Scenario, borrowed, check, environment, keep};

pub const SCENARIO: Scenario = Scenario { role: "service", covers, tries: 2, prepare, survive, conclude };

const OPTIONS: ServiceOptions = ServiceOptions { message_bytes: 500, calls: 4 };
/// Bytes of requests that do not fit a cell; their replies are a little longer.
const LONG: usize = 40_000;
/// A server that is frozen with a call in hand keeps its client waiting this long.
const PATIENT: Duration = Duration::from_millis(100);

fn covers(name: &str) -> bool {
    name.starts_with("service.") || name.starts_with("chunk.parcel.")
}

fn fabric(place: &Place) -> Fabric {
    place.open("services", crate::FABRIC_LIMIT)
}

fn open(fabric: &Fabric, name: &str) -> Service {
    fabric.service(name, &OPTIONS).unwrap_or_else(|error| panic!("service {name} does not open: {error}"))
}

/// Servers that are dead with calls in hand when the victim comes: the cells of their clients are what it uses next.
fn prepare(place: &Place) -> Vec<Victim> {
    let fabric = fabric(place);
    open(&fabric, "work");
    let service = open(&fabric, "dead");
    let mut client = service.client().expect("a client");
    let calls: Vec<_> = (0..4).map(|_| client.send(b"for the dead").expect("sent")).collect();
    let environment = environment(place);
    let mut taker =
        Victim::harm(ENTRY, "call taker", &borrowed(&environment), ("service.take.after", 4, Harm::Freeze))
            .expect("it takes four calls");
    for call in calls {
        client.cancel(call).expect("given up");
    }
    assert!(Worker::was_killed(taker.worker().kill()), "a frozen process does nothing but die");
    let answered = ("service.answer.answered", 1, Harm::Freeze);
    let mut answerer =
        Victim::harm(ENTRY, "answerer", &borrowed(&environment), answered).expect("it answers one call");
    assert!(Worker::was_killed(answerer.worker().kill()), "a frozen process does nothing but die");
    Vec::new()
}

/// Takes what is there and keeps it.
pub fn taker(place: &Place) {
    let mut server = open(&fabric(place), "dead").server().expect("a server");
    let mut buffer = Vec::new();
    let mut held = Vec::new();
    while let Some(request) = server.try_take(&mut buffer).expect("taken") {
        held.push(request);
    }
}

/// Answers a long request with a long reply. Its own thread is there first, so who takes over finds the server before the client.
pub fn answerer(place: &Place) {
    let service = open(&fabric(place), "answered");
    let mut server = service.server().expect("a server");
    let asking = std::thread::spawn(move || {
        let mut client = service.client().expect("a client");
        client.call(&[1; LONG], &mut Vec::new(), Some(PATIENCE)).expect("a reply");
    });
    let mut buffer = Vec::new();
    let request = server.take(&mut buffer, Some(PATIENCE)).expect("taken").expect("it was sent");
    assert!(request.reply(&buffer).expect("answered"));
    asking.join().expect("it ends");
}

pub fn victim(place: &Place) {
    let fabric = fabric(place);
    // Of those who died in the midst of a long reply.
    fabric.reap().expect("reaped");
    use_cells_of_the_dead(&fabric);
    let mut random = Random::new("victim");
    for _ in 0..3 {
        work(&fabric, place, "victim", &mut random, 40);
    }
    // On a service of its own, because what these threads do stands in no history.
    for _ in 0..3 {
        end_with_calls_in_hand(&fabric);
        die_with_calls_in_hand(&fabric);
    }
}

/// The first to come finds the servers of these cells dead; whoever opened the fabric may have reaped them before.
fn use_cells_of_the_dead(fabric: &Fabric) {
    let mut client = open(fabric, "dead").client().expect("a client");
    for _ in 0..4 {
        let call = client.send(b"again").expect("the cells are free");
        client.cancel(call).expect("given up");
    }
}

/// Clients and servers, in one thread, do everything that they can.
fn work(fabric: &Fabric, place: &Place, who: &str, random: &mut Random, count: u64) {
    let service = open(fabric, "work");
    let client = || {
        CallClient::open(&place.root, &service, who)
            .unwrap_or_else(|error| panic!("{who} cannot ask: {error}"))
    };
    let server = || {
        CallServer::open(&place.root, &service, who)
            .unwrap_or_else(|error| panic!("{who} cannot serve: {error}"))
    };
    let mut clients = [client(), client()];
    let mut servers = [server(), server()];
    let mut held = Vec::new();
    for _ in 0..count {
        let (asking, serving) = (random.draw(2) as usize, random.draw(2) as usize);
        for _ in 0..random.draw(4) {
            let most = if random.draw(4) == 0 { LONG as u64 } else { 300 };
            clients[asking].send(random.draw(most) as usize);
        }
        held.extend(servers[serving].take(None));
        if !held.is_empty() && random.draw(3) > 0 {
            let work = held.swap_remove(random.draw(held.len() as u64) as usize);
            if random.draw(8) == 0 {
                std::thread::scope(|scope| scope.spawn(|| work.reply()).join()).expect("answered");
            } else {
                servers[serving].answer(work, random);
            }
        }
        let open = clients[asking].open_calls();
        if let Some(&call) = open.first() {
            match random.draw(12) {
                0 => clients[asking].cancel(call),
                1 => clients[asking].wait(call, Duration::from_millis(random.draw(3))),
                _ => {
                    clients[asking].poll();
                }
            }
        }
    }
    for work in held {
        servers[0].answer(work, random);
    }
    for client in clients {
        client.close();
    }
}

/// A thread ends with a call that it took, one that it asked, and both entries.
fn end_with_calls_in_hand(fabric: &Fabric) {
    let service = open(fabric, "apart");
    let mut client = service.client().expect("a client");
    let call = client.send(b"taken").expect("sent");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut server = service.server().expect("a server");
            let mut other = service.client().expect("a client");
            std::mem::forget(server.try_take(&mut Vec::new()).expect("taken"));
            other.send(b"asked").expect("sent");
            std::mem::forget((server, other));
        });
        thread.join().expect("it ends");
    });
    let mut server = service.server().expect("a server");
    let mut buffer = Vec::new();
    // A survivor may have taken it while this process stood still.
    let ended = client.wait(call, &mut buffer, Some(PATIENCE)).map_err(|error| error.code());
    assert!(matches!(ended, Err(ErrorCode::PeerDied | ErrorCode::Unanswered)), "{ended:?}");
    while let Some(request) = server.try_take(&mut buffer).expect("looked") {
        assert_ne!(buffer, b"asked", "it was withdrawn");
        drop(request);
    }
}

/// A thread dies without letting go of anything, as if it had been killed: its client finds that out by itself, and takes back
/// the cell of a call that it had given up.
fn die_with_calls_in_hand(fabric: &Fabric) {
    let service = open(fabric, "apart");
    let mut client = service.client().expect("a client");
    let call = client.send(b"taken").expect("sent");
    let given_up = client.send(b"given up").expect("sent");
    let of_thread = service.clone();
    std::thread::spawn(move || {
        let mut server = of_thread.server().expect("a server");
        let mut take = || std::mem::forget(server.try_take(&mut Vec::new()).expect("taken"));
        take();
        take();
        end_thread();
    });
    let ended = client.wait(call, &mut Vec::new(), Some(PATIENCE)).map_err(|error| error.code());
    assert!(matches!(ended, Err(ErrorCode::PeerDied | ErrorCode::Unanswered)), "{ended:?}");
    client.cancel(given_up).expect("given up");
    for _ in 0..OPTIONS.calls {
        let call = client.send(b"again").expect("no cell is with the dead");
        client.cancel(call).expect("given up");
    }
}

fn survive(place: &Place, blow: Blow) {
    let root = Place { root: place.root.clone() };
    within_patience("calls beside the victim", move || {
        let fabric = fabric(&root);
        work(&fabric, &root, "survivor", &mut Random::new(&format!("survivor {blow:?}")), 40);
        use_cells_of_the_dead(&fabric);
        // What the victim asked goes to whoever comes.
        for name in ["apart", "dead"] {
            let service = open(&fabric, name);
            let mut server = service.server().expect("a server");
            let mut client = service.client().expect("a client");
            let call = client.send(b"survivor").expect("sent");
            let mut buffer = Vec::new();
            while let Some(request) = server.try_take(&mut buffer).expect("taken") {
                if buffer == b"survivor" {
                    assert!(request.reply(b"yes").expect("answered"));
                }
            }
            assert_eq!(client.wait(call, &mut buffer, Some(PATIENT)).expect("a reply"), 3);
        }
    });
    let fabric = fabric(place);
    within_patience("the check", move || check(&fabric, "with the victim"));
}

fn conclude(place: &Place) {
    let fabric = fabric(place);
    let mut random = Random::new("last");
    work(&fabric, place, "last", &mut random, 20);
    let service = open(&fabric, "work");
    let mut server = CallServer::open(&place.root, &service, "end").expect("a server");
    assert!(server.take(None).is_none(), "nobody is left who asked anything");
    check(&fabric, "after the victim");
    for name in ["work", "apart", "dead"] {
        let stats = open(&fabric, name).stats().expect("counted");
        assert_eq!((stats.asked, stats.taken, stats.left, stats.clients), (0, 0, 0, 0), "{name}: {stats:?}");
    }
    match judge(&place.root, |name| name.starts_with("victim")) {
        Err(error) => panic!("{error}\nhistories kept in {}", keep(place).display()),
        Ok(summary) => assert!(summary.served > 0 && summary.replied > 0, "{summary:?}"),
    }
}
