//! The memory limit of the control group (v1 and v2) against the room of the tmpfs.
//!
//! Pages of a tmpfs are charged to the group of the process that touches them first. Where the group ends before the
//! tmpfs does, a growing fabric is not refused but killed.

use std::path::{Path, PathBuf};

use memora::limits::{FABRIC_LIMIT_DEFAULT, FABRIC_LIMIT_MIN};
use nix::sys::statvfs::statvfs;

use super::{Finding, Host, Level, nearest_existing};
use crate::output::bytes;

/// The tightest memory limit on the way from our group to the root, and what is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    limit: u64,
    used: u64,
}

pub fn examine(host: &Host, home: &Path, findings: &mut Vec<Finding>) {
    let free = statvfs(nearest_existing(home)).map(free_bytes).unwrap_or(0);
    findings.push(finding(tightest(host), free));
}

#[allow(clippy::unnecessary_cast)]
fn free_bytes(status: nix::sys::statvfs::Statvfs) -> u64 {
    status.blocks_available() as u64 * status.fragment_size() as u64
}

fn finding(limit: Option<Limit>, tmpfs_free: u64) -> Finding {
    const TOPIC: &str = "memory limit of the group";
    let Some(Limit { limit, used }) = limit else {
        return Finding::good(TOPIC, "none");
    };
    let left = limit.saturating_sub(used);
    let what = format!("{} of {} left; pages of a fabric count", bytes(left), bytes(limit));
    let remedy = "Raise the memory limit of the container to the limits of its fabrics plus the heaps of its \
                  processes, or make fabrics with a smaller limit.";
    if left < FABRIC_LIMIT_MIN {
        Finding::new(TOPIC, Level::Problem, format!("{what}: the next fabric is killed."), remedy)
    } else if left < FABRIC_LIMIT_DEFAULT {
        let default = bytes(FABRIC_LIMIT_DEFAULT);
        Finding::new(
            TOPIC,
            Level::Warning,
            format!("{what}: a fabric of the default limit ({default}) is killed instead of refused."),
            remedy,
        )
    } else if left < tmpfs_free {
        Finding::new(
            TOPIC,
            Level::Note,
            format!(
                "{what}, but the tmpfs has {} free: larger fabrics are killed instead of refused.",
                bytes(tmpfs_free)
            ),
            remedy,
        )
    } else {
        Finding::good(TOPIC, what)
    }
}

fn tightest(host: &Host) -> Option<Limit> {
    let groups = host.read("proc/self/cgroup")?;
    let mounts = host.read("proc/self/mountinfo")?;
    let v1 = group_path(&groups, |controllers| controllers.split(',').any(|name| name == "memory"))
        .zip(mount(&mounts, |kind, options| {
            kind == "cgroup" && options.split(',').any(|name| name == "memory")
        }))
        .and_then(|(group, mount)| {
            walk(host, &mount, group, "memory.limit_in_bytes", "memory.usage_in_bytes")
        });
    let v2 = group_path(&groups, str::is_empty)
        .zip(mount(&mounts, |kind, _| kind == "cgroup2"))
        .and_then(|(group, mount)| walk(host, &mount, group, "memory.max", "memory.current"));
    [v1, v2].into_iter().flatten().min_by_key(|limit| limit.limit.saturating_sub(limit.used))
}

/// Our group in the hierarchy whose controllers fit, from `/proc/self/cgroup`.
fn group_path(groups: &str, fits: impl Fn(&str) -> bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        fits(controllers).then_some(path)
    })
}

/// Root and place of the first mount whose kind and options fit, from `/proc/self/mountinfo`.
fn mount(mounts: &str, fits: impl Fn(&str, &str) -> bool) -> Option<(String, String)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        fits(kind, options).then(|| (root.to_owned(), point.to_owned()))
    })
}

fn walk(host: &Host, mount: &(String, String), group: &str, limit: &str, used: &str) -> Option<Limit> {
    let (root, point) = mount;
    // In a container the path may be that of the host while only our own group is mounted.
    let below = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
    let point = PathBuf::from(point.trim_start_matches('/'));
    below
        .ancestors()
        .filter_map(|ancestor| {
            let ancestor = ancestor.strip_prefix("/").unwrap_or(ancestor);
            let directory = point.join(ancestor);
            let limit = host.number(directory.join(limit).to_str()?)?;
            // v1 writes "no limit" as a number near 2^63.
            (limit < 1 << 60).then_some(())?;
            Some(Limit { limit, used: host.number(directory.join(used).to_str()?).unwrap_or(0) })
        })
        .min_by_key(|found| found.limit.saturating_sub(found.used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host { root: root.path().to_owned() };
        (root, host)
    }

    #[test]
    fn the_tightest_group_of_version_2_counts() {
        let (_root, host) = host(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("proc/self/mountinfo", "30 20 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "134217728\n"),
            ("sys/fs/cgroup/pod/memory.current", "1048576\n"),
        ]);
        assert_eq!(tightest(&host), Some(Limit { limit: 128 << 20, used: 1 << 20 }));
    }

    #[test]
    fn a_container_that_sees_only_its_own_group_of_version_1_is_understood() {
        let (_root, host) = host(&[
            ("proc/self/cgroup", "4:memory:/docker/abc\n0::/\n"),
            (
                "proc/self/mountinfo",
                "31 20 0:9 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "50331648\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n"),
        ]);
        assert_eq!(tightest(&host), Some(Limit { limit: 48 << 20, used: 0 }));
    }

    #[test]
    fn no_limit_is_no_limit_in_both_versions() {
        let (_root, host) = host(&[
            ("proc/self/cgroup", "4:memory:/\n0::/\n"),
            (
                "proc/self/mountinfo",
                "31 20 0:9 / /m ro - cgroup cgroup rw,memory\n32 20 0:9 / /u ro - cgroup2 cgroup rw\n",
            ),
            ("m/memory.limit_in_bytes", "9223372036854771712\n"),
            ("u/memory.max", "max\n"),
        ]);
        assert_eq!(tightest(&host), None);
        assert_eq!(finding(None, 1 << 40).level, Level::Good);
    }

    #[test]
    fn a_group_smaller_than_the_tmpfs_is_told() {
        let limit = |mib: u64| Some(Limit { limit: mib << 20, used: 0 });
        assert_eq!(finding(limit(0), 1 << 30).level, Level::Problem);
        assert_eq!(finding(limit(48), 1 << 30).level, Level::Warning);
        assert_eq!(finding(limit(512), 1 << 30).level, Level::Note);
        assert_eq!(finding(limit(4096), 1 << 30).level, Level::Good);
    }
}
