//! Redis and memcached on unix sockets, as Debian packages them: started in a temporary folder, ended with their handle.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peer::Handle;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Redis,
    Memcached,
}

/// A running server; killed when it is dropped, and when this process dies.
pub struct Server {
    kind: Kind,
    child: Child,
    pub socket: PathBuf,
    /// Name and version.
    pub name: String,
}

impl Server {
    /// Starts one that may use so many MiB and evicts beyond. None where the package is missing or it does not start.
    pub fn start(kind: Kind, folder: &Path, mebibytes: u64) -> Option<Server> {
        let program = match kind {
            Kind::Redis => "redis-server",
            Kind::Memcached => "memcached",
        };
        let version = Command::new(program).arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let number = version
            .split_whitespace()
            .map(|word| word.trim_start_matches("v="))
            .find(|word| word.contains('.'))
            .unwrap_or("");
        let socket = folder.join(format!("{program}-{mebibytes}.sock"));
        let memory = mebibytes.to_string();
        let mut command = Command::new(program);
        match kind {
            Kind::Redis => command.args(["--port", "0", "--save", "", "--appendonly", "no"]).args([
                "--maxmemory",
                &format!("{memory}mb"),
                "--maxmemory-policy",
                "allkeys-lru",
                "--unixsocket",
                socket.to_str()?,
                "--dir",
                folder.to_str()?,
            ]),
            Kind::Memcached => {
                command.args(["-s", socket.to_str()?, "-m", &memory, "-t", "2", "-u", "root", "-U", "0"])
            }
        };
        // SAFETY: the closure makes one system call, which is all that may be done between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let server = Server { kind, child, socket, name: format!("{program} {number}") };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if UnixStream::connect(&server.socket).is_ok() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// A connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.kind, &self.socket)
    }

    /// Resident bytes of its process.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection: a request, then its answer.
pub struct Client {
    kind: Kind,
    stream: BufReader<UnixStream>,
    request: Vec<u8>,
    line: Vec<u8>,
}

impl Client {
    /// Connects to a server that answers at `socket`.
    pub fn connect(kind: Kind, socket: &Path) -> Client {
        let stream = BufReader::new(UnixStream::connect(socket).expect("the server answers"));
        Client { kind, stream, request: Vec::new(), line: Vec::new() }
    }

    fn command(&mut self, parts: &[&[u8]]) {
        self.request.clear();
        write!(self.request, "*{}\r\n", parts.len()).expect("in memory");
        for part in parts {
            write!(self.request, "${}\r\n", part.len()).expect("in memory");
            self.request.extend_from_slice(part);
            self.request.extend_from_slice(b"\r\n");
        }
    }

    fn put_set(&mut self, key: &[u8], value: &[u8]) {
        match self.kind {
            Kind::Redis => self.command(&[b"SET", key, value]),
            Kind::Memcached => {
                self.request.clear();
                self.request.extend_from_slice(b"set ");
                self.request.extend_from_slice(key);
                write!(self.request, " 0 0 {}\r\n", value.len()).expect("in memory");
                self.request.extend_from_slice(value);
                self.request.extend_from_slice(b"\r\n");
            }
        }
    }

    fn send(&mut self) {
        self.stream.get_mut().write_all(&self.request).expect("sent");
    }

    fn read_line(&mut self) {
        self.line.clear();
        let len = self.stream.read_until(b'\n', &mut self.line).expect("an answer");
        assert!(len > 0, "the server is gone");
    }

    /// Reads a value of `len` bytes and the line end behind it.
    fn read_value(&mut self, len: usize, value: &mut [u8]) {
        self.stream.read_exact(&mut value[..len]).expect("the value");
        self.stream.read_exact(&mut [0; 2]).expect("the end of the line");
    }
}

fn last_number(line: &[u8]) -> usize {
    let text = std::str::from_utf8(line).unwrap_or("").trim_end();
    text.rsplit([' ', '$']).next().and_then(|number| number.parse().ok()).expect("a length")
}

impl Handle for Client {
    fn get(&mut self, key: &[u8], value: &mut [u8]) -> Option<usize> {
        match self.kind {
            Kind::Redis => self.command(&[b"GET", key]),
            Kind::Memcached => {
                self.request.clear();
                self.request.extend_from_slice(b"get ");
                self.request.extend_from_slice(key);
                self.request.extend_from_slice(b"\r\n");
            }
        }
        self.send();
        self.read_line();
        if self.line.starts_with(b"$-1") || self.line.starts_with(b"END") {
            return None;
        }
        let len = last_number(&self.line);
        self.read_value(len, value);
        if self.kind == Kind::Memcached {
            self.read_line();
        }
        Some(len)
    }

    // Without waiting for each answer.
    fn fill(&mut self, entries: &mut dyn Iterator<Item = Vec<u8>>, value: &[u8]) {
        let mut waiting = 0;
        for key in entries {
            self.put_set(&key, value);
            let request = std::mem::take(&mut self.request);
            self.stream.get_mut().write_all(&request).expect("sent");
            self.request = request;
            waiting += 1;
            if waiting == 64 {
                (0..std::mem::take(&mut waiting)).for_each(|_| self.read_line());
            }
        }
        (0..waiting).for_each(|_| self.read_line());
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.put_set(key, value);
        self.send();
        self.read_line();
    }
}
