//! The control area of an open service: checked views on its entries and cells, and taking and letting go of entries.

use std::sync::Arc;

use super::ServiceOptions;
use super::inherit::{inherit_client, let_calls_go};
use super::layout::{
    AnswerWord, CellKind, CellWord, EntryKind, EntryState, NUMBER_MAX, Shape, Status, check_options, client,
    control, half, server,
};
use super::parcel::Side;
use crate::channel::Ground;
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering};
use crate::shm::fork::Origin;
use crate::shm::{Block, Kept, Shm, Span, fence as asymmetric};
use crate::wait::WaitWord;

/// Looks at a cell that others change meanwhile: each change is the work of another living thread.
pub const LOOKS: usize = 4;

/// An open service.
pub struct Area {
    pub shm: Arc<Shm>,
    pub ground: Arc<dyn Ground>,
    pub shape: Shape,
    pub name: Box<str>,
    pub object: u32,
    header: Kept<{ control::BYTES }>,
    /// Heavy fences of others reach this process.
    pub registered: bool,
    origin: Origin,
}

/// One half of a cell.
pub type Half<'a> = Block<'a, 64>;

/// The entry of a client and its cells, checked once.
pub struct Cells {
    pub index: u32,
    pub shape: Shape,
    shm: Arc<Shm>,
    ring: u64,
    entry: Kept<{ client::BYTES }>,
}

impl Cells {
    #[inline(always)]
    pub fn entry(&self) -> Block<'_, { client::BYTES }> {
        self.entry.block()
    }

    /// Where its client sleeps.
    #[inline(always)]
    pub fn wait(&self, registered: bool) -> WaitWord<'_> {
        WaitWord::new(self.entry().u32::<{ client::WAIT }>(), registered)
    }

    /// The half of a call's cell that the client writes.
    #[inline(always)]
    pub fn request(&self, number: u64) -> Result<Half<'_>> {
        self.shm.block(self.ring + self.shape.cell(number))
    }

    /// The half of a call's cell that the server writes.
    #[inline(always)]
    pub fn answer(&self, number: u64) -> Result<Half<'_>> {
        self.shm.block(self.ring + self.shape.cell(number) + self.shape.half())
    }

    /// How a call was answered, if it was.
    #[inline(always)]
    pub fn answered(&self, number: u64) -> Result<Option<Status>> {
        // ORDER Acquire [answer]: the reply.
        let word = self.answer(number)?.u64::<{ half::WORD }>().load(Ordering::Acquire);
        Ok(AnswerWord(word).to(number))
    }

    /// The bytes of a request.
    #[inline(always)]
    pub fn request_bytes(&self, number: u64) -> Result<Span<'_>> {
        self.shm.span(self.ring + self.shape.cell(number) + half::HEADER, self.shape.message_bytes)
    }

    /// The bytes of a reply.
    #[inline(always)]
    pub fn answer_bytes(&self, number: u64) -> Result<Span<'_>> {
        let at = self.ring + self.shape.cell(number) + self.shape.half();
        self.shm.span(at + half::HEADER, self.shape.message_bytes)
    }

    #[inline(always)]
    pub fn word(&self, number: u64) -> Result<&AtomicU64> {
        Ok(self.request(number)?.u64::<{ half::WORD }>())
    }

    #[inline(always)]
    pub fn look(&self, number: u64) -> Result<CellWord> {
        // ORDER Acquire [call]: the request behind `Asked`; the end of the server's work behind `Free`.
        Ok(CellWord(self.word(number)?.load(Ordering::Acquire)))
    }

    /// Changes what a cell holds. False if somebody else was first.
    #[inline(always)]
    pub fn change(&self, from: CellWord, to: CellWord) -> Result<bool> {
        let word = self.word(from.number())?;
        // ORDER AcqRel [call]: takes over the request; hands over the answer's half.
        Ok(word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// Number of the last call that was posted.
    #[inline(always)]
    pub fn posted(&self) -> Result<u64> {
        // ORDER Acquire [posted]: the words of the cells up to that number.
        let posted = self.entry().u64::<{ client::POSTED }>().load(Ordering::Acquire);
        if posted > NUMBER_MAX { Err(self.damaged("the number of its calls")) } else { Ok(posted) }
    }

    #[cold]
    #[inline(never)]
    pub fn damaged(&self, what: &str) -> Error {
        Error::new(ErrorCode::Corrupt, format!("Client {} of a service: {what} cannot be.", self.index))
    }
}

fn header(shm: &Shm, offset: u64) -> Result<Block<'_, { control::BYTES }>> {
    shm.block(offset)
}

/// Lays out a new control area in private memory of the caller.
pub fn create(area: Span<'_>, options: &ServiceOptions, object: u32) -> Result<()> {
    check_options(options.message_bytes, options.calls)?;
    let (clients, servers) = Shape::counts(area.len()).ok_or_else(|| {
        Error::new(
            ErrorCode::LimitTooSmall,
            format!("A service needs a chunk of 16 KiB, there are {} bytes.", area.len()),
        )
    })?;
    area.zero(0, Shape::bytes(clients, servers))?;
    let header = header(area.shm(), area.offset())?;
    // ORDER Relaxed: private until the directory shows the object.
    header.u32::<{ control::MESSAGE_BYTES }>().store(options.message_bytes, Ordering::Relaxed);
    header.u32::<{ control::CALLS }>().store(options.calls, Ordering::Relaxed);
    header.u32::<{ control::CLIENTS }>().store(clients, Ordering::Relaxed);
    header.u32::<{ control::SERVERS }>().store(servers, Ordering::Relaxed);
    header.u32::<{ control::OBJECT }>().store(object, Ordering::Relaxed);
    Ok(())
}

impl Area {
    /// Opens the control area of at most `len` bytes at `offset`, checking what never changes in it.
    pub fn open(shm: Arc<Shm>, ground: Arc<dyn Ground>, offset: u64, len: u64, name: &str) -> Result<Area> {
        let header = header(&shm, offset)?;
        // ORDER Relaxed: written before the directory showed the object, never changed.
        let message_bytes = header.u32::<{ control::MESSAGE_BYTES }>().load(Ordering::Relaxed);
        let calls = header.u32::<{ control::CALLS }>().load(Ordering::Relaxed);
        let clients = header.u32::<{ control::CLIENTS }>().load(Ordering::Relaxed);
        let servers = header.u32::<{ control::SERVERS }>().load(Ordering::Relaxed);
        let object = header.u32::<{ control::OBJECT }>().load(Ordering::Relaxed);
        let damaged =
            |what: &str| Error::new(ErrorCode::Corrupt, format!("Service `{name}`: {what} cannot be."));
        check_options(message_bytes, calls).map_err(|_| damaged("its sizes"))?;
        if Shape::counts(len) != Some((clients, servers)) {
            return Err(damaged("the number of its entries"));
        }
        let shape =
            Shape { offset, message_bytes: message_bytes.into(), calls: calls.into(), clients, servers };
        shm.span(offset, Shape::bytes(clients, servers))?;
        Ok(Area {
            registered: asymmetric::register(),
            origin: Origin::here(),
            header: Kept::new(&shm, offset)?,
            shm,
            ground,
            shape,
            name: name.into(),
            object,
        })
    }

    /// An error in a forked child. Cheap enough for every call.
    #[inline(always)]
    pub fn same_process(&self) -> Result<()> {
        if self.origin.is_here() { Ok(()) } else { self.ground.usable() }
    }

    fn header(&self) -> Block<'_, { control::BYTES }> {
        self.header.block()
    }

    /// Where servers sleep.
    #[inline(always)]
    pub fn asked(&self) -> WaitWord<'_> {
        WaitWord::new(self.header().u32::<{ control::ASKED }>(), self.registered)
    }

    /// Grows when a client entry gets its ring.
    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        // ORDER Acquire [client-epoch]: the entries that it counts.
        self.header().u32::<{ control::EPOCH }>().load(Ordering::Acquire)
    }

    pub fn client_came(&self) {
        // ORDER Release [client-epoch]: the entry with its ring.
        self.header().u32::<{ control::EPOCH }>().fetch_add(1, Ordering::Release);
    }

    fn entry_state(&self, offset: u64, what: &str) -> Result<EntryState> {
        // ORDER Acquire [entry]: what the last holder did before it let go.
        let state = EntryState(self.shm.block::<64>(offset)?.u64::<0>().load(Ordering::Acquire));
        match state.kind() {
            Some(_) => Ok(state),
            None => Err(Error::new(
                ErrorCode::Corrupt,
                format!("A {what} of service `{}` has state {state:?}.", self.name),
            )),
        }
    }

    fn change_entry(&self, offset: u64, from: EntryState, to: EntryState) -> Result<bool> {
        let word = self.shm.block::<64>(offset)?.u64::<0>();
        // ORDER AcqRel [entry]: hands over what the holder wrote; takes over what the last one did.
        Ok(word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    pub fn client_state(&self, index: u32) -> Result<EntryState> {
        self.entry_state(self.shape.client(index), "client")
    }

    /// Changes who holds a client entry. False if somebody else was first.
    pub fn change_client(&self, index: u32, from: EntryState, to: EntryState) -> Result<bool> {
        self.change_entry(self.shape.client(index), from, to)
    }

    pub fn server_state(&self, index: u32) -> Result<EntryState> {
        self.entry_state(self.shape.server(index), "server")
    }

    /// Changes who holds a server entry. False if somebody else was first.
    pub fn change_server(&self, index: u32, from: EntryState, to: EntryState) -> Result<bool> {
        self.change_entry(self.shape.server(index), from, to)
    }

    pub fn server_entry(&self, index: u32) -> Result<Kept<{ server::BYTES }>> {
        Kept::new(&self.shm, self.shape.server(index))
    }

    pub fn ring_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.shm.block::<64>(self.shape.client(index))?.u64::<{ client::RING }>())
    }

    /// The entry and cells of a client; None if it never had a ring.
    pub fn cells(&self, index: u32) -> Result<Option<Cells>> {
        // ORDER Acquire [client-ring]: the zeros in its cells. Never changed once set.
        let ring = self.ring_word(index)?.load(Ordering::Acquire);
        if ring == 0 {
            return Ok(None);
        }
        self.shm.span(ring, self.shape.ring_bytes())?;
        let entry = Kept::new(&self.shm, self.shape.client(index))?;
        Ok(Some(Cells { index, shape: self.shape, shm: self.shm.clone(), ring, entry }))
    }

    /// Whether a cell is its client's to use: no server has it any more. Takes it back from the dead.
    pub fn usable(&self, cells: &Cells, number: u64) -> Result<bool> {
        for _ in 0..LOOKS {
            let seen = cells.look(number)?;
            if seen.number() & (self.shape.calls - 1) != number & (self.shape.calls - 1) && seen.0 != 0 {
                return Err(cells.damaged("the number in a cell"));
            }
            match seen.kind() {
                Some(CellKind::Free | CellKind::Died) => return Ok(true),
                Some(CellKind::Taken) if cells.answered(seen.number())?.is_some() => {
                    // Its server has written its last byte there. What it does next is the same, and fails if we are first.
                    kill_point!("service.reuse.before");
                    let freed = cells.change(seen, seen.as_kind(CellKind::Free))?;
                    kill_point!("service.reuse.after");
                    if freed {
                        return Ok(true);
                    }
                }
                Some(CellKind::Taken | CellKind::Left) if self.ground.thread_is_dead(seen.server()) => {
                    kill_point!("service.reuse.before");
                    if seen.kind() == Some(CellKind::Left) {
                        self.end_call(cells, seen.number());
                    } else {
                        self.end_parcel(cells, Side::Request, seen.number());
                    }
                    // Not `Free`: another client may just have gone on with the entry.
                    let died = cells.change(seen, seen.as_kind(CellKind::Died))?;
                    kill_point!("service.reuse.after");
                    if died {
                        return Ok(true);
                    }
                    // A reaper did it, or a living thread has taken the request over from the dead one.
                }
                Some(_) => return Ok(false),
                None => return Err(cells.damaged("the word of a cell")),
            }
        }
        Ok(false)
    }

    /// Takes a client entry for the calling thread: one that a predecessor left, or a fresh one with a new ring. Gives also the
    /// number of the last call in it.
    pub fn take_client(&self, me: u16) -> Result<(Cells, EntryState, u64)> {
        let (cells, state) = match self.take_closed(me)? {
            Some(taken) => taken,
            None => {
                // Before the service grows: entries of the dead that no reaper has met yet.
                let mut any = false;
                for index in 0..self.shape.clients {
                    let seen = self.client_state(index)?;
                    if seen.owner() != 0 && self.ground.thread_is_dead(seen.owner()) {
                        any |= inherit_client(self, index, seen)?;
                    }
                }
                match if any { self.take_closed(me)? } else { None } {
                    Some(taken) => taken,
                    None => self.take_free(me)?,
                }
            }
        };
        // Numbers go on, also from a call that was asked by one who died before it was counted.
        let mut last = cells.posted()?;
        for number in 0..self.shape.calls {
            last = last.max(cells.look(number)?.number());
        }
        if last > NUMBER_MAX - 2 * self.shape.calls {
            return Err(cells.damaged("the number of its calls"));
        }
        Ok((cells, state, last))
    }

    fn take_closed(&self, me: u16) -> Result<Option<(Cells, EntryState)>> {
        for index in 0..self.shape.clients {
            let seen = self.client_state(index)?;
            if !seen.is(EntryKind::Closed) {
                continue;
            }
            let cells = self.cells(index)?.ok_or_else(|| {
                Error::new(ErrorCode::Corrupt, format!("Client {index} was closed and has no ring."))
            })?;
            // Servers that were stopped may have all its cells still.
            let mut any = false;
            for number in 0..self.shape.calls {
                any |= self.usable(&cells, number)?;
            }
            if !any {
                continue;
            }
            let mine = EntryState::new(EntryKind::Live, 0, me, seen.generation().wrapping_add(1));
            kill_point!("service.client.before_adopt");
            if self.change_client(index, seen, mine)? {
                // DIES AFTER: closed again by the reaper.
                kill_point!("service.client.adopted");
                return Ok(Some((cells, mine)));
            }
        }
        Ok(None)
    }

    fn take_free(&self, me: u16) -> Result<(Cells, EntryState)> {
        for index in 0..self.shape.clients {
            let seen = self.client_state(index)?;
            let taking = EntryState::new(EntryKind::Taking, 0, me, seen.generation().wrapping_add(1));
            if seen.is(EntryKind::Free) && self.change_client(index, seen, taking)? {
                // DIES AFTER: the reaper frees the entry.
                kill_point!("service.client.taking");
                let made = self.make_ring(index);
                let next = match made {
                    Ok(_) => EntryState::new(EntryKind::Live, 0, me, taking.generation()),
                    Err(_) => EntryState::new(EntryKind::Free, 0, 0, taking.generation()),
                };
                self.change_client(index, taking, next)?;
                let cells = made?;
                kill_point!("service.client.live");
                self.client_came();
                return Ok((cells, next));
            }
        }
        Err(Error::new(
            ErrorCode::TooManyClients,
            format!("All {} clients of service `{}` are there.", self.shape.clients, self.name),
        ))
    }

    /// Gives the entry that the calling thread is taking its cells.
    fn make_ring(&self, index: u32) -> Result<Cells> {
        let bytes = self.shape.ring_bytes();
        let ring = self.ground.take_ring(self.object, bytes)?;
        // DIES AFTER: the chunks are open and no entry names them: the reaper frees them.
        kill_point!("service.ring.taken");
        let ready = (0..self.shape.calls).try_for_each(|number| {
            let cell = self.shm.span(ring + self.shape.cell(number), self.shape.half() * 2)?;
            // Words of whoever had the memory before must not look like ours.
            cell.zero(0, half::HEADER)?;
            cell.zero(self.shape.half(), half::HEADER)
        });
        if let Err(error) = ready {
            self.ground.give_back_ring(ring, bytes)?;
            return Err(error);
        }
        // ORDER Release [client-ring]: the zeros in its cells; pairs with the load in `cells`.
        self.ring_word(index)?.store(ring, Ordering::Release);
        // DIES AFTER: the entry names the ring: the reaper keeps it and closes the entry.
        kill_point!("service.ring.named");
        self.ground.keep_ring(ring, bytes)?;
        self.cells(index)?.ok_or_else(|| ErrorCode::Internal.into())
    }

    /// The holder of a client entry lets it go. True if it was its own still.
    pub fn close_client(&self, cells: &Cells, mine: EntryState) -> Result<bool> {
        let_calls_go(self, cells, mine)?;
        let closed = EntryState::new(EntryKind::Closed, 0, 0, mine.generation());
        kill_point!("service.close.before");
        let done = self.change_client(cells.index, mine, closed)?;
        kill_point!("service.close.after");
        Ok(done)
    }

    /// Takes a server entry for the calling thread.
    pub fn take_server(&self, me: u16) -> Result<(u32, EntryState)> {
        for index in 0..self.shape.servers {
            let seen = self.server_state(index)?;
            let gone = seen.owner() != 0 && self.ground.thread_is_dead(seen.owner());
            if !seen.is(EntryKind::Free) && !gone {
                continue;
            }
            let mine = EntryState::new(EntryKind::Live, 0, me, seen.generation().wrapping_add(1));
            kill_point!("service.server.before");
            if self.change_server(index, seen, mine)? {
                // DIES AFTER: freed by the reaper.
                kill_point!("service.server.live");
                return Ok((index, mine));
            }
        }
        Err(Error::new(
            ErrorCode::TooManyClients,
            format!("All {} servers of service `{}` are there.", self.shape.servers, self.name),
        ))
    }
}
