//! The C library `libmemora`: the public interface of the core behind handles and error codes.
//!
//! Thin and without logic of its own: each entry looks its handle up, checks what C gave, calls the core, and turns the
//! answer into a code. `bindings-c/include/memora.h` is generated from the entries and their comments, in the order of
//! the modules below; a test compares it.
//!
//! | file | holds |
//! |---|---|
//! | `guard` | the border: NULL, lengths, panics; all reads and writes through pointers of the caller |
//! | `handles` | handles as numbers with a generation: a closed one is an error, never a crash |
//! | `entries` | what caches and stores have in common |
//! | `calls` | clients and servers of services |
//! | `exclusive` | what one thread at a time may use, closable by any |
//! | the others | the entries, a file for each part of the header |
#![deny(unsafe_code)]
// What the caller of an entry must keep to is said once, at the head of the header, and per entry in its comment.
#![allow(clippy::missing_safety_doc)]

mod calls;
mod entries;
mod exclusive;
mod guard;
mod handles;

pub mod cache;
pub mod channel;
mod claiming;
pub mod compute;
pub mod errors;
pub mod events;
pub mod fabric;
pub mod feed;
pub mod log;
pub mod options;
pub mod outbox;
pub mod queue;
pub mod service;
pub mod signal;
pub mod snapshot;
pub mod stats;
pub mod store;
mod store_files;
pub mod topic;
pub mod transaction;
pub mod update;
pub mod version;
pub mod view;
pub mod waiting;
