//! Blocks: who appends to which, taking one that is free or holds nothing that is kept, closing, and what the dead leave.
//!
//! A block that a publisher holds is its own, also while it is stopped, so nothing that it stores late meets anybody else's
//! bytes. There are more blocks than publishers may hold, so there is always one that goes round. A block that was let go is
//! continued behind its records, or begun anew once `oldest` is beyond them.
//!
//! Its entry says behind which position all of its records are. The publisher says so before it publishes: a dead one may have said a
//! position that it did not come to publish, which may be the end of the log; nothing behind the end is ever trimmed for it.

use super::index::EntryBlock;
use super::layout::{PUBLISHERS_MAX, block};
use crate::channel::area::Area;
use crate::channel::layout::{LaneKind, LaneState};
use crate::error::{Error, ErrorCode, Result};
use crate::shm::atomic::{AtomicU64, Ordering, fence};

/// Tries before giving up: each failed one is another's success.
const ROUNDS: u32 = 1000;
/// A block is continued if this part of it is free.
const WORTH: u64 = 8;

/// A block that the calling thread holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub index: u32,
    pub state: LaneState,
    /// Bytes that its records take.
    pub used: u64,
}

/// What a look at all blocks found.
#[derive(Default)]
struct Choice {
    /// The one with room whose records are the newest.
    open: Option<(u32, LaneState, u64, u64)>,
    /// The one whose records are the oldest, and behind which position they are.
    old: Option<(u32, LaneState, u64)>,
    /// Blocks that are held.
    held: u32,
}

impl Area {
    fn block_entry(&self, index: u32) -> Result<EntryBlock<'_>> {
        self.log()?.entry(&self.shm, index)
    }

    fn block_word(&self, index: u32) -> Result<&AtomicU64> {
        Ok(self.block_entry(index)?.u64::<{ block::STATE }>())
    }

    /// Who holds a block, how many bytes of it are used, and behind which position its records are.
    pub fn look_at_block(&self, index: u32) -> Result<(LaneState, u64, u64)> {
        let entry = self.block_entry(index)?;
        // ORDER Acquire [log-block]: what the last holder did before it let go.
        let state = LaneState(entry.u64::<{ block::STATE }>().load(Ordering::Acquire));
        // ORDER Relaxed: of the last holder, ordered by the state. Of a holder that lives they only serve to be shown.
        let used = entry.u64::<{ block::USED }>().load(Ordering::Relaxed);
        let behind = entry.u64::<{ block::BEHIND }>().load(Ordering::Relaxed);
        let known = matches!(state.kind(), Some(LaneKind::Free | LaneKind::Live | LaneKind::Closed));
        let log = self.log()?;
        let max = log.geometry.block_bytes();
        if !known || used > max || !used.is_multiple_of(8) || behind > log.geometry.position_max() {
            return Err(Error::new(
                ErrorCode::Corrupt,
                format!(
                    "Block {index} of the log `{}` is {state:?}, {used} bytes, behind {behind}.",
                    self.name
                ),
            ));
        }
        Ok((state, used, behind))
    }

    /// Changes who holds a block. False if somebody else was first.
    pub fn change_block(&self, index: u32, from: LaneState, to: LaneState) -> Result<bool> {
        // ORDER AcqRel [log-block]: hands over the records and how far they go; takes over what the last holder left.
        let changed =
            self.block_word(index)?.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed);
        Ok(changed.is_ok())
    }

    fn choose(&self, need: u64) -> Result<Choice> {
        let geometry = self.log()?.geometry;
        let least = need.max(geometry.block_bytes() / WORTH);
        let mut choice = Choice::default();
        for index in 0..geometry.blocks {
            let (state, used, behind) = self.look_at_block(index)?;
            if state.is(LaneKind::Live) {
                choice.held += 1;
                continue;
            }
            if state.is(LaneKind::Closed)
                && geometry.block_bytes() - used >= least
                && choice.open.is_none_or(|(_, _, _, newest)| newest < behind)
            {
                choice.open = Some((index, state, used, behind));
            }
            if choice.old.is_none_or(|(_, _, oldest)| oldest > behind) {
                choice.old = Some((index, state, behind));
            }
        }
        Ok(choice)
    }

    /// Takes a block with room for `need` bytes for the calling thread. Trims what is in the way.
    pub fn take_block(&self, me: u16, need: u64, first: bool) -> Result<Taken> {
        let mut looked_for_dead = false;
        for _ in 0..ROUNDS {
            let choice = self.choose(need)?;
            let many = first && choice.held >= PUBLISHERS_MAX;
            if (many || choice.old.is_none()) && !looked_for_dead {
                looked_for_dead = true;
                self.inherit_dead_blocks()?;
                continue;
            }
            let (index, seen, used) = match (choice.open, choice.old) {
                (_, None) => return Err(self.too_many_appenders(choice.held)),
                _ if many => return Err(self.too_many_appenders(choice.held)),
                (Some((index, seen, used, _)), _) => (index, seen, Some(used)),
                (None, Some((index, seen, behind))) => {
                    let log = self.log()?;
                    // The end after the look at the block: its records are in front of it.
                    let behind = behind.min(log.end(log.oldest().position()));
                    self.trim_to(behind, behind)?;
                    (index, seen, None)
                }
            };
            let mine = LaneState::new(LaneKind::Live, 0, me, seen.generation().wrapping_add(1));
            kill_point!("channel.log_block.before_take");
            if !self.change_block(index, seen, mine)? {
                continue;
            }
            // DIES AFTER: a block of the dead, closed by the reaper. What its entry says is of the last holder, and right.
            kill_point!("channel.log_block.taken");
            if used.is_none() {
                self.empty_block_of_parcels(index)?;
            }
            self.may_overwrite();
            if used.is_none() {
                let entry = self.block_entry(index)?;
                // ORDER Relaxed: the holder's; letting go orders them.
                entry.u64::<{ block::USED }>().store(0, Ordering::Relaxed);
                kill_point!("channel.log_block.emptied");
                entry.u64::<{ block::BEHIND }>().store(0, Ordering::Relaxed);
            }
            return Ok(Taken { index, state: mine, used: used.unwrap_or(0) });
        }
        Err(self.too_fast())
    }

    #[cold]
    fn too_many_appenders(&self, held: u32) -> Error {
        Error::new(
            ErrorCode::TooManyPublishers,
            format!(
                "{held} live publishers append to the log `{}`: there may be {PUBLISHERS_MAX}.",
                self.name
            ),
        )
    }

    /// The calling thread came to hold a block: what stood in the rest of it was trimmed before.
    pub fn may_overwrite(&self) {
        // ORDER Release [log-trim]: before any byte that is overwritten; pairs with the fence in `is_kept`.
        fence(Ordering::Release);
    }

    /// Lets a block go. False if the reaper was first.
    pub fn close_block(&self, index: u32, state: LaneState) -> Result<bool> {
        let closed = LaneState::new(LaneKind::Closed, 0, 0, state.generation());
        kill_point!("channel.log_block.before_close");
        let done = self.change_block(index, state, closed)?;
        kill_point!("channel.log_block.closed");
        Ok(done)
    }

    /// Lets go the blocks of the dead that no reaper has met yet.
    fn inherit_dead_blocks(&self) -> Result<()> {
        for index in 0..self.log()?.geometry.blocks {
            let (state, ..) = self.look_at_block(index)?;
            if state.is(LaneKind::Live) && self.ground.thread_is_dead(state.owner()) {
                self.inherit_block(index, state)?;
            }
        }
        Ok(())
    }

    /// Lets one block go whose holder is dead or detaches. What its holder published is there, what it did not is nowhere.
    ///
    /// `seen` is its state from before the holder was proved dead: if the block has another state by then, it may be held by a live thread
    /// that got the same entry, and stays as it is. False if nobody held it.
    pub fn inherit_block(&self, index: u32, seen: LaneState) -> Result<bool> {
        if !seen.is(LaneKind::Live) {
            return Ok(false);
        }
        self.settle_parcel_of_log(index, seen)?;
        kill_point!("channel.log_inherit.before_close");
        // A failure means that another reaper was first, or its holder, if this is a detach.
        self.change_block(index, seen, LaneState::new(LaneKind::Closed, 0, 0, seen.generation()))?;
        kill_point!("channel.log_inherit.closed");
        Ok(true)
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use crate::channel::inherit::inherit;
    use crate::channel::layout::{LaneKind, LaneState};
    use crate::channel::log::tests::{assert_sound, drain, small};
    use crate::channel::testing::act_as;
    use crate::channel::{Channel, OverrunPolicy, ReadFrom};

    fn held(channel: &Channel) -> Vec<(u32, LaneState)> {
        let blocks = channel.area.log().unwrap().geometry.blocks;
        (0..blocks)
            .map(|index| (index, channel.area.look_at_block(index).unwrap().0))
            .filter(|(_, state)| state.is(LaneKind::Live))
            .collect()
    }

    #[test]
    fn a_late_helper_leaves_the_block_of_a_live_thread_that_got_the_same_entry() {
        let (_stage, channel) = small(OverrunPolicy::Overrun);
        act_as(2);
        let mut dead = channel.appender().unwrap();
        dead.append(b"of the dead").unwrap();
        let (index, seen) = held(&channel)[0];
        std::mem::forget(dead);
        // A helper has proved it dead, and stops here; the reaper comes, and then a thread that is entry 2 again.
        inherit(&channel.area, 2).unwrap();
        let mut live = channel.appender().unwrap();
        live.append(b"first").unwrap();
        let state = held(&channel)[0].1;
        assert_eq!((held(&channel)[0].0, state.owner()), (index, seen.owner()), "it goes on with the block");
        channel.area.inherit_block(index, seen).unwrap();
        assert_eq!(held(&channel), [(index, state)]);
        // Nor does it come back to a state that was seen when it comes back to a thread.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                act_as(3);
                live.append(b"second").unwrap();
            });
        });
        live.append(b"third").unwrap();
        assert_ne!(held(&channel), [(index, state)]);
        channel.area.inherit_block(index, state).unwrap();
        assert_eq!(held(&channel).len(), 1);
        let all = drain(&mut channel.reader(ReadFrom::Oldest).unwrap());
        let texts: Vec<_> = all.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        assert_eq!(texts, [b"of the dead".as_slice(), b"first", b"second", b"third"]);
        assert_sound(&channel);
    }
}
