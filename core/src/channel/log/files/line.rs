//! Bytes of what stands in the batches of a log: messages, and where the named readers are.
//!
//! ```text
//! line: 0 position 8 | 8 time 8, wall ms where the log has an age, else 0 | 16 length 4 | 20 kind 4 | 24 payload, zeros to a multiple of 8
//! kind 1: a message        kind 2: the places of all named readers; position is their number; payload: {position 8 | name length 1 | name} each
//! ```

use crate::journal::Entry;

/// Bytes in front of a payload.
pub const HEADER: usize = 24;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Message = 1,
    Readers = 2,
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
