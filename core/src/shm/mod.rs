//! The one module that touches shared bytes.
