//! Queues: each message goes to one of many consumers.
//!
//! Publishers have lanes of their own, as on every channel. What makes a queue of them is one word for each lane, its *head*: how far
//! the lane was taken. A consumer copies messages from the head on and then moves the head by one compare-and-swap; if that
//! succeeds the messages are its own, if not another was first and the copies are thrown away. So a consumer that stops or dies at
//! any instruction is in nobody's way, and publishers, which look at the heads when they need room, do nothing else than on a stream.
//!
//! With [`Acknowledge`] a message that was taken is not gone: it stands in the *hand* of its consumer, cells and payload in a ring of the
//! consumer's own, until it is acknowledged. What a dead consumer held, what was given back, and what was held too long, is taken
//! from that hand by the next, again by one compare-and-swap, of the cell's word. So what one consumer holds takes
//! room of nobody else.
//!
//! To take is thus to change one word that others change too (a head or a cell) *after* a copy was prepared in one's own hand, and the copy
//! counts if and only if the word was changed. If the consumer dies right then, others must be able to tell. It says beforehand in its
//! entry, as its *intent*, which word it wants to become what; no word ever becomes the same thing twice; and who changes a word that
//! names the consumer which changed it last first notes in the intent of that one that it had taken. See `take`.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of heads, consumer entries and cells |
//! | `hand` | what a consumer holds: cells and payload |
//! | `take` | intents: opening, closing, helping, settling for the dead |
//! | `join` | entering, leaving, what the dead leave |
//! | `consumer` | the receiving end: taking from lanes, waiting |
//! | `receipt` | acknowledging, giving back, extending |
//! | `redeliver` | taking what others left; dead letters |
//! | `check` | every invariant |

pub(super) mod check;
mod consumer;
mod hand;
pub(super) mod join;
pub mod layout;
mod receipt;
mod redeliver;
mod take;

#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(all(test, not(memora_loom)))]
mod model_tests;
#[cfg(all(test, not(memora_loom)))]
mod parcel_tests;
#[cfg(all(test, not(memora_loom)))]
mod receipt_tests;
#[cfg(all(test, not(memora_loom)))]
mod tests;

use std::time::Duration;

pub use consumer::{Consumer, Delivery};
pub use receipt::Receipt;

use super::area::Area;
use super::layout::{SubKind, SubState, control};
use super::subscription::check_name;
use super::{ChannelKind, ChannelOptions, OverrunPolicy};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::{Block, Kept};
use layout::{CellKind, CellWord, DELIVERIES_MAX, HeadWord, consumer as entry, head};

/// Messages of a queue are acknowledged: each is delivered at least once.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Acknowledge {
    /// How long a consumer may hold a message before others get it too; `None`: until it dies or leaves. Whole milliseconds.
    pub visibility: Option<Duration>,
    /// Where messages go that were delivered often enough; `None`: they are delivered until somebody acknowledges them.
    pub dead_letters: Option<DeadLetters>,
}

/// Where messages of a queue go that nobody acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Deliveries after which a message that was not acknowledged is not delivered again: 1 to 1000.
    pub after: u32,
    /// Name of the channel that it is sent to: made as a queue with acknowledgement if there is none. It may be of any kind; that
    /// a letter may have been sent twice, because its sender died in between, is seen in [`Delivery::redelivered`] of a queue.
    pub channel: String,
}

/// Most deliveries before a message becomes a dead letter.
const AFTER_MAX: u32 = 1000;
const _: () = assert!(AFTER_MAX < DELIVERIES_MAX);

/// Refuses options that cannot be together.
pub(crate) fn check_options(name: &str, options: &ChannelOptions) -> Result<()> {
    let refuse = |what: String| Err(Error::new(ErrorCode::InvalidArgument, what));
    if options.kind != ChannelKind::Queue {
        return match &options.acknowledge {
            None => Ok(()),
            Some(_) => {
                refuse(format!("Channel `{name}` is a {:?}: only a queue has `acknowledge`.", options.kind))
            }
        };
    }
    if options.overrun != OverrunPolicy::Block {
        return refuse(format!("Channel `{name}` is a queue: nothing of it is overrun."));
    }
    let Some(acknowledge) = &options.acknowledge else { return Ok(()) };
    if let Some(time) = acknowledge.visibility
        && (time.as_millis() == 0
            || time.as_millis() > u128::from(u32::MAX)
            || time.subsec_nanos() % 1_000_000 != 0)
    {
        return refuse(format!(
            "`visibility` is {time:?}: it must be whole milliseconds from 1 to {}.",
            u32::MAX
        ));
    }
    let Some(letters) = &acknowledge.dead_letters else { return Ok(()) };
    check_name(&letters.channel)?;
    if letters.channel == name {
        return refuse(format!("Dead letters of the queue `{name}` cannot go to itself."));
    }
    if !(1..=AFTER_MAX).contains(&letters.after) {
        return refuse(format!("`after` is {}: it must be 1 to {AFTER_MAX}.", letters.after));
    }
    Ok(())
}

/// What a channel that is a queue has beside its lanes: a private copy, checked when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where the heads begin in the segment.
    heads: u64,
    /// Consumer entries.
    consumers: u32,
    /// Where they begin.
    entries: u64,
    /// None: a message is delivered at most once.
    pub acknowledge: Option<Acknowledge>,
}

impl Part {
    /// The part that lies behind `lanes` lane entries.
    pub fn new(heads: u64, lanes: u32, consumers: u32, acknowledge: Option<Acknowledge>) -> Part {
        Part { heads, consumers, entries: heads + u64::from(lanes) * head::BYTES, acknowledge }
    }

    /// Writes how the queue was made into the header of a new control area.
    pub fn write(header: Block<'_, { control::BYTES }>, acknowledge: Option<&Acknowledge>) -> Result<()> {
        let Some(acknowledge) = acknowledge else { return Ok(()) };
        let visibility = acknowledge.visibility.map_or(0, |time| time.as_millis() as u64);
        // ORDER Relaxed: private until the directory shows the object.
        header.u32::<{ control::ACKNOWLEDGE }>().store(1, Ordering::Relaxed);
        header.u64::<{ control::VISIBILITY }>().store(visibility, Ordering::Relaxed);
        if let Some(letters) = &acknowledge.dead_letters {
            header.u32::<{ control::LETTERS_AFTER }>().store(letters.after, Ordering::Relaxed);
            header.u32::<{ control::LETTERS_LEN }>().store(letters.channel.len() as u32, Ordering::Relaxed);
            header.span().copy_in(control::LETTERS as u64, letters.channel.as_bytes())?;
        }
        Ok(())
    }

    /// Reads what [`Part::write`] wrote; None if it cannot be.
    pub fn read(header: Block<'_, { control::BYTES }>) -> Option<Option<Acknowledge>> {
        // ORDER Relaxed: written before the directory showed the object, never changed.
        match header.u32::<{ control::ACKNOWLEDGE }>().load(Ordering::Relaxed) {
            0 => return Some(None),
            1 => {}
            _ => return None,
        }
        let visibility = header.u64::<{ control::VISIBILITY }>().load(Ordering::Relaxed);
        let after = header.u32::<{ control::LETTERS_AFTER }>().load(Ordering::Relaxed);
        let len = header.u32::<{ control::LETTERS_LEN }>().load(Ordering::Relaxed) as usize;
        if visibility > u64::from(u32::MAX) || after > AFTER_MAX || len > crate::limits::NAME_LEN_MAX {
            return None;
        }
        let mut name = vec![0; len];
        header.span().copy_out(control::LETTERS as u64, &mut name).ok()?;
        let channel = String::from_utf8(name).ok()?;
        if (after == 0) != channel.is_empty() || after != 0 && check_name(&channel).is_err() {
            return None;
        }
        Some(Some(Acknowledge {
            visibility: (visibility != 0).then(|| Duration::from_millis(visibility)),
            dead_letters: (after != 0).then_some(DeadLetters { after, channel }),
        }))
    }

    /// Consumer entries.
    pub fn consumers(&self) -> u32 {
        self.consumers
    }

    /// Where the word of a lane's head stands.
    #[inline(always)]
    pub fn head_offset(&self, lane: u32) -> u64 {
        self.heads + u64::from(lane) * head::BYTES + head::WORD as u64
    }

    /// Where a consumer's entry begins.
    #[inline]
    pub fn entry_offset(&self, consumer: u32) -> u64 {
        self.entries + u64::from(consumer) * entry::BYTES
    }
}

/// A consumer's entry.
type EntryBlock<'a> = Block<'a, { entry::BYTES as usize }>;
/// A consumer's entry that was checked once.
type KeptEntry = Kept<{ entry::BYTES as usize }>;

impl Area {
    /// The queue that this channel is; an error if it is none.
    pub(super) fn queue(&self) -> Result<&Part> {
        self.queue.as_ref().ok_or_else(|| {
            Error::new(
                ErrorCode::WrongKind,
                format!(
                    "Channel `{}` is a {:?}, not a queue: it has subscribers, not consumers.",
                    self.name, self.kind
                ),
            )
        })
    }

    /// How far a lane was taken, and by whom last.
    pub(super) fn head(&self, lane: u32) -> Result<HeadWord> {
        let word = self.shm.block::<8>(self.queue()?.head_offset(lane))?;
        // ORDER Acquire [queue-head]: who moved it has copied what is in front of it, and its intent came before.
        Ok(HeadWord(word.u64::<0>().load(Ordering::Acquire)))
    }

    fn entry(&self, consumer: u32) -> Result<EntryBlock<'_>> {
        let queue = self.queue()?;
        if consumer >= queue.consumers {
            return Err(Error::new(ErrorCode::Corrupt, format!("There is no consumer entry {consumer}.")));
        }
        self.shm.block(queue.entry_offset(consumer))
    }

    fn consumer_word(&self, consumer: u32) -> Result<&AtomicU64> {
        Ok(self.entry(consumer)?.u64::<{ entry::STATE }>())
    }

    /// Who holds a consumer entry.
    pub(super) fn consumer_state(&self, consumer: u32) -> Result<SubState> {
        // ORDER Acquire [consumer-state]: what the last holder, or who took over from it, did before it let go.
        let state = SubState(self.consumer_word(consumer)?.load(Ordering::Acquire));
        match state.kind() {
            Some(_) => Ok(state),
            None => Err(Error::new(ErrorCode::Corrupt, format!("Consumer {consumer} has state {state:?}."))),
        }
    }

    /// Changes who holds a consumer entry. False if somebody else was first.
    fn change_consumer(&self, consumer: u32, from: SubState, to: SubState) -> Result<bool> {
        // ORDER AcqRel [consumer-state]: hands over the hand; takes over what the last holder left in it.
        let changed =
            self.consumer_word(consumer)?.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire);
        Ok(changed.is_ok())
    }

    /// Where the ring of a consumer is; None if it never had one.
    pub(super) fn consumer_ring(&self, consumer: u32) -> Result<Option<u64>> {
        // ORDER Acquire [ring]: as of a lane. Never changed once set.
        let ring = self.entry(consumer)?.u64::<{ entry::RING }>().load(Ordering::Acquire);
        if ring == 0 {
            return Ok(None);
        }
        self.shm.span(ring, self.shape.lane_bytes)?;
        Ok(Some(ring))
    }

    /// Grows when messages are given back.
    #[inline(always)]
    pub fn returned(&self) -> u32 {
        // ORDER Acquire [returned]: the cells that it speaks of.
        self.header().u32::<{ control::RETURNED }>().load(Ordering::Acquire)
    }

    /// Messages were given back: consumers look for them, also those who sleep.
    fn give_notice(&self) {
        // ORDER Release [returned]: the cells that were given back.
        self.header().u32::<{ control::RETURNED }>().fetch_add(1, Ordering::Release);
        // DIES AFTER: who sleeps looks at the end of its slice.
        kill_point!("channel.return.counted");
        self.data().notify();
    }
}

/// The words of the parcels that the hands of a queue hold. For whoever is alone.
pub(super) fn held_parcels(area: &Area) -> Result<Vec<[u64; 2]>> {
    let mut held = Vec::new();
    let mut words = Vec::new();
    for index in 0..area.queue.as_ref().map_or(0, Part::consumers) {
        let Some(hand) = hand::Hand::of(area, index)? else { continue };
        for number in hand.shown() {
            let data = hand.content(number).data;
            let open = [CellKind::Held, CellKind::Back, CellKind::Left];
            let kind = hand.look(number).and_then(CellWord::kind);
            if data.is_parcel() && kind.is_some_and(|kind| open.contains(&kind)) {
                let len = hand.copy(data, &mut words)?;
                held.push(area.parcel_words(&words[..len])?);
            }
        }
    }
    Ok(held)
}

/// A consumer of a queue with acknowledgement, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its number in the queue.
    pub id: u32,
    /// Whether a thread holds it now, alive or not yet found dead. Who left may have left messages.
    pub held: bool,
    /// Messages in its hand: not acknowledged, or given back and not yet taken by another.
    pub unacknowledged: u64,
}

/// Counts of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Bytes that were published and not yet taken by anybody, with headers and padding.
    pub waiting_bytes: u64,
    /// Consumers of a queue with acknowledgement; those of others leave no trace.
    pub consumers: Vec<ConsumerInfo>,
    /// Messages that were delivered again.
    pub redelivered: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
}

impl Area {
    /// Counts, if this is a queue.
    pub(super) fn queue_stats(&self) -> Result<Option<QueueStats>> {
        let Some(queue) = &self.queue else { return Ok(None) };
        let mut waiting_bytes = 0u64;
        for lane in 0..self.shape.lanes {
            let head = self.head(lane)?;
            if let Some(reference) = self.lane_ref(lane)? {
                let tail = self.lane(reference)?.tail();
                waiting_bytes = waiting_bytes.saturating_add(tail.saturating_sub(head.position()));
            }
        }
        let mut consumers = Vec::new();
        for id in 0..queue.consumers {
            let state = self.consumer_state(id)?;
            let unacknowledged = match hand::Hand::of(self, id)? {
                Some(hand) => hand.count_held(),
                None => 0,
            };
            let held = state.is(SubKind::Live);
            if held || unacknowledged > 0 {
                consumers.push(ConsumerInfo { id, held, unacknowledged });
            }
        }
        let header = self.header();
        // ORDER Relaxed: counters.
        let redelivered = header.u64::<{ control::REDELIVERED }>().load(Ordering::Relaxed);
        let dead_letters = header.u64::<{ control::DEAD_LETTERS }>().load(Ordering::Relaxed);
        Ok(Some(QueueStats { waiting_bytes, consumers, redelivered, dead_letters }))
    }
}
