//! A value as it stands in the table of a topic: `{number u64, retracted 1 byte, payload}`.

use crate::error::{Error, ErrorCode, Result};

/// Bytes in front of the payload.
const HEADER: usize = 9;

/// A value with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// How often its key was published.
    pub number: u64,
    /// None if the key was retracted.
    pub value: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    pub fn encode(number: u64, value: Option<&[u8]>) -> Vec<u8> {
        let payload = value.unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.push(u8::from(value.is_none()));
        bytes.extend_from_slice(payload);
        bytes
    }

    /// What stands there; an error for what nobody published.
    pub fn of(bytes: &'a [u8]) -> Result<Stored<'a>> {
        let damaged = || Error::new(ErrorCode::Corrupt, "A value of a topic has no number.");
        let (head, value) = bytes.split_first_chunk::<HEADER>().ok_or_else(damaged)?;
        let number = u64::from_le_bytes(*head.first_chunk::<8>().ok_or_else(damaged)?);
        match head[HEADER - 1] {
            0 if number > 0 => Ok(Stored { number, value: Some(value) }),
            1 if number > 0 && value.is_empty() => Ok(Stored { number, value: None }),
            _ => Err(damaged()),
        }
    }

    /// The number of the next update.
    pub fn next(self) -> Result<u64> {
        self.number
            .checked_add(1)
            .ok_or_else(|| Error::new(ErrorCode::Corrupt, "The number of a value of a topic cannot be."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_what_is_none_is_refused() {
        for value in [Some(&b"abc"[..]), Some(b""), None] {
            let bytes = Stored::encode(7, value);
            assert_eq!(Stored::of(&bytes).unwrap(), Stored { number: 7, value });
        }
        for bad in [&b""[..], &[0; 8], &[0; 9], &[1, 0, 0, 0, 0, 0, 0, 0, 2], &[1, 0, 0, 0, 0, 0, 0, 0, 1, 9]]
        {
            assert_eq!(Stored::of(bad).unwrap_err().code(), ErrorCode::Corrupt, "{bad:?}");
        }
        assert_eq!(Stored { number: u64::MAX, value: None }.next().unwrap_err().code(), ErrorCode::Corrupt);
    }
}
