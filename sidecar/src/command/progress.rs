//! Bars on standard error, where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that learns its length on the way.
pub struct Bar(ProgressBar);

impl Bar {
    /// Of bytes.
    pub fn bytes(what: &'static str) -> Bar {
        Bar::new(what, "{bytes}/{total_bytes} {binary_bytes_per_sec} eta {eta}")
    }

    /// Of entries.
    pub fn entries(what: &'static str) -> Bar {
        Bar::new(what, "{human_pos}/{human_len} {per_sec} eta {eta}")
    }

    fn new(what: &'static str, figures: &str) -> Bar {
        let bar = ProgressBar::new(0).with_message(what);
        if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} [{{bar:30}}] {figures}")) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar(bar)
    }

    /// So far, of so many.
    pub fn at(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Takes the bar away: the answer follows.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}
