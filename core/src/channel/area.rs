//! The control area of an open channel: checked views on its entries, and the private copy of what never changes.

use std::sync::Arc;
use std::time::Duration;

use super::inherit::inherit_lane;
use super::lane::Lane;
use super::layout::{
    LaneKind, LaneState, POSITION_MAX, Shape, SubKind, SubState, check_lane_bytes, control, lane, place, sub,
};
use super::log;
use super::queue::{self, Part};
use super::wait::WaitWord;
use super::{ChannelKind, ChannelOptions, OverrunPolicy};
use crate::chunk::{Actor, Pool};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use crate::shm::fork::Origin;
use crate::shm::{Block, Kept, KeptRing, Shm, Span, fence as asymmetric};
use crate::table::{Reference, Verdict};

/// What a channel needs to know of the fabric, and what it asks it to do.
pub trait Ground: Send + Sync {
    /// The entry of the calling thread, which is attached if it was not. An error after closing or forking.
    fn thread(&self) -> Result<u16>;
    /// As [`Ground::thread`], also after closing: for who ends what it has in hand.
    fn thread_to_end(&self) -> Result<u16> {
        self.thread()
    }
    /// An entry that ends with this process, and not with one of its threads: it holds what any of them may use.
    fn process(&self) -> Result<u16> {
        self.thread()
    }
    /// An error after closing or forking.
    fn usable(&self) -> Result<()>;
    /// Whether the kernel proved the holder of this entry dead.
    fn thread_is_dead(&self, thread: u16) -> bool;
    /// A word that the kernel changes when the holder of this entry dies, and what it holds now, made ready to be slept on; `None` where
    /// there is none. The kernel wakes one sleeper, who wakes the others by [`rouse`](crate::shm::life::rouse).
    fn life(&self, _thread: u16) -> Option<(&AtomicU32, u32)> {
        None
    }
    /// Pid of the process that this entry's holder is a thread of, for people.
    fn pid_of(&self, thread: u16) -> Option<u32>;
    /// Takes memory for a ring of `len` bytes. It is the calling thread's alone until it is kept, and given back if the
    /// thread dies before some lane names it.
    fn take_ring(&self, object: u32, len: u64) -> Result<u64>;
    /// The ring is named by a lane now.
    fn keep_ring(&self, ring: u64, len: u64) -> Result<()>;
    /// The ring was not named by any lane.
    fn give_back_ring(&self, ring: u64, len: u64) -> Result<()>;
    /// How a transaction stands that a gate names.
    fn verdict(&self, reference: Reference) -> Result<Verdict>;
    /// Aborts a transaction that a gate names, if it is not decided.
    fn abort(&self, reference: Reference);
    /// The chunks of the fabric, for messages that are too long for a lane; None where there are none.
    fn pool(&self) -> Option<&Pool> {
        None
    }
    /// The calling thread, as the pool knows it.
    fn actor(&self) -> Result<Actor<'_>> {
        Err(ErrorCode::Internal.into())
    }
    /// Another channel of the same fabric: the one for dead letters.
    fn channel(self: Arc<Self>, name: &str) -> Result<Area>;
}

/// An open channel.
pub struct Area {
    pub shm: Arc<Shm>,
    pub ground: Arc<dyn Ground>,
    pub shape: Shape,
    pub kind: ChannelKind,
    pub overrun: OverrunPolicy,
    /// How long a subscription may stand still while a publisher waits for it.
    pub eject_after: Option<Duration>,
    /// Whether each payload begins with the time at which it was sent.
    pub stamped: bool,
    /// What it has beside its lanes if it is a queue.
    pub queue: Option<Part>,
    /// What it has instead of lanes if it is a log.
    pub log: Option<log::Part>,
    /// The files of a log, where they are open.
    pub files: Option<Box<log::files::Files>>,
    pub name: Box<str>,
    /// Bytes of the longest message.
    pub message_len_max: u64,
    object: u32,
    header: Kept<{ control::BYTES }>,
    /// Heavy fences of others reach this process.
    pub registered: bool,
    origin: Origin,
}

/// Bytes of the time in front of a payload.
pub const STAMP: usize = 8;

/// The place of a subscription in a lane: position, and the count that belongs to it.
pub type PlaceBlock<'a> = Block<'a, { place::BYTES as usize }>;

/// Where a ring begins and the entry of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRef {
    pub index: u32,
    pub ring: u64,
    pub entry: u64,
}

/// A lane that was checked once: what a publisher or subscriber keeps of it.
pub struct HeldLane {
    pub index: u32,
    ring: KeptRing,
    entry: Kept<{ lane::BYTES as usize }>,
}

impl HeldLane {
    #[inline(always)]
    pub fn view(&self) -> Lane<'_> {
        Lane::new(self.ring.ring(), self.entry.block())
    }

    /// Its state word.
    #[inline(always)]
    pub fn word(&self) -> &AtomicU64 {
        self.entry.block().u64::<{ lane::STATE }>()
    }
}

fn header(shm: &Shm, offset: u64) -> Result<Block<'_, { control::BYTES }>> {
    shm.block(offset)
}

/// Lane entries, and subscription or consumer entries, of a channel whose control area has `len` bytes.
fn counts(kind: ChannelKind, len: u64) -> Option<(u32, u32)> {
    match kind {
        ChannelKind::Queue => queue::layout::counts(len),
        ChannelKind::Log => Some((0, log::layout::SUBS)),
        ChannelKind::Stream | ChannelKind::Broadcast => Shape::counts(len),
    }
}

/// Lays out a new control area in private memory of the caller.
pub fn create(area: Span<'_>, options: &ChannelOptions, object: u32) -> Result<()> {
    let lane_bytes = u64::from(options.lane_bytes);
    check_lane_bytes(lane_bytes)?;
    let is_queue = options.kind == ChannelKind::Queue;
    let is_log = options.kind == ChannelKind::Log;
    let (lanes, members) = counts(options.kind, area.len()).ok_or_else(|| {
        Error::new(
            ErrorCode::LimitTooSmall,
            format!("A channel needs a chunk of 16 KiB, there are {} bytes.", area.len()),
        )
    })?;
    let subs = if is_queue { 0 } else { members };
    let shape = Shape { offset: area.offset(), lane_bytes, lanes, subs };
    let bytes = if is_queue { queue::layout::bytes(lanes, members) } else { Shape::bytes(lanes, subs) };
    area.zero(0, bytes)?;
    let header = header(area.shm(), area.offset())?;
    // ORDER Relaxed: private until the directory shows the object.
    header.u32::<{ control::KIND }>().store(options.kind as u32, Ordering::Relaxed);
    header.u32::<{ control::OVERRUN }>().store(options.overrun as u32, Ordering::Relaxed);
    header.u64::<{ control::LANE_BYTES }>().store(lane_bytes, Ordering::Relaxed);
    header.u32::<{ control::LANES }>().store(lanes, Ordering::Relaxed);
    header.u32::<{ control::SUBS }>().store(members, Ordering::Relaxed);
    header.u32::<{ control::OBJECT }>().store(object, Ordering::Relaxed);
    let eject_after = options.eject_after.map_or(0, |time| time.as_millis() as u64);
    header.u64::<{ control::EJECT_AFTER }>().store(eject_after, Ordering::Relaxed);
    header.u32::<{ control::STAMPED }>().store(u32::from(options.timestamps), Ordering::Relaxed);
    Part::write(header, options.acknowledge.as_ref())?;
    if is_log {
        let retention = options.retention.clone().unwrap_or_default();
        log::create(area, &shape, &retention, options.files.as_ref())?;
    }
    if options.kind == ChannelKind::Stream {
        // A stream has one subscription, which waits for its first holder: nothing that is sent before is lost.
        let away = SubState::new(SubKind::Away, 0, 0, 1);
        // ORDER Relaxed: private until the directory shows the object.
        area.shm().block::<8>(shape.sub(0))?.u64::<0>().store(away.0, Ordering::Relaxed);
    }
    Ok(())
}

impl Area {
    /// Opens the control area of at most `len` bytes at `offset`, checking what never changes in it.
    pub fn open(shm: Arc<Shm>, ground: Arc<dyn Ground>, offset: u64, len: u64, name: &str) -> Result<Area> {
        let header = header(&shm, offset)?;
        // ORDER Relaxed: written before the directory showed the object, never changed.
        let kind = header.u32::<{ control::KIND }>().load(Ordering::Relaxed);
        let overrun = header.u32::<{ control::OVERRUN }>().load(Ordering::Relaxed);
        let lane_bytes = header.u64::<{ control::LANE_BYTES }>().load(Ordering::Relaxed);
        let lanes = header.u32::<{ control::LANES }>().load(Ordering::Relaxed);
        let subs = header.u32::<{ control::SUBS }>().load(Ordering::Relaxed);
        let damaged =
            |what: &str| Error::new(ErrorCode::Corrupt, format!("Channel `{name}`: {what} cannot be."));
        let kind = ChannelKind::from_number(kind).ok_or_else(|| damaged("its kind"))?;
        let overrun = OverrunPolicy::from_number(overrun).ok_or_else(|| damaged("its overrun policy"))?;
        check_lane_bytes(lane_bytes).map_err(|_| damaged("its lane size"))?;
        let is_queue = kind == ChannelKind::Queue;
        if counts(kind, len) != Some((lanes, subs)) {
            return Err(damaged("the number of its entries"));
        }
        // ORDER Relaxed: as above.
        let eject_after = header.u64::<{ control::EJECT_AFTER }>().load(Ordering::Relaxed);
        let eject_after =
            Area::eject_after_from(eject_after).ok_or_else(|| damaged("its time for ejecting"))?;
        let stamped = match header.u32::<{ control::STAMPED }>().load(Ordering::Relaxed) {
            0 => false,
            1 => true,
            _ => return Err(damaged("whether its messages bear their time")),
        };
        if kind == ChannelKind::Log {
            let shape = Shape { offset, lane_bytes, lanes, subs };
            let part = log::Part::open(&shm, &shape, len)?.ok_or_else(|| damaged("its size"))?;
            return Area::with_log(shm, ground, shape, part, overrun, name);
        }
        if !is_queue {
            let shape = Shape { offset, lane_bytes, lanes, subs };
            let area = Area::with_shape(shm, ground, shape, kind, overrun, name)?;
            return Ok(area.with_options(eject_after, stamped));
        }
        if overrun != OverrunPolicy::Block {
            return Err(damaged("its overrun policy"));
        }
        let acknowledge = Part::read(header).ok_or_else(|| damaged("how it is acknowledged"))?;
        shm.span(offset, queue::layout::bytes(lanes, subs))?;
        let shape = Shape { offset, lane_bytes, lanes, subs: 0 };
        let part = Part::new(shape.lane(lanes), lanes, subs, acknowledge);
        let area = Area::with_shape(shm, ground, shape, kind, overrun, name)?;
        let mut area = area.with_options(None, stamped);
        area.queue = Some(part);
        Ok(area)
    }

    /// The channel whose parts lie as `shape` says.
    pub fn with_shape(
        shm: Arc<Shm>,
        ground: Arc<dyn Ground>,
        shape: Shape,
        kind: ChannelKind,
        overrun: OverrunPolicy,
        name: &str,
    ) -> Result<Area> {
        // ORDER Relaxed: never changes.
        let object = header(&shm, shape.offset)?.u32::<{ control::OBJECT }>().load(Ordering::Relaxed);
        shm.span(shape.offset, Shape::bytes(shape.lanes, shape.subs))?;
        Ok(Area {
            registered: asymmetric::register(),
            origin: Origin::here(),
            header: Kept::new(&shm, shape.offset)?,
            message_len_max: shape
                .message_len_max(overrun == OverrunPolicy::Block && kind != ChannelKind::Queue),
            shm,
            ground,
            shape,
            kind,
            overrun,
            eject_after: None,
            stamped: false,
            queue: None,
            log: None,
            files: None,
            name: name.into(),
            object,
        })
    }

    fn with_options(self, eject_after: Option<Duration>, stamped: bool) -> Area {
        let message_len_max = self.message_len_max - if stamped { STAMP as u64 } else { 0 };
        Area { eject_after, stamped, message_len_max, ..self }
    }

    /// A payload without its time, and that; 0 on channels whose messages bear none.
    #[inline(always)]
    pub fn unstamped<'p>(&self, payload: &'p [u8]) -> Result<(u64, &'p [u8])> {
        if !self.stamped {
            return Ok((0, payload));
        }
        match payload.split_first_chunk::<STAMP>() {
            Some((stamp, rest)) => Ok((u64::from_le_bytes(*stamp), rest)),
            None => Err(self.too_short_for_a_time()),
        }
    }

    #[cold]
    pub fn too_short_for_a_time(&self) -> Error {
        Error::new(
            ErrorCode::Corrupt,
            format!("A message of channel `{}` is too short for the time that it bears.", self.name),
        )
    }

    /// The log whose parts lie as `shape` and `part` say.
    pub fn with_log(
        shm: Arc<Shm>,
        ground: Arc<dyn Ground>,
        shape: Shape,
        part: log::Part,
        overrun: OverrunPolicy,
        name: &str,
    ) -> Result<Area> {
        let mut area = Area::with_shape(shm, ground, shape, ChannelKind::Log, overrun, name)?;
        area.message_len_max = part.geometry.message_len_max();
        area.log = Some(part);
        Ok(area)
    }

    /// An error in a forked child. Cheap enough for every call.
    #[inline(always)]
    pub fn same_process(&self) -> Result<()> {
        if self.origin.is_here() { Ok(()) } else { self.ground.usable() }
    }

    #[inline(always)]
    pub fn overruns(&self) -> bool {
        self.overrun == OverrunPolicy::Overrun
    }

    #[inline(always)]
    pub fn header(&self) -> Block<'_, { control::BYTES }> {
        self.header.block()
    }

    /// Where subscribers sleep.
    #[inline(always)]
    pub fn data(&self) -> WaitWord<'_> {
        WaitWord::new(self.header().u32::<{ control::DATA }>(), self.registered)
    }

    /// Where publishers sleep.
    #[inline]
    pub fn space(&self) -> WaitWord<'_> {
        WaitWord::new(self.header().u32::<{ control::SPACE }>(), self.registered)
    }

    /// Grows when a lane gets its ring.
    #[inline(always)]
    pub fn lane_epoch(&self) -> u32 {
        // ORDER Acquire [lane-epoch]: the entries of the lanes that it counts.
        self.header().u32::<{ control::LANE_EPOCH }>().load(Ordering::Acquire)
    }

    pub fn lane_came(&self) {
        // ORDER Release [lane-epoch]: the entry with its ring.
        self.header().u32::<{ control::LANE_EPOCH }>().fetch_add(1, Ordering::Release);
    }

    /// Grows when a subscription comes or goes.
    #[inline]
    pub fn sub_epoch(&self) -> u32 {
        // ORDER Acquire [sub-epoch]: the states that it counts.
        self.header().u32::<{ control::SUB_EPOCH }>().load(Ordering::Acquire)
    }

    pub fn sub_changed(&self) {
        // ORDER Release [sub-epoch]: the state that changed.
        self.header().u32::<{ control::SUB_EPOCH }>().fetch_add(1, Ordering::Release);
    }

    /// Number of the object that the chunks of rings are marked with.
    pub fn object(&self) -> u32 {
        self.object
    }

    #[inline(always)]
    pub fn lane_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.shm.block::<64>(self.shape.lane(index))?.u64::<{ lane::STATE }>())
    }

    #[inline]
    pub fn lane_state(&self, index: u32) -> Result<LaneState> {
        // ORDER Acquire [lane-state]: what the last holder did before it let go.
        let state = LaneState(self.lane_word(index)?.load(Ordering::Acquire));
        match state.kind() {
            Some(_) => Ok(state),
            None => Err(Error::new(ErrorCode::Corrupt, format!("Lane {index} has state {state:?}."))),
        }
    }

    /// Changes who holds a lane. False if somebody else was first.
    pub fn change_lane(&self, index: u32, from: LaneState, to: LaneState) -> Result<bool> {
        // ORDER AcqRel [lane-state]: hands over what the holder wrote; takes over what the last one did.
        Ok(self.lane_word(index)?.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    pub fn ring_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.shm.block::<64>(self.shape.lane(index))?.u64::<{ lane::RING }>())
    }

    /// The lane's ring and entry, checked; None if it never had a ring.
    pub fn lane_ref(&self, index: u32) -> Result<Option<LaneRef>> {
        // ORDER Acquire [ring]: the zero in its first word. Never changed once set.
        let ring = self.ring_word(index)?.load(Ordering::Acquire);
        if ring == 0 {
            return Ok(None);
        }
        let reference = LaneRef { index, ring, entry: self.shape.lane(index) };
        self.lane(reference)?;
        Ok(Some(reference))
    }

    /// The view through a reference.
    #[inline(always)]
    pub fn lane(&self, reference: LaneRef) -> Result<Lane<'_>> {
        let ring = self.shm.span(reference.ring, self.shape.lane_bytes)?.ring()?;
        Ok(Lane::new(ring, self.shm.block(reference.entry)?))
    }

    /// What a publisher or subscriber keeps of a lane.
    pub fn hold_lane(&self, reference: LaneRef) -> Result<HeldLane> {
        Ok(HeldLane {
            index: reference.index,
            ring: KeptRing::new(&self.shm, reference.ring, self.shape.lane_bytes)?,
            entry: Kept::new(&self.shm, reference.entry)?,
        })
    }

    #[inline(always)]
    pub fn sub_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.shm.block::<64>(self.shape.sub(index))?.u64::<{ sub::STATE }>())
    }

    #[inline]
    pub fn sub_state(&self, index: u32) -> Result<SubState> {
        // ORDER Acquire [sub-state]: the name and places that its holder wrote.
        let state = SubState(self.sub_word(index)?.load(Ordering::Acquire));
        match state.kind() {
            Some(_) => Ok(state),
            None => Err(Error::new(ErrorCode::Corrupt, format!("Subscription {index} has state {state:?}."))),
        }
    }

    /// Changes who holds a subscription. False if somebody else was first.
    pub fn change_sub(&self, index: u32, from: SubState, to: SubState) -> Result<bool> {
        // ORDER AcqRel [sub-state]: hands over the name and the places; takes over what the last holder did.
        Ok(self.sub_word(index)?.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// The place of a subscription in a lane.
    #[inline]
    pub fn place(&self, sub: u32, lane: u32) -> Result<PlaceBlock<'_>> {
        self.shm.block(self.shape.place(sub, lane))
    }

    /// Name of a subscription.
    pub fn sub_name(&self, index: u32) -> Result<String> {
        let entry = self.shm.span(self.shape.sub(index), sub::BYTES)?;
        // ORDER Relaxed: whoever calls has seen the state that came after it.
        let len = entry.u64(sub::NAME_LEN as u64)?.load(Ordering::Relaxed);
        if len > crate::limits::NAME_LEN_MAX as u64 {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("Subscription {index} has a name of {len} bytes."),
            ));
        }
        let mut name = vec![0; len as usize];
        entry.copy_out(sub::NAME, &mut name)?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// How far the publisher of `lane` may go: the ring's length beyond the subscription that is farthest behind. `subs` are
    /// those that bound it, `position` is where it stands.
    pub fn limit(&self, subs: &[u32], lane: u32, position: u64) -> Result<u64> {
        let mut lowest = position;
        for &index in subs {
            // ORDER Acquire [place]: the reader has copied what is in front of it.
            let seen = self.place(index, lane)?.u64::<{ place::POSITION }>().load(Ordering::Acquire);
            if seen > POSITION_MAX {
                return Err(Error::new(
                    ErrorCode::Corrupt,
                    format!("Subscription {index} stands at {seen}."),
                ));
            }
            lowest = lowest.min(seen);
        }
        if self.queue.is_some() {
            lowest = lowest.min(self.head(lane)?.position());
        }
        // ORDER Release [eject]: whoever reads bytes that are overwritten from here on also sees the states that were seen
        // before; pairs with the fence in `Proof::holds`.
        fence(Ordering::Release);
        Ok(lowest + self.shape.lane_bytes)
    }

    /// The subscriptions that bound publishers: those that are read, and those whose holder is away.
    pub fn bounding(&self, into: &mut Vec<u32>) -> Result<()> {
        into.clear();
        for index in 0..self.shape.subs {
            if matches!(self.sub_state(index)?.kind(), Some(SubKind::Live | SubKind::Away)) {
                into.push(index);
            }
        }
        Ok(())
    }

    /// Takes a lane for the calling thread: one that a predecessor closed or left when it died, or a fresh one with a new ring.
    pub fn take_lane(&self, me: u16) -> Result<(LaneRef, LaneState)> {
        if let Some(taken) = self.take_closed(me)? {
            return Ok(taken);
        }
        // Before the channel grows: lanes of the dead that no reaper has met yet.
        let mut any = false;
        for index in 0..self.shape.lanes {
            let seen = self.lane_state(index)?;
            if matches!(seen.kind(), Some(LaneKind::Live | LaneKind::Taking))
                && self.ground.thread_is_dead(seen.owner())
            {
                any |= inherit_lane(self, index, seen)?;
            }
        }
        if any {
            self.data().wake_all();
            if let Some(taken) = self.take_closed(me)? {
                return Ok(taken);
            }
        }
        self.take_free(me)
    }

    fn take_closed(&self, me: u16) -> Result<Option<(LaneRef, LaneState)>> {
        for index in 0..self.shape.lanes {
            if let Some(taken) = self.take_closed_at(index, me)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// Takes a lane if nobody publishes on it, and it has a ring.
    pub fn take_closed_at(&self, index: u32, me: u16) -> Result<Option<(LaneRef, LaneState)>> {
        let seen = self.lane_state(index)?;
        if !seen.is(LaneKind::Closed) {
            return Ok(None);
        }
        let mine = LaneState::new(LaneKind::Live, 0, me, seen.generation().wrapping_add(1));
        kill_point!("channel.lane.before_adopt");
        if !self.change_lane(index, seen, mine)? {
            return Ok(None);
        }
        // DIES AFTER: a lane of the dead, closed again by the reaper.
        kill_point!("channel.lane.adopted");
        let reference = self.lane_ref(index)?.ok_or_else(|| {
            Error::new(ErrorCode::Corrupt, format!("Lane {index} was closed and has no ring."))
        })?;
        Ok(Some((reference, mine)))
    }

    fn take_free(&self, me: u16) -> Result<(LaneRef, LaneState)> {
        for index in 0..self.shape.lanes {
            let seen = self.lane_state(index)?;
            let taking = LaneState::new(LaneKind::Taking, 0, me, seen.generation().wrapping_add(1));
            if seen.is(LaneKind::Free) && self.change_lane(index, seen, taking)? {
                // DIES AFTER: the reaper frees the entry.
                kill_point!("channel.lane.taking");
                let made = self.make_ring(index);
                let next = match made {
                    Ok(_) => LaneState::new(LaneKind::Live, 0, me, taking.generation()),
                    Err(_) => LaneState::new(LaneKind::Free, 0, 0, taking.generation()),
                };
                self.change_lane(index, taking, next)?;
                let reference = made?;
                kill_point!("channel.lane.live");
                self.lane_came();
                return Ok((reference, next));
            }
        }
        Err(Error::new(
            ErrorCode::TooManyPublishers,
            format!("All {} lanes of channel `{}` have a live publisher.", self.shape.lanes, self.name),
        ))
    }

    /// Gives the lane that the calling thread is taking its ring.
    fn make_ring(&self, index: u32) -> Result<LaneRef> {
        let bytes = self.shape.lane_bytes;
        let ring = self.ground.take_ring(self.object, bytes)?;
        // DIES AFTER: the chunks are open and no lane names them: the reaper frees them.
        kill_point!("channel.ring.taken");
        let ready = self.shm.span(ring, bytes).and_then(|span| {
            // ORDER Relaxed: the store of the ring's offset orders it. A new lane begins at position 0.
            span.u64(0)?.store(0, Ordering::Relaxed);
            Ok(LaneRef { index, ring, entry: self.shape.lane(index) })
        });
        let reference = match ready {
            Ok(reference) => reference,
            Err(error) => {
                self.ground.give_back_ring(ring, bytes)?;
                return Err(error);
            }
        };
        // ORDER Release [ring]: the zero in its first word; pairs with the load in `lane_ref`.
        self.ring_word(index)?.store(ring, Ordering::Release);
        // DIES AFTER: the lane names the ring: the reaper keeps it and closes the lane.
        kill_point!("channel.ring.named");
        self.ground.keep_ring(ring, bytes)?;
        Ok(reference)
    }

    /// The holder's thread died or detached, or the holder lets go: the subscription keeps its place if it is named, and is
    /// free otherwise. True if this call did it.
    pub fn release_sub(&self, index: u32, seen: SubState) -> Result<bool> {
        let next = match seen.kind() {
            Some(SubKind::Live) if seen.flags() & super::layout::NAMED != 0 => {
                SubState::new(SubKind::Away, seen.flags(), 0, seen.generation())
            }
            Some(SubKind::Live | SubKind::Joining) => {
                SubState::new(SubKind::Free, 0, 0, seen.generation().wrapping_add(1))
            }
            _ => return Ok(false),
        };
        kill_point!("channel.leave.before");
        if !self.change_sub(index, seen, next)? {
            return Ok(false);
        }
        // DIES AFTER: publishers find the new state when they next run out of room; sleepers wake at the end of their slice.
        kill_point!("channel.leave.after");
        self.sub_changed();
        self.free_all_parcels();
        self.space().wake_all();
        Ok(true)
    }

    /// Publishers wait for these subscriptions: lets those go whose holder is dead. True if any was.
    pub fn release_dead(&self, subs: &[u32]) -> Result<bool> {
        let mut any = false;
        for &index in subs {
            let seen = self.sub_state(index)?;
            if seen.is(SubKind::Live) && self.ground.thread_is_dead(seen.owner()) {
                any |= self.release_sub(index, seen)?;
            }
        }
        Ok(any)
    }
}
