//! The files of the repository that are generated from the sources are current.
//! The example `generate` writes them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use memora_core::ErrorCode;

/// The modules that have entries, in the order of the header.
const MODULES: [&str; 23] = [
    "version",
    "errors",
    "options",
    "fabric",
    "cache",
    "view",
    "update",
    "compute",
    "channel",
    "queue",
    "log",
    "waiting",
    "events",
    "signal",
    "service",
    "topic",
    "store",
    "outbox",
    "store_files",
    "transaction",
    "feed",
    "snapshot",
    "stats",
];

/// A file and what has to stand in it.
pub struct Generated {
    pub path: PathBuf,
    pub content: String,
}

/// All generated files.
pub fn files() -> Vec<Generated> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("ffi stands in the workspace");
    vec![
        Generated { path: root.join("bindings-c/include/memora.h"), content: header() },
        Generated { path: root.join("docs/errors.md"), content: errors() },
    ]
}

fn header() -> String {
    let ffi = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(ffi.join("cbindgen.toml")).expect("cbindgen.toml");
    config.header = Some(include_str!("../overview.h").trim_end().to_owned());
    let builder = MODULES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, module| {
        builder.with_src(ffi.join(format!("src/{module}.rs")))
    });
    let mut header = Vec::new();
    builder.generate().expect("the header can be generated").write(&mut header);
    String::from_utf8(header).expect("a header is text")
}

fn errors() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         One set of codes for Rust (`ErrorCode`), C (`MEMORA_<NAME>`, negative numbers from -4096 down), Java (`ErrorCode`) and \
         the `memora` command.\n\
         Numbers and names never change their meaning. The message of an error says what happened, with the values, and then the \
         remedy.\n\n\
         This page is generated from the table in `core/src/error.rs`: `cargo run -p memora-ffi --example generate`.\n\n\
         | number | name | in C | what happened | what to do |\n|---|---|---|---|---|\n",
    );
    for code in ErrorCode::ALL {
        let (number, name) = (code.number(), code.name());
        let value = -4096 - i32::from(number);
        writeln!(text, "| {number} | `{name}` | `{value}` | {} | {} |", code.text(), code.remedy())
            .expect("writing to a string");
    }
    text
}

#[test]
fn the_files_are_current() {
    for file in files() {
        let found = std::fs::read_to_string(&file.path)
            .unwrap_or_else(|error| panic!("{}: {error}", file.path.display()));
        let different = found.lines().zip(file.content.lines()).position(|(found, made)| found != made);
        assert!(
            found == file.content,
            "{} is not current (from line {}): run `cargo run -p memora-ffi --example generate` and commit it",
            file.path.display(),
            different.map_or_else(|| "the end".to_owned(), |line| (line + 1).to_string()),
        );
    }
}

#[test]
fn every_entry_says_what_it_returns() {
    let header = header();
    let mut functions = 0;
    for (at, _) in header.match_indices("\nint memora_") {
        let name = header[at + 5..].split('(').next().unwrap_or_default();
        functions += 1;
        if name == "memora_last_error_code" {
            continue;
        }
        let start = header[..at].rfind("/**").expect("a comment");
        let comment = &header[start..at];
        assert!(comment.contains("Returns ") && comment.len() < 2500, "{name} does not say what it returns");
    }
    assert!(functions > 50, "only {functions} functions found");
    let order = [
        "*memora_version(",
        "*memora_strerror(",
        "\nint memora_fabric_options_init(",
        "\nint memora_fabric_open(",
        "\nint memora_cache_open(",
        "\nint memora_channel_open(",
        "\nint memora_store_open(",
    ]
    .map(|first| header.find(first).unwrap_or_else(|| panic!("{first} is not declared")));
    assert!(order.is_sorted(), "the functions do not stand in the order of the modules");
}
