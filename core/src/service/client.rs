//! The calling end of a service.

use std::sync::Arc;
use std::time::Duration;

use super::area::{Area, Cells, LOOKS};
use super::layout::{CellKind, CellWord, EntryKind, EntryState, NUMBER_MAX, Status, client, half};
use super::parcel::Side;
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::Ordering;
use crate::shm::{futex, life, thread};
use crate::wait::{Backoff, Patience, Step};

/// A waiting client looks this often at a server that has no word whose change wakes it.
const LOOK_AT_LIFE: Duration = Duration::from_millis(1);
/// A client whose call nobody took sleeps so long at first, and then twice as long each time: whoever takes it does not wake it.
const LOOK_AT_TAKER: Duration = Duration::from_millis(1);
/// Servers whose deaths wake a client that waits for several calls; it looks at the others.
const LIVES_MAX: usize = futex::WAIT_MANY_MAX - 1;

/// A call that was sent, until its end was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    number: u64,
    /// Which of the entries that the client had.
    era: u16,
}

impl Call {
    /// Its number: unique among the calls of one client. The server sees it as [`Request::number`](super::Request::number).
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The call as one number, for languages that pass it so.
    pub fn id(&self) -> u64 {
        self.number | u64::from(self.era) << 48
    }

    /// The call of that number, if there is one.
    pub fn from_id(id: u64) -> Call {
        Call { number: id & NUMBER_MAX, era: (id >> 48) as u16 }
    }
}

/// Sends requests and gets the replies.
///
/// Each call ends once, in exactly one way: with its reply, `Unanswered` (the server let it go), `PeerDied` (the server that
/// took it is dead), `TimedOut`, or because the client gave it up.
///
/// It may be moved to another thread: the first call there takes it over. If the thread that used it before has ended
/// meanwhile, the calls that were under way end with `Closed`.
pub struct Client {
    area: Arc<Area>,
    marker: usize,
    state: EntryState,
    cells: Cells,
    /// Number of the last call.
    last: u64,
    /// For each cell the number of the call in it whose end was not told yet; 0 for none.
    open: Vec<u64>,
    /// For each cell whether the request in it has chunks of its own.
    long: Vec<bool>,
    outstanding: usize,
    era: u16,
    /// The cell that [`Client::poll_any`] looks at first.
    turn: usize,
    patience: Patience,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Client {
    pub(super) fn new(area: Arc<Area>) -> Result<Client> {
        area.same_process()?;
        let me = area.ground.thread()?;
        let (cells, state, last) = area.take_client(me)?;
        Ok(Client {
            marker: thread::marker(),
            state,
            cells,
            last,
            open: vec![0; area.shape.calls as usize],
            long: vec![false; area.shape.calls as usize],
            outstanding: 0,
            era: 0,
            turn: 0,
            patience: Patience::default(),
            area,
            alone: std::marker::PhantomData,
        })
    }

    /// Bytes of the longest request or reply, as [`Service::message_len_max`](super::Service::message_len_max).
    pub fn message_len_max(&self) -> usize {
        self.area.len_max() as usize
    }

    /// Calls that were sent and whose end was not told yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// What every call begins with: the thread holds the entry.
    #[inline(always)]
    fn start(&mut self) -> Result<()> {
        self.area.ground.usable()?;
        // ORDER Relaxed: only its holder, or the reaper of a dead holder, changes the word of a live entry.
        let state = self.cells.entry().u64::<{ client::STATE }>().load(Ordering::Relaxed);
        if thread::marker() != self.marker || state != self.state.0 {
            self.adopt()?;
        }
        Ok(())
    }

    /// Takes the entry over from the thread that used it before, or another entry if that has ended.
    #[cold]
    #[inline(never)]
    pub(super) fn adopt(&mut self) -> Result<()> {
        let me = self.area.ground.thread()?;
        let mine = EntryState::new(EntryKind::Live, 0, me, self.state.generation().wrapping_add(1));
        if self.area.change_client(self.cells.index, self.state, mine)? {
            self.state = mine;
            self.marker = thread::marker();
            return Ok(());
        }
        self.renew(me)
    }

    /// Goes on with another entry. Calls that are under way in the old one are lost.
    fn renew(&mut self, me: u16) -> Result<()> {
        (self.cells, self.state, self.last) = self.area.take_client(me)?;
        self.marker = thread::marker();
        self.open.fill(0);
        self.long.fill(false);
        self.outstanding = 0;
        self.era = self.era.wrapping_add(1);
        Ok(())
    }

    #[inline(always)]
    fn place(&self, number: u64) -> usize {
        (number & (self.area.shape.calls - 1)) as usize
    }

    /// Sends a request; its end is told by [`Client::poll`], [`Client::wait`] or [`Client::poll_any`]. Never waits:
    /// `TooManyCalls` if all cells are under way, `Full` if there is no memory for a request that is longer than `message_bytes`.
    pub fn send(&mut self, request: &[u8]) -> Result<Call> {
        self.start()?;
        let len = request.len() as u64;
        if len > self.area.shape.message_bytes {
            return self.send_long(request);
        }
        let number = self.choose()?;
        self.cells.request_bytes(number)?.copy_in(0, request)?;
        self.ask(number, len)
    }

    /// Sends a request that does not fit a cell.
    #[cold]
    #[inline(never)]
    fn send_long(&mut self, request: &[u8]) -> Result<Call> {
        let len = request.len() as u64;
        if len > self.area.len_max() {
            return Err(too_long(&self.area, "request", len));
        }
        let number = self.choose()?;
        let chunks = self.area.write_parcel(&self.cells, Side::Request, number, request)?;
        // DIES AFTER: the number in the header is none that was asked: nobody takes the chunks for those of a call.
        kill_point!("service.request.named");
        let place = self.place(number);
        self.long[place] = true;
        let call = self.ask(number, len)?;
        // DIES BEFORE: whoever lets the calls of this client go ends the request.
        kill_point!("service.request.before_keep");
        self.area.keep_parcel(&chunks)?;
        kill_point!("service.request.kept");
        Ok(call)
    }

    /// The request stands there: shows it.
    #[inline(always)]
    fn ask(&mut self, number: u64, len: u64) -> Result<Call> {
        let half = self.cells.request(number)?;
        // ORDER Relaxed: the store of the word orders it.
        half.u64::<{ half::LEN }>().store(len, Ordering::Relaxed);
        let asked = CellWord::new(CellKind::Asked, 0, number);
        kill_point!("service.ask.before");
        // ORDER Release [call]: the request; pairs with `look`.
        half.u64::<{ half::WORD }>().store(asked.0, Ordering::Release);
        // DIES AFTER: the reaper withdraws it, if no server took it.
        kill_point!("service.ask.asked");
        // ORDER Release [posted]: the word of the cell.
        self.cells.entry().u64::<{ client::POSTED }>().store(number, Ordering::Release);
        kill_point!("service.ask.posted");
        self.last = number;
        let place = self.place(number);
        self.open[place] = number;
        self.outstanding += 1;
        self.area.asked().notify();
        Ok(Call { number, era: self.era })
    }

    /// The number of the next call: the first whose cell is neither under way nor still in the hands of a server.
    #[inline]
    fn choose(&mut self) -> Result<u64> {
        if let Some(number) = self.next_usable()? {
            return Ok(number);
        }
        // All that is left are cells of servers that were stopped over calls that were given up: they keep them, we go on elsewhere.
        if self.outstanding == 0 && self.area.close_client(&self.cells, self.state)? {
            let me = self.area.ground.thread()?;
            self.renew(me)?;
            if let Some(number) = self.next_usable()? {
                return Ok(number);
            }
        }
        Err(Error::new(
            ErrorCode::TooManyCalls,
            format!(
                "{} of the {} calls of this client of service `{}` are under way.",
                self.outstanding, self.area.shape.calls, self.area.name
            ),
        ))
    }

    #[inline]
    fn next_usable(&self) -> Result<Option<u64>> {
        for number in self.last + 1..=self.last + self.area.shape.calls {
            if self.open[self.place(number)] == 0 && self.area.usable(&self.cells, number)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The place of a call whose end was not told yet.
    fn known(&self, call: Call) -> Result<usize> {
        let place = self.place(call.number);
        if call.era == self.era && call.number != 0 && self.open[place] == call.number {
            return Ok(place);
        }
        let lost = call.era != self.era;
        Err(Error::new(
            if lost { ErrorCode::Closed } else { ErrorCode::InvalidArgument },
            if lost {
                format!("Call {} was lost: the thread that sent it has ended.", call.number)
            } else {
                format!("The end of call {} was told before.", call.number)
            },
        ))
    }

    #[inline(always)]
    fn told(&mut self, place: usize) {
        if self.long[place] {
            // Its server has done that, unless it let the call go without looking at it.
            self.area.end_parcel(&self.cells, Side::Request, self.open[place]);
            self.long[place] = false;
        }
        self.open[place] = 0;
        self.outstanding -= 1;
    }

    /// The reply, if it is there; `None` if not yet. Never waits. An error may be the end of the call: `PeerDied`,
    /// `Unanswered`.
    pub fn poll(&mut self, call: Call, into: &mut Vec<u8>) -> Result<Option<usize>> {
        self.start()?;
        let place = self.known(call)?;
        self.look(place, true, into)
    }

    /// Looks at one call; thoroughly: also whether its server died.
    #[inline(always)]
    fn look(&mut self, place: usize, thoroughly: bool, into: &mut Vec<u8>) -> Result<Option<usize>> {
        let number = self.open[place];
        if let Some(status) = self.cells.answered(number)? {
            return self.collect(place, number, status, into).map(Some);
        }
        if thoroughly { self.look_at_server(place, number, into) } else { Ok(None) }
    }

    #[inline(always)]
    fn collect(&mut self, place: usize, number: u64, status: Status, into: &mut Vec<u8>) -> Result<usize> {
        self.told(place);
        if status == Status::Unanswered {
            return Err(ErrorCode::Unanswered.into());
        }
        // ORDER Relaxed: the answer's word orders it.
        let len = self.cells.answer(number)?.u64::<{ half::LEN }>().load(Ordering::Relaxed);
        if len > self.area.shape.message_bytes {
            return self.collect_long(number, len, into);
        }
        into.resize(len as usize, 0);
        self.cells.answer_bytes(number)?.copy_out(0, into)?;
        Ok(len as usize)
    }

    /// The reply does not fit the cell.
    #[cold]
    #[inline(never)]
    fn collect_long(&self, number: u64, len: u64, into: &mut Vec<u8>) -> Result<usize> {
        let copied = self.area.copy_parcel(&self.cells, Side::Reply, number, len, into);
        // DIES BEFORE: whoever lets the calls of this client go ends the reply.
        kill_point!("service.reply.copied");
        self.area.end_parcel(&self.cells, Side::Reply, number);
        copied?.ok_or_else(|| self.cells.damaged("the length of a reply"))
    }

    /// There was no answer: whether there will be one.
    #[cold]
    #[inline(never)]
    fn look_at_server(&mut self, place: usize, number: u64, into: &mut Vec<u8>) -> Result<Option<usize>> {
        for _ in 0..LOOKS {
            let seen = self.cells.look(number)?;
            if seen.number() != number {
                self.told(place);
                return Err(self.cells.damaged("the number in a cell"));
            }
            match seen.kind() {
                Some(CellKind::Asked) => return Ok(None),
                Some(CellKind::Taken) if !self.area.ground.thread_is_dead(seen.server()) => return Ok(None),
                _ => {}
            }
            // Its server has let go or is dead, so what it answered stands there by now.
            if let Some(status) = self.cells.answered(number)? {
                return self.collect(place, number, status, into).map(Some);
            }
            match seen.kind() {
                Some(CellKind::Died) => return Err(self.died(place)),
                Some(CellKind::Taken) => {
                    kill_point!("service.death.before");
                    let died = self.cells.change(seen, seen.as_kind(CellKind::Died))?;
                    kill_point!("service.death.after");
                    if died {
                        return Err(self.died(place));
                    }
                    // A reaper did it, or a living thread has taken the request over from the dead one.
                }
                _ => {
                    self.told(place);
                    return Err(self.cells.damaged("the word of a cell"));
                }
            }
        }
        Ok(None)
    }

    /// The call ends because its server is dead.
    fn died(&mut self, place: usize) -> Error {
        self.told(place);
        self.count::<{ client::DIED }>();
        Error::new(
            ErrorCode::PeerDied,
            format!("The server of service `{}` that took the call died.", self.area.name),
        )
    }

    /// Counts in the line that only the client writes.
    fn count<const AT: usize>(&self) {
        let word = self.cells.entry().u64::<AT>();
        // ORDER Relaxed: a count.
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Waits for the reply, at most `timeout`; without one, for ever. Gives its length. Each error is the end of the call:
    /// `PeerDied` at once when the server that took it is dead, `TimedOut` when the time is over (a reply that comes later is dropped).
    pub fn wait(&mut self, call: Call, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<usize> {
        match self.wait_at(call, into, timeout)? {
            Some(len) => Ok(len),
            None => {
                let place = self.known(call)?;
                self.time_out(place, into)
            }
        }
    }

    /// As [`Client::wait`], but the call goes on when the time is over: `None`.
    pub fn wait_for(&mut self, call: Call, into: &mut Vec<u8>, time: Duration) -> Result<Option<usize>> {
        self.wait_at(call, into, Some(time))
    }

    #[inline(always)]
    fn wait_at(
        &mut self,
        call: Call,
        into: &mut Vec<u8>,
        timeout: Option<Duration>,
    ) -> Result<Option<usize>> {
        self.start()?;
        let place = self.known(call)?;
        if let Some(len) = self.look(place, false, into)? {
            return Ok(Some(len));
        }
        let mut backoff = Backoff::new(&self.patience, timeout, Duration::from_millis(WAIT_SLICE_MS));
        let mut nap = LOOK_AT_TAKER;
        let len = loop {
            match backoff.step() {
                Step::Again => {
                    if let Some(len) = self.look(place, false, into)? {
                        break len;
                    }
                }
                Step::Park(slice) => {
                    if let Some(len) = self.park(slice, &mut nap, &[place], into)?.map(|(_, len)| len) {
                        break len?;
                    }
                }
                Step::TimedOut => return Ok(None),
            }
        };
        backoff.done(&mut self.patience);
        Ok(Some(len))
    }

    /// Announces itself, looks at the calls in these places, and sleeps if none is at its end: until an answer comes or a server that took
    /// one dies. Gives the place of one that is at its end.
    fn park(
        &mut self,
        slice: Duration,
        nap: &mut Duration,
        places: &[usize],
        into: &mut Vec<u8>,
    ) -> Result<Option<(usize, Result<usize>)>> {
        self.area.ground.usable()?;
        let area = Arc::clone(&self.area);
        let armed = self.cells.wait(area.registered).arm();
        let (mut slice, mut lives, mut waits_for_taker) = (slice, Vec::new(), false);
        for &place in places {
            match self.look(place, true, into) {
                Ok(None) => {}
                Ok(Some(len)) => return Ok(Some((place, Ok(len)))),
                Err(error) => return Ok(Some((place, Err(error)))),
            }
            let seen = self.cells.look(self.open[place])?;
            if seen.kind() != Some(CellKind::Taken) {
                waits_for_taker = true;
            } else if !lives.iter().any(|(server, _)| *server == seen.server()) {
                match area.ground.life(seen.server()) {
                    Some(life) if lives.len() < LIVES_MAX => lives.push((seen.server(), life)),
                    _ => slice = slice.min(LOOK_AT_LIFE),
                }
            }
        }
        if waits_for_taker {
            slice = slice.min(*nap);
            *nap *= 2;
        }
        let mut words = vec![(self.cells.wait(area.registered).word(), armed)];
        words.extend(lives.iter().map(|(_, life)| *life));
        futex::wait_many(&words, slice);
        for (_, (word, _)) in lives {
            life::rouse(word);
        }
        Ok(None)
    }

    /// The time of a call is over: gives it up, unless it is at its end by now.
    #[cold]
    fn time_out(&mut self, place: usize, into: &mut Vec<u8>) -> Result<usize> {
        if !self.withdraw(place)?
            && let Some(len) = self.look(place, true, into)?
        {
            return Ok(len);
        }
        self.told(place);
        self.count::<{ client::TIMED_OUT }>();
        Err(Error::new(
            ErrorCode::TimedOut,
            format!("No server of service `{}` answered the call in time.", self.area.name),
        ))
    }

    /// Takes a call back, or leaves it to the server that took it. False if its server was faster.
    fn withdraw(&mut self, place: usize) -> Result<bool> {
        let number = self.open[place];
        // Asked, taken, left: a call passes through no more.
        for _ in 0..3 {
            let seen = self.cells.look(number)?;
            let next = match seen.kind() {
                Some(CellKind::Asked) if seen.number() == number => seen.as_kind(CellKind::Free),
                Some(CellKind::Taken) if seen.number() == number => {
                    CellWord::new(CellKind::Left, seen.server(), number)
                }
                _ => return Ok(false),
            };
            kill_point!("service.withdraw.before");
            if self.cells.change(seen, next)? {
                kill_point!("service.withdraw.after");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What happens when the time of a call is over.
    #[cfg(all(test, memora_loom))]
    pub(super) fn withdraw_for_model(&mut self, call: Call, into: &mut Vec<u8>) -> Result<usize> {
        let place = self.known(call)?;
        self.time_out(place, into)
    }

    /// Gives a call up: a request that no server took is never served, a reply that comes later is dropped.
    pub fn cancel(&mut self, call: Call) -> Result<()> {
        self.start()?;
        let place = self.known(call)?;
        if !self.withdraw(place)? {
            self.area.end_call(&self.cells, self.open[place]);
        }
        self.told(place);
        Ok(())
    }

    /// Sends a request and waits for the reply: [`Client::send`] and [`Client::wait`].
    pub fn call(&mut self, request: &[u8], into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<usize> {
        let call = self.send(request)?;
        self.wait(call, into, timeout)
    }

    /// The end of some call, if one is at its end: which one, and its reply or error. Never waits.
    pub fn poll_any(&mut self, into: &mut Vec<u8>) -> Result<Option<(Call, Result<usize>)>> {
        self.start()?;
        Ok(self.find_any(true, into))
    }

    fn find_any(&mut self, thoroughly: bool, into: &mut Vec<u8>) -> Option<(Call, Result<usize>)> {
        for step in 0..self.open.len() {
            let place = (self.turn + step) % self.open.len();
            let number = self.open[place];
            if number == 0 {
                continue;
            }
            let ended = match self.look(place, thoroughly, into) {
                Ok(None) => continue,
                Ok(Some(len)) => Ok(len),
                Err(error) => Err(error),
            };
            self.turn = place + 1;
            return Some((Call { number, era: self.era }, ended));
        }
        None
    }

    /// Waits for the end of any call, at most `timeout`. `None` when the time is over, or when none is under way: the calls stay.
    pub fn wait_any(
        &mut self,
        into: &mut Vec<u8>,
        timeout: Option<Duration>,
    ) -> Result<Option<(Call, Result<usize>)>> {
        self.start()?;
        let mut backoff = Backoff::new(&self.patience, timeout, Duration::from_millis(WAIT_SLICE_MS));
        let mut nap = LOOK_AT_TAKER;
        let found = loop {
            if self.outstanding == 0 {
                return Ok(None);
            }
            if let Some(found) = self.find_any(false, into) {
                break found;
            }
            match backoff.step() {
                Step::Again => {}
                Step::Park(slice) => {
                    let open: Vec<(usize, u64)> =
                        self.open.iter().copied().enumerate().filter(|(_, number)| *number != 0).collect();
                    let places: Vec<usize> = open.iter().map(|(place, _)| *place).collect();
                    let era = self.era;
                    if let Some((place, ended)) = self.park(slice, &mut nap, &places, into)? {
                        let number =
                            open.iter().find(|(at, _)| *at == place).map_or(0, |(_, number)| *number);
                        break (Call { number, era }, ended);
                    }
                }
                Step::TimedOut => return Ok(None),
            }
        };
        backoff.done(&mut self.patience);
        Ok(Some(found))
    }
}

#[cold]
#[inline(never)]
pub(super) fn too_long(area: &Area, what: &str, len: u64) -> Error {
    Error::new(
        ErrorCode::ValueTooLong,
        format!(
            "A {what} of {len} bytes does not fit service `{}`, which takes up to {} bytes.",
            area.name,
            area.len_max()
        ),
    )
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.area.same_process().is_ok() {
            // Fails if the reaper of the thread that used it closed it already.
            let _ = self.area.close_client(&self.cells, self.state);
        }
    }
}
