//! Making a value once for all who ask for it: one computes, the others wait for what it stores.

use std::time::{Duration, Instant};

use super::Cache;
use crate::chunk::record::{STALE, WON};
use crate::error::{Error, ErrorCode, Result};
use crate::table::entry::{Entry, SetOptions, Version};
use crate::table::{Asked, End};

/// What [`Cache::lease`] came to.
#[derive(Debug)]
pub enum Lease {
    /// The entry is there.
    Found(Entry),
    /// It is not, and the caller is the one who makes it: give the token to [`Cache::fill`].
    Compute(Token),
}

/// The right to fill an entry that is missing. Dropping it gives the right to the next who asks.
///
/// It belongs to the thread that took it: when that thread or its process ends, the next who asks computes. It may be filled by
/// another thread as long as that one lives.
pub struct Token {
    cache: Cache,
    key: Vec<u8>,
    ticket: u64,
    ended: bool,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        f.debug_struct("Token").field("key", &key).field("ticket", &self.ticket).finish()
    }
}

impl Token {
    /// The key that is to be filled.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    fn end(&mut self, end: End<'_>) -> Result<Option<Version>> {
        self.ended = true;
        let me = self.cache.host.actor()?;
        let changed = self.cache.table.end_lease(me, &self.key, self.ticket, end)?;
        Ok(changed.changed.then_some(Version(changed.id)))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.ended {
            // A closed or forked handle has no lease any more, or not this process.
            let _ = self.end(End::Abandon);
        }
    }
}

impl Cache {
    /// The entry of `key`, or the right to make it: of all threads of all processes that ask, one gets it, and the others wait
    /// up to `wait` for what it stores. If that one ends, or gives up, or somebody sets the key, they go on at once; if it lives
    /// and does nothing, they get the error `TimedOut`, and `Busy` if it is the asking thread itself.
    ///
    /// Of an entry that was marked by [`Cache::invalidate`], the first who asks gets the right to make it anew; the others get the
    /// stale entry without waiting.
    pub fn lease(&self, key: &[u8], wait: Duration) -> Result<Lease> {
        let start = Instant::now();
        let mut listening = None;
        loop {
            // Anew in each round: the handle may be closed meanwhile.
            let me = self.host.actor()?;
            let mut found = None;
            let asked = self.table.lease(me, key, &mut |current| {
                found = self.seen(Some(current))?;
                Ok(())
            })?;
            match (asked, found) {
                (Asked::Taken(ticket), _) => {
                    let cache = self.clone();
                    return Ok(Lease::Compute(Token { cache, key: key.to_vec(), ticket, ended: false }));
                }
                (Asked::Present, Some(entry)) => return Ok(Lease::Found(entry)),
                (Asked::Held { own: true, .. }, _) => {
                    return Err(Error::new(
                        ErrorCode::Busy,
                        "This very thread has the right to make the value: it would wait for itself.",
                    ));
                }
                (Asked::Held { by, .. }, _) => {
                    let bell = self.table.bell(key)?;
                    let Some(seen) = listening.take() else {
                        // Before it sleeps it looks once more, so that it does not sleep when the value is there.
                        listening = Some(bell.listen());
                        continue;
                    };
                    let left = wait.saturating_sub(start.elapsed());
                    if left.is_zero() {
                        return Err(timed_out(key, by.thread, wait));
                    }
                    bell.sleep(seen, left);
                }
                (Asked::Present, None) => {}
            }
        }
    }

    /// Stores the value that a token is for. `None` if the right was lost: the key was set, deleted or flushed meanwhile, or the
    /// thread that took the token ended and another one took over. Then nothing is stored.
    pub fn fill(&self, mut token: Token, value: &[u8], options: &SetOptions) -> Result<Option<Version>> {
        if !self.is_same(&token.cache) {
            return Err(Error::new(ErrorCode::InvalidArgument, "The token is one of another cache."));
        }
        let update = self.put(value, options);
        let me = self.host.actor()?;
        let changed = self.table.end_lease(me, &token.key, token.ticket, End::Fill(update))?;
        token.ended = true;
        Ok(changed.changed.then_some(Version(changed.id)))
    }

    /// Gives up the right: the next who asks, or one who waits, gets it.
    pub fn abandon(&self, mut token: Token) -> Result<()> {
        token.end(End::Abandon).map(|_| ())
    }

    /// The value of `key`; if it is not there, what `compute` makes, which is stored. Of all threads of all processes that ask
    /// at once, one computes and the others wait up to `wait` for its value, as [`Cache::lease`] says. If `compute` fails or
    /// panics, or its process is killed, the next one computes.
    ///
    /// ```no_run
    /// # fn main() -> memora::Result<()> {
    /// # let pages = memora::Fabric::open("pages")?.cache("pages")?;
    /// # let render = || Ok(vec![]);
    /// use std::time::Duration;
    /// let options = memora::SetOptions { ttl_ms: Some(60_000), flags: 0 };
    /// let page = pages.get_or_compute(b"/index", &options, Duration::from_secs(5), render)?;
    /// # drop(page);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_compute(
        &self,
        key: &[u8],
        options: &SetOptions,
        wait: Duration,
        compute: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        self.host.enter()?;
        let mut value = Vec::new();
        let found = self.table.read(key, |head, bytes| {
            value.clear();
            value.resize(head.value_len as usize, 0);
            bytes.copy_out(0, &mut value)
        })?;
        if let Some(head) = found
            && (head.flags & STALE == 0 || head.flags & WON != 0 && self.table.winner_lives(key)?)
        {
            return Ok(value);
        }
        match self.lease(key, wait)? {
            Lease::Found(entry) => Ok(entry.value),
            Lease::Compute(token) => {
                // Dropping the token, also by a panic, gives the right to the next.
                let value = compute()?;
                self.fill(token, &value, options)?;
                Ok(value)
            }
        }
    }

    fn is_same(&self, other: &Cache) -> bool {
        self.table.object() == other.table.object() && std::ptr::eq(self.table.shm(), other.table.shm())
    }
}

#[cold]
fn timed_out(key: &[u8], thread: u16, wait: Duration) -> Error {
    Error::new(
        ErrorCode::TimedOut,
        format!(
            "Thread {thread} of the fabric makes the value of {:?} and lives; it was not ready in {} ms.",
            String::from_utf8_lossy(&key[..key.len().min(64)]),
            wait.as_millis()
        ),
    )
}
