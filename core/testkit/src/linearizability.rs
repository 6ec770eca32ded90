//! Is a key-value history linearizable?
//!
//! A history is linearizable (Herlihy & Wing 1990) if each operation can be given one instant between its question and its answer such that, done
//! one after the other at these instants, the operations give exactly the answers that were seen. The search is that of Wing & Gong (1993):
//! try every operation that no other had to precede, undo on a dead end; with the configurations that failed remembered, as Lowe
//! (*Testing for linearizability*, 2017) does; and for each key apart, which is enough because the keys are independent objects (locality;
//! P-compositionality, Horn & Kroening 2015). Porcupine combines the same three.
//!
//! A configuration is remembered in little room: operations are numbered by the time of their question, and only those are
//! listed that have not taken effect although one with a higher number has; there are never more of them than clients.
//! An operation that changes nothing and whose answer fits is taken at once without alternatives: taking it later cannot be
//! needed, since its absence makes no difference to the others (unless it was asked after the end of an open operation, see below).
//!
//! **Open operations** (of killed clients) may take effect until their end or never. They are tried last, at a dead end.
//!
//! **Versions**: every write gives its key a version that was never there before. `gets` shows it; `casv` succeeds exactly if the version
//! it names is still that of the key. Versions that nobody was shown are unknown to the checker, which then allows every answer that some
//! version would explain.
//!
//! **Eviction**: a cache that evicts may lose an entry at any time. The search then lets an entry vanish just before an operation whose
//! answer does not fit otherwise; earlier is never needed, because whatever fits without the entry fits with one that may still vanish.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use memora_stress::history::Operation;

/// How long to search before giving up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// For all keys together.
    pub time: Duration,
    /// Configurations visited, for each key.
    pub configurations: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { time: Duration::from_secs(120), configurations: 20_000_000 }
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains every answer.
    Linearizable,
    /// No order explains the answers of `key`.
    Violation {
        /// The key.
        key: String,
        /// What could not be explained, for people.
        story: String,
    },
    /// The budget was used up while searching `key`.
    Undecided {
        /// The key.
        key: String,
    },
}

/// Judges the operations of a history. An error says that the history cannot be judged at all.
pub fn check(operations: &[Operation], budget: Budget) -> Result<Verdict, String> {
    judge(operations, false, budget)
}

/// Judges the operations of a history of caches that may lose any entry at any time.
pub fn check_evicting(operations: &[Operation], budget: Budget) -> Result<Verdict, String> {
    judge(operations, true, budget)
}

fn judge(operations: &[Operation], evicts: bool, budget: Budget) -> Result<Verdict, String> {
    let start = Instant::now();
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        let key = operation.line.k.as_deref();
        let key =
            key.ok_or_else(|| format!("no key in {:?}; transactions are not judged", operation.line))?;
        keys.entry(key).or_default().push(operation);
    }
    for (key, operations) in keys {
        let mut search = Search::new(&operations, evicts)?;
        match search.run(budget, start) {
            Outcome::Explained => {}
            Outcome::Violated(story) => return Ok(Verdict::Violation { key: key.to_string(), story }),
            Outcome::OutOfBudget => return Ok(Verdict::Undecided { key: key.to_string() }),
        }
    }
    Ok(Verdict::Linearizable)
}

/// A value as a small number; 0 is "no entry".
type Value = u32;
const ABSENT: Value = 0;

/// The state of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    value: Value,
    /// The version, if some `gets` of this write has shown it.
    version: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get {
        out: Value,
    },
    Gets {
        out: Value,
        version: u64,
    },
    /// Stores whatever is there.
    Set {
        value: Value,
    },
    /// Stores if `present` is what is there; `ok` = it did.
    Conditional {
        value: Value,
        present: bool,
        ok: bool,
    },
    Delete {
        ok: bool,
    },
    Extend {
        text: Value,
        front: bool,
        ok: bool,
    },
    Cas {
        expected: Value,
        value: Value,
        ok: bool,
    },
    Casv {
        version: u64,
        value: Value,
        ok: bool,
    },
    Count {
        by: u64,
        down: bool,
        out: Option<u64>,
    },
    /// Stores, or removes with the value of no entry, and answers what was there.
    Exchange {
        value: Value,
        out: Value,
        /// The answer is not known.
        open: bool,
    },
    /// Leaves the value; `ok`: there is an entry. It may get a new version.
    Mark {
        ok: bool,
        fresh: bool,
    },
    /// A write that was refused with an error: without effect at any time.
    Nothing,
}

struct Item {
    call: u64,
    end: u64,
    action: Action,
    /// For an open counter operation: any number will do.
    open: bool,
}

struct Search<'a> {
    /// Answered operations, by the time of their question.
    required: Vec<Item>,
    /// Open operations that may have an effect.
    optional: Vec<Item>,
    sources: Vec<&'a Operation>,
    values: Values,
    /// For each version shown: the answered `gets` that showed it.
    shown: HashMap<u64, Vec<u32>>,
    /// Whether an entry may vanish by itself.
    evicts: bool,
}

enum Outcome {
    Explained,
    Violated(String),
    OutOfBudget,
}

#[derive(Default)]
struct Values {
    texts: Vec<String>,
    numbers: HashMap<String, Value>,
}

impl Values {
    fn number(&mut self, text: &str) -> Value {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        self.texts.push(text.to_string());
        let number = self.texts.len() as Value;
        self.numbers.insert(text.to_string(), number);
        number
    }

    fn text(&self, value: Value) -> Option<&str> {
        (value != ABSENT).then(|| self.texts[value as usize - 1].as_str())
    }

    fn show(&self, value: Value) -> String {
        match self.text(value) {
            None => "no entry".to_string(),
            Some(text) if text.len() > 60 => format!("\"{}…\" ({} bytes)", &text[..50], text.len()),
            Some(text) => format!("\"{text}\""),
        }
    }
}

/// Which operations have taken effect, and what that led to.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration {
    /// One more than the highest number that has taken effect.
    bound: u32,
    /// Numbers below `bound` that have not, ascending.
    waiting: Vec<u32>,
    /// Optional ones that have, ascending.
    taken: Vec<u32>,
    state: State,
}

#[derive(Clone, Copy)]
enum Step {
    Required(u32),
    Optional(u32),
}

impl<'a> Search<'a> {
    fn new(operations: &[&'a Operation], evicts: bool) -> Result<Search<'a>, String> {
        let mut sorted: Vec<&Operation> = operations.to_vec();
        sorted.sort_by_key(|operation| operation.line.t0);
        let mut values = Values::default();
        let (mut required, mut optional, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        let mut shown: HashMap<u64, Vec<u32>> = HashMap::new();
        for operation in sorted {
            let action = action(operation, &mut values)?;
            let item =
                Item { call: operation.line.t0, end: operation.end, action, open: !operation.answered };
            if operation.answered {
                if let Action::Gets { version, out } = action
                    && out != ABSENT
                {
                    shown.entry(version).or_default().push(required.len() as u32);
                }
                required.push(item);
                sources.push(operation);
            } else if !matches!(action, Action::Get { .. } | Action::Gets { .. } | Action::Nothing) {
                optional.push(item);
            }
        }
        Ok(Search { required, optional, sources, values, shown, evicts })
    }

    fn run(&mut self, budget: Budget, start: Instant) -> Outcome {
        struct Frame {
            configuration: Configuration,
            steps: Vec<Step>,
        }
        let first = Configuration {
            bound: 0,
            waiting: Vec::new(),
            taken: Vec::new(),
            state: State { value: ABSENT, version: None },
        };
        let mut failed: HashSet<Configuration> = HashSet::new();
        let mut best = first.clone();
        let steps = self.steps(&first);
        let mut stack = vec![Frame { configuration: first, steps }];
        let mut visits = 0usize;
        while let Some(frame) = stack.last_mut() {
            if frame.configuration.bound as usize == self.required.len()
                && frame.configuration.waiting.is_empty()
            {
                return Outcome::Explained;
            }
            let Some(step) = frame.steps.pop() else {
                stack.pop();
                continue;
            };
            let Some(next) = self.take(&frame.configuration, step) else { continue };
            if !failed.insert(next.clone()) {
                continue;
            }
            visits += 1;
            if visits > budget.configurations
                || (visits.is_multiple_of(1024) && start.elapsed() > budget.time)
            {
                return Outcome::OutOfBudget;
            }
            if next.bound as usize - next.waiting.len() > best.bound as usize - best.waiting.len() {
                best = next.clone();
            }
            let steps = self.steps(&next);
            stack.push(Frame { configuration: next, steps });
        }
        Outcome::Violated(self.story(&best))
    }

    /// What may come next, the most likely last (the caller pops).
    fn steps(&self, at: &Configuration) -> Vec<Step> {
        let mut earliest_end = u64::MAX;
        for &index in &at.waiting {
            earliest_end = earliest_end.min(self.required[index as usize].end);
        }
        // All that follow were asked later than any that is looked at; the first asked after an end cannot come before that one.
        let mut upper = at.bound as usize;
        while let Some(item) = self.required.get(upper)
            && item.call <= earliest_end
        {
            earliest_end = earliest_end.min(item.end);
            upper += 1;
        }
        let candidates = || {
            at.waiting
                .iter()
                .copied()
                .chain(at.bound..upper as u32)
                .filter(|&index| self.required[index as usize].call <= earliest_end)
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut optional_end = u64::MAX;
        if !self.optional.is_empty() {
            let latest_call = self.latest_call(at);
            for (index, item) in self.optional.iter().enumerate().rev() {
                if item.call <= earliest_end
                    && item.end >= latest_call
                    && at.taken.binary_search(&(index as u32)).is_err()
                {
                    steps.push(Step::Optional(index as u32));
                    optional_end = optional_end.min(item.end);
                }
            }
        }
        for index in candidates() {
            let item = &self.required[index as usize];
            // One that was asked after the end of an open operation would exclude that one by going first.
            if item.call <= optional_end && self.leaves_no_trace(&item.action, at) {
                return vec![Step::Required(index)];
            }
        }
        let answered = steps.len();
        steps.extend(candidates().map(Step::Required));
        steps[answered..].reverse();
        steps
    }

    /// The latest question among those that have taken effect: nothing that ended before it can come now.
    fn latest_call(&self, at: &Configuration) -> u64 {
        let required = at.bound.checked_sub(1).map_or(0, |index| self.required[index as usize].call);
        at.taken.iter().map(|&index| self.optional[index as usize].call).fold(required, u64::max)
    }

    /// True if the operation fits now and changes neither the value nor what is known of the version.
    fn leaves_no_trace(&self, action: &Action, at: &Configuration) -> bool {
        let state = at.state;
        match *action {
            Action::Get { out } => out == state.value,
            Action::Gets { out, version } => {
                out == state.value && (out == ABSENT || state.version == Some(version))
            }
            Action::Conditional { present, ok: false, .. } => (state.value != ABSENT) != present,
            Action::Delete { ok: false } | Action::Extend { ok: false, .. } => state.value == ABSENT,
            Action::Mark { ok: false, .. } => state.value == ABSENT,
            Action::Mark { ok: true, fresh: false } => state.value != ABSENT,
            Action::Cas { expected, ok: false, .. } => state.value != expected,
            Action::Casv { version, ok: false, .. } => state.version != Some(version),
            Action::Count { by, down, out: None } => self.count(state.value, by, down).is_none(),
            Action::Nothing => true,
            _ => false,
        }
    }

    /// The configuration after a step, or `None` if its answer does not fit.
    fn take(&mut self, at: &Configuration, step: Step) -> Option<Configuration> {
        let (action, open) = match step {
            Step::Required(index) => (self.required[index as usize].action, false),
            Step::Optional(index) => {
                (self.optional[index as usize].action, self.optional[index as usize].open)
            }
        };
        let fit = |search: &mut Search<'a>, at: &Configuration| {
            if open { search.effect(&action, at) } else { search.answer(&action, at) }
        };
        let state = match fit(self, at) {
            Some(state) => state,
            None if self.evicts && at.state.value != ABSENT => {
                fit(self, &Configuration { state: State { value: ABSENT, version: None }, ..at.clone() })?
            }
            None => return None,
        };
        let mut next = Configuration { state, ..at.clone() };
        match step {
            Step::Optional(index) => {
                let place = next.taken.binary_search(&index).expect_err("a step is offered once");
                next.taken.insert(place, index);
            }
            Step::Required(index) if index >= next.bound => {
                next.waiting.extend(next.bound..index);
                next.bound = index + 1;
            }
            Step::Required(index) => next.waiting.retain(|&other| other != index),
        }
        Some(next)
    }

    /// The state after an answered operation, or `None` if it does not fit.
    fn answer(&mut self, action: &Action, at: &Configuration) -> Option<State> {
        let state = at.state;
        let same = Some(state);
        let fresh = |value: Value| Some(State { value, version: None });
        match *action {
            Action::Get { out } => same.filter(|_| out == state.value),
            Action::Gets { out: ABSENT, .. } => same.filter(|_| state.value == ABSENT),
            Action::Gets { out, version } => (out == state.value && self.may_be(version, at))
                .then_some(State { value: out, version: Some(version) }),
            Action::Set { value } => fresh(value),
            Action::Conditional { value, present, ok } => {
                let stores = (state.value != ABSENT) == present;
                if stores != ok {
                    None
                } else if ok {
                    fresh(value)
                } else {
                    same
                }
            }
            Action::Delete { ok } => {
                if (state.value != ABSENT) != ok {
                    None
                } else {
                    fresh(ABSENT)
                }
            }
            Action::Extend { text, front, ok: true } => self.extend(state.value, text, front).and_then(fresh),
            Action::Extend { ok: false, .. } => same.filter(|_| state.value == ABSENT),
            Action::Cas { expected, value, ok } => {
                if (state.value == expected) != ok {
                    None
                } else if ok {
                    fresh(value)
                } else {
                    same
                }
            }
            Action::Casv { version, value, ok: true } => {
                if state.value != ABSENT && self.may_be(version, at) { fresh(value) } else { None }
            }
            // With an unknown version there is always another one that explains a refusal.
            Action::Casv { version, ok: false, .. } => same.filter(|_| state.version != Some(version)),
            Action::Count { by, down, out } => match (self.count(state.value, by, down), out) {
                (None, None) => same,
                (Some(number), Some(out)) if number == out => fresh(self.values.number(&out.to_string())),
                _ => None,
            },
            Action::Exchange { value, out, open } => {
                if open || out == state.value {
                    fresh(value)
                } else {
                    None
                }
            }
            Action::Mark { ok, fresh: version } => match (state.value != ABSENT) == ok {
                true if ok && version => fresh(state.value),
                true => same,
                false => None,
            },
            Action::Nothing => same,
        }
    }

    /// The state after an open operation took effect, or `None` if it would have none.
    fn effect(&mut self, action: &Action, at: &Configuration) -> Option<State> {
        let done = match *action {
            Action::Conditional { value, present, .. } => Action::Conditional { value, present, ok: true },
            Action::Delete { .. } => Action::Delete { ok: true },
            Action::Extend { text, front, .. } => Action::Extend { text, front, ok: true },
            Action::Cas { expected, value, .. } => Action::Cas { expected, value, ok: true },
            Action::Casv { version, value, .. } => Action::Casv { version, value, ok: true },
            Action::Count { by, down, .. } => {
                Action::Count { by, down, out: Some(self.count(at.state.value, by, down)?) }
            }
            other => other,
        };
        self.answer(&done, at)
    }

    /// Whether the current write may have `version`: it is known to, or nobody was shown that version by an earlier write.
    fn may_be(&self, version: u64, at: &Configuration) -> bool {
        match at.state.version {
            Some(known) => known == version,
            None => self
                .shown
                .get(&version)
                .into_iter()
                .flatten()
                .all(|&index| index >= at.bound || at.waiting.binary_search(&index).is_ok()),
        }
    }

    fn count(&self, value: Value, by: u64, down: bool) -> Option<u64> {
        let text = self.values.text(value)?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = text.parse().ok().filter(|_| digits)?;
        if down { Some(number.saturating_sub(by)) } else { number.checked_add(by) }
    }

    fn extend(&mut self, value: Value, text: Value, front: bool) -> Option<Value> {
        let (old, more) = (self.values.text(value)?, self.values.text(text)?);
        let joined = if front { format!("{more}{old}") } else { format!("{old}{more}") };
        Some(self.values.number(&joined))
    }

    fn story(&self, best: &Configuration) -> String {
        let done = best.bound as usize - best.waiting.len();
        let mut story = format!(
            "after {done} of {} operations the key holds {} (version {}), and none of these fits next:",
            self.required.len(),
            self.values.show(best.state.value),
            best.state.version.map_or("not seen".to_string(), |version| version.to_string()),
        );
        let waiting = best.waiting.iter().copied().chain(best.bound..self.required.len() as u32);
        for index in waiting.take(8) {
            let line = &self.sources[index as usize].line;
            let mut text = serde_json::to_string(line).unwrap_or_else(|_| format!("{line:?}"));
            if text.len() > 240 {
                text.truncate((0..=240).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0));
                text.push('…');
            }
            story.push_str("\n  ");
            story.push_str(&text);
        }
        story
    }
}

/// What an operation does and what it answered.
fn action(operation: &Operation, values: &mut Values) -> Result<Action, String> {
    let line = &operation.line;
    if line.err.is_some() {
        return Ok(Action::Nothing);
    }
    let missing = |what: &str| format!("no `{what}` in {line:?}");
    let ok = || match line.ok {
        Some(ok) => Ok(ok),
        None if !operation.answered => Ok(true),
        None => Err(missing("ok")),
    };
    let out = line.out.as_ref().map(|out| out.text());
    let value = line.v.as_deref().map(|text| values.number(text)).ok_or_else(|| missing("v"));
    Ok(match line.op.as_str() {
        "get" => Action::Get { out: out.map_or(ABSENT, |text| values.number(&text)) },
        "gets" => match out {
            None => Action::Gets { out: ABSENT, version: 0 },
            Some(text) => {
                Action::Gets { out: values.number(&text), version: line.tok.ok_or_else(|| missing("tok"))? }
            }
        },
        "set" => match ok()? {
            true => Action::Set { value: value? },
            false => Action::Nothing,
        },
        "add" => Action::Conditional { value: value?, present: false, ok: ok()? },
        "replace" => Action::Conditional { value: value?, present: true, ok: ok()? },
        "del" => Action::Delete { ok: ok()? },
        // Without a value it removes.
        "exchange" => Action::Exchange {
            value: line.v.as_deref().map_or(ABSENT, |text| values.number(text)),
            out: out.map_or(ABSENT, |text| values.number(&text)),
            open: !operation.answered,
        },
        "touch" => Action::Mark { ok: ok()?, fresh: false },
        "stale" => Action::Mark { ok: ok()?, fresh: true },
        // The value that was computed may have been lost at once; in a cache that evicts it is then gone, as any may be.
        "compute" => match out.filter(|text| Some(text) != line.v.as_ref()) {
            Some(other) => Action::Get { out: values.number(&other) },
            None => Action::Conditional { value: value?, present: false, ok: true },
        },
        "append" | "prepend" => Action::Extend { text: value?, front: line.op == "prepend", ok: ok()? },
        "cas" => Action::Cas {
            expected: line.exp.as_deref().map_or(ABSENT, |text| values.number(text)),
            value: value?,
            ok: ok()?,
        },
        "casv" => Action::Casv { version: line.tok.ok_or_else(|| missing("tok"))?, value: value?, ok: ok()? },
        "incr" | "decr" => Action::Count {
            by: line.by.ok_or_else(|| missing("by"))?,
            down: line.op == "decr",
            out: match out {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| format!("`out` is no number in {line:?}"))?),
            },
        },
        other => return Err(format!("operation `{other}` is not judged")),
    })
}
