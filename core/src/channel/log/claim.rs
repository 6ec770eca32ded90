//! Messages of a log that are written in place: claim, commit, abort.

use super::Appender;
use crate::channel::publisher::write_at;
use crate::error::{Error, ErrorCode, Result};

/// Room for one message of a log, claimed and written in place: [`Appender::claim`]. Dropping it without [`LogClaim::commit`] gives it
/// up. It has no position before the commit, and nobody waits for it.
pub struct LogClaim<'a> {
    appender: &'a mut Appender,
    /// Where in the log its record begins.
    at: u64,
    len: u64,
}

impl Appender {
    /// Claims room for a message of `len` bytes, to be written in place. Errors as of [`Appender::append`].
    ///
    /// Bytes that are not written hold whatever was there before.
    pub fn claim(&mut self, len: usize) -> Result<LogClaim<'_>> {
        let at = self.begin_accepted(len as u64)?;
        Ok(LogClaim { appender: self, at, len: len as u64 })
    }
}

impl LogClaim<'_> {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes bytes at byte `at` of the message.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let (start, count) = (at as u64, bytes.len() as u64);
        if start.checked_add(count).is_none_or(|end| end > self.len) {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("{count} bytes at {at} do not fit a claim of {} bytes.", self.len),
            ));
        }
        write_at(self.appender.payload(self.at, self.len)?, start, bytes)
    }

    /// Makes the message visible, and on a log with files as durable as its handle says. Gives its position.
    pub fn commit(self) -> Result<u64> {
        self.appender.finish_claim(self.at, self.len)
    }

    /// Gives the message up. Nobody has seen anything of it.
    pub fn abort(self) {}
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use crate::channel::log::tests::{assert_sound, code, drain, small};
    use crate::channel::testing::act_as;
    use crate::channel::{OverrunPolicy, ReadFrom};
    use crate::error::ErrorCode;

    #[test]
    fn a_claim_is_a_message_when_it_is_committed_and_nothing_before() {
        let (_stage, channel) = small(OverrunPolicy::Overrun);
        let mut appender = channel.appender().unwrap();
        let mut other = channel.appender().unwrap();
        let mut reader = channel.reader(ReadFrom::Oldest).unwrap();
        for len in [0, 1, 7, 8, 9, 100, channel.message_len_max()] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            let mut claim = appender.claim(len).unwrap();
            assert_eq!((claim.len(), claim.is_empty()), (len, len == 0));
            claim.write(0, &vec![1; len]).unwrap();
            claim.write(len / 2, &bytes[len / 2..]).unwrap();
            assert!(drain(&mut reader).is_empty());
            claim.write(0, &bytes[..len / 2]).unwrap();
            // Others go on meanwhile: the position is that of the commit.
            let between = other.append(b"between").unwrap();
            assert_eq!(claim.commit().unwrap(), between + 1);
            assert_eq!(drain(&mut reader), [(between, b"between".to_vec()), (between + 1, bytes)]);
        }
        let mut claim = appender.claim(10).unwrap();
        assert_eq!(code(claim.write(5, &[0; 6])), ErrorCode::InvalidArgument);
        assert_eq!(code(claim.write(usize::MAX, &[0; 2])), ErrorCode::InvalidArgument);
        claim.write(0, b"given up").unwrap();
        claim.abort();
        let _ = appender.claim(20).unwrap();
        assert_eq!(code(appender.claim(channel.message_len_max() + 1).map(drop)), ErrorCode::ValueTooLong);
        let end = appender.append(b"after").unwrap();
        assert_eq!(drain(&mut reader), [(end, b"after".to_vec())]);
        assert_sound(&channel);
    }

    #[test]
    fn a_claim_stays_with_its_thread() {
        let (_stage, channel) = small(OverrunPolicy::Overrun);
        let mut appender = channel.appender().unwrap();
        let mut claim = appender.claim(4).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                act_as(3);
                assert_eq!(code(claim.write(0, b"late")), ErrorCode::Closed);
                assert_eq!(code(claim.commit()), ErrorCode::Closed);
            });
        });
        assert!(drain(&mut channel.reader(ReadFrom::Oldest).unwrap()).is_empty());
        appender.append(b"goes on").unwrap();
        assert_eq!(drain(&mut channel.reader(ReadFrom::Oldest).unwrap()).len(), 1);
    }
}
