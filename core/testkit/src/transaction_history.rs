//! Are transactions, and the operations beside them, strictly serializable?
//!
//! Every value has a unique name and says which value its writer had read there before. So it is known
//! - who wrote what somebody read (the writer comes before the reader),
//! - which value of a key came after which (the writer of the earlier one comes before that of the later),
//! - and that who read a value comes before the writer of the next one.
//!
//! Besides, what was answered comes before whatever was asked later. If these together form a cycle there is no order of all: that is
//! write skew, read skew, a long fork, a stale read. (After Adya, "Weak consistency", 1999, and Kingsbury and Alvaro, "Elle", VLDB 2020.)
//! A value that two replaced is a lost update; one that a refused transaction wrote must never be read.
//!
//! What a killed client had asked took place if somebody saw any of it. What a refused transaction read is not judged.

use std::collections::{BTreeMap, HashMap};

use memora_stress::history::Operation;
use memora_stress::transaction::name_of;

/// What a history that is in order contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Transactions that committed, and operations outside of transactions.
    pub done: u64,
    /// Those of them that wrote.
    pub writers: u64,
    /// Transactions that were refused.
    pub refused: u64,
    /// Transactions of the killed that took place.
    pub of_the_dead: u64,
}

/// A transaction, or an operation that is one.
struct Node<'a> {
    operation: &'a Operation,
    reads: Vec<(&'a str, &'a str)>,
    /// What stood there: the name, and that of the value before.
    stored: Vec<&'a str>,
    writes: Vec<(&'a str, &'a str)>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Refused,
    /// Nobody said.
    Open,
}

/// Why one comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    WroteWhatItRead,
    WroteBefore,
    ReadBefore,
    Time,
}

type Value<'a> = (&'a str, &'a str);

/// Judges the operations of a history; an error tells the first rule that was broken.
pub fn check(operations: &[Operation]) -> Result<Summary, String> {
    let texts = Texts::read(operations);
    let mut nodes = nodes(operations, &texts)?;
    let mut writer: HashMap<Value, usize> = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        for value in &node.writes {
            if writer.insert(*value, number).is_some() {
                return Err(format!("the value {value:?} was written twice"));
            }
        }
    }
    see_the_dead(&mut nodes, &writer)?;
    let before = predecessors(&nodes);
    let next = successors(&nodes, &writer, &before)?;
    let mut graph = Graph::new(&nodes);
    for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.fate == Fate::Done) {
        for read in &node.reads {
            if let Some(&from) = writer.get(read) {
                graph.add(from, number, Why::WroteWhatItRead);
            }
            if let Some(&to) = next.get(read) {
                graph.add(number, to, Why::ReadBefore);
            }
        }
        for write in &node.writes {
            if let Some(earlier) = before.get(write)
                && let Some(&from) = writer.get(&(write.0, *earlier))
            {
                graph.add(from, number, Why::WroteBefore);
            }
        }
    }
    if let Some(cycle) = graph.cycle() {
        return Err(tell(&nodes, &cycle));
    }
    let count = |is: &dyn Fn(&Node) -> bool| nodes.iter().filter(|node| is(node)).count() as u64;
    Ok(Summary {
        done: count(&|node| node.fate == Fate::Done),
        writers: count(&|node| node.fate == Fate::Done && !node.writes.is_empty()),
        refused: count(&|node| node.fate == Fate::Refused),
        of_the_dead: count(&|node| node.fate == Fate::Done && !node.operation.answered),
    })
}

/// What was read, as text that lives as long as the judgement.
struct Texts(Vec<Vec<Option<String>>>);

impl Texts {
    fn read(operations: &[Operation]) -> Texts {
        let of = |operation: &Operation| match &operation.line.ops {
            Some(steps) => steps.iter().map(|step| step.out.as_ref().map(|out| out.text())).collect(),
            None => vec![operation.line.out.as_ref().map(|out| out.text())],
        };
        Texts(operations.iter().map(of).collect())
    }
}

fn nodes<'a>(operations: &'a [Operation], texts: &'a Texts) -> Result<Vec<Node<'a>>, String> {
    let mut nodes = Vec::with_capacity(operations.len());
    for (operation, texts) in operations.iter().zip(&texts.0) {
        let line = &operation.line;
        let fate = match (operation.answered, line.ok) {
            (false, _) => Fate::Open,
            (true, Some(true)) => Fate::Done,
            _ => Fate::Refused,
        };
        let (mut reads, mut stored, mut writes) = (Vec::new(), Vec::new(), Vec::new());
        let mut read = |key: &'a String, text: &'a Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            stored.push(text);
            reads.push((key.as_str(), name_of(text)));
        };
        match (line.op.as_str(), &line.k, &line.v, &line.ops) {
            ("get", Some(key), _, _) => read(key, &texts[0]),
            ("set", Some(key), Some(name), _) => writes.push((key.as_str(), name.as_str())),
            ("txn", _, _, Some(steps)) => {
                for (step, text) in steps.iter().zip(texts) {
                    match (step.op.as_str(), &step.v) {
                        ("get", _) => read(&step.k, text),
                        ("put", Some(name)) => writes.push((step.k.as_str(), name.as_str())),
                        _ => return Err(format!("a step that is none: {step:?}")),
                    }
                }
            }
            _ => return Err(format!("no operation of a store: {line:?}")),
        }
        // What was asked is known, what was answered is not.
        if fate == Fate::Open {
            reads.clear();
        }
        nodes.push(Node { operation, reads, stored, writes, fate });
    }
    Ok(nodes)
}

/// What the killed had asked took place if somebody read any of it; what was refused must not have.
fn see_the_dead(nodes: &mut [Node<'_>], writer: &HashMap<Value<'_>, usize>) -> Result<(), String> {
    for number in 0..nodes.len() {
        if nodes[number].fate != Fate::Done {
            continue;
        }
        for read in 0..nodes[number].reads.len() {
            let value = nodes[number].reads[read];
            if value.1.is_empty() {
                continue;
            }
            let Some(&from) = writer.get(&value) else {
                return Err(format!("{value:?}, which nobody wrote, was read by {}", show(&nodes[number])));
            };
            match nodes[from].fate {
                Fate::Refused => {
                    return Err(format!(
                        "{} was refused, and read by {}",
                        show(&nodes[from]),
                        show(&nodes[number])
                    ));
                }
                Fate::Open => nodes[from].fate = Fate::Done,
                Fate::Done => {}
            }
        }
    }
    Ok(())
}

/// For each value that took place, the one before it, as far as its writer had looked.
fn predecessors<'a>(nodes: &[Node<'a>]) -> BTreeMap<Value<'a>, &'a str> {
    let mut before = BTreeMap::new();
    for node in nodes {
        if node.fate != Fate::Done {
            continue;
        }
        for ((key, name), text) in node.reads.iter().zip(&node.stored) {
            if let Some((_, earlier)) = text.split_once(';')
                && earlier != "?"
            {
                before.insert((*key, *name), earlier);
            }
        }
        for (key, name) in &node.writes {
            if let Some((_, earlier)) = node.reads.iter().find(|(read, _)| read == key) {
                before.insert((*key, *name), *earlier);
            }
        }
    }
    before
}

/// For each value who wrote the next one; two who did are a lost update.
fn successors<'a>(
    nodes: &[Node<'a>],
    writer: &HashMap<Value<'a>, usize>,
    before: &BTreeMap<Value<'a>, &'a str>,
) -> Result<HashMap<Value<'a>, usize>, String> {
    let mut next: HashMap<Value<'a>, usize> = HashMap::new();
    for ((key, name), earlier) in before {
        let Some(&by) = writer.get(&(*key, *name)) else { continue };
        if let Some(other) = next.insert((*key, *earlier), by)
            && other != by
        {
            return Err(format!(
                "a lost update: both replaced {earlier:?} of {key}: {} and {}",
                show(&nodes[other]),
                show(&nodes[by])
            ));
        }
    }
    Ok(next)
}

/// Who comes before whom: the nodes, and behind them the moments at which something was asked, each before the next.
struct Graph {
    edges: Vec<Vec<(usize, Why)>>,
    nodes: usize,
}

impl Graph {
    fn new(nodes: &[Node<'_>]) -> Graph {
        let mut starts: Vec<u64> =
            nodes.iter().filter(|it| it.fate == Fate::Done).map(|it| it.operation.line.t0).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut graph = Graph { edges: vec![Vec::new(); nodes.len() + starts.len()], nodes: nodes.len() };
        for moment in 1..starts.len() {
            graph.add(nodes.len() + moment - 1, nodes.len() + moment, Why::Time);
        }
        for (number, node) in nodes.iter().enumerate().filter(|(_, node)| node.fate == Fate::Done) {
            let own = starts.partition_point(|start| *start < node.operation.line.t0);
            graph.add(nodes.len() + own, number, Why::Time);
            let after = starts.partition_point(|start| *start <= node.operation.end);
            if node.operation.answered && after < starts.len() {
                graph.add(number, nodes.len() + after, Why::Time);
            }
        }
        graph
    }

    fn add(&mut self, from: usize, to: usize, why: Why) {
        if from != to {
            self.edges[from].push((to, why));
        }
    }

    /// The nodes of a cycle in their order, each with why it comes before the next; moments are left out.
    fn cycle(&self) -> Option<Vec<(usize, Why)>> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.edges.len()];
        for root in 0..self.edges.len() {
            if marks[root] != Mark::New {
                continue;
            }
            // The way from the root: where it is, and how many of its edges were gone.
            let mut way = vec![(root, 0)];
            marks[root] = Mark::Open;
            while let Some((node, gone)) = way.last_mut() {
                let Some(&(to, _)) = self.edges[*node].get(*gone) else {
                    marks[*node] = Mark::Done;
                    way.pop();
                    continue;
                };
                *gone += 1;
                match marks[to] {
                    Mark::Done => {}
                    Mark::New => {
                        marks[to] = Mark::Open;
                        way.push((to, 0));
                    }
                    Mark::Open => {
                        let first = way.iter().position(|(node, _)| *node == to).expect("it is open");
                        let cycle =
                            way[first..].iter().map(|(node, gone)| (*node, self.edges[*node][gone - 1].1));
                        return Some(cycle.filter(|(node, _)| *node < self.nodes).collect());
                    }
                }
            }
        }
        None
    }
}

fn tell(nodes: &[Node<'_>], cycle: &[(usize, Why)]) -> String {
    let mut story = String::from("no order of all: ");
    for (number, why) in cycle {
        let why = match why {
            Why::WroteWhatItRead => "wrote what was read by",
            Why::WroteBefore => "wrote what was replaced by",
            Why::ReadBefore => "read what was replaced by",
            Why::Time => "was answered before",
        };
        story += &format!("{} {why} ", show(&nodes[*number]));
    }
    story + "the first one"
}

fn show(node: &Node<'_>) -> String {
    let line = &node.operation.line;
    format!("[{} at {}: read {:?}, wrote {:?}]", line.c, line.t0, node.reads, node.writes)
}
