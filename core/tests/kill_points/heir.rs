//! Victims that take over from others: from threads that were killed in the midst of each kind of work, and from one that is frozen
//! while it holds a lock.

use memora_stress::random::Random;
use memora_testkit::kill_point::{Harm, Victim, within_patience};
use memora_testkit::process::Worker;

use crate::{Blow, ENTRY, Place, Scenario, borrowed, cache, channel, check, environment};

pub const SCENARIO: Scenario = Scenario { role: "heir", covers, tries: 1, prepare, survive, conclude };

/// Those who die before the victim comes: what they leave is what it has to take over.
const DEAD: [(&str, &str, u64); 8] = [
    // Two open chunks that no split names.
    ("cache", "table.split.before_start", 1),
    // A chunk that is being cleaned.
    ("cache", "table.clean.before_move", 1),
    // An index chunk that nothing names any more.
    ("cache", "table.split.swung", 1),
    // An insert lock, and a chunk with records.
    ("cache", "table.insert.locked", 40),
    // A lane whose tail is behind its frames, with and without counts.
    ("channel", "channel.frame.committed", 30),
    ("channel", "channel.frame.committed", 600),
    // A subscription that was about to begin.
    ("channel", "channel.join.claimed", 1),
    // A chunk of a control area that no name leads to.
    ("channel", "directory.create.before_publish", 1),
];
/// The one who holds a lock and does not go on for now.
const FROZEN: (&str, &str, u64) = ("inserter", "table.insert.locked", 1);

/// Everything else is reached by the other scenarios with less effort.
fn covers(name: &str) -> bool {
    [".inherit.", ".reap.", ".repair.", ".stolen", ".poisoned"].iter().any(|part| name.contains(part))
}

/// All come to stand at their points before the first of them dies, because whoever opens a fabric takes over from the dead.
fn prepare(place: &Place) -> Vec<Victim> {
    let environment = environment(place);
    let freeze = |(role, name, nth)| {
        Victim::harm(ENTRY, role, &borrowed(&environment), (name, nth, Harm::Freeze))
            .unwrap_or_else(|| panic!("{role} does not reach {name}:{nth}"))
    };
    let mut dying: Vec<Victim> = DEAD.into_iter().map(freeze).collect();
    let frozen = freeze(FROZEN);
    for victim in &mut dying {
        assert!(Worker::was_killed(victim.worker().kill()), "a frozen process does nothing but die");
    }
    vec![frozen]
}

/// Inserts a key that nobody else has inserted: the lock of its home is what the frozen one holds.
pub fn insert(place: &Place, who: &str) {
    cache::insert_many(&mut cache::client(cache::open(&place.fabric()), place, who), 9000, 1);
}

pub fn victim(place: &Place) {
    // Opening takes over; nobody has used again what the dead left.
    check(&place.channels(), "right after taking over");
    insert(place, "victim");
    cache::survivor(place, "victim", &mut Random::new("victim"));
    channel::survivor(place, "victim", &mut Random::new("victim"));
    for fabric in [place.fabric(), place.channels()] {
        fabric.reap().expect("reaped");
    }
}

fn survive(place: &Place, blow: Blow) {
    let place = Place { root: place.root.clone() };
    within_patience("taking over from the heir", move || {
        insert(&place, "survivor");
        let mut random = Random::new(&format!("survivor {blow:?}"));
        cache::survivor(&place, "survivor", &mut random);
        channel::survivor(&place, "survivor", &mut random);
        for fabric in [place.fabric(), place.channels()] {
            check(&fabric, "with the victim");
        }
    });
}

fn conclude(place: &Place) {
    cache::conclude(place);
    channel::conclude(place);
}
