//! The receiving end of a queue.

use std::sync::Arc;
use std::time::Duration;

use super::super::area::{Area, HeldLane};
use super::super::layout::{SubKind, SubState};
use super::super::publisher::Publisher;
use super::super::wait::{Backoff, Patience, Step};
use super::super::watch::sealed::Sealed;
use super::super::watch::{Target, Waitable, Wish};
use super::hand::{Grip, Hand, moved_head, taker};
use super::layout::{CellWord, HeadWord, Intent, Name, head};
use super::receipt::{Moved, Receipt};
use super::redeliver::Round;
use super::take::{self, Plan};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::{Ordering, fence};
use crate::shm::{Kept, align8, thread, time};

/// Messages taken from one lane at once.
const BATCH: usize = 64;
/// Messages taken from one lane before the next has its turn.
const TURN: usize = 1024;
/// Rounds of all lanes in which others were always faster, before giving up.
const ROUNDS: usize = 100_000;

/// Receives messages of a queue: each goes to one of all consumers.
///
/// On a queue with acknowledgement a message stays in this consumer's hand until [`Consumer::ack`], [`Consumer::nack`] or
/// [`Consumer::ack_all`]; what it holds when it is dropped or dies is delivered again to others. On one without, what was handed out is gone.
///
/// It may be moved to another thread. If the thread that used it before has ended meanwhile, what it held was left to others, and
/// every call answers `Closed`.
pub struct Consumer {
    pub(super) area: Arc<Area>,
    lanes: Vec<Source>,
    lane_epoch: Option<u32>,
    /// The lane whose turn it is, and how many messages it still may give.
    turn: usize,
    left: usize,
    pub(super) scratch: Vec<u8>,
    /// A long message stands there.
    pub(super) large: bool,
    batch: Vec<Found>,
    patience: Patience,
    /// None on a queue without acknowledgement.
    pub(super) holding: Option<Box<Holding>>,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

struct Source {
    lane: HeldLane,
    head: Kept<8>,
    /// Where the head's word stands.
    offset: u64,
}

/// What a consumer of a queue with acknowledgement has of its own.
pub(super) struct Holding {
    pub state: SubState,
    /// Names the handle on receipts, also after it moved to another thread.
    pub owner: u64,
    marker: usize,
    pub hand: Hand,
    pub grip: Grip,
    pub intent: Intent,
    pub visibility_ms: u64,
    /// Hands of others, by the number of their consumers.
    pub others: Vec<Option<Hand>>,
    pub round: Round,
    pub moved: Moved,
    pub letters: Option<Publisher>,
}

/// A message that stands in the scratch buffer.
pub(super) struct Found {
    pub name: Name,
    pub at: usize,
    pub len: usize,
    pub deliveries: u32,
    pub again: bool,
    pub word: CellWord,
    pub number: u64,
    /// The scratch buffer has the words of a parcel, not its bytes.
    pub parcel: bool,
}

/// A message that a consumer was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The lane, which is its publisher's.
    pub lane: u32,
    /// Bytes of the lane up to the end of this message: `(lane, position)` names a message for ever.
    pub position: u64,
    /// When it was sent, as in [`Message::sent_ns`](super::super::Message::sent_ns).
    pub sent_ns: u64,
    /// Bytes of the message.
    pub len: usize,
    /// How often it was delivered, this time included; counted up to 1023.
    pub deliveries: u32,
    /// Whether somebody may have had it before: it was delivered before, or who sent it here did so perhaps twice (a dead letter).
    pub redelivered: bool,
    /// What it is acknowledged with; means nothing on a queue without acknowledgement.
    pub receipt: Receipt,
}

impl Waitable for Consumer {}

impl Sealed for Consumer {
    fn target(&mut self) -> Result<Target> {
        self.area.ground.usable()?;
        self.start()?;
        // What was given back before the look round that this one has made is not new.
        let notice = self.holding.as_ref().and_then(|holding| holding.round.seen());
        let notice = notice.unwrap_or_else(|| self.area.returned());
        let until = self
            .until_next_look()
            .map_or(u64::MAX, |time| time::boot_ms().saturating_add(time.as_millis() as u64));
        Ok(Target::new(self.area.clone(), Wish::Queue(notice, until)))
    }

    fn look(&mut self) -> Result<bool> {
        self.any_due()
    }
}

impl Consumer {
    pub(in crate::channel) fn new(area: Arc<Area>) -> Result<Consumer> {
        area.same_process()?;
        let queue = area.queue()?;
        // Attaches the thread, or tells that this attachment cannot write.
        let me = area.ground.thread()?;
        let holding = match &queue.acknowledge {
            None => None,
            Some(acknowledge) => {
                let visibility_ms = acknowledge.visibility.map_or(0, |time| time.as_millis() as u64);
                let (index, state) = area.enter(me)?;
                Some(Box::new(Holding::new(&area, index, state, visibility_ms)?))
            }
        };
        Ok(Consumer {
            turn: usize::from(me),
            area,
            lanes: Vec::new(),
            lane_epoch: None,
            left: TURN,
            scratch: Vec::new(),
            large: false,
            batch: Vec::with_capacity(BATCH),
            patience: Patience::default(),
            holding,
            alone: std::marker::PhantomData,
        })
    }

    /// Its number among the consumers, as [`Channel::stats`](crate::Channel::stats) shows it; none on a queue without acknowledgement.
    pub fn id(&self) -> Option<u32> {
        self.holding.as_ref().map(|holding| holding.hand.index)
    }

    /// What every call begins with.
    #[inline(always)]
    pub(super) fn start(&mut self) -> Result<()> {
        self.area.same_process()?;
        if let Some(holding) = &mut self.holding
            && !holding.is_held_here()
        {
            holding.adopt(&self.area)?;
        }
        self.look_for_lanes()
    }

    #[inline(always)]
    fn look_for_lanes(&mut self) -> Result<()> {
        let epoch = self.area.lane_epoch();
        if self.lane_epoch == Some(epoch) { Ok(()) } else { self.find_lanes(epoch) }
    }

    #[cold]
    #[inline(never)]
    fn find_lanes(&mut self, epoch: u32) -> Result<()> {
        for index in 0..self.area.shape.lanes {
            if self.lanes.iter().any(|source| source.lane.index == index) {
                continue;
            }
            if let Some(lane) = self.area.lane_ref(index)? {
                let offset = self.area.queue()?.head_offset(index);
                let head = Kept::new(&self.area.shm, offset - head::WORD as u64)?;
                self.lanes.push(Source { lane: self.area.hold_lane(lane)?, head, offset });
            }
        }
        self.lane_epoch = Some(epoch);
        Ok(())
    }

    /// Copies up to `limit` messages that stand at the head of the lane whose turn it is. Gives the position behind them.
    ///
    /// What was copied is good if the head is still where it was.
    #[inline(always)]
    fn gather(&mut self, head: HeadWord, limit: usize) -> Result<u64> {
        let Consumer { area, lanes, turn, scratch, batch, holding, large, .. } = self;
        let source = &lanes[*turn];
        let lane = source.lane.view();
        batch.clear();
        let (start, mut position, mut used) = (head.position(), head.position(), 0);
        while batch.len() < limit {
            // Publishers that wait for room need not wait for the last message.
            if position - start >= lane.size() / 4 {
                break;
            }
            let Some(peeked) = lane.peek(&*area.ground, position)? else { break };
            if peeked.parcel && !batch.is_empty() {
                break;
            }
            let (at, mut len) = (used, peeked.len as usize);
            used += align8(peeked.len) as usize;
            if scratch.len() < used {
                scratch.resize(used.max(1024).next_power_of_two(), 0);
            }
            lane.ring().copy_out(peeked.at, &mut scratch[at..at + len])?;
            position = peeked.behind;
            let name = Name::new(source.lane.index, position);
            let word = CellWord::held(0, 1, false);
            let mut parcel = peeked.parcel;
            if parcel && holding.is_none() {
                // Whoever moves the head is done with it: it is copied before.
                len = area.copy_held_parcel(area.parcel_words(&scratch[at..at + len])?, scratch)?;
                parcel = false;
            }
            batch.push(Found { name, at, len, deliveries: 1, again: peeked.again, word, number: 0, parcel });
            if peeked.parcel {
                // It stands alone: its room is given back when it was handed out.
                *large = true;
                break;
            }
        }
        Ok(position)
    }

    /// Takes what stands at the head of the lane whose turn it is into the batch. None if another consumer was faster.
    #[inline(always)]
    fn take_batch(&mut self, limit: usize) -> Result<Option<usize>> {
        // ORDER Acquire [queue-head]: who moved it has copied what is in front of it, and its intent came before.
        let head =
            HeadWord(self.lanes[self.turn].head.block().u64::<{ head::WORD }>().load(Ordering::Acquire));
        let gathered = self.gather(head, limit);
        let word = self.lanes[self.turn].head.block().u64::<{ head::WORD }>();
        let behind = match gathered {
            Ok(behind) => behind,
            Err(error) => {
                // ORDER Acquire [eject]: what was looked at before; pairs with the fence in `Area::limit`.
                fence(Ordering::Acquire);
                // ORDER Relaxed: the fence orders it.
                let moved = word.load(Ordering::Relaxed) != head.0;
                return if moved { Ok(None) } else { Err(error) };
            }
        };
        if self.batch.is_empty() {
            return Ok(Some(0));
        }
        if self.holding.is_some() {
            return self.hold_batch(head);
        }
        kill_point!("channel.consume.before_claim");
        // ORDER AcqRel [queue-head]: what was copied comes before; who wants the room, or takes next, acquires it.
        let claimed =
            word.compare_exchange(head.0, HeadWord::new(behind, 0).0, Ordering::AcqRel, Ordering::Relaxed);
        if claimed.is_err() {
            return Ok(None);
        }
        // DIES AFTER: the messages are gone with it: that is what at most once means. Who takes over from its thread gives chunks back.
        kill_point!("channel.consume.claimed");
        if self.large {
            self.area.free_parcels(self.lanes[self.turn].lane.index)?;
        }
        Ok(Some(self.batch.len()))
    }

    /// Takes the batch that was gathered behind `head` into the hand.
    #[inline(always)]
    fn hold_batch(&mut self, head: HeadWord) -> Result<Option<usize>> {
        let Consumer { area, lanes, turn, scratch, batch, holding, .. } = self;
        let Some(holding) = holding else { return Err(ErrorCode::Internal.into()) };
        let source = &lanes[*turn];
        holding.make_room(area)?;
        let mut held = holding.prepare_batch(batch, scratch)?;
        if held == 0 {
            holding.tidy(area)?;
            held = holding.prepare_batch(batch, scratch)?;
        }
        batch.truncate(held);
        let Some(last) = batch.last() else { return Err(holding.full(&area.name)) };
        kill_point!("channel.take.prepared");
        let target = moved_head(last.name.position(), holding.hand.index);
        let entry = holding.hand.entry.block();
        let plan = Plan { source: source.offset, target: target.0, until: holding.grip.next };
        holding.intent = take::open(entry, holding.intent, plan);
        if head.taker() != taker(holding.hand.index) {
            take::help(area, head.taker(), source.offset, head.0)?;
        }
        // ORDER AcqRel [queue-head]: what was copied, the intent, and what was noted for the last taker come before.
        let claimed = source.head.block().u64::<{ head::WORD }>().compare_exchange(
            head.0,
            target.0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if claimed.is_ok() {
            // DIES AFTER: who settles finds the target in the head, or that the next taker has noted it.
            kill_point!("channel.take.claimed");
            holding.grip.show(&holding.hand);
            kill_point!("channel.take.shown");
        } else {
            holding.grip.forget();
        }
        holding.intent = take::close(entry, holding.intent);
        Ok(claimed.is_ok().then_some(held))
    }

    /// Takes up to `limit` messages from one lane into the batch; gives how many. Nothing is there when it gives 0.
    #[inline(always)]
    fn take(&mut self, limit: usize) -> Result<usize> {
        let count = self.lanes.len();
        let (mut empty, mut lost) = (0, 0);
        // Ends: a lane is empty, or others take from it: that often only if content is damaged.
        while empty < count && lost < ROUNDS {
            if self.turn >= count {
                self.turn %= count;
            }
            if self.left == 0 {
                self.next_lane();
                continue;
            }
            match self.take_batch(limit.min(BATCH).min(self.left))? {
                Some(0) => {
                    empty += 1;
                    self.next_lane();
                }
                Some(taken) => {
                    if count > 1 {
                        self.left -= taken;
                    }
                    self.area.space().notify();
                    return Ok(taken);
                }
                None => {
                    (empty, lost) = (0, lost + 1);
                    self.next_lane();
                }
            }
        }
        if lost < ROUNDS {
            return Ok(0);
        }
        Err(Error::new(
            ErrorCode::Busy,
            format!("The heads of the queue `{}` change too fast.", self.area.name),
        ))
    }

    #[inline]
    fn next_lane(&mut self) {
        self.turn += 1;
        self.left = TURN;
        if self.turn >= self.lanes.len() {
            self.turn = 0;
        }
    }

    /// Takes up to `limit` messages, those that others left first; gives how many stand in the batch.
    #[inline(always)]
    fn take_any(&mut self, limit: usize) -> Result<usize> {
        let taken = self.take_next(limit)?;
        if self.large && self.batch.first().is_some_and(|found| found.parcel) {
            self.fetch(limit)
        } else {
            Ok(taken)
        }
    }

    #[inline(always)]
    fn take_next(&mut self, limit: usize) -> Result<usize> {
        if self.holding.is_some()
            && let Some(found) = self.redelivered()?
        {
            self.batch.clear();
            self.batch.push(found);
            return Ok(1);
        }
        self.take(limit)
    }

    /// Copies the long message that was taken into the hand and stands alone in the batch. If another has it by then, because its time was over,
    /// takes what comes next.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, limit: usize) -> Result<usize> {
        // Ends: each round was taken from this consumer by another.
        for _ in 0..ROUNDS {
            let Consumer { area, scratch, batch, holding, .. } = self;
            let (Some(found), Some(holding)) = (batch.first_mut(), holding) else { return Ok(0) };
            if !found.parcel {
                return Ok(batch.len());
            }
            if let Some(len) = holding.copy_parcel(
                area,
                found.number,
                found.word,
                found.at..found.at + found.len,
                scratch,
            )? {
                (found.at, found.len, found.parcel) = (0, len, false);
                return Ok(1);
            }
            batch.clear();
            if self.take_next(limit)? == 0 {
                return Ok(0);
            }
        }
        Err(Error::new(
            ErrorCode::Busy,
            format!("Others take what this consumer of `{}` takes.", self.area.name),
        ))
    }

    /// What was handed out was long: gives its room back.
    #[inline(always)]
    fn tidy_scratch(&mut self) {
        if self.large {
            (self.large, self.scratch) = (false, Vec::new());
        }
    }

    fn delivery(found: &Found, owner: u64, len: usize, sent_ns: u64) -> Delivery {
        Delivery {
            lane: found.name.lane(),
            position: found.name.position(),
            len,
            sent_ns,
            deliveries: found.deliveries,
            redelivered: found.again || found.deliveries > 1,
            receipt: Receipt { owner, number: found.number, word: found.word },
        }
    }

    /// Hands up to `limit` messages to `handler`; gives how many. Never waits. 0 means that nothing is there.
    ///
    /// Messages are taken in batches, so on a queue without acknowledgement those of a batch that the handler has not seen yet are
    /// lost if this process dies, or the handler panics.
    pub fn poll(&mut self, limit: usize, mut handler: impl FnMut(&Delivery, &[u8])) -> Result<usize> {
        self.area.ground.usable()?;
        self.start()?;
        let mut done = 0;
        while done < limit {
            let taken = match self.take_any(limit - done) {
                Ok(0) => break,
                Ok(taken) => taken,
                // What was handed out comes first; the next call meets it again.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let owner = self.owner();
            for found in &self.batch {
                let raw = &self.scratch[found.at..found.at + found.len];
                let (sent_ns, bytes) = self.area.unstamped(raw)?;
                handler(&Consumer::delivery(found, owner, bytes.len(), sent_ns), bytes);
            }
            self.tidy_scratch();
            done += taken;
        }
        Ok(done)
    }

    /// Takes one message into `into`, if there is one.
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<Option<Delivery>> {
        self.area.ground.usable()?;
        self.start()?;
        self.one(into)
    }

    #[inline]
    fn one(&mut self, into: &mut Vec<u8>) -> Result<Option<Delivery>> {
        if self.take_any(1)? == 0 {
            return Ok(None);
        }
        let Some(found) = self.batch.first() else { return Ok(None) };
        let (sent_ns, bytes) = self.area.unstamped(&self.scratch[found.at..found.at + found.len])?;
        into.clear();
        into.extend_from_slice(bytes);
        let delivery = Consumer::delivery(found, self.owner(), bytes.len(), sent_ns);
        self.tidy_scratch();
        Ok(Some(delivery))
    }

    /// Waits for a message, at most `timeout`; without one, until there is one. None when the time is over.
    pub fn recv(&mut self, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<Option<Delivery>> {
        if let Some(delivery) = self.try_recv(into)? {
            return Ok(Some(delivery));
        }
        let mut backoff = Backoff::new(&self.patience, timeout, Duration::from_millis(WAIT_SLICE_MS));
        let delivery = loop {
            match backoff.step() {
                Step::Again => {
                    self.look_for_lanes()?;
                    if let Some(delivery) = self.one(into)? {
                        break delivery;
                    }
                }
                Step::Park(slice) => {
                    self.area.ground.usable()?;
                    self.start()?;
                    let area = self.area.clone();
                    let data = area.data();
                    let armed = data.arm();
                    self.look_for_lanes()?;
                    if let Some(delivery) = self.one(into)? {
                        break delivery;
                    }
                    data.sleep(armed, self.until_next_look().map_or(slice, |time| slice.min(time)));
                }
                Step::TimedOut => return Ok(None),
            }
        };
        backoff.done(&mut self.patience);
        Ok(Some(delivery))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.area.same_process().is_err() {
            return;
        }
        if let Some(holding) = &self.holding {
            // Only an entry that is ours can be left; errors leave it to the reaper.
            let _ = self.area.leave(holding.hand.index, holding.state);
        }
    }
}

impl Holding {
    fn new(area: &Area, index: u32, state: SubState, visibility_ms: u64) -> Result<Holding> {
        let hand = Hand::of(area, index)?.ok_or_else(|| {
            Error::new(ErrorCode::Corrupt, format!("Consumer {index} was left and has no ring."))
        })?;
        let intent = take::current(hand.entry.block());
        Holding::begin();
        Ok(Holding {
            owner: u64::from(index) | u64::from(state.generation()) << 32 | 1 << 31,
            state,
            marker: thread::marker(),
            grip: Grip::take_over(&hand)?,
            hand,
            intent,
            visibility_ms,
            others: Vec::new(),
            round: Round::default(),
            moved: Moved::default(),
            letters: None,
        })
    }

    /// Whether the calling thread holds the entry: only its holder, or the reaper of a dead holder, changes its state.
    #[inline(always)]
    fn is_held_here(&self) -> bool {
        // ORDER Relaxed: of our own thread's writing, or ordered by the move to this thread.
        let state =
            self.hand.entry.block().u64::<{ super::layout::consumer::STATE }>().load(Ordering::Relaxed);
        thread::marker() == self.marker && state == self.state.0
    }

    /// Takes the entry over from the thread that used it before.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self, area: &Area) -> Result<()> {
        let me = area.ground.thread()?;
        // No state comes twice: late helpers compare with what they saw.
        let mine = SubState::new(SubKind::Live, 0, me, self.state.generation().wrapping_add(1));
        if !area.change_consumer(self.hand.index, self.state, mine)? {
            return Err(Error::new(
                ErrorCode::Closed,
                format!("The thread that used this consumer of the queue `{}` last has ended.", area.name),
            ));
        }
        Holding::begin();
        (self.state, self.marker) = (mine, thread::marker());
        Ok(())
    }

    /// Copies the parcel whose words stand in the scratch buffer to its start, if the cell with this word is this consumer's still. Gives its
    /// bytes; None if another has taken it.
    pub fn copy_parcel(
        &self,
        area: &Area,
        number: u64,
        word: CellWord,
        words: std::ops::Range<usize>,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        let words = area.parcel_words(&scratch[words])?;
        let copied = area.copy_held_parcel(words, scratch);
        // ORDER Acquire [chunk-reuse]: what was copied before: who gave the chunks back had taken the cell before.
        fence(Ordering::Acquire);
        if self.hand.look(number) == Some(word) { copied.map(Some) } else { Ok(None) }
    }

    /// Whoever comes to hold the entry, before it writes into the hand.
    fn begin() {
        // ORDER Release [hand]: the state of the entry comes before anything that is written; pairs with the fence in `Area::end_left`.
        fence(Ordering::Release);
    }

    /// When others may take what is handed out now.
    #[inline(always)]
    pub fn due(&self) -> u64 {
        if self.visibility_ms == 0 { 0 } else { time::boot_ms().saturating_add(self.visibility_ms) }
    }

    /// Writes messages into the next cells, as many as there is room for. Gives how many.
    #[inline(always)]
    fn prepare_batch(&mut self, batch: &mut [Found], scratch: &[u8]) -> Result<usize> {
        let due = self.due();
        let mut held = 0;
        for found in batch {
            let bytes = &scratch[found.at..found.at + found.len];
            match self.grip.prepare::<false>(&self.hand, found.name, found.word, due, bytes, found.parcel)? {
                Some(word) => (found.word, found.number) = (word, self.grip.next - 1),
                None => break,
            }
            held += 1;
        }
        Ok(held)
    }

    /// Makes room in the hand where messages are done or gone.
    #[inline(always)]
    pub fn make_room(&mut self, area: &Area) -> Result<()> {
        let Holding { grip, hand, .. } = self;
        // What an error left behind.
        grip.forget();
        grip.reclaim(hand, |number, word| take::help(area, word.taker(), hand.word_offset(number)?, word.0))?;
        if self.grip.is_tight(&self.hand) && self.moved.is_time(self.grip.tail) {
            self.tidy(area)
        } else {
            Ok(())
        }
    }

    #[cold]
    #[inline(never)]
    pub fn full(&self, queue: &str) -> Error {
        Error::new(
            ErrorCode::TooManyHeld,
            format!("A consumer of the queue `{queue}` holds {} messages.", self.hand.count_held()),
        )
    }
}
