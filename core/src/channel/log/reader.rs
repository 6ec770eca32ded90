//! The receiving end of a log.

use std::sync::Arc;
use std::time::Duration;

use super::files::Cursor;
use super::index::{Found, Look};
use super::layout::ReaderPlace;
use crate::channel::area::Area;
use crate::channel::layout::{NAMED, SubKind, SubState, sub};
use crate::channel::watch::sealed::Sealed;
use crate::channel::watch::{Target, Waitable, Wish};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::Ordering;
use crate::shm::{Kept, thread};
use crate::wait::{Backoff, Patience, Step};

/// A reader that cannot announce that it sleeps looks this often.
const LOOK: Duration = Duration::from_millis(1);

/// Where a reader of a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest message that is kept.
    Oldest,
    /// What is published from now on.
    Newest,
    /// The message at this position. `PositionTrimmed` if it was trimmed, `PositionAhead` if it lies behind the end.
    Position(u64),
}

/// What came with a message of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogMessage {
    /// Its position: the first message of a log has 0, each next one has one more.
    pub position: u64,
    /// Bytes of the message.
    pub len: usize,
    /// When it was published, in ms since the host started; 0 on a log without an age.
    pub time_ms: u64,
}

/// Reads the messages of a log in their one order.
///
/// A reader without a name stands where it stands and writes nothing into the fabric. The position of a named one is shown when the *next*
/// call is made: `try_recv`, `recv`, `poll`, `commit`, or dropping it. What was handed out last counts as handled only then, so whoever
/// goes on with the name after a killed process sees those messages again.
pub struct LogReader {
    area: Arc<Area>,
    /// Of the next message.
    position: u64,
    /// Up to where everything is handled.
    shown: u64,
    name: Option<Name>,
    scratch: Vec<u8>,
    /// The scratch holds a long message: it is given back by the next call.
    long: bool,
    patience: Patience,
    /// Where it is in the files, once it was far behind.
    cursor: Option<Box<Cursor>>,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

/// What a named reader holds.
struct Name {
    index: u32,
    state: SubState,
    entry: Kept<{ sub::BYTES as usize }>,
    marker: usize,
    /// What others see of where it stands.
    place: ReaderPlace,
}

impl Area {
    /// The position that a reader begins at.
    fn start_of_reader(&self, from: ReadFrom) -> Result<u64> {
        let (log, name) = (self.log()?, &self.name);
        let oldest = self.first_kept()?;
        let end = || log.end(oldest);
        match from {
            ReadFrom::Oldest => Ok(oldest),
            ReadFrom::Newest => Ok(end()),
            ReadFrom::Position(position) if position < oldest => Err(Error::with_amount(
                ErrorCode::PositionTrimmed,
                oldest,
                format!(
                    "Position {position} of the log `{name}` was trimmed: the oldest that is kept is {oldest}."
                ),
            )),
            ReadFrom::Position(position) if position > end() => Err(Error::with_amount(
                ErrorCode::PositionAhead,
                end(),
                format!(
                    "Position {position} of the log `{name}` lies ahead: the next message gets {}.",
                    end()
                ),
            )),
            ReadFrom::Position(position) => Ok(position),
        }
    }
}

#[cold]
fn ejected(area: &Area) -> Error {
    let text =
        format!("The reader of the log `{}` was ejected, or another went on with its name.", area.name);
    Error::new(ErrorCode::Ejected, text)
}

impl Waitable for LogReader {}

impl Sealed for LogReader {
    fn target(&mut self) -> Result<Target> {
        self.commit()?;
        if !self.area.shm.writable() {
            // Who sleeps on a word must write into it first.
            return Err(ErrorCode::ReadOnly.into());
        }
        let wish = Wish::Log(self.position, self.name.as_ref().map(|name| (name.index, name.state)));
        Ok(Target::new(self.area.clone(), wish))
    }
}

impl LogReader {
    pub(in crate::channel) fn new(area: Arc<Area>, name: Option<&str>, from: ReadFrom) -> Result<LogReader> {
        area.same_process()?;
        area.ground.usable()?;
        area.trim_by_age()?;
        let start = area.start_of_reader(from)?;
        let (mut position, mut held) = (start, None);
        if let Some(name) = name {
            let me = area.ground.thread()?;
            let (index, state, is_new) = area.subscribe_log(me, name, start)?;
            let entry = Kept::new(&area.shm, area.shape.sub(index))?;
            let found = area.reader_place(index)?;
            position = found.position();
            // From here on late words of earlier holders fail.
            let place = ReaderPlace::new(position, state.generation());
            kill_point!("channel.log_attach.before_mark");
            if place != found && !area.show_reader(index, found, place)? {
                return Err(ejected(&area));
            }
            kill_point!("channel.log_attach.marked");
            held = Some(Name { index, state, entry, marker: thread::marker(), place });
            if is_new && from == ReadFrom::Oldest {
                // What was trimmed while it came is not lost to it: it had not begun.
                position = position.max(area.first_kept()?);
            }
            let max = area.log()?.geometry.position_max();
            if position > max {
                return Err(Error::new(
                    ErrorCode::Corrupt,
                    format!("Reader `{name}` of the log `{}` stands at {position}.", area.name),
                ));
            }
        }
        Ok(LogReader {
            area,
            position,
            shown: position,
            name: held,
            scratch: Vec::new(),
            long: false,
            patience: Patience::default(),
            cursor: None,
            alone: std::marker::PhantomData,
        })
    }

    /// What stands in its entry, and what the next call stores there.
    #[cfg(test)]
    pub(super) fn late_words(&self) -> (ReaderPlace, ReaderPlace) {
        let name = self.name.as_ref().unwrap();
        (name.place, ReaderPlace::new(self.position, name.state.generation()))
    }

    /// The position of the message that is read next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Messages from there to the end.
    pub fn lag(&self) -> Result<u64> {
        self.area.same_process()?;
        Ok(self.area.log()?.end(self.position) - self.position)
    }

    /// Goes on elsewhere. What was handed out before counts as handled.
    pub fn seek(&mut self, from: ReadFrom) -> Result<()> {
        self.hold()?;
        let to = self.area.start_of_reader(from)?;
        self.position = to;
        let back = to < self.shown;
        self.show()?;
        if back && self.name.is_some() {
            self.area.reader_joined()?;
        }
        Ok(())
    }

    /// What every call begins with: the thread holds the name.
    #[inline(always)]
    fn hold(&mut self) -> Result<()> {
        self.area.ground.usable()?;
        let Some(name) = &self.name else { return Ok(()) };
        // ORDER Relaxed: only its holder, an ejector or the reaper of a dead holder changes it; nothing is read through it.
        let state = name.entry.block().u64::<{ sub::STATE }>().load(Ordering::Relaxed);
        if thread::marker() != name.marker || state != name.state.0 { self.adopt() } else { Ok(()) }
    }

    #[inline(always)]
    fn start(&mut self) -> Result<()> {
        self.hold()?;
        if self.long {
            (self.long, self.scratch) = (false, Vec::new());
        }
        self.show()
    }

    /// Takes the name over from the thread that used it before, or comes back to it.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Result<()> {
        let Some(name) = &mut self.name else { return Ok(()) };
        let me = self.area.ground.thread()?;
        // No state comes twice: late helpers compare with what they saw.
        let mine = SubState::new(SubKind::Live, NAMED, me, name.state.generation().wrapping_add(1));
        let away = SubState::new(SubKind::Away, NAMED, 0, name.state.generation());
        if !self.area.change_sub(name.index, name.state, mine)?
            && !self.area.change_sub(name.index, away, mine)?
        {
            return Err(ejected(&self.area));
        }
        (name.state, name.marker) = (mine, thread::marker());
        // The mark of its entry is that of its state from here on.
        let place = ReaderPlace::new(name.place.position(), mine.generation());
        kill_point!("channel.log_attach.before_mark");
        if !self.area.show_reader(name.index, name.place, place)? {
            return Err(ejected(&self.area));
        }
        kill_point!("channel.log_attach.marked");
        name.place = place;
        Ok(())
    }

    /// Shows the position: everything handed out so far is handled.
    #[inline(always)]
    fn show(&mut self) -> Result<()> {
        if self.position != self.shown {
            if let Some(name) = &mut self.name {
                let place = ReaderPlace::new(self.position, name.state.generation());
                kill_point!("channel.log_place.before");
                if !self.area.show_reader(name.index, name.place, place)? {
                    return Err(ejected(&self.area));
                }
                // DIES AFTER: the batch is handled.
                kill_point!("channel.log_place.after");
                name.place = place;
            }
            self.shown = self.position;
        }
        Ok(())
    }

    /// Everything handed out so far is handled: shows the position now.
    pub fn commit(&mut self) -> Result<()> {
        self.hold()?;
        self.show()
    }

    /// Gives back what the last call handed out: it is not handled, and the next calls hand it out again.
    pub fn unread(&mut self) -> Result<()> {
        self.hold()?;
        self.position = self.shown;
        Ok(())
    }

    /// Hands up to `limit` messages to `handler`; gives how many. Never waits. 0 means that nothing is there.
    ///
    /// `Overrun` if messages were trimmed before this reader came to them: its amount says how many, and the next call goes on with the oldest
    /// that is kept.
    pub fn poll(&mut self, limit: usize, mut handler: impl FnMut(&LogMessage, &[u8])) -> Result<usize> {
        self.start()?;
        self.take(limit, &mut handler)
    }

    #[inline(always)]
    fn take(&mut self, limit: usize, handler: &mut impl FnMut(&LogMessage, &[u8])) -> Result<usize> {
        let mut taken = 0;
        while taken < limit {
            let at = self.position;
            match self.next() {
                Ok(Some(message)) => {
                    handler(&message, &self.scratch[..message.len]);
                    // After the handler: if it panics, the message is handed out again.
                    self.position += 1;
                    taken += 1;
                }
                Ok(None) => break,
                Err(error) if taken == 0 => return Err(error),
                // What was handed out comes first. The next call meets the error again: no position is shown behind a loss before it was told.
                Err(_) => {
                    self.position = at;
                    break;
                }
            }
        }
        Ok(taken)
    }

    /// Copies the message at the position, if there is one.
    #[inline(always)]
    fn next(&mut self) -> Result<Option<LogMessage>> {
        let LogReader { area, scratch, position, .. } = self;
        let log = area.log()?;
        match log.look(*position)? {
            Look::Empty => return Ok(None),
            Look::Found(found) if found.parcel => return self.next_parcel(&found),
            Look::Found(found) => {
                let len = found.len as usize;
                if scratch.len() < len {
                    scratch.resize(len.max(1024).next_power_of_two(), 0);
                }
                log.ring().copy_out(found.at, &mut scratch[..len])?;
                if log.is_kept(*position) {
                    return Ok(Some(LogMessage { position: *position, len, time_ms: found.time_ms }));
                }
            }
            Look::Trimmed => {}
        }
        self.trimmed()
    }

    /// As `next`, of a message whose record names a parcel.
    #[cold]
    #[inline(never)]
    fn next_parcel(&mut self, found: &Found) -> Result<Option<LogMessage>> {
        let LogReader { area, scratch, position, long, .. } = self;
        let (log, position, time_ms) = (area.log()?, *position, found.time_ms);
        let words = area.words_of(found);
        if log.is_kept(position) {
            *long = true;
            let copied = area.copy_parcel(words?, scratch);
            // After the copy: chunks are given back behind the change of `oldest`.
            if log.is_kept(position) {
                return match copied? {
                    Some(len) => Ok(Some(LogMessage { position, len, time_ms })),
                    None => Err(log.damaged(position, log.cell(position))),
                };
            }
        }
        self.trimmed()
    }

    /// Goes on in the files, or with the oldest message that is kept.
    #[cold]
    #[inline(never)]
    fn trimmed(&mut self) -> Result<Option<LogMessage>> {
        if self.area.files.is_some()
            && let Some(message) =
                self.cursor.get_or_insert_default().read(&self.area, self.position, &mut self.scratch)?
        {
            return Ok(Some(message));
        }
        let oldest = self.area.first_kept()?;
        let Some(lost) = oldest.checked_sub(self.position).filter(|lost| *lost > 0) else {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!(
                    "The log `{}` has no message at {}, and keeps {oldest}.",
                    self.area.name, self.position
                ),
            ));
        };
        let from = self.position;
        self.position = oldest;
        Err(Error::with_amount(
            ErrorCode::Overrun,
            lost,
            format!("{lost} messages of the log `{}` from position {from} on were trimmed.", self.area.name),
        ))
    }

    /// Takes one message into `into`, if there is one.
    pub fn try_recv(&mut self, into: &mut Vec<u8>) -> Result<Option<LogMessage>> {
        self.start()?;
        self.one(into)
    }

    #[inline]
    fn one(&mut self, into: &mut Vec<u8>) -> Result<Option<LogMessage>> {
        let Some(message) = self.next()? else { return Ok(None) };
        into.clear();
        into.extend_from_slice(&self.scratch[..message.len]);
        self.position += 1;
        Ok(Some(message))
    }

    /// Waits for a message, at most `timeout`; without one, until there is one. None when the time is over.
    pub fn recv(&mut self, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<Option<LogMessage>> {
        if let Some(message) = self.try_recv(into)? {
            return Ok(Some(message));
        }
        let mut backoff = Backoff::new(&self.patience, timeout, Duration::from_millis(WAIT_SLICE_MS));
        let message = loop {
            match backoff.step() {
                Step::Again => {
                    if let Some(message) = self.one(into)? {
                        break message;
                    }
                }
                Step::Park(slice) => {
                    self.area.ground.usable()?;
                    self.start()?;
                    if !self.area.shm.writable() {
                        std::thread::sleep(slice.min(LOOK));
                        continue;
                    }
                    let area = self.area.clone();
                    let data = area.data();
                    let armed = data.arm();
                    if let Some(message) = self.one(into)? {
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
}

impl Drop for LogReader {
    fn drop(&mut self) {
        if self.area.same_process().is_err() {
            return;
        }
        // A panic in a handler: what it was handling is handed out again.
        let shown = std::thread::panicking() || self.commit().is_ok();
        if let Some(name) = &self.name {
            // Only a name that is ours can be let go; errors leave it to the reaper.
            let _ = shown && self.area.release_sub(name.index, name.state).unwrap_or(false);
        }
    }
}
