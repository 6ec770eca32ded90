//! A message that a publisher or appender has claimed: its bytes go into shared memory with the commit.

use memora_core::{Error, ErrorCode, Result};

/// What a handle has of its claim.
#[derive(Default)]
pub(crate) struct Claiming {
    claim: Option<Vec<u8>>,
    /// The room of the last claim, for the next.
    spare: Vec<u8>,
}

impl Claiming {
    /// An error if a message is claimed.
    pub(crate) fn none(&self) -> Result<()> {
        match self.claim {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorCode::Busy, "A message is claimed: commit it or abort it first.")),
        }
    }

    /// A message of `len` bytes, all 0, is claimed. There was none.
    pub(crate) fn begin(&mut self, len: usize) {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        bytes.resize(len, 0);
        self.claim = Some(bytes);
    }

    fn claimed(&mut self) -> Result<&mut Vec<u8>> {
        self.claim
            .as_mut()
            .ok_or_else(|| Error::new(ErrorCode::NotFound, "No message is claimed: claim one first."))
    }

    /// The bytes of the message that is claimed.
    pub(crate) fn bytes(&mut self) -> Result<&[u8]> {
        self.claimed().map(|claim| claim.as_slice())
    }

    /// Writes bytes of the message that is claimed.
    pub(crate) fn write(&mut self, at: usize, data: &[u8]) -> Result<()> {
        let claim = self.claimed()?;
        let len = claim.len();
        let place = at.checked_add(data.len()).and_then(|end| claim.get_mut(at..end));
        let Some(place) = place else {
            let text = format!("{} bytes at {at} do not fit a claim of {len} bytes.", data.len());
            return Err(Error::new(ErrorCode::InvalidArgument, text));
        };
        place.copy_from_slice(data);
        Ok(())
    }

    /// The claim ends: it was sent, or is given up.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.claimed()?;
        self.spare = self.claim.take().unwrap_or_default();
        Ok(())
    }
}
