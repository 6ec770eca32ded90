//! Bytes of a service: its control area, and the cells in which calls travel. Packed words as types.
//!
//! ```text
//! control area
//!   0 message_bytes u32  that half a cell holds              4 calls u32  cells of each client, a power of two
//!   8 clients       u32  client entries                     12 servers u32  server entries
//!  16 object        u32  number of the object that the chunks of rings are marked with
//!  64 epoch         u32  grows when a client entry gets its ring
//! 128 asked         u32  wait word of the servers
//! 192 client entries, 128 B each; then server entries, 64 B each
//!
//! client entry (line 0 hardly ever changes, line 1 is written at each call)
//!   0 state  u64  {kind 8 | 0 8 | owner thread 12 | 0 4 | generation 32}, as of a lane
//!   8 ring   u64  offset of its cells in the segment, 0 before it has some; never changes afterwards
//!  16 wait   u32  wait word of the client
//!  64 posted u64  number of the last call; goes on when another client goes on with the entry
//!  72 timed_out u64  calls that it gave up              80 died u64  calls whose server died
//!
//! server entry
//!   0 state  u64  {kind 8 | 0 8 | owner thread 12 | 0 4 | generation 32}: free or live
//!   8 taken  u64  calls that it took
//!
//! cell: call n of a client stands in cell n modulo `calls`: two halves of `half` bytes, an odd number of lines each
//!   0 word   u64  {kind 4 | server's thread 12 | number 48}, lowest bits first
//!   8 len    u64  bytes of the request                       16 request
//! half + 0 answer u64 {status 16 | number 48}       half + 8 len u64 bytes of the reply       half + 16 reply
//!
//! A half whose length is more than message_bytes holds the word of the first chunk of a parcel instead. The marks in the parcel's header:
//! {client entry * 2, and 1 more for a reply}, the number of the call, 0.
//! ```

/// Who holds an entry: as for lanes. A server entry is free or live.
pub use crate::channel::layout::{LaneKind as EntryKind, LaneState as EntryState};
use crate::error::{Error, ErrorCode, Result};

/// Field offsets in the control area.
pub mod control {
    pub const MESSAGE_BYTES: usize = 0;
    pub const CALLS: usize = 4;
    pub const CLIENTS: usize = 8;
    pub const SERVERS: usize = 12;
    pub const OBJECT: usize = 16;
    pub const EPOCH: usize = 64;
    pub const ASKED: usize = 128;
    /// Bytes in front of the client entries.
    pub const BYTES: usize = 192;
}

/// Field offsets in a client entry.
pub mod client {
    pub const STATE: usize = 0;
    pub const RING: usize = 8;
    pub const WAIT: usize = 16;
    pub const POSTED: usize = 64;
    pub const TIMED_OUT: usize = 72;
    pub const DIED: usize = 80;
    pub const BYTES: usize = 128;
}

/// Field offsets in a server entry.
pub mod server {
    pub const STATE: usize = 0;
    pub const TAKEN: usize = 8;
    pub const BYTES: usize = 64;
}

/// Field offsets in each half of a cell.
pub mod half {
    pub const WORD: usize = 0;
    pub const LEN: usize = 8;
    /// Bytes in front of the request or reply.
    pub const HEADER: u64 = 16;
}

/// Bytes of a request or reply in a cell if the user names none: eight cells then fit 64 KiB.
pub const MESSAGE_BYTES_DEFAULT: u32 = 4000;
/// Bytes of a request or reply in a cell at most.
pub const MESSAGE_BYTES_MAX: u32 = 64 << 20;
/// Cells of a client if the user names none.
pub const CALLS_DEFAULT: u32 = 8;
/// Cells of a client at most.
pub const CALLS_MAX: u32 = 1024;
/// Bytes of all cells of a client at most.
pub const RING_BYTES_MAX: u64 = 1 << 30;
/// Numbers of calls end here: 2^48 calls take a client years.
pub const NUMBER_MAX: u64 = (1 << 48) - 1;

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CellKind {
    /// Nothing that a server needs: its client may use it. The number is the last call's.
    Free = 0,
    /// A request that nobody took.
    Asked = 1,
    /// A server works on the request; the answer's half of the cell is its own.
    Taken = 2,
    /// As `Taken`, but the caller is gone: the server lets the cell go instead of answering.
    Left = 3,
    /// The server that took it died, or its thread ended.
    Died = 4,
}

/// The word of a cell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CellWord(pub u64);

impl CellWord {
    pub const fn new(kind: CellKind, server: u16, number: u64) -> CellWord {
        CellWord(kind as u64 | ((server as u64) & 0xfff) << 4 | (number & NUMBER_MAX) << 16)
    }

    /// None for a number that is no kind: damaged content.
    #[inline(always)]
    pub const fn kind(self) -> Option<CellKind> {
        match self.0 & 0xf {
            0 => Some(CellKind::Free),
            1 => Some(CellKind::Asked),
            2 => Some(CellKind::Taken),
            3 => Some(CellKind::Left),
            4 => Some(CellKind::Died),
            _ => None,
        }
    }

    /// Index of the thread entry of the server that has it; 0 for none.
    #[inline(always)]
    pub const fn server(self) -> u16 {
        (self.0 >> 4) as u16 & 0xfff
    }

    /// Number of the call.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        self.0 >> 16
    }

    /// The same call in another state, in nobody's hands.
    #[inline]
    pub const fn as_kind(self, kind: CellKind) -> CellWord {
        CellWord::new(kind, 0, self.number())
    }
}

impl std::fmt::Debug for CellWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind:?} call {} server thread {}", self.number(), self.server()),
            None => write!(f, "{:#018x}", self.0),
        }
    }
}

/// How a server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// With a reply.
    Replied = 1,
    /// It let the request go without one.
    Unanswered = 2,
}

/// The first word of a cell's second half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerWord(pub u64);

impl AnswerWord {
    pub const fn new(status: Status, number: u64) -> AnswerWord {
        AnswerWord(status as u64 | number << 16)
    }

    /// The answer to this call, if it is one.
    #[inline(always)]
    pub const fn to(self, number: u64) -> Option<Status> {
        if self.0 >> 16 != number {
            return None;
        }
        match self.0 as u16 {
            1 => Some(Status::Replied),
            2 => Some(Status::Unanswered),
            _ => None,
        }
    }
}

/// Where the parts of a service lie: a private copy, checked when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Where the control area begins in the segment.
    pub offset: u64,
    /// Bytes of the longest request or reply that stands in a cell.
    pub message_bytes: u64,
    /// Cells of a client, a power of two.
    pub calls: u64,
    /// Client entries.
    pub clients: u32,
    /// Server entries.
    pub servers: u32,
}

impl Shape {
    /// Entries that fit a control area of `len` bytes.
    pub const fn counts(len: u64) -> Option<(u32, u32)> {
        let candidates: [(u32, u32); 2] = [(256, 128), (64, 32)];
        let mut place = 0;
        while place < candidates.len() {
            let (clients, servers) = candidates[place];
            if Shape::bytes(clients, servers) <= len {
                return Some((clients, servers));
            }
            place += 1;
        }
        None
    }

    /// Bytes of a control area.
    pub const fn bytes(clients: u32, servers: u32) -> u64 {
        control::BYTES as u64 + clients as u64 * client::BYTES as u64 + servers as u64 * server::BYTES as u64
    }

    #[inline]
    pub const fn client(&self, index: u32) -> u64 {
        self.offset + control::BYTES as u64 + index as u64 * client::BYTES as u64
    }

    #[inline]
    pub const fn server(&self, index: u32) -> u64 {
        self.client(self.clients) + index as u64 * server::BYTES as u64
    }

    /// Bytes of half a cell: whole lines, and an odd number of them, so that the first lines of cells do not all fall
    /// into one set of a cache.
    #[inline(always)]
    pub const fn half(&self) -> u64 {
        (half::HEADER + self.message_bytes).next_multiple_of(64) | 64
    }

    /// Where in its ring the cell of a call begins.
    #[inline(always)]
    pub const fn cell(&self, number: u64) -> u64 {
        (number & (self.calls - 1)) * self.half() * 2
    }

    /// Bytes of all cells of a client.
    pub const fn ring_bytes(&self) -> u64 {
        self.calls * self.half() * 2
    }
}

/// Refuses sizes outside the bounds.
pub fn check_options(message_bytes: u32, calls: u32) -> Result<()> {
    let refused = |what: String| Err(Error::new(ErrorCode::InvalidArgument, what));
    if message_bytes == 0 || message_bytes > MESSAGE_BYTES_MAX {
        return refused(format!("message_bytes is {message_bytes}: it must be 1 to {MESSAGE_BYTES_MAX}."));
    }
    if !calls.is_power_of_two() || calls > CALLS_MAX {
        return refused(format!("calls is {calls}: it must be a power of two from 1 to {CALLS_MAX}."));
    }
    let shape =
        Shape { offset: 0, message_bytes: message_bytes.into(), calls: calls.into(), clients: 0, servers: 0 };
    if shape.ring_bytes() > RING_BYTES_MAX {
        return refused(format!(
            "{calls} calls of {message_bytes} bytes need {} bytes for each client: at most {RING_BYTES_MAX}.",
            shape.ring_bytes()
        ));
    }
    Ok(())
}

/// What goes into the layout hash from this layer.
pub const FACTS: &[u64] = &[
    control::BYTES as u64,
    control::EPOCH as u64,
    control::ASKED as u64,
    client::BYTES as u64,
    client::WAIT as u64,
    client::POSTED as u64,
    server::BYTES as u64,
    half::HEADER,
    crate::chunk::PARCEL_HEADER,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_their_parts() {
        let word = CellWord::new(CellKind::Taken, 0xabc, NUMBER_MAX);
        assert_eq!((word.kind(), word.server(), word.number()), (Some(CellKind::Taken), 0xabc, NUMBER_MAX));
        let left = word.as_kind(CellKind::Left);
        assert_eq!((left.kind(), left.server(), left.number()), (Some(CellKind::Left), 0, NUMBER_MAX));
        assert_eq!(CellWord(5).kind(), None);
        let answer = AnswerWord::new(Status::Unanswered, 77);
        assert_eq!((answer.to(77), answer.to(78)), (Some(Status::Unanswered), None));
        assert_eq!(AnswerWord(77 << 16 | 9).to(77), None);
    }

    #[test]
    fn the_parts_of_a_control_area_fit_its_chunk_and_cells_do_not_overlap() {
        for chunk in [16u64 << 10, 64 << 10, 256 << 10, 1 << 20] {
            let (clients, servers) = Shape::counts(chunk - 256).unwrap();
            let shape = Shape { offset: 256, message_bytes: 4000, calls: 8, clients, servers };
            assert!(shape.server(servers) <= chunk, "{chunk}: {shape:?}");
            assert_eq!(shape.server(servers) - 256, Shape::bytes(clients, servers));
            assert_eq!(shape.ring_bytes(), 64_512);
            assert_eq!((shape.cell(0), shape.cell(1), shape.cell(8)), (0, 8064, 0));
            assert!(shape.half() >= 4016 && (shape.half() / 64) % 2 == 1);
        }
        assert_eq!(Shape::counts(4096), None);
    }

    #[test]
    fn sizes_outside_the_bounds_are_refused() {
        for (message_bytes, calls) in [
            (0, 8),
            (MESSAGE_BYTES_MAX + 1, 1),
            (100, 0),
            (100, 3),
            (100, 2048),
            (4 << 20, 256),
            (u32::MAX, u32::MAX),
        ] {
            let error = check_options(message_bytes, calls).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{message_bytes} {calls}");
        }
        check_options(MESSAGE_BYTES_MAX, 4).unwrap();
        check_options(1, 1).unwrap();
    }
}
