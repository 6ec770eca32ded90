//! The home: owner, mode, links, kind of file system, room, noexec.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use memora::limits::{FABRIC_LIMIT_DEFAULT, FABRIC_LIMIT_MIN};
use nix::fcntl::{FallocateFlags, OFlag};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Finding, Level, nearest_existing};
use crate::output::bytes;

pub fn examine(home: &Path, findings: &mut Vec<Finding>) {
    findings.push(permissions(home));
    let place = nearest_existing(home);
    findings.push(file_system(place));
    findings.push(room("room of the home", place));
    findings.push(reserve(place));
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        findings.push(Finding::new(
            "/dev/shm",
            Level::Warning,
            "There is no /dev/shm.",
            "Mount it (mount -t tmpfs tmpfs /dev/shm), or set MEMORA_HOME to a directory on a tmpfs.",
        ));
    } else if !place.starts_with(shm) {
        findings.push(room("/dev/shm", shm));
    }
    for (topic, directory) in
        [("home: noexec", place), ("temporary directory: noexec", &std::env::temp_dir())]
    {
        findings.push(noexec(topic, directory));
    }
}

fn permissions(home: &Path) -> Finding {
    const TOPIC: &str = "home: permissions";
    let shown = home.display();
    let metadata = match std::fs::symlink_metadata(home) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return missing(home),
        Err(error) => {
            return Finding::new(
                TOPIC,
                Level::Problem,
                format!("{shown} cannot be looked at: {error}."),
                "Set MEMORA_HOME to a directory of your own.",
            );
        }
    };
    let mode = metadata.mode() & 0o7777;
    let uid = nix::unistd::geteuid().as_raw();
    if metadata.file_type().is_symlink() || !metadata.is_dir() {
        return Finding::new(
            TOPIC,
            Level::Problem,
            format!("{shown} is a link or no directory; fabrics are only made in real directories."),
            "Set MEMORA_HOME to the directory itself.",
        );
    }
    if mode & 0o002 != 0 {
        return Finding::new(
            TOPIC,
            Level::Problem,
            format!("{shown} has mode {mode:04o}: everybody may replace the fabrics in it."),
            format!("chmod o-w {shown}"),
        );
    }
    if metadata.uid() != uid && mode & 0o070 == 0 && uid != 0 {
        return Finding::new(
            TOPIC,
            Level::Problem,
            format!("{shown} belongs to user {} with mode {mode:04o}.", metadata.uid()),
            "Ask its owner for a group and mode (2770), or set MEMORA_HOME to a directory of your own.",
        );
    }
    if metadata.uid() != uid || mode & 0o077 != 0 {
        return Finding::new(
            TOPIC,
            Level::Note,
            format!("{shown} is shared: user {}, group {}, mode {mode:04o}.", metadata.uid(), metadata.gid()),
            format!("If that is not meant: chmod 0700 {shown}"),
        );
    }
    Finding::good(TOPIC, format!("{shown}: mode {mode:04o}, yours"))
}

fn missing(home: &Path) -> Finding {
    const TOPIC: &str = "home: permissions";
    let place = nearest_existing(home);
    let may_write =
        nix::unistd::access(place, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK);
    match may_write {
        Ok(()) => Finding::good(TOPIC, format!("{} is made with mode 0700 at the first use", home.display())),
        Err(error) => Finding::new(
            TOPIC,
            Level::Problem,
            format!("{} cannot be made in {}: {}.", home.display(), place.display(), error.desc()),
            "Set MEMORA_HOME to a directory that you may write.",
        ),
    }
}

fn file_system(place: &Path) -> Finding {
    const TOPIC: &str = "home: file system";
    match statfs(place) {
        Ok(status) if status.filesystem_type() == TMPFS_MAGIC => {
            Finding::good(TOPIC, format!("{} is on a tmpfs", place.display()))
        }
        Ok(status) => Finding::new(
            TOPIC,
            Level::Warning,
            format!(
                "{} is not on a tmpfs (type {:#x}): the kernel writes fabrics back to the disk, which stalls writers.",
                place.display(),
                status.filesystem_type().0
            ),
            "Set MEMORA_HOME to a directory on a tmpfs; stores keep their files elsewhere anyway.",
        ),
        Err(error) => Finding::new(
            TOPIC,
            Level::Problem,
            format!("statfs {}: {}.", place.display(), error.desc()),
            "Set MEMORA_HOME to a directory on a tmpfs.",
        ),
    }
}

fn room(topic: &'static str, place: &Path) -> Finding {
    let status = match statvfs(place) {
        Ok(status) => status,
        Err(error) => {
            return Finding::new(
                topic,
                Level::Problem,
                format!("statvfs {}: {}.", place.display(), error.desc()),
                "Set MEMORA_HOME to a directory on a tmpfs.",
            );
        }
    };
    // The widths of these fields differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    let (unit, free, total) =
        (status.fragment_size() as u64, status.blocks_available() as u64, status.blocks() as u64);
    room_finding(topic, place, free * unit, total * unit)
}

fn room_finding(topic: &'static str, place: &Path, free: u64, total: u64) -> Finding {
    let what = format!("{}: {} free of {}", place.display(), bytes(free), bytes(total));
    let remedy = "Enlarge it: --shm-size=512m (docker, podman), sizeLimit of an emptyDir with medium: Memory \
                  (Kubernetes), mount -o remount,size=2G (host); or make fabrics with a smaller limit.";
    if free < FABRIC_LIMIT_MIN {
        Finding::new(topic, Level::Problem, format!("{what}: no room for any fabric."), remedy)
    } else if free < FABRIC_LIMIT_DEFAULT {
        let limit = bytes(FABRIC_LIMIT_DEFAULT);
        let text =
            format!("{what}: a fabric of the default limit ({limit}) ends in NO_SPACE before it is full.");
        Finding::new(topic, Level::Warning, text, remedy)
    } else {
        Finding::good(topic, what)
    }
}

/// Reserves one page in a file without a name, which is gone with its descriptor.
fn reserve(place: &Path) -> Finding {
    const TOPIC: &str = "home: reserving pages";
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(place);
    let reserved = match file {
        Ok(file) => nix::fcntl::fallocate(&file, FallocateFlags::empty(), 0, 4096)
            .map_err(|error| error.desc().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match reserved {
        Ok(()) => Finding::good(TOPIC, "fallocate works: a full file system is an error, not a crash"),
        Err(reason) => Finding::new(
            TOPIC,
            Level::Problem,
            format!("No page could be reserved in {}: {reason}.", place.display()),
            "Free room there, or set MEMORA_HOME to a directory on a tmpfs.",
        ),
    }
}

fn noexec(topic: &'static str, directory: &Path) -> Finding {
    let flags = statvfs(directory).map(|status| status.flags()).unwrap_or(FsFlags::empty());
    if !flags.contains(FsFlags::ST_NOEXEC) {
        return Finding::good(topic, format!("{} allows programs", directory.display()));
    }
    Finding::new(
        topic,
        Level::Note,
        format!("{} is mounted noexec: Java cannot load the native library from there.", directory.display()),
        "Point the property java.io.tmpdir elsewhere, or memora.library.path to an installed libmemora_jni.so.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_home_that_everybody_may_write_or_that_is_a_link_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        assert_eq!(permissions(&home).level, Level::Good);
        std::fs::create_dir(&home).unwrap();
        set_mode(&home, 0o700);
        assert_eq!(permissions(&home).level, Level::Good);
        set_mode(&home, 0o770);
        assert_eq!(permissions(&home).level, Level::Note);
        set_mode(&home, 0o777);
        let finding = permissions(&home);
        assert_eq!(finding.level, Level::Problem);
        assert_eq!(finding.remedy, Some(format!("chmod o-w {}", home.display())));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&home, &link).unwrap();
        assert_eq!(permissions(&link).level, Level::Problem);
    }

    #[test]
    fn too_little_room_names_the_ways_to_enlarge_it() {
        let place = Path::new("/dev/shm");
        assert_eq!(room_finding("room", place, 1 << 30, 1 << 30).level, Level::Good);
        let small = room_finding("room", place, 60 << 20, 64 << 20);
        assert_eq!(small.level, Level::Warning);
        assert!(small.what.contains("60 MiB free of 64 MiB"), "{small:?}");
        assert!(small.remedy.unwrap().contains("--shm-size"));
        assert_eq!(room_finding("room", place, 0, 64 << 20).level, Level::Problem);
    }
}
