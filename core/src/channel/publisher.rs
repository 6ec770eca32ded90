//! The sending end of a channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::area::{Area, HeldLane, STAMP};
use super::eject::Watch;
use super::lane::{Head, PARCEL_WORDS, header};
use super::layout::{LaneKind, LaneState};
use super::parcel::Wanted;
use super::wait::{Backoff, Patience, Step};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};
use crate::shm::{align8, thread};

/// A waiting publisher looks at the life words of those it waits for this often.
const LOOK_AT_LIFE: Duration = Duration::from_millis(1);

/// Sends messages on a lane of its own. Messages of one publisher arrive in the order in which they were sent.
///
/// It may be moved to another thread: the first call there takes the lane over. If the thread that used it before has ended
/// meanwhile and another publisher has taken the lane, it goes on with another one: what it sends there may be read before
/// what is still unread in the first.
pub struct Publisher {
    pub(super) area: Arc<Area>,
    marker: usize,
    /// Any thread of the process may use the lane, which ends with the process; else it ends with the thread that used it last.
    shared: bool,
    pub(super) lane: HeldLane,
    pub(super) state: LaneState,
    pub(super) head: Head,
    /// Up to which position there is room.
    pub(super) limit: u64,
    subs: Vec<u32>,
    sub_epoch: Option<u32>,
    patience: Patience,
    watch: Watch,
    /// What it waits for beside room in its ring.
    wanted: Option<Wanted>,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

/// Whether and how long to wait for room.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    Never,
    Until(Option<Duration>),
}

impl Wait {
    /// What is left of it if it began at `start`.
    fn after(self, start: Instant) -> Wait {
        match self {
            Wait::Until(Some(timeout)) => Wait::Until(Some(timeout.saturating_sub(start.elapsed()))),
            wait => wait,
        }
    }
}

impl Publisher {
    pub(super) fn new(area: Arc<Area>) -> Result<Publisher> {
        Publisher::with_lane(area, false)
    }

    /// One whose lane ends with this process, so that it keeps it whichever of the threads that used it end.
    pub(super) fn shared(area: Arc<Area>) -> Result<Publisher> {
        Publisher::with_lane(area, true)
    }

    fn with_lane(area: Arc<Area>, shared: bool) -> Result<Publisher> {
        area.same_process()?;
        area.no_lanes()?;
        let (lane, state) = area.take_lane(owner(&area, shared)?)?;
        let mut publisher = Publisher {
            lane: area.hold_lane(lane)?,
            area,
            marker: thread::marker(),
            shared,
            state,
            head: Head::default(),
            limit: 0,
            subs: Vec::new(),
            sub_epoch: None,
            patience: Patience::default(),
            watch: Watch::default(),
            wanted: None,
            alone: std::marker::PhantomData,
        };
        publisher.find_head()?;
        Ok(publisher)
    }

    /// Looks at the lane for the place where this goes on.
    pub(super) fn find_head(&mut self) -> Result<()> {
        let lane = self.lane.view();
        let (ground, generation) = (&*self.area.ground, self.state.generation());
        self.head = if self.area.overruns() {
            lane.head::<true>(ground, generation)?
        } else {
            lane.head::<false>(ground, generation)?
        };
        // The first message looks at the subscriptions.
        self.limit = 0;
        self.sub_epoch = None;
        Ok(())
    }

    /// Number of the lane that messages go to now; it stands in [`Message::lane`](super::Message::lane).
    pub fn lane(&self) -> u32 {
        self.lane.index
    }

    /// Sends a message; waits as long as a blocking channel has no room. Gives the position behind it.
    pub fn send(&mut self, message: &[u8]) -> Result<u64> {
        self.put(message, Wait::Until(None))
    }

    /// Sends a message if there is room; `BackPressure` if not.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<u64> {
        self.put(message, Wait::Never)
    }

    /// Sends a message; waits for room at most `timeout`, then `TimedOut`.
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<u64> {
        self.put(message, Wait::Until(Some(timeout)))
    }

    #[inline(always)]
    fn put(&mut self, message: &[u8], wait: Wait) -> Result<u64> {
        if self.area.overruns() {
            self.put_as::<true>(message, wait)
        } else {
            self.put_as::<false>(message, wait)
        }
    }

    #[inline(always)]
    fn put_as<const OVERRUN: bool>(&mut self, message: &[u8], wait: Wait) -> Result<u64> {
        self.put_marked::<OVERRUN, false>(message, wait)
    }

    #[inline(always)]
    fn put_marked<const OVERRUN: bool, const AGAIN: bool>(
        &mut self,
        message: &[u8],
        wait: Wait,
    ) -> Result<u64> {
        let stamp = self.stamp_len();
        let len = message.len() as u64 + stamp;
        if len > self.area.message_len_max + stamp {
            return self.put_parcel::<OVERRUN>(message, wait, AGAIN);
        }
        self.make_room::<OVERRUN>(len, wait)?;
        let lane = self.lane.view();
        let at = lane.begin::<OVERRUN>(&mut self.head, len);
        if stamp != 0 {
            lane.ring().copy_in(at, &now())?;
        }
        lane.ring().copy_in(at + stamp, message)?;
        let position = lane.commit_marked::<OVERRUN, AGAIN>(&mut self.head, len);
        self.area.data().notify();
        lane.prefetch(position);
        Ok(position)
    }

    /// Sends messages that subscribers get all or none of, in this order, also if this process dies meanwhile; waits as
    /// [`Publisher::send`] does. Together they may take what one message may. Gives the position behind the last.
    ///
    /// Consumers of a queue share them like any others.
    pub fn send_all(&mut self, messages: &[&[u8]]) -> Result<u64> {
        self.put_all(messages, Wait::Until(None))
    }

    /// As [`Publisher::send_all`], waiting at most `timeout`, then `TimedOut`.
    pub fn send_all_timeout(&mut self, messages: &[&[u8]], timeout: Duration) -> Result<u64> {
        self.put_all(messages, Wait::Until(Some(timeout)))
    }

    /// As [`Publisher::send_all`] if there is room; `BackPressure` if not.
    pub fn try_send_all(&mut self, messages: &[&[u8]]) -> Result<u64> {
        self.put_all(messages, Wait::Never)
    }

    fn put_all(&mut self, messages: &[&[u8]], wait: Wait) -> Result<u64> {
        if self.area.stamped {
            let stamp = now();
            let stamped: Vec<_> = messages.iter().map(|message| [&stamp[..], message].concat()).collect();
            let stamped: Vec<_> = stamped.iter().map(Vec::as_slice).collect();
            return self.put_frames(&stamped, wait);
        }
        self.put_frames(messages, wait)
    }

    fn put_frames(&mut self, messages: &[&[u8]], wait: Wait) -> Result<u64> {
        let header = header(self.area.overruns());
        let frames = messages.iter().map(|message| align8(header + message.len() as u64));
        let bytes = frames.fold(0u64, u64::saturating_add);
        if bytes > align8(header + self.area.message_len_max + self.stamp_len()) {
            return Err(self.too_many(messages.len(), bytes));
        }
        self.hold()?;
        if self.area.overruns() {
            if !messages.is_empty() {
                self.lane.view().put_all::<true>(&mut self.head, messages)?;
            }
        } else {
            let need = self.lane.view().room_for_all::<false>(self.head.position, messages);
            if self.head.position + need > self.limit {
                self.wait_for_room(need, wait)?;
            }
            if !messages.is_empty() {
                self.lane.view().put_all::<false>(&mut self.head, messages)?;
            }
        }
        self.area.data().notify();
        Ok(self.head.position)
    }

    /// Sends a message if there is room, with the mark that it may have been sent before if `again`.
    pub(super) fn try_letter(&mut self, message: &[u8], again: bool) -> Result<u64> {
        match (self.area.overruns(), again) {
            (_, false) => self.put(message, Wait::Never),
            (true, true) => self.put_marked::<true, true>(message, Wait::Never),
            (false, true) => self.put_marked::<false, true>(message, Wait::Never),
        }
    }

    /// Claims room for a message of `len` bytes, to be written in place; waits as [`Publisher::send`] does.
    ///
    /// Bytes that are not written hold whatever was there before.
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>> {
        self.claim_as(len, Wait::Until(None))
    }

    /// Claims room for a message of `len` bytes if there is some; `BackPressure` if not.
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_>> {
        self.claim_as(len, Wait::Never)
    }

    fn claim_as(&mut self, len: usize, wait: Wait) -> Result<Claim<'_>> {
        let stamp = self.stamp_len();
        let total = (len as u64).saturating_add(stamp);
        if total > self.area.message_len_max + stamp {
            return Err(self.too_long(len as u64, self.area.parcel_len_max()));
        }
        let at = if self.area.overruns() {
            self.make_room::<true>(total, wait)?;
            self.lane.view().begin::<true>(&mut self.head, total)
        } else {
            self.make_room::<false>(total, wait)?;
            self.lane.view().begin::<false>(&mut self.head, total)
        };
        Ok(Claim { publisher: self, at: at + stamp, len: len as u64, stamp })
    }

    /// Bytes of the longest message that can be claimed.
    pub(super) fn claim_len_max(&self) -> usize {
        self.area.message_len_max as usize
    }

    /// Bytes of the time in front of each payload.
    #[inline(always)]
    pub(super) fn stamp_len(&self) -> u64 {
        if self.area.stamped { STAMP as u64 } else { 0 }
    }

    /// Makes sure that the lane is this thread's.
    #[inline(always)]
    pub(super) fn hold(&mut self) -> Result<()> {
        self.area.same_process()?;
        // ORDER Relaxed: only its holder, or the reaper of a dead holder, changes the word of a live lane.
        let state = self.lane.word().load(Ordering::Relaxed);
        if thread::marker() != self.marker || state != self.state.0 {
            self.adopt()?;
        }
        Ok(())
    }

    /// Sends a message that is too long for the lane.
    #[cold]
    #[inline(never)]
    fn put_parcel<const OVERRUN: bool>(&mut self, message: &[u8], wait: Wait, again: bool) -> Result<u64> {
        self.hold()?;
        let max = self.area.parcel_len_max();
        if message.len() as u64 > max {
            return Err(self.too_long(message.len() as u64, max));
        }
        let len = message.len() as u64 + self.stamp_len();
        let mut wanted = Wanted { len, alone: false };
        let start = Instant::now();
        let chunks = loop {
            if OVERRUN {
                self.area.push_out_parcels(self.lane.index, wanted)?;
            } else {
                self.wanted = Some(wanted);
                let need = self.lane.view().room::<false>(self.head.position, PARCEL_WORDS);
                let room = self.wait_for_room(need, wait.after(start));
                self.wanted = None;
                room?;
            }
            let stamp = now();
            match self.area.write_parcel(&stamp[..self.stamp_len() as usize], message) {
                Ok(chunks) => break chunks,
                // What is unread of this lane gives some back.
                Err(error)
                    if error.code() == ErrorCode::Full
                        && !wanted.alone
                        && self
                            .area
                            .parcel_bound(self.lane.index, Wanted { len, alone: true })?
                            .is_some() =>
                {
                    wanted.alone = true;
                }
                Err(error) => return Err(error),
            }
        };
        let lane = self.lane.view();
        lane.begin::<OVERRUN>(&mut self.head, PARCEL_WORDS);
        self.area.name_parcel(lane, chunks[0], self.head.position, self.state.generation())?;
        let position = lane.commit_parcel::<OVERRUN>(&mut self.head, [chunks[0].word(), len], again);
        self.area.data().notify();
        self.area.keep_parcel(self.lane.index, &chunks)?;
        Ok(position)
    }

    /// Makes sure that the lane is this thread's and that `len` bytes fit.
    #[inline(always)]
    fn make_room<const OVERRUN: bool>(&mut self, len: u64, wait: Wait) -> Result<()> {
        self.hold()?;
        if OVERRUN {
            return Ok(());
        }
        let need = self.lane.view().room::<false>(self.head.position, len);
        if self.head.position + need <= self.limit { Ok(()) } else { self.wait_for_room(need, wait) }
    }

    /// `max` is what would do.
    #[cold]
    #[inline(never)]
    fn too_long(&self, len: u64, max: u64) -> Error {
        let Area { name, kind, shape, overrun, message_len_max, .. } = &*self.area;
        let lane = shape.lane_bytes;
        let what = if len <= max {
            format!(
                "A claim of {len} bytes does not fit channel `{name}`: its lanes of {lane} bytes take up to {message_len_max} bytes; `send` takes it."
            )
        } else if max > *message_len_max {
            format!(
                "A message of {len} bytes does not fit channel `{name}`, which takes messages up to {max} bytes."
            )
        } else {
            format!(
                "A message of {len} bytes does not fit channel `{name}`: its lanes of {lane} bytes take messages up to \
                 {message_len_max} bytes, for it is a {kind:?} with the policy {overrun:?}."
            )
        };
        Error::new(ErrorCode::ValueTooLong, what)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn too_many(&self, count: usize, bytes: u64) -> Error {
        Error::new(
            ErrorCode::ValueTooLong,
            format!(
                "{count} messages that take {bytes} bytes with their headers cannot be sent together on channel `{}`: \
                 its lanes of {} bytes take {} at once.",
                self.area.name,
                self.area.shape.lane_bytes,
                align8(header(self.area.overruns()) + self.area.message_len_max + self.stamp_len())
            ),
        )
    }

    /// Takes the lane over from the thread that used it before; if that has ended, as any lane that nobody publishes on: the same, so that
    /// what comes is behind what came, or another one if somebody else has it by now.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Result<()> {
        let me = owner(&self.area, self.shared)?;
        // ORDER Relaxed: as in `hold`.
        if self.shared && self.lane.word().load(Ordering::Relaxed) == self.state.0 {
            self.marker = thread::marker();
            return Ok(());
        }
        // No state comes twice: late helpers compare with what they saw.
        let mine = LaneState::new(LaneKind::Live, 0, me, self.state.generation().wrapping_add(1));
        if self.area.change_lane(self.lane.index, self.state, mine)? {
            self.state = mine;
            self.marker = thread::marker();
            return Ok(());
        }
        let again = self.area.take_closed_at(self.lane.index, me)?;
        let (lane, state) = again.map_or_else(|| self.area.take_lane(me), Ok)?;
        (self.lane, self.state, self.marker) = (self.area.hold_lane(lane)?, state, thread::marker());
        let found = self.find_head();
        if found.is_err() {
            // Where to go on is not known: it is nobody's, and the next call begins anew.
            let closed = LaneState::new(LaneKind::Closed, 0, 0, state.generation());
            self.area.change_lane(self.lane.index, state, closed)?;
        }
        found
    }

    /// Looks anew how far the subscriptions let this publisher go.
    fn refill(&mut self, need: u64) -> Result<bool> {
        // ORDER SeqCst [join]: our tail before the look at the subscriptions; pairs with the fence in `go_live`.
        fence(Ordering::SeqCst);
        let epoch = self.area.sub_epoch();
        if self.sub_epoch != Some(epoch) {
            self.area.bounding(&mut self.subs)?;
            self.sub_epoch = Some(epoch);
        }
        self.limit = self.area.limit(&self.subs, self.lane.index, self.head.position)?;
        Ok(self.head.position + need <= self.limit && self.parcel_bound()?.is_none())
    }

    /// The position that all subscriptions must be past before what it sends has room beside its ring.
    fn parcel_bound(&self) -> Result<Option<u64>> {
        match self.wanted {
            None => Ok(None),
            Some(wanted) => self.area.parcel_bound(self.lane.index, wanted),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn wait_for_room(&mut self, need: u64, wait: Wait) -> Result<()> {
        if self.refill(need)? {
            return Ok(());
        }
        let timeout = match wait {
            Wait::Never => {
                if self.gives_way(need)? && self.refill(need)? {
                    self.watch.clear();
                    return Ok(());
                }
                return Err(ErrorCode::BackPressure.into());
            }
            Wait::Until(timeout) => timeout,
        };
        let mut backoff = Backoff::new(&self.patience, timeout, LOOK_AT_LIFE);
        loop {
            match backoff.step() {
                Step::Again => {
                    if self.refill(need)? {
                        break;
                    }
                }
                Step::Park(slice) => {
                    self.area.ground.usable()?;
                    let area = self.area.clone();
                    let space = area.space();
                    let armed = space.arm();
                    if self.refill(need)? {
                        break;
                    }
                    if !self.gives_way(need)? {
                        space.sleep(armed, slice);
                    }
                }
                Step::TimedOut => {
                    // On a busy machine a short time is over before it comes to sleep.
                    if self.gives_way(need)? && self.refill(need)? {
                        break;
                    }
                    return Err(Error::new(
                        ErrorCode::TimedOut,
                        format!("A subscriber of channel `{}` is still behind.", self.area.name),
                    ));
                }
            }
        }
        backoff.done(&mut self.patience);
        self.watch.clear();
        Ok(())
    }

    /// Lets subscriptions go that hold the publisher back and may not: of the dead, and of those that stand still for too long.
    fn gives_way(&mut self, need: u64) -> Result<bool> {
        let dead = self.area.release_dead(&self.subs)?;
        let past = self.parcel_bound()?.map_or(0, |oldest| oldest + self.area.shape.lane_bytes + 1);
        let end = past.max(self.head.position + need);
        Ok(self.watch.eject(&self.area, &self.subs, self.lane.index, end)? || dead)
    }
}

/// The entry that holds the lane of a publisher of the calling thread, which is attached if it was not.
fn owner(area: &Area, shared: bool) -> Result<u16> {
    let me = area.ground.thread()?;
    if shared { area.ground.process() } else { Ok(me) }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.area.same_process().is_err() {
            return;
        }
        let closed = LaneState::new(LaneKind::Closed, 0, 0, self.state.generation());
        kill_point!("channel.close.before");
        // Fails if the reaper of the thread that used it closed it already.
        let _ = self.area.change_lane(self.lane.index, self.state, closed);
        kill_point!("channel.close.after");
    }
}

/// Room for one message, claimed and written in place. Dropping it without [`Claim::commit`] gives it up.
pub struct Claim<'a> {
    publisher: &'a mut Publisher,
    at: u64,
    len: u64,
    /// Bytes of the time in front of it.
    stamp: u64,
}

impl Claim<'_> {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes bytes at byte `at` of the message.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let (start, count) = (at as u64, bytes.len() as u64);
        if start.checked_add(count).is_none_or(|end| end > self.len) {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{count} bytes at {at} do not fit a claim of {} bytes.", self.len),
            ));
        }
        write_at(self.payload()?, start, bytes)
    }

    /// Where the message goes.
    pub(super) fn payload(&mut self) -> Result<crate::shm::Span<'_>> {
        self.publisher.lane.view().ring().span(self.at, self.len)
    }

    /// Makes the message visible. Gives the position behind it.
    pub fn commit(self) -> Result<u64> {
        let Publisher { area, lane, head, .. } = &mut *self.publisher;
        let view = lane.view();
        debug_assert!(self.at >= header(area.overruns()));
        let total = self.len + self.stamp;
        if self.stamp != 0 {
            view.ring().copy_in(self.at - self.stamp, &now())?;
        }
        let position = if area.overruns() {
            view.commit::<true>(head, total)
        } else {
            view.commit::<false>(head, total)
        };
        area.data().notify();
        Ok(position)
    }

    /// Gives the message up. Nobody has seen anything of it.
    pub fn abort(self) {}
}

/// The time as it stands in front of a payload.
pub(super) fn now() -> [u8; STAMP] {
    crate::shm::time::monotonic_ns().to_le_bytes()
}

/// Writes bytes at byte `at` of a payload that is the writer's alone.
pub(crate) fn write_at(payload: crate::shm::Span<'_>, at: u64, bytes: &[u8]) -> Result<()> {
    // Whole words are copied; the bytes around them are merged into the words that they share with others.
    let head = ((8 - at % 8) % 8).min(bytes.len() as u64) as usize;
    let whole = (bytes.len() - head) & !7;
    merge(payload, at, &bytes[..head])?;
    payload.copy_in((at + head as u64) & !7, &bytes[head..head + whole])?;
    merge(payload, at + (head + whole) as u64, &bytes[head + whole..])
}

/// Writes fewer than 8 bytes that lie in one word.
fn merge(payload: crate::shm::Span<'_>, at: u64, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let word = payload.u64(at & !7)?;
    // ORDER Relaxed: bytes of the producer; the commit orders them.
    let mut value = word.load(Ordering::Relaxed).to_le_bytes();
    let first = (at % 8) as usize;
    value[first..first + bytes.len()].copy_from_slice(bytes);
    // ORDER Relaxed: as above.
    word.store(u64::from_le_bytes(value), Ordering::Relaxed);
    Ok(())
}
