//! What is printed: text for people, JSON for programs; a closed pipe is a quiet success.

use std::io::{self, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::cli::Format;

/// How a command ended when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exit code 0.
    Yes,
    /// Exit code 1: no such key, or a problem was found.
    No,
    /// The exit code of a program that was run.
    Code(u8),
}

/// Why a command could not be done.
#[derive(Debug)]
pub enum Failure {
    /// Exit code 3: an error of the library, with its remedy.
    Memora(memora::Error),
    /// The reader of our output is gone: exit code 0.
    ClosedPipe,
    /// Exit code 3: our own input or output.
    Io(&'static str, io::Error),
}

impl From<memora::Error> for Failure {
    fn from(error: memora::Error) -> Failure {
        Failure::Memora(error)
    }
}

impl Failure {
    /// A file of the user's.
    pub fn file(path: &std::path::Path, error: io::Error) -> Failure {
        Failure::Memora(memora::Error::io("open", path.display(), &error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Io("standard output", error),
        }
    }
}

/// What every command returns.
pub type Outcome = Result<Answer, Failure>;

/// Standard output in the form that the user asked for.
pub struct Output {
    format: Format,
    stream: io::BufWriter<io::Stdout>,
}

impl Output {
    pub fn new(format: Format) -> Output {
        Output { format, stream: io::BufWriter::new(io::stdout()) }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One answer: the JSON document, or the text (which ends with a newline unless it is empty).
    pub fn answer(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => writeln!(self.stream, "{}", json())?,
            Format::Text => {
                let text = text();
                self.stream.write_all(text.as_bytes())?;
                if !text.is_empty() && !text.ends_with('\n') {
                    self.stream.write_all(b"\n")?;
                }
            }
        }
        self.flush()
    }

    /// Bytes as they are; a terminal gets a newline after them, a file or pipe nothing that was not stored.
    pub fn value(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes)?;
        if io::stdout().is_terminal() && !bytes.ends_with(b"\n") {
            self.stream.write_all(b"\n")?;
        }
        self.flush()
    }

    /// One message as one line.
    pub fn line(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes)?;
        self.stream.write_all(b"\n")?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stream.flush()?)
    }
}

/// Adds a value to a JSON object: as text under `value` where it is UTF-8, else under `value_base64`.
pub fn put_value(object: &mut Map<String, Value>, bytes: &[u8]) {
    put_bytes(object, "value", bytes);
}

/// Adds bytes to a JSON object: as text under `name` where they are UTF-8, else under `<name>_base64`.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Rows under headings, without lines, so that it can be read by `awk`, too.
pub fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(headings.to_vec());
    table.add_rows(rows);
    table.trim_fmt() + "\n"
}

/// A number of bytes for people: `64 KiB`, `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if scaled.fract() < 0.05 || unit == 0 {
        format!("{} {}", scaled as u64, UNITS[unit])
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_right() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (65_536, "64 KiB"), (3 << 29, "1.5 GiB"), (1 << 40, "1 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn values_that_are_not_text_go_out_as_base64() {
        let mut object = Map::new();
        put_value(&mut object, b"caf\xc3\xa9");
        put_value(&mut object, &[0xff, 0x00]);
        assert_eq!(object["value"], "caf\u{e9}");
        assert_eq!(object["value_base64"], "/wA=");
    }
}
