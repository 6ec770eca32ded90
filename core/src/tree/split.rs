//! Ids and their mapping words, dividing nodes, telling parents.
//!
//! An id is taken into use by the very swap that lets its free mapping word name a node: there is no id that somebody holds
//! and nothing names. Between this and the swap that links the node to the tree its maker may die; so he first notes the
//! reference among his intents, and whoever takes over from him, or gets his entry, looks whether it was linked.

use super::layout::{HIGH, Intent, ROOT, Ref, Word};
use super::load::{Loaded, Step, others_were_faster};
use super::node::{Content, separator};
use super::{TRIES, Writer, bad_node, leads_nowhere};
use crate::chunk::record::{HEADER_BYTES, record_bytes};
use crate::chunk::{Class, Need};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::Ordering;

/// Mapping words that are looked at for a free id before a fresh one is taken: of many free ones, many are found.
const LOOKS: u64 = 64;
/// Free ids that a process remembers at most.
const SPARE: usize = 1024;

#[cold]
fn no_ids() -> Error {
    Error::new(ErrorCode::Full, "The ordered index has no more ids for nodes.")
}

impl Writer<'_> {
    /// Makes a chunk of mapping words.
    #[cold]
    pub(super) fn make_mapping(&self, chunk: u64) -> Result<()> {
        let (tree, pool) = (self.tree, &self.tree.pool);
        if chunk >= tree.shape.chunks {
            return Err(no_ids());
        }
        let fresh = pool.allocate(self.me, Class::Control, tree.object, Need::Growth)?;
        pool.span(fresh)?.zero(0, pool.geometry().chunk_bytes)?;
        let named = u64::from(fresh.0) | u64::from(pool.state(fresh)?.generation()) << 32;
        kill_point!("tree.map.before");
        // DIES BEFORE: an open chunk that nothing names goes back. DIES AFTER: whoever takes over finds it named and settles it.
        // ORDER AcqRel [tree-directory]: the zeros come before.
        let word = tree.directory_word(chunk)?;
        if word.compare_exchange(0, named, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            kill_point!("tree.map.named");
            pool.settle(self.me, fresh)
        } else {
            pool.release(self.me, fresh)
        }
    }

    /// Notes what is about to be linked or unlinked, or that it was.
    pub(super) fn intend(&self, which: Intent, to: Ref) -> Result<()> {
        // ORDER Release [tree-intent]: a cleared intent comes behind what it was about; pairs with whoever takes over.
        self.tree.intent(self.me.index, which)?.store(to.0, Ordering::Release);
        kill_point!("tree.intent.noted");
        Ok(())
    }

    /// An id that is free, as far as known.
    fn free_id(&self) -> Result<u32> {
        let tree = self.tree;
        let mut spare = tree.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(id) = spare.ids.pop() {
            return Ok(id);
        }
        // ORDER Relaxed: a mark that only grows; the swap of the mapping word decides.
        let high = tree.high()?.load(Ordering::Relaxed).max(u64::from(ROOT) + 1);
        for _ in 0..if high > LOOKS { LOOKS } else { 0 } {
            spare.cursor = if spare.cursor + 1 < high { spare.cursor + 1 } else { u64::from(ROOT) + 1 };
            if tree.word(spare.cursor as u32)?.offset() == 0 {
                return Ok(spare.cursor as u32);
            }
        }
        if high >= tree.shape.ids() {
            // Whatever is free is found now.
            let mut free = None;
            for id in u64::from(ROOT) + 1..tree.shape.ids() {
                if tree.word(id as u32)?.offset() == 0 {
                    free = Some(id as u32);
                    break;
                }
            }
            return free.ok_or_else(no_ids);
        }
        Ok(high as u32)
    }

    /// Lets a fresh id name a node that nothing refers to yet.
    fn install(&self, content: &Content) -> Result<Loaded> {
        let bytes = content.build(false).map_err(|_| leads_nowhere())?;
        for _ in 0..TRIES {
            let id = self.free_id()?;
            // ORDER Acquire [tree-map]: whoever freed the id was ready with it.
            let seen = Word(self.mapping(id)?.load(Ordering::Acquire));
            if seen.offset() == 0 {
                let to = Ref::new(id, seen.publish(0).version());
                self.intend(Intent::Link, to)?;
                if let Some(word) = self.publish(to, seen, 0, &bytes)? {
                    kill_point!("tree.divide.installed");
                    // ORDER Relaxed: as in `free_id`.
                    self.tree.area_word(HIGH as u64)?.fetch_max(u64::from(id) + 1, Ordering::Relaxed);
                    return Ok(Loaded {
                        id,
                        birth: to.birth(),
                        word: word.0,
                        len: bytes.len(),
                        ..Loaded::default()
                    });
                }
            }
            // ORDER Relaxed: as in `free_id`.
            self.tree.area_word(HIGH as u64)?.fetch_max(u64::from(id) + 1, Ordering::Relaxed);
        }
        Err(others_were_faster())
    }

    /// Frees an id whose node nothing refers to, if it is still that node. Whether it was.
    pub(super) fn free(&self, node: &Loaded) -> Result<bool> {
        let freed = self.tree.free_node(node)?;
        if freed {
            let mut spare = self.tree.spare.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if spare.ids.len() < SPARE {
                spare.ids.push(node.id);
            }
        }
        Ok(freed)
    }

    /// Divides a node that is full, so that there is room for `key`.
    pub(super) fn divide(&self, node: &Loaded, key: &[u8]) -> Result<()> {
        if node.id == ROOT {
            return self.grow(node);
        }
        if !node.node.pending().is_none() {
            // Parents may still lead to it under two keys.
            return self.finish_pending(node);
        }
        let content = node.content()?;
        let (count, level) = (content.keys.len(), content.level);
        let behind = content.high.is_none() && content.keys.last().is_some_and(|last| last.as_slice() < key);
        // Whoever appends finds full nodes behind him.
        let at = match (behind, level) {
            (true, 0) => count,
            (true, _) => count - 1,
            (false, _) => count / 2,
        };
        let begin = match (level, content.keys.get(at)) {
            (0, Some(first)) => separator(&content.keys[at - 1], first),
            (0, None) => separator(&content.keys[at - 1], key),
            (_, Some(first)) => first.clone(),
            (_, None) => return Err(bad_node(node.id)),
        };
        // A child that goes into the next one shares its parent with that. Who makes it dead changes the parent behind that, so
        // a swap that was prepared before fails.
        if let Some(last) = content.refs.get(at.wrapping_sub(1)) {
            let mut below = Loaded::default();
            let Step::Loaded = self.tree.follow(*last, &mut below)? else { return Ok(()) };
            if below.node.is_dead() {
                return self.take_out(*last);
            }
        }
        let (mut left, right) = content.divide(at, begin.clone());
        let fresh = self.install(&right)?;
        left.right = fresh.reference();
        let linked = self.rebuild(node, &left)?.is_some();
        // DIES BEFORE: nothing refers to the right half. DIES AFTER: searches find it by the link.
        kill_point!("tree.divide.linked");
        if !linked {
            self.free(&fresh)?;
        }
        self.intend(Intent::Link, Ref::NONE)?;
        if linked {
            self.tell(&begin, fresh.reference(), level + 1)?;
        }
        Ok(())
    }

    /// Puts a level above the root: what it held goes to a node below it.
    fn grow(&self, root: &Loaded) -> Result<()> {
        let content = root.content()?;
        let level = content.level + 1;
        let fresh = self.install(&content)?;
        let above =
            Content { level, keys: vec![Vec::new()], refs: vec![fresh.reference()], ..Content::default() };
        let linked = self.rebuild(root, &above)?.is_some();
        kill_point!("tree.grow.linked");
        if !linked {
            self.free(&fresh)?;
        }
        self.intend(Intent::Link, Ref::NONE)
    }

    /// Lets the nodes of `level` know of a child that begins at `begin`.
    pub(super) fn tell(&self, begin: &[u8], child: Ref, level: u8) -> Result<()> {
        let (mut parent, mut below) = (Loaded::default(), Loaded::default());
        for _ in 0..TRIES {
            if !self.find(begin, level, &mut parent)? {
                return Ok(());
            }
            let (at, known) = parent.node.find(begin).map_err(|_| bad_node(parent.id))?;
            if known || parent.node.low() == Some(begin) {
                return Ok(());
            }
            // Behind the look at the parent: who takes the child out changes all its parents after making it dead, so a swap
            // that could bring back a reference to it fails.
            let Step::Loaded = self.tree.follow(child, &mut below)? else { return Ok(()) };
            if below.node.is_dead() || below.node.low() != Some(begin) {
                return Ok(());
            }
            if !self.has_place(&mut parent, begin)? {
                continue;
            }
            let bytes = parent.node.with_entry(at, begin, Some(child)).map_err(|_| bad_node(parent.id))?;
            if self.replace(&parent, &bytes)?.is_some() {
                kill_point!("tree.tell.after");
                return Ok(());
            }
        }
        Err(others_were_faster())
    }
}

impl super::Tree {
    /// Frees the id of a node that nothing refers to, if it is still that node.
    pub(super) fn free_node(&self, node: &Loaded) -> Result<bool> {
        let (Some(mapping), pool) = (self.mapping(node.id)?, &self.pool) else { return Ok(false) };
        let dead = match pool.geometry().chunk_of(node.word().offset()) {
            Some(chunk) => (chunk, pool.dead_generation(chunk)?),
            None => return Err(bad_node(node.id)),
        };
        kill_point!("tree.free.before");
        // ORDER AcqRel [tree-map]: all references were turned before.
        let (seen, next) = (node.word, node.word().free().0);
        if mapping.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Ok(false);
        }
        kill_point!("tree.free.after");
        let bytes = record_bytes(HEADER_BYTES, super::load::KEY_BYTES, node.len as u64);
        pool.add_dead(dead.0, dead.1, bytes)?;
        Ok(true)
    }
}
