//! `spec`: a config.json to begin with.

use std::path::PathBuf;

use lexopt::prelude::*;
use serde_json::{Value as Json, json};
use sys::Ctx as _;

use super::{switch, usage};
use crate::error::{Error, Result};

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Options {
    bundle: PathBuf,
    rootless: bool,
}

/// Reads the command line.
pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<Options> {
    let (mut bundle, mut rootless) = (PathBuf::from("."), false);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('b') | Long("bundle") => bundle = parser.value().map_err(usage)?.into(),
            Long("rootless") => rootless = switch(parser)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    Ok(Options { bundle, rootless })
}

/// Writes config.json; never over one that is there.
pub(super) fn run(options: &Options) -> Result<()> {
    let path = options.bundle.join("config.json");
    if path.exists() {
        return Err(Error::Step(format!("write {}: file exists, remove it first", path.display())));
    }
    let mut document = template();
    if options.rootless {
        make_rootless(&mut document);
    }
    let text = serde_json::to_string_pretty(&document).map_err(std::io::Error::from).ctx("write", &path)?;
    Ok(sys::durable::replace_path(&path, format!("{text}\n").as_bytes(), 0o644)?)
}

fn template() -> Json {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": crate::plan::OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "wharf",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/sys/devices/virtual/powercap", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// For a user without privileges: a user namespace with one id, and no cgroup or network of its own.
fn make_rootless(document: &mut Json) {
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut document["linux"];
    linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = map(rustix::process::getegid().as_raw());
    linux["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "user"}]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    if let Some(mounts) = document["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        for mount in mounts.iter_mut() {
            match mount["destination"].as_str() {
                Some("/sys") => {
                    let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
                    *mount =
                        json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options});
                }
                Some("/dev/pts") => {
                    if let Some(options) = mount["options"].as_array_mut() {
                        options.retain(|option| option != "gid=5");
                    }
                }
                _ => {}
            }
        }
    }
}
