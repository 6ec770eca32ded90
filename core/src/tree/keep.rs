//! Moving nodes out of chunks of mostly dead ones, and what becomes of what the dead were about.

use super::layout::{Intent, Ref, Word};
use super::load::{KEY_BYTES, Loaded, Probe, Step};
use super::{Tree, Writer, bad_node};
use crate::chunk::record::{self, HEADER_BYTES};
use crate::chunk::{Actor, Class, Need, Walked};
use crate::error::{ErrorCode, Result};
use crate::shm::atomic::Ordering;

impl Tree {
    /// The id that the record of a node names.
    fn id_of(&self, offset: u64) -> Result<u32> {
        let key = self.pool.shm().block::<8>(offset + HEADER_BYTES)?;
        // ORDER Relaxed: proved by the mapping word.
        Ok(Ref(key.u64::<0>().load(Ordering::Relaxed)).id())
    }

    /// Moves a node out of a chunk that the caller has taken, if its record is the current one. False if there is no room.
    pub fn move_node(&self, me: Actor<'_>, walked: &Walked) -> Result<bool> {
        let id = self.id_of(walked.offset)?;
        let pool = &self.pool;
        for _ in 0..super::TRIES {
            let Some(mapping) = self.mapping(id)? else { return Ok(true) };
            // ORDER Acquire [tree-map]: as for readers.
            let word = Word(mapping.load(Ordering::Acquire));
            if word.offset() != walked.offset {
                return Ok(true);
            }
            let place = match pool.room(me, Class::Node, self.object, walked.bytes)? {
                Some(place) => place,
                None => match pool.next_chunk(me, Class::Node, self.object, Need::Clean) {
                    Ok(()) => continue,
                    Err(error) if error.code() == ErrorCode::Full => return Ok(false),
                    Err(error) => return Err(error),
                },
            };
            let chunk = pool.geometry().chunk_of(walked.offset).ok_or_else(|| bad_node(id))?;
            let generation = pool.dead_generation(chunk)?;
            // Behind the load of the word, which the swap expects: what is read now is what the word names.
            if u64::from(walked.head.key_len) != KEY_BYTES
                || record::head_at(pool.shm(), walked.offset)? != walked.head
            {
                return Ok(true);
            }
            let appended = pool.append_copy(place, walked.offset, HEADER_BYTES, &walked.head)?;
            // DIES BEFORE: a copy that nothing points to. DIES AFTER: the node is moved.
            // ORDER AcqRel [tree-map]: as every publication.
            let next = word.publish(appended.offset);
            if mapping.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                pool.add_dead(chunk, generation, walked.bytes)?;
                return Ok(true);
            }
            pool.give_up(&appended)?;
        }
        Ok(true)
    }

    /// Whether a living node can be found by searches: one that was not linked is not.
    fn is_linked(&self, node: &Loaded) -> Result<bool> {
        let probe = match node.node.low() {
            Some(low) => Probe::At(low),
            None => Probe::First,
        };
        let mut found = Loaded::default();
        Ok(self.seek(probe, node.node.level(), &mut found, &mut None)? && found.id == node.id)
    }

    /// A thread died: a node that it made and did not link is freed. What it began to take out is for the next one to finish who
    /// meets it. Repeating it is harmless.
    pub fn inherit(&self, thread: u16) -> Result<()> {
        let word = self.intent(thread, Intent::Link)?;
        // ORDER Acquire [tree-intent]: what the dead did before is seen.
        let intended = Ref(word.load(Ordering::Acquire));
        if intended.is_none() {
            return Ok(());
        }
        let mut node = Loaded::default();
        if let Step::Loaded = self.follow(intended, &mut node)?
            && !node.node.is_dead()
            && !self.is_linked(&node)?
        {
            self.free_node(&node)?;
        }
        // ORDER AcqRel [tree-intent]: behind what it was about.
        let _ = word.compare_exchange(intended.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }
}

impl Writer<'_> {
    /// Puts in order what an earlier call, or the last holder of the entry, left undone.
    pub(super) fn settle_intents(&self) -> Result<()> {
        let (tree, thread) = (self.tree, self.me.index);
        // ORDER Acquire [tree-intent]: what the last holder did before is seen.
        if tree.intent(thread, Intent::Link)?.load(Ordering::Acquire) != 0 {
            tree.inherit(thread)?;
        }
        let unlink = tree.intent(thread, Intent::Unlink)?;
        let intended = Ref(unlink.load(Ordering::Acquire));
        if !intended.is_none() {
            self.take_out(intended)?;
            // ORDER Release [tree-intent]: behind what it was about.
            unlink.store(0, Ordering::Release);
        }
        Ok(())
    }
}
