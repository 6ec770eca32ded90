//! Topics under a storm: publishers and subscribers in processes of their own are killed, stopped, continued and replaced at random. No
//! subscriber sees a number of a key go back, a torn value, or miss the last one.
//!
//! `MEMORA_TORTURE=N` makes it longer.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memora::{Fabric, FabricOptions, Topic, TopicOptions, TopicSubscriber};
use memora_stress::random::{Random, fnv1a};
use memora_testkit::kill_point::torture;
use memora_testkit::process::{self, PATIENCE, Worker};

const HOME: &str = "MEMORA_TOPIC_HOME";
const KEYS: u64 = 20;

fn fabric(home: &Path) -> Fabric {
    FabricOptions::new().home(home.join("home")).limit(8 << 20).open("topics").expect("the fabric opens")
}

fn open(fabric: &Fabric) -> Topic {
    fabric.topic("prices", &TopicOptions::default()).expect("the topic opens")
}

/// Follows the numbers of keys, and judges.
struct Follower {
    subscriber: TopicSubscriber,
    last: HashMap<Vec<u8>, u64>,
}

impl Follower {
    fn new(topic: &Topic) -> Follower {
        Follower { subscriber: topic.subscribe().expect("subscribed"), last: HashMap::new() }
    }

    fn follow(&mut self, wait: Duration) -> bool {
        let Some(update) = self.subscriber.next(Some(wait)).expect("told") else { return false };
        let before = self.last.insert(update.key.clone(), update.number).unwrap_or(0);
        assert!(update.number > before, "{} after {before}", update.number);
        if before > 0 {
            assert_eq!(update.number, before + update.conflated + 1, "the number of those it skipped");
        }
        if let Some(value) = update.value {
            let (sum, rest) = value.split_at(8);
            assert_eq!(sum, fnv1a(rest).to_le_bytes(), "torn");
        }
        true
    }
}

/// Plays the workers; a plain run has none.
#[test]
fn entry() {
    let Some(role) = process::role() else {
        assert!(std::env::var_os(HOME).is_none());
        return;
    };
    let home = PathBuf::from(std::env::var_os(HOME).expect("the parent gives a place"));
    let fabric = fabric(&home);
    let topic = open(&fabric);
    let mut random = Random::new(&format!("{role}{}", std::process::id()));
    process::tell("ready");
    if role == "publish" {
        loop {
            let key = random.draw(KEYS).to_le_bytes();
            let rest = vec![random.draw(256) as u8; random.draw(300) as usize];
            let value = [fnv1a(&rest).to_le_bytes().to_vec(), rest].concat();
            let number = match random.draw(20) {
                0 => topic.retract(&key),
                _ => topic.publish(&key, &value),
            };
            assert!(number.expect("published") > 0);
        }
    }
    let mut follower = Follower::new(&topic);
    loop {
        follower.follow(Duration::from_millis(20));
        if random.draw(200) == 0 {
            std::thread::sleep(Duration::from_millis(random.draw(20)));
        }
    }
}

#[test]
fn a_storm_takes_no_subscriber_back_and_all_see_the_last_values() {
    let dir = tempfile::Builder::new().prefix("memora-topic-").tempdir_in("/dev/shm").expect("writable");
    let fabric = fabric(dir.path());
    let topic = open(&fabric);
    let spawn = |role: &str| {
        let home: OsString = dir.path().into();
        let environment: [(&str, &OsStr); 1] = [(HOME, &home)];
        let mut worker = Worker::spawn("entry", role, &environment);
        worker.expect_line("ready");
        worker
    };
    let mut random = Random::new("topic");
    let roles = ["publish", "publish", "follow", "follow"];
    let mut workers: Vec<Worker> = roles.iter().map(|role| spawn(role)).collect();
    let mut follower = Follower::new(&topic);
    for _ in 0..20 * torture() {
        let end = Instant::now() + Duration::from_millis(random.draw(60));
        while Instant::now() < end {
            follower.follow(Duration::from_millis(5));
        }
        let which = random.draw(roles.len() as u64) as usize;
        if random.draw(3) == 0 {
            assert!(workers[which].stop(), "it ended by itself: {}", workers[which].errors());
            follower.follow(Duration::from_millis(random.draw(100)));
            workers[which].resume();
        } else {
            assert!(Worker::was_killed(workers[which].kill()), "{}", workers[which].errors());
            workers[which] = spawn(roles[which]);
        }
    }
    for worker in &mut workers {
        assert!(Worker::was_killed(worker.kill()), "it ended by itself: {}", worker.errors());
    }
    // A publisher may have died between a value and its hint: everybody comes to the last value all the same.
    let mut late = Follower::new(&topic);
    let end = Instant::now() + PATIENCE;
    let updates = topic.stats().expect("counted").updates;
    while follower.last.values().sum::<u64>() < updates || late.last.values().sum::<u64>() < updates {
        assert!(Instant::now() < end, "{updates} updates, {:?} {:?}", follower.last, late.last);
        follower.follow(Duration::from_millis(10));
        late.follow(Duration::from_millis(10));
    }
    assert!(updates > 1000 && follower.last == late.last);
    fabric.reap().expect("reaped");
    let report = fabric.check().expect("checked");
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}
