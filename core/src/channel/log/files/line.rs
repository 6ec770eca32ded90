//! Bytes of what stands in the batches of a log: messages, and where the named readers are.
//!
//! ```text
//! line: 0 position 8 | 8 time 8, wall ms where the log has an age, else 0 | 16 length 4 | 20 kind 4 | 24 payload, zeros to a multiple of 8
//! kind 1: a message        kind 2: the places of all named readers; position is their number; payload: {position 8 | name length 1 | name} each
//! kind 3: the first part of a long message; payload: {bytes of the message 8 | first bytes}
//! kind 4: a further part; payload: {where in the message it begins 8 | bytes}
//! ```
//!
//! A long message is there once its last part is; the parts follow each other, in as many batches and files as they take. Parts whose end is
//! missing were written by a leader that was killed or deposed: they are followed by the first part of the message that got the position, or by nothing.

use crate::journal::Entry;
use crate::limits::VALUE_LEN_MAX;

/// Bytes in front of a payload.
pub const HEADER: usize = 24;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Message = 1,
    Readers = 2,
    First = 3,
    Further = 4,
}

impl Kind {
    /// The first position that may begin in a batch whose first line is of this kind and position; None for lines without a message.
    pub fn begins(self, position: u64) -> Option<u64> {
        match self {
            Kind::Message | Kind::First => Some(position),
            Kind::Further => Some(position.saturating_add(1)),
            Kind::Readers => None,
        }
    }
}

/// A line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub kind: Kind,
    pub position: u64,
    pub time_ms: u64,
    pub payload: &'a [u8],
}

impl Entry for Line<'_> {
    fn encode(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(&self.position.to_le_bytes());
        body.extend_from_slice(&self.time_ms.to_le_bytes());
        body.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        body.extend_from_slice(&(self.kind as u32).to_le_bytes());
        body.extend_from_slice(self.payload);
        body.resize(body.len().next_multiple_of(8), 0);
    }
}

impl<'a> Line<'a> {
    /// The head of the line at the start of `bytes`: what it is, its position, its time, bytes of its payload.
    pub fn head(bytes: &[u8]) -> Option<(Kind, u64, u64, usize)> {
        let head: &[u8; HEADER] = bytes.first_chunk()?;
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let kind = match word(16) >> 32 {
            1 => Kind::Message,
            2 => Kind::Readers,
            3 => Kind::First,
            4 => Kind::Further,
            _ => return None,
        };
        Some((kind, word(0), word(8), (word(16) & 0xffff_ffff) as usize))
    }

    /// Reads the line at the start of `body`; None if there is no whole one. The second value is its length.
    pub fn decode(body: &'a [u8]) -> Option<(Line<'a>, usize)> {
        let (kind, position, time_ms, len) = Line::head(body)?;
        let payload = body.get(HEADER..HEADER.checked_add(len)?)?;
        let total = (HEADER + len).next_multiple_of(8);
        (total <= body.len()).then_some((Line { kind, position, time_ms, payload }, total))
    }
}

/// The lines of a long message, each with up to `part` bytes of it.
pub fn parts(message: &[u8], part: usize) -> impl Iterator<Item = (Kind, Vec<u8>)> {
    message.chunks(part).enumerate().map(move |(index, bytes)| {
        let (kind, number) = match index {
            0 => (Kind::First, message.len()),
            _ => (Kind::Further, index * part),
        };
        let mut payload = Vec::with_capacity(8 + bytes.len());
        payload.extend_from_slice(&(number as u64).to_le_bytes());
        payload.extend_from_slice(bytes);
        (kind, payload)
    })
}

/// Puts the messages of lines together.
#[derive(Debug, Default)]
pub struct Parts {
    /// Of the message whose parts come: its position, its bytes, and how many came.
    message: Option<(u64, u64, u64)>,
}

/// What a line was to the message at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// These bytes of it, the first ones; more follow unless `end`.
    First { bytes: &'a [u8], end: bool },
    /// These bytes of it, behind those before.
    Further { bytes: &'a [u8], end: bool },
    /// A part that does not continue what came before, or cannot be.
    Stray,
}

impl Added<'_> {
    /// The message is all there with it.
    pub fn is_end(&self) -> bool {
        match self {
            Added::Whole(_) => true,
            Added::First { end, .. } | Added::Further { end, .. } => *end,
            Added::Stray => false,
        }
    }
}

impl Parts {
    /// Takes the next line of a message.
    pub fn add<'a>(&mut self, line: &Line<'a>) -> Added<'a> {
        if line.kind == Kind::Message {
            self.message = None;
            return Added::Whole(line.payload);
        }
        let seen = self.message.take();
        let Some((number, bytes)) = line.payload.split_first_chunk::<8>() else { return Added::Stray };
        let (number, len) = (u64::from_le_bytes(*number), bytes.len() as u64);
        let (all, done) = match (line.kind, seen) {
            (Kind::First, _) => (number, 0),
            (_, Some((position, all, done))) if position == line.position && done == number => (all, done),
            _ => return Added::Stray,
        };
        if all > VALUE_LEN_MAX || len == 0 || len > all - done {
            return Added::Stray;
        }
        let end = done + len == all;
        if !end {
            self.message = Some((line.position, all, done + len));
        }
        if line.kind == Kind::First { Added::First { bytes, end } } else { Added::Further { bytes, end } }
    }
}

/// Where a named reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: String,
    pub position: u64,
}

/// The payload of the places of all named readers.
pub fn encode_places(places: &[Place]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for place in places {
        bytes.extend_from_slice(&place.position.to_le_bytes());
        bytes.push(place.name.len() as u8);
        bytes.extend_from_slice(place.name.as_bytes());
    }
    bytes
}

/// Reads such a payload; None if it is none.
pub fn decode_places(mut bytes: &[u8]) -> Option<Vec<Place>> {
    let mut places = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let position = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
        let name = rest.get(..usize::from(head[8]))?;
        places.push(Place { name: std::str::from_utf8(name).ok()?.to_owned(), position });
        bytes = &rest[name.len()..];
    }
    bytes.is_empty().then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The messages that lines make together.
    fn put_together(lines: &[(u64, Kind, Vec<u8>)]) -> (Vec<(u64, Vec<u8>)>, u32) {
        let (mut parts, mut done, mut bytes, mut stray) = (Parts::default(), Vec::new(), Vec::new(), 0);
        for (position, kind, payload) in lines {
            let line = Line { kind: *kind, position: *position, time_ms: 0, payload };
            let added = parts.add(&line);
            match added {
                Added::Whole(all) => bytes = all.to_vec(),
                Added::First { bytes: first, .. } => bytes = first.to_vec(),
                Added::Further { bytes: more, .. } => bytes.extend_from_slice(more),
                Added::Stray => stray += 1,
            }
            if added.is_end() {
                done.push((*position, std::mem::take(&mut bytes)));
            }
        }
        (done, stray)
    }

    #[test]
    fn parts_make_a_message_only_all_together_and_in_their_order() {
        let message: Vec<u8> = (0..100).collect();
        for part in [1, 7, 50, 99, 100, 1000] {
            let lines: Vec<_> = parts(&message, part).map(|(kind, payload)| (3, kind, payload)).collect();
            assert_eq!(lines.len(), 100usize.div_ceil(part));
            assert_eq!(put_together(&lines), (vec![(3, message.clone())], 0));
        }
        let lines: Vec<_> = parts(&message, 30).map(|(kind, payload)| (3, kind, payload)).collect();
        let order = |numbers: &[usize]| -> Vec<_> { numbers.iter().map(|at| lines[*at].clone()).collect() };
        // Broken off, and begun anew.
        assert_eq!(put_together(&order(&[0, 1, 0, 1, 2, 3])), (vec![(3, message.clone())], 0));
        assert_eq!(put_together(&order(&[0, 1, 2])), (vec![], 0));
        // One twice, one missing, without a beginning.
        for (numbers, stray) in [(vec![0, 1, 1, 2, 3], 3), (vec![0, 2, 3], 2), (vec![1, 2, 3], 3)] {
            assert_eq!(put_together(&order(&numbers)), (vec![], stray), "{numbers:?}");
        }
        let mut mixed = order(&[0, 1]);
        mixed.push((3, Kind::Message, b"short".to_vec()));
        mixed.extend(order(&[2]));
        assert_eq!(put_together(&mixed), (vec![(3, b"short".to_vec())], 1));
        let mut other = order(&[0, 1, 2, 3]);
        other[2].0 = 4;
        assert_eq!(put_together(&other), (vec![], 2));
        // Lengths that cannot be.
        for payload in
            [vec![1; 7], vec![1; 8], vec![0; 9], vec![255; 9], [2u64.to_le_bytes(), [0; 8]].concat()]
        {
            assert_eq!(put_together(&[(0, Kind::First, payload)]), (vec![], 1));
        }
    }

    proptest! {
        #[test]
        fn lines_and_places_come_back_and_any_bytes_decode_without_panic(
            position: u64, time_ms: u64,
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            names in proptest::collection::vec(("[a-z]{1,64}", any::<u64>()), 0..5),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let line = Line { kind: Kind::Message, position, time_ms, payload: &payload };
            let mut body = Vec::new();
            line.encode(&mut body);
            prop_assert_eq!(body.len() % 8, 0);
            prop_assert_eq!(Line::decode(&body), Some((line, body.len())));
            for cut in 0..body.len() {
                prop_assert_eq!(Line::decode(&body[..cut]), None);
            }
            let places: Vec<Place> = names.into_iter().map(|(name, position)| Place { name, position }).collect();
            let bytes = encode_places(&places);
            prop_assert_eq!(decode_places(&bytes), Some(places));
            let _ = (Line::decode(&noise), decode_places(&noise));
        }
    }
}
