//! What on this host will hurt, each with its remedy.
//!
//! Each file looks at one thing and gives findings; nothing is changed on the host (but for one file without a
//! name in the home, which proves that room can be reserved there).

mod cgroup;
mod fabrics;
mod home;
mod kernel;
mod limits;
mod memory;
mod namespaces;

use std::path::{Path, PathBuf};

/// How much it hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// Will hurt under load or with larger fabrics.
    Warning,
    /// Memora does not work here until it is mended.
    Problem,
}

impl Level {
    /// The word for it in text and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub topic: &'static str,
    pub level: Level,
    pub what: String,
    pub remedy: Option<String>,
}

impl Finding {
    fn good(topic: &'static str, what: impl Into<String>) -> Finding {
        Finding { topic, level: Level::Good, what: what.into(), remedy: None }
    }

    fn new(topic: &'static str, level: Level, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { topic, level, what: what.into(), remedy: Some(remedy.into()) }
    }
}

/// The files below `/proc` and `/sys`, or below another root in tests.
struct Host {
    root: PathBuf,
}

impl Host {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// The chosen word of a file such as `always [madvise] never`.
    fn chosen(&self, path: &str) -> Option<String> {
        let text = self.read(path)?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }
}

/// Looks at everything; `home` is where fabrics would be made.
pub fn examine(home: &Path) -> Vec<Finding> {
    let host = Host { root: PathBuf::from("/") };
    let mut findings = Vec::new();
    home::examine(home, &mut findings);
    memory::examine(&host, home, &mut findings);
    cgroup::examine(&host, home, &mut findings);
    limits::examine(&mut findings);
    namespaces::examine(&host, &mut findings);
    kernel::examine(&host, home, &mut findings);
    fabrics::examine(home, &mut findings);
    findings
}

/// The nearest directory of a path that exists: where a missing home would be made.
fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_that_is_not_good_has_a_remedy() {
        let home = tempfile::tempdir().unwrap();
        let findings = examine(home.path());
        assert!(findings.len() >= 15, "{findings:#?}");
        for finding in findings {
            assert_eq!(finding.remedy.is_none(), finding.level == Level::Good, "{finding:?}");
        }
    }

    #[test]
    fn the_chosen_word_of_a_setting_is_the_one_in_brackets() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("enabled"), "always [madvise] never\n").unwrap();
        let host = Host { root: root.path().to_owned() };
        assert_eq!(host.chosen("enabled").as_deref(), Some("madvise"));
        assert_eq!(host.chosen("absent"), None);
    }
}
