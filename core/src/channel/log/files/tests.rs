//! Logs over a disk in memory: replay, files that go, faults, power cuts, bit rot, leaders that are stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::recovery::read_files;
use super::{LogFiles, Opening};
use crate::channel::area::{Area, create};
use crate::channel::log::testing::CONTROL;
use crate::channel::log::tests::assert_sound;
use crate::channel::testing::{Stage, act_as};
use crate::channel::{
    Channel, ChannelKind, ChannelOptions, LogReader, OverrunPolicy, ReadFrom, Retention, bytes_needed,
};
use crate::error::{ErrorCode, Result};
use crate::journal::layout::FileName;
use crate::journal::sim::{Disk, Fault, Random};
use crate::journal::{Durability, FileLayer};
use crate::shm::Shm;

const FILE: u64 = 64 << 10;

fn options(overrun: OverrunPolicy, bytes: Option<u64>, age: Option<Duration>) -> ChannelOptions {
    let files =
        LogFiles { durability: Durability::Process, bytes, file_bytes: FILE, ..LogFiles::new("/sim") };
    ChannelOptions {
        kind: ChannelKind::Log,
        overrun,
        retention: Some(Retention { bytes: 256 << 10, age }),
        files: Some(files),
        ..ChannelOptions::default()
    }
}

fn plain() -> ChannelOptions {
    options(OverrunPolicy::Overrun, None, None)
}

/// A fabric that was never there before, with the log in it.
struct Host {
    stage: Arc<Stage>,
    len: u64,
    id: u8,
}

impl Host {
    fn new(options: &ChannelOptions, id: u8) -> Host {
        let len = bytes_needed(options).unwrap();
        let shm = Arc::new(Shm::heap(CONTROL + len).unwrap());
        create(shm.span(CONTROL, len).unwrap(), options, 1).unwrap();
        let stage = Stage::new(shm, CONTROL);
        stage.give_chunks(64);
        Host { stage, len, id }
    }

    /// The log as another process opens it.
    fn open(&self, disk: &Disk, durability: Durability) -> Result<Channel> {
        crate::shm::fork::begin();
        let mut area = Area::open(self.stage.shm.clone(), self.stage.clone(), CONTROL, self.len, "test")?;
        area.attach_files(Opening {
            files: Arc::new(disk.clone()),
            dir: "/sim".into(),
            durability,
            fabric: [self.id; 16],
            fresh: [self.id + 100; 16],
        })?;
        Ok(Channel::from_area(area))
    }
}

fn fresh(disk: &Disk, options: &ChannelOptions, id: u8) -> Result<(Host, Channel)> {
    let host = Host::new(options, id);
    let channel = host.open(disk, Durability::Process)?;
    Ok((host, channel))
}

fn text(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    // Now and then one that stands in chunks, and in the files in parts.
    let len = if number % 97 == 50 { 3000 + number * 131 % 60_000 } else { number * 37 % 300 };
    bytes.resize(8 + len as usize, number as u8);
    bytes
}

fn append(channel: &Channel, numbers: std::ops::Range<u64>) {
    let mut appender = channel.appender().unwrap();
    for number in numbers {
        assert_eq!(appender.append(&text(number)).unwrap(), number);
    }
}

/// Reads on to the end; every message must be that of its position. Gives the first and how many.
fn read_all(reader: &mut LogReader) -> (u64, u64) {
    let first = reader.position();
    let mut count = 0;
    while reader
        .poll(7, |message, bytes| {
            assert_eq!(message.position, first + count);
            assert_eq!(bytes, text(message.position));
            count += 1;
        })
        .unwrap()
        > 0
    {}
    (first, count)
}

fn from_oldest(channel: &Channel) -> (u64, u64) {
    read_all(&mut channel.reader(ReadFrom::Oldest).unwrap())
}

fn code<T>(result: Result<T>) -> ErrorCode {
    result.map(|_| ()).unwrap_err().code()
}

fn journals(disk: &Disk) -> Vec<String> {
    let names = disk.names().unwrap();
    names.into_iter().filter(|name| matches!(FileName::parse(name), Some(FileName::Journal { .. }))).collect()
}

#[test]
fn positions_and_places_continue_in_another_fabric() {
    let disk = Disk::default();
    let (_host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..100);
    let mut named = channel.named_reader("audit", ReadFrom::Oldest).unwrap();
    assert_eq!(named.poll(40, |_, _| {}).unwrap(), 40);
    named.commit().unwrap();
    channel.flush().unwrap();
    // Neither of these is in the files.
    assert_eq!(named.poll(7, |_, _| {}).unwrap(), 7);
    named.commit().unwrap();
    append(&channel, 100..110);
    let stats = channel.stats().unwrap().log.unwrap();
    assert_eq!((stats.end, stats.files.unwrap().durable), (110, 100));
    assert_sound(&channel);

    let (_other, again) = fresh(&disk, &plain(), 2).unwrap();
    assert_eq!(from_oldest(&again), (0, 100));
    assert_sound(&again);
    append(&again, 100..150);
    let mut named = again.named_reader("audit", ReadFrom::Newest).unwrap();
    assert_eq!(read_all(&mut named), (40, 110));
    assert_eq!(from_oldest(&again), (0, 150));
    again.flush().unwrap();
    drop(named);
    again.flush().unwrap();
    let (_third, third) = fresh(&disk, &plain(), 3).unwrap();
    assert_eq!(third.named_reader("audit", ReadFrom::Oldest).unwrap().position(), 150);
    let from_middle = &mut third.reader(ReadFrom::Position(77)).unwrap();
    assert_eq!(read_all(from_middle), (77, 73));
    assert_eq!(code(third.reader(ReadFrom::Position(151))), ErrorCode::PositionAhead);
    // A name that was given up does not come back.
    assert!(third.unsubscribe("audit").unwrap());
    third.flush().unwrap();
    let (_fourth, fourth) = fresh(&disk, &plain(), 4).unwrap();
    assert_eq!(fourth.stats().unwrap().log.unwrap().readers, []);
    assert_sound(&fourth);
}

#[test]
fn a_reader_far_behind_reads_the_files_and_comes_back_to_memory() {
    let disk = Disk::default();
    let (host, channel) = fresh(&disk, &plain(), 1).unwrap();
    let mut slow = channel.named_reader("slow", ReadFrom::Oldest).unwrap();
    let mut appender = channel.appender().unwrap();
    for number in 0..6000 {
        appender.append(&text(number)).unwrap();
        if number % 700 == 0 {
            slow.poll(30, |message, bytes| assert_eq!(bytes, text(message.position))).unwrap();
        }
    }
    // Nobody asked for a flush: who needed room wrote what stood there.
    let log = channel.stats().unwrap().log.unwrap();
    assert_eq!((log.oldest, log.end), (0, 6000));
    assert!(channel.area.log().unwrap().oldest().position() > 3000);
    assert_eq!(read_all(&mut slow), (241, 5759));
    slow.seek(ReadFrom::Position(10)).unwrap();
    assert_eq!(read_all(&mut slow), (10, 5990));
    slow.seek(ReadFrom::Position(4000)).unwrap();
    slow.seek(ReadFrom::Position(1000)).unwrap();
    let mut buffer = Vec::new();
    assert_eq!(slow.try_recv(&mut buffer).unwrap().unwrap().position, 1000);
    let second = host.open(&disk, Durability::Process).unwrap();
    assert_eq!(from_oldest(&second), (0, 6000), "as another process");
    assert_sound(&channel);
}

#[test]
fn files_beyond_the_limit_go_and_readers_are_told_exactly() {
    let disk = Disk::default();
    let options = options(OverrunPolicy::Overrun, Some(4 * FILE), None);
    let (_host, channel) = fresh(&disk, &options, 1).unwrap();
    let mut behind = channel.named_reader("behind", ReadFrom::Oldest).unwrap();
    append(&channel, 0..9000);
    channel.flush().unwrap();
    let log = channel.stats().unwrap().log.unwrap();
    let files = log.files.unwrap();
    assert!(files.files <= 5 && files.bytes == files.files * FILE, "{files:?}");
    assert!(log.oldest > 6000 && log.oldest < 8900, "{}", log.oldest);
    let lost = behind.poll(9, |_, _| {}).unwrap_err();
    assert_eq!((lost.code(), lost.amount()), (ErrorCode::Overrun, log.oldest));
    assert_eq!(read_all(&mut behind), (log.oldest, 9000 - log.oldest));
    assert_eq!(code(channel.reader(ReadFrom::Position(5))), ErrorCode::PositionTrimmed);
    behind.commit().unwrap();
    channel.flush().unwrap();
    let (_other, again) = fresh(&disk, &options, 2).unwrap();
    assert_eq!(from_oldest(&again), (files.oldest, 9000 - files.oldest));
    assert_eq!(again.named_reader("behind", ReadFrom::Oldest).unwrap().position(), 9000);
    assert_sound(&again);
}

#[test]
fn files_that_are_too_old_go_and_the_newest_stays() {
    let disk = Disk::default();
    let options = options(OverrunPolicy::Overrun, None, Some(Duration::from_millis(20)));
    let (_host, channel) = fresh(&disk, &options, 1).unwrap();
    append(&channel, 0..2000);
    channel.flush().unwrap();
    std::thread::sleep(Duration::from_millis(40));
    append(&channel, 2000..2001);
    channel.flush().unwrap();
    std::thread::sleep(Duration::from_millis(40));
    channel.area.retain().unwrap();
    let first = channel.stats().unwrap().log.unwrap().files.unwrap().oldest;
    assert!(first > 1000 && first <= 2000, "{first}");
    assert!(journals(&disk).len() <= 2);
    let (_other, again) = fresh(&disk, &options, 2).unwrap();
    append(&again, 2001..2010);
    assert_eq!(again.stats().unwrap().log.unwrap().end, 2010);
}

#[test]
fn a_log_that_blocks_keeps_its_files_for_a_named_reader_and_says_who_it_is() {
    let disk = Disk::default();
    let options = options(OverrunPolicy::Block, Some(4 * FILE), None);
    let (_host, channel) = fresh(&disk, &options, 1).unwrap();
    let mut keeper = channel.named_reader("keeper", ReadFrom::Oldest).unwrap();
    let mut appender = channel.appender().unwrap();
    let mut end = 0;
    let full = loop {
        match appender.append(&text(end)) {
            Ok(position) => assert_eq!(position, end),
            Err(error) => break error,
        }
        end += 1;
        assert!(end < 20_000, "it never gets full");
    };
    assert_eq!(full.code(), ErrorCode::LogFull);
    assert!(full.detail().contains("keeper"), "{full}");
    assert_eq!(read_all(&mut keeper), (0, end));
    keeper.commit().unwrap();
    assert_eq!(appender.append(&text(end)).unwrap(), end);
    assert!(channel.stats().unwrap().log.unwrap().oldest > 0, "what it has read went");
    assert_sound(&channel);
}

#[test]
fn a_full_disk_refuses_before_anything_changes_and_a_failed_sync_ends_appending() {
    let disk = Disk::default();
    let (host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..10);
    channel.flush().unwrap();
    disk.fail_at(disk.calls() + 1, Fault::FullFrom);
    let mut appender = channel.appender().unwrap();
    assert_eq!(code(appender.append_durable(&text(10), Durability::Sync)), ErrorCode::NoSpace);
    assert_eq!(code(appender.append(&text(11))), ErrorCode::NoSpace, "refused");
    assert_eq!(channel.stats().unwrap().log.unwrap().end, 11, "the first is visible, the second nowhere");
    assert_eq!(from_oldest(&channel), (0, 11));
    disk.heal();
    channel.flush().unwrap();
    assert_eq!(appender.append_durable(&text(11), Durability::Sync).unwrap(), 11);
    // An append that needs room that only a flush makes.
    disk.fail_at(disk.calls() + 1, Fault::FullFrom);
    let mut end = 12;
    let refused = loop {
        match appender.append(&text(end)) {
            Ok(position) => assert_eq!(position, end),
            Err(error) => break error.code(),
        }
        end += 1;
    };
    assert_eq!(refused, ErrorCode::NoSpace);
    assert_eq!(channel.stats().unwrap().log.unwrap().end, end);
    assert_eq!(from_oldest(&channel), (0, end));
    disk.heal();
    channel.flush().unwrap();
    append(&channel, end..end + 5);
    disk.fail_at(disk.calls() + 2, Fault::Once(libc::EIO));
    assert_eq!(code(channel.flush()), ErrorCode::Poisoned);
    assert_eq!(code(appender.append(&text(end + 5))), ErrorCode::Poisoned);
    assert_eq!(code(host.open(&disk, Durability::Sync).unwrap().flush()), ErrorCode::Poisoned);
    assert_eq!(from_oldest(&channel), (0, end + 5), "reading goes on");
    assert!(channel.stats().unwrap().log.unwrap().files.unwrap().poisoned);
}

#[test]
fn one_flush_serves_all_and_files_belong_to_one_log() {
    let disk = Disk::default();
    let (host, channel) = fresh(&disk, &plain(), 1).unwrap();
    let sync = host.open(&disk, Durability::Sync).unwrap();
    let flushes = || channel.stats().unwrap().log.unwrap().files.unwrap().flushes;
    let before = flushes();
    let messages: Vec<_> = (0..50).map(text).collect();
    assert_eq!(sync.appender().unwrap().append_all(messages.iter().map(Vec::as_slice)).unwrap(), Some(49));
    assert_eq!(flushes(), before + 1);
    assert_eq!(sync.appender().unwrap().append(&text(50)).unwrap(), 50);
    assert_eq!(flushes(), before + 2);
    assert_eq!(channel.stats().unwrap().log.unwrap().files.unwrap().durable, 51);
    assert_eq!(channel.appender().unwrap().append_durable(&text(51), Durability::Process).unwrap(), 51);
    assert_eq!(flushes(), before + 2);
    // The directory knows its log, and which fabric has it.
    let (_other, _taken) = fresh(&disk, &plain(), 2).unwrap();
    assert_eq!(code(host.open(&disk, Durability::Process)), ErrorCode::NotAStore, "ours is out of date");
    let mut area =
        Area::open(host.stage.shm.clone(), host.stage.clone(), CONTROL, host.len, "other name").unwrap();
    let files: Arc<dyn FileLayer> = Arc::new(disk.clone());
    let opening =
        Opening { files, dir: "/".into(), durability: Durability::Sync, fabric: [9; 16], fresh: [9; 16] };
    assert_eq!(code(area.attach_files(opening)), ErrorCode::NotAStore);
}

#[test]
fn a_leader_that_is_deposed_behind_its_sync_harms_nothing() {
    let disk = Disk::default();
    let (host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..20);
    let second = host.open(&disk, Durability::Process).unwrap();
    let stage = host.stage.clone();
    disk.after_next_sync(move || {
        // The leader is taken for dead, and goes on afterwards.
        stage.kill(1);
        act_as(2);
        append(&second, 20..40);
        second.area.tick().unwrap();
        act_as(1);
    });
    channel.flush().unwrap();
    append(&channel, 40..60);
    channel.flush().unwrap();
    assert_eq!(from_oldest(&channel), (0, 60));
    assert_sound(&channel);
    let (_other, again) = fresh(&disk, &plain(), 2).unwrap();
    assert_eq!(from_oldest(&again), (0, 60));
}

#[test]
fn a_recoverer_that_died_is_overtaken_and_what_it_said_is_said_anew() {
    let disk = Disk::default();
    let (_host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..30);
    drop(channel.named_reader("a", ReadFrom::Position(10)).unwrap());
    channel.flush().unwrap();
    let host = Host::new(&plain(), 2);
    // It comes to the cells and the reader, not to the end.
    drop(host.open(&disk, Durability::Process).unwrap());
    let area = Area::open(host.stage.shm.clone(), host.stage.clone(), CONTROL, host.len, "test").unwrap();
    area.words().unwrap().ready().store(0, crate::shm::atomic::Ordering::Relaxed);
    let again = host.open(&disk, Durability::Process).unwrap();
    let readers = again.stats().unwrap().log.unwrap().readers;
    assert_eq!(readers.iter().map(|it| (it.name.as_str(), it.position)).collect::<Vec<_>>(), [("a", 10)]);
    append(&again, 30..40);
    assert_eq!(from_oldest(&again), (0, 40));
    assert_sound(&again);
}

/// Many flushes over several files, the last one short.
fn filled() -> Disk {
    let disk = Disk::default();
    let (_host, channel) = fresh(&disk, &plain(), 1).unwrap();
    for step in 0..40 {
        append(&channel, step * 25..step * 25 + 25);
        channel.flush().unwrap();
    }
    disk
}

#[test]
fn damage_in_the_middle_is_told_with_file_and_place_and_a_torn_end_is_cut() {
    let disk = filled();
    let names = journals(&disk);
    assert!(names.len() > 2, "{names:?}");
    let mut random = Random(7);
    let good = names[0].clone();
    for _ in 0..300 {
        // Where batches are followed by batches that were written later: the last one of the file begins behind that.
        let at = 4096 + random.below(24_000) as usize;
        let bit = 1 << random.below(8);
        let before = disk.content(&good)[at];
        disk.edit(&good, |bytes| bytes[at] ^= bit);
        match fresh(&disk, &plain(), 9) {
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::JournalCorrupt, "{error}");
                assert!(error.detail().contains(&good) && error.detail().contains(" at byte "), "{error}");
            }
            // The filling between batches holds nothing.
            Ok((_, channel)) => {
                assert_eq!(before, 0, "byte {at} was silently ignored");
                assert_eq!(from_oldest(&channel), (0, 1000));
            }
        }
        disk.edit(&good, |bytes| bytes[at] ^= bit);
    }
    // A file that is gone.
    let cut = filled();
    cut.remove(&names[1]).unwrap();
    let error = fresh(&cut, &plain(), 9).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::JournalCorrupt, "{error}");
    let cut = filled();
    cut.remove(&names[0]).unwrap();
    assert_eq!(code(fresh(&cut, &plain(), 9)), ErrorCode::JournalCorrupt);
    // The last batch, as by a crash while it was written.
    let torn = filled();
    let last = journals(&torn)
        .into_iter()
        .rev()
        .find(|name| torn.content(name)[4096..].iter().any(|byte| *byte != 0))
        .unwrap();
    torn.edit(&last, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end] ^= 1;
    });
    let (_host, channel) = fresh(&torn, &plain(), 9).unwrap();
    assert_eq!(from_oldest(&channel), (0, 975));
    append(&channel, 975..980);
    channel.flush().unwrap();
    let (_host, channel) = fresh(&torn, &plain(), 10).unwrap();
    assert_eq!(from_oldest(&channel), (0, 980));
}

#[test]
fn long_messages_go_through_files_that_are_shorter_than_they_are_and_end_with_the_file_that_they_begin_in() {
    let disk = Disk::default();
    let limited = options(OverrunPolicy::Overrun, Some(8 * FILE), None);
    let (_host, channel) = fresh(&disk, &limited, 1).unwrap();
    let most = channel.message_len_max();
    assert_eq!(most as u64, 8 * FILE / 4, "a quarter of what the files keep");
    let mut appender = channel.appender().unwrap();
    assert_eq!(code(appender.append(&vec![0; most + 1])), ErrorCode::ValueTooLong);
    let body = |number: u64| -> Vec<u8> {
        let len = [most, 20, 3000, 70_000][number as usize % 4];
        (0..len).map(|at| (at as u64 * 7 + number) as u8).collect()
    };
    let (mut end, mut trimmed) = (0, 0);
    for life in 2..12 {
        let (_host, channel) = fresh(&disk, &limited, life).unwrap();
        let log = channel.stats().unwrap().log.unwrap();
        assert_eq!(log.end, end);
        trimmed = log.oldest;
        let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
        let mut next = log.oldest;
        while reader
            .poll(3, |message, bytes| {
                assert_eq!(message.position, next);
                assert!(bytes == body(next), "position {next}");
                next += 1;
            })
            .unwrap()
            > 0
        {}
        assert_eq!(next, end);
        // From each position, backwards.
        for position in (log.oldest..end).rev() {
            reader.seek(ReadFrom::Position(position)).unwrap();
            let mut buffer = Vec::new();
            let message = reader.try_recv(&mut buffer).unwrap().unwrap();
            assert!(message.position == position && buffer == body(position), "position {position}");
        }
        let mut appender = channel.appender().unwrap();
        for _ in 0..7 {
            assert_eq!(appender.append(&body(end)).unwrap(), end);
            end += 1;
            // What is written while parts are in the files is in none of them twice.
            if end % 3 == 0 {
                channel.flush().unwrap();
            }
        }
        channel.flush().unwrap();
        assert_sound(&channel);
    }
    assert!(trimmed > 20 && end - trimmed > 4, "{trimmed} of {end}");
    let id = crate::journal::directory::read_identity(&disk).unwrap().unwrap().store;
    let contents = read_files(&disk, &id, &mut || Ok(())).unwrap();
    assert_eq!((contents.end, contents.torn), (end, 0));
}

#[test]
fn a_long_message_whose_end_was_lost_is_not_there_and_its_position_is_given_again() {
    let disk = Disk::default();
    let (_host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..40);
    channel.flush().unwrap();
    let mut appender = channel.appender().unwrap();
    let old = vec![1; 200_000];
    appender.append(&old).unwrap();
    channel.flush().unwrap();
    let names = journals(&disk);
    assert!(names.len() > 3, "{names:?}");
    // The last files are cut off, one after the other, as a leader leaves it that is killed on its way.
    let mut end = 41;
    for (life, lost) in names.iter().skip(1).rev().enumerate() {
        disk.remove(lost).unwrap();
        let (_host, channel) = fresh(&disk, &plain(), 20 + life as u8).unwrap();
        let log = channel.stats().unwrap().log.unwrap();
        // The last file may be one that was only made ready.
        assert!(log.oldest == 0 && (40..=end).contains(&log.end), "{log:?}");
        end = log.end;
        let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
        let mut lens = Vec::new();
        while reader.poll(7, |_, bytes| lens.push(bytes.len())).unwrap() > 0 {}
        assert!(lens.len() as u64 == end && lens[40..].iter().all(|len| *len == 200_000), "{lens:?}");
    }
    assert_eq!(end, 40);
    // What gets its position is read, and nothing of the old beginning.
    for (life, len) in [(30u8, 100_000), (31, 10)] {
        let (_host, channel) = fresh(&disk, &plain(), life).unwrap();
        let position = channel.appender().unwrap().append(&vec![life; len]).unwrap();
        channel.flush().unwrap();
        let (_host, again) = fresh(&disk, &plain(), life + 10).unwrap();
        let mut reader = again.reader(ReadFrom::Position(position)).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(reader.try_recv(&mut buffer).unwrap().unwrap().position, position);
        assert!(buffer == vec![life; len], "{} bytes", buffer.len());
        assert_eq!(reader.try_recv(&mut buffer).unwrap(), None);
    }
}

#[test]
fn a_reader_of_files_goes_back_from_wherever_it_is() {
    let disk = Disk::default();
    let (_host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..40);
    channel.flush().unwrap();
    let (_other, channel) = fresh(&disk, &plain(), 2).unwrap();
    let mut reader = channel.named_reader("back", ReadFrom::Oldest).unwrap();
    // From the end of the last batch, which no line follows.
    assert_eq!(read_all(&mut reader), (0, 40));
    for position in [39, 38, 0] {
        reader.seek(ReadFrom::Position(position)).unwrap();
        assert_eq!(read_all(&mut reader), (position, 40 - position));
    }
    // What a handler could not handle comes again.
    reader.seek(ReadFrom::Position(39)).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        reader.poll(1, |_, _| std::panic::resume_unwind(Box::new(()))).unwrap();
    }));
    assert!(panicked.is_err());
    assert_eq!(read_all(&mut reader), (39, 1));
    reader.seek(ReadFrom::Position(39)).unwrap();
    assert_eq!(reader.poll(1, |_, _| ()).unwrap(), 1);
    reader.unread().unwrap();
    assert_eq!(read_all(&mut reader), (39, 1));
}

#[test]
fn rot_under_a_reader_is_an_error_with_its_place() {
    let disk = Disk::default();
    let (_host, channel) = fresh(&disk, &plain(), 1).unwrap();
    append(&channel, 0..6000);
    channel.flush().unwrap();
    let name = journals(&disk)[1].clone();
    disk.edit(&name, |bytes| bytes[20_000] ^= 4);
    let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
    let mut next = 0;
    let error = loop {
        match reader.poll(100, |message, bytes| {
            assert_eq!((message.position, bytes), (next, text(next).as_slice()));
            next += 1;
        }) {
            Ok(0) => panic!("the end, over the damage"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), ErrorCode::JournalCorrupt);
    assert!(error.detail().contains(&name), "{error}");
    assert!(next > 0 && next < 6000);
}

/// Random work until the power goes, several times; each time the files are one of the legal states that are left.
#[test]
fn whatever_the_power_leaves_is_a_prefix_with_everything_that_was_acknowledged() {
    let rounds = if std::env::var_os("MEMORA_TORTURE").is_some() { 2000 } else { 150 };
    let (mut cuts, mut shorter, mut removed) = (0, 0, 0);
    for seed in 0..rounds {
        let mut random = Random(seed);
        let overrun = if seed % 3 == 0 { OverrunPolicy::Block } else { OverrunPolicy::Overrun };
        let options = options(overrun, (seed % 2 == 0).then_some(4 * FILE), None);
        let mut disk = Disk::default();
        // By position; those that were lost unacknowledged are written anew, with another content.
        let mut history: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut durable, mut committed, mut unique) = (0u64, 0u64, 0u64);
        let mut stored = 0;
        for life in 1..5u8 {
            disk.heal();
            let opened = fresh(&disk, &options, life);
            let (_host, channel) = opened.unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
            let log = channel.stats().unwrap().log.unwrap();
            assert!(log.end >= durable, "seed {seed}: {durable} were acknowledged, {} are left", log.end);
            shorter += u64::from((log.end as usize) < history.len());
            history.retain(|position, _| *position < log.end);
            assert!(log.oldest <= log.end && log.oldest >= stored, "seed {seed}");
            removed += u64::from(log.oldest > stored);
            stored = log.oldest;
            let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
            let mut next = log.oldest;
            while reader
                .poll(50, |message, bytes| {
                    assert_eq!(message.position, next);
                    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                    assert!(bytes[8..].iter().all(|byte| *byte == 1), "seed {seed}: {} bytes", bytes.len());
                    assert_eq!(history.get(&next), Some(&number), "seed {seed} position {next}");
                    next += 1;
                })
                .unwrap()
                > 0
            {}
            assert_eq!(next, log.end, "seed {seed}: no holes");
            assert_sound(&channel);
            let mut named = channel.named_reader("n", ReadFrom::Oldest).unwrap();
            assert!(
                named.position() <= committed.max(log.oldest),
                "seed {seed}: {} is ahead of {committed}",
                named.position()
            );
            committed = named.position();
            durable = log.end;
            disk.fail_at(disk.calls() + 1 + random.below(60), Fault::DeadFrom);
            let mut appender = channel.appender().unwrap();
            for _ in 0..400 {
                let sync = random.below(12) == 0;
                let mut bytes = unique.to_le_bytes().to_vec();
                let len = if random.below(30) == 0 { 40_000 } else { 900 };
                bytes.resize(8 + random.below(len) as usize, 1);
                let durability = if sync { Durability::Sync } else { Durability::Process };
                let end = channel.area.log().unwrap().end(durable);
                let appended = appender.append_durable(&bytes, durability);
                // Also what failed to be flushed is visible.
                if channel.area.log().unwrap().end(durable) > end {
                    history.insert(end, unique);
                    unique += 1;
                }
                if sync && let Ok(position) = appended {
                    durable = position + 1;
                }
                if random.below(6) == 0 {
                    match named.poll(random.below(40) as usize, |_, _| {}) {
                        Ok(_) => {}
                        Err(error) => assert_eq!(error.code(), ErrorCode::Overrun, "{error}"),
                    }
                    named.commit().unwrap();
                    committed = named.position();
                }
                if random.below(25) == 0 {
                    let end = channel.area.log().unwrap().end(durable);
                    if channel.flush().is_ok() {
                        durable = durable.max(end);
                    }
                }
            }
            drop((named, appender));
            disk = disk.power_cut(&mut random);
            cuts += 1;
        }
    }
    println!(
        "{cuts} power cuts, {shorter} with a loss of what was not acknowledged, {removed} with files removed"
    );
    assert!(shorter > 10 && removed > 3);
}

#[test]
fn files_are_verified_without_a_fabric() {
    let disk = filled();
    let id = crate::journal::directory::read_identity(&disk).unwrap().unwrap().store;
    let contents = read_files(&disk, &id, &mut || Ok(())).unwrap();
    assert_eq!((contents.first, contents.end, contents.torn), (0, 1000, 0));
    assert!(contents.files.len() > 2);
}
