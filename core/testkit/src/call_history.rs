//! Clients and servers of a service that record what they ask and serve, and the judge of what they recorded.
//!
//! Each writes lines `word id [detail]` into a file of its own, each with one `write(2)`, so that a kill tears at most the last one.
//! An id is the client's name and a number. A client writes `ask` before it sends and `end` with the outcome; a server writes
//! `serve` before it answers and `told` with what it was told.
//!
//! Judged by these rules:
//! - each request is served once at most, and only if it was asked;
//! - each call ends once at most, in one way; only the last calls of a client that was killed do not end;
//! - a call that ended with a reply was served, and the reply is the one to this very request;
//! - a call whose server was told that the client waited for its reply ended with that reply;
//! - a call that ended with the death of its server was not served by one that lives.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use memora::{Call, Client, ErrorCode, Request, Server, Service};
use memora_stress::random::{Random, fnv1a};

/// What a history that is in order contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls.
    pub asked: u64,
    /// Requests that a server began to work on.
    pub served: u64,
    /// Calls that ended with a reply.
    pub replied: u64,
    /// Calls that ended with the death of their server.
    pub died: u64,
    /// Calls whose time was over, or that were given up.
    pub timed_out: u64,
    /// Calls that their server let go.
    pub unanswered: u64,
    /// Calls of killed clients that have no end.
    pub open: u64,
}

struct Recorder(File);

impl Recorder {
    fn open(place: &Path, who: &str) -> io::Result<Recorder> {
        let path = place.join(format!("{who}.calls"));
        Ok(Recorder(OpenOptions::new().create(true).append(true).open(path)?))
    }

    fn line(&mut self, text: &str) {
        self.0.write_all(format!("{text}\n").as_bytes()).expect("the place is writable");
    }
}

/// The reply that belongs to a request.
fn reply_to(request: &[u8]) -> Vec<u8> {
    let mut reply = format!("{:016x} ", fnv1a(request)).into_bytes();
    reply.extend(request.iter().rev());
    reply
}

/// A client that records its calls.
pub struct CallClient {
    client: Client,
    name: String,
    seq: u64,
    open: HashMap<Call, (String, Vec<u8>)>,
    recorder: Recorder,
    buffer: Vec<u8>,
}

impl CallClient {
    /// A client with a name that nobody else has.
    pub fn open(place: &Path, service: &Service, who: &str) -> memora::Result<CallClient> {
        let client = service.client()?;
        let name = format!("{who}.{}.{}", std::process::id(), unique());
        let recorder = Recorder::open(place, &name).expect("the place is writable");
        Ok(CallClient { client, name, seq: 0, open: HashMap::new(), recorder, buffer: Vec::new() })
    }

    /// Calls under way.
    pub fn open_calls(&self) -> Vec<Call> {
        self.open.keys().copied().collect()
    }

    /// Sends a request with `pad` bytes of filling; false if all calls are under way, or there is no memory for it.
    pub fn send(&mut self, pad: usize) -> bool {
        self.seq += 1;
        let id = format!("{}:{}", self.name, self.seq);
        let mut request = format!("{id} ").into_bytes();
        request.resize(request.len() + pad, b'x');
        self.recorder.line(&format!("ask {id}"));
        match self.client.send(&request) {
            Ok(call) => {
                self.open.insert(call, (id, request));
                true
            }
            Err(error) if matches!(error.code(), ErrorCode::TooManyCalls | ErrorCode::Full) => {
                self.recorder.line(&format!("end {id} refused"));
                false
            }
            Err(error) => panic!("{} cannot send: {error}", self.name),
        }
    }

    fn end(&mut self, call: Call, ended: memora::Result<usize>) {
        let (id, request) = self.open.remove(&call).expect("it is under way");
        let outcome = match &ended {
            Ok(len) if *len == self.buffer.len() && self.buffer == reply_to(&request) => "reply",
            Ok(_) => "wrong",
            Err(error) => match error.code() {
                ErrorCode::PeerDied => "died",
                ErrorCode::TimedOut => "timed-out",
                ErrorCode::Unanswered => "unanswered",
                _ => panic!("{id} ended with {error}"),
            },
        };
        self.recorder.line(&format!("end {id} {outcome}"));
    }

    /// Collects whatever is at its end; gives how many.
    pub fn poll(&mut self) -> usize {
        let mut count = 0;
        while let Some((call, ended)) = self.client.poll_any(&mut self.buffer).expect("polled") {
            self.end(call, ended);
            count += 1;
        }
        count
    }

    /// Waits for the end of some call.
    pub fn wait_any(&mut self, timeout: Duration) -> bool {
        let found = self.client.wait_any(&mut self.buffer, Some(timeout)).expect("waited");
        match found {
            Some((call, ended)) => {
                self.end(call, ended);
                true
            }
            None => false,
        }
    }

    /// Waits for the end of one call, which comes after `timeout` at the latest.
    pub fn wait(&mut self, call: Call, timeout: Duration) {
        let ended = self.client.wait(call, &mut self.buffer, Some(timeout));
        self.end(call, ended);
    }

    /// Gives a call up.
    pub fn cancel(&mut self, call: Call) {
        self.client.cancel(call).expect("cancelled");
        let (id, _) = self.open.remove(&call).expect("it is under way");
        self.recorder.line(&format!("end {id} given-up"));
    }

    /// Ends: calls under way are given up.
    pub fn close(mut self) {
        for (id, _) in std::mem::take(&mut self.open).into_values() {
            self.recorder.line(&format!("end {id} given-up"));
        }
    }
}

/// A server that records what it serves.
pub struct CallServer {
    server: Server,
    name: String,
    recorder: Recorder,
    buffer: Vec<u8>,
}

/// A request that was taken and recorded.
pub struct Work {
    request: Request,
    id: String,
    reply: Vec<u8>,
}

impl CallServer {
    /// A server with a name that nobody else has.
    pub fn open(place: &Path, service: &Service, who: &str) -> memora::Result<CallServer> {
        let server = service.server()?;
        let name = format!("{who}.{}.{}", std::process::id(), unique());
        let recorder = Recorder::open(place, &name).expect("the place is writable");
        Ok(CallServer { server, name, recorder, buffer: Vec::new() })
    }

    /// Takes a request; waits for it if `wait` is given.
    pub fn take(&mut self, wait: Option<Duration>) -> Option<Work> {
        let taken = match wait {
            None => self.server.try_take(&mut self.buffer),
            Some(_) => self.server.take(&mut self.buffer, wait),
        };
        let request = taken.expect("taken")?;
        let text = String::from_utf8_lossy(&self.buffer);
        let id = text.split(' ').next().unwrap_or("?").to_string();
        self.recorder.line(&format!("serve {id} {}", self.name));
        Some(Work { request, id, reply: reply_to(&self.buffer) })
    }

    /// Answers in one of several ways.
    pub fn answer(&mut self, work: Work, random: &mut Random) {
        let Work { mut request, id, reply } = work;
        let told = match random.draw(12) {
            0 => {
                request.refuse().expect("refused");
                return;
            }
            1 => {
                drop(request);
                return;
            }
            2..=4 => {
                let half = reply.len() / 2;
                request.write(half, &reply[half..]).expect("written");
                request.write(0, &reply[..half]).expect("written");
                request.commit(reply.len()).expect("answered")
            }
            _ => request.reply(&reply).expect("answered"),
        };
        self.recorder.line(&format!("told {id} {told}"));
    }
}

impl Work {
    /// Answers without a record of what the server was told: from any thread.
    pub fn reply(self) {
        let _told = self.request.reply(&self.reply).expect("answered");
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Also in a process with the same pid that comes later.
    memora_stress::history::monotonic_ns() / 1000 * 64 + NEXT.fetch_add(1, Ordering::Relaxed) % 64
}

#[derive(Default)]
struct Fate {
    asked: bool,
    served: Vec<String>,
    told: bool,
    ends: Vec<String>,
}

/// Judges all histories in a place. `was_killed` says whether the process of a client or server of that name was killed.
pub fn judge(place: &Path, was_killed: impl Fn(&str) -> bool) -> Result<Summary, String> {
    let mut fates: HashMap<String, Fate> = HashMap::new();
    let files = std::fs::read_dir(place).map_err(|error| error.to_string())?;
    let paths: Vec<PathBuf> = files.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "calls")) {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        // A line without its end is torn: its writer was killed.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let mut words = line.split(' ');
            let (Some(word), Some(id), detail) = (words.next(), words.next(), words.next()) else {
                return Err(format!("{}: {line:?}", path.display()));
            };
            let fate = fates.entry(id.to_string()).or_default();
            match (word, detail) {
                ("ask", None) => fate.asked = true,
                ("serve", Some(server)) => fate.served.push(server.to_string()),
                ("told", Some(told)) => fate.told = told == "true",
                ("end", Some(outcome)) => fate.ends.push(outcome.to_string()),
                _ => return Err(format!("{}: {line:?}", path.display())),
            }
        }
    }
    let mut summary = Summary::default();
    for (id, fate) in &fates {
        let wrong =
            |what: &str| Err(format!("call {id}: {what}: served by {:?}, ends {:?}", fate.served, fate.ends));
        if !fate.asked {
            return wrong("nobody asked it");
        }
        if fate.served.len() > 1 || fate.ends.len() > 1 {
            return wrong("more than once");
        }
        summary.asked += 1;
        summary.served += fate.served.len() as u64;
        let end = fate.ends.first().map(String::as_str);
        match end {
            Some("reply") if fate.served.is_empty() => return wrong("a reply of nobody"),
            Some("reply") => summary.replied += 1,
            Some("died") if fate.served.first().is_some_and(|server| !was_killed(server)) => {
                return wrong("its server lives");
            }
            Some("died") => summary.died += 1,
            Some("timed-out" | "given-up") => summary.timed_out += 1,
            Some("unanswered") => summary.unanswered += 1,
            Some("refused") if fate.served.is_empty() => summary.asked -= 1,
            None if was_killed(id) => summary.open += 1,
            _ => return wrong("no end that can be"),
        }
        if fate.told && !matches!(end, Some("reply" | "given-up") | None) {
            return wrong("its server was told that the reply was waited for");
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<Summary, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.calls"), text).unwrap();
        judge(dir.path(), |name| name.contains(".7."))
    }

    #[test]
    fn each_rule_is_judged() {
        let good = "ask c.1.0:1\nserve c.1.0:1 s.7.0\nend c.1.0:1 died\nask c.7.0:1\nserve c.7.0:1 s.2.0\ntold c.7.0:1 true\nend c.7.0:1 rep";
        let summary = judged(good).unwrap();
        assert_eq!((summary.asked, summary.served, summary.died, summary.open), (2, 2, 1, 1));
        for (bad, what) in [
            ("serve a:1 s\n", "nobody asked"),
            ("ask a:1\nserve a:1 s\nserve a:1 t\n", "more than once"),
            ("ask a:1\nserve a:1 s\nend a:1 reply\nend a:1 died\n", "more than once"),
            ("ask a:1\nend a:1 reply\n", "nobody"),
            ("ask a:1\nserve a:1 s\nend a:1 wrong\n", "no end"),
            ("ask a:1\nserve a:1 s.8.0\nend a:1 died\n", "its server lives"),
            ("ask a:1\nserve a:1 s\ntold a:1 true\nend a:1 timed-out\n", "was told"),
            ("ask a.1.0:1\n", "no end"),
        ] {
            let error = judged(bad).unwrap_err();
            assert!(error.contains(what), "{bad}: {error}");
        }
    }
}
