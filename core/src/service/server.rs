//! The answering end of a service.

use std::sync::Arc;
use std::time::Duration;

use super::area::{Area, Cells};
use super::client::too_long;
use super::layout::{AnswerWord, CellKind, CellWord, EntryKind, EntryState, Status, half, server};
use super::parcel::Side;
use crate::channel::write_at;
use crate::chunk::Loose;
use crate::error::{Error, ErrorCode, Result};
use crate::limits::WAIT_SLICE_MS;
use crate::shm::atomic::Ordering;
use crate::shm::{Kept, thread};
use crate::wait::{Backoff, Patience, Step};

/// Takes requests and answers them. Any number of servers of a service, in any processes, share its requests: each request is
/// taken by one of them, once.
///
/// It may be moved to another thread: the first call there takes it over.
pub struct Server {
    area: Arc<Area>,
    marker: usize,
    me: u16,
    index: u32,
    state: EntryState,
    entry: Kept<{ server::BYTES }>,
    clients: Vec<Seen>,
    epoch: Option<u32>,
    /// The client whose turn it is.
    turn: usize,
    patience: Patience,
    /// `!Sync`: one thread at a time.
    alone: std::marker::PhantomData<std::cell::Cell<()>>,
}

/// A client as a server sees it.
struct Seen {
    cells: Arc<Cells>,
    /// Calls up to this number are none of ours: taken, withdrawn, or never made.
    cursor: u64,
}

impl Seen {
    /// Takes a request of this client, if there is one.
    #[inline(always)]
    fn take(&mut self, me: u16) -> Result<Option<u64>> {
        // Each round but the last passes over a call that another server took, or one that was withdrawn.
        for _ in 0..=self.cells.shape.calls {
            let next = self.cursor + 1;
            // Before the word of the cell: what was posted by then stands there.
            let posted = self.cells.posted()?;
            let seen = self.cells.look(next)?;
            if seen.kind() == Some(CellKind::Asked) && seen.number() == next {
                kill_point!("service.take.before");
                let taken = CellWord::new(CellKind::Taken, me, next);
                let won = self.cells.change(seen, taken)?;
                // DIES AFTER: its client is told `PeerDied`.
                kill_point!("service.take.after");
                self.cursor = next;
                if won {
                    return Ok(Some(next));
                }
            } else if posted > self.cursor {
                self.cursor = self.skip(posted)?;
            } else {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The next call after the cursor is not there to be taken: goes on right in front of the lowest that is.
    #[cold]
    #[inline(never)]
    fn skip(&self, posted: u64) -> Result<u64> {
        let mut lowest = posted + 1;
        for place in 0..self.cells.shape.calls {
            let seen = self.cells.look(place)?;
            if seen.kind() == Some(CellKind::Asked) && seen.number() > self.cursor {
                lowest = lowest.min(seen.number());
            }
        }
        Ok(lowest - 1)
    }
}

impl Server {
    pub(super) fn new(area: Arc<Area>) -> Result<Server> {
        area.same_process()?;
        let me = area.ground.thread()?;
        let (index, state) = area.take_server(me)?;
        Ok(Server {
            marker: thread::marker(),
            me,
            index,
            state,
            entry: area.server_entry(index)?,
            clients: Vec::new(),
            epoch: None,
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

    /// What every call begins with: the thread holds the entry.
    #[inline(always)]
    fn start(&mut self) -> Result<()> {
        self.area.ground.usable()?;
        // ORDER Relaxed: only its holder, or the reaper of a dead holder, changes the word of a live entry.
        let state = self.entry.block().u64::<{ server::STATE }>().load(Ordering::Relaxed);
        if thread::marker() != self.marker || state != self.state.0 {
            self.adopt()?;
        }
        Ok(())
    }

    /// Takes the entry over from the thread that used it before, or another one if that has ended.
    #[cold]
    #[inline(never)]
    fn adopt(&mut self) -> Result<()> {
        let me = self.area.ground.thread()?;
        let mine = EntryState::new(EntryKind::Live, 0, me, self.state.generation().wrapping_add(1));
        if self.area.change_server(self.index, self.state, mine)? {
            self.state = mine;
        } else {
            (self.index, self.state) = self.area.take_server(me)?;
            self.entry = self.area.server_entry(self.index)?;
        }
        (self.me, self.marker) = (me, thread::marker());
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn find_clients(&mut self, epoch: u32) -> Result<()> {
        for index in 0..self.area.shape.clients {
            if self.clients.iter().any(|seen| seen.cells.index == index) {
                continue;
            }
            if let Some(cells) = self.area.cells(index)? {
                // The first look finds the lowest call that is there.
                self.clients.push(Seen { cells: Arc::new(cells), cursor: 0 });
            }
        }
        self.epoch = Some(epoch);
        Ok(())
    }

    /// Takes a request into `into`, if there is one. Never waits.
    pub fn try_take(&mut self, into: &mut Vec<u8>) -> Result<Option<Request>> {
        self.start()?;
        self.one(into)
    }

    #[inline(always)]
    fn one(&mut self, into: &mut Vec<u8>) -> Result<Option<Request>> {
        let epoch = self.area.epoch();
        if self.epoch != Some(epoch) {
            self.find_clients(epoch)?;
        }
        let count = self.clients.len();
        for _ in 0..count {
            if self.turn >= count {
                self.turn = 0;
            }
            let turn = self.turn;
            self.turn += 1;
            // Each round but the first comes behind a call that was given up before it was copied.
            for _ in 0..=self.area.shape.calls {
                let seen = &mut self.clients[turn];
                let Some(number) = seen.take(self.me)? else { break };
                let cells = Arc::clone(&seen.cells);
                let taken = self.entry.block().u64::<{ server::TAKEN }>();
                // ORDER Relaxed: a count of the entry's holder.
                taken.store(taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
                // From here on the request is let go if anything fails.
                let mut request = Request {
                    area: self.area.clone(),
                    cells,
                    number,
                    owner: self.me,
                    marker: self.marker,
                    len: 0,
                    done: false,
                    chunks: Vec::new(),
                    draft: None,
                };
                if request.read(into)? {
                    return Ok(Some(request));
                }
            }
        }
        Ok(None)
    }

    /// Waits for a request, at most `timeout`; without one, until there is one. `None` when the time is over.
    pub fn take(&mut self, into: &mut Vec<u8>, timeout: Option<Duration>) -> Result<Option<Request>> {
        self.start()?;
        if let Some(request) = self.one(into)? {
            return Ok(Some(request));
        }
        let mut backoff = Backoff::new(&self.patience, timeout, Duration::from_millis(WAIT_SLICE_MS));
        let request = loop {
            match backoff.step() {
                Step::Again => {
                    if let Some(request) = self.one(into)? {
                        break request;
                    }
                }
                Step::Park(slice) => {
                    self.area.ground.usable()?;
                    let area = self.area.clone();
                    let armed = area.asked().arm();
                    if let Some(request) = self.one(into)? {
                        break request;
                    }
                    area.asked().sleep(armed, slice);
                }
                Step::TimedOut => return Ok(None),
            }
        };
        backoff.done(&mut self.patience);
        Ok(Some(request))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.area.same_process().is_ok() {
            let free = EntryState::new(EntryKind::Free, 0, 0, self.state.generation());
            kill_point!("service.server.before_free");
            // Fails if the reaper of the thread that used it freed it already.
            let _ = self.area.change_server(self.index, self.state, free);
            kill_point!("service.server.freed");
        }
    }
}

/// A request that was taken, to be answered once. It outlives the [`Server`] that took it, and may be answered by any thread.
///
/// Dropping it lets it go: its client is told `Unanswered`. If the thread that took it ends before another thread
/// wrote to the reply or answered, its client is told `PeerDied`.
pub struct Request {
    area: Arc<Area>,
    cells: Arc<Cells>,
    number: u64,
    /// The thread that the cell names.
    owner: u16,
    /// What it is in this process.
    marker: usize,
    len: usize,
    done: bool,
    /// Those of a long reply that was not shown yet.
    chunks: Vec<Loose>,
    /// A reply that is put together and does not fit the cell.
    draft: Option<Vec<u8>>,
}

impl Request {
    /// Copies the request out. False if its caller has given it up, and a part of it is gone.
    #[inline(always)]
    fn read(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        // ORDER Relaxed: the taking of the cell's word orders it.
        let len = self.cells.request(self.number)?.u64::<{ half::LEN }>().load(Ordering::Relaxed);
        if len > self.area.shape.message_bytes {
            return self.read_long(len, into);
        }
        into.resize(len as usize, 0);
        self.len = into.len();
        self.cells.request_bytes(self.number)?.copy_out(0, into)?;
        Ok(true)
    }

    /// Copies a request that does not fit the cell, and gives its chunks back.
    #[cold]
    #[inline(never)]
    fn read_long(&mut self, len: u64, into: &mut Vec<u8>) -> Result<bool> {
        let copied = self.area.copy_parcel(&self.cells, Side::Request, self.number, len, into);
        // DIES BEFORE: whoever ends the call does it.
        kill_point!("service.request.copied");
        self.area.end_parcel(&self.cells, Side::Request, self.number);
        match copied? {
            Some(len) => {
                self.len = len;
                Ok(true)
            }
            None if self.is_given_up()? => Ok(false),
            None => Err(self.cells.damaged("the length of a request")),
        }
    }

    /// Bytes of the request.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the request has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the longest reply.
    pub fn reply_len_max(&self) -> usize {
        self.area.len_max() as usize
    }

    /// The client's entry. Another client may go on with it later.
    pub fn client(&self) -> u32 {
        self.cells.index
    }

    /// Number of the call: unique in the client's entry, for ever.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether its caller has given it up or is gone: nobody will see the reply.
    pub fn is_given_up(&self) -> Result<bool> {
        self.area.same_process()?;
        Ok(self.cells.look(self.number)? != CellWord::new(CellKind::Taken, self.owner, self.number))
    }

    /// The entry of the calling thread. That of the request's own thread is known: it ends its request also after closing.
    #[inline(always)]
    fn calling_thread(&self) -> Result<u16> {
        match self.area.ground.thread_to_end() {
            // If another thread got the marker, the end of its predecessor has taken the cell back.
            Err(_) if thread::marker() == self.marker => Ok(self.owner),
            told => told,
        }
    }

    /// Makes sure that the answer's half of the cell is the calling thread's. False if nobody waits for it any more.
    #[inline(always)]
    fn hold(&mut self) -> Result<bool> {
        self.area.same_process()?;
        let me = self.calling_thread()?;
        let seen = self.cells.look(self.number)?;
        let held = seen.server() == self.owner && seen.number() == self.number;
        match seen.kind() {
            Some(CellKind::Taken) if held && self.owner == me => Ok(true),
            Some(CellKind::Taken) if held => {
                let mine = CellWord::new(CellKind::Taken, me, self.number);
                kill_point!("service.answer.before_adopt");
                let won = self.cells.change(seen, mine)?;
                // DIES AFTER: its client is told `PeerDied`.
                kill_point!("service.answer.adopted");
                if won {
                    (self.owner, self.marker) = (me, thread::marker());
                }
                // A failure means that its caller gave it up, or that the other thread has ended.
                Ok(won)
            }
            _ => Ok(false),
        }
    }

    /// Writes bytes of the reply at byte `at` of it: where the client will read them, or, of a reply that is longer than `message_bytes`, in memory of
    /// the caller. [`Request::commit`] shows them; bytes that are not written hold whatever was there before.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let end = (at as u64).checked_add(bytes.len() as u64);
        let end = end.filter(|end| *end <= self.area.len_max());
        let Some(end) = end else {
            return Err(too_long(&self.area, "reply", (at as u64).saturating_add(bytes.len() as u64)));
        };
        if self.draft.is_some() || end > self.area.shape.message_bytes {
            let draft = self.draft(end as usize)?;
            draft[at..end as usize].copy_from_slice(bytes);
        } else if self.hold()? {
            write_at(self.cells.answer_bytes(self.number)?, at as u64, bytes)?;
        }
        Ok(())
    }

    /// The reply that is put together, with room for `len` bytes: it begins with what was written to the cell.
    #[cold]
    fn draft(&mut self, len: usize) -> Result<&mut Vec<u8>> {
        if self.draft.is_none() {
            let mut draft = vec![0; self.area.shape.message_bytes as usize];
            if self.hold()? {
                self.cells.answer_bytes(self.number)?.copy_out(0, &mut draft)?;
            }
            self.draft = Some(draft);
        }
        let draft = self.draft.get_or_insert_default();
        if draft.len() < len {
            draft.resize(len, 0);
        }
        Ok(draft)
    }

    /// Answers with the first `len` bytes that were written. True: the reply was shown, and its caller had not given the call up by then.
    /// False: nobody waits for it any more; a caller that gives up or closes right now may have seen it nevertheless.
    ///
    /// An error before the reply was shown lets the request go, as dropping it does: its client is told `Unanswered`, or `PeerDied` where
    /// even that fails. One after it (the cell is damaged) leaves open whether the client has seen the reply.
    pub fn commit(mut self, len: usize) -> Result<bool> {
        if len as u64 > self.area.len_max() {
            return Err(too_long(&self.area, "reply", len as u64));
        }
        if self.draft.is_some() || len as u64 > self.area.shape.message_bytes {
            self.draft(len)?;
            let draft = self.draft.take().unwrap_or_default();
            return self.try_reply(&draft[..len]);
        }
        self.end(len as u64, Status::Replied)
    }

    /// Answers. What it gives, and what an error means, is as for [`Request::commit`].
    #[inline]
    pub fn reply(mut self, reply: &[u8]) -> Result<bool> {
        self.try_reply(reply)
    }

    /// As [`Request::reply`], but after `ValueTooLong`, and after `Full` (there is no memory for a reply that is longer than `message_bytes`), the
    /// request is still to be answered.
    #[inline]
    pub fn try_reply(&mut self, reply: &[u8]) -> Result<bool> {
        if self.done {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("Request {} was answered before.", self.number),
            ));
        }
        let len = reply.len() as u64;
        if len > self.area.shape.message_bytes {
            return self.reply_long(reply);
        }
        if self.hold()? {
            self.cells.answer_bytes(self.number)?.copy_in(0, reply)?;
        }
        self.end(len, Status::Replied)
    }

    /// Answers with a reply that does not fit the cell.
    #[cold]
    #[inline(never)]
    fn reply_long(&mut self, reply: &[u8]) -> Result<bool> {
        let len = reply.len() as u64;
        if len > self.area.len_max() {
            return Err(too_long(&self.area, "reply", len));
        }
        self.put_long(reply)?;
        self.end(len, Status::Replied)
    }

    /// Writes it, and shows it to nobody yet.
    pub(super) fn put_long(&mut self, reply: &[u8]) -> Result<()> {
        if self.hold()? {
            self.chunks = self.area.write_parcel(&self.cells, Side::Reply, self.number, reply)?;
            // DIES AFTER: the call is not answered: nobody takes the chunks for those of its reply, and the reaper frees them.
            kill_point!("service.reply.named");
        }
        Ok(())
    }

    /// Lets the request go without a reply: its client is told `Unanswered`. False if nobody waits any more; a caller that gives up or
    /// closes right now may have been told nevertheless. Bytes that were written are shown to nobody.
    pub fn refuse(mut self) -> Result<bool> {
        self.end(0, Status::Unanswered)
    }

    /// Shows the answer and gives the cell back.
    #[inline(always)]
    pub(super) fn end(&mut self, len: u64, status: Status) -> Result<bool> {
        let waited_for = self.hold()?;
        self.done = true;
        if waited_for {
            let half = self.cells.answer(self.number)?;
            // ORDER Relaxed: the store of the word orders it.
            half.u64::<{ half::LEN }>().store(len, Ordering::Relaxed);
            let word = AnswerWord::new(status, self.number);
            kill_point!("service.answer.before");
            // ORDER Release [answer]: the reply.
            half.u64::<{ half::WORD }>().store(word.0, Ordering::Release);
            // DIES AFTER: the reply is there, and its client sees it before it sees the death.
            kill_point!("service.answer.answered");
            if !self.chunks.is_empty() {
                // Before the cell is given back: it says to whoever takes over from us whose chunks they are.
                self.area.keep_parcel(&self.chunks)?;
                kill_point!("service.reply.kept");
            }
            let mine = CellWord::new(CellKind::Taken, self.owner, self.number);
            let freed = self.cells.change(mine, mine.as_kind(CellKind::Free))?;
            kill_point!("service.answer.freed");
            // Its client has seen the answer, and was faster with the cell.
            if freed || !self.is_left_or_lost()? {
                self.chunks.clear();
                self.cells.wait(self.area.registered).notify();
                return Ok(true);
            }
        }
        self.let_go()?;
        Ok(false)
    }

    /// The cell was not freed by its server: whether somebody else than a client that has seen the answer did it.
    #[cold]
    fn is_left_or_lost(&self) -> Result<bool> {
        let seen = self.cells.look(self.number)?;
        let same = seen.number() == self.number;
        Ok(same && seen.kind() != Some(CellKind::Free))
    }

    /// The caller is gone: the cell goes back to the client's entry.
    #[cold]
    #[inline(never)]
    fn let_go(&mut self) -> Result<()> {
        // Before the cell is free: it says to whoever takes over from us that nobody reads the reply.
        self.area.take_back_reply(&std::mem::take(&mut self.chunks));
        let left = CellWord::new(CellKind::Left, self.owner, self.number);
        kill_point!("service.answer.before_let_go");
        // A failure means that the thread which took it ended, and the cell was taken back for it.
        let _ = self.cells.change(left, left.as_kind(CellKind::Free))?;
        kill_point!("service.answer.let_go");
        Ok(())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.done {
            self.area.take_back_reply(&std::mem::take(&mut self.chunks));
            // An error leaves it to the reaper.
            let _ = self.end(0, Status::Unanswered);
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("client", &self.client())
            .field("number", &self.number)
            .field("len", &self.len)
            .finish()
    }
}
