//! SELinux: labels of new filesystems (`linux.mountLabel`) and of the session keyring.

use sys::Result;

use crate::plan::{InitPlan, What};
use crate::procfs::Procfs;

/// `SELINUX_MAGIC` of `linux/magic.h`.
const MAGIC: u64 = 0xf97c_ff8c;

/// Whether the kernel has SELinux on: its filesystem is mounted where it always is.
pub(crate) fn is_enabled() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC))
}

/// Has all new filesystems labelled: by their `context` option, or where the kernel takes none by an attribute of their root.
/// procfs and sysfs have labels of their own.
pub(crate) fn label_mounts(plan: &mut InitPlan, label: &str) {
    for mount in &mut plan.mounts {
        let What::New(kind, _) = &mount.what else { continue };
        match kind.as_str() {
            "proc" | "sysfs" => {}
            "mqueue" => mount.options.root_label = Some(label.to_owned()),
            _ if mount.options.data.iter().any(|(name, _)| name == "context") => {}
            _ => mount.options.data.push(context(label)),
        }
    }
    plan.mount_label = Some(label.to_owned());
}

/// The option that labels a filesystem.
pub(crate) fn context(label: &str) -> (String, Option<String>) {
    ("context".to_owned(), Some(label.to_owned()))
}

/// Runs `make`, whose keys have the label `label` where there is one (proc_pid_attr(5), keycreate).
pub(crate) fn with_key_label(
    proc: &Procfs,
    label: Option<&str>,
    make: impl FnOnce() -> Result<()>,
) -> Result<()> {
    const FILE: &str = "self/attr/keycreate";
    let Some(label) = label else { return make() };
    proc.write(FILE, label.as_bytes())?;
    make()?;
    // A line of nothing is none.
    proc.write(FILE, b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Switches;

    #[test]
    fn new_filesystems_are_labelled_and_procfs_is_not() {
        let spec = r#"{"ociVersion":"1.0.0","root":{"path":"/r"},"process":{"args":["x"],"cwd":"/"},
            "linux":{"namespaces":[{"type":"mount"}]},"mounts":[
            {"destination":"/proc","type":"proc"},{"destination":"/sys","type":"sysfs"},
            {"destination":"/a","type":"tmpfs","options":["size=1k"]},{"destination":"/dev/pts","type":"devpts"},
            {"destination":"/dev/mqueue","type":"mqueue"},{"destination":"/b","type":"bind","source":"/b"},
            {"destination":"/c","type":"tmpfs","options":["context=mine"]}]}"#;
        let spec = serde_json::from_str(spec).unwrap();
        let path = std::path::Path::new("/bundle");
        let mut plan = InitPlan::new(&spec, path, "id", Switches::default(), &mut Vec::new()).unwrap();
        label_mounts(&mut plan, "a:b:c:s0:c1,c2");
        let of = |destination: &str| {
            let mount = plan.mounts.iter().find(|mount| mount.destination == destination).unwrap();
            let found = mount.options.data.iter().filter(|(name, _)| name == "context");
            let contexts: Vec<&str> = found.filter_map(|(_, value)| value.as_deref()).collect();
            (contexts, mount.options.root_label.as_deref())
        };
        for plain in ["/proc", "/sys", "/b"] {
            assert_eq!(of(plain), (vec![], None), "{plain}");
        }
        for labelled in ["/a", "/dev/pts"] {
            assert_eq!(of(labelled), (vec!["a:b:c:s0:c1,c2"], None), "{labelled}");
        }
        assert_eq!(of("/dev/mqueue"), (vec![], Some("a:b:c:s0:c1,c2")));
        assert_eq!(of("/c"), (vec!["mine"], None));
    }
}
