//! Numbers as memcached and Redis keep them: decimal text.

use crate::error::{Error, ErrorCode, Result};
use crate::table::{Current, Value};

/// Digits of the largest number, or of the smallest with its sign.
const DIGITS_MAX: usize = 20;

/// Which numbers a counter has, and what happens at their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CounterKind {
    /// 0 to 2^64 - 1: counting beyond is the error `CounterOverflow`, counting down stops at 0.
    #[default]
    Unsigned,
    /// memcached's `incr` and `decr`: 0 to 2^64 - 1, counting up begins again at 0, counting down stops at 0.
    Wrapping,
    /// Redis' `INCRBY` and `DECRBY`: -2^63 to 2^63 - 1, leaving them is the error `CounterOverflow`.
    Signed,
}

/// How [`Cache::count_with`](super::Cache::count_with) counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Which numbers there are.
    pub kind: CounterKind,
    /// Whether to count down.
    pub down: bool,
    /// How far; for a signed counter the bits of an `i64`.
    pub by: u64,
    /// What an entry that is not there is set to, if anything; for a signed counter the bits of an `i64`. Redis counts from 0:
    /// give `by` (or `-by`) here as well. memcached's meta protocol: its `J`.
    pub initial: Option<u64>,
    /// Milliseconds to live of an entry that is made so; `None` = for ever.
    pub ttl_ms: Option<u64>,
    /// Whether an entry that is there gets this time to live as well, instead of keeping its own.
    pub renew_ttl: bool,
}

impl Counter {
    /// Counts a number of 64 bits without sign up.
    pub fn up(by: u64) -> Counter {
        Counter { by, ..Counter::default() }
    }

    /// Counts a number of 64 bits without sign down, to 0 at most.
    pub fn down(by: u64) -> Counter {
        Counter { by, down: true, ..Counter::default() }
    }

    /// Counts as Redis' `INCRBY` does: a missing entry is one of 0.
    pub fn signed(by: i64) -> Counter {
        let by = by as u64;
        Counter { kind: CounterKind::Signed, by, initial: Some(by), ..Counter::default() }
    }

    /// The number after `current`, and how it is written.
    pub(super) fn next(&self, current: &Current<'_>) -> Result<u64> {
        let mut buffer = [0; DIGITS_MAX + 1];
        let text = digits(current, &mut buffer)?;
        if self.kind == CounterKind::Signed {
            let number = parse_signed(text).ok_or_else(|| not_a_number(text))?;
            let by = self.by as i64;
            let next = if self.down { number.checked_sub(by) } else { number.checked_add(by) };
            return next.map(|next| next as u64).ok_or_else(|| {
                overflow(number, if self.down { '-' } else { '+' }, by, "leaves 64 bits with a sign")
            });
        }
        let number = parse(text).ok_or_else(|| not_a_number(text))?;
        match (self.down, self.kind) {
            (true, _) => Ok(number.saturating_sub(self.by)),
            (false, CounterKind::Wrapping) => Ok(number.wrapping_add(self.by)),
            (false, _) => {
                number.checked_add(self.by).ok_or_else(|| overflow(number, '+', self.by, "leaves 64 bits"))
            }
        }
    }

    /// A number of this counter as a value.
    pub(super) fn value(&self, number: u64) -> Value<'static> {
        match self.kind {
            CounterKind::Signed => Value::Signed(number as i64),
            _ => Value::Number(number),
        }
    }
}

#[cold]
fn not_a_number(text: &[u8]) -> Error {
    Error::new(
        ErrorCode::NotANumber,
        format!("The value {:?} is no decimal number of 64 bits.", String::from_utf8_lossy(text)),
    )
}

#[cold]
fn overflow(number: impl std::fmt::Display, sign: char, by: impl std::fmt::Display, what: &str) -> Error {
    Error::new(ErrorCode::CounterOverflow, format!("{number} {sign} {by} {what}."))
}

/// The text of a value, as far as it could be a number.
fn digits<'b>(current: &Current<'_>, buffer: &'b mut [u8; DIGITS_MAX + 1]) -> Result<&'b [u8]> {
    let text = &mut buffer[..(current.head.value_len as usize).min(DIGITS_MAX + 1)];
    current.value.copy_out(0, text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > DIGITS_MAX {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// As Redis reads numbers: no plus sign, no zeros in front, no "-0".
fn parse_signed(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let canonical = digits == b"0" && !negative || digits.first().is_some_and(|first| *first != b'0');
    let number = parse(digits).filter(|_| canonical)?;
    if negative { 0i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_peers_read_them() {
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"007"), Some(7), "memcached takes zeros in front");
        assert_eq!(parse(b"18446744073709551615"), Some(u64::MAX));
        for text in
            [&b""[..], b"18446744073709551616", b"-1", b"+1", b" 1", b"1 ", b"1.5", b"000000000000000000001"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse_signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_signed(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_signed(b"0"), Some(0));
        for text in [
            &b""[..],
            b"-",
            b"-0",
            b"00",
            b"01",
            b"-01",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"+1",
        ] {
            assert_eq!(parse_signed(text), None, "{text:?}");
        }
    }
}
