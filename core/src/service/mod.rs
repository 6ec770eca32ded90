//! Services: requests from many clients, each answered by one of the servers.
//!
//! A client has a few *cells*. A request and its reply stand in two halves of one cell, and the cell's word says who has it: asked,
//! taken by this server, left by its client, free. Each step is one compare-and-swap of that word, so a request is taken once, and a
//! client waits with the identity of the server that has its call in hand: it sees that server's death by itself.
//!
//! | | |
//! |---|---|
//! | a server is killed that took the request | its client is told `PeerDied`: the kernel wakes it; one that fell asleep before the call was taken may be told as late again as it had waited by then, 50 ms at most |
//! | a server is killed that did not take it | another takes it, or the next that comes |
//! | a server stops | the calls that it took time out; it keeps their cells until it goes on or dies; no other call waits |
//! | a client dies or gives up | what was not taken is never served; a reply that comes later is dropped, and its cell is used again |
//!
//! A request is executed at most once: after `PeerDied` or `TimedOut` the caller cannot know whether it was, and asks again only
//! what may be done twice.
//!
//! A service keeps the cells that it once needed: as many clients as there were at the same time, of
//! `calls` * 2 * (`message_bytes` + 16, rounded up to an odd number of lines of 64 bytes) each; 64 KiB with the default options.
//!
//! | file | holds |
//! |---|---|
//! | `layout` | bytes of the control area and of cells |
//! | `area` | checked views; taking and leaving entries |
//! | `client`, `server` | the two ends |
//! | `parcel` | requests and replies that are too long for a cell |
//! | `inherit`, `check` | what a dead thread leaves; every invariant |

mod area;
mod check;
mod client;
mod inherit;
pub mod layout;
mod parcel;
mod server;

#[cfg(all(test, not(memora_loom)))]
mod damage_tests;
#[cfg(all(test, not(memora_loom)))]
mod death_tests;
#[cfg(all(test, memora_loom))]
mod interleavings;
#[cfg(all(test, not(memora_loom)))]
mod parcel_tests;
#[cfg(test)]
mod testing;
#[cfg(all(test, not(memora_loom)))]
mod tests;

use std::sync::Arc;

pub(crate) use area::{Area, create};
pub(crate) use check::{check, check_taken_over};
pub use client::{Call, Client};
pub(crate) use inherit::{inherit, names_ring};
pub use server::{Request, Server};

use crate::error::Result;
use crate::shm::atomic::Ordering;
use layout::{CellKind, EntryKind};

/// How a service is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Bytes of a request or reply that a cell holds, 1 to 64 MiB. Longer ones take memory of the fabric for as long as they are under way.
    pub message_bytes: u32,
    /// Calls that a client may have under way at the same time: a power of two from 1 to 1024.
    pub calls: u32,
}

impl Default for ServiceOptions {
    fn default() -> ServiceOptions {
        ServiceOptions { message_bytes: layout::MESSAGE_BYTES_DEFAULT, calls: layout::CALLS_DEFAULT }
    }
}

/// Counts of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Client entries that a thread holds now.
    pub clients: u32,
    /// Server entries that a thread holds now.
    pub servers: u32,
    /// Client entries that have cells.
    pub rings: u32,
    /// Requests that wait for a server.
    pub asked: u32,
    /// Requests that servers work on for clients who wait.
    pub taken: u32,
    /// Cells that servers still have though their callers are gone.
    pub left: u32,
    /// Calls ever made; a little more if cells were skipped because they were under way.
    pub calls: u64,
    /// Calls whose time was over.
    pub timed_out: u64,
    /// Calls whose server died.
    pub died: u64,
}

/// A named service of a fabric.
#[derive(Clone)]
pub struct Service {
    area: Arc<Area>,
}

impl Service {
    pub(crate) fn from_area(area: Area) -> Service {
        Service { area: Arc::new(area) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.area.name
    }

    /// How it was made.
    pub fn options(&self) -> ServiceOptions {
        ServiceOptions {
            message_bytes: self.area.shape.message_bytes as u32,
            calls: self.area.shape.calls as u32,
        }
    }

    /// Bytes of the longest request or reply: 128 MiB or half of the fabric, or `message_bytes` where that is more.
    pub fn message_len_max(&self) -> usize {
        self.area.len_max() as usize
    }

    /// A new client, with cells of its own: those that another has left, if there are some, else new ones, which the service keeps.
    /// `TooManyClients` if all entries are held.
    pub fn client(&self) -> Result<Client> {
        Client::new(self.area.clone())
    }

    /// A new server. `TooManyClients` if all entries are held.
    pub fn server(&self) -> Result<Server> {
        Server::new(self.area.clone())
    }

    /// Counts.
    pub fn stats(&self) -> Result<ServiceStats> {
        let area = &self.area;
        area.same_process()?;
        let mut stats = ServiceStats::default();
        for index in 0..area.shape.servers {
            stats.servers += u32::from(area.server_state(index)?.is(EntryKind::Live));
        }
        for index in 0..area.shape.clients {
            stats.clients += u32::from(area.client_state(index)?.is(EntryKind::Live));
            let Some(cells) = area.cells(index)? else { continue };
            stats.rings += 1;
            stats.calls = stats.calls.saturating_add(cells.posted()?);
            // ORDER Relaxed: counts.
            let count = |word: &crate::shm::atomic::AtomicU64| word.load(Ordering::Relaxed);
            let entry = cells.entry();
            let timed_out = count(entry.u64::<{ layout::client::TIMED_OUT }>());
            stats.timed_out = stats.timed_out.saturating_add(timed_out);
            stats.died = stats.died.saturating_add(count(entry.u64::<{ layout::client::DIED }>()));
            for number in 0..area.shape.calls {
                match cells.look(number)?.kind() {
                    Some(CellKind::Asked) => stats.asked += 1,
                    Some(CellKind::Taken) => stats.taken += 1,
                    Some(CellKind::Left) => stats.left += 1,
                    Some(CellKind::Free | CellKind::Died) => {}
                    None => return Err(cells.damaged("the word of a cell")),
                }
            }
        }
        Ok(stats)
    }
}
