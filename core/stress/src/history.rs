//! A history of operations: JSON lines, the question before the call and the same line with its answer after it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

/// One line of a history. Absent members are not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The client: one thread of one process incarnation.
    pub c: String,
    /// The operation: `get`, `set`, `send`, `kill` and so on.
    pub op: String,
    /// Key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<String>,
    /// New value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<String>,
    /// Expected value of `cas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<String>,
    /// Amount of `incr` and `decr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<u64>,
    /// Channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Name of a subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s: Option<String>,
    /// Producer incarnation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<String>,
    /// Number of the message, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Checksum of the payload.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
    /// First lost message of a `gap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Last lost message of a `gap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Version: expected by `casv`, answered by `gets`.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub tok: Option<u64>,
    /// What a transaction does, in the answer with what it read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<Vec<Step>>,
    /// When the question was asked, monotonic ns.
    pub t0: u64,
    /// When the answer was there; absent in a question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub t1: Option<u64>,
    /// The answer of reads and counters; absent = a miss, or refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<Out>,
    /// The answer of writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// The stable name of the error that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `get` or `put`.
    pub op: String,
    /// Key.
    pub k: String,
    /// The name of the value that is put.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<String>,
    /// What was read; absent = nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<Out>,
}

/// What a read or a counter answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Out {
    /// A counter's new number.
    Number(u64),
    /// A value.
    Text(String),
}

impl Out {
    /// The value, or the number in decimal.
    pub fn text(&self) -> String {
        match self {
            Out::Number(number) => number.to_string(),
            Out::Text(text) => text.clone(),
        }
    }
}

/// Takes a JSON string or number: other writers may choose either.
#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u64),
    Text(String),
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Either>::deserialize(deserializer)?.map(|either| match either {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<Either>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Either::Number(number)) => Ok(Some(number)),
        Some(Either::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

impl Line {
    /// A question of client `c`, without its time.
    pub fn new(c: &str, op: &str) -> Line {
        Line { c: c.to_string(), op: op.to_string(), ..Line::default() }
    }
}

/// Nanoseconds of CLOCK_MONOTONIC, the clock of all histories on one host.
///
/// It is read behind a full fence: a store of the call before it may still be on its way out of this core, where nobody else
/// can see it, and the time must not be earlier than that.
pub fn monotonic_ns() -> u64 {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC always exists");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Writes the lines of one client, each with one `write(2)`, so that a kill tears at most the last one.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    client: String,
}

impl Recorder {
    /// Appends to `path` for a client whose name starts with `seed` and is used by nobody else.
    pub fn open(path: &Path, seed: &str) -> io::Result<Recorder> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let client = format!("{seed}-{}-{:x}", std::process::id(), monotonic_ns());
        Ok(Recorder { file, client })
    }

    /// The client's name.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Writes the question `line`, stamped with the time, and gives it back for its answer.
    pub fn ask(&mut self, mut line: Line) -> io::Result<Line> {
        line.t0 = monotonic_ns();
        self.write(&line)?;
        Ok(line)
    }

    /// Writes the answer: `line` was completed by the caller after the call returned at `t1`.
    pub fn answer(&mut self, mut line: Line, t1: u64) -> io::Result<()> {
        line.t1 = Some(t1);
        self.write(&line)
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

/// Adds the line of a killer: `client` was dead at `t0`.
pub fn record_kill(path: &Path, client: &str, t0: u64) -> io::Result<()> {
    let mut line = Line::new(client, "kill");
    line.t0 = t0;
    let mut text = serde_json::to_vec(&line).map_err(io::Error::other)?;
    text.push(b'\n');
    // A line that the victim left torn must not swallow this one.
    let existing = std::fs::read(path).unwrap_or_default();
    if existing.last().is_some_and(|&byte| byte != b'\n') {
        text.insert(0, b'\n');
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?.write_all(&text)
}

/// Who wrote the last whole line of a history, of which only the end is read. `None` if there is none.
pub fn last_client(path: &Path) -> io::Result<Option<String>> {
    const END: u64 = 1 << 20;
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    // The first one may have been cut.
    let lines = end.rsplit(|&byte| byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()).map(|line| line.c).next())
}

/// Reads histories; a line that is not whole is ignored where a client's death may have torn it.
///
/// A torn line is one that is not JSON and is the last of its file, or is followed only by lines of killers.
pub fn read(paths: &[impl AsRef<Path>]) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let bytes = std::fs::read(path)?;
        let mut torn: Option<usize> = None;
        for (index, raw) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if raw.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Line>(raw) {
                Ok(line) => {
                    if let Some(bad) = torn.filter(|_| line.op != "kill") {
                        return Err(bad_line(path, bad));
                    }
                    lines.push(line);
                }
                Err(_) if torn.is_none() => torn = Some(index),
                Err(_) => return Err(bad_line(path, index)),
            }
        }
    }
    Ok(lines)
}

fn bad_line(path: &Path, index: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: line {} is no line of a history", path.display(), index + 1),
    )
}

/// An operation put together from its question and its answer.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The answer if there is one, else the question.
    pub line: Line,
    /// False if the client never wrote an answer.
    pub answered: bool,
    /// The time until which an unanswered operation may have taken effect; `u64::MAX` if nobody said.
    pub end: u64,
}

/// Joins questions with their answers and kills with what they left open.
///
/// An error names a history that breaks the rules of the format: two open operations of one client, an answer before
/// its question, or anything said by a client after its death.
pub fn operations(lines: &[Line]) -> Result<Vec<Operation>, String> {
    use std::collections::HashMap;
    let kills: HashMap<&str, u64> =
        lines.iter().filter(|line| line.op == "kill").map(|line| (line.c.as_str(), line.t0)).collect();
    let mut open: HashMap<&str, usize> = HashMap::new();
    let mut done: HashMap<&str, u64> = HashMap::new();
    let mut operations: Vec<Operation> = Vec::with_capacity(lines.len() / 2);
    for line in lines.iter().filter(|line| line.op != "kill") {
        let killed = kills.get(line.c.as_str()).copied().unwrap_or(u64::MAX);
        if line.t0 > killed {
            return Err(format!("client {} asks at {} after its death at {killed}", line.c, line.t0));
        }
        match (line.t1, open.remove(line.c.as_str())) {
            (Some(t1), _) if t1 < line.t0 => {
                return Err(format!("client {}: answer at {t1} before its question at {}", line.c, line.t0));
            }
            (Some(t1), Some(at)) => {
                let question = &operations[at].line;
                if question.t0 != line.t0
                    || question.op != line.op
                    || question.k != line.k
                    || question.v != line.v
                {
                    return Err(format!("client {}: {line:?} does not answer {question:?}", line.c));
                }
                operations[at] = Operation { line: line.clone(), answered: true, end: t1 };
                done.insert(&line.c, t1);
            }
            (t1, None) => {
                if done.get(line.c.as_str()).is_some_and(|&last| last > line.t0) {
                    return Err(format!("client {} asks at {} inside its operation before", line.c, line.t0));
                }
                if let Some(t1) = t1 {
                    done.insert(&line.c, t1);
                } else {
                    open.insert(&line.c, operations.len());
                }
                operations.push(Operation {
                    line: line.clone(),
                    answered: t1.is_some(),
                    end: t1.unwrap_or(killed),
                });
            }
            (None, Some(_)) => {
                return Err(format!("client {} has two open operations at {}", line.c, line.t0));
            }
        }
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn the_documented_example_is_read_and_written_as_it_stands() {
        let text = r#"{"c":"w0.1","op":"set","k":"a","v":"1","t0":10,"t1":20,"ok":true}"#;
        assert_eq!(serde_json::to_string(&line(text)).unwrap(), text);
    }

    #[test]
    fn numbers_stay_numbers_and_texts_stay_texts() {
        let mut counter = line(r#"{"c":"a","op":"incr","k":"n","by":2,"t0":1,"t1":2}"#);
        counter.out = Some(Out::Number(7));
        assert!(serde_json::to_string(&counter).unwrap().ends_with(r#""t1":2,"out":7}"#));
        let gets =
            line(r#"{"c":"a","op":"gets","k":"n","t0":1,"t1":2,"out":"7","tok":18446744073709551615}"#);
        let text = serde_json::to_string(&gets).unwrap();
        assert!(text.contains(r#""tok":18446744073709551615"#) && text.contains(r#""out":"7""#), "{text}");
        assert_eq!(
            line(r#"{"c":"a","op":"incr","k":"n","by":2,"t0":1,"t1":2,"out":7}"#)
                .out
                .map(|out| out.text())
                .as_deref(),
            Some("7")
        );
    }

    #[test]
    fn a_recorder_writes_the_question_before_the_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut recorder = Recorder::open(&path, "seed").unwrap();
        let mut question = Line::new(recorder.client(), "get");
        question.k = Some("k0".into());
        let question = recorder.ask(question).unwrap();
        let first = read(&[&path]).unwrap();
        assert_eq!(first, std::slice::from_ref(&question));
        let mut answer = question.clone();
        answer.out = Some(Out::Text("x".into()));
        recorder.answer(answer, question.t0 + 5).unwrap();
        let operations = operations(&read(&[&path]).unwrap()).unwrap();
        assert_eq!(operations.len(), 1);
        assert!(operations[0].answered && operations[0].line.out == Some(Out::Text("x".into())));
        assert_eq!(operations[0].end, question.t0 + 5);
    }

    #[test]
    fn a_torn_last_line_is_ignored_and_a_torn_middle_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let whole = r#"{"c":"a","op":"set","k":"a","v":"1","t0":10}"#;
        std::fs::write(&path, format!("{whole}\n{{\"c\":\"a\",\"op\":\"se")).unwrap();
        record_kill(&path, "a", 99).unwrap();
        let lines = read(&[&path]).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(last_client(&path).unwrap().as_deref(), Some("a"));
        assert_eq!(last_client(&dir.path().join("none")).unwrap(), None);
        let open = operations(&lines).unwrap();
        assert!(!open[0].answered && open[0].end == 99);
        std::fs::write(&path, format!("{{\"c\":\"a\n{whole}\n")).unwrap();
        assert_eq!(read(&[&path]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn histories_that_break_the_format_are_refused() {
        let set = |t0: u64| line(&format!(r#"{{"c":"a","op":"set","k":"a","v":"1","t0":{t0}}}"#));
        let kill = line(r#"{"c":"a","op":"kill","t0":15}"#);
        assert!(operations(&[set(10), set(12)]).unwrap_err().contains("two open"));
        assert!(operations(&[kill, set(20)]).unwrap_err().contains("after its death"));
        let mut early = set(10);
        early.t1 = Some(5);
        assert!(operations(&[early]).unwrap_err().contains("before its question"));
    }
}
