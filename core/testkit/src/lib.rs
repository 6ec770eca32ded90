//! Memora.
