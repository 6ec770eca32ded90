//! Messages that are looked at where they stand.
//!
//! A [`MessageView`] gives no reference to shared bytes: they are copied out piece by piece, by the same relaxed copies that all else uses, and no length
//! that a view goes by is read twice. So whatever a peer writes meanwhile, the reader gets other bytes, and nothing worse.
//!
//! Of processes that keep to the library nobody writes a message that a subscription has still to handle: its place moves behind the handler.
//! Only a subscription that was ejected has no such place any more; [`MessageView::is_whole`] says so.

use std::cell::Cell;
use std::io;

use super::Message;
use super::area::{Area, STAMP};
use super::lane::Lane;
use super::layout::{SubState, sub};
use super::publisher::Publisher;
use crate::chunk::{Loose, Parcels};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::Block;
use crate::shm::Span;
use crate::shm::atomic::{Ordering, fence};

/// A message where it stands. What it gives is read from there at that moment.
pub struct MessageView<'a> {
    message: Message,
    bytes: Bytes<'a>,
    proof: Proof<'a>,
}

enum Bytes<'a> {
    Ring(Span<'a>),
    Parcel {
        parcel: ParcelBytes<'a>,
        /// Bytes of the time in front of the message.
        stamp: u64,
    },
    Copied(&'a [u8]),
}

/// What says that bytes which were read are those of the message.
#[derive(Clone, Copy)]
pub(super) enum Proof<'a> {
    /// Lanes that block: the subscription is still held so.
    Held(Block<'a, { sub::BYTES as usize }>, SubState),
    /// Lanes that overrun: the frame at that position was not overwritten.
    Lane(Lane<'a>, u64),
    /// They are the reader's own.
    Own,
}

impl Proof<'_> {
    #[inline(always)]
    pub fn holds(self) -> bool {
        match self {
            Proof::Held(entry, state) => {
                // ORDER Acquire [eject]: what was copied before; pairs with the fence in `Area::limit`: who copied bytes that were
                // overwritten because the subscription was gone sees here that it is.
                fence(Ordering::Acquire);
                // ORDER Relaxed: the fence orders it.
                entry.u64::<{ sub::STATE }>().load(Ordering::Relaxed) == state.0
            }
            Proof::Lane(lane, position) => !lane.lapped(position),
            Proof::Own => true,
        }
    }
}

/// Where a message was found.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub lane: u32,
    /// The position behind it.
    pub behind: u64,
}

impl<'a> MessageView<'a> {
    /// The message of `len` bytes, its time included, whose payload begins at position `at` of a lane.
    #[inline(always)]
    pub(super) fn in_ring(
        area: &Area,
        lane: Lane<'a>,
        at: u64,
        len: u64,
        spot: Spot,
        proof: Proof<'a>,
    ) -> Result<MessageView<'a>> {
        let mut span = lane.ring().span(at, len)?;
        let (mut len, mut sent_ns) = (len, 0);
        if area.stamped {
            if len < STAMP as u64 {
                return Err(area.too_short_for_a_time());
            }
            // ORDER Relaxed: bytes of the frame.
            sent_ns = u64::from_le(span.u64(0)?.load(Ordering::Relaxed));
            len -= STAMP as u64;
            span = span.sub(STAMP as u64, len)?;
        }
        let message = Message { lane: spot.lane, position: spot.behind, len: len as usize, sent_ns };
        Ok(MessageView { message, bytes: Bytes::Ring(span), proof })
    }

    /// The message in the parcel that a frame names.
    pub(super) fn in_parcel(
        area: &'a Area,
        words: [u64; 2],
        spot: Spot,
        proof: Proof<'a>,
    ) -> Result<MessageView<'a>> {
        let parcel = ParcelBytes::of(area, words)?;
        let (mut stamp, mut sent_ns) = (0, 0);
        if area.stamped {
            stamp = STAMP as u64;
            if parcel.len < stamp {
                return Err(area.too_short_for_a_time());
            }
            let mut time = [0; STAMP];
            parcel.copy_out(0, &mut time)?;
            sent_ns = u64::from_le_bytes(time);
        }
        let len = (parcel.len - stamp) as usize;
        let message = Message { lane: spot.lane, position: spot.behind, len, sent_ns };
        Ok(MessageView { message, bytes: Bytes::Parcel { parcel, stamp }, proof })
    }

    /// A message that was copied and is whole.
    #[inline]
    pub(super) fn copied(message: Message, bytes: &'a [u8]) -> MessageView<'a> {
        MessageView { message, bytes: Bytes::Copied(bytes), proof: Proof::Own }
    }

    /// What came with it.
    #[inline]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Bytes of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.message.len
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all that was read through this so far are bytes of the message: false only if the subscription was ejected
    /// meanwhile, so that its publisher may have gone on. Then the call that gave this answers `Ejected`, too.
    ///
    /// Ask before you do what cannot be undone, on channels whose subscriptions may be ejected.
    #[inline]
    pub fn is_whole(&self) -> bool {
        self.proof.holds()
    }

    #[inline(always)]
    fn check(&self, at: usize, len: usize) -> Result<()> {
        if at <= self.len() && self.len() - at >= len { Ok(()) } else { Err(self.outside(at, len)) }
    }

    #[cold]
    #[inline(never)]
    fn outside(&self, at: usize, len: usize) -> Error {
        let text = format!("{len} bytes at {at} are not within a message of {} bytes.", self.len());
        Error::new(ErrorCode::InvalidArgument, text)
    }

    /// Copies the bytes from byte `at` on; all that `into` has room for must be there, else `InvalidArgument`.
    #[inline]
    pub fn copy_to(&self, at: usize, into: &mut [u8]) -> Result<()> {
        self.check(at, into.len())?;
        match &self.bytes {
            Bytes::Ring(span) => span.copy_out_from(at as u64, into),
            Bytes::Parcel { parcel, stamp } => parcel.copy_out(at as u64 + stamp, into),
            Bytes::Copied(bytes) => {
                into.copy_from_slice(&bytes[at..at + into.len()]);
                Ok(())
            }
        }
    }

    /// The 8 bytes at `at` as a little-endian number.
    #[inline]
    pub fn u64_at(&self, at: usize) -> Result<u64> {
        if let Bytes::Ring(span) = &self.bytes
            && at.is_multiple_of(8)
        {
            self.check(at, 8)?;
            // ORDER Relaxed: bytes of a frame, which its word ordered.
            return Ok(u64::from_le(span.u64(at as u64)?.load(Ordering::Relaxed)));
        }
        let mut bytes = [0; 8];
        self.copy_to(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The 4 bytes at `at` as a little-endian number.
    #[inline]
    pub fn u32_at(&self, at: usize) -> Result<u32> {
        let mut bytes = [0; 4];
        self.copy_to(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// The byte at `at`.
    #[inline]
    pub fn u8_at(&self, at: usize) -> Result<u8> {
        let mut byte = [0];
        self.copy_to(at, &mut byte)?;
        Ok(byte[0])
    }

    /// A copy of all bytes.
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.len()];
        self.copy_to(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies all bytes to the start of `into`, which grows when it is too short.
    #[inline(always)]
    pub(super) fn copy_all(&self, into: &mut Vec<u8>) -> Result<()> {
        if into.len() < self.len() {
            into.resize(self.len(), 0);
        }
        self.copy_to(0, &mut into[..self.message.len])
    }

    /// Reads the bytes one after the other, for parsers that take a [`Read`](io::Read).
    pub fn reader(&self) -> MessageReader<'_> {
        MessageReader { view: self, at: 0 }
    }

    /// Where the bytes stand in this process; none for a message that stands in several places (one longer than
    /// [`Channel::claim_len_max`](super::Channel::claim_len_max)).
    ///
    /// For code that cannot take copies, in other languages: any process that has the fabric mapped for writing can change them
    /// at any moment. A Rust slice must not be made of them.
    #[cfg(not(memora_loom))]
    #[inline]
    pub fn as_ptr(&self) -> Option<*const u8> {
        match &self.bytes {
            Bytes::Ring(span) => Some(span.as_ptr()),
            Bytes::Parcel { .. } => None,
            Bytes::Copied(bytes) => Some(bytes.as_ptr()),
        }
    }

    /// Copies all bytes to where they are wanted in shared memory.
    fn copy_across(&self, to: Span<'_>) -> Result<()> {
        match &self.bytes {
            Bytes::Ring(span) => span.copy_across(to, self.message.len as u64),
            Bytes::Parcel { .. } => to.copy_in(0, &self.to_vec()?),
            Bytes::Copied(bytes) => to.copy_in(0, bytes),
        }
    }
}

impl std::fmt::Debug for MessageView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MessageView").field(&self.message).finish()
    }
}

/// Reads a message that is looked at: [`MessageView::reader`].
#[derive(Debug)]
pub struct MessageReader<'v> {
    view: &'v MessageView<'v>,
    at: usize,
}

impl io::Read for MessageReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(self.view.len() - self.at);
        self.view.copy_to(self.at, &mut into[..len]).map_err(io::Error::other)?;
        self.at += len;
        Ok(len)
    }
}

/// The bytes of a parcel, the time in front of the message included.
pub(super) struct ParcelBytes<'a> {
    parcels: Parcels<'a>,
    pub len: u64,
    first: Loose,
    /// The chunk that was read last: its number in the parcel, and which it is.
    last: Cell<(u64, Loose)>,
}

impl<'a> ParcelBytes<'a> {
    /// Of the parcel that a frame names.
    pub fn of(area: &'a Area, words: [u64; 2]) -> Result<ParcelBytes<'a>> {
        let (parcels, first, len) = area.view_parcel(words)?;
        Ok(ParcelBytes { parcels, len, first, last: Cell::new((0, first)) })
    }

    /// Copies the bytes from `at` on, which the caller knows to be there.
    pub fn copy_out(&self, mut at: u64, mut into: &mut [u8]) -> Result<()> {
        let part = self.parcels.part();
        while !into.is_empty() {
            let chunk = self.chunk(at / part)?;
            let len = (into.len() as u64).min(part - at % part);
            let (here, behind) = into.split_at_mut(len as usize);
            self.parcels.bytes(chunk)?.copy_out_from(at % part, here)?;
            (at, into) = (at + len, behind);
        }
        Ok(())
    }

    /// A chunk by its number. Takes as many steps as there are chunks between it and the last one.
    fn chunk(&self, number: u64) -> Result<Loose> {
        let (mut at, mut chunk) = self.last.get();
        if number < at {
            (at, chunk) = (0, self.first);
        }
        while at < number {
            (at, chunk) = (at + 1, self.parcels.next(chunk)?);
        }
        self.last.set((at, chunk));
        Ok(chunk)
    }
}

impl Publisher {
    /// Sends a message that is looked at on another channel: by one copy from there to here, if it is no longer than what can be claimed.
    /// Waits as [`Publisher::send`] does; `Ejected`, and nothing is sent, if it was not whole any more when it had been copied.
    pub fn forward(&mut self, view: &MessageView<'_>) -> Result<u64> {
        let gone = || Error::new(ErrorCode::Ejected, "The subscription that read the message was ejected.");
        if view.len() > self.claim_len_max() {
            let copy = view.to_vec()?;
            return if view.is_whole() { self.send(&copy) } else { Err(gone()) };
        }
        let mut claim = self.claim(view.len())?;
        view.copy_across(claim.payload()?)?;
        if view.is_whole() { claim.commit() } else { Err(gone()) }
    }
}
