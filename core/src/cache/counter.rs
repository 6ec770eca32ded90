//! Numbers as memcached keeps them: decimal text.

use crate::error::{Error, ErrorCode, Result};
use crate::table::Current;

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

#[cold]
fn not_a_number(text: &[u8]) -> Error {
    Error::new(
        ErrorCode::NotANumber,
        format!("The value {:?} is no decimal number of 64 bits.", String::from_utf8_lossy(text)),
    )
}

#[cold]
pub(super) fn overflow(number: u64, by: u64) -> Error {
    Error::new(ErrorCode::CounterOverflow, format!("{number} + {by} leaves 64 bits."))
}

/// The number that an entry holds.
pub(super) fn parse(current: &Current<'_>) -> Result<u64> {
    let mut buffer = [0u8; DIGITS_MAX + 1];
    let len = (current.head.value_len as usize).min(buffer.len());
    let text = &mut buffer[..len];
    current.value.copy_out(0, text)?;
    if text.is_empty() || text.len() > DIGITS_MAX || !text.iter().all(u8::is_ascii_digit) {
        return Err(not_a_number(text));
    }
    text.iter()
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or_else(|| not_a_number(text))
}
