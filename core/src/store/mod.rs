//! store
mod ticker;
