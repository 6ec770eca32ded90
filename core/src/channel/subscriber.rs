//! The receiving end of a channel.

use std::sync::Arc;
use std::time::Duration;

use super::Message;
use super::area::{Area, HeldLane};
#[cfg(not(memora_loom))]
use super::direct_reading::Stand;
use super::lane::{Found, Place};
use super::layout::{Count, LaneKind, NAMED, STEP_MAX, SubKind, SubState, place, sub};
use super::subscription::Stood;
use super::view::{MessageView, Proof, Spot};
use super::wait::{Backoff, Patience, Step};
use super::watch::sealed::Sealed;
use super::watch::{Target, Waitable, Wish};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::Ordering;
use crate::shm::{Kept, thread};

/// Messages taken from one lane before the next lane has its turn.
const TURN: usize = 16;
/// Messages taken without a gap after which more are taken to be there: lines that the producer still writes must not be
/// taken from it.
const BACKLOG: usize = 64;
/// Messages after which a call ends that has taken a quarter of the ring.
const MANY: usize = 32;
/// Times that a lapped reader looks for a place to go on before it reports an empty lane.
const RESUME_TRIES: usize = 64;

/// Receives the messages of all publishers of a channel.
///
/// Its place moves when the *next* call is made: `try_recv`, `recv`, `poll`, `commit`, or dropping it. What was handed out
/// last counts as handled only then, so whoever takes a named subscription over from a killed process sees those messages
/// again, with the same lanes and positions.
pub struct Subscriber {
    pub(super) area: Arc<Area>,
    marker: usize,
    pub(super) index: u32,
    pub(super) state: SubState,
    entry: Kept<{ sub::BYTES as usize }>,
    pub(super) lanes: Vec<Reading>,
    pub(super) lane_epoch: Option<u32>,
    /// The lane whose turn it is.
    turn: usize,
    scratch: Vec<u8>,
    /// A message that was too long for a lane was handed out: when the places are shown its chunks may be free.
    pub(super) parcels: bool,
    /// To be told at the next call: messages that came before it were handed out first.
    pub(super) pending: Option<Error>,
    patience: Patience,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

pub(super) struct Reading {
    pub(super) lane: HeldLane,
    pub(super) place: Place,
    /// Where others see it.
    pub(super) shown: Place,
    /// The words that say so.
    stood: Stood,
    /// Where these stand.
    stand: Kept<{ place::BYTES as usize }>,
}

impl Reading {
    /// A binding went on so, on a lane that blocks.
    #[cfg(not(memora_loom))]
    pub(super) fn went_on(&mut self, to: Stand) {
        self.stood.show(to.shown);
        self.shown.position = to.shown;
        self.place.position = to.position;
    }
}

impl Waitable for Subscriber {}

impl Sealed for Subscriber {
    fn target(&mut self) -> Result<Target> {
        self.commit()?;
        let wish = match self.pending {
            Some(_) => Wish::Nothing,
            None => Wish::Subscription(self.index, self.state),
        };
        Ok(Target::new(self.area.clone(), wish))
    }
}

impl Subscriber {
    pub(super) fn new(area: Arc<Area>, name: Option<&str>) -> Result<Subscriber> {
        area.same_process()?;
        let me = area.ground.thread()?;
        let (index, state) = area.subscribe(me, name)?;
        let entry = Kept::new(&area.shm, area.shape.sub(index))?;
        Ok(Subscriber {
            area,
            marker: thread::marker(),
            index,
            state,
            entry,
            lanes: Vec::new(),
            lane_epoch: None,
            turn: 0,
            scratch: Vec::new(),
            parcels: false,
            pending: None,
            patience: Patience::default(),
            alone: std::marker::PhantomData,
        })
    }

    /// The subscription's number in the channel, as [`Channel::subscriptions`](super::Channel::subscriptions) shows it.
    pub fn id(&self) -> u32 {
        self.index
    }

    /// What says whether the subscription is still held, so that what was copied under it is good.
    #[inline(always)]
    fn proof(entry: &Kept<{ sub::BYTES as usize }>, state: SubState) -> Proof<'_> {
        Proof::Held(entry.block(), state)
    }

    /// Whether the calling thread holds the subscription: only its holder, an ejector or the reaper of a dead holder changes
    /// its state.
    #[inline(always)]
    fn is_held_here(&self) -> bool {
        // ORDER Relaxed: nothing was copied yet.
        let state = self.entry.block().u64::<{ sub::STATE }>().load(Ordering::Relaxed);
        thread::marker() == self.marker && state == self.state.0
    }

    /// What every call begins with: the thread holds the subscription, its places are shown, new lanes are known.
    #[inline(always)]
    fn start(&mut self) -> Result<()> {
        self.area.same_process()?;
        if !self.is_held_here() {
            self.adopt()?;
        }
        self.show();
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let epoch = self.area.lane_epoch();
        if self.lane_epoch != Some(epoch) {
            self.find_lanes(epoch)?;
        }
        Ok(())
    }

    /// What it is about to store as its place in its first lane: the words from which, where that was, and where it is.
    #[cfg(all(test, not(memora_loom)))]
    pub(super) fn late_place(&self) -> (Stood, Place, Place) {
        let reading = &self.lanes[0];
        (reading.stood, reading.shown, reading.place)
    }

    /// Takes the subscription over from the thread that used it before, or comes back to a named one.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Result<()> {
        let me = self.area.ground.thread()?;
        // No state comes twice: late helpers compare with what they saw.
        let next = self.state.generation().wrapping_add(1);
        let mine = SubState::new(SubKind::Live, self.state.flags(), me, next);
        let away = SubState::new(SubKind::Away, self.state.flags(), 0, self.state.generation());
        let taken = self.area.change_sub(self.index, self.state, mine)?
            || self.state.flags() & NAMED != 0 && self.area.change_sub(self.index, away, mine)?;
        if !taken {
            return Err(self.gone());
        }
        self.state = mine;
        self.marker = thread::marker();
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn gone(&self) -> Error {
        Error::new(
            ErrorCode::Ejected,
            format!(
                "The subscription of channel `{}` was ejected, or the thread that used it last has ended.",
                self.area.name
            ),
        )
    }

    #[cold]
    #[inline(never)]
    fn find_lanes(&mut self, epoch: u32) -> Result<()> {
        for index in 0..self.area.shape.lanes {
            if self.lanes.iter().any(|reading| reading.lane.index == index) {
                continue;
            }
            if let Some(lane) = self.area.lane_ref(index)? {
                let stood = self.area.stood(self.index, index)?;
                let place = self.area.place_of(self.index, stood)?;
                let stand = Kept::new(&self.area.shm, self.area.shape.place(self.index, index))?;
                let lane = self.area.hold_lane(lane)?;
                self.lanes.push(Reading { lane, place, shown: place, stood, stand });
            }
        }
        self.lane_epoch = Some(epoch);
        Ok(())
    }

    /// Shows the places to publishers and to whoever takes over: everything handed out so far is handled.
    #[inline(always)]
    fn show(&mut self) {
        let mut moved = false;
        for reading in &mut self.lanes {
            if reading.place.position != reading.shown.position {
                kill_point!("channel.place.before");
                // A failure means that the entry is another's: the next call finds that out.
                self.area.move_place(reading.stand.block(), &mut reading.stood, reading.shown, reading.place);
                // DIES AFTER: the batch is handled.
                kill_point!("channel.place.after");
                reading.shown = reading.place;
                moved = true;
            }
        }
        if moved && self.parcels {
            self.free_parcels();
        }
        if moved && !self.area.overruns() {
            self.area.space().notify();
        }
    }

    /// Gives back the chunks of long messages that were handled, and the room that they took here.
    #[cold]
    #[inline(never)]
    fn free_parcels(&mut self) {
        (self.parcels, self.scratch) = (false, Vec::new());
        self.area.free_all_parcels();
    }

    /// Everything handed out so far is handled: moves the place now.
    pub fn commit(&mut self) -> Result<()> {
        self.area.same_process()?;
        if !self.is_held_here() {
            self.adopt()?;
        }
        self.show();
        Ok(())
    }

    /// Gives back what the last call handed out: it is not handled, and the next calls hand it out again.
    pub fn unread(&mut self) -> Result<()> {
        self.area.same_process()?;
        for reading in &mut self.lanes {
            reading.place = reading.shown;
        }
        Ok(())
    }

    /// Hands up to `limit` messages to `handler`; gives how many. Never waits. It may stop after 32 messages and a quarter of a
    /// lane's ring though there are more, so that publishers get room: nothing is there when it gives 0.
    ///
    /// A lossy channel answers `Overrun` once for each loss, with the number of messages lost on one lane; the next call goes on behind it.
    pub fn poll(&mut self, limit: usize, mut handler: impl FnMut(&Message, &[u8])) -> Result<usize> {
        self.start()?;
        self.take_copies(limit, |message, bytes| {
            handler(message, bytes);
            Ok(())
        })
    }

    /// As [`Subscriber::poll`], but the handler looks at each message where it stands, and copies what it wants of it. The message stays
    /// there until the next call.
    ///
    /// An error of the handler ends the call: that message is not handled and comes again, and the error is what this answers, or the next
    /// call if others were handled before.
    ///
    /// On a channel that overruns nobody would wait for the handler: it gets a copy there, which is whole. Where the subscription is ejected while the
    /// handler is at work, [`MessageView::is_whole`] says so from then on, and this answers `Ejected`; what the handler did with that message
    /// is for it to undo.
    pub fn poll_in_place(
        &mut self,
        limit: usize,
        mut handler: impl FnMut(&MessageView<'_>) -> Result<()>,
    ) -> Result<usize> {
        self.start()?;
        if self.area.overruns() {
            return self.take_copies(limit, |message, bytes| handler(&MessageView::copied(*message, bytes)));
        }
        self.take_as::<false>(limit, |view| {
            handler(view)?;
            Ok(view.is_whole())
        })
    }

    #[inline(always)]
    fn take_copies(
        &mut self,
        limit: usize,
        mut handler: impl FnMut(&Message, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.take(limit, |view| {
            view.copy_all(&mut scratch)?;
            let whole = view.is_whole();
            if whole {
                handler(view.message(), &scratch[..view.len()])?;
            }
            Ok(whole)
        });
        self.scratch = scratch;
        result
    }

    #[inline(always)]
    fn take(&mut self, limit: usize, each: impl FnMut(&MessageView<'_>) -> Result<bool>) -> Result<usize> {
        if self.area.overruns() {
            self.take_as::<true>(limit, each)
        } else {
            self.take_as::<false>(limit, each)
        }
    }

    /// Takes messages; `each` says whether it found one whole, that is, whether it was handled.
    #[inline(always)]
    fn take_as<const OVERRUN: bool>(
        &mut self,
        limit: usize,
        mut each: impl FnMut(&MessageView<'_>) -> Result<bool>,
    ) -> Result<usize> {
        let mut taken = 0;
        let count = self.lanes.len();
        let turn = if count == 1 { usize::MAX } else { TURN };
        let mut idle = 0;
        // Ends: each round takes messages, of which there may be `limit`, or adds to `idle`.
        while taken < limit && idle < count {
            if self.turn >= count {
                self.turn = 0;
            }
            let before = taken;
            let end = taken.saturating_add(turn).min(limit);
            let result = self.take_lane::<OVERRUN>(&mut taken, end, &mut each);
            if let Err(error) = result {
                if taken == 0 {
                    return Err(error);
                }
                // What was handed out comes first.
                self.pending = Some(error);
                return Ok(taken);
            }
            idle = if taken == before { idle + 1 } else { 0 };
            self.turn += 1;
        }
        Ok(taken)
    }

    /// Takes messages of the lane whose turn it is until `end` are taken.
    #[inline(always)]
    fn take_lane<const OVERRUN: bool>(
        &mut self,
        taken: &mut usize,
        end: usize,
        each: &mut impl FnMut(&MessageView<'_>) -> Result<bool>,
    ) -> Result<()> {
        let Subscriber { area, lanes, turn, entry, state, parcels, .. } = self;
        let reading = &mut lanes[*turn];
        let lane = reading.lane.view();
        let start = *taken;
        // A place that is counted must not move farther at once than its low bits can tell. One that is not goes a ring at most
        // before it is shown, for damaged content may look like frames without end; and of many messages a quarter of a ring, so
        // that the producer, which may be waiting for room, writes while the rest is read.
        let (farthest, far) = if OVERRUN { (STEP_MAX + 1, u64::MAX) } else { (lane.size(), lane.size() / 4) };
        while *taken < end {
            let moved = reading.place.position - reading.shown.position;
            if moved >= farthest || moved >= far && *taken >= MANY {
                return Ok(());
            }
            let (seen, behind) = match lane.find::<OVERRUN>(&*area.ground, reading.place) {
                Ok(Found::Empty) => return Ok(()),
                Ok(Found::Lapped) => return self.lapped(),
                Ok(Found::Message { at, len, behind }) => {
                    let spot = Spot { lane: reading.lane.index, behind: behind.position };
                    let proof = if OVERRUN {
                        Proof::Lane(lane, reading.place.position)
                    } else {
                        Subscriber::proof(entry, *state)
                    };
                    (
                        MessageView::in_ring(area, lane, at, len, spot, proof).and_then(|view| each(&view)),
                        behind,
                    )
                }
                Ok(Found::Parcel { words, behind }) => {
                    *parcels = true;
                    let spot = Spot { lane: reading.lane.index, behind: behind.position };
                    if OVERRUN {
                        match take_lossy_parcel(area, words, spot, each) {
                            Ok(None) => return self.lost_parcel(*taken, behind),
                            Ok(Some(whole)) => (Ok(whole), behind),
                            Err(error) => (Err(error), reading.place),
                        }
                    } else {
                        (take_parcel(area, words, spot, Subscriber::proof(entry, *state), each), behind)
                    }
                }
                Err(error) => (Err(error), reading.place),
            };
            match seen {
                Ok(true) => {
                    // After the handler: if it panics, the message is handed out again.
                    reading.place = behind;
                    *taken += 1;
                    // With a backlog the next lines are whole; without one the producer is still writing them.
                    if *taken - start > BACKLOG {
                        lane.prefetch_read(behind.position);
                    }
                }
                Ok(false) if OVERRUN => return self.lapped(),
                Ok(false) => return Err(self.gone()),
                // Bytes that were overwritten after an ejection need not look like a frame.
                Err(_) if !Subscriber::proof(entry, *state).holds() => return Err(self.gone()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on behind the loss in the lane whose turn it is.
    #[cold]
    #[inline(never)]
    fn lapped(&mut self) -> Result<()> {
        // Whoever has the entry by now, if it is not ours, joined behind what was overwritten: its place is another one than ours.
        if !Subscriber::proof(&self.entry, self.state).holds() {
            return Err(self.gone());
        }
        let Subscriber { area, lanes, turn, .. } = self;
        let reading = &mut lanes[*turn];
        let lane = reading.lane.view();
        for _ in 0..RESUME_TRIES {
            if let Some(place) = lane.resume(reading.place)? {
                let lost = Count::between(reading.place.messages, place.messages);
                // Shown at once: the messages in front are gone for whoever takes over, too.
                let stand = reading.stand.block();
                if !area.jump_place(stand, &mut reading.stood, reading.place, place) {
                    return Err(self.gone());
                }
                (reading.place, reading.shown) = (place, place);
                if lost == 0 {
                    // A predecessor died between counting this loss and going on.
                    return Ok(());
                }
                return Err(Error::with_amount(
                    ErrorCode::Overrun,
                    lost,
                    format!(
                        "{lost} messages of lane {} of channel `{}` were overwritten.",
                        reading.lane.index, area.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Goes on behind a long message of the lane whose turn it is that later ones have pushed out.
    #[cold]
    #[inline(never)]
    fn lost_parcel(&mut self, taken: usize, behind: Place) -> Result<()> {
        if !Subscriber::proof(&self.entry, self.state).holds() {
            return Err(self.gone());
        }
        if taken > 0 {
            // What was handed out comes first. The next call meets the loss again: no place is shown behind it before it was told.
            return Ok(());
        }
        let reading = &mut self.lanes[self.turn];
        reading.place = behind;
        let (lane, channel) = (reading.lane.index, &self.area.name);
        let text =
            format!("A long message of lane {lane} of channel `{channel}` was pushed out by later ones.");
        Err(Error::with_amount(ErrorCode::Overrun, 1, text))
    }

    /// Takes one message into `into`, if there is one.
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<Option<Message>> {
        self.start()?;
        self.one(into)
    }

    #[inline]
    fn one(&mut self, into: &mut Vec<u8>) -> Result<Option<Message>> {
        let mut found = None;
        self.take(1, |view| {
            // Without filling a buffer with zeros that was large enough before.
            view.copy_all(into)?;
            into.truncate(view.len());
            let whole = view.is_whole();
            found = whole.then(|| *view.message());
            Ok(whole)
        })?;
        Ok(found)
    }

    /// Waits for a message, at most `timeout`; without one, until there is one. None when the time is over.
    pub fn recv(&mut self, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<Option<Message>> {
        self.start()?;
        if let Some(message) = self.one(into)? {
            return Ok(Some(message));
        }
        let mut backoff = Backoff::new(&self.patience, timeout, Duration::from_millis(WAIT_SLICE_MS));
        let message = loop {
            match backoff.step() {
                Step::Again => {
                    if let Some(message) = self.look(into)? {
                        break message;
                    }
                }
                Step::Park(slice) => {
                    self.area.ground.usable()?;
                    self.start()?;
                    let area = self.area.clone();
                    let data = area.data();
                    let armed = data.arm();
                    if let Some(message) = self.look(into)? {
                        break message;
                    }
                    data.sleep(armed, slice);
                }
                Step::TimedOut => return Ok(None),
            }
        };
        backoff.done(&mut self.patience);
        Ok(Some(message))
    }

    #[inline]
    fn look(&mut self, into: &mut Vec<u8>) -> Result<Option<Message>> {
        let epoch = self.area.lane_epoch();
        if self.lane_epoch != Some(epoch) {
            self.find_lanes(epoch)?;
        }
        self.one(into)
    }

    /// Bytes that were published and not yet handed out.
    pub fn lag(&self) -> Result<u64> {
        self.area.same_process()?;
        let mut bytes = 0u64;
        for reading in &self.lanes {
            let tail = reading.lane.view().tail();
            bytes = bytes.saturating_add(tail.saturating_sub(reading.place.position));
        }
        for index in 0..self.area.shape.lanes {
            if self.lanes.iter().all(|reading| reading.lane.index != index)
                && let Some(lane) = self.area.lane_ref(index)?
            {
                let place = self.area.load_place(self.index, index)?;
                let tail = self.area.lane(lane)?.tail();
                bytes = bytes.saturating_add(tail.saturating_sub(place.position));
            }
        }
        Ok(bytes)
    }

    /// Whether any publisher has a lane now.
    pub fn has_publishers(&self) -> Result<bool> {
        for index in 0..self.area.shape.lanes {
            if self.area.lane_state(index)?.is(LaneKind::Live) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Hands a message out that stands in chunks of its own.
#[cold]
#[inline(never)]
fn take_parcel(
    area: &Area,
    words: [u64; 2],
    spot: Spot,
    proof: Proof<'_>,
    each: &mut dyn FnMut(&MessageView<'_>) -> Result<bool>,
) -> Result<bool> {
    each(&MessageView::in_parcel(area, words, spot, proof)?)
}

/// Hands out a copy of such a message, for which nobody waits. None: later ones have pushed it out.
#[cold]
#[inline(never)]
fn take_lossy_parcel(
    area: &Area,
    words: [u64; 2],
    spot: Spot,
    each: &mut dyn FnMut(&MessageView<'_>) -> Result<bool>,
) -> Result<Option<bool>> {
    let mut copy = Vec::new();
    let Some(len) = area.copy_parcel(words, &mut copy)? else { return Ok(None) };
    let (sent_ns, bytes) = area.unstamped(&copy[..len])?;
    let message = Message { lane: spot.lane, position: spot.behind, len: bytes.len(), sent_ns };
    each(&MessageView::copied(message, bytes)).map(Some)
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if self.area.same_process().is_err() {
            return;
        }
        // A panic in a handler: what it was handling is handed out again.
        let shown = std::thread::panicking() || self.commit().is_ok();
        // Only a subscription that is ours can be let go; errors leave it to the reaper.
        let _ = shown && self.area.release_sub(self.index, self.state).unwrap_or(false);
    }
}
