//! The store over a pool without a segment.
