//! Waiting for several channels at once.
//!
//! Who waits announces a sleeper in the wait word of each channel, looks once more at all of them, and sleeps on all words with
//! one call (`futex_waitv`, Linux 5.16). On older kernels, and where a filter forbids it, it sleeps on the first word for a
//! millisecond at a time.

use std::sync::Arc;
use std::time::Duration;

use super::area::Area;
use super::layout::SubState;
use super::wait::{Backoff, Patience, Step, WaitWord};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::{futex, time};

/// What can be waited for together with others: a [`Subscriber`](super::Subscriber), a [`Consumer`](super::Consumer) or a
/// [`LogReader`](super::LogReader).
pub trait Waitable: sealed::Sealed {}

pub(super) mod sealed {
    use super::{Result, Target};

    /// Kept to this library: what is waited for is part of the layout.
    pub trait Sealed {
        /// What is waited for now. The place of what was handed out moves, as with every call.
        fn target(&mut self) -> Result<Target>;
        /// Looks at what only the handle can see, when the target says that it is time to.
        fn look(&mut self) -> Result<bool> {
            Ok(true)
        }
    }
}

/// What somebody waits for: good until the handle that it came from is used again.
#[derive(Clone)]
pub struct Target {
    area: Arc<Area>,
    wish: Wish,
}

/// What a look at a target came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// A call would find something, be it an error, unless others take it first.
    Something,
    /// Only the handle can tell.
    Look,
}

/// What must be there.
#[derive(Clone, Copy)]
pub(super) enum Wish {
    /// Something is there already.
    Nothing,
    /// A message behind the places of a subscription, or the end of it.
    Subscription(u32, SubState),
    /// A message of a log at this position, or the end of the name that is read under.
    Log(u64, Option<(u32, SubState)>),
    /// A message of a queue: in a lane, or given back since this notice; or this instant of the boot clock.
    Queue(u32, u64),
}

impl Target {
    pub(super) fn new(area: Arc<Area>, wish: Wish) -> Target {
        Target { area, wish }
    }

    /// Looks for what is waited for.
    pub(super) fn look(&self) -> Result<Seen> {
        self.area.ground.usable()?;
        let (found, is_time) = match self.wish {
            Wish::Nothing => (true, false),
            Wish::Subscription(index, state) => {
                let place = |lane| Ok(self.area.load_place(index, lane)?.position);
                (self.area.sub_state(index)? != state || self.any_lane(place)?, false)
            }
            Wish::Log(position, name) => {
                let is_gone = match name {
                    Some((index, state)) => self.area.sub_state(index)? != state,
                    None => false,
                };
                (is_gone || self.area.log()?.is_filled(position), false)
            }
            Wish::Queue(notice, until_ms) => {
                let is_time = self.area.returned() != notice || time::boot_ms() >= until_ms;
                (self.any_lane(|lane| Ok(self.area.head(lane)?.position()))?, is_time)
            }
        };
        Ok(match (found, is_time) {
            (true, _) => Seen::Something,
            (false, true) => Seen::Look,
            (false, false) => Seen::Nothing,
        })
    }

    /// Whether a message stands in some lane at the position that is read next there.
    fn any_lane(&self, position: impl Fn(u32) -> Result<u64>) -> Result<bool> {
        for index in 0..self.area.shape.lanes {
            let Some(reference) = self.area.lane_ref(index)? else { continue };
            let (lane, position, ground) = (self.area.lane(reference)?, position(index)?, &*self.area.ground);
            let found = match self.area.overruns() {
                true => lane.has_message::<true>(ground, position),
                false => lane.has_message::<false>(ground, position),
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn word(&self) -> WaitWord<'_> {
        self.area.data()
    }

    /// How long it may be slept at most.
    pub(super) fn slice(&self) -> Duration {
        let slice = match self.wish {
            Wish::Queue(_, until_ms) => until_ms.saturating_sub(time::boot_ms()).clamp(1, WAIT_SLICE_MS),
            _ => WAIT_SLICE_MS,
        };
        Duration::from_millis(slice)
    }
}

/// Waits until one of `sources` has a message, or an error to tell, at most `timeout`; without one, until there is one. Gives the
/// place of the first that has; `None` when the time is over. For a consumer of a queue others may take the message first: then
/// it finds nothing.
///
/// Up to 127 sources, of any fabrics. What they handed out last counts as handled, as with each of their own calls.
pub fn wait_any(sources: &mut [&mut dyn Waitable], timeout: Option<Duration>) -> Result<Option<usize>> {
    let mut targets = targets_of(sources)?;
    let mut backoff = Backoff::new(&Patience::default(), timeout, Duration::from_millis(WAIT_SLICE_MS));
    loop {
        match backoff.step() {
            Step::Again => {
                if let Some(ready) = first_ready(sources, &mut targets)? {
                    return Ok(Some(ready));
                }
            }
            Step::Park(slice) => {
                let armed: Vec<_> = targets.iter().map(|target| target.word().arm()).collect();
                if let Some(ready) = first_ready(sources, &mut targets)? {
                    return Ok(Some(ready));
                }
                sleep(&targets, &armed, None, slice);
            }
            // Who was not scheduled for so long looks once more.
            Step::TimedOut => return first_ready(sources, &mut targets),
        }
    }
}

/// What is waited for of several sources that cannot be held at once, one noted after the other: as [`wait_any`], except that a
/// consumer of a queue that was given back messages, or has to look after what others hold, counts as having something.
#[derive(Default)]
pub struct WaitSet {
    targets: Vec<Target>,
}

impl WaitSet {
    /// Nothing is waited for.
    pub fn new() -> WaitSet {
        WaitSet::default()
    }

    /// Waits for this one too, until the next call on it. What it handed out last counts as handled. Gives its place.
    pub fn watch(&mut self, source: &mut dyn Waitable) -> Result<usize> {
        check_count(self.targets.len() + 1)?;
        self.targets.push(source.target()?);
        Ok(self.targets.len() - 1)
    }

    /// Waits until one of the sources has something, at most `timeout`; without one, until there is one.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<usize>> {
        check_count(self.targets.len())?;
        let ready = || -> Result<Option<usize>> {
            for (place, target) in self.targets.iter().enumerate() {
                if target.look()? != Seen::Nothing {
                    return Ok(Some(place));
                }
            }
            Ok(None)
        };
        let mut backoff = Backoff::new(&Patience::default(), timeout, Duration::from_millis(WAIT_SLICE_MS));
        loop {
            match backoff.step() {
                Step::Again => {
                    if let Some(ready) = ready()? {
                        return Ok(Some(ready));
                    }
                }
                Step::Park(slice) => {
                    let armed: Vec<_> = self.targets.iter().map(|target| target.word().arm()).collect();
                    if let Some(ready) = ready()? {
                        return Ok(Some(ready));
                    }
                    sleep(&self.targets, &armed, None, slice);
                }
                Step::TimedOut => return ready(),
            }
        }
    }

    pub(super) fn targets(&self) -> Result<Vec<Target>> {
        check_count(self.targets.len())?;
        Ok(self.targets.clone())
    }
}

/// What is waited for of each source.
pub(super) fn targets_of(sources: &mut [&mut dyn Waitable]) -> Result<Vec<Target>> {
    check_count(sources.len())?;
    sources.iter_mut().map(|source| source.target()).collect()
}

/// One word less than can be waited for: who sleeps for others has one of its own.
fn check_count(count: usize) -> Result<()> {
    const MOST: usize = futex::WAIT_MANY_MAX - 1;
    if (1..=MOST).contains(&count) {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::InvalidArgument,
        format!("{count} sources are to be waited for: it must be 1 to {MOST}."),
    ))
}

fn first_ready(sources: &mut [&mut dyn Waitable], targets: &mut [Target]) -> Result<Option<usize>> {
    for (place, (source, target)) in sources.iter_mut().zip(targets).enumerate() {
        match target.look()? {
            Seen::Nothing => {}
            Seen::Something => return Ok(Some(place)),
            Seen::Look if source.look()? => return Ok(Some(place)),
            Seen::Look => *target = source.target()?,
        }
    }
    Ok(None)
}

/// Sleeps until one of the words that were armed changes, or the bell does, at most `slice`.
pub(super) fn sleep(
    targets: &[Target],
    armed: &[u32],
    bell: Option<(&crate::shm::atomic::AtomicU32, u32)>,
    slice: Duration,
) {
    let mut words: Vec<_> = bell.into_iter().collect();
    for (target, armed) in targets.iter().zip(armed) {
        let word = target.word().word();
        if !words.iter().any(|(other, _)| std::ptr::eq(*other, word)) {
            words.push((word, *armed));
        }
    }
    let slice = targets.iter().map(Target::slice).min().map_or(slice, |least| slice.min(least));
    futex::wait_many(&words, slice);
}
