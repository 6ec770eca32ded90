//! Memory of the host: overcommit, swap, huge pages.

use std::path::Path;

use memora::limits::FABRIC_LIMIT_DEFAULT;

use super::{Finding, Host, Level, nearest_existing};
use crate::output::bytes;

pub fn examine(host: &Host, home: &Path, findings: &mut Vec<Finding>) {
    findings.push(overcommit(host));
    findings.push(swap(host));
    findings.push(huge_pages(host, home));
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

fn overcommit(host: &Host) -> Finding {
    const TOPIC: &str = "overcommit";
    let mode = host.number("proc/sys/vm/overcommit_memory").unwrap_or(0);
    if mode != 2 {
        return Finding::good(TOPIC, format!("vm.overcommit_memory = {mode}"));
    }
    let text = host.read("proc/meminfo").unwrap_or_default();
    let limit = meminfo(&text, "CommitLimit").unwrap_or(0);
    let used = meminfo(&text, "Committed_AS").unwrap_or(0);
    let left = limit.saturating_sub(used);
    let what = format!("vm.overcommit_memory = 2 leaves {} to commit; pages of a tmpfs count.", bytes(left));
    let remedy = "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio.";
    let level = if left < FABRIC_LIMIT_DEFAULT { Level::Warning } else { Level::Note };
    Finding::new(TOPIC, level, what, remedy)
}

fn swap(host: &Host) -> Finding {
    const TOPIC: &str = "swap";
    let text = host.read("proc/meminfo").unwrap_or_default();
    match meminfo(&text, "SwapTotal") {
        None | Some(0) => Finding::good(TOPIC, "off"),
        Some(total) => Finding::new(
            TOPIC,
            Level::Note,
            format!("{} of swap: idle pages of a tmpfs may go to the disk.", bytes(total)),
            "Where microseconds count: swapoff -a, or memory.swap.max = 0 for the group.",
        ),
    }
}

fn huge_pages(host: &Host, home: &Path) -> Finding {
    const TOPIC: &str = "huge pages";
    let place = nearest_existing(home);
    let mounts = host.read("proc/self/mountinfo").unwrap_or_default();
    if let Some(huge) = mount_option(&mounts, place, "huge") {
        return Finding::good(TOPIC, format!("the file system of {} has huge={huge}", place.display()));
    }
    match host.chosen("sys/kernel/mm/transparent_hugepage/shmem_enabled").as_deref() {
        Some(chosen @ ("always" | "within_size" | "advise" | "force")) => {
            Finding::good(TOPIC, format!("shmem_enabled = {chosen}"))
        }
        // Asked for range by range, which this setting does not forbid.
        Some(chosen) if can_collapse(host) => Finding::good(
            TOPIC,
            format!("fabrics from 32 MiB on get them on request (shmem_enabled = {chosen} does not matter)"),
        ),
        chosen => Finding::new(
            TOPIC,
            Level::Note,
            format!(
                "Shared memory has small pages only (shmem_enabled = {}, and the kernel is older than 6.1): random reads \
                 of large fabrics miss the TLB.",
                chosen.unwrap_or("absent")
            ),
            "For fabrics above 1 GiB: a kernel from 6.1 on, or mount -o remount,huge=within_size /dev/shm.",
        ),
    }
}

/// Whether the kernel makes huge pages on request (`MADV_COLLAPSE`, since 6.1).
fn can_collapse(host: &Host) -> bool {
    let release = host.read("proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 1)
}

/// The value of an option of the mount that a path lies in.
fn mount_option(mountinfo: &str, path: &Path, option: &str) -> Option<String> {
    let line = mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|point| path.starts_with(point)))
        .max_by_key(|line| line.split(' ').nth(4).map_or(0, str::len))?;
    let options = line.rsplit(' ').next()?;
    let value = options.split(',').find_map(|pair| pair.strip_prefix(option)?.strip_prefix('='))?;
    Some(value.to_owned())
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
    fn strict_overcommit_with_little_left_is_a_warning() {
        let meminfo = "MemTotal: 100 kB\nSwapTotal: 0 kB\nCommitLimit: 204800 kB\nCommitted_AS: 102400 kB\n";
        let (_root, host) = host(&[("proc/sys/vm/overcommit_memory", "2\n"), ("proc/meminfo", meminfo)]);
        let finding = overcommit(&host);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.what.contains("100 MiB"), "{finding:?}");
        assert_eq!(swap(&host).level, Level::Good);
    }

    #[test]
    fn a_kernel_that_makes_huge_pages_on_request_needs_no_setting() {
        let setting =
            ("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always advise [never] deny force\n");
        for (release, level) in
            [("6.1.0-13-amd64\n", Level::Good), ("10.0\n", Level::Good), ("5.15.0\n", Level::Note)]
        {
            let (_root, host) = host(&[setting, ("proc/sys/kernel/osrelease", release)]);
            assert_eq!(huge_pages(&host, Path::new("/dev/shm")).level, level, "{release}");
        }
        let (_root, host) = host(&[("proc/sys/kernel/osrelease", "6.12.0\n")]);
        assert_eq!(huge_pages(&host, Path::new("/dev/shm")).level, Level::Note);
    }

    #[test]
    fn the_innermost_mount_decides_about_huge_pages() {
        let mounts = "20 1 0:5 / / rw - ext4 /dev/vda rw\n\
                      21 20 0:6 / /dev rw - devtmpfs dev rw,mode=755\n\
                      22 21 0:7 / /dev/shm rw - tmpfs tmpfs rw,size=64k,huge=within_size\n";
        assert_eq!(
            mount_option(mounts, Path::new("/dev/shm/memora-0"), "huge").as_deref(),
            Some("within_size")
        );
        assert_eq!(mount_option(mounts, Path::new("/tmp"), "huge"), None);
    }
}
