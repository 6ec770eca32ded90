//! `docs/layout.md` against the constants.

use crate::registry::layout::{process, thread};
use crate::segment::layout::{LAYOUT_VERSION, SEALED_BYTES, at};

fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/layout.md");
    std::fs::read_to_string(path).expect("docs/layout.md")
}

/// The part of the document under a heading.
fn section(heading: &str) -> String {
    let text = document();
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).expect("the heading");
    rest.split("\n## ").next().expect("a part").to_owned()
}

#[test]
fn the_header_stands_where_the_document_says() {
    let text = section("Header");
    for (offset, name) in [
        (at::MAGIC, "magic"),
        (at::LAYOUT_VERSION, "layout version"),
        (at::BYTE_ORDER, "byte order"),
        (at::LAYOUT_HASH, "layout hash"),
        (at::FEATURES, "features"),
        (at::UUID, "uuid"),
        (at::BOOT_ID, "boot id at creation"),
        (at::HASH_SEED, "seed of the hash"),
        (at::LIMIT, "limit"),
        (at::CHUNK_BYTES, "chunk bytes"),
        (at::CHUNK_COUNT, "chunk count"),
        (at::PROCESS_COUNT, "process count"),
        (at::THREAD_COUNT, "thread count"),
        (at::DIRECTORY_CELLS, "directory cells"),
        (at::PROCESS_OFFSET, "process table"),
        (at::THREAD_OFFSET, "thread table"),
        (at::CHUNK_TABLE_OFFSET, "chunk table"),
        (at::DIRECTORY_OFFSET, "directory 8"),
        (at::LIFE_OFFSET, "life pages"),
        (at::ARENA_OFFSET, "arena"),
        (at::CREATED_MS, "created"),
        (at::CREATOR_UID, "creator's uid"),
        (at::CREATOR_MODE, "mode"),
        (at::SEAL, "CRC32C"),
        (at::LAST_BOOT, "boot id of the last"),
        (at::REAPED, "threads reaped"),
    ] {
        assert!(text.contains(&format!("{offset} {name}")), "`{offset} {name}` is not in the document");
    }
    assert!(text.contains(&format!("Bytes 0 to {SEALED_BYTES} never change")));
    assert_eq!(LAYOUT_VERSION, 1, "a new version has a document of its own");
}

#[test]
fn the_entries_stand_where_the_document_says() {
    let text = section("Process entry, thread entry");
    for (offset, name) in [
        (process::STATE, "state 8"),
        (process::PID, "pid 4"),
        (process::UID, "uid 4"),
        (process::ATTACHED_MS, "attached 8, ms"),
        (process::NAMESPACE, "inode of its PID namespace"),
        (process::COMMAND, "command 32"),
        (thread::PINS, "pins 8 x 4"),
        (thread::OPEN, "open 8 x 8"),
        (thread::STATE, "state 8"),
        (thread::TID, "tid 4"),
        (thread::HAS_LIFE, "has a life word 4"),
        (thread::ATTACHED_MS, "attached 8"),
    ] {
        assert!(text.contains(&format!("{offset} {name}")), "`{offset} {name}` is not in the document");
    }
}
