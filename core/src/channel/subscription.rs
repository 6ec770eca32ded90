//! Subscriptions: joining, coming back to a named one, leaving, ejecting.
//!
//! A subscription bounds the publishers of a blocking channel from the moment it is `Live`. Joining and a publisher's look at
//! the subscriptions race; a full fence on both sides decides: either the publisher sees the new subscription with places
//! that are not ahead of it, or the subscriber, which looks at the tails a second time, begins behind what the publisher had
//! published when it looked. As a publisher never goes farther than one ring beyond where it stood when it looked, nothing
//! that the subscriber still has to read is overwritten.
//!
//! Two threads may create the same name at once. Each announces the name in its own entry, fences, and looks at the others:
//! at least one sees the other. The lower entry wins; who finds a finished one takes back its own.

use std::time::{Duration, Instant};

use super::area::{Area, PlaceBlock};
use super::lane::Place;
use super::layout::{Count, NAMED, POSITION_MAX, SubKind, SubState, place, sub};
use super::{ChannelKind, log};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::NAME_LEN_MAX;
use crate::shm::atomic::{AtomicU64, Ordering, fence, yield_now};

/// Rounds of joining before giving up: each failed one is another thread's success.
const ROUNDS: u32 = 1000;
/// How long to wait for a thread that is creating the same name just now.
const PATIENCE: Duration = Duration::from_millis(20);

/// Mark on a position whose holder is going on behind a loss.
const JUMPING: u64 = 1;

/// The words of a place as its holder left them: what is there tells whether the entry is its own still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stood {
    position: u64,
    /// 0 where messages are not counted.
    handled: Count,
}

impl Stood {
    fn at(place: Place) -> Stood {
        Stood { position: place.position, handled: Count::new(place.messages, place.position) }
    }

    /// A binding has stored that position, where messages are not counted.
    #[cfg(not(memora_loom))]
    pub(super) fn show(&mut self, position: u64) {
        self.position = position;
    }
}

/// Changes a word of a place, if it still holds `from`.
#[inline(always)]
fn change(word: &AtomicU64, from: u64, to: u64) -> bool {
    // ORDER Release [place]: what is in front of it was copied; pairs with the load in `limit`. Nothing is read through it.
    word.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed).is_ok()
}

/// A subscription as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Its number in the channel.
    pub id: u32,
    /// Its name; empty for an anonymous one.
    pub name: String,
    /// Whether a thread holds it now, alive or not yet found dead.
    pub held: bool,
    /// Pid of the process that holds it, in its own PID namespace; `None` if nobody does.
    pub pid: Option<u32>,
    /// Bytes that were published and not yet handled; 0 for a log, whose readers are counted in messages by
    /// [`Channel::stats`](super::Channel::stats).
    pub lag_bytes: u64,
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if good {
        return Ok(());
    }
    Err(Error::new(ErrorCode::InvalidName, format!("`{name}` is no name.")))
}

impl Area {
    fn in_use(&self, name: Option<&str>, why: &str) -> Error {
        let what = name.map_or("The subscription".to_owned(), |name| format!("Subscription `{name}`"));
        Error::new(ErrorCode::SubscriptionInUse, format!("{what} of channel `{}` {why}.", self.name))
    }

    fn too_many(&self) -> Error {
        Error::new(
            ErrorCode::TooManySubscribers,
            format!("All {} subscriptions of channel `{}` are taken.", self.shape.subs, self.name),
        )
    }

    /// Gives the calling thread a subscription.
    pub fn subscribe(&self, me: u16, name: Option<&str>) -> Result<(u32, SubState)> {
        if let Some(name) = name {
            check_name(name)?;
        }
        self.no_lanes()?;
        if self.queue.is_some() {
            return Err(Error::new(
                ErrorCode::WrongKind,
                format!("Channel `{}` is a queue: it has consumers, not subscribers.", self.name),
            ));
        }
        for _ in 0..ROUNDS {
            let done = match (self.kind, name) {
                (ChannelKind::Stream, _) => self.hold_stream(me, name)?,
                (_, None) => Some(self.join_free(me)?),
                (_, Some(name)) => match self.hold_named(me, name)? {
                    Some(held) => Some(held),
                    None if self.find(name, None)?.is_none() => self.create_named(me, name, 0)?,
                    None => None,
                },
            };
            if let Some(held) = done {
                return Ok(held);
            }
            yield_now();
        }
        Err(Error::new(ErrorCode::Busy, format!("Subscriptions of channel `{}` change too fast.", self.name)))
    }

    /// Gives the calling thread the named subscription of a log, which begins at `start` if there was none; says whether there was none.
    pub fn subscribe_log(&self, me: u16, name: &str, start: u64) -> Result<(u32, SubState, bool)> {
        check_name(name)?;
        for _ in 0..ROUNDS {
            if let Some((index, state)) = self.hold_named(me, name)? {
                return Ok((index, state, false));
            }
            if self.find(name, None)?.is_none()
                && let Some((index, state)) = self.create_named(me, name, start)?
            {
                return Ok((index, state, true));
            }
            yield_now();
        }
        Err(Error::new(ErrorCode::Busy, format!("Readers of the log `{}` change too fast.", self.name)))
    }

    /// The one subscription of a stream.
    fn hold_stream(&self, me: u16, name: Option<&str>) -> Result<Option<(u32, SubState)>> {
        let seen = self.sub_state(0)?;
        let flags = if name.is_some() { NAMED } else { 0 };
        match seen.kind() {
            Some(SubKind::Away) => {
                if seen.flags() & NAMED != 0 && name.is_none() {
                    return Err(self.in_use(name, "has a name and keeps its place for it"));
                }
                let mine = SubState::new(SubKind::Live, flags, me, seen.generation().wrapping_add(1));
                if !self.change_sub(0, seen, mine)? {
                    return Ok(None);
                }
                self.write_name(0, name.unwrap_or_default())?;
                Ok(Some((0, mine)))
            }
            Some(SubKind::Live | SubKind::Joining) => {
                self.take_from_dead(0, seen, name)?;
                Ok(None)
            }
            _ => match self.claim(me, 0, seen)? {
                Some(joining) => {
                    self.write_name(0, name.unwrap_or_default())?;
                    self.go_live(0, joining, flags, 0).map(Some)
                }
                None => Ok(None),
            },
        }
    }

    /// Lets a dead holder go; an error if it lives.
    fn take_from_dead(&self, index: u32, seen: SubState, name: Option<&str>) -> Result<()> {
        if !self.ground.thread_is_dead(seen.owner()) {
            return Err(self.in_use(name, "has a live holder"));
        }
        self.release_sub(index, seen)?;
        Ok(())
    }

    fn join_free(&self, me: u16) -> Result<(u32, SubState)> {
        let (index, joining) = self.claim_any(me)?;
        self.go_live(index, joining, 0, 0)
    }

    fn claim_any(&self, me: u16) -> Result<(u32, SubState)> {
        for index in 0..self.shape.subs {
            if let Some(joining) = self.claim(me, index, self.sub_state(index)?)? {
                return Ok((index, joining));
            }
        }
        // Entries of dead anonymous subscribers that nobody has met yet.
        for index in 0..self.shape.subs {
            let seen = self.sub_state(index)?;
            if matches!(seen.kind(), Some(SubKind::Live | SubKind::Joining))
                && self.ground.thread_is_dead(seen.owner())
                && self.release_sub(index, seen)?
                && let Some(joining) = self.claim(me, index, self.sub_state(index)?)?
            {
                return Ok((index, joining));
            }
        }
        Err(self.too_many())
    }

    pub(super) fn claim(&self, me: u16, index: u32, seen: SubState) -> Result<Option<SubState>> {
        let joining = SubState::new(SubKind::Joining, 0, me, seen.generation().wrapping_add(1));
        if !seen.is(SubKind::Free) || !self.change_sub(index, seen, joining)? {
            return Ok(None);
        }
        // DIES AFTER: the reaper frees the entry.
        kill_point!("channel.join.claimed");
        self.write_name(index, "")?;
        Ok(Some(joining))
    }

    pub(super) fn write_name(&self, index: u32, name: &str) -> Result<()> {
        let entry = self.shm.span(self.shape.sub(index), sub::BYTES)?;
        entry.copy_in(sub::NAME, name.as_bytes())?;
        // ORDER Relaxed: the state that shows the name orders it.
        entry.u64(sub::NAME_LEN as u64)?.store(name.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Where a subscription of this channel begins that joins now.
    fn end_of_lane(&self, lane: u32) -> Result<Place> {
        match self.lane_ref(lane)? {
            None => Ok(Place::default()),
            Some(reference) if self.overruns() => self.lane(reference)?.end::<true>(),
            Some(reference) => self.lane(reference)?.end::<false>(),
        }
    }

    /// Sets the place of a subscription that nobody looks at yet. What an ejected holder of its entry does late comes in front of
    /// these exchanges, or fails.
    fn begin_place(&self, at: PlaceBlock<'_>, place: Place) -> Stood {
        let stood = Stood::at(place);
        if self.overruns() {
            // ORDER Relaxed: the state that is stored later orders it.
            at.u64::<{ place::HANDLED }>().swap(stood.handled.0, Ordering::Relaxed);
            kill_point!("channel.place.counted");
        }
        // ORDER Release [place]: pairs with the load in `limit`.
        at.u64::<{ place::POSITION }>().swap(place.position, Ordering::Release);
        stood
    }

    /// The holder moves its place on from `shown`, where `stood` shows it: the count first, so that a reader which dies in between is
    /// found at the place that the count names. Only if it still stands there: who was stopped in between and ejected must not set
    /// the place of the next holder of its entry, who joined at `to` or farther on. False if it did not stand there any more.
    #[inline(always)]
    pub(super) fn move_place(&self, at: PlaceBlock<'_>, stood: &mut Stood, shown: Place, to: Place) -> bool {
        if self.overruns() {
            let handled = Count::new(to.messages, to.position);
            // Who held it before died between its two stores: its count would lie two steps in front of its position.
            if stood.position != shown.position && stood.position.is_multiple_of(8) {
                if !change(at.u64::<{ place::POSITION }>(), stood.position, shown.position) {
                    return false;
                }
                stood.position = shown.position;
            }
            if !change(at.u64::<{ place::HANDLED }>(), stood.handled.0, handled.0) {
                return false;
            }
            kill_point!("channel.place.counted");
            stood.handled = handled;
        }
        let moved = change(at.u64::<{ place::POSITION }>(), stood.position, to.position);
        stood.position = to.position;
        moved
    }

    /// The holder moves its place behind a loss, which may be farther away than the count's low bits can tell. False as for
    /// [`Area::move_place`].
    pub(super) fn jump_place(&self, at: PlaceBlock<'_>, stood: &mut Stood, from: Place, to: Place) -> bool {
        let (position, handled) = (at.u64::<{ place::POSITION }>(), at.u64::<{ place::HANDLED }>());
        let mark = from.position | JUMPING;
        if !change(position, stood.position, mark) {
            return false;
        }
        // DIES AFTER: whoever comes back finds the place in front of the loss and meets the loss again, with the count
        // before or behind it.
        kill_point!("channel.jump.marked");
        let counted = change(handled, stood.handled.0, Count::new(to.messages, to.position).0);
        kill_point!("channel.jump.counted");
        *stood = Stood::at(to);
        counted && change(position, mark, to.position)
    }

    /// The words of a place.
    pub(super) fn stood(&self, index: u32, lane: u32) -> Result<Stood> {
        let at = self.place(index, lane)?;
        // ORDER Relaxed: taking the subscription ordered them.
        let position = at.u64::<{ place::POSITION }>().load(Ordering::Relaxed);
        let handled = Count(at.u64::<{ place::HANDLED }>().load(Ordering::Relaxed));
        Ok(Stood { position, handled })
    }

    /// The place at which a holder goes on that finds these words.
    pub(super) fn place_of(&self, index: u32, Stood { position, handled }: Stood) -> Result<Place> {
        let jumping = self.overruns() && position % 8 == JUMPING;
        if position > POSITION_MAX || !(position.is_multiple_of(8) || jumping) {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("Subscription {index} stands at {position}."),
            ));
        }
        if !self.overruns() {
            return Ok(Place { position, messages: 0 });
        }
        if jumping {
            return Ok(Place { position: position & !JUMPING, messages: handled.messages() });
        }
        Ok(Place { position: handled.position_from(position), messages: handled.messages() })
    }

    /// Loads the place at which a holder goes on.
    pub(super) fn load_place(&self, index: u32, lane: u32) -> Result<Place> {
        self.place_of(index, self.stood(index, lane)?)
    }

    /// A subscription of a log begins at `start`, one of lanes at their ends.
    fn go_live(&self, index: u32, joining: SubState, flags: u8, start: u64) -> Result<(u32, SubState)> {
        if self.log.is_some() {
            self.begin_reader(index, log::layout::ReaderPlace::new(start, joining.generation()))?;
        }
        let mut begun = Vec::with_capacity(self.shape.lanes as usize);
        for lane in 0..self.shape.lanes {
            let end = self.end_of_lane(lane)?;
            begun.push((end, self.begin_place(self.place(index, lane)?, end)));
        }
        let live = SubState::new(SubKind::Live, flags, joining.owner(), joining.generation());
        kill_point!("channel.join.before_live");
        if !self.change_sub(index, joining, live)? {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!("Subscription {index} was taken while joining."),
            ));
        }
        // DIES AFTER: a subscription of the dead; its places are good.
        kill_point!("channel.join.live");
        self.sub_changed();
        if self.log.is_some() {
            self.reader_joined()?;
        }
        // ORDER SeqCst [join]: the state and the places before the second look at the tails; pairs with the fence in
        // `Publisher::refill`.
        fence(Ordering::SeqCst);
        for (lane, (begin, mut stood)) in (0..).zip(begun) {
            let end = self.end_of_lane(lane)?;
            // A failure means that it was ejected already: the next call finds that out.
            if end != begin {
                self.move_place(self.place(index, lane)?, &mut stood, begin, end);
            }
        }
        Ok((index, live))
    }

    /// The entry with this name other than `but`, announced or finished.
    fn find(&self, name: &str, but: Option<u32>) -> Result<Option<(u32, SubState)>> {
        for index in 0..self.shape.subs {
            // ORDER Acquire [name]: the look at the others, behind the fence in `create_named`.
            let seen = self.sub_state(index)?;
            if seen.flags() & NAMED != 0 && Some(index) != but && self.sub_name(index)? == name {
                return Ok(Some((index, seen)));
            }
        }
        Ok(None)
    }

    /// Takes an existing subscription of that name. None if there is none, or it changed meanwhile.
    fn hold_named(&self, me: u16, name: &str) -> Result<Option<(u32, SubState)>> {
        let Some((index, seen)) = self.find(name, None)? else { return Ok(None) };
        if !seen.is(SubKind::Away) {
            self.take_from_dead(index, seen, Some(name))?;
            return Ok(None);
        }
        // A new generation: a handle whose thread ended must not come back to places that another has moved meanwhile.
        let mine = SubState::new(SubKind::Live, NAMED, me, seen.generation().wrapping_add(1));
        kill_point!("channel.attach.before");
        let taken = self.change_sub(index, seen, mine)?;
        kill_point!("channel.attach.after");
        Ok(taken.then_some((index, mine)))
    }

    fn create_named(&self, me: u16, name: &str, start: u64) -> Result<Option<(u32, SubState)>> {
        let (index, joining) = self.claim_any(me)?;
        self.write_name(index, name)?;
        let announced = SubState::new(SubKind::Joining, NAMED, me, joining.generation());
        self.change_sub(index, joining, announced)?;
        kill_point!("channel.join.announced");
        let end = Instant::now() + PATIENCE;
        loop {
            // ORDER SeqCst [name]: our name before the look at the others; pairs with itself in the other thread.
            fence(Ordering::SeqCst);
            match self.find(name, Some(index))? {
                None => return self.go_live(index, announced, NAMED, start).map(Some),
                Some((other, seen)) if seen.is(SubKind::Joining) => {
                    if self.ground.thread_is_dead(seen.owner()) {
                        self.release_sub(other, seen)?;
                    } else if other < index {
                        self.release_sub(index, announced)?;
                        return if Instant::now() < end {
                            Ok(None)
                        } else {
                            Err(self.in_use(Some(name), "has a live holder"))
                        };
                    } else if Instant::now() >= end {
                        self.release_sub(index, announced)?;
                        return Err(self.in_use(Some(name), "is being created by another"));
                    }
                    yield_now();
                }
                Some(_) => {
                    self.release_sub(index, announced)?;
                    return Ok(None);
                }
            }
        }
    }

    /// Takes a subscription away from whoever holds it, or is away from it.
    pub(super) fn eject(&self, index: u32, seen: SubState) -> Result<bool> {
        if !matches!(seen.kind(), Some(SubKind::Live | SubKind::Away)) {
            return Ok(false);
        }
        let free = SubState::new(SubKind::Free, 0, 0, seen.generation().wrapping_add(1));
        kill_point!("channel.eject.before");
        if !self.change_sub(index, seen, free)? {
            return Ok(false);
        }
        kill_point!("channel.eject.after");
        self.count_ejected();
        self.sub_changed();
        self.free_all_parcels();
        self.space().wake_all();
        Ok(true)
    }

    /// Ends a named subscription whose holder is away. False if there is none.
    pub(super) fn unsubscribe(&self, name: &str) -> Result<bool> {
        check_name(name)?;
        for _ in 0..ROUNDS {
            let Some((index, seen)) = self.find(name, None)? else { return Ok(false) };
            if !seen.is(SubKind::Away) {
                self.take_from_dead(index, seen, Some(name))?;
            } else if self.eject(index, seen)? {
                return Ok(true);
            }
        }
        Err(Error::new(ErrorCode::Busy, format!("Subscription `{name}` changes too fast.")))
    }

    /// All subscriptions.
    pub(super) fn subscriptions(&self) -> Result<Vec<SubscriptionInfo>> {
        let mut all = Vec::new();
        for index in 0..self.shape.subs {
            let seen = self.sub_state(index)?;
            if !matches!(seen.kind(), Some(SubKind::Live | SubKind::Away)) {
                continue;
            }
            let mut lag_bytes = 0;
            for lane in 0..self.shape.lanes {
                let end = self.end_of_lane(lane)?.position;
                let place = self.load_place(index, lane)?.position;
                lag_bytes = u64::saturating_add(lag_bytes, end.saturating_sub(place));
            }
            let name = if seen.flags() & NAMED != 0 { self.sub_name(index)? } else { String::new() };
            let held = seen.is(SubKind::Live);
            let pid = if held { self.ground.pid_of(seen.owner()) } else { None };
            all.push(SubscriptionInfo { id: index, name, held, pid, lag_bytes });
        }
        Ok(all)
    }
}
