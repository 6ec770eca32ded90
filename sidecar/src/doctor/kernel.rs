//! Features of the kernel, found by asking: seccomp filters of containers hide some of them.

use std::path::Path;

use memora::KernelFeatures;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Finding, Host, Level, nearest_existing};

pub fn examine(host: &Host, home: &Path, findings: &mut Vec<Finding>) {
    let features = memora::kernel_features();
    findings.extend(features_of(features));
    findings.push(lock(nearest_existing(home)));
    findings.push(memfd());
    findings.push(clock(host));
}

fn features_of(features: KernelFeatures) -> [Finding; 3] {
    let seccomp = "Allow the call in the seccomp profile of the container, or use Linux";
    let finding = |topic, present: bool, level, loss: &str, since: &str| {
        if present {
            Finding::good(topic, "present")
        } else {
            Finding::new(topic, level, format!("Absent: {loss}."), format!("{seccomp} {since} or later."))
        }
    };
    [
        finding(
            "kernel: membarrier",
            features.membarrier,
            Level::Note,
            "publishers pay a full fence for sleepers that may not be there",
            "4.16",
        ),
        finding(
            "kernel: robust lists",
            features.robust_list,
            Level::Warning,
            "the death of a process is seen only when the kernel has freed its memory",
            "2.6.17",
        ),
        finding(
            "kernel: futex_waitv",
            features.futex_waitv,
            Level::Note,
            "waiting for several channels at once goes through short sleeps",
            "5.16",
        ),
    ]
}

/// Locks one byte of a file without a name, as every attachment does.
fn lock(place: &Path) -> Finding {
    use std::os::unix::fs::OpenOptionsExt;
    const TOPIC: &str = "kernel: OFD locks";
    let lock = libc_flock();
    let locked = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(place)
        .map_err(|error| error.to_string())
        .and_then(|file| fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).map_err(|error| error.desc().to_owned()));
    match locked {
        Ok(_) => Finding::good(TOPIC, "work in the home"),
        Err(reason) => Finding::new(
            TOPIC,
            Level::Problem,
            format!(
                "No lock in {}: {reason}. Dead processes could not be told from live ones.",
                place.display()
            ),
            "Set MEMORA_HOME to a directory on a tmpfs or a local disk.",
        ),
    }
}

fn libc_flock() -> nix::libc::flock {
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    }
}

fn memfd() -> Finding {
    const TOPIC: &str = "kernel: memfd";
    match memfd_create(c"memora-doctor", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING) {
        Ok(_) => Finding::good(TOPIC, "present"),
        Err(error) => Finding::new(
            TOPIC,
            Level::Note,
            format!("memfd_create: {}. The memfd backend does not work.", error.desc()),
            "Use files (the default), or allow the call in the seccomp profile of the container.",
        ),
    }
}

fn clock(host: &Host) -> Finding {
    const TOPIC: &str = "clock";
    let source =
        host.read("sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    match source.trim() {
        "" | "tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page" => Finding::good(
            TOPIC,
            format!("clock source {}", if source.is_empty() { "unknown" } else { source.trim() }),
        ),
        slow => Finding::new(
            TOPIC,
            Level::Warning,
            format!(
                "Clock source {slow}: each look at the clock is a system call, so entries with a TTL cost more."
            ),
            "Boot with tsc=reliable if the processor's counter is, or give the virtual machine kvm-clock.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_features_say_what_is_lost_and_since_when_they_exist() {
        let none = KernelFeatures { membarrier: false, robust_list: false, futex_waitv: false };
        for finding in features_of(none) {
            assert!(finding.level > Level::Good, "{finding:?}");
            assert!(finding.remedy.unwrap().contains("seccomp"));
        }
        let all = KernelFeatures { membarrier: true, robust_list: true, futex_waitv: true };
        assert!(features_of(all).iter().all(|finding| finding.level == Level::Good));
    }

    #[test]
    fn the_home_of_the_tests_can_be_locked() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(lock(home.path()).level, Level::Good);
    }

    #[test]
    fn a_slow_clock_is_a_warning() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("sys/devices/system/clocksource/clocksource0");
        std::fs::create_dir_all(&place).unwrap();
        let host = Host { root: root.path().to_owned() };
        std::fs::write(place.join("current_clocksource"), "hpet\n").unwrap();
        assert_eq!(clock(&host).level, Level::Warning);
        std::fs::write(place.join("current_clocksource"), "tsc\n").unwrap();
        assert_eq!(clock(&host).level, Level::Good);
    }
}
