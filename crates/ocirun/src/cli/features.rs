//! `features`: what this runtime and this kernel can do (features.md of the runtime specification).

use lexopt::prelude::*;
use serde_json::json;
use sys::Ctx as _;

use super::{report, usage};
use crate::error::Result;
use crate::mempolicy;
use crate::mounts::options;
use crate::namespaces::Kind;
use crate::seccomp;

/// Reads the command line: nothing may be on it.
pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<()> {
    match parser.next().map_err(usage)? {
        None => Ok(()),
        Some(Value(value)) => Err(usage(lexopt::Error::UnexpectedArgument(value))),
        Some(other) => Err(usage(other.unexpected())),
    }
}

/// Prints the document.
pub(super) fn run() -> Result<()> {
    let kernel_has = |kind: &Kind| std::path::Path::new("/proc/self/ns").join(kind.file()).exists();
    let mut namespaces: Vec<&str> =
        Kind::ALL.iter().filter(|kind| kernel_has(kind)).map(|kind| kind.name()).collect();
    namespaces.sort_unstable();
    let capabilities: Vec<&str> = model::capability::CapabilitySet(u64::MAX).names().collect();
    let (actions, operators, archs) = seccomp::known();
    let names = |table: &[(&'static str, i32)]| table.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let document = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::plan::OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::known(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": actions,
                "operators": operators,
                "archs": archs,
                "knownFlags": seccomp::FLAGS,
                "supportedFlags": seccomp::supported_flags(),
            },
            // What this program can; whether the host has it is not asked (features.md).
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "memoryPolicy": {"modes": names(&mempolicy::MODES), "flags": names(&mempolicy::FLAGS)},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "org.wharfinger.wharf-oci.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    });
    let text =
        serde_json::to_string_pretty(&document).map_err(std::io::Error::from).ctx("write", "features")?;
    report::print(&format!("{text}\n"))
}
