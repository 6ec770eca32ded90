//! Copying nodes, and walking down to one. Nothing is locked and nothing is written.
//!
//! A node is copied, then its mapping word is looked at again: if it is the same, the record was not reused in between, and
//! the node was what the id named at the moment of the second look.

use super::layout::{ROOT, Ref, Word};
use super::node::{Content, Node};
use super::{STEPS, TRIES, Tree, bad_node, leads_nowhere, node_bytes_max};
use crate::chunk::record::{self, HEADER_BYTES};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{Ordering, fence};

/// Bytes of the key of a node's record: its reference.
pub(super) const KEY_BYTES: u64 = 8;

/// A node with what proves that it is the current one of its id.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub id: u32,
    pub birth: u32,
    pub word: u64,
    /// Bytes of the node as it stands in its record.
    pub len: usize,
    pub node: Node,
}

impl Loaded {
    pub fn reference(&self) -> Ref {
        Ref::new(self.id, self.birth)
    }

    pub fn word(&self) -> Word {
        Word(self.word)
    }

    /// All that the node is made of.
    pub fn content(&self) -> Result<Content> {
        self.node.content().map_err(|_| bad_node(self.id))
    }
}

/// What a search looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe<'k> {
    /// Where the level begins.
    First,
    /// The node that has this key, or would have it.
    At(&'k [u8]),
    /// The node that has the greatest keys below this one.
    Before(&'k [u8]),
    /// Where the level ends.
    Last,
}

impl Probe<'_> {
    /// Whether what is looked for lies behind the end of the node.
    fn is_right_of(&self, node: &Node) -> bool {
        match (self, node.high()) {
            (_, None) | (Probe::First, _) => false,
            (Probe::At(key), Some(high)) => high <= *key,
            (Probe::Before(key), Some(high)) => high < *key,
            (Probe::Last, Some(_)) => true,
        }
    }

    /// Whether it lies in front of the node.
    fn is_left_of(&self, node: &Node) -> bool {
        match (self, node.low()) {
            (_, None) | (Probe::Last, _) => false,
            (Probe::First, Some(_)) => true,
            (Probe::At(key), Some(low)) => *key < low,
            (Probe::Before(key), Some(low)) => *key <= low,
        }
    }

    /// The place of the child of an inner node that leads to it.
    fn place(&self, node: &Node) -> std::result::Result<usize, super::node::Damaged> {
        Ok(match self {
            Probe::First => 0,
            Probe::At(key) => {
                let (at, found) = node.find(key)?;
                if found { at } else { at - 1 }
            }
            Probe::Before(key) => node.find(key)?.0 - 1,
            Probe::Last => node.count() - 1,
        })
    }
}

/// A leaf as a scan saw it, or the leaf and the one that is about to take over its keys.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    pub(super) loaded: Loaded,
    /// Ids with the words that they had: as long as these stand, no key has come into the bounds of the leaf.
    pub words: Vec<(u32, u64)>,
}

impl Leaf {
    /// The least key that may be here; `None` where the keys begin.
    pub fn low(&self) -> Option<&[u8]> {
        self.loaded.node.low()
    }

    /// The least key that is not here but in a later leaf; `None` where the keys end.
    pub fn high(&self) -> Option<&[u8]> {
        self.loaded.node.high()
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.loaded.node.count()
    }

    /// The place of the first key that is not less than `key`, and whether it is `key`.
    pub fn find(&self, key: &[u8]) -> Result<(usize, bool)> {
        self.loaded.node.find(key).map_err(|_| bad_node(self.loaded.id))
    }

    /// Appends the key at a place.
    pub fn key_into(&self, at: usize, into: &mut Vec<u8>) -> Result<()> {
        self.loaded.node.key_into(at, into).map_err(|_| bad_node(self.loaded.id))
    }
}

/// What became of a step of a search.
pub(super) enum Step {
    /// It is in `into`.
    Loaded,
    /// The id is free or was used anew.
    Gone,
}

impl Tree {
    /// Copies the node of an id; with `birth` only of that use of the id.
    #[inline]
    pub(super) fn load(&self, id: u32, birth: Option<u32>, into: &mut Loaded) -> Result<Step> {
        let Some(mapping) = self.mapping(id)? else { return Ok(Step::Gone) };
        let shm = self.pool.shm();
        for _ in 0..TRIES {
            // ORDER Acquire [tree-map]: the record that the word names is whole.
            let word = Word(mapping.load(Ordering::Acquire));
            if word.offset() == 0 {
                return Ok(Step::Gone);
            }
            let mut bytes = std::mem::take(&mut into.node).into_bytes();
            let copied = (|| {
                let head = record::head_at(shm, word.offset())?;
                let len = head.value_len as usize;
                if u64::from(head.key_len) != KEY_BYTES
                    || len > node_bytes_max(self.pool.geometry().chunk_bytes)
                {
                    return Err(bad_node(id));
                }
                let span = shm.span(word.offset(), HEADER_BYTES + KEY_BYTES + len as u64)?;
                // ORDER Relaxed: proved by the second look at the word.
                let named = Ref(span.u64(HEADER_BYTES)?.load(Ordering::Relaxed));
                bytes.resize(len, 0);
                span.copy_out(HEADER_BYTES + KEY_BYTES, &mut bytes)?;
                Ok((head.id, named))
            })();
            // ORDER Acquire [chunk-reuse]: if any byte was of a later use of the chunk, the word is seen to have changed.
            fence(Ordering::Acquire);
            // ORDER Relaxed: ordered by the fence.
            if mapping.load(Ordering::Relaxed) != word.0 {
                continue;
            }
            let (record_id, named) = copied?;
            // ORDER Relaxed: ordered by the fence.
            if record::head_at(shm, word.offset())?.id != record_id {
                continue;
            }
            if named.id() != id {
                return Err(bad_node(id));
            }
            into.node = Node::parse(bytes).map_err(|_| bad_node(id))?;
            (into.id, into.birth, into.word) = (id, named.birth(), word.0);
            into.len = into.node.bytes().len();
            let same = birth.is_none_or(|birth| birth == named.birth());
            return Ok(if same { Step::Loaded } else { Step::Gone });
        }
        Err(others_were_faster())
    }

    /// Copies the node that a reference names.
    pub(super) fn follow(&self, to: Ref, into: &mut Loaded) -> Result<Step> {
        if to.is_none() { Ok(Step::Gone) } else { self.load(to.id(), Some(to.birth()), into) }
    }

    /// The node on `level` that has what `probe` looks for, as a reader sees it: a dead node counts as long as no other has
    /// taken over its keys, and then `taker` is the one that will. False for an empty tree, or one that is not so high.
    pub(super) fn seek(
        &self,
        probe: Probe<'_>,
        level: u8,
        found: &mut Loaded,
        taker: &mut Option<(u32, u64)>,
    ) -> Result<bool> {
        for _ in 0..TRIES {
            match self.seek_once(probe, level, found, taker)? {
                Some(there) => return Ok(there),
                None => crate::shm::atomic::spin_hint(),
            }
        }
        Err(leads_nowhere())
    }

    fn seek_once(
        &self,
        probe: Probe<'_>,
        level: u8,
        found: &mut Loaded,
        taker: &mut Option<(u32, u64)>,
    ) -> Result<Option<bool>> {
        if let Step::Gone = self.load(ROOT, None, found)? {
            return Ok(Some(false));
        }
        if found.node.level() < level {
            return Ok(Some(false));
        }
        let mut next = Loaded::default();
        for _ in 0..STEPS {
            *taker = None;
            if found.node.is_dead() {
                let Step::Loaded = self.follow(found.node.right(), &mut next)? else { return Ok(None) };
                if next.node.level() != found.node.level() {
                    return Err(bad_node(next.id));
                }
                if !next.node.is_dead() && takes_over(&next.node, &found.node) {
                    std::mem::swap(found, &mut next);
                    continue;
                }
                *taker = Some((next.id, next.word));
            }
            if probe.is_left_of(&found.node) {
                return Ok(None);
            }
            let right = probe.is_right_of(&found.node);
            if !right && found.node.level() == level {
                return Ok(Some(true));
            }
            let to = match right {
                true => found.node.right(),
                false => {
                    let place = probe.place(&found.node).map_err(|_| bad_node(found.id))?;
                    found.node.child(place).map_err(|_| bad_node(found.id))?
                }
            };
            let wanted = found.node.level() - u8::from(!right);
            let Step::Loaded = self.follow(to, found)? else { return Ok(None) };
            if found.node.level() != wanted {
                return Err(bad_node(found.id));
            }
        }
        Err(leads_nowhere())
    }

    /// The leaf that has what `probe` looks for. False for an empty tree.
    pub fn leaf(&self, probe: Probe<'_>, leaf: &mut Leaf) -> Result<bool> {
        leaf.words.clear();
        let mut taker = None;
        let there = self.seek(probe, 0, &mut leaf.loaded, &mut taker)?;
        if there {
            leaf.words.push((leaf.loaded.id, leaf.loaded.word));
            leaf.words.extend(taker);
        } else {
            // An empty tree: the root that comes first changes this word.
            leaf.words.push((ROOT, Word::VIRGIN.0));
        }
        Ok(there)
    }

    /// The living leaf that shows a key; `None` if the key is not there, or the leaf is being merged.
    pub fn shows(&self, key: &[u8]) -> Result<Option<super::Entered>> {
        let mut leaf = Leaf::default();
        let there = self.leaf(Probe::At(key), &mut leaf)? && !leaf.loaded.node.is_dead() && leaf.find(key)?.1;
        Ok(there.then(|| super::Entered { id: leaf.loaded.id, word: leaf.loaded.word() }))
    }

    /// Whether the key is in the tree.
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        let mut leaf = Leaf::default();
        Ok(self.leaf(Probe::At(key), &mut leaf)? && leaf.find(key)?.1)
    }
}

/// Whether a node has taken over the keys of the dead one in front of it: then it begins where that began.
pub(super) fn takes_over(node: &Node, dead: &Node) -> bool {
    match (node.low(), dead.low()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(low), Some(begin)) => low <= begin,
    }
}

#[cold]
pub(super) fn others_were_faster() -> Error {
    Error::new(ErrorCode::Busy, "Searching the ordered index: others changed it each time it was tried.")
}
