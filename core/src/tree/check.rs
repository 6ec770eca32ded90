//! Every invariant of a tree, as code.

use std::collections::HashSet;

use super::layout::{ROOT, Ref};
use super::load::{Loaded, Step};
use super::node::Content;
use super::{STEPS, Tree};
use crate::error::Result;
use crate::shm::atomic::Ordering;

/// Figures of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeStats {
    /// Nodes that searches can reach, dead ones included.
    pub nodes: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Keys in the leaves.
    pub keys: u64,
    /// Levels.
    pub levels: u32,
    /// Ids that were used so far.
    pub ids: u64,
}

impl Tree {
    /// Verifies the tree: each level is one chain of nodes that follow each other without gap, keys are in order and in the
    /// bounds of their node, children are where their parents say. Calls `report(place, what)` for each breach; with `live`,
    /// what changed meanwhile is not reported.
    pub fn check(&self, live: bool, report: &mut dyn FnMut(String, String)) -> Result<TreeStats> {
        // ORDER Relaxed: a mark that only grows.
        let ids = self.high()?.load(Ordering::Relaxed);
        let mut stats = TreeStats { ids, ..TreeStats::default() };
        let mut first = Loaded::default();
        if let Step::Gone = self.load(ROOT, None, &mut first)? {
            return Ok(stats);
        }
        stats.levels = u32::from(first.node.level()) + 1;
        let mut reached = HashSet::from([ROOT]);
        loop {
            let content = first.content()?;
            let below = content.refs.first().copied();
            self.check_level(&first, content, live, &mut reached, &mut stats, report)?;
            let Some(below) = below else { break };
            let level = first.node.level();
            match self.follow(below, &mut first)? {
                Step::Loaded if first.node.level() + 1 == level => {}
                // Merged away since: the next check sees it.
                _ if live => return Ok(stats),
                _ => {
                    report(place(below.id()), format!("level {level} begins with it, and it is not there"));
                    return Ok(stats);
                }
            }
        }
        if !live {
            self.check_orphans(&reached, report)?;
        }
        Ok(stats)
    }

    fn check_level(
        &self,
        first: &Loaded,
        content: Content,
        live: bool,
        reached: &mut HashSet<u32>,
        stats: &mut TreeStats,
        report: &mut dyn FnMut(String, String),
    ) -> Result<()> {
        let (mut node, mut content) = (first.clone(), content);
        if content.low.is_some() {
            self.tell_if_stands(&node, live, "the level begins with it, but it has a low bound", report)?;
        }
        for _ in 0..STEPS * 100 {
            reached.insert(node.id);
            stats.nodes += 1;
            stats.bytes += node.len as u64;
            if content.level == 0 && !node.node.is_dead() {
                stats.keys += content.keys.len() as u64;
            }
            self.check_node(&node, &content, live, report)?;
            if content.right.is_none() {
                if content.high.is_some() {
                    self.tell_if_stands(&node, live, "it has a high bound, but no node follows", report)?;
                }
                return Ok(());
            }
            let mut next = Loaded::default();
            let Step::Loaded = self.follow(content.right, &mut next)? else {
                self.tell_if_stands(&node, live, "the node that follows is not there", report)?;
                return Ok(());
            };
            let behind = next.content()?;
            // A dead node is followed by the one that takes over its keys, or has done so.
            let taken = node.node.is_dead() && behind.low <= content.low;
            if behind.level != content.level || (behind.low != content.high && !taken) {
                self.tell_if_stands(&node, live, "the next node does not begin where it ends", report)?;
            }
            (node, content) = (next, behind);
        }
        report(place(first.id), "the chain of its level has no end".to_owned());
        Ok(())
    }

    fn check_node(
        &self,
        node: &Loaded,
        content: &Content,
        live: bool,
        report: &mut dyn FnMut(String, String),
    ) -> Result<()> {
        let first = usize::from(content.level != 0);
        let keys = content.keys.get(first..).unwrap_or_default();
        if keys.windows(2).any(|pair| pair[0] >= pair[1]) {
            report(place(node.id), "its keys are not in order".to_owned());
        }
        let outside = |key: &Vec<u8>| {
            content.low.as_ref().is_some_and(|low| key < low)
                || content.high.as_ref().is_some_and(|high| key >= high)
        };
        if keys.iter().any(outside) {
            report(place(node.id), "a key is outside its bounds".to_owned());
        }
        for (at, child) in content.refs.iter().enumerate() {
            let begin = if at == 0 { content.low.as_ref() } else { content.keys.get(at) };
            let problem = self.check_child(*child, content.level, begin)?;
            if let Some(what) = problem {
                self.tell_if_stands(node, live, &what, report)?;
            }
        }
        Ok(())
    }

    fn check_child(&self, child: Ref, level: u8, begin: Option<&Vec<u8>>) -> Result<Option<String>> {
        let mut below = Loaded::default();
        Ok(match self.follow(child, &mut below)? {
            Step::Gone => Some(format!("its child {child:?} is not there")),
            Step::Loaded if below.node.level() + 1 != level => {
                Some(format!("its child {child:?} is of level {}", below.node.level()))
            }
            Step::Loaded if below.node.low() > begin.map(Vec::as_slice) => {
                Some(format!("its child {child:?} begins behind the key that leads to it"))
            }
            Step::Loaded => None,
        })
    }

    /// Reports what was seen of a node, unless it changed meanwhile.
    fn tell_if_stands(
        &self,
        node: &Loaded,
        live: bool,
        what: &str,
        report: &mut dyn FnMut(String, String),
    ) -> Result<()> {
        if !live || self.word(node.id)?.0 == node.word {
            report(place(node.id), what.to_owned());
        }
        Ok(())
    }

    /// Ids in use that no search reaches: nodes that their makers did not live to link, and nobody took over.
    fn check_orphans(&self, reached: &HashSet<u32>, report: &mut dyn FnMut(String, String)) -> Result<()> {
        // ORDER Relaxed: nobody else is at work.
        let high = self.high()?.load(Ordering::Relaxed).min(self.shape.ids());
        let mut node = Loaded::default();
        for id in (ROOT + 1..high as u32).filter(|id| !reached.contains(id)) {
            if let Step::Loaded = self.load(id, None, &mut node)?
                && !node.node.is_dead()
                && !self.is_intended(node.reference())?
            {
                report(place(id), "nothing leads to it".to_owned());
            }
        }
        Ok(())
    }

    fn is_intended(&self, node: Ref) -> Result<bool> {
        for thread in 0..self.shape.threads {
            // ORDER Acquire [tree-intent]: as for whoever takes over.
            if self.intent(thread as u16, super::layout::Intent::Link)?.load(Ordering::Acquire) == node.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn place(id: u32) -> String {
    format!("index node {id}")
}
