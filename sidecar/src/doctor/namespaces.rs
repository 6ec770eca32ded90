//! Namespaces (who shares what with whom) and who may remove our files.

use super::{Finding, Host, Level};

/// Inode numbers of the first namespaces of a host, fixed in the kernel.
const FIRST_IPC: &str = "ipc:[4026531839]";
const FIRST_PID: &str = "pid:[4026531836]";

pub fn examine(host: &Host, findings: &mut Vec<Finding>) {
    let link = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .map(|link| link.display().to_string())
            .unwrap_or_default()
    };
    findings.push(ipc(&link("ipc")));
    findings.push(pid(&link("pid")));
    findings.push(logout(host, nix::unistd::geteuid().as_raw()));
}

fn ipc(namespace: &str) -> Finding {
    const TOPIC: &str = "namespace: IPC";
    if namespace == FIRST_IPC {
        return Finding::good(TOPIC, "that of the host");
    }
    Finding::new(
        TOPIC,
        Level::Note,
        format!("Own IPC namespace ({namespace}): a container whose /dev/shm others may not see."),
        "To share fabrics with other containers mount one tmpfs (emptyDir with medium: Memory) in all of them and \
         set MEMORA_HOME to it, or use --ipc=shareable and --ipc=container:NAME.",
    )
}

fn pid(namespace: &str) -> Finding {
    const TOPIC: &str = "namespace: PID";
    if namespace == FIRST_PID {
        return Finding::good(TOPIC, "that of the host");
    }
    Finding::new(
        TOPIC,
        Level::Note,
        format!(
            "Own PID namespace ({namespace}): process ids shown by `memora stat` may be those of others."
        ),
        "Nothing to do: death is proved by locks of the kernel, never by process ids.",
    )
}

/// systemd removes the files of a user in /dev/shm when the last session of that user ends.
fn logout(host: &Host, uid: u32) -> Finding {
    const TOPIC: &str = "files at logout";
    let systemd = host.root.join("run/systemd/system").is_dir();
    let lingers =
        user_name(host, uid).is_some_and(|name| host.root.join("var/lib/systemd/linger").join(name).exists());
    let settings = host.read("etc/systemd/logind.conf").unwrap_or_default();
    let kept = settings.lines().any(|line| {
        let line = line.trim().to_ascii_lowercase();
        ["removeipc=no", "removeipc=false", "removeipc=0", "removeipc=off"].contains(&line.as_str())
    });
    if uid < 1000 || !systemd || lingers || kept {
        return Finding::good(TOPIC, "kept");
    }
    Finding::new(
        TOPIC,
        Level::Warning,
        "systemd removes your files in /dev/shm when your last session ends (RemoveIPC).",
        "loginctl enable-linger, RemoveIPC=no in /etc/systemd/logind.conf, or MEMORA_HOME on another tmpfs.",
    )
}

fn user_name(host: &Host, uid: u32) -> Option<String> {
    let users = host.read("etc/passwd")?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_containers_are_noted() {
        assert_eq!(ipc(FIRST_IPC).level, Level::Good);
        assert_eq!(pid(FIRST_PID).level, Level::Good);
        assert!(ipc("ipc:[4026532206]").remedy.unwrap().contains("emptyDir"));
        assert_eq!(pid("pid:[4026532207]").level, Level::Note);
    }

    #[test]
    fn a_user_whose_files_vanish_at_logout_is_warned() {
        let root = tempfile::tempdir().unwrap();
        let host = Host { root: root.path().to_owned() };
        for directory in ["run/systemd/system", "etc/systemd", "var/lib/systemd/linger"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        std::fs::write(root.path().join("etc/passwd"), "anna:x:1001:1001::/home/anna:/bin/sh\n").unwrap();
        assert_eq!(logout(&host, 1001).level, Level::Warning);
        assert_eq!(logout(&host, 0).level, Level::Good);
        std::fs::write(root.path().join("var/lib/systemd/linger/anna"), "").unwrap();
        assert_eq!(logout(&host, 1001).level, Level::Good);
        std::fs::remove_file(root.path().join("var/lib/systemd/linger/anna")).unwrap();
        std::fs::write(root.path().join("etc/systemd/logind.conf"), "[Login]\nRemoveIPC=no\n").unwrap();
        assert_eq!(logout(&host, 1001).level, Level::Good);
    }
}
