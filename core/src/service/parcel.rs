//! Long requests and replies: those that do not fit their half of a cell stand in chunks of their own, a parcel, and the half names it.
//!
//! So a long message is what a short one is: the word that shows a short one shows it, whole. A half whose length is more than `message_bytes` holds
//! the word of a parcel's first chunk instead of bytes, and the parcel's header says to which call it belongs. Nothing else says what is still there: a
//! parcel ends when nobody can read it any more, and everybody who knows that gives its chunks back, late or twice without harm:
//!
//! ```text
//! request  its server, when it has copied it; or its client, when the call ends; or whoever takes over from the client or the server
//! reply    its client, when it has copied it or gives the call up; its server, if it finds that nobody waits; or whoever takes over from either
//! ```
//!
//! The chunks are open, and their writer's, until the message is shown; then it keeps them, which makes them nobody's. If it dies before it shows it, nobody
//! names them and the reaper frees them; if it dies before it has kept all of a request, its client's calls are let go, which ends the request; of a
//! reply, who takes over from the server keeps them.
//!
//! A stopped process that goes on late finds another generation in the chunks, or another number in the header: it copies nothing and frees nothing.

use std::collections::HashSet;

use super::area::{Area, Cells};
use super::layout::{CellKind, Status, half};
use crate::chunk::{Loose, ParcelHead, Parcels};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Which half of a cell a message stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request = 0,
    Reply = 1,
}

impl Side {
    const BOTH: [Side; 2] = [Side::Request, Side::Reply];

    fn name(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Reply => "reply",
        }
    }
}

impl Area {
    fn parcels(&self) -> Option<Parcels<'_>> {
        let pool = self.ground.pool()?;
        Some(Parcels { pool, object: self.object, owner: ("Service", &self.name) })
    }

    /// Bytes of the longest request or reply.
    pub fn len_max(&self) -> u64 {
        self.parcels().map_or(0, |parcels| parcels.len_max()).max(self.shape.message_bytes)
    }

    /// Takes chunks and writes a message of a call into them. They are the caller's alone.
    #[cold]
    #[inline(never)]
    pub fn write_parcel(&self, cells: &Cells, side: Side, number: u64, message: &[u8]) -> Result<Vec<Loose>> {
        let parcels = self.parcels().ok_or(ErrorCode::Internal)?;
        let chunks = parcels.write(self.ground.actor()?, &[], message).map_err(|error| {
            if error.code() != ErrorCode::Full {
                return error;
            }
            let (len, side) = (message.len(), side.name());
            Error::new(
                ErrorCode::Full,
                format!("There is no memory for a {side} of {len} bytes of service `{}`.", self.name),
            )
        })?;
        let first = chunks.first().ok_or(ErrorCode::Internal)?;
        parcels.mark(*first, marks(cells, side, number))?;
        // ORDER Relaxed: the word that shows the message orders it.
        cells.first_word(side, number)?.store(first.word(), Ordering::Relaxed);
        Ok(chunks)
    }

    /// The message was shown: its chunks are nobody's. Whoever it was for may be past it already.
    pub fn keep_parcel(&self, chunks: &[Loose]) -> Result<()> {
        self.parcels().ok_or(ErrorCode::Internal)?.keep(self.ground.actor()?.index, chunks)
    }

    /// The parcel of a call that half a cell names, if there is one and it is not gone.
    fn parcel(&self, cells: &Cells, side: Side, number: u64) -> Result<Option<(Parcels<'_>, ParcelHead)>> {
        // ORDER Relaxed: whoever showed the message ordered it; of a later call it is another number's.
        if cells.message_len(side, number)?.load(Ordering::Relaxed) <= self.shape.message_bytes {
            return Ok(None);
        }
        let Some(parcels) = self.parcels() else { return Ok(None) };
        // ORDER Relaxed: as before.
        let word = cells.first_word(side, number)?.load(Ordering::Relaxed);
        let head = parcels.head(word)?.filter(|head| head.marks == marks(cells, side, number));
        Ok(head.map(|head| (parcels, head)))
    }

    /// Copies a long message of `len` bytes, which replaces what is in `into`. None if it is gone.
    #[cold]
    #[inline(never)]
    pub fn copy_parcel(
        &self,
        cells: &Cells,
        side: Side,
        number: u64,
        len: u64,
        into: &mut Vec<u8>,
    ) -> Result<Option<usize>> {
        let Some((parcels, head)) = self.parcel(cells, side, number)? else { return Ok(None) };
        let copied = parcels.copy([head.first.word(), len], self.len_max(), into)?;
        into.truncate(copied.unwrap_or(0));
        Ok(copied)
    }

    /// Nobody reads this message of a call any more: gives its chunks back, if it has some. What is damaged stays, and `check` tells it.
    #[cold]
    #[inline(never)]
    pub fn end_parcel(&self, cells: &Cells, side: Side, number: u64) {
        if let Ok(Some((parcels, head))) = self.parcel(cells, side, number) {
            let _ = parcels.give_back([head.first.word(), head.len]);
        }
    }

    /// Nobody waits for a call any more: gives back the chunks of its request, and of its reply if that was shown.
    #[cold]
    #[inline(never)]
    pub fn end_call(&self, cells: &Cells, number: u64) {
        self.end_parcel(cells, Side::Request, number);
        if matches!(cells.answered(number), Ok(Some(Status::Replied))) {
            self.end_parcel(cells, Side::Reply, number);
        }
    }

    /// If the server whose thread was `dead` has shown a reply, its client may want to read it: keeps its chunks.
    pub fn keep_reply_of(&self, cells: &Cells, number: u64, dead: u16) -> Result<()> {
        if cells.answered(number)? != Some(Status::Replied) {
            return Ok(());
        }
        if let Some((parcels, head)) = self.parcel(cells, Side::Reply, number)? {
            for chunk in parcels.chunks([head.first.word(), head.len])? {
                // DIES BEFORE: the cell is that of the dead still, whoever comes next goes on.
                kill_point!("service.inherit.before_keep");
                parcels.keep(dead, &[chunk])?;
            }
        }
        Ok(())
    }

    /// Gives back a reply of a call that the caller has written, and not shown or to nobody.
    #[cold]
    #[inline(never)]
    pub fn take_back_reply(&self, chunks: &[Loose]) {
        if let (Some(parcels), Some(first)) = (self.parcels(), chunks.first()) {
            let _ = parcels.give_back([first.word(), chunks.len() as u64 * parcels.part()]);
        }
    }
}

/// What the header of a parcel says to whom it belongs.
fn marks(cells: &Cells, side: Side, number: u64) -> [u64; 3] {
    [u64::from(cells.index) << 1 | side as u64, number, 0]
}

/// Says which requests that wait are not whole, and which of the service's chunks nobody names. Nobody else is at work, and the dead were reaped.
pub fn check_taken_over(area: &Area, problem: &mut dyn FnMut(String, String)) -> Result<()> {
    let Some(all) = area.parcels() else { return Ok(()) };
    let mut named = HashSet::new();
    for index in 0..area.shape.clients {
        let Ok(Some(cells)) = area.cells(index) else { continue };
        for place in 0..area.shape.calls {
            let seen = cells.look(place)?;
            for side in Side::BOTH {
                let place = || format!("service `{}` client {index} call {}", area.name, seen.number());
                match area.parcel(&cells, side, seen.number()) {
                    Ok(Some((_, head))) => {
                        let chunks = all.chunks([head.first.word(), head.len])?;
                        named.extend(chunks.iter().map(|chunk| all.pool.loose_offset(*chunk)));
                    }
                    Ok(None) => {}
                    Err(error) => problem(error.detail().to_owned(), place()),
                }
            }
            if seen.kind() == Some(CellKind::Asked) {
                // ORDER Relaxed: the word that was looked at orders it.
                let len = cells.message_len(Side::Request, place)?.load(Ordering::Relaxed);
                let number = seen.number();
                if len > area.shape.message_bytes
                    && !matches!(
                        area.copy_parcel(&cells, Side::Request, number, len, &mut Vec::new()),
                        Ok(Some(_))
                    )
                {
                    problem(
                        format!("its request of {len} bytes is not whole"),
                        format!("service `{}` client {index} call {number}", area.name),
                    );
                }
            }
        }
    }
    for chunk in all.pool.lane_chunks(area.object)? {
        let offset = all.pool.geometry().chunk_offset(chunk);
        if !named.contains(&offset) && !super::names_ring(area, offset)? {
            problem(format!("nobody names its chunk {}", chunk.0), format!("service `{}`", area.name));
        }
    }
    Ok(())
}

impl Cells {
    /// Where the length of a message stands.
    fn message_len(&self, side: Side, number: u64) -> Result<&crate::shm::atomic::AtomicU64> {
        Ok(self.half(side, number)?.u64::<{ half::LEN }>())
    }

    /// Where half a cell names the first chunk of a message that is too long for it.
    fn first_word(&self, side: Side, number: u64) -> Result<&crate::shm::atomic::AtomicU64> {
        Ok(self.half(side, number)?.u64::<{ half::HEADER as usize }>())
    }

    fn half(&self, side: Side, number: u64) -> Result<super::area::Half<'_>> {
        match side {
            Side::Request => self.request(number),
            Side::Reply => self.answer(number),
        }
    }
}
