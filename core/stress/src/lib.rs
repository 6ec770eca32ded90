//! Stress workers of Memora: random operations whose questions and answers are written down as a history.
//!
//! The forms, names and sizes are those of `docs/stress.md`, so that workers in C and Java can share one fabric with these.
#![forbid(unsafe_code)]

pub mod history;
