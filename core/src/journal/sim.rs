//! A disk in memory for tests: fails at the n-th call, records what was synced, and can lose its power.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::files::{FileLayer, LockMode, LogFile};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Once, with this errno; a write may have written its first half.
    Once(i32),
    /// This and every later call that would take space, with ENOSPC; others work.
    FullFrom,
    /// The power is gone: this and every later call fails and does nothing.
    DeadFrom,
}

#[derive(Default, Clone)]
struct Content {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Byte ranges written since the last sync.
    pending: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Link(String, u64),
    Unlink(String),
    Rename(String, String, u64),
}

/// One call that changed something, so that it can be made again on another disk.
#[derive(Clone, Debug)]
pub enum Step {
    Create(String),
    Rename(String, String),
    Remove(String),
    SyncNames,
    Reserve(u64, u64),
    Write(u64, u64, Vec<u8>),
    Sync(u64),
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameChange>,
    files: HashMap<u64, Content>,
    next_id: u64,
    calls: u64,
    fault: Option<(u64, Fault)>,
    /// Runs once, behind the next sync.
    after_sync: Option<Box<dyn FnOnce() + Send>>,
    /// What the calls were, for the message of a failing test.
    trace: Vec<String>,
    /// What they did, with the number of each call, if that is recorded.
    steps: Option<Vec<(u64, Step)>>,
}

/// The disk. Clones share it.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// A small generator: tests name their seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

fn write_into(bytes: &mut Vec<u8>, at: u64, with: &[u8]) {
    let end = at as usize + with.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at as usize..end].copy_from_slice(with);
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Mutating calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Begins to record what is done.
    pub fn record(&self) {
        self.state().steps = Some(Vec::new());
    }

    /// What was done since, each with the number of its call.
    pub fn steps(&self) -> Vec<(u64, Step)> {
        self.state().steps.clone().unwrap_or_default()
    }

    /// Does on this disk what was done on another one, from the same beginning.
    pub fn apply(&self, step: &Step) {
        self.state().apply(step);
    }

    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// Fails the call with this number, counted from 1 since the disk was made.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.state().fault = Some((call, fault));
    }

    /// Runs `hook` behind the next sync, before its caller knows.
    pub fn after_next_sync(&self, hook: impl FnOnce() + Send + 'static) {
        self.state().after_sync = Some(Box::new(hook));
    }

    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// Bytes of all files as they are named now.
    pub fn bytes(&self) -> u64 {
        let state = self.state();
        state.names.values().map(|id| state.files[id].now.len() as u64).sum()
    }

    /// Changes bytes behind everybody's back: bit rot.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.names[name];
        let content = state.files.get_mut(&id).unwrap();
        change(&mut content.now);
        content.durable = content.now.clone();
        content.pending.clear();
    }

    /// The content of a file now.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[&state.names[name]].now.clone()
    }

    /// One of the legal states after a power cut: of what was not synced, any sectors and any names may be there.
    pub fn power_cut(&self, random: &mut Random) -> Disk {
        let in_order = random.below(2) == 0;
        self.cut(random, in_order, None)
    }

    /// The power cut after which everything is there that was done, or nothing that was not synced.
    pub fn power_cut_extreme(&self, everything: bool) -> Disk {
        self.cut(&mut Random(0), true, Some(everything))
    }

    /// `all` says of everything that it is there or not; else chance does.
    fn cut(&self, random: &mut Random, in_order: bool, all: Option<bool>) -> Disk {
        let state = self.state();
        let mut after = State { next_id: state.next_id, ..State::default() };
        let mut names = state.durable_names.clone();
        let mut kept = true;
        for change in &state.pending_names {
            kept = match all {
                Some(all) => all,
                None if in_order => kept && random.below(4) != 0,
                None => random.below(2) == 0,
            };
            if kept {
                match change {
                    NameChange::Link(name, id) => drop(names.insert(name.clone(), *id)),
                    NameChange::Unlink(name) => drop(names.remove(name)),
                    NameChange::Rename(from, to, id) => {
                        names.remove(from);
                        names.insert(to.clone(), *id);
                    }
                }
            }
        }
        for (name, id) in names {
            let content = &state.files[&id];
            let mut bytes = content.durable.clone();
            for (at, written) in &content.pending {
                for (index, sector) in written.chunks(512).enumerate() {
                    // Sectors are whole or not at all; files grow before they hold data.
                    if all.unwrap_or_else(|| random.below(2) == 0) {
                        write_into(&mut bytes, at + index as u64 * 512, sector);
                    }
                }
            }
            let fresh = Content { durable: bytes.clone(), now: bytes, pending: Vec::new() };
            after.files.insert(id, fresh);
            after.names.insert(name.clone(), id);
            after.durable_names.insert(name, id);
        }
        Disk(Arc::new(Mutex::new(after)))
    }
}

impl State {
    fn did(&mut self, step: Step) {
        self.apply(&step);
        let calls = self.calls;
        if let Some(steps) = &mut self.steps {
            steps.push((calls, step));
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create(name) => {
                let id = self.next_id;
                self.next_id += 1;
                self.files.insert(id, Content::default());
                self.names.insert(name.clone(), id);
                self.pending_names.push(NameChange::Link(name.clone(), id));
            }
            Step::Rename(from, to) => {
                let id = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), id);
                self.pending_names.push(NameChange::Rename(from.clone(), to.clone(), id));
            }
            Step::Remove(name) => {
                self.names.remove(name);
                self.pending_names.push(NameChange::Unlink(name.clone()));
            }
            Step::SyncNames => {
                self.durable_names = self.names.clone();
                self.pending_names.clear();
            }
            Step::Reserve(id, len) => {
                let content = self.files.get_mut(id).unwrap();
                let grown = *len as usize - content.now.len().min(*len as usize);
                if grown > 0 {
                    let at = content.now.len() as u64;
                    content.now.resize(*len as usize, 0);
                    content.pending.push((at, vec![0; grown]));
                }
            }
            Step::Write(id, at, bytes) => {
                let content = self.files.get_mut(id).unwrap();
                write_into(&mut content.now, *at, bytes);
                content.pending.push((*at, bytes.clone()));
            }
            Step::Sync(id) => {
                let content = self.files.get_mut(id).unwrap();
                for (at, bytes) in std::mem::take(&mut content.pending) {
                    write_into(&mut content.durable, at, &bytes);
                }
            }
        }
    }

    fn dead(&self) -> bool {
        matches!(self.fault, Some((call, Fault::DeadFrom)) if call <= self.calls)
    }

    /// Counts a call and says whether it fails.
    fn call(&mut self, what: String, takes_space: bool) -> io::Result<()> {
        self.calls += 1;
        let fault = match self.fault {
            Some((call, Fault::Once(errno))) if call == self.calls => Some(errno),
            Some((call, Fault::FullFrom)) if call <= self.calls && takes_space => Some(libc::ENOSPC),
            Some((call, Fault::DeadFrom)) if call <= self.calls => Some(libc::EIO),
            _ => None,
        };
        self.trace.push(format!("{} {what}{}", self.calls, if fault.is_some() { " FAILS" } else { "" }));
        fault.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

struct SimFile {
    disk: Disk,
    id: u64,
    name: String,
}

impl FileLayer for Disk {
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.state();
        state.call(format!("create {name}"), true)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next_id;
        state.did(Step::Create(name.to_owned()));
        Ok(Box::new(SimFile { disk: self.clone(), id, name: name.to_owned() }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let id = *self.state().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), id, name: name.to_owned() }))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call(format!("rename {from} {to}"), false)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.did(Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.call(format!("remove {name}"), false)?;
        state.did(Step::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call("sync names".to_owned(), false)?;
        state.did(Step::SyncNames);
        Ok(())
    }

    fn lock(&self, _byte: u64, _mode: LockMode) -> io::Result<bool> {
        Ok(true)
    }

    fn place(&self) -> String {
        "sim".to_owned()
    }
}

impl LogFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[&self.id].now.len() as u64)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.call(format!("reserve {}", self.name), true)?;
        state.did(Step::Reserve(self.id, len));
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.call(format!("write {} {at}+{}", self.name, bytes.len()), true);
        let bytes = match (&result, state.dead()) {
            (Ok(()), _) => bytes,
            (Err(_), false) => &bytes[..bytes.len() / 2],
            (Err(_), true) => return result,
        };
        state.did(Step::Write(self.id, at, bytes.to_vec()));
        result
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        let now = &state.files[&self.id].now;
        let from = (at as usize).min(now.len());
        let count = into.len().min(now.len() - from);
        into[..count].copy_from_slice(&now[from..from + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.call(format!("sync {}", self.name), false);
        if state.dead() {
            return result;
        }
        let hook = state.after_sync.take();
        if result.is_ok() {
            state.did(Step::Sync(self.id));
        } else if let Some(content) = state.files.get_mut(&self.id) {
            // After a failed sync the kernel calls the pages clean: they are never written again, and a later sync that
            // succeeds says nothing about them.
            content.pending.clear();
        }
        drop(state);
        if let Some(hook) = hook {
            hook();
        }
        result
    }
}
