//! Taking nodes out.
//!
//! A node X that holds little goes into the next one, R, of the same parent, in steps of one swap each. Whoever is about to do
//! so notes it among his intents; anyone may do any step, and all of them again.
//!
//! 1. X is made *dead*. Its keys stay readable, nobody changes them. Only a node without a pending one is made dead.
//! 2. The parent is looked at: if X is its last child, X is made alive again. Otherwise the version of the parent is changed, and
//!    X is made *dead for good*. Who divides a parent looks at the child in front of the cut behind his look at the parent, and
//!    cuts behind no dead one: so from here on X and R have the same parent.
//! 3. R takes over the keys and the low bound of X, and notes X as *pending*. If R is dead itself, it goes out first, which
//!    turns X to the node behind it; if R has another pending node, that one is finished first.
//! 4. In the parent one reference, to R under the low bound of X, takes the place of both.
//! 5. The left neighbour, alive or dead, is turned from X to R.
//! 6. The id of X is free, then R forgets the pending node. Before that R is neither divided nor made dead.
//!
//! **Why a reader finds every key.** Until step 3 the keys of X are those in X, and nobody adds one; from step 3 on they are in
//! R. A reader at a dead X looks at the node behind it: alive and beginning where X begins, it is R after step 3; otherwise X
//! counted at the moment of that look.
//!
//! **Why nothing refers to X when its id is freed.** Outside the steps above each node has one parent, which leads to it under
//! its low bound, or none yet. A reference comes to be only by copying one from a node in the same swap that expects this
//! node's word, or when a parent is told of a child. The left neighbour is the only node whose link is X: dead ones in front of X
//! that X took over are gone before X may be made dead (they were pending), and one that X was about to take over is the left
//! neighbour. Whoever tells a parent of X has looked at the parent before he saw X alive, thus before step 1; steps 2 and 4
//! change the parent later, so his swap fails or is undone by step 4.
//! Should a damaged fabric hold such a reference nevertheless, the birth in it is another, and a search ends in an error.

use super::layout::{Intent, ROOT, Ref};
use super::load::{Loaded, Probe, Step, others_were_faster, takes_over};
use super::node::NODE_BYTES;
use super::{TRIES, Writer, bad_node, leads_nowhere, node_bytes_max};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Dead nodes that are taken out because of one another, at most.
const DEPTH: u32 = 200;

fn is_small(node: &Loaded) -> bool {
    let last = usize::from(!node.node.is_leaf());
    node.id != ROOT && !node.node.is_dead() && (node.node.count() <= last || node.len < NODE_BYTES / 4)
}

/// Whether the node that follows has another parent.
fn is_last_child(parent: &Loaded, node: &Loaded) -> bool {
    parent.node.high().is_some_and(|end| node.node.high().is_none_or(|high| end <= high))
}

impl Writer<'_> {
    /// Merges a node into the next one, if it holds little and both fit; then its parent, which has become smaller.
    pub(super) fn merge_if_small(&self, node: &Loaded) -> Result<()> {
        let begin = node.node.low().unwrap_or_default().to_vec();
        let mut parent = Loaded::default();
        if !is_small(node) || !self.find(&begin, node.node.level() + 1, &mut parent)? {
            return Ok(());
        }
        if is_last_child(&parent, node) {
            // They come together when the parents are merged.
            self.merge_if_small(&parent)?;
            if !self.find(&begin, node.node.level() + 1, &mut parent)? {
                return Ok(());
            }
        }
        if (!is_last_child(&parent, node) && self.merge(node)?) || self.merge_left(node, &parent)? {
            self.merge_parent(&begin, node.node.level() + 1)?;
        }
        Ok(())
    }

    fn merge_parent(&self, begin: &[u8], level: u8) -> Result<()> {
        let mut parent = Loaded::default();
        if self.find(begin, level, &mut parent)? { self.merge_if_small(&parent) } else { Ok(()) }
    }

    /// Merges the node in front of a small one into it, if both have the same parent and fit. Whether it was done.
    fn merge_left(&self, node: &Loaded, parent: &Loaded) -> Result<bool> {
        let (Some(begin), mut left) = (node.node.low(), Loaded::default()) else { return Ok(false) };
        if parent.node.low().is_some_and(|low| begin <= low)
            || !self.tree.seek(Probe::Before(begin), node.node.level(), &mut left, &mut None)?
            || left.node.is_dead()
            || left.node.right() != node.reference()
        {
            return Ok(false);
        }
        self.merge(&left)
    }

    /// Merges a small node into the next one, if both fit. Whether it was done.
    fn merge(&self, node: &Loaded) -> Result<bool> {
        let mut right = Loaded::default();
        let Step::Loaded = self.tree.follow(node.node.right(), &mut right)? else { return Ok(false) };
        let (sum, most) = (node.len + right.len, node_bytes_max(self.tree.pool.geometry().chunk_bytes));
        let empty = node.node.count() <= usize::from(!node.node.is_leaf());
        let fits = sum <= NODE_BYTES / 4 * 3 || (empty && sum <= most / 2);
        if right.node.is_dead() || !fits {
            return Ok(false);
        }
        if !node.node.pending().is_none() {
            // The next time that a key goes.
            self.finish_pending(node)?;
            return Ok(false);
        }
        self.intend(Intent::Unlink, node.reference())?;
        let dead = self.replace(node, &node.node.dead())?.is_some();
        kill_point!("tree.merge.dead");
        if dead {
            self.take_out(node.reference())?;
        }
        self.intend(Intent::Unlink, Ref::NONE)?;
        Ok(dead)
    }

    /// Does whatever is left to do for a dead node.
    pub(super) fn take_out(&self, dead: Ref) -> Result<()> {
        if self.depth.get() >= DEPTH {
            return Err(others_were_faster());
        }
        self.depth.set(self.depth.get() + 1);
        let done = self.take_out_now(dead);
        self.depth.set(self.depth.get() - 1);
        done
    }

    fn take_out_now(&self, dead: Ref) -> Result<()> {
        let (mut node, mut right) = (Loaded::default(), Loaded::default());
        for _ in 0..TRIES {
            let Step::Loaded = self.tree.follow(dead, &mut node)? else { return Ok(()) };
            if !node.node.is_dead() {
                return Ok(());
            }
            // Turned meanwhile.
            let Step::Loaded = self.tree.follow(node.node.right(), &mut right)? else { continue };
            if right.node.level() != node.node.level() || right.id == node.id {
                return Err(bad_node(right.id));
            }
            if right.node.is_dead() {
                self.take_out(right.reference())?;
            } else if !node.node.is_dead_for_good() {
                self.decide(&node)?;
            } else if !takes_over(&right.node, &node.node) {
                self.take_over(&node, &right)?;
            } else if right.node.pending() == dead {
                self.turn_parent(&node, right.reference())?;
                self.turn_left(&node, right.reference())?;
                if self.free(&node)? {
                    self.finish_pending(&right)?;
                    return Ok(());
                }
            }
        }
        Err(leads_nowhere())
    }

    /// Lets the node behind a dead one take over what that holds.
    fn take_over(&self, dead: &Loaded, right: &Loaded) -> Result<()> {
        if !right.node.pending().is_none() {
            return self.finish_pending(right);
        }
        let (gone, there) = (dead.content()?, right.content()?);
        let (most, end) = (node_bytes_max(self.tree.pool.geometry().chunk_bytes), there.low.clone());
        let mut both = gone.merge(there);
        both.pending = dead.reference();
        let bytes = both.build(false).map_err(|_| bad_node(right.id))?;
        if bytes.len() > most {
            // It has grown since.
            return self.divide(right, end.as_deref().unwrap_or_default());
        }
        self.replace(right, &bytes)?;
        kill_point!("tree.merge.taken_over");
        Ok(())
    }

    /// Lets a node forget its pending one, which is finished first if it is still there.
    pub(super) fn finish_pending(&self, node: &Loaded) -> Result<()> {
        let mut now = Loaded::default();
        for _ in 0..TRIES {
            let Step::Loaded = self.tree.follow(node.reference(), &mut now)? else { return Ok(()) };
            let pending = now.node.pending();
            if pending.is_none() {
                return Ok(());
            }
            let mut there = Loaded::default();
            if let Step::Loaded = self.tree.follow(pending, &mut there)? {
                self.take_out(pending)?;
            } else if self.replace(&now, &now.node.with_pending(Ref::NONE))?.is_some() {
                return Ok(());
            }
        }
        Err(others_were_faster())
    }

    /// Makes a dead node dead for good, or alive again if the next one has another parent.
    fn decide(&self, node: &Loaded) -> Result<()> {
        let begin = node.node.low().unwrap_or_default();
        let mut parent = Loaded::default();
        let there = self.find(begin, node.node.level() + 1, &mut parent)?;
        if !there || is_last_child(&parent, node) {
            self.replace(node, &node.node.alive())?;
            return Ok(());
        }
        if self.fence(&parent)? {
            kill_point!("tree.merge.fenced");
            self.replace(node, &node.node.dead_for_good())?;
            kill_point!("tree.merge.for_good");
        }
        Ok(())
    }

    /// Turns the parent of a dead node to the one that took over.
    fn turn_parent(&self, dead: &Loaded, to: Ref) -> Result<()> {
        let (level, old) = (dead.node.level() + 1, dead.reference());
        let begin = dead.node.low().unwrap_or_default();
        let mut parent = Loaded::default();
        for _ in 0..TRIES {
            if !self.find(begin, level, &mut parent)? {
                return Ok(());
            }
            let mut content = parent.content()?;
            let turned = if content.replace_child(old, to) {
                self.rebuild(&parent, &content)?.is_some()
            } else {
                self.fence(&parent)?
            };
            kill_point!("tree.merge.parent");
            if turned {
                return Ok(());
            }
        }
        Err(others_were_faster())
    }

    /// Changes the version of a node, so that what was prepared before fails.
    fn fence(&self, node: &Loaded) -> Result<bool> {
        // ORDER AcqRel [tree-map]: behind the death of the child; whoever read the node before fails.
        let (seen, next) = (node.word, node.word().touch().0);
        Ok(self.mapping(node.id)?.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// Turns the left neighbour of a dead node to the one that took over.
    fn turn_left(&self, dead: &Loaded, to: Ref) -> Result<()> {
        let Some(begin) = dead.node.low() else { return Ok(()) };
        let mut left = Loaded::default();
        for _ in 0..TRIES {
            let there = self.tree.seek(Probe::Before(begin), dead.node.level(), &mut left, &mut None)?;
            if !there || left.node.right() != dead.reference() {
                return Ok(());
            }
            if self.replace(&left, &left.node.with_right(to))?.is_some() {
                kill_point!("tree.merge.left");
                return Ok(());
            }
        }
        Err(others_were_faster())
    }
}
