//! Receipts that are old, invented or of somebody else change nothing.

use std::time::Duration;

use super::super::testing::channel_with;
use super::hand::Hand;
use super::tests::{assert_sound, least_once, options};
use super::{Acknowledge, Receipt};
use crate::error::ErrorCode;

const SOON: Option<Duration> = Some(Duration::from_secs(60));
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_old_receipt_does_not_touch_the_message_that_stands_in_its_cell_now() {
    let visibility = Some(Duration::from_millis(1));
    let (_stage, channel) = channel_with(&options(Some(Acknowledge { visibility, dead_letters: None })), 12);
    let mut publisher = channel.publisher().unwrap();
    let mut slow = channel.consumer().unwrap();
    let mut buffer = Vec::new();
    let cells = Hand::of(&channel.area, slow.id().unwrap()).unwrap().unwrap().count();
    let mut first: Option<Receipt> = None;
    // The last message stands in the cell of the first.
    for _ in 0..cells {
        publisher.send(b"done").unwrap();
        let mut receipt = slow.try_recv(&mut buffer).unwrap().unwrap().receipt;
        slow.extend(&mut receipt, HOUR).unwrap();
        slow.ack(&receipt).unwrap();
        first.get_or_insert(receipt);
    }
    publisher.send(b"held").unwrap();
    let held = slow.try_recv(&mut buffer).unwrap().unwrap();
    assert_eq!(held.receipt.number, first.as_ref().unwrap().number + cells);
    let mut old = first.unwrap();
    assert_eq!(slow.extend(&mut old, HOUR).unwrap_err().code(), ErrorCode::NotHeld);
    assert_eq!(slow.nack(&old, HOUR).unwrap_err().code(), ErrorCode::NotHeld);
    // Its time is over, and another gets it.
    let mut other = channel.consumer().unwrap();
    let again = other.recv(&mut buffer, SOON).unwrap().unwrap();
    assert!(again.redelivered && buffer == b"held");
    assert_sound(&channel);
}

#[test]
fn invented_words_are_no_receipt() {
    let (_stage, channel) = least_once();
    let mut publisher = channel.publisher().unwrap();
    let mut consumer = channel.consumer().unwrap();
    let mut buffer = Vec::new();
    for _ in 0..2 {
        publisher.send(b"held").unwrap();
    }
    let held = consumer.try_recv(&mut buffer).unwrap().unwrap();
    consumer.nack(&held.receipt, Duration::ZERO).unwrap();
    let words = held.receipt.words();
    assert_eq!(Receipt::from_words(words), held.receipt);
    // The words that the cells of this hand hold now, whatever they mean, beside all that differs in one bit.
    let hand = Hand::of(&channel.area, consumer.id().unwrap()).unwrap().unwrap();
    let standing = hand.look(words[1]).unwrap().0;
    for word in [words[2], standing] {
        for bit in 0..64 {
            for which in 0..3 {
                let mut changed = [words[0], words[1], word];
                changed[which] ^= 1 << bit;
                let mut receipt = Receipt::from_words(changed);
                assert_eq!(consumer.ack(&receipt).unwrap_err().code(), ErrorCode::NotHeld, "{changed:x?}");
                assert_eq!(consumer.extend(&mut receipt, HOUR).unwrap_err().code(), ErrorCode::NotHeld);
            }
        }
        let receipt = Receipt::from_words([words[0], words[1], word]);
        assert_eq!(consumer.nack(&receipt, HOUR).unwrap_err().code(), ErrorCode::NotHeld);
    }
    assert_sound(&channel);
    let again = consumer.recv(&mut buffer, SOON).unwrap().unwrap();
    consumer.ack(&again.receipt).unwrap();
}
