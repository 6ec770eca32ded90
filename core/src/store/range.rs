//! Entries in the order of their keys: ranges and prefixes, forwards and backwards.
//!
//! Keys come from the tree beside the table, leaf by leaf; values are looked up in the table when an entry is visited. So each
//! visited entry is one that was there at that moment, keys come in strict order and none twice, and a key that is there from the
//! beginning of a scan to its end is visited. What comes or goes meanwhile may be visited or not.

use std::collections::VecDeque;
use std::ops::Bound;

use super::{Store, entry};
use crate::error::Result;
use crate::table::entry::{Entry, Version};
use crate::table::{Cursor, Direction, Keys};

/// Entries that an iterator copies at once.
const PAGE: usize = 256;
/// Keys without an entry that one call takes out of the tree.
const SCRUB: usize = 16;

/// The least key behind all that begin with `prefix`; `None` if there is none.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

impl Store {
    /// Visits the entries whose keys lie between two bounds, in the order of their keys, at most `limit` of them. The answer is
    /// the last key visited if there may be more: go on from it with `Bound::Excluded` in place of the bound that was begun
    /// with. `NotOrdered` if the store was made without `ordered`.
    pub fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        direction: Direction,
        limit: usize,
        mut visit: impl FnMut(&[u8], &Entry),
    ) -> Result<Option<Vec<u8>>> {
        let core = self.core()?;
        if limit == 0 {
            return Ok(None);
        }
        let mut cursor = Cursor::new(direction, from, to);
        let (mut keys, mut value, mut left) = (Keys::default(), Vec::new(), limit);
        let mut shown = Entry { value: Vec::new(), version: Version(0), flags: 0, ttl_ms: None };
        let (mut last, mut scrubbed) = (None, 0);
        while core.table.next_keys(&mut cursor, &mut keys, None)? {
            let mut gone = Vec::new();
            core.table.read_many_heads(&keys, &mut value, |at, found| {
                match found {
                    Some((head, bytes)) => {
                        left -= 1;
                        shown.value.clear();
                        shown.value.extend_from_slice(bytes);
                        shown = entry(core, head, std::mem::take(&mut shown.value));
                        visit(keys.get(at), &shown);
                        last = Some(at);
                    }
                    None => gone.push(at),
                }
                Ok(left > 0)
            })?;
            for at in gone {
                if scrubbed < SCRUB && core.table.shm().writable() && !core.table.has_record(keys.get(at))? {
                    scrubbed += 1;
                    core.table.leave_tree(core.host.actor()?, keys.get(at))?;
                }
            }
            if left == 0 {
                return Ok(last.map(|at| keys.get(at).to_vec()));
            }
        }
        Ok(None)
    }

    /// As [`Store::range`], of the keys that begin with `prefix`.
    pub fn prefix(
        &self,
        prefix: &[u8],
        direction: Direction,
        limit: usize,
        visit: impl FnMut(&[u8], &Entry),
    ) -> Result<Option<Vec<u8>>> {
        let end = end_of_prefix(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.range(Bound::Included(prefix), to, direction, limit, visit)
    }

    /// The entries whose keys lie between two bounds, one by one. They are copied some at a time: each was there when its page was
    /// copied.
    pub fn iter_range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, direction: Direction) -> RangeIter {
        RangeIter {
            store: self.clone(),
            from: from.map(<[u8]>::to_vec),
            to: to.map(<[u8]>::to_vec),
            direction,
            page: VecDeque::new(),
            done: false,
        }
    }

    /// The entries whose keys begin with `prefix`, one by one.
    pub fn iter_prefix(&self, prefix: &[u8], direction: Direction) -> RangeIter {
        let end = end_of_prefix(prefix);
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.iter_range(Bound::Included(prefix), to, direction)
    }

    /// Whether the store keeps its keys in order.
    pub fn is_ordered(&self) -> Result<bool> {
        Ok(self.core()?.table.tree().is_some())
    }
}

/// Entries in the order of their keys; see [`Store::iter_range`]. Ends behind an error.
pub struct RangeIter {
    store: Store,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    direction: Direction,
    page: VecDeque<(Vec<u8>, Entry)>,
    done: bool,
}

fn slices(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

impl Iterator for RangeIter {
    type Item = Result<(Vec<u8>, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.done {
            let page = &mut self.page;
            let turned =
                self.store.range(slices(&self.from), slices(&self.to), self.direction, PAGE, |key, entry| {
                    page.push_back((key.to_vec(), entry.clone()));
                });
            match turned {
                Ok(Some(last)) => match self.direction {
                    Direction::Forward => self.from = Bound::Excluded(last),
                    Direction::Backward => self.to = Bound::Excluded(last),
                },
                Ok(None) => self.done = true,
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_of_its_keys() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
