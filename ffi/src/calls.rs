//! Clients and servers of services behind handles: replies and requests that wait for a larger buffer, and what a close ends.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use memora_core::shm::fork;
use memora_core::{Call, Client, Error, ErrorCode, Request, Result, Server};

use crate::channel::{deadline, in_slices, slice, timed_out};
use crate::exclusive::Exclusive;
use crate::service::memora_request_t;

/// A client behind a handle.
pub(crate) struct ClientHandle {
    pub(crate) calling: Exclusive<Calling>,
}

/// What a thread that calls has.
pub(crate) struct Calling {
    pub(crate) client: Client,
    pub(crate) scratch: Vec<u8>,
    /// A reply that did not fit the caller's buffer: told again by the next wait for its call.
    held: Option<(Call, Vec<u8>)>,
}

/// A server behind a handle.
pub(crate) struct ServerHandle {
    serving: Exclusive<Serving>,
    /// Requests that were taken and not yet answered.
    open: Mutex<Open>,
    /// The process that opened it: in a forked child the lock above may be held for ever.
    process: u64,
}

struct Serving {
    server: Server,
    scratch: Vec<u8>,
    /// A request that did not fit the caller's buffer.
    held: Option<(Request, Vec<u8>)>,
}

#[derive(Default)]
struct Open {
    last: u64,
    requests: HashMap<u64, Request>,
}

/// Copies bytes into a buffer of the caller.
fn copy(what: &str, bytes: &[u8], buffer: &mut [u8]) -> Result<()> {
    match buffer.get_mut(..bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Ok(())
        }
        None => {
            let text = format!("The {what} has {} bytes, the buffer {}.", bytes.len(), buffer.len());
            Err(Error::with_amount(ErrorCode::BufferTooSmall, bytes.len() as u64, text))
        }
    }
}

impl Calling {
    /// Hands a reply over, or holds it when the buffer is too small.
    pub(crate) fn hand_over(&mut self, call: Call, buffer: &mut [u8]) -> Result<usize> {
        match copy("reply", &self.scratch, buffer) {
            Ok(()) => Ok(self.scratch.len()),
            Err(error) => {
                self.held = Some((call, std::mem::take(&mut self.scratch)));
                Err(error)
            }
        }
    }

    pub(crate) fn take_held(&mut self, wanted: impl Fn(Call) -> bool) -> Option<Call> {
        let (call, _) = self.held.as_ref()?;
        if !wanted(*call) {
            return None;
        }
        let (call, reply) = self.held.take()?;
        self.scratch = reply;
        Some(call)
    }
}

impl ClientHandle {
    pub(crate) fn new(client: Client) -> ClientHandle {
        ClientHandle { calling: Exclusive::new(Calling { client, scratch: Vec::new(), held: None }) }
    }

    /// Nobody calls any more; who waits is told.
    pub(crate) fn end(&self) -> Result<()> {
        self.calling.close();
        Ok(())
    }

    /// Waits for one call. `timeout_ms` 0 looks, and the call goes on.
    pub(crate) fn wait(
        &self,
        calling: &mut Calling,
        call: Call,
        timeout_ms: i64,
        buffer: &mut [u8],
    ) -> Result<usize> {
        if calling.take_held(|held| held == call).is_some() {
            return calling.hand_over(call, buffer);
        }
        let deadline: Option<Instant> = deadline(timeout_ms);
        loop {
            // The last look is one that ends the call when there is no reply.
            let Some(wait) = slice(deadline) else {
                let last = Some(std::time::Duration::ZERO);
                calling.client.wait(call, &mut calling.scratch, last)?;
                return calling.hand_over(call, buffer);
            };
            if calling.client.wait_for(call, &mut calling.scratch, wait)?.is_some() {
                return calling.hand_over(call, buffer);
            }
            if self.calling.is_closing() {
                return Err(ErrorCode::Closed.into());
            }
        }
    }

    pub(crate) fn poll(calling: &mut Calling, call: Call, buffer: &mut [u8]) -> Result<usize> {
        if calling.take_held(|held| held == call).is_none()
            && calling.client.poll(call, &mut calling.scratch)?.is_none()
        {
            return Err(ErrorCode::NotFound.into());
        }
        calling.hand_over(call, buffer)
    }

    /// Waits for the end of any call: which one, and how it ended.
    pub(crate) fn wait_any(&self, timeout_ms: i64, buffer: &mut [u8]) -> Result<(Call, Result<usize>)> {
        self.calling.with("client", |calling| {
            if let Some(call) = calling.take_held(|_| true) {
                return Ok((call, calling.hand_over(call, buffer)));
            }
            let deadline: Option<Instant> = deadline(timeout_ms);
            loop {
                let wait = if timeout_ms == 0 { None } else { slice(deadline) };
                let found = match wait {
                    None => calling.client.poll_any(&mut calling.scratch)?,
                    Some(_) => calling.client.wait_any(&mut calling.scratch, wait)?,
                };
                if let Some((call, ended)) = found {
                    return Ok((call, ended.and_then(|_| calling.hand_over(call, buffer))));
                }
                if wait.is_none() || calling.client.outstanding() == 0 {
                    let none = timeout_ms == 0 || calling.client.outstanding() == 0;
                    return Err(if none { ErrorCode::NotFound } else { ErrorCode::TimedOut }.into());
                }
                if self.calling.is_closing() {
                    return Err(ErrorCode::Closed.into());
                }
            }
        })
    }
}

impl ServerHandle {
    pub(crate) fn new(server: Server) -> ServerHandle {
        ServerHandle {
            serving: Exclusive::new(Serving { server, scratch: Vec::new(), held: None }),
            open: Mutex::default(),
            process: fork::generation(),
        }
    }

    /// Nobody takes any more; what was taken and not answered is let go.
    pub(crate) fn end(&self) -> Result<()> {
        self.serving.close();
        if self.process == fork::generation() {
            let requests = std::mem::take(&mut self.lock().requests);
            drop(requests);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, timeout_ms: i64, buffer: &mut [u8]) -> Result<memora_request_t> {
        self.serving.with("server", |serving| {
            if serving.held.is_none() {
                let request = self.wait(serving, timeout_ms)?;
                serving.held = Some((request, std::mem::take(&mut serving.scratch)));
            }
            let Some((request, bytes)) = serving.held.take() else { return Err(ErrorCode::Internal.into()) };
            if let Err(error) = copy("request", &bytes, buffer) {
                serving.held = Some((request, bytes));
                return Err(error);
            }
            serving.scratch = bytes;
            let mut open = self.lock();
            open.last += 1;
            let answer = memora_request_t {
                ticket: open.last,
                number: request.number(),
                len: request.len(),
                client: request.client(),
                reserved: 0,
            };
            open.requests.insert(answer.ticket, request);
            Ok(answer)
        })
    }

    fn wait(&self, serving: &mut Serving, timeout_ms: i64) -> Result<Request> {
        if timeout_ms == 0 {
            return serving.server.try_take(&mut serving.scratch)?.ok_or_else(|| ErrorCode::NotFound.into());
        }
        in_slices(
            timeout_ms,
            || self.serving.is_closing(),
            |wait| serving.server.take(&mut serving.scratch, Some(wait)),
        )?
        .ok_or_else(timed_out)
    }

    /// The request of a ticket, to be answered now.
    pub(crate) fn answer(&self, ticket: u64) -> Result<Request> {
        if self.process != fork::generation() {
            return Err(ErrorCode::Forked.into());
        }
        self.lock().requests.remove(&ticket).ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidArgument,
                format!("No request {ticket} of this server is to be answered."),
            )
        })
    }

    pub(crate) fn reply(&self, ticket: u64, data: &[u8]) -> Result<bool> {
        let mut request = self.answer(ticket)?;
        let told = request.try_reply(data);
        if told.as_ref().is_err_and(|error| matches!(error.code(), ErrorCode::ValueTooLong | ErrorCode::Full))
        {
            // It may be answered with a shorter one, or later.
            self.lock().requests.insert(ticket, request);
        }
        told
    }
}
