//! Putting a key in, taking one out, and what all changes have in common: a record that one swap publishes.

use std::cell::Cell;

use super::layout::{ROOT, Ref, Word};
use super::load::{KEY_BYTES, Loaded, Step, others_were_faster};
use super::node::{Content, NODE_BYTES, Node};
use super::{Room, STEPS, TRIES, Tree, bad_node, leads_nowhere};
use crate::chunk::Actor;
use crate::chunk::record::{HEADER_BYTES, Head, record_bytes};
use crate::error::Result;
use crate::shm::atomic::{AtomicU64, Ordering};

/// A key that is in the tree, and the leaf that shows it.
#[derive(Clone, Copy, Debug)]
pub struct Entered {
    /// The id of the leaf.
    pub id: u32,
    /// Its mapping word: as long as it stands, the key is in the tree.
    pub word: Word,
}

/// A thread that changes a tree.
pub struct Writer<'a> {
    pub(super) tree: &'a Tree,
    pub(super) me: Actor<'a>,
    room: &'a dyn Room,
    /// Dead nodes that are being taken out because another is.
    pub(super) depth: Cell<u32>,
}

impl Tree {
    /// The calling thread as a writer. Whatever it, or the last holder of its entry, left undone is put in order first.
    pub fn writer<'a>(&'a self, me: Actor<'a>, room: &'a dyn Room) -> Result<Writer<'a>> {
        let writer = Writer { tree: self, me, room, depth: Cell::new(0) };
        writer.settle_intents()?;
        Ok(writer)
    }

    /// Changes the version of the leaf that shows a key, if it still shows it: whoever is about to take out the key, because
    /// he saw that nothing has it, fails.
    pub fn touch(&self, entered: Entered) -> Result<bool> {
        let Some(mapping) = self.mapping(entered.id)? else { return Ok(false) };
        kill_point!("tree.touch.before");
        // ORDER AcqRel [tree-map]: before the slot of the key is filled; pairs with the swap of whoever takes it out.
        let (seen, next) = (entered.word.0, entered.word.touch().0);
        let touched = mapping.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        kill_point!("tree.touch.after");
        Ok(touched)
    }
}

impl Writer<'_> {
    /// The mapping word of an id, which is made if there is none yet.
    pub(super) fn mapping(&self, id: u32) -> Result<&AtomicU64> {
        match self.tree.mapping(id)? {
            Some(word) => Ok(word),
            None => {
                self.make_mapping(u64::from(id) / self.tree.shape.words)?;
                self.tree.mapping(id)?.ok_or_else(leads_nowhere)
            }
        }
    }

    /// Appends a node and lets the mapping word of `to` name it, if that is still `seen`. `old` is the length of the node that
    /// it replaces, 0 for none. The answer is the new word.
    pub(super) fn publish(&self, to: Ref, seen: Word, old: usize, node: &[u8]) -> Result<Option<Word>> {
        let pool = &self.tree.pool;
        let mapping = self.mapping(to.id())?;
        let bytes = record_bytes(HEADER_BYTES, KEY_BYTES, node.len() as u64);
        let place = self.room.room(self.me, bytes)?;
        // ORDER Acquire [tree-map]: behind making room, which may have moved the node.
        if mapping.load(Ordering::Acquire) != seen.0 {
            return Ok(None);
        }
        let dead = match pool.geometry().chunk_of(seen.offset()) {
            Some(chunk) => Some((chunk, pool.dead_generation(chunk)?)),
            None => None,
        };
        let head = Head { value_len: node.len() as u32, key_len: KEY_BYTES as u32, ..Head::default() };
        let appended = pool.append(place, &head, None, &to.0.to_le_bytes(), node)?;
        kill_point!("tree.publish.before");
        // DIES BEFORE: a record that nothing points to. DIES AFTER: the node is changed; the old bytes are not counted dead.
        // ORDER AcqRel [tree-map]: releases the node to those who load the word.
        let next = seen.publish(appended.offset);
        if mapping.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            pool.give_up(&appended)?;
            return Ok(None);
        }
        kill_point!("tree.publish.after");
        if let Some((chunk, generation)) = dead {
            pool.add_dead(chunk, generation, record_bytes(HEADER_BYTES, KEY_BYTES, old as u64))?;
        }
        Ok(Some(next))
    }

    /// Replaces a node that was loaded.
    pub(super) fn replace(&self, loaded: &Loaded, node: &[u8]) -> Result<Option<Word>> {
        self.publish(loaded.reference(), loaded.word(), loaded.len, node)
    }

    /// As [`Writer::replace`], by content.
    pub(super) fn rebuild(&self, loaded: &Loaded, content: &Content) -> Result<Option<Word>> {
        let bytes = content.build(loaded.node.is_dead()).map_err(|_| bad_node(loaded.id))?;
        self.replace(loaded, &bytes)
    }

    /// The living node on `level` that has `key`, or would have it. False if the tree is not so high. Dead nodes on the way are
    /// taken out, and parents that do not know their children are told.
    pub(super) fn find(&self, key: &[u8], level: u8, found: &mut Loaded) -> Result<bool> {
        for _ in 0..TRIES {
            if let Some(there) = self.find_once(key, level, found)? {
                return Ok(there);
            }
        }
        Err(leads_nowhere())
    }

    fn find_once(&self, key: &[u8], level: u8, found: &mut Loaded) -> Result<Option<bool>> {
        let tree = self.tree;
        if let Step::Gone = tree.load(ROOT, None, found)? {
            self.plant()?;
            return Ok(None);
        }
        if found.node.level() < level {
            return Ok(Some(false));
        }
        // What a link led to without the parent's knowing.
        let mut untold = None;
        for _ in 0..STEPS {
            if found.node.is_dead() {
                self.take_out(found.reference())?;
                return Ok(None);
            }
            if found.node.low().is_some_and(|low| key < low) {
                return Ok(None);
            }
            let right = found.node.high().is_some_and(|high| high <= key);
            if !right && found.node.level() == level {
                break;
            }
            let wanted = found.node.level() - u8::from(!right);
            let to = match right {
                true => {
                    let begin = found.node.high().unwrap_or_default().to_vec();
                    untold = Some((begin, found.node.right(), found.node.level() + 1));
                    found.node.right()
                }
                false => {
                    let (at, same) = found.node.find(key).map_err(|_| bad_node(found.id))?;
                    let place = if same { at } else { at.saturating_sub(1) };
                    found.node.child(place).map_err(|_| bad_node(found.id))?
                }
            };
            let Step::Loaded = tree.follow(to, found)? else { return Ok(None) };
            if found.node.level() != wanted {
                return Err(bad_node(found.id));
            }
        }
        if let Some((begin, child, level)) = untold {
            // Only a shorter way for later searches: what keeps it from being told is for others to meet.
            self.tell(&begin, child, level)?;
        }
        Ok(Some(true))
    }

    /// Makes the root of an empty tree.
    fn plant(&self) -> Result<()> {
        // ORDER Acquire [tree-map]: as for readers.
        let seen = Word(self.mapping(ROOT)?.load(Ordering::Acquire));
        if seen.offset() == 0 {
            let bytes = Content::default().build(false).map_err(|_| bad_node(ROOT))?;
            // A failure means that somebody else has made it.
            self.publish(Ref::new(ROOT, seen.publish(0).version()), seen, 0, &bytes)?;
        }
        Ok(())
    }

    /// Puts a key into the tree, if it is not there.
    pub fn enter(&self, key: &[u8]) -> Result<Entered> {
        let mut leaf = Loaded::default();
        for _ in 0..TRIES {
            self.find(key, 0, &mut leaf)?;
            let (at, found) = leaf.node.find(key).map_err(|_| bad_node(leaf.id))?;
            if found {
                return Ok(Entered { id: leaf.id, word: leaf.word() });
            }
            // The place stays where it is if the node is packed.
            if !self.has_place(&mut leaf, key)? {
                continue;
            }
            let bytes = leaf.node.with_entry(at, key, None).map_err(|_| bad_node(leaf.id))?;
            if let Some(word) = self.replace(&leaf, &bytes)? {
                return Ok(Entered { id: leaf.id, word });
            }
        }
        Err(others_were_faster())
    }

    /// Whether one more key fits into a node. If not, the node is divided or made again without gaps, and must be looked for
    /// anew.
    pub(super) fn has_place(&self, node: &mut Loaded, key: &[u8]) -> Result<bool> {
        if node.node.bytes().len() + node.node.more(key) <= NODE_BYTES || node.node.count() < 2 {
            return Ok(true);
        }
        let bytes = node.content()?.build(node.node.is_dead()).map_err(|_| bad_node(node.id))?;
        let packed = Node::parse(bytes).map_err(|_| bad_node(node.id))?;
        if packed.bytes().len() + packed.more(key) <= NODE_BYTES {
            node.node = packed;
            return Ok(true);
        }
        self.divide(node, key)?;
        Ok(false)
    }

    /// Takes a key out of the tree, if `gone` still says so when it is asked behind the look at the leaf. Whether the key is
    /// out. Who puts the key in again changes the leaf, so that a swap which was prepared before fails.
    pub fn leave(&self, key: &[u8], mut gone: impl FnMut() -> Result<bool>) -> Result<bool> {
        let mut leaf = Loaded::default();
        for _ in 0..TRIES {
            self.find(key, 0, &mut leaf)?;
            let (at, found) = leaf.node.find(key).map_err(|_| bad_node(leaf.id))?;
            if !found {
                return Ok(true);
            }
            if !gone()? {
                return Ok(false);
            }
            let bytes = leaf.node.without_entry(at).map_err(|_| bad_node(leaf.id))?;
            kill_point!("tree.leave.before");
            if self.replace(&leaf, &bytes)?.is_some() {
                kill_point!("tree.leave.after");
                return Ok(true);
            }
        }
        Err(others_were_faster())
    }

    /// Merges the leaf where `key` was into the next one, if it holds little.
    pub fn tidy(&self, key: &[u8]) -> Result<()> {
        let mut leaf = Loaded::default();
        self.find(key, 0, &mut leaf)?;
        self.merge_if_small(&leaf)
    }
}
