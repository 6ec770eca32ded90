//! Limits of this process: descriptors, locked memory, address space, file size.

use memora::limits::{FABRIC_LIMIT_DEFAULT, FABRIC_LIMIT_MIN};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::{Finding, Level};
use crate::output::bytes;

pub fn examine(findings: &mut Vec<Finding>) {
    let soft = |resource| getrlimit(resource).map_or(RLIM_INFINITY, |(soft, _hard)| soft);
    findings.push(open_files(soft(Resource::RLIMIT_NOFILE)));
    findings.push(size("limit: file size", "ulimit -f unlimited", soft(Resource::RLIMIT_FSIZE)));
    findings.push(size("limit: address space", "ulimit -v unlimited", soft(Resource::RLIMIT_AS)));
    findings.push(locked(soft(Resource::RLIMIT_MEMLOCK)));
}

fn open_files(limit: u64) -> Finding {
    const TOPIC: &str = "limit: open files";
    match limit {
        0..64 => Finding::new(
            TOPIC,
            Level::Problem,
            format!("Only {limit} descriptors."),
            "ulimit -n 1024 (LimitNOFILE in systemd, --ulimit nofile in containers).",
        ),
        64..256 => Finding::new(
            TOPIC,
            Level::Warning,
            format!("Only {limit} descriptors: few fabrics and stores can be open at once."),
            "ulimit -n 1024 (LimitNOFILE in systemd, --ulimit nofile in containers).",
        ),
        _ => Finding::good(TOPIC, format!("{limit}")),
    }
}

fn size(topic: &'static str, remedy: &str, limit: u64) -> Finding {
    if limit == RLIM_INFINITY {
        return Finding::good(topic, "none");
    }
    let what = format!("{}: a larger fabric cannot be made or mapped.", bytes(limit));
    let level = match limit {
        _ if limit < FABRIC_LIMIT_MIN => Level::Problem,
        _ if limit < FABRIC_LIMIT_DEFAULT => Level::Warning,
        _ => Level::Note,
    };
    Finding::new(topic, level, what, remedy)
}

fn locked(limit: u64) -> Finding {
    const TOPIC: &str = "limit: locked memory";
    if limit == RLIM_INFINITY {
        return Finding::good(TOPIC, "none");
    }
    // Memora locks nothing; who adds mlockall against swapping needs to know.
    Finding::good(TOPIC, format!("{} (nothing is locked, so any value does)", bytes(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_below_a_fabric_are_told() {
        assert_eq!(open_files(20).level, Level::Problem);
        assert_eq!(open_files(100).level, Level::Warning);
        assert_eq!(open_files(1024).level, Level::Good);
        assert_eq!(size("limit", "", RLIM_INFINITY).level, Level::Good);
        assert_eq!(size("limit", "", 1 << 10).level, Level::Problem);
        assert_eq!(size("limit", "", 8 << 20).level, Level::Warning);
        assert_eq!(size("limit", "", 1 << 30).level, Level::Note);
    }
}
