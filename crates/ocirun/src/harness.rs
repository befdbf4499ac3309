//! What hostile bytes may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use model::harness::Target;
use model::oci::{LinuxResources, LinuxSeccomp, Process, Spec};

use crate::cgroup::{Cgroup, DevicePolicy, Devices, Driver, Facts, Layout, Place, Rights, plan, systemd};
use crate::criu::{self, Outside};
use crate::mounts::options::MountOptions;
use crate::plan::{InitPlan, Switches};
use crate::process::ProcessPlan;

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Target)] = &[
    ("bus_message", bus_message),
    ("cgroup_path", cgroup_path),
    ("cgroup_plan", cgroup_plan),
    ("checkpoint_images", checkpoint_images),
    ("criu_log", criu_log),
    ("device_list", device_list),
    ("exec_command_line", exec_command_line),
    ("mount_options", mount_options),
    ("oci_command_line", command_line),
    ("oci_config", config),
    ("oci_process", process),
    ("oci_record", record),
    ("passwd", passwd),
    ("seccomp", seccomp),
];

/// A message of systemd's.
pub fn bus_message(bytes: &[u8]) {
    systemd::look_at_message(bytes);
}

/// `linux.cgroupsPath`.
pub fn cgroup_path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let layout = Layout::V2 { root: PathBuf::from("/cgroups"), own: PathBuf::from("/own") };
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let Ok(place) = Place::of(Some(&text), "id", driver, Rights::Root, &layout) else { continue };
        for (_, path) in &place.paths {
            let inside =
                path.starts_with("/cgroups") && !path.components().any(|part| part.as_os_str() == "..");
            assert!(inside, "{}", path.display());
        }
    }
}

/// `linux.resources`, up to what is written into which file, and told to systemd.
pub fn cgroup_plan(bytes: &[u8]) {
    let Ok(resources) = serde_json::from_slice::<LinuxResources>(bytes) else { return };
    let facts = Facts { memory_limit: Some(1 << 20), counts_swap: true, bfq: true, memory_usage: Some(4096) };
    for unified in [false, true] {
        let cgroup = Cgroup { paths: BTreeMap::new(), unified, unit: None, rights: Rights::Root };
        if let Ok(plan) = plan(&resources, &cgroup, facts, Devices::Set) {
            for write in &plan.writes {
                assert!(!write.file.is_empty() && !write.file.contains(['/', '\0']), "file {:?}", write.file);
            }
        }
        assert!(systemd::limits_of(&resources, unified).len() < 50);
    }
}

/// A `devices.list`.
pub fn device_list(bytes: &[u8]) {
    let policy = DevicePolicy::from_list(&String::from_utf8_lossy(bytes));
    assert!(policy.steps_from(&policy).len() <= usize::from(policy.default_allow) + policy.exceptions.len());
    assert!(policy.steps_from(&DevicePolicy::default()).len() <= 1 + policy.exceptions.len());
}

/// What lies among a checkpoint's images, and says what is mounted from outside.
pub fn checkpoint_images(bytes: &[u8]) {
    let Ok(mut outside) = serde_json::from_slice::<Outside>(bytes) else { return };
    let known = [(PathBuf::from("/data"), PathBuf::from("/srv/data"))];
    let own = Path::new("/sys/fs/cgroup/x");
    if outside.confine(&known, &[own]).is_ok() {
        for (point, source) in &outside.mounts {
            let inside = source.starts_with(own) && !source.components().any(|part| part.as_os_str() == "..");
            let given = known.iter().any(|(at, from)| at == point && from == source);
            assert!(inside || given, "{} on {}", source.display(), point.display());
        }
    }
}

/// criu's log.
pub fn criu_log(bytes: &[u8]) {
    if let Some(words) = criu::error_in(bytes) {
        assert!(words.chars().count() <= 300 && !words.contains('\n'), "{words:?}");
    }
}

/// The whole command line, up to what would be done: arguments end in NUL.
pub fn command_line(bytes: &[u8]) {
    crate::cli::look_at(arguments(bytes));
}

/// The command line of `exec`, up to the process that would run.
pub fn exec_command_line(bytes: &[u8]) {
    crate::cli::exec::look_at(arguments(bytes));
}

fn arguments(bytes: &[u8]) -> Vec<OsString> {
    bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect()
}

/// Our own record.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<crate::record::Record>(bytes) {
        let again = serde_json::to_vec(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        assert_eq!(again.as_ref(), Some(&record), "a record does not survive being written");
    }
}

/// A filter of system calls, up to its program.
pub fn seccomp(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(bytes) else { return };
    if let Err(error) = crate::seccomp::Filter::prepare(&profile, None) {
        assert!(!error.to_string().is_empty());
    }
}

/// A config.json, up to the plan of what init does.
pub fn config(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let mut warnings = Vec::new();
    match InitPlan::new(&spec, Path::new("/bundle"), "id", Switches::default(), &mut warnings) {
        Ok(plan) => {
            assert!(plan.rootfs.is_absolute());
            assert!(plan.mounts.iter().all(|mount| mount.destination.starts_with('/')));
            assert!(
                plan.sysctl.iter().all(|sysctl| !sysctl.path.contains("..")),
                "a parameter outside of /proc/sys"
            );
            assert!(plan.masked.iter().chain(&plan.readonly).all(|path| path.starts_with('/')));
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}

/// A process.json.
pub fn process(bytes: &[u8]) {
    let Ok(process) = serde_json::from_slice::<Process>(bytes) else { return };
    if let Ok(plan) = ProcessPlan::new(&process, &mut Vec::new()) {
        assert!(!plan.args.is_empty() && plan.cwd.starts_with('/'));
        assert!(plan.umask <= 0o777);
        assert!(plan.uid != u32::MAX && plan.gid != u32::MAX, "setresuid(2) would change nothing");
    }
}

/// A container's passwd; the first four bytes are the user.
pub fn passwd(bytes: &[u8]) {
    let Some((uid, text)) = bytes.split_first_chunk::<4>() else { return };
    if let Some(home) = crate::passwd::home(text, u32::from_ne_bytes(*uid) % 2000) {
        assert!(!home.is_empty() && !home.contains(&0) && !home.contains(&b'\n') && !home.contains(&b':'));
    }
}

/// The options of a mount, with commas between them.
pub fn mount_options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let list: Vec<String> = text.split(',').map(str::to_owned).collect();
    if let Ok(options) = MountOptions::parse("/x", &list) {
        assert_eq!(options.set & options.clear & !sys::mount_attr::ATIME_MASK, 0, "set and cleared at once");
        assert!(options.data.len() <= list.len());
    }
}
